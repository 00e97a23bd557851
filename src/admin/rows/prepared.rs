//! `SHOW PREPARED_STATEMENTS`.

use super::{Row, row};
use crate::server::{Interner, Statement};
use std::cmp::Reverse;

/// How much of a text is shown, in characters.
const SHOWN: usize = 200;

/// All statements of clients, the most used first.
pub(in crate::admin) fn prepared_statements(interner: &Interner) -> Vec<Row> {
    let mut all: Vec<_> =
        interner.list().into_iter().map(|statement| (statement.usage.snapshot(), statement)).collect();
    all.sort_by_key(|(usage, _)| Reverse(usage.binds));
    let rows = all.iter().map(|(usage, statement)| {
        row![
            statement.name().to_owned(),
            query(statement),
            parameter_types(statement),
            statement.bytes(),
            usage.names,
            usage.servers,
            usage.parses,
            usage.binds,
            usage.heals,
        ]
    });
    rows.collect()
}

/// Its beginning. Which encoding a client speaks is not known here.
fn query(statement: &Statement) -> String {
    String::from_utf8_lossy(statement.sql()).chars().take(SHOWN).collect()
}

/// As an array of PostgreSQL's; only those that the client named are known.
fn parameter_types(statement: &Statement) -> String {
    let types: Vec<_> = statement.parameter_types().map(|oid| oid.to_string()).collect();
    format!("{{{}}}", types.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;
    use crate::admin::table::Cell;

    fn shown(row: &[Cell]) -> Vec<&str> {
        row.iter().map(|cell| cell.as_text().unwrap()).collect()
    }

    #[test]
    fn the_most_used_comes_first_and_a_text_is_cut_between_characters() {
        let interner = Interner::default();
        let one = interner.intern(b"select\n1\0\0\0");
        let tail = [&"é".repeat(300).into_bytes()[..], &[0, 0, 2, 0, 0, 0, 23, 0, 0, 0, 25]].concat();
        let two = interner.intern(&tail);
        two.usage.bound();
        let rows = prepared_statements(&interner);
        assert_eq!(rows[0].len(), columns::PREPARED_STATEMENTS.len());
        let (first, second) = (shown(&rows[0]), shown(&rows[1]));
        assert_eq!((first[0], first[1]), (two.name(), "é".repeat(200).as_str()));
        assert_eq!((first[2], first[3]), ("{23,25}", two.bytes().to_string().as_str()));
        assert_eq!(first[4..], ["0", "0", "0", "1", "0"]);
        assert_eq!((second[0], second[1], second[2]), (one.name(), "select\n1", "{}"));
    }

    #[test]
    fn a_text_that_no_server_would_take_is_shown_as_far_as_it_goes() {
        let interner = Interner::default();
        let _kept = [&b"\xff"[..], b"a\0", b"a\0\x7f\xff\0"].map(|tail| interner.intern(tail));
        let rows = prepared_statements(&interner);
        assert_eq!(rows.iter().map(|row| shown(row)[1]).collect::<Vec<_>>(), ["\u{fffd}", "a", "a"]);
        assert!(rows.iter().all(|row| shown(row)[2] == "{}"));
    }
}
