//! Cancel requests for the clients of one pool. Each takes a connection to the server beside those of the pool, so that
//! only so many are made at a time as the pool has places: a storm of them must not be one for PostgreSQL.

use crate::stats::Gauge;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// The number that stands for no limit.
const UNLIMITED: u32 = u32::MAX;

/// Who cancels, and who waits to.
#[derive(Debug)]
pub struct Cancels {
    limit: AtomicU32,
    active: AtomicU32,
    waiting: Gauge,
    freed: Notify,
}

/// A cancel that may be made now; given back on drop.
#[derive(Debug)]
pub struct CancelTurn(Arc<Cancels>);

impl Default for Cancels {
    fn default() -> Self {
        Self {
            limit: AtomicU32::new(UNLIMITED),
            active: AtomicU32::new(0),
            waiting: Gauge::default(),
            freed: Notify::new(),
        }
    }
}

impl Cancels {
    /// Changes how many there may be at a time; `None` is no limit.
    pub fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.map_or(UNLIMITED, |limit| limit.max(1)), Ordering::Release);
        self.freed.notify_one();
    }

    /// How many are under way.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Acquire)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.get()
    }

    /// Waits for a turn. Cancel safe.
    pub async fn turn(self: &Arc<Self>) -> CancelTurn {
        if self.take() {
            return CancelTurn(Arc::clone(self));
        }
        let _counted = self.waiting.enter();
        loop {
            let mut freed = pin!(self.freed.notified());
            // Before the look, so that nothing that is given back after it is missed.
            freed.as_mut().enable();
            if self.take() {
                // Several may have become free at once.
                self.freed.notify_one();
                return CancelTurn(Arc::clone(self));
            }
            freed.await;
        }
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        let more = |active: u32| (active < limit).then_some(active + 1);
        self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

impl Drop for CancelTurn {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_at_a_time_than_the_limit_and_all_have_their_turn() {
        let cancels = Arc::new(Cancels::default());
        cancels.set_limit(Some(2));
        let held = [cancels.turn().await, cancels.turn().await];
        let late: Vec<_> = (0..5)
            .map(|_| {
                let cancels = Arc::clone(&cancels);
                tokio::spawn(async move { drop(cancels.turn().await) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!((cancels.active(), cancels.waiting()), (2, 5));
        late[0].abort();
        drop(held);
        for task in late.into_iter().skip(1) {
            task.await.unwrap();
        }
        assert_eq!((cancels.active(), cancels.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_raised_limit_lets_in_who_waits() {
        let cancels = Arc::new(Cancels::default());
        cancels.set_limit(Some(0));
        let _held = cancels.turn().await;
        let late = tokio::spawn({
            let cancels = Arc::clone(&cancels);
            async move { [cancels.turn().await, cancels.turn().await] }
        });
        tokio::task::yield_now().await;
        assert_eq!(cancels.waiting(), 1);
        cancels.set_limit(None);
        late.await.unwrap();
    }
}
