//! How many servers there may be: of a pool, of a database, of a user. A [`Seat`] is a place under all three limits; it
//! lives as long as its server and is given back on drop, so that live servers never exceed a limit, whatever happens.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// One limit and how much of it is used.
#[derive(Debug)]
pub struct Quota {
    limit: AtomicU32,
    used: AtomicU32,
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

    /// Whether more places are taken than the limit allows, since it was lowered.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit.load(Ordering::Acquire)
    }

    /// Has this notified whenever a place becomes free.
    pub fn interest(&self, notify: &Arc<Notify>) {
        let mut interested = self.interested.lock().unwrap_or_else(PoisonError::into_inner);
        interested.retain(|other| other.strong_count() > 0);
        interested.push(Arc::downgrade(notify));
    }

    fn has_room(&self) -> bool {
        self.used() < self.limit.load(Ordering::Acquire)
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

/// A place for one server.
#[derive(Debug)]
pub struct Seat(Quotas);

impl Quotas {
    /// Takes a place under all three limits, or under none.
    ///
    /// # Errors
    ///
    /// [`Full`] names the limit.
    pub fn take(&self) -> Result<Seat, Full> {
        // To take a place and give it back wakes all who are interested, the caller too: who looks first does not wake
        // itself over and over.
        let limits = [(&self.pool, Full::Pool), (&self.database, Full::Database), (&self.user, Full::User)];
        if let Some((_, full)) = limits.into_iter().find(|(quota, _)| !quota.has_room()) {
            return Err(full);
        }
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

    /// Whether a limit was lowered below what is in use.
    #[must_use]
    pub fn are_exceeded(&self) -> bool {
        [&self.pool, &self.database, &self.user].into_iter().any(|quota| quota.is_exceeded())
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
    fn a_lowered_limit_takes_no_more() {
        let quotas = quotas(2, 9, 9);
        let seats = [quotas.take().unwrap(), quotas.take().unwrap()];
        quotas.pool.set_limit(Some(1));
        assert!(quotas.are_exceeded());
        drop(seats);
        let _one = quotas.take().unwrap();
        assert_eq!(quotas.take().unwrap_err(), Full::Pool);
    }

    #[tokio::test]
    async fn a_refusal_wakes_nobody() {
        for full in [quotas(1, 0, 1), quotas(1, 1, 0)] {
            let notify = Arc::new(Notify::new());
            [&full.pool, &full.database, &full.user].into_iter().for_each(|quota| quota.interest(&notify));
            assert!(full.take().is_err());
            let woken = std::pin::pin!(notify.notified());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(woken.poll(&mut cx).is_pending());
        }
    }

    #[tokio::test]
    async fn a_free_place_wakes_who_is_interested() {
        let quotas = quotas(1, 1, 1);
        let notify = Arc::new(Notify::new());
        quotas.database.interest(&notify);
        let seat = quotas.take().unwrap();
        drop(seat);
        notify.notified().await;
    }
}
