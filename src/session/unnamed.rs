//! The unnamed prepared statement. Most drivers send the same few texts as unnamed statements again and again, and a
//! server would parse and plan them each time; where nobody could tell, such a text becomes one of the statements that all
//! clients share.
//!
//! That is so for a Parse that is the first message of a batch outside a transaction: whatever changed behind pgweir's
//! back shows in an error of the Bind, and then the whole batch goes out again. Inside a transaction it could not.

use super::link::Link;
use super::named::{self, Rewritten};
use super::upstream::Message;
use crate::server::{Interner, Origin, Request, Statement, Understanding, Unnamed, depends_on_the_hour};
use crate::wire::backend::Status;
use crate::wire::{TooLong, frontend, split_cstr};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Parse of the unnamed statement; `None` lets it through as it is.
pub(super) fn parse(
    link: &mut Link,
    interner: &Interner,
    limit: usize,
    message: &Message<'_>,
) -> Result<Option<Rewritten>, TooLong> {
    if !link.server.state.rerun.is_all(message.size) {
        return Ok(None);
    }
    let Some(tail) = message.body.get(1..) else { return Ok(None) };
    let Some(statement) = shared(link, interner, tail) else { return Ok(None) };
    let statements = &mut link.server.state.statements;
    statements.unnamed_is_clients = false;
    statements.own_unnamed = Unnamed::Absent;
    if !statements.names.renew(b"", &statement) {
        statements.names.insert(Bytes::new(), Arc::clone(&statement).into());
    }
    named::make(link, limit, message, Bytes::new(), statement).map(Some)
}

/// The statement that all share, for a text that comes again and again.
fn shared(link: &Link, interner: &Interner, tail: &[u8]) -> Option<Arc<Statement>> {
    let context = link.context();
    let last = link.server.state.statements.names.get(b"").map(|named| &named.statement);
    if let Some(same) = last.filter(|last| last.context() == context && last.tail() == tail) {
        return Some(Arc::clone(same));
    }
    let (sql, _) = split_cstr(tail)?;
    if !reads_or_writes(sql) || !interner.has_seen(context, tail) || depends_on_the_hour(sql) {
        return None;
    }
    // Over the limit on memory it is parsed as ever.
    interner.intern_within(context, tail, link.limits.bytes).ok()
}

/// Whether it is one of the commands that PostgreSQL plans.
fn reads_or_writes(sql: &[u8]) -> bool {
    const COMMANDS: [&[u8]; 8] =
        [b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"WITH", b"VALUES", b"MERGE", b"TABLE"];
    let sql = sql.trim_ascii_start();
    let end = sql.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(sql.len());
    COMMANDS.iter().any(|command| sql[..end].eq_ignore_ascii_case(command))
}

/// Whether the client's unnamed statement is one that is shared.
pub(super) fn is_shared(link: &Link) -> bool {
    let statements = &link.server.state.statements;
    !statements.unnamed_in_batch && statements.names.contains_key(b"")
}

/// Whether it depends on answers that are still to come what the unnamed statement is. Where the server knows as well as
/// the client, it does not matter.
pub(super) fn must_wait(link: &Link) -> bool {
    let state = &link.server.state;
    if state.statements.unnamed_in_batch {
        false
    } else if state.statements.names.contains_key(b"") {
        state.pending.leaves_unnamed_open()
    } else {
        // To restore it, it must be known whether the transaction has failed.
        !state.statements.unnamed_is_clients
    }
}

/// Bind or Describe of an unnamed statement that is the client's alone: it is made where it is used. That it is made
/// afresh wherever the client comes would cost a Parse for each transaction of a client that has long forgotten it.
pub(super) fn refer(link: &mut Link, request: Request) -> Result<Option<Rewritten>, TooLong> {
    let state = &mut link.server.state;
    if state.statements.unnamed_is_clients || state.statements.unnamed_in_batch {
        return Ok(None);
    }
    let mut bytes = BytesMut::new();
    restore(state, &mut bytes)?;
    state.statements.unnamed_in_batch = true;
    state.sent(Origin::Client, request);
    Ok(Some(Rewritten { bytes, replaces: 0 }))
}

/// Makes the server's unnamed statement the client's.
pub(super) fn restore(state: &mut Understanding, out: &mut BytesMut) -> Result<(), TooLong> {
    if state.statements.unnamed_is_clients {
        return Ok(());
    }
    let Unnamed::Parsed(parse) = state.statements.own_unnamed.clone() else {
        frontend::put_close_unnamed(out)?;
        state.sent(Origin::Pooler, Request::CloseUnnamed);
        return Ok(());
    };
    // In a failed transaction the server refuses it as it would refuse the client's message.
    let is_plain = state.pending.awaits_sync() || state.transaction == Status::Failed;
    out.extend_from_slice(&parse);
    state.sent(Origin::Pooler, Request::ParseUnnamed(Some(parse)));
    if !is_plain {
        // It takes a snapshot, and a client's own transaction may begin with what must come before that.
        state.put_sync(out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_planned_is_shared() {
        for sql in ["select 1", " \n WITH a AS (SELECT 1) TABLE a", "VALUES(1)", "insert into t values (1)"] {
            assert!(reads_or_writes(sql.as_bytes()), "{sql}");
        }
        for sql in ["BEGIN", "", "SET a = 1", "selection", "/* SELECT */ BEGIN", "CALL p()"] {
            assert!(!reads_or_writes(sql.as_bytes()), "{sql}");
        }
    }
}
