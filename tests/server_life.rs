//! The life of a server connection: what it is greeted with, how it is checked and cleaned, and when it is cut.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::look::error_of;
use common::{FakeServer, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

const MOMENT: Duration = Duration::from_millis(150);

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname=weir {more}", Postgres::shared().port())
}

/// The states of the pool's servers: active, idle, used, tested.
async fn servers(pooler: &Pgweir, database: &str) -> [String; 4] {
    let rows = pooler.console("SHOW POOLS").await;
    let row = rows.iter().find(|row| row[0].as_deref() == Some(database)).unwrap();
    [6, 9, 10, 11].map(|column| row[column].clone().unwrap())
}

/// Would break with: a query that is not run, that is run for each client, or whose failure costs the server.
#[tokio::test]
async fn connect_query_is_run_on_each_new_server() {
    let set = "connect_query='SET statement_timeout = ''17s'''";
    let pooler = pooler()
        .pool_size(1)
        .database("weir", &entry(set))
        .database("wrong", &entry("connect_query='SELECT nonsense'"))
        .start();
    let mut raw = pooler.raw().await;
    assert_eq!(raw.show(&["statement_timeout"]).await, ["17s"]);
    raw.query("SET statement_timeout = '5s'").await;
    let mut other = pooler.raw().await;
    assert_eq!(other.show(&["statement_timeout"]).await, ["5s"], "once for each server");
    pooler.console("RECONNECT").await;
    assert_eq!(other.show(&["statement_timeout"]).await, ["17s"]);
    pooler.raw_as("weir", "wrong").await.query("SELECT 1").await;
    pooler.logged("connect_query failed: column \"nonsense\" does not exist").await;
}

/// Would break with: a parameter that is set back for the first client, or one that clients are told of as it was before.
#[tokio::test]
async fn what_connect_query_sets_holds_for_every_client() {
    let set = "connect_query='SET TimeZone = ''Asia/Tokyo'''";
    for mode in ["transaction", "session"] {
        let pooler = pooler().pool_size(1).pool_mode(mode).database("weir", &entry(set)).start();
        for turn in 0..3 {
            let mut raw = pooler.raw().await;
            assert_eq!(raw.parameters["TimeZone"], "Asia/Tokyo", "{mode} {turn}");
            assert_eq!(raw.show(&["TimeZone"]).await, ["Asia/Tokyo"], "{mode} {turn}");
            raw.query("SET TimeZone = 'Europe/Rome'").await;
            assert_eq!(raw.show(&["TimeZone"]).await, ["Europe/Rome"], "{mode} {turn}");
            raw.query("DISCARD ALL").await;
            raw.terminate().await;
        }
        let mut own = pooler.raw_with("weir", &[("TimeZone", "Europe/Rome")]).await;
        assert_eq!(own.show(&["TimeZone"]).await, ["Europe/Rome"], "{mode}");
    }
}

/// Would break with: servers that go on with an earlier `connect_query`, or that any reload replaces.
#[tokio::test]
async fn another_connect_query_replaces_the_servers() {
    let with = |limit: &str| {
        let set = format!("connect_query='SET statement_timeout = ''{limit}'''");
        pooler().pool_size(1).database("weir", &entry(&set))
    };
    let pooler = with("17s").start();
    let mut raw = pooler.raw().await;
    let server = raw.server().await;
    pooler.reload(with("17s")).await;
    assert_eq!(raw.server().await, server);
    pooler.reload(with("18s")).await;
    assert_eq!(raw.show(&["statement_timeout"]).await, ["18s"]);
}

/// Would break with: a `connect_query` that may not take as long as a login may, or that nothing bounds.
#[tokio::test]
async fn connect_query_has_the_time_of_a_login() {
    let slow = pooler().database("weir", &entry("connect_query='SELECT pg_sleep(5.3)'")).start();
    let stuck = pooler()
        .setting("server_connect_timeout", 1)
        .database("weir", &entry("connect_query='SELECT pg_sleep(600)'"))
        .start();
    let mut waiting = Raw::open(stuck.port()).await;
    let login = tokio::spawn(async move {
        waiting.try_start(&[("user", "weir"), ("database", "weir")], "weir").await.is_ok()
    });
    assert_eq!(slow.raw().await.value("SELECT 1").await.as_deref(), Some("1"));
    assert!(!slow.log().contains("connect_query"), "{}", slow.log());
    stuck.logged("connect_query did not end within server_connect_timeout").await;
    login.abort();
}

/// A server that counts its checks and does not answer them when told so.
struct Checked {
    server: FakeServer,
    checks: Arc<AtomicUsize>,
    answers: Arc<AtomicBool>,
}

impl Checked {
    async fn start(query: &'static str) -> Self {
        let (checks, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let (count, may) = (Arc::clone(&checks), Arc::clone(&answers));
        let server = FakeServer::start(move |mut connection, _| {
            let (count, may) = (Arc::clone(&count), Arc::clone(&may));
            async move {
                if !connection.greet().await {
                    return;
                }
                while let Some(message) = connection.read().await {
                    if message.tag == b'Q' && message.body == [query.as_bytes(), b"\0"].concat() {
                        count.fetch_add(1, Ordering::SeqCst);
                        if !may.load(Ordering::SeqCst) {
                            return;
                        }
                        connection.write(&frontend::message(b'I', b"")).await;
                    } else if message.tag == b'Q' {
                        connection.write(&common::fake::command_complete("SET")).await;
                    }
                    connection.write(&common::fake::ready('I')).await;
                }
            }
        })
        .await;
        Self { server, checks, answers }
    }

    fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }

    fn builder(&self) -> PgweirBuilder {
        Pgweir::in_front_of(self.server.port()).pool_size(1).setting("server_idle_timeout", 0)
    }
}

/// Would break with: a check that is not made, is made too early, with another query, or that is counted for nothing; with a
/// client that notices a server which does not answer.
#[tokio::test]
async fn a_server_that_was_idle_for_long_is_checked_before_use() {
    for (setting, query) in [("<empty>", ""), ("SELECT 17", "SELECT 17")] {
        let checked = Checked::start(query).await;
        let pooler = checked
            .builder()
            .setting("server_check_delay", 0.3)
            .setting("server_check_query", setting)
            .start();
        let mut raw = pooler.raw().await;
        raw.query("one").await;
        raw.query("two").await;
        assert_eq!(checked.checks(), 0, "it was not idle for long");
        let used = ["0", "0", "1", "0"].map(str::to_owned);
        let deadline = tokio::time::Instant::now() + common::PATIENCE;
        while servers(&pooler, "weir").await != used {
            assert!(tokio::time::Instant::now() < deadline, "it is not put aside");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(checked.checks(), 0, "nobody wants it");
        raw.query("three").await;
        assert_eq!((checked.checks(), checked.server.accepted()), (1, 1));
        while servers(&pooler, "weir").await != used {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        checked.answers.store(false, Ordering::SeqCst);
        raw.write(&frontend::query("four")).await;
        checked.answers.store(false, Ordering::SeqCst);
        assert_eq!(raw.read_until_ready().await.last().unwrap().status(), 'I');
        // The one that does not answer is cancelled and closed, and another one dialled.
        assert!(checked.checks() == 2 && checked.server.accepted() >= 2);
        pooler.logged("test query failed").await;
    }
}

/// Would break with: checks that are skipped when each use is to be checked, or made when none is wanted.
#[tokio::test]
async fn a_delay_of_zero_checks_each_time_and_an_empty_query_never() {
    let checked = Checked::start("").await;
    let pooler = checked.builder().setting("server_check_delay", 0).start();
    let mut raw = pooler.raw().await;
    let before = checked.checks();
    for turn in 1..=5 {
        raw.query("x").await;
        assert_eq!(checked.checks(), before + turn);
    }
    assert_eq!(checked.server.accepted(), 1);
    drop((raw, pooler));
    let before = checked.checks();
    let pooler = checked.builder().setting("server_check_delay", 0).setting("server_check_query", "").start();
    let mut raw = pooler.raw().await;
    raw.query("x").await;
    raw.query("x").await;
    assert_eq!(checked.checks(), before);
}

/// The checks of a burst, and a restart of the server meanwhile: nobody notices. Would break with: a client that gets a dead
/// server, or one that is served by nobody.
#[tokio::test]
async fn a_restart_while_servers_are_put_aside_is_not_noticed() {
    let mut postgres = Postgres::start();
    let pooler = Pgweir::builder(&postgres)
        .setting("server_check_delay", 0.1)
        .setting("server_login_retry", 1)
        .pool_size(3)
        .start();
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(pooler.raw().await);
    }
    for client in &mut clients {
        client.write(&frontend::query("SELECT pg_sleep(0.1)")).await;
    }
    for client in &mut clients {
        client.read_until_ready().await;
    }
    let put_aside = ["0", "0", "3", "0"].map(str::to_owned);
    while servers(&pooler, "weir").await != put_aside {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for client in &mut clients {
        client.write(&frontend::query("SELECT 1")).await;
    }
    for client in &mut clients {
        client.expect("T D C Z").await;
    }
    while servers(&pooler, "weir").await != put_aside {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    postgres.stop();
    postgres.start_again();
    for client in &mut clients {
        client.write(&frontend::query("SELECT 1")).await;
    }
    for client in &mut clients {
        client.expect("T D C Z").await;
    }
}

/// Would break with: a server that keeps what a client has left on it, or that is cleaned where nobody asked for it.
#[tokio::test]
async fn server_reset_query_always_cleans_in_every_mode() {
    for (mode, always, left) in [("transaction", 1, "0"), ("statement", 1, "0"), ("transaction", 0, "17ms")] {
        let pooler = pooler()
            .pool_size(1)
            .pool_mode(mode)
            .setting("server_reset_query", "RESET ALL")
            .setting("server_reset_query_always", always)
            .start();
        let mut one = pooler.raw().await;
        let server = one.server().await;
        for _ in 0..5 {
            one.query("SET lock_timeout = '17ms'").await;
            assert_eq!(one.show(&["lock_timeout"]).await, [left], "{mode}");
        }
        assert_eq!(one.server().await, server);
        // Statements that travel with their client are made again.
        one.write(&frontend::extended("SELECT $1::text", &[Some("a")])).await;
        one.read_until_ready().await;
    }
}

/// Would break with: a Query that is served, the extended protocol that is not, or a console that cannot be used.
#[tokio::test]
async fn disable_pqexec_refuses_the_simple_protocol() {
    let pooler = pooler().setting("disable_pqexec", 1).start();
    let mut raw = pooler.raw().await;
    raw.write(&frontend::extended("SELECT 1", &[])).await;
    raw.read_until_ready().await;
    raw.write(&frontend::query("SELECT 1")).await;
    let words = raw.last_words().await;
    assert_eq!((words.field('C').as_str(), words.field('M').as_str()), ("08P01", "PQexec disallowed"));
    let mut inside = pooler.raw().await;
    inside.write(&frontend::extended("BEGIN", &[])).await;
    inside.read_until_ready().await;
    inside.write(&frontend::query("COMMIT")).await;
    let answer = inside.read_until(b'E').await;
    assert_eq!(error_of(&answer).field('M'), "PQexec disallowed");
    assert!(!pooler.console("SHOW VERSION").await.is_empty());
}

/// Would break with: sessions that are cut without the setting or inside a transaction, or that keep a server for ever.
#[tokio::test]
async fn server_fast_close_cuts_sessions_outside_of_transactions() {
    for fast in [false, true] {
        let pooler = pooler().pool_mode("session").setting("server_fast_close", u8::from(fast)).start();
        let (mut outside, mut inside, mut fresh) =
            (pooler.raw().await, pooler.raw().await, pooler.raw().await);
        let (first, second) = (outside.server().await, inside.server().await);
        inside.query("BEGIN").await;
        let mut admin = Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await;
        admin.query("RECONNECT").await;
        fresh.query("SELECT 1").await;
        if fast {
            assert_eq!(outside.last_words().await.field('M'), "database configuration changed");
            assert_eq!(inside.server().await, second);
            assert_eq!(inside.query("COMMIT").await[1].status(), 'I');
            assert_eq!(inside.last_words().await.field('M'), "database configuration changed");
        } else {
            assert_eq!((outside.server().await, inside.server().await), (first, second));
            inside.query("COMMIT").await;
            assert!(inside.is_silent_for(MOMENT).await);
        }
        assert!(fresh.is_silent_for(MOMENT).await, "its server is a new one");
    }
}
