//! One backend connection, live and understood: what it still owes, its transaction, its statements, its settings.

mod ask;
mod cancel;
mod clean;
mod context;
mod interner;
mod login;
mod names;
mod parameters;
mod pending;
mod raw;
mod rerun;
mod settings;
mod shape;
mod spelled;
mod statements;
mod understanding;
mod usage;

pub use ask::Rows;
pub use cancel::{CancelHandle, Cancelling};
pub use clean::{Clean, QueryError, Unclean};
pub use context::{PlanContext, Steering, depends_on_the_hour, speaks_of_statements, steering};
pub use interner::{Full, Interner, InternerTotals, NOBODY, PREFIX, PROBE, Statement};
pub use login::{DialError, Target, dial};
pub use names::{Names, is_kept};
pub use parameters::Parameters;
pub use pending::{Delivery, Origin, Pending, Request, Surprise};
pub use raw::{Passed, pass_all};
pub use rerun::{Fault, Rerun};
pub use settings::{Settings, is_setting_name};
pub use shape::Shape;
pub use spelled::{Spelled, Spelling};
pub use statements::{Bound, Named, Presence, Statements, Unnamed};
pub use understanding::{Event, Health, Understanding};
pub use usage::{Usage, UsageSnapshot};

use crate::net::{Pipe, Standing, Stream};
use crate::wire::{HEADER, MAX_MESSAGE, Malformed, Piece, Scanner};
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// A backend connection.
#[derive(Debug)]
pub struct Server {
    stream: Stream,
    /// What the server sent and its client has not got yet.
    input: Pipe,
    /// Where the server's stream of messages stands.
    hearing: Scanner,
    /// A message that its client gets with the next one.
    later: BytesMut,
    /// Room to write messages in, kept between them.
    pub scratch: BytesMut,
    /// Whether the rest of the message that `hearing` is inside of goes to the client.
    rest: Origin,
    /// Where the stream of messages to the server stands.
    pub sending: Scanner,
    /// What is known of its state.
    pub state: Understanding,
    cancel: Arc<CancelHandle>,
    /// Whether the name of its host still has its address; `None` where there is no name.
    pub standing: Option<Standing>,
}

/// Why a server connection cannot be used any longer.
#[derive(Debug, thiserror::Error)]
pub enum ServerFault {
    /// It ended.
    #[error("server conn crashed?")]
    Closed,
    /// It failed.
    #[error("server conn crashed? {0}")]
    Io(#[from] io::Error),
    /// It sent what no server sends.
    #[error("protocol error of the server: {0}")]
    Malformed(#[from] Malformed),
    /// It sent what nothing asked for.
    #[error("protocol error of the server: {0}")]
    Surprise(#[from] Surprise),
}

impl Server {
    fn new(stream: Stream, input: Pipe, state: Understanding, cancel: CancelHandle) -> Self {
        Self {
            stream,
            input,
            hearing: Scanner::default(),
            later: BytesMut::new(),
            scratch: BytesMut::new(),
            rest: Origin::Client,
            sending: Scanner::default(),
            state,
            cancel: Arc::new(cancel),
            standing: None,
        }
    }

    /// How to cancel what it runs.
    #[must_use]
    pub fn cancel_handle(&self) -> &Arc<CancelHandle> {
        &self.cancel
    }

    /// Both ends of its connection: where the server is, then this side.
    #[must_use]
    pub fn ends(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        (self.stream.peer(), self.stream.local())
    }

    /// Whether the name of its host has its address no longer: then it is not to be used again.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.standing.as_ref().is_some_and(Standing::is_lost)
    }

    /// Whether an idle connection is still as it was when it became idle: nothing has come since, not even its end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.input.fresh().is_empty() && !self.stream.has_news()
    }

    /// Whether the server has sent something that its client has not got yet.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.input.has_output()
    }

    /// Whether the next byte for the client would begin a message.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.hearing.is_between()
    }

    /// Reads what the server sent, once, and understands it. Messages for the client become output; what answers
    /// pgweir's own messages is taken out. Ready when something was read.
    ///
    /// Call it only while there is room: see [`Server::has_room`].
    ///
    /// # Errors
    ///
    /// [`ServerFault`]; what was understood before it is output still.
    pub fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut impl FnMut(Event, &Understanding),
    ) -> Poll<Result<usize, ServerFault>> {
        let count = match self.input.poll_fill(cx, &mut self.stream) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(ServerFault::Closed)),
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
        };
        Poll::Ready(self.digest(events).map(|()| count))
    }

    /// Whether there is room to read into. While there is none the server is not read: that is the backpressure.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.input.has_room()
    }

    /// Judges all messages that are here.
    fn digest(&mut self, events: &mut impl FnMut(Event, &Understanding)) -> Result<(), ServerFault> {
        loop {
            let (taken, delivery) = match self.hearing.next(self.input.fresh(), MAX_MESSAGE)? {
                Piece::Nothing | Piece::Rest(0) => return Ok(()),
                Piece::Rest(count) => {
                    self.hearing.take_rest(count);
                    (count, Delivery::from(self.rest))
                }
                // A row is the client's or pgweir's, and there are many.
                Piece::Whole { tag: b'D', body }
                    if self.later.is_empty() && self.state.pending.answers_client() =>
                {
                    self.input.pass(HEADER + body.len());
                    continue;
                }
                Piece::Whole { tag, body } => {
                    let delivery = self.state.hear(tag, body, events)?;
                    (HEADER + body.len(), delivery)
                }
                Piece::Head { tag, .. } if Understanding::wants_whole(tag) && !self.input.is_stuffed() => {
                    return Ok(());
                }
                Piece::Head { tag, body, size } => {
                    let taken = HEADER + body.len();
                    // Only a message that is here as a whole can be changed.
                    self.rest = match self.state.hear_head(tag, body, events)? {
                        Delivery::Pooler | Delivery::Tolerated => Origin::Pooler,
                        _ => Origin::Client,
                    };
                    self.hearing.take_head(size, taken);
                    (taken, Delivery::from(self.rest))
                }
            };
            if matches!(delivery, Delivery::Client) && self.later.is_empty() {
                self.input.pass(taken);
            } else {
                self.deliver(taken, &delivery);
            }
        }
    }

    fn deliver(&mut self, taken: usize, delivery: &Delivery) {
        if !self.later.is_empty() {
            let later = std::mem::take(&mut self.later);
            if !matches!(delivery, Delivery::Pooler | Delivery::Tolerated) {
                self.input.insert(|out| out.extend_from_slice(&later));
            }
        }
        match delivery {
            Delivery::ClientLater => {
                self.later.extend_from_slice(self.input.fresh().get(..taken).unwrap_or_default());
                self.input.drop_fresh(taken);
            }
            Delivery::Client => self.input.pass(taken),
            Delivery::ClientAs(tag) => self.input.pass_as(taken, *tag),
            Delivery::ClientNamed(name) => {
                let body = self.input.fresh().get(HEADER..taken).unwrap_or_default();
                let renamed = interner::with_client_name(body, name);
                self.input.drop_fresh(taken);
                // It is as long as the message it replaces, give or take a name, and that one fitted into a block.
                let _fits = self
                    .input
                    .insert(|out| crate::wire::put_message(out, b'E', |out| out.extend_from_slice(&renamed)));
            }
            Delivery::Report(report) => {
                self.input.drop_fresh(taken);
                // A report of our own is never too long for a message.
                let _fits = self.input.insert(|out| report.put(out));
            }
            Delivery::Pooler | Delivery::Tolerated => self.input.drop_fresh(taken),
        }
    }

    /// Writes to the client what the server sent it.
    ///
    /// # Errors
    ///
    /// Those of the client's stream.
    pub fn poll_deliver<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut W,
    ) -> Poll<io::Result<()>> {
        self.input.poll_drain(cx, client)
    }

    /// Writes a client's messages, and what was put in front of them, to the server.
    ///
    /// # Errors
    ///
    /// Those of the server's stream.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, upstream: &mut Pipe) -> Poll<io::Result<()>> {
        upstream.poll_drain(cx, &mut self.stream)
    }

    /// Takes over what a client still has to get from before.
    pub fn put_in_front(&mut self, undelivered: Pipe) {
        self.input = undelivered;
    }

    /// Gives up what its client still has to get, so that the server can go while a slow client reads.
    pub fn take_undelivered(&mut self) -> Pipe {
        std::mem::take(&mut self.input)
    }

    /// Puts a message of pgweir's own behind what its client gets.
    pub fn tell_client<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        self.input.insert(write)
    }

    /// Notes on the cancel handle whether a cancel would hit something.
    pub fn note_busy(&self) {
        self.cancel.set_busy(!self.state.pending.owes_nothing());
    }
}
