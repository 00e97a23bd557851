//! `SHOW MEM`. PgBouncer keeps a cache for each kind of thing; here memory comes from the allocator, so nothing is free
//! and what is shown are the things themselves. The names are PgBouncer's, in its order, for those who look for one.

use super::{Row, row};
use crate::config::Database;
use crate::pool::ServerPool;
use crate::server::Statement;
use crate::session::{ClientHandle, Service};
use crate::stats::ServerRecord;

pub(in crate::admin) fn memory(service: &Service) -> Vec<Row> {
    let config = service.config.load();
    let pools = service.pools.list();
    let servers = pools.iter().map(|pool| pool.servers().len()).sum();
    let kind =
        |name: &'static str, size: usize, used: usize| row![name, size, used, 0, size.saturating_mul(used)];
    vec![
        kind("user_cache", size_of::<crate::config::User>(), config.users.len()),
        kind(
            "credentials_cache",
            size_of::<crate::auth::StoredSecret>(),
            service.users.listed().list.users().count(),
        ),
        kind("db_cache", size_of::<Database>(), config.databases.len()),
        kind("peer_cache", 0, 0),
        kind("peer_pool_cache", 0, 0),
        kind("pool_cache", size_of::<ServerPool>(), pools.len()),
        kind("outstanding_request_cache", 0, 0),
        kind("server_cache", size_of::<ServerRecord>(), servers),
        kind("client_cache", size_of::<ClientHandle>(), service.clients.list().len()),
        kind("iobuf_cache", crate::net::BLOCK, 0),
        kind("var_list_cache", 0, 0),
        kind("server_prepared_statement_cache", size_of::<Statement>(), service.interner.list().len()),
    ]
}
