//! What many clients have in common is kept once: who they are, what they asked for, the limits on them.

use super::limits::{ClientLimits, LimitsByUser};
use crate::config::Config;
use crate::server::Settings;
use crate::stats::Identity;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// A table is looked through for what nobody uses any longer when it has twice as many values as were in use the last
/// time, and not before it has so many.
const FEW: usize = 64;

/// Values that clients share.
#[derive(Debug, Default)]
pub struct Shared {
    identities: Table<Arc<Identity>>,
    settings: Table<Settings>,
    limits: LimitsByUser,
}

impl Shared {
    pub(super) fn identity(&self, user: String, database: String, application_name: String) -> Arc<Identity> {
        self.identities.share(Arc::new(Identity { user, database, application_name }))
    }

    pub(super) fn settings(&self, settings: Settings) -> Settings {
        self.settings.share(settings)
    }

    pub(super) fn limits(&self, user: &str, config: impl Fn() -> Arc<Config>) -> Arc<ClientLimits> {
        self.limits.of(user, config)
    }

    /// Has the limits on clients follow a new configuration, which is in force already. Whether a time has changed, so
    /// that those who wait have to look at the clock anew.
    pub fn follow(&self, config: &Config) -> bool {
        self.limits.update(config)
    }

    /// Forgets what nobody uses any longer, if it is so much that looking for it pays. There are so many clients.
    pub fn sweep(&self, clients: usize) {
        self.identities.sweep(clients);
        self.settings.sweep(clients);
        self.limits.sweep(clients);
    }
}

/// A value that knows how many hold it, this one included.
trait Held: Eq + Hash + Clone {
    fn holders(&self) -> usize;
}

impl<T: Eq + Hash> Held for Arc<T> {
    fn holders(&self) -> usize {
        Self::strong_count(self)
    }
}

impl Held for Settings {
    fn holders(&self) -> usize {
        Self::holders(self)
    }
}

/// Equal values of one kind, for as long as somebody uses them and a while longer.
#[derive(Debug)]
struct Table<T>(Mutex<Values<T>>);

#[derive(Debug)]
struct Values<T> {
    known: HashSet<T>,
    /// As many as there may be before they are looked through.
    room: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Mutex::new(Values { known: HashSet::new(), room: FEW }))
    }
}

impl<T: Held> Table<T> {
    /// The value that is equal to this one, if there is one; else this one, from now on.
    fn share(&self, value: T) -> T {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = values.known.get(&value) {
            return known.clone();
        }
        if values.known.len() >= values.room {
            values.sweep();
        }
        values.known.insert(value.clone());
        value
    }

    fn sweep(&self, users: usize) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.known.len() > 2 * users + FEW {
            values.sweep();
        }
    }
}

impl<T: Held> Values<T> {
    fn sweep(&mut self) {
        self.known.retain(|value| value.holders() > 1);
        self.known.shrink_to(FEW);
        self.room = (2 * self.known.len()).max(FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one() {
        let shared = Shared::default();
        let identity = |name: &str| shared.identity("u".to_owned(), "d".to_owned(), name.to_owned());
        let (one, same, other) = (identity("a"), identity("a"), identity("b"));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        let settings = || [("TimeZone".to_owned(), "UTC".to_owned())].into_iter().collect::<Settings>();
        let (one, two) = (shared.settings(settings()), shared.settings(settings()));
        assert_eq!((one == two, one.holders()), (true, 3));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let table = Table::default();
        let held = table.share(Arc::new(usize::MAX));
        for number in 0..10 * FEW {
            table.share(Arc::new(number));
        }
        let known = || table.0.lock().unwrap().known.len();
        assert!(known() <= FEW);
        let crowd: Vec<_> = (0..10 * FEW).map(|number| table.share(Arc::new(number))).collect();
        table.sweep(crowd.len());
        assert!(known() > crowd.len());
        drop(crowd);
        table.sweep(1);
        assert_eq!(known(), 1);
        assert!(Arc::ptr_eq(&held, &table.share(Arc::new(usize::MAX))));
    }
}
