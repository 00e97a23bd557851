//! Signals, and how the process ends.

use super::reload::App;
use super::takeover::{Door, Successor};
use crate::admin::Shutdown;
use crate::pool::OrderError;
use crate::session::Order;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

/// How often the end is looked for while clients leave.
const LOOK: Duration = Duration::from_millis(50);

/// The signals that mean something. SIGPIPE means nothing: a connection that is gone says so when it is written to.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
    /// A reload under way. Hangups wait for its end, all of them for one more.
    reload: Option<JoinHandle<()>>,
}

/// A request to end.
#[derive(Debug, Clone, Copy)]
struct Request {
    how: Shutdown,
    /// The signal that brought it; `None` is the console.
    signal: Option<&'static str>,
}

impl Request {
    fn signal(how: Shutdown, signal: &'static str) -> Self {
        Self { how, signal: Some(signal) }
    }
}

impl Signals {
    /// Takes them over from the system, which would end the process. What comes from now on is kept until it is looked
    /// at.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            reload: None,
        })
    }

    /// The next request to end; a hangup reloads, SIGUSR1 pauses and SIGUSR2 resumes. SIGTERM waits for clients, SIGINT
    /// for servers, SIGQUIT for nothing.
    async fn next(&mut self, app: &Arc<App>) -> Request {
        loop {
            let reload = self.reload.as_mut();
            let is_reloading = reload.is_some();
            tokio::select! {
                () = ended(reload), if is_reloading => self.reload = None,
                _ = self.hangup.recv(), if !is_reloading => {
                    tracing::info!("got SIGHUP, re-reading config");
                    let app = Arc::clone(app);
                    // The files are read where that holds up nobody's traffic.
                    self.reload = Some(spawn_blocking(move || drop(app.reload())));
                }
                _ = self.user1.recv() => pause(app),
                _ = self.user2.recv() => resume(app),
                _ = self.terminate.recv() => return Request::signal(Shutdown::WaitForClients, "SIGTERM"),
                _ = self.interrupt.recv() => return Request::signal(Shutdown::WaitForServers, "SIGINT"),
                _ = self.quit.recv() => return Request::signal(Shutdown::Immediate, "SIGQUIT"),
            }
        }
    }
}

/// Waits for the end of a reload, which has logged how it went.
async fn ended(reload: Option<&mut JoinHandle<()>>) {
    if let Some(reload) = reload {
        let _logged = reload.await;
    }
}

fn pause(app: &App) {
    match app.service.pools.pause(None) {
        Ok(()) => tracing::info!("got SIGUSR1, pausing all activity"),
        Err(error) => tracing::info!("got SIGUSR1, but {error}"),
    }
}

fn resume(app: &App) {
    let pools = &app.service.pools;
    if app.lent.load(Ordering::Acquire) {
        // Nobody can do it by name any longer.
        for database in pools.paused_databases() {
            let _already_resumed = pools.resume(Some(&database));
        }
    }
    match pools.resume(None) {
        Ok(()) => tracing::info!("got SIGUSR2, continuing from PAUSE"),
        Err(OrderError::ShuttingDown) => tracing::info!("got SIGUSR2 while shutting down, ignoring"),
        Err(error) => tracing::info!("got SIGUSR2, but {error}"),
    }
}

/// Returns when the process is to end.
pub(super) async fn until_the_end(app: &Arc<App>, door: Door, mut signals: Signals) {
    let mut asked = app.asked.subscribe();
    let mut succession = Box::pin(door.wait(app));
    let how = tokio::select! {
        request = next_request(&mut signals, &mut asked, app) => {
            announce(request);
            request.how
        }
        successor = &mut succession => {
            tracing::info!("a new process has taken over, waiting for all clients disconnect");
            part(app, successor).await;
            // The service manager hears nothing: the service goes on.
            return end(app, Shutdown::WaitForClients, &mut signals, &mut asked).await;
        }
    };
    app.manager.stopping();
    if app.lent.load(Ordering::Acquire) {
        // Neither the sockets nor their files are this process's alone any longer.
        app.leave_sockets();
        let parting = async {
            part(app, succession.await).await;
            std::future::pending().await
        };
        tokio::select! {
            () = end(app, how, &mut signals, &mut asked) => {}
            () = parting => {}
        }
        return;
    }
    drop(succession);
    end(app, how, &mut signals, &mut asked).await;
    app.close_sockets();
}

/// Leaves the sockets to a successor that serves, and goes on to carry out what it asks for.
async fn part(app: &Arc<App>, mut successor: Successor) {
    app.leave_sockets();
    let pools = &app.service.pools;
    if pools.are_paused() || !pools.paused_databases().is_empty() {
        tracing::warn!("the clients that stay are paused: only SIGUSR2 to this process resumes them");
    }
    if let Err(error) = successor.release().await {
        tracing::warn!("the new process does not hear that this one leaves: {error}");
    }
    let app = Arc::clone(app);
    tokio::spawn(async move { successor.attend(app).await });
}

/// Ends in the way that was asked for. A second signal does not wait any longer; the console may change its mind.
async fn end(
    app: &Arc<App>,
    mut how: Shutdown,
    signals: &mut Signals,
    asked: &mut watch::Receiver<Option<Shutdown>>,
) {
    let mut closing = Box::pin(app.stop_tcp());
    let mut is_closed = false;
    while how != Shutdown::Immediate {
        // RESUME on the console reaches a successor only, so that SIGUSR2 has to help those who stay here.
        let may_resume = how == Shutdown::WaitForClients && app.lent.load(Ordering::Acquire);
        if !may_resume {
            app.service.pools.shut_down(how == Shutdown::WaitForServers);
        }
        tokio::select! {
            () = &mut closing, if !is_closed => is_closed = true,
            () = drained(app, how), if is_closed => return tracing::info!("{}", farewell(how)),
            request = next_request(signals, asked, app) => match request.signal {
                Some(signal) => return tracing::info!("got {signal} while shutting down, fast exit"),
                None => how = request.how,
            },
        }
    }
}

fn announce(Request { how, signal }: Request) {
    let signal = signal.unwrap_or("SHUTDOWN");
    match how {
        Shutdown::WaitForClients => {
            tracing::info!("got {signal}, shutting down, waiting for all clients disconnect");
        }
        Shutdown::WaitForServers => {
            tracing::info!("got {signal}, shutting down, waiting for all servers connections to be released");
        }
        Shutdown::Immediate => tracing::info!("got {signal}, fast exit"),
    }
}

fn farewell(how: Shutdown) -> &'static str {
    match how {
        Shutdown::WaitForServers => "server connections dropped, exiting",
        Shutdown::WaitForClients | Shutdown::Immediate => "client connections dropped, exiting",
    }
}

async fn next_request(
    signals: &mut Signals,
    asked: &mut watch::Receiver<Option<Shutdown>>,
    app: &Arc<App>,
) -> Request {
    loop {
        tokio::select! {
            request = signals.next(app) => return request,
            changed = asked.changed() => {
                let how = *asked.borrow_and_update();
                if let (Ok(()), Some(how)) = (changed, how) {
                    return Request { how, signal: None };
                }
            }
        }
    }
}

/// Waits for what is to be waited for. With SIGINT clients are sent away as soon as they have no server, so that every
/// transaction under way comes to its end.
async fn drained(app: &App, how: Shutdown) {
    loop {
        let clients = app.service.clients.list();
        match how {
            Shutdown::Immediate => return,
            _ if clients.is_empty() && app.service.logins.get() == 0 => return,
            Shutdown::WaitForServers => {
                app.service.pools.shut_down(true); // again, for those who have come in line since
                clients.iter().for_each(|client| client.order(Order::Leave));
            }
            Shutdown::WaitForClients => {}
        }
        drop(clients);
        sleep(LOOK).await;
    }
}
