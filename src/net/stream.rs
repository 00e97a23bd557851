//! A connected socket, and how one is made.

use super::options::SocketOptions;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Where a server is, resolved: what was dialled, and where a cancel for that connection must go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket file, or, behind a zero byte, a name in the abstract namespace.
    Unix(PathBuf),
}

impl Address {
    /// A Unix socket; a path that begins with `@` is a name in the abstract namespace.
    #[must_use]
    pub fn unix(path: PathBuf) -> Self {
        let bytes = path.as_os_str().as_bytes();
        match bytes.strip_prefix(b"@") {
            Some(name) => Self::Unix(OsStr::from_bytes(&[b"\0", name].concat()).into()),
            None => Self::Unix(path),
        }
    }

    /// The port, which is the suffix of a socket file.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(path) => {
                let suffix = path.extension().and_then(OsStr::to_str);
                suffix.and_then(|suffix| suffix.parse().ok()).unwrap_or_default()
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => match path.as_os_str().as_bytes().strip_prefix(b"\0") {
                Some(name) => write!(f, "unix:@{}", Path::new(OsStr::from_bytes(name)).display()),
                None => path.display().fmt(f),
            },
        }
    }
}

/// Stands for the address of a connection that is gone already.
pub(super) const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// The addresses that a TCP connection joins; of a Unix socket nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// That of the other side.
    pub peer: Option<SocketAddr>,
    /// That of this side.
    pub local: Option<SocketAddr>,
}

/// A connected socket that no reactor polls.
#[derive(Debug)]
pub enum Loose {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Loose {
    /// Has this thread's reactor poll the connection.
    ///
    /// # Errors
    ///
    /// Those of the registration.
    pub fn adopt(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// Connects. Small messages are sent at once (`TCP_NODELAY`), and dead peers are noticed as the options say.
///
/// Cancel safe: a dropped attempt closes its socket.
///
/// # Errors
///
/// Those of `connect`.
pub async fn connect(address: &Address, options: &SocketOptions) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            options.apply(&socket2::SockRef::from(&socket))?;
            socket.connect(*address).await.map(Stream::Tcp)
        }
        Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
    }
}

impl Stream {
    /// Takes the connection from its reactor, so that another thread's can have it.
    ///
    /// # Errors
    ///
    /// Those of the deregistration.
    pub fn release(self) -> io::Result<Loose> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Loose::Tcp),
            Self::Unix(stream) => stream.into_std().map(Loose::Unix),
        }
    }

    /// Where the peer is; `None` for a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => Some(stream.peer_addr().unwrap_or(UNKNOWN)),
            Self::Unix(_) => None,
        }
    }

    /// Where this end is; `None` for a Unix socket.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => Some(stream.local_addr().unwrap_or(UNKNOWN)),
            Self::Unix(_) => None,
        }
    }

    /// The system's user at the other end of a Unix socket; `None` over TCP.
    #[must_use]
    pub fn peer_uid(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().map(|peer| peer.uid()),
        }
    }

    /// The process at the other end of a Unix socket; `None` over TCP.
    #[must_use]
    pub fn peer_process(&self) -> Option<i32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().and_then(|peer| peer.pid()),
        }
    }

    /// Whether the reactor has heard anything of this socket since it was last read empty: bytes, end or error. Costs no
    /// system call while all is quiet.
    #[must_use]
    pub fn has_news(&self) -> bool {
        let mut byte = [0];
        // This asks the reactor first. Readiness may be stale; only a read tells, and clears it.
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes what the socket takes at once, for a farewell that nobody waits for.
    pub fn try_write(&self, bytes: &[u8]) {
        let _unheard = match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
