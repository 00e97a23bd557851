//! Pools of PostgreSQL servers: how one is dialled with the secrets that are known.

use super::whereabouts::{Site, Whereabouts};
use super::{Checkout, Connector, Pool, Pooled};
use crate::auth::{Credential, KeyCache, Password, ScramCredential, StoredSecret, UserList};
use crate::config::{Host, Hosts, PoolSettings, TcpOptions};
use crate::net::SocketOptions;
use crate::server::{Clean, DialError, Parameters, Server, Target, dial};
use crate::stats::Peer;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How long one address may take to answer a connect when there is another.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// A pool of PostgreSQL servers.
pub type ServerPool = Pool<Postgres>;
/// A PostgreSQL server in use.
pub type ServerCheckout = Checkout<Postgres>;

/// SCRAM keys that clients revealed by logging in. They open any server that stores the same verifier, so that a user
/// whose password nobody has written down can be logged in there too. They are worth a password, and die with the
/// process.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<HashMap<String, ScramCredential>>);

impl Proofs {
    /// Remembers what a user proved. Only users of the auth file can prove anything, so it stays as small as that.
    pub fn remember(&self, user: &str, credential: ScramCredential) {
        self.lock().insert(user.to_owned(), credential);
    }

    /// Forgets what was proved by secrets that may be others now.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn of(&self, user: &str) -> Option<ScramCredential> {
        self.lock().get(user).cloned()
    }

    fn forget(&self, user: &str) {
        self.lock().remove(user);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, ScramCredential>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For each database how often DDL was committed in it, as far as its clients' servers have said so. All connections to it
/// share the counter, whatever pool they are of. There are as many as the configuration has databases.
#[derive(Debug, Default)]
pub struct Epochs(Mutex<HashMap<(Hosts, u16, String), Arc<AtomicU64>>>);

impl Epochs {
    fn of(&self, settings: &PoolSettings) -> Arc<AtomicU64> {
        let key = (settings.hosts.clone(), settings.port, settings.dbname.clone());
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}

/// Dials PostgreSQL.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Users and their secrets, as of the last reload.
    pub users: Arc<ArcSwap<UserList>>,
    /// SCRAM keys of earlier logins.
    pub keys: Arc<KeyCache>,
    /// SCRAM keys that clients revealed.
    pub proofs: Arc<Proofs>,
    /// DDL in each database.
    pub epochs: Arc<Epochs>,
    /// Where servers are.
    pub whereabouts: Arc<Whereabouts>,
}

impl Connector for Postgres {
    type Server = Server;

    async fn dial(&self, settings: &PoolSettings) -> Result<Server, DialError> {
        let mut result = Box::pin(self.dial_any(settings, &settings.startup)).await;
        if let Ok(server) = &mut result {
            server.state.statements.follow(self.epochs.of(settings));
        }
        if result.as_ref().is_err_and(DialError::is_denial) {
            // Keys of a password that was changed open nothing any longer; the next login of a client brings new ones.
            self.proofs.forget(&settings.user);
        }
        result
    }
}

impl Postgres {
    /// Dials one host after the other until one lets in, beginning with the one whose turn it is. An address that did
    /// not answer a moment ago is left to the end: while another works it costs nobody anything.
    pub(super) async fn dial_any(
        &self,
        settings: &PoolSettings,
        startup: &BTreeMap<String, String>,
    ) -> Result<Server, DialError> {
        let (mut tried, mut last, mut doubtful) = (Vec::new(), None, Vec::new());
        while let Some(host) = self.whereabouts.next_host(settings, &mut tried) {
            let sites = match self.sites(settings, host).await {
                Ok(sites) => sites,
                Err(error) => {
                    last = Some(error);
                    Vec::new()
                }
            };
            let others = tried.len() < settings.hosts.count();
            let count = sites.len();
            for (at, site) in sites.into_iter().enumerate() {
                if self.whereabouts.is_failing(&site.address) {
                    doubtful.push(site);
                    continue;
                }
                let has_alternative = others || at + 1 < count || !doubtful.is_empty();
                match self.dial_at(settings, startup, site, has_alternative).await {
                    Err(error) if !error.is_denial() => last = Some(error),
                    decided => return decided,
                }
            }
            if let Some(host) = tried.last() {
                self.whereabouts.give_up(settings, *host);
            }
        }
        let count = doubtful.len();
        for (at, site) in doubtful.into_iter().enumerate() {
            match self.dial_at(settings, startup, site, at + 1 < count).await {
                Err(error) if !error.is_denial() => last = Some(error),
                decided => return decided,
            }
        }
        Err(last.unwrap_or(DialError::Closed))
    }

    async fn sites(&self, settings: &PoolSettings, host: &Host) -> Result<Vec<Site>, DialError> {
        let looking = self.whereabouts.sites(host, settings.port);
        let found = match settings.server_connect_timeout {
            None => looking.await,
            Some(limit) => timeout(limit, looking).await.map_err(|_| DialError::TimedOut(limit))?,
        };
        found.map_err(|error| DialError::Lookup { host: host.to_string(), error })
    }

    async fn dial_at(
        &self,
        settings: &PoolSettings,
        startup: &BTreeMap<String, String>,
        site: Site,
        has_alternative: bool,
    ) -> Result<Server, DialError> {
        let Site { address, standing } = site;
        let target = Target {
            address: address.clone(),
            socket: socket_options(&settings.tcp),
            impatience: has_alternative.then_some(IMPATIENCE),
            user: settings.user.clone(),
            database: settings.dbname.clone(),
            startup: startup.clone(),
            credential: self.credential(settings),
            keys: Arc::clone(&self.keys),
            deadline: settings.server_connect_timeout,
        };
        let mut result = dial(target).await;
        self.whereabouts.note(&address, result.as_ref().err(), settings.server_login_retry);
        if let Ok(server) = &mut result {
            server.standing = standing;
        }
        result
    }

    /// The entry's own password, or else what the auth file holds for the user.
    fn credential(&self, settings: &PoolSettings) -> Credential {
        if let Some(password) = &settings.password {
            return Password::new(password.reveal()).map_or(Credential::None, Credential::Plain);
        }
        match self.users.load().get(&settings.user) {
            // A verifier alone proves others; with the keys that its owner revealed it opens a server.
            Some(StoredSecret::Scram(_)) => {
                self.proofs.of(&settings.user).map_or(Credential::None, Credential::Scram)
            }
            Some(secret) => Credential::from(secret),
            None => Credential::None,
        }
    }
}

/// The options of sockets as the configuration has them.
#[must_use]
pub fn socket_options(options: &TcpOptions) -> SocketOptions {
    SocketOptions {
        keepalive: options.keepalive,
        keepcnt: options.keepcnt,
        keepidle: options.keepidle,
        keepintvl: options.keepintvl,
        user_timeout: options.user_timeout,
        buffer: options.socket_buffer,
        defer_accept: options.defer_accept,
    }
}

impl Pooled for Server {
    type Proof = Clean;

    fn is_quiet(&self) -> bool {
        Self::is_quiet(self) && !self.is_withdrawn()
    }

    fn is_withdrawn(&self) -> bool {
        Self::is_withdrawn(self)
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        Self::close(self)
    }

    fn baseline(&self) -> Arc<Parameters> {
        Arc::clone(&self.state.baseline)
    }

    fn identity(&self) -> (Peer, u32) {
        let (remote, local) = self.ends();
        let peer = Peer::new(remote, local).at_port(self.cancel_handle().address().port());
        (peer, self.cancel_handle().process())
    }
}
