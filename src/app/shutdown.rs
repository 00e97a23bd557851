//! Signals, and how the process ends.

use super::listen::Listeners;
use super::reload::App;
use crate::admin::Shutdown;
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
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next request to end; a hangup reloads. SIGTERM waits for clients, SIGINT for servers, SIGQUIT for nothing.
    async fn next(&mut self, app: &App) -> Shutdown {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    tracing::info!("got SIGHUP, reloading");
                    let _logged = app.reload();
                }
                _ = self.terminate.recv() => return Shutdown::WaitForClients,
                _ = self.interrupt.recv() => return Shutdown::WaitForServers,
                _ = self.quit.recv() => return Shutdown::Immediate,
            }
        }
    }
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
    let how = next_request(&mut signals, &mut asked, app).await;
    tracing::info!("shutting down: {how:?}");
    listeners.stop_tcp();
    tokio::select! {
        () = drained(app, how) => {}
        // A second request does not wait any longer.
        _ = next_request(&mut signals, &mut asked, app) => tracing::info!("shutting down at once"),
    }
}

async fn next_request(
    signals: &mut Signals,
    asked: &mut tokio::sync::watch::Receiver<Option<Shutdown>>,
    app: &App,
) -> Shutdown {
    loop {
        tokio::select! {
            how = signals.next(app) => return how,
            changed = asked.changed() => {
                let how = *asked.borrow_and_update();
                if let (Ok(()), Some(how)) = (changed, how) {
                    return how;
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
            Shutdown::WaitForServers => clients.iter().for_each(|client| client.order(Order::Leave)),
            Shutdown::WaitForClients => {}
        }
        drop(clients);
        sleep(LOOK).await;
    }
}
