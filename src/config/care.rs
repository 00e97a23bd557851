//! What a pool does beyond its size: the reserve, the care for its servers, and how many clients may come.

use std::time::Duration;

use super::model::{Config, Database, User};
use super::resolve::Values;

/// Extra servers of a pool in need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserve {
    /// How many (`reserve_pool_size`).
    pub size: u32,
    /// How long a client must have waited before they are used (`reserve_pool_timeout`); `None` is never.
    pub timeout: Option<Duration>,
}

/// How servers are looked after.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Care {
    /// How an idle server is checked before it is used again; `None` is not at all.
    pub check: Option<Check>,
    /// Run on each new server (`connect_query`); empty is none.
    pub connect_query: String,
    /// Run on each new server before anything else; one that refuses it is not used.
    pub guard: Option<&'static str>,
    /// Clean servers in every mode, not in session mode alone (`server_reset_query_always`).
    pub resets_always: bool,
    /// Secrets are asked for here under a name that only `*` stands for, which anybody can make up: shown nowhere, and
    /// forgotten as soon as it is not used.
    pub is_passing: bool,
    /// Cut sessions whose server is to be replaced, as soon as they are outside of a transaction (`server_fast_close`).
    pub fast_close: bool,
    /// What is logged of them.
    pub lines: ServerLines,
}

/// What is logged of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerLines {
    /// That one is opened (`log_connections`).
    pub connections: bool,
    /// That one is closed, and why (`log_disconnections`).
    pub disconnections: bool,
}

/// A check of an idle server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Idle time after which a server is checked (`server_check_delay`); zero is always.
    pub delay: Duration,
    /// What it has to answer (`server_check_query`); empty is the empty query.
    pub query: String,
}

/// How clients are treated as long as they have no server, and what is forgotten when none is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crowd {
    /// Clients of one database; `None` is unlimited.
    pub max_db_clients: Option<u32>,
    /// Clients of one user; `None` is unlimited.
    pub max_user_clients: Option<u32>,
    /// When a client is told that it waits (`query_wait_notify`); `None` is never.
    pub wait_notify: Option<Duration>,
    /// When an empty pool is forgotten (`pool_idle_timeout`); `None` is never.
    pub pool_idle: Option<Duration>,
    /// When a database of the entry `*` that nobody uses is forgotten (`autodb_idle_timeout`); `None` is never.
    pub autodb_idle: Option<Duration>,
    /// Refuse the simple query protocol (`disable_pqexec`).
    pub no_simple_queries: bool,
}

pub(super) fn reserve(general: &Values) -> Reserve {
    Reserve {
        size: general.number("reserve_pool_size").unwrap_or(0),
        timeout: general.timeout("reserve_pool_timeout").flatten(),
    }
}

/// `reserve_pool` is the old name; the new one wins.
pub(super) fn own_reserve(values: &Values) -> Option<u32> {
    values.number("reserve_pool_size").or_else(|| values.number("reserve_pool"))
}

pub(super) fn care(general: &Values) -> Care {
    let delay = general.time("server_check_delay").unwrap_or(Duration::from_secs(30));
    let check = general.text("server_check_query").map(|query| {
        let query = if query == "<empty>" { String::new() } else { query.to_owned() };
        Check { delay, query }
    });
    Care {
        check,
        connect_query: String::new(),
        guard: None,
        is_passing: false,
        resets_always: general.is_on("server_reset_query_always"),
        fast_close: general.is_on("server_fast_close"),
        lines: ServerLines {
            connections: general.is_on("log_connections"),
            disconnections: general.is_on("log_disconnections"),
        },
    }
}

pub(super) fn crowd(general: &Values) -> Crowd {
    Crowd {
        max_db_clients: general.limit("max_db_client_connections").flatten(),
        max_user_clients: general.limit("max_user_client_connections").flatten(),
        wait_notify: general.timeout("query_wait_notify").flatten(),
        pool_idle: general.timeout("pool_idle_timeout").flatten(),
        autodb_idle: general.timeout("autodb_idle_timeout").flatten(),
        no_simple_queries: general.is_on("disable_pqexec"),
    }
}

impl Config {
    /// The reserve of a pool: its user's size, else its database's, else the general one.
    pub(super) fn reserve(&self, entry: &Database, user: Option<&User>) -> Reserve {
        let own = user.and_then(|user| user.reserve_pool_size).or(entry.reserve_pool_size);
        Reserve { size: own.unwrap_or(self.pool.reserve.size), ..self.pool.reserve }
    }

    /// How servers of an entry are looked after.
    pub(super) fn care(&self, entry: &Database) -> Care {
        Care { connect_query: entry.connect_query.clone().unwrap_or_default(), ..self.pool.care.clone() }
    }

    /// Clients that a database may have; `None` is unlimited.
    #[must_use]
    pub fn max_db_clients(&self, database: &str) -> Option<u32> {
        let own = self.database(database).and_then(|entry| entry.max_client_connections);
        own.unwrap_or(self.crowd.max_db_clients)
    }

    /// Clients that a user may have; `None` is unlimited.
    #[must_use]
    pub fn max_user_clients(&self, user: &str) -> Option<u32> {
        let own = self.users.get(user).and_then(|user| user.max_client_connections);
        own.unwrap_or(self.crowd.max_user_clients)
    }
}
