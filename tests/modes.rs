//! When a server goes back to the pool, and which one is taken next.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::look::error_of;
use common::{Pgweir, PgweirBuilder, Postgres, Raw, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname=weir {more}", Postgres::shared().port())
}

/// Would break with: a server that goes back before its client is gone, or one that goes back unclean.
#[tokio::test]
async fn in_session_mode_a_client_keeps_its_server_and_the_next_one_gets_it_clean() {
    let pooler = pooler().pool_mode("session").pool_size(1).start();
    let mut one = pooler.raw().await;
    let server = one.server().await;
    one.query("SET work_mem = '5MB'; CREATE TEMP TABLE t (a int); PREPARE p AS SELECT 1").await;
    one.query("SELECT pg_advisory_lock(21)").await;
    let mut two = pooler.raw().await;
    two.write(&frontend::query("SELECT pg_backend_pid()")).await;
    for _ in 0..3 {
        assert_eq!(one.server().await, server);
        assert_eq!(one.show(&["work_mem"]).await, ["5MB"]);
        one.query("EXECUTE p; TABLE t").await;
    }
    assert!(two.is_silent_for(std::time::Duration::from_millis(150)).await);
    one.terminate().await;
    assert_eq!(two.read_until_ready().await[1].columns()[0].as_deref(), Some(server.as_str()));
    assert_eq!(two.show(&["work_mem"]).await, ["4MB"]);
    let left = "SELECT (SELECT count(*) FROM pg_prepared_statements) \
                + (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') \
                + (SELECT count(*) FROM pg_class WHERE relname = 't' AND relpersistence = 't')";
    assert_eq!(two.value(left).await.as_deref(), Some("0"));
    // Cut off in a transaction.
    two.query("BEGIN; SET LOCAL work_mem = '6MB'; SET geqo = off").await;
    drop(two);
    let mut three = pooler.raw().await;
    assert_eq!(three.show(&["work_mem", "geqo"]).await, ["4MB", "on"]);
    assert_eq!(three.server().await, server);
}

/// Would break with: a reset query that is not the one of the setting, or one that runs in transaction mode.
#[tokio::test]
async fn server_reset_query() {
    for (mode, query, left) in [
        ("session", "RESET work_mem", ["4MB", "off"]),
        ("session", "", ["5MB", "off"]),
        ("transaction", "DISCARD ALL", ["5MB", "off"]),
    ] {
        let pooler = pooler().pool_mode(mode).pool_size(1).setting("server_reset_query", query).start();
        let mut one = pooler.raw().await;
        one.query("SET work_mem = '5MB'; SET geqo = off").await;
        one.terminate().await;
        assert_eq!(pooler.raw().await.show(&["work_mem", "geqo"]).await, left, "{mode} {query:?}");
    }
    // One that fails costs the server, and nobody else.
    let pooler =
        pooler().pool_mode("session").pool_size(1).setting("server_reset_query", "SELECT 1/0").start();
    let mut one = pooler.raw().await;
    let server = one.server().await;
    one.terminate().await;
    assert_ne!(pooler.raw().await.server().await, server);
}

/// Would break with: a transaction that stays open, or a server that is lost by it.
#[tokio::test]
async fn statement_mode_refuses_transaction_blocks() {
    let pooler = pooler().pool_mode("statement").pool_size(1).start();
    let text = "transaction blocks not allowed in statement pooling mode";
    for request in [frontend::query("BEGIN"), frontend::extended("START TRANSACTION", &[])] {
        let mut raw = pooler.raw().await;
        let mut other = pooler.raw().await;
        for _ in 0..2 {
            assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
            assert_eq!(other.value("SELECT 2").await.as_deref(), Some("2"));
        }
        raw.write(&request).await;
        let error = raw.last_words().await;
        assert_eq!((error.field('C').as_str(), error.field('M').as_str()), ("08P01", text));
        assert_eq!(other.value("SELECT now() = statement_timestamp()").await.as_deref(), Some("t"));
    }
    // What begins and ends in one message is no block.
    let mut raw = pooler.raw().await;
    let answer = raw.query("BEGIN; SELECT 1; COMMIT").await;
    assert_eq!(answer.last().unwrap().status(), 'I');
}

/// Whether a setting of one client is there for the next: so it is in transaction mode.
async fn leaks(pooler: &Pgweir, user: &str, database: &str) -> bool {
    let mut one = pooler.raw_as(user, database).await;
    one.query("SET work_mem = '5MB'").await;
    one.terminate().await;
    pooler.raw_as(user, database).await.show(&["work_mem"]).await == ["5MB"]
}

/// Would break with: a wrong precedence: the user's mode counts, else the database's, else the general one.
#[tokio::test]
async fn a_database_and_a_user_have_modes_of_their_own() {
    let pooler = pooler()
        .pool_mode("transaction")
        .pool_size(1)
        .database("weir", &entry(""))
        .database("long", &entry("pool_mode=session"))
        .user_setting("weir_md5", "pool_mode=session")
        .user_setting("weir_trust", "pool_mode=transaction")
        .start();
    assert!(leaks(&pooler, "weir", "weir").await);
    assert!(!leaks(&pooler, "weir", "long").await);
    assert!(!leaks(&pooler, "weir_md5", "weir").await);
    assert!(leaks(&pooler, "weir_trust", "long").await);
}

/// Would break with: one of the two orders for both values.
#[tokio::test]
async fn server_round_robin() {
    for (value, expected) in [(0, 1), (1, 3)] {
        // One thread: the order of another's servers may differ.
        let pooler = pooler().setting("server_round_robin", value).setting("workers", 1).pool_size(3).start();
        let mut clients = [pooler.raw().await, pooler.raw().await, pooler.raw().await];
        for client in &mut clients {
            client.query("BEGIN").await;
        }
        for client in &mut clients {
            client.query("COMMIT").await;
        }
        let mut servers = std::collections::HashSet::new();
        for _ in 0..6 {
            servers.insert(clients[0].server().await);
        }
        assert_eq!(servers.len(), expected, "server_round_robin = {value}");
    }
}

/// Would break with: a limit that is not read, a check before the whole message is known, or a server that is harmed.
#[tokio::test]
async fn max_packet_size() {
    let pooler = pooler().setting("max_packet_size", 10_000).pool_size(1).start();
    let mut other = pooler.raw().await;
    let server = other.server().await;
    for inside in [false, true] {
        let mut raw = pooler.raw().await;
        let fits = format!("SELECT length('{}')", "x".repeat(9_900));
        assert_eq!(raw.value(&fits).await.as_deref(), Some("9900"));
        if inside {
            raw.query("BEGIN").await;
        }
        let _cut_off = raw.try_write(&frontend::query(&format!("SELECT '{}'", "x".repeat(20_000)))).await;
        let error = raw.last_words().await;
        assert_eq!(error.field('C'), "08P01", "{error:?}");
        assert_eq!(other.server().await, server);
    }
    // What a server sends has no limit.
    assert_eq!(other.value("SELECT repeat('x', 100000)").await.map(|text| text.len()), Some(100_000));
}

/// Would break with: statements that pile up on a server, one that is dropped while it is needed, or 0 taken for none.
#[tokio::test]
async fn max_prepared_statements() {
    let limited = pooler().setting("max_prepared_statements", 5).pool_size(1).start();
    let mut clients = [limited.raw().await, limited.raw().await];
    let mut counter = limited.raw().await;
    for turn in 0..3 {
        for number in 0..8 {
            for (who, client) in clients.iter_mut().enumerate() {
                let name = format!("s{number}");
                if turn == 0 {
                    let sql = format!("SELECT {who} * 100 + {number} + $1::int");
                    client.write(&[frontend::parse(&name, &sql, &[]), frontend::sync()].concat()).await;
                    client.expect("1 Z").await;
                }
                let run =
                    [frontend::bind("", &name, &[Some("0")]), frontend::execute("", 0), frontend::sync()];
                client.write(&run.concat()).await;
                let row = client.expect("2 D C Z").await[1].columns();
                assert_eq!(row, [Some((who * 100 + number).to_string())]);
            }
            let count = counter.value("SELECT count(*) FROM pg_prepared_statements").await.unwrap();
            assert!(count.parse::<u32>().unwrap() <= 5, "{count} statements");
        }
    }

    let untouched = pooler().setting("max_prepared_statements", 0).pool_size(1).start();
    let mut raw = untouched.raw().await;
    raw.write(&[frontend::parse("my name", "SELECT 1", &[]), frontend::sync()].concat()).await;
    raw.expect("1 Z").await;
    let mut other = untouched.raw().await;
    let names = "SELECT name FROM pg_prepared_statements";
    assert_eq!(other.value(names).await.as_deref(), Some("my name"));
    let again = [frontend::parse("my name", "SELECT 2", &[]), frontend::sync()].concat();
    other.write(&again).await;
    assert_eq!(error_of(&other.read_until_ready().await).field('C'), "42P05");
}

/// Would break with: a fallback that wins over an entry, a name that is not passed on, or a client's user or password
/// that reaches the server.
#[tokio::test]
async fn databases_by_name_by_fallback_and_with_a_user_of_their_own() {
    let server = Postgres::shared().port();
    let here = "SELECT current_user || ' in ' || current_database()";
    let path = std::env::var("PATH").unwrap().replace('\'', "''");
    Postgres::shared().execute(&format!("CREATE ROLE by_variable LOGIN PASSWORD '{path}'")).await;
    let pooler = pooler()
        .database("mapped", &format!("host=127.0.0.1 port={server} dbname=postgres"))
        .database("forced", &entry("user=weir_md5 password=weir_md5"))
        .database("listed", &entry("user=weir_md5"))
        .database("filed", &entry("user=weir password_file={dir}/secret"))
        .database("named", &entry("user=by_variable password='${PATH}'"))
        .database("wrong", &entry("user=weir password=wrong"))
        .file("secret", "weir\nnot this\n")
        .start();
    for (user, database, expected) in [
        ("weir", "weir", "weir in weir"),
        ("weir", "mapped", "weir in postgres"),
        ("weir", "postgres", "weir in postgres"),
        ("weir", "forced", "weir_md5 in weir"),
        ("weir_trust", "forced", "weir_md5 in weir"),
        ("weir_trust", "listed", "weir_md5 in weir"),
        ("weir_trust", "filed", "weir in weir"),
        ("weir", "named", "by_variable in weir"),
    ] {
        let mut raw = pooler.raw_as(user, database).await;
        assert_eq!(raw.value(here).await.as_deref(), Some(expected), "{user} {database}");
    }
    assert_eq!(pooler.refusal("wrong", &[]).await.field('C'), "28P01");
    // The server's own words for a database that only the fallback knows.
    let missing = pooler.refusal("no_such_one", &[]).await;
    assert_eq!(missing.field('C'), "3D000");
    assert_eq!(missing.field('M'), "database \"no_such_one\" does not exist");
    // Clients of a forced user share its servers.
    let narrow = self::pooler().pool_size(1).database("forced", &entry("user=weir")).start();
    let one = narrow.raw_as("weir_md5", "forced").await.server().await;
    assert_eq!(narrow.raw_as("weir_trust", "forced").await.server().await, one);
}

/// Would break with: an unknown name that is passed on, or a client's name that reaches the server though nothing proves
/// it.
#[tokio::test]
async fn without_a_fallback_only_what_is_listed_is_there() {
    let server = Postgres::shared().port();
    let pooler = Pgweir::start_text("pgbouncer.ini", |port, _| {
        format!(
            "[databases]\nonly = host=127.0.0.1 port={server} dbname=weir user=weir_trust\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             [databases]\nopen = host=127.0.0.1 port={server} dbname=weir\n"
        )
    });
    let mut raw = Raw::open(pooler.port()).await;
    raw.start(&[("user", "postgres"), ("database", "only")], "whatever").await;
    assert_eq!(raw.value("SELECT current_user").await.as_deref(), Some("weir_trust"));
    let mut raw = Raw::open(pooler.port()).await;
    let refused = raw.try_start(&[("user", "x"), ("database", "weir")], "").await.unwrap_err();
    assert_eq!(
        (refused.field('C').as_str(), refused.field('M').as_str()),
        ("3D000", "no such database: weir")
    );
    raw.expect_eof().await;
    let mut raw = Raw::open(pooler.port()).await;
    let refused = raw.try_start(&[("user", "weir_trust"), ("database", "open")], "").await.unwrap_err();
    assert_eq!((refused.field('C').as_str(), refused.field('M').as_str()), ("08P01", "bouncer config error"));
}
