//! Pools of PostgreSQL servers: how one is dialled with the secrets that are known.

use super::whereabouts::{Site, Whereabouts};
use super::{Checkout, Connector, Found, Lookups, Pool, Pooled, Users};
use crate::auth::{Credential, KeyCache, Password, ScramCredential, ScramVerifier, StoredSecret};
use crate::config::{Host, Hosts, PoolSettings, TcpOptions};
use crate::net::{Pipe, SocketOptions};
use crate::server::{Clean, DialError, Parameters, QueryError, Server, Target, Unclean, dial};
use crate::stats::Peer;
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
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
///
/// A user may have several verifiers: on several servers, or an old and a new one. Keys are kept under the verifier that
/// they belong to and are never wrong for it, so neither a server that refuses a login nor a namesake on another server
/// has a say in them.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<HashMap<Proven, ScramCredential>>);

/// Who has proved something, and the fingerprint of the verifier.
type Proven = (String, [u8; 32]);

/// Keys that are kept. There are hardly more than clusters have roles.
const KEYS: usize = 65_536;

impl Proofs {
    /// Remembers what a user proved.
    pub fn remember(&self, user: &str, credential: ScramCredential) {
        let proven = (user.to_owned(), credential.fingerprint());
        let mut known = self.lock();
        if known.len() >= KEYS && !known.contains_key(&proven) {
            // Anyone's: who can bring in so many must not be able to choose whose are lost.
            let one = known.keys().next().cloned();
            one.map(|one| known.remove(&one));
        }
        known.insert(proven, credential);
    }

    /// Forgets the keys of users of the auth file who have another secret there by now.
    pub fn keep_those_of(&self, users: &Users) {
        self.lock().retain(|(user, print), _| match users.secret(user) {
            None => true,
            Some(StoredSecret::Scram(verifier)) => verifier.fingerprint() == *print,
            Some(_) => false,
        });
    }

    fn of(&self, user: &str, verifier: &ScramVerifier) -> Option<ScramCredential> {
        self.lock().get(&(user.to_owned(), verifier.fingerprint())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Proven, ScramCredential>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For each database how often DDL was committed in it, as far as its clients' servers have said so. All connections to it
/// share the counter, whatever pool they are of. Those of databases without a connection are swept out now and then.
#[derive(Debug, Default)]
pub struct Epochs(Mutex<HashMap<(Hosts, u16, String), Arc<AtomicU64>>>);

impl Epochs {
    fn of(&self, settings: &PoolSettings) -> Arc<AtomicU64> {
        let key = (settings.hosts.clone(), settings.port, settings.dbname.clone());
        Arc::clone(self.lock().entry(key).or_default())
    }

    /// Forgets databases that nobody is connected to: who connects next has nothing that could be outdated.
    pub(super) fn sweep(&self) {
        self.lock().retain(|_, epoch| Arc::strong_count(epoch) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Hosts, u16, String), Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials PostgreSQL.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Users and their secrets.
    pub users: Arc<Users>,
    /// Secrets of users who are not among them.
    pub lookups: Arc<Lookups>,
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
            Box::pin(introduce(server, settings)).await?;
            server.state.statements.follow(self.epochs.of(settings));
        }
        result
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// As it is known.
    Known,
    /// As it is now.
    Fresh,
}

impl Postgres {
    /// Dials one host after the other until one lets in, beginning with the one whose turn it is. An address that did
    /// not answer a moment ago is left to the end: while another works it costs nobody anything.
    pub(super) async fn dial_any(
        &self,
        settings: &PoolSettings,
        startup: &BTreeMap<String, String>,
    ) -> Result<Server, DialError> {
        let credential = self.credential(settings, Secrets::Known).await;
        let result = self.dial_hosts(settings, startup, &credential).await;
        if result.as_ref().is_err_and(DialError::is_denial) {
            // The password may be another one by now: once more with the secret as it is, if it is another.
            let fresh = self.credential(settings, Secrets::Fresh).await;
            if !fresh.is(&credential) {
                return self.dial_hosts(settings, startup, &fresh).await;
            }
        }
        result
    }

    async fn dial_hosts(
        &self,
        settings: &PoolSettings,
        startup: &BTreeMap<String, String>,
        credential: &Credential,
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
                match self.dial_at(settings, startup, credential, site, has_alternative).await {
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
            match self.dial_at(settings, startup, credential, site, at + 1 < count).await {
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
        credential: &Credential,
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
            credential: credential.clone(),
            keys: Arc::clone(&self.keys),
            followed: Arc::clone(&settings.track_extra),
            deadline: settings.server_connect_timeout,
        };
        let mut result = dial(target).await;
        self.whereabouts.note(&address, result.as_ref().err(), settings.server_login_retry);
        if let Ok(server) = &mut result {
            server.standing = standing;
        }
        result
    }

    /// The entry's own password, or else what the auth file holds for the user, or else what `auth_query` says.
    async fn credential(&self, settings: &PoolSettings, which: Secrets) -> Credential {
        if let Some(password) = &settings.password {
            return Password::new(password.reveal()).map_or(Credential::None, Credential::Plain);
        }
        if which == Secrets::Fresh {
            self.users.refresh().await;
        }
        let secret = match self.users.secret(&settings.user) {
            Some(secret) => Some(secret),
            None => self.look_up(settings, which).await,
        };
        match secret {
            // A verifier alone proves others; with the keys that its owner revealed it opens a server.
            Some(StoredSecret::Scram(verifier)) => {
                self.proofs.of(&settings.user, &verifier).map_or(Credential::None, Credential::Scram)
            }
            Some(secret) => Credential::from(&secret),
            None => Credential::None,
        }
    }

    async fn look_up(&self, settings: &PoolSettings, which: Secrets) -> Option<StoredSecret> {
        let lookup = settings.lookup.as_ref()?;
        let known = self.lookups.known(lookup, &settings.user).filter(|_| which == Secrets::Known);
        if known.is_some() {
            return known;
        }
        // Boxed: what is asked there is asked over a server that is dialled here.
        let asking: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(self.lookups.ask(lookup, &settings.user));
        match asking.await {
            Ok(Found::User(secret)) => Some(secret),
            Ok(Found::Nobody) => None,
            Err(error) => {
                tracing::warn!(user = settings.user, "cannot look up the secret for a server: {error}");
                None
            }
        }
    }
}

/// Runs `connect_query`. That it fails is only logged, but a server that it leaves in a transaction is of no use.
async fn introduce(server: &mut Server, settings: &PoolSettings) -> Result<(), DialError> {
    if let Some(sql) = settings.care.guard {
        server.query(sql).await.map_err(|error| match error {
            QueryError::Refused(report) => {
                DialError::Refused { code: report.code.into_owned(), message: report.message }
            }
            QueryError::Unclean(unclean) => DialError::ConnectQuery(unclean),
        })?;
    }
    let sql = settings.care.connect_query.as_str();
    if sql.is_empty() {
        return Ok(());
    }
    let outcome = server.query_within(sql, settings.server_connect_timeout).await;
    if let Err(QueryError::Refused(report)) = &outcome {
        tracing::warn!(
            database = settings.dbname,
            user = settings.user,
            "connect_query failed: {}",
            report.message
        );
    }
    // What it prepared is there for all; it is none of those that are kept track of. So is what it set.
    server.state.statements.clear_named();
    server.state.settle_in();
    match outcome {
        Err(QueryError::Unclean(Unclean::TooLate)) => Err(DialError::LateConnectQuery),
        Err(QueryError::Unclean(unclean)) => Err(DialError::ConnectQuery(unclean)),
        _ => server.settle(&Pipe::default()).map(drop).map_err(DialError::ConnectQuery),
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

    fn withdrawal(&self) -> Option<Arc<AtomicBool>> {
        self.standing.as_ref().map(crate::net::Standing::lost)
    }

    async fn check(&mut self, query: &str) -> bool {
        // It answers, be it with an error; what it answered for must have left it as it was.
        let outcome = self.query(query).await;
        // It may be any SQL, such as the reset query once more.
        self.state.was_reset |= !query.is_empty();
        !matches!(outcome, Err(QueryError::Unclean(_))) && self.settle(&Pipe::default()).is_ok()
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        Self::close(self)
    }

    fn baseline(&self) -> Arc<Parameters> {
        Arc::clone(&self.state.baseline)
    }

    fn identity(&self) -> (Peer, u32) {
        let (remote, local) = self.ends();
        let peer = Peer::new(remote, local).at_ports(self.cancel_handle().address().port(), 0);
        (peer, self.cancel_handle().process())
    }
}
