//! The program around the sessions: start, reload, shutdown.

mod listen;
mod log;
mod reload;
mod rules;
mod shutdown;
mod tidy;
mod workers;

pub use log::Verbosity;
pub use rules::{RulesError, rules_report};
pub use workers::runtime;

use crate::admin::{AdminConsole, Verbs};
use crate::auth::KeyCache;
use crate::config::{Config, ConfigErrors, Loaded, process_environment};
use crate::metrics;
use crate::net::ListenError;
use crate::pool::{AuthFileError, Pools, Postgres, Users, Whereabouts};
use crate::session::Service;
use crate::stats::{Gauge, Traffic};
use arc_swap::ArcSwap;
use listen::Bound;
use reload::{Access, App};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use workers::Workers;

/// SCRAM keys that are remembered.
const KEYS: usize = 1024;

/// Averaging window of the console when no `stats:` line is logged.
const STATS_PERIOD: Duration = Duration::from_secs(60);

/// Why pgweir does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The auth file is wrong.
    #[error(transparent)]
    AuthFile(#[from] AuthFileError),
    /// The rules of `auth_type = hba` are wrong.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The file of name servers is of no use.
    #[error("resolv_conf {}: {error}", path.display())]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// A socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The exporter cannot be listened on.
    #[error("cannot listen on {address} (metrics_listen): {error}")]
    Metrics {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system gives no threads or descriptors.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Loads the configuration, serves, and returns when the process is to end.
///
/// It must run on a [`runtime`] of its own; further worker threads are started as configured.
///
/// # Errors
///
/// [`StartError`]; once it serves, nothing ends it but a shutdown.
pub async fn run(file: &Path, verbosity: Verbosity) -> Result<(), StartError> {
    let loaded = Config::load(file, &process_environment)?;
    log::start(&loaded.config.log, verbosity);
    loaded.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    let config = Arc::clone(&loaded.config);
    let access = Access::load(&config)?;
    access.rules.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    raise_descriptor_limit(&config);
    let bound = Bound::bind(&config)?;
    let exporter = bind_exporter(&config).await?;
    let workers = Workers::start(config.workers)?;
    let whereabouts = Whereabouts::new(&config.dns).map_err(|error| resolv_conf(&config, error))?;
    let (app, service) = assemble(loaded, access, whereabouts, &workers);
    let listeners = bound.serve(&service, &workers);
    if let Some(listener) = exporter {
        tokio::spawn(metrics::serve(listener, Arc::clone(&service)));
    }
    tokio::spawn(keep_averages(Arc::clone(&app)));
    service.pools.warm(&config);
    tidy::keep_tidy(&service, &app.console, &workers);
    tracing::info!(workers = config.workers, "pgweir {} is ready", env!("CARGO_PKG_VERSION"));
    shutdown::until_the_end(&app, listeners).await;
    Ok(())
}

fn resolv_conf(config: &Config, error: io::Error) -> StartError {
    StartError::ResolvConf { path: config.dns.resolv_conf.clone().unwrap_or_default(), error }
}

fn assemble(
    loaded: Loaded,
    access: Access,
    whereabouts: Whereabouts,
    workers: &Workers,
) -> (Arc<App>, Arc<Service>) {
    let users = Arc::new(Users::new(access.users));
    let keys = Arc::new(KeyCache::new(KEYS));
    let proofs = Arc::default();
    let connector = Postgres {
        users: Arc::clone(&users),
        keys: Arc::clone(&keys),
        proofs: Arc::clone(&proofs),
        lookups: Arc::default(),
        epochs: Arc::default(),
        whereabouts: Arc::new(whereabouts),
    };
    let app = Arc::new_cyclic(|app: &std::sync::Weak<App>| {
        let verbs: Arc<dyn Verbs> = Arc::new(reload::Commands(app.clone()));
        let console = Arc::new(AdminConsole::new(verbs));
        let service = Arc::new(Service {
            config: ArcSwap::new(Arc::clone(&loaded.config)),
            users,
            rules: ArcSwap::from_pointee(access.rules.hba),
            keys,
            derivations: Arc::new(Semaphore::new(workers::derivations())),
            proofs,
            pools: Pools::new(connector, Arc::clone(&workers.0)),
            clients: crate::session::Clients::default(),
            peers: crate::session::Peers::default(),
            logins: Gauge::default(),
            traffic: Traffic::default(),
            errors: crate::stats::Errors::default(),
            adopted: crate::session::Adopted::default(),
            shared: crate::session::Shared::default(),
            interner: Arc::default(),
            console: Arc::clone(&console) as Arc<dyn crate::session::Console>,
        });
        App::new(service, console, loaded)
    });
    let service = Arc::clone(&app.service);
    (app, service)
}

async fn bind_exporter(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => Err(StartError::Metrics { address, error }),
    }
}

/// Each client and each server takes a descriptor. The soft limit is often far below the hard one.
fn raise_descriptor_limit(config: &Config) {
    let clients = u64::try_from(config.limits.max_client_conn).unwrap_or(u64::MAX);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < clients.saturating_add(100) => {
            tracing::warn!(
                "only {limit} file descriptors are allowed (ulimit -n), max_client_conn is {clients}"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!("cannot raise the limit of file descriptors: {error}"),
    }
}

/// Keeps the console's averages, and logs them.
async fn keep_averages(app: Arc<App>) {
    let logged = app.service.config.load().log.stats_period;
    let mut ticks = interval(logged.unwrap_or(STATS_PERIOD));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first is now
    loop {
        ticks.tick().await;
        app.console.tick(&app.service);
        if logged.is_some() {
            tracing::info!("{}", app.console.stats_line());
        }
    }
}
