//! Options of TCP sockets.

use nix::libc;
use nix::sys::socket::sockopt::SetStruct;
use socket2::{SockRef, Socket, TcpKeepalive};
use std::io;
use std::time::Duration;

/// How long a client may be silent before it is accepted nevertheless, in seconds. PgBouncer asks for the same, whatever
/// number it is given: much more would keep `client_login_timeout` from those who say nothing.
const DEFERRED: i32 = 1;

/// Options of TCP sockets; 0 is the system's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
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
    pub buffer: u32,
    /// Leave a client with the kernel until its first bytes are there. Of listeners only.
    pub defer_accept: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keepalive: true,
            keepcnt: 0,
            keepidle: 0,
            keepintvl: 0,
            user_timeout: 0,
            buffer: 0,
            defer_accept: false,
        }
    }
}

/// `TCP_DEFER_ACCEPT`, which no crate has ready made.
#[derive(Debug, Clone, Copy)]
struct Deferral;

nix::setsockopt_impl!(Deferral, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, i32, SetStruct<'_, i32>);

/// The least hops that a packet must have left to be taken, of either family.
#[derive(Debug, Clone, Copy)]
struct LeastHops4;
#[derive(Debug, Clone, Copy)]
struct LeastHops6;

nix::setsockopt_impl!(LeastHops4, libc::IPPROTO_IP, libc::IP_MINTTL, i32, SetStruct<'_, i32>);
nix::setsockopt_impl!(LeastHops6, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, i32, SetStruct<'_, i32>);

/// Sets how many hops a packet must have left to be taken.
pub(super) fn set_least_hops(socket: &SockRef<'_>, is_ipv6: bool, hops: i32) -> io::Result<()> {
    let socket: &Socket = socket;
    let result = if is_ipv6 {
        nix::sys::socket::setsockopt(socket, LeastHops6, &hops)
    } else {
        nix::sys::socket::setsockopt(socket, LeastHops4, &hops)
    };
    result.map_err(io::Error::from)
}

impl SocketOptions {
    /// Sets them on a connection that is about to be made: two calls where nothing but the usual is asked for.
    pub(super) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if self.buffer > 0 {
            let bytes = usize::try_from(self.buffer).unwrap_or(usize::MAX);
            socket.set_recv_buffer_size(bytes)?;
            socket.set_send_buffer_size(bytes)?;
        }
        if self.user_timeout > 0 {
            socket.set_tcp_user_timeout(Some(Duration::from_millis(self.user_timeout.into())))?;
        }
        if !self.keepalive {
            return Ok(());
        }
        socket.set_keepalive(true)?;
        match self.probes() {
            Some(probes) => socket.set_tcp_keepalive(&probes),
            None => Ok(()),
        }
    }

    /// What the probes are, if not as the system has them.
    fn probes(&self) -> Option<TcpKeepalive> {
        let seconds = |count: u32| Duration::from_secs(count.into());
        let mut probes = TcpKeepalive::new();
        if self.keepidle > 0 {
            probes = probes.with_time(seconds(self.keepidle));
        }
        if self.keepintvl > 0 {
            probes = probes.with_interval(seconds(self.keepintvl));
        }
        if self.keepcnt > 0 {
            probes = probes.with_retries(self.keepcnt);
        }
        (self.keepidle > 0 || self.keepintvl > 0 || self.keepcnt > 0).then_some(probes)
    }

    /// Sets them on a listener, whose clients inherit them. It may have had others, so that the system's defaults have to
    /// be put back by their values; only buffers cannot be made to find their size again.
    pub(super) fn apply_to_listener(&self, listener: &SockRef<'_>) -> io::Result<()> {
        Self { keepalive: true, ..*self }.with_defaults().apply(listener)?;
        listener.set_keepalive(self.keepalive)?;
        if self.user_timeout == 0 {
            listener.set_tcp_user_timeout(None)?;
        }
        set_deferral(listener, self.defer_accept)
    }

    fn with_defaults(self) -> Self {
        let or = |value: u32, name: &str| if value > 0 { value } else { system_default(name) };
        Self {
            keepcnt: or(self.keepcnt, "tcp_keepalive_probes"),
            keepidle: or(self.keepidle, "tcp_keepalive_time"),
            keepintvl: or(self.keepintvl, "tcp_keepalive_intvl"),
            ..self
        }
    }
}

/// Turns `TCP_DEFER_ACCEPT` on or off.
pub(super) fn set_deferral(listener: &SockRef<'_>, on: bool) -> io::Result<()> {
    let seconds = if on { DEFERRED } else { 0 };
    let listener: &Socket = listener;
    nix::sys::socket::setsockopt(listener, Deferral, &seconds).map_err(io::Error::from)
}

/// A default of the kernel's; 0 where it cannot be told.
fn system_default(name: &str) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
