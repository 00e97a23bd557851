//! SIGHUP: what is changed is taken over, what is not changed is left alone, and nobody notices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::time::Duration;

use common::look::{connections_become, seen, try_login};
use common::{FakeServer, Pgweir, PgweirBuilder, Postgres, Raw, Rival, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(database: &str, more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname={database} {more}", Postgres::shared().port())
}

/// Would break with: a limit that is read at the start only, or waiters that are not told of the new one.
#[tokio::test]
async fn a_pool_grows_for_those_who_wait_and_shrinks_as_servers_come_back() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    let pooler = pooler().pool_size(1).start();
    let mut holders = Vec::new();
    let mut first = pooler.raw_as("weir", &database).await;
    first.query("BEGIN").await;
    holders.push(first);
    for _ in 0..2 {
        let mut waiter = pooler.raw_as("weir", &database).await;
        waiter.write(&frontend::query("BEGIN")).await;
        holders.push(waiter);
    }
    assert!(holders[2].is_silent_for(Duration::from_millis(100)).await);
    assert!(pooler.hang_up(self::pooler().pool_size(3)).await);
    for waiter in &mut holders[1..] {
        assert_eq!(waiter.read_until_ready().await.last().unwrap().status(), 'T');
    }
    connections_become(postgres, &database, 3).await;
    assert!(pooler.hang_up(self::pooler().pool_size(1)).await);
    // Nobody is cut.
    for holder in &mut holders {
        assert_eq!(holder.query("COMMIT").await.last().unwrap().status(), 'I');
    }
    // The keeper and a client that comes back may both close the last surplus server, so there may be none for a moment.
    let look = "SELECT ((SELECT count(*) FROM pg_stat_activity \
                WHERE datname = $1 AND backend_type = 'client backend') <= 1)::int::int8";
    seen(postgres, look, &[&database]).await;
    for holder in &mut holders {
        holder.query("SELECT 1").await;
    }
    connections_become(postgres, &database, 1).await;
}

/// Would break with: timeouts of the start that stay for ever.
#[tokio::test]
async fn timeouts_are_taken_over() {
    let builder =
        || pooler().pool_size(1).setting("query_wait_timeout", 600).setting("client_idle_timeout", 0);
    let pooler = builder().start();
    let mut holder = pooler.raw().await;
    holder.query("BEGIN").await;
    let changed = builder().setting("query_wait_timeout", 0.2).setting("client_idle_timeout", 0.5);
    assert!(pooler.hang_up(changed).await);
    let mut waiter = pooler.raw().await;
    waiter.write(&frontend::query("SELECT 1")).await;
    assert_eq!(waiter.last_words().await.field('M'), "query_wait_timeout");
    let mut idle = pooler.raw().await;
    assert_eq!(idle.last_words().await.field('M'), "client_idle_timeout");
    assert_eq!(holder.query("COMMIT").await.last().unwrap().status(), 'I');
}

/// Would break with: databases or users of the start only, or secrets that are kept.
#[tokio::test]
async fn databases_and_users_are_taken_over() {
    let bare = || {
        let text = "host=127.0.0.1 port=1";
        pooler().database("*", text)
    };
    let pooler = bare().start();
    let stays = pooler.raw().await;
    let login = async |user: &str, password: &str, database: &str| {
        let mut raw = Raw::open(pooler.port()).await;
        raw.try_start(&[("user", user), ("database", database)], password)
            .await
            .map_err(|error| error.field('C'))
    };
    assert_eq!(login("newcomer", "secret", "weir").await, Err("28P01".to_owned()));
    let changed = bare()
        .database("added", &entry("weir", "user=weir"))
        .user("newcomer", "secret")
        .user("stats", "changed");
    assert!(pooler.hang_up(changed).await);
    assert_eq!(login("newcomer", "secret", "added").await, Ok(()));
    assert_eq!(login("stats", "changed", "added").await, Ok(()));
    assert_eq!(login("stats", "stats", "added").await, Err("28P01".to_owned()));
    assert!(pooler.hang_up(bare().database("added", &entry("weir", "user=weir"))).await);
    assert_eq!(login("newcomer", "secret", "added").await, Err("28P01".to_owned()));
    stays.terminate().await;
}

/// Would break with: a half of a bad file that is taken over, a process that ends, or an error without its place.
#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told_with_its_line() {
    let pooler = pooler().pool_size(1).start();
    let mut raw = pooler.raw().await;
    let server = raw.server().await;
    let bad = || self::pooler().database("added", &entry("weir", "")).database("*", &entry("weir", ""));
    assert!(!pooler.hang_up(bad().setting("pool_mode", "sometimes")).await);
    let log = pooler.log();
    let line = log.lines().find(|line| line.contains("sometimes")).unwrap_or_else(|| panic!("{log}"));
    let file = std::fs::read_to_string(pooler.folder().join("pgbouncer.ini")).unwrap();
    let number = 1 + file.lines().position(|line| line.contains("sometimes")).unwrap();
    assert!(line.contains(&format!("pgbouncer.ini:{number}:")), "{line}");
    assert!(!pooler.hang_up(bad().setting("no_such_setting", 1)).await);
    // A bad user list as well: one of the two files without the other would be half.
    let users = bad().user("broken", "SCRAM-SHA-256$broken");
    assert!(!pooler.hang_up(users).await, "{}", pooler.log());
    assert!(pooler.log().contains("userlist.txt"));
    assert_eq!(pooler.refusal("added", &[]).await.field('C'), "3D000");
    assert_eq!(raw.server().await, server);
    assert!(pooler.hang_up(self::pooler().database("added", &entry("weir", ""))).await);
    pooler.raw_as("weir", "added").await;
}

/// Would break with: settings that are taken over though they cannot be, or silence about them.
#[tokio::test]
async fn what_needs_a_restart_is_told() {
    let pooler = pooler().start();
    let mut raw = pooler.raw().await;
    assert!(
        pooler
            .hang_up(self::pooler().setting("listen_addr", "127.0.0.1, 127.0.0.2").setting("workers", 1))
            .await
    );
    for key in ["listen_addr", "workers"] {
        pooler.logged(&format!("{key}: the new value takes effect at the next start")).await;
    }
    raw.query("SELECT 1").await;
    pooler.raw().await;
    assert!(tokio::net::TcpStream::connect(("127.0.0.2", pooler.port())).await.is_err());
}

/// Would break with: servers of the old place that are used again, a transaction that is cut, or clients that see any of
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_server_is_moved_to_without_an_error() {
    let (old, new) = (Postgres::shared(), Postgres::start());
    let to = |postgres: &Postgres| {
        let entry = format!("host=127.0.0.1 port={} dbname=weir", postgres.port());
        Pgweir::builder(old).pool_size(2).database("weir", &entry)
    };
    let pooler = to(old).start();
    let ask = "SELECT current_setting('port')";
    let rival = Rival::start(&pooler, 4).await;
    let mut inside = pooler.raw().await;
    inside.query("BEGIN").await;
    let here = old.port().to_string();
    assert_eq!(inside.value(ask).await, Some(here.clone()));
    assert!(pooler.hang_up(to(&new)).await);
    // The transaction stays where it began.
    assert_eq!(inside.value(ask).await, Some(here));
    inside.query("COMMIT").await;
    for _ in 0..5 {
        assert_eq!(inside.value(ask).await, Some(new.port().to_string()));
        assert_eq!(pooler.raw().await.value(ask).await, Some(new.port().to_string()));
    }
    let before = rival.transactions();
    common::until("transactions of the rival", || rival.transactions() > before + 20).await;
    assert!(rival.stop().await > 0);
}

/// Would break with: clients that stay on a database that is gone, servers that stay, or clients of others that go.
#[tokio::test]
async fn a_removed_database_cuts_its_clients() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    // No fallback that would go on to serve the name.
    let text = |more: &str| {
        let server = postgres.port();
        format!(
            "[databases]\nweir = host=127.0.0.1 port={server} dbname=weir\n{more}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nunix_socket_dir =\nauth_type = scram-sha-256\npool_mode = transaction\n\
             default_pool_size = 2\n"
        )
    };
    let entry = format!("going = host=127.0.0.1 port={} dbname={database}", postgres.port());
    let pooler = Pgweir::start_text("pgbouncer.ini", |port, folder| {
        std::fs::write(folder.join("users"), "\"weir\" \"weir\"\n").unwrap();
        format!("{}listen_port = {port}\nauth_file = {}/users\n", text(&entry), folder.display())
    });
    let mut stays = pooler.raw().await;
    stays.query("BEGIN").await;
    let mut idle = pooler.raw_as("weir", "going").await;
    let mut inside = pooler.raw_as("weir", "going").await;
    let mut second = pooler.raw_as("weir", "going").await;
    let mut waiting = pooler.raw_as("weir", "going").await;
    inside.query("BEGIN").await;
    second.query("BEGIN").await;
    waiting.write(&frontend::query("SELECT 1")).await;
    assert!(waiting.is_silent_for(Duration::from_millis(50)).await);
    let file = pooler.folder().join("pgbouncer.ini");
    let changed = std::fs::read_to_string(&file).unwrap().replace(&entry, "");
    std::fs::write(&file, changed).unwrap();
    pooler.signal("HUP");
    pooler.logged("configuration reloaded").await;
    for raw in [&mut idle, &mut inside, &mut second, &mut waiting] {
        assert_eq!(raw.last_words().await.field('C'), "57P01");
    }
    connections_become(postgres, &database, 0).await;
    assert_eq!(pooler.refusal("going", &[]).await.field('M'), "no such database: going");
    assert_eq!(stays.query("COMMIT").await.last().unwrap().status(), 'I');
}

/// Would break with: a reload that stops, loses or doubles anything: limits, waiters, servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_nothing() {
    let postgres = Postgres::start();
    let builder = |turn: usize| {
        Pgweir::builder(&postgres)
            .pool_size(if turn % 3 == 1 { 1 } else { 3 })
            .setting("query_wait_timeout", 20 + turn)
            .setting("server_idle_timeout", 1 + turn % 2)
            .database(&format!("extra_{turn}"), &format!("host=127.0.0.1 port={}", postgres.port()))
    };
    let pooler = builder(0).start();
    let rival = Rival::start(&pooler, 8).await;
    for turn in 1..15 {
        assert!(pooler.hang_up(builder(turn)).await);
        let before = rival.transactions();
        common::until("transactions of the rival", || rival.transactions() > before + 5).await;
        assert!(postgres.connections("weir").await <= 3, "more servers than the larger limit");
        assert!(try_login(pooler.port(), "weir", "weir", &[]).await.is_ok());
    }
    assert!(rival.stop().await > 0);
}

/// The servers of a reload without a change are the same ones. Would break with: pools that are made anew.
#[tokio::test]
async fn a_reload_without_a_change_changes_nothing() {
    let pooler = pooler().pool_size(1).start();
    let mut raw = pooler.raw_with("weir", &[("TimeZone", "Asia/Tokyo")]).await;
    let server = raw.server().await;
    for _ in 0..3 {
        assert!(pooler.hang_up(self::pooler().pool_size(1)).await);
        assert_eq!(
            (raw.server().await, raw.show(&["TimeZone"]).await),
            (server.clone(), vec!["Asia/Tokyo".into()])
        );
    }
}

/// As PgBouncer does. Would break with: clients that are cut, that change their user unasked, or newcomers who get the former
/// one; with a pool that is kept when its last client has left.
#[tokio::test]
async fn another_forced_user_is_for_new_clients() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    let with = |user: &str| pooler().pool_size(1).database("own", &entry(&database, user));
    let pooler = with("user=weir").start();
    let mut former = pooler.raw_as("weir_trust", "own").await;
    assert_eq!(former.value("SELECT current_user").await.as_deref(), Some("weir"));
    former.query("BEGIN").await;
    let mut waiting = pooler.raw_as("weir_trust", "own").await;
    waiting.write(&frontend::query("SELECT current_user")).await;
    assert!(waiting.is_silent_for(Duration::from_millis(100)).await);
    for (entry, user) in [("user=weir_md5", "weir_md5"), ("", "weir_trust")] {
        assert!(pooler.hang_up(with(entry)).await);
        let mut next = pooler.raw_as("weir_trust", "own").await;
        assert_eq!(next.value("SELECT current_user").await.as_deref(), Some(user));
    }
    assert_eq!(former.value("SELECT current_user").await.as_deref(), Some("weir"));
    former.query("COMMIT").await;
    assert_eq!(waiting.expect("T D C Z").await[1].columns()[0].as_deref(), Some("weir"));
    assert_eq!(former.value("SELECT current_user").await.as_deref(), Some("weir"));
    assert!(pooler.hang_up(with("user=weir_md5")).await);
    drop((former, waiting));
    let look =
        "SELECT (count(*) = 0)::int::int8 FROM pg_stat_activity WHERE datname = $1 AND usename = 'weir'";
    seen(postgres, look, &[&database]).await;
}

/// Would break with: a client that is past the door and not yet in any list when its database is removed.
#[tokio::test]
async fn a_login_during_the_removal_of_its_database_comes_to_nothing() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opens = std::sync::Arc::clone(&gate);
    let server = FakeServer::start(move |mut connection, _| {
        let gate = std::sync::Arc::clone(&opens);
        async move {
            let _open = gate.acquire().await.unwrap();
            if connection.greet().await {
                connection.serve().await;
            }
        }
    })
    .await;
    let builder = pooler().database("slow", &format!("host=127.0.0.1 port={} dbname=slow", server.port()));
    let running = builder.start();
    let mut raw = Raw::open(running.port()).await;
    let login = tokio::spawn(async move {
        raw.try_start(&[("user", "weir"), ("database", "slow")], common::postgres::password_of("weir")).await
    });
    // It is past the door when it waits for the first server, which tells what a login is answered with.
    let is_in_line =
        |row: &Vec<Option<String>>| (row[0].as_deref(), row[3].as_deref()) == (Some("slow"), Some("1"));
    while !running.console("SHOW POOLS").await.iter().any(is_in_line) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nothing stands for it then, `*` neither.
    let file = running.folder().join("pgbouncer.ini");
    let is_kept = |line: &&str| !["slow", "*", "\"*\""].iter().any(|key| line.starts_with(key));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.lines().filter(is_kept).collect::<Vec<_>>().join("\n")).unwrap();
    running.console("RELOAD").await;
    gate.add_permits(100);
    let refused = login.await.unwrap().unwrap_err();
    assert_eq!((refused.field('C').as_str(), refused.field('M').as_str()), ("57P01", "database removed"));
}
