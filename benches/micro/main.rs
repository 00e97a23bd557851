//! What the pooler does for a transaction, piece by piece and without a socket.
//!
//! `cargo bench` measures time; on a busy machine `benches/instructions micro` counts instructions instead. For that the
//! program has two more words: `list` names the cases, and `pass CASE TIMES` runs one of them so often.
#![allow(clippy::unwrap_used, reason = "a bench may")]

mod login;
mod messages;
mod servers;
mod statements;

use criterion::Criterion;
use std::hint::black_box;

/// A piece of work that can be repeated.
struct Case {
    name: &'static str,
    /// Passes that are enough to count instructions by.
    few: u32,
    /// Makes what the work needs, and gives the work.
    prepare: fn() -> Box<dyn FnMut() -> usize>,
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [messages::CASES, servers::CASES, statements::CASES, login::CASES].into_iter().flatten()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => cases().for_each(|case| println!("{} {}", case.name, case.few)),
        ["pass", name, times] => pass(name, times.parse().unwrap()),
        _ => measure(),
    }
}

fn pass(name: &str, times: u32) {
    let case = cases().find(|case| case.name == name).unwrap();
    let mut work = (case.prepare)();
    for _ in 0..times {
        black_box(work());
    }
}

fn measure() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases() {
        criterion.bench_function(case.name, |bencher| bencher.iter((case.prepare)()));
    }
    criterion.final_summary();
}
