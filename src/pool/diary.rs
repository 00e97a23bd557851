//! The lines of the log about one server, in words that tools match.

use super::member::Member;
use super::{Connector, Pool, Pooled};
use crate::stats::{ServerRecord, unix_micros};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl<C: Connector> Pool<C> {
    /// A server is there.
    pub(super) fn note_opened(&self, record: &ServerRecord) {
        if self.settings.load().care.lines.connections {
            let peer = &record.peer;
            tracing::info!(
                server = record.id,
                database = record.database,
                user = record.user,
                address = peer.address(),
                port = peer.port(),
                process = record.process,
                "new connection to server (from {}:{})",
                peer.local_address(),
                peer.local_port()
            );
        }
    }

    /// It is about to be closed. `why` is told where the server itself shows no reason.
    pub(super) fn note_closing(&self, member: &Member<C::Server>, why: &str) {
        let settings = self.settings.load();
        if settings.care.lines.disconnections {
            let record = &member.record;
            tracing::info!(
                server = record.id,
                database = record.database,
                user = record.user,
                address = record.peer.address(),
                port = record.peer.port(),
                "closing because: {} (age={}s)",
                self.reason(member).unwrap_or(why),
                unix_micros().saturating_sub(record.connected) / 1_000_000
            );
        }
    }

    /// Why a server is of no use any longer, as far as it shows.
    fn reason(&self, member: &Member<C::Server>) -> Option<&'static str> {
        let reasons = [
            (self.is_held_back(), "pause mode"),
            (member.server.is_withdrawn(), "server address no longer in DNS"),
            (member.generation != self.generation.load(Ordering::Acquire), "database configuration changed"),
            (member.is_expired(Instant::now()), "server lifetime over"),
        ];
        reasons.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
    }
}
