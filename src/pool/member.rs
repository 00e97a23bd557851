//! A server with what the pool knows of it.

use super::Pooled;
use super::quota::Seat;
use crate::stats::{Entry, ServerRecord, worker};
use std::time::Duration;
use tokio::time::Instant;

/// A server of a pool. The order of the fields is the order in which they end: the connection before its seat.
#[derive(Debug)]
pub(super) struct Member<S> {
    pub(super) server: S,
    pub(super) record: Entry<ServerRecord>,
    /// The thread whose reactor polls the connection.
    pub(super) home: usize,
    /// The shelf whose ticket it has.
    pub(super) shelf: usize,
    /// When it is too old to be used again; `None` with `server_lifetime = 0`, which uses a server once.
    pub(super) expires: Option<Instant>,
    /// Since when nobody has used it.
    pub(super) idle_since: Instant,
    /// The pool's generation at the time it was dialled; an older one is not used again.
    pub(super) generation: u64,
    seat: Seat,
}

/// A member as it is handed about: what holds one, idle clients included, needs room for a pointer only.
pub(super) type Held<S> = Box<Member<S>>;

impl<S> Member<S> {
    pub(super) fn new(
        server: S,
        record: Entry<ServerRecord>,
        lifetime: Option<Duration>,
        generation: u64,
        seat: Seat,
    ) -> Self {
        let now = Instant::now();
        let expires = lifetime.map(|lifetime| now + jittered(lifetime));
        Self { server, record, home: worker(), shelf: 0, expires, idle_since: now, generation, seat }
    }

    /// Ends the connection, and then gives its seat back. From the call on, its seat counts as leaving.
    pub(super) fn close(self) -> impl Future<Output = ()> + Send
    where
        S: Pooled,
    {
        let Self { server, record, mut seat, .. } = self;
        seat.leave();
        async move {
            server.close().await;
            drop(record); // before the seat: who is woken by a free seat finds the roll up to date
            drop(seat);
        }
    }

    /// Gives its place up if a limit was lowered and there are too many servers; it must be closed then.
    pub(super) fn leave_if_too_many(&mut self) -> bool {
        self.seat.leave_if_too_many()
    }

    /// Whether it has been open for too long.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_none_or(|at| at <= now)
    }
}

/// A duration that is up to a tenth shorter, at random, so that what began together does not end together.
pub(super) fn jittered(duration: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, and nothing else is lost.
    let _or_zero = getrandom::fill(&mut byte);
    duration.mul_f64(1.0 - f64::from(byte[0]) / 2560.0)
}
