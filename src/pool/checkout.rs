//! A server in use.

use super::member::{Held, Member};
use super::rack::TicketInHand;
use super::{Connector, Pool, Pooled};
use crate::stats::ServerRecord;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use tokio::time::Instant;

/// A server that is handed out. To drop it closes the server: nobody can forget to clean one up.
#[derive(Debug)]
pub struct Checkout<C: Connector> {
    pool: Arc<Pool<C>>,
    /// Both are there until `release` or drop takes them.
    out: Option<(TicketInHand, Held<C::Server>)>,
}

impl<C: Connector> Checkout<C> {
    pub(super) fn new(pool: Arc<Pool<C>>, ticket: TicketInHand, member: Held<C::Server>) -> Self {
        Self { pool, out: Some((ticket, member)) }
    }

    /// Puts the server back: the oldest waiter gets it. One that is too old, outdated or over a lowered limit is
    /// closed instead.
    pub fn release(self, proof: <C::Server as Pooled>::Proof) {
        self.release_since(proof, None);
    }

    /// The same for a server of which it is known since when it has had nothing to do: about now.
    pub fn release_since(mut self, _proof: <C::Server as Pooled>::Proof, idle: Option<Instant>) {
        if let Some((ticket, member)) = self.out.take()
            && let Some((ticket, unwanted)) =
                self.pool.put_back(ticket, member, idle.unwrap_or_else(Instant::now))
        {
            self.out = Some((ticket, unwanted)); // dropped with self, and so closed
        }
    }

    /// The pool that it came from.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool<C>> {
        &self.pool
    }

    /// What is known of it outside.
    #[must_use]
    pub fn record(&self) -> &ServerRecord {
        &self.member().record
    }

    fn member(&self) -> &Member<C::Server> {
        match &self.out {
            Some((_, member)) => member,
            None => unreachable!("a checkout gives its server away only when it ends"),
        }
    }
}

impl<C: Connector> Deref for Checkout<C> {
    type Target = C::Server;
    fn deref(&self) -> &C::Server {
        &self.member().server
    }
}

impl<C: Connector> DerefMut for Checkout<C> {
    fn deref_mut(&mut self) -> &mut C::Server {
        match &mut self.out {
            Some((_, member)) => &mut member.server,
            None => unreachable!("a checkout gives its server away only when it ends"),
        }
    }
}

impl<C: Connector> Drop for Checkout<C> {
    fn drop(&mut self) {
        if let Some((ticket, member)) = self.out.take() {
            self.pool.rack.discard(ticket);
            self.pool.close(*member, "unclean server");
        }
    }
}
