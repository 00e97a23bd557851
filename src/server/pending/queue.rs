//! The queue itself, which knows at every moment how many of its entries are of the kinds that are asked for with each
//! message: a long pipeline is not searched for them.

use super::{Origin, Request};
use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::ops::RangeTo;

/// Entries that an idle server may keep room for.
const KEPT: usize = 64;

/// What was sent and not answered yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<(Origin, Request)>,
    tally: Tally,
}

/// How many entries are of a kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// Answered by a ReadyForQuery.
    ends: usize,
    /// Execute.
    executes: usize,
    /// Deciding on names.
    naming: usize,
}

impl Tally {
    fn of(request: &Request) -> Self {
        Self {
            ends: usize::from(request.ends_batch()),
            executes: usize::from(matches!(request, Request::Execute)),
            naming: usize::from(request.is_naming()),
        }
    }

    fn add(&mut self, request: &Request) {
        let one = Self::of(request);
        self.ends += one.ends;
        self.executes += one.executes;
        self.naming += one.naming;
    }

    fn take(&mut self, request: &Request) {
        let one = Self::of(request);
        self.ends -= one.ends;
        self.executes -= one.executes;
        self.naming -= one.naming;
    }
}

impl std::ops::Deref for Queue {
    type Target = VecDeque<(Origin, Request)>;
    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl Queue {
    /// Whether one of them is answered by a ReadyForQuery.
    pub(super) fn ends_a_batch(&self) -> bool {
        self.tally.ends > 0
    }

    /// Whether one of them is an Execute.
    pub(super) fn has_execute(&self) -> bool {
        self.tally.executes > 0
    }

    /// Whether one of them decides on names.
    pub(super) fn has_naming(&self) -> bool {
        self.tally.naming > 0
    }

    pub(super) fn push(&mut self, origin: Origin, request: Request) {
        self.tally.add(&request);
        self.entries.push_back((origin, request));
    }

    pub(super) fn pop(&mut self) -> Option<(Origin, Request)> {
        let entry = self.entries.pop_front()?;
        self.tally.take(&entry.1);
        Some(entry)
    }

    /// Whose message the first one is from now on.
    pub(super) fn assign_first(&mut self, to: Origin) {
        if let Some((origin, _)) = self.entries.front_mut() {
            *origin = to;
        }
    }

    /// All, to be changed in what they stand for, but not in their kind.
    pub(super) fn requests_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.entries.iter_mut().map(|(_, request)| request)
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&Request) -> bool) {
        let tally = &mut self.tally;
        self.entries.retain(|(_, request)| {
            let kept = keeps(request);
            if !kept {
                tally.take(request);
            }
            kept
        });
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some((_, request)) = self.entries.remove(at) {
            self.tally.take(&request);
        }
    }

    pub(super) fn drain(&mut self, range: RangeTo<usize>) -> Drain<'_, (Origin, Request)> {
        self.entries.range(range).for_each(|(_, request)| self.tally.take(request));
        self.entries.drain(range)
    }

    /// Gives back the room that a long pipeline took.
    pub(super) fn shrink(&mut self) {
        if self.entries.capacity() > KEPT {
            self.entries.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_what_is_there() {
        let mut queue = Queue::default();
        for request in [Request::Bind, Request::Execute, Request::Sync, Request::Discard, Request::Execute] {
            queue.push(Origin::Client, request);
        }
        assert!(queue.ends_a_batch() && queue.has_execute() && queue.has_naming());
        assert_eq!(queue.pop(), Some((Origin::Client, Request::Bind)));
        queue.drain(..1);
        assert!(queue.has_execute());
        queue.retain(|request| *request != Request::Execute);
        assert!(!queue.has_execute() && queue.has_naming());
        queue.remove(1);
        assert!(!queue.has_naming() && queue.ends_a_batch());
        queue.drain(..1);
        assert_eq!((queue.len(), queue.tally), (0, Tally::default()));
    }
}
