//! All pools of the process, and the limits that reach over several of them.

use super::crowd::Headcount;
use super::gates::Gates;
use super::{
    Forgotten, Full, Lookups, Pool, PoolId, Postgres, Quota, Quotas, ServerPool, Shared, Whereabouts,
};
use crate::config::{Balance, Config, Lookup, PoolMode};
use crate::net::Resolver;
use crate::stats::{ServerState, TrafficSnapshot};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// All pools.
#[derive(Debug)]
pub struct Pools {
    connector: Postgres,
    shared: Shared,
    inner: Mutex<Inner>,
    /// Notified when something that was paused is resumed or removed.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) pools: HashMap<PoolId, Arc<ServerPool>>,
    pub(super) gates: Gates,
    /// Clients by database, and by user.
    pub(super) headcounts: (Headcount, Headcount),
    databases: HashMap<String, Arc<Quota>>,
    users: HashMap<String, Arc<Quota>>,
    /// The configuration that was last taken over; `None` before any was.
    config: Option<Config>,
    /// Connections over which secrets are asked for, by entry and `auth_user`.
    pub(super) lookups: HashMap<PoolId, Arc<ServerPool>>,
}

/// One pool as the console and the exporter show it.
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    /// Its name.
    pub id: PoolId,
    /// When its servers go back.
    pub mode: PoolMode,
    /// How it chooses among several hosts; `None` when there is one.
    pub balance: Option<Balance>,
    /// Clients that are logged in to it.
    pub clients: u64,
    /// Clients that wait for a server.
    pub waiting: usize,
    /// How long the oldest of them has waited.
    pub oldest_wait: Duration,
    /// Servers joined to a client.
    pub active: usize,
    /// Servers that stand idle.
    pub idle: usize,
    /// Servers that stand idle and are checked before they are used.
    pub used: usize,
    /// Servers that are being cleaned or checked.
    pub tested: usize,
    /// Cancel requests under way, each with a connection of its own.
    pub cancelling: u32,
    /// Cancel requests that wait for their turn.
    pub cancels_waiting: u64,
    /// Servers held back by a cancel.
    pub being_canceled: usize,
    /// Servers that are being dialled.
    pub login: u64,
    /// Servers that the pool may have.
    pub size: Option<u32>,
    /// Places taken under that limit.
    pub seats: u32,
    /// Named prepared statements on its servers.
    pub statements: usize,
    /// What went through it.
    pub traffic: TrafficSnapshot,
}

impl Pools {
    /// No pools yet. The runtimes are those that servers are dialled on.
    #[must_use]
    pub fn new(connector: Postgres, runtimes: Arc<[Handle]>) -> Arc<Self> {
        let shared = Shared {
            numbers: Arc::new(1.into()),
            runtimes,
            crowded: Arc::new(Notify::new()),
            lanes: Arc::default(),
        };
        let pools = Arc::new(Self { connector, shared, inner: Mutex::default(), changed: Notify::new() });
        pools.connector.lookups.attach(&pools);
        pools.shared.runtimes[0].spawn(relieve(Arc::downgrade(&pools), Arc::clone(&pools.shared.crowded)));
        pools.shared.runtimes[0].spawn(Resolver::keep_fresh(pools.whereabouts().resolver()));
        pools
    }

    /// The pool that serves `user` on `database`, made when there is none; `None` when there is no such database.
    ///
    /// `user` is the client's; a database that forces its user has one pool for all of them.
    #[must_use]
    pub fn pool(&self, config: &Config, database: &str, user: &str) -> Option<Arc<ServerPool>> {
        self.pool_in(&mut self.lock(), config, database, user)
    }

    pub(super) fn pool_in(
        &self,
        inner: &mut Inner,
        config: &Config,
        database: &str,
        user: &str,
    ) -> Option<Arc<ServerPool>> {
        let server_user = config.server_user(database, user)?.to_owned();
        let id = PoolId { database: database.to_owned(), user: server_user };
        if let Some(pool) = inner.pools.get(&id) {
            return Some(Arc::clone(pool));
        }
        // Of a forced user's pool it is that user's settings that count, whoever comes first.
        let settings = config.pool_settings(database, &id.user)?;
        let quotas =
            inner.quotas(&id, settings.size, settings.max_db_connections, settings.max_user_connections);
        let held = inner.gates.hold_back(&id.database);
        let (connector, shared) = (self.connector.clone(), self.shared.clone());
        let pool = Pool::start(id.clone(), settings, connector, quotas, shared, held);
        inner.pools.insert(id, Arc::clone(&pool));
        Some(pool)
    }

    /// Where servers are.
    #[must_use]
    pub fn whereabouts(&self) -> &Arc<Whereabouts> {
        &self.connector.whereabouts
    }

    /// Forgets what was known of databases beside their pools.
    pub(super) fn forget_traces(&self, forgotten: &[Forgotten]) {
        for pool in forgotten.iter().filter(|gone| gone.with_database).map(|gone| &gone.pool) {
            self.whereabouts().forget(&pool.settings());
        }
        self.connector.epochs.sweep();
    }

    /// Secrets that are asked for.
    #[must_use]
    pub fn lookups(&self) -> &Arc<Lookups> {
        &self.connector.lookups
    }

    /// The connections over which secrets are asked for; `None` where that would be in too many databases.
    ///
    /// They are no client's, and count under no limit that clients count under: whatever those do, a login is never
    /// kept waiting by them. There are at most as many as the lookup allows.
    pub(super) fn lookup_pool(&self, lookup: &Lookup) -> Option<Arc<ServerPool>> {
        let id = PoolId { database: lookup.database.clone(), user: lookup.user.clone() };
        let mut inner = self.lock();
        if let Some(pool) = inner.lookups.get(&id) {
            return Some(Arc::clone(pool));
        }
        if !super::lookup::make_room(&mut inner.lookups) {
            return None;
        }
        let unlimited = || Arc::new(Quota::new(None));
        let pool = Arc::new(Quota::new(lookup.pool.size));
        let quotas = Quotas { pool, database: unlimited(), user: unlimited() };
        // Whoever asks may have read the configuration before it was another one.
        let in_force = inner.config.as_ref().and_then(|config| config.lookup_pool(&id.database, &id.user));
        let settings = in_force.unwrap_or_else(|| lookup.pool.clone());
        let held = inner.gates.hold_back(&id.database);
        let (connector, shared) = (self.connector.clone(), self.shared.clone());
        let pool = Pool::start(id.clone(), settings, connector, quotas, shared, held);
        inner.lookups.insert(id, Arc::clone(&pool));
        Some(pool)
    }

    /// All pools, in the order of their names. Of two of one name that of the clients is listed, and not the one over
    /// which secrets are asked for. Of those, none is listed whose name anybody can have made up.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<ServerPool>> {
        let inner = self.lock();
        let asking =
            inner.lookups.iter().filter(|(id, pool)| !inner.pools.contains_key(id) && !pool.is_passing());
        let mut pools: Vec<_> =
            inner.pools.values().cloned().chain(asking.map(|(_, pool)| Arc::clone(pool))).collect();
        drop(inner);
        pools.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        pools
    }

    /// Server connections of one database entry over all users.
    #[must_use]
    pub fn database_connections(&self, database: &str) -> u32 {
        self.lock().databases.get(database).map_or(0, |quota| quota.used())
    }

    /// Takes over a changed configuration: limits and settings change in place, servers of a changed endpoint are
    /// retired, and the pools of a database that was removed are given up; these are returned.
    pub fn reconfigure(&self, config: &Config) -> Vec<Arc<ServerPool>> {
        self.whereabouts().reconfigure(config);
        let mut inner = self.lock();
        inner.config = Some(config.clone());
        let mut gone = Vec::new();
        inner.gates.retain(|database| config.database(database).is_some());
        let Inner { pools, databases, users, lookups, .. } = &mut *inner;
        lookups.retain(|id, pool| {
            let settings = config.lookup_pool(&id.database, &id.user).filter(|_| config.asks_as(&id.user));
            match settings {
                Some(settings) => pool.reconfigure(settings),
                None => pool.reconnect(),
            }
            config.asks_as(&id.user)
        });
        pools.retain(|id, pool| {
            let Some(mut settings) = config.pool_settings(&id.database, &id.user) else {
                pool.removed.store(true, Ordering::SeqCst);
                pool.reconnect();
                gone.push(Arc::clone(pool));
                return false;
            };
            if let Some(quota) = databases.get(&id.database) {
                quota.set_limit(settings.max_db_connections);
            }
            if let Some(quota) = users.get(&id.user) {
                quota.set_limit(settings.max_user_connections);
            }
            let is_former = settings.user != id.user;
            if is_former {
                // Another user is forced on new clients. Those who are here keep theirs, and its password, as long as
                // they stay.
                let before = pool.settings();
                settings.user.clone_from(&id.user);
                settings.password.clone_from(&before.password);
                settings.min_size = 0;
            }
            pool.former.store(is_former, Ordering::Relaxed);
            pool.reconfigure(settings);
            true
        });
        inner.apply_gates();
        drop(inner);
        self.connector.epochs.sweep();
        self.warm(config);
        self.changed.notify_waiters();
        gone
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // The maps are whole after every step, so a panic elsewhere cannot have spoilt them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes an idle server for each pool that waits behind a limit which other pools share.
    fn make_room(&self) {
        let pools = self.list();
        for needy in pools.iter().filter(|pool| pool.queue().0 > 0 || pool.is_sought()) {
            let shared = |pool: &ServerPool| {
                let (ours, theirs) = (needy.quotas(), pool.quotas());
                if is_used_up(&ours.database) && Arc::ptr_eq(&ours.database, &theirs.database) {
                    return Some(Full::Database);
                }
                let by_user = is_used_up(&ours.user) && Arc::ptr_eq(&ours.user, &theirs.user);
                by_user.then_some(Full::User)
            };
            let idle = pools.iter().filter(|pool| pool.queue().0 == 0);
            let _freed = idle.into_iter().any(|pool| shared(pool).is_some_and(|full| pool.evict_one(full)));
        }
    }
}

fn is_used_up(quota: &Quota) -> bool {
    quota.limit().is_some_and(|limit| quota.used() >= limit)
}

/// Makes room whenever a pool finds that only a shared limit stands in its way.
async fn relieve(pools: Weak<Pools>, crowded: Arc<Notify>) {
    loop {
        crowded.notified().await;
        let Some(pools) = pools.upgrade() else { return };
        pools.make_room();
    }
}

impl Inner {
    /// The pools of clients, and those over which secrets are asked for.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ServerPool>> {
        self.pools.values().chain(self.lookups.values())
    }

    /// Has every pool do what was ordered.
    pub(super) fn apply_gates(&self) {
        for (id, pool) in self.pools.iter().chain(&self.lookups) {
            pool.hold_back(self.gates.hold_back(&id.database));
        }
    }

    /// Forgets limits under which there is no pool.
    pub(super) fn drop_spare_limits(&mut self) {
        for limits in [&mut self.databases, &mut self.users] {
            limits.retain(|_, quota| Arc::strong_count(quota) > 1);
        }
    }

    fn quotas(&mut self, id: &PoolId, pool: Option<u32>, database: Option<u32>, user: Option<u32>) -> Quotas {
        let shared = |map: &mut HashMap<String, Arc<Quota>>, name: &str, limit| {
            let quota = map.entry(name.to_owned()).or_insert_with(|| Arc::new(Quota::new(limit)));
            quota.set_limit(limit);
            Arc::clone(quota)
        };
        Quotas {
            pool: Arc::new(Quota::new(pool)),
            database: shared(&mut self.databases, &id.database, database),
            user: shared(&mut self.users, &id.user, user),
        }
    }
}

impl ServerPool {
    /// The pool as it is now.
    #[must_use]
    pub fn snapshot(&self) -> PoolSnapshot {
        let (waiting, oldest_wait) = self.queue();
        let servers = self.servers().list();
        let count = |state| servers.iter().filter(|server| server.state() == state).count();
        let settings = self.settings();
        PoolSnapshot {
            id: self.id.clone(),
            mode: settings.mode,
            balance: settings.hosts.balance(),
            clients: self.clients.get(),
            waiting,
            oldest_wait,
            active: count(ServerState::Active),
            idle: count(ServerState::Idle),
            used: count(ServerState::Used),
            tested: count(ServerState::Tested),
            cancelling: self.cancels().active(),
            cancels_waiting: self.cancels().waiting(),
            being_canceled: count(ServerState::BeingCanceled),
            login: self.dialling_count(),
            size: settings.size,
            seats: self.quotas().pool.used(),
            statements: servers.iter().map(|server| server.statements()).sum(),
            traffic: self.traffic.snapshot(),
        }
    }
}

impl PoolSnapshot {
    /// Server connections that there are or are being made.
    #[must_use]
    pub fn servers(&self) -> u64 {
        let open = self.active + self.idle + self.used + self.tested + self.being_canceled;
        u64::try_from(open).unwrap_or(u64::MAX).saturating_add(self.login)
    }
}
