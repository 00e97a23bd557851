//! The client's messages on their way to its server: judged by type and by the few names that matter, and passed on in
//! the block they were read into.

use super::departure::{self, Departure};
use super::link::{Farewell, Link, Rest};
use crate::net::{BLOCK, Pipe};
use crate::server::{Origin, Request};
use crate::wire::frontend::{Target, bind_statement, parse_name, target};
use crate::wire::{HEADER, Piece};
use bytes::Bytes;

/// What becomes of a message.
enum Verdict {
    /// It goes to the server, which will owe this.
    Pass(Request),
    /// It is dropped: COPY data that no COPY takes any longer.
    Drop,
    /// The client says goodbye.
    Farewell,
}

/// Judges what is here of the client's messages. A message is passed on when it is here as a whole; one larger than a
/// block is passed on as it comes, so that its size costs no memory.
pub(super) fn forward(link: &mut Link, up: &mut Pipe, limit: u32) -> Result<(), Departure> {
    while link.farewell == Farewell::No && !link.server.state.pending.is_full() {
        let piece = link
            .server
            .sending
            .next(up.fresh(), limit)
            .map_err(|error| departure::violation(error.to_string()))?;
        match piece {
            Piece::Nothing | Piece::Rest(0) => return Ok(()),
            Piece::Rest(count) => {
                link.server.sending.take_rest(count);
                match link.rest {
                    Rest::Passes => up.pass(count),
                    Rest::Drops => up.drop_fresh(count),
                }
            }
            Piece::Head { .. } if !up.is_stuffed() => return Ok(()),
            Piece::Head { tag, body, size } => {
                let (taken, verdict) = (HEADER + body.len(), judge(link, tag, body, None)?);
                link.server.sending.take_head(size, taken);
                link.rest = carry_out(link, up, taken, verdict);
            }
            Piece::Whole { tag, body } => {
                let taken = HEADER + body.len();
                let verdict = judge(link, tag, body, up.fresh().get(..taken))?;
                carry_out(link, up, taken, verdict);
            }
        }
    }
    Ok(())
}

fn carry_out(link: &mut Link, up: &mut Pipe, taken: usize, verdict: Verdict) -> Rest {
    match verdict {
        Verdict::Pass(request) => {
            link.server.state.pending.sent(Origin::Client, request);
            up.pass(taken);
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

/// Judges one message by its type and as much of its body as is here. `whole` is all of it, when all of it is here.
fn judge(link: &Link, tag: u8, body: &[u8], whole: Option<&[u8]>) -> Result<Verdict, Departure> {
    let pool = link.server.pool();
    let request = match tag {
        b'Q' => Request::Query,
        b'P' => match parse_name(body) {
            Some(b"") => {
                Request::ParseUnnamed(whole.filter(|whole| whole.len() <= BLOCK).map(Bytes::copy_from_slice))
            }
            name => {
                pool.traffic.count(|t| &t.client_parses);
                pool.traffic.count(|t| &t.server_parses);
                Request::ParseNamed(name_of(name))
            }
        },
        b'B' => {
            if bind_statement(body).is_some_and(|name| !name.is_empty()) {
                pool.traffic.count(|t| &t.binds);
            }
            Request::Bind
        }
        b'D' => Request::Describe,
        b'E' => Request::Execute,
        b'C' => match target(body) {
            Some(Target::Statement(b"")) => Request::CloseUnnamed,
            Some(Target::Statement(name)) => Request::CloseNamed(name_of(Some(name))),
            _ => Request::ClosePortal,
        },
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

/// A name that is longer than a block is kept as far as it is here: it only has to be one.
fn name_of(name: Option<&[u8]>) -> Bytes {
    Bytes::copy_from_slice(name.unwrap_or_default())
}

/// COPY data while nothing is under way that could take it: its COPY has failed. PostgreSQL would drop it.
fn is_late(link: &Link) -> bool {
    let pending = &link.server.state.pending;
    pending.owes_nothing() && !pending.awaits_sync()
}

/// A message type that no client sends at this point. The text is PostgreSQL's.
pub(super) fn invalid_type(tag: u8) -> Departure {
    departure::violation(format!("invalid frontend message type {tag}"))
}
