//! What the statements of a program say.

/// Statements without parameters, for either protocol.
pub const PLAIN: &[&str] = &[
    "SELECT 1",
    "SELECT 'two', NULL, 3.5",
    "SELECT a, b FROM t ORDER BY a",
    "SELECT generate_series(1, 7)",
    "SELECT repeat('x', 20000)",
    "SELECT 1/0",
    "SELECT 1/(a - 3) FROM t ORDER BY a",
    "SELECT nothing FROM nowhere",
    "SELEC",
    "",
    " ; ",
    "-- a comment",
    "INSERT INTO t VALUES (10, 'ten')",
    "INSERT INTO t VALUES (1, 'again')",
    "INSERT INTO t SELECT g, 'many' FROM generate_series(20, 25) g RETURNING a",
    "UPDATE t SET b = b || '!' WHERE a < 3",
    "DELETE FROM t WHERE a = 4",
    "DO $$ BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; END $$",
    "DO $$ BEGIN RAISE NOTICE 'before'; RAISE EXCEPTION 'x' USING ERRCODE = 'P0W1R'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'inside' USING ERRCODE = 'XX000'; END $$",
    "NOTIFY nobody, 'hears'",
    "COPY t TO STDOUT",
    "COPY (SELECT 1/(a - 3) FROM t ORDER BY a) TO STDOUT",
    "SHOW TimeZone",
    "SHOW application_name",
    "SELECT timestamptz '2020-02-03 04:05:06+00', interval '1 day 2 hours'",
    "SELECT 'a\\b'",
    "EXECUTE q1",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "VACUUM t",
];

/// What begins, divides and ends transactions, or needs one.
pub const TRANSACTION: &[&str] = &[
    "BEGIN",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SET CONSTRAINTS ALL DEFERRED",
    "DECLARE c CURSOR FOR SELECT generate_series(1, 9)",
    "FETCH 2 FROM c",
    "CLOSE c",
];

/// Settings that the server reports.
pub const SETTINGS: &[&str] = &[
    "SET TimeZone TO 'Asia/Tokyo'",
    "SET TimeZone TO 'America/New_York'",
    "SET LOCAL TimeZone TO 'Europe/Paris'",
    "SET LOCAL DateStyle TO German",
    "SET TimeZone TO 'Nowhere/Land'",
    "RESET TimeZone",
    "SET application_name TO 'one'",
    "SET application_name TO 'tw''o \\ é'",
    "SET DateStyle TO German",
    "SET DateStyle TO 'SQL, DMY'",
    "SET IntervalStyle TO iso_8601",
    "SET client_encoding TO LATIN1",
    "SET client_encoding TO UTF8",
    "SET standard_conforming_strings TO off",
    "SET default_transaction_read_only TO on",
    "SELECT set_config('application_name', 'three', true)",
    "SELECT set_config('application_name', 'four', false)",
    "RESET ALL",
];

/// Several statements in one simple query.
pub const LISTS: &[&str] = &[
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1/0; SELECT 3",
    "BEGIN; SELECT 1; COMMIT; SELECT 2; SELECT 1/0",
    "COMMIT; BEGIN",
    "BEGIN; INSERT INTO t VALUES (11, 'eleven'); ROLLBACK; SELECT count(*) FROM t",
    "INSERT INTO t VALUES (12, 'twelve'); SELECT 1/0",
    "SET TimeZone TO 'Asia/Tokyo'; SELECT 1/0",
    "SET TimeZone TO 'Asia/Tokyo'; SHOW TimeZone",
    "SELECT 1;; SELECT 2",
    "COPY t TO STDOUT; SELECT 1; COPY u TO STDOUT",
    "PREPARE q1 AS SELECT 1; EXECUTE q1; DEALLOCATE q1",
];

/// Statements with so many parameters.
pub const WITH_PARAMETERS: &[(&str, usize)] = &[
    ("SELECT $1::int + 1", 1),
    ("SELECT $1::text || $2::text", 2),
    ("SELECT 10 / $1::int", 1),
    ("SELECT a, b FROM t WHERE a > $1::int ORDER BY a", 1),
    ("INSERT INTO t VALUES ($1::int, 'given')", 1),
    ("UPDATE t SET b = $2::text WHERE a = $1::int RETURNING a, b", 2),
    ("SELECT set_config('application_name', $1::text, false)", 1),
    ("SELECT $1, $2::int", 2),
];

/// Statements that come again and again, within a program and in all of them, under any name and under none.
pub const HOT: &[(&str, usize)] = &[
    ("SELECT 1", 0),
    ("SELECT $1::int + 1", 1),
    ("SELECT b FROM t WHERE a = $1", 1),
    ("SELECT current_setting('TimeZone'), $1::text", 1),
    ("SELECT $1, 'untyped'", 1),
    ("SELECT generate_series(1, $1::int)", 1),
    ("INSERT INTO u VALUES ($1) RETURNING a", 1),
    ("BEGIN", 0),
    ("COMMIT", 0),
    ("ROLLBACK", 0),
    ("SELECT 1/$1::int", 1),
    ("SELECT", 0),
];

/// Types that a Parse may declare; more than there are parameters, or another than the SQL says, are among them.
pub const TYPES: &[&[u32]] =
    &[&[], &[], &[], &[0], &[23], &[25], &[20], &[23, 25], &[0, 23], &[600], &[99_999]];

/// COPY from the client.
pub const COPIES: &[&str] =
    &["COPY u FROM STDIN", "COPY u (a) FROM STDIN WHERE a < 5", "COPY nowhere FROM STDIN"];

/// What takes names of statements away in SQL.
pub const DROPS: &[&str] = &[
    "DEALLOCATE s1",
    "deallocate prepare s2;",
    "DEALLOCATE \"a longer name\"",
    "DEALLOCATE nope",
    "DEALLOCATE q1",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD TEMP",
];

/// Statements whose meaning depends on settings at the time of their Parse.
pub const CONTEXTUAL: &[(&str, usize)] = &[
    ("SELECT timestamptz '2020-02-03 04:05:06'", 0),
    ("SELECT date '01/02/2003'", 0),
    ("SELECT interval '-1 2:03'", 0),
    ("SELECT 'a\\b'", 0),
    ("SELECT 'é', $1", 1),
    ("SET application_name TO 'tw''o \\ é'", 0),
];

/// Settings that such a meaning depends on.
pub const STEERING: &[&str] = &[
    "SET TimeZone TO 'Asia/Tokyo'",
    "SET TimeZone TO 'America/New_York'",
    "SET DateStyle TO German",
    "SET DateStyle TO 'SQL, DMY'",
    "SET IntervalStyle TO sql_standard",
    "SET client_encoding TO LATIN1",
    "SET standard_conforming_strings TO off",
    "SHOW TimeZone",
];

/// What makes and uses names of statements in SQL, those among them that the protocol uses too.
pub const MIXED: &[&str] = &[
    "PREPARE s1 AS SELECT 'by SQL'",
    "PREPARE s2 (int) AS SELECT $1 + 100",
    "EXECUTE s1",
    "EXECUTE s2 (5)",
    "EXECUTE \"a longer name\"",
    "DEALLOCATE s1",
    "DEALLOCATE s2",
];

/// Changes of the table `w`, and statements that read it.
pub const DEFINITIONS: &[&str] = &[
    "ALTER TABLE w ADD COLUMN d int DEFAULT 7",
    "ALTER TABLE w DROP COLUMN c",
    "ALTER TABLE w ALTER COLUMN a TYPE bigint",
    "ALTER TABLE w RENAME COLUMN c TO e",
    "DROP TABLE w",
    "CREATE TABLE w2 AS SELECT * FROM w",
    "CREATE INDEX ON w (a)",
];

/// Statements that read the table `w`.
pub const OF_CHANGING: &[(&str, usize)] = &[
    ("SELECT * FROM w", 0),
    ("SELECT c FROM w WHERE a = $1", 1),
    ("SELECT a FROM w", 0),
    ("INSERT INTO w VALUES ($1, 'new') RETURNING *", 1),
    ("UPDATE w SET c = $1 RETURNING w.*", 1),
];
