//! What the service manager is told, and the sockets that it passes on.
//!
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if it asked to be told. Nothing is lost when it does not listen.
#[derive(Debug, Default)]
pub(super) struct Manager(Option<UnixDatagram>);

impl Manager {
    /// The one that `NOTIFY_SOCKET` names.
    pub(super) fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        let connect = || {
            let address = match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&name)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        match connect() {
            Ok(socket) => Self(Some(socket)),
            Err(error) => {
                tracing::warn!("cannot reach the service manager (NOTIFY_SOCKET): {error}");
                Self(None)
            }
        }
    }

    /// It serves. The number of the process is told too: after a takeover it is another one.
    pub(super) fn ready(&self) {
        self.tell(&format!("MAINPID={}\nREADY=1", std::process::id()));
    }

    /// It reloads, from now on; [`Self::reloaded`] follows.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It has reloaded.
    pub(super) fn reloaded(&self) {
        self.tell("READY=1");
    }

    /// It is about to end.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// What it is doing, in a line.
    pub(super) fn status(&self, text: &str) {
        self.tell(&format!("STATUS={text}"));
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.0 {
            let _not_heard = socket.send(state.as_bytes());
        }
    }
}

/// A listening socket that the service manager has opened.
#[derive(Debug)]
pub(super) enum Passed {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The sockets that were passed to this process (`LISTEN_FDS`).
pub(super) fn passed_sockets() -> io::Result<Vec<Passed>> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let socket = match passed.take_unix_listener(index) {
            Ok(Some(listener)) => Passed::Unix(listener),
            _ => match passed.take_tcp_listener(index)? {
                Some(listener) => Passed::Tcp(listener),
                None => continue,
            },
        };
        sockets.push(socket);
    }
    Ok(sockets)
}
