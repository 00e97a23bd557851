//! The client's messages on their way to its server: judged by type and by the few names that matter, and passed on in
//! the block they were read into.

use super::admission::{self, Limit};
use super::departure::{self, Departure};
use super::idle::Rules;
use super::link::{Farewell, Link, Rest, Tracking};
use super::named::{self, Rewritten};
use super::spelled;
use super::unnamed;
use crate::net::{BLOCK, Pipe};
use crate::server::{Bound, Interner, Origin, Request, is_kept, steering};
use crate::wire::backend::Status;
use crate::wire::frontend::{Target, bind_statement, parse_name, target};
use crate::wire::{HEADER, Piece, TooLong, split_cstr};
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::sync::Arc;

/// The longest length word that PostgreSQL takes in a message that needs no room (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL: usize = 10_000;

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
    /// What is here of the messages behind it.
    pub(super) behind: &'a [u8],
}

impl Message<'_> {
    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        HEADER + self.body.len() == self.size
    }

    /// Whether it may speak of statements by name.
    fn may_name_statements(&self) -> bool {
        match self.tag {
            b'Q' | b'P' | b'B' => true,
            b'D' | b'C' => self.body.first() == Some(&b'S'),
            _ => false,
        }
    }

    /// Whether it is a Query that may begin with DEALLOCATE, DISCARD or PREPARE, by its first letter.
    pub(super) fn may_be_about_statements(&self) -> bool {
        self.tag == b'Q' && matches!(self.body.trim_ascii_start().first(), Some(b'd' | b'D' | b'p' | b'P'))
    }

    /// Whether it is a Bind whose portal has a name that leaves no room for the statement's.
    fn hides_its_statement(&self) -> bool {
        !self.is_whole() && split_cstr(self.body).is_none()
    }

    /// Whether PostgreSQL would end the session for its length alone. It would do so without a word, and nobody else
    /// could use the server any longer.
    fn is_too_long(&self) -> bool {
        matches!(self.tag, b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f') && self.size > SMALL + 1
    }
}

/// Judges what is here of the client's messages. A message is passed on when it is here as a whole; one larger than a
/// block is passed on as it comes, so that its size costs no memory.
pub(super) fn forward(
    link: &mut Link,
    up: &mut Pipe,
    interner: &Interner,
    rules: Rules,
) -> Result<(), Departure> {
    while link.farewell == Farewell::No && !link.server.state.pending.is_full() {
        let piece = link
            .server
            .sending
            .next(up.fresh(), rules.max_packet_size)
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
            Piece::Head { tag, body, size } => Message { tag, body, size, behind: &[] },
            Piece::Whole { tag, body } => {
                let size = HEADER + body.len();
                Message { tag, body, size, behind: up.fresh().get(size..).unwrap_or_default() }
            }
        };
        if rules.no_simple_queries && message.tag == b'Q' {
            return Err(departure::no_simple_queries());
        }
        if must_wait(link, interner, &message) {
            return Ok(());
        }
        if link.server.state.statements.looking.is_some() || named::must_look(link, &message) {
            match look(link, &message)? {
                Look::Out(bytes) => {
                    up.insert(|out| out.extend_from_slice(&bytes));
                    return Ok(());
                }
                Look::UnderWay => return Ok(()),
                Look::Done => {}
            }
        }
        let (taken, size) = (HEADER + message.body.len(), message.size);
        keep(link, &message, up.fresh());
        let verdict = judge(link, interner, &message)?;
        link.server.sending.take_head(size, taken);
        link.rest = carry_out(link, up, taken, size, verdict);
    }
    Ok(())
}

/// A question to the server that comes before a client's message.
enum Look {
    /// It goes out.
    Out(BytesMut),
    /// The answer is still to come.
    UnderWay,
    /// It has come.
    Done,
}

/// Asks what a statement gives now, before a client uses it that was told what it gave then.
fn look(link: &mut Link, message: &Message<'_>) -> Result<Look, Departure> {
    let state = &mut link.server.state;
    let Tracking::Shared { limit, .. } = link.tracking else { return Ok(Look::Done) };
    if state.statements.looking.is_some() {
        if !state.pending.is_settled() {
            return Ok(Look::UnderWay);
        }
        if let Some(name) = state.statements.looking.take()
            && !state.statements.was_looked_at(&name)
        {
            link.outdated = Some(name);
        }
        return Ok(Look::Done);
    }
    let name = Bytes::copy_from_slice(bind_statement(message.body).unwrap_or_default());
    let mut bytes = BytesMut::new();
    state.statements.found = None;
    state.statements.looking = Some(name.clone());
    named::ask(link, limit, &mut bytes, &name).map_err(violation)?;
    link.server.state.put_sync(&mut bytes);
    Ok(Look::Out(bytes))
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

fn carry_out(link: &mut Link, up: &mut Pipe, taken: usize, size: usize, verdict: Verdict) -> Rest {
    match verdict {
        Verdict::Pass(request) => {
            link.server.state.sent(Origin::Client, request);
            up.pass(taken);
            return Rest::Passes;
        }
        Verdict::Rewrite(rewritten) => {
            let replaced = rewritten.replaces.min(taken);
            up.replace(replaced, &rewritten.bytes);
            up.pass(taken - replaced);
            link.keep_scratch(rewritten.bytes);
            return if rewritten.replaces < size { Rest::Passes } else { Rest::Drops };
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
    if message.is_too_long() {
        return Err(departure::violation("invalid message length"));
    }
    // What the server skips leaves no trace, so it may as well have the client's names.
    let is_tracked = link.tracking != Tracking::Off && !link.server.state.pending.is_skipping();
    if !is_tracked || !message.may_name_statements() {
        return judge_alone(link, interner, message);
    }
    let mut front = spelled::prepare_mentioned(link, message).map_err(violation)?;
    if let Some(rewritten) = judge_named(link, interner, message)? {
        front.unsplit(rewritten.bytes);
        return Ok(Verdict::Rewrite(Rewritten { bytes: front, replaces: rewritten.replaces }));
    }
    let verdict = judge_alone(link, interner, message)?;
    if front.is_empty() {
        return Ok(verdict);
    }
    Ok(match verdict {
        Verdict::Pass(request) => {
            link.server.state.sent(Origin::Client, request);
            Verdict::Rewrite(Rewritten { bytes: front, replaces: 0 })
        }
        verdict => verdict,
    })
}

/// Judges a message that goes out as it is.
fn judge_alone(link: &mut Link, interner: &Interner, message: &Message<'_>) -> Result<Verdict, Departure> {
    let request = match message.tag {
        b'Q' if message.may_be_about_statements() => {
            let prepare = spelled::prepare(link, interner, message);
            prepare.unwrap_or_else(|| named::query_about_statements(link, message.body))
        }
        b'Q' => named::query(link, message.body),
        b'P' if is_unnamed(message) => parse_unnamed(link, message),
        b'P' if link.tracking == Tracking::Off => Request::ParseForeign,
        b'P' => Request::ParseHere,
        b'B' => {
            bind_unnamed(link, message);
            Request::Bind
        }
        b'D' => match target(message.body) {
            Some(Target::Portal(portal)) => named::describe_portal(link, portal),
            _ => Request::Describe,
        },
        b'E' => spelled::execute(link, interner, parse_name(message.body).unwrap_or_default()),
        b'C' if is_unnamed(message) => {
            link.server.state.statements.unnamed_in_batch |= !link.server.state.pending.is_skipping();
            Request::CloseUnnamed
        }
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

/// Parse of an unnamed statement that is the client's alone.
fn parse_unnamed(link: &mut Link, message: &Message<'_>) -> Request {
    let state = &mut link.server.state;
    if link.tracking != Tracking::Off && !state.pending.is_skipping() {
        state.statements.unnamed_in_batch = true;
        let sql = message.body.get(1..).unwrap_or_default();
        link.unnamed_steering = steering(split_cstr(sql).map_or(sql, |(sql, _)| sql));
        link.steer(link.unnamed_steering, sql, &[]);
        link.unnamed_command = spelled::command_in(split_cstr(sql).map_or(sql, |(sql, _)| sql));
    }
    Request::ParseUnnamed(copy_if_small(message))
}

/// Bind of a statement that is the client's alone.
fn bind_unnamed(link: &mut Link, message: &Message<'_>) {
    if !is_unnamed(message) {
        return;
    }
    link.steer(link.unnamed_steering, message.body, &[]);
    if link.unnamed_command.is_some() {
        let portal = parse_name(message.body).unwrap_or_default();
        let bound = Bound { portal: Bytes::copy_from_slice(portal), name: Bytes::new(), speaks: true };
        link.server.state.statements.bound = Some(bound);
    }
}

/// Whether a message is about a name of which only answers that are still to come tell what it stands for: one that an
/// earlier batch gives or takes away, if it does not fail.
fn must_wait(link: &Link, interner: &Interner, message: &Message<'_>) -> bool {
    let state = &link.server.state;
    if link.tracking == Tracking::Off || state.pending.is_in_first_batch() {
        return false;
    }
    if matches!(message.tag, b'B' | b'D') && is_unnamed(message) {
        return unnamed::must_wait(link);
    }
    if spelled::must_wait(link, message) {
        return true;
    }
    let name = match message.tag {
        b'Q' => named::deallocated_name(message).map(Cow::Owned),
        _ => statement_name(message).map(Cow::Borrowed),
    };
    let Some(name) = name.as_deref() else { return false };
    let named = state.statements.names.get(name);
    let statement = match message.tag {
        b'P' => message.body.get(name.len() + 1..).and_then(|tail| interner.find(link.context(), tail)),
        _ => named.map(|named| Arc::clone(&named.statement)),
    };
    state.pending.leaves_open(name, named.is_some())
        || named.is_some_and(|named| named.statement.is_sql())
        || statement.is_some_and(|statement| state.statements.is_open(&statement))
}

/// The name of the statement that a message is about, if it has one that is kept. A Describe or a Close that does not
/// end with the name is as it should not be: the server is to see it.
fn statement_name<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let name = match message.tag {
        b'P' => parse_name(message.body),
        b'B' => bind_statement(message.body),
        b'D' | b'C' => match target(message.body) {
            Some(Target::Statement(name)) => {
                Some(name).filter(|name| message.size == HEADER + name.len() + 2)
            }
            _ => None,
        },
        _ => None,
    };
    name.filter(|name| !name.is_empty() && is_kept(name))
}

/// Messages about named statements, where those travel.
fn judge_named(
    link: &mut Link,
    interner: &Interner,
    message: &Message<'_>,
) -> Result<Option<Rewritten>, Departure> {
    let Tracking::Shared { limit, unnamed } = link.tracking else { return Ok(None) };
    let rewritten = match (message.tag, statement_name(message)) {
        (b'P', Some(name)) => Some(named::parse(link, interner, limit, message, name)),
        (b'B', Some(name)) => named::bind(link, interner, limit, message, name).transpose(),
        (b'D', Some(name)) => named::describe(link, interner, limit, name).transpose(),
        (b'B', None) if message.hides_its_statement() => {
            Some(admission::refuse(link, message, Limit::PortalName))
        }
        (_, None) if is_unnamed(message) => {
            judge_unnamed(link, interner, limit, unnamed, message).transpose()
        }
        (b'C', Some(name)) => Some(named::close(link, message, name)),
        (b'Q', _) => named::deallocate(link, message).transpose(),
        _ => None,
    };
    rewritten.transpose().map_err(violation)
}

/// Messages about the unnamed statement.
fn judge_unnamed(
    link: &mut Link,
    interner: &Interner,
    limit: usize,
    shares: bool,
    message: &Message<'_>,
) -> Result<Option<Rewritten>, TooLong> {
    let is_shared = unnamed::is_shared(link);
    match message.tag {
        b'P' if shares => unnamed::parse(link, interner, limit, message),
        b'B' if is_shared => named::bind(link, interner, limit, message, b""),
        b'B' => unnamed::refer(link, Request::Bind),
        b'D' if is_shared => named::describe(link, interner, limit, b""),
        b'D' => unnamed::refer(link, Request::Describe),
        _ => Ok(None),
    }
}

/// Whether a message is about the unnamed statement.
fn is_unnamed(message: &Message<'_>) -> bool {
    match message.tag {
        b'P' => parse_name(message.body) == Some(b""),
        b'B' => bind_statement(message.body) == Some(b""),
        b'D' | b'C' => target(message.body) == Some(Target::Statement(b"")),
        _ => false,
    }
}

fn copy_if_small(message: &Message<'_>) -> Option<Bytes> {
    (message.is_whole() && message.size <= BLOCK).then(|| {
        let mut copy = BytesMut::with_capacity(message.size);
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
