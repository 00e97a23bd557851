//! What makes a user who does not exist look like one who does.

use super::scram::{Iterations, Key, ScramVerifier, hmac};

/// Bytes of a salt, as PostgreSQL makes them.
const SALT_BYTES: usize = 16;

/// Makes the whole exchange with a user who is not there: the same messages, a salt that stays the same from one attempt
/// to the next, and a denial at the end. PostgreSQL's counterpart is the mock authentication nonce of a cluster.
///
/// Users with a plain secret get their SCRAM salt from here too, so they and the ghosts behave alike also when the seed
/// changes.
#[derive(Debug, Clone)]
pub struct Mock {
    key: Key,
    iterations: Iterations,
    disguise: Disguise,
}

/// What a user who does not exist is asked for where md5 is configured: there the method depends on the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disguise {
    /// The answer to an md5 salt, as users with plain and md5 secrets are.
    Md5,
    /// SCRAM, as users with SCRAM secrets are.
    Scram,
}

impl Mock {
    /// Ghosts with this iteration count and disguise, which should be those of most users.
    ///
    /// The seed is a secret. It should be the same after a restart and on every replica, or ghosts are told by a salt
    /// that changes; the bytes of the user list serve well.
    #[must_use]
    pub fn new(seed: &[u8], iterations: Iterations, disguise: Disguise) -> Self {
        Self { key: hmac(seed, &[b"pgweir mock authentication"]), iterations, disguise }
    }

    /// The same ghosts, looking like others.
    #[must_use]
    pub fn disguised(mut self, disguise: Disguise, iterations: Option<Iterations>) -> Self {
        self.disguise = disguise;
        self.iterations = iterations.unwrap_or(self.iterations);
        self
    }

    pub(super) fn disguise(&self) -> Disguise {
        self.disguise
    }

    /// The salt shown to a user who has none stored.
    pub(super) fn salt(&self, user: &str) -> [u8; SALT_BYTES] {
        let mut salt = [0; SALT_BYTES];
        let long = hmac(self.key.as_bytes(), &[b"salt of ", user.as_bytes()]);
        salt.copy_from_slice(&long.as_bytes()[..SALT_BYTES]);
        salt
    }

    /// A verifier that no password fits.
    pub(super) fn verifier(&self, user: &str) -> ScramVerifier {
        let key = hmac(self.key.as_bytes(), &[b"key of ", user.as_bytes()]);
        ScramVerifier::impossible(key, &self.salt(user), self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mock(seed: &[u8]) -> Mock {
        Mock::new(seed, Iterations::DEFAULT, Disguise::Scram)
    }

    #[test]
    fn salts_are_stable_per_user_and_seed() {
        assert_eq!(mock(b"seed").salt("ghost"), mock(b"seed").salt("ghost"));
        assert_ne!(mock(b"seed").salt("ghost"), mock(b"seed").salt("Ghost"));
        assert_ne!(mock(b"seed").salt("ghost"), mock(b"Seed").salt("ghost"));
    }

    #[test]
    fn verifiers_look_like_stored_ones() {
        let verifier = mock(b"seed").verifier("ghost");
        assert_eq!(verifier.iterations(), Iterations::DEFAULT);
        assert_eq!(verifier.salt(), mock(b"seed").salt("ghost"));
    }
}
