//! A batch that the server refused unseen goes out once more. What is kept of it, and when that is possible at all, is in
//! [`Rerun`](crate::server::Rerun).

use super::departure::Departure;
use super::link::{Link, Tracking};
use super::named;
use super::upstream::{self, Message, Verdict, violation};
use crate::net::Pipe;
use crate::server::{Fault, Interner, Origin};
use crate::wire::backend::{Status, put_ready};
use crate::wire::frontend::parse_name;
use crate::wire::{HEADER, MAX_MESSAGE, Piece, Scanner, put_message};

/// Takes the next step, as soon as the server has done with the last one.
pub(super) fn advance(link: &mut Link, up: &mut Pipe, interner: &Interner) -> Result<(), Departure> {
    let state = &mut link.server.state;
    let Some(fault) = state.rerun.fault().cloned() else { return Ok(()) };
    if state.pending.is_skipping() {
        // The client waits for an answer before it sends its Sync.
        up.insert(|out| state.put_sync(out));
        return Ok(());
    }
    if !state.pending.is_settled() {
        return Ok(());
    }
    let told = state.statements.names.get(&fault.name).and_then(|named| named.told);
    let relies = state.rerun.relies_on_what_was_told(&fault.name);
    match (told.filter(|_| relies), state.rerun.has_asked()) {
        (Some(_), false) => ask(link, up, &fault),
        (Some(told), true) if state.statements.found.is_some_and(|found| !told.is_surely(found)) => {
            reject(link, &fault);
            Ok(())
        }
        _ => run(link, up, interner, &fault),
    }
}

/// Asks what the statement gives now: its client will read the rows as what it was told before.
fn ask(link: &mut Link, up: &mut Pipe, fault: &Fault) -> Result<(), Departure> {
    let Tracking::Shared { limit, .. } = link.tracking else { return Ok(()) };
    link.server.state.statements.found = None;
    link.server.state.rerun.ask();
    up.insert(|out| named::ask(link, limit, out, &fault.name)).map_err(violation)?;
    up.insert(|out| link.server.state.put_sync(out));
    Ok(())
}

/// The client would misread the rows: it gets the error, as it would on a connection of its own.
fn reject(link: &mut Link, fault: &Fault) {
    link.server.state.rerun.give_up();
    link.server.tell_client(|out| {
        // It was whole when it came, so it is no longer than a message may be.
        let _fits = put_message(out, b'E', |out| out.extend_from_slice(&fault.error));
        put_ready(out, Status::Idle);
    });
    let _not_counted = link.note_answer();
}

/// Sends all of it again.
fn run(link: &mut Link, up: &mut Pipe, interner: &Interner, fault: &Fault) -> Result<(), Departure> {
    let kept = link.server.state.rerun.take();
    forget_names(link, &kept, fault.told);
    let known = link.server.state.rerun.known();
    link.server.state.pending.mute(known);
    for (whole, message) in messages(&kept) {
        match upstream::judge(link, interner, &message)? {
            Verdict::Pass(request) => {
                link.server.state.sent(Origin::Client, request);
                up.insert(|out| out.extend_from_slice(whole));
            }
            Verdict::Rewrite(rewritten) => up.insert(|out| {
                out.extend_from_slice(&rewritten.bytes);
                out.extend_from_slice(whole.get(rewritten.replaces..).unwrap_or_default());
            }),
            Verdict::Drop | Verdict::Farewell => {}
        }
    }
    link.server.state.rerun.sent_again(kept, fault.synced);
    link.server.pool().traffic.count(|t| &t.batch_reruns);
    Ok(())
}

/// Names that the batch has given before it was refused: it is to give them once more.
fn forget_names(link: &mut Link, kept: &[u8], answered: usize) {
    let names = &mut link.server.state.statements.names;
    for (_, message) in messages(kept).filter(|(_, message)| message.tag != b'H').take(answered) {
        if message.tag == b'P'
            && let Some(name) = parse_name(message.body)
        {
            names.remove(name);
        }
    }
}

/// Kept messages are whole. Each with all its bytes.
fn messages(kept: &[u8]) -> impl Iterator<Item = (&[u8], Message<'_>)> {
    let mut rest = kept;
    std::iter::from_fn(move || {
        let Ok(Piece::Whole { tag, body }) = Scanner::default().next(rest, MAX_MESSAGE) else { return None };
        let size = HEADER + body.len();
        let (whole, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some((whole, Message { tag, body, size, behind }))
    })
}
