//! Pools of PostgreSQL servers: how one is dialled with the secrets that are known.

use super::{Checkout, Connector, Pool, Pooled};
use crate::auth::Credential;
use crate::auth::KeyCache;
use crate::auth::Password;
use crate::auth::UserList;
use crate::config::{Host, PoolSettings};
use crate::net::Address;
use crate::server::{Clean, DialError, Parameters, Server, Target, dial};
use crate::stats::Peer;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// A pool of PostgreSQL servers.
pub type ServerPool = Pool<Postgres>;
/// A PostgreSQL server in use.
pub type ServerCheckout = Checkout<Postgres>;

/// Dials PostgreSQL.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Users and their secrets, as of the last reload.
    pub users: Arc<ArcSwap<UserList>>,
    /// SCRAM keys of earlier logins.
    pub keys: Arc<KeyCache>,
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
        Box::pin(dial(target)).await
    }
}

impl Postgres {
    /// The entry's own password, or else what the auth file holds for the user.
    fn credential(&self, settings: &PoolSettings) -> Credential {
        if let Some(password) = &settings.password {
            return Password::new(password.reveal()).map_or(Credential::None, Credential::Plain);
        }
        self.users.load().get(&settings.user).map_or(Credential::None, Credential::from)
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
        let ((address, port), (local_address, local_port)) = self.ends();
        (Peer { address, port, local_address, local_port }, self.cancel_handle().process())
    }
}
