//! `SHOW CLIENTS`, `SHOW SERVERS`, `SHOW SOCKETS`.

use super::{Row, row};
use crate::admin::table::Cell;
use crate::stats::{ClientRecord, ClientState, Peer, Replication, ServerRecord};
use jiff::Timestamp;

/// What clients and servers have in common.
struct Socket<'a> {
    kind: &'static str,
    user: &'a str,
    database: &'a str,
    replication: Option<Replication>,
    state: &'static str,
    peer: &'a Peer,
    /// Microseconds since 1970.
    connected: u64,
    /// Microseconds since 1970.
    requested: u64,
    /// Microseconds.
    wait: u64,
    pointer: String,
    link: String,
    /// It is closed as soon as it is free.
    close_needed: bool,
    process: u32,
    application_name: &'a str,
    statements: usize,
    id: u64,
}

/// A client of a pool; `now` is in microseconds since 1970.
pub(in crate::admin) fn client(client: &ClientRecord, now: u64) -> Row {
    let waits = client.state() == ClientState::Waiting;
    socket(&Socket {
        kind: "C",
        user: &client.who.user,
        database: &client.who.database,
        replication: client.replication,
        state: client.state().as_str(),
        peer: &client.peer,
        connected: client.connected,
        requested: client.last_request(),
        wait: if waits { now.saturating_sub(client.last_request()) } else { 0 },
        pointer: client_pointer(client.id),
        link: client.server().map(server_pointer).unwrap_or_default(),
        close_needed: false,
        process: 0,
        application_name: &client.application_name(),
        statements: client.statements(),
        id: client.id,
    })
}

/// The same in `SHOW SOCKETS`.
pub(in crate::admin) fn client_socket(record: &ClientRecord, now: u64) -> Row {
    let state = match record.state() {
        ClientState::Idle => "active", // as in SHOW POOLS
        other => other.as_str(),
    };
    with_positions(client(record, now), format!("cl_{state}"))
}

/// What a server's own record does not tell.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct Circumstances {
    /// It is closed as soon as it is free.
    pub(in crate::admin) close_needed: bool,
    /// The port of this process, which PgBouncer shows for this side of a Unix socket.
    pub(in crate::admin) listen_port: u16,
}

/// A server connection.
pub(in crate::admin) fn server(server: &ServerRecord, circumstances: Circumstances) -> Row {
    let Circumstances { close_needed, listen_port } = circumstances;
    socket(&Socket {
        kind: "S",
        user: &server.user,
        database: &server.database,
        replication: server.replication,
        state: server.state().as_str(),
        peer: &server.peer.at_ports(server.peer.port(), listen_port),
        connected: server.connected,
        requested: server.last_request(),
        wait: 0,
        pointer: server_pointer(server.id),
        link: server.client().map(client_pointer).unwrap_or_default(),
        close_needed,
        process: server.process,
        application_name: &server.application_name(),
        statements: server.statements(),
        id: server.id,
    })
}

/// The same in `SHOW SOCKETS`.
pub(in crate::admin) fn server_socket(record: &ServerRecord, circumstances: Circumstances) -> Row {
    with_positions(server(record, circumstances), format!("sv_{}", record.state().as_str()))
}

/// There are no positions to show: between its turns a session holds no buffer.
fn with_positions(mut row: Row, state: String) -> Row {
    const STATE: usize = 4;
    const POSITIONS: usize = 7;
    if let Some(cell) = row.get_mut(STATE) {
        *cell = state.into();
    }
    row.extend(std::iter::repeat_n(Cell::from(0), POSITIONS));
    row
}

fn socket(socket: &Socket<'_>) -> Row {
    row![
        socket.kind,
        socket.user.to_owned(),
        socket.database.to_owned(),
        Replication::shown(socket.replication),
        socket.state,
        socket.peer.address(),
        socket.peer.port(),
        socket.peer.local_address(),
        socket.peer.local_port(),
        time(socket.connected),
        time(socket.requested),
        socket.wait / 1_000_000,
        socket.wait % 1_000_000,
        u32::from(socket.close_needed),
        socket.pointer.clone(),
        socket.link.clone(),
        socket.process,
        "", // tls
        socket.application_name.to_owned(),
        socket.statements,
        socket.id,
    ]
}

/// PgBouncer shows addresses in memory, by which tools join clients and servers. These are made up of the number, so
/// that they are as stable, with ranges apart from each other.
fn client_pointer(id: u64) -> String {
    format!("0xc{id:011x}")
}

fn server_pointer(id: u64) -> String {
    format!("0x5{id:011x}")
}

/// A time in the words of PgBouncer.
fn time(unix_micros: u64) -> String {
    let time = i64::try_from(unix_micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;
    use crate::admin::table::Cell;
    use crate::stats::Identity;

    fn shown(row: &[Cell]) -> Vec<&str> {
        row.iter().map(|cell| cell.as_text().unwrap()).collect()
    }

    fn peer() -> Peer {
        Peer::new("10.0.0.9:40000".parse().ok(), "10.0.0.1:6432".parse().ok())
    }

    #[test]
    fn times_are_spelled_as_pgbouncer_spells_them() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(1_709_208_005_999_999), "2024-02-29 12:00:05 UTC");
        assert_eq!(time(u64::MAX), "");
    }

    #[test]
    fn a_client_that_waits_and_one_that_does_not() {
        let [user, database, application_name] = ["alice", "app", "psql"].map(str::to_owned);
        let record = ClientRecord::new(18, Identity { user, database, application_name }.into(), peer());
        record.requested_at(1_709_208_005_000_000);
        record.enter(ClientState::Waiting, None);
        let row = client(&record, 1_709_208_007_000_030);
        assert_eq!(row.len(), columns::CONNECTIONS.len());
        assert_eq!(client_socket(&record, 0).len(), columns::SOCKETS.len());
        let row = shown(&row);
        assert_eq!(row[..9].join(" "), "C alice app none waiting 10.0.0.9 40000 10.0.0.1 6432");
        assert_eq!(row[10..].join("|"), "2024-02-29 12:00:05 UTC|2|30|0|0xc00000000012||0||psql|0|18");
        record.enter(ClientState::Active, Some(255));
        let row = client(&record, u64::MAX);
        let row = shown(&row);
        assert_eq!((row[4], row[11], row[12], row[15]), ("active", "0", "0", "0x5000000000ff"));
    }

    #[test]
    fn a_server_points_to_its_client() {
        let record = ServerRecord::new(255, "alice".to_owned(), "app".to_owned(), peer(), 4711);
        record.enter(crate::stats::ServerState::Active, Some(18));
        record.note_application_name("psql");
        let row = server(&record, Circumstances { close_needed: true, listen_port: 6432 });
        let row = shown(&row);
        assert_eq!((row[13], row[18]), ("1", "psql"));
        assert_eq!((row[0], row[4], row[14], row[15]), ("S", "active", "0x5000000000ff", "0xc00000000012"));
        assert_eq!((row[16], row[20]), ("4711", "255"));
    }
}
