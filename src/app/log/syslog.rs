//! The system's log: datagrams to `/dev/log` in the old BSD format (RFC 3164), as libc writes them.

use crate::config::Syslog;
use jiff::Zoned;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// Where the system's log listens.
const SOCKET: &str = "/dev/log";

/// How grave a line is, by syslog's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Fatal = 2,
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// A way to the system's log.
#[derive(Debug)]
pub(super) struct SystemLog {
    settings: Syslog,
    socket: Option<UnixDatagram>,
}

impl SystemLog {
    pub(super) fn new(settings: &Syslog) -> Self {
        Self { settings: settings.clone(), socket: connect().ok() }
    }

    /// Sends a line. The daemon may have been restarted, so one that cannot be sent is tried once more over a new socket;
    /// and never waited for.
    pub(super) fn write(&mut self, severity: Severity, text: &str) {
        let Syslog { facility, ident } = &self.settings;
        let priority = facility * 8 + severity as u8;
        let mut datagram = Vec::with_capacity(text.len() + 64);
        let (now, process) = (Zoned::now(), std::process::id());
        // Writing into a vector cannot fail.
        let _ = write!(datagram, "<{priority}>{} {ident}[{process}]: {text}", now.strftime("%b %e %H:%M:%S"));
        let sent = self.socket.as_ref().is_some_and(|socket| socket.send(&datagram).is_ok());
        if !sent {
            self.socket = connect().ok();
            if let Some(socket) = &self.socket {
                let _lost = socket.send(&datagram);
            }
        }
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(std::env::var_os("PGWEIR_SYSLOG_SOCKET").unwrap_or_else(|| SOCKET.into()))?;
    // A full socket must not hold up traffic.
    socket.set_nonblocking(true)?;
    Ok(socket)
}
