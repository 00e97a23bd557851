//! The running program at one moment, as the console and the exporter show it: both read the same figures.

use super::Service;
use crate::config::{Balance, Config, Host, PoolMode, PoolSettings};
use crate::net::NameView;
use crate::pool::{Gate, PoolId, PoolSnapshot};
use crate::server::InternerTotals;
use crate::stats::{ClientRecord, ClientState, Identity, TrafficSnapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

/// What pgweir says it is where tools parse a PgBouncer version.
pub const VERSION: &str = concat!("PgBouncer 1.26.1 (pgweir ", env!("CARGO_PKG_VERSION"), ")");

/// The database and the user of the console's own row.
pub const CONSOLE: &str = "pgbouncer";

/// Everything that is counted, at one moment.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// All pools, in the order of their names.
    pub pools: Vec<PoolSnapshot>,
    /// The console, in the shape of a pool.
    pub console: PoolSnapshot,
    /// Databases that are configured or in use, and the console, in the order of their names.
    pub databases: Vec<DatabaseOverview>,
    /// Users that are configured or here, in the order of their names.
    pub users: Vec<UserOverview>,
    /// Clients of pools.
    pub clients: u64,
    /// Connections that are not logged in yet.
    pub logins: u64,
    /// What happened outside of any pool.
    pub traffic: TrafficSnapshot,
    /// The counters of each database, and of the console, since the process began.
    pub totals: BTreeMap<String, TrafficSnapshot>,
    /// Who is here and what they do, the console's visitors too.
    pub sessions: Vec<(Arc<Identity>, ClientState)>,
    /// Errors that clients were told, by their text.
    pub errors: Vec<(&'static str, u64)>,
    /// Named prepared statements of all clients.
    pub statements: InternerTotals,
    /// Names of hosts that were looked up.
    pub names: Vec<NameView>,
    /// Look-ups under way.
    pub lookups: u64,
    /// Peers that cancel requests were forwarded to.
    pub peer_pools: usize,
    /// Whether all databases are paused.
    pub is_paused: bool,
}

/// One database entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseOverview {
    /// The name that clients ask for.
    pub name: String,
    /// Host name, address or folder of the socket; `None` when the entry names none.
    pub host: Option<String>,
    /// Port of the server.
    pub port: u16,
    /// Database on the server.
    pub dbname: String,
    /// The user that all clients are logged in as.
    pub forced_user: Option<String>,
    /// The entry's own `pool_mode`.
    pub mode: Option<PoolMode>,
    /// How it chooses among several hosts; `None` when there is one.
    pub balance: Option<Balance>,
    /// Servers of each pool; `None` is unlimited.
    pub pool_size: Option<u32>,
    /// Servers of each pool that are kept open.
    pub min_pool_size: u32,
    /// Age at which unused servers are closed; `None` means that a server is used once.
    pub server_lifetime: Option<Duration>,
    /// Extra servers of each pool in need.
    pub reserve_size: u32,
    /// Clients that it may have; `None` is unlimited.
    pub max_clients: Option<u32>,
    /// Servers over all users; `None` is unlimited.
    pub max_connections: Option<u32>,
    /// Servers that it has.
    pub connections: u32,
    /// Clients that it has.
    pub clients: u64,
    /// What was ordered for it: PAUSE, DISABLE.
    pub gate: Gate,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserOverview {
    /// The name.
    pub name: String,
    /// The user's own pool size; `Some(None)` is unlimited.
    pub pool_size: Option<Option<u32>>,
    /// The user's own `pool_mode`.
    pub mode: Option<PoolMode>,
    /// The user's own `reserve_pool_size`.
    pub reserve_size: Option<u32>,
    /// Clients that the user may have; `None` is unlimited.
    pub max_clients: Option<u32>,
    /// Servers over all databases; `None` is unlimited.
    pub max_connections: Option<u32>,
    /// Servers that are logged in as this user.
    pub connections: u32,
    /// Clients that are logged in as this user.
    pub clients: u64,
}

impl Service {
    /// Counts everything. It takes short locks, one after the other, so figures may differ by what happens meanwhile.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let config = self.config.load_full();
        let pools: Vec<_> = self.pools.list().iter().map(|pool| pool.snapshot()).collect();
        let console = console_pool(u64::try_from(self.clients.visitors().len()).unwrap_or(u64::MAX));
        let mut databases = databases(&config, &pools);
        for database in &mut databases {
            database.connections = self.pools.database_connections(&database.name);
            database.gate = self.pools.gate(&database.name);
        }
        databases.push(console_database(&config, &console));
        databases.sort_by(|a, b| a.name.cmp(&b.name));
        let clients = self.clients.list();
        let visitors = self.clients.visitors();
        let session = |record: &ClientRecord| (Arc::clone(&record.who), record.state());
        let sessions = clients.iter().map(|client| session(&client.record));
        let sessions = sessions.chain(visitors.iter().map(|visit| session(&visit.record))).collect();
        let listed = self.users.listed();
        let records =
            clients.iter().map(|client| &client.record).chain(visitors.iter().map(|visit| &visit.record));
        let clients_by_user = sums(records.map(|record| (record.who.user.as_str(), 1)));
        Overview {
            users: users(&config, listed.list.users(), &pools, &clients_by_user),
            clients: u64::try_from(clients.len()).unwrap_or(u64::MAX),
            config,
            pools,
            console,
            databases,
            logins: self.logins.get(),
            traffic: self.traffic.snapshot(),
            totals: self.console.totals(self),
            sessions,
            errors: self.errors.snapshot(),
            statements: self.interner.totals(),
            names: self.names(),
            lookups: self.pools.whereabouts().resolver().under_way(),
            peer_pools: self.peers.list().len(),
            is_paused: self.pools.are_paused(),
        }
    }
}

impl Service {
    /// Names of hosts that were looked up.
    #[must_use]
    pub fn names(&self) -> Vec<NameView> {
        self.pools.whereabouts().resolver().list()
    }
}

/// The console, in the shape of a pool.
fn console_pool(visitors: u64) -> PoolSnapshot {
    PoolSnapshot {
        id: PoolId { database: CONSOLE.to_owned(), user: CONSOLE.to_owned() },
        mode: PoolMode::Statement,
        balance: None,
        clients: visitors,
        waiting: 0,
        oldest_wait: Duration::ZERO,
        active: 0,
        idle: 0,
        used: 0,
        tested: 0,
        cancelling: 0,
        cancels_waiting: 0,
        being_canceled: 0,
        login: 0,
        size: Some(2),
        seats: 0,
        statements: 0,
        traffic: TrafficSnapshot::default(),
    }
}

fn console_database(config: &Config, console: &PoolSnapshot) -> DatabaseOverview {
    DatabaseOverview {
        name: CONSOLE.to_owned(),
        host: None,
        port: config.listen.port,
        dbname: CONSOLE.to_owned(),
        forced_user: Some(CONSOLE.to_owned()),
        mode: Some(console.mode),
        balance: None,
        pool_size: console.size,
        min_pool_size: 0,
        server_lifetime: config.pool.server_lifetime,
        reserve_size: 0,
        max_clients: config.crowd.max_db_clients,
        max_connections: config.pool.max_db_connections,
        connections: 0,
        clients: console.clients,
        gate: Gate::default(),
    }
}

/// The entries of the configuration, and those that `*` made for a pool.
fn databases(config: &Config, pools: &[PoolSnapshot]) -> Vec<DatabaseOverview> {
    let clients = sums(pools.iter().map(|pool| (pool.id.database.as_str(), pool.clients)));
    let names: BTreeSet<&str> =
        config.databases.keys().map(String::as_str).chain(clients.keys().copied()).collect();
    let clients = |name| clients.get(name).copied().unwrap_or(0);
    names.into_iter().filter_map(|name| database(config, name, clients(name))).collect()
}

fn database(config: &Config, name: &str, clients: u64) -> Option<DatabaseOverview> {
    let entry = config.database(name)?;
    // No user has an empty name, so these are the settings without any user's own.
    let settings = config.pool_settings(name, "")?;
    Some(DatabaseOverview {
        name: name.to_owned(),
        host: host(config, &settings),
        port: settings.port,
        dbname: settings.dbname,
        forced_user: entry.user.clone(),
        mode: entry.pool_mode,
        balance: entry.hosts.balance(),
        pool_size: settings.size,
        min_pool_size: settings.min_size,
        server_lifetime: settings.server_lifetime,
        reserve_size: settings.reserve.size,
        max_clients: config.max_db_clients(name),
        max_connections: settings.max_db_connections,
        connections: 0,
        clients,
        gate: Gate::default(),
    })
}

/// PgBouncer shows no host where the entry has none.
fn host(config: &Config, settings: &PoolSettings) -> Option<String> {
    match settings.hosts.only() {
        Some(Host::Unix(dir)) if Some(dir) == config.pool.unix_socket_dir.as_ref() => None,
        _ => Some(settings.hosts.to_string()),
    }
}

fn users<'a>(
    config: &'a Config,
    listed: impl Iterator<Item = &'a str>,
    pools: &'a [PoolSnapshot],
    clients: &BTreeMap<&'a str, u64>,
) -> Vec<UserOverview> {
    let connections = sums(pools.iter().map(|pool| (pool.id.user.as_str(), pool.seats)));
    let mut names: BTreeSet<&str> = listed.collect();
    names.extend(config.users.keys().map(String::as_str));
    names.extend(connections.keys().copied());
    names.extend(clients.keys().copied());
    let databases = config.databases.values().chain(config.fallback.iter());
    names.extend(databases.filter_map(|database| database.user.as_deref()));
    names.insert(CONSOLE);
    let user = |name: &str| {
        let own = config.users.get(name);
        UserOverview {
            name: name.to_owned(),
            pool_size: own.and_then(|user| user.pool_size),
            mode: own.and_then(|user| user.pool_mode),
            reserve_size: own.and_then(|user| user.reserve_pool_size),
            max_clients: config.max_user_clients(name),
            max_connections: own
                .and_then(|user| user.max_user_connections)
                .unwrap_or(config.limits.max_user_connections),
            connections: connections.get(name).copied().unwrap_or(0),
            clients: clients.get(name).copied().unwrap_or(0),
        }
    };
    names.into_iter().map(user).collect()
}

/// The sum of the amounts of each name.
fn sums<'a, N: Default + AddAssign>(amounts: impl Iterator<Item = (&'a str, N)>) -> BTreeMap<&'a str, N> {
    let mut sums = BTreeMap::new();
    for (name, amount) in amounts {
        *sums.entry(name).or_default() += amount;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let path = std::env::temp_dir().join(format!("pgweir-overview-{}.ini", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let loaded = Config::load(&path, &|_| None).unwrap();
        std::fs::remove_file(&path).unwrap();
        Config::clone(&loaded.config)
    }

    fn pool(database: &str, user: &str, clients: u64, seats: u32) -> PoolSnapshot {
        let id = PoolId { database: database.to_owned(), user: user.to_owned() };
        PoolSnapshot { id, seats, ..console_pool(clients) }
    }

    #[test]
    fn databases_and_users_are_those_configured_and_those_in_use() {
        let config = config(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_type = trust\nmax_user_connections = 7\n\
             [databases]\na = host=db.example port=5433 dbname=real user=forced pool_size=0 pool_mode=transaction\n\
             b =\n* = host=db\n[users]\nalice = pool_size=3 max_user_connections=0\n",
        );
        let pools = [pool("a", "forced", 4, 1), pool("z", "bob", 2, 5)];
        let found = databases(&config, &pools);
        assert_eq!(found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["a", "b", "z"]);
        let a = &found[0];
        assert_eq!((a.host.as_deref(), a.port, a.dbname.as_str()), (Some("db.example"), 5433, "real"));
        assert_eq!((a.forced_user.as_deref(), a.pool_size, a.clients), (Some("forced"), None, 4));
        assert_eq!(a.mode, Some(PoolMode::Transaction));
        assert_eq!((found[1].host.as_deref(), found[1].mode, found[1].pool_size), (None, None, Some(20)));
        assert_eq!((found[2].host.as_deref(), found[2].dbname.as_str()), (Some("db"), "z"));

        let clients = BTreeMap::from([("bob", 2)]);
        let found = users(&config, ["listed"].into_iter(), &pools, &clients);
        let names: Vec<_> = found.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["alice", "bob", "forced", "listed", CONSOLE]);
        assert_eq!((found[0].pool_size, found[0].max_connections), (Some(Some(3)), Some(7)));
        assert_eq!((found[1].connections, found[1].clients, found[1].max_connections), (5, 2, Some(7)));
    }
}
