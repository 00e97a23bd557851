//! A replication connection: a client and a server of its own, from the login to the end. Nothing that is said is judged;
//! either side may speak at any time, as COPY BOTH wants it, and when one ends so does the other.

use super::client::{Order, Registration};
use super::departure::{self, Departure};
use super::diary::Subject;
use super::{FAREWELL, Service};
use crate::config::Config;
use crate::net::{Dialogue, Pipe, Stream};
use crate::pool::{Dedicated, ServerPool};
use crate::server::{Health, ServerFault, pass_all};
use crate::stats::{ClientState, ServerState, unix_micros};
use crate::wire::{Report, sqlstate};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Terminate.
const TERMINATE: u8 = b'X';

/// A replication client and its server.
pub(super) struct Replicating {
    stream: Stream,
    /// From the client.
    up: Pipe,
    server: Dedicated,
    client: Registration,
    pool: Arc<ServerPool>,
    /// `max_packet_size`.
    limit: u32,
    /// Whether the client has said goodbye.
    terminated: bool,
    /// The last type of message that the server sent.
    last: Option<u8>,
}

/// What becomes of a login for replication.
pub(super) struct Enrolled {
    pub(super) registration: Registration,
    pub(super) pool: Arc<ServerPool>,
    pub(super) server: Dedicated,
    pub(super) config: Arc<Config>,
}

impl Replicating {
    pub(super) fn new(dialogue: Dialogue, enrolled: Enrolled) -> Self {
        let Enrolled { registration, pool, server, config } = enrolled;
        Self {
            stream: dialogue.stream,
            up: dialogue.input,
            server,
            client: registration,
            pool,
            limit: config.limits.max_packet_size,
            terminated: false,
            last: None,
        }
    }
}

/// Lives it to its end.
pub(super) async fn run(service: Arc<Service>, mut session: Box<Replicating>) {
    session.begin();
    let departure = poll_fn(|cx| session.poll(cx)).await;
    session.client.unlink();
    session.end(&service, departure).await;
}

impl Replicating {
    fn begin(&self) {
        let record = &self.client.record;
        record.enter(ClientState::Active, Some(self.server.record().id));
        self.server.record().enter(ServerState::Active, Some(record.id));
        // The server is nobody else's, so a cancel can hit nobody else.
        self.server.cancel_handle().set_busy(true);
        self.client.link(self.server.cancel_handle());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        self.client.listen(cx.waker());
        loop {
            if let Some(departure) = self.ordered_away() {
                return Poll::Ready(departure);
            }
            let moved = self.down(cx).and_then(|down| Ok(self.up(cx)? || down));
            match moved {
                Err(departure) => return Poll::Ready(departure),
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
            }
        }
    }

    fn ordered_away(&self) -> Option<Departure> {
        let is_ordered = |order| self.client.has_order(order);
        if is_ordered(Order::Kill) {
            Some(departure::killed())
        } else if is_ordered(Order::Remove) {
            Some(departure::removed())
        } else if is_ordered(Order::Leave) {
            // There is no end of a transaction to wait for, and a standby goes on where it was.
            Some(Report::fatal(sqlstate::ADMIN_SHUTDOWN, "server shutting down").into())
        } else {
            None
        }
    }

    /// Moves bytes from the server to the client; tells whether it is worth another turn.
    fn down(&mut self, cx: &mut Context<'_>) -> Result<bool, Departure> {
        let had_room = self.server.has_room();
        let heard = if had_room { self.server.poll_hear_raw(cx) } else { Poll::Pending };
        let read = match heard {
            Poll::Pending => false,
            Poll::Ready(Ok(passed)) => {
                let traffic = &self.pool.traffic;
                traffic.add(|t| &t.sent, u64::try_from(passed.bytes).unwrap_or(u64::MAX));
                traffic.add(|t| &t.queries, passed.ready);
                traffic.add(|t| &t.transactions, passed.idle);
                self.last = passed.last.or(self.last);
                true
            }
            Poll::Ready(Err(fault)) => return Err(self.lost(&fault)),
        };
        if let Poll::Ready(Err(_)) = self.server.poll_deliver(cx, &mut self.stream) {
            return Err(Departure::Vanished("client unexpected eof"));
        }
        Ok(read || (!had_room && self.server.has_room()))
    }

    /// Moves bytes from the client to the server; tells whether it is worth another turn.
    fn up(&mut self, cx: &mut Context<'_>) -> Result<bool, Departure> {
        let had_room = self.up.has_room();
        let mut read = false;
        if had_room && !self.terminated {
            match self.up.poll_fill(cx, &mut self.stream) {
                Poll::Pending => {}
                Poll::Ready(Ok(count @ 1..)) => {
                    self.pool.traffic.add(|t| &t.received, u64::try_from(count).unwrap_or(u64::MAX));
                    self.client.record.requested_at(unix_micros());
                    read = true;
                }
                Poll::Ready(_) => return Err(Departure::Vanished("client unexpected eof")),
            }
        }
        let terminated = &mut self.terminated;
        let passed = pass_all(&mut self.server.sending, &mut self.up, self.limit, |tag, _| {
            *terminated |= tag == TERMINATE;
        });
        passed.map_err(|error| departure::violation(error.to_string()))?;
        if let Poll::Ready(Err(_)) = self.server.poll_send(cx, &mut self.up) {
            // The server is gone, but it may have said why: that is read before anything else is done.
            self.up.discard_output();
        }
        if self.terminated && !self.up.has_output() {
            return Err(Departure::Terminated);
        }
        Ok(read || (!had_room && self.up.has_room()))
    }

    /// The server is gone. When its own last words were an error, nothing is added to them.
    fn lost(&self, fault: &ServerFault) -> Departure {
        if self.last == Some(b'E') {
            return Departure::ServerEnded;
        }
        departure::server_lost(fault, &Health::Sound, "The server connection was lost.")
    }

    /// Tells the client why, as far as it listens, and logs it. The server ends with this.
    async fn end(mut self: Box<Self>, service: &Service, departure: Departure) {
        let config = service.config.load_full();
        let between = self.server.is_between_messages();
        let mut down = self.server.take_undelivered();
        if let Departure::Dismissed(report) = &departure {
            self.pool.traffic.count(|t| &t.errors);
            service.errors.count(&report.message);
            if between {
                // A report of our own is never too long for a message.
                let _fits = down.insert(|out| report.put(out));
            }
        }
        Subject::of(&self.client.record).closing(&departure, &config.log);
        drop(self.server);
        if !matches!(departure, Departure::Vanished(_)) && down.has_output() {
            let stream = &mut self.stream;
            let _heard_or_not = timeout(FAREWELL, poll_fn(|cx| down.poll_drain(cx, stream))).await;
        }
        if let Departure::Dismissed(_) | Departure::ServerEnded = departure {
            let _closed_or_gone = timeout(FAREWELL, self.stream.shutdown()).await;
        }
    }
}
