//! The md5 method and its secrets.
//!
//! A stored secret is `md5` and the hex digest of password and user name; the answer to a salt is `md5` and the hex
//! digest of those 32 digits and the salt.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>, AuthenticationMD5Password.
//! PostgreSQL deprecates it since version 18; whoever reads a stored secret can log in with it.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::password::Password;

const PREFIX: &[u8; 3] = b"md5";

/// The 32 hex digits of an md5 secret. They are as good as the password.
#[derive(Clone)]
pub struct Md5Secret(Zeroizing<[u8; 32]>);

impl Md5Secret {
    /// Takes `md5` and 32 lower-case hex digits; `None` for anything else, which PostgreSQL takes as a password.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 32] = text.strip_prefix(PREFIX)?.try_into().ok()?;
        let hex = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(Zeroizing::new(digits)))
    }

    /// The secret of `user` with this password.
    #[must_use]
    pub fn derive(password: &Password, user: &str) -> Self {
        Self::digest(password.as_bytes(), user)
    }

    /// What AuthenticationMD5Password with this salt is answered with, without the closing zero byte.
    #[must_use]
    pub fn answer(&self, salt: [u8; 4]) -> Zeroizing<[u8; 35]> {
        let mut answer = Zeroizing::new([0; 35]);
        let (prefix, digits) = answer.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX);
        digits
            .copy_from_slice(&hex(&Md5::new().chain_update(self.0.as_slice()).chain_update(salt).finalize()));
        answer
    }

    /// Whether `answer` is right for `salt`, in constant time.
    pub(super) fn accepts(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        self.answer(salt).as_slice().ct_eq(answer).into()
    }

    /// Whether both are the secret of one password, in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }

    /// Whether this is what an empty password of `user` would have been stored as.
    pub(super) fn is_of_empty_password(&self, user: &str) -> bool {
        self.is(&Self::digest(b"", user))
    }

    fn digest(password: &[u8], user: &str) -> Self {
        let digest = Md5::new().chain_update(password).chain_update(user).finalize();
        Self(Zeroizing::new(hex(&digest)))
    }
}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret(..)")
    }
}

fn hex(digest: &[u8]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secret: &Md5Secret) -> String {
        format!("md5{}", std::str::from_utf8(secret.0.as_slice()).unwrap())
    }

    /// The value is what PostgreSQL stores for role `regress_passwd1`, see its `regress/sql/password.sql`.
    #[test]
    fn secret_is_postgresqls() {
        let secret = Md5Secret::derive(&Password::new("role_pwd1").unwrap(), "regress_passwd1");
        assert_eq!(text(&secret), "md5783277baca28003b33453252be4dbb34");
    }

    #[test]
    fn answer_is_of_the_right_salt_only() {
        let secret = Md5Secret::derive(&Password::new("password").unwrap(), "md5_user");
        let answer = secret.answer([0x2a, 0x3d, 0x8f, 0xe0]);
        assert_eq!(answer.as_slice(), b"md562af4dd09bbb41884907a838a3233294");
        assert!(secret.accepts([0x2a, 0x3d, 0x8f, 0xe0], answer.as_slice()));
        assert!(!secret.accepts([0x2a, 0x3d, 0x8f, 0xe1], answer.as_slice()));
        assert!(!secret.accepts([0x2a, 0x3d, 0x8f, 0xe0], &answer[..34]));
    }

    #[test]
    fn only_lower_case_hex_of_the_right_length_is_a_secret() {
        assert!(Md5Secret::parse(b"md5cd3578025fe2c3d7ed1b9a9b26238b70").is_some());
        assert!(Md5Secret::parse(b"md5CD3578025FE2C3D7ED1B9A9B26238B70").is_none());
        assert!(Md5Secret::parse(b"md5cd3578025fe2c3d7ed1b9a9b26238b7").is_none());
        assert!(Md5Secret::parse(b"md5cd3578025fe2c3d7ed1b9a9b26238b7x").is_none());
        assert!(Md5Secret::parse(b"").is_none());
    }
}
