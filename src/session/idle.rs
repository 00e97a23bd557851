//! A session without a server: it waits for the first message that needs one, and answers what needs none.

use super::departure::{self, Departure};
use super::upstream::invalid_type;
use crate::net::Pipe;
use crate::wire::backend::{Status, put_ready};
use crate::wire::{HEADER, Piece, Report, Scanner};

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The longest message (`max_packet_size`).
    pub(super) max_packet_size: u32,
    /// Whether a Query ends the session (`disable_pqexec`).
    pub(super) no_simple_queries: bool,
}

/// Where the client's stream stands while there is no server.
#[derive(Debug, Default)]
pub(super) struct Intake {
    scanner: Scanner,
    skip: Skip,
}

/// What is done with messages of a request that was refused.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Skip {
    /// There is none.
    #[default]
    No,
    /// Dropped until the Sync, which is answered.
    ToSync,
}

/// What the messages that are here call for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Nothing yet.
    More,
    /// A server.
    Server,
    /// The end.
    Farewell,
}

impl Intake {
    /// Looks at the messages that are here, up to the first that needs a server. Answers go to `down`.
    pub(super) fn examine(
        &mut self,
        up: &mut Pipe,
        down: &mut Pipe,
        rules: Rules,
    ) -> Result<Call, Departure> {
        loop {
            let piece = self
                .scanner
                .next(up.fresh(), rules.max_packet_size)
                .map_err(|error| departure::violation(error.to_string()))?;
            let (tag, taken, size) = match piece {
                Piece::Nothing | Piece::Rest(0) => return Ok(Call::More),
                Piece::Rest(count) => {
                    self.scanner.take_rest(count);
                    up.drop_fresh(count);
                    continue;
                }
                // A message that fits into a block takes no server before it is here as a whole.
                Piece::Head { tag, .. } if !up.is_stuffed() && is_known(tag) => return Ok(Call::More),
                Piece::Head { tag, body, size } => (tag, HEADER + body.len(), size),
                Piece::Whole { tag, body } => (tag, HEADER + body.len(), HEADER + body.len()),
            };
            match (tag, self.skip) {
                (b'X', _) => return Ok(Call::Farewell),
                (b'S', skip) => {
                    // Without a server there is no transaction, so the status is known.
                    down.insert(|out| put_ready(out, Status::Idle));
                    if skip == Skip::ToSync {
                        self.skip = Skip::No;
                    }
                }
                // Late COPY data, and a Flush of nothing: PostgreSQL answers neither.
                (b'd' | b'c' | b'f' | b'H', _) => {}
                (b'Q', _) if rules.no_simple_queries => return Err(departure::no_simple_queries()),
                (tag, Skip::ToSync) if needs_server(tag) => {}
                (tag, Skip::No) if needs_server(tag) => return Ok(Call::Server),
                (other, _) => return Err(invalid_type(other)),
            }
            self.scanner.take_head(size, taken);
            up.drop_fresh(taken);
        }
    }

    /// Answers the request that waits for a server with an error, and takes it out of the stream: a Query or a
    /// FunctionCall by itself, a batch up to its Sync. What the client sent behind it is served.
    pub(super) fn refuse(&mut self, up: &mut Pipe, down: &mut Pipe, report: &Report) {
        // A report of our own is never too long for a message.
        let _fits = down.insert(|out| report.put(out));
        let (tag, taken, size) = match self.scanner.next(up.fresh(), u32::MAX) {
            Ok(Piece::Head { tag, body, size }) => (tag, HEADER + body.len(), size),
            Ok(Piece::Whole { tag, body }) => (tag, HEADER + body.len(), HEADER + body.len()),
            _ => return,
        };
        if matches!(tag, b'Q' | b'F') {
            self.scanner.take_head(size, taken);
            up.drop_fresh(taken);
            down.insert(|out| put_ready(out, Status::Idle));
        } else {
            self.skip = Skip::ToSync;
        }
    }
}

fn needs_server(tag: u8) -> bool {
    matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F')
}

fn is_known(tag: u8) -> bool {
    needs_server(tag) || matches!(tag, b'X' | b'S' | b'd' | b'c' | b'f' | b'H')
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use std::task::{Context, Poll, Waker};

    struct Bench {
        intake: Intake,
        up: Pipe,
        down: Pipe,
    }

    impl Bench {
        fn new(messages: &[(u8, &[u8])]) -> Self {
            let mut bytes = BytesMut::new();
            for (tag, body) in messages {
                crate::wire::put_message(&mut bytes, *tag, |out| out.extend_from_slice(body)).unwrap();
            }
            let mut up = Pipe::default();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(matches!(up.poll_fill(&mut cx, &mut &bytes[..]), Poll::Ready(Ok(_))));
            Self { intake: Intake::default(), up, down: Pipe::default() }
        }

        fn examine(&mut self) -> Result<Call, Departure> {
            let rules = Rules { max_packet_size: u32::MAX, no_simple_queries: false };
            self.intake.examine(&mut self.up, &mut self.down, rules)
        }

        /// The types of the messages that the client gets.
        fn answers(&mut self) -> String {
            let mut out = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(matches!(self.down.poll_drain(&mut cx, &mut out), Poll::Ready(Ok(()))));
            let (mut rest, mut tags) = (&out[..], String::new());
            while let Ok(Piece::Whole { tag, body }) = Scanner::default().next(rest, u32::MAX) {
                tags.push(char::from(tag));
                rest = &rest[HEADER + body.len()..];
            }
            tags
        }
    }

    #[test]
    fn what_needs_no_server_is_answered_without_one() {
        let mut bench = Bench::new(&[(b'd', b"x"), (b'c', b""), (b'H', b""), (b'S', b""), (b'Q', b"a\0")]);
        assert_eq!(bench.examine().unwrap(), Call::Server);
        assert_eq!(bench.answers(), "Z");
        assert_eq!(bench.up.fresh()[0], b'Q');
    }

    #[test]
    fn a_refused_query_leaves_the_next_one_alone() {
        let mut bench = Bench::new(&[(b'Q', b"a\0"), (b'Q', b"b\0")]);
        assert_eq!(bench.examine().unwrap(), Call::Server);
        bench.intake.refuse(&mut bench.up, &mut bench.down, &Report::error("57014", "no"));
        assert_eq!(bench.answers(), "EZ");
        assert_eq!(&bench.up.fresh()[5..], b"b\0");
    }

    #[test]
    fn a_refused_batch_is_dropped_up_to_its_sync() {
        let mut bench =
            Bench::new(&[(b'P', b"\0"), (b'B', b"\0\0"), (b'Q', b"a\0"), (b'S', b""), (b'Q', b"b\0")]);
        assert_eq!(bench.examine().unwrap(), Call::Server);
        bench.intake.refuse(&mut bench.up, &mut bench.down, &Report::error("57014", "no"));
        assert_eq!(bench.examine().unwrap(), Call::Server);
        assert_eq!(bench.answers(), "EZ");
        assert_eq!(&bench.up.fresh()[5..], b"b\0");
    }

    #[test]
    fn what_no_client_sends_is_a_violation() {
        for tag in [b'p', b'?', 0] {
            assert!(Bench::new(&[(tag, b"")]).examine().is_err());
        }
        assert_eq!(Bench::new(&[(b'X', b"")]).examine().unwrap(), Call::Farewell);
    }
}
