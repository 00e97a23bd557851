//! The old process's side.

use super::wire::{Kind, LEAVING, REFUSED, SERVING, done_line, parse_cancel, peer_uid, send};
use super::{PATIENCE, abstract_address};
use crate::app::listen::Listeners;
use crate::app::reload::App;
use sha2::{Digest, Sha256};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// The longest line of a successor.
const LINE: u64 = 2048;

/// Why nobody may take over.
const PAUSED: &str = "a PAUSE or KILL is in force, RESUME comes first";

/// Where a successor asks.
#[derive(Debug)]
pub(in crate::app) struct Door(Option<UnixListener>);

/// The address of the door of a process with this configuration. Another one cannot have it by accident.
pub(super) fn address(file: &Path) -> io::Result<SocketAddr> {
    abstract_address(&name(file))
}

fn name(file: &Path) -> String {
    let path = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let hash = Sha256::digest(path.as_os_str().as_bytes());
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("pgweir-takeover-{hash}")
}

impl Door {
    /// Opens it, or takes it over. Without one the process serves all the same.
    pub(in crate::app) fn open(file: &Path, left: Option<std::os::unix::net::UnixListener>) -> Self {
        let open = || {
            let listener = match left {
                Some(listener) => listener,
                None => std::os::unix::net::UnixListener::bind_addr(&address(file)?)?,
            };
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        match open() {
            Ok(listener) => Self(Some(listener)),
            Err(error) => {
                // Anybody on this machine can have the name first.
                tracing::warn!("this process cannot be taken over (-R), socket @{}: {error}", name(file));
                Self(None)
            }
        }
    }

    /// Waits for a successor that serves, and returns the conversation with it; the sockets are left to it then. What
    /// [`App::lent`] says holds also when nobody waits any longer.
    pub(in crate::app) async fn wait(self, app: &App) -> Successor {
        let Some(listener) = self.0 else { return std::future::pending().await };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            match hand_over(&listener, stream, app).await {
                Ok(successor) => return successor,
                Err(error) => {
                    app.lent.store(false, Ordering::Release);
                    tracing::warn!("a process wanted to take over and did not: {error}");
                    if app.listeners().is_none_or(Listeners::is_closed) {
                        // It has ended meanwhile, and has nothing left for anybody else.
                        drop(listener);
                        return std::future::pending().await;
                    }
                }
            }
        }
    }
}

/// The process that has taken over.
#[derive(Debug)]
pub(in crate::app) struct Successor(BufReader<UnixStream>);

async fn hand_over(door: &UnixListener, stream: UnixStream, app: &App) -> io::Result<Successor> {
    let uid = peer_uid(&stream)?;
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("it runs as another user (uid {uid})")));
    }
    stream.writable().await?;
    let pools = &app.service.pools;
    if pools.are_paused() || !pools.paused_databases().is_empty() {
        // RESUME would reach the new process, and the clients of this one would wait for ever.
        let _not_heard = stream.try_write(format!("{REFUSED}{PAUSED}\n").as_bytes());
        return Err(io::Error::other(PAUSED));
    }
    app.lent.store(true, Ordering::Release);
    send_sockets(door, &stream, app)?;
    tracing::info!("a new process asks for the listening sockets, and has them");
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    // It may take its time to start; until it serves, this process does.
    let size = stream.read_until(b'\n', &mut line).await?;
    if size == 0 || line != SERVING {
        return Err(io::Error::other("it has ended"));
    }
    Ok(Successor(stream))
}

fn send_sockets(door: &UnixListener, stream: &UnixStream, app: &App) -> io::Result<()> {
    let served = app.listeners().map(Listeners::sockets).unwrap_or_default();
    let kind = |path: &Option<PathBuf>| path.clone().map_or(Kind::Tcp, Kind::Unix);
    let mut sockets: Vec<_> = served.iter().map(|(socket, path)| (kind(path), socket.as_fd())).collect();
    sockets.push((Kind::Door, door.as_fd()));
    sockets.extend(app.metrics().map(|socket| (Kind::Metrics, socket)));
    let ancestors = app.olds.get().map(|olds| olds.sockets()).unwrap_or_default();
    sockets.extend(ancestors.iter().map(|socket| (Kind::Ancestor, socket.as_fd())));
    send(stream, &sockets)
}

impl Successor {
    /// Says that this process accepts no longer.
    pub(in crate::app) async fn release(&mut self) -> io::Result<()> {
        self.0.write_all(LEAVING.as_bytes()).await
    }

    /// Carries out cancel requests for clients of this process until it ends.
    pub(in crate::app) async fn attend(mut self, app: Arc<App>) -> io::Result<()> {
        loop {
            let mut line = String::new();
            let limited = &mut tokio::io::AsyncReadExt::take(&mut self.0, LINE);
            if limited.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some((mark, key)) = parse_cancel(&line) {
                let _late_or_done = timeout(PATIENCE, app.service.cancel(&key)).await;
                self.0.write_all(done_line(mark).as_bytes()).await?;
            }
        }
    }
}
