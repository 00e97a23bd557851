//! Listening sockets.

use super::options::{SocketOptions, set_deferral};
use super::stream::UNKNOWN;
use super::{Address, Ends, Stream};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
    #[error("cannot listen on unix:{}: {error}", path.display())]
    Unix {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A socket file on which another process answers.
    #[error("unix socket is in use, cannot continue: {}", .0.display())]
    InUse(PathBuf),
    /// No such group.
    #[error("could not find group '{0}' (unix_socket_group)")]
    Group(String),
}

impl ListenError {
    /// Whether this machine does not have the address family, or no such address of it.
    #[must_use]
    pub fn is_missing_family(&self) -> bool {
        // EAFNOSUPPORT, EADDRNOTAVAIL
        matches!(self, Self::Tcp { error, .. } if matches!(error.raw_os_error(), Some(97 | 99)))
    }
}

/// How a TCP address is listened on.
#[derive(Debug, Clone, Copy)]
pub struct TcpTerms {
    /// Length of the kernel's accept queue.
    pub backlog: u32,
    /// Several processes may listen on the address.
    pub reuse_port: bool,
    /// Options that clients inherit.
    pub options: SocketOptions,
}

/// How a Unix socket is listened on.
#[derive(Debug, Clone, Copy)]
pub struct UnixTerms<'a> {
    /// Length of the kernel's accept queue.
    pub backlog: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// Group of the file.
    pub group: Option<&'a str>,
}

/// A socket that accepts clients.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP, and the address where it is the same for all clients.
    Tcp(TcpListener, Option<SocketAddr>),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Removes a socket file when it is dropped, as long as it is the very file that was made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<Identity>,
}

impl SocketFile {
    /// The file of a socket that is bound; an abstract socket has none.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the file to another process.
    pub fn leave(&mut self) {
        self.identity = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _already_gone = std::fs::remove_file(&self.path);
        }
    }
}

/// What tells a file from another of the same name: a number alone may be given again. Device, number, and when it was
/// made.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> Option<Identity> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Listens on a TCP address. Needs a tokio runtime.
///
/// # Errors
///
/// [`ListenError`] names the address.
pub fn bind_tcp(address: SocketAddr, terms: &TcpTerms) -> Result<Acceptor, ListenError> {
    let bind = || {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        }?;
        if address.is_ipv6() {
            // `*` listens on both families with a socket each.
            SockRef::from(&socket).set_only_v6(true)?;
        }
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(terms.reuse_port)?;
        // Linux hands them down to what is accepted, which saves calls per client. Before listen(), since that fixes the
        // largest window.
        terms.options.apply_to_listener(&SockRef::from(&socket))?;
        socket.bind(address)?;
        Ok(Acceptor::over_tcp(socket.listen(terms.backlog)?))
    };
    bind().map_err(|error| ListenError::Tcp { address, error })
}

/// Listens on a Unix socket; a file that a dead process left behind is replaced. A path that begins with `@` is abstract.
/// Needs a tokio runtime.
///
/// # Errors
///
/// [`ListenError`] names the file.
pub fn bind_unix(path: &Path, terms: &UnixTerms<'_>) -> Result<(Acceptor, SocketFile), ListenError> {
    let is_abstract = path.as_os_str().as_encoded_bytes().starts_with(b"@");
    let Address::Unix(system) = Address::unix(path.to_owned()) else {
        return Err(ListenError::InUse(path.to_owned()));
    };
    let address = SockAddr::unix(&system).map_err(|error| unix_error(path, error))?;
    let probe = || Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(&address);
    if probe().is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    let group = terms.group.filter(|_| !is_abstract).map(group_number).transpose()?;
    let bind = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if !is_abstract {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        socket.bind(&address)?;
        // Made now, so that the file goes when a step fails; and nobody can connect before the last step.
        let file = SocketFile::of(path);
        if !is_abstract {
            if let Some(group) = group {
                std::os::unix::fs::chown(path, None, Some(group))?;
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(terms.mode))?;
        }
        socket.listen(i32::try_from(terms.backlog).unwrap_or(i32::MAX))?;
        Ok((Acceptor::adopt_unix(std::os::fd::OwnedFd::from(socket).into())?, file))
    };
    bind().map_err(|error| unix_error(path, error))
}

fn unix_error(path: &Path, error: io::Error) -> ListenError {
    // EADDRINUSE: of an abstract socket, which cannot be left over.
    if error.raw_os_error() == Some(98) {
        return ListenError::InUse(path.to_owned());
    }
    ListenError::Unix { path: path.to_owned(), error }
}

/// The number of a group, which may be given as such.
fn group_number(name: &str) -> Result<u32, ListenError> {
    let missing = || ListenError::Group(name.to_owned());
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => name.parse().map_err(|_| missing()),
    }
}

impl Acceptor {
    fn over_tcp(listener: TcpListener) -> Self {
        let local = listener.local_addr().ok().filter(|local| !local.ip().is_unspecified());
        Self::Tcp(listener, local)
    }

    /// Takes a TCP listener that somebody else has made. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn adopt_tcp(listener: std::net::TcpListener, options: &SocketOptions) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        options.apply_to_listener(&SockRef::from(&listener))?;
        TcpListener::from_std(listener).map(Self::over_tcp)
    }

    /// Takes a Unix listener that somebody else has made. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn adopt_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Self::Unix)
    }

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

    /// Changes the options that clients inherit.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        match self {
            Self::Tcp(listener, _) => options.apply_to_listener(&SockRef::from(listener)),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Lets no further client begin to connect, while those who have begun come through: a SYN is dropped and will be
    /// repeated after a second, when another socket of a `SO_REUSEPORT` group answers.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn turn_away(&self) -> io::Result<()> {
        let Self::Tcp(listener, _) = self else { return Ok(()) };
        let socket = SockRef::from(listener);
        // A client whose last packet of the handshake the kernel ignores so far counts from its next one on.
        set_deferral(&socket, false)?;
        socket.attach_filter(&without_syn())
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

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A packet filter of four steps: of the flags, byte 13 of the TCP header, only SYN without ACK is of interest. Connections
/// inherit it from their listener, and never get such a packet.
fn without_syn() -> [socket2::SockFilter; 5] {
    let step = |code, jump_true, jump_false, k| socket2::SockFilter::new(code, jump_true, jump_false, k);
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    [
        step(LOAD_BYTE, 0, 0, 13),
        step(AND, 0, 0, SYN_AND_ACK),
        step(JUMP_IF_EQUAL, 0, 1, SYN),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ]
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
            let terms = TcpTerms { backlog: 8, reuse_port: false, options: SocketOptions::default() };
            let acceptor = bind_tcp(address.parse().unwrap(), &terms).unwrap();
            let mut to = acceptor.tcp_address().unwrap();
            to.set_ip([127, 0, 0, 1].into());
            let client = tokio::net::TcpStream::connect(to).await.unwrap();
            let (stream, ends) = acceptor.accept().await.unwrap();
            assert_eq!(ends, Ends { peer: client.local_addr().ok(), local: Some(to) });
            let Stream::Tcp(stream) = stream else { panic!("{stream:?}") };
            assert!(stream.nodelay().unwrap() && SockRef::from(&stream).keepalive().unwrap());
        }
    }

    /// The kernel's part: who has begun to connect is not lost, and who comes later finds the other socket.
    #[tokio::test]
    async fn who_is_turned_away_finds_the_other_socket_of_the_group() {
        let options = SocketOptions { defer_accept: true, ..SocketOptions::default() };
        let terms = TcpTerms { backlog: 8, reuse_port: true, options };
        let old = bind_tcp("127.0.0.1:0".parse().unwrap(), &terms).unwrap();
        let address = old.tcp_address().unwrap();
        let begun = std::net::TcpStream::connect(address).unwrap();
        let new = bind_tcp(address, &terms).unwrap();
        old.turn_away().unwrap();
        io::Write::write_all(&mut &begun, b"x").unwrap();
        let (_stream, ends) = old.accept().await.unwrap();
        assert_eq!(ends.peer, begun.local_addr().ok());
        let others: Vec<_> = (0..8).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address))).collect();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        drop(old);
        for other in others {
            let stream = other.await.unwrap().unwrap();
            stream.try_write(b"x").unwrap();
            new.accept().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_socket_file_goes_with_its_owner_and_no_other() {
        let folder = std::env::temp_dir().join(format!("pgweir-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let terms = UnixTerms { backlog: 8, mode: 0o750, group: None };
        let (first, file) = bind_unix(&path, &terms).unwrap();
        assert!(matches!(bind_unix(&path, &terms), Err(ListenError::InUse(_))));
        drop(first); // it died: the file is stale
        let (_second, newer) = bind_unix(&path, &terms).unwrap();
        drop(file);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
        drop(newer);
        assert!(!path.exists());
        std::fs::remove_dir(&folder).unwrap();
    }
}
