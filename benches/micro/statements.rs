//! Finding the statement that a client means, under the name that all clients share.

use super::Case;
use pgweir::server::{Interner, Statement, speaks_of_statements, steering};
use std::hint::black_box;
use std::sync::Arc;

pub(crate) const CASES: &[Case] = &[
    Case { name: "statement/find-among-1000", few: 10_000, prepare: find },
    Case { name: "statement/seen-before", few: 10_000, prepare: seen },
    Case {
        name: "query/steering",
        few: 10_000,
        prepare: || look(|sql| usize::from(steering(sql).is_some())),
    },
    Case {
        name: "query/speaks-of-statements",
        few: 10_000,
        prepare: || look(|sql| usize::from(speaks_of_statements(sql))),
    },
];

/// What follows the name in a Parse.
fn tail(number: usize) -> Vec<u8> {
    format!("SELECT abalance FROM pgbench_accounts WHERE aid = $1 AND {number} = {number};\0\0\0")
        .into_bytes()
}

fn thousand(interner: &Interner) -> Vec<Arc<Statement>> {
    (0..1000).map(|number| interner.intern(&tail(number))).collect()
}

fn find() -> Box<dyn FnMut() -> usize> {
    let interner = Interner::default();
    let statements = thousand(&interner);
    let wanted = tail(statements.len() / 2);
    Box::new(move || interner.find(0, black_box(&wanted)).map_or(0, |found| found.bytes()))
}

fn seen() -> Box<dyn FnMut() -> usize> {
    let (interner, text) = (Interner::default(), tail(1));
    Box::new(move || usize::from(interner.has_seen(0, black_box(&text))))
}

/// What is asked of the text of every simple query.
fn look(at: fn(&[u8]) -> usize) -> Box<dyn FnMut() -> usize> {
    Box::new(move || at(black_box(b"SELECT abalance FROM pgbench_accounts WHERE aid = 54321;")))
}
