//! The threads that relay. Each counts in a place of its own, so that to count takes no bus lock and two threads never
//! write to the same cache line.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static WORKERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// So many threads will call [`become_worker`]. What counts is made behind that.
pub fn expect_workers(count: usize) {
    WORKERS.store(count, Ordering::Relaxed);
}

/// As many as are expected.
#[must_use]
pub fn workers() -> usize {
    WORKERS.load(Ordering::Relaxed)
}

/// This thread is that worker from now on, counted from one. No two threads may be the same.
pub fn become_worker(number: usize) {
    NUMBER.set(number);
}

/// The number of this thread: zero is all that are no workers.
#[must_use]
pub fn worker() -> usize {
    NUMBER.get()
}
