//! The lines of the log about one client, in words that tools match.

use super::departure::Departure;
use crate::config::Log;
use crate::stats::{ClientRecord, Peer, unix_micros};

/// Whom a line is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) client: u64,
    pub(super) peer: &'a Peer,
    pub(super) database: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    /// When it came, in microseconds since 1970.
    pub(super) since: u64,
}

impl<'a> Subject<'a> {
    /// A client that is logged in.
    pub(super) fn of(record: &'a ClientRecord) -> Self {
        Self {
            client: record.id,
            peer: &record.peer,
            database: Some(&record.who.database),
            user: Some(&record.who.user),
            since: record.connected,
        }
    }

    /// A client has said who it is and where it wants to go.
    pub(super) fn login_attempt(&self, replication: bool) {
        let (database, user) = (self.database.unwrap_or_default(), self.user.unwrap_or_default());
        let replication = if replication { "yes" } else { "no" };
        tracing::info!(
            client = self.client,
            database,
            user,
            address = self.peer.address(),
            port = self.peer.port(),
            "login attempt: db={database} user={user} tls=no replication={replication}"
        );
    }

    /// A connection ends; whatever pgweir itself has to do with it is a line of its own.
    pub(super) fn closing(&self, departure: &Departure, log: &Log) {
        if log.disconnections {
            tracing::info!(
                client = self.client,
                database = self.database,
                user = self.user,
                address = self.peer.address(),
                port = self.peer.port(),
                "closing because: {} (age={}s)",
                departure.reason(),
                unix_micros().saturating_sub(self.since) / 1_000_000
            );
        }
        if let Departure::Dismissed(report) = departure {
            if log.pooler_errors {
                self.pooler_error(&report.code, &report.message);
            }
        }
    }

    /// An error of pgweir's own for a client.
    pub(super) fn pooler_error(&self, sqlstate: &str, text: &str) {
        tracing::warn!(
            client = self.client,
            database = self.database,
            user = self.user,
            address = self.peer.address(),
            port = self.peer.port(),
            sqlstate,
            "pooler error: {text}"
        );
    }
}
