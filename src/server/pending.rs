//! What a server still owes: a queue with one entry for each message that was sent to it, popped as it answers.
//!
//! It mirrors what PostgreSQL does with the messages it reads: it answers in order; after an error of the extended
//! protocol it skips to the next Sync, a Query in between included; while it takes COPY data it ignores Sync and Flush.
//! Whoever miscounts here hands one client's rows to another.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

mod queue;

use super::interner::Statement;
use super::names::significant;
use super::rerun::Fault;
use super::shape::Shape;
use super::spelled::Spelling;
use super::statements::{Named, Statements};
use crate::wire::{Fields, Report, backend, sqlstate};
use bytes::Bytes;
use queue::Queue;
use std::sync::Arc;

/// Messages that may be under way to one server before its client is read no further. PostgreSQL keeps at most 8 kB of
/// answers to itself, which is less than 2,000 of the shortest, so waiting for the rest never waits for ever.
const LIMIT: usize = 16_384;

/// Who sent a message, and so who is to see the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client.
    Client,
    /// pgweir itself.
    Pooler,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Parse of a statement under its name on servers; for the client's name, or for the pooler's own use.
    ParseNamed {
        /// The client's name.
        name: Option<Bytes>,
        /// The statement.
        statement: Arc<Statement>,
    },
    /// Parse of a statement that the server holds. What went out is a Close of nobody, so that the answer comes in its
    /// place; the client gets it as a ParseComplete.
    ParseKnown(Bytes),
    /// Parse of a statement that the server may hold, under a name that is closed again at once.
    ParseProbe(Bytes),
    /// Parse of a name that the client has given already.
    ParseRefused {
        /// The client's name.
        name: Bytes,
        /// The statement that it stands for.
        id: u64,
    },
    /// Parse under the client's own name, which nobody looks at.
    ParseForeign,
    /// The same of a name that is too long to be kept: it exists on this server only.
    ParseHere,
    /// A message that is over a limit of pgweir's own. What went out is a Describe of nobody, so that the server refuses it
    /// in its place and skips what it would have skipped; the client gets this report as the reason.
    Refused(Box<Report>),
    /// Parse of the unnamed statement: the whole message, unless it was too large to be kept.
    ParseUnnamed(Option<Bytes>),
    /// Bind.
    Bind,
    /// Bind of a client's name.
    BindNamed {
        /// The client's name.
        name: Bytes,
        /// The statement.
        id: u64,
    },
    /// Describe of a portal of which nothing is known, or of the unnamed statement.
    Describe,
    /// Describe of the portal that this client's name was bound to.
    DescribePortal(Bytes),
    /// Describe of a client's name.
    DescribeNamed {
        /// The client's name.
        name: Bytes,
        /// The statement.
        id: u64,
    },
    /// Execute.
    Execute,
    /// Close of a client's name. The statement stays on the server for others.
    CloseNamed {
        /// The client's name.
        name: Bytes,
        /// What it stood for.
        was: Option<Named>,
    },
    /// Close of a statement on the server.
    Evict(u64),
    /// Close of a statement under its client's spelling.
    Unspell(Spelling),
    /// Close of the unnamed statement.
    CloseUnnamed,
    /// Close of a portal, or of nobody.
    Close,
    /// Flush. Nothing answers it.
    Flush,
    /// Sync.
    Sync,
    /// Query.
    Query,
    /// Query that may take all of a client's names away.
    Discard,
    /// DEALLOCATE, as a simple query, of a name that nothing is known of: SQL has given it in some other way.
    DeallocateHere,
    /// DEALLOCATE of a client's name, as a simple query.
    Deallocate(Bytes),
    /// PREPARE under a client's name, as a simple query.
    Prepare {
        /// The client's name.
        name: Bytes,
        /// The statement, which any server can make by the same text.
        statement: Arc<Statement>,
    },
    /// Execute of a PREPARE under a client's name.
    ExecutePrepare {
        /// The client's name.
        name: Bytes,
        /// The statement.
        statement: Arc<Statement>,
    },
    /// Execute of a DEALLOCATE of a client's name.
    ExecuteDeallocate(Bytes),
    /// A statement made under its client's spelling, by its PREPARE.
    Spell(Spelling),
    /// The same by a Parse.
    SpellParse(Spelling),
    /// The same by Execute of its PREPARE.
    SpellExecute(Spelling),
    /// A Query of pgweir's own that may fail.
    Tolerated,
    /// FunctionCall.
    FunctionCall,
    /// CopyData. Nothing answers it.
    CopyData,
    /// CopyDone or CopyFail.
    CopyEnd,
}

impl Request {
    /// Whether it is answered by a ReadyForQuery.
    fn ends_batch(&self) -> bool {
        matches!(self, Self::Sync | Self::FunctionCall) || self.is_query()
    }

    fn is_query(&self) -> bool {
        matches!(
            self,
            Self::Query
                | Self::Discard
                | Self::DeallocateHere
                | Self::Deallocate(_)
                | Self::Prepare { .. }
                | Self::Spell(_)
                | Self::Tolerated
        )
    }

    /// The client's name that means something else, should this succeed.
    fn decides_on(&self) -> Option<&Bytes> {
        match self {
            Self::ParseNamed { name, .. } => name.as_ref(),
            Self::ParseKnown(name) | Self::ParseProbe(name) | Self::CloseNamed { name, .. } => Some(name),
            Self::ParseRefused { name, .. }
            | Self::Prepare { name, .. }
            | Self::ExecutePrepare { name, .. } => Some(name),
            Self::Deallocate(name) | Self::ExecuteDeallocate(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it decides on names.
    fn is_naming(&self) -> bool {
        matches!(self, Self::Discard) || self.decides_on().is_some()
    }

    /// Whether the client's unnamed statement is another one, or none, once this has succeeded.
    pub(super) fn ends_unnamed(&self) -> bool {
        matches!(self, Self::ParseUnnamed(_) | Self::CloseUnnamed) || self.is_query()
    }

    /// The client's name that an error about it must show.
    fn client_name(&self) -> Option<&Bytes> {
        match self {
            Self::ParseNamed { name, .. } => name.as_ref(),
            Self::BindNamed { name, .. } | Self::DescribeNamed { name, .. } => Some(name),
            Self::ParseProbe(name) | Self::ParseRefused { name, .. } | Self::Deallocate(name) => Some(name),
            _ => None,
        }
    }
}

/// What becomes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The client gets it.
    Client,
    /// The client gets it as a message of this type.
    ClientAs(u8),
    /// The client gets it with its own name for the statement in it.
    ClientNamed(Box<Bytes>),
    /// The client gets this in its place.
    Report(Box<Report>),
    /// The client gets it in front of the next one, unless that is an error which it is not to see.
    ClientLater,
    /// It answers pgweir itself.
    Pooler,
    /// It answers pgweir itself, which does not mind that it is an error.
    Tolerated,
}

impl From<Origin> for Delivery {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Client => Self::Client,
            Origin::Pooler => Self::Pooler,
        }
    }
}

/// A message of the server that nothing asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unexpected message of type {:?}", char::from(*.0))]
pub struct Surprise(pub u8);

/// COPY data on its way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyIn {
    /// The server reads it, and ignores Sync and Flush.
    Open,
    /// Its end is in the queue.
    Ended,
}

/// How far the client's messages since the last Sync leave the server undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// A Sync or a Query closed it.
    Closed,
    /// Extended-protocol messages wait for their Sync.
    Open,
    /// One of them failed: the server skips all until a Sync that was not sent yet.
    Skipping,
}

/// The queue.
#[derive(Debug)]
pub struct Pending {
    queue: Queue,
    batch: Batch,
    copy: Option<CopyIn>,
    /// What the client has got of the batch that is being answered.
    told: Told,
    /// Answers to come that the client has got already.
    muted: usize,
    /// Whether Syncs that a COPY ignores can be told from those that it does not.
    syncs: Syncs,
}

/// What a client has got of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    /// Answers without a content: ParseComplete, BindComplete, CloseComplete.
    plain: usize,
    /// Whether there was anything else.
    more: bool,
}

/// A Sync that a COPY finds ahead of the end of its data is ignored. When the COPY fails, one that was read behind the
/// error was not: it ends the skipping. Which of the two it was, nothing tells: a cancel may come at any time, and which
/// of the data are bad is not known here. So after a COPY that has failed beside such a Sync, nobody else gets the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syncs {
    /// All are accounted for.
    Clear,
    /// The COPY that is under way ignores one if it does not fail.
    Ignored,
    /// That COPY has failed.
    Lost,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            queue: Queue::default(),
            batch: Batch::Closed,
            copy: None,
            told: Told::default(),
            muted: 0,
            syncs: Syncs::Clear,
        }
    }
}

impl Pending {
    /// Whether the server owes nothing, and nothing of the client's waits for a Sync.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.owes_nothing() && self.batch == Batch::Closed
    }

    /// Whether the server owes no answer.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.queue.is_empty() && self.copy.is_none()
    }

    /// Whether the server will not settle what it owes before its client says more: it waits for COPY data or for a Sync.
    #[must_use]
    pub fn needs_more(&self) -> bool {
        self.takes_copy_data() || (self.awaits_sync() && !self.queue.ends_a_batch())
    }

    /// Whether every ReadyForQuery that may still come is accounted for.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.syncs != Syncs::Lost
    }

    /// Whether so much is under way that the client should be read no further for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.len() >= LIMIT
    }

    /// Whether the server takes COPY data whose end was not sent.
    #[must_use]
    pub fn takes_copy_data(&self) -> bool {
        self.copy == Some(CopyIn::Open)
    }

    /// Whether the next message of a batch may be one that a COPY finds among its data: the server takes them, or an
    /// Execute is under way that may be a COPY.
    #[must_use]
    pub fn may_take_copy_data(&self) -> bool {
        self.takes_copy_data() || self.queue.has_execute()
    }

    /// Whether messages wait for a Sync of their client.
    #[must_use]
    pub fn awaits_sync(&self) -> bool {
        self.batch != Batch::Closed
    }

    /// Whether the server skips what the client sends now.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        self.batch == Batch::Skipping
    }

    /// Whether all that is under way belongs to the batch that is open now: then the transaction status of the last
    /// ReadyForQuery still holds.
    #[must_use]
    pub fn is_in_first_batch(&self) -> bool {
        !self.queue.ends_a_batch()
    }

    /// Whether it depends on answers that are still to come what a client's name, which is known so far or not, stands for
    /// behind an earlier batch. A server that has got the end of a batch answers it, so to wait for that never waits for
    /// ever.
    #[must_use]
    pub fn leaves_open(&self, name: &[u8], known: bool) -> bool {
        let name = significant(name);
        self.queue.has_naming()
            && !self.is_in_first_batch()
            && self.queue.iter().any(|(_, request)| match request.decides_on() {
                Some(decided) => significant(decided) == name,
                None => known && matches!(request, Request::Discard),
            })
    }

    /// Whether it depends on answers that are still to come what the client's unnamed statement is.
    #[must_use]
    pub fn leaves_unnamed_open(&self) -> bool {
        self.queue.iter().any(|(origin, request)| {
            *origin == Origin::Client
                && (request.ends_unnamed() || request.decides_on().is_some_and(Bytes::is_empty))
        })
    }

    /// So many answers of the next batch are known to the client already: it does not get them again.
    pub fn mute(&mut self, answers: usize) {
        self.muted = answers;
    }

    /// The client has got something that a second run of its batch might say otherwise.
    pub fn told_more(&mut self) {
        self.told.more = true;
    }

    /// Why the server refuses the first request, when that is nothing that the request would have met on a connection
    /// of its client's own, or an outdated plan, and its client has got nothing that would not hold in a second run.
    #[must_use]
    pub fn fault(&self, fields: Fields<'_>, body: &[u8]) -> Option<Fault> {
        let (_, request) = self.queue.front()?;
        let (name, id) = match (request, pooling_fault(fields)?) {
            (
                Request::BindNamed { name, id } | Request::DescribeNamed { name, id },
                PoolingFault::Outdated | PoolingFault::Missing,
            ) if *id != 0 => (name.clone(), Some(*id)),
            (Request::ParseNamed { name, .. }, PoolingFault::Existing) => {
                (name.clone().unwrap_or_default(), None)
            }
            _ => return None,
        };
        let synced = self.queue.iter().any(|(_, request)| matches!(request, Request::Sync));
        let fault = || Fault {
            name,
            statement: id,
            told: self.told.plain,
            error: Bytes::copy_from_slice(body),
            synced,
        };
        (!self.told.more).then(fault)
    }

    /// The first request was refused, and its client is not to know. Its Sync becomes one of pgweir's own.
    pub fn withhold(&mut self, fields: Fields<'_>, statements: &mut Statements) {
        let _not_for_the_client = self.failed(fields, statements);
        self.told = Told::default();
        if let Some((_, Request::Sync)) = self.queue.front() {
            self.queue.assign_first(Origin::Pooler);
        }
    }

    /// Whose message the server answers now; the client's when it answers none.
    #[must_use]
    pub fn audience(&self) -> Origin {
        self.queue.front().map_or(Origin::Client, |(origin, _)| *origin)
    }

    /// Whether the server answers a message of the client's now.
    #[must_use]
    pub fn answers_client(&self) -> bool {
        matches!(self.queue.front(), Some((Origin::Client, _)))
    }

    /// Who is to hear of a changed setting: pgweir alone, if it is its own query that changes settings. With any other message
    /// of its own the server only gets round to saying what the client's have changed.
    #[must_use]
    pub fn audience_of_settings(&self) -> Origin {
        match self.queue.front() {
            Some((Origin::Pooler, Request::Query)) => Origin::Pooler,
            _ => Origin::Client,
        }
    }

    /// Gives back the room that a long pipeline took.
    pub fn shrink(&mut self) {
        self.queue.shrink();
    }

    /// Notes a message that goes to the server now.
    pub fn sent(&mut self, origin: Origin, request: Request, statements: &mut Statements) {
        if self.batch == Batch::Skipping && !matches!(request, Request::Sync) {
            return; // the server reads it and drops it
        }
        match request {
            Request::Flush | Request::CopyData => return,
            Request::Sync if self.takes_copy_data() => {
                self.suspect_sync();
                return;
            }
            Request::CopyEnd => match self.copy {
                Some(CopyIn::Open) => self.copy = Some(CopyIn::Ended),
                // Ahead of a CopyInResponse that may still come; with nothing under way the server drops it.
                _ if self.queue.is_empty() => return,
                _ => {}
            },
            _ if request.ends_batch() => {
                self.batch = Batch::Closed;
                statements.end_batch();
            }
            // What pgweir puts in front of a client's message is followed by that message.
            _ => self.batch = Batch::Open,
        }
        self.queue.push(origin, request);
    }

    /// Takes an answer, and applies what it says to the statements that the server holds. Tells what becomes of it.
    ///
    /// Asynchronous messages (NoticeResponse, NotificationResponse, ParameterStatus) do not belong here.
    ///
    /// # Errors
    ///
    /// [`Surprise`] when nothing that was sent has such an answer: the stream is not understood any longer.
    pub fn answered(
        &mut self,
        tag: u8,
        body: &[u8],
        statements: &mut Statements,
    ) -> Result<Delivery, Surprise> {
        let (origin, request) = self.queue.front().ok_or(Surprise(tag))?;
        let mut delivery = Delivery::from(*origin);
        match (tag, request) {
            (b'3', Request::ParseKnown(_)) => {
                delivery = Delivery::ClientAs(b'1');
                self.finish(statements);
            }
            (
                b'1',
                Request::ParseNamed { .. }
                | Request::ParseProbe(_)
                | Request::ParseForeign
                | Request::ParseHere
                | Request::SpellParse(_)
                | Request::ParseRefused { .. }
                | Request::ParseUnnamed(_),
            )
            | (b'2', Request::Bind | Request::BindNamed { .. })
            | (
                b'3',
                Request::CloseNamed { .. }
                | Request::Evict(_)
                | Request::Unspell(_)
                | Request::CloseUnnamed
                | Request::Close,
            )
            | (b'n' | b'T', Request::Describe)
            | (
                b'I' | b's',
                Request::Execute | Request::ExecuteDeallocate(_) | Request::ExecutePrepare { .. },
            ) => self.finish(statements),
            (b'n' | b'T', Request::DescribeNamed { name, .. } | Request::DescribePortal(name)) => {
                statements.described(*origin, name, if tag == b'n' { Shape::NONE } else { Shape::of(body) });
                self.finish(statements);
            }
            (b'Z', request) if request.ends_batch() => {
                self.told = Told::default();
                self.finish(statements);
                return Ok(delivery);
            }
            (b'C', Request::Execute) => {
                self.completed(body, statements);
                self.finish(statements);
            }
            (b'C', Request::Deallocate(name)) => statements.deallocated(name),
            (b'C', Request::ExecuteDeallocate(name)) => {
                statements.deallocated(name);
                self.finish(statements);
            }
            (b'C', Request::ExecutePrepare { name, statement }) => {
                statements.prepared(name, statement);
                self.finish(statements);
            }
            (b'C', Request::SpellExecute(_)) => self.finish(statements),
            (b'C', Request::Prepare { name, statement }) => statements.prepared(name, statement),
            (b'C', Request::DeallocateHere) => statements.deallocated_local(),
            (b'C', Request::Query | Request::Discard) => self.completed(body, statements),
            // An outdated statement still tells its parameters, and then fails.
            (b't', Request::DescribeNamed { .. }) if *origin == Origin::Client => {
                return Ok(Delivery::ClientLater);
            }
            // What took all away in front of it did not take this.
            (b'C', Request::Spell(spelling)) => statements.spelled.insert(spelling.clone()),
            (b'C', Request::Tolerated) | (b't', Request::Describe | Request::DescribeNamed { .. }) => {}
            (b'G', Request::Execute | Request::Query | Request::Discard) => self.begin_copy(),
            (b'E', _) => return Ok(self.failed(Fields(body), statements)),
            (b'D' | b'H' | b'W' | b'c' | b'd', Request::Execute) | (b'V', Request::FunctionCall) => {}
            (b'D' | b'H' | b'W' | b'c' | b'd' | b'T' | b'I', request) if request.is_query() => {}
            _ => return Err(Surprise(tag)),
        }
        Ok(self.tell(tag, delivery))
    }

    /// Counts what the client gets, and leaves out what it has got before.
    fn tell(&mut self, tag: u8, delivery: Delivery) -> Delivery {
        if matches!(delivery, Delivery::Pooler | Delivery::Tolerated) {
            return delivery;
        }
        let is_plain = matches!(tag, b'1' | b'2' | b'3');
        self.told.plain += usize::from(is_plain);
        self.told.more |= !is_plain;
        if is_plain && self.muted > 0 {
            self.muted -= 1;
            return Delivery::Pooler;
        }
        delivery
    }

    /// The first message was answered to its end.
    fn finish(&mut self, statements: &mut Statements) {
        if let Some((origin, request)) = self.queue.pop() {
            statements.succeeded(origin, request);
        }
        self.drop_stray_copy_end();
    }

    /// A command of the first message is done.
    fn completed(&mut self, body: &[u8], statements: &mut Statements) {
        let later = self.queue.iter().filter_map(|(_, request)| match request {
            Request::ParseNamed { name, .. } => name.as_ref(),
            Request::ParseKnown(name) | Request::ParseProbe(name) => Some(name),
            _ => None,
        });
        let tag = backend::command_tag(body);
        statements.completed(tag, later);
        if matches!(tag, b"DEALLOCATE ALL" | b"DISCARD ALL") {
            self.forget_closed();
        }
        self.judge_syncs(true);
        self.end_copy();
    }

    /// All names were taken away. A Close behind it, should it be skipped, gives back none that was given before.
    fn forget_closed(&mut self) {
        let later = |request: &Request| match request {
            Request::ParseNamed { name, .. } => name.clone(),
            Request::ParseKnown(name) | Request::ParseProbe(name) => Some(name.clone()),
            _ => None,
        };
        let later: Vec<Bytes> = self.queue.iter().filter_map(|(_, request)| later(request)).collect();
        for request in self.queue.requests_mut() {
            if let Request::CloseNamed { name, was } = request
                && !later.contains(name)
            {
                *was = None;
            }
        }
    }

    /// CopyDone and CopyFail that no COPY took: PostgreSQL drops them without a word.
    fn drop_stray_copy_end(&mut self) {
        while self.copy.is_none() && matches!(self.queue.front(), Some((_, Request::CopyEnd))) {
            self.queue.pop();
        }
    }

    /// The server begins to read COPY data: Syncs that it finds before the end of the data owe nothing.
    fn begin_copy(&mut self) {
        let end = self.queue.iter().position(|(_, request)| matches!(request, Request::CopyEnd));
        let within = end.unwrap_or(self.queue.len());
        let mut at = 0;
        if self.queue.iter().take(within).any(|(_, request)| matches!(request, Request::Sync)) {
            self.suspect_sync();
        }
        self.queue.retain(|request| {
            at += 1;
            !matches!(request, Request::Sync) || at > within
        });
        self.copy = Some(if end.is_some() { CopyIn::Ended } else { CopyIn::Open });
        // A Sync that is ignored closed nothing: the implicit transaction lasts until one is not.
        let last = self.queue.iter().rev().find(|(_, request)| !matches!(request, Request::CopyEnd));
        if last.is_some_and(|(_, request)| !request.ends_batch()) {
            self.batch = Batch::Open;
        }
    }

    fn suspect_sync(&mut self) {
        if self.syncs != Syncs::Lost {
            self.syncs = Syncs::Ignored;
        }
    }

    /// A COPY, if one was under way, has ended well or not.
    fn judge_syncs(&mut self, well: bool) {
        self.syncs = match self.syncs {
            Syncs::Lost => Syncs::Lost,
            Syncs::Ignored if !well => Syncs::Lost,
            _ => Syncs::Clear,
        };
    }

    fn end_copy(&mut self) {
        if self.copy.take() == Some(CopyIn::Ended)
            && let Some(end) = self.queue.iter().position(|(_, request)| matches!(request, Request::CopyEnd))
        {
            self.queue.remove(end);
        }
    }

    /// An ErrorResponse to the first message. A failed Query or Sync still gets its ReadyForQuery; a failed message of
    /// the extended protocol takes all that follow with it, up to the next Sync.
    fn failed(&mut self, fields: Fields<'_>, statements: &mut Statements) -> Delivery {
        let code = fields.sqlstate();
        self.judge_syncs(false);
        self.end_copy();
        self.muted = 0;
        let Some((origin, request)) = self.queue.front() else { return Delivery::Client };
        // Of the extended protocol pgweir sends only what a client's own message needs, so a failure of that is the
        // client's.
        let delivery = match (origin, request) {
            (_, Request::Tolerated | Request::Spell(_)) => Delivery::Tolerated,
            // The client hears of it when it uses the statement. Without a Sync of pgweir's own behind it, this is that.
            (Origin::Pooler, Request::ParseUnnamed(_) | Request::SpellParse(_))
                if self.ends_with_own_sync() =>
            {
                Delivery::Tolerated
            }
            (Origin::Pooler, request) if request.ends_batch() => Delivery::Pooler,
            (_, Request::Refused(report)) if code == Some(sqlstate::UNDEFINED_STATEMENT) => {
                Delivery::Report(report.clone())
            }
            (_, request) if code.is_some_and(names_statement) => request
                .client_name()
                .map_or(Delivery::Client, |name| Delivery::ClientNamed(Box::new(name.clone()))),
            _ => Delivery::Client,
        };
        if request.ends_batch() {
            statements.failed(*origin, request, code);
            return delivery;
        }
        statements.failed(*origin, request, code);
        if let Request::BindNamed { id, .. } | Request::DescribeNamed { id, .. } = request {
            match pooling_fault(fields) {
                Some(PoolingFault::Outdated) => statements.outdated(*id),
                Some(PoolingFault::Missing) => statements.doubt(*id),
                Some(PoolingFault::Existing) | None => {}
            }
        }
        self.skip_to_sync(statements);
        delivery
    }

    /// Whether the Sync that ends the batch being answered is pgweir's.
    fn ends_with_own_sync(&self) -> bool {
        let sync = self.queue.iter().find(|(_, request)| matches!(request, Request::Sync));
        sync.is_some_and(|(origin, _)| *origin == Origin::Pooler)
    }

    fn skip_to_sync(&mut self, statements: &mut Statements) {
        let sync = self.queue.iter().position(|(_, request)| matches!(request, Request::Sync));
        if sync.is_none() {
            self.batch = Batch::Skipping;
        }
        let skipped = self.queue.drain(..sync.unwrap_or(self.queue.len()));
        for (_, request) in skipped.rev() {
            statements.take_back(request);
        }
    }
}

/// What a server may say of a statement that its client did not bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PoolingFault {
    /// "cached plan must not change result type": it would have other columns now.
    Outdated,
    /// It is not there.
    Missing,
    /// It is there already.
    Existing,
}

/// The function that reports it tells such an error from one that the statement itself brings about, in any language.
fn pooling_fault(fields: Fields<'_>) -> Option<PoolingFault> {
    match (fields.sqlstate()?, fields.get(b'R')?) {
        (sqlstate::FEATURE_NOT_SUPPORTED, b"RevalidateCachedQuery") => Some(PoolingFault::Outdated),
        (sqlstate::UNDEFINED_STATEMENT, b"FetchPreparedStatement") => Some(PoolingFault::Missing),
        (sqlstate::DUPLICATE_STATEMENT, b"StorePreparedStatement") => Some(PoolingFault::Existing),
        _ => None,
    }
}

/// Whether errors of this kind may show the name of a statement: it is unknown, known already, or bound with the wrong
/// number of parameters.
fn names_statement(code: &str) -> bool {
    matches!(
        code,
        sqlstate::UNDEFINED_STATEMENT | sqlstate::DUPLICATE_STATEMENT | sqlstate::PROTOCOL_VIOLATION
    )
}

#[cfg(test)]
mod tests;
