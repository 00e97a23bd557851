//! `SHOW STATS`, `SHOW STATS_TOTALS`, `SHOW STATS_AVERAGES`, `SHOW TOTALS`.

use super::Row;
use crate::admin::averages::{Statistics, Totals};
use crate::admin::columns::TOTALS_ROWS;
use crate::admin::table::Cell;
use crate::session::CONSOLE;
use crate::stats::TrafficSnapshot;

/// The counters of each database that has pools, and of the console. Each pool comes with the name of its database.
pub(in crate::admin) fn live(
    pools: impl IntoIterator<Item = (String, TrafficSnapshot)>,
    console: TrafficSnapshot,
) -> Totals {
    let mut totals = Totals::from([(CONSOLE.to_owned(), console)]);
    for (database, traffic) in pools {
        totals.entry(database).or_default().add(&traffic);
    }
    totals
}

pub(in crate::admin) fn stats(database: String, statistics: &Statistics) -> Row {
    numbers(database, statistics.totals.into_iter().chain(statistics.averages))
}

pub(in crate::admin) fn stats_totals(database: String, statistics: &Statistics) -> Row {
    numbers(database, statistics.totals)
}

pub(in crate::admin) fn stats_averages(database: String, statistics: &Statistics) -> Row {
    numbers(database, statistics.averages)
}

pub(in crate::admin) fn totals(all: &Statistics) -> Vec<Row> {
    let named = |prefix: &'static str, figures: [u64; 12]| {
        let rows = TOTALS_ROWS.into_iter().zip(figures);
        rows.map(move |(name, value)| numbers(format!("{prefix}_{name}"), [value]))
    };
    named("total", all.totals).chain(named("avg", all.averages)).collect()
}

fn numbers(name: String, numbers: impl IntoIterator<Item = u64>) -> Row {
    [Cell::from(name)].into_iter().chain(numbers.into_iter().map(Cell::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;

    #[test]
    fn each_row_has_its_columns() {
        let mut statistics = Statistics { totals: [1; 12], averages: [2; 12] };
        statistics.totals[11] = 3;
        assert_eq!(stats("a".to_owned(), &statistics).len(), columns::STATS.len());
        assert_eq!(stats_totals("a".to_owned(), &statistics).len(), columns::STATS_TOTALS.len());
        assert_eq!(stats_averages("a".to_owned(), &statistics).len(), columns::STATS_AVERAGES.len());
        let all = totals(&statistics);
        let text: Vec<_> =
            all.iter().map(|row| (row[0].as_text().unwrap(), row[1].as_text().unwrap())).collect();
        assert_eq!(
            (text.len(), text[0], text[11], text[12]),
            (
                24,
                ("total_server_assignment_count", "1"),
                ("total_client_login_count", "3"),
                ("avg_server_assignment_count", "2")
            )
        );
    }
}
