//! The keys of SCRAM and how they follow from one another.
//! <https://www.rfc-editor.org/rfc/rfc5802#section-3>

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::ScramVerifier;
use crate::auth::password::Password;
use crate::auth::saslprep;

type HmacSha256 = Hmac<Sha256>;

/// How often PBKDF2 hashes: 1 to [`Iterations::MAX`]. The bound is what keeps a hostile server, or a typing error in
/// a file, from burning minutes of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iterations(u32);

impl Iterations {
    /// The largest count accepted from anywhere: 0.13 s of a core with SHA instructions, several times that without.
    pub const MAX: u32 = 1_000_000;
    /// `scram_iterations` of PostgreSQL as it comes.
    pub const DEFAULT: Self = Self(4096);

    /// `None` when out of bounds.
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&count).then_some(Self(count))
    }

    /// The count.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Iterations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 32 secret bytes: wiped on drop, compared in constant time, never shown.
#[derive(Clone)]
pub(in crate::auth) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    pub(in crate::auth) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(in crate::auth) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// H(key): what is stored instead of a ClientKey.
    pub(super) fn hash(&self) -> Self {
        Self::new(Sha256::digest(self.as_bytes()).into())
    }

    /// HMAC of a message under this key.
    pub(super) fn sign(&self, message: &[u8]) -> Self {
        hmac(self.as_bytes(), &[message])
    }

    /// ClientProof from ClientKey and ClientSignature, and each of the three from the other two.
    pub(super) fn xor(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        xor_into(&mut sum.0, other.as_bytes());
        sum
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a password becomes for one salt and count: enough to log in and to check a server, without the password.
#[derive(Debug, Clone)]
pub struct ScramKeys {
    pub(super) client_key: Key,
    pub(super) server_key: Key,
}

impl ScramKeys {
    /// Runs PBKDF2. **Expensive**: 0.5 ms for 4096 iterations on a core with SHA instructions, several times that without.
    #[must_use]
    pub fn derive(password: &Password, salt: &[u8], iterations: Iterations) -> Self {
        let salted = salted_password(password, salt, iterations);
        Self { client_key: salted.sign(b"Client Key"), server_key: salted.sign(b"Server Key") }
    }
}

/// Keys together with the salt and count they are good for: a login without the password, to any server that stores
/// the same verifier and to no other.
#[derive(Debug, Clone)]
pub struct ScramCredential {
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: Iterations,
    pub(super) keys: ScramKeys,
}

impl ScramCredential {
    /// The keys of a password, with the salt and count that they were derived for.
    pub(in crate::auth) fn of(keys: ScramKeys, verifier: &ScramVerifier) -> Self {
        Self { salt: verifier.salt().into(), iterations: verifier.iterations(), keys }
    }

    /// Of the verifier that they are the keys of.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        ScramVerifier::of_keys(&self.keys, &self.salt, self.iterations).fingerprint()
    }

    fn fits_like(&self, other: &Self) -> bool {
        *self.salt == *other.salt && self.iterations == other.iterations
    }

    /// Whether both are the same login.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.fits_like(other) && self.keys.client_key.is(&other.keys.client_key)
    }

    /// The keys, when they are good for this salt and count.
    pub(in crate::auth) fn keys_for(&self, salt: &[u8], iterations: Iterations) -> Option<&ScramKeys> {
        (*self.salt == *salt && self.iterations == iterations).then_some(&self.keys)
    }
}

/// HMAC-SHA-256 of the parts in a row.
pub(in crate::auth) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let keyed = parts.iter().fold(keyed(key), |mac, part| mac.chain_update(part));
    Key::new(keyed.finalize().into_bytes().into())
}

/// Hi() of RFC 5802, 2.2: PBKDF2 of one block. The keyed state is copied rather than keyed again, which halves the
/// hashing.
fn salted_password(password: &Password, salt: &[u8], iterations: Iterations) -> Key {
    let keyed = keyed(&saslprep::prepare(password.as_bytes()));
    let first = keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]);
    let mut block: [u8; 32] = first.finalize().into_bytes().into();
    let mut sum = Key::new(block);
    for _ in 1..iterations.count() {
        block = keyed.clone().chain_update(block).finalize().into_bytes().into();
        xor_into(&mut sum.0, &block);
    }
    block.zeroize();
    sum
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of every length")
}

fn xor_into(sum: &mut [u8; 32], block: &[u8; 32]) {
    for (left, right) in sum.iter_mut().zip(block) {
        *left ^= right;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PBKDF2-HMAC-SHA-256 of RFC 7914, 11 (first 32 bytes).
    #[test]
    fn pbkdf2_vector() {
        let password = Password::new("passwd").unwrap();
        let salted = salted_password(&password, b"salt", Iterations::new(1).unwrap());
        let expected = [
            0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f, 0xec, 0x16, 0x91, 0xc2, 0x25, 0x44, 0xb6, 0x05,
            0xf9, 0x41, 0x85, 0x21, 0x6d, 0xde, 0x04, 0x65, 0xe6, 0x8b, 0x9d, 0x57, 0xc2, 0x0d, 0xac, 0xbc,
        ];
        assert_eq!(salted.as_bytes(), &expected);
    }

    #[test]
    fn debug_shows_no_key() {
        let keys = ScramKeys { client_key: Key::new([7; 32]), server_key: Key::new([8; 32]) };
        assert_eq!(format!("{keys:?}"), "ScramKeys { client_key: Key(..), server_key: Key(..) }");
    }
}
