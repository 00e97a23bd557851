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
    /// Places beyond the limit, for those who have waited for long (`reserve_pool_size`).
    reserve: AtomicU32,
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
            reserve: AtomicU32::new(0),
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

    /// Changes the places beyond the limit.
    pub fn set_reserve(&self, reserve: u32) {
        if self.reserve.swap(reserve, Ordering::AcqRel) != reserve {
            self.wake();
        }
    }

    /// The most places that are ever taken, the reserve included.
    fn ceiling(&self) -> u32 {
        self.limit.load(Ordering::Acquire).saturating_add(self.reserve.load(Ordering::Acquire))
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

    /// Whether no place is free, not even in the reserve.
    pub(super) fn is_exhausted(&self) -> bool {
        self.used() >= self.ceiling()
    }

    fn is_wanted(&self) -> bool {
        let free = self.limit.load(Ordering::Acquire).saturating_sub(self.used());
        u64::from(free) <= self.wanted.get() && self.wanted.get() > 0
    }

    /// How many places more are taken than the limit allows, since it was lowered; those of servers that are being
    /// closed do not count, or a slow close would take all the others along.
    fn excess(&self) -> u32 {
        self.staying().saturating_sub(self.ceiling())
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
        self.take_below(self.limit.load(Ordering::Acquire))
    }

    fn take_below(&self, limit: u32) -> bool {
        let more = |used: u32| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn leave(&self) {
        self.leaving.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts one more as leaving if more stay than may.
    fn claim_excess(&self) -> bool {
        let claim =
            |leaving: u32| (self.used().saturating_sub(leaving) > self.ceiling()).then_some(leaving + 1);
        self.leaving.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).is_ok()
    }

    fn give_back(&self, was_leaving: bool) {
        // First what is leaving: for a moment too few seem to be about to go, and never too many to stay.
        self.used.fetch_sub(1, Ordering::AcqRel);
        if was_leaving {
            self.leaving.fetch_sub(1, Ordering::AcqRel);
        }
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

/// A place for one server.
#[derive(Debug)]
pub struct Seat {
    quotas: Quotas,
    /// Whether its server is being closed: the place is still taken, and sure to become free.
    is_leaving: bool,
}

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
        self.take_shared()
    }

    /// The same where the pool's own limit is reached: a place of its reserve.
    ///
    /// # Errors
    ///
    /// [`Full`] names the limit.
    pub(super) fn take_from_reserve(&self) -> Result<Seat, Full> {
        if self.pool.is_exhausted() {
            return Err(Full::Pool);
        }
        if let Some(full) = self.narrowest_shared() {
            return Err(full);
        }
        if !self.pool.take_below(self.pool.ceiling()) {
            return Err(Full::Pool);
        }
        self.take_shared()
    }

    /// The places under the limits of several pools, for one who has that of the pool.
    fn take_shared(&self) -> Result<Seat, Full> {
        if !self.database.take() {
            self.pool.give_back(false);
            return Err(Full::Database);
        }
        if !self.user.take() {
            self.pool.give_back(false);
            self.database.give_back(false);
            return Err(Full::User);
        }
        Ok(Seat { quotas: self.clone(), is_leaving: false })
    }

    /// The limit that leaves no place, if one does.
    pub(super) fn narrowest(&self) -> Option<Full> {
        if self.pool.is_full() { Some(Full::Pool) } else { self.narrowest_shared() }
    }

    fn narrowest_shared(&self) -> Option<Full> {
        let limits = [(&self.database, Full::Database), (&self.user, Full::User)];
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
    pub(super) fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.quotas.all().iter().for_each(|quota| quota.leave());
        }
    }

    /// Gives the place up if there are more than a limit allows; of several who ask at once no more do than there are too
    /// many. The server must be closed then.
    pub(super) fn leave_if_too_many(&mut self) -> bool {
        let quotas = self.quotas.all();
        let Some(claimed) = quotas.iter().position(|quota| quota.claim_excess()) else { return false };
        let others = quotas.iter().enumerate().filter(|(at, _)| *at != claimed);
        others.for_each(|(_, quota)| quota.leave());
        self.is_leaving = true;
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Quotas { pool, database, user } = &self.quotas;
        for quota in [user, database, pool] {
            quota.give_back(self.is_leaving);
        }
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
        let mut seats = seats;
        assert_eq!(seats.iter_mut().filter_map(|seat| seat.leave_if_too_many().then_some(())).count(), 1);
        assert_eq!((quotas.excess(), quotas.pool.used()), (0, 2));
        seats.iter_mut().for_each(Seat::leave);
        drop(seats);
        assert_eq!(quotas.pool.leaving.load(Ordering::Acquire), 0);
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
