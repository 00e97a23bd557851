//! Named prepared statements on their way to a server: the client's names become those that all clients share, and what
//! the server lacks is put in front, in the same write.
//!
//! Every message of the client's is answered in its place by the server itself, so that errors, skipped messages and the
//! order of answers are the server's own. A Parse of a statement that is there already goes out as a Close of nobody,
//! whose answer the client gets as a ParseComplete; a Close goes out as a Close of nobody as well, since the statement
//! is not the client's alone.

use super::admission;
use super::link::{Link, Tracking};
use super::spelled;
use super::upstream::Message;
use crate::server::{Bound, Interner, NOBODY, Origin, PREFIX, PROBE, Presence, Request, Statement, steering};
use crate::wire::backend::Status;
use crate::wire::{HEADER, MAX_MESSAGE, Report, TooLong, frontend, put_message, split_cstr, sqlstate};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// A statement that is made so that a DEALLOCATE has something to drop.
const GONE: &str = "pgweir_gone";

/// What a Parse without SQL and types says behind the name.
const EMPTY: &[u8] = b"\0\0\0";

/// Statements that are closed for one that comes, at most.
const AT_A_TIME: usize = 8;

/// Bytes that go out in place of the head of a message; what is under way was noted already.
pub(super) struct Rewritten {
    pub(super) bytes: BytesMut,
    /// Bytes of the message that they replace, those included that are not here yet; the others follow them.
    pub(super) replaces: usize,
}

/// Parse of a named statement.
pub(super) fn parse(
    link: &mut Link,
    interner: &Interner,
    limit: usize,
    message: &Message<'_>,
    name: &[u8],
) -> Result<Rewritten, TooLong> {
    let traffic = &link.server.pool().traffic;
    traffic.count(|t| &t.client_parses);
    let key = Bytes::copy_from_slice(name);
    if link.server.state.statements.names.contains_key(name) {
        return parse_duplicate(link, interner, limit, message, key);
    }
    let statement = match admission::admit(link, interner, message, name) {
        Ok(statement) => statement,
        Err(over) => return admission::refuse(link, message, over),
    };
    link.server.state.statements.names.insert(key.clone(), Arc::clone(&statement).into());
    make(link, limit, message, key, statement)
}

/// Sees to it that the server holds a statement, and answers the client's Parse.
pub(super) fn make(
    link: &mut Link,
    limit: usize,
    message: &Message<'_>,
    key: Bytes,
    statement: Arc<Statement>,
) -> Result<Rewritten, TooLong> {
    let tail = &message.body[key.len() + 1..];
    let mut bytes = link.scratch();
    match link.server.state.statements.presence_for_parse(&statement) {
        Presence::Sure if is_calm(link) && !link.server.state.pending.may_take_copy_data() => {
            put_close(&mut bytes, NOBODY)?;
            link.server.state.sent(Origin::Client, Request::ParseKnown(key));
            link.server.pool().traffic.count(|t| &t.parses_saved);
            return Ok(Rewritten { bytes, replaces: message.size });
        }
        // A COPY refuses either, and shows which of the two it was.
        Presence::Sure if is_calm(link) => return probe(link, message, bytes, EMPTY, key),
        presence if is_probed(link, presence, &statement) => return probe(link, message, bytes, tail, key),
        Presence::Doubtful => renew(link, &mut bytes, &statement)?,
        _ => make_room(link, limit, &mut bytes)?,
    }
    link.server.pool().traffic.count(|t| &t.server_parses);
    statement.usage.parsed();
    if statement.is_local() {
        spelled::forget(link, &key, &mut bytes)?;
    } else {
        link.server.state.statements.comes(&statement);
    }
    let replaces = put_parse_head(&mut bytes, name_here(&statement, &key), message, &key)?;
    link.server.state.sent(Origin::Client, Request::ParseNamed { name: Some(key), statement });
    Ok(Rewritten { bytes, replaces })
}

/// Parse of a statement that need not be made: it is made under another name, and closed again.
fn probe(
    link: &mut Link,
    message: &Message<'_>,
    mut bytes: BytesMut,
    tail: &[u8],
    key: Bytes,
) -> Result<Rewritten, TooLong> {
    put_parse(&mut bytes, PROBE, tail)?;
    link.server.state.sent(Origin::Client, Request::ParseProbe(key));
    put_close(&mut bytes, PROBE)?;
    link.server.state.sent(Origin::Pooler, Request::Close);
    Ok(Rewritten { bytes, replaces: message.size })
}

/// Parse of a name that the client has given before: the server is to refuse it, after it has looked at the SQL. It finds
/// the name of a statement without SQL taken, since that is one that can be made in a failed transaction too.
fn parse_duplicate(
    link: &mut Link,
    interner: &Interner,
    limit: usize,
    message: &Message<'_>,
    key: Bytes,
) -> Result<Rewritten, TooLong> {
    let mut bytes = BytesMut::new();
    let taken = interner.intern(EMPTY);
    ensure(link, limit, &mut bytes, &taken)?;
    let replaces = put_parse_head(&mut bytes, taken.name().as_bytes(), message, &key)?;
    // Should it succeed against all that is known, the next use of the statement makes it afresh.
    link.server.state.sent(Origin::Client, Request::ParseRefused { name: key, id: taken.id() });
    Ok(Rewritten { bytes, replaces })
}

/// Bind of a named statement; `None` leaves the message as it is.
pub(super) fn bind(
    link: &mut Link,
    interner: &Interner,
    limit: usize,
    message: &Message<'_>,
    name: &[u8],
) -> Result<Option<Rewritten>, TooLong> {
    link.server.pool().traffic.count(|t| &t.binds);
    let portal = split_cstr(message.body).map(|(portal, _)| portal).unwrap_or_default();
    let replaces = HEADER + portal.len() + 1 + name.len() + 1;
    let Some(Known { name: given, statement, is_told }) = known_here(link, interner, name) else {
        return hide(link, name, |out, name| put_bind_head(out, message, portal, replaces, name), replaces);
    };
    if statement.is_sql() {
        return spelled::use_sql(link, name, Request::Bind).map(Some);
    }
    if link.outdated.take_if(|outdated| outdated == name).is_some() {
        return refuse_outdated(link, message).map(Some);
    }
    let mut bytes = link.scratch();
    spelled::prepare_for_use(link, &statement, &mut bytes)?;
    // Made afresh, an outdated statement would give rows that such a client misreads; the server's error stops it.
    let stays = is_told
        && !asks_behind(message)
        && link.server.state.statements.presence_for_told(&statement) == Presence::Sure;
    if !stays {
        ensure_for_use(link, limit, &mut bytes, &statement)?;
    }
    statement.usage.bound();
    link.steer(statement.steering(), statement.tail(), message.body);
    put_bind_head(&mut bytes, message, portal, replaces, name_here(&statement, name))?;
    let bound = Bound {
        portal: Bytes::copy_from_slice(portal),
        name: given.clone(),
        speaks: statement.speaks_of_statements(),
    };
    link.server.state.sent(Origin::Client, Request::BindNamed { name: given, id: statement.id() });
    link.server.state.statements.bound = Some(bound);
    Ok(Some(Rewritten { bytes, replaces }))
}

/// Whether a client reads the rows as it was told of them before: it does not ask right behind the Bind.
fn relies_on_what_was_told(link: &Link, name: &[u8], message: &Message<'_>) -> bool {
    let named = link.server.state.statements.names.get(name);
    named.is_some_and(|named| named.told.is_some()) && !asks_behind(message)
}

/// Whether the message right behind a Bind asks what the rows are.
fn asks_behind(message: &Message<'_>) -> bool {
    message.behind.first() == Some(&b'D') && message.behind.get(HEADER) == Some(&b'P')
}

/// Whether the server is to be asked first what a statement gives now. That ends in a Sync of pgweir's own, so nothing of
/// the client's may be open.
pub(super) fn must_look(link: &Link, message: &Message<'_>) -> bool {
    let state = &link.server.state;
    message.tag == b'B'
        && link.tracking != Tracking::Off
        && state.pending.is_settled()
        && state.transaction != Status::Failed
        && frontend::bind_statement(message.body).is_some_and(|name| {
            state.statements.must_be_looked_at(name) && relies_on_what_was_told(link, name, message)
        })
}

/// A Bind whose client would misread the rows: it gets the error that a server with an older copy gives.
fn refuse_outdated(link: &mut Link, message: &Message<'_>) -> Result<Rewritten, TooLong> {
    let mut bytes = BytesMut::new();
    put_describe(&mut bytes, NOBODY)?;
    let report = Report::error(sqlstate::FEATURE_NOT_SUPPORTED, "cached plan must not change result type");
    link.server.state.sent(Origin::Client, Request::Refused(Box::new(report)));
    Ok(Rewritten { bytes, replaces: message.size })
}

/// Describe of a named statement; `None` leaves the message as it is.
pub(super) fn describe(
    link: &mut Link,
    interner: &Interner,
    limit: usize,
    name: &[u8],
) -> Result<Option<Rewritten>, TooLong> {
    let replaces = HEADER + 1 + name.len() + 1;
    let Some(Known { name: given, statement, .. }) = known_here(link, interner, name) else {
        return hide(link, name, put_describe, replaces);
    };
    if statement.is_sql() {
        return spelled::use_sql(link, name, Request::Describe).map(Some);
    }
    let mut bytes = link.scratch();
    ensure_for_use(link, limit, &mut bytes, &statement)?;
    put_describe(&mut bytes, name_here(&statement, name))?;
    link.server.state.sent(Origin::Client, Request::DescribeNamed { name: given, id: statement.id() });
    Ok(Some(Rewritten { bytes, replaces }))
}

/// Describe of a portal: what it tells is what the client knows of the statement behind it.
pub(super) fn describe_portal(link: &Link, portal: &[u8]) -> Request {
    match &link.server.state.statements.bound {
        Some(bound) if bound.portal == portal => Request::DescribePortal(bound.name.clone()),
        _ => Request::Describe,
    }
}

/// Puts the statement of a client's name on the server afresh, and asks what it gives now. The answers are pgweir's.
pub(super) fn ask(link: &mut Link, limit: usize, out: &mut BytesMut, name: &Bytes) -> Result<(), TooLong> {
    let Some(Known { statement, .. }) = known(link, name) else { return Ok(()) };
    ensure(link, limit, out, &statement)?;
    put_describe(out, statement.name().as_bytes())?;
    link.server.state.sent(Origin::Pooler, Request::DescribeNamed { name: name.clone(), id: statement.id() });
    Ok(())
}

/// A name of the client's.
struct Known {
    name: Bytes,
    /// What it stands for.
    statement: Arc<Statement>,
    /// Whether the client was told of its columns.
    is_told: bool,
}

fn known(link: &Link, name: &[u8]) -> Option<Known> {
    let (given, named) = link.server.state.statements.names.get_key_value(name)?;
    // Two that differ behind the bytes that count are the same; what the client is told is what it said.
    let name = if given == name { given } else { Bytes::copy_from_slice(name) };
    Some(Known { name, statement: Arc::clone(&named.statement), is_told: named.told.is_some() })
}

/// What a name of the client's stands for, where it is now: in the context of this moment.
fn known_here(link: &mut Link, interner: &Interner, name: &[u8]) -> Option<Known> {
    let (mut known, context) = (known(link, name)?, link.context());
    let statement = &known.statement;
    if statement.context() == context || statement.is_local() || statement.is_sql() || statement.is_private()
    {
        return Some(known);
    }
    // Over the limit on memory it is shared with those for whom it may mean something else: PostgreSQL notices most of that.
    if let Ok(here) = interner.intern_within(context, statement.tail(), link.limits.bytes) {
        link.server.state.statements.names.replace(name, Arc::clone(&here));
        known.statement = here;
    }
    Some(known)
}

/// A name that the client never gave, or has given up: the server says so. One that the server may have all the same is
/// made one that is never there.
fn hide(
    link: &mut Link,
    name: &[u8],
    put: impl FnOnce(&mut BytesMut, &[u8]) -> Result<(), TooLong>,
    replaces: usize,
) -> Result<Option<Rewritten>, TooLong> {
    if !name.starts_with(PREFIX) && link.server.state.statements.spelled.get(name).is_none() {
        return Ok(None);
    }
    let mut bytes = link.scratch();
    put(&mut bytes, NOBODY)?;
    let name = Bytes::copy_from_slice(name);
    link.server.state.sent(Origin::Client, Request::BindNamed { name, id: 0 });
    Ok(Some(Rewritten { bytes, replaces }))
}

/// Close of a named statement. What exists here only is closed, what is shared stays.
pub(super) fn close(link: &mut Link, message: &Message<'_>, name: &[u8]) -> Result<Rewritten, TooLong> {
    let mut bytes = link.scratch();
    let statements = &mut link.server.state.statements;
    let was = statements.names.remove(name);
    // SQL may have made one of which no more is known than that it keeps its client on this server.
    let may_be_sql = was.is_none() && statements.keep_their_server() && !name.starts_with(PREFIX);
    match was.as_ref().map(|named| &named.statement) {
        Some(statement) if statement.is_local() || statement.is_sql() => put_close(&mut bytes, name)?,
        // Under the client's spelling it is there for this client only.
        _ if may_be_sql || statements.spelled.get(name).is_some() => put_close(&mut bytes, name)?,
        _ => put_close(&mut bytes, NOBODY)?,
    }
    link.server.state.sent(Origin::Client, Request::CloseNamed { name: Bytes::copy_from_slice(name), was });
    Ok(Rewritten { bytes, replaces: HEADER + message.body.len() })
}

/// DEALLOCATE of a name that was given by Parse: what the server drops is a stand-in.
pub(super) fn deallocate(link: &mut Link, message: &Message<'_>) -> Result<Option<Rewritten>, TooLong> {
    let Some(name) = deallocated_name(message) else { return Ok(None) };
    let Some((name, named)) = link.server.state.statements.names.get_key_value(&name[..]) else {
        return Ok(None);
    };
    let has_its_name = named.statement.is_sql() || named.statement.is_local();
    if has_its_name || link.server.state.statements.spelled.get(&name).is_some() {
        let request = Request::Deallocate(name.clone());
        return spelled::use_sql(link, &name, request).map(Some);
    }
    let mut bytes = BytesMut::new();
    frontend::put_query(&mut bytes, &format!("PREPARE {GONE} AS SELECT"))?;
    link.server.state.sent(Origin::Pooler, Request::Tolerated);
    frontend::put_query(&mut bytes, &format!("DEALLOCATE {GONE}"))?;
    link.server.state.sent(Origin::Client, Request::Deallocate(name));
    Ok(Some(Rewritten { bytes, replaces: message.size }))
}

/// A query.
pub(super) fn query(link: &mut Link, body: &[u8]) -> Request {
    if link.tracking != Tracking::Off {
        link.steer(steering(body), body, &[]);
    }
    Request::Query
}

/// A query that may drop statements which later messages rely on.
pub(super) fn query_about_statements(link: &mut Link, body: &[u8]) -> Request {
    query(link, body);
    if link.tracking == Tracking::Off || !(begins_with(body, b"DISCARD") || begins_with(body, b"DEALLOCATE"))
    {
        return Request::Query;
    }
    let statements = &mut link.server.state.statements;
    if let Some(name) = deallocated_in(body) {
        let is_known = statements.names.contains_key(&name) || statements.spelled.get(&name).is_some();
        return if is_known { Request::Query } else { Request::DeallocateHere };
    }
    statements.doubt_all();
    Request::Discard
}

fn begins_with(body: &[u8], word: &[u8]) -> bool {
    body.trim_ascii_start().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The name in a query that is nothing but `DEALLOCATE name`; `ALL` is no name.
pub(super) fn deallocated_name(message: &Message<'_>) -> Option<Vec<u8>> {
    // Of most queries the first letter is all that is asked.
    if message.may_be_about_statements() && message.is_whole() { deallocated_in(message.body) } else { None }
}

/// The name in a text that is nothing but `DEALLOCATE name`.
pub(super) fn deallocated_in(sql: &[u8]) -> Option<Vec<u8>> {
    if !begins_with(sql, b"DEALLOCATE") {
        return None;
    }
    let text = std::str::from_utf8(sql).ok()?.trim_end_matches('\0').trim().trim_end_matches(';').trim();
    let (_, mut name) = text.split_once(|c: char| c.is_ascii_whitespace())?;
    if let Some((word, rest)) = name.trim_start().split_once(|c: char| c.is_ascii_whitespace())
        && word.eq_ignore_ascii_case("PREPARE")
    {
        name = rest;
    }
    let name = name.trim_start();
    if let Some(quoted) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        let name = quoted.replace("\"\"", "\0");
        return (!name.contains('"')).then(|| name.replace('\0', "\"").into_bytes());
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..));
    (plain && !name.eq_ignore_ascii_case("ALL")).then(|| name.to_ascii_lowercase().into_bytes())
}

/// Sees to it that a use of a statement by its client finds it on the server, and counts whether it was there.
fn ensure_for_use(
    link: &mut Link,
    limit: usize,
    out: &mut BytesMut,
    statement: &Arc<Statement>,
) -> Result<(), TooLong> {
    let was_there = ensure(link, limit, out, statement)?;
    let traffic = &link.server.pool().traffic;
    traffic.count(|t| if was_there { &t.prepared_hits } else { &t.prepared_misses });
    Ok(())
}

/// Sees to it that the next message finds a statement on the server. Tells whether it was there.
fn ensure(
    link: &mut Link,
    limit: usize,
    out: &mut BytesMut,
    statement: &Arc<Statement>,
) -> Result<bool, TooLong> {
    if statement.is_local() {
        return Ok(true); // it is where it was parsed, and so is the client
    }
    if link.server.state.pending.takes_copy_data() {
        return Ok(true); // the server refuses any message but COPY data, and names the type of the first
    }
    match link.server.state.statements.presence(statement) {
        Presence::Sure | Presence::Coming => return Ok(true),
        Presence::Doubtful => renew(link, out, statement)?,
        Presence::Absent => make_room(link, limit, out)?,
    }
    link.server.pool().traffic.count(|t| &t.server_parses);
    statement.usage.parsed();
    put_parse(out, statement.name().as_bytes(), statement.tail())?;
    link.server.state.statements.comes(statement);
    let request = Request::ParseNamed { name: None, statement: Arc::clone(statement) };
    link.server.state.sent(Origin::Pooler, request);
    Ok(false)
}

/// A batch may have brought more than there may be, so for one that comes several may go.
fn make_room(link: &mut Link, limit: usize, out: &mut BytesMut) -> Result<(), TooLong> {
    for _ in 0..AT_A_TIME {
        let Some(statement) = link.server.state.statements.surplus(limit) else { break };
        link.server.pool().traffic.count(|t| &t.prepared_evictions);
        evict(link, out, &statement)?;
    }
    Ok(())
}

/// Closes what may be there of a statement that is made afresh.
fn renew(link: &mut Link, out: &mut BytesMut, statement: &Statement) -> Result<(), TooLong> {
    if !link.server.state.statements.is_leaving(statement) {
        link.server.pool().traffic.count(|t| &t.prepared_heals);
        statement.usage.healed();
    }
    evict(link, out, statement)
}

pub(super) fn evict(link: &mut Link, out: &mut BytesMut, statement: &Statement) -> Result<(), TooLong> {
    put_close(out, statement.name().as_bytes())?;
    link.server.state.sent(Origin::Pooler, Request::Evict(statement.id()));
    Ok(())
}

/// Whether it is known that a Parse would not be refused for the state of the transaction.
fn is_calm(link: &Link) -> bool {
    let state = &link.server.state;
    state.transaction != Status::Failed && state.pending.is_in_first_batch()
}

/// Whether a Parse makes no statement that stays: the server holds it, or takes COPY data, and what it refuses then must
/// be a Parse.
fn is_probed(link: &Link, presence: Presence, statement: &Statement) -> bool {
    let is_there = matches!(presence, Presence::Sure | Presence::Coming);
    is_there || (link.server.state.pending.takes_copy_data() && !statement.is_local())
}

/// The name of a client's statement on its server: one that exists there only has the client's own.
fn name_here<'a>(statement: &'a Statement, name: &'a [u8]) -> &'a [u8] {
    if statement.is_local() { name } else { statement.name().as_bytes() }
}

pub(super) fn put_close(out: &mut BytesMut, name: &[u8]) -> Result<(), TooLong> {
    put_message(out, b'C', |out| put_target(out, name))
}

pub(super) fn put_describe(out: &mut BytesMut, name: &[u8]) -> Result<(), TooLong> {
    put_message(out, b'D', |out| put_target(out, name))
}

fn put_target(out: &mut BytesMut, name: &[u8]) {
    out.put_u8(b'S');
    out.put_slice(name);
    out.put_u8(0);
}

pub(super) fn put_parse(out: &mut BytesMut, name: &[u8], tail: &[u8]) -> Result<(), TooLong> {
    put_message(out, b'P', |out| {
        out.put_slice(name);
        out.put_u8(0);
        out.put_slice(tail);
    })
}

/// Writes header and name of a Parse; the rest of the client's message follows. Tells how much of it that replaces.
fn put_parse_head(
    out: &mut BytesMut,
    name_here: &[u8],
    message: &Message<'_>,
    name: &[u8],
) -> Result<usize, TooLong> {
    let replaces = HEADER + name.len() + 1;
    put_head(out, message, replaces, |out| {
        out.put_slice(name_here);
        out.put_u8(0);
    })?;
    Ok(replaces)
}

/// Writes header, portal and statement name of a Bind; the rest of the client's message follows.
fn put_bind_head(
    out: &mut BytesMut,
    message: &Message<'_>,
    portal: &[u8],
    replaces: usize,
    name: &[u8],
) -> Result<(), TooLong> {
    put_head(out, message, replaces, |out| {
        out.put_slice(portal);
        out.put_u8(0);
        out.put_slice(name);
        out.put_u8(0);
    })
}

/// Writes the head of a message whose rest is the client's from `replaces` on; the length is that of both together.
fn put_head(
    out: &mut BytesMut,
    message: &Message<'_>,
    replaces: usize,
    head: impl FnOnce(&mut BytesMut),
) -> Result<(), TooLong> {
    let start = out.len();
    out.put_u8(message.tag);
    out.put_u32(0);
    head(out);
    let length = (out.len() - start - 1) + message.size.saturating_sub(replaces);
    match u32::try_from(length) {
        Ok(length) if length <= MAX_MESSAGE => {
            out[start + 1..start + HEADER].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => Err(TooLong(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_in(text: &str) -> Option<String> {
        let body = format!("{text}\0");
        let message = Message { tag: b'Q', body: body.as_bytes(), size: HEADER + body.len(), behind: &[] };
        deallocated_name(&message).map(|name| String::from_utf8(name).unwrap())
    }

    #[test]
    fn the_name_of_a_deallocate_is_read_as_postgresql_does() {
        assert_eq!(name_in("DEALLOCATE a"), Some("a".into()));
        assert_eq!(name_in("  deallocate PREPARE  Pdo_1 ; "), Some("pdo_1".into()));
        assert_eq!(name_in("DEALLOCATE \"A\"\"b\""), Some("A\"b".into()));
        assert_eq!(name_in("DEALLOCATE  prepare\t\"a  longer name\""), Some("a  longer name".into()));
        assert_eq!(name_in("DEALLOCATE \"a\" \"b\""), None);
        assert_eq!(name_in("DEALLOCATE a b"), None);
        assert_eq!(name_in("DEALLOCATE ALL"), None);
        assert_eq!(name_in("DEALLOCATE a; select 1"), None);
        assert_eq!(name_in("select 1"), None);
    }

    #[test]
    fn a_rewritten_head_has_the_length_of_the_whole() {
        let body = b"portal\0name\0rest of the message";
        let message = Message { tag: b'B', body, size: HEADER + body.len(), behind: &[] };
        let mut out = BytesMut::new();
        let replaces = HEADER + 12;
        put_bind_head(&mut out, &message, b"portal", replaces, b"pgweir_1").unwrap();
        out.extend_from_slice(&body[12..]);
        let length = u32::from_be_bytes(*out[1..].first_chunk().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), out.len() - 1);
        assert_eq!(&out[5..], b"portal\0pgweir_1\0rest of the message");
    }
}
