//! Other poolers behind the same address, and which of them this one is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::build::{error, port};
use super::error::{Findings, Problem};
use super::hosts::{Balance, Hosts};
use super::resolve::Values;

/// This process among its peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peering {
    /// `peer_id`; 0 stands alone.
    pub id: u16,
    /// Who else there is, by their numbers; this process may be among them.
    pub peers: BTreeMap<u16, Peer>,
    /// `cancel_wait_timeout`: the longest that a cancel request waits to be forwarded; `None` is for ever.
    pub wait: Option<Duration>,
}

/// An entry of `[peers]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Where it listens.
    pub hosts: Hosts,
    /// Its port, and the suffix of its socket file.
    pub port: u16,
    /// Cancel requests that are forwarded to it at a time; `None` is unlimited.
    pub pool_size: Option<u32>,
}

/// What the general settings say; the peers are added as their entries come.
pub(super) fn peering(general: &Values) -> Peering {
    Peering {
        id: port(general.number("peer_id")).unwrap_or(0),
        peers: BTreeMap::new(),
        wait: general.timeout("cancel_wait_timeout").flatten(),
    }
}

/// Builds the entry, or notes why it cannot be.
pub(super) fn peer(values: &Values, default_size: Option<u32>, findings: &mut Findings) -> Option<Peer> {
    // That it has one was checked with the entry.
    let text = values.text("host")?;
    let Some(hosts) = Hosts::parse(text, Balance::RoundRobin) else {
        let expected = "hosts between commas".to_owned();
        let problem = Problem::BadValue { shown: Some(format!("{text:?}")), expected };
        error(values, "host", problem, findings);
        return None;
    };
    Some(Peer {
        hosts,
        port: port(values.number("port")).unwrap_or(6432),
        pool_size: values.limit("pool_size").unwrap_or(default_size),
    })
}
