//! A new process takes the place of a running one, and no client notices.
//!
//! The running process listens on an abstract socket whose name is made of the configuration's path (the *door*). Its
//! successor asks there, and gets duplicates of all listening sockets (SCM_RIGHTS). Both accept from the same queues now,
//! so no connection is lost, whoever accepts it. When the successor serves, it says so; then the old process accepts no
//! longer, and ends when its last client has left. If the successor dies before, nothing has happened.
//!
//! Behind the word that it serves, the successor keeps the conversation: a cancel request that it does not know may be
//! for a client of the old process. Conversations with still older ones go over with the sockets.
//!
//! Each side checks that the other runs as the same user, or as root.

mod door;
mod wire;

pub(super) use door::{Door, Successor};

use super::listen::Wanted;
use crate::session::Elsewhere;
use crate::wire::CancelKey;
use rustix::net::RecvFlags;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use wire::{Kind, SERVING};

/// How long the other side may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many cancel requests were passed on; their marks are made of it.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Why a running process cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// Somebody else answers.
    #[error("the process to take over from runs as another user (uid {0}), so it is not trusted")]
    Stranger(u32),
    /// It does not answer as it should.
    #[error("the running process cannot be taken over: {0}")]
    Broken(#[from] io::Error),
}

/// What a running process leaves to this one.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    tcp: Vec<TcpListener>,
    unix: Vec<(PathBuf, UnixListener)>,
    pub(super) door: Option<UnixListener>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) predecessor: Option<Predecessor>,
    /// Conversations with processes before that one which still have clients.
    ancestors: Vec<UnixStream>,
}

/// The process that is taken over.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    process: u32,
}

impl Inheritance {
    /// Asks the process that runs with this configuration; `None` when there is none. It blocks.
    pub(super) fn ask(file: &Path, user: Option<&str>) -> Result<Option<Self>, TakeoverError> {
        let stream = match UnixStream::connect_addr(&door::address(file)?) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let uid = wire::peer_uid(&stream)?;
        if !is_trusted(uid, user) {
            return Err(TakeoverError::Stranger(uid));
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (process, sockets) = wire::receive(&stream)?;
        let mut left = Self { predecessor: Some(Predecessor { stream, process }), ..Self::default() };
        sockets.into_iter().for_each(|(kind, socket)| left.take(kind, socket));
        Ok(Some(left))
    }

    fn take(&mut self, kind: Kind, socket: OwnedFd) {
        match kind {
            Kind::Tcp => self.tcp.push(socket.into()),
            Kind::Unix(path) => self.unix.push((path, socket.into())),
            Kind::Door => self.door = Some(socket.into()),
            Kind::Metrics => self.metrics = Some(socket.into()),
            Kind::Ancestor => self.ancestors.push(socket.into()),
        }
    }

    /// The socket that listens on this address.
    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self.tcp.iter().position(|socket| socket.local_addr().is_ok_and(|own| own == address))?;
        Some(self.tcp.swap_remove(found))
    }

    /// The socket that listens at this path.
    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let found = self.unix.iter().position(|(own, _)| own == path)?;
        Some(self.unix.swap_remove(found).1)
    }

    /// Whether this process has a use for any of the sockets that clients come in by. Who has none of them is no
    /// predecessor: the name of the door says only that it runs with a file of the same path, maybe in another container.
    pub(super) fn has_any_of(&self, wanted: &Wanted) -> bool {
        let is_tcp = |socket: &TcpListener| socket.local_addr().is_ok_and(|own| wanted.tcp.contains(&own));
        // Nor is a socket this one's whose file is elsewhere.
        let is_here = |path: &PathBuf| path.as_os_str().as_bytes().starts_with(b"@") || path.exists();
        self.tcp.iter().any(is_tcp)
            || self.unix.iter().any(|(path, _)| wanted.unix.contains(path) && is_here(path))
    }

    /// Whether there is a socket for this path.
    pub(super) fn has_unix(&self, path: &Path) -> bool {
        self.unix.iter().any(|(own, _)| own == path)
    }
}

/// Who may be taken over: this user itself, the one that it will become, and root.
fn is_trusted(uid: u32, user: Option<&str>) -> bool {
    let becomes = user.and_then(|user| nix::unistd::User::from_name(user).ok().flatten());
    uid == 0
        || uid == rustix::process::geteuid().as_raw()
        || becomes.is_some_and(|user| user.uid.as_raw() == uid)
}

impl Inheritance {
    /// Says that this process serves, upon which the old one stops to accept. What comes of it are the processes that
    /// have clients still; nothing where nobody was taken over.
    pub(super) async fn relieve(self) -> io::Result<Option<(u32, Olds)>> {
        let Some(Predecessor { stream, process }) = self.predecessor else { return Ok(None) };
        let old = Old::new(stream)?;
        {
            let mut stream = old.stream.lock().await;
            stream.write_all(SERVING).await?;
            let mut answer = String::new();
            timeout(PATIENCE, stream.read_line(&mut answer)).await??;
            if answer != wire::LEAVING {
                return Err(io::Error::other("it did not say that it leaves"));
            }
        }
        let mut olds = vec![Arc::new(old)];
        for ancestor in self.ancestors {
            olds.push(Arc::new(Old::new(ancestor)?));
        }
        Ok(Some((process, Olds(Mutex::new(olds)))))
    }
}

/// An old process, as long as it has clients.
#[derive(Debug)]
struct Old {
    stream: tokio::sync::Mutex<BufReader<tokio::net::UnixStream>>,
    /// The same socket, to be looked at and handed on.
    socket: OwnedFd,
}

/// All old processes that have clients.
#[derive(Debug)]
pub(super) struct Olds(Mutex<Vec<Arc<Old>>>);

impl Old {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let stream = BufReader::new(tokio::net::UnixStream::from_std(stream)?);
        Ok(Self { stream: tokio::sync::Mutex::new(stream), socket })
    }

    fn is_gone(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.socket, &mut [0; 1], flags).is_ok_and(|(_, size)| size == 0)
    }

    async fn cancel(&self, key: &CancelKey) -> io::Result<()> {
        // The wait for others who ask does not count: each of them ends in time.
        let mut stream = self.stream.lock().await;
        let mark = format!("{}.{}", std::process::id(), ASKED.fetch_add(1, Ordering::Relaxed));
        let ask = async {
            stream.write_all(wire::cancel_line(&mark, key).as_bytes()).await?;
            // The connection that asked may be closed only when the cancel has arrived. Answers that nobody waited for
            // come before it, maybe even those to a process between the old one and this one.
            let own = wire::done_line(&mark);
            let mut answer = String::new();
            while answer != own {
                answer.clear();
                if stream.read_line(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        timeout(PATIENCE, ask).await?
    }
}

impl Olds {
    /// Sockets by which a successor can ask them.
    pub(super) fn sockets(&self) -> Vec<OwnedFd> {
        self.living().iter().filter_map(|old| old.socket.try_clone().ok()).collect()
    }

    /// Leaves them to a successor.
    pub(super) fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn living(&self) -> Vec<Arc<Old>> {
        let mut olds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        olds.retain(|old| !old.is_gone());
        olds.clone()
    }
}

impl Elsewhere for Olds {
    fn cancel<'a>(&'a self, key: &'a CancelKey) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            for old in self.living() {
                if let Err(error) = old.cancel(key).await {
                    tracing::debug!("an old process does not take a cancel request: {error}");
                }
            }
        })
    }
}

/// Turns an abstract name into an address.
fn abstract_address(name: &str) -> io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would break with: an answer that is taken for that of the request before, which came too late.
    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_not_taken_for_another() {
        let (near, far) = UnixStream::pair().unwrap();
        let old = Arc::new(Old::new(near).unwrap());
        far.set_nonblocking(true).unwrap();
        let mut far = BufReader::new(tokio::net::UnixStream::from_std(far).unwrap());
        let key = |process| CancelKey { process, secret: vec![7; 4].into() };
        assert_eq!(old.cancel(&key(1)).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let asked = Arc::clone(&old);
        let second = tokio::spawn(async move { asked.cancel(&key(2)).await });
        let mut marks = Vec::new();
        for process in [1, 2] {
            let mut line = String::new();
            far.read_line(&mut line).await.unwrap();
            let (mark, asked) = wire::parse_cancel(&line).unwrap();
            assert_eq!(asked.process, process);
            marks.push(mark.to_owned());
        }
        far.write_all(wire::done_line(&marks[0]).as_bytes()).await.unwrap();
        // Far less than the patience: it is still waited for.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!second.is_finished());
        far.write_all(wire::done_line(&marks[1]).as_bytes()).await.unwrap();
        second.await.unwrap().unwrap();
    }

    /// Would break with: a wait for another's turn that uses up one's own time.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_has_all_his_time_left() {
        let (near, _far) = UnixStream::pair().unwrap();
        let old = Arc::new(Old::new(near).unwrap());
        let begun = tokio::time::Instant::now();
        let ask = |process| {
            let old = Arc::clone(&old);
            tokio::spawn(async move { old.cancel(&CancelKey { process, secret: vec![7; 4].into() }).await })
        };
        for task in [ask(1), ask(2)] {
            assert!(task.await.unwrap().is_err());
        }
        assert!(begun.elapsed() >= 2 * PATIENCE);
    }
}
