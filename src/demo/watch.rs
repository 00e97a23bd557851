//! Looking at the load from outside, once a second.

use super::client::{Client, Login};
use super::cluster::{ACCOUNTS, BALANCE, Cluster};
use super::error::DemoError;
use super::load::{Load, Tally};
use super::pooler::Pooler;
use super::screen::Screen;
use super::{DEMO, Show};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// pgweir's connections, as PostgreSQL itself counts them: all of the demo's role.
const SERVERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'";

/// One second of the load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Second {
    pub(super) number: u64,
    pub(super) clients: u64,
    pub(super) servers: u64,
    pub(super) waiting: u64,
    pub(super) transactions: u64,
    /// From BEGIN to its answer, on average.
    pub(super) wait: Duration,
}

/// What came of the load.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Most clients at any look.
    pub(super) clients: u64,
    /// Most servers at any look.
    pub(super) servers: u64,
    /// Clients that were served at least once.
    pub(super) served: u64,
    pub(super) transactions: u64,
    pub(super) errors: Vec<DemoError>,
    /// What all accounts hold together.
    pub(super) sum: u64,
}

impl Outcome {
    /// Whether all clients were served, by no more servers than allowed, and not a unit got lost.
    pub(super) fn is_good(&self, show: Show) -> bool {
        self.errors.is_empty()
            && self.served == u64::from(show.clients)
            && self.servers <= u64::from(show.servers)
            && self.sum == expected_sum()
    }
}

/// What all accounts hold together, whatever is moved between them.
pub(super) fn expected_sum() -> u64 {
    u64::from(ACCOUNTS) * u64::from(BALANCE)
}

/// Runs the load, and shows each second of it.
pub(super) async fn watch(
    show: Show,
    cluster: &Cluster,
    pooler: &Pooler,
    screen: Screen,
) -> Result<Outcome, DemoError> {
    let mut observer = cluster.observer().await?;
    let mut console = Client::connect(&pooler.address(), &Login::of(DEMO, "pgbouncer")).await?;
    screen.head(show, cluster)?;
    let load = Load::start(show, &pooler.address());
    let began = Instant::now();
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(began + second, second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut clients, mut servers, mut before) = (0, 0, (0, 0));
    for number in 1..=show.length.as_secs() {
        ticks.tick().await;
        let seen = look(number, &load.tally, &mut before, &mut observer, &mut console).await?;
        (clients, servers) = (seen.clients.max(clients), seen.servers.max(servers));
        screen.second(seen)?;
    }
    let tally = std::sync::Arc::clone(&load.tally);
    let errors = load.finish().await;
    let sum = observer.query("SELECT sum(balance) FROM account").await?.number()?;
    observer.leave().await;
    console.leave().await;
    let (served, transactions) =
        (tally.served.load(Ordering::Relaxed), tally.transactions.load(Ordering::Relaxed));
    Ok(Outcome { clients, servers, served, transactions, errors, sum })
}

async fn look(
    number: u64,
    tally: &Tally,
    before: &mut (u64, u64),
    observer: &mut Client,
    console: &mut Client,
) -> Result<Second, DemoError> {
    let now = (tally.transactions.load(Ordering::Relaxed), tally.wait_micros.load(Ordering::Relaxed));
    let (transactions, waited) = (now.0 - before.0, now.1 - before.1);
    *before = now;
    // The console knows who stands in line; without its answer, those who wait for theirs are counted.
    let pools = console.query("SHOW POOLS").await.ok();
    let waiting = pools.and_then(|pools| pools.sum("cl_waiting")).unwrap_or_else(|| tally.waiting.get());
    Ok(Second {
        number,
        clients: tally.clients.get(),
        servers: observer.query(SERVERS).await?.number()?,
        waiting,
        transactions,
        wait: Duration::from_micros(waited.checked_div(transactions).unwrap_or_default()),
    })
}
