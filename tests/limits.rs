//! How many servers and clients there may be, and who comes first.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::time::Duration;

use common::look::{connections_become, seen, try_login, try_until};
use common::{Pgweir, PgweirBuilder, Postgres, Raw, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(database: &str, more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname={database} {more}", Postgres::shared().port())
}

/// Asserts that exactly `servers` clients of a user have a server at a time: one more waits, and is served as soon as
/// another is done.
async fn allows(pooler: &Pgweir, user: &str, database: &str, servers: usize) {
    let mut holders = Vec::new();
    for number in 0..servers {
        let mut raw = pooler.raw_as(user, database).await;
        assert_eq!(raw.query("BEGIN").await.last().unwrap().status(), 'T', "server {number}");
        holders.push(raw);
    }
    let mut late = pooler.raw_as(user, database).await;
    late.write(&frontend::query("SELECT 'late'")).await;
    assert!(late.is_silent_for(Duration::from_millis(150)).await, "{user} has more than {servers} servers");
    holders[0].query("COMMIT").await;
    late.expect("T D C Z").await;
}

/// Would break with: a limit that is not read, is off by one, or has the wrong precedence.
#[tokio::test]
async fn pools_have_the_size_of_their_user_else_of_their_database_else_the_default() {
    let database = Postgres::shared().fresh_database().await;
    let pooler = pooler()
        .pool_size(2)
        .database("three", &entry(&database, "pool_size=3"))
        .user_setting("weir_md5", "pool_size=1")
        .start();
    allows(&pooler, "weir", &database, 2).await;
    allows(&pooler, "weir", "three", 3).await;
    allows(&pooler, "weir_md5", &database, 1).await;
    allows(&pooler, "weir_md5", "three", 1).await;
}

/// Would break with: a limit per pool only, or an idle server of one user that locks out the other for good.
#[tokio::test]
async fn a_database_has_a_limit_over_its_users() {
    let database = Postgres::shared().fresh_database().await;
    let pooler = pooler().setting("max_db_connections", 1).start();
    let mut one = pooler.raw_as("weir", &database).await;
    let first = one.server().await;
    // The idle server of the one makes room for the other.
    let mut two = pooler.raw_as("weir_md5", &database).await;
    assert_eq!(two.value("SELECT current_user").await.as_deref(), Some("weir_md5"));
    connections_become(Postgres::shared(), &database, 1).await;
    two.query("BEGIN").await;
    // One in use does not.
    one.write(&frontend::query("SELECT pg_backend_pid()")).await;
    assert!(one.is_silent_for(Duration::from_millis(150)).await);
    assert_eq!(Postgres::shared().connections(&database).await, 1);
    two.query("COMMIT").await;
    let answer = one.read_until_ready().await;
    assert_ne!(answer[1].columns()[0].as_deref(), Some(first.as_str()));

    let own = self::pooler().database("own", &entry(&database, "max_db_connections=2")).start();
    let mut holders = Vec::new();
    for user in ["weir", "weir_md5"] {
        let mut raw = own.raw_as(user, "own").await;
        raw.query("BEGIN").await;
        holders.push(raw);
    }
    let mut late = own.raw_as("weir", "own").await;
    late.write(&frontend::query("SELECT 1")).await;
    assert!(late.is_silent_for(Duration::from_millis(150)).await);
    holders[1].query("COMMIT").await;
    late.expect("T D C Z").await;
}

/// Would break with: a limit per pool only, or one that counts servers of other users.
#[tokio::test]
async fn a_user_has_a_limit_over_all_databases() {
    let (here, there) =
        (Postgres::shared().fresh_database().await, Postgres::shared().fresh_database().await);
    for pooler in [
        pooler().setting("max_user_connections", 1).start(),
        pooler().user_setting("weir", "max_user_connections=1").start(),
    ] {
        let mut one = pooler.raw_as("weir", &here).await;
        one.query("SELECT 1").await;
        let mut two = pooler.raw_as("weir", &there).await;
        two.query("BEGIN").await;
        connections_become(Postgres::shared(), &here, 0).await;
        one.write(&frontend::query("SELECT 1")).await;
        assert!(one.is_silent_for(Duration::from_millis(150)).await);
        pooler.raw_as("weir_md5", &here).await.query("SELECT 1").await;
        two.query("COMMIT").await;
        one.expect("T D C Z").await;
    }
}

/// Would break with: a minimum that is not dialled, that falls to the idle timeout, that is not made up for, or that is
/// kept when nobody is there.
#[tokio::test]
async fn the_minimum_is_kept_while_a_client_is_there() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    let entry = entry(&database, "min_pool_size=2");
    for pooler in [
        pooler().setting("min_pool_size", 2).database("min", &self::entry(&database, "")),
        pooler().database("min", &entry),
    ] {
        let pooler = pooler.setting("server_idle_timeout", 0.2).start();
        let mut client = pooler.raw_as("weir", "min").await;
        connections_become(postgres, &database, 2).await;
        let mut others = Vec::new();
        for _ in 0..4 {
            let mut raw = pooler.raw_as("weir", "min").await;
            raw.query("BEGIN").await;
            others.push(raw);
        }
        connections_become(postgres, &database, 4).await;
        drop(others);
        connections_become(postgres, &database, 2).await;
        let looker = postgres.connect("postgres", "postgres").await;
        let kill = "SELECT pg_terminate_backend(pid), now()::text FROM pg_stat_activity WHERE datname = $1";
        let killed = looker.query(kill, &[&database]).await.unwrap();
        assert_eq!(killed.len(), 2);
        let look = "SELECT (count(*) = 2)::int::int8 FROM pg_stat_activity \
                    WHERE datname = $1 AND backend_start > $2::text::timestamptz";
        seen(postgres, look, &[&database, &killed[0].get::<_, &str>(1)]).await;
        client.query("SELECT 1").await;
        drop(client);
        connections_become(postgres, &database, 0).await;
    }
}

/// Would break with: a minimum that takes more than a limit allows, or that evicts the servers of others.
#[tokio::test]
async fn the_minimum_is_below_every_limit() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    let pooler = pooler().setting("min_pool_size", 3).setting("max_db_connections", 2).start();
    let mut one = pooler.raw_as("weir", &database).await;
    connections_become(postgres, &database, 2).await;
    let mut two = pooler.raw_as("weir_md5", &database).await;
    for _ in 0..10 {
        assert_eq!(one.value("SELECT current_user").await.as_deref(), Some("weir"));
        assert_eq!(two.value("SELECT current_user").await.as_deref(), Some("weir_md5"));
        assert!(postgres.connections(&database).await <= 2);
    }
}

/// Would break with: a client that takes no place or keeps it, another text, or a console that cannot be reached.
#[tokio::test]
async fn clients_over_the_limit_are_refused() {
    let pooler = pooler().setting("max_client_conn", 2).start();
    let mut one = pooler.raw().await;
    let two = pooler.raw().await;
    for _ in 0..3 {
        let refused = pooler.refusal("weir", &[]).await;
        assert_eq!(refused.field('S'), "FATAL");
        assert_eq!(refused.field('C'), "53300");
        assert_eq!(refused.field('M'), "no more connections allowed (max_client_conn)");
    }
    Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await;
    one.query("SELECT 1").await;
    two.terminate().await;
    let third = try_until(&pooler, "weir", Result::is_ok).await.unwrap();
    // One that is cut off gives back its place too.
    drop(third);
    let fourth = try_until(&pooler, "weir", Result::is_ok).await.unwrap();
    assert!(try_login(pooler.port(), "weir", "weir", &[]).await.is_err());
    drop((one, fourth));
    // And so does one that never gets in.
    for _ in 0..5 {
        let mut raw = Raw::open(pooler.port()).await;
        let wrong = raw.try_start(&[("user", "weir"), ("database", "weir")], "wrong").await;
        assert!(wrong.is_err());
    }
    try_until(&pooler, "weir", Result::is_ok).await.unwrap();
}

/// Would break with: a line that is served from its end or at random. One thread, so that requests are seen in the order
/// in which they were sent.
#[tokio::test]
async fn those_who_wait_are_served_in_their_order() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    postgres
        .connect("weir", &database)
        .await
        .batch_execute("CREATE TABLE t (a serial, who int)")
        .await
        .unwrap();
    let pooler = pooler().setting("workers", 1).pool_size(1).start();
    let mut holder = pooler.raw_as("weir", &database).await;
    holder.query("BEGIN").await;
    let mut line = Vec::new();
    for _ in 0..8 {
        line.push(pooler.raw_as("weir", &database).await);
    }
    for (number, raw) in line.iter_mut().enumerate() {
        raw.write(&frontend::query(&format!("INSERT INTO t (who) VALUES ({number})"))).await;
        assert!(raw.is_silent_for(Duration::from_millis(20)).await);
    }
    holder.query("COMMIT").await;
    // It comes again at once, and has to wait behind the others.
    holder.query("INSERT INTO t (who) VALUES (8)").await;
    for raw in &mut line {
        raw.read_until_ready().await;
    }
    let order = holder.value("SELECT string_agg(who::text, '' ORDER BY a) FROM t").await;
    assert_eq!(order.as_deref(), Some("012345678"));
}

/// Would break with: a client that is gone and still holds its place in line.
#[tokio::test]
async fn who_leaves_the_line_takes_no_server() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    postgres.connect("weir", &database).await.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    let pooler = pooler().pool_size(1).start();
    let mut holder = pooler.raw_as("weir", &database).await;
    let mut last = pooler.raw_as("weir", &database).await;
    holder.query("BEGIN").await;
    for _ in 0..4 {
        let mut leaver = pooler.raw_as("weir", &database).await;
        leaver.write(&frontend::query("INSERT INTO t VALUES (1)")).await;
        assert!(leaver.is_silent_for(Duration::from_millis(20)).await);
    }
    last.write(&frontend::query("SELECT count(*) FROM t")).await;
    common::until("disconnects in the log", || {
        pooler.log().matches("closing because: client unexpected eof").count() == 4
    })
    .await;
    holder.query("COMMIT").await;
    assert_eq!(last.expect("T D C Z").await[1].columns()[0].as_deref(), Some("0"));
}
