//! Errors of the pooler's own, by their text.

use std::sync::atomic::{AtomicU64, Ordering};

/// The texts that are told apart, by how they begin. What follows may name a user or a database, which whoever connects
/// chooses freely, so it is not kept: there are never more of these than here.
const KNOWN: [&str; 31] = [
    "no more connections allowed (max_client_conn)",
    "client connections exceeded (max_db_client_connections)",
    "client connections exceeded (max_user_client_connections)",
    "query_wait_timeout",
    "query timeout",
    "client_login_timeout",
    "client_idle_timeout",
    "idle transaction timeout",
    "transaction timeout",
    "cancel_wait_timeout",
    "server conn crashed?",
    "server login has been failing",
    "server login failed",
    "login failed",
    "server shutting down",
    "pooler is shutting down",
    "database removed",
    "admin forced disconnect",
    "terminating connection due to administrator command",
    "no such database",
    "database does not allow connections",
    "password authentication failed",
    "SASL authentication failed",
    "no such user",
    "not allowed",
    "unsupported startup parameter",
    "unrecognized configuration parameter",
    "transaction blocks not allowed in statement pooling mode",
    "PQexec disallowed",
    "prepared statement did not exist",
    "bad packet header",
];

/// The label of all others.
const OTHER: &str = "other";

/// How often each text ended a client's connection or its login. Counters only grow.
#[derive(Debug)]
pub struct Errors(Box<[AtomicU64]>);

impl Default for Errors {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(KNOWN.len() + 1).collect())
    }
}

impl Errors {
    /// Counts an error with this text.
    pub fn count(&self, text: &str) {
        let known = KNOWN.iter().position(|known| text.starts_with(known)).unwrap_or(KNOWN.len());
        if let Some(counter) = self.0.get(known) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each text and how often it was said, also those that were never said.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let texts = KNOWN.into_iter().chain([OTHER]);
        texts.zip(self.0.iter()).map(|(text, counter)| (text, counter.load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: &[&str]) -> Vec<(&'static str, u64)> {
        let errors = Errors::default();
        texts.iter().for_each(|text| errors.count(text));
        errors.snapshot().into_iter().filter(|&(_, count)| count > 0).collect()
    }

    #[test]
    fn what_a_client_can_choose_is_no_text_of_its_own() {
        let texts = ["no such database: a", "no such database: b", "anything", "", "query_wait_timeout"];
        assert_eq!(said(&texts), [("query_wait_timeout", 1), ("no such database", 2), (OTHER, 2)]);
    }

    #[test]
    fn no_text_hides_a_later_one() {
        for text in KNOWN {
            assert_eq!(said(&[text]), [(text, 1)]);
        }
    }
}
