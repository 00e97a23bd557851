//! One client, from its first byte to its last: greeting → login → idle ⇄ linked to a server.
//!
//! [`serve`] is the whole life of a connection. What a step needs of the rest of the program is in [`Service`].

mod access;
mod admission;
mod again;
mod client;
mod console;
mod departure;
mod diary;
mod extended;
mod greeting;
mod idle;
mod keys;
mod limits;
mod link;
mod login;
mod named;
mod overview;
mod peers;
mod relay;
mod replication;
mod run;
mod shared;
mod spelled;
mod timer;
mod told;
mod unnamed;
mod upstream;
mod welcome;

pub use client::{Admission, ClientHandle, Clients, Order, Visit};
pub use console::{Answer, Answering, Columns, Console, Role};
pub use departure::Departure;
pub use overview::{CONSOLE, DatabaseOverview, Overview, UserOverview, VERSION};
pub use peers::{PeerPoolView, Peers};
pub use shared::Shared;
pub use welcome::Adopted;

use crate::auth::KeyCache;
use crate::auth::hba::Hba;
use crate::config::Config;
use crate::net::{Ends, Stream};
use crate::pool::{Pools, Proofs, Users};
use crate::server::Interner;
use crate::stats::{Errors, Gauge, GaugeGuard, Traffic};
use crate::wire::CancelKey;
use arc_swap::ArcSwap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a client that is sent away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// What sessions share.
#[derive(Debug)]
pub struct Service {
    /// The configuration as of the last reload. A session takes one snapshot for its login.
    pub config: ArcSwap<Config>,
    /// Users and their secrets, and how clients are asked who they are.
    pub users: Arc<Users>,
    /// Who is asked for what, by where they come from; for `auth_type = hba`.
    pub rules: ArcSwap<Hba>,
    /// SCRAM keys of earlier logins.
    pub keys: Arc<KeyCache>,
    /// Who may derive SCRAM keys now. It takes a core, so of many only a few do and the others wait in line.
    pub derivations: Arc<Semaphore>,
    /// SCRAM keys that clients revealed.
    pub proofs: Arc<Proofs>,
    /// Who serves them.
    pub pools: Arc<Pools>,
    /// Who is here.
    pub clients: Clients,
    /// Other poolers behind the same address.
    pub peers: Peers,
    /// Connections that are not logged in yet.
    pub logins: Gauge,
    /// What happened outside of any pool: refused and failed logins, errors.
    pub traffic: Traffic,
    /// Errors that clients were told, by their text.
    pub errors: Errors,
    /// What startup settings of clients turned out to mean.
    pub adopted: Adopted,
    /// What clients have in common.
    pub shared: Shared,
    /// Prepared statements of all clients.
    pub interner: Arc<Interner>,
    /// The process is about to end: who comes now is let in to the console only.
    pub closing: AtomicBool,
    /// Who may know a cancel key that this process does not.
    pub elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    /// Who answers on the console.
    pub console: Arc<dyn Console>,
}

/// Another process that has clients.
pub trait Elsewhere: Send + Sync + std::fmt::Debug {
    /// Has a cancel request carried out there, and is done when it has arrived.
    fn cancel<'a>(&'a self, key: &'a CancelKey) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl Service {
    /// Cancels what the owner of a key runs or waits with, wherever it is, and returns when that has arrived.
    pub async fn cancel(&self, key: &CancelKey) -> Departure {
        peers::cancel(self, key).await
    }
}

/// A connection that was accepted. From then on it counts, so that no shutdown overlooks it.
#[derive(Debug)]
pub struct Arriving {
    /// The number that the client will have.
    number: u64,
    /// It came when the process was about to end.
    is_late: bool,
    counted: GaugeGuard,
}

impl Service {
    /// Counts a connection that was just accepted.
    #[must_use]
    pub fn arriving(&self) -> Arriving {
        Arriving {
            number: self.clients.number(),
            is_late: self.closing.load(Ordering::Acquire),
            counted: self.logins.enter(),
        }
    }
}

/// Serves one connection to its end, and logs how it ended.
///
/// The task is as large as its largest state, for as long as it lives. So all that is not an idle session or one with a
/// server is in a box of its own, and gone when it is over.
pub fn serve(
    service: Arc<Service>,
    stream: Stream,
    ends: Ends,
    arriving: Arriving,
) -> impl Future<Output = ()> + Send {
    let login = Box::pin(begin(Arc::clone(&service), stream, ends, arriving));
    async move {
        match login.await {
            login::Arrival::Gone => {}
            login::Arrival::Session(session) => run::run(service, session).await,
            login::Arrival::Replication(session) => Box::pin(replication::run(service, session)).await,
            login::Arrival::Console(visitor) => Box::pin(console::converse(service, *visitor)).await,
        }
    }
}

/// From accept to ReadyForQuery, under one deadline.
async fn begin(service: Arc<Service>, stream: Stream, ends: Ends, arriving: Arriving) -> login::Arrival {
    let service = &service;
    let (limit, port) = {
        let config = service.config.load();
        (config.client.login, config.listen.port)
    };
    let Arriving { number, is_late, counted: _counted } = arriving;
    let mut front = login::Front::new(stream, ends, login::Opening { number, is_late, port });
    let arrival = match limit {
        None => front.arrive(service).await,
        Some(limit) => {
            let arriving = front.arrive(service);
            timeout(limit, arriving).await.unwrap_or_else(|_| Err(departure::login_timeout()))
        }
    };
    match arrival {
        Ok(entrance) => front.enter(service, entrance),
        Err(departure) => {
            front.dismiss(service, &departure).await;
            login::Arrival::Gone
        }
    }
}
