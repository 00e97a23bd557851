//! `auth_query`: who is asked for the secret of a user that the auth file does not know.

use super::Reserve;
use super::error::{Findings, Remark};
use super::model::{Config, PoolSettings};
use super::resolve::Values;
use super::settings::AUTH_QUERY;
use std::sync::Arc;
use std::time::Duration;

/// `auth_user`, `auth_query` and `auth_dbname`, of all databases or of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthQuery {
    /// Who asks; nobody does without.
    pub user: Option<String>,
    /// What is asked. The general one has PgBouncer's default.
    pub query: Option<String>,
    /// In which entry of `[databases]`; else in the one that the client asks for.
    pub dbname: Option<String>,
}

/// Whom to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The entry of `[databases]` in which it is asked.
    pub database: String,
    /// Whether the configuration has that name, and not just `*` for it.
    pub is_named: bool,
    /// `auth_user`.
    pub user: String,
    /// `auth_query`, with the user's name as `$1`.
    pub query: Arc<str>,
    /// The connections that it is asked over, which are no client's.
    pub pool: PoolSettings,
    /// Longest wait for an answer.
    pub limit: Duration,
}

/// Connections for questions to one database: one works while the other is dialled or has fallen behind.
const CONNECTIONS: u32 = 2;

/// Idle time after which connections go that only `*` stands for.
const PASSING: Duration = Duration::from_secs(60);

/// Longest wait where `client_login_timeout` is off.
const LIMIT: Duration = Duration::from_secs(60);

/// Puts the built-in names in front of all others. Every name in it is qualified, since whoever owns the database has a say
/// in where others are looked for.
const BUILT_IN_FIRST: &str = "SELECT pg_catalog.set_config('search_path', \
    CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.=) '' THEN 'pg_catalog' \
    ELSE 'pg_catalog, ' OPERATOR(pg_catalog.||) pg_catalog.current_setting('search_path') END, false)";

impl AuthQuery {
    pub(super) fn of(values: &Values) -> Self {
        let text = |key| values.text(key).map(str::to_owned);
        Self { user: text("auth_user"), query: text("auth_query"), dbname: text("auth_dbname") }
    }
}

/// Says so where `auth_dbname` leads nowhere: nobody could be looked up.
pub(super) fn advise(values: &Values, config: &Config, findings: &mut Findings) {
    let key = "auth_dbname";
    let Some(name) = values.text(key).filter(|name| config.lookup_pool(name, "").is_none()) else { return };
    let text = format!("there is no database {name} to ask in: nobody can be looked up");
    findings.notice(values.origin(key), &values.section, Some(key), Remark::Advice(text));
}

impl Config {
    /// Who is asked about a user of this database; `None` when nobody is, or when there is no such database to ask in.
    /// The console's has none of its own, so its users are looked up in `auth_dbname` or not at all.
    #[must_use]
    pub fn lookup(&self, database: &str) -> Option<Lookup> {
        let own = self.database(database).map(|entry| &entry.auth);
        let is_console = self.is_console(database);
        let pick = |key: fn(&AuthQuery) -> &Option<String>| {
            let own = own.filter(|_| !is_console).and_then(|own| key(own).as_ref());
            own.or(key(&self.auth.query).as_ref())
        };
        let (user, query) = (pick(|auth| &auth.user)?, pick(|auth| &auth.query)?);
        let here = Some(database).filter(|_| !is_console);
        let database = pick(|auth| &auth.dbname).map(String::as_str).or(here)?;
        Some(Lookup {
            pool: self.lookup_pool(database, user)?,
            is_named: self.is_named(database),
            database: database.to_owned(),
            user: user.clone(),
            query: query.as_str().into(),
            limit: self.client.login.unwrap_or(LIMIT),
        })
    }

    /// The `auth_dbname` in which nobody can be asked about a user of this database, though `auth_user` says that somebody
    /// is.
    #[must_use]
    pub fn nowhere_to_ask(&self, database: &str) -> Option<&str> {
        // As above, the console goes by what is said in general, and not by `*`.
        let is_console = matches!(database, "pgbouncer" | "pgweir");
        let own = self.database(database).filter(|_| !is_console).map(|entry| &entry.auth);
        let user = own.and_then(|own| own.user.as_ref()).or(self.auth.query.user.as_ref())?;
        let place = own.and_then(|own| own.dbname.as_deref()).or(self.auth.query.dbname.as_deref())?;
        self.lookup_pool(place, user).is_none().then_some(place)
    }

    /// Whether anybody asks as this user.
    #[must_use]
    pub fn asks_as(&self, auth_user: &str) -> bool {
        let entries = self.databases.values().chain(&self.fallback).map(|entry| &entry.auth);
        std::iter::once(&self.auth.query).chain(entries).any(|auth| auth.user.as_deref() == Some(auth_user))
    }

    /// The connections over which `auth_user` asks in this entry of `[databases]`. The entry's forced user plays no part,
    /// nor does any client: no name, no setting and no place of theirs.
    #[must_use]
    pub fn lookup_pool(&self, database: &str, auth_user: &str) -> Option<PoolSettings> {
        if self.is_console(database) {
            return None;
        }
        let entry = self.database(database)?;
        let is_forced = entry.user.as_deref() == Some(auth_user);
        let mut settings = self.plain_pool_settings(database, auth_user)?;
        auth_user.clone_into(&mut settings.user);
        settings.user_is_forced = false;
        settings.password = settings.password.filter(|_| is_forced);
        settings.size = Some(CONNECTIONS);
        settings.min_size = 0;
        settings.reserve = Reserve::default();
        // The name comes from the startup packet, which is UTF-8; the answer is read as such.
        settings.startup.insert("client_encoding".to_owned(), "UTF8".to_owned());
        // Before any proof a query is run here with the rights of `auth_user`. Whoever owns the database may set its
        // `search_path`: nothing of theirs may stand in for what is built in.
        if self.asks_only_the_usual() {
            settings.startup.insert("search_path".to_owned(), "pg_catalog".to_owned());
        } else {
            settings.care.guard = Some(BUILT_IN_FIRST);
        }
        settings.care.connect_query.clear();
        if !self.is_named(database) {
            settings.care.is_passing = true;
            let limits = [settings.server_idle_timeout, self.crowd.autodb_idle, Some(PASSING)];
            settings.server_idle_timeout = limits.into_iter().flatten().min();
        }
        Some(settings)
    }

    /// Whether the configuration has this name, be it as an `auth_dbname`: else it is a client's, and `*` stands for it.
    fn is_named(&self, database: &str) -> bool {
        let entries = self.databases.values().chain(&self.fallback).map(|entry| &entry.auth);
        let mut places = std::iter::once(&self.auth.query).chain(entries).map(|auth| auth.dbname.as_deref());
        self.databases.contains_key(database) || places.any(|place| place == Some(database))
    }

    /// Whether no other query is asked than the one that comes with PgBouncer, which needs nothing but built-in names.
    fn asks_only_the_usual(&self) -> bool {
        let entries = self.databases.values().chain(&self.fallback).map(|entry| &entry.auth);
        let mut queries =
            std::iter::once(&self.auth.query).chain(entries).filter_map(|auth| auth.query.as_ref());
        queries.all(|query| query == AUTH_QUERY)
    }
}
