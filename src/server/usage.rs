//! How statements are used: counted where it happens, read by the console.

use super::interner::Statement;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one statement.
#[derive(Debug, Default)]
pub struct Usage {
    names: AtomicU64,
    servers: AtomicU64,
    parses: AtomicU64,
    binds: AtomicU64,
    heals: AtomicU64,
}

/// A [`Usage`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageSnapshot {
    /// Clients' names that stand for it.
    pub names: u64,
    /// Servers that hold it, or will when they have answered.
    pub servers: u64,
    /// Times a server was asked to parse it.
    pub parses: u64,
    /// Times it was bound.
    pub binds: u64,
    /// Times it was made afresh because what a server had of it no longer held, or might not.
    pub heals: u64,
}

impl Usage {
    /// Reads all counters.
    #[must_use]
    pub fn snapshot(&self) -> UsageSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UsageSnapshot {
            names: read(&self.names),
            servers: read(&self.servers),
            parses: read(&self.parses),
            binds: read(&self.binds),
            heals: read(&self.heals),
        }
    }

    /// A server is asked to parse it.
    pub fn parsed(&self) {
        self.parses.fetch_add(1, Ordering::Relaxed);
    }

    /// A client binds it.
    pub fn bound(&self) {
        self.binds.fetch_add(1, Ordering::Relaxed);
    }

    /// What a server has of it no longer holds, or might not, so it is made afresh.
    pub fn healed(&self) {
        self.heals.fetch_add(1, Ordering::Relaxed);
    }
}

/// A statement in a place where it is counted for as long as this lives.
#[derive(Debug)]
pub(super) struct Counted {
    statement: Arc<Statement>,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Name,
    Server,
}

impl Counted {
    /// What a client's name stands for.
    pub(super) fn by_name(statement: Arc<Statement>) -> Self {
        Self::at(Place::Name, statement)
    }

    /// What a server holds.
    pub(super) fn on_server(statement: Arc<Statement>) -> Self {
        Self::at(Place::Server, statement)
    }

    fn at(place: Place, statement: Arc<Statement>) -> Self {
        let counted = Self { statement, place };
        counted.counter().fetch_add(1, Ordering::Relaxed);
        counted
    }

    fn counter(&self) -> &AtomicU64 {
        match self.place {
            Place::Name => &self.statement.usage.names,
            Place::Server => &self.statement.usage.servers,
        }
    }
}

impl std::ops::Deref for Counted {
    type Target = Arc<Statement>;
    fn deref(&self) -> &Arc<Statement> {
        &self.statement
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter().fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::interner::Interner;
    use super::*;

    #[test]
    fn a_place_counts_for_as_long_as_it_is_taken() {
        let statement = Interner::default().intern(b"select 1\0\0\0");
        let (name, server) =
            (Counted::by_name(Arc::clone(&statement)), Counted::on_server(Arc::clone(&statement)));
        let other = Counted::by_name(Arc::clone(&name));
        assert_eq!(statement.usage.snapshot(), UsageSnapshot { names: 2, servers: 1, ..Default::default() });
        drop((name, server));
        assert_eq!(statement.usage.snapshot().names, 1);
        drop(other);
        assert_eq!(statement.usage.snapshot(), UsageSnapshot::default());
    }
}
