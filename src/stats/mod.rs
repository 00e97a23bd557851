//! Counting: who is here, what they do, how much went through. Everything is a relaxed atomic or a guard that gives
//! back on drop, so that no path can forget; reading never stops traffic.

mod census;
mod traffic;

pub use census::{
    Activity, ClientRecord, ClientState, Entry, Identity, Peer, Roll, ServerRecord, ServerState, State,
    shrink,
};
pub use traffic::{Gauge, GaugeGuard, Traffic, TrafficSnapshot};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, for times that are shown.
#[must_use]
pub fn unix_micros() -> u64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in microseconds, saturating.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
