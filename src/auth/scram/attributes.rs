//! The grammar shared by all SCRAM messages: `a=value,b=value`.
//! <https://www.rfc-editor.org/rfc/rfc5802#section-7>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::{Iterations, MAX_FIELD, MAX_MESSAGE};

/// What is wrong with a message of the peer. Nothing of the message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The message around the mechanism is cut short, too long or ends wrongly.
    #[error("malformed SASL message")]
    Sasl,
    /// The message is too long, empty or contains a zero byte.
    #[error("SCRAM message is empty, too long or contains a zero byte")]
    Message,
    /// Another attribute, or none, where this one must be.
    #[error("SCRAM attribute \"{0}\" expected")]
    Expected(char),
    /// The first field of client-first is neither `n`, `y` nor `p=...`.
    #[error("malformed SCRAM channel binding flag")]
    BindingFlag,
    /// A mandatory extension (`m=`), of which none is known.
    #[error("SCRAM message requires an unknown extension")]
    Extension,
    /// A nonce that is empty, too long or not printable.
    #[error("malformed SCRAM nonce")]
    Nonce,
    /// A salt that is empty, too long or not base64.
    #[error("malformed SCRAM salt")]
    Salt,
    /// An iteration count that is no number from 1 to [`Iterations::MAX`].
    #[error("SCRAM iteration count is not a number from 1 to {}", Iterations::MAX)]
    Iterations,
    /// A proof or signature that is not base64 of exactly 32 bytes.
    #[error("malformed SCRAM proof or signature")]
    Digest,
    /// Something after the last attribute.
    #[error("garbage at the end of the SCRAM message")]
    Trailing,
}

/// Reads attributes from the front of a message.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    /// `None` after the last attribute: an empty rest stands behind a comma and is an error.
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: Some(message) }
    }

    /// The value of the next attribute, which must have this name.
    pub(super) fn expect(&mut self, name: u8) -> Result<&'a [u8], Malformed> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            Some((b'm', _)) => Err(Malformed::Extension),
            _ => Err(Malformed::Expected(char::from(name))),
        }
    }

    /// The next attribute of any name; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        let Some(rest) = self.rest else { return Ok(None) };
        let mut halves = rest.splitn(2, |&byte| byte == b',');
        let attribute = halves.next().unwrap_or_default();
        self.rest = halves.next();
        match attribute {
            [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok(Some((*name, value))),
            _ => Err(Malformed::Trailing),
        }
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_some() { Err(Malformed::Trailing) } else { Ok(()) }
    }
}

/// Checks what holds for every message, before anything in it is looked at.
pub(super) fn bounded(message: &[u8]) -> Result<&[u8], Malformed> {
    let fits = !message.is_empty() && message.len() <= MAX_MESSAGE && !message.contains(&0);
    fits.then_some(message).ok_or(Malformed::Message)
}

/// Reads a nonce: 1 to [`MAX_FIELD`] printable ASCII characters; the comma has ended the attribute.
pub(super) fn nonce(value: &[u8]) -> Result<&str, Malformed> {
    let fits = (1..=MAX_FIELD).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(value).map_err(|_| Malformed::Nonce)?;
    fits.then_some(text).ok_or(Malformed::Nonce)
}

/// Reads a salt: base64 of 1 to [`MAX_FIELD`] bytes.
pub(super) fn salt(value: &[u8]) -> Result<Box<[u8]>, Malformed> {
    let salt = STANDARD.decode(value).map_err(|_| Malformed::Salt)?;
    let fits = (1..=MAX_FIELD).contains(&salt.len());
    fits.then(|| salt.into_boxed_slice()).ok_or(Malformed::Salt)
}

/// Reads an iteration count: digits only, without the sign that Rust's parser would take.
pub(super) fn iterations(value: &[u8]) -> Result<Iterations, Malformed> {
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Iterations);
    }
    let digits = std::str::from_utf8(value).map_err(|_| Malformed::Iterations)?;
    digits.parse().ok().and_then(Iterations::new).ok_or(Malformed::Iterations)
}

/// Reads a proof, a signature or a key: base64 of 32 bytes, not one more or less.
pub(super) fn digest(value: &[u8]) -> Result<[u8; 32], Malformed> {
    let bytes = STANDARD.decode(value).map_err(|_| Malformed::Digest)?;
    bytes.try_into().map_err(|_| Malformed::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_in_order() {
        let mut attributes = Attributes::new(b"r=a=b,s=");
        assert_eq!(attributes.expect(b'r'), Ok(b"a=b".as_slice()));
        assert_eq!(attributes.end(), Err(Malformed::Trailing));
        assert_eq!(attributes.expect(b's'), Ok(b"".as_slice()));
        assert_eq!(attributes.end(), Ok(()));
        assert_eq!(attributes.expect(b'i'), Err(Malformed::Expected('i')));
    }

    #[test]
    fn broken_attributes_are_refused() {
        for message in [b"".as_slice(), b",", b"r", b"r:", b"=x", b"1=x", b"rr=x"] {
            assert_eq!(Attributes::new(message).next(), Err(Malformed::Trailing), "{message:?}");
        }
        assert_eq!(Attributes::new(b"m=x,r=y").expect(b'r'), Err(Malformed::Extension));
    }

    #[test]
    fn iteration_counts_are_capped() {
        for text in ["", "0", "-1", "+5", "1000001", "2147483648", "99999999999999999999", "4096x", " 4096"] {
            assert_eq!(iterations(text.as_bytes()), Err(Malformed::Iterations), "{text}");
        }
        assert_eq!(iterations(b"1").unwrap().count(), 1);
        assert_eq!(iterations(b"1000000").unwrap().count(), 1_000_000);
    }

    #[test]
    fn fields_are_bounded() {
        assert!(nonce(&[b'a'; MAX_FIELD]).is_ok());
        assert!(nonce(&[b'a'; MAX_FIELD + 1]).is_err());
        assert!(nonce(b"").is_err() && nonce(b"a b").is_err() && nonce(b"a\x7f").is_err());
        assert!(salt(b"").is_err() && salt(b"****").is_err() && salt(b"QQ==").is_ok());
        assert!(salt(STANDARD.encode([0; MAX_FIELD + 1]).as_bytes()).is_err());
        assert!(digest(STANDARD.encode([0; 31]).as_bytes()).is_err());
        assert!(digest(STANDARD.encode([0; 33]).as_bytes()).is_err());
        assert!(bounded(&[b'a'; MAX_MESSAGE + 1]).is_err() && bounded(b"a\0").is_err());
    }
}
