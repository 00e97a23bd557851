//! Counters and gauges.

use super::worker::{worker, workers};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! traffic {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one thread has counted, in cache lines of its own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// The counters of a [`Traffic`] at one moment, or sums and differences of such.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct TrafficSnapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Traffic {
            /// Reads all counters.
            #[must_use]
            pub fn snapshot(&self) -> TrafficSnapshot {
                let mut sum = TrafficSnapshot::default();
                for counters in &self.0 {
                    $(sum.$name = sum.$name.wrapping_add(counters.$name.load(Ordering::Relaxed));)*
                }
                sum
            }
        }

        impl TrafficSnapshot {
            /// Adds another pool's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }

            /// What was counted since an earlier moment.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

traffic! {
    /// Times a client got a server.
    assignments,
    /// Transactions that ended.
    transactions,
    /// Requests that ended in a ReadyForQuery.
    queries,
    /// Bytes read from clients.
    received,
    /// Bytes written to clients.
    sent,
    /// Microseconds that servers spent in transactions.
    transaction_micros,
    /// Microseconds that servers spent in queries.
    query_micros,
    /// Microseconds that clients waited for a server.
    wait_micros,
    /// Named Parse messages from clients.
    client_parses,
    /// Named Parse messages to servers.
    server_parses,
    /// Bind messages of named statements.
    binds,
    /// Uses of a named statement (Bind, Describe) that found it on the server.
    prepared_hits,
    /// Uses of a named statement that had to be preceded by its Parse.
    prepared_misses,
    /// Named Parse messages of clients that were answered without a parse of the server.
    parses_saved,
    /// Named statements that were closed on a server to make room for others.
    prepared_evictions,
    /// Named statements that were made afresh because what the server had no longer held, or might not.
    prepared_heals,
    /// Batches that were sent again unseen.
    batch_reruns,
    /// Messages about named statements that were refused for a limit of the pooler's own.
    prepared_refusals,
    /// Clients that logged in.
    logins,
    /// Clients that were cut, refused or failed by an error of the pooler's own.
    errors,
    /// Server connections opened.
    connects,
    /// Server connections that could not be opened.
    connect_failures,
    /// CancelRequests forwarded.
    cancels,
}

/// What went through one pool since the process began. Counters only grow.
#[derive(Debug)]
pub struct Traffic(Box<[Counters]>);

impl Default for Traffic {
    fn default() -> Self {
        Self(std::iter::repeat_with(Counters::default).take(1 + workers()).collect())
    }
}

impl Traffic {
    /// Counts one.
    pub fn count(&self, counter: impl FnOnce(&Counters) -> &AtomicU64) {
        self.add(counter, 1);
    }

    /// Counts so many.
    pub fn add(&self, counter: impl FnOnce(&Counters) -> &AtomicU64, amount: u64) {
        match self.0.get(worker()) {
            // Nobody else writes to it.
            Some(own) if worker() > 0 => {
                let counter = counter(own);
                counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
            }
            _ => {
                if let Some(shared) = self.0.first() {
                    counter(shared).fetch_add(amount, Ordering::Relaxed);
                }
            }
        }
    }
}

/// How many there are now.
#[derive(Debug, Default, Clone)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// One more, until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(&self.0))
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One that is counted by a [`Gauge`].
#[derive(Debug)]
pub struct GaugeGuard(Arc<AtomicU64>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_the_guards_that_live() {
        let gauge = Gauge::default();
        let one = gauge.enter();
        let two = gauge.enter();
        assert_eq!(gauge.get(), 2);
        drop((one, two));
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn snapshots_add_and_subtract() {
        let traffic = Traffic::default();
        traffic.count(|t| &t.queries);
        let early = traffic.snapshot();
        traffic.add(|t| &t.queries, 4);
        let mut sum = traffic.snapshot().since(&early);
        assert_eq!(sum.queries, 4);
        sum.add(&early);
        assert_eq!(sum, traffic.snapshot());
    }
}
