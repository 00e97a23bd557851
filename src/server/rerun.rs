//! A batch that can be sent once more: the client's messages since the last ReadyForQuery, kept as they came.
//!
//! A server that refuses a statement because its plan is outdated, or because something dropped it behind everybody's
//! back, has done nothing yet. Outside a transaction block, and as long as the client has seen nothing that a second run
//! could contradict, the statement is prepared afresh and the batch goes out again; the client never knows.

use crate::net::BLOCK;
use crate::wire::frontend::{Target, bind_statement, parse_name, target};
use crate::wire::{HEADER, MAX_MESSAGE, Piece, Scanner};
use bytes::{Bytes, BytesMut};

/// Runs of one batch. A statement that was just prepared, in the same transaction, holds its tables locked: if that is
/// refused again, something else is wrong.
const RUNS: u8 = 3;

/// Where it stands.
#[derive(Debug, Default)]
enum Phase {
    /// Nothing is kept, or not all.
    #[default]
    Off,
    /// The batch is open.
    Open,
    /// Its Sync went out.
    Closed,
    /// The server refused it, and the client does not know.
    Refused(Fault),
    /// Before it is sent again, the server is asked what the statement gives now.
    Asking(Fault),
}

/// Why a batch was refused.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The client's name for the statement.
    pub name: Bytes,
    /// The statement's number; `None` where its Parse was refused.
    pub statement: Option<u64>,
    /// Answers that the client has got. None of them says anything that a second run would say otherwise.
    pub told: usize,
    /// The ErrorResponse.
    pub error: Bytes,
    /// The client's Sync was sent.
    pub synced: bool,
}

/// The kept batch.
#[derive(Debug, Default)]
pub struct Rerun {
    phase: Phase,
    kept: BytesMut,
    runs: u8,
    /// Answers that the client has got in one run or another.
    known: usize,
}

impl Rerun {
    /// A batch begins outside a transaction, with nothing of the client's under way.
    pub fn begin(&mut self) {
        self.kept.clear();
        self.phase = Phase::Open;
        self.runs = 0;
        self.known = 0;
    }

    /// Nothing can be sent again.
    pub fn give_up(&mut self) {
        self.phase = Phase::Off;
        if self.kept.capacity() > BLOCK {
            self.kept = BytesMut::new();
        }
    }

    /// A message of the client's goes out.
    pub fn keep(&mut self, tag: u8, message: &[u8]) {
        match self.phase {
            Phase::Open
                if matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S')
                    && self.kept.len() + message.len() <= BLOCK =>
            {
                self.kept.extend_from_slice(message);
                if tag == b'S' {
                    self.phase = Phase::Closed;
                }
            }
            // A second batch, which would then run ahead of the first.
            Phase::Open | Phase::Closed => self.give_up(),
            Phase::Off | Phase::Refused(_) | Phase::Asking(_) => {}
        }
    }

    /// Whether all that is kept is one message of this size.
    #[must_use]
    pub fn is_all(&self, size: usize) -> bool {
        matches!(self.phase, Phase::Open) && self.kept.len() == size
    }

    /// Whether a refused batch may be sent again.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closed) && self.runs < RUNS
    }

    /// Whether a batch was refused and waits to be sent again.
    #[must_use]
    pub fn is_due(&self) -> bool {
        matches!(self.phase, Phase::Refused(_) | Phase::Asking(_))
    }

    /// The batch was refused.
    pub(super) fn refused(&mut self, fault: Fault) {
        self.known = self.known.max(fault.told);
        self.phase = Phase::Refused(fault);
    }

    /// Why it was refused.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match &self.phase {
            Phase::Refused(fault) | Phase::Asking(fault) => Some(fault),
            Phase::Off | Phase::Open | Phase::Closed => None,
        }
    }

    /// How many answers the client has got already. A later run may have been refused earlier than the first.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known
    }

    /// The server is asked what the statement gives now.
    pub fn ask(&mut self) {
        if let Phase::Refused(fault) = std::mem::take(&mut self.phase) {
            self.phase = Phase::Asking(fault);
        }
    }

    /// Whether the server was asked.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        matches!(self.phase, Phase::Asking(_))
    }

    /// The messages, to be sent again.
    pub fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.kept)
    }

    /// They were sent again.
    pub fn sent_again(&mut self, messages: BytesMut, synced: bool) {
        self.kept = messages;
        self.runs += 1;
        self.phase = if synced { Phase::Closed } else { Phase::Open };
    }

    /// Whether the batch uses a statement without asking what it gives: its client goes by what it was told before. One
    /// that parses the statement in the same batch expects whatever comes.
    #[must_use]
    pub fn relies_on_what_was_told(&self, name: &[u8]) -> bool {
        let (mut rest, mut portal) = (&self.kept[..], None);
        while let Ok(Piece::Whole { tag, body }) = Scanner::default().next(rest, MAX_MESSAGE) {
            rest = &rest[HEADER + body.len()..];
            match (tag, target(body)) {
                (b'P', _) if parse_name(body) == Some(name) => return false,
                (b'B', _) if bind_statement(body) == Some(name) => portal = parse_name(body),
                (b'D', Some(Target::Statement(asked))) if asked == name => return false,
                (b'D', Some(Target::Portal(asked))) if portal == Some(asked) => return false,
                (b'E', _) if portal.is_some() && parse_name(body) == portal => return true,
                _ => {}
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_is_kept_and_no_more() {
        let mut rerun = Rerun::default();
        rerun.keep(b'B', b"not begun");
        assert!(!rerun.is_possible());
        rerun.begin();
        rerun.keep(b'B', b"bind");
        rerun.keep(b'S', b"sync");
        assert!(rerun.is_possible());
        assert_eq!(&rerun.kept[..], b"bindsync");
        rerun.keep(b'B', b"next");
        assert!(!rerun.is_possible());
    }

    #[test]
    fn what_does_more_than_the_extended_protocol_is_not_kept() {
        for tag in [b'Q', b'F', b'd', b'c'] {
            let mut rerun = Rerun::default();
            rerun.begin();
            rerun.keep(tag, b"x");
            assert!(!rerun.is_possible());
        }
        let mut rerun = Rerun::default();
        rerun.begin();
        rerun.keep(b'B', &[0; BLOCK + 1]);
        assert!(!rerun.is_possible());
    }

    #[test]
    fn a_batch_is_not_sent_for_ever() {
        let mut rerun = Rerun::default();
        rerun.begin();
        for _ in 0..RUNS {
            assert!(rerun.is_possible());
            let kept = rerun.take();
            rerun.sent_again(kept, true);
        }
        assert!(!rerun.is_possible());
    }
}
