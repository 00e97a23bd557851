//! Clients of pools: how many may come, and what is forgotten when none is left.

use super::{Connector, Pool, Pools, ServerPool};
use crate::config::Config;
use crate::stats::{Gauge, GaugeGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Names are looked through for those without a client when there are twice as many as the last time, and not before
/// there are so many.
const FEW: usize = 64;

/// How long an empty pool is kept over which secrets were asked for under a name that only `*` stands for: long enough to
/// remember that its logins fail.
const PASSING: Duration = Duration::from_secs(60);

/// Clients by a name.
#[derive(Debug)]
pub(super) struct Headcount {
    gauges: HashMap<String, Gauge>,
    room: usize,
}

impl Default for Headcount {
    fn default() -> Self {
        Self { gauges: HashMap::new(), room: FEW }
    }
}

/// A client in its pool, counted until this is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "it counts by being there")]
pub struct Presence {
    pool: GaugeGuard,
    database: GaugeGuard,
    user: GaugeGuard,
}

/// Why a client may not enter a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// There is no such database.
    NoDatabase,
    /// It takes no new clients (DISABLE).
    Disabled,
    /// It has as many clients as it may (`max_db_client_connections`).
    DatabaseFull(u32),
    /// The user has as many clients as it may (`max_user_client_connections`).
    UserFull(u32),
}

/// A pool that was forgotten, for who keeps its figures.
#[derive(Debug)]
pub struct Forgotten {
    /// The pool; nobody has it any longer.
    pub pool: Arc<ServerPool>,
    /// Whether its database, one that only `*` stands for, is forgotten with it.
    pub with_database: bool,
}

/// Somebody who is counted nowhere else.
#[cfg(test)]
impl Default for Presence {
    fn default() -> Self {
        let guard = || Gauge::default().enter();
        Self { pool: guard(), database: guard(), user: guard() }
    }
}

impl Headcount {
    fn gauge(&mut self, name: &str) -> &Gauge {
        if !self.gauges.contains_key(name) && self.gauges.len() >= self.room {
            self.gauges.retain(|_, gauge| gauge.get() > 0);
            self.room = (2 * self.gauges.len()).max(FEW);
        }
        self.gauges.entry(name.to_owned()).or_default()
    }
}

impl Pools {
    /// Lets a client into its pool, which is made when there is none. `user` is the client's own.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn enter(
        &self,
        config: &Config,
        database: &str,
        user: &str,
    ) -> Result<(Arc<ServerPool>, Presence), Closed> {
        let mut inner = self.lock();
        let pool = self.pool_in(&mut inner, config, database, user).ok_or(Closed::NoDatabase)?;
        if inner.gates.of(database).is_disabled {
            return Err(Closed::Disabled);
        }
        let is_full = |gauge: &Gauge, limit: u32| gauge.get() >= u64::from(limit);
        let (in_database, of_user) = &mut inner.headcounts;
        let in_database = in_database.gauge(database);
        if let Some(limit) = config.max_db_clients(database).filter(|limit| is_full(in_database, *limit)) {
            return Err(Closed::DatabaseFull(limit));
        }
        let of_user = of_user.gauge(user);
        if let Some(limit) = config.max_user_clients(user).filter(|limit| is_full(of_user, *limit)) {
            return Err(Closed::UserFull(limit));
        }
        // Counted under the lock: from now on nobody forgets the pool.
        let presence =
            Presence { pool: pool.clients.enter(), database: in_database.enter(), user: of_user.enter() };
        Ok((pool, presence))
    }

    /// Makes the pools that are kept warm without a client: those of entries with a user and a minimum.
    pub fn warm(&self, config: &Config) {
        let mut inner = self.lock();
        for (database, entry) in &config.databases {
            let Some(user) = &entry.user else { continue };
            if entry.min_pool_size.unwrap_or(config.pool.min_size) > 0 {
                self.pool_in(&mut inner, config, database, user);
            }
        }
    }

    /// Forgets pools that nobody has used for long enough: `pool_idle_timeout`, and `autodb_idle_timeout` where only the
    /// entry `*` stands for the database. To be called now and then.
    pub fn forget_unused(&self, config: &Config) -> Vec<Forgotten> {
        let now = Instant::now();
        let mut inner = self.lock();
        let is_auto = |database: &str| !config.databases.contains_key(database);
        let unused = |pool: &ServerPool| {
            let own = config.crowd.pool_idle;
            let auto = config.crowd.autodb_idle.filter(|_| is_auto(&pool.id.database));
            let limit =
                if pool.is_former() { Some(Duration::ZERO) } else { own.into_iter().chain(auto).min() };
            limit.is_some_and(|limit| pool.unused_for(now).is_some_and(|unused| unused >= limit))
        };
        inner.lookups.retain(|_, pool| {
            !pool.is_passing() || pool.unused_for(now).is_none_or(|unused| unused < PASSING)
        });
        let mut gone = Vec::new();
        inner.pools.retain(|_, pool| {
            let keeps = !unused(pool);
            if !keeps {
                gone.push(Arc::clone(pool));
            }
            keeps
        });
        if gone.is_empty() {
            return Vec::new();
        }
        inner.drop_spare_limits();
        let is_left = |database: &str| inner.pools.keys().any(|id| id.database == database);
        let forgotten = |pool: Arc<ServerPool>| {
            let with_database = is_auto(&pool.id.database) && !is_left(&pool.id.database);
            Forgotten { pool, with_database }
        };
        let forgotten: Vec<_> = gone.into_iter().map(forgotten).collect();
        drop(inner);
        self.forget_traces(&forgotten);
        forgotten
    }
}

impl<C: Connector> Pool<C> {
    /// How long it has had neither a client nor a server, nor anything that would bring one; `None` while it has.
    pub(super) fn unused_for(&self, now: Instant) -> Option<Duration> {
        let is_used = self.clients.get() > 0
            || self.quotas.pool.used() > 0
            || self.rack.is_waited_for()
            || (self.minimum() > 0 && !self.is_former());
        let mut since = self.unused_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if is_used {
            *since = None;
            if self.is_former() && self.clients.get() == 0 {
                self.reconnect(); // nobody is there who would use its servers again
            }
            return None;
        }
        Some(now.saturating_duration_since(*since.get_or_insert(now)))
    }

    /// Whether its name is one that anybody can have made up, see [`crate::config::Care::is_passing`].
    pub(super) fn is_passing(&self) -> bool {
        self.settings.load().care.is_passing
    }

    /// Whether new clients of its database get another pool, since the entry has another user now.
    #[must_use]
    pub fn is_former(&self) -> bool {
        self.former.load(Ordering::Relaxed)
    }

    /// Whether its database was taken out of the configuration: no order to the database reaches it any longer. Who
    /// looks after it can be found by others either sees it, or is found and sent away.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }
}
