//! Load, while clients and servers die at random. Afterwards the money is all there, nobody waits, and the servers are
//! those of the pool and no more.
//!
//! `PGWEIR_CHAOS_SECONDS` makes the runs longer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::raw::Message;
use common::{PATIENCE, Pgweir, Postgres, Raw, frontend, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

const ACCOUNTS: u64 = 20;
const EACH: i64 = 1000;
const SERVERS: u32 = 4;

fn running_time() -> Duration {
    Duration::from_secs(std::env::var("PGWEIR_CHAOS_SECONDS").map_or(4, |text| text.parse().unwrap()))
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What the clients have achieved together.
#[derive(Debug, Default)]
struct Tally {
    /// Transfers by their number, of which COMMIT was answered.
    acknowledged: std::sync::Mutex<Vec<i64>>,
    next: AtomicU64,
    stop: AtomicBool,
}

struct Bank {
    postgres: Postgres,
    pooler: Pgweir,
    tally: Arc<Tally>,
}

impl Bank {
    async fn open() -> Self {
        // What was acknowledged has to survive a crash.
        let postgres = Postgres::builder().setting("synchronous_commit", "on").start();
        let sql = format!(
            "CREATE TABLE accounts (id int PRIMARY KEY, amount bigint); \
             CREATE TABLE transfers (id bigint PRIMARY KEY); \
             INSERT INTO accounts SELECT g, {EACH} FROM generate_series(0, {ACCOUNTS} - 1) g; \
             GRANT ALL ON accounts, transfers TO weir_trust"
        );
        postgres.execute(&sql).await;
        let pooler = Pgweir::builder(&postgres)
            .pool_size(SERVERS)
            .setting("auth_type", "trust")
            .setting("server_login_retry", 1)
            .setting("log_connections", 0)
            .setting("log_disconnections", 0)
            .start();
        Self { postgres, pooler, tally: Arc::default() }
    }

    fn start_clients(&self, clients: u64, reckless: bool) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for seed in 0..clients {
            let (port, tally) = (self.pooler.port(), Arc::clone(&self.tally));
            tasks.spawn(async move {
                let mut dice = Dice(seed);
                while !tally.stop.load(Ordering::SeqCst) {
                    // A session that fails is followed by another one.
                    if session(port, &tally, &mut dice, reckless).await.is_none() {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            });
        }
        tasks
    }

    async fn settle(self, mut clients: JoinSet<()>) {
        self.tally.stop.store(true, Ordering::SeqCst);
        common::patiently("end of the clients", async {
            while let Some(ended) = clients.join_next().await {
                ended.unwrap();
            }
        })
        .await;
        self.all_is_well().await;
    }

    async fn all_is_well(&self) {
        let acknowledged = self.tally.acknowledged.lock().unwrap().clone();
        assert!(acknowledged.len() > 20, "only {} transfers", acknowledged.len());
        // New clients are served at once, on every server of the pool.
        let mut holders = Vec::new();
        for _ in 0..SERVERS {
            let mut client = Raw::login(self.pooler.port(), "weir_trust", "", "weir").await;
            let answer = client.query("BEGIN; SELECT txid_current_if_assigned()").await;
            assert_eq!(answer[2].columns(), [None], "{answer:?}");
            holders.push(client);
        }
        for mut holder in holders {
            holder.query("ROLLBACK").await;
        }
        let looker = self.postgres.connect("postgres", "weir").await;
        let count = |sql: &'static str| {
            let looker = &looker;
            async move { looker.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) }
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let servers = count("SELECT count(*) FROM pg_stat_activity WHERE usename = 'weir_trust'").await;
            let busy =
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'weir_trust' AND state <> 'idle'";
            if servers <= i64::from(SERVERS) && count(busy).await == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{servers} servers are left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            count("SELECT sum(amount)::bigint FROM accounts").await,
            EACH * i64::try_from(ACCOUNTS).unwrap()
        );
        let missing: i64 = looker
            .query_one(
                "SELECT count(*) FROM unnest($1::bigint[]) n WHERE n NOT IN (SELECT id FROM transfers)",
                &[&acknowledged],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(missing, 0, "acknowledged transfers that are not there");
        assert!(!self.pooler.log().contains("panicked"));
    }
}

/// A connection that is not trusted with anything: all may fail at any time.
struct Line(TcpStream);

impl Line {
    async fn open(port: u16) -> Option<Self> {
        let mut line = Self(TcpStream::connect(("127.0.0.1", port)).await.ok()?);
        let startup = [("user", "weir_trust"), ("database", "weir")];
        line.0.write_all(&frontend::startup(frontend::VERSION_3_0, &startup)).await.ok()?;
        line.answer().await?;
        Some(line)
    }

    /// All up to ReadyForQuery; `None` when there was an error or the connection ended.
    async fn answer(&mut self) -> Option<Vec<Message>> {
        tokio::time::timeout(PATIENCE, self.read_answer()).await.expect("a client that waits for ever")
    }

    async fn read_answer(&mut self) -> Option<Vec<Message>> {
        let (mut heard, mut failed) = (Vec::new(), false);
        loop {
            let tag = self.0.read_u8().await.ok()?;
            let length = usize::try_from(self.0.read_u32().await.ok()?).unwrap();
            let mut body = vec![0; length - 4];
            self.0.read_exact(&mut body).await.ok()?;
            failed |= tag == b'E';
            heard.push(Message { tag, body });
            if tag == b'Z' {
                return (!failed).then_some(heard);
            }
        }
    }

    async fn ask(&mut self, request: &[u8]) -> Option<Vec<Message>> {
        self.0.write_all(request).await.ok()?;
        self.answer().await
    }

    /// Leaves in one of the ways there are, perhaps behind a part of a message.
    async fn abandon(mut self, dice: &mut Dice, request: &[u8]) {
        let cut = usize::try_from(dice.below(u64::try_from(request.len()).unwrap() + 1)).unwrap();
        let _gone_or_not = self.0.write_all(&request[..cut]).await;
        match dice.below(3) {
            0 => socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => tokio::time::sleep(Duration::from_millis(dice.below(5))).await,
            _ => {}
        }
    }
}

/// Transfers until something fails or the client leaves.
async fn session(port: u16, tally: &Tally, dice: &mut Dice, reckless: bool) -> Option<()> {
    let mut line = Line::open(port).await?;
    while !tally.stop.load(Ordering::SeqCst) {
        let id = i64::try_from(tally.next.fetch_add(1, Ordering::SeqCst)).unwrap();
        let (from, to) = (dice.below(ACCOUNTS), dice.below(ACCOUNTS));
        // In one order, so that deadlocks do not take all the time.
        let (low, high) = (from.min(to), from.max(to));
        let sign = if low == from { 1 } else { -1 };
        let update = |account: u64, amount: i64| {
            format!("UPDATE accounts SET amount = amount + {amount} WHERE id = {account}")
        };
        let steps = [
            frontend::query("BEGIN"),
            frontend::extended(&format!("INSERT INTO transfers VALUES ({id})"), &[]),
            frontend::query(&update(low, -sign)),
            frontend::extended(&update(high, sign), &[]),
            frontend::query("COMMIT"),
        ];
        let leaves_at = if reckless { dice.below(40) } else { u64::MAX };
        for (number, step) in (0..).zip(&steps) {
            if number == leaves_at {
                line.abandon(dice, step).await;
                return Some(());
            }
            line.ask(step).await?;
        }
        tally.acknowledged.lock().unwrap().push(id);
    }
    line.0.write_all(&frontend::terminate()).await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_die_at_random() {
    let bank = Bank::open().await;
    let clients = bank.start_clients(16, true);
    tokio::time::sleep(running_time()).await;
    bank.settle(clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_die_at_random() {
    let bank = Bank::open().await;
    let clients = bank.start_clients(16, true);
    let killer = bank.postgres.connect("postgres", "postgres").await;
    let end = Instant::now() + running_time();
    let mut killed = 0;
    while Instant::now() < end {
        let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                   WHERE usename = 'weir_trust' ORDER BY random() LIMIT 1) victim";
        killed += killer.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(killed > 10, "{killed} servers were killed");
    bank.settle(clients).await;
}

/// The server is away for a moment and comes back; nobody has to do anything about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load() {
    let mut bank = Bank::open().await;
    let clients = bank.start_clients(16, true);
    for _ in 0..2 {
        let so_far = bank.tally.acknowledged.lock().unwrap().len();
        until("transfer", || bank.tally.acknowledged.lock().unwrap().len() > so_far + 50).await;
        bank.postgres.stop();
        bank.postgres.start_again();
    }
    let so_far = bank.tally.acknowledged.lock().unwrap().len();
    until("transfer after the restart", || bank.tally.acknowledged.lock().unwrap().len() > so_far + 50).await;
    bank.settle(clients).await;
}
