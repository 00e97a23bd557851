//! Statements that SQL speaks of by name: PREPARE, EXECUTE and DEALLOCATE, whichever way the statement was made.
//!
//! A name that a client gave is not the one that its statement has on servers. Where a text speaks of statements, those of
//! the client's that it names are made under the client's own spelling first, on this server and for this client: the next
//! one finds them closed.

use super::admission;
use super::link::{Link, Tracking};
use super::named::{self, Rewritten};
use super::upstream::Message;
use crate::server::{Interner, Origin, Request, Statement, Understanding, speaks_of_statements};
use crate::wire::backend::Status;
use crate::wire::frontend::{self, SYNC};
use crate::wire::{TooLong, split_cstr};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Closes what another client has had made under its spelling.
pub(super) fn clear(state: &mut Understanding, client: u64, out: &mut BytesMut) -> Result<(), TooLong> {
    let names = state.statements.spelled.hand_over(client);
    if names.is_empty() {
        return Ok(());
    }
    for name in names {
        named::put_close(out, &name)?;
        state.sent(Origin::Pooler, Request::Close);
    }
    out.extend_from_slice(&SYNC);
    state.sent(Origin::Pooler, Request::Sync);
    Ok(())
}

/// What goes in front of a text, so that the statements it names are there.
pub(super) fn prepare_mentioned(link: &mut Link, message: &Message<'_>) -> Result<BytesMut, TooLong> {
    let mut out = BytesMut::new();
    if !link.server.state.statements.names.is_empty()
        && let Some(sql) = sql_of(message).filter(|sql| speaks_of_statements(sql))
    {
        for name in identifiers(sql) {
            ensure(link, &name, &mut out)?;
        }
    }
    Ok(out)
}

/// Whether a text speaks of names of which answers that are still to come tell what they stand for.
pub(super) fn must_wait(link: &Link, message: &Message<'_>) -> bool {
    link.server.state.pending.decides_on_names() && sql_of(message).is_some_and(speaks_of_statements)
}

/// The text of a Query or a Parse, as far as it is here.
fn sql_of<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let text = match message.tag {
        b'Q' => message.body,
        b'P' => split_cstr(message.body)?.1,
        _ => return None,
    };
    Some(split_cstr(text).map_or(text, |(sql, _)| sql))
}

/// The same for a statement that was parsed before, as it is used.
pub(super) fn prepare_for_use(
    link: &mut Link,
    statement: &Statement,
    out: &mut BytesMut,
) -> Result<(), TooLong> {
    if statement.speaks_of_statements() {
        for name in identifiers(statement.sql()) {
            ensure(link, &name, out)?;
        }
    }
    Ok(())
}

/// Sees to it that the server has the statement of a client's name under that name.
pub(super) fn ensure(link: &mut Link, name: &[u8], out: &mut BytesMut) -> Result<(), TooLong> {
    let state = &mut link.server.state;
    let Some((name, named)) = state.statements.names.get_key_value(name) else { return Ok(()) };
    let (name, statement) = (name.clone(), Arc::clone(&named.statement));
    let is_open = state.pending.awaits_sync();
    if statement.is_local()
        || state.transaction == Status::Failed
        || (is_open && statement.is_sql())
        || !state.statements.spelled.insert(name.clone())
    {
        return Ok(());
    }
    if statement.is_sql() {
        frontend::put_query_bytes(out, statement.tail())?;
        state.sent(Origin::Pooler, Request::Spell(name));
        return Ok(());
    }
    named::put_parse(out, &name, statement.tail())?;
    state.sent(Origin::Pooler, Request::SpellParse(name));
    if !is_open {
        // It takes a snapshot, and what comes may begin with what must come before that.
        out.extend_from_slice(&SYNC);
        state.sent(Origin::Pooler, Request::Sync);
    }
    Ok(())
}

/// A query that is nothing but a PREPARE: its statement can be made again elsewhere, by the same text.
pub(super) fn prepare(link: &Link, interner: &Interner, message: &Message<'_>) -> Option<Request> {
    if link.tracking == Tracking::Off {
        return None;
    }
    let name = Bytes::from(prepared_name(message)?);
    let names = &link.server.state.statements.names;
    // Over the limit it keeps its client on this server instead.
    admission::check_client(names, name.len() + message.body.len(), &link.limits).ok()?;
    let text = message.body.strip_suffix(b"\0")?;
    Some(Request::Prepare { name, statement: interner.of_sql(text) })
}

/// DEALLOCATE through Parse, Bind and Execute, as the Execute goes out.
pub(super) fn execute(link: &Link, portal: &[u8]) -> Request {
    let statements = &link.server.state.statements;
    let target = statements.bound.as_ref().filter(|bound| bound.portal == portal).and_then(|bound| {
        match statements.names.get(&bound.name) {
            Some(named) => named::deallocated_in(named.statement.sql()),
            None => link.unnamed_deallocates.clone(),
        }
    });
    match target.and_then(|name| statements.names.get_key_value(&name).map(|(name, _)| name.clone())) {
        Some(name) => Request::ExecuteDeallocate(name),
        None => Request::Execute,
    }
}

/// Bind or Describe of a statement that SQL made.
pub(super) fn use_sql(link: &mut Link, name: &[u8], request: Request) -> Result<Rewritten, TooLong> {
    let mut bytes = BytesMut::new();
    ensure(link, name, &mut bytes)?;
    link.server.state.sent(Origin::Client, request);
    Ok(Rewritten { bytes, replaces: 0 })
}

/// The name in a query that is nothing but `PREPARE name …`.
fn prepared_name(message: &Message<'_>) -> Option<Vec<u8>> {
    if !message.is_whole() {
        return None;
    }
    let text = message.body.strip_suffix(b"\0")?.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let (word, rest) = text.split_at_checked(7)?;
    // A list of commands is another matter, and what only looks like one is no worse off.
    if !word.eq_ignore_ascii_case(b"PREPARE") || !rest.first()?.is_ascii_whitespace() || text.contains(&b';')
    {
        return None;
    }
    let name = identifiers(rest).next()?;
    (!name.eq_ignore_ascii_case(b"transaction")).then_some(name)
}

/// The identifiers in a text, as PostgreSQL reads them: folded to lower case, unless they are quoted. What stands in
/// literals and comments is among them, which does no harm.
fn identifiers(sql: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let at = rest.iter().position(|byte| is_identifier(*byte) || *byte == b'"')?;
        rest = &rest[at..];
        Some(if rest.first() == Some(&b'"') { quoted(&mut rest) } else { plain(&mut rest) })
    })
}

fn plain(rest: &mut &[u8]) -> Vec<u8> {
    let end = rest.iter().position(|byte| !is_identifier(*byte)).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(end);
    *rest = behind;
    word.to_ascii_lowercase()
}

fn quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    *rest = &rest[1..];
    while let Some(end) = rest.iter().position(|byte| *byte == b'"') {
        name.extend_from_slice(&rest[..end]);
        *rest = &rest[end + 1..];
        if rest.first() != Some(&b'"') {
            return name;
        }
        name.push(b'"');
        *rest = &rest[1..];
    }
    *rest = &[];
    name
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEADER;

    fn name_in(sql: &str) -> Option<String> {
        let body = format!("{sql}\0");
        let message = Message { tag: b'Q', body: body.as_bytes(), size: HEADER + body.len() };
        prepared_name(&message).map(|name| String::from_utf8(name).unwrap())
    }

    #[test]
    fn the_name_of_a_prepare_is_read_as_postgresql_does() {
        assert_eq!(name_in("PREPARE a AS SELECT 1"), Some("a".into()));
        assert_eq!(name_in(" prepare Mine(int) as select $1 ; "), Some("mine".into()));
        assert_eq!(name_in("PREPARE \"My \"\"one\" AS SELECT 1"), Some("My \"one".into()));
        assert_eq!(name_in("PREPARE a AS SELECT 1; SELECT 2"), None);
        assert_eq!(name_in("PREPARE TRANSACTION 'x'"), None);
        assert_eq!(name_in("PREPARED a"), None);
        assert_eq!(name_in("PREPARE"), None);
        assert_eq!(name_in("SELECT 1"), None);
    }

    #[test]
    fn identifiers_are_found() {
        let found: Vec<_> = identifiers(b"EXECUTE A_1('x', \"q \"\"t\") -- \"open").collect();
        assert_eq!(found, [&b"execute"[..], b"a_1", b"x", b"q \"t", b""]);
    }
}
