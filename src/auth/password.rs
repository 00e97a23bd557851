//! A password in clear text.

use std::fmt;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// A password: bytes, not text, as PostgreSQL takes them. Never empty, never with a zero byte.
#[derive(Clone)]
pub struct Password(Zeroizing<Box<[u8]>>);

/// Why bytes are no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// An empty password never authenticates anybody.
    #[error("the password is empty")]
    Empty,
    /// The protocol ends a password at the first zero byte.
    #[error("the password contains a zero byte")]
    ZeroByte,
}

impl Password {
    /// Takes the bytes of a password.
    ///
    /// # Errors
    ///
    /// When there are none, or one of them is zero.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PasswordError> {
        let bytes = Zeroizing::new(bytes.into().into_boxed_slice());
        if bytes.is_empty() {
            return Err(PasswordError::Empty);
        }
        if bytes.contains(&0) {
            return Err(PasswordError::ZeroByte);
        }
        Ok(Self(bytes))
    }

    /// The bytes as they were given, not normalised.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is this password; the time taken tells at most whether the lengths are equal.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_zero_bytes_are_refused() {
        assert_eq!(Password::new("").unwrap_err(), PasswordError::Empty);
        assert_eq!(Password::new("a\0b").unwrap_err(), PasswordError::ZeroByte);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Password::new("hunter2").unwrap()), "Password(..)");
    }
}
