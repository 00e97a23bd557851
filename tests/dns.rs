//! Names of hosts: a DNS server that says what a test wants, and what becomes of servers and clients meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{Pgweir, PgweirBuilder, Postgres, Raw, Rival, free_port};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const A: u16 = 1;
const AAAA: u16 = 28;

/// What a name is answered with.
#[derive(Debug, Clone)]
enum Answer {
    Four(Vec<Ipv4Addr>),
    Six(Vec<Ipv6Addr>),
    /// The question for the other family fails.
    SixAlone(Ipv6Addr),
    NoSuchName,
    Silence,
    /// The first octets of an answer of somebody who only guesses, and then the right one.
    AfterAGuess(Ipv4Addr),
    /// Over UDP only that it does not fit; the address comes over TCP.
    TooLong(Ipv4Addr),
}

/// A DNS server.
struct Dns {
    address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", free_port())).await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let dns = Self { address, names: Arc::default(), asked: Arc::default() };
        let (names, asked) = (Arc::clone(&dns.names), Arc::clone(&dns.asked));
        tokio::spawn(answer_over_tcp(listener, Arc::clone(&names)));
        tokio::spawn(async move {
            let mut block = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut block).await {
                asked.fetch_add(1, Ordering::SeqCst);
                let (name, kind) = question(&block[..count]);
                let answer = names.lock().unwrap().get(&name).cloned().unwrap_or(Answer::NoSuchName);
                for reply in replies(&block[..count], kind, &answer) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        dns
    }

    fn say(&self, name: &str, answer: Answer) {
        self.names.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn say_four(&self, name: &str, last: &[u8]) {
        self.say(name, Answer::Four(last.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last)).collect()));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer_over_tcp(listener: TcpListener, names: Arc<Mutex<HashMap<String, Answer>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut asked = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut asked).await.unwrap();
        let (name, kind) = question(&asked);
        let Some(Answer::TooLong(ip)) = names.lock().unwrap().get(&name).cloned() else { continue };
        let reply = replies(&asked, kind, &Answer::Four(vec![ip])).remove(0);
        let length = u16::try_from(reply.len()).unwrap();
        stream.write_all(&[&length.to_be_bytes(), &reply[..]].concat()).await.unwrap();
    }
}

/// The name and the type that a question is about.
fn question(packet: &[u8]) -> (String, u16) {
    let (mut labels, mut rest) = (Vec::new(), &packet[12..]);
    while rest[0] > 0 {
        let (label, tail) = rest[1..].split_at(usize::from(rest[0]));
        labels.push(String::from_utf8(label.to_vec()).unwrap());
        rest = tail;
    }
    (labels.join("."), u16::from_be_bytes([rest[1], rest[2]]))
}

fn replies(question: &[u8], kind: u16, answer: &Answer) -> Vec<Vec<u8>> {
    let records = |records: Vec<Vec<u8>>| {
        let mut reply = question.to_vec();
        [reply[2], reply[3]] = [0x81, 0x80];
        [reply[6], reply[7]] = u16::try_from(records.len()).unwrap().to_be_bytes();
        records.iter().for_each(|record| reply.extend(record));
        reply
    };
    // A pointer to the name of the question, type, class, a TTL that nobody is to heed, and the address.
    let record = |kind: u16, data: &[u8]| {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        [&[0xc0, 12], &kind.to_be_bytes()[..], &[0, 1, 0, 1, 0, 0], &length, data].concat()
    };
    match answer {
        Answer::Four(ips) if kind == A => {
            vec![records(ips.iter().map(|ip| record(A, &ip.octets())).collect())]
        }
        Answer::Six(ips) if kind == AAAA => {
            vec![records(ips.iter().map(|ip| record(AAAA, &ip.octets())).collect())]
        }
        Answer::Four(_) | Answer::Six(_) => vec![records(Vec::new())],
        Answer::SixAlone(ip) if kind == AAAA => vec![records(vec![record(AAAA, &ip.octets())])],
        Answer::SixAlone(_) => {
            let mut reply = records(Vec::new());
            reply[3] |= 2;
            vec![reply]
        }
        Answer::NoSuchName => {
            let mut reply = records(Vec::new());
            reply[3] |= 3;
            vec![reply]
        }
        Answer::Silence => Vec::new(),
        Answer::AfterAGuess(ip) if kind == A => {
            let mut guess = records(vec![record(A, &[127, 0, 0, 99])]);
            guess[0] ^= 1;
            vec![guess, records(vec![record(A, &ip.octets())])]
        }
        Answer::AfterAGuess(_) => vec![records(Vec::new())],
        Answer::TooLong(_) => {
            let mut reply = records(Vec::new());
            reply[2] |= 2;
            vec![reply]
        }
    }
}

/// PostgreSQL, at an address of the test's own.
async fn door(address: &str, port: u16) {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", Postgres::shared().port())).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
}

fn builder(dns: &Dns, name: &str, port: u16) -> PgweirBuilder {
    let conf = format!("nameserver {}\nsearch example\noptions timeout:1 attempts:2\n", dns.address);
    Pgweir::builder(Postgres::shared())
        .database("weir", &format!("host={name} port={port} dbname=weir"))
        .file("resolv.conf", &conf)
        .setting("resolv_conf", "{dir}/resolv.conf")
        .setting("dns_max_ttl", 1)
        .setting("dns_nxdomain_ttl", 1)
        .setting("server_login_retry", 1)
}

/// The addresses that there are servers at, each once.
async fn at(pooler: &Pgweir) -> Vec<String> {
    let rows = pooler.console("SHOW SERVERS").await;
    let mut addresses: Vec<_> = rows.iter().map(|row| row[5].clone().unwrap()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

async fn becomes(pooler: &Pgweir, expected: &[&str]) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let now = at(pooler).await;
        if now == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "servers are at {now:?}, not at {expected:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The heart of it: the name moves while clients work, and none of them notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_moves_under_load_and_nobody_notices() {
    let dns = Dns::start().await;
    let port = free_port();
    door("127.0.0.2", port).await;
    door("127.0.0.3", port).await;
    dns.say_four("db.example", &[2]);
    let pooler = builder(&dns, "db.example", port).start();
    let rival = Rival::start(&pooler, 8).await;
    assert_eq!(at(&pooler).await, ["127.0.0.2"]);
    for (last, expected) in [(3, "127.0.0.3"), (2, "127.0.0.2"), (3, "127.0.0.3")] {
        dns.say_four("db.example", &[last]);
        becomes(&pooler, &[expected]).await;
    }
    assert!(rival.stop().await > 0);
    assert!(!pooler.log().contains("server login failed"), "{}", pooler.log());
}

/// A server in the middle of a transaction stays until that is over, however long its address has been gone.
#[tokio::test]
async fn a_transaction_is_not_cut() {
    let dns = Dns::start().await;
    let port = free_port();
    door("127.0.0.2", port).await;
    door("127.0.0.3", port).await;
    dns.say_four("db.example", &[2]);
    let pooler = builder(&dns, "db", port).start();
    let mut raw = pooler.raw().await;
    raw.query("BEGIN").await;
    let before = raw.server().await;
    dns.say_four("db.example", &[3]);
    pooler.logged("an address is gone").await;
    assert_eq!(raw.server().await, before);
    let mut other = pooler.raw().await;
    other.query("BEGIN").await;
    becomes(&pooler, &["127.0.0.2", "127.0.0.3"]).await;
    let mut admin = Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await;
    admin.write(&common::frontend::query("WAIT_CLOSE weir")).await;
    assert!(admin.is_silent_for(std::time::Duration::from_millis(200)).await);
    raw.query("COMMIT").await;
    admin.read_until_ready().await;
    becomes(&pooler, &["127.0.0.3"]).await;
    assert_ne!(raw.server().await, before);
}

/// Would break with: `server_fast_close` that only heeds the console and the file.
#[tokio::test]
async fn server_fast_close_cuts_sessions_at_an_address_that_is_gone() {
    let dns = Dns::start().await;
    let port = free_port();
    door("127.0.0.2", port).await;
    door("127.0.0.3", port).await;
    dns.say_four("db.example", &[2]);
    let pooler =
        builder(&dns, "db.example", port).pool_mode("session").setting("server_fast_close", 1).start();
    let (mut outside, mut inside) = (pooler.raw().await, pooler.raw().await);
    outside.query("SELECT 1").await;
    inside.query("BEGIN").await;
    dns.say_four("db.example", &[3]);
    assert_eq!(outside.last_words().await.field('M'), "database configuration changed");
    assert_eq!(inside.query("COMMIT").await[1].status(), 'I');
    assert_eq!(inside.last_words().await.field('M'), "database configuration changed");
    pooler.raw().await.query("SELECT 1").await;
    becomes(&pooler, &["127.0.0.3"]).await;
}

#[tokio::test]
async fn several_addresses_are_used_in_turn_and_a_dead_one_is_left_out() {
    let dns = Dns::start().await;
    let port = free_port();
    door("127.0.0.2", port).await;
    door("127.0.0.4", port).await;
    dns.say_four("db.example", &[4, 3, 2]);
    let pooler = builder(&dns, "db.example", port).start();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut raw = pooler.raw().await;
        raw.query("BEGIN").await;
        held.push(raw);
    }
    assert_eq!(at(&pooler).await, ["127.0.0.2", "127.0.0.4"]);
    assert!(!pooler.log().contains("server login failed"), "{}", pooler.log());
    let hosts = pooler.console("SHOW DNS_HOSTS").await;
    assert_eq!(hosts[0][0].as_deref(), Some("db.example"));
    assert_eq!(hosts[0][2].as_deref(), Some("127.0.0.2:0,127.0.0.3:0,127.0.0.4:0"));
    assert!(hosts[0][1].as_deref().unwrap().parse::<u32>().unwrap() <= 1);
    let zones = pooler.console("SHOW DNS_ZONES").await;
    let zone: Vec<_> = zones[0].iter().map(|cell| cell.clone().unwrap()).collect();
    assert_eq!(zone, ["example", "0", "1"]);
    let lists = pooler.console("SHOW LISTS").await;
    let count = |name: &str| lists.iter().find(|row| row[0].as_deref() == Some(name)).unwrap()[1].clone();
    assert_eq!((count("dns_names").as_deref(), count("dns_zones").as_deref()), (Some("1"), Some("1")));
}

#[tokio::test]
async fn a_name_is_asked_for_once_in_its_time() {
    let dns = Dns::start().await;
    dns.say_four("db.example", &[1]);
    let pooler = builder(&dns, "db.example", Postgres::shared().port()).setting("dns_max_ttl", 3600).start();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut raw = pooler.raw().await;
        raw.query("BEGIN").await;
        held.push(raw);
    }
    assert_eq!(dns.asked(), 2, "one question for each family");
    let left: u32 = pooler.console("SHOW DNS_HOSTS").await[0][1].as_deref().unwrap().parse().unwrap();
    assert!((3000..3600).contains(&left));
}

/// PgBouncer fails new connections then; here the last answer that was good is good enough.
#[tokio::test]
async fn a_dns_server_that_is_down_costs_nothing() {
    let dns = Dns::start().await;
    dns.say_four("db.example", &[1]);
    let pooler = builder(&dns, "db.example", Postgres::shared().port()).start();
    let mut raw = pooler.raw().await;
    for answer in [Answer::NoSuchName, Answer::Silence] {
        let before = raw.server().await;
        dns.say("db.example", answer);
        pooler.logged("DNS lookup failed").await;
        assert_eq!(raw.server().await, before);
        pooler.console("RECONNECT").await;
        let mut other = Raw::login(pooler.port(), "weir_trust", "weir_trust", "weir").await;
        assert_ne!(other.server().await, before);
    }
}

/// Would break with: half an answer that counts as the whole, and takes the other addresses away.
#[tokio::test]
async fn half_an_answer_takes_no_address_away() {
    let dns = Dns::start().await;
    dns.say_four("db.example", &[1]);
    let pooler = builder(&dns, "db.example", Postgres::shared().port()).start();
    let mut raw = pooler.raw().await;
    let before = raw.server().await;
    dns.say("db.example", Answer::SixAlone(Ipv6Addr::LOCALHOST));
    loop {
        let hosts = pooler.console("SHOW DNS_HOSTS").await;
        let addresses = hosts[0][2].clone().unwrap();
        assert!(addresses.contains("127.0.0.1:0"), "{addresses}");
        if addresses.contains("::1") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(raw.server().await, before);
    // The next answer is a whole one.
    dns.say_four("db.example", &[2]);
    becomes(&pooler, &[]).await;
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_an_error_until_it_is_known() {
    let dns = Dns::start().await;
    let pooler =
        builder(&dns, "db.example", Postgres::shared().port()).setting("query_wait_timeout", 2).start();
    let error = pooler.refusal("weir", &[]).await;
    let told = format!("{}{}", error.field('M'), error.field('D'));
    assert!(told.contains("DNS lookup failed: db.example: no such name"), "{error:?}");
    let hosts = pooler.console("SHOW DNS_HOSTS").await;
    assert_eq!((hosts[0][0].as_deref(), hosts[0][2].as_deref()), (Some("db.example"), Some("")));
    dns.say_four("db.example", &[1]);
    common::look::try_until(&pooler, "weir", Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_guessed_answer_is_not_believed() {
    let dns = Dns::start().await;
    dns.say("db.example", Answer::AfterAGuess(Ipv4Addr::LOCALHOST));
    let pooler = builder(&dns, "db.example", Postgres::shared().port()).start();
    let mut raw = pooler.raw().await;
    raw.query("BEGIN").await;
    assert_eq!(at(&pooler).await, ["127.0.0.1"]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_fetched_over_tcp() {
    let dns = Dns::start().await;
    dns.say("db.example", Answer::TooLong(Ipv4Addr::LOCALHOST));
    let pooler = builder(&dns, "db.example", Postgres::shared().port()).start();
    let mut raw = pooler.raw().await;
    raw.query("BEGIN").await;
    assert_eq!(at(&pooler).await, ["127.0.0.1"]);
}

/// Without `resolv_conf` the system is asked, `/etc/hosts` included.
#[tokio::test]
async fn the_system_knows_localhost() {
    let pooler = Pgweir::builder(Postgres::shared())
        .database("weir", &format!("host=localhost port={} dbname=weir", Postgres::shared().port()))
        .start();
    pooler.raw().await.query("SELECT 1").await;
    let hosts = pooler.console("SHOW DNS_HOSTS").await;
    assert_eq!(hosts[0][0].as_deref(), Some("localhost"));
    assert!(hosts[0][2].as_deref().unwrap().contains("127.0.0.1:0"), "{hosts:?}");
    // A name that the configuration does not have any longer is forgotten.
    pooler.reload(Pgweir::builder(Postgres::shared())).await;
    assert!(pooler.console("SHOW DNS_HOSTS").await.is_empty());
}

#[tokio::test]
async fn addresses_of_both_families_are_found() {
    let dns = Dns::start().await;
    dns.say("six.example", Answer::Six(vec![Ipv6Addr::LOCALHOST]));
    let listener = TcpListener::bind(("::1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", Postgres::shared().port())).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let pooler = builder(&dns, "six.example", port).start();
    let mut raw = pooler.raw().await;
    raw.query("BEGIN").await;
    assert_eq!(at(&pooler).await, ["::1"]);
}
