//! Counting: who is here, what they do, how much went through. Everything is a relaxed atomic or a guard that gives
//! back on drop, so that no path can forget; reading never stops traffic.

mod census;
mod clock;
mod errors;
mod replication;
mod traffic;
mod worker;

pub use census::{
    Activity, ClientRecord, ClientState, Entry, Identity, Peer, Roll, ServerRecord, ServerState, State,
    shrink,
};
pub use clock::{micros, unix_micros, unix_micros_at};
pub use errors::Errors;
pub use replication::Replication;
pub use traffic::{Counters, Gauge, GaugeGuard, Traffic, TrafficSnapshot};
pub use worker::{become_worker, expect_workers, worker, workers};
