//! Programs at random: the same seed gives the same program.

use crate::program::{self, Program, Sent, Step};

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed says.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Statements without parameters, for either protocol.
const PLAIN: &[&str] = &[
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

const TRANSACTION: &[&str] = &[
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

const SETTINGS: &[&str] = &[
    "SET TimeZone TO 'Asia/Tokyo'",
    "SET TimeZone TO 'America/New_York'",
    "SET LOCAL TimeZone TO 'Europe/Paris'",
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

const LISTS: &[&str] = &[
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

const WITH_PARAMETERS: &[(&str, usize)] = &[
    ("SELECT $1::int + 1", 1),
    ("SELECT $1::text || $2::text", 2),
    ("SELECT 10 / $1::int", 1),
    ("SELECT a, b FROM t WHERE a > $1::int ORDER BY a", 1),
    ("INSERT INTO t VALUES ($1::int, 'given')", 1),
    ("UPDATE t SET b = $2::text WHERE a = $1::int RETURNING a, b", 2),
    ("SELECT set_config('application_name', $1::text, false)", 1),
    ("SELECT $1, $2::int", 2),
];

const COPIES: &[&str] =
    &["COPY u FROM STDIN", "COPY u (a) FROM STDIN WHERE a < 5", "COPY nowhere FROM STDIN"];

/// What a program may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The unnamed statement only.
    None,
    /// Named statements too, by Parse and by PREPARE.
    Some,
}

struct Author {
    dice: Dice,
    names: Names,
    steps: Vec<Step>,
    /// Statements of which a Parse was sent, with their parameters.
    parsed: Vec<(&'static str, usize)>,
}

/// Writes the program of this seed.
pub fn program(seed: u64, names: Names) -> Program {
    let mut dice = Dice::new(seed);
    let startup = startup(&mut dice);
    let mut author = Author { dice, names, steps: Vec::new(), parsed: Vec::new() };
    let phrases = 2 + author.dice.below(9);
    let hurry = author.dice.pick(&[5, 30, 60]);
    for _ in 0..phrases {
        author.phrase();
        if author.dice.percent(hurry) {
            author.steps.push(Step::Wait);
        } else if author.dice.percent(15) {
            author.steps.push(Step::Cut);
        }
    }
    if !startup.is_empty() {
        // What is reset behind a pooler becomes what the server has, not what the client had asked for at startup.
        author.steps.retain(|step| !matches!(step, Step::Send(sent) if resets(&sent.label)));
    }
    Program { startup, steps: author.steps }
}

fn resets(label: &str) -> bool {
    ["RESET", "DISCARD ALL", "set_config('application_name', $1"].iter().any(|word| label.contains(word))
}

fn startup(dice: &mut Dice) -> Vec<(String, String)> {
    let choices = [
        ("application_name", "started"),
        ("TimeZone", "asia/tokyo"),
        ("DateStyle", "german"),
        ("options", "-c IntervalStyle=iso_8601 --application-name=opted"),
    ];
    // Most programs have none, since these leave out all that resets settings.
    let count = if dice.percent(80) { 0 } else { 1 + dice.below(2) };
    let mut chosen = Vec::new();
    for _ in 0..count {
        let (name, value) = dice.pick(&choices);
        if chosen.iter().all(|(known, _)| known != name) {
            chosen.push((name.to_owned(), value.to_owned()));
        }
    }
    chosen
}

impl Author {
    fn send(&mut self, sent: Sent) {
        self.steps.push(Step::Send(sent));
    }

    fn phrase(&mut self) {
        match self.dice.below(100) {
            0..20 => self.simple(),
            20..60 => self.batch(),
            60..72 => self.copy(),
            72..76 => self.function(),
            76..86 => self.transaction(),
            86..97 => self.stray(),
            _ => self.odd(),
        }
    }

    fn sql(&mut self) -> &'static str {
        match self.dice.below(10) {
            0..5 => self.dice.pick(PLAIN),
            5..8 => self.dice.pick(TRANSACTION),
            _ => self.dice.pick(SETTINGS),
        }
    }

    fn simple(&mut self) {
        let sql = if self.dice.percent(30) { self.dice.pick(LISTS) } else { self.sql() };
        let sql = if self.names == Names::None && sql.contains("PREPARE") { "SELECT 1" } else { sql };
        if self.names == Names::Some && self.dice.percent(5) {
            self.send(program::query("PREPARE q1 AS SELECT 'prepared'"));
        }
        self.send(program::query(sql));
    }

    fn statement(&mut self) -> &'static str {
        if self.names == Names::None { "" } else { self.dice.pick(&["", "", "s1", "s2", "a longer name"]) }
    }

    fn portal(&mut self) -> &'static str {
        self.dice.pick(&["", "", "", "p1", "p2"])
    }

    fn parse(&mut self, name: &'static str) {
        let (sql, parameters) = match self.dice.below(10) {
            0..6 => self.dice.pick(WITH_PARAMETERS),
            6..9 => (self.sql(), 0),
            _ => (self.dice.pick(LISTS), 0),
        };
        // What an Execute drops is known by its answer only: names used behind it in one go may still be found.
        let drops = self.names == Names::Some && sql.contains(" ALL");
        let (sql, parameters) = if drops { ("SELECT 'kept'", 0) } else { (sql, parameters) };
        self.parsed.retain(|(known, _)| *known != name);
        self.parsed.push((name, parameters));
        let types: &[u32] = if parameters == 1 && self.dice.percent(20) { &[0] } else { &[] };
        if self.dice.percent(3) {
            // Longer than a block of any pooler.
            let padded = format!("{sql} /* {} */", "padding ".repeat(2500));
            return self.send(program::parse(name, &padded, types));
        }
        self.send(program::parse(name, sql, types));
    }

    fn bind(&mut self, portal: &str, statement: &str) {
        let known = self.parsed.iter().find(|(name, _)| *name == statement).map_or(0, |(_, count)| *count);
        let count = if self.dice.percent(95) { known } else { self.dice.below(3) };
        let large = "large ".repeat(4000);
        let values: Vec<Option<&str>> = (0..count)
            .map(|_| {
                let values = [Some("1"), Some("2"), Some("7"), Some("0"), Some("x"), None];
                if self.dice.percent(3) { Some(large.as_str()) } else { self.dice.pick(&values) }
            })
            .collect();
        self.send(program::bind(portal, statement, &values));
    }

    /// One to four statements of the extended protocol, as most drivers send them and as few do.
    fn batch(&mut self) {
        for _ in 0..1 + self.dice.below(3) {
            let (statement, portal) = (self.statement(), self.portal());
            if self.dice.percent(75) {
                self.parse(statement);
            }
            if self.dice.percent(25) {
                self.send(program::describe('S', statement));
            }
            if self.dice.percent(10) {
                self.send(program::flush());
                if self.dice.percent(50) {
                    self.steps.push(Step::Wait);
                }
            }
            if self.dice.percent(90) {
                self.bind(portal, statement);
            }
            if self.dice.percent(40) {
                self.send(program::describe('P', portal));
            }
            if self.dice.percent(90) {
                let rows = self.dice.pick(&[0, 0, 0, 1, 3]);
                self.send(program::execute(portal, rows));
                if rows > 0 && self.dice.percent(50) {
                    self.send(program::execute(portal, 0));
                }
            }
            self.ending(statement, portal);
        }
        if self.dice.percent(85) {
            self.send(program::sync());
        }
    }

    fn ending(&mut self, statement: &str, portal: &str) {
        if self.dice.percent(12) {
            self.send(program::close('P', portal));
        }
        if self.dice.percent(12) {
            self.send(program::close('S', statement));
        }
        if self.dice.percent(25) {
            self.send(program::sync());
        }
        if self.dice.percent(8) {
            self.steps.push(Step::Cut);
        }
    }

    fn copy(&mut self) {
        let sql = self.dice.pick(COPIES);
        let simple = self.dice.percent(50);
        if simple {
            self.send(program::query(sql));
        } else {
            self.send(program::parse("", sql, &[]));
            self.parsed.retain(|(name, _)| !name.is_empty());
            self.send(program::bind("", "", &[]));
            self.send(program::execute("", 0));
            if self.dice.percent(30) {
                self.send(program::sync());
            }
        }
        // A Sync among data that are bad may be ignored or not; nobody can tell from outside.
        let clean = self.dice.percent(50);
        for _ in 0..self.dice.below(4) {
            self.pause();
            let good = clean || self.dice.percent(75);
            let rows = if good { "1\n2\n" } else { "3\nnot a number\n" };
            self.send(program::copy_data(rows));
            if clean && sql != COPIES[2] && self.dice.percent(16) {
                let ignored = if self.dice.percent(50) { program::sync() } else { program::flush() };
                self.send(ignored);
            }
        }
        self.pause();
        let end = if self.dice.percent(80) { program::copy_done() } else { program::copy_fail() };
        self.send(end);
        if !simple {
            self.pause();
            self.send(program::sync());
        }
    }

    fn pause(&mut self) {
        match self.dice.below(10) {
            0 => self.steps.push(Step::Wait),
            1 => self.steps.push(Step::Cut),
            _ => {}
        }
    }

    /// int4pl, int4div, and a function that there is not.
    fn function(&mut self) {
        let (oid, arguments): (u32, &[&str]) =
            self.dice.pick(&[(177, &["1", "2"][..]), (154, &["1", "0"]), (177, &["1"]), (1, &[])]);
        self.send(program::function_call(oid, arguments));
    }

    /// A transaction with something in it.
    fn transaction(&mut self) {
        self.send(program::query("BEGIN"));
        for _ in 0..1 + self.dice.below(3) {
            self.pause();
            if self.dice.percent(50) { self.simple() } else { self.batch() }
        }
        if self.dice.percent(85) {
            self.send(program::sync());
            self.pause();
            let end = self.dice.pick(&["COMMIT", "ROLLBACK"]);
            self.send(program::query(end));
        }
    }

    /// A single message out of any order.
    fn stray(&mut self) {
        let statement = self.statement();
        let portal = self.portal();
        let sent = match self.dice.below(12) {
            0..3 => program::sync(),
            3 => program::flush(),
            4 => program::copy_data("9\n"),
            5 => program::copy_done(),
            6 => program::copy_fail(),
            7 => program::execute("nope", 0),
            8 => program::describe('S', "nope"),
            9 => program::close('S', "nope"),
            10 => program::describe('S', statement),
            _ => program::execute(portal, 2),
        };
        self.send(sent);
        if self.dice.percent(20) {
            self.bind(portal, statement);
        }
    }

    /// Messages that PostgreSQL refuses and survives. Not among them are a Query and a Parse that are cut short: they
    /// leave an unnamed statement in place, and the pooler takes them for what they were meant to be.
    fn odd(&mut self) {
        let (tag, body): (u8, &[u8]) = self.dice.pick(&[
            (b'P', &b"no end"[..]),
            (b'P', b"name\0SELECT 1\0\0\x09"),
            (b'B', b"\0\0\0"),
            (b'B', b"\0\0\0\0\xff\xff\0\0"),
            (b'D', b"Xname\0"),
            (b'D', b""),
            (b'C', b"Y\0"),
            (b'E', b"\0"),
        ]);
        self.send(program::odd(tag, body));
    }
}
