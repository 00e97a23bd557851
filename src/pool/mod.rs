//! Who gets a server, and when one is dialled. Knows no client and no byte of a socket.
//!
//! A [`Pool`] serves one (database, user). [`Rack`](rack) holds its idle servers and the line of waiters; a
//! [`Seat`](quota) under the limits lives inside each server; the keeper dials, retires and retries. A server leaves as
//! a [`Checkout`] and comes back only with a proof that it is clean; a checkout that is dropped closes its server.

mod attic;
mod cancels;
mod checkout;
mod crowd;
mod dedicated;
mod diary;
mod gates;
mod health;
mod keeper;
mod lanes;
mod line;
mod lookup;
mod member;
mod postgres;
mod quota;
mod rack;
mod registry;
#[cfg(test)]
mod tests;
mod users;
mod whereabouts;

pub use cancels::{CancelTurn, Cancels};
pub use checkout::Checkout;
pub use crowd::{Closed, Forgotten, Presence};
pub use dedicated::Dedicated;
pub use gates::{Gate, OrderError};
pub use lanes::Lanes;
pub use lookup::{Found, LookupError, Lookups};
pub use postgres::{Epochs, Postgres, Proofs, ServerCheckout, ServerPool, socket_options};
pub use quota::{Full, Quota, Quotas};
pub use registry::{PoolSnapshot, Pools};
pub use users::{AuthFileError, Listed, Users};
pub use whereabouts::{Site, Whereabouts};

use crate::config::PoolSettings;
use crate::server::{DialError, Parameters};
use crate::stats::{Gauge, GaugeGuard, Peer, Roll, ServerRecord, ServerState, Traffic, micros};
use crate::wire::sqlstate;
use arc_swap::{ArcSwap, ArcSwapOption};
use attic::Attic;
use health::Health;
use member::{Held, Member};
use rack::{Place, Preference, Rack, TicketInHand};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What is pooled.
pub trait Pooled: Send + 'static {
    /// Proof that it may be handed on.
    type Proof;
    /// Whether it is still as it was when it was put back.
    fn is_quiet(&self) -> bool;
    /// Asks whether it still answers, and waits for that within bounds.
    fn check(&mut self, query: &str) -> impl Future<Output = bool> + Send;
    /// Whether it is where its host is no longer.
    fn is_withdrawn(&self) -> bool {
        false
    }
    /// The flag that tells so, to be looked at from outside.
    fn withdrawal(&self) -> Option<Arc<AtomicBool>> {
        None
    }
    /// Ends it; the future is done when it is really gone.
    fn close(self) -> impl Future<Output = ()> + Send;
    /// What it reported at login.
    fn baseline(&self) -> Arc<Parameters>;
    /// Both ends, and its process on the server.
    fn identity(&self) -> (Peer, u32);
}

/// How servers of a pool come to be.
pub trait Connector: Send + Sync + 'static {
    /// What it makes.
    type Server: Pooled;
    /// Dials and logs in.
    fn dial(&self, settings: &PoolSettings) -> impl Future<Output = Result<Self::Server, DialError>> + Send;
}

/// Why a client gets no server.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// It waited for longer than `query_wait_timeout`.
    #[error("query_wait_timeout")]
    TimedOut,
    /// The server refuses logins, and there is none left from before.
    #[error("server login has been failing, cached error: {0} (server_login_retry)")]
    LoginFailing(Arc<DialError>),
    /// The login that it waited for was refused for good.
    #[error("{0}")]
    LoginFailed(Arc<DialError>),
    /// All clients of the database were sent away (KILL).
    #[error("database removed")]
    Killed,
    /// The process is about to end.
    #[error("server shutting down")]
    ShuttingDown,
    /// The pool is gone.
    #[error("the pool is closed")]
    Closed,
}

impl Refusal {
    /// Whether the server said that it has no such database.
    #[must_use]
    pub fn is_for_no_database(&self) -> bool {
        match self {
            Self::LoginFailing(error) | Self::LoginFailed(error) => {
                matches!(&**error, DialError::Refused { code, .. } if code == sqlstate::INVALID_CATALOG_NAME)
            }
            _ => false,
        }
    }
}

/// Names a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId {
    /// The database entry, by the name that clients ask for.
    pub database: String,
    /// The user on the server.
    pub user: String,
}

/// Servers of one database and user.
#[derive(Debug)]
pub struct Pool<C: Connector> {
    /// Its name.
    pub id: PoolId,
    /// What went through it.
    pub traffic: Arc<Traffic>,
    /// Clients that are logged in to it.
    pub clients: Gauge,
    connector: C,
    settings: ArcSwap<PoolSettings>,
    /// `server_round_robin` of these settings, at hand for each checkout.
    round_robin: AtomicBool,
    /// Whether a server is cleaned whenever it comes back, likewise.
    resets_always: AtomicBool,
    quotas: Quotas,
    rack: Rack<C::Server>,
    attic: Attic<C::Server>,
    checking: Gauge,
    /// Those of them that have had no answer for long: they keep nobody from being served otherwise.
    stalled: Gauge,
    /// Whether each server is checked before each use, at hand for each that is put back.
    checks_each: AtomicBool,
    servers: Roll<ServerRecord>,
    dialling: Gauge,
    /// Dials for one client alone, which serve nobody in line.
    dedicating: Gauge,
    health: Mutex<Health>,
    /// Why those who waited were sent away the last time, and how often they were: waiters leave when it is once more.
    dismissal: ArcSwapOption<Refusal>,
    dismissals: AtomicU64,
    greeting: ArcSwapOption<Parameters>,
    generation: AtomicU64,
    /// Servers of earlier generations are to be replaced; those between went with a pause.
    replaced_below: AtomicU64,
    /// Whether nothing is dialled and nothing put back (PAUSE).
    held_back: AtomicBool,
    /// Whether its clients are the last that get it.
    former: AtomicBool,
    /// Whether its database was taken out of the configuration.
    removed: AtomicBool,
    unused_since: Mutex<Option<Instant>>,
    wake: Arc<Notify>,
    shared: Shared,
    turn: AtomicU64,
    /// Clients that wait for a server of their own, and how many servers that come back are to be closed for them.
    seekers: AtomicU64,
    claims: AtomicU64,
    cancels: Arc<Cancels>,
}

/// What all pools of a process share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The next number of a server connection.
    pub numbers: Arc<AtomicU64>,
    /// Runtimes on which servers are dialled, in turn; at least one.
    pub runtimes: Arc<[Handle]>,
    /// Notified when clients wait and only a limit over several pools stands in their way.
    pub crowded: Arc<Notify>,
    /// Dials of each host.
    pub lanes: Arc<Lanes>,
}

impl<C: Connector> Pool<C> {
    /// Makes a pool and starts its keeper, which dials nothing yet if the pool is held back from the beginning.
    pub fn start(
        id: PoolId,
        settings: PoolSettings,
        connector: C,
        quotas: Quotas,
        shared: Shared,
        held_back: bool,
    ) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        for quota in [&quotas.pool, &quotas.database, &quotas.user] {
            quota.interest(&wake);
        }
        quotas.pool.set_reserve(settings.reserve.size);
        let (checks_each, resets_always) = (checks_each(&settings), resets_always(&settings));
        let pool = Arc::new(Self {
            id,
            traffic: Arc::default(),
            clients: Gauge::default(),
            connector,
            round_robin: AtomicBool::new(settings.server_round_robin),
            resets_always: AtomicBool::new(resets_always),
            settings: ArcSwap::from_pointee(settings),
            quotas,
            rack: Rack::new(),
            attic: Attic::default(),
            checking: Gauge::default(),
            stalled: Gauge::default(),
            checks_each: AtomicBool::new(checks_each),
            servers: Roll::default(),
            dialling: Gauge::default(),
            dedicating: Gauge::default(),
            health: Mutex::default(),
            dismissal: ArcSwapOption::empty(),
            dismissals: AtomicU64::new(0),
            greeting: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            replaced_below: AtomicU64::new(0),
            held_back: AtomicBool::new(held_back),
            former: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            unused_since: Mutex::default(),
            wake,
            shared,
            turn: AtomicU64::new(0),
            seekers: AtomicU64::new(0),
            claims: AtomicU64::new(0),
            cancels: Arc::default(),
        });
        pool.cancels.set_limit(pool.quotas.pool.limit());
        pool.shared.runtimes[0].spawn(keeper::keep(Arc::downgrade(&pool)));
        pool
    }

    /// Its settings as of now.
    #[must_use]
    pub fn settings(&self) -> Arc<PoolSettings> {
        self.settings.load_full()
    }

    /// Reads of its settings as of now, without keeping them.
    pub fn with_settings<T>(&self, read: impl FnOnce(&PoolSettings) -> T) -> T {
        read(&self.settings.load())
    }

    /// What a server of this pool reported at its login; `None` before the first one.
    #[must_use]
    pub fn greeting(&self) -> Option<Arc<Parameters>> {
        self.greeting.load_full()
    }

    /// Its server connections.
    #[must_use]
    pub fn servers(&self) -> &Roll<ServerRecord> {
        &self.servers
    }

    /// Cancel requests for its clients.
    #[must_use]
    pub fn cancels(&self) -> &Arc<Cancels> {
        &self.cancels
    }

    /// Its limits and their use.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Servers that stand idle.
    #[must_use]
    pub fn idle_count(&self) -> usize {
        self.rack.idle_count()
    }

    /// Servers that are being dialled.
    #[must_use]
    pub fn dialling_count(&self) -> u64 {
        self.dialling.get() + self.dedicating.get()
    }

    /// Clients in line, and how long the oldest has waited.
    #[must_use]
    pub fn queue(&self) -> (usize, Duration) {
        let (count, oldest) = self.rack.waiting();
        (count, oldest.map(|since| since.elapsed()).unwrap_or_default())
    }

    /// Why the last dial failed, when it did.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<DialError>> {
        self.health().error()
    }

    /// Takes an idle server, if there is one that nobody waits for.
    pub fn try_checkout(self: &Arc<Self>) -> Option<Checkout<C>> {
        loop {
            let (ticket, member) = self.rack.try_take(self.preference())?;
            if let Some(checkout) = self.admit_to_client(ticket, member) {
                return Some(checkout);
            }
        }
    }

    /// Takes an idle server or waits for one: returned or newly dialled, whichever comes first, oldest waiter first.
    ///
    /// Cancel safe: who stops waiting leaves the line, and nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn checkout(self: &Arc<Self>) -> Result<Checkout<C>, Refusal> {
        if let Some(checkout) = self.try_checkout() {
            return Ok(checkout);
        }
        let since = Instant::now();
        match self.deadline(since) {
            Some(at) => timeout_at(at, self.stand_in_line(since)).await.unwrap_or(Err(Refusal::TimedOut)),
            None => self.stand_in_line(since).await,
        }
    }

    /// When somebody who has waited since then has waited for long enough (`query_wait_timeout`).
    #[must_use]
    pub fn deadline(&self, since: Instant) -> Option<Instant> {
        self.with_settings(|settings| settings.query_wait_timeout).map(|limit| since + limit)
    }

    /// [`Pool::checkout`] for one who has found no idle server and keeps the time.
    ///
    /// # Errors
    ///
    /// [`Refusal`], but never that it took too long.
    pub async fn stand_in_line(self: &Arc<Self>, since: Instant) -> Result<Checkout<C>, Refusal> {
        self.fail_fast()?;
        let waiter = Waiter::join(self, since);
        let dismissals = self.dismissals.load(Ordering::Acquire);
        // One that was put down while this one joined: nobody else has an eye on it.
        let mut taken = self.try_checkout();
        while taken.is_none() {
            if !self.quotas.pool.is_exhausted() || self.stale_count() > 0 {
                self.wake.notify_one();
            }
            let mut turn = pin!(self.rack.take(waiter.place, self.preference()));
            let served = poll_fn(|cx| {
                if let Poll::Ready(served) = turn.as_mut().poll(cx) {
                    return Poll::Ready(Ok(served));
                }
                self.rack.listen(waiter.place, cx.waker());
                match self.dismissed_since(dismissals) {
                    Some(why) => Poll::Ready(Err(why)),
                    None => Poll::Pending,
                }
            });
            let (ticket, member) = served.await?.ok_or(Refusal::Closed)?;
            taken = self.admit_to_client(ticket, member);
            if taken.is_none() {
                // It died while it stood idle; the keeper dials another.
                self.wake.notify_one();
            }
        }
        taken.ok_or(Refusal::Closed)
    }

    /// Why those who wait were sent away, if they were since they had been so often.
    fn dismissed_since(&self, dismissals: u64) -> Option<Refusal> {
        let is_new = self.dismissals.load(Ordering::Acquire) != dismissals;
        if is_new { self.dismissal.load_full().map(Arc::unwrap_or_clone) } else { None }
    }

    fn preference(&self) -> Preference {
        if self.round_robin.load(Ordering::Relaxed) { Preference::Oldest } else { Preference::Warmest }
    }

    /// Makes a checkout of an idle server, unless it is not what it was when it was put down: then it is closed.
    fn admit_to_client(
        self: &Arc<Self>,
        ticket: TicketInHand,
        member: Held<C::Server>,
    ) -> Option<Checkout<C>> {
        let sound = member.server.is_quiet() && member.generation == self.generation.load(Ordering::Acquire);
        let checkout = Checkout::new(Arc::clone(self), ticket, member);
        if !sound {
            return None;
        }
        self.traffic.count(|t| &t.assignments);
        Some(checkout)
    }

    /// With no server left and logins failing, nobody is made to wait for what will not come.
    fn fail_fast(&self) -> Result<(), Refusal> {
        if !self.is_bare() {
            return Ok(());
        }
        self.health().refusal(Instant::now()).map_or(Ok(()), |error| Err(Refusal::LoginFailing(error)))
    }

    /// Puts a clean server back, or hands it back to the caller when it is not to be used again.
    fn put_back(
        &self,
        ticket: TicketInHand,
        mut member: Held<C::Server>,
        now: Instant,
    ) -> Option<(TicketInHand, Held<C::Server>)> {
        let outdated = member.generation != self.generation.load(Ordering::Acquire);
        let claimed = self.claims.load(Ordering::Relaxed) > 0 && self.claims.swap(0, Ordering::AcqRel) > 0;
        if claimed
            || outdated
            || member.server.is_withdrawn()
            || member.is_expired(now)
            || (self.quotas.excess() > 0 && member.leave_if_too_many())
        {
            return Some((ticket, member));
        }
        member.idle_since = now;
        if self.checks_each.load(Ordering::Relaxed) {
            self.stow_away_at_once(member);
            self.rack.discard(ticket);
            self.offer_room();
            return None;
        }
        member.record.enter(ServerState::Idle, None);
        self.rack.put_back(ticket, member);
        self.offer_room();
        None
    }

    /// A server that stands idle here may stand in the way of a client of another pool: have that looked at now, for
    /// its own keeper was told that there was none.
    fn offer_room(&self) {
        if self.quotas.are_wanted()
            && !self.rack.is_waited_for()
            && self.idle_count() + self.stale_count() > 0
        {
            self.shared.crowded.notify_one();
        }
    }

    /// Ends a server; its seat is free when the backend is gone, and then the keeper looks whether somebody waits.
    fn close(&self, member: Member<C::Server>, why: &str) {
        self.note_closing(&member, why);
        let closing = member.close();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(closing);
        }
    }

    /// Takes over changed settings. Servers of another endpoint or login are not used again.
    pub fn reconfigure(&self, settings: PoolSettings) {
        let old = self.settings.swap(Arc::new(settings));
        let new = self.settings.load();
        self.round_robin.store(new.server_round_robin, Ordering::Relaxed);
        self.checks_each.store(checks_each(&new), Ordering::Relaxed);
        self.resets_always.store(resets_always(&new), Ordering::Relaxed);
        self.quotas.pool.set_limit(new.size);
        self.quotas.pool.set_reserve(new.reserve.size);
        self.cancels.set_limit(new.size);
        let login = |s: &PoolSettings| {
            let asked = s.lookup.as_ref().map(|lookup| (lookup.database.clone(), Arc::clone(&lookup.query)));
            (
                s.hosts.clone(),
                s.port,
                s.dbname.clone(),
                s.user.clone(),
                s.password.clone(),
                s.startup.clone(),
                s.care.connect_query.clone(),
                asked,
            )
        };
        if login(&old) != login(&new) {
            self.health().clear();
            self.reconnect();
        }
        self.wake.notify_one();
    }

    /// Closes the server that has been idle for longest, to make room for another pool.
    pub fn evict_one(&self, full: Full) -> bool {
        let evicted = self.attic.take_oldest().or_else(|| self.rack.weed_oldest());
        let why = || format!("evicted for {}", full.setting());
        evicted.map(|member| self.close(*member, &why())).is_some()
    }

    /// Whether servers are cleaned in every mode.
    #[must_use]
    pub fn resets_always(&self) -> bool {
        self.resets_always.load(Ordering::Relaxed)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connector> Drop for Pool<C> {
    /// Its keeper may sleep without a timer and holds what the limits would notify: woken, it finds the pool gone.
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

fn checks_each(settings: &PoolSettings) -> bool {
    settings.care.check.as_ref().is_some_and(|check| check.delay.is_zero())
}

fn resets_always(settings: &PoolSettings) -> bool {
    settings.care.resets_always && !settings.server_reset_query.is_empty()
}

/// A place in line, left on drop.
struct Waiter<'a, C: Connector> {
    pool: &'a Pool<C>,
    place: Place,
    since: Instant,
    _wants: [Option<GaugeGuard>; 2],
}

impl<'a, C: Connector> Waiter<'a, C> {
    fn join(pool: &'a Pool<C>, since: Instant) -> Self {
        let wants = pool.quotas.want();
        let place = pool.rack.join(since);
        Self { pool, place, since, _wants: wants }
    }
}

impl<C: Connector> Drop for Waiter<'_, C> {
    fn drop(&mut self) {
        self.pool.rack.leave(self.place);
        self.pool.traffic.add(|t| &t.wait_micros, micros(self.since.elapsed()));
        self.pool.offer_room(); // of a server that was handed to it and that it did not live to take
    }
}
