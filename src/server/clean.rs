//! Bringing a server back to where another client may have it, or to its end.

use super::{Event, Health, Origin, Request, Server, ServerFault, Understanding};
use crate::net::Pipe;
use crate::wire::backend::Status;
use crate::wire::frontend::{self, TERMINATE};
use crate::wire::{Report, Severity, TooLong};
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long a server may take to be cleaned, or to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a result that nobody wants any more which are read to keep the connection; a longer one costs it.
const DRAIN: usize = 4 << 20;

/// Proof that a server may be handed to another client: its transaction is over, it owes nothing, every message to and
/// from it is whole, and nothing that belongs to a client is left in it. Only [`Server::settle`] gives it.
#[derive(Debug)]
#[must_use]
pub struct Clean(());

/// Why a server may not be handed on.
#[derive(Debug, thiserror::Error)]
pub enum Unclean {
    /// A transaction is open.
    #[error("a transaction is open")]
    Transaction,
    /// Answers are still to come, or a batch waits for its Sync.
    #[error("a request is unfinished")]
    Unfinished,
    /// A message was sent or received in part.
    #[error("a message is unfinished")]
    HalfMessage,
    /// It holds what belongs to one session.
    #[error("it holds prepared statements of its session")]
    State,
    /// It is not to be used again.
    #[error("{0}")]
    Spent(&'static str),
    /// It did not become clean in time.
    #[error("it did not become clean in time")]
    TooLate,
    /// A result goes on for longer than it is worth.
    #[error("too much of a result is left")]
    TooMuch,
    /// It failed.
    #[error(transparent)]
    Fault(#[from] ServerFault),
    /// It could not be told what to do.
    #[error("cannot write to the server: {0}")]
    Write(#[from] io::Error),
    /// A message of pgweir's own could not be built.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Why a query of pgweir's own came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server refused it, and is as it was before.
    #[error("{}", .0.message)]
    Refused(Report),
    /// The connection cannot be used any longer.
    #[error(transparent)]
    Unclean(#[from] Unclean),
}

impl From<QueryError> for Unclean {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(_) => Self::Spent("a query of the pooler's failed"),
            QueryError::Unclean(unclean) => unclean,
        }
    }
}

impl Server {
    /// Judges whether the server may be handed on. `upstream` is what its client has sent.
    ///
    /// # Errors
    ///
    /// [`Unclean`] says what stands against it.
    pub fn settle(&mut self, upstream: &Pipe) -> Result<Clean, Unclean> {
        let state = &mut self.state;
        if !state.pending.is_settled() || !state.pending.is_certain() {
            return Err(Unclean::Unfinished);
        }
        if state.transaction != Status::Idle {
            return Err(Unclean::Transaction);
        }
        let whole = self.sending.is_between() && self.hearing.is_between();
        if !whole || upstream.has_output() || !self.input.fresh().is_empty() {
            return Err(Unclean::HalfMessage);
        }
        if state.statements.keep_their_server() {
            return Err(Unclean::State);
        }
        match state.health {
            Health::Sound => {}
            Health::Spent(why) => return Err(Unclean::Spent(why)),
            Health::Ending | Health::Crashing => return Err(Unclean::Spent("it is about to end")),
        }
        state.pending.shrink();
        state.rerun.give_up();
        Ok(Clean(()))
    }

    /// Brings a server whose client has vanished back to a clean state: what runs is cancelled, a batch is closed, a
    /// COPY fails, the transaction is rolled back, and `reset` is run when it is not empty.
    ///
    /// Not cancel safe: a server whose recovery was dropped must be dropped too.
    ///
    /// # Errors
    ///
    /// [`Unclean`] when it is cheaper or safer to close it.
    pub async fn recover(&mut self, upstream: &Pipe, reset: &str) -> Result<Clean, Unclean> {
        if !self.sending.is_between() || upstream.has_output() {
            return Err(Unclean::HalfMessage);
        }
        // Nobody is there for whom the client's batch would be sent again.
        self.state.rerun.give_up();
        timeout(PATIENCE, self.recover_steps(reset)).await.map_err(|_| Unclean::TooLate)??;
        self.settle(upstream)
    }

    async fn recover_steps(&mut self, reset: &str) -> Result<(), Unclean> {
        if self.state.pending.owes_nothing() {
            self.finish_batch().await?;
        } else {
            let cancelling = self.cancel.begin();
            // Whatever becomes of the cancel: what counts is that the answers end, and the deadline sees to that.
            let (_cancelled, finished) = tokio::join!(cancelling.send(|| true), self.finish_batch());
            finished?;
        }
        if self.state.transaction != Status::Idle {
            self.query("ROLLBACK").await?;
        }
        if self.state.statements.keep_their_server() {
            self.query("DEALLOCATE ALL").await?;
            self.state.statements.clear_named();
        }
        if !reset.is_empty() {
            self.reset(reset).await?;
            self.state.statements.clear_named();
        }
        Ok(())
    }

    /// Runs the reset query. What it does to settings that are not reported nobody can tell, so they are reset in front
    /// of it: afterwards none of them is in force, whatever it is.
    async fn reset(&mut self, reset: &str) -> Result<(), QueryError> {
        let state = &mut self.state;
        let reported = state.applied.reported(&state.baseline);
        let undo = state.transition(&reported);
        state.apply(reported);
        // Without a round trip of its own, since this may happen behind each transaction.
        self.queries(undo.as_deref().into_iter().chain([reset]), Some(PATIENCE)).await
    }

    /// Ends what the client began, as soon as it shows what that is: a COPY fails (never succeeds), a batch gets its
    /// Sync, answers are read and dropped.
    async fn finish_batch(&mut self) -> Result<(), Unclean> {
        let mut room = DRAIN;
        loop {
            if self.state.pending.needs_more() {
                let closing = self.close_batch()?;
                self.stream.write_all(&closing).await?;
            }
            if self.state.pending.is_settled() {
                return Ok(());
            }
            self.hear_and_drop(&mut room, &mut |_, _| {}).await?;
        }
    }

    fn close_batch(&mut self) -> Result<BytesMut, TooLong> {
        let mut out = BytesMut::new();
        if self.state.pending.takes_copy_data() {
            frontend::put_copy_fail(&mut out, "client disconnected")?;
            self.state.sent(Origin::Pooler, Request::CopyEnd);
        }
        if self.state.pending.awaits_sync() {
            // A Sync alone would commit what its client never did.
            frontend::put_query(&mut out, "ROLLBACK")?;
            self.state.sent(Origin::Pooler, Request::Query);
            self.state.put_sync(&mut out);
        }
        Ok(out)
    }

    /// Runs a query of pgweir's own to its end.
    ///
    /// # Errors
    ///
    /// [`QueryError::Refused`] leaves the connection usable.
    pub async fn query(&mut self, sql: &str) -> Result<(), QueryError> {
        self.queries([sql].into_iter(), Some(PATIENCE)).await
    }

    /// The same with another limit than pgweir's own, or with none.
    ///
    /// # Errors
    ///
    /// [`QueryError::Refused`] leaves the connection usable.
    pub async fn query_within(&mut self, sql: &str, limit: Option<Duration>) -> Result<(), QueryError> {
        self.queries([sql].into_iter(), limit).await
    }

    async fn queries<'a>(
        &mut self,
        sql: impl Iterator<Item = &'a str>,
        limit: Option<Duration>,
    ) -> Result<(), QueryError> {
        let mut out = BytesMut::new();
        for sql in sql {
            frontend::put_query(&mut out, sql).map_err(Unclean::from)?;
            self.state.sent(Origin::Pooler, Request::Query);
        }
        let exchange = self.exchange(&out);
        let refusal = match limit {
            None => exchange.await,
            Some(limit) => timeout(limit, exchange).await.map_err(|_| Unclean::TooLate)?,
        };
        match refusal? {
            Some(report) => Err(QueryError::Refused(report)),
            None => Ok(()),
        }
    }

    /// Writes messages and reads until nothing is owed. The answers are dropped, but for the first error to a query of
    /// pgweir's own.
    async fn exchange(&mut self, messages: &[u8]) -> Result<Option<Report>, Unclean> {
        self.stream.write_all(messages).await?;
        let (mut room, mut refusal) = (DRAIN, None);
        while !self.state.pending.is_settled() {
            let note = &mut |event: Event<'_>, _: &Understanding| {
                if let Event::PoolerError(fields) = event {
                    refusal.get_or_insert_with(|| fields.to_report(Severity::Fatal));
                }
            };
            self.hear_and_drop(&mut room, note).await?;
        }
        Ok(refusal)
    }

    async fn hear_and_drop(
        &mut self,
        room: &mut usize,
        events: &mut impl FnMut(Event, &Understanding),
    ) -> Result<(), Unclean> {
        let count = poll_fn(|cx| self.poll_hear(cx, events)).await?;
        self.input.discard_output();
        *room = room.checked_sub(count).ok_or(Unclean::TooMuch)?;
        Ok(())
    }

    /// Ends the connection and waits, within bounds, until the backend is gone: only then its place under the limits
    /// is really free.
    pub async fn close(mut self) {
        let _either_way = timeout(PATIENCE, self.farewell()).await;
    }

    async fn farewell(&mut self) {
        if !self.state.pending.owes_nothing() {
            let _gone_or_not = self.cancel.begin().send(|| true).await;
        }
        if self.sending.is_between() {
            self.stream.try_write(&TERMINATE);
        }
        if self.stream.shutdown().await.is_ok() {
            let mut block = [0; 4096];
            while matches!(self.stream.read(&mut block).await, Ok(1..)) {}
        }
    }
}
