//! What is stored about a user's password.

use thiserror::Error;

use super::md5::Md5Secret;
use super::password::{Password, PasswordError};
use super::scram::{KeyCache, Malformed, ScramCredential, ScramKeys, ScramVerifier};

/// A secret as a user list or `pg_authid.rolpassword` holds it. The forms are those of PostgreSQL's
/// <https://www.postgresql.org/docs/current/catalog-pg-authid.html>, and the password itself.
#[derive(Debug, Clone)]
pub enum StoredSecret {
    /// An empty secret: the user is known, but no password is right.
    Absent,
    /// The password.
    Plain(Password),
    /// `md5` and 32 hex digits.
    Md5(Md5Secret),
    /// `SCRAM-SHA-256$...`.
    Scram(ScramVerifier),
}

/// Why a text is no secret. The text is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretError {
    /// A secret with a zero byte in it, which no client could send.
    #[error("the secret contains a zero byte")]
    ZeroByte,
    /// It begins like a verifier but is not one. Taking it for a password would make the broken verifier the password.
    #[error("the secret begins with SCRAM-SHA-256$ but is no SCRAM secret: {0}")]
    Scram(#[source] Malformed),
}

impl StoredSecret {
    /// Tells the form by the text, as PostgreSQL does; what has no other form is a password.
    ///
    /// # Errors
    ///
    /// On a broken SCRAM verifier, one with too many iterations included, and on zero bytes.
    pub fn parse(text: &[u8]) -> Result<Self, SecretError> {
        if ScramVerifier::is_meant_by(text) {
            return ScramVerifier::parse(text).map(Self::Scram).map_err(SecretError::Scram);
        }
        if let Some(secret) = Md5Secret::parse(text) {
            return Ok(Self::Md5(secret));
        }
        match Password::new(text) {
            Ok(password) => Ok(Self::Plain(password)),
            Err(PasswordError::Empty) => Ok(Self::Absent),
            Err(PasswordError::ZeroByte) => Err(SecretError::ZeroByte),
        }
    }

    /// Whether `password` is the right one for `user`. **Expensive** for a SCRAM verifier.
    pub(super) fn accepts(&self, user: &str, password: &Password, cache: &KeyCache) -> bool {
        match self {
            Self::Absent => false,
            Self::Plain(stored) => stored.is(password),
            Self::Md5(stored) => stored.is(&Md5Secret::derive(password, user)),
            Self::Scram(stored) => verifier_accepts(stored, password, cache),
        }
    }
}

impl StoredSecret {
    /// A login to a server that stores the same verifier, by a password that was accepted for it. Cheap, since its keys
    /// are known by then.
    pub(super) fn scram_login(&self, password: &Password, cache: &KeyCache) -> Option<ScramCredential> {
        let Self::Scram(verifier) = self else { return None };
        let keys = cache.keys(password, verifier.salt(), verifier.iterations());
        Some(ScramCredential::of(keys, verifier))
    }
}

/// Wrong guesses are derived but not remembered, so that nobody pushes the keys of others out of the cache.
fn verifier_accepts(verifier: &ScramVerifier, password: &Password, cache: &KeyCache) -> bool {
    let (salt, iterations) = (verifier.salt(), verifier.iterations());
    if let Some(keys) = cache.known(password, salt, iterations) {
        return verifier.accepts(&keys);
    }
    let keys = ScramKeys::derive(password, salt, iterations);
    let right = verifier.accepts(&keys);
    if right {
        cache.remember(password, salt, iterations, keys);
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scram::Iterations;

    #[test]
    fn forms_are_told_by_the_text() {
        assert!(matches!(StoredSecret::parse(b""), Ok(StoredSecret::Absent)));
        assert!(matches!(
            StoredSecret::parse(b"md5cd3578025fe2c3d7ed1b9a9b26238b70"),
            Ok(StoredSecret::Md5(_))
        ));
        assert!(matches!(StoredSecret::parse(b"md5cd35"), Ok(StoredSecret::Plain(_))));
        assert!(matches!(StoredSecret::parse(b"SCRAM-SHA-256"), Ok(StoredSecret::Plain(_))));
        assert!(matches!(StoredSecret::parse(b"SCRAM-SHA-256$1:QQ==$x"), Err(SecretError::Scram(_))));
        assert!(matches!(StoredSecret::parse(b"a\0b"), Err(SecretError::ZeroByte)));
        assert!(matches!(StoredSecret::parse(b"\xff\xfe"), Ok(StoredSecret::Plain(_))));
    }

    #[test]
    fn each_form_accepts_its_password_only() {
        let (right, wrong) = (Password::new("pencil").unwrap(), Password::new("pencil2").unwrap());
        let cache = KeyCache::new(8);
        let count = Iterations::new(2).unwrap();
        for secret in [
            StoredSecret::Plain(right.clone()),
            StoredSecret::Md5(Md5Secret::derive(&right, "alice")),
            StoredSecret::Scram(ScramVerifier::derive(&right, b"salt", count)),
        ] {
            assert!(!secret.accepts("alice", &wrong, &cache));
            assert!(cache.known(&wrong, b"salt", count).is_none());
            assert!(secret.accepts("alice", &right, &cache));
            assert!(secret.accepts("alice", &right, &cache));
        }
        assert!(cache.known(&right, b"salt", count).is_some());
        assert!(!StoredSecret::Absent.accepts("alice", &right, &cache));
    }
}
