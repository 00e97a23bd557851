//! The keeper of a pool: one task that dials when somebody waits, keeps the minimum, and retires what is old, idle or
//! dead. A dial is a task of its own and outlives the client that caused it.

use super::lanes::LaneTaken;
use super::member::{Held, Member};
use super::quota::{Full, Seat};
use super::{Connector, Pool, PoolId, Pooled, Refusal};
use crate::server::DialError;
use crate::stats::{GaugeGuard, ServerRecord, ServerState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Dials of one pool at a time.
const DIALS: u64 = 4;

/// How often idle servers are looked at.
const ROUND: Duration = Duration::from_secs(1);

/// Tends a pool for as long as anybody else holds it.
pub(super) async fn keep<C: Connector>(pool: Weak<Pool<C>>) {
    loop {
        let (wake, next) = {
            let Some(pool) = pool.upgrade() else { return };
            (Arc::clone(&pool.wake), pool.tend())
        };
        match next {
            Some(at) => {
                tokio::select! {
                    () = wake.notified() => {}
                    () = sleep_until(at) => {}
                }
            }
            None => wake.notified().await,
        }
        // A notification does not count against a task's budget: without this a keeper that is woken by what it does
        // itself would stop every other task of its thread.
        tokio::task::coop::consume_budget().await;
    }
}

/// When idle servers are looked at next: for all pools at the same moments, so that a thousand of them wake the process
/// once in a [`ROUND`] and not a thousand times.
fn next_round(now: Instant) -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let within = now.saturating_duration_since(*FIRST).as_micros() % ROUND.as_micros();
    now + (ROUND - Duration::from_micros(u64::try_from(within).unwrap_or_default()))
}

impl<C: Connector> Pool<C> {
    /// One round; tells when the next is due at the latest.
    fn tend(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        self.retire(now);
        self.shrink();
        self.stow_away(now);
        self.rack.balance();
        self.send_away(now);
        let retry = self.dial_as_needed(now);
        // An empty pool that nobody uses costs nothing, not even a timer.
        let is_in_use = !self.servers.is_empty() || self.clients.get() > 0 || self.minimum() > 0;
        let idle_round = is_in_use.then(|| next_round(now));
        [retry, idle_round].into_iter().flatten().min()
    }

    /// Those who wait are sent away when a login is refused for good and no server is left; what may pass they wait
    /// out. This is asked in every round, not just after a dial: the last server may go, and a client may join the
    /// line, after the login was refused.
    fn send_away(&self, now: Instant) {
        let refusal = self.health().refusal(now).filter(|error| !error.is_transient());
        let Some(refusal) = refusal else { return };
        if self.is_bare() && self.rack.is_waited_for() {
            self.send_all_away(Refusal::LoginFailed(refusal));
        }
    }

    /// Closes idle servers that are over a lowered limit.
    fn shrink(&self) {
        while self.quotas.excess() > 0 {
            // One that is to be checked goes or stays there: it must not come to the rack without its check.
            if let Some(member) = self.attic.take_oldest_if(Member::leave_if_too_many) {
                self.close(*member, "over the limit");
                continue;
            }
            let Some(mut member) = self.rack.weed_oldest() else { return };
            if !member.leave_if_too_many() {
                // One that came back meanwhile has gone in its place.
                member.record.enter(ServerState::Idle, None);
                return self.rack.add(member);
            }
            self.close(*member, "over the limit");
        }
    }

    /// Closes idle servers that are dead, outdated, too old, or idle for too long.
    fn retire(&self, now: Instant) {
        let settings = self.settings.load();
        let generation = self.generation.load(Ordering::Acquire);
        let mut spare = u64::from(self.quotas.pool.staying()).saturating_sub(u64::from(self.minimum()));
        let mut unwanted = |member: &Member<C::Server>| {
            if !member.server.is_quiet() || member.generation != generation {
                spare = spare.saturating_sub(1);
                return true;
            }
            let idle = now.duration_since(member.idle_since);
            let bored = settings.server_idle_timeout.is_some_and(|limit| idle >= limit);
            let expired = settings.server_lifetime.is_some() && member.is_expired(now);
            let unwanted = expired || (bored && spare > 0);
            spare = spare.saturating_sub(u64::from(unwanted));
            unwanted
        };
        let mut weeds = self.attic.weed(&mut unwanted);
        weeds.extend(self.rack.weed(&mut unwanted));
        for member in weeds {
            let why = if member.server.is_quiet() { "server idle timeout" } else { "server conn crashed?" };
            self.close(*member, why);
        }
    }

    /// Servers to be kept open. Without a client there is nobody whose login could be used, unless the entry forces
    /// its user.
    pub(super) fn minimum(&self) -> u32 {
        let settings = self.settings.load();
        let wanted = self.clients.get() > 0 || settings.user_is_forced;
        if wanted { settings.min_size.min(settings.size.unwrap_or(u32::MAX)) } else { 0 }
    }

    /// Starts dials for those who wait and for the minimum; tells when a pause after a failure ends.
    fn dial_as_needed(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let needed = |pool: &Arc<Self>| {
            // An idle server while somebody waits is one that was handed over and not yet taken up: no reason to dial.
            let unserved = pool.queue().0.saturating_sub(pool.rack.idle_count());
            let waiting = u64::try_from(unserved).unwrap_or(u64::MAX);
            let checking = pool.check_as_needed(waiting);
            let missing = pool.minimum().saturating_sub(pool.quotas.pool.used());
            let under_way = pool.dialling.get();
            under_way < pool.health().dials(DIALS)
                && (waiting > under_way + checking
                    || (missing > 0 && under_way == 0 && !pool.quotas.are_wanted()))
        };
        while !self.is_held_back() && needed(self) {
            let retry_at = self.health().retry_at();
            if let Some(at) = retry_at.filter(|&at| at > now) {
                return Some(at);
            }
            let lane = self.shared.lanes.take(&self.settings.load(), &self.wake)?;
            // Read before it is looked whether the pool is held back, so that a server of a later one is outdated.
            let generation = self.generation.load(Ordering::SeqCst);
            match self.quotas.take() {
                // Looked at once more: who holds the pool back either sees this seat, or is seen here.
                Ok(_) if self.is_held_back() => return None,
                Ok(seat) => self.start_dial(seat, generation, lane),
                Err(Full::Pool) => return self.draw_on_reserve(now, generation, lane),
                // Another pool of the same database or user may hold an idle server; the registry looks for one.
                Err(Full::Database | Full::User) => {
                    if self.rack.is_waited_for() {
                        self.shared.crowded.notify_one();
                    }
                    return None;
                }
            }
        }
        None
    }

    /// One server beyond the limit when the oldest waiter has waited for long enough; tells when that will be.
    fn draw_on_reserve(self: &Arc<Self>, now: Instant, generation: u64, lane: LaneTaken) -> Option<Instant> {
        let reserve = self.settings.load().reserve;
        let opens = self.rack.waiting().1? + reserve.timeout.filter(|_| reserve.size > 0)?;
        if opens > now {
            return Some(opens);
        }
        // One at a time, as the others may be served meanwhile.
        if self.dialling.get() == 0
            && let Ok(seat) = self.quotas.take_from_reserve()
            && !self.is_held_back()
        {
            let PoolId { database, user } = &self.id;
            tracing::warn!(database, user, "taking connection from reserve_pool");
            self.start_dial(seat, generation, lane);
        }
        None
    }

    fn start_dial(self: &Arc<Self>, seat: Seat, generation: u64, lane: LaneTaken) {
        let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or_default();
        let runtime = &self.shared.runtimes[turn % self.shared.runtimes.len()];
        let guard = self.dialling.enter();
        runtime.spawn(Arc::clone(self).dial((seat, lane), guard, generation));
    }

    async fn dial(self: Arc<Self>, (seat, _lane): (Seat, LaneTaken), guard: GaugeGuard, generation: u64) {
        let settings = self.settings.load_full();
        let outcome = self.connector.dial(&settings).await;
        // A dial to an endpoint or of a time that is over says nothing of the present one, and its server would cost
        // the oldest waiter the place in line.
        let is_outdated = generation != self.generation.load(Ordering::Acquire);
        match outcome {
            Ok(server) if is_outdated => {
                self.close(*self.enlist(server, seat, generation), "database configuration changed");
                drop(guard);
            }
            Err(_) if is_outdated => drop((seat, guard)),
            Ok(server) => {
                self.health().clear();
                self.traffic.count(|t| &t.connects);
                self.greeting.store(Some(server.baseline()));
                self.rack.add(self.enlist(server, seat, generation));
                self.offer_room();
                drop(guard); // not before, or the keeper may dial for a waiter who is served
            }
            Err(error) => {
                self.dial_failed(Arc::new(error));
                drop((seat, guard)); // not before: a free seat wakes the keeper, which would dial without a pause
            }
        }
        self.wake.notify_one();
    }

    fn enlist(&self, server: C::Server, seat: Seat, generation: u64) -> Held<C::Server> {
        let (peer, process) = server.identity();
        let id = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let record = ServerRecord::new(id, self.id.user.clone(), self.id.database.clone(), peer, process)
            .of_generation(generation)
            .withdrawn_by(server.withdrawal());
        record.enter(ServerState::Idle, None);
        self.note_opened(&record);
        record.note_application_name(server.baseline().get("application_name").map_or("", String::as_str));
        let lifetime = self.settings.load().server_lifetime;
        Box::new(Member::new(server, self.servers.enlist(id, record), lifetime, generation, seat))
    }

    /// Only what the server did counts against it.
    fn dial_failed(&self, error: Arc<DialError>) {
        let retry = self.settings.load().server_login_retry;
        self.traffic.count(|t| &t.connect_failures);
        tracing::warn!(database = self.id.database, user = self.id.user, "server login failed: {error}");
        self.health().failed(error, retry, Instant::now());
    }
}
