//! Names under which a server has statements as their client spells them.

use bytes::Bytes;
use std::collections::HashSet;

/// Those of one client. They are its own, beside what all share, and go before another client comes.
#[derive(Debug, Default)]
pub struct Spelled {
    client: u64,
    names: HashSet<Bytes>,
}

impl Spelled {
    /// Another client has the server now, or the same one again. The names that are to be closed.
    #[must_use]
    pub fn hand_over(&mut self, client: u64) -> HashSet<Bytes> {
        if std::mem::replace(&mut self.client, client) == client {
            return HashSet::new();
        }
        std::mem::take(&mut self.names)
    }

    /// A statement is made under this name. Tells whether there was none.
    pub fn insert(&mut self, name: Bytes) -> bool {
        self.names.insert(name)
    }

    /// The one of this name is gone, or never came.
    pub fn remove(&mut self, name: &Bytes) {
        self.names.remove(name);
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
        assert!(spelled.hand_over(1).is_empty());
        assert!(spelled.insert(Bytes::from_static(b"a")));
        assert!(!spelled.insert(Bytes::from_static(b"a")));
        assert!(spelled.hand_over(1).is_empty());
        assert_eq!(spelled.hand_over(2).into_iter().collect::<Vec<_>>(), [&b"a"[..]]);
        assert!(spelled.insert(Bytes::from_static(b"a")));
    }
}
