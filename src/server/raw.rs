//! A server of which nothing is understood but where its messages begin and end: replication speaks another dialect.

use super::{Server, ServerFault};
use crate::net::Pipe;
use crate::wire::{HEADER, MAX_MESSAGE, Malformed, Piece, Scanner};
use std::task::{Context, Poll, ready};

/// What has gone past in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes.
    pub bytes: usize,
    /// ReadyForQuery messages of a server.
    pub ready: u64,
    /// Those that say that no transaction is open.
    pub idle: u64,
    /// The type of the last message that began.
    pub last: Option<u8>,
}

impl Server {
    /// Reads what the server sent, once, and lets all of it pass to the client. Call it only while
    /// [there is room](Server::has_room).
    ///
    /// # Errors
    ///
    /// [`ServerFault`]; what was read before it is output still.
    pub fn poll_hear_raw(&mut self, cx: &mut Context<'_>) -> Poll<Result<Passed, ServerFault>> {
        let bytes = match ready!(self.input.poll_fill(cx, &mut self.stream)) {
            Ok(0) => return Poll::Ready(Err(ServerFault::Closed)),
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        let mut passed = Passed { bytes, ..Passed::default() };
        let result = pass_all(&mut self.hearing, &mut self.input, MAX_MESSAGE, |tag, body| {
            passed.ready += u64::from(tag == b'Z');
            passed.idle += u64::from(tag == b'Z' && body == b"I");
            passed.last = Some(tag);
        });
        Poll::Ready(result.map(|()| passed).map_err(ServerFault::from))
    }
}

/// Lets all messages pass whose headers are here, as far as they are here; `on_message` is told the type of each that begins, and as
/// much of its body as is here.
///
/// # Errors
///
/// [`Malformed`] when a length word is impossible or over the limit.
pub fn pass_all(
    scanner: &mut Scanner,
    pipe: &mut Pipe,
    limit: u32,
    mut on_message: impl FnMut(u8, &[u8]),
) -> Result<(), Malformed> {
    loop {
        match scanner.next(pipe.fresh(), limit)? {
            Piece::Nothing | Piece::Rest(0) => return Ok(()),
            Piece::Rest(count) => {
                scanner.take_rest(count);
                pipe.pass(count);
            }
            Piece::Whole { tag, body } => {
                let size = HEADER + body.len();
                on_message(tag, body);
                pipe.pass(size);
            }
            Piece::Head { tag, body, size } => {
                let taken = HEADER + body.len();
                on_message(tag, body);
                scanner.take_head(size, taken);
                pipe.pass(taken);
            }
        }
    }
}
