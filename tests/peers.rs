//! Several poolers behind one address: a cancel request that comes to the wrong one cancels all the same. PgBouncer 1.26.1
//! is one of them, where `scripts/pgbouncer.sh sid` has put one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::raw::cancel;
use common::{FakeServer, Opening, Pgweir, PgweirBuilder, Postgres, Raw, free_port, frontend, patiently};
use std::sync::atomic::{AtomicU32, Ordering};

/// One of a group, by its number; each number has a port.
fn member(id: u16, ports: &[(u16, u16)]) -> PgweirBuilder {
    let own = ports.iter().find(|(other, _)| *other == id).unwrap().1;
    let mut builder = Pgweir::builder(Postgres::shared()).setting("peer_id", id).port(own);
    for (peer, port) in ports {
        builder = builder.peer(*peer, &format!("host=127.0.0.1 port={port}"));
    }
    builder
}

/// A client whose query runs until it is cancelled.
async fn sleeping(port: u16) -> (Raw, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mark = format!("mark {}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut raw = Raw::login(port, "weir", "weir", "weir").await;
    raw.write(&frontend::query(&format!("SELECT pg_sleep(600), '{mark}'"))).await;
    let look = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE $1";
    common::look::seen(Postgres::shared(), look, &[&format!("%'{mark}'%")]).await;
    (raw, mark)
}

async fn is_cancelled(mut raw: Raw) {
    let answer = raw.read_until_ready().await;
    assert_eq!(common::look::error_of(&answer).field('C'), "57014");
    assert_eq!(raw.value("SELECT 'on'").await.as_deref(), Some("on"));
}

#[tokio::test]
async fn a_cancel_at_the_wrong_member_cancels() {
    let ports = [(1, free_port()), (2, free_port()), (300, free_port())];
    let group: Vec<_> = ports.iter().map(|(id, _)| member(*id, &ports).start()).collect();
    for (id, port) in ports {
        for other in &group {
            let (raw, _) = sleeping(port).await;
            assert_eq!(raw.key.len(), 8);
            assert_eq!(u16::from_le_bytes([raw.key[1], raw.key[2]]), id);
            assert!(raw.key[0] < 0x80 && raw.key[7] & 3 == 3);
            cancel(other.port(), &raw.key.clone()).await;
            is_cancelled(raw).await;
        }
    }
    let peers = group[0].console("SHOW PEERS").await;
    assert_eq!(peers.len(), 3);
    let expected = ["2".to_owned(), "127.0.0.1".to_owned(), ports[1].1.to_string(), "5".to_owned()];
    assert_eq!(peers[1].iter().map(|cell| cell.clone().unwrap()).collect::<Vec<_>>(), expected);
    let pools = group[0].console("SHOW PEER_POOLS").await;
    let text: Vec<_> = pools[0].iter().map(|cell| cell.clone().unwrap()).collect();
    assert_eq!(text, ["2", "0", "0", "0", "0"]);
    let lists = group[0].console("SHOW LISTS").await;
    let count = |name: &str| lists.iter().find(|row| row[0].as_deref() == Some(name)).unwrap()[1].clone();
    assert_eq!((count("peers").as_deref(), count("peer_pools").as_deref()), (Some("3"), Some("2")));
}

/// A client of protocol 3.2 has a key that all members can forward, PgBouncer's included.
#[tokio::test]
async fn clients_of_protocol_3_2_are_cancelled_too() {
    let ports = [(1, free_port()), (2, free_port())];
    let group: Vec<_> =
        ports.iter().map(|(id, _)| member(*id, &ports).setting("auth_type", "trust").start()).collect();
    let mut raw = Raw::open(ports[0].1).await;
    raw.write(&frontend::startup(frontend::VERSION_3_2, &[("user", "weir"), ("database", "weir")])).await;
    raw.read_until_ready().await;
    assert_eq!(raw.key.len(), 8);
    raw.write(&frontend::query("SELECT pg_sleep(600), 'three two'")).await;
    let look =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%three two%'";
    common::look::seen(Postgres::shared(), look, &[]).await;
    cancel(group[1].port(), &raw.key.clone()).await;
    is_cancelled(raw).await;
}

/// The connection that asks is closed only when the cancel has arrived: the client's next query is not hit.
#[tokio::test]
async fn the_query_behind_a_forwarded_cancel_is_not_hit() {
    let ports = [(1, free_port()), (2, free_port())];
    let group: Vec<_> = ports.iter().map(|(id, _)| member(*id, &ports).start()).collect();
    let mut raw = Raw::login(ports[0].1, "weir", "weir", "weir").await;
    let key = raw.key.clone();
    for turn in 0..50 {
        raw.write(&frontend::query(if turn % 2 == 0 { "SELECT pg_sleep(0.001)" } else { "SELECT 1" })).await;
        cancel(group[1].port(), &key).await;
        let _hit_or_not = raw.read_until_ready().await;
        assert_eq!(raw.value(&format!("SELECT '{turn}'")).await, Some(turn.to_string()));
    }
}

/// Entries that lead in a circle: a request comes to its end, and so does the connection that it came on.
#[tokio::test]
async fn a_circle_ends() {
    let (one, two) = (free_port(), free_port());
    let ring = |id: u16, own: u16, other: u16| {
        // What a stranger's key comes to is told at length only.
        Pgweir::builder(Postgres::shared())
            .setting("peer_id", id)
            .setting("verbose", 1)
            .port(own)
            .peer(9, &format!("host=127.0.0.1 port={other}"))
            .start()
    };
    let (first, second) = (ring(1, one, two), ring(2, two, one));
    cancel(one, &[0x11, 9, 0, 1, 2, 3, 4, 7]).await;
    second.logged("lead in a circle").await;
    let circles = |pooler: &Pgweir| pooler.log().matches("lead in a circle").count();
    assert_eq!(circles(&first) + circles(&second), 1);
    // With two hops left it ends where it began.
    cancel(one, &[0x11, 9, 0, 1, 2, 3, 4, 6]).await;
    first.logged("lead in a circle").await;
}

#[tokio::test]
async fn keys_of_nobody_harm_nobody() {
    let ports = [(1, free_port()), (2, free_port())];
    let pooler = member(1, &ports).setting("verbose", 1).start();
    // Its own, of nobody; of a peer that is not there; of a peer that is down; of no group at all.
    for key in [
        &[1, 1, 0, 4, 5, 6, 7, 3][..],
        &[1, 77, 0, 4, 5, 6, 7, 3],
        &[1, 2, 0, 4, 5, 6, 7, 3],
        &[7; 36],
        &[7; 4],
    ] {
        cancel(pooler.port(), key).await;
    }
    assert!(pooler.log().contains("there is no peer 77 in [peers]"), "{}", pooler.log());
    assert!(pooler.log().contains("peer 2: "), "{}", pooler.log());
    pooler.raw().await.query("SELECT 1").await;
    // Without peers such keys mean nothing.
    let alone = Pgweir::builder(Postgres::shared()).peer(2, "host=127.0.0.1 port=1").start();
    cancel(alone.port(), &[1, 2, 0, 4, 5, 6, 7, 3]).await;
    assert!(!alone.log().contains("peer"), "{}", alone.log());
}

/// `pool_size` of a peer bounds what is forwarded at a time, and `cancel_wait_timeout` how long the others wait.
#[tokio::test]
async fn a_peer_that_hangs_takes_its_slots_and_no_more() {
    let peer = FakeServer::start(|mut connection, _| async move {
        let Opening::Cancel(key) = connection.opening().await else { panic!("no cancel request") };
        assert_eq!(key[7] & 3, 2, "one hop is used up");
        connection.drain().await;
    })
    .await;
    let pooler = Pgweir::builder(Postgres::shared())
        .setting("peer_id", 1)
        .setting("cancel_wait_timeout", 1)
        .peer(2, &format!("host=127.0.0.1 port={} pool_size=2", peer.port()))
        .start();
    let port = pooler.port();
    let ask = move || tokio::spawn(cancel(port, &[1, 2, 0, 4, 5, 6, 7, 3]));
    let (hanging, other) = (ask(), ask());
    peer.has_accepted(2).await;
    let row = || async {
        let row = pooler.console("SHOW PEER_POOLS").await.remove(0);
        row.into_iter().map(Option::unwrap).collect::<Vec<_>>()
    };
    let late = tokio::spawn(refused_cancel(port, &[1, 2, 0, 4, 5, 6, 7, 3]));
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while row().await != ["2", "2", "1", "2", "0"] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", row().await);
    }
    assert_eq!(patiently("end of the one that waits", late).await.unwrap(), "cancel_wait_timeout");
    assert_eq!((peer.accepted(), hanging.is_finished(), other.is_finished()), (2, false, false));
    hanging.abort();
    other.abort();
}

/// What a cancel request is told that comes to nothing.
async fn refused_cancel(port: u16, key: &[u8]) -> String {
    let mut raw = Raw::open(port).await;
    raw.write(&frontend::cancel_request(key)).await;
    raw.last_words().await.field('M')
}

/// As many cancels at a time as the pool has places, and `cancel_wait_timeout` for the others.
#[tokio::test]
async fn a_server_that_hangs_takes_as_many_cancels_as_its_pool_has_places() {
    let server = FakeServer::start(|mut connection, _| async move {
        if connection.greet().await {
            connection.read_until(b'Q').await;
        }
        connection.drain().await;
    })
    .await;
    let pooler = Pgweir::in_front_of(server.port()).pool_size(2).setting("cancel_wait_timeout", 1).start();
    let mut raw = Raw::login(pooler.port(), "weir", "weir", "weir").await;
    raw.write(&frontend::query("SELECT 1")).await;
    let (port, key) = (pooler.port(), raw.key.clone());
    until_pool(&pooler, 6, "1").await;
    let ask = || {
        let key = key.clone();
        tokio::spawn(async move { cancel(port, &key).await })
    };
    let hanging = [ask(), ask()];
    until_pool(&pooler, 4, "2").await;
    let late = tokio::spawn({
        let key = key.clone();
        async move { refused_cancel(port, &key).await }
    });
    until_pool(&pooler, 5, "1").await;
    assert_eq!(patiently("end of the one that waits", late).await.unwrap(), "cancel_wait_timeout");
    let row = pool(&pooler).await;
    assert_eq!((row[4].as_deref(), row[5].as_deref(), row[7].as_deref()), (Some("2"), Some("0"), Some("2")));
    assert!(hanging.iter().all(|task| !task.is_finished()));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The row of the pool of `weir`.
async fn pool(pooler: &Pgweir) -> Vec<Option<String>> {
    let rows = pooler.console("SHOW POOLS").await;
    rows.into_iter().find(|row| row[0].as_deref() == Some("weir")).unwrap()
}

/// Waits until a column of it says so.
async fn until_pool(pooler: &Pgweir, column: usize, expected: &str) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let row = pool(pooler).await;
        if row[column].as_deref() == Some(expected) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{row:?}");
    }
}

/// A peer by its Unix socket, and one by a name of several hosts of which the first is dead.
#[tokio::test]
async fn peers_are_reached_by_sockets_and_lists() {
    let origin =
        Pgweir::builder(Postgres::shared()).setting("peer_id", 5).setting("unix_socket_dir", "{dir}").start();
    let folder = origin.folder().display();
    for host in [format!("{folder}"), "127.0.0.2,localhost".to_owned()] {
        let pooler = Pgweir::builder(Postgres::shared())
            .setting("peer_id", 6)
            .peer(5, &format!("host={host} port={}", origin.port()))
            .start();
        let (raw, _) = sleeping(origin.port()).await;
        cancel(pooler.port(), &raw.key.clone()).await;
        is_cancelled(raw).await;
    }
}

/// RELOAD adds peers; keys that were given out before there were any work on.
#[tokio::test]
async fn a_group_can_be_joined_by_reload() {
    let alone = Pgweir::builder(Postgres::shared()).start();
    let (before, _) = sleeping(alone.port()).await;
    let other_port = free_port();
    let grouped = || {
        Pgweir::builder(Postgres::shared())
            .setting("peer_id", 1)
            .peer(2, &format!("host=127.0.0.1 port={other_port}"))
    };
    alone.reload(grouped()).await;
    cancel(alone.port(), &before.key.clone()).await;
    is_cancelled(before).await;
    let other = Pgweir::builder(Postgres::shared())
        .setting("peer_id", 2)
        .port(other_port)
        .peer(1, &format!("host=127.0.0.1 port={}", alone.port()))
        .start();
    let (raw, _) = sleeping(other_port).await;
    cancel(alone.port(), &raw.key.clone()).await;
    is_cancelled(raw).await;
    let (raw, _) = sleeping(alone.port()).await;
    cancel(other.port(), &raw.key.clone()).await;
    is_cancelled(raw).await;
}

/// A group of two pgweirs and PgBouncer 1.26.1: every cancel reaches its client, whoever it comes to.
#[tokio::test]
async fn pgbouncer_is_one_of_the_group() {
    let Some(program) = common::pgbouncer() else {
        eprintln!("skipped: scripts/pgbouncer.sh sid has not been run");
        return;
    };
    let ports = [(1, free_port()), (2, free_port()), (3, free_port())];
    let group =
        [member(1, &ports).start(), member(2, &ports).start(), member(3, &ports).program(&program).start()];
    for (id, port) in ports {
        for other in &group {
            let (raw, _) = sleeping(port).await;
            assert_eq!(u16::from_le_bytes([raw.key[1], raw.key[2]]), id);
            cancel(other.port(), &raw.key.clone()).await;
            is_cancelled(raw).await;
        }
    }
    // Both spell their peers alike.
    let ours = group[0].console("SHOW PEERS").await;
    assert_eq!(ours, group[2].console("SHOW PEERS").await);
    // A circle through both kinds: what is for peer 9 goes round between them, and ends.
    let (here, there) = (free_port(), free_port());
    let ring = |id: u16, own: u16, other: u16| {
        let builder = Pgweir::builder(Postgres::shared()).setting("peer_id", id).setting("verbose", 1);
        builder.port(own).peer(9, &format!("host=127.0.0.1 port={other}"))
    };
    let (ours, theirs) = (ring(1, here, there).start(), ring(2, there, here).program(&program).start());
    for port in [here, there] {
        cancel(port, &[0x11, 9, 0, 1, 2, 3, 4, 7]).await;
    }
    ours.logged("lead in a circle").await;
    theirs.raw().await.query("SELECT 1").await;
}
