//! Messages that a client sends.

use super::{TooLong, put_cstr, put_message, split_cstr};
use bytes::{BufMut, BytesMut};

/// Terminate, as a whole.
pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
/// Sync, as a whole.
pub const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

/// Writes a Query.
///
/// # Errors
///
/// [`TooLong`] when the text is.
pub fn put_query(out: &mut BytesMut, sql: &str) -> Result<(), TooLong> {
    put_message(out, b'Q', |out| put_cstr(out, sql.as_bytes()))
}

/// Writes a Query of which the text is bytes in some encoding.
///
/// # Errors
///
/// [`TooLong`] when the text is.
pub fn put_query_bytes(out: &mut BytesMut, sql: &[u8]) -> Result<(), TooLong> {
    put_message(out, b'Q', |out| put_cstr(out, sql))
}

/// Writes a query with one parameter as text, and asks for all of its rows as text: Parse, Bind, Describe, Execute and
/// Sync.
///
/// # Errors
///
/// [`TooLong`] when the query or the parameter is.
pub fn put_question(out: &mut BytesMut, sql: &str, parameter: &str) -> Result<(), TooLong> {
    put_message(out, b'P', |out| {
        out.put_u8(0);
        put_cstr(out, sql.as_bytes());
        out.put_u16(0);
    })?;
    let size = i32::try_from(parameter.len()).map_err(|_| TooLong(parameter.len()))?;
    put_message(out, b'B', |out| {
        // Portal, statement, formats of parameters, parameters, formats of results.
        out.put_slice(b"\0\0\0\0\0\x01");
        out.put_i32(size);
        out.put_slice(parameter.as_bytes());
        out.put_u16(0);
    })?;
    put_message(out, b'D', |out| out.put_slice(b"P\0"))?;
    put_message(out, b'E', |out| out.put_slice(b"\0\0\0\0\0"))?;
    out.put_slice(&SYNC);
    Ok(())
}

/// Writes a PasswordMessage, SASLInitialResponse or SASLResponse: they share a tag, and the body tells them apart.
///
/// # Errors
///
/// [`TooLong`] when the body is.
pub fn put_authentication(out: &mut BytesMut, body: &[u8]) -> Result<(), TooLong> {
    put_message(out, b'p', |out| out.put_slice(body))
}

/// Writes a CopyFail.
///
/// # Errors
///
/// [`TooLong`] when the reason is.
pub fn put_copy_fail(out: &mut BytesMut, reason: &str) -> Result<(), TooLong> {
    put_message(out, b'f', |out| put_cstr(out, reason.as_bytes()))
}

/// Writes a Close of the unnamed statement.
///
/// # Errors
///
/// None in practice: the message is of 6 bytes.
pub fn put_close_unnamed(out: &mut BytesMut) -> Result<(), TooLong> {
    put_message(out, b'C', |out| out.put_slice(b"S\0"))
}

/// The name of the statement that a Parse makes, as far as its body is here.
#[must_use]
pub fn parse_name(body: &[u8]) -> Option<&[u8]> {
    split_cstr(body).map(|(name, _)| name)
}

/// The name of the statement that a Bind uses, as far as its body is here: it stands behind the portal's.
#[must_use]
pub fn bind_statement(body: &[u8]) -> Option<&[u8]> {
    let (_portal, rest) = split_cstr(body)?;
    split_cstr(rest).map(|(name, _)| name)
}

/// What a Describe or a Close is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// The target of a Describe or a Close, as far as its body is here.
#[must_use]
pub fn target(body: &[u8]) -> Option<Target<'_>> {
    match body.split_first()? {
        (b'S', name) => split_cstr(name).map(|(name, _)| Target::Statement(name)),
        (_, name) => split_cstr(name).map(|(name, _)| Target::Portal(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        assert_eq!(parse_name(b"s1\0select 1\0\0\0"), Some(&b"s1"[..]));
        assert_eq!(parse_name(b"s1"), None);
        assert_eq!(bind_statement(b"p\0s1\0"), Some(&b"s1"[..]));
        assert_eq!(bind_statement(b"p\0s1"), None);
        assert_eq!(target(b"Ss1\0"), Some(Target::Statement(b"s1")));
        assert_eq!(target(b"Ps1\0"), Some(Target::Portal(b"s1")));
        assert_eq!(target(b""), None);
    }
}
