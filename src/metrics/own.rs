//! pgweir's own metrics.

use super::family::Kind::{Counter, Gauge};
use super::family::{Family, Kind, count, float, limit, seconds};
use crate::pool::PoolSnapshot;
use crate::session::Overview;

/// One figure of each pool.
type PoolFigure = (Kind, &'static str, &'static str, fn(&PoolSnapshot) -> f64);

/// Families with a sample for each pool.
const POOLS: [PoolFigure; 22] = [
    (Gauge, "pgweir_pool_size_limit", "Servers that the pool may have; 0 is no limit.", |p| limit(p.size)),
    (Gauge, "pgweir_pool_oldest_wait_seconds", "How long the oldest waiting client has waited.", |p| {
        p.oldest_wait.as_secs_f64()
    }),
    (Counter, "pgweir_pool_transactions_total", "Transactions that ended.", |p| {
        float(p.traffic.transactions)
    }),
    (Counter, "pgweir_pool_queries_total", "Requests that ended in a ReadyForQuery.", |p| {
        float(p.traffic.queries)
    }),
    (Counter, "pgweir_pool_server_assignments_total", "Times a client got a server.", |p| {
        float(p.traffic.assignments)
    }),
    (Counter, "pgweir_pool_logins_total", "Clients that logged in.", |p| float(p.traffic.logins)),
    (Counter, "pgweir_pool_errors_total", "Clients that were cut, refused or failed by the pooler.", |p| {
        float(p.traffic.errors)
    }),
    (Counter, "pgweir_pool_connects_total", "Server connections opened.", |p| float(p.traffic.connects)),
    (Counter, "pgweir_pool_connect_failures_total", "Server connections that could not be opened.", |p| {
        float(p.traffic.connect_failures)
    }),
    (Counter, "pgweir_pool_received_bytes_total", "Bytes read from clients.", |p| float(p.traffic.received)),
    (Counter, "pgweir_pool_sent_bytes_total", "Bytes written to clients.", |p| float(p.traffic.sent)),
    (Counter, "pgweir_pool_transaction_seconds_total", "Time that servers spent in transactions.", |p| {
        seconds(p.traffic.transaction_micros)
    }),
    (Counter, "pgweir_pool_query_seconds_total", "Time that servers spent in queries.", |p| {
        seconds(p.traffic.query_micros)
    }),
    (Counter, "pgweir_pool_wait_seconds_total", "Time that clients waited for a server.", |p| {
        seconds(p.traffic.wait_micros)
    }),
    (Gauge, "pgweir_pool_prepared_statements", "Named prepared statements on servers.", |p| {
        count(p.statements)
    }),
    (Counter, "pgweir_pool_prepared_hits_total", "Uses of a named statement that was on the server.", |p| {
        float(p.traffic.prepared_hits)
    }),
    (Counter, "pgweir_pool_prepared_misses_total", "Uses of a named statement that was not.", |p| {
        float(p.traffic.prepared_misses)
    }),
    (
        Counter,
        "pgweir_pool_parses_saved_total",
        "Named Parse messages that no server had to carry out.",
        |p| float(p.traffic.parses_saved),
    ),
    (Counter, "pgweir_pool_prepared_evictions_total", "Named statements closed to make room.", |p| {
        float(p.traffic.prepared_evictions)
    }),
    (
        Counter,
        "pgweir_pool_batch_reruns_total",
        "Batches sent again unseen, since a statement was outdated or gone.",
        |p| float(p.traffic.batch_reruns),
    ),
    (
        Counter,
        "pgweir_pool_prepared_heals_total",
        "Named statements made afresh: what the server had no longer held, or might not.",
        |p| float(p.traffic.prepared_heals),
    ),
    (
        Counter,
        "pgweir_pool_prepared_refusals_total",
        "Messages about named statements refused for a limit.",
        |p| float(p.traffic.prepared_refusals),
    ),
];

/// All families.
pub(super) fn families(overview: &Overview) -> Vec<Family> {
    let mut families = totals(overview);
    families.extend(statements(overview));
    families.push(by_state(
        &overview.pools,
        "pgweir_pool_clients",
        "Clients by what they do.",
        &client_states,
    ));
    families.push(by_state(
        &overview.pools,
        "pgweir_pool_servers",
        "Server connections by what they do.",
        &server_states,
    ));
    families.extend(POOLS.iter().map(|figure| by_pool(&overview.pools, figure)));
    families
}

fn totals(overview: &Overview) -> Vec<Family> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let cancels = overview.pools.iter().map(|pool| pool.traffic.cancels).sum::<u64>();
    vec![
        Family::new(Gauge, "pgweir_build_info", "The version that runs.").sample(&version, 1.0),
        Family::single(Gauge, "pgweir_clients", "Clients of pools.", float(overview.clients)),
        Family::single(
            Gauge,
            "pgweir_clients_limit",
            "Clients that are let in (max_client_conn).",
            count(overview.config.limits.max_client_conn),
        ),
        Family::single(
            Gauge,
            "pgweir_logins_in_progress",
            "Connections that are not logged in yet.",
            float(overview.logins),
        ),
        Family::single(
            Counter,
            "pgweir_cancels_total",
            "CancelRequests forwarded.",
            float(overview.traffic.cancels + cancels),
        ),
        Family::single(
            Counter,
            "pgweir_login_errors_total",
            "Clients that were refused or failed before they had a pool.",
            float(overview.traffic.errors),
        ),
    ]
}

fn statements(overview: &Overview) -> [Family; 3] {
    let limit = overview.config.pool.statement_limits.bytes;
    [
        Family::single(
            Gauge,
            "pgweir_prepared_statements",
            "Named prepared statements of all clients, equal ones counted once.",
            count(overview.statements.statements),
        ),
        Family::single(Gauge, "pgweir_prepared_bytes", "What they take.", count(overview.statements.bytes)),
        Family::single(
            Gauge,
            "pgweir_prepared_bytes_limit",
            "What they may take (max_prepared_bytes); 0 is no limit.",
            count(limit.unwrap_or(0)),
        ),
    ]
}

fn by_pool(pools: &[PoolSnapshot], (kind, name, help, figure): &PoolFigure) -> Family {
    let mut family = Family::new(*kind, *name, help);
    for pool in pools {
        family.push(&labels(pool), figure(pool));
    }
    family
}

/// Counts by the word for a state.
type States = Vec<(&'static str, f64)>;

fn by_state(
    pools: &[PoolSnapshot],
    name: &'static str,
    help: &'static str,
    states: &dyn Fn(&PoolSnapshot) -> States,
) -> Family {
    let mut family = Family::new(Gauge, name, help);
    for pool in pools {
        let [database, user] = labels(pool);
        for (state, number) in states(pool) {
            family.push(&[database, user, ("state", state)], number);
        }
    }
    family
}

/// A client is active for as long as it has a server.
fn client_states(pool: &PoolSnapshot) -> States {
    let (active, waiting) = (count(pool.active), count(pool.waiting));
    // They were counted one after the other, so the sum may be off by what happened meanwhile.
    let idle = (float(pool.clients) - active - waiting).max(0.0);
    vec![("idle", idle), ("active", active), ("waiting", waiting)]
}

fn server_states(pool: &PoolSnapshot) -> States {
    vec![
        ("active", count(pool.active)),
        ("idle", count(pool.idle)),
        ("tested", count(pool.tested)),
        ("used", count(pool.used)),
        ("being_canceled", count(pool.being_canceled)),
        ("login", float(pool.login)),
    ]
}

/// The labels of a pool.
pub(super) fn labels(pool: &PoolSnapshot) -> [(&'static str, &str); 2] {
    [("database", &pool.id.database), ("user", &pool.id.user)]
}
