//! Who is connected: clients of pools, visitors of the console, servers. As in PgBouncer, they are listed pool by pool,
//! clients before servers.

use super::rows;
use super::table::Row;
use crate::session::Service;
use crate::stats::{ClientRecord, ClientState, ServerRecord, ServerState, unix_micros};
use std::sync::Arc;

/// The order of clients in a pool, and of servers: that of PgBouncer's lists.
type Place = (String, String, u8, u8);

/// `SHOW CLIENTS`
pub(super) fn clients(service: &Service) -> Vec<Row> {
    let now = unix_micros();
    in_order(client_rows(service, |_| true, |record| rows::client(record, now)))
}

/// `SHOW SERVERS`
pub(super) fn servers(service: &Service) -> Vec<Row> {
    in_order(server_rows(service, |_| true, rows::server))
}

/// `SHOW SOCKETS`
pub(super) fn sockets(service: &Service) -> Vec<Row> {
    both(service, |_| true, |_| true)
}

/// `SHOW ACTIVE_SOCKETS`
pub(super) fn active_sockets(service: &Service) -> Vec<Row> {
    both(service, |state| state != ClientState::Idle, |state| state != ServerState::Idle)
}

fn both(
    service: &Service,
    of_clients: impl Fn(ClientState) -> bool,
    of_servers: impl Fn(ServerState) -> bool,
) -> Vec<Row> {
    let now = unix_micros();
    let mut all = client_rows(service, of_clients, |record| rows::client_socket(record, now));
    all.extend(server_rows(service, of_servers, rows::server_socket));
    in_order(all)
}

fn client_rows(
    service: &Service,
    is_meant: impl Fn(ClientState) -> bool,
    row: impl Fn(&ClientRecord) -> Row,
) -> Vec<(Place, Row)> {
    let config = service.config.load();
    let (clients, visitors) = (service.clients.list(), service.clients.visitors());
    let records =
        clients.iter().map(|client| &client.record).chain(visitors.iter().map(|visit| &visit.record));
    let placed = |record: &ClientRecord| {
        let (database, user) = (&record.who.database, &record.who.user);
        // A pool goes by the user that its servers are logged in as.
        let user = config.server_user(database, user).unwrap_or(user);
        (database.clone(), user.to_owned(), 0, u8::from(record.state() == ClientState::Waiting))
    };
    records.filter(|record| is_meant(record.state())).map(|record| (placed(record), row(record))).collect()
}

fn server_rows(
    service: &Service,
    is_meant: impl Fn(ServerState) -> bool,
    row: impl Fn(&ServerRecord) -> Row,
) -> Vec<(Place, Row)> {
    let servers: Vec<Arc<ServerRecord>> =
        service.pools.list().iter().flat_map(|pool| pool.servers().list()).collect();
    let placed = |record: &ServerRecord| {
        let late = match record.state() {
            ServerState::Active => 0,
            ServerState::Idle => 1,
            _ => 2,
        };
        (record.database.clone(), record.user.clone(), 1, late)
    };
    let meant = servers.iter().filter(|record| is_meant(record.state()));
    meant.map(|record| (placed(record), row(record))).collect()
}

/// A sort that keeps who came first first.
fn in_order(mut placed: Vec<(Place, Row)>) -> Vec<Row> {
    placed.sort_by(|(one, _), (other, _)| one.cmp(other));
    placed.into_iter().map(|(_, row)| row).collect()
}
