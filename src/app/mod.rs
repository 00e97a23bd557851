//! The program around the sessions: start, reload, shutdown.

mod daemon;
mod identity;
mod listen;
mod log;
mod pidfile;
mod reload;
mod rules;
mod shutdown;
mod systemd;
mod takeover;
mod tidy;
mod workers;

pub use daemon::{Role, start_and_wait};
pub use identity::IdentityError;
pub use log::Verbosity;
pub use pidfile::PidFileError;
pub use rules::{RulesError, rules_report};
pub use takeover::TakeoverError;
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
use listen::{Bound, Wanted};
use log::Logger;
use pidfile::PidFile;
use reload::{Access, App, Exporter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use takeover::{Door, Inheritance};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use workers::Workers;

/// SCRAM keys that are remembered.
const KEYS: usize = 1024;

/// What the command line asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// How much is logged.
    pub verbosity: Verbosity,
    /// The user to become, in place of the configuration's.
    pub user: Option<&'a str>,
    /// This process is to go on in the background.
    pub daemon: bool,
    /// This process is to take the place of the one that runs.
    pub takeover: bool,
}

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
    /// It would run as the wrong user.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There can be no pid file.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The log cannot be opened.
    #[error("cannot open logfile {0}")]
    Log(io::Error),
    /// The running process cannot be taken over.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
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
pub async fn run(file: &Path, wishes: Wishes<'_>) -> Result<(), StartError> {
    // First of all: descriptors that were passed are known by their numbers.
    let passed = systemd::passed_sockets()?;
    let loaded = Config::load(file, &process_environment)?;
    let quiet = wishes.verbosity.quiet || wishes.daemon;
    let logger = Logger::start(&loaded.config.log, Verbosity { quiet, ..wishes.verbosity });
    let result = serve(file, wishes, loaded, passed, &logger).await;
    if let Err(error) = &result {
        logger.last_words(&error.to_string());
    }
    result
}

async fn serve(
    file: &Path,
    wishes: Wishes<'_>,
    loaded: Loaded,
    passed: Vec<systemd::Passed>,
    logger: &Logger,
) -> Result<(), StartError> {
    let config = Arc::clone(&loaded.config);
    let user = wishes.user.or(config.process.user.as_deref());
    if wishes.daemon {
        if config.process.pidfile.is_none() {
            return Err(PidFileError::Missing.into());
        }
        daemon::detach()?;
    }
    let mut left = match wishes.takeover {
        true => inherit(file, user, &Wanted::new(&config, &passed))?,
        false => Inheritance::default(),
    };
    let is_passed = !passed.is_empty();
    check_alone(&config, &left, is_passed)?;
    // Before anybody can see that the process is there, and send it one.
    let signals = shutdown::Signals::listen()?;
    raise_descriptor_limit(&config);
    let exporter = bind_exporter(&config, left.metrics.take()).await?;
    let mut bound = Bound::adopt(&config, passed)?;
    if !is_passed {
        // Before privileges are dropped, so that low ports can be had.
        bound.bind_tcp(&config, &mut left)?;
    }
    // All files are made by the user who will remove them.
    if let Some(user) = user {
        identity::become_user(user)?;
    }
    identity::refuse_root()?;
    logger.open(&config.log).map_err(StartError::Log)?;
    loaded.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    let access = Access::begin(&config)?;
    access.rules.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    if !is_passed {
        bound.bind_unix(&config, &mut left)?;
    }
    let _pidfile = config.process.pidfile.as_deref().map(PidFile::write).transpose()?;
    let workers = Workers::start(config.workers)?;
    let whereabouts = Whereabouts::new(&config.dns).map_err(|error| resolv_conf(&config, error))?;
    let (app, service) = assemble(loaded, access, whereabouts, &workers, logger.clone());
    let listeners = bound.serve(&service, &workers);
    app.serve_with(listeners, exporter.map(|listener| export(listener, &service)).transpose()?);
    tokio::spawn(keep_averages(Arc::clone(&app)));
    service.pools.warm(&config);
    tidy::keep_tidy(&service, &app.console, &workers);
    let door = Door::open(file, left.door.take());
    tracing::info!(workers = config.workers, "process up: {}, pgweir is ready", crate::session::VERSION);
    // First of all the old process is told: whoever waits for this one to be ready may end that one next.
    relieve(left, &app).await;
    if wishes.daemon {
        daemon::tell_ready()?;
    }
    app.manager.ready();
    shutdown::until_the_end(&app, door, signals).await;
    Ok(())
}

/// What the running process leaves to this one.
fn inherit(file: &Path, user: Option<&str>, wanted: &Wanted) -> Result<Inheritance, StartError> {
    let Some(left) = Inheritance::ask(file, user)? else {
        tracing::info!("old process not found, try to continue normally");
        return Ok(Inheritance::default());
    };
    if !left.has_any_of(wanted) {
        // A container's, for example, that has the same path for another file.
        tracing::warn!(
            "the process that runs with a file of this path listens nowhere where this one is to listen, so it is left \
             alone; try to continue normally"
        );
        return Ok(Inheritance::default());
    }
    Ok(left)
}

/// Tells the old process that it may go.
async fn relieve(left: Inheritance, app: &App) {
    match left.relieve().await {
        Ok(None) => {}
        Ok(Some((process, olds))) => {
            let olds = app.olds.get_or_init(|| Arc::new(olds));
            let _once = app.service.elsewhere.set(Arc::clone(olds) as Arc<dyn crate::session::Elsewhere>);
            tracing::info!("took over from process {process}, which ends with its last client");
        }
        // Both accept now, or the old one is gone.
        Err(error) => tracing::error!("the old process does not end by itself, it needs a SIGTERM: {error}"),
    }
}

/// Refuses to start beside a process of the same configuration, before anything of its is touched.
fn check_alone(config: &Config, left: &Inheritance, is_passed: bool) -> Result<(), StartError> {
    if left.predecessor.is_some() {
        return Ok(());
    }
    // A socket that was passed is most often this very one, and answers already.
    let own = listen::socket_path(config).filter(|path| !is_passed && !left.has_unix(path));
    if let Some(path) = own {
        if listen::is_answered(&path) {
            return Err(ListenError::InUse(path).into());
        }
    }
    config.process.pidfile.as_deref().map_or(Ok(()), pidfile::check).map_err(Into::into)
}

fn resolv_conf(config: &Config, error: io::Error) -> StartError {
    StartError::ResolvConf { path: config.dns.resolv_conf.clone().unwrap_or_default(), error }
}

fn assemble(
    loaded: Loaded,
    access: Access,
    whereabouts: Whereabouts,
    workers: &Workers,
    logger: Logger,
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
            closing: AtomicBool::new(false),
            elsewhere: OnceLock::new(),
            console: Arc::clone(&console) as Arc<dyn crate::session::Console>,
        });
        App::new(service, console, loaded, logger)
    });
    let service = Arc::clone(&app.service);
    (app, service)
}

async fn bind_exporter(
    config: &Config,
    left: Option<std::net::TcpListener>,
) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    let left = left.filter(|socket| socket.local_addr().is_ok_and(|own| own == address));
    let result = match left {
        Some(socket) => socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket)),
        None => TcpListener::bind(address).await,
    };
    result.map(Some).map_err(|error| StartError::Metrics { address, error })
}

/// Serves the exporter; a copy of its socket is kept for a successor.
fn export(listener: TcpListener, service: &Arc<Service>) -> io::Result<Exporter> {
    let socket = std::os::fd::AsFd::as_fd(&listener).try_clone_to_owned()?.into();
    let task = tokio::spawn(metrics::serve(listener, Arc::clone(service)));
    Ok(Exporter { socket, task })
}

/// Each client and each server takes a descriptor. The soft limit is often far below the hard one.
fn raise_descriptor_limit(config: &Config) {
    let clients = u64::try_from(config.limits.max_client_conn).unwrap_or(u64::MAX);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= clients.saturating_add(100) => {
            tracing::info!("kernel file descriptor limit: {limit}; max_client_conn: {clients}");
        }
        Ok(limit) => {
            tracing::warn!(
                "only {limit} file descriptors are allowed (ulimit -n), max_client_conn is {clients}"
            );
        }
        Err(error) => tracing::warn!("cannot raise the limit of file descriptors: {error}"),
    }
}

/// Keeps the console's averages, and tells them to the log and the service manager.
async fn keep_averages(app: Arc<App>) {
    let mut last = Instant::now();
    loop {
        // Looked up each time, so that a reload changes it.
        let stats = app.service.config.load().log.stats;
        last = (last + stats.period).max(Instant::now());
        sleep_until(last).await;
        app.console.tick(&app.service);
        let line = app.console.stats_line();
        app.manager.status(&line);
        if stats.logged {
            tracing::info!("{line}");
        }
    }
}
