//! The metrics of prometheus-community/pgbouncer_exporter, by which dashboards and alerts go. Names, labels and units
//! are the exporter's.

use super::applications::Applications;
use super::family::Kind::{Counter, Gauge};
use super::family::{Family, count, float, limit, seconds};
use super::own::labels;
use crate::config::PoolMode;
use crate::pool::PoolSnapshot;
use crate::session::{DatabaseOverview, Overview, VERSION};
use crate::stats::TrafficSnapshot;
use std::collections::BTreeMap;

/// Name, help, and the figure of something.
type Figure<T> = (&'static str, &'static str, fn(&T) -> f64);

/// From `SHOW POOLS`.
const POOLS: [Figure<PoolSnapshot>; 12] = [
    ("client_active_connections", "Clients linked to a server or idle.", |p| {
        (float(p.clients) - count(p.waiting)).max(0.0)
    }),
    ("client_waiting_connections", "Clients that wait for a server.", |p| count(p.waiting)),
    ("client_active_cancel_connections", "Cancel requests under way.", |p| f64::from(p.cancelling)),
    ("client_waiting_cancel_connections", "Cancel requests that wait.", |p| float(p.cancels_waiting)),
    ("server_active_connections", "Servers linked to a client.", |p| count(p.active)),
    ("server_active_cancel_connections", "Connections that forward a cancel request.", |p| {
        f64::from(p.cancelling)
    }),
    ("server_being_canceled_connections", "Servers held back by a cancel request.", |p| {
        count(p.being_canceled)
    }),
    ("server_idle_connections", "Servers that are idle and ready.", |p| count(p.idle)),
    ("server_used_connections", "Idle servers that are checked before use.", |p| count(p.used)),
    ("server_testing_connections", "Servers that are being cleaned or checked.", |p| count(p.tested)),
    ("server_login_connections", "Servers that are being logged in.", |p| float(p.login)),
    ("client_maxwait_seconds", "How long the oldest waiting client has waited.", |p| {
        p.oldest_wait.as_secs_f64()
    }),
];

/// From `SHOW DATABASES`.
const DATABASES: [Figure<DatabaseOverview>; 6] = [
    ("pool_size", "Servers that each pool may have; 0 is no limit.", |d| limit(d.pool_size)),
    ("reserve_pool", "Servers on top of that, in need.", |d| f64::from(d.reserve_size)),
    ("max_connections", "Servers that the database may have; 0 is no limit.", |d| limit(d.max_connections)),
    ("current_connections", "Servers that the database has.", |d| f64::from(d.connections)),
    ("paused", "Whether it is paused by itself.", |d| f64::from(u8::from(d.gate.is_paused))),
    ("disabled", "Whether it refuses new clients.", |d| f64::from(u8::from(d.gate.is_disabled))),
];

/// From `SHOW STATS_TOTALS`.
const STATS: [Figure<TrafficSnapshot>; 12] = [
    ("queries_pooled_total", "Queries.", |t| float(t.queries)),
    // The exporter gave it while PgBouncer had a column of that name, and dashboards still ask for it.
    ("queries_total", "Queries.", |t| float(t.queries)),
    ("queries_duration_seconds_total", "Time that servers spent in queries.", |t| seconds(t.query_micros)),
    ("received_bytes_total", "Bytes read from clients.", |t| float(t.received)),
    ("sent_bytes_total", "Bytes written to clients.", |t| float(t.sent)),
    ("client_wait_seconds_total", "Time that clients waited for a server.", |t| seconds(t.wait_micros)),
    ("sql_transactions_pooled_total", "Transactions.", |t| float(t.transactions)),
    ("server_in_transaction_seconds_total", "Time that servers spent in transactions.", |t| {
        seconds(t.transaction_micros)
    }),
    ("client_parses_total", "Named prepared statements from clients.", |t| float(t.client_parses)),
    ("server_parses_total", "Named prepared statements to servers.", |t| float(t.server_parses)),
    ("binds_total", "Uses of named prepared statements.", |t| float(t.binds)),
    ("server_assignments_total", "Times a client got a server.", |t| float(t.assignments)),
];

/// The exporter's code says the first, its manual and older dashboards the second.
const STATS_PREFIXES: [&str; 2] = ["pgbouncer_stats_totals", "pgbouncer_stats"];

/// All families.
pub(super) fn families(overview: &Overview, applications: &Applications) -> Vec<Family> {
    let mut families = totals(overview);
    families.extend(lists(overview));
    families.push(client_connections(overview, applications));
    families.push(errors(overview));
    families.extend(POOLS.iter().map(|figure| by_pool(overview, figure)));
    families.extend(DATABASES.iter().map(|figure| by_database(overview, figure)));
    for prefix in STATS_PREFIXES {
        families.extend(STATS.iter().map(|figure| by_traffic(&overview.totals, prefix, figure)));
    }
    families
}

fn totals(overview: &Overview) -> Vec<Family> {
    let limits = &overview.config.limits;
    let version = [("version", VERSION)];
    vec![
        Family::single(Gauge, "pgbouncer_up", "Whether the figures could be read; always 1.", 1.0),
        Family::new(Gauge, "pgbouncer_version_info", "The version that runs.").sample(&version, 1.0),
        Family::single(
            Gauge,
            "pgbouncer_config_max_client_connections",
            "Clients that are let in (max_client_conn).",
            count(limits.max_client_conn),
        ),
        Family::single(
            Gauge,
            "pgbouncer_config_max_user_connections",
            "Servers that each user may have (max_user_connections); 0 is no limit.",
            limit(limits.max_user_connections),
        ),
    ]
}

/// From `SHOW LISTS`.
fn lists(overview: &Overview) -> impl Iterator<Item = Family> {
    let servers: u64 = overview.pools.iter().map(PoolSnapshot::servers).sum();
    let clients = overview.clients + overview.console.clients + overview.logins;
    [
        ("pgbouncer_databases", "Databases.", count(overview.databases.len())),
        ("pgbouncer_users", "Users.", count(overview.users.len())),
        ("pgbouncer_pools", "Pools.", count(overview.pools.len() + 1)),
        ("pgbouncer_free_clients", "Memory kept for clients; always 0.", 0.0),
        ("pgbouncer_used_clients", "Clients.", float(clients)),
        ("pgbouncer_login_clients", "Clients that are not logged in yet.", float(overview.logins)),
        ("pgbouncer_free_servers", "Memory kept for servers; always 0.", 0.0),
        ("pgbouncer_used_servers", "Servers.", float(servers)),
        ("pgbouncer_cached_dns_names", "Names in a cache; always 0.", 0.0),
        ("pgbouncer_cached_dns_zones", "Zones in a cache; always 0.", 0.0),
        ("pgbouncer_in_flight_dns_queries", "Questions to the resolver; always 0.", 0.0),
    ]
    .into_iter()
    .map(|(name, help, value)| Family::single(Gauge, name, help, value))
}

/// By pool, application and state, as the exporter groups the rows of `SHOW CLIENTS`: a group without clients has no
/// sample.
fn client_connections(overview: &Overview, applications: &Applications) -> Family {
    let mut groups: BTreeMap<[&str; 4], u64> = BTreeMap::new();
    for (who, state) in &overview.sessions {
        let application = applications.label(&who.application_name);
        *groups.entry([&who.database, &who.user, application, state.as_str()]).or_default() += 1;
    }
    let mut family = Family::new(Gauge, "pgbouncer_client_connections", "Clients by what they do.");
    for ([database, user, application, state], number) in groups {
        let labels =
            [("database", database), ("user", user), ("application_name", application), ("state", state)];
        family.push(&labels, float(number));
    }
    family
}

/// The name that the rules of awesome-prometheus-alerts ask for; no exporter of today has it.
fn errors(overview: &Overview) -> Family {
    let mut family = Family::new(Counter, "pgbouncer_errors_count", "Errors that clients were told.");
    for (text, number) in &overview.errors {
        family.push(&[("errmsg", text)], float(*number));
    }
    family
}

fn by_pool(overview: &Overview, (name, help, figure): &Figure<PoolSnapshot>) -> Family {
    let mut family = Family::new(Gauge, format!("pgbouncer_pools_{name}"), help);
    for pool in pools(overview) {
        family.push(&labels(pool), figure(pool));
    }
    family
}

fn by_database(overview: &Overview, (name, help, figure): &Figure<DatabaseOverview>) -> Family {
    let mut family = Family::new(Gauge, format!("pgbouncer_databases_{name}"), help);
    for database in &overview.databases {
        let port = database.port.to_string();
        let labels = [
            ("name", database.name.as_str()),
            ("host", database.host.as_deref().unwrap_or_default()),
            ("port", &port),
            ("database", &database.dbname),
            ("force_user", database.forced_user.as_deref().unwrap_or_default()),
            ("pool_mode", database.mode.map_or("", PoolMode::as_str)),
        ];
        family.push(&labels, figure(database));
    }
    family
}

fn by_traffic(
    traffic: &BTreeMap<String, TrafficSnapshot>,
    prefix: &str,
    (name, help, figure): &Figure<TrafficSnapshot>,
) -> Family {
    let mut family = Family::new(Counter, format!("{prefix}_{name}"), help);
    for (database, traffic) in traffic {
        family.push(&[("database", database)], figure(traffic));
    }
    family
}

/// All pools, the console's included.
fn pools(overview: &Overview) -> impl Iterator<Item = &PoolSnapshot> {
    overview.pools.iter().chain([&overview.console])
}
