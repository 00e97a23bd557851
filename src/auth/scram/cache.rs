//! Keys that were derived before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use super::{Iterations, ScramKeys};
use crate::auth::password::Password;

/// Remembers derived keys so that the second login with a password costs no PBKDF2.
///
/// A server's salt is the same for every login of a role, and so is the one that pgweir shows for a plain secret: after
/// the first login of a user all others hit. Keys are found by a digest of password, salt and count, of which they are
/// a pure function: nothing in here can be stale, a changed password just is not found.
///
/// The oldest entry makes room for a new one. Both are a few hundred bytes.
#[derive(Debug)]
pub struct KeyCache {
    capacity: usize,
    entries: Mutex<Entries>,
}

/// An entry is a cell, so that of many logins which miss at once one derives and the others wait for it.
type Cell = Arc<OnceLock<ScramKeys>>;

#[derive(Debug, Default)]
struct Entries {
    cells: HashMap<[u8; 32], Cell>,
    order: VecDeque<[u8; 32]>,
}

impl KeyCache {
    /// A cache of at most this many entries; with 0 it remembers one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: Mutex::default() }
    }

    /// The keys, derived when they are not known. **Expensive** when they are not, see [`ScramKeys::derive`]; also
    /// blocks while another thread derives the same.
    #[must_use]
    pub fn keys(&self, password: &Password, salt: &[u8], iterations: Iterations) -> ScramKeys {
        let cell = self.cell(index(password, salt, iterations));
        // The lock is free again: deriving must not stop the logins of others.
        cell.get_or_init(|| ScramKeys::derive(password, salt, iterations)).clone()
    }

    /// The keys when they are known; cheap.
    pub(in crate::auth) fn known(
        &self,
        password: &Password,
        salt: &[u8],
        iterations: Iterations,
    ) -> Option<ScramKeys> {
        let cell = self.lock().cells.get(&index(password, salt, iterations)).cloned()?;
        cell.get().cloned()
    }

    /// Remembers keys that turned out to be right. Guesses of a client must not come in here: they would push out the
    /// keys of others.
    pub(in crate::auth) fn remember(
        &self,
        password: &Password,
        salt: &[u8],
        iterations: Iterations,
        keys: ScramKeys,
    ) {
        // Whoever was first has stored the same keys.
        let _ = self.cell(index(password, salt, iterations)).set(keys);
    }

    fn cell(&self, index: [u8; 32]) -> Cell {
        let mut entries = self.lock();
        if let Some(cell) = entries.cells.get(&index) {
            return Arc::clone(cell);
        }
        entries.make_room(self.capacity);
        entries.order.push_back(index);
        Arc::clone(entries.cells.entry(index).or_default())
    }

    /// A panic elsewhere leaves the maps whole: each change is one call.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn make_room(&mut self, capacity: usize) {
        while self.order.len() >= capacity {
            let Some(oldest) = self.order.pop_front() else { return };
            self.cells.remove(&oldest);
        }
    }
}

/// Two fields go in hashed and the third has a fixed length, so that no two triples make the same bytes.
fn index(password: &Password, salt: &[u8], iterations: Iterations) -> [u8; 32] {
    Sha256::new()
        .chain_update(Sha256::digest(password.as_bytes()))
        .chain_update(Sha256::digest(salt))
        .chain_update(iterations.count().to_be_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Iterations {
        Iterations::new(1).unwrap()
    }

    #[test]
    fn remembers_what_was_derived() {
        let (cache, password) = (KeyCache::new(8), Password::new("pencil").unwrap());
        assert!(cache.known(&password, b"salt", one()).is_none());
        let derived = cache.keys(&password, b"salt", one());
        let known = cache.known(&password, b"salt", one()).unwrap();
        assert!(known.client_key.is(&derived.client_key) && known.server_key.is(&derived.server_key));
        assert!(cache.known(&password, b"tlas", one()).is_none());
        assert!(cache.known(&password, b"salt", Iterations::new(2).unwrap()).is_none());
        assert!(cache.known(&Password::new("Pencil").unwrap(), b"salt", one()).is_none());
    }

    #[test]
    fn the_oldest_makes_room() {
        let (cache, password) = (KeyCache::new(2), Password::new("pencil").unwrap());
        for salt in [b"1", b"2", b"2", b"3"] {
            let _ = cache.keys(&password, salt, one());
        }
        assert!(cache.known(&password, b"1", one()).is_none());
        assert!(cache.known(&password, b"2", one()).is_some());
        assert!(cache.known(&password, b"3", one()).is_some());
        let entries = cache.lock();
        assert_eq!((entries.cells.len(), entries.order.len()), (2, 2));
    }

    #[test]
    fn equal_logins_at_once_derive_once() {
        let (cache, password) = (KeyCache::new(8), Password::new("pencil").unwrap());
        let count = Iterations::new(20_000).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| cache.keys(&password, b"salt", count));
            }
        });
        assert_eq!(cache.lock().order.len(), 1);
    }
}
