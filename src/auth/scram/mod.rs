//! SCRAM-SHA-256: [RFC 5802](https://www.rfc-editor.org/rfc/rfc5802) with the hash of
//! [RFC 7677](https://www.rfc-editor.org/rfc/rfc7677), as in
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>.
//!
//! PostgreSQL's deviations are kept: the password need not be UTF-8 and is normalised only where it can be, and the
//! user name inside the messages is ignored, the one of the startup packet counts.

mod attributes;
mod cache;
pub(super) mod client;
mod keys;
pub(super) mod server;
mod verifier;

pub use attributes::Malformed;
pub use cache::KeyCache;
pub use keys::{Iterations, ScramCredential, ScramKeys};
pub(super) use keys::{Key, hmac};
pub use verifier::ScramVerifier;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::random;

/// Largest SCRAM message read from a peer. PostgreSQL's own have less than 200 bytes.
const MAX_MESSAGE: usize = 8 * 1024;
/// Largest nonce and largest salt read from a peer.
const MAX_FIELD: usize = 1024;
/// Random bytes of a nonce, as in PostgreSQL; base64 makes 24 characters of them.
const NONCE_BYTES: usize = 18;

/// The part of a nonce that one side adds: printable ASCII without a comma.
#[derive(Debug, Clone)]
pub(super) struct Nonce(String);

impl Nonce {
    /// A new one from the system's random bytes; never used twice.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; NONCE_BYTES];
        random::fill(&mut bytes)?;
        Ok(Self(STANDARD.encode(bytes)))
    }

    /// A known one, for test vectors.
    #[cfg(test)]
    pub(super) fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The AuthMessage of RFC 5802, 3, which both signatures sign.
fn auth_message(client_first_bare: &[u8], server_first: &[u8], client_final_without_proof: &[u8]) -> Vec<u8> {
    [client_first_bare, server_first, client_final_without_proof].join(&b',')
}
