//! `SHOW POOLS`, `SHOW LISTS`.

use super::{Row, row};
use crate::config::Balance;
use crate::pool::PoolSnapshot;
use crate::session::Overview;
use crate::stats::micros;

/// A row for each pool, the console's included, in the order of their names.
pub(in crate::admin) fn pools(overview: &Overview) -> Vec<Row> {
    let mut all: Vec<_> = overview.pools.iter().chain([&overview.console]).collect();
    all.sort_by(|one, other| (&one.id.database, &one.id.user).cmp(&(&other.id.database, &other.id.user)));
    all.into_iter().map(pool).collect()
}

fn pool(pool: &PoolSnapshot) -> Row {
    let waiting = u64::try_from(pool.waiting).unwrap_or(u64::MAX);
    let wait = micros(pool.oldest_wait);
    row![
        &pool.id.database,
        &pool.id.user,
        pool.clients.saturating_sub(waiting), // PgBouncer counts idle clients as active
        waiting,
        pool.cancelling,
        pool.cancels_waiting,
        pool.active,
        pool.cancelling,
        pool.being_canceled,
        pool.idle,
        pool.used,
        pool.tested,
        pool.login,
        wait / 1_000_000,
        wait % 1_000_000,
        pool.mode.as_str(),
        pool.balance.map(Balance::as_str),
    ]
}

/// How many there are of what. There are no free clients and servers: memory is not kept for them.
pub(in crate::admin) fn lists(overview: &Overview) -> [Row; 14] {
    let servers: u64 = overview.pools.iter().map(PoolSnapshot::servers).sum();
    [
        row!["databases", overview.databases.len()],
        row!["users", overview.users.len()],
        row!["peers", overview.config.peering.peers.len()],
        row!["pools", overview.pools.len() + 1],
        row!["peer_pools", overview.peer_pools],
        row!["free_clients", 0],
        row!["used_clients", overview.clients + overview.console.clients + overview.logins],
        row!["login_clients", overview.logins],
        row!["free_servers", 0],
        row!["used_servers", servers],
        row!["dns_names", overview.names.len()],
        row!["dns_zones", super::names::zones(&overview.names).len()],
        row!["dns_queries", overview.lookups],
        row!["dns_pending", 0],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;
    use crate::admin::table::Cell;
    use crate::config::PoolMode;
    use crate::pool::PoolId;
    use crate::stats::TrafficSnapshot;
    use std::time::Duration;

    #[test]
    fn a_pool_is_shown_as_pgbouncer_shows_it() {
        let snapshot = PoolSnapshot {
            id: PoolId { database: "app".to_owned(), user: "alice".to_owned() },
            mode: PoolMode::Transaction,
            balance: None,
            clients: 9,
            waiting: 2,
            oldest_wait: Duration::from_micros(3_000_042),
            active: 3,
            idle: 4,
            used: 7,
            tested: 1,
            cancelling: 7,
            cancels_waiting: 8,
            being_canceled: 5,
            login: 6,
            size: Some(20),
            seats: 13,
            statements: 0,
            traffic: TrafficSnapshot::default(),
        };
        let row = pool(&snapshot);
        let shown: Vec<_> = row.iter().map(Cell::as_text).collect();
        assert_eq!(shown.len(), columns::POOLS.len());
        let golden = "app alice 7 2 7 8 3 7 5 4 7 1 6 3 42 transaction";
        assert_eq!(shown[..16], golden.split(' ').map(Some).collect::<Vec<_>>());
        assert_eq!(shown[16], None);
    }
}
