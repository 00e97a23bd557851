//! Who waits, since when, and how to wake them: the account that is kept beside deadpool's own line.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::time::Instant;

/// Those who wait on one shelf.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: Mutex<Places>,
    /// Since when the oldest of them waits, in microseconds of a clock that begins at one; zero while nobody waits. Read
    /// with each server that is put back, on other threads too.
    oldest: AtomicU64,
}

#[derive(Debug, Default)]
struct Places {
    /// In the order of arrival; of one that was left in the middle only the place is there.
    queue: VecDeque<Place>,
    left: usize,
    arrivals: u64,
}

#[derive(Debug)]
struct Place {
    arrival: u64,
    since: Instant,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    By(Option<Waker>),
    ByNobody,
}

impl Line {
    /// Takes the last place; its number.
    pub(super) fn join(&self, since: Instant, clock: u64) -> u64 {
        let mut places = self.places();
        if places.queue.is_empty() {
            self.oldest.store(clock, Ordering::SeqCst);
        }
        let arrival = places.arrivals;
        places.arrivals += 1;
        places.queue.push_back(Place { arrival, since, taken: Taken::By(None) });
        arrival
    }

    /// Notes whom to wake when nobody is to wait any longer.
    pub(super) fn listen(&self, arrival: u64, waker: &Waker) {
        let mut places = self.places();
        if let Some(Place { taken: Taken::By(known), .. }) = places.find(arrival)
            && !known.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *known = Some(waker.clone());
        }
    }

    /// Leaves a place; `clock` reckons a moment as it was reckoned at [`Line::join`].
    pub(super) fn leave(&self, arrival: u64, clock: impl FnOnce(Instant) -> u64) {
        let mut places = self.places();
        if let Some(place) = places.find(arrival) {
            place.taken = Taken::ByNobody;
            places.left += 1;
        }
        if places.shrink() {
            let oldest = places.queue.front().map_or(0, |place| clock(place.since));
            self.oldest.store(oldest, Ordering::SeqCst);
        }
    }

    /// Since when the oldest waits, by the clock of [`Line::join`]; zero while nobody does.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::SeqCst)
    }

    /// How many wait, and since when the oldest does.
    pub(super) fn count(&self) -> (usize, Option<Instant>) {
        let places = self.places();
        (places.queue.len() - places.left, places.queue.front().map(|place| place.since))
    }

    /// Wakes all.
    pub(super) fn wake_all(&self) {
        let wakers: Vec<Waker> = {
            let places = self.places();
            let known = places.queue.iter().filter_map(|place| match &place.taken {
                Taken::By(waker) => waker.clone(),
                Taken::ByNobody => None,
            });
            known.collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // They are whole after every step, so a panic elsewhere cannot have spoilt them.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn find(&mut self, arrival: u64) -> Option<&mut Place> {
        // Most often it is the first.
        if self.queue.front().is_some_and(|first| first.arrival == arrival) {
            return self.queue.front_mut();
        }
        let at = self.queue.binary_search_by_key(&arrival, |place| place.arrival).ok()?;
        self.queue.get_mut(at)
    }

    /// Gives up places that were left; tells whether there is another first one now.
    fn shrink(&mut self) -> bool {
        let before = self.queue.len();
        while self.queue.front().is_some_and(|first| matches!(first.taken, Taken::ByNobody)) {
            self.queue.pop_front();
            self.left -= 1;
        }
        let changed = before != self.queue.len();
        // Else those who come and go behind one who stays would take more and more room.
        if self.left > 32 && self.left > self.queue.len() / 2 {
            self.queue.retain(|place| matches!(place.taken, Taken::By(_)));
            self.left = 0;
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_who_is_still_there() {
        let (line, now) = (Line::default(), Instant::now());
        let clock = |at: Instant| at.duration_since(now).as_secs() + 1;
        let at = |seconds| now + std::time::Duration::from_secs(seconds);
        assert_eq!(line.oldest(), 0);
        let [first, second, third] = [10, 20, 30].map(|seconds| line.join(at(seconds), clock(at(seconds))));
        assert_eq!((line.oldest(), line.count()), (11, (3, Some(at(10)))));
        line.leave(second, clock);
        assert_eq!((line.oldest(), line.count()), (11, (2, Some(at(10)))));
        line.leave(first, clock);
        assert_eq!((line.oldest(), line.count()), (31, (1, Some(at(30)))));
        line.leave(third, clock);
        assert_eq!((line.oldest(), line.count()), (0, (0, None)));
    }

    #[test]
    fn those_who_leave_in_the_middle_take_no_room() {
        let (line, now) = (Line::default(), Instant::now());
        line.join(now, 1);
        for _ in 1..10_000 {
            let arrival = line.join(now, 1);
            line.leave(arrival, |_| 1);
        }
        assert_eq!(line.count().0, 1);
        assert!(line.places().queue.len() < 100);
    }
}
