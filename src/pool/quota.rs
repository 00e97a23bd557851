//! How many servers there may be: of a pool, of a database, of a user. A [`Seat`] is a place under all three limits; it
//! lives as long as its server and is given back on drop, so that live servers never exceed a limit, whatever happens.

use crate::stats::{Gauge, GaugeGuard};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// One limit and how much of it is used.
#[derive(Debug)]
pub struct Quota {
    limit: AtomicU32,
    used: AtomicU32,
    /// Of those used, the places of servers that are being closed.
    leaving: AtomicU32,
    /// Clients that wait for one of these places.
    wanted: Gauge,
    /// Pools to be woken when a place becomes free.
    interested: Mutex<Vec<Weak<Notify>>>,
}

/// The number that stands for no limit.
const UNLIMITED: u32 = u32::MAX;

impl Quota {
    /// A limit; `None` is none.
    #[must_use]
    pub fn new(limit: Option<u32>) -> Self {
        Self {
            limit: AtomicU32::new(limit.unwrap_or(UNLIMITED)),
            used: AtomicU32::new(0),
            leaving: AtomicU32::new(0),
            wanted: Gauge::default(),
            interested: Mutex::default(),
        }
    }

    /// Changes the limit. Servers above a smaller one stay until they are released.
    pub fn set_limit(&self, limit: Option<u32>) {
        if self.limit.swap(limit.unwrap_or(UNLIMITED), Ordering::AcqRel) != limit.unwrap_or(UNLIMITED) {
            self.wake();
        }
    }

    /// The limit; `None` is none.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Acquire)).filter(|&limit| limit != UNLIMITED)
    }

    /// Places taken.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }

    /// Places taken by servers that are not being closed.
    pub(super) fn staying(&self) -> u32 {
        self.used().saturating_sub(self.leaving.load(Ordering::Acquire))
    }

    /// Counts one who waits. Without a limit there is nothing to wait for.
    fn want(&self) -> Option<GaugeGuard> {
        self.limit().map(|_| self.wanted.enter())
    }

    /// Whether no place is free.
    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.limit.load(Ordering::Acquire)
    }

    fn is_wanted(&self) -> bool {
        let free = self.limit.load(Ordering::Acquire).saturating_sub(self.used());
        u64::from(free) <= self.wanted.get() && self.wanted.get() > 0
    }

    /// How many places more are taken than the limit allows, since it was lowered; those of servers that are being
    /// closed do not count, or a slow close would take all the others along.
    fn excess(&self) -> u32 {
        self.staying().saturating_sub(self.limit.load(Ordering::Acquire))
    }

    /// Has this notified whenever a place becomes free.
    pub fn interest(&self, notify: &Arc<Notify>) {
        let mut interested = self.interested.lock().unwrap_or_else(PoisonError::into_inner);
        interested.retain(|other| other.strong_count() > 0);
        let is_known = interested.iter().any(|other| other.ptr_eq(&Arc::downgrade(notify)));
        if !is_known {
            interested.push(Arc::downgrade(notify));
        }
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        let more = |used: u32| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        let interested = self.interested.lock().unwrap_or_else(PoisonError::into_inner);
        interested.iter().filter_map(Weak::upgrade).for_each(|notify| notify.notify_one());
    }
}

/// The limits that a server of one pool counts under.
#[derive(Debug, Clone)]
pub struct Quotas {
    /// Of the pool itself.
    pub pool: Arc<Quota>,
    /// Of its database over all users.
    pub database: Arc<Quota>,
    /// Of its user over all databases.
    pub user: Arc<Quota>,
}

/// Which limit leaves no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `default_pool_size` or `pool_size`.
    Pool,
    /// `max_db_connections`.
    Database,
    /// `max_user_connections`.
    User,
}

impl Full {
    /// The setting, as PgBouncer names it when a server is closed for it.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Pool => "pool_size",
            Self::Database => "max_db_connections",
            Self::User => "max_user_connections",
        }
    }
}

/// A place for one server.
#[derive(Debug)]
pub struct Seat(Quotas);

/// The place of a server that is being closed: still taken, and sure to become free.
#[derive(Debug)]
pub(super) struct LeavingSeat(Seat);

impl Quotas {
    /// Takes a place under all three limits, or under none.
    ///
    /// # Errors
    ///
    /// [`Full`] names the limit.
    pub fn take(&self) -> Result<Seat, Full> {
        // Look before taking: a place that is taken and given back wakes whoever is interested, the taker included,
        // and so a keeper that waits behind a shared limit would never rest.
        self.narrowest().map_or(Ok(()), Err)?;
        if !self.pool.take() {
            return Err(Full::Pool);
        }
        if !self.database.take() {
            self.pool.give_back();
            return Err(Full::Database);
        }
        if !self.user.take() {
            self.pool.give_back();
            self.database.give_back();
            return Err(Full::User);
        }
        Ok(Seat(self.clone()))
    }

    fn narrowest(&self) -> Option<Full> {
        let limits = [(&self.pool, Full::Pool), (&self.database, Full::Database), (&self.user, Full::User)];
        limits.into_iter().find_map(|(quota, full)| quota.is_full().then_some(full))
    }

    /// Counts a client that waits for a server.
    pub(super) fn want(&self) -> [Option<GaugeGuard>; 2] {
        [self.database.want(), self.user.want()]
    }

    /// Whether a server that nobody waits for would take the place of one that somebody does.
    pub(super) fn are_wanted(&self) -> bool {
        [&self.database, &self.user].into_iter().any(|quota| quota.is_wanted())
    }

    /// How many servers must go, since a limit was lowered below what is in use.
    #[must_use]
    pub fn excess(&self) -> u32 {
        self.all().map(|quota| quota.excess()).into_iter().max().unwrap_or(0)
    }

    fn all(&self) -> [&Quota; 3] {
        [&self.pool, &self.database, &self.user]
    }
}

impl Seat {
    /// Its server is about to be closed.
    pub(super) fn leave(self) -> LeavingSeat {
        for quota in self.0.all() {
            quota.leaving.fetch_add(1, Ordering::AcqRel);
        }
        LeavingSeat(self)
    }
}

impl Drop for LeavingSeat {
    fn drop(&mut self) {
        for quota in self.0.0.all() {
            quota.leaving.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.user.give_back();
        self.0.database.give_back();
        self.0.pool.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(pool: u32, database: u32, user: u32) -> Quotas {
        let quota = |limit| Arc::new(Quota::new(Some(limit)));
        Quotas { pool: quota(pool), database: quota(database), user: quota(user) }
    }

    #[test]
    fn the_narrowest_limit_counts_and_a_refusal_takes_nothing() {
        for (limits, full) in [((1, 2, 2), Full::Pool), ((2, 1, 2), Full::Database), ((2, 2, 1), Full::User)]
        {
            let quotas = quotas(limits.0, limits.1, limits.2);
            let seat = quotas.take().unwrap();
            assert_eq!(quotas.take().unwrap_err(), full);
            drop(seat);
            assert_eq!((quotas.pool.used(), quotas.database.used(), quotas.user.used()), (0, 0, 0));
        }
    }

    #[test]
    fn a_quota_holds_even_for_who_did_not_look_first() {
        let quota = Quota::new(Some(1));
        assert!(quota.take() && !quota.take());
        assert_eq!(quota.used(), 1);
        assert!(!Quota::new(Some(0)).take() && Quota::new(None).take());
    }

    #[test]
    fn a_lowered_limit_takes_no_more() {
        let quotas = quotas(2, 9, 9);
        let seats = [quotas.take().unwrap(), quotas.take().unwrap()];
        quotas.pool.set_limit(Some(1));
        assert_eq!(quotas.excess(), 1);
        let leaving = seats.map(Seat::leave);
        assert_eq!((quotas.excess(), quotas.pool.used()), (0, 2));
        drop(leaving);
        assert_eq!(quotas.pool.used(), 0);
        let _one = quotas.take().unwrap();
        assert_eq!(quotas.take().unwrap_err(), Full::Pool);
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_place_wakes_who_is_interested() {
        let quotas = quotas(1, 1, 1);
        let notify = Arc::new(Notify::new());
        quotas.database.interest(&notify);
        let seat = quotas.take().unwrap();
        drop(seat);
        tokio::time::timeout(std::time::Duration::from_secs(1), notify.notified()).await.unwrap();
    }
}
