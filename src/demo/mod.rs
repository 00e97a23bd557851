//! `pgweir demo`: a throwaway PostgreSQL, pgweir before it, and a load that shows what a pooler is for.
//!
//! Everything lives in one folder and under guards: however the demo ends, its processes and its folder go.

mod client;
mod cluster;
mod error;
mod folder;
mod installation;
mod load;
mod pooler;
mod process;
mod screen;
mod watch;

pub use error::DemoError;

use cluster::Cluster;
use folder::Folder;
use installation::Installation;
use pooler::Pooler;
use screen::Screen;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The name of the role, its password and its database: what a visitor has to remember.
const DEMO: &str = "demo";

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// Clients at a time.
    pub clients: u32,
    /// Server connections that they share.
    pub servers: u32,
    /// How long they work.
    pub length: Duration,
    /// What comes after it.
    pub after: After,
}

/// What comes after the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Both keep running until Ctrl-C.
    Stay,
    /// The end.
    Exit,
}

/// Runs the demo to its end.
///
/// # Errors
///
/// [`DemoError`]; nothing is left behind then either.
pub async fn run(show: Show) -> Result<(), DemoError> {
    let mut signals = Signals::listen()?;
    let stage = tokio::select! {
        biased;
        () = signals.next() => return Err(DemoError::Interrupted),
        stage = perform(show) => stage?,
    };
    if show.after == After::Stay {
        stage.screen.invite(&stage.cluster, &stage.pooler).await?;
        signals.next().await;
    }
    stage.screen.say("\nStopping both, and removing their files.")
}

/// What has been built up. The order of the fields is the order in which it is taken down.
#[derive(Debug)]
struct Stage {
    screen: Screen,
    pooler: Pooler,
    cluster: Cluster,
    _folder: Folder,
}

async fn perform(show: Show) -> Result<Stage, DemoError> {
    let screen = Screen;
    let installation = Installation::find()?;
    let folder = Folder::create(&installation)?;
    screen.say(&format!("Starting PostgreSQL {} in {}", installation.version, folder.path().display()))?;
    let cluster = Cluster::start(installation, &folder, show.servers).await?;
    let pooler = Pooler::start(&folder, &cluster, show).await?;
    screen.say(&format!("Starting pgweir {} on 127.0.0.1:{}", env!("CARGO_PKG_VERSION"), pooler.port))?;
    let stage = Stage { screen, pooler, cluster, _folder: folder };
    let outcome = watch::watch(show, &stage.cluster, &stage.pooler, stage.screen).await?;
    stage.screen.sum_up(show, &outcome)?;
    if outcome.is_good(show) { Ok(stage) } else { Err(DemoError::NotServed) }
}

/// The signals that end the demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, DemoError> {
        let listen = |kind| signal(kind).map_err(DemoError::system("listen for signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
