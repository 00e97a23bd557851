//! Limits on what a client's prepared statements take of memory. A Parse over one of them fails as any other would: in
//! its place among the answers, and with everything behind it up to the Sync.

use super::link::Link;
use super::named::{Rewritten, evict, put_describe};
use super::upstream::Message;
use crate::config::StatementLimits;
use crate::net::BLOCK;
use crate::server::{Interner, NOBODY, Names, Origin, Request, Statement, depends_on_the_hour};
use crate::wire::{Report, TooLong, split_cstr, sqlstate};
use bytes::BytesMut;
use std::sync::Arc;

/// A limit that one more statement would be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// `max_client_prepared_statements`.
    ClientCount { limit: usize },
    /// `max_client_prepared_bytes`.
    ClientBytes { bytes: usize, wanted: usize, limit: usize },
    /// `max_prepared_bytes`.
    Bytes { bytes: usize, wanted: usize, limit: usize },
    /// The name of a portal fills a block: behind it nobody can see which statement is meant.
    PortalName,
}

/// The statement of a Parse under a new name, if the limits allow one more.
pub(super) fn admit(
    link: &Link,
    interner: &Interner,
    message: &Message<'_>,
    name: &[u8],
) -> Result<Arc<Statement>, Limit> {
    let tail = message.body.get(name.len() + 1..).filter(|_| message.is_whole());
    let wanted = name.len() + tail.map_or(0, <[u8]>::len);
    check_client(&link.server.state.statements.names, wanted, &link.limits)?;
    let Some(tail) = tail else { return Ok(interner.local()) };
    let sql = split_cstr(tail).map_or(tail, |(sql, _)| sql);
    let context = if depends_on_the_hour(sql) { interner.private_context() } else { link.context() };
    interner.intern_within(context, tail, link.limits.bytes).map_err(|full| Limit::Bytes {
        bytes: full.bytes,
        wanted: full.wanted,
        limit: full.limit,
    })
}

pub(super) fn check_client(names: &Names, wanted: usize, limits: &StatementLimits) -> Result<(), Limit> {
    let bytes = names.bytes();
    if let Some(limit) = limits.client_count.filter(|limit| names.len() >= *limit) {
        return Err(Limit::ClientCount { limit });
    }
    match limits.client_bytes.filter(|limit| bytes + wanted > *limit) {
        Some(limit) => Err(Limit::ClientBytes { bytes, wanted, limit }),
        None => Ok(()),
    }
}

/// Has the server refuse something else in place of a message, so that order and skipping are its own.
pub(super) fn refuse(link: &mut Link, message: &Message<'_>, limit: Limit) -> Result<Rewritten, TooLong> {
    let traffic = &link.server.pool().traffic;
    traffic.count(|t| &t.prepared_refusals);
    traffic.count(|t| &t.errors);
    link.refusal = Some(limit);
    let mut bytes = BytesMut::new();
    if matches!(limit, Limit::Bytes { .. }) {
        relieve(link, &mut bytes)?;
    }
    put_describe(&mut bytes, NOBODY)?;
    link.server.state.sent(Origin::Client, Request::Refused(Box::new(limit.report())));
    Ok(Rewritten { bytes, replaces: message.size })
}

/// Closes what this server keeps for clients that have left, so that the next one finds room.
fn relieve(link: &mut Link, out: &mut BytesMut) -> Result<(), TooLong> {
    for statement in link.server.state.statements.unused() {
        link.server.pool().traffic.count(|t| &t.prepared_evictions);
        evict(link, out, &statement)?;
    }
    Ok(())
}

impl Limit {
    /// What the client is told.
    pub(super) fn report(self) -> Report {
        let (text, detail) = match self {
            Self::ClientCount { limit } => {
                ("too many prepared statements", format!("This client has {limit}, which is the limit."))
            }
            Self::ClientBytes { bytes, wanted, limit } => (
                "prepared statements take too much memory",
                format!("Those of this client take {bytes} bytes, this one {wanted}; the limit is {limit}."),
            ),
            Self::Bytes { bytes, wanted, limit } => (
                "prepared statements take too much memory",
                format!("Those of all clients take {bytes} bytes, this one {wanted}; the limit is {limit}."),
            ),
            Self::PortalName => {
                ("portal name is too long", format!("It does not end within the first {BLOCK} bytes."))
            }
        };
        let report = Report::error(self.code(), text).detail(detail);
        match self.setting() {
            Some(name) => report.hint(format!("Close some that are not needed any longer, or raise {name}.")),
            None => report,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::PortalName => sqlstate::PROGRAM_LIMIT_EXCEEDED,
            _ => sqlstate::CONFIGURATION_LIMIT_EXCEEDED,
        }
    }

    fn setting(self) -> Option<&'static str> {
        match self {
            Self::ClientCount { .. } => Some("max_client_prepared_statements"),
            Self::ClientBytes { .. } => Some("max_client_prepared_bytes"),
            Self::Bytes { .. } => Some("max_prepared_bytes"),
            Self::PortalName => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_limit_is_reached_exactly() {
        let (interner, mut names) = (Interner::default(), Names::default());
        names.insert(Bytes::from_static(b"a"), interner.intern(b"123456789").into());
        let limits = |client_count, client_bytes| StatementLimits { client_count, client_bytes, bytes: None };
        assert_eq!(check_client(&names, 5, &limits(Some(2), Some(15))), Ok(()));
        assert_eq!(check_client(&names, 5, &limits(None, None)), Ok(()));
        assert_eq!(check_client(&names, 5, &limits(Some(1), None)), Err(Limit::ClientCount { limit: 1 }));
        let over = Limit::ClientBytes { bytes: 10, wanted: 6, limit: 15 };
        assert_eq!(check_client(&names, 6, &limits(Some(2), Some(15))), Err(over));
        let report = over.report();
        assert_eq!(report.code, "53400");
        assert!(report.hint.is_some_and(|hint| hint.contains("max_client_prepared_bytes")));
    }
}
