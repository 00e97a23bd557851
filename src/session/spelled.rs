//! Statements that SQL speaks of by name: PREPARE, EXECUTE and DEALLOCATE, whichever way the statement was made.
//!
//! A name that a client gave is not the one that its statement has on servers. Where a text speaks of statements, those of
//! the client's that it names are made under the client's own spelling first, on this server and for this client: the next
//! one finds them closed.

use super::admission;
use super::link::{Link, Tracking};
use super::named::{self, Rewritten};
use super::upstream::Message;
use crate::server::{
    Interner, Origin, PREFIX, Request, Spelling, Statement, Understanding, speaks_of_statements,
};
use crate::wire::backend::Status;
use crate::wire::frontend;
use crate::wire::{TooLong, put_message, split_cstr};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// A name for the PREPARE of a statement that is made under its client's spelling.
const SPELLER: &[u8] = b"pgweir_speller";

/// Closes what another client has had made under its spelling.
pub(super) fn clear(state: &mut Understanding, out: &mut BytesMut) -> Result<(), TooLong> {
    for name in state.statements.spelled.take() {
        named::put_close(out, &name)?;
        state.sent(Origin::Pooler, Request::Close);
    }
    state.put_sync(out);
    Ok(())
}

/// What goes in front of a text, so that the statements it names are there.
pub(super) fn prepare_mentioned(link: &mut Link, message: &Message<'_>) -> Result<BytesMut, TooLong> {
    let mut out = BytesMut::new();
    if let Some(name) = named::deallocated_name(message) {
        // What is dropped need not be made.
        if !link.server.state.statements.names.contains_key(&name) {
            forget(link, &name, &mut out)?;
        }
        return Ok(out);
    }
    let statements = &link.server.state.statements;
    let has_any = !statements.names.is_empty() || !statements.spelled.is_empty();
    if has_any
        && !is_known_to_be_silent(link, message)
        && let Some(sql) = sql_of(message).filter(|sql| speaks_of_statements(sql))
    {
        for name in names_in(sql) {
            ensure(link, &name, &mut out)?;
        }
    }
    Ok(out)
}

/// Whether it is the Parse of an unnamed statement once more, of which it is known that it does not speak of statements.
fn is_known_to_be_silent(link: &Link, message: &Message<'_>) -> bool {
    message.tag == b'P'
        && message.body.split_first().is_some_and(|(name, tail)| {
            let last = link.server.state.statements.names.get(b"").filter(|_| *name == 0);
            last.is_some_and(|last| !last.statement.speaks_of_statements() && last.statement.tail() == tail)
        })
}

/// Whether a text speaks of statements: behind an earlier batch it waits, since answers that are still to come tell which
/// there are, and whether the transaction lets any be made.
pub(super) fn must_wait(link: &Link, message: &Message<'_>) -> bool {
    // While it takes COPY data the server answers nothing.
    !link.server.state.pending.takes_copy_data() && sql_of(message).is_some_and(speaks_of_statements)
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
        for name in names_in(statement.sql()) {
            ensure(link, &name, out)?;
        }
    }
    Ok(())
}

/// Sees to it that the server has the statement of a client's name under that name, and no older one.
pub(super) fn ensure(link: &mut Link, name: &[u8], out: &mut BytesMut) -> Result<(), TooLong> {
    if name.is_empty() {
        return Ok(()); // SQL has no word for the unnamed statement
    }
    let statements = &link.server.state.statements;
    let known = statements.names.get_key_value(name);
    let known = known.map(|(name, named)| (name, Arc::clone(&named.statement)));
    let (wanted, there) = (known.as_ref().map(|(_, statement)| statement.id()), statements.spelled.get(name));
    if there == wanted {
        return Ok(());
    }
    let is_open = link.server.state.pending.awaits_sync();
    forget(link, name, out)?;
    let is_possible = link.server.state.transaction != Status::Failed && !name.starts_with(PREFIX);
    if let Some((name, statement)) = known.filter(|(_, statement)| !statement.is_local() && is_possible) {
        make(link, name, &statement, out)?;
    }
    if !is_open && link.server.state.pending.awaits_sync() {
        // A Parse takes a snapshot, and what comes may begin with what must come before that.
        link.server.state.put_sync(out);
    }
    Ok(())
}

/// Closes what the server has under a name as its client spells it.
pub(super) fn forget(link: &mut Link, name: &[u8], out: &mut BytesMut) -> Result<(), TooLong> {
    let state = &mut link.server.state;
    if let Some(id) = state.statements.spelled.get(name) {
        named::put_close(out, name)?;
        state.sent(Origin::Pooler, Request::Unspell(Spelling { name: Bytes::copy_from_slice(name), id }));
        state.statements.spelled.remove(name);
    }
    Ok(())
}

fn make(link: &mut Link, name: Bytes, statement: &Statement, out: &mut BytesMut) -> Result<(), TooLong> {
    let state = &mut link.server.state;
    let spelling = Spelling { name, id: statement.id() };
    state.statements.spelled.insert(spelling.clone());
    if !statement.is_sql() {
        named::put_parse(out, &spelling.name, statement.tail())?;
        state.sent(Origin::Pooler, Request::SpellParse(spelling));
        return Ok(());
    }
    if !state.pending.awaits_sync() {
        frontend::put_query_bytes(out, statement.tail())?;
        state.sent(Origin::Pooler, Request::Spell(spelling));
        return Ok(());
    }
    // A query would end the client's batch. What an earlier one that failed has left goes first.
    named::put_close(out, SPELLER)?;
    state.sent(Origin::Pooler, Request::Close);
    named::put_parse(out, SPELLER, &[statement.tail(), &b"\0\0\0"[..]].concat())?;
    state.sent(Origin::Pooler, Request::ParseForeign);
    put_message(out, b'B', |out| out.extend_from_slice(&[SPELLER, b"\0", SPELLER, &[0; 7]].concat()))?;
    state.sent(Origin::Pooler, Request::Bind);
    put_message(out, b'E', |out| out.extend_from_slice(&[SPELLER, &[0; 5]].concat()))?;
    state.sent(Origin::Pooler, Request::SpellExecute(spelling));
    for kind in [b'S', b'P'] {
        put_message(out, b'C', |out| out.extend_from_slice(&[&[kind], SPELLER, b"\0"].concat()))?;
        state.sent(Origin::Pooler, Request::Close);
    }
    Ok(())
}

/// What a text that is one command does to statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `DEALLOCATE name`.
    Deallocate(Vec<u8>),
    /// `PREPARE name …`: the statement can be made again elsewhere, by the same text.
    Prepare {
        /// The name.
        name: Vec<u8>,
        /// All of it.
        sql: Vec<u8>,
    },
}

/// What a text does to statements, if that is all it does.
pub(super) fn command_in(sql: &[u8]) -> Option<Command> {
    if let Some(name) = prepared_in(sql) {
        return Some(Command::Prepare { name, sql: sql.to_vec() });
    }
    named::deallocated_in(sql).map(Command::Deallocate)
}

/// A query that is nothing but a PREPARE.
pub(super) fn prepare(link: &Link, interner: &Interner, message: &Message<'_>) -> Option<Request> {
    if link.tracking == Tracking::Off || !message.is_whole() {
        return None;
    }
    let sql = message.body.strip_suffix(b"\0")?;
    let (name, statement) = make_of_sql(link, interner, prepared_in(sql)?, sql)?;
    Some(Request::Prepare { name, statement })
}

/// The statement of a PREPARE; over a limit its client stays on this server instead.
fn make_of_sql(
    link: &Link,
    interner: &Interner,
    name: Vec<u8>,
    sql: &[u8],
) -> Option<(Bytes, Arc<Statement>)> {
    let names = &link.server.state.statements.names;
    admission::check_client(names, name.len() + sql.len(), &link.limits).ok()?;
    Some((Bytes::from(name), interner.of_sql(sql)))
}

/// Such commands through Parse, Bind and Execute, as the Execute goes out.
pub(super) fn execute(link: &Link, interner: &Interner, portal: &[u8]) -> Request {
    executed_command(link, interner, portal).unwrap_or(Request::Execute)
}

fn executed_command(link: &Link, interner: &Interner, portal: &[u8]) -> Option<Request> {
    let statements = &link.server.state.statements;
    let bound = statements.bound.as_ref().filter(|bound| bound.speaks && bound.portal == portal)?;
    let command = match statements.names.get(&bound.name) {
        Some(named) if named.statement.speaks_of_statements() => command_in(named.statement.sql()),
        Some(_) => None,
        None => link.unnamed_command.clone(),
    };
    match command? {
        Command::Deallocate(name) => {
            statements.names.get_key_value(&name).map(|(name, _)| Request::ExecuteDeallocate(name))
        }
        Command::Prepare { name, sql } => {
            let (name, statement) = make_of_sql(link, interner, name, &sql)?;
            Some(Request::ExecutePrepare { name, statement })
        }
    }
}

/// Bind or Describe of a statement that SQL made.
pub(super) fn use_sql(link: &mut Link, name: &[u8], request: Request) -> Result<Rewritten, TooLong> {
    let mut bytes = BytesMut::new();
    ensure(link, name, &mut bytes)?;
    link.server.state.sent(Origin::Client, request);
    Ok(Rewritten { bytes, replaces: 0 })
}

/// The name in a text that is nothing but `PREPARE name …`.
fn prepared_in(sql: &[u8]) -> Option<Vec<u8>> {
    let text = sql.trim_ascii();
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

/// The names behind `EXECUTE`, `PREPARE` and `DEALLOCATE` in a text.
fn names_in(sql: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut words = identifiers(sql).peekable();
    std::iter::from_fn(move || {
        loop {
            let word = words.next()?;
            let is_prepare = word == b"prepare";
            if !is_prepare && word != b"execute" && word != b"deallocate" {
                continue;
            }
            // DEALLOCATE PREPARE name.
            if !is_prepare && words.peek().is_some_and(|next| next == b"prepare") {
                continue;
            }
            return words.next();
        }
    })
}

/// The identifiers in a text, as PostgreSQL reads them: folded to lower case, unless they are quoted. Literals and comments
/// are left out.
fn identifiers(sql: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            let (&first, behind) = rest.split_first()?;
            match first {
                b'"' => return Some(quoted(&mut rest)),
                b'\'' => rest = after(behind, b"'"),
                b'-' if behind.first() == Some(&b'-') => rest = after(behind, b"\n"),
                b'/' if behind.first() == Some(&b'*') => rest = after(behind, b"*/"),
                b'$' => rest = after_dollar_quote(rest),
                _ if is_identifier(first) => return Some(plain(&mut rest)),
                _ => rest = behind,
            }
        }
    })
}

/// What stands behind the next such mark.
fn after<'a>(sql: &'a [u8], mark: &[u8]) -> &'a [u8] {
    let at = sql.windows(mark.len()).position(|window| window == mark);
    at.map_or(&[], |at| &sql[at + mark.len()..])
}

/// What stands behind `$tag$ … $tag$`, or behind a dollar sign that is none of that.
fn after_dollar_quote(sql: &[u8]) -> &[u8] {
    let behind = &sql[1..];
    let tag = behind.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    match tag.filter(|end| behind[*end] == b'$' && !behind[..*end].iter().any(u8::is_ascii_digit)) {
        Some(end) => after(&behind[end + 1..], &sql[..end + 2]),
        None => behind,
    }
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

    fn name_in(sql: &str) -> Option<String> {
        prepared_in(sql.as_bytes()).map(|name| String::from_utf8(name).unwrap())
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
        let found: Vec<_> =
            identifiers(b"EXECUTE A_1('x y', $1, $a$ z $a$, \"q \"\"t\") /* b */ c -- \"open").collect();
        assert_eq!(found, [&b"execute"[..], b"a_1", b"1", b"q \"t", b"c"]);
    }

    #[test]
    fn only_names_behind_the_words_count() {
        let found: Vec<_> = names_in(
            b"select 'execute a', b; EXECUTE c(1); deallocate prepare d; PREPARE \"E\" as x; deallocate f",
        )
        .collect();
        assert_eq!(found, [&b"c"[..], b"d", b"E", b"f"]);
    }
}
