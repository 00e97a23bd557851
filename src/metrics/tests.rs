//! The page, line by line.

use super::*;
use crate::config::{Config, PoolMode};
use crate::pool::{PoolId, PoolSnapshot};
use crate::server::InternerTotals;
use crate::session::{CONSOLE, DatabaseOverview};
use crate::stats::{ClientState, Identity, TrafficSnapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

fn pool(database: &str, user: &str) -> PoolSnapshot {
    PoolSnapshot {
        id: PoolId { database: database.to_owned(), user: user.to_owned() },
        mode: PoolMode::Transaction,
        balance: None,
        clients: 10,
        waiting: 2,
        oldest_wait: Duration::from_millis(1500),
        active: 3,
        idle: 4,
        used: 0,
        tested: 0,
        cancelling: 0,
        cancels_waiting: 0,
        being_canceled: 0,
        login: 1,
        size: Some(20),
        seats: 8,
        statements: 150,
        traffic: TrafficSnapshot {
            queries: 7,
            query_micros: 2_500_000,
            received: u64::MAX,
            prepared_hits: 12,
            ..TrafficSnapshot::default()
        },
    }
}

fn database(name: &str) -> DatabaseOverview {
    DatabaseOverview {
        reserve_size: 4,
        max_clients: None,
        gate: crate::pool::Gate { is_paused: true, is_disabled: true },
        name: name.to_owned(),
        host: Some("db".to_owned()),
        port: 5432,
        dbname: name.to_owned(),
        forced_user: None,
        mode: None,
        balance: None,
        pool_size: Some(20),
        min_pool_size: 0,
        server_lifetime: None,
        max_connections: None,
        connections: 8,
        clients: 10,
    }
}

fn session(
    database: &str,
    user: &str,
    application: &str,
    state: ClientState,
) -> (Arc<Identity>, ClientState) {
    let who = Identity {
        user: user.to_owned(),
        database: database.to_owned(),
        application_name: application.to_owned(),
    };
    (Arc::new(who), state)
}

/// Two pools of one database, and one whose names are as hostile as names can be.
fn overview() -> Overview {
    // A name for each thread: tests run beside each other.
    let thread = format!("{:?}", std::thread::current().id());
    let path = std::env::temp_dir().join(format!("pgweir-metrics-{}-{thread}.ini", std::process::id()));
    std::fs::write(&path, "[pgbouncer]\nlisten_addr = 127.0.0.1\n").unwrap();
    let config: Arc<Config> = Config::load(&path, &|_| None).unwrap().config;
    std::fs::remove_file(&path).unwrap();
    Overview {
        is_paused: false,
        config,
        pools: vec![pool("app", "alice"), pool("app", "bob"), pool("a\"\\\n} 1\n# x", "é{")],
        console: pool(CONSOLE, CONSOLE),
        databases: vec![database("app"), database("a\"\\\n"), database(CONSOLE)],
        users: Vec::new(),
        clients: 30,
        logins: 1,
        traffic: TrafficSnapshot { cancels: 5, ..TrafficSnapshot::default() },
        totals: BTreeMap::from([
            (
                "app".to_owned(),
                TrafficSnapshot { queries: 14, query_micros: 5_000_000, ..TrafficSnapshot::default() },
            ),
            (CONSOLE.to_owned(), TrafficSnapshot { queries: 3, ..TrafficSnapshot::default() }),
        ]),
        sessions: vec![
            session("app", "alice", "web", ClientState::Idle),
            session("app", "alice", "web", ClientState::Idle),
            session("app", "alice", "\"}\n", ClientState::Waiting),
            session(CONSOLE, "admin", "", ClientState::Idle),
        ],
        errors: vec![("query_wait_timeout", 2), ("other", 0)],
        statements: InternerTotals { statements: 60, bytes: 9000 },
        names: Vec::new(),
        lookups: 0,
        peer_pools: 0,
    }
}

/// Name, labels and value of each sample, after all has been checked that the format asks for.
fn samples(page: &str) -> BTreeMap<(String, String), f64> {
    let (mut helped, mut typed, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            let is_counter = name.ends_with("_total") || name == "pgbouncer_errors_count";
            assert_eq!(is_counter, kind == "counter", "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{line}"
            );
            assert!(helped.contains(name) && typed.contains_key(name), "{line}");
            assert!(labels.ends_with('}'), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let before = samples.insert((name.to_owned(), labels.trim_end_matches('}').to_owned()), value);
            assert!(before.is_none(), "twice: {line}");
        }
    }
    assert!(typed.keys().all(|name| samples.keys().any(|(sample, _)| sample == name)));
    samples
}

#[test]
fn every_line_is_well_formed() {
    let page = render(&overview(), &Applications::default()).unwrap();
    let samples = samples(&page);
    let value = |name: &str, labels: &str| samples[&(name.to_owned(), labels.to_owned())];
    let alice = "database=\"app\",user=\"alice\"";
    assert_eq!(value("pgweir_pool_clients", &format!("{alice},state=\"idle\"")), 5.0);
    assert_eq!(value("pgweir_pool_servers", &format!("{alice},state=\"login\"")), 1.0);
    assert_eq!(value("pgweir_pool_oldest_wait_seconds", alice), 1.5);
    assert_eq!(value("pgweir_pool_query_seconds_total", alice), 2.5);
    assert_eq!(value("pgweir_cancels_total", ""), 5.0);
    assert_eq!(value("pgweir_pool_prepared_statements", alice), 150.0);
    assert_eq!(value("pgweir_pool_prepared_hits_total", alice), 12.0);
    assert_eq!(value("pgweir_prepared_statements", ""), 60.0);
    assert_eq!(value("pgweir_prepared_bytes", ""), 9000.0);
    assert_eq!(value("pgweir_prepared_bytes_limit", ""), 268_435_456.0);
    assert_eq!(value("pgweir_clients_limit", ""), 100.0);
    assert_eq!(value("pgbouncer_pools_client_active_connections", alice), 8.0);
    assert_eq!(value("pgbouncer_stats_totals_queries_pooled_total", "database=\"app\""), 14.0);
    assert_eq!(value("pgbouncer_stats_queries_duration_seconds_total", "database=\"app\""), 5.0);
    let app = "name=\"app\",host=\"db\",port=\"5432\",database=\"app\",force_user=\"\",pool_mode=\"\"";
    assert_eq!(value("pgbouncer_databases_current_connections", app), 8.0);
    assert_eq!(value("pgbouncer_pools", ""), 4.0);
    let web = "database=\"app\",user=\"alice\",application_name=\"web\",state=\"idle\"";
    assert_eq!(value("pgbouncer_client_connections", web), 2.0);
    assert_eq!(value("pgbouncer_errors_count", "errmsg=\"query_wait_timeout\""), 2.0);
    assert_eq!(value("pgbouncer_stats_totals_queries_pooled_total", "database=\"pgbouncer\""), 3.0);
    let hostile = "database=\"a\\\"\\\\\\n} 1\\n# x\",user=\"é{\"";
    assert_eq!(value("pgweir_pool_size_limit", hostile), 20.0);
}

#[test]
fn all_names_of_the_exporter_are_there() {
    let page = render(&overview(), &Applications::default()).unwrap();
    let samples = samples(&page);
    let names: BTreeSet<&str> = samples.keys().map(|(name, _)| name.as_str()).collect();
    let families = [
        (
            "",
            "up version_info client_connections errors_count databases users pools free_clients used_clients login_clients \
              free_servers used_servers cached_dns_names cached_dns_zones in_flight_dns_queries",
        ),
        ("config_", "max_client_connections max_user_connections"),
        ("databases_", "pool_size reserve_pool max_connections current_connections paused disabled"),
        (
            "pools_",
            "client_active_connections client_waiting_connections client_active_cancel_connections \
                    client_waiting_cancel_connections server_active_connections server_active_cancel_connections \
                    server_being_canceled_connections server_idle_connections server_used_connections \
                    server_testing_connections server_login_connections client_maxwait_seconds",
        ),
        ("stats_totals_", STATS),
        ("stats_", STATS),
    ];
    for (group, members) in families {
        for name in members.split_whitespace().map(|name| format!("pgbouncer_{group}{name}")) {
            assert!(names.contains(name.as_str()), "{name}");
        }
    }
}

const STATS: &str = "queries_pooled_total queries_total queries_duration_seconds_total received_bytes_total sent_bytes_total \
                     client_wait_seconds_total sql_transactions_pooled_total server_in_transaction_seconds_total \
                     client_parses_total server_parses_total binds_total server_assignments_total";

#[test]
fn a_process_without_pools_has_a_page_too() {
    let overview = Overview { pools: Vec::new(), databases: Vec::new(), ..overview() };
    assert!(samples(&render(&overview, &Applications::default()).unwrap()).len() > 20);
}
