//! The client's messages on their way to its server: judged by type and by the few names that matter, and passed on in
//! the block they were read into.

use super::departure::{self, Departure};
use super::link::{Farewell, Link, Rest, Tracking};
use super::named::{self, Rewritten};
use crate::net::{BLOCK, Pipe};
use crate::server::{Interner, Origin, Request};
use crate::wire::backend::Status;
use crate::wire::frontend::{Target, bind_statement, parse_name, target};
use crate::wire::{HEADER, Piece, TooLong};
use bytes::Bytes;
use std::borrow::Cow;

/// What becomes of a message.
pub(super) enum Verdict {
    /// It goes to the server, which will owe this.
    Pass(Request),
    /// It is about a named statement: other bytes go in place of its head.
    Rewrite(Rewritten),
    /// It is dropped: COPY data that no COPY takes any longer.
    Drop,
    /// The client says goodbye.
    Farewell,
}

/// A message, as much of it as is here.
pub(super) struct Message<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
    /// Its size, header included.
    pub(super) size: usize,
}

impl Message<'_> {
    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        HEADER + self.body.len() == self.size
    }
}

/// Judges what is here of the client's messages. A message is passed on when it is here as a whole; one larger than a
/// block is passed on as it comes, so that its size costs no memory.
pub(super) fn forward(
    link: &mut Link,
    up: &mut Pipe,
    interner: &Interner,
    limit: u32,
) -> Result<(), Departure> {
    while link.farewell == Farewell::No && !link.server.state.pending.is_full() {
        let piece = link
            .server
            .sending
            .next(up.fresh(), limit)
            .map_err(|error| departure::violation(error.to_string()))?;
        let message = match piece {
            Piece::Nothing | Piece::Rest(0) => return Ok(()),
            Piece::Rest(count) => {
                link.server.sending.take_rest(count);
                match link.rest {
                    Rest::Passes => up.pass(count),
                    Rest::Drops => up.drop_fresh(count),
                }
                continue;
            }
            Piece::Head { .. } if !up.is_stuffed() => return Ok(()),
            Piece::Head { tag, body, size } => Message { tag, body, size },
            Piece::Whole { tag, body } => Message { tag, body, size: HEADER + body.len() },
        };
        if must_wait(link, &message) {
            return Ok(());
        }
        let (taken, size) = (HEADER + message.body.len(), message.size);
        keep(link, &message, up.fresh());
        let verdict = judge(link, interner, &message)?;
        link.server.sending.take_head(size, taken);
        link.rest = carry_out(link, up, taken, verdict);
    }
    Ok(())
}

/// Keeps what may have to be sent again.
fn keep(link: &mut Link, message: &Message<'_>, fresh: &[u8]) {
    let state = &mut link.server.state;
    if state.pending.is_settled() && state.transaction == Status::Idle && link.tracking != Tracking::Off {
        state.rerun.begin();
    } else if state.pending.is_settled() {
        state.rerun.give_up();
    }
    match fresh.get(..message.size) {
        Some(whole) => state.rerun.keep(message.tag, whole),
        None => state.rerun.give_up(),
    }
}

fn carry_out(link: &mut Link, up: &mut Pipe, taken: usize, verdict: Verdict) -> Rest {
    match verdict {
        Verdict::Pass(request) => {
            link.server.state.sent(Origin::Client, request);
            up.pass(taken);
            return Rest::Passes;
        }
        Verdict::Rewrite(rewritten) => {
            up.insert(|out| out.extend_from_slice(&rewritten.bytes));
            up.drop_fresh(rewritten.replaces);
            up.pass(taken - rewritten.replaces);
            return Rest::Passes;
        }
        Verdict::Drop => up.drop_fresh(taken),
        Verdict::Farewell => {
            up.drop_fresh(taken);
            link.farewell = Farewell::Said;
        }
    }
    Rest::Drops
}

/// Judges one message by its type and as much of its body as matters.
pub(super) fn judge(
    link: &mut Link,
    interner: &Interner,
    message: &Message<'_>,
) -> Result<Verdict, Departure> {
    if let Some(rewritten) = judge_named(link, interner, message)? {
        return Ok(Verdict::Rewrite(rewritten));
    }
    let request = match message.tag {
        b'Q' => named::query(link, message.body),
        b'P' if parse_name(message.body) == Some(b"") => Request::ParseUnnamed(copy_if_small(message)),
        b'P' => Request::ParseForeign,
        b'B' => Request::Bind,
        b'D' => match target(message.body) {
            Some(Target::Portal(portal)) => named::describe_portal(link, portal),
            _ => Request::Describe,
        },
        b'E' => Request::Execute,
        b'C' if target(message.body) == Some(Target::Statement(b"")) => Request::CloseUnnamed,
        b'C' => Request::Close,
        b'H' => Request::Flush,
        b'S' => Request::Sync,
        b'F' => Request::FunctionCall,
        b'd' | b'c' | b'f' if is_late(link) => return Ok(Verdict::Drop),
        b'd' => Request::CopyData,
        b'c' | b'f' => Request::CopyEnd,
        b'X' => return Ok(Verdict::Farewell),
        other => return Err(invalid_type(other)),
    };
    Ok(Verdict::Pass(request))
}

/// Whether a message is about a name of which only answers that are still to come tell what it stands for: one that an
/// earlier batch gives or takes away, if it does not fail.
fn must_wait(link: &Link, message: &Message<'_>) -> bool {
    let state = &link.server.state;
    if link.tracking == Tracking::Off || state.pending.is_in_first_batch() {
        return false;
    }
    let name = match message.tag {
        b'P' => parse_name(message.body).map(Cow::Borrowed),
        b'B' => bind_statement(message.body).map(Cow::Borrowed),
        b'D' | b'C' => match target(message.body) {
            Some(Target::Statement(name)) => Some(Cow::Borrowed(name)),
            _ => None,
        },
        b'Q' => named::deallocated_name(message).map(Cow::Owned),
        _ => None,
    };
    name.as_deref().filter(|name| !name.is_empty()).is_some_and(|name| {
        let named = state.statements.names.get(name);
        state.pending.leaves_open(name, named.is_some())
            || named.is_some_and(|named| state.statements.is_open(&named.statement))
    })
}

/// Messages about named statements, where those travel.
fn judge_named(
    link: &mut Link,
    interner: &Interner,
    message: &Message<'_>,
) -> Result<Option<Rewritten>, Departure> {
    let Tracking::Shared(limit) = link.tracking else { return Ok(None) };
    // What the server skips leaves no trace, so it may as well have the client's names.
    if link.server.state.pending.is_skipping() {
        return Ok(None);
    }
    let rewritten = match message.tag {
        b'P' => match parse_name(message.body) {
            Some(b"") | None => None,
            Some(name) => Some(named::parse(link, interner, limit, message, name)),
        },
        b'B' => bind_statement(message.body)
            .filter(|name| !name.is_empty())
            .and_then(|name| named::bind(link, limit, message, name).transpose()),
        b'D' => match target(message.body) {
            Some(Target::Statement(name)) if !name.is_empty() => {
                named::describe(link, limit, name).transpose()
            }
            _ => None,
        },
        b'C' => match target(message.body) {
            Some(Target::Statement(name)) if !name.is_empty() => Some(named::close(link, message, name)),
            _ => None,
        },
        b'Q' => named::deallocate(link, message).transpose(),
        _ => None,
    };
    rewritten.transpose().map_err(violation)
}

fn copy_if_small(message: &Message<'_>) -> Option<Bytes> {
    (message.is_whole() && message.size <= BLOCK).then(|| {
        let mut copy = bytes::BytesMut::with_capacity(message.size);
        // It has just been read, so it is no longer than a message may be.
        let _fits =
            crate::wire::put_message(&mut copy, message.tag, |out| out.extend_from_slice(message.body));
        copy.freeze()
    })
}

/// COPY data while nothing is under way that could take it: its COPY has failed. PostgreSQL would drop it.
fn is_late(link: &Link) -> bool {
    let pending = &link.server.state.pending;
    pending.owes_nothing() && !pending.awaits_sync()
}

/// What pgweir makes of a message would be too long for one.
pub(super) fn violation(error: TooLong) -> Departure {
    departure::violation(error.to_string())
}

/// A message type that no client sends at this point. The text is PostgreSQL's.
pub(super) fn invalid_type(tag: u8) -> Departure {
    departure::violation(format!("invalid frontend message type {tag}"))
}
