//! Pools of PostgreSQL servers: how one is dialled with the secrets that are known.

use super::{Checkout, Connector, Pool, Pooled};
use crate::auth::{Credential, KeyCache, Password, ScramCredential, StoredSecret, UserList};
use crate::config::{Host, PoolSettings};
use crate::net::Address;
use crate::server::{Clean, DialError, Parameters, Server, Target, dial};
use crate::stats::Peer;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
pub struct Epochs(Mutex<HashMap<(Host, u16, String), Arc<AtomicU64>>>);

impl Epochs {
    fn of(&self, settings: &PoolSettings) -> Arc<AtomicU64> {
        let key = (settings.host.clone(), settings.port, settings.dbname.clone());
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
}

impl Connector for Postgres {
    type Server = Server;

    async fn dial(&self, settings: &PoolSettings) -> Result<Server, DialError> {
        let target = Target {
            addresses: resolve(settings).await.map_err(DialError::Connect)?,
            user: settings.user.clone(),
            database: settings.dbname.clone(),
            startup: settings.startup.clone(),
            credential: self.credential(settings),
            keys: Arc::clone(&self.keys),
            deadline: settings.server_connect_timeout,
        };
        let mut result = Box::pin(dial(target)).await;
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

async fn resolve(settings: &PoolSettings) -> std::io::Result<Vec<Address>> {
    match &settings.host {
        Host::Unix(dir) => Ok(vec![Address::Unix(dir.join(format!(".s.PGSQL.{}", settings.port)))]),
        Host::Tcp(name) => {
            let found = tokio::net::lookup_host((name.as_str(), settings.port)).await?;
            Ok(found.map(Address::Tcp).collect())
        }
    }
}

impl Pooled for Server {
    type Proof = Clean;

    fn is_quiet(&self) -> bool {
        Self::is_quiet(self)
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        Self::close(self)
    }

    fn baseline(&self) -> Arc<Parameters> {
        Arc::clone(&self.state.baseline)
    }

    fn identity(&self) -> (Peer, u32) {
        let (remote, local) = self.ends();
        (Peer::new(remote, local), self.cancel_handle().process())
    }
}
