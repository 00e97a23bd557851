//! Where idle servers stand and clients wait. deadpool keeps the line: it holds one ticket for each live server, hands
//! tickets to waiters strictly oldest first, and takes back the ticket of a waiter that left. Which idle server a
//! ticket is redeemed for is decided here.

use super::member::{Held, Member};
use crate::stats::worker;
use deadpool::unmanaged::{Object, Pool};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Stands for one idle server while it is in the line, and for one server in use while it is out.
#[derive(Debug)]
pub(super) struct Ticket;

/// A ticket that was handed out; to drop it puts it back in line.
pub(super) type TicketInHand = Object<Ticket>;

/// Idle servers and the line of those who wait for one.
///
/// There are always at least as many idle servers as tickets in line: a server is put down before its ticket goes
/// back, and a ticket is drawn before a server is taken up.
#[derive(Debug)]
pub(super) struct Rack<S> {
    line: Pool<Ticket>,
    idle: Mutex<VecDeque<Held<S>>>,
}

/// Which idle server is used next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// The one used last, since it is warm; one that this thread's reactor polls comes first, since an event that
    /// crosses threads costs a wake-up.
    Warmest,
    /// The one that is idle longest (`server_round_robin`).
    Oldest,
}

impl<S> Rack<S> {
    pub(super) fn new() -> Self {
        // How many servers there may be is for the quotas to say. A ticket has no size, so a large rack costs nothing.
        Self { line: Pool::new(Semaphore::MAX_PERMITS), idle: Mutex::default() }
    }

    /// Takes an idle server if nobody waits for it.
    pub(super) fn try_take(&self, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        self.line.try_get().ok().and_then(|ticket| self.redeem(ticket, preference))
    }

    /// Waits in line. Cancel safe: who leaves the line has taken nothing.
    pub(super) async fn take(&self, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        let ticket = self.line.get().await.ok()?;
        self.redeem(ticket, preference)
    }

    fn redeem(&self, ticket: TicketInHand, preference: Preference) -> Option<(TicketInHand, Held<S>)> {
        match choose(&mut self.idle(), preference) {
            Some(member) => Some((ticket, member)),
            None => {
                // Cannot be while each idle server has its ticket; a ticket without one must not go back in line.
                discard(ticket);
                None
            }
        }
    }

    /// Puts a server in for the first time.
    pub(super) fn add(&self, member: Held<S>) {
        self.idle().push_back(member);
        if self.line.try_add(Ticket).is_err() {
            // Only a closed line refuses, and this one is never closed.
            self.idle().pop_back();
        }
    }

    /// Puts a server back; the oldest waiter gets it.
    pub(super) fn put_back(&self, ticket: TicketInHand, member: Held<S>) {
        self.idle().push_back(member);
        drop(ticket);
    }

    /// Takes out idle servers that meet a condition, but none that a waiter is about to get.
    pub(super) fn weed(&self, mut unwanted: impl FnMut(&Member<S>) -> bool) -> Vec<Held<S>> {
        let mut weeds = Vec::new();
        let mut idle = self.idle();
        let mut at = 0;
        while at < idle.len() {
            if !unwanted(&idle[at]) {
                at += 1;
                continue;
            }
            let Ok(ticket) = self.line.try_remove() else { break };
            let Ticket = ticket;
            weeds.extend(idle.remove(at));
        }
        weeds
    }

    /// Idle servers.
    pub(super) fn idle_count(&self) -> usize {
        self.idle().len()
    }

    /// Whether there is no server at all, neither idle nor in use; those that are being closed are none.
    pub(super) fn is_bare(&self) -> bool {
        self.line.status().size == 0
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Held<S>>> {
        // The queue is whole after every step, so a panic elsewhere cannot have spoilt it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn choose<S>(idle: &mut VecDeque<Held<S>>, preference: Preference) -> Option<Held<S>> {
    match preference {
        Preference::Oldest => idle.pop_front(),
        Preference::Warmest => {
            let here = worker();
            match idle.iter().rposition(|member| member.home == here) {
                Some(at) => idle.remove(at),
                None => idle.pop_back(),
            }
        }
    }
}

/// Takes a ticket out of the line for good: its server is gone.
pub(super) fn discard(ticket: TicketInHand) {
    let Ticket = Object::take(ticket);
}
