//! `SHOW PEERS`, `SHOW PEER_POOLS`.

use super::{Row, limit, row};
use crate::config::Peering;
use crate::session::PeerPoolView;

/// A row for each entry of `[peers]`, this process' own included.
pub(in crate::admin) fn peers(peering: &Peering) -> Vec<Row> {
    let peers = peering.peers.iter();
    peers.map(|(id, peer)| row![*id, peer.hosts.to_string(), peer.port, limit(peer.pool_size)]).collect()
}

/// A row for each peer that a request was forwarded to.
pub(in crate::admin) fn peer_pools(pools: &[PeerPoolView]) -> Vec<Row> {
    pools.iter().map(|pool| row![pool.id, pool.active, pool.waiting, pool.active, pool.connecting]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;
    use crate::admin::table::Cell;
    use crate::config::{Balance, Hosts, Peer};

    #[test]
    fn peers_are_shown_as_pgbouncer_shows_them() {
        let mut peering = Peering { id: 1, ..Peering::default() };
        let hosts = Hosts::parse("127.0.0.1,/run", Balance::RoundRobin).unwrap();
        peering.peers.insert(9, Peer { hosts, port: 6432, pool_size: Some(3) });
        let shown =
            |row: &Row| row.iter().map(Cell::as_text).map(Option::unwrap).collect::<Vec<_>>().join("|");
        let rows = peers(&peering);
        assert_eq!(
            (shown(&rows[0]).as_str(), rows[0].len()),
            ("9|127.0.0.1,/run|6432|3", columns::PEERS.len())
        );
        let rows = peer_pools(&[PeerPoolView { id: 9, waiting: 2, connecting: 1, active: 4 }]);
        assert_eq!((shown(&rows[0]).as_str(), rows[0].len()), ("9|4|2|4|1", columns::PEER_POOLS.len()));
    }
}
