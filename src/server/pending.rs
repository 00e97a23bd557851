//! What a server still owes: a queue with one entry for each message that was sent to it, popped as it answers.
//!
//! It mirrors what PostgreSQL does with the messages it reads: it answers in order; after an error of the extended
//! protocol it skips to the next Sync, a Query in between included; while it takes COPY data it ignores Sync and Flush.
//! Whoever miscounts here hands one client's rows to another.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

use super::statements::Statements;
use bytes::Bytes;
use std::collections::VecDeque;

/// Messages that may be under way to one server before its client is read no further. PostgreSQL keeps at most 8 kB of
/// answers to itself, which is less than 2,000 of the shortest, so waiting for the rest never waits for ever.
const LIMIT: usize = 16_384;

/// Entries of the queue that an idle server may keep room for.
const KEPT: usize = 64;

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
    /// Parse of a named statement.
    ParseNamed(Bytes),
    /// Parse of the unnamed statement: the whole message, unless it was too large to be kept.
    ParseUnnamed(Option<Bytes>),
    /// Bind.
    Bind,
    /// Describe.
    Describe,
    /// Execute.
    Execute,
    /// Close of a named statement.
    CloseNamed(Bytes),
    /// Close of the unnamed statement.
    CloseUnnamed,
    /// Close of a portal.
    ClosePortal,
    /// Flush. Nothing answers it.
    Flush,
    /// Sync.
    Sync,
    /// Query.
    Query,
    /// FunctionCall.
    FunctionCall,
    /// CopyData. Nothing answers it.
    CopyData,
    /// CopyDone or CopyFail.
    CopyEnd,
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
    queue: VecDeque<(Origin, Request)>,
    batch: Batch,
    copy: Option<CopyIn>,
}

impl Default for Pending {
    fn default() -> Self {
        Self { queue: VecDeque::new(), batch: Batch::Closed, copy: None }
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

    /// Whether messages wait for a Sync of their client.
    #[must_use]
    pub fn awaits_sync(&self) -> bool {
        self.batch != Batch::Closed
    }

    /// Whose message the server answers now; the client's when it answers none.
    #[must_use]
    pub fn audience(&self) -> Origin {
        self.queue.front().map_or(Origin::Client, |(origin, _)| *origin)
    }

    /// Gives back the room that a long pipeline took.
    pub fn shrink(&mut self) {
        if self.queue.capacity() > KEPT {
            self.queue.shrink_to(KEPT);
        }
    }

    /// Notes a message that goes to the server now.
    pub fn sent(&mut self, origin: Origin, request: Request) {
        if self.batch == Batch::Skipping && request != Request::Sync {
            return; // the server reads it and drops it
        }
        match request {
            Request::Flush | Request::CopyData => return,
            Request::Sync if self.takes_copy_data() => return,
            Request::CopyEnd => match self.copy {
                Some(CopyIn::Open) => self.copy = Some(CopyIn::Ended),
                // Ahead of a CopyInResponse that may still come; with nothing under way the server drops it.
                _ if self.queue.is_empty() => return,
                _ => {}
            },
            Request::Sync | Request::Query | Request::FunctionCall => self.batch = Batch::Closed,
            // What pgweir puts in front of a client's message is followed by that message.
            _ => self.batch = Batch::Open,
        }
        self.queue.push_back((origin, request));
    }

    /// Takes an answer, and applies what it says to the statements that the server holds. Tells whose answer it is.
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
    ) -> Result<Origin, Surprise> {
        let (origin, request) = self.queue.front().ok_or(Surprise(tag))?;
        let origin = *origin;
        match (tag, request) {
            (b'1', Request::ParseNamed(_) | Request::ParseUnnamed(_))
            | (b'2', Request::Bind)
            | (b'3', Request::CloseNamed(_) | Request::CloseUnnamed | Request::ClosePortal)
            | (b'n' | b'T', Request::Describe)
            | (b'I' | b's', Request::Execute)
            | (b'Z', Request::Sync | Request::Query | Request::FunctionCall) => self.finish(statements),
            (b'C', Request::Execute) => {
                statements.completed(body);
                self.end_copy();
                self.finish(statements);
            }
            (b'C', Request::Query) => {
                statements.completed(body);
                self.end_copy();
            }
            (b'G', Request::Execute | Request::Query) => self.begin_copy(),
            (b'E', _) => return Ok(self.failed(statements)),
            (b'D' | b'H' | b'W' | b'c' | b'd', Request::Execute | Request::Query)
            | (b'T' | b'I', Request::Query)
            | (b't', Request::Describe)
            | (b'V', Request::FunctionCall) => {}
            _ => return Err(Surprise(tag)),
        }
        Ok(origin)
    }

    /// The first message was answered to its end.
    fn finish(&mut self, statements: &mut Statements) {
        if let Some((_, request)) = self.queue.pop_front() {
            statements.succeeded(request);
        }
        self.drop_stray_copy_end();
    }

    /// CopyDone and CopyFail that no COPY took: PostgreSQL drops them without a word.
    fn drop_stray_copy_end(&mut self) {
        while self.copy.is_none() && matches!(self.queue.front(), Some((_, Request::CopyEnd))) {
            self.queue.pop_front();
        }
    }

    /// The server begins to read COPY data: Syncs that it finds before the end of the data owe nothing.
    fn begin_copy(&mut self) {
        let end = self.queue.iter().position(|(_, request)| *request == Request::CopyEnd);
        let within = end.unwrap_or(self.queue.len());
        let mut at = 0;
        self.queue.retain(|(_, request)| {
            at += 1;
            *request != Request::Sync || at > within
        });
        self.copy = Some(if end.is_some() { CopyIn::Ended } else { CopyIn::Open });
    }

    fn end_copy(&mut self) {
        if self.copy.take() == Some(CopyIn::Ended)
            && let Some(end) = self.queue.iter().position(|(_, request)| *request == Request::CopyEnd)
        {
            self.queue.remove(end);
        }
    }

    /// An ErrorResponse to the first message. A failed Query or Sync still gets its ReadyForQuery; a failed message of
    /// the extended protocol takes all that follow with it, up to the next Sync.
    fn failed(&mut self, statements: &mut Statements) -> Origin {
        self.end_copy();
        let Some((origin, request)) = self.queue.front() else { return Origin::Client };
        if matches!(request, Request::Sync | Request::Query | Request::FunctionCall) {
            return *origin;
        }
        statements.failed(request);
        match self.queue.iter().position(|(_, request)| *request == Request::Sync) {
            Some(sync) => drop(self.queue.drain(..sync)),
            None => {
                self.queue.clear();
                self.batch = Batch::Skipping;
            }
        }
        // Of the extended protocol pgweir sends only what a client's own message needs, so the failure is the client's.
        Origin::Client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays messages (upper case, as the protocol's tags; `c` ends a COPY) and answers (after a colon), and tells
    /// whether the queue is settled at the end.
    fn play(script: &str) -> Result<bool, Surprise> {
        let mut pending = Pending::default();
        let mut statements = Statements::default();
        for (turn, tags) in script.split_whitespace().flat_map(|word| word.split(':').enumerate()) {
            for tag in tags.bytes() {
                if turn == 0 {
                    pending.sent(Origin::Client, request(tag));
                } else {
                    pending.answered(tag, b"\0", &mut statements)?;
                }
            }
        }
        Ok(pending.is_settled())
    }

    fn request(tag: u8) -> Request {
        match tag {
            b'P' => Request::ParseUnnamed(None),
            b'B' => Request::Bind,
            b'D' => Request::Describe,
            b'E' => Request::Execute,
            b'C' => Request::ClosePortal,
            b'H' => Request::Flush,
            b'S' => Request::Sync,
            b'Q' => Request::Query,
            b'F' => Request::FunctionCall,
            b'd' => Request::CopyData,
            b'c' => Request::CopyEnd,
            other => panic!("{other}"),
        }
    }

    fn settles(script: &str) {
        assert_eq!(play(script), Ok(true), "{script}");
    }

    fn hangs_on(script: &str) {
        assert_eq!(play(script), Ok(false), "{script}");
    }

    #[test]
    fn every_request_is_settled_by_its_answers() {
        settles("Q:TDDCZ Q:IZ Q:EZ F:VZ F:EZ S:Z SSS:ZZZ");
        settles("PBDES:12TDCZ PDS:1tTZ PDS:1tnZ BES:2IZ BES:2sZ CS:3Z");
        hangs_on("QQ:TDCZ");
        hangs_on("SS:Z");
    }

    #[test]
    fn a_flushed_batch_is_not_settled_before_its_sync() {
        hangs_on("PDH:1tT");
        settles("PDH:1tT BES:2DCZ");
    }

    #[test]
    fn a_query_inside_a_batch_closes_it() {
        settles("PBEQ:12DCTDCZ");
    }

    #[test]
    fn an_error_skips_to_the_next_sync_even_if_that_comes_later() {
        settles("PBES:EZ");
        settles("PBESPBES:1EZ12DCZ");
        hangs_on("PBE:E");
        settles("PBE:E BE S:Z");
        // A Query that is skipped owes nothing.
        settles("BEQS:EZ");
        settles("BE:E Q S:Z");
    }

    #[test]
    fn an_error_of_a_sync_or_a_query_is_followed_by_its_ready() {
        settles("PBES:12CEZ");
        hangs_on("QQ:EZ");
    }

    #[test]
    fn a_copy_ignores_syncs_until_its_end() {
        settles("PBES:12G ddS c:C S:Z");
        settles("PBESdcS:12GCZ");
        settles("PBES:12G dSSSc:E S:Z");
        settles("Q:G ddc:CZ");
        settles("QdSc:GCZ");
        settles("Q:G c:C :TDC :G c:CZ");
        settles("Qc:G:CTDC:HdcCZ");
        hangs_on("Q:G dd");
    }

    #[test]
    fn late_copy_data_owes_nothing() {
        settles("Qdc:EZ");
        settles("Q:G d:EZ ddc");
        settles("Q:G d:EZ dc Q:TDCZ");
        settles("cQ:CZ");
        settles("QcQ:CZCZ");
    }

    #[test]
    fn what_nothing_asked_for_is_a_surprise() {
        assert_eq!(play("Q:CZZ"), Err(Surprise(b'Z')));
        assert_eq!(play("S:1"), Err(Surprise(b'1')));
        assert_eq!(play("PS:2"), Err(Surprise(b'2')));
        assert_eq!(play("Q:K"), Err(Surprise(b'K')));
    }
}
