//! `SHOW DNS_HOSTS`, `SHOW DNS_ZONES`.

use super::{Row, row};
use crate::net::NameView;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A row for each name that was looked up. PgBouncer writes an address with a port, which is 0.
pub(in crate::admin) fn dns_hosts(names: &[NameView]) -> Vec<Row> {
    let row = |name: &NameView| {
        let addresses = name.addresses.iter().map(|ip| SocketAddr::new(*ip, 0).to_string());
        row![&name.name, name.left.as_secs(), addresses.collect::<Vec<_>>().join(",")]
    };
    names.iter().map(row).collect()
}

/// A row for each zone, which is what stands behind the first dot of a name. Serials are not looked up.
pub(in crate::admin) fn dns_zones(names: &[NameView]) -> Vec<Row> {
    zones(names).into_iter().map(|(zone, count)| row![zone.to_owned(), 0, count]).collect()
}

/// How many names each zone has.
pub(super) fn zones(names: &[NameView]) -> BTreeMap<&str, usize> {
    let mut zones = BTreeMap::new();
    for (_, zone) in names.iter().filter_map(|name| name.name.split_once('.')) {
        *zones.entry(zone).or_default() += 1;
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;
    use std::time::Duration;

    #[test]
    fn names_are_shown_as_pgbouncer_shows_them() {
        let name = |name: &str, addresses: &[&str]| NameView {
            name: name.to_owned(),
            left: Duration::from_millis(4_700),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        let names =
            [name("db1.example", &["10.0.0.1", "::1"]), name("db2.example", &[]), name("localhost", &[])];
        let shown = |rows: Vec<Row>| -> Vec<String> {
            let text =
                |row: &Row| row.iter().map(|cell| cell.as_text().unwrap()).collect::<Vec<_>>().join("|");
            rows.iter().map(text).collect()
        };
        let hosts = dns_hosts(&names);
        assert_eq!(hosts[0].len(), columns::DNS_HOSTS.len());
        assert_eq!(shown(hosts), ["db1.example|4|10.0.0.1:0,[::1]:0", "db2.example|4|", "localhost|4|"]);
        let zones = dns_zones(&names);
        assert_eq!(zones[0].len(), columns::DNS_ZONES.len());
        assert_eq!(shown(zones), ["example|0|2"]);
    }
}
