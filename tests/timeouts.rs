//! Limits of time. Nothing here looks at a clock: what must happen is waited for, and what must not happen is shown by
//! something that comes later.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::pin::pin;
use std::time::Duration;

use common::fake::error;
use common::look::{connections_become, error_of, seen, try_login, try_until};
use common::{FakeServer, Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname=weir {more}", Postgres::shared().port())
}

fn assert_says(error: &Message, code: &str, text: &str) {
    assert_eq!((error.field('C').as_str(), error.field('M').as_str()), (code, text));
}

/// Would break with: a wait without end, another text, a wrong precedence, or a waiter that still gets the server.
#[tokio::test]
async fn query_wait_timeout() {
    let builder = || pooler().pool_size(1);
    let of_all = builder().setting("query_wait_timeout", 1);
    let of_user = builder()
        .database("weir", &entry("query_wait_timeout=600"))
        .user_setting("weir", "query_wait_timeout=1");
    let of_database =
        builder().setting("query_wait_timeout", 600).database("weir", &entry("query_wait_timeout=1"));
    for builder in [of_all, of_user, of_database] {
        let pooler = builder.start();
        let mut holder = pooler.raw().await;
        let mut waiter = pooler.raw().await;
        holder.query("BEGIN").await;
        waiter.write(&frontend::query("SELECT 1")).await;
        assert_says(&waiter.last_words().await, "08P01", "query_wait_timeout");
        assert_eq!(holder.query("COMMIT").await.last().unwrap().status(), 'I');
        pooler.raw().await.query("SELECT 1").await;
    }
}

/// Would break with: a query that goes on at the server, or a server that is lost to the pool.
#[tokio::test]
async fn query_timeout() {
    let postgres = Postgres::shared();
    for builder in [
        pooler().setting("query_timeout", 0.3),
        pooler().setting("query_timeout", 600).user_setting("weir", "query_timeout=0.3"),
    ] {
        let database = postgres.fresh_database().await;
        let pooler = builder.pool_size(1).start();
        for request in [
            frontend::query("SELECT pg_sleep(600)"),
            frontend::extended("SELECT pg_sleep(600)", &[]),
            [frontend::query("BEGIN"), frontend::query("SELECT pg_sleep(600)")].concat(),
        ] {
            let mut raw = Raw::login(pooler.port(), "weir", "weir", &database).await;
            raw.write(&request).await;
            assert_says(&raw.last_words().await, "57014", "query timeout");
            let over = "SELECT (count(*) = 0)::int::int8 FROM pg_stat_activity \
                        WHERE datname = $1 AND (state = 'active' OR xact_start IS NOT NULL)";
            seen(postgres, over, &[&database]).await;
            Raw::login(pooler.port(), "weir", "weir", &database).await.query("SELECT 1").await;
        }
    }
}

/// A client that pauses between quick queries runs no query. Would break with: a clock that goes on meanwhile.
#[tokio::test]
async fn query_timeout_does_not_count_pauses() {
    let pooler = pooler().setting("query_timeout", 0.5).pool_size(2).start();
    let mut quick = pooler.raw().await;
    quick.query("BEGIN").await;
    let mut slow = pooler.raw().await;
    quick.query("SELECT 1").await;
    slow.write(&frontend::query("SELECT pg_sleep(600)")).await;
    slow.last_words().await;
    assert_eq!(quick.query("COMMIT").await.last().unwrap().status(), 'I');
}

/// Would break with: a server that keeps its transaction, and so its locks, or a clock that starts with the transaction.
#[tokio::test]
async fn idle_transaction_timeout() {
    for builder in [
        pooler().setting("idle_transaction_timeout", 0.6),
        pooler()
            .setting("idle_transaction_timeout", 600)
            .user_setting("weir", "idle_transaction_timeout=0.6"),
    ] {
        let pooler = builder.pool_size(2).start();
        let mut outside = pooler.raw().await;
        let mut busy = pooler.raw().await;
        busy.query("BEGIN").await;
        // Twice as long as anybody may be idle, and never idle for so long.
        for _ in 0..2 {
            let mut cut = pin!(async {
                let mut idle = pooler.raw().await;
                idle.query("BEGIN; SELECT pg_advisory_xact_lock(5)").await;
                idle.last_words().await
            });
            let said = loop {
                tokio::select! {
                    said = &mut cut => break said,
                    _ = busy.query("SELECT pg_sleep(0.02)") => {}
                }
            };
            busy.read_until_ready().await;
            assert_says(&said, "25P03", "idle transaction timeout");
        }
        outside.query("SELECT pg_advisory_lock(5), pg_advisory_unlock(5)").await;
        assert_eq!(busy.query("COMMIT").await.last().unwrap().status(), 'I');
    }
}

/// Would break with: a clock that starts anew with each query, or that goes on outside of transactions.
#[tokio::test]
async fn transaction_timeout() {
    for builder in [
        pooler().setting("transaction_timeout", 0.5),
        pooler().setting("transaction_timeout", 600).user_setting("weir", "transaction_timeout=0.5"),
    ] {
        let pooler = builder.pool_size(2).start();
        let mut short = pooler.raw().await;
        let mut long = pooler.raw().await;
        long.query("BEGIN; SELECT pg_advisory_xact_lock(6)").await;
        let said = loop {
            short.query("BEGIN; SELECT 1; COMMIT").await;
            long.write(&frontend::query("SELECT pg_sleep(0.01)")).await;
            let answer = loop {
                let message = long.read().await;
                if matches!(message.tag, b'Z' | b'E') {
                    break message;
                }
            };
            if answer.tag == b'E' {
                break answer;
            }
        };
        assert_says(&said, "25P04", "transaction timeout");
        long.expect_eof().await;
        short.query("SELECT pg_advisory_lock(6), pg_advisory_unlock(6)").await;
    }
}

/// Would break with: a client that is cut inside its transaction, or none at all.
#[tokio::test]
async fn client_idle_timeout() {
    for mode in ["transaction", "session"] {
        for builder in [
            pooler().setting("client_idle_timeout", 0.3),
            pooler().setting("client_idle_timeout", 600).user_setting("weir", "client_idle_timeout=0.3"),
        ] {
            let pooler = builder.pool_mode(mode).start();
            let mut inside = pooler.raw().await;
            inside.query("BEGIN").await;
            let mut fresh = pooler.raw().await;
            let mut used = pooler.raw().await;
            used.query("SELECT 1").await;
            assert_says(&fresh.last_words().await, "57P05", "client_idle_timeout");
            assert_says(&used.last_words().await, "57P05", "client_idle_timeout");
            assert_eq!(inside.query("COMMIT").await.last().unwrap().status(), 'I');
            assert_says(&inside.last_words().await, "57P05", "client_idle_timeout");
        }
    }
}

/// Would break with: a connection that may stay for ever before its password, at any step, or that keeps its place.
#[tokio::test]
async fn client_login_timeout() {
    let pooler = pooler().setting("client_login_timeout", 0.3).setting("max_client_conn", 1).start();
    let startup = frontend::startup(frontend::VERSION_3_0, &[("user", "weir"), ("database", "weir")]);
    for bytes in [&startup[..0], &startup[..6], &startup[..], &[&startup[..], b"p\0\0\0\x20SC"].concat()] {
        let mut raw = Raw::open(pooler.port()).await;
        raw.write(bytes).await;
        assert_says(&raw.last_words().await, "08P01", "client_login_timeout");
    }
    let mut raw = try_until(&pooler, "weir", Result::is_ok).await.unwrap();
    // One that is in is let be.
    let mut late = Raw::open(pooler.port()).await;
    late.last_words().await;
    raw.query("SELECT 1").await;
}

/// Would break with: idle servers that stay, or one in use that goes.
#[tokio::test]
async fn server_idle_timeout() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    let pooler = pooler().setting("server_idle_timeout", 0.3).start();
    let mut idle = Raw::login(pooler.port(), "weir", "weir", &database).await;
    let mut busy = Raw::login(pooler.port(), "weir", "weir", &database).await;
    busy.query("BEGIN").await;
    idle.query("SELECT 1").await;
    connections_become(postgres, &database, 2).await;
    connections_become(postgres, &database, 1).await;
    assert_eq!(busy.query("COMMIT").await.last().unwrap().status(), 'I');
    connections_become(postgres, &database, 0).await;
    idle.query("SELECT 1").await;
}

/// Would break with: 0 taken for never, or a server that goes in the middle of a transaction.
#[tokio::test]
async fn a_server_lifetime_of_0_uses_each_server_once() {
    for builder in [
        pooler().setting("server_lifetime", 0),
        // In an entry, 0 is the general value.
        pooler().setting("server_lifetime", 0).database("weir", &entry("server_lifetime=0")),
    ] {
        let pooler = builder.pool_size(1).start();
        let mut raw = pooler.raw().await;
        let mut servers = Vec::new();
        for _ in 0..5 {
            raw.query("BEGIN").await;
            let server = raw.server().await;
            assert_eq!(raw.server().await, server);
            raw.query("COMMIT").await;
            assert!(!servers.contains(&server), "{server} of {servers:?}");
            servers.push(server);
        }
    }
}

/// Would break with: a server that is used for ever, or cut in the middle of a transaction.
#[tokio::test]
async fn server_lifetime() {
    let pooler = pooler().setting("server_lifetime", 0.3).pool_size(2).start();
    let mut holder = pooler.raw().await;
    holder.query("BEGIN").await;
    let held = holder.server().await;
    let mut raw = pooler.raw().await;
    let first = raw.server().await;
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while raw.server().await == first {
        assert!(tokio::time::Instant::now() < deadline, "it is used for ever");
    }
    assert_eq!(holder.server().await, held);
    holder.query("COMMIT").await;
    assert_ne!(holder.server().await, held);
}

/// Would break with: a dial without end, or one that is not repeated.
#[tokio::test]
async fn server_connect_timeout() {
    let fake = FakeServer::start(|mut connection, _| async move { connection.drain().await }).await;
    let pooler = Pgweir::in_front_of(fake.port())
        .setting("server_connect_timeout", 0.2)
        .setting("server_login_retry", 0.2)
        .setting("query_wait_timeout", 2)
        .start();
    let first = pooler.refusal("weir", &[]).await;
    assert_says(&first, "08P01", "query_wait_timeout");
    assert!(first.field('D').contains("server_connect_timeout"), "{first:?}");
    fake.has_accepted(3).await;
    let failing = "server login has been failing, cached error: server_connect_timeout";
    try_until(
        &pooler,
        "weir",
        |result| matches!(result, Err(error) if error.field('M').starts_with(failing)),
    )
    .await
    .unwrap_err();
}

/// Would break with: clients that pile up while the server is down, or that are refused for ever.
#[tokio::test]
async fn clients_fail_fast_while_the_server_is_down_and_get_in_when_it_is_back() {
    let mut postgres = Postgres::start();
    let pooler = Pgweir::builder(&postgres)
        .setting("server_login_retry", 1)
        .setting("query_wait_timeout", 2)
        .user_setting("weir_md5", "query_wait_timeout=600")
        .start();
    let mut patient = pooler.raw_as("weir_md5", "weir").await;
    pooler.raw().await.query("SELECT 1").await;
    postgres.stop();
    let failing = "server login has been failing, cached error: ";
    let refused = asked_until(&pooler, |last| last.tag == b'E' && last.field('M').starts_with(failing)).await;
    assert!(refused.field('M').ends_with("(server_login_retry)"), "{refused:?}");
    assert_eq!(refused.field('S'), "FATAL");
    // Who waits already goes on to wait.
    patient.write(&frontend::query("SELECT 1")).await;
    pooler.logged("login attempt: db=weir user=weir_md5").await;
    postgres.start_again();
    patient.expect("T D C Z").await;
    asked_until(&pooler, |last| last.tag == b'Z').await;
}

/// Logs in and asks until the last message of the answer is such a one.
async fn asked_until(pooler: &Pgweir, enough: impl Fn(&Message) -> bool) -> Message {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let last = match try_login(pooler.port(), "weir", "weir", &[]).await {
            Err(error) => error,
            Ok(mut raw) => {
                raw.write(&frontend::query("SELECT 1")).await;
                loop {
                    let message = raw.read().await;
                    if matches!(message.tag, b'E' | b'Z') {
                        break message;
                    }
                }
            }
        };
        if enough(&last) {
            return last;
        }
        assert!(tokio::time::Instant::now() < deadline, "at last came {last:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Would break with: a client that waits for `query_wait_timeout` though the server has refused for good, or a dial for
/// each client, which locks accounts.
#[tokio::test]
async fn a_login_that_is_refused_for_good_is_told_at_once_and_not_repeated() {
    let fake = FakeServer::start(|mut connection, _| async move {
        connection.opening().await;
        connection.write(&error("FATAL", "28P01", "password authentication failed for user \"weir\"")).await;
    })
    .await;
    let pooler = Pgweir::in_front_of(fake.port()).setting("server_login_retry", 600).start();
    let text = "password authentication failed for user \"weir\"";
    assert_says(&pooler.refusal("weir", &[]).await, "28P01", text);
    let cached = format!("server login has been failing, cached error: {text} (server_login_retry)");
    for _ in 0..5 {
        assert_says(&pooler.refusal("weir", &[]).await, "28P01", &cached);
    }
    assert_eq!(fake.accepted(), 1);
}

/// Would break with: waiters that are thrown out by an error that passes.
#[tokio::test]
async fn a_server_that_starts_up_is_waited_for() {
    let fake = FakeServer::start(|mut connection, number| async move {
        if number < 2 {
            connection.opening().await;
            connection.write(&error("FATAL", "57P03", "the database system is starting up")).await;
        } else if connection.greet().await {
            connection.serve().await;
        }
    })
    .await;
    let pooler = Pgweir::in_front_of(fake.port()).setting("server_login_retry", 0.2).start();
    let (one, two) = tokio::join!(pooler.raw(), pooler.raw());
    for mut raw in [one, two] {
        assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
    }
}

/// Would break with: a client whose own refused query ends the session, for one.
#[tokio::test]
async fn timeouts_that_are_0_are_none() {
    let names = [
        "query_wait_timeout",
        "query_timeout",
        "idle_transaction_timeout",
        "transaction_timeout",
        "client_idle_timeout",
        "client_login_timeout",
        "server_idle_timeout",
        "server_connect_timeout",
    ];
    let builder = names.iter().fold(pooler(), |builder, name| builder.setting(name, 0));
    let pooler = builder.pool_size(1).start();
    let mut connecting = Raw::open(pooler.port()).await;
    let (mut raw, mut waiter) = (pooler.raw().await, pooler.raw().await);
    let server = raw.server().await;
    raw.query("BEGIN").await;
    waiter.write(&frontend::query("SELECT pg_backend_pid()")).await;
    assert_eq!(error_of(&raw.query("SELECT 1/0").await).field('C'), "22012");
    assert!(waiter.is_silent_for(Duration::from_millis(1500)).await);
    raw.query("ROLLBACK").await;
    assert_eq!(waiter.read_until_ready().await[1].columns()[0].as_deref(), Some(server.as_str()));
    connecting.start(&[("user", "weir"), ("database", "weir")], "weir").await;
}
