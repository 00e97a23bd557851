//! The settings of one entry of `[databases]`, `[users]` and `[peers]`; what is not set is inherited.

use super::Kind::{Choice, Path, Seconds, Secret, Text};
use super::{Kind, POOL_MODE, Setting};

/// Any number that PgBouncer can hold.
const COUNT: Kind = Kind::Decimal { min: 0, max: 2_147_483_647 };
/// A port that can be connected to.
const PORT: Kind = Kind::Decimal { min: 1, max: 65_535 };

/// An entry of `[databases]`.
#[rustfmt::skip]
pub(in crate::config) const DATABASE: &[Setting] = &[
    Setting::honoured("application_name", Text, "", "Sent to the server at login."),
    Setting::honoured("auth_dbname", Text, "", "Entry in which auth_query runs for this one."),
    Setting::honoured("auth_query", Text, "", "Query for name and secret of a user who is not in auth_file."),
    Setting::honoured("auth_user", Text, "", "User who runs auth_query."),
    Setting::honoured("client_encoding", Text, "", "Sent to the server at login."),
    Setting::honoured("connect_query", Text, "", "Query run on each new server connection."),
    Setting::honoured("datestyle", Text, "", "Sent to the server at login."),
    Setting::honoured("dbname", Text, "", "Database on the server; unset is the name of the entry."),
    Setting::honoured("host", Text, "", "Servers, between commas: names, addresses, or folders of Unix sockets (@ is the abstract namespace)."),
    Setting::honoured("load_balance_hosts", Choice(&["disable", "round-robin"]), "", "Which of several hosts the next connection goes to: round-robin takes them in turn, disable stays with one until it fails."),
    Setting::honoured("max_db_client_connections", COUNT, "", "Clients at a time; 0 is the general one."),
    Setting::honoured("max_db_connections", COUNT, "", "Server connections over all users; 0 is the general one."),
    Setting::honoured("min_pool_size", COUNT, "", "Server connections kept open."),
    Setting::honoured("password", Secret, "", "Password of the forced user."),
    Setting::honoured("password_file", Path, "", "File whose first line is the password of the forced user."),
    Setting::honoured("pool_mode", POOL_MODE, "", "When a server goes back to the pool."),
    Setting::honoured("pool_size", COUNT, "", "Server connections of one user; 0 is unlimited."),
    Setting::honoured("port", PORT, "5432", "Port of the server."),
    Setting::honoured("query_wait_timeout", Seconds, "", "Longest wait for a server; 0 is for ever."),
    Setting::honoured("reserve_pool", COUNT, "", "Old name of reserve_pool_size."),
    Setting::honoured("reserve_pool_size", COUNT, "", "Extra server connections in need."),
    Setting::honoured("server_lifetime", Seconds, "", "Age at which an unused server is closed; 0 is the general one."),
    Setting::honoured("timezone", Text, "", "Sent to the server at login."),
    Setting::honoured("user", Text, "", "Log in to the server as this user, whoever the client is."),
];

/// An entry of `[users]`.
#[rustfmt::skip]
pub(in crate::config) const USER: &[Setting] = &[
    Setting::honoured("client_idle_timeout", Seconds, "", "Idle time outside a transaction; 0 is the general one."),
    Setting::honoured("idle_transaction_timeout", Seconds, "", "Idle time inside a transaction; 0 is the general one."),
    Setting::honoured("max_user_client_connections", COUNT, "", "Clients at a time; 0 is the general one."),
    Setting::honoured("max_user_connections", COUNT, "", "Server connections over all databases; 0 is the general one."),
    Setting::honoured("pool_mode", POOL_MODE, "", "When a server goes back to the pool."),
    Setting::honoured("pool_size", COUNT, "", "Server connections to one database; 0 is unlimited."),
    Setting::honoured("query_timeout", Seconds, "", "Longest query; 0 is the general one."),
    Setting::honoured("query_wait_timeout", Seconds, "", "Longest wait for a server; 0 is for ever."),
    Setting::honoured("reserve_pool_size", COUNT, "", "Extra server connections in need."),
    Setting::honoured("transaction_timeout", Seconds, "", "Longest transaction; 0 is the general one."),
];

/// An entry of `[peers]`.
#[rustfmt::skip]
pub(in crate::config) const PEER: &[Setting] = &[
    Setting::honoured("host", Text, "", "Where the peer listens: names, addresses, or folders of Unix sockets."),
    Setting::honoured("pool_size", COUNT, "", "Cancel requests forwarded at a time; unset is default_pool_size."),
    Setting::honoured("port", PORT, "6432", "Port of the peer."),
];
