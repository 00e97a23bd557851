//! The load: many clients, each with a pause between its transactions, as people and web servers have it.

use super::client::{Client, Login};
use super::cluster::ACCOUNTS;
use super::error::DemoError;
use super::{DEMO, Show};
use crate::net::Address;
use crate::stats::{Gauge, micros};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The shortest pause of a client between two transactions, and how much longer it may be.
const PAUSE: (u64, u64) = (50, 200);

/// How long the clients stay beyond the end, so that all are there at the last look.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// What the clients do, counted as they do it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Clients that are logged in.
    pub(super) clients: Gauge,
    /// Clients whose BEGIN is not answered.
    pub(super) waiting: Gauge,
    /// Transactions that ended.
    pub(super) transactions: AtomicU64,
    /// Microseconds from BEGIN to its answer, summed up.
    pub(super) wait_micros: AtomicU64,
    /// Clients that were served at least once.
    pub(super) served: AtomicU64,
}

/// Clients at work. They stop when it is dropped.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) tally: Arc<Tally>,
    clients: JoinSet<Result<(), DemoError>>,
}

impl Load {
    pub(super) fn start(show: Show, address: &Address) -> Self {
        let (tally, mut clients) = (Arc::<Tally>::default(), JoinSet::new());
        let end = Instant::now() + show.length + LAST_LOOK;
        for number in 0..show.clients {
            clients.spawn(work(u64::from(number), address.clone(), Arc::clone(&tally), end));
        }
        Self { tally, clients }
    }

    /// Waits until all clients have left; gives what went wrong with any of them.
    pub(super) async fn finish(mut self) -> Vec<DemoError> {
        let mut errors = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(error),
                Err(panic) => errors.push(DemoError::Unexpected(panic.to_string())),
            }
        }
        errors
    }
}

/// One client, from its login to its goodbye.
async fn work(number: u64, address: Address, tally: Arc<Tally>, end: Instant) -> Result<(), DemoError> {
    let name = format!("client {number}");
    let mut client = Client::connect(&address, &Login::of(DEMO, DEMO).named(&name)).await?;
    let _here = tally.clients.enter();
    for turn in 0.. {
        sleep(pause(number, turn)).await;
        // Everybody has at least one turn, however slow the machine is.
        if turn > 0 && Instant::now() >= end {
            break;
        }
        transfer(&mut client, &name, mixed(number, turn), &tally).await?;
        tally.served.fetch_add(u64::from(turn == 0), Ordering::Relaxed);
    }
    client.leave().await;
    Ok(())
}

/// Moves one unit between two accounts, in a transaction. The client's own name must be what it said at its login,
/// whichever server it meets.
async fn transfer(client: &mut Client, name: &str, seed: u64, tally: &Tally) -> Result<(), DemoError> {
    let began = Instant::now();
    let waiting = tally.waiting.enter();
    client.query("BEGIN").await?;
    drop(waiting);
    tally.wait_micros.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
    let seen = client.query("SELECT current_setting('application_name')").await?.value()?;
    if seen != name {
        return Err(DemoError::Unexpected(format!("{name} was given the settings of {seen}")));
    }
    // In the order of their numbers, so that no two transfers wait for each other.
    let accounts = u64::from(ACCOUNTS);
    let low = 1 + seed % (accounts - 1);
    let high = low + 1 + (seed >> 32) % (accounts - low);
    let direction = if seed & (1 << 31) == 0 { 1 } else { -1 };
    for (account, amount) in [(low, direction), (high, -direction)] {
        client
            .query(&format!("UPDATE account SET balance = balance + {amount} WHERE id = {account}"))
            .await?;
    }
    client.query("COMMIT").await?;
    tally.transactions.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn pause(number: u64, turn: u64) -> Duration {
    let (least, more) = PAUSE;
    // The first turn comes at any time within the whole range, so that the clients do not march in step.
    let least = if turn == 0 { 0 } else { least };
    Duration::from_millis(least + mixed(turn, number) % (more + 1))
}

/// A number that looks random: SplitMix64 of the two.
fn mixed(one: u64, other: u64) -> u64 {
    let mut z = (one << 32 ^ other).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
