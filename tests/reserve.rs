//! The reserve of a pool, limits of clients, and what those are told who wait.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::time::Duration;

use common::look::{connections_become, try_login, try_until};
use common::{Pgweir, PgweirBuilder, Postgres, Raw, frontend};

const MOMENT: Duration = Duration::from_millis(150);

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(database: &str, more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname={database} {more}", Postgres::shared().port())
}

/// A client that has a server, or waits for one and says so.
async fn holder(pooler: &Pgweir, user: &str, database: &str) -> Raw {
    let mut raw = pooler.raw_as(user, database).await;
    raw.write(&frontend::query("BEGIN")).await;
    raw
}

/// Would break with: a reserve that is not read, is used at once, is larger than it says, has another precedence, or is
/// closed as soon as it comes back.
#[tokio::test]
async fn the_reserve_is_for_those_who_have_waited() {
    // One thread, and so one line: of two, the one that waits shorter may be served first.
    let base = || {
        let builder = pooler().pool_size(1).setting("workers", 1);
        builder.setting("reserve_pool_timeout", 1).setting("query_wait_notify", 0)
    };
    let of_all = base().setting("reserve_pool_size", 1);
    let of_database =
        |key: &str| base().setting("reserve_pool_size", 5).database("weir", &entry("weir", key));
    let of_user = base()
        .setting("reserve_pool_size", 5)
        .database("weir", &entry("weir", "reserve_pool_size=6"))
        .user_setting("weir", "reserve_pool_size=1");
    for builder in [of_all, of_database("reserve_pool_size=1"), of_database("reserve_pool=1"), of_user] {
        let pooler = builder.start();
        let mut first = holder(&pooler, "weir", "weir").await;
        first.read_until_ready().await;
        let mut second = holder(&pooler, "weir", "weir").await;
        assert!(second.is_silent_for(MOMENT).await, "the reserve is used at once");
        let mut third = holder(&pooler, "weir", "weir").await;
        assert_eq!(second.read_until_ready().await.last().unwrap().status(), 'T');
        pooler.logged("taking connection from reserve_pool").await;
        assert!(third.is_silent_for(Duration::from_secs(2)).await, "the reserve is larger than 1");
        let server = second.server().await;
        second.query("COMMIT").await;
        assert_eq!(third.read_until_ready().await.last().unwrap().status(), 'T');
        assert_eq!(third.server().await, server, "what came from the reserve goes on");
    }
    let pooler = base().setting("reserve_pool_size", 1).setting("reserve_pool_timeout", 0).start();
    let _first = holder(&pooler, "weir", "weir").await;
    let mut second = holder(&pooler, "weir", "weir").await;
    assert!(second.is_silent_for(4 * MOMENT).await, "without a timeout there is no reserve");
}

/// Would break with: a reserve that goes beyond the limits of the database or of the user.
#[tokio::test]
async fn the_reserve_stays_within_the_other_limits() {
    for (setting, limit) in [("max_db_connections", 1), ("max_user_connections", 1)] {
        let database = Postgres::shared().fresh_database().await;
        let pooler = pooler()
            .pool_size(1)
            .setting("reserve_pool_size", 3)
            .setting("reserve_pool_timeout", 0.1)
            .setting(setting, limit)
            .start();
        let mut first = holder(&pooler, "weir", &database).await;
        first.read_until_ready().await;
        let mut second = holder(&pooler, "weir", &database).await;
        assert!(second.is_silent_for(4 * MOMENT).await);
        assert_eq!(Postgres::shared().connections(&database).await, 1);
    }
}

/// Would break with: a limit that is not read, another text, a place that is not given back, or the wrong precedence.
#[tokio::test]
async fn clients_of_a_database_and_of_a_user_are_limited() {
    let of_database = "client connections exceeded (max_db_client_connections)";
    let of_user = "client connections exceeded (max_user_client_connections)";
    let cases = [
        (pooler().setting("max_db_client_connections", 2), of_database),
        (
            pooler()
                .setting("max_db_client_connections", 9)
                .database("weir", &entry("weir", "max_db_client_connections=2")),
            of_database,
        ),
        (pooler().setting("max_user_client_connections", 2), of_user),
        (
            pooler()
                .setting("max_user_client_connections", 9)
                .user_setting("weir", "max_user_client_connections=2"),
            of_user,
        ),
        // 0 is the general one.
        (
            pooler()
                .setting("max_db_client_connections", 2)
                .database("weir", &entry("weir", "max_db_client_connections=0")),
            of_database,
        ),
        (
            pooler()
                .setting("max_user_client_connections", 2)
                .user_setting("weir", "max_user_client_connections=0"),
            of_user,
        ),
    ];
    for (builder, text) in cases {
        let pooler = builder.database("other", &entry("weir", "user=weir")).start();
        let one = pooler.raw().await;
        let mut two = pooler.raw().await;
        let refused = pooler.refusal("weir", &[]).await;
        assert_eq!((refused.field('M').as_str(), refused.field('S').as_str()), (text, "FATAL"));
        assert!(refused.field('D').contains('2'), "{refused:?}");
        // Neither another database nor another user is in the way, whoever they log in as.
        assert_eq!(try_login(pooler.port(), "weir", "other", &[]).await.is_ok(), text == of_database);
        assert_eq!(try_login(pooler.port(), "weir_md5", "weir", &[]).await.is_ok(), text == of_user);
        drop(one);
        try_until(&pooler, "weir", Result::is_ok).await.unwrap();
        two.query("SELECT 1").await;
        let shown = pooler.console("SHOW DATABASES").await;
        let row = shown.iter().find(|row| row[0].as_deref() == Some("weir")).unwrap();
        assert_eq!(row[13].as_deref(), Some(if text == of_database { "2" } else { "0" }));
        let shown = pooler.console("SHOW USERS").await;
        let row = shown.iter().find(|row| row[0].as_deref() == Some("weir")).unwrap();
        assert_eq!(row[6].as_deref(), Some(if text == of_user { "2" } else { "0" }));
    }
}

/// Would break with: a notice that does not come, comes twice, comes while the pool is paused, or costs the client its turn.
#[tokio::test]
async fn who_waits_is_told_so_once() {
    let pooler = pooler().pool_size(1).setting("query_wait_notify", 0.2).start();
    let mut first = holder(&pooler, "weir", "weir").await;
    first.read_until_ready().await;
    let mut second = holder(&pooler, "weir", "weir").await;
    let notice = second.read().await;
    assert_eq!((notice.tag, notice.field('S').as_str()), (b'N', "NOTICE"));
    let text = "No server connection available in postgres backend, client being queued";
    assert_eq!(notice.field('M'), text);
    assert!(notice.field('D').contains("1 clients waiting. 1 of 1 places"), "{notice:?}");
    assert!(second.is_silent_for(2 * MOMENT).await);
    first.query("COMMIT").await;
    second.expect("C Z").await;
    second.query("COMMIT").await;
    pooler.console("PAUSE").await;
    second.write(&frontend::query("SELECT 1")).await;
    assert!(second.is_silent_for(3 * MOMENT).await);
    pooler.console("RESUME").await;
    second.expect("T D C Z").await;
}

/// Would break with: an account of the pool that leaves out the one who reads it, or that does not name the setting.
#[tokio::test]
async fn who_is_sent_away_reads_what_the_pool_looked_like() {
    let builder = || pooler().pool_size(1).setting("query_wait_timeout", 2);
    let pooler = builder().start();
    let mut first = holder(&pooler, "weir", "weir").await;
    first.read_until_ready().await;
    let mut second = holder(&pooler, "weir", "weir").await;
    let words = second.last_words().await;
    assert_eq!((words.field('C').as_str(), words.field('M').as_str()), ("08P01", "query_wait_timeout"));
    let detail = words.field('D');
    assert!(detail.contains("1 servers active") && detail.contains("1 clients waiting"), "{detail}");
    assert!(detail.contains("1 of 1 places under the size of the pool are taken"), "{detail}");
    drop(first);
    pooler.console("PAUSE weir").await;
    let mut third = holder(&pooler, "weir", "weir").await;
    assert!(third.last_words().await.field('D').contains("It is paused"));
    let narrow = builder().setting("max_db_connections", 1).pool_size(3).start();
    let mut first = holder(&narrow, "weir", "weir").await;
    first.read_until_ready().await;
    let words = holder(&narrow, "weir", "weir").await.last_words().await;
    assert!(words.field('D').contains("1 of 1 places under max_db_connections are taken"), "{words:?}");
}

/// Would break with: warm pools that wait for a client, that are those of `*`, or that a reload does not make.
#[tokio::test]
async fn a_forced_user_keeps_the_pool_warm_without_a_client() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    let warm = |number: u32| {
        pooler().database("warm", &entry(&database, &format!("user=weir min_pool_size={number}")))
    };
    let pooler = warm(2).setting("server_idle_timeout", 0.2).start();
    connections_become(postgres, &database, 2).await;
    assert!(pooler.hang_up(warm(3)).await);
    connections_become(postgres, &database, 3).await;
    pooler.console("PAUSE warm").await;
    assert_eq!(postgres.connections(&database).await, 0);
    pooler.console("RESUME warm").await;
    connections_become(postgres, &database, 3).await;
    pooler.raw_as("weir_md5", "warm").await.query("SELECT 1").await;
}

/// Would break with: pools that are kept for ever, that go while somebody is there, or that come back with other limits.
#[tokio::test]
async fn pools_that_nobody_uses_are_forgotten() {
    let shown = async |pooler: &Pgweir, command: &str, name: &str| {
        pooler.console(command).await.iter().any(|row| row[0].as_deref() == Some(name))
    };
    let database = Postgres::shared().fresh_database().await;
    let base = || pooler().setting("server_idle_timeout", 0.1).database("named", &entry(&database, ""));
    for (builder, kept) in [
        (base().setting("pool_idle_timeout", 1), [false, false]),
        (base().setting("autodb_idle_timeout", 1), [true, false]),
        (base().setting("autodb_idle_timeout", 0), [true, true]),
    ] {
        let pooler = builder.pool_size(1).start();
        let mut stays = pooler.raw().await;
        for name in ["named", database.as_str()] {
            pooler.raw_as("weir", name).await.query("SELECT 1").await;
            assert!(shown(&pooler, "SHOW POOLS", name).await);
        }
        connections_become(Postgres::shared(), &database, 0).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
        let mut found = [true, true];
        while found != kept || (kept[1] && tokio::time::Instant::now() < deadline) {
            assert!(
                tokio::time::Instant::now() < deadline + Duration::from_secs(20),
                "{found:?}, not {kept:?}"
            );
            found =
                [shown(&pooler, "SHOW POOLS", "named").await, shown(&pooler, "SHOW POOLS", &database).await];
            assert!(found[0] || !kept[0]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(shown(&pooler, "SHOW DATABASES", "named").await);
        assert_eq!(shown(&pooler, "SHOW DATABASES", &database).await, kept[1]);
        assert!(shown(&pooler, "SHOW POOLS", "weir").await, "somebody is there");
        stays.query("SELECT 1").await;
        pooler.raw_as("weir", &database).await.query("SELECT 1").await;
    }
}

/// Logins that race with the forgetting of their pool. Would break with: a client in a pool that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_left_in_a_pool_that_was_forgotten() {
    let pooler = pooler()
        .pool_size(1)
        .setting("pool_idle_timeout", 0.001)
        .setting("server_idle_timeout", 0.001)
        .setting("log_connections", 0)
        .start();
    for turn in 0..12 {
        let mut one = pooler.raw().await;
        one.query("BEGIN").await;
        assert_eq!(pooler.console("SHOW POOLS").await.len(), 2);
        assert_eq!(one.query("COMMIT").await.last().unwrap().status(), 'I');
        drop(one);
        tokio::time::sleep(Duration::from_millis(turn * 370 % 1000)).await;
    }
}
