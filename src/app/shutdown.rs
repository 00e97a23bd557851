//! Signals, and how the process ends.

use super::listen::Listeners;
use super::reload::App;
use crate::admin::Shutdown;
use crate::pool::OrderError;
use crate::session::Order;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// How often the end is looked for while clients leave.
const LOOK: Duration = Duration::from_millis(50);

/// The signals that mean something.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next request to end; a hangup reloads, SIGUSR1 pauses and SIGUSR2 resumes. SIGTERM waits for clients, SIGINT
    /// for servers, SIGQUIT for nothing.
    async fn next(&mut self, app: &App) -> Shutdown {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    tracing::info!("got SIGHUP, reloading");
                    let _logged = app.reload();
                }
                _ = self.user1.recv() => pause(app),
                _ = self.user2.recv() => resume(app),
                _ = self.terminate.recv() => return Shutdown::WaitForClients,
                _ = self.interrupt.recv() => return Shutdown::WaitForServers,
                _ = self.quit.recv() => return Shutdown::Immediate,
            }
        }
    }
}

fn pause(app: &App) {
    match app.service.pools.pause(None) {
        Ok(()) => tracing::info!("got SIGUSR1, pausing all activity"),
        Err(error) => tracing::info!("got SIGUSR1, but {error}"),
    }
}

fn resume(app: &App) {
    match app.service.pools.resume(None) {
        Ok(()) => tracing::info!("got SIGUSR2, continuing from PAUSE"),
        Err(OrderError::ShuttingDown) => tracing::info!("got SIGUSR2 while shutting down, ignoring"),
        Err(error) => tracing::info!("got SIGUSR2, but {error}"),
    }
}

/// Who wants the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signal,
    Console,
}

/// Returns when the process is to end.
pub(super) async fn until_the_end(app: &Arc<App>, mut listeners: Listeners) {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return;
        }
    };
    let mut asked = app.asked.subscribe();
    let (mut how, _) = next_request(&mut signals, &mut asked, app).await;
    listeners.stop_tcp();
    loop {
        tracing::info!("shutting down: {how:?}");
        app.service.pools.shut_down(how == Shutdown::WaitForServers);
        tokio::select! {
            () = drained(app, how) => return,
            (next, source) = next_request(&mut signals, &mut asked, app) => match source {
                // A second signal does not wait any longer; the console may change its mind.
                Source::Signal => {
                    tracing::info!("shutting down at once");
                    return;
                }
                Source::Console => how = next,
            },
        }
    }
}

async fn next_request(
    signals: &mut Signals,
    asked: &mut tokio::sync::watch::Receiver<Option<Shutdown>>,
    app: &App,
) -> (Shutdown, Source) {
    loop {
        tokio::select! {
            how = signals.next(app) => return (how, Source::Signal),
            changed = asked.changed() => {
                let how = *asked.borrow_and_update();
                if let (Ok(()), Some(how)) = (changed, how) {
                    return (how, Source::Console);
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
