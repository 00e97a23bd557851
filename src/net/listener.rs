//! Listening sockets.

use super::stream::UNKNOWN;
use super::{Ends, Stream};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A TCP address.
    #[error("cannot listen on {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A socket file.
    #[error("cannot listen on {}: {error}", path.display())]
    Unix {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A socket file on which another process answers.
    #[error("unix socket {} is in use by another process", .0.display())]
    InUse(PathBuf),
}

impl ListenError {
    /// Whether this machine does not have the address family, or no such address of it.
    #[must_use]
    pub fn is_missing_family(&self) -> bool {
        // EAFNOSUPPORT, EADDRNOTAVAIL
        matches!(self, Self::Tcp { error, .. } if matches!(error.raw_os_error(), Some(97 | 99)))
    }
}

/// A socket that accepts clients.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP, and the address where it is the same for all clients.
    Tcp(TcpListener, Option<SocketAddr>),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Removes a socket file when it is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.0);
    }
}

/// Listens on a TCP address. Needs a tokio runtime.
///
/// # Errors
///
/// [`ListenError`] names the address.
pub fn bind_tcp(address: SocketAddr, backlog: u32) -> Result<Acceptor, ListenError> {
    let bind = || {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        }?;
        if address.is_ipv6() {
            // `*` listens on both families with a socket each.
            socket2::SockRef::from(&socket).set_only_v6(true)?;
        }
        socket.set_reuseaddr(true)?;
        // Linux hands both down to what is accepted, which saves two calls per client.
        socket.set_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        let listener = socket.listen(backlog)?;
        let local = listener.local_addr().ok().filter(|local| !local.ip().is_unspecified());
        Ok(Acceptor::Tcp(listener, local))
    };
    bind().map_err(|error| ListenError::Tcp { address, error })
}

/// Listens on a Unix socket; a file that a dead process left behind is replaced. Needs a tokio runtime.
///
/// # Errors
///
/// [`ListenError`] names the file.
pub fn bind_unix(path: &Path, mode: u32) -> Result<(Acceptor, SocketFile), ListenError> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    let bind = || {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok((Acceptor::Unix(listener), file))
    };
    bind().map_err(|error| ListenError::Unix { path: path.to_owned(), error })
}

impl Acceptor {
    /// Accepts one client: its connection, and whose ends it joins. Cancel safe.
    ///
    /// # Errors
    ///
    /// Those of `accept`; none of them ends the listener.
    pub async fn accept(&self) -> io::Result<(Stream, Ends)> {
        match self {
            Self::Tcp(listener, local) => {
                let (stream, peer) = listener.accept().await?;
                let local = local.or_else(|| stream.local_addr().ok()).unwrap_or(UNKNOWN);
                let ends = Ends { peer: Some(peer), local: Some(local) };
                Ok((Stream::Tcp(stream), ends))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), Ends::default())),
        }
    }

    /// The TCP address that is listened on.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Whether an `accept` failed because this process is short of something (file descriptors, memory), so that trying
/// again at once would only burn CPU.
#[must_use]
pub fn accept_error_is_local(error: &io::Error) -> bool {
    // ENFILE, EMFILE, ENOMEM, ENOBUFS
    matches!(error.raw_os_error(), Some(23 | 24 | 12 | 105))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_inherits_the_options_of_the_listener() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let acceptor = bind_tcp(address.parse().unwrap(), 8).unwrap();
            let mut to = acceptor.tcp_address().unwrap();
            to.set_ip([127, 0, 0, 1].into());
            let client = tokio::net::TcpStream::connect(to).await.unwrap();
            let (stream, ends) = acceptor.accept().await.unwrap();
            assert_eq!(ends, Ends { peer: client.local_addr().ok(), local: Some(to) });
            let Stream::Tcp(stream) = stream else { panic!("{stream:?}") };
            assert!(stream.nodelay().unwrap() && socket2::SockRef::from(&stream).keepalive().unwrap());
        }
    }
}
