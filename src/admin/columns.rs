//! The columns of each table: names, types and order are those of PgBouncer 1.26, and tools match on all three.
//! Columns of our own belong in tables of our own.

use super::table::Columns;
use crate::wire::backend::Type::{Int4 as I, Int8 as Q, Numeric as N, Text as S};

pub(super) const VERSION: Columns = &[("version", S)];

pub(super) const POOLS: Columns = &[
    ("database", S),
    ("user", S),
    ("cl_active", I),
    ("cl_waiting", I),
    ("cl_active_cancel_req", I),
    ("cl_waiting_cancel_req", I),
    ("sv_active", I),
    ("sv_active_cancel", I),
    ("sv_being_canceled", I),
    ("sv_idle", I),
    ("sv_used", I),
    ("sv_tested", I),
    ("sv_login", I),
    ("maxwait", I),
    ("maxwait_us", I),
    ("pool_mode", S),
    ("load_balance_hosts", S),
];

/// Clients and servers.
pub(super) const CONNECTIONS: Columns = &[
    ("type", S),
    ("user", S),
    ("database", S),
    ("replication", S),
    ("state", S),
    ("addr", S),
    ("port", I),
    ("local_addr", S),
    ("local_port", I),
    ("connect_time", S),
    ("request_time", S),
    ("wait", I),
    ("wait_us", I),
    ("close_needed", I),
    ("ptr", S),
    ("link", S),
    ("remote_pid", I),
    ("tls", S),
    ("application_name", S),
    ("prepared_statements", I),
    ("id", I),
];

/// Clients and servers, with the places in PgBouncer's buffers.
pub(super) const SOCKETS: Columns = &[
    ("type", S),
    ("user", S),
    ("database", S),
    ("replication", S),
    ("state", S),
    ("addr", S),
    ("port", I),
    ("local_addr", S),
    ("local_port", I),
    ("connect_time", S),
    ("request_time", S),
    ("wait", I),
    ("wait_us", I),
    ("close_needed", I),
    ("ptr", S),
    ("link", S),
    ("remote_pid", I),
    ("tls", S),
    ("application_name", S),
    ("prepared_statements", I),
    ("id", I),
    ("recv_pos", I),
    ("pkt_pos", I),
    ("pkt_remain", I),
    ("send_pos", I),
    ("send_remain", I),
    ("pkt_avail", I),
    ("send_avail", I),
];

pub(super) const STATS: Columns = &[
    ("database", S),
    ("total_server_assignment_count", N),
    ("total_xact_count", N),
    ("total_query_count", N),
    ("total_received", N),
    ("total_sent", N),
    ("total_xact_time", N),
    ("total_query_time", N),
    ("total_wait_time", N),
    ("total_client_parse_count", N),
    ("total_server_parse_count", N),
    ("total_bind_count", N),
    ("total_client_login_count", N),
    ("avg_server_assignment_count", N),
    ("avg_xact_count", N),
    ("avg_query_count", N),
    ("avg_recv", N),
    ("avg_sent", N),
    ("avg_xact_time", N),
    ("avg_query_time", N),
    ("avg_wait_time", N),
    ("avg_client_parse_count", N),
    ("avg_server_parse_count", N),
    ("avg_bind_count", N),
    ("avg_client_login_count", N),
];

pub(super) const STATS_TOTALS: Columns = &[
    ("database", S),
    ("server_assignment_count", N),
    ("xact_count", N),
    ("query_count", N),
    ("bytes_received", N),
    ("bytes_sent", N),
    ("xact_time", N),
    ("query_time", N),
    ("wait_time", N),
    ("client_parse_count", N),
    ("server_parse_count", N),
    ("bind_count", N),
    ("client_login_count", N),
];

/// The last four do carry a prefix.
pub(super) const STATS_AVERAGES: Columns = &[
    ("database", S),
    ("server_assignment_count", N),
    ("xact_count", N),
    ("query_count", N),
    ("bytes_received", N),
    ("bytes_sent", N),
    ("xact_time", N),
    ("query_time", N),
    ("wait_time", N),
    ("avg_client_parse_count", N),
    ("avg_server_parse_count", N),
    ("avg_bind_count", N),
    ("avg_client_login_count", N),
];

pub(super) const TOTALS: Columns = &[("name", S), ("value", N)];

/// The rows of `SHOW TOTALS`, first with `total_` and then with `avg_` in front.
pub(super) const TOTALS_ROWS: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

pub(super) const DATABASES: Columns = &[
    ("name", S),
    ("host", S),
    ("port", I),
    ("database", S),
    ("force_user", S),
    ("pool_size", I),
    ("min_pool_size", I),
    ("reserve_pool_size", I),
    ("server_lifetime", I),
    ("pool_mode", S),
    ("load_balance_hosts", S),
    ("max_connections", I),
    ("current_connections", I),
    ("max_client_connections", I),
    ("current_client_connections", I),
    ("paused", I),
    ("disabled", I),
];

pub(super) const USERS: Columns = &[
    ("name", S),
    ("pool_size", S),
    ("reserve_pool_size", S),
    ("pool_mode", S),
    ("max_user_connections", I),
    ("current_connections", I),
    ("max_user_client_connections", I),
    ("current_client_connections", I),
];

pub(super) const LISTS: Columns = &[("list", S), ("items", I)];

/// Our own: the named prepared statements of all clients.
pub(super) const PREPARED_STATEMENTS: Columns = &[
    ("name", S),
    ("query", S),
    ("parameter_types", S),
    ("bytes", Q),
    ("clients", Q),
    ("servers", Q),
    ("server_parses", Q),
    ("binds", Q),
    ("heals", Q),
];

pub(super) const CONFIG: Columns = &[("key", S), ("value", S), ("default", S), ("changeable", S)];

/// Our own: all settings, also those that PgBouncer does not have, and where each value comes from.
pub(super) const SETTINGS: Columns =
    &[("key", S), ("value", S), ("default", S), ("changeable", S), ("origin", S)];

pub(super) const DNS_HOSTS: Columns = &[("hostname", S), ("ttl", Q), ("addrs", S)];

pub(super) const DNS_ZONES: Columns = &[("zonename", S), ("serial", Q), ("count", I)];

pub(super) const MEMORY: Columns = &[("name", S), ("size", I), ("used", I), ("free", I), ("memtotal", I)];

pub(super) const STATE: Columns = &[("key", S), ("value", S)];

pub(super) const PEERS: Columns = &[("peer_id", I), ("host", S), ("port", I), ("pool_size", I)];

pub(super) const PEER_POOLS: Columns = &[
    ("peer_id", I),
    ("cl_active_cancel_req", I),
    ("cl_waiting_cancel_req", I),
    ("sv_active_cancel", I),
    ("sv_login", I),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::backend::Type;

    /// Name and type letter, as the description of PgBouncer's console has them; a letter holds until the next one.
    fn assert_columns(columns: Columns, golden: &str) {
        let shown: Vec<_> = columns.iter().map(|(name, kind)| format!("{name} {}", letter(*kind))).collect();
        let golden: Vec<_> = golden.split(',').map(|column| column.trim().to_owned()).collect();
        assert_eq!(shown, golden);
    }

    fn letter(kind: Type) -> char {
        match kind {
            Type::Text => 's',
            Type::Int4 => 'i',
            Type::Int8 => 'q',
            Type::Numeric => 'N',
        }
    }

    #[test]
    fn columns_are_pgbouncers() {
        assert_columns(VERSION, "version s");
        assert_columns(
            POOLS,
            "database s, user s, cl_active i, cl_waiting i, cl_active_cancel_req i, cl_waiting_cancel_req i, \
             sv_active i, sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, sv_tested i, sv_login i, \
             maxwait i, maxwait_us i, pool_mode s, load_balance_hosts s",
        );
        assert_columns(
            CONNECTIONS,
            "type s, user s, database s, replication s, state s, addr s, port i, local_addr s, local_port i, \
             connect_time s, request_time s, wait i, wait_us i, close_needed i, ptr s, link s, remote_pid i, tls s, \
             application_name s, prepared_statements i, id i",
        );
        assert_columns(
            DATABASES,
            "name s, host s, port i, database s, force_user s, pool_size i, min_pool_size i, reserve_pool_size i, \
             server_lifetime i, pool_mode s, load_balance_hosts s, max_connections i, current_connections i, \
             max_client_connections i, current_client_connections i, paused i, disabled i",
        );
        assert_columns(
            USERS,
            "name s, pool_size s, reserve_pool_size s, pool_mode s, max_user_connections i, current_connections i, \
             max_user_client_connections i, current_client_connections i",
        );
        assert_eq!(SOCKETS[..CONNECTIONS.len()], *CONNECTIONS);
        assert_columns(LISTS, "list s, items i");
        assert_columns(CONFIG, "key s, value s, default s, changeable s");
        assert_columns(STATE, "key s, value s");
        assert_columns(PEERS, "peer_id i, host s, port i, pool_size i");
        assert_columns(
            PEER_POOLS,
            "peer_id i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active_cancel i, sv_login i",
        );
    }

    #[test]
    fn columns_of_statistics_are_pgbouncers() {
        assert_columns(
            STATS,
            "database s, total_server_assignment_count N, total_xact_count N, total_query_count N, \
             total_received N, total_sent N, total_xact_time N, total_query_time N, total_wait_time N, \
             total_client_parse_count N, total_server_parse_count N, total_bind_count N, \
             total_client_login_count N, avg_server_assignment_count N, avg_xact_count N, avg_query_count N, \
             avg_recv N, avg_sent N, avg_xact_time N, avg_query_time N, avg_wait_time N, avg_client_parse_count N, \
             avg_server_parse_count N, avg_bind_count N, avg_client_login_count N",
        );
        assert_columns(
            STATS_TOTALS,
            "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, \
             xact_time N, query_time N, wait_time N, client_parse_count N, server_parse_count N, bind_count N, \
             client_login_count N",
        );
        assert_columns(
            STATS_AVERAGES,
            "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, \
             xact_time N, query_time N, wait_time N, avg_client_parse_count N, avg_server_parse_count N, \
             avg_bind_count N, avg_client_login_count N",
        );
        assert_columns(TOTALS, "name s, value N");
    }
}
