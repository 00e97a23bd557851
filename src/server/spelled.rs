//! Names under which a server has statements as their client spells them.

use super::names::significant;
use bytes::Bytes;
use std::collections::HashMap;

/// A statement under its client's spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling {
    /// The name.
    pub name: Bytes,
    /// The statement's number.
    pub id: u64,
}

/// Those of one client. They are its own, beside what all share, and go before another client comes.
#[derive(Debug, Default)]
pub struct Spelled {
    client: u64,
    /// With the numbers of the statements that they stand for here.
    names: HashMap<Bytes, u64>,
}

impl Spelled {
    /// This client has the server now. Tells whether there are names of another one's, which are to be closed.
    pub fn changes_hands(&mut self, client: u64) -> bool {
        std::mem::replace(&mut self.client, client) != client && !self.names.is_empty()
    }

    /// Takes all away.
    #[must_use]
    pub fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.names).into_keys().collect()
    }

    /// The number of the statement of a name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<u64> {
        self.names.get(significant(name)).copied()
    }

    /// A statement is made under this name.
    pub fn insert(&mut self, spelling: Spelling) {
        let count = significant(&spelling.name).len();
        self.names.insert(spelling.name.slice(..count), spelling.id);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The one of this name is gone, or never came.
    pub fn remove(&mut self, name: &[u8]) {
        self.names.remove(significant(name));
    }

    /// All are gone.
    pub fn clear(&mut self) {
        self.names.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_its_own_again_and_nobody_elses() {
        let mut spelled = Spelled::default();
        assert!(!spelled.changes_hands(1));
        spelled.insert(Spelling { name: Bytes::from_static(b"a"), id: 7 });
        assert!(!spelled.changes_hands(1));
        assert_eq!(spelled.get(b"a"), Some(7));
        assert!(spelled.changes_hands(2));
        assert_eq!(spelled.take(), [&b"a"[..]]);
        assert!(spelled.is_empty());
    }
}
