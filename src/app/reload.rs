//! What can be told to the running program: reload and shutdown.

use super::StartError;
use super::listen::Listeners;
use super::log::Logger;
use super::rules::Rules;
use super::systemd::Manager;
use super::takeover::Olds;
use crate::admin::{AdminConsole, ConfigRow, Shutdown, Verbs};
use crate::config::{Change, Config, ConfigErrors, Loaded, change_of, process_environment};
use crate::pool::Listed;
use crate::session::{Order, Service};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Who may log in, and how they are asked.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) users: Listed,
    pub(super) rules: Rules,
}

impl Access {
    /// Reads the files that the configuration names.
    pub(super) fn load(config: &Config) -> Result<Self, StartError> {
        Self::with(config, Listed::load(&config.auth)?)
    }

    /// The same at the start.
    pub(super) fn begin(config: &Config) -> Result<Self, StartError> {
        Self::with(config, Listed::begin(&config.auth)?)
    }

    fn with(config: &Config, users: Listed) -> Result<Self, StartError> {
        Ok(Self { users, rules: Rules::load(&config.auth)? })
    }
}

/// The running program.
#[derive(Debug)]
pub(super) struct App {
    pub(super) service: Arc<Service>,
    pub(super) console: Arc<AdminConsole>,
    loaded: Mutex<Loaded>,
    /// Held by who changes the configuration, so that no change undoes another.
    changing: Mutex<()>,
    /// What the console has asked for.
    pub(super) asked: watch::Sender<Option<Shutdown>>,
    /// The service manager.
    pub(super) manager: Manager,
    /// Processes that this one has taken over from, as long as they have clients.
    pub(super) olds: OnceLock<Arc<Olds>>,
    /// A successor has the sockets too, and may serve at any moment: what is done to them is done to it.
    pub(super) lent: AtomicBool,
    logger: Logger,
    listeners: OnceLock<Listeners>,
    exporter: OnceLock<Exporter>,
}

/// The exporter's socket, for a successor, and who serves it.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) socket: std::net::TcpListener,
    pub(super) task: JoinHandle<()>,
}

impl App {
    pub(super) fn new(
        service: Arc<Service>,
        console: Arc<AdminConsole>,
        loaded: Loaded,
        logger: Logger,
    ) -> Self {
        Self {
            service,
            console,
            loaded: Mutex::new(loaded),
            changing: Mutex::default(),
            asked: watch::Sender::new(None),
            manager: Manager::from_environment(),
            olds: OnceLock::new(),
            lent: AtomicBool::new(false),
            logger,
            listeners: OnceLock::new(),
            exporter: OnceLock::new(),
        }
    }

    /// Has sockets that are served.
    pub(super) fn serve_with(&self, listeners: Listeners, exporter: Option<Exporter>) {
        let _once = self.listeners.set(listeners);
        if let Some(exporter) = exporter {
            let _once = self.exporter.set(exporter);
        }
    }

    /// The sockets that clients come in by.
    pub(super) fn listeners(&self) -> Option<&Listeners> {
        self.listeners.get()
    }

    /// The socket of the exporter.
    pub(super) fn metrics(&self) -> Option<BorrowedFd<'_>> {
        self.exporter.get().map(|exporter| exporter.socket.as_fd())
    }

    /// Lets nobody in any longer but to the console, by the Unix socket.
    pub(super) async fn stop_tcp(&self) {
        if let Some(listeners) = self.listeners() {
            listeners.stop_tcp(self.service.config.load().listen.reuse_port).await;
        }
        self.service.closing.store(true, Ordering::Release);
    }

    /// Leaves all sockets, and their files, to the process that has taken over.
    pub(super) fn leave_sockets(&self) {
        if let Some(listeners) = self.listeners() {
            listeners.leave();
        }
        if let Some(exporter) = self.exporter.get() {
            exporter.task.abort();
        }
        if let Some(olds) = self.olds.get() {
            olds.leave();
        }
    }

    /// Closes what is left, and removes its files: other threads may hold on to this until the process is gone.
    pub(super) fn close_sockets(&self) {
        if let Some(listeners) = self.listeners() {
            listeners.close();
        }
    }

    /// Reads the configuration, the auth file and the rules again. Either all of it is taken over or nothing.
    pub(super) fn reload(&self) -> Result<Vec<String>, Vec<String>> {
        self.manager.reloading();
        let result = self.read_again();
        self.manager.reloaded();
        result
    }

    fn read_again(&self) -> Result<Vec<String>, Vec<String>> {
        let _mine = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.service.config.load_full();
        let result = Config::load(&running.file, &process_environment)
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())
            .and_then(|loaded| {
                Access::load(&loaded.config)
                    .map(|access| (loaded, access))
                    .map_err(|error| vec![error.to_string()])
            });
        match result.and_then(|(loaded, access)| self.take_over(&running, loaded, Some(access))) {
            Ok(notices) => {
                tracing::info!("configuration reloaded");
                notices.iter().for_each(|notice| tracing::warn!("{notice}"));
                Ok(notices)
            }
            Err(errors) => {
                errors.iter().for_each(|error| tracing::error!("reload: {error}"));
                tracing::error!("reload failed, the old configuration stays in force");
                Err(errors)
            }
        }
    }

    /// Sets one setting until the next reload. Nothing else of the file takes effect, and neither does a setting that
    /// waits for the next start, which PgBouncer says nothing about either.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), Vec<String>> {
        if change_of(key) == Some(Change::Restart) {
            tracing::warn!("SET {key}: it cannot change at run time, and stays as it is");
            return Ok(());
        }
        let _mine = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.service.config.load_full();
        let before = self.loaded().clone();
        let texts = |errors: ConfigErrors| errors.0.iter().map(|error| error.problem.to_string()).collect();
        let loaded = before.with(key, value, &process_environment).map_err::<Vec<String>, _>(texts)?;
        let access = if loaded.config.auth == running.auth {
            None
        } else {
            Some(Access::load(&loaded.config).map_err(|error| vec![error.to_string()])?)
        };
        let notices = self.take_over(&running, loaded, access)?;
        notices.iter().for_each(|notice| tracing::warn!("{notice}"));
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a configuration in force. What can fail comes first, so that nothing has changed then.
    fn take_over(
        &self,
        running: &Config,
        loaded: Loaded,
        access: Option<Access>,
    ) -> Result<Vec<String>, Vec<String>> {
        let config = Arc::new(Config::clone(&loaded.config).keeping_fixed(running));
        self.logger.open(&config.log).map_err(|error| vec![format!("cannot open logfile {error}")])?;
        let mut notices: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
        let fixed = running.diff(&loaded.config).needs_restart;
        notices
            .extend(fixed.iter().map(|key| format!("{key}: the new value takes effect at the next start")));
        if let Some(listeners) = self.listeners().filter(|_| config.tcp != running.tcp) {
            listeners.set_options(&config.tcp);
        }
        let service = &self.service;
        if let Some(access) = access {
            notices.extend(access.rules.remarks);
            service.rules.store(Arc::new(access.rules.hba));
            service.users.replace(access.users);
        }
        service.config.store(Arc::clone(&config));
        service.adopted.clear();
        service.proofs.keep_those_of(&service.users);
        service.pools.lookups().forget();
        service.peers.reconfigure(&config.peering);
        for gone in service.pools.reconfigure(&config) {
            self.console.retire(&gone.id.database, gone.traffic.snapshot());
            let clients = service.clients.list();
            let orphans = clients.iter().filter(|client| client.record.who.database == gone.id.database);
            orphans.for_each(|client| client.order(Order::Remove));
        }
        if config.pool.care.fast_close {
            service.clients.list().iter().for_each(|client| client.order(Order::Reconsider));
        }
        let clients_are_concerned = service.shared.follow(&config) || waits_changed(running, &config);
        if clients_are_concerned {
            service.clients.list().iter().for_each(|client| client.wake());
        }
        let mut current = self.loaded();
        *current = loaded.keeping_fixed(&current);
        Ok(notices)
    }
}

/// Whether anybody may wait in line for another time now.
fn waits_changed(before: &Config, now: &Config) -> bool {
    before.pool.query_wait_timeout != now.pool.query_wait_timeout
        || (&before.databases, &before.fallback, &before.users) != (&now.databases, &now.fallback, &now.users)
}

/// The running program as the console reaches it.
#[derive(Debug)]
pub(super) struct Commands(pub(super) Weak<App>);

impl Verbs for Commands {
    fn reload(&self) -> Result<(), Vec<String>> {
        let app = self.0.upgrade().ok_or_else(|| vec!["the process is about to end".to_owned()])?;
        app.reload().map(drop)
    }

    fn set(&self, key: &str, value: &str) -> Result<(), Vec<String>> {
        let app = self.0.upgrade().ok_or_else(|| vec!["the process is about to end".to_owned()])?;
        app.set(key, value)
    }

    fn shutdown(&self, how: Shutdown) {
        if let Some(app) = self.0.upgrade() {
            app.asked.send_replace(Some(how));
        }
    }

    fn effective(&self) -> Vec<ConfigRow> {
        let Some(app) = self.0.upgrade() else { return Vec::new() };
        let loaded = app.loaded();
        let row = |setting: &crate::config::Effective| ConfigRow {
            key: setting.key.to_owned(),
            value: setting.value.clone(),
            default: setting.default.clone(),
            changeable: setting.change == Change::Reload,
            origin: setting.origin.to_string(),
            is_pgbouncers: setting.is_listed,
        };
        loaded.settings.iter().map(row).collect()
    }
}
