//! Totals and averages for each database.

use crate::stats::{TrafficSnapshot, micros};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Counters by the name of the database.
pub(super) type Totals = BTreeMap<String, TrafficSnapshot>;

/// The numbers of one row of statistics, in the order of the columns.
pub(super) type Figures = [u64; 12];

/// Two samples of all counters, which lie `stats_period` apart, and what removed pools have left.
///
/// As in PgBouncer, an average that is asked for in between reaches from the older sample to now, so it covers one to
/// two periods; the log line, which is written at a tick, covers exactly one.
#[derive(Debug)]
pub(super) struct Averages(Mutex<Samples>);

#[derive(Debug)]
struct Samples {
    older: Sample,
    newer: Sample,
    retired: Totals,
}

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    totals: Totals,
}

/// One database, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Since the process began.
    pub(super) totals: Figures,
    /// Over the last period: counts and bytes per second; times in microseconds, per transaction, query and
    /// assignment.
    pub(super) averages: Figures,
}

impl Averages {
    pub(super) fn new() -> Self {
        let start = Sample { at: Instant::now(), totals: Totals::new() };
        Self(Mutex::new(Samples { older: start.clone(), newer: start, retired: Totals::new() }))
    }

    /// Keeps the totals of a pool that is gone: counters never go down.
    pub(super) fn retire(&self, database: &str, traffic: &TrafficSnapshot) {
        self.samples().retired.entry(database.to_owned()).or_default().add(traffic);
    }

    /// Forgets what pools of a database have left.
    pub(super) fn forget(&self, database: &str) {
        self.samples().retired.remove(database);
    }

    /// The counters of now, with those of removed pools.
    pub(super) fn with_retired(&self, live: Totals) -> Totals {
        self.samples().with_retired(live)
    }

    /// Begins a new period.
    pub(super) fn tick(&self, live: Totals) {
        let mut samples = self.samples();
        let totals = samples.with_retired(live);
        let now = Sample { at: Instant::now(), totals };
        samples.older = std::mem::replace(&mut samples.newer, now);
    }

    /// The statistics of each database, in the order of their names, and of all together. `live` are the counters of
    /// now.
    pub(super) fn statistics(&self, live: Totals) -> (Vec<(String, Statistics)>, Statistics) {
        let samples = self.samples();
        let totals = samples.with_retired(live);
        let elapsed = samples.older.at.elapsed();
        let all = Statistics::of(&sum(&totals), &sum(&samples.older.totals), elapsed);
        let each = totals.into_iter().map(|(database, now)| {
            let earlier = samples.older.totals.get(&database).copied().unwrap_or_default();
            let statistics = Statistics::of(&now, &earlier, elapsed);
            (database, statistics)
        });
        (each.collect(), all)
    }

    /// PgBouncer's line for the log, over the period that the last tick has ended.
    pub(super) fn line(&self) -> String {
        let samples = self.samples();
        let elapsed = samples.newer.at - samples.older.at;
        let delta = sum(&samples.newer.totals).since(&sum(&samples.older.totals));
        let [
            _assignments,
            transactions,
            queries,
            received,
            sent,
            transaction,
            query,
            wait,
            client_parses,
            server_parses,
            binds,
            _logins,
        ] = averages(&delta, elapsed);
        format!(
            "stats: {transactions} xacts/s, {queries} queries/s, {client_parses} client parses/s, \
             {server_parses} server parses/s, {binds} binds/s, in {received} B/s, out {sent} B/s, \
             xact {transaction} us, query {query} us, wait {wait} us"
        )
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        // The samples are whole after every step, so a panic elsewhere cannot have spoilt them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Samples {
    fn with_retired(&self, mut live: Totals) -> Totals {
        for (database, traffic) in &self.retired {
            live.entry(database.clone()).or_default().add(traffic);
        }
        live
    }
}

impl Statistics {
    fn of(now: &TrafficSnapshot, earlier: &TrafficSnapshot, elapsed: Duration) -> Self {
        Self { totals: totals(now), averages: averages(&now.since(earlier), elapsed) }
    }
}

fn sum(totals: &Totals) -> TrafficSnapshot {
    let mut sum = TrafficSnapshot::default();
    totals.values().for_each(|traffic| sum.add(traffic));
    sum
}

fn totals(t: &TrafficSnapshot) -> Figures {
    [
        t.assignments,
        t.transactions,
        t.queries,
        t.received,
        t.sent,
        t.transaction_micros,
        t.query_micros,
        t.wait_micros,
        t.client_parses,
        t.server_parses,
        t.binds,
        t.logins,
    ]
}

/// `delta` is what was counted within `elapsed`.
fn averages(delta: &TrafficSnapshot, elapsed: Duration) -> Figures {
    let each_second = |count| per_second(count, elapsed);
    [
        each_second(delta.assignments),
        each_second(delta.transactions),
        each_second(delta.queries),
        each_second(delta.received),
        each_second(delta.sent),
        per_item(delta.transaction_micros, delta.transactions),
        per_item(delta.query_micros, delta.queries),
        per_item(delta.wait_micros, delta.assignments),
        each_second(delta.client_parses),
        each_second(delta.server_parses),
        each_second(delta.binds),
        each_second(delta.logins),
    ]
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let scaled = u128::from(count) * 1_000_000;
    let rate = scaled.checked_div(u128::from(micros(elapsed))).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn per_item(time: u64, items: u64) -> u64 {
    time.checked_div(items).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn traffic(transactions: u64) -> TrafficSnapshot {
        TrafficSnapshot {
            assignments: transactions,
            transactions,
            queries: 2 * transactions,
            received: 100 * transactions,
            transaction_micros: 3000 * transactions,
            query_micros: 500 * transactions,
            wait_micros: 7 * transactions,
            ..TrafficSnapshot::default()
        }
    }

    fn live(transactions: u64) -> Totals {
        Totals::from([("a".to_owned(), traffic(transactions))])
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        assert_eq!(averages(&traffic(5), Duration::ZERO)[1], 0);
        assert_eq!(averages(&TrafficSnapshot::default(), Duration::from_secs(1)), [0; 12]);
        assert_eq!(per_second(u64::MAX, Duration::from_micros(1)), u64::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn averages_reach_from_the_older_sample_to_now() {
        let averages = Averages::new();
        advance(Duration::from_secs(10)).await;
        let (each, all) = averages.statistics(live(100));
        assert_eq!(each, [("a".to_owned(), all)]);
        assert_eq!(all.totals[..5], [100, 100, 200, 10_000, 0]);
        assert_eq!(all.averages, [10, 10, 20, 1000, 0, 3000, 250, 7, 0, 0, 0, 0]);

        averages.tick(live(100));
        advance(Duration::from_secs(10)).await;
        averages.tick(live(400));
        advance(Duration::from_secs(10)).await;
        let (_, all) = averages.statistics(live(500));
        assert_eq!((all.totals[1], all.averages[1]), (500, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_covers_the_last_period() {
        let averages = Averages::new();
        advance(Duration::from_secs(60)).await;
        averages.tick(live(60));
        advance(Duration::from_secs(60)).await;
        averages.tick(live(180));
        assert_eq!(
            averages.line(),
            "stats: 2 xacts/s, 4 queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, in 200 B/s, out 0 B/s, \
             xact 3000 us, query 250 us, wait 7 us"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_totals_of_pools_that_are_gone_stay() {
        let averages = Averages::new();
        averages.tick(live(10));
        averages.retire("a", &traffic(10));
        averages.retire("b", &traffic(1));
        advance(Duration::from_secs(1)).await;
        let (each, all) = averages.statistics(Totals::new());
        assert_eq!(
            each.iter().map(|(name, s)| (name.as_str(), s.totals[1])).collect::<Vec<_>>(),
            [("a", 10), ("b", 1)]
        );
        assert_eq!(all.totals[1], 11);
        assert_eq!(averages.statistics(live(5)).1.totals[1], 16);
    }
}
