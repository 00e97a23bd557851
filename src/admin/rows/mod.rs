//! The rows of each table, made of plain figures. What pgweir does not have is 0 or empty, as PgBouncer shows it.

mod databases;
mod memory;
mod names;
mod peers;
mod pools;
mod prepared;
mod sockets;
mod state;
mod stats;

pub(super) use databases::{databases, users};
pub(super) use memory::memory;
pub(super) use names::{dns_hosts, dns_zones};
pub(super) use peers::{peer_pools, peers};
pub(super) use pools::{lists, pools};
pub(super) use prepared::prepared_statements;
pub(super) use sockets::{Circumstances, client, client_socket, server, server_socket};
pub(super) use state::{config, setting, state, version};
pub(super) use stats::{live, stats, stats_averages, stats_totals, totals};

use super::table::{Row, row};

/// A limit as PgBouncer spells it: 0 is none.
fn limit(limit: Option<u32>) -> u32 {
    limit.unwrap_or(0)
}
