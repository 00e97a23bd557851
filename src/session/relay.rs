//! A client and its server joined: bytes go both ways in one task, without a copy and without a queue. A side that
//! cannot be written to is not read for, so a slow reader holds back its sender, not memory.

use super::again;
use super::client::Order;
use super::departure::{self, Departure};
use super::link::{Farewell, Link};
use super::run::Session;
use super::upstream;
use crate::config::PoolMode;
use crate::server::{Event, Health, ServerFault, Unnamed};
use crate::stats::{ClientRecord, micros, unix_micros_at};
use crate::wire::backend::Status;
use crate::wire::{Report, Severity, sqlstate};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The end of a session in the middle of its work with a server.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) departure: Departure,
    pub(super) fate: Fate,
}

/// What becomes of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is cleaned and goes back, if that is cheap.
    Recover,
    /// It is closed.
    Close,
}

/// Unless something is wrong with the server itself, it can be cleaned.
impl From<Departure> for Parting {
    fn from(departure: Departure) -> Self {
        Self { departure, fate: Fate::Recover }
    }
}

/// A limit that a session has run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Query,
    Transaction,
    IdleTransaction,
    Idle,
}

impl Session {
    /// Relays until the pool may have the server back. Ready with `Ok` then, and with `Err` at the end of the session.
    pub(super) fn poll_relay(
        &mut self,
        link: &mut Link,
        mode: PoolMode,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Parting>> {
        loop {
            self.heed_orders_to_end()?;
            if mode == PoolMode::Session && self.client.has_order(Order::Reconsider) {
                self.reconsider(link)?;
            }
            let pulled = self.pull(link, cx)?;
            // What the client has sent may have waited for what has just come. It is its turn, not another client's: that
            // one could bring about the same wait, and so on for ever.
            if pulled && self.up.fresh().is_empty() && is_over(link, mode, &self.up)? {
                return Poll::Ready(Ok(()));
            }
            let pushed = self.push(link, cx)?;
            if is_over(link, mode, &self.up)? {
                return Poll::Ready(Ok(()));
            }
            let was_full = !link.server.has_room();
            if let Poll::Ready(Err(_)) = link.server.poll_deliver(cx, &mut self.stream) {
                return Poll::Ready(Err(Departure::Vanished("client unexpected eof").into()));
            }
            // A server that was not read for want of room has to be asked again, or nothing would wake this task for it.
            let room_was_made = was_full && link.server.has_room();
            if pushed || pulled || room_was_made {
                continue;
            }
            let (deadline, cut) = self.deadline(link).unzip();
            if self.timer.poll(cx, deadline).is_ready()
                && let Some(cut) = cut
            {
                return Poll::Ready(Err(cut.departure().into()));
            }
            return Poll::Pending;
        }
    }

    /// Cuts a session whose server is to be replaced, once it is outside of a transaction (`server_fast_close`).
    fn reconsider(&self, link: &Link) -> Result<(), Parting> {
        let cuts = self.pool.with_settings(|settings| settings.care.fast_close);
        if !cuts || !self.pool.is_to_be_replaced(link.server.record()) {
            self.client.take_order(Order::Reconsider);
            return Ok(());
        }
        let state = &link.server.state;
        let is_outside =
            state.pending.is_settled() && state.transaction == Status::Idle && !self.up.has_output();
        if is_outside { Err(departure::reconfigured().into()) } else { Ok(()) }
    }

    /// Moves bytes from the client to the server; tells whether it is worth another turn.
    fn push(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<bool, Parting> {
        if link.server.state.rerun.is_due() {
            again::advance(link, &mut self.up, &self.interner)?;
        }
        if !link.server.state.rerun.is_due() {
            let rules = self.rules();
            upstream::forward(link, &mut self.up, &self.interner, rules)?;
        }
        self.log_refusal(link);
        link.note_request(&self.client.record);
        let had_output = self.up.has_output();
        match link.server.poll_send(cx, &mut self.up) {
            // The server is gone, but it may have said why: that is read before anything else is done.
            Poll::Ready(Err(_)) => self.up.discard_output(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let room_was_made = had_output && !self.up.has_output() && !self.up.fresh().is_empty();
        let reads = link.farewell == Farewell::No && !link.server.state.pending.is_full();
        let read = reads && self.poll_read(cx)?.is_ready();
        Ok(read || room_was_made)
    }

    /// Moves bytes from the server towards the client; tells whether it is worth another turn.
    fn pull(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<bool, Parting> {
        if !link.server.has_room() {
            return Ok(false);
        }
        let (mut requests, mut transactions, mut refusal) = (0, 0, None);
        let heard = link.server.poll_hear(cx, &mut |event, state| match event {
            Event::Ready => {
                requests += 1;
                transactions += u64::from(state.transaction == Status::Idle);
            }
            Event::PoolerError(fields) => refusal = Some(fields.to_report(Severity::Fatal)),
            Event::Error(_) => {}
        });
        let traffic = &self.pool.traffic;
        if requests > 0 {
            traffic.add(|t| &t.queries, requests);
            traffic.add(|t| &t.transactions, transactions);
        }
        if let Some(report) = refusal {
            // What was put in front did not happen, but what came behind it did: nothing of it may be relied on.
            return Err(Parting { departure: report.into(), fate: Fate::Close });
        }
        match heard {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(count)) => {
                traffic.add(|t| &t.sent, u64::try_from(count).unwrap_or(u64::MAX));
                if let Some(times) = link.note_answer() {
                    traffic.add(|t| &t.query_micros, times.query);
                    traffic.add(|t| &t.transaction_micros, times.transaction);
                }
                Ok(true)
            }
            Poll::Ready(Err(fault)) => Err(lost(link, &fault)),
        }
    }

    /// The next limit that this session will run into, if it goes on as it is.
    fn deadline(&self, link: &mut Link) -> Option<(Instant, Cut)> {
        if !self.limits.has_any_time() {
            return None;
        }
        let at =
            |since: Option<Instant>, limit: Option<std::time::Duration>, cut| Some((since? + limit?, cut));
        let limits = &self.limits;
        let quiet = link.request.is_none().then(|| *link.quiet.get_or_insert_with(Instant::now));
        let idle = if link.transaction.is_some() {
            at(quiet, limits.idle_transaction(), Cut::IdleTransaction)
        } else {
            at(quiet, limits.idle(), Cut::Idle)
        };
        [
            at(link.request, limits.query(), Cut::Query),
            at(link.transaction, limits.transaction(), Cut::Transaction),
            idle,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}

/// Whether the pool may have the server back; an error ends the session.
fn is_over(link: &Link, mode: PoolMode, up: &crate::net::Pipe) -> Result<bool, Parting> {
    let state = &link.server.state;
    if state.rerun.is_due() {
        return Ok(false);
    }
    // Who has said goodbye sends no Sync and no COPY data any more: what needs them comes to nothing.
    if link.farewell == Farewell::Said && state.pending.needs_more() {
        return Err(Departure::Terminated.into());
    }
    if !state.pending.owes_nothing() {
        return Ok(false);
    }
    if link.farewell == Farewell::Said {
        return Err(Departure::Terminated.into());
    }
    if mode == PoolMode::Statement && state.transaction != Status::Idle {
        let text = "transaction blocks not allowed in statement pooling mode";
        return Err(departure::violation(text).into());
    }
    let ends = matches!(state.health, Health::Ending | Health::Crashing);
    let stays = state.statements.keep_their_server()
        || (state.statements.unnamed == Unnamed::Here && state.statements.unnamed_is_clients);
    Ok(mode != PoolMode::Session
        && state.pending.is_settled()
        && state.transaction == Status::Idle
        && link.server.sending.is_between()
        && link.server.is_between_messages()
        && !up.has_output()
        && !stays
        && !ends)
}

fn lost(link: &Link, fault: &ServerFault) -> Parting {
    let state = &link.server.state;
    let undone = if !state.pending.owes_nothing() {
        "The server connection was lost while a request was under way: whether it was carried out is not known."
    } else if state.transaction != Status::Idle {
        "The server connection was lost in a transaction, which is rolled back."
    } else {
        "The server connection was lost."
    };
    Parting { departure: departure::server_lost(fault, &state.health, undone), fate: Fate::Close }
}

/// How long a request and its transaction took, in microseconds; zero for what is not over.
pub(super) struct Times {
    query: u64,
    transaction: u64,
}

impl Link {
    /// A request is under way now, if one is; then the clock of its transaction runs too.
    fn note_request(&mut self, client: &ClientRecord) {
        if self.request.is_some() || self.server.state.pending.owes_nothing() {
            return;
        }
        let now = Instant::now();
        self.request = Some(now);
        self.transaction.get_or_insert(now);
        self.server.note_busy();
        let wall = unix_micros_at(now);
        client.requested_at(wall);
        self.server.record().requested_at(wall);
    }

    /// The server has answered something: it may owe nothing any longer.
    pub(super) fn note_answer(&mut self) -> Option<Times> {
        if !self.server.state.pending.owes_nothing() || self.server.state.rerun.is_due() {
            return None;
        }
        let since = self.request.take()?;
        let now = Instant::now();
        self.quiet = Some(now);
        self.server.note_busy();
        let over = self.server.state.transaction == Status::Idle && self.server.state.pending.is_settled();
        let began = if over { self.transaction.take() } else { None };
        let elapsed = |since: Instant| micros(now.duration_since(since));
        let query = elapsed(since);
        // Most transactions are of one request.
        let transaction = began.map_or(0, |began| if began == since { query } else { elapsed(began) });
        Some(Times { query, transaction })
    }
}

impl Cut {
    fn departure(self) -> Departure {
        let (code, text) = match self {
            Self::Query => (sqlstate::QUERY_CANCELED, "query_timeout"),
            Self::Transaction => (sqlstate::TRANSACTION_TIMEOUT, "transaction timeout"),
            Self::IdleTransaction => (sqlstate::IDLE_IN_TRANSACTION_TIMEOUT, "idle transaction timeout"),
            Self::Idle => (sqlstate::IDLE_SESSION_TIMEOUT, "client_idle_timeout"),
        };
        Report::fatal(code, text).into()
    }
}
