//! The bodies of the SASL messages, around the mechanism's own.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::fmt;

use super::scram::Malformed;

/// The mechanism without channel binding.
pub(super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub(super) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Whether a client can bind its login to the TLS connection it comes over.
#[derive(Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// No TLS, or a certificate whose signature has no defined hash: only `SCRAM-SHA-256` is offered.
    Unavailable,
    /// `tls-server-end-point` of [RFC 5929](https://www.rfc-editor.org/rfc/rfc5929#section-4): the hash of the
    /// certificate that was presented on this very connection. `SCRAM-SHA-256-PLUS` is offered first.
    TlsServerEndPoint(Vec<u8>),
}

impl ChannelBinding {
    /// What is offered, most wanted first.
    pub(super) fn mechanisms(&self) -> &'static [&'static str] {
        match self {
            Self::Unavailable => &[SCRAM_SHA_256],
            Self::TlsServerEndPoint(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        }
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "Unavailable",
            Self::TlsServerEndPoint(_) => "TlsServerEndPoint(..)",
        })
    }
}

/// SASLInitialResponse, as a server reads it.
#[derive(Debug)]
pub(super) struct InitialResponse<'a> {
    pub(super) mechanism: &'a [u8],
    /// `None` when the client sent the length -1: it waits for an empty challenge.
    pub(super) data: Option<&'a [u8]>,
}

impl<'a> InitialResponse<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let (mechanism, rest) = split_string(body)?;
        let (length, data) = rest.split_first_chunk().ok_or(Malformed::Sasl)?;
        match (i32::from_be_bytes(*length), data) {
            (-1, []) => Ok(Self { mechanism, data: None }),
            (length, data) if usize::try_from(length) == Ok(data.len()) => {
                Ok(Self { mechanism, data: Some(data) })
            }
            _ => Err(Malformed::Sasl),
        }
    }
}

/// SASLInitialResponse, as a client writes it.
pub(super) fn initial_response(mechanism: &str, data: &[u8]) -> Result<Vec<u8>, Malformed> {
    let length = i32::try_from(data.len()).map_err(|_| Malformed::Sasl)?;
    Ok([mechanism.as_bytes(), b"\0", &length.to_be_bytes(), data].concat())
}

/// The list in AuthenticationSASL, as a client reads it: strings up to an empty one, and nothing behind.
pub(super) fn parse_mechanisms(mut data: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut mechanisms = Vec::new();
    loop {
        match split_string(data)? {
            (b"", []) => return Ok(mechanisms),
            (b"", _) => return Err(Malformed::Sasl),
            (mechanism, rest) => {
                mechanisms.push(mechanism);
                data = rest;
            }
        }
    }
}

/// The list in AuthenticationSASL, as a server writes it.
pub(super) fn mechanisms(mechanisms: &[&str]) -> Vec<u8> {
    let strings = mechanisms.iter().flat_map(|mechanism| mechanism.bytes().chain([0]));
    strings.chain([0]).collect()
}

/// The string up to the first zero byte, and what comes after that byte.
pub(super) fn split_string(data: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = data.iter().position(|&byte| byte == 0).ok_or(Malformed::Sasl)?;
    Ok((&data[..end], &data[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_responses() {
        let written = initial_response(SCRAM_SHA_256, b"n,,n=,r=x").unwrap();
        let read = InitialResponse::parse(&written).unwrap();
        assert_eq!((read.mechanism, read.data), (SCRAM_SHA_256.as_bytes(), Some(b"n,,n=,r=x".as_slice())));
        assert!(InitialResponse::parse(b"X\0\xff\xff\xff\xff").unwrap().data.is_none());
        assert_eq!(InitialResponse::parse(b"X\0\0\0\0\0").unwrap().data, Some(b"".as_slice()));
    }

    #[test]
    fn hostile_lengths_are_refused() {
        for body in [
            b"".as_slice(),
            b"X",
            b"X\0",
            b"X\0\0\0\0",
            b"X\0\0\0\0\x01",
            b"X\0\0\0\0\x01ab",
            b"X\0\xff\xff\xff\xffa",
            b"X\0\xff\xff\xff\xfe",
            b"X\0\x80\0\0\0",
            b"X\0\x7f\xff\xff\xffa",
        ] {
            assert_eq!(InitialResponse::parse(body).unwrap_err(), Malformed::Sasl, "{body:?}");
        }
    }

    #[test]
    fn mechanism_lists() {
        let offered = ChannelBinding::TlsServerEndPoint(Vec::new()).mechanisms();
        let list = mechanisms(offered);
        assert_eq!(list, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        assert_eq!(parse_mechanisms(&list).unwrap(), [b"SCRAM-SHA-256-PLUS".as_slice(), b"SCRAM-SHA-256"]);
        assert!(parse_mechanisms(b"\0").unwrap().is_empty());
        for broken in [b"".as_slice(), b"X", b"X\0", b"X\0\0Y\0\0"] {
            assert!(parse_mechanisms(broken).is_err(), "{broken:?}");
        }
    }
}
