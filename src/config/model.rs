//! The configuration as it is meant: validated, immutable, handed down in constructors.
//!
//! Names, units and defaults are PgBouncer's. A duration or limit that PgBouncer switches off with `0` is an
//! `Option` here, so that no code has to remember what zero means.

use super::care::{Care, Crowd, Reserve};
use super::hosts::Hosts;
use super::peers::Peering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::lookup::{AuthQuery, Lookup};
use super::system::{LogTargets, ProcessSettings, TcpOptions};

/// Everything pgweir was asked to do, from one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that `RELOAD` reads: the one it came from, unless its `conffile` names another.
    pub file: PathBuf,
    /// Who and where the process is.
    pub process: ProcessSettings,
    /// Where clients come in.
    pub listen: Listen,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Limits on the process as a whole.
    pub limits: Limits,
    /// Options of TCP sockets.
    pub tcp: TcpOptions,
    /// What a pool is when neither its database nor its user says otherwise.
    pub pool: PoolDefaults,
    /// Timeouts on clients.
    pub client: ClientTimeouts,
    /// How many clients may come, and what they are told.
    pub crowd: Crowd,
    /// What is logged, and how.
    pub log: Log,
    /// Databases by the name a client asks for.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// The entry `*`: any database that is not listed.
    pub fallback: Option<Arc<Database>>,
    /// Settings for single users.
    pub users: BTreeMap<String, Arc<User>>,
    /// Startup parameters (lower case) that are dropped instead of applied.
    pub ignore_startup_parameters: BTreeSet<String>,
    /// What clients are told at their login beside what PostgreSQL tells.
    pub welcome: Welcome,
    /// How names of hosts are looked up.
    pub dns: Dns,
    /// This process among its peers.
    pub peering: Peering,
    /// Runtime threads; at least 1.
    pub workers: usize,
    /// Where `GET /metrics` answers; `None` when it is off.
    pub metrics_listen: Option<SocketAddr>,
}

/// How names of hosts are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// How long an answer is kept.
    pub max_ttl: Duration,
    /// How long it is kept that there was none.
    pub nxdomain_ttl: Duration,
    /// Another `resolv.conf`; `None` asks the system.
    pub resolv_conf: Option<PathBuf>,
}

/// Where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// TCP addresses; `*` has become the unspecified addresses.
    pub addresses: Vec<IpAddr>,
    /// TCP port, and the suffix of the socket file.
    pub port: u16,
    /// Length of the kernel's accept queue.
    pub backlog: u32,
    /// Several processes may listen on the same port.
    pub reuse_port: bool,
    /// The Unix socket; `None` when `unix_socket_dir` is empty.
    pub unix: Option<UnixListen>,
}

/// The Unix socket that clients use; its file is `DIR/.s.PGSQL.PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListen {
    /// Folder of the socket file; with `@` in front the socket is abstract.
    pub dir: PathBuf,
    /// Permission bits of the socket file.
    pub mode: u32,
    /// Group of the socket file; `None` leaves it as it comes.
    pub group: Option<String>,
}

/// How clients prove who they are, and who may use the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The method asked of clients.
    pub method: AuthMethod,
    /// File of users and secrets (`userlist.txt`).
    pub file: Option<PathBuf>,
    /// Rules in the format of `pg_hba.conf`; read with [`AuthMethod::Hba`] only.
    pub hba_file: Option<PathBuf>,
    /// Maps of user names for those rules.
    pub ident_file: Option<PathBuf>,
    /// How users who are not in the file are looked up.
    pub query: AuthQuery,
    /// Iterations of a SCRAM secret that pgweir derives from a plain password.
    pub scram_iterations: u32,
    /// Users who may use the whole console.
    pub admin_users: BTreeSet<String>,
    /// Users who may look at the console.
    pub stats_users: BTreeSet<String>,
}

/// `auth_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// No authentication, and the user name is ignored: every database must force its user.
    Any,
    /// No authentication, but the user must be listed in the auth file.
    Trust,
    /// The password in clear text.
    Plain,
    /// `md5`; a user whose secret is a SCRAM verifier is asked for SCRAM, as PgBouncer does.
    Md5,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// By the first rule of `auth_hba_file` that fits.
    Hba,
}

/// What clients are told at their login beside what PostgreSQL tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// `report_pooler`: what kind of pooler this is.
    pub report_pooler: bool,
    /// `application_name_add_host`: their address, in their own application_name.
    pub add_host: bool,
    /// `login_notify_message`.
    pub message: Option<String>,
}

/// Limits on the process as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Clients at a time.
    pub max_client_conn: usize,
    /// Server connections of one user over all databases; `None` is unlimited.
    pub max_user_connections: Option<u32>,
    /// Largest protocol message let through, in bytes, its length word included.
    pub max_packet_size: u32,
}

/// `pool_mode`: when a server goes back to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// When its transaction ends.
    Transaction,
    /// After each statement; transaction blocks are refused.
    Statement,
}

impl PoolMode {
    /// The word used in configuration files and in the console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// What named prepared statements may take of pgweir's memory; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatementLimits {
    /// Statements of one client.
    pub client_count: Option<usize>,
    /// Bytes of the names and texts of one client.
    pub client_bytes: Option<usize>,
    /// Bytes of all statements of the process.
    pub bytes: Option<usize>,
}

/// What a pool is when neither its database nor its user says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDefaults {
    /// When a server goes back to the pool.
    pub mode: PoolMode,
    /// Server connections of one (database, user); `None` is unlimited.
    pub size: Option<u32>,
    /// Server connections kept open.
    pub min_size: u32,
    /// Server connections of one database over all its users; `None` is unlimited.
    pub max_db_connections: Option<u32>,
    /// Age at which an unused server is closed; `None` means that a server is used once.
    pub server_lifetime: Option<Duration>,
    /// Idle time after which a server is closed; `None` is never.
    pub server_idle_timeout: Option<Duration>,
    /// Limit on connecting and logging in.
    pub server_connect_timeout: Option<Duration>,
    /// Pause after a failed login.
    pub server_login_retry: Duration,
    /// Longest wait for a server; `None` is for ever.
    pub query_wait_timeout: Option<Duration>,
    /// Query that cleans a server which leaves a session-mode client; empty is none.
    pub server_reset_query: String,
    /// Hand out the server that is idle longest instead of the one used last.
    pub server_round_robin: bool,
    /// Named prepared statements that a server holds; 0 lets them through as they are.
    pub max_prepared_statements: u32,
    /// Whether unnamed statements that come again and again are prepared once.
    pub share_unnamed_statements: bool,
    /// What the statements of clients may take of memory.
    pub statement_limits: StatementLimits,
    /// Parameters that stay with a client beside those that PostgreSQL reports.
    pub track_extra: Arc<[String]>,
    /// Extra servers in need.
    pub reserve: Reserve,
    /// How servers are looked after.
    pub care: Care,
    /// Folder of PostgreSQL's Unix socket for a database without a host.
    pub unix_socket_dir: Option<PathBuf>,
}

/// Timeouts on clients; `None` is off.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientTimeouts {
    /// From accept to the end of the login.
    pub login: Option<Duration>,
    /// Idle, with no transaction open.
    pub idle: Option<Duration>,
    /// Idle inside a transaction.
    pub idle_transaction: Option<Duration>,
    /// One query.
    pub query: Option<Duration>,
    /// One transaction.
    pub transaction: Option<Duration>,
}

impl ClientTimeouts {
    /// Whether there is one behind the login.
    #[must_use]
    pub fn has_any(&self) -> bool {
        [self.idle, self.idle_transaction, self.query, self.transaction].iter().any(Option::is_some)
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A line for each login.
    pub connections: bool,
    /// A line for each disconnect, with its reason.
    pub disconnections: bool,
    /// A line for each error that pgweir itself sends to a client.
    pub pooler_errors: bool,
    /// How a line looks.
    pub format: LogFormat,
    /// `verbose`: 0 to 3, as the number of `-v` flags.
    pub verbose: u8,
    /// What is told of the traffic as a whole.
    pub stats: StatsTerms,
    /// Where lines go.
    pub targets: LogTargets,
}

/// What is told of the traffic as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsTerms {
    /// A `stats:` line each period.
    pub logged: bool,
    /// Between two lines, and the window of averages.
    pub period: Duration,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// As PgBouncer writes it.
    PgBouncer,
    /// For people: the fields by their names.
    Human,
    /// One JSON object a line.
    Json,
}

/// An entry of `[databases]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Where its servers are.
    pub hosts: Hosts,
    /// Its port, and the suffix of its socket file.
    pub port: u16,
    /// Database on the server; `None` is the name that the client asked for.
    pub dbname: Option<String>,
    /// Forced login user; `None` logs in as the client's user.
    pub user: Option<String>,
    /// Password of the forced user; `None` takes it from the auth file.
    pub password: Option<Secret>,
    /// Overrides `default_pool_size`; 0 has become `Some(None)`.
    pub pool_size: Option<Option<u32>>,
    /// Overrides `min_pool_size`.
    pub min_pool_size: Option<u32>,
    /// Overrides `pool_mode`.
    pub pool_mode: Option<PoolMode>,
    /// Overrides `max_db_connections`; 0 has become `Some(None)`.
    pub max_db_connections: Option<Option<u32>>,
    /// Overrides `server_lifetime`; 0 has become `Some(None)`.
    pub server_lifetime: Option<Option<Duration>>,
    /// Overrides `query_wait_timeout`; 0 has become `Some(None)`.
    pub query_wait_timeout: Option<Option<Duration>>,
    /// Overrides `reserve_pool_size`.
    pub reserve_pool_size: Option<u32>,
    /// Overrides `max_db_client_connections`; 0 has become `Some(None)`.
    pub max_client_connections: Option<Option<u32>>,
    /// Run on each new server.
    pub connect_query: Option<String>,
    /// Startup parameters sent to the server: client_encoding, datestyle, timezone, application_name.
    pub startup: BTreeMap<String, String>,
    /// Overrides `auth_user`, `auth_query` and `auth_dbname`.
    pub auth: AuthQuery,
}

/// An entry of `[users]`: overrides of the database's and the global settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Overrides `pool_mode`.
    pub pool_mode: Option<PoolMode>,
    /// Overrides the pool size; 0 has become `Some(None)`.
    pub pool_size: Option<Option<u32>>,
    /// Overrides `max_user_connections`; 0 has become `Some(None)`.
    pub max_user_connections: Option<Option<u32>>,
    /// Overrides `query_timeout`.
    pub query_timeout: Option<Option<Duration>>,
    /// Overrides `idle_transaction_timeout`.
    pub idle_transaction_timeout: Option<Option<Duration>>,
    /// Overrides `transaction_timeout`.
    pub transaction_timeout: Option<Option<Duration>>,
    /// Overrides `client_idle_timeout`.
    pub client_idle_timeout: Option<Option<Duration>>,
    /// Overrides `query_wait_timeout`.
    pub query_wait_timeout: Option<Option<Duration>>,
    /// Overrides `reserve_pool_size`.
    pub reserve_pool_size: Option<u32>,
    /// Overrides `max_user_client_connections`; 0 has become `Some(None)`.
    pub max_client_connections: Option<Option<u32>>,
}

/// A secret: it has no `Display`, its `Debug` shows nothing, and only [`Secret::reveal`] gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What one pool does: the settings of its user, its database and the defaults, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Where its servers are.
    pub hosts: Hosts,
    /// Port, and the suffix of the socket file.
    pub port: u16,
    /// Database on the server.
    pub dbname: String,
    /// User on the server.
    pub user: String,
    /// Whether `user` is forced by the database entry.
    pub user_is_forced: bool,
    /// Password of a forced user.
    pub password: Option<Secret>,
    /// Startup parameters for the server.
    pub startup: BTreeMap<String, String>,
    /// When a server goes back.
    pub mode: PoolMode,
    /// Servers of this pool; `None` is unlimited.
    pub size: Option<u32>,
    /// Servers kept open.
    pub min_size: u32,
    /// Servers of the database; `None` is unlimited.
    pub max_db_connections: Option<u32>,
    /// Servers of the user; `None` is unlimited.
    pub max_user_connections: Option<u32>,
    /// See [`PoolDefaults::server_lifetime`].
    pub server_lifetime: Option<Duration>,
    /// See [`PoolDefaults::server_idle_timeout`].
    pub server_idle_timeout: Option<Duration>,
    /// See [`PoolDefaults::server_connect_timeout`].
    pub server_connect_timeout: Option<Duration>,
    /// See [`PoolDefaults::server_login_retry`].
    pub server_login_retry: Duration,
    /// See [`PoolDefaults::query_wait_timeout`].
    pub query_wait_timeout: Option<Duration>,
    /// See [`PoolDefaults::server_reset_query`].
    pub server_reset_query: String,
    /// See [`PoolDefaults::server_round_robin`].
    pub server_round_robin: bool,
    /// See [`PoolDefaults::max_prepared_statements`].
    pub max_prepared_statements: u32,
    /// See [`PoolDefaults::share_unnamed_statements`].
    pub share_unnamed_statements: bool,
    /// See [`PoolDefaults::statement_limits`].
    pub statement_limits: StatementLimits,
    /// See [`PoolDefaults::track_extra`].
    pub track_extra: Arc<[String]>,
    /// Extra servers in need.
    pub reserve: Reserve,
    /// How servers are looked after.
    pub care: Care,
    /// See [`Crowd::wait_notify`].
    pub query_wait_notify: Option<Duration>,
    /// Options of its servers' sockets.
    pub tcp: TcpOptions,
    /// Who is asked for the user's secret when the auth file does not know it.
    pub lookup: Option<Arc<Lookup>>,
}

impl Config {
    /// The entry for a database name, the `*` entry included.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name).or(self.fallback.as_ref())
    }

    /// Whether a database of this name is the console. It goes by the names that PgBouncer and pgweir have; a
    /// configuration can give the second one to a database, as one made for PgBouncer may.
    #[must_use]
    pub fn is_console(&self, name: &str) -> bool {
        name == "pgbouncer" || (name == "pgweir" && !self.databases.contains_key(name))
    }

    /// The settings of the pool that serves `user` on `database`, or `None` when there is no such database.
    ///
    /// A user's own setting wins over its database's, and that over the default.
    #[must_use]
    pub fn pool_settings(&self, database: &str, user: &str) -> Option<PoolSettings> {
        let lookup = self.lookup(database).map(Arc::new);
        self.plain_pool_settings(database, user).map(|settings| PoolSettings { lookup, ..settings })
    }

    /// The same without anybody to ask for secrets.
    pub(super) fn plain_pool_settings(&self, database: &str, user: &str) -> Option<PoolSettings> {
        let entry = self.database(database)?;
        let defaults = &self.pool;
        let overrides = self.users.get(user).map(Arc::as_ref);
        Some(PoolSettings {
            hosts: entry.hosts.clone(),
            port: entry.port,
            dbname: entry.dbname.clone().unwrap_or_else(|| database.to_owned()),
            user: self.server_user(database, user)?.to_owned(),
            user_is_forced: entry.user.is_some(),
            password: entry.password.clone(),
            startup: entry.startup.clone(),
            mode: overrides.and_then(|u| u.pool_mode).or(entry.pool_mode).unwrap_or(defaults.mode),
            size: overrides.and_then(|u| u.pool_size).or(entry.pool_size).unwrap_or(defaults.size),
            min_size: entry.min_pool_size.unwrap_or(defaults.min_size),
            max_db_connections: entry.max_db_connections.unwrap_or(defaults.max_db_connections),
            max_user_connections: overrides
                .and_then(|u| u.max_user_connections)
                .unwrap_or(self.limits.max_user_connections),
            server_lifetime: entry.server_lifetime.unwrap_or(defaults.server_lifetime),
            server_idle_timeout: defaults.server_idle_timeout,
            server_connect_timeout: defaults.server_connect_timeout,
            server_login_retry: defaults.server_login_retry,
            query_wait_timeout: overrides
                .and_then(|u| u.query_wait_timeout)
                .or(entry.query_wait_timeout)
                .unwrap_or(defaults.query_wait_timeout),
            server_reset_query: defaults.server_reset_query.clone(),
            server_round_robin: defaults.server_round_robin,
            max_prepared_statements: defaults.max_prepared_statements,
            share_unnamed_statements: defaults.share_unnamed_statements,
            statement_limits: defaults.statement_limits,
            track_extra: Arc::clone(&defaults.track_extra),
            reserve: self.reserve(entry, overrides),
            care: self.care(entry),
            query_wait_notify: self.crowd.wait_notify,
            tcp: self.tcp,
            lookup: None,
        })
    }

    /// The user that servers are logged in as for `user` on `database`; `None` when there is no such database.
    #[must_use]
    pub fn server_user<'a>(&'a self, database: &str, user: &'a str) -> Option<&'a str> {
        Some(self.database(database)?.user.as_deref().unwrap_or(user))
    }

    /// The timeouts of one client: its user's own, else the global ones.
    #[must_use]
    pub fn client_timeouts(&self, user: &str) -> ClientTimeouts {
        let overrides = self.users.get(user).map(Arc::as_ref);
        let global = &self.client;
        ClientTimeouts {
            login: global.login,
            idle: overrides.and_then(|u| u.client_idle_timeout).unwrap_or(global.idle),
            idle_transaction: overrides
                .and_then(|u| u.idle_transaction_timeout)
                .unwrap_or(global.idle_transaction),
            query: overrides.and_then(|u| u.query_timeout).unwrap_or(global.query),
            transaction: overrides.and_then(|u| u.transaction_timeout).unwrap_or(global.transaction),
        }
    }
}
