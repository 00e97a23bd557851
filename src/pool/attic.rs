//! Servers that have been idle for so long that they are asked before a client gets them (`server_check_delay`).
//!
//! The keeper carries them here, so that a checkout need not look at a clock. They come back when a client waits for one
//! and they have answered; one that does not answer is closed, and nobody has noticed.

use super::member::{Held, Member};
use super::{Connector, Pool, Pooled};
use crate::config::Check;
use crate::stats::{GaugeGuard, ServerState};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A check that takes longer is nothing to count on: the connection may be dead without anybody having said so.
const PROMPT: Duration = Duration::from_millis(200);

/// Idle servers to be checked, that used last at the end.
#[derive(Debug)]
pub(super) struct Attic<S>(Mutex<Vec<Held<S>>>);

impl<S> Default for Attic<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S> Attic<S> {
    pub(super) fn count(&self) -> usize {
        self.servers().len()
    }

    /// Takes out servers that meet a condition.
    pub(super) fn weed(&self, mut unwanted: impl FnMut(&Member<S>) -> bool) -> Vec<Held<S>> {
        let mut servers = self.servers();
        let (weeds, kept) = std::mem::take(&mut *servers).into_iter().partition(|member| unwanted(member));
        *servers = kept;
        weeds
    }

    /// Takes out the one that has been idle for longest.
    pub(super) fn take_oldest(&self) -> Option<Held<S>> {
        let mut servers = self.servers();
        (!servers.is_empty()).then(|| servers.remove(0))
    }

    /// The same if a condition holds of that one, which stays here otherwise.
    pub(super) fn take_oldest_if(&self, condition: impl FnOnce(&mut Member<S>) -> bool) -> Option<Held<S>> {
        let mut servers = self.servers();
        servers.first_mut().is_some_and(|member| condition(member)).then(|| servers.remove(0))
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Held<S>>> {
        // It is whole after every step, so a panic elsewhere cannot have spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connector> Pool<C> {
    /// Carries idle servers that are to be checked away from those that are not.
    pub(super) fn stow_away(&self, now: Instant) {
        let settings = self.settings.load();
        let Some(Check { delay, .. }) = &settings.care.check else { return };
        // What stands on the rack while somebody waits has just been checked or used, and is theirs.
        if self.rack.is_waited_for() {
            return;
        }
        // Under the lock, so that whoever finds no server on the rack finds it here.
        let mut attic = self.attic.servers();
        let idle_for_long = self.rack.weed(|member| now.duration_since(member.idle_since) >= *delay);
        idle_for_long.iter().for_each(|member| member.record.enter(ServerState::Used, None));
        attic.extend(idle_for_long);
    }

    /// Has servers checked for those who wait; gives how many checks are under way then that may soon serve one.
    pub(super) fn check_as_needed(self: &Arc<Self>, waiting: u64) -> u64 {
        while waiting > self.prompt_checks() + self.dialling.get() && !self.would_rather_dial() {
            let guard = self.checking.enter();
            let Some(member) = self.attic.servers().pop() else { break };
            let home = self.shared.runtimes.get(member.home.saturating_sub(1));
            let runtime = home.unwrap_or(&self.shared.runtimes[0]);
            runtime.spawn(Arc::clone(self).check(member, guard));
        }
        self.prompt_checks()
    }

    fn prompt_checks(&self) -> u64 {
        self.checking.get().saturating_sub(self.stalled.get())
    }

    /// Where one server does not answer, others that have been idle as long may not either, and a new one is surer.
    fn would_rather_dial(&self) -> bool {
        self.stalled.get() > 0 && self.quotas.narrowest().is_none() && self.health().retry_at().is_none()
    }

    async fn check(self: Arc<Self>, mut member: Held<C::Server>, guard: GaugeGuard) {
        member.record.enter(ServerState::Tested, None);
        let query =
            self.settings.load().care.check.as_ref().map_or_else(String::new, |check| check.query.clone());
        let (is_sound, stalled) = {
            let server = &mut member.server;
            let mut answer = pin!(async { server.is_quiet() && server.check(&query).await });
            match timeout(PROMPT, &mut answer).await {
                Ok(is_sound) => (is_sound, None),
                Err(_) => {
                    let stalled = self.stalled.enter();
                    self.wake.notify_one();
                    (answer.await, Some(stalled))
                }
            }
        };
        let is_current = member.generation == self.generation.load(Ordering::SeqCst);
        if is_sound && is_current {
            member.idle_since = Instant::now();
            member.record.enter(ServerState::Idle, None);
            self.rack.add(member);
        } else {
            if stalled.is_some() && !is_sound {
                self.give_up_idle_since(member.idle_since);
            }
            self.close(*member, "test query failed");
        }
        drop((guard, stalled));
        self.wake.notify_one();
    }

    /// What has been idle for as long as a server that fell silent is as silent, most likely: nobody is to wait for each.
    fn give_up_idle_since(&self, then: Instant) {
        for member in self.attic.weed(|member| member.idle_since <= then) {
            self.close(*member, "test query failed");
        }
    }

    /// Puts a server that comes back to those to be checked, where each is before each use (`server_check_delay = 0`).
    pub(super) fn stow_away_at_once(&self, member: Held<C::Server>) {
        member.record.enter(ServerState::Used, None);
        self.attic.servers().push(member);
        self.wake.notify_one();
    }

    /// Whether there is no server at all, neither idle nor in use; those that are being closed are none.
    pub(super) fn is_bare(&self) -> bool {
        self.rack.is_bare() && self.attic.count() == 0 && self.checking.get() == 0
    }

    /// Idle servers that are checked before they are used.
    #[must_use]
    pub fn stale_count(&self) -> usize {
        self.attic.count()
    }
}
