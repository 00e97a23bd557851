//! Listening: sockets are accepted on the main thread and handed to the runtimes in turn.

use super::systemd::Passed;
use super::takeover::Inheritance;
use super::workers::Workers;
use crate::config::{Config, Listen, TcpOptions};
use crate::net::{
    Acceptor, Ends, ListenError, SocketFile, Stream, TcpTerms, UnixTerms, accept_error_is_local, bind_tcp,
    bind_unix,
};
use crate::pool::socket_options;
use crate::session::{self, Service};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Pause after `accept` failed for want of descriptors or memory: others give some back, and trying on would only burn
/// CPU.
const BREATHER: Duration = Duration::from_millis(50);

/// How long those who have begun to connect may take to get through, when other processes listen on the same port. Who
/// comes anew meanwhile is let to repeat his first packet, which he does after a second.
const ARRIVAL: Duration = Duration::from_millis(500);

/// Sockets that are bound and not served yet.
#[derive(Debug, Default)]
pub(super) struct Bound {
    tcp: Vec<Acceptor>,
    unix: Vec<(Acceptor, SocketFile)>,
}

impl Bound {
    /// Takes what the service manager has opened in place of what the configuration names.
    pub(super) fn adopt(config: &Config, passed: Vec<Passed>) -> Result<Self, ListenError> {
        if passed.is_empty() {
            return Ok(Self::default());
        }
        for (name, is_set) in [
            ("listen_addr", !config.listen.addresses.is_empty()),
            ("unix_socket_dir", config.listen.unix.is_some()),
        ] {
            if is_set {
                tracing::warn!("sockets passed from service manager, {name} ignored");
            }
        }
        let mut bound = Self::default();
        for socket in passed {
            match socket {
                Passed::Tcp(listener) => {
                    let acceptor = adopt_tcp(listener, config)?;
                    bound.tcp.push(acceptor);
                }
                Passed::Unix(listener) => {
                    let path = path_of(&listener);
                    let mut file = SocketFile::of(&path);
                    // It is the service manager's.
                    file.leave();
                    let acceptor = Acceptor::adopt_unix(listener)
                        .map_err(|error| ListenError::Unix { path: path.clone(), error })?;
                    bound.unix.push((acceptor, file));
                }
            }
        }
        Ok(bound)
    }

    /// Binds the TCP sockets that nobody leaves to this process. Where `*` stands for both families, a machine without
    /// IPv6 gets by with the other.
    pub(super) fn bind_tcp(&mut self, config: &Config, left: &mut Inheritance) -> Result<(), ListenError> {
        let listen = &config.listen;
        let terms = TcpTerms {
            backlog: listen.backlog,
            reuse_port: listen.reuse_port,
            options: socket_options(&config.tcp),
        };
        for &address in &listen.addresses {
            let address = SocketAddr::new(address, listen.port);
            let result = match left.take_tcp(address) {
                Some(listener) => adopt_tcp(listener, config),
                None => bind_tcp(address, &terms),
            };
            match result {
                Ok(acceptor) => self.tcp.push(acceptor),
                Err(error) if self.may_do_without(listen, &address.ip(), &error) => {
                    tracing::warn!("{error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn may_do_without(&self, listen: &Listen, address: &IpAddr, error: &ListenError) -> bool {
        error.is_missing_family() && (!self.tcp.is_empty() || listen.addresses.last() != Some(address))
    }

    /// Binds the Unix socket, unless somebody leaves it to this process.
    pub(super) fn bind_unix(&mut self, config: &Config, left: &mut Inheritance) -> Result<(), ListenError> {
        let Some(path) = socket_path(config) else { return Ok(()) };
        if let Some(listener) = left.take_unix(&path) {
            let acceptor = Acceptor::adopt_unix(listener)
                .map_err(|error| ListenError::Unix { path: path.clone(), error })?;
            self.unix.push((acceptor, SocketFile::of(&path)));
            return Ok(());
        }
        let (mode, group) =
            config.listen.unix.as_ref().map_or((0o777, None), |unix| (unix.mode, unix.group.as_deref()));
        let terms = UnixTerms { backlog: config.listen.backlog, mode, group };
        self.unix.push(bind_unix(&path, &terms)?);
        Ok(())
    }

    /// Starts to serve.
    pub(super) fn serve(self, service: &Arc<Service>, workers: &Workers) -> Listeners {
        let turn = Arc::new(AtomicUsize::new(0));
        let spawn = |acceptor: Acceptor, file: Option<SocketFile>| {
            let acceptor = Arc::new(acceptor);
            let hand_out =
                HandOut { service: Arc::clone(service), workers: workers.clone(), turn: Arc::clone(&turn) };
            let task = tokio::spawn(accept(Arc::clone(&acceptor), hand_out));
            Listening { acceptor, task, file }
        };
        for address in self.tcp.iter().filter_map(Acceptor::tcp_address) {
            tracing::info!("listening on {address}");
        }
        for (_, file) in &self.unix {
            tracing::info!("listening on unix:{}", file.path().display());
        }
        Listeners(Mutex::new(Open {
            tcp: self.tcp.into_iter().map(|acceptor| spawn(acceptor, None)).collect(),
            unix: self.unix.into_iter().map(|(acceptor, file)| spawn(acceptor, Some(file))).collect(),
        }))
    }
}

/// Where clients are to come in.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) unix: Vec<PathBuf>,
}

impl Wanted {
    /// By the configuration, or by the sockets of the service manager.
    pub(super) fn new(config: &Config, passed: &[Passed]) -> Self {
        let listen = &config.listen;
        let mut wanted = Self { tcp: Vec::new(), unix: Vec::new() };
        if passed.is_empty() {
            wanted.tcp.extend(listen.addresses.iter().map(|ip| SocketAddr::new(*ip, listen.port)));
            wanted.unix.extend(socket_path(config));
        }
        for socket in passed {
            match socket {
                Passed::Tcp(listener) => wanted.tcp.extend(listener.local_addr()),
                Passed::Unix(listener) => wanted.unix.push(path_of(listener)),
            }
        }
        wanted
    }
}

/// The file of the Unix socket.
pub(super) fn socket_path(config: &Config) -> Option<PathBuf> {
    let unix = config.listen.unix.as_ref()?;
    Some(unix.dir.join(format!(".s.PGSQL.{}", config.listen.port)))
}

/// Whether a process answers on a Unix socket.
pub(super) fn is_answered(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

fn adopt_tcp(listener: std::net::TcpListener, config: &Config) -> Result<Acceptor, ListenError> {
    let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    Acceptor::adopt_tcp(listener, &socket_options(&config.tcp))
        .map_err(|error| ListenError::Tcp { address, error })
}

fn path_of(listener: &std::os::unix::net::UnixListener) -> PathBuf {
    let address = listener.local_addr().ok();
    address.as_ref().and_then(|address| address.as_pathname()).map(Path::to_owned).unwrap_or_default()
}

/// Listening sockets that are served.
#[derive(Debug)]
pub(super) struct Listeners(Mutex<Open>);

#[derive(Debug)]
struct Open {
    tcp: Vec<Listening>,
    unix: Vec<Listening>,
}

#[derive(Debug)]
struct Listening {
    acceptor: Arc<Acceptor>,
    task: JoinHandle<()>,
    file: Option<SocketFile>,
}

/// Aborts its task; the socket is closed with the last who holds it.
impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    /// Stops to accept over TCP; the Unix socket stays open for the console. Where other processes listen on the same
    /// port, nobody who has begun to connect to this one is lost: a listener that is closed at once would take them with
    /// it, since the kernel does not move them to another.
    pub(super) async fn stop_tcp(&self, reuse_port: bool) {
        if reuse_port {
            let failed = self.open().tcp.iter().find_map(|socket| socket.acceptor.turn_away().err());
            match failed {
                None => sleep(ARRIVAL).await,
                Some(error) => tracing::warn!("clients who are about to connect may be refused: {error}"),
            }
        }
        let closed: Vec<_> = self.open().tcp.drain(..).collect();
        drop(closed);
    }

    /// Leaves all sockets to the process that has them now.
    pub(super) fn leave(&self) {
        let mut open = self.open();
        open.unix.iter_mut().filter_map(|socket| socket.file.as_mut()).for_each(SocketFile::leave);
        open.tcp.clear();
        open.unix.clear();
    }

    /// Whether nothing is listened on any longer.
    pub(super) fn is_closed(&self) -> bool {
        let open = self.open();
        open.tcp.is_empty() && open.unix.is_empty()
    }

    /// Closes all sockets.
    pub(super) fn close(&self) {
        let mut open = self.open();
        open.tcp.clear();
        open.unix.clear();
    }

    /// Changes what clients inherit from now on.
    pub(super) fn set_options(&self, options: &TcpOptions) {
        let options = socket_options(options);
        let open = self.open();
        let failed = open.tcp.iter().find_map(|socket| socket.acceptor.set_options(&options).err());
        if let Some(error) = failed {
            tracing::warn!("the options of a listening socket cannot be set: {error}");
        }
    }

    /// All sockets; one of Unix with its file.
    pub(super) fn sockets(&self) -> Vec<(Arc<Acceptor>, Option<PathBuf>)> {
        let open = self.open();
        let path = |socket: &Listening| socket.file.as_ref().map(|file| file.path().to_owned());
        open.tcp.iter().chain(&open.unix).map(|socket| (Arc::clone(&socket.acceptor), path(socket))).collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who gets the next connection.
struct HandOut {
    service: Arc<Service>,
    workers: Workers,
    turn: Arc<AtomicUsize>,
}

impl HandOut {
    fn give(&self, stream: Stream, ends: Ends) {
        let service = Arc::clone(&self.service);
        let arriving = service.arriving();
        let handles = &self.workers.0;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % handles.len();
        if turn == 0 {
            tokio::spawn(session::serve(service, stream, ends, arriving));
            return;
        }
        // The connection changes over to the reactor of the thread that it will live on.
        if let Ok(loose) = stream.release() {
            handles[turn].spawn(async move {
                if let Ok(stream) = loose.adopt() {
                    session::serve(service, stream, ends, arriving).await;
                }
            });
        }
    }
}

async fn accept(acceptor: Arc<Acceptor>, hand_out: HandOut) {
    let mut short = false;
    loop {
        match acceptor.accept().await {
            Ok((stream, ends)) => {
                short = false;
                hand_out.give(stream, ends);
            }
            Err(error) if accept_error_is_local(&error) => {
                if !std::mem::replace(&mut short, true) {
                    tracing::error!("cannot accept clients for now: {error}");
                }
                sleep(BREATHER).await;
            }
            // The client was gone before it was accepted.
            Err(error) => tracing::debug!("accept failed: {error}"),
        }
    }
}
