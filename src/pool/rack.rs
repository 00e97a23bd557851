//! Where idle servers stand and clients wait. deadpool keeps the lines: it holds one ticket for each live server, hands
//! tickets to waiters strictly oldest first, and takes back the ticket of a waiter that left. Which idle server a
//! ticket is redeemed for is decided here.
//!
//! Each worker thread has a shelf and a line of its own, since a server that is polled on another thread than its client
//! costs a wake-up across threads with every message. A server goes back to the shelf of the thread that polls it, a
//! client takes what is there and looks on the other shelves next. Where clients wait, a server serves the line of its own
//! shelf, unless the oldest of another line has waited for longer by more than a half: so nobody waits long for what
//! others get sooner. With one worker there is one line.

use super::line::Line;
use super::member::{Held, Member};
use crate::stats::{micros, worker, workers};
use deadpool::unmanaged::{Object, Pool};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Stands for one idle server while it is in the line, and for one server in use while it is out.
#[derive(Debug)]
pub(super) struct Ticket;

/// A ticket that was handed out; to drop it puts it back in line.
pub(super) type TicketInHand = Object<Ticket>;

/// Differences in waiting that are not worth a wake-up across threads.
const GRACE: Duration = Duration::from_millis(5);

/// Idle servers and the lines of those who wait for one.
#[derive(Debug)]
pub(super) struct Rack<S> {
    shelves: Box<[Shelf<S>]>,
    /// Servers, idle and in use. Summed up over the shelves, one that changes from one to another might be missed.
    live: AtomicUsize,
    /// When the clock began that lines are compared by.
    began: Instant,
}

/// What belongs to one worker.
///
/// There are always at least as many idle servers as tickets in line: a server is put down before its ticket goes
/// back, and a ticket is drawn before a server is taken up.
#[derive(Debug)]
struct Shelf<S> {
    tickets: Pool<Ticket>,
    idle: Mutex<VecDeque<Held<S>>>,
    line: Line,
}

/// Which idle server is used next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// The one used last, since it is warm.
    Warmest,
    /// The one that is idle longest (`server_round_robin`).
    Oldest,
}

/// A place in a line, to be given back with [`Rack::leave`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    shelf: usize,
    arrival: u64,
}

impl<S> Rack<S> {
    /// One with a shelf for each worker.
    pub(super) fn new() -> Self {
        Self::with_shelves(workers().max(1))
    }

    fn with_shelves(count: usize) -> Self {
        let shelf = || Shelf {
            // How many servers there may be is for the quotas to say. A ticket has no size, so a large rack costs nothing.
            tickets: Pool::new(Semaphore::MAX_PERMITS),
            idle: Mutex::default(),
            line: Line::default(),
        };
        let shelves = std::iter::repeat_with(shelf).take(count).collect();
        Self { shelves, live: AtomicUsize::new(0), began: Instant::now() }
    }

    /// The shelf of this thread.
    fn here(&self) -> usize {
        self.shelf_of(worker())
    }

    fn shelf_of(&self, worker: usize) -> usize {
        // Threads that are no workers, of which few ask for a server, have the first one.
        Some(worker.saturating_sub(1)).filter(|at| *at < self.shelves.len()).unwrap_or(0)
    }

    fn clock(&self, at: Instant) -> u64 {
        1 + micros(at.saturating_duration_since(self.began))
    }

    /// Takes an idle server if nobody waits for it.
    pub(super) fn try_take(&self, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        let first = match preference {
            Preference::Warmest => self.here(),
            Preference::Oldest => self.longest_idle(),
        };
        let taken = self.shelves[first].try_take(preference);
        taken.or_else(|| {
            let others = self.shelves.iter().enumerate().filter(|(at, _)| *at != first);
            others.into_iter().find_map(|(_, shelf)| shelf.try_take(preference))
        })
    }

    /// The shelf of the server that has been idle for longest.
    fn longest_idle(&self) -> usize {
        let oldest = |shelf: &Shelf<S>| shelf.idle().front().map(|member| member.idle_since);
        let shelves = self.shelves.iter().enumerate();
        shelves.filter_map(|(at, shelf)| Some((oldest(shelf)?, at))).min().map_or(0, |(_, at)| at)
    }

    /// Takes a place in line. What is idle after that is to be looked at once more before it is waited for.
    pub(super) fn join(&self, since: Instant) -> Place {
        let shelf = self.here();
        let arrival = self.shelves[shelf].line.join(since, self.clock(since));
        // Who puts a server down looks for places behind that: one of the two sees what the other has done.
        fence(Ordering::SeqCst);
        Place { shelf, arrival }
    }

    /// Leaves it.
    pub(super) fn leave(&self, place: Place) {
        self.shelves[place.shelf].line.leave(place.arrival, |since| self.clock(since));
        // What was handed to one who did not live to take it is back on the shelf.
        self.share(place.shelf);
    }

    /// Notes whom to wake in [`Rack::wake_all`].
    pub(super) fn listen(&self, place: Place, waker: &std::task::Waker) {
        self.shelves[place.shelf].line.listen(place.arrival, waker);
    }

    /// Wakes all who wait.
    pub(super) fn wake_all(&self) {
        self.shelves.iter().for_each(|shelf| shelf.line.wake_all());
    }

    /// How many wait, and since when the oldest does.
    pub(super) fn waiting(&self) -> (usize, Option<Instant>) {
        let lines = self.shelves.iter().map(|shelf| shelf.line.count());
        lines.fold((0, None), |(count, oldest), (more, since)| {
            (count + more, [oldest, since].into_iter().flatten().min())
        })
    }

    /// Whether anybody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        self.shelves.iter().any(|shelf| shelf.line.oldest() > 0)
    }

    /// Waits in line. Cancel safe: who leaves the line has taken nothing.
    pub(super) async fn take(&self, place: Place, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        let shelf = &self.shelves[place.shelf];
        let ticket = shelf.tickets.get().await.ok()?;
        shelf.redeem(ticket, preference)
    }

    /// Puts a server in for the first time.
    pub(super) fn add(&self, mut member: Held<S>) {
        self.live.fetch_add(1, Ordering::SeqCst);
        member.shelf = self.choose(self.shelf_of(member.home));
        let shelf = member.shelf;
        self.shelves[shelf].add(member);
        self.share(shelf);
    }

    /// Puts a server back; the oldest waiter gets it.
    pub(super) fn put_back(&self, ticket: TicketInHand, mut member: Held<S>) {
        let from = std::mem::replace(&mut member.shelf, self.choose(self.shelf_of(member.home)));
        let shelf = member.shelf;
        if from == shelf {
            self.shelves[shelf].idle().push_back(member);
            drop(ticket);
        } else {
            self.carry(ticket, member, shelf);
        }
        self.share(shelf);
    }

    /// Puts a server, with a ticket of another shelf, on this one.
    fn carry(&self, ticket: TicketInHand, mut member: Held<S>, to: usize) {
        member.shelf = to;
        self.shelves[to].add(member);
        take_away(ticket);
    }

    /// Takes a ticket out of the line for good: its server is gone.
    pub(super) fn discard(&self, ticket: TicketInHand) {
        take_away(ticket);
        self.live.fetch_sub(1, Ordering::SeqCst);
    }

    /// The shelf for a server that has its home on this one: another, if somebody waits there for too long.
    fn choose(&self, home: usize) -> usize {
        if self.shelves.len() == 1 {
            return home;
        }
        let oldest = |shelf: &Shelf<S>| Some(shelf.line.oldest()).filter(|since| *since > 0);
        let others = self.shelves.iter().enumerate().filter(|(at, _)| *at != home);
        let other = others.filter_map(|(at, shelf)| Some((oldest(shelf)?, at))).min();
        match (oldest(&self.shelves[home]), other) {
            (_, None) => home,
            (None, Some((_, at))) => at,
            (Some(own), Some((since, at))) if since < own => {
                let now = self.clock(Instant::now());
                let own_wait = now.saturating_sub(own);
                let grace = micros(GRACE) + own_wait / 2;
                if own - since > grace { at } else { home }
            }
            _ => home,
        }
    }

    /// What stands idle while somebody waits elsewhere goes there: who looked for idle servers and joined a line just
    /// when this one was put down does not look again. Nor does who joined while it was carried, so where it was put it
    /// is looked at once more.
    fn share(&self, mut from: usize) {
        if self.shelves.len() == 1 {
            return;
        }
        loop {
            fence(Ordering::SeqCst);
            let to = self.choose(from);
            if to == from {
                return;
            }
            let Some((ticket, member)) = self.shelves[from].try_take(Preference::Oldest) else { return };
            self.carry(ticket, member, to);
            from = to;
        }
    }

    /// Looks on all shelves for what somebody waits for elsewhere.
    pub(super) fn balance(&self) {
        if self.is_waited_for() {
            (0..self.shelves.len()).for_each(|from| self.share(from));
        }
    }

    /// Takes out idle servers that meet a condition, but none that a waiter is about to get.
    pub(super) fn weed(&self, mut unwanted: impl FnMut(&Member<S>) -> bool) -> Vec<Held<S>> {
        let weeds: Vec<_> = self.shelves.iter().flat_map(|shelf| shelf.weed(&mut unwanted)).collect();
        self.live.fetch_sub(weeds.len(), Ordering::SeqCst);
        weeds
    }

    /// Takes out the server that has been idle for longest.
    pub(super) fn weed_oldest(&self) -> Option<Held<S>> {
        let mut found = false;
        let weed =
            self.shelves[self.longest_idle()].weed(&mut |_| !std::mem::replace(&mut found, true)).pop();
        self.live.fetch_sub(usize::from(weed.is_some()), Ordering::SeqCst);
        weed
    }

    /// Idle servers.
    pub(super) fn idle_count(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.idle().len()).sum()
    }

    /// Whether there is no server at all, neither idle nor in use; those that are being closed are none.
    pub(super) fn is_bare(&self) -> bool {
        self.live.load(Ordering::SeqCst) == 0
    }
}

impl<S> Shelf<S> {
    fn try_take(&self, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        self.tickets.try_get().ok().and_then(|ticket| self.redeem(ticket, preference))
    }

    fn redeem(&self, ticket: TicketInHand, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        let member = match preference {
            Preference::Oldest => self.idle().pop_front(),
            Preference::Warmest => self.idle().pop_back(),
        };
        match member {
            Some(member) => Some((ticket, member)),
            None => {
                // Cannot be while each idle server has its ticket; a ticket without one must not go back in line.
                take_away(ticket);
                None
            }
        }
    }

    fn add(&self, member: Held<S>) {
        self.idle().push_back(member);
        if self.tickets.try_add(Ticket).is_err() {
            // Only a closed line refuses, and this one is never closed.
            self.idle().pop_back();
        }
    }

    fn weed(&self, unwanted: &mut impl FnMut(&Member<S>) -> bool) -> Vec<Held<S>> {
        let mut weeds = Vec::new();
        let mut idle = self.idle();
        let mut at = 0;
        while at < idle.len() {
            if !unwanted(&idle[at]) {
                at += 1;
                continue;
            }
            let Ok(ticket) = self.tickets.try_remove() else { break };
            let Ticket = ticket;
            weeds.extend(idle.remove(at));
        }
        weeds
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Held<S>>> {
        // The queue is whole after every step, so a panic elsewhere cannot have spoilt it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a ticket out of the line that it belongs to.
fn take_away(ticket: TicketInHand) {
    let Ticket = Object::take(ticket);
}

#[cfg(test)]
mod tests {
    use super::super::quota::{Quota, Quotas};
    use super::*;
    use crate::stats::{Peer, Roll, ServerRecord, become_worker};
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    const NOW: Preference = Preference::Warmest;

    fn member(home: usize) -> Held<u32> {
        let quota = || Arc::new(Quota::new(None));
        let quotas = Quotas { pool: quota(), database: quota(), user: quota() };
        let record = ServerRecord::new(1, String::new(), String::new(), Peer::default(), 0);
        let seat = quotas.take().unwrap();
        let mut member = Member::new(0, Roll::default().enlist(1, record), None, 0, seat);
        member.home = home;
        Box::new(member)
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn rack() -> Rack<u32> {
        Rack { began: Instant::now() - Duration::from_secs(100), ..Rack::with_shelves(2) }
    }

    fn ago(millis: u64) -> Instant {
        Instant::now() - Duration::from_millis(millis)
    }

    /// On which shelf a server stands that is put back by nobody's leave.
    fn idle(rack: &Rack<u32>) -> [usize; 2] {
        [rack.shelves[0].idle().len(), rack.shelves[1].idle().len()]
    }

    #[test]
    fn a_server_stands_where_it_is_polled_and_serves_whoever_comes() {
        let rack = rack();
        rack.add(member(2));
        assert_eq!(idle(&rack), [0, 1]);
        become_worker(1);
        let (ticket, member) = rack.try_take(NOW).unwrap();
        assert!(rack.try_take(NOW).is_none());
        rack.put_back(ticket, member);
        assert_eq!(idle(&rack), [0, 1]);
        assert!(!rack.is_bare());
    }

    #[test]
    fn a_server_goes_to_another_line_when_nobody_waits_in_its_own() {
        let rack = rack();
        become_worker(1);
        let place = rack.join(Instant::now());
        let mut turn = Box::pin(rack.take(place, NOW));
        assert!(poll(&mut turn).is_pending());
        rack.add(member(2));
        assert_eq!(idle(&rack), [1, 0]);
        let Poll::Ready(Some((ticket, member))) = poll(&mut turn) else { panic!("it is not served") };
        drop(turn);
        rack.leave(place);
        rack.put_back(ticket, member);
        assert_eq!((idle(&rack), rack.is_waited_for()), ([0, 1], false));
    }

    #[test]
    fn a_line_is_overtaken_by_another_one_for_a_moment_only() {
        // Who waits for the server: on its own shelf and on the other one, for so many milliseconds.
        for (own, other, served) in
            [(10, 11, 0), (10, 15, 0), (10, 30, 1), (0, 1, 0), (0, 50, 1), (40, 10, 0)]
        {
            let rack = rack();
            become_worker(1);
            rack.join(ago(own));
            become_worker(2);
            rack.join(ago(other));
            rack.add(member(1));
            let expected = if served == 0 { [1, 0] } else { [0, 1] };
            assert_eq!(idle(&rack), expected, "{own} ms and {other} ms");
        }
    }

    #[test]
    fn what_was_handed_to_one_who_left_goes_to_the_other_line() {
        let rack = rack();
        become_worker(1);
        let gone = rack.join(ago(10));
        let mut turn = Box::pin(rack.take(gone, NOW));
        assert!(poll(&mut turn).is_pending());
        become_worker(2);
        let stays = rack.join(ago(5));
        let mut next = Box::pin(rack.take(stays, NOW));
        assert!(poll(&mut next).is_pending());
        rack.add(member(1));
        drop(turn);
        assert!(poll(&mut next).is_pending());
        rack.leave(gone);
        assert!(matches!(poll(&mut next), Poll::Ready(Some(_))));
    }

    #[test]
    fn one_who_waits_elsewhere_gets_one_server_and_not_all() {
        let rack = rack();
        rack.add(member(1));
        rack.add(member(1));
        become_worker(2);
        let place = rack.join(Instant::now());
        rack.balance();
        assert_eq!(idle(&rack), [1, 1]);
        rack.leave(place);
        assert!(!rack.is_bare());
        assert!(rack.weed_oldest().is_some() && rack.weed_oldest().is_some() && rack.is_bare());
    }

    #[test]
    fn who_joins_while_a_server_is_put_down_finds_it() {
        let rack = rack();
        rack.add(member(2));
        become_worker(1);
        let place = rack.join(Instant::now());
        assert!(rack.try_take(NOW).is_some());
        rack.leave(place);
    }
}
