//! Names of applications as labels. Clients choose them freely, and a Prometheus keeps each label that it has ever seen:
//! whoever may connect must not be able to fill its memory.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many names are told apart for as long as the process lives: the first ones that are seen.
const NAMES: usize = 100;
/// PostgreSQL cuts a name after so many bytes.
const LENGTH: usize = 63;
/// What stands for all others.
pub(super) const OTHERS: &str = "(others)";

/// The names that have a label of their own.
#[derive(Debug, Default)]
pub(super) struct Applications(Mutex<BTreeSet<String>>);

impl Applications {
    /// The label of an application.
    pub(super) fn label<'a>(&self, name: &'a str) -> &'a str {
        // A set is whole after every step, so a panic elsewhere cannot have spoilt it.
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() || names.contains(name) {
            return name;
        }
        if names.len() >= NAMES || name.len() > LENGTH {
            return OTHERS;
        }
        names.insert(name.to_owned());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_told_apart_for_ever() {
        let applications = Applications::default();
        for number in 0..NAMES {
            let name = format!("app {number}");
            assert_eq!(applications.label(&name), name);
        }
        assert_eq!(applications.label("one more"), OTHERS);
        assert_eq!(applications.label("app 7"), "app 7");
        assert_eq!(applications.label(""), "");
    }

    #[test]
    fn a_long_name_is_none() {
        let applications = Applications::default();
        assert_eq!(applications.label(&"x".repeat(LENGTH)), "x".repeat(LENGTH));
        assert_eq!(applications.label(&"x".repeat(LENGTH + 1)), OTHERS);
    }
}
