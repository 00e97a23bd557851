//! Lists of hosts, sockets of both kinds, and who is asked when one of several does not answer.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_sign_loss, reason = "a test may")]

mod common;

use common::{FakeServer, Pgweir, Postgres, Raw, free_port, frontend};
use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// Passes connections on to PostgreSQL, on an address of its own; gone when dropped.
struct Door {
    address: String,
    port: u16,
    cancels: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Door {
    /// At this address; the port is that of an earlier one, or free.
    async fn open(address: &str, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cancels = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&cancels);
        let task = tokio::spawn(async move {
            // Dropped with this task, and the connections with it.
            let mut carried = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                carried.spawn(async move {
                    let mut head = [0; 8];
                    if client.peek(&mut head).await.is_ok() && head[4..] == 80_877_102_u32.to_be_bytes() {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    let mut server =
                        TcpStream::connect(("127.0.0.1", Postgres::shared().port())).await.unwrap();
                    let _ended = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address: address.to_owned(), port, cancels, task }
    }

    async fn close(self) -> (String, u16) {
        self.task.abort();
        let _aborted = (&mut { self.task }).await;
        (self.address, self.port)
    }
}

/// How many servers the console shows at each address.
async fn spread(pooler: &Pgweir) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for row in pooler.console("SHOW SERVERS").await {
        *spread.entry(row[5].clone().unwrap()).or_default() += 1;
    }
    spread
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(address, count)| ((*address).to_owned(), *count)).collect()
}

/// Clients that hold a server each, in a transaction.
async fn hold(pooler: &Pgweir, count: usize) -> Vec<Raw> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::login(pooler.port(), "weir_trust", "weir_trust", "listed").await;
        assert_eq!(raw.query("BEGIN").await.last().unwrap().status(), 'T');
        held.push(raw);
    }
    held
}

fn pooler(hosts: &str, port: u16, more: &str) -> Pgweir {
    Pgweir::builder(Postgres::shared())
        .database("listed", &format!("host={hosts} port={port} dbname=weir {more}"))
        .setting("server_login_retry", 1)
        .pool_size(20)
        .start()
}

#[tokio::test]
async fn hosts_are_taken_in_turn() {
    let one = Door::open("127.0.0.2", free_port()).await;
    let _two = Door::open("127.0.0.3", one.port).await;
    let _three = Door::open("127.0.0.4", one.port).await;
    let pooler = pooler("127.0.0.2,127.0.0.3,127.0.0.4", one.port, "");
    let _held = hold(&pooler, 9).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.2", 3), ("127.0.0.3", 3), ("127.0.0.4", 3)]));
    let shown = &pooler.console("SHOW DATABASES").await;
    let row = shown.iter().find(|row| row[0].as_deref() == Some("listed")).unwrap();
    assert_eq!(row[1].as_deref(), Some("127.0.0.2,127.0.0.3,127.0.0.4"));
    assert_eq!(row[10].as_deref(), Some("round-robin"));
    // A single host has nothing to balance.
    let plain = shown.iter().find(|row| row[0].as_deref() == Some("weir")).unwrap();
    assert_eq!((plain[1].as_deref(), plain[10].as_deref()), (Some("127.0.0.1"), None));
    let pools = pooler.console("SHOW POOLS").await;
    let pools: Vec<_> = pools.iter().filter(|row| row[0].as_deref() == Some("listed")).collect();
    assert_eq!(pools[0][16].as_deref(), Some("round-robin"));
}

#[tokio::test]
async fn with_disable_one_host_is_stuck_to_until_it_fails() {
    let one = Door::open("127.0.0.2", free_port()).await;
    let _two = Door::open("127.0.0.3", one.port).await;
    let pooler = pooler("127.0.0.2,127.0.0.3", one.port, "load_balance_hosts=disable");
    let held = hold(&pooler, 4).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.2", 4)]));
    drop(held);
    let (address, port) = one.close().await;
    let held = hold(&pooler, 3).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.3", 3)]));
    // The first one is there again, but nothing has failed since.
    let _one = Door::open(&address, port).await;
    let _more = hold(&pooler, 2).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.3", 5)]));
    drop(held);
    let pools = pooler.console("SHOW POOLS").await;
    let pools: Vec<_> = pools.iter().filter(|row| row[0].as_deref() == Some("listed")).collect();
    assert_eq!(pools[0][16].as_deref(), Some("disable"));
}

/// PgBouncer would make every other client wait for `server_login_retry`, and fail them when no server is left.
#[tokio::test]
async fn a_dead_host_costs_nobody_an_error() {
    let alive = Door::open("127.0.0.3", free_port()).await;
    let pooler = pooler("127.0.0.2,127.0.0.3,no-such-name.invalid", alive.port, "");
    let held = hold(&pooler, 8).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.3", 8)]));
    assert!(!pooler.log().contains("server login failed"), "{}", pooler.log());
    drop(held);
    // It joins in when it is there, and the others of the list with it.
    let _back = Door::open("127.0.0.2", alive.port).await;
    let mut held = Vec::new();
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while !spread(&pooler).await.contains_key("127.0.0.2") {
        assert!(tokio::time::Instant::now() < deadline, "the host that came back is never used");
        pooler.console("RECONNECT").await;
        held = hold(&pooler, 4).await;
    }
    drop(held);
}

/// A host that accepts and says nothing is left for the next one after a moment, and left out from then on.
#[tokio::test]
async fn a_host_that_hangs_is_left_out() {
    let hanging = TcpListener::bind(("127.0.0.2", free_port())).await.unwrap();
    let port = hanging.local_addr().unwrap().port();
    let _alive = Door::open("127.0.0.3", port).await;
    let pooler = Pgweir::builder(Postgres::shared())
        .database("listed", &format!("host=127.0.0.2,127.0.0.3 port={port} dbname=weir"))
        .setting("server_connect_timeout", 1)
        .start();
    let _held = hold(&pooler, 4).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.3", 4)]));
    assert!(!pooler.log().contains("server login failed"), "{}", pooler.log());
}

/// What the server says of a login stays an error: a wrong password is not tried at one host after the other.
#[tokio::test]
async fn a_wrong_password_is_not_tried_everywhere() {
    let script = |mut connection: common::FakeConnection, _| async move {
        if let common::Opening::Startup(_) = connection.opening().await {
            connection.write(&common::fake::error("FATAL", "28P01", "password authentication failed")).await;
        }
    };
    let (one, two) = (FakeServer::start(script).await, FakeServer::start(script).await);
    let pooler = Pgweir::builder(Postgres::shared())
        .database("listed", &format!("host=127.0.0.1 port={} dbname=weir", one.port()))
        .start();
    let error = pooler.refusal("listed", &[]).await;
    assert_eq!(error.field('C'), "28P01");
    assert_eq!((one.accepted(), two.accepted()), (1, 0));
}

#[tokio::test]
async fn the_cancel_goes_to_the_host_that_the_server_is_on() {
    let one = Door::open("127.0.0.2", free_port()).await;
    let two = Door::open("127.0.0.3", one.port).await;
    let pooler = pooler("127.0.0.2,127.0.0.3", one.port, "");
    let mut held = hold(&pooler, 2).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.2", 1), ("127.0.0.3", 1)]));
    let cancels = || (one.cancels.load(Ordering::SeqCst), two.cancels.load(Ordering::SeqCst));
    for (at, raw) in held.iter_mut().enumerate() {
        raw.write(&frontend::query(&format!("SELECT pg_sleep(600), 'held {at}'"))).await;
        let look = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE $1";
        common::look::seen(Postgres::shared(), look, &[&format!("%held {at}%")]).await;
        common::raw::cancel(pooler.port(), &raw.key.clone()).await;
        assert_eq!(raw.read_until_ready().await[1].field('C'), "57014");
        assert_eq!(cancels().0 + cancels().1, at + 1);
    }
    assert_eq!(cancels(), (1, 1));
}

#[tokio::test]
async fn servers_are_reached_over_unix_sockets_of_both_kinds() {
    let postgres = Postgres::shared();
    let name = format!("pgweir-test-{}", std::process::id());
    let address =
        std::os::unix::net::SocketAddr::from_abstract_name(format!("{name}/.s.PGSQL.{}", postgres.port()))
            .unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = UnixListener::from_std(listener).unwrap();
    let socket = postgres.socket_folder().join(format!(".s.PGSQL.{}", postgres.port()));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let folder = postgres.socket_folder().display();
    let pooler = Pgweir::builder(postgres)
        .database("listed", &format!("host=@{name},{folder} port={} dbname=weir", postgres.port()))
        .start();
    let _held = hold(&pooler, 2).await;
    let servers = pooler.console("SHOW SERVERS").await;
    assert_eq!(spread(&pooler).await, counts(&[("unix", 2)]));
    let port = postgres.port().to_string();
    assert!(servers.iter().all(|row| row[6].as_deref() == Some(port.as_str())), "{servers:?}");
}

/// Without a host the server is where this process has its own socket.
#[tokio::test]
async fn a_database_without_a_host_is_in_unix_socket_dir() {
    let postgres = Postgres::shared();
    let folder = postgres.socket_folder().display();
    let pooler = Pgweir::builder(postgres)
        .setting("unix_socket_dir", folder)
        .database("listed", &format!("port={} dbname=weir", postgres.port()))
        .start();
    let _held = hold(&pooler, 1).await;
    assert_eq!(spread(&pooler).await, counts(&[("unix", 1)]));
    let shown = pooler.console("SHOW DATABASES").await;
    let row = shown.iter().find(|row| row[0].as_deref() == Some("listed")).unwrap();
    assert_eq!(row[1], None);
}

/// What RELOAD makes of another list: servers of before are closed when they are free.
#[tokio::test]
async fn another_list_moves_the_servers() {
    let one = Door::open("127.0.0.2", free_port()).await;
    let _two = Door::open("127.0.0.3", one.port).await;
    let at = |hosts: &str| {
        Pgweir::builder(Postgres::shared())
            .database("listed", &format!("host={hosts} port={} dbname=weir", one.port))
    };
    let pooler = at("127.0.0.2").start();
    let mut held = hold(&pooler, 1).await;
    pooler.reload(at("127.0.0.3,127.0.0.3")).await;
    assert_eq!(spread(&pooler).await, counts(&[("127.0.0.2", 1)]));
    held[0].query("COMMIT").await;
    held[0].query("BEGIN").await;
    assert!(spread(&pooler).await.contains_key("127.0.0.3"));
}
