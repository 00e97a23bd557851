//! Why a client's connection ends. Each has exactly one reason, for the log and for the client.

use crate::config::Config;
use crate::pool::{Closed, Refusal};
use crate::server::{Health, ServerFault};
use crate::wire::{Report, sqlstate};

/// Why a client's connection ends.
#[derive(Debug)]
pub enum Departure {
    /// The client said goodbye.
    Terminated,
    /// The client's connection ended or failed.
    Vanished(&'static str),
    /// pgweir ends it and says why.
    Dismissed(Report),
    /// The server's own error was the last word.
    ServerEnded,
    /// It was no session: a cancel request, a probe.
    Nothing,
}

impl Departure {
    /// The reason, for the log.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Terminated => "client close request".to_owned(),
            Self::Vanished(how) => (*how).to_owned(),
            Self::Dismissed(report) => report.message.clone(),
            Self::ServerEnded => "server closed the connection".to_owned(),
            Self::Nothing => "no session".to_owned(),
        }
    }
}

impl From<Report> for Departure {
    fn from(report: Report) -> Self {
        Self::Dismissed(report)
    }
}

/// The client did not finish its login in time.
pub(super) fn login_timeout() -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "client_login_timeout")
        .detail("The login was not complete within client_login_timeout.")
        .into()
}

/// A cancel request had no turn in time.
pub(super) fn cancel_wait_timeout() -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "cancel_wait_timeout")
        .detail("So many cancel requests are under way as the pool may have servers.")
        .hint("cancel_wait_timeout limits the wait.")
        .into()
}

/// The client broke the protocol.
pub(super) fn violation(message: impl Into<String>) -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, message).into()
}

/// The process is about to end.
pub(super) fn closing() -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "pooler is shutting down").into()
}

/// No more clients are let in.
pub(super) fn too_many_clients(config: &Config) -> Departure {
    Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, "no more connections allowed (max_client_conn)")
        .detail(format!("max_client_conn is {}.", config.limits.max_client_conn))
        .into()
}

/// The startup parameter `replication` is neither a boolean nor `database`.
pub(super) fn not_replication(value: &str) -> Departure {
    let text = format!("invalid value for parameter \"replication\": \"{value}\"");
    Report::fatal(sqlstate::INVALID_PARAMETER_VALUE, text)
        .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
        .into()
}

/// There is no such database.
fn no_database(name: &str) -> Departure {
    Report::fatal(sqlstate::INVALID_CATALOG_NAME, format!("no such database: {name}"))
        .hint("Add it to [databases], or add the entry \"*\" for all names.")
        .into()
}

/// The client may not enter the pool.
pub(super) fn closed(closed: Closed, database: &str, user: &str) -> Departure {
    let full = |setting: &str, whose: &str, name: &str, limit: u32| {
        let text = format!("client connections exceeded ({setting})");
        Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, text)
            .detail(format!("The {whose} \"{name}\" has {limit} clients, which is the limit."))
            .hint(format!("{setting} limits them: of the entry, or of all."))
    };
    let report = match closed {
        Closed::NoDatabase => return no_database(database),
        Closed::Disabled => {
            let text = format!("database \"{database}\" is disabled");
            Report::fatal(sqlstate::PROTOCOL_VIOLATION, text)
                .hint("An administrator refuses new clients (DISABLE) until ENABLE.")
        }
        Closed::DatabaseFull(limit) => full("max_db_client_connections", "database", database, limit),
        Closed::UserFull(limit) => full("max_user_client_connections", "user", user, limit),
    };
    report.into()
}

/// Nobody knows who the client is, and the database does not say whom to log in as.
pub(super) fn nobody_to_log_in_as() -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "bouncer config error")
        .detail("auth_type = any does not know who a client is, and the database forces no user.")
        .into()
}

/// The client gets no server. `pool` tells what the pool looked like.
pub(super) fn refused(refusal: &Refusal, pool: &str) -> Departure {
    let report = match refusal {
        Refusal::TimedOut => Report::fatal(sqlstate::PROTOCOL_VIOLATION, "query_wait_timeout")
            .detail(pool.to_owned())
            .hint("query_wait_timeout limits the wait; pool_size and shorter transactions avoid it."),
        Refusal::LoginFailing(error) => Report::fatal(error.report().code, refusal.to_string())
            .hint("No server connection is left, and the next login is tried after server_login_retry."),
        Refusal::LoginFailed(error) => error.report(),
        Refusal::Killed => return removed(),
        Refusal::ShuttingDown => Report::fatal(sqlstate::ADMIN_SHUTDOWN, refusal.to_string()),
        Refusal::Closed => {
            Report::fatal(sqlstate::ADMIN_SHUTDOWN, "the database was removed from the configuration")
        }
    };
    report.into()
}

/// The database was killed, or removed from the configuration.
pub(super) fn removed() -> Departure {
    Report::fatal(sqlstate::ADMIN_SHUTDOWN, "database removed")
        .detail("An administrator sent its clients away (KILL), or it was taken out of the configuration.")
        .into()
}

/// The session's server is to be replaced, and the session is not to keep it any longer.
pub(super) fn reconfigured() -> Departure {
    Report::fatal(sqlstate::ADMIN_SHUTDOWN, "database configuration changed")
        .hint("server_fast_close cuts sessions whose server is to be replaced (RECONNECT, RELOAD).")
        .into()
}

/// The client sent a Query where none is wanted.
pub(super) fn no_simple_queries() -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "PQexec disallowed")
        .detail("The simple query protocol is refused here.")
        .hint("disable_pqexec decides; the extended protocol (PQexecParams) is served.")
        .into()
}

/// The client waits for a server. The text is PgBouncer's.
pub(super) fn in_line(pool: &str) -> Report {
    Report::notice("No server connection available in postgres backend, client being queued")
        .detail(pool.to_owned())
        .hint("query_wait_notify decides when this is told, query_wait_timeout when the wait ends.")
}

/// An administrator ended the session.
pub(super) fn killed() -> Departure {
    let text = "terminating connection due to administrator command";
    Report::fatal(sqlstate::ADMIN_SHUTDOWN, text).into()
}

/// The server is lost. When its own last words have reached the client, nothing is added to them.
pub(super) fn server_lost(fault: &ServerFault, health: &Health, undone: &str) -> Departure {
    if *health == Health::Ending {
        return Departure::ServerEnded;
    }
    let crashed = *health == Health::Crashing;
    let code = if crashed { sqlstate::CRASH_SHUTDOWN } else { sqlstate::CONNECTION_FAILURE };
    Report::fatal(code, fault.to_string()).detail(undone.to_owned()).into()
}
