//! What the configuration says to clients that are here, as it is now: a reload or a `SET` holds for them, too.
//!
//! A session reads single numbers, without a lock: whatever they are worth at that moment is right.

use crate::config::Config;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The limits of one user's clients. A time of 0 is none.
#[derive(Debug, Default)]
pub(super) struct ClientLimits {
    idle: Micros,
    idle_transaction: Micros,
    query: Micros,
    transaction: Micros,
    /// Whether any of the times is set.
    any_time: AtomicBool,
    max_packet: AtomicU32,
    log_pooler_errors: AtomicBool,
}

#[derive(Debug, Default)]
struct Micros(AtomicU64);

impl Micros {
    fn get(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Whether it is another one now.
    fn set(&self, time: Option<Duration>) -> bool {
        // Less than a microsecond is not nothing.
        let micros = time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
        self.0.swap(micros, Relaxed) != micros
    }
}

impl ClientLimits {
    /// Idle, with no transaction open.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.idle.get()
    }

    /// Idle inside a transaction.
    pub(super) fn idle_transaction(&self) -> Option<Duration> {
        self.idle_transaction.get()
    }

    /// One query.
    pub(super) fn query(&self) -> Option<Duration> {
        self.query.get()
    }

    /// One transaction.
    pub(super) fn transaction(&self) -> Option<Duration> {
        self.transaction.get()
    }

    /// Whether there is any limit on a time.
    pub(super) fn has_any_time(&self) -> bool {
        self.any_time.load(Relaxed)
    }

    /// `max_packet_size`
    pub(super) fn max_packet(&self) -> u32 {
        self.max_packet.load(Relaxed)
    }

    /// `log_pooler_errors`
    pub(super) fn log_pooler_errors(&self) -> bool {
        self.log_pooler_errors.load(Relaxed)
    }

    /// Whether a time is another one now.
    fn set(&self, config: &Config, user: &str) -> bool {
        let times = config.client_timeouts(user);
        self.max_packet.store(config.limits.max_packet_size, Relaxed);
        self.log_pooler_errors.store(config.log.pooler_errors, Relaxed);
        self.any_time.store(times.has_any(), Relaxed);
        let changed = [
            self.idle.set(times.idle),
            self.idle_transaction.set(times.idle_transaction),
            self.query.set(times.query),
            self.transaction.set(times.transaction),
        ];
        changed.contains(&true)
    }
}

/// The limits of all users who are here.
#[derive(Debug, Default)]
pub(super) struct LimitsByUser(Mutex<HashMap<String, Arc<ClientLimits>>>);

impl LimitsByUser {
    /// Those of one user. `config` is asked under the lock, so that whoever puts a new one into force and then calls
    /// [`Self::update`] misses nobody.
    pub(super) fn of(&self, user: &str, config: impl Fn() -> Arc<Config>) -> Arc<ClientLimits> {
        let mut users = self.lock();
        if let Some(limits) = users.get(user) {
            return Arc::clone(limits);
        }
        let limits = Arc::new(ClientLimits::default());
        limits.set(&config(), user);
        users.insert(user.to_owned(), Arc::clone(&limits));
        limits
    }

    /// Has all follow a new configuration; whether any time has changed.
    pub(super) fn update(&self, config: &Config) -> bool {
        // All of them, not only up to the first that has changed.
        self.lock().iter().fold(false, |changed, (user, limits)| limits.set(config, user) || changed)
    }

    /// Forgets users who are gone, when there are so many more than clients that it pays.
    pub(super) fn sweep(&self, clients: usize) {
        const FEW: usize = 64;
        let mut users = self.lock();
        if users.len() > 2 * clients + FEW {
            users.retain(|_, limits| Arc::strong_count(limits) > 1);
            users.shrink_to(FEW);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ClientLimits>>> {
        // The map is whole after every step, so a panic elsewhere cannot have spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
