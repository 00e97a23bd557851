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
    /// Those of the used places whose servers are being closed.
    leaving: AtomicU32,
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

    /// How many servers have to go, since the limit was lowered; those that are about to are not counted.
    fn excess(&self) -> u32 {
        let staying = self.used().saturating_sub(self.leaving.load(Ordering::Acquire));
        staying.saturating_sub(self.limit.load(Ordering::Acquire))
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
pub struct Seat {
    quotas: Quotas,
    leaving: bool,
}

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
        Ok(Seat { quotas: self.clone(), leaving: false })
    }

    /// How many servers have to go, since a limit was lowered.
    #[must_use]
    pub fn excess(&self) -> u32 {
        self.all().map(|quota| quota.excess()).into_iter().max().unwrap_or_default()
    }

    fn all(&self) -> [&Arc<Quota>; 3] {
        [&self.pool, &self.database, &self.user]
    }
}

impl Seat {
    /// Its server is about to be closed: it no longer counts among those of which some have to go.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            for quota in self.quotas.all() {
                quota.leaving.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        for quota in [&self.quotas.user, &self.quotas.database, &self.quotas.pool] {
            quota.give_back();
            if self.leaving {
                quota.leaving.fetch_sub(1, Ordering::AcqRel);
            }
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
    fn a_lowered_limit_takes_no_more() {
        let quotas = quotas(2, 9, 9);
        let seats = [quotas.take().unwrap(), quotas.take().unwrap()];
        quotas.pool.set_limit(Some(1));
        assert_eq!(quotas.excess(), 1);
        let [mut first, second] = seats;
        first.leave();
        assert_eq!(quotas.excess(), 0);
        drop((first, second));
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
