//! Who is connected: clients of pools, visitors of the console, servers. As in PgBouncer, they are listed pool by pool,
//! clients before servers.

use super::rows::{self, Circumstances};
use super::table::Row;
use crate::session::Service;
use crate::stats::{ClientRecord, ClientState, ServerRecord, ServerState, unix_micros};

/// The order of clients in a pool, and of servers: that of PgBouncer's lists.
type Place = (String, String, u8, u8);

/// `SHOW CLIENTS`
pub(super) fn clients(service: &Service) -> Vec<Row> {
    let now = unix_micros();
    in_order(client_rows(service, |_| true, |record| rows::client(record, now)))
}

/// `SHOW SERVERS`
pub(super) fn servers(service: &Service) -> Vec<Row> {
    in_order(server_rows(service, rows::server))
}

/// `SHOW SOCKETS`
pub(super) fn sockets(service: &Service) -> Vec<Row> {
    let now = unix_micros();
    let mut all = client_rows(service, |_| true, |record| rows::client_socket(record, now));
    all.extend(server_rows(service, rows::server_socket));
    in_order(all)
}

/// `SHOW ACTIVE_SOCKETS`: PgBouncer lists connections with a message in its buffers. That is who waits in line, and who
/// is on the console and is being answered.
pub(super) fn active_sockets(service: &Service) -> Vec<Row> {
    let now = unix_micros();
    let answered: Vec<u64> = service.clients.visitors().iter().filter_map(|visit| visit.answered()).collect();
    let is_active =
        |record: &ClientRecord| record.state() == ClientState::Waiting || answered.contains(&record.id);
    in_order(client_rows(service, is_active, |record| rows::client_socket(record, now)))
}

fn client_rows(
    service: &Service,
    is_meant: impl Fn(&ClientRecord) -> bool,
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
    records.filter(|record| is_meant(record)).map(|record| (placed(record), row(record))).collect()
}

fn server_rows(service: &Service, row: impl Fn(&ServerRecord, Circumstances) -> Row) -> Vec<(Place, Row)> {
    let placed = |record: &ServerRecord| {
        let late = match record.state() {
            ServerState::Active => 0,
            ServerState::Idle => 1,
            _ => 2,
        };
        (record.database.clone(), record.user.clone(), 1, late)
    };
    let listen_port = service.config.load().listen.port;
    let mut all = Vec::new();
    for pool in service.pools.list() {
        for record in pool.servers().list() {
            let close_needed = pool.is_to_be_replaced(&record);
            all.push((placed(&record), row(&record, Circumstances { close_needed, listen_port })));
        }
    }
    all
}

/// A sort that keeps who came first first.
fn in_order(mut placed: Vec<(Place, Row)>) -> Vec<Row> {
    placed.sort_by(|(one, _), (other, _)| one.cmp(other));
    placed.into_iter().map(|(_, row)| row).collect()
}
