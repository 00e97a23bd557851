//! What PostgreSQL stores for a SCRAM password.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::attributes::{self, Malformed};
use super::{Iterations, Key, ScramCredential, ScramKeys};
use crate::auth::password::Password;

const PREFIX: &[u8] = b"SCRAM-SHA-256$";

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the form of `rolpassword` in
/// <https://www.postgresql.org/docs/current/catalog-pg-authid.html>. It checks a login but cannot make one.
#[derive(Debug, Clone)]
pub struct ScramVerifier {
    pub(super) iterations: Iterations,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl ScramVerifier {
    /// Whether the text means to be a verifier, good or broken.
    pub(in crate::auth) fn is_meant_by(text: &[u8]) -> bool {
        text.starts_with(PREFIX)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// When a part is missing, is not base64 of the right length, or the count is out of bounds.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let rest = text.strip_prefix(PREFIX).ok_or(Malformed::Message)?;
        let (how, keys) = halves(rest, b'$').ok_or(Malformed::Message)?;
        let (iterations, salt) = halves(how, b':').ok_or(Malformed::Message)?;
        let (stored_key, server_key) = halves(keys, b':').ok_or(Malformed::Message)?;
        Ok(Self {
            iterations: attributes::iterations(iterations)?,
            salt: attributes::salt(salt)?,
            stored_key: Key::new(attributes::digest(stored_key)?),
            server_key: Key::new(attributes::digest(server_key)?),
        })
    }

    /// The verifier of a password. **Expensive**, see [`ScramKeys::derive`].
    #[must_use]
    pub fn derive(password: &Password, salt: &[u8], iterations: Iterations) -> Self {
        Self::of_keys(&ScramKeys::derive(password, salt, iterations), salt, iterations)
    }

    /// The verifier that belongs to these keys.
    pub(in crate::auth) fn of_keys(keys: &ScramKeys, salt: &[u8], iterations: Iterations) -> Self {
        let (stored_key, server_key) = (keys.client_key.hash(), keys.server_key.clone());
        Self { iterations, salt: salt.into(), stored_key, server_key }
    }

    /// A verifier that no password fits: nobody knows what hashes to its StoredKey.
    pub(in crate::auth) fn impossible(stored_key: Key, salt: &[u8], iterations: Iterations) -> Self {
        let server_key = stored_key.hash();
        Self { iterations, salt: salt.into(), stored_key, server_key }
    }

    /// Whether these keys, derived for this salt and count, are those of the verifier.
    pub(in crate::auth) fn accepts(&self, keys: &ScramKeys) -> bool {
        self.stored_key.is(&keys.client_key.hash())
    }

    /// The count a client has to use.
    #[must_use]
    pub fn iterations(&self) -> Iterations {
        self.iterations
    }

    /// The salt a client has to use.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// What tells this verifier from all others; it gives nothing of it away.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let hash = Sha256::new_with_prefix(self.iterations.count().to_be_bytes())
            .chain_update(self.stored_key.as_bytes())
            .chain_update(self.server_key.as_bytes());
        hash.chain_update(&self.salt).finalize().into()
    }

    /// A login with the ClientKey that a client has just revealed by its proof.
    pub(super) fn credential(&self, client_key: Key) -> ScramCredential {
        let keys = ScramKeys { client_key, server_key: self.server_key.clone() };
        ScramCredential { salt: self.salt.clone(), iterations: self.iterations, keys }
    }
}

/// The stored form, which is secret: a `Display` for writing a user list, never for a log.
impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored_key) = (STANDARD.encode(&self.salt), STANDARD.encode(self.stored_key.as_bytes()));
        let server_key = STANDARD.encode(self.server_key.as_bytes());
        write!(f, "SCRAM-SHA-256${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

fn halves(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn stored_form_of_the_rfc_7677_password() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive(&Password::new("pencil").unwrap(), &salt, Iterations::DEFAULT);
        assert_eq!(verifier.to_string(), TEXT);
        assert_eq!(ScramVerifier::parse(TEXT.as_bytes()).unwrap().to_string(), TEXT);
    }

    #[test]
    fn broken_forms_are_refused() {
        for broken in [
            &TEXT[..TEXT.len() - 1],
            &TEXT[..40],
            &TEXT.replace("4096", "0"),
            &TEXT.replace("4096", "1000001"),
            &TEXT.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &TEXT.replace("SHA-256", "SHA-1"),
            &format!("{TEXT}:x"),
            "SCRAM-SHA-256$",
        ] {
            assert!(ScramVerifier::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
