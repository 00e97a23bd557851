//! What the process asks of the system: its user, its files, its sockets' options, its log.

use super::error::{Findings, Remark};
use super::resolve::Values;
use std::path::PathBuf;

/// Who and where the process is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessSettings {
    /// User to become once the TCP sockets are bound.
    pub user: Option<String>,
    /// File for the process id.
    pub pidfile: Option<PathBuf>,
}

/// Options of TCP sockets, towards clients and towards servers; 0 is the system's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpOptions {
    /// Probe connections that are silent.
    pub keepalive: bool,
    /// Lost probes after which a connection is dead.
    pub keepcnt: u32,
    /// Seconds of silence before the first probe.
    pub keepidle: u32,
    /// Seconds between probes.
    pub keepintvl: u32,
    /// Milliseconds that sent data may stay unacknowledged.
    pub user_timeout: u32,
    /// Bytes of the kernel's buffers.
    pub socket_buffer: u32,
    /// Leave a client with the kernel until its first bytes are there. Of listeners only.
    pub defer_accept: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            keepalive: true,
            keepcnt: 0,
            keepidle: 0,
            keepintvl: 0,
            user_timeout: 0,
            socket_buffer: 0,
            defer_accept: true,
        }
    }
}

/// Where log lines go beside standard error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogTargets {
    /// A file, to which lines are appended.
    pub file: Option<PathBuf>,
    /// The system's log; `None` when `syslog` is off.
    pub syslog: Option<Syslog>,
}

/// How the system's log is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// The number of `syslog_facility`.
    pub facility: u8,
    /// `syslog_ident`.
    pub ident: String,
}

/// The facilities with their numbers (RFC 5424, section 6.2.1).
const FACILITIES: [(&str, u8); 12] = [
    ("auth", 4),
    ("authpriv", 10),
    ("daemon", 3),
    ("user", 1),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

pub(super) fn process(general: &Values) -> ProcessSettings {
    ProcessSettings {
        user: general.text("user").map(str::to_owned),
        pidfile: general.text("pidfile").map(PathBuf::from),
    }
}

pub(super) fn tcp(general: &Values, findings: &mut Findings) -> TcpOptions {
    let number = |name| general.number(name).unwrap_or(0);
    // The kernel takes no more of these, and PgBouncer starts nevertheless.
    let mut bounded = |name, most| {
        let asked = number(name);
        if asked > most {
            let text = format!("{asked} is more than the system takes, which is {most}");
            findings.notice(general.origin(name), &general.section, Some(name), Remark::Advice(text));
        }
        asked.min(most)
    };
    let (keepcnt, keepidle) = (bounded("tcp_keepcnt", 127), bounded("tcp_keepidle", 32_767));
    let keepintvl = bounded("tcp_keepintvl", 32_767);
    TcpOptions {
        keepalive: general.is_on("tcp_keepalive"),
        keepcnt,
        keepidle,
        keepintvl,
        user_timeout: number("tcp_user_timeout"),
        socket_buffer: number("tcp_socket_buffer"),
        defer_accept: number("tcp_defer_accept") > 0,
    }
}

pub(super) fn log_targets(general: &Values) -> LogTargets {
    let facility = general.text("syslog_facility").unwrap_or("daemon");
    let number = FACILITIES.iter().find(|(name, _)| *name == facility).map_or(3, |(_, number)| *number);
    let syslog = general.is_on("syslog").then(|| Syslog {
        facility: number,
        ident: general.text("syslog_ident").unwrap_or("pgbouncer").to_owned(),
    });
    LogTargets { file: general.text("logfile").map(PathBuf::from), syslog }
}
