//! Messages that a server sends.

use super::{CancelKey, ProtocolVersion, TooLong, put_cstr, put_message, split_cstr};
use bytes::{BufMut, BytesMut};

/// The transaction status that a ReadyForQuery carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block.
    Failed,
}

impl Status {
    /// Reads the byte of a ReadyForQuery.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Open),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// The byte of a ReadyForQuery.
    #[must_use]
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// AuthenticationOk, as a whole.
pub const AUTHENTICATION_OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];

/// Writes an Authentication message of this body: the code of the request and its data.
///
/// # Errors
///
/// [`TooLong`] when the body is.
pub fn put_authentication(out: &mut BytesMut, body: &[u8]) -> Result<(), TooLong> {
    put_message(out, b'R', |out| out.put_slice(body))
}

/// Writes a ParameterStatus.
///
/// # Errors
///
/// [`TooLong`] when the value is.
pub fn put_parameter_status(out: &mut BytesMut, name: &str, value: &str) -> Result<(), TooLong> {
    put_message(out, b'S', |out| {
        put_cstr(out, name.as_bytes());
        put_cstr(out, value.as_bytes());
    })
}

/// Reads a ParameterStatus: name and value.
#[must_use]
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = split_cstr(body)?;
    split_cstr(rest).map(|(value, _)| (name, value))
}

/// Writes a BackendKeyData.
///
/// # Errors
///
/// [`TooLong`] when the secret is.
pub fn put_backend_key(out: &mut BytesMut, key: &CancelKey) -> Result<(), TooLong> {
    put_message(out, b'K', |out| {
        out.put_u32(key.process);
        out.put_slice(&key.secret);
    })
}

/// Reads a BackendKeyData.
#[must_use]
pub fn backend_key(body: &[u8]) -> Option<CancelKey> {
    let (process, secret) = body.split_first_chunk::<4>()?;
    (4..=256)
        .contains(&secret.len())
        .then(|| CancelKey { process: u32::from_be_bytes(*process), secret: secret.into() })
}

/// Writes a NegotiateProtocolVersion: the newest version that is spoken here, and the options that are not known.
///
/// # Errors
///
/// [`TooLong`] when the options are.
pub fn put_negotiate(out: &mut BytesMut, newest: ProtocolVersion, unknown: &[String]) -> Result<(), TooLong> {
    let count = u32::try_from(unknown.len()).map_err(|_| TooLong(unknown.len()))?;
    put_message(out, b'v', |out| {
        out.put_u32(newest.0);
        out.put_u32(count);
        for option in unknown {
            put_cstr(out, option.as_bytes());
        }
    })
}

/// Writes a ReadyForQuery.
pub fn put_ready(out: &mut BytesMut, status: Status) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status.as_byte()]);
}

/// The command tag of a CommandComplete.
#[must_use]
pub fn command_tag(body: &[u8]) -> &[u8] {
    split_cstr(body).map_or(body, |(tag, _)| tag)
}

/// The type of a column of a result of our own, by its OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// text
    Text,
    /// integer
    Int4,
    /// bigint
    Int8,
    /// numeric
    Numeric,
}

impl Type {
    /// OID and size, as RowDescription wants them.
    #[must_use]
    pub fn oid_and_size(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int4 => (23, 4),
            Self::Int8 => (20, 8),
            Self::Numeric => (1700, -1),
        }
    }
}

/// Writes a RowDescription of columns in text format.
///
/// # Errors
///
/// [`TooLong`] when there are too many columns.
pub fn put_row_description(out: &mut BytesMut, columns: &[(&str, Type)]) -> Result<(), TooLong> {
    put_row_description_as(out, columns, |_| false)
}

/// Writes a RowDescription of columns of which some are in binary format.
///
/// # Errors
///
/// [`TooLong`] when there are too many columns.
pub fn put_row_description_as(
    out: &mut BytesMut,
    columns: &[(&str, Type)],
    is_binary: impl Fn(usize) -> bool,
) -> Result<(), TooLong> {
    let count = u16::try_from(columns.len()).map_err(|_| TooLong(columns.len()))?;
    put_message(out, b'T', |out| {
        out.put_u16(count);
        for (index, (name, kind)) in columns.iter().enumerate() {
            let (oid, size) = kind.oid_and_size();
            put_cstr(out, name.as_bytes());
            out.put_u32(0); // no table
            out.put_u16(0); // no column of it
            out.put_u32(oid);
            out.put_i16(size);
            out.put_i32(-1); // no modifier
            out.put_u16(u16::from(is_binary(index)));
        }
    })
}

/// Writes a DataRow of values in text format; `None` is NULL.
///
/// # Errors
///
/// [`TooLong`] when the row is.
pub fn put_data_row<'a>(
    out: &mut BytesMut,
    values: impl ExactSizeIterator<Item = Option<&'a str>>,
) -> Result<(), TooLong> {
    let count = u16::try_from(values.len()).map_err(|_| TooLong(values.len()))?;
    put_message(out, b'D', |out| {
        out.put_u16(count);
        for value in values {
            match value.and_then(|value| i32::try_from(value.len()).ok().map(|length| (length, value))) {
                Some((length, value)) => {
                    out.put_i32(length);
                    out.put_slice(value.as_bytes());
                }
                None => out.put_i32(-1),
            }
        }
    })
}

/// Writes a CommandComplete.
///
/// # Errors
///
/// [`TooLong`] when the tag is.
pub fn put_command_complete(out: &mut BytesMut, tag: &str) -> Result<(), TooLong> {
    put_message(out, b'C', |out| put_cstr(out, tag.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_parameter_survives_the_round_trip(name in "[^\0]{0,10}", value in "[^\0]{0,30}") {
            let mut out = BytesMut::new();
            put_parameter_status(&mut out, &name, &value).unwrap();
            prop_assert_eq!(parameter_status(&out[5..]), Some((name.as_bytes(), value.as_bytes())));
        }

        #[test]
        fn a_backend_key_survives_the_round_trip(process: u32, secret in prop::collection::vec(any::<u8>(), 4..=256)) {
            let key = CancelKey { process, secret: secret.into() };
            let mut out = BytesMut::new();
            put_backend_key(&mut out, &key).unwrap();
            prop_assert_eq!(backend_key(&out[5..]), Some(key));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (parameter_status(&bytes), backend_key(&bytes));
            let _ = command_tag(&bytes);
        }
    }

    #[test]
    fn every_status_has_its_byte() {
        for status in [Status::Idle, Status::Open, Status::Failed] {
            assert_eq!(Status::from_byte(status.as_byte()), Some(status));
        }
        assert_eq!(Status::from_byte(b'x'), None);
    }
}
