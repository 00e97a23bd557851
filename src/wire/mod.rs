//! Bytes ⇄ messages of the PostgreSQL frontend/backend protocol, versions 3.0 and 3.2.
//!
//! Pure: no I/O, no clock, no configuration. What is read is borrowed from the buffer it was read into; what is
//! written goes into a [`bytes::BytesMut`] with the length patched in after the body.
//!
//! The paragraphs of the manual are those of "Message Formats":
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

pub mod backend;
mod binary;
pub mod frontend;
mod options;
mod report;
mod scanner;
pub mod sqlstate;
mod startup;

pub use binary::put_binary;
pub use options::{OptionsError, parse_options};
pub use report::{Fields, Report, Severity};
pub use scanner::{HEADER, Malformed, Piece, Scanner};
pub use startup::{
    CancelKey, MAX_STARTUP_PACKET, ProtocolVersion, Startup, StartupError, StartupPacket, startup_body_length,
};

use bytes::{BufMut, BytesMut};
use std::ffi::CStr;

/// The longest message PostgreSQL accepts (`MaxAllocSize`); nothing longer is ever built here.
pub const MAX_MESSAGE: u32 = 0x3fff_ffff;

/// A message that would be longer than [`MAX_MESSAGE`]. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes is longer than PostgreSQL accepts")]
pub struct TooLong(pub usize);

/// Writes one message: the tag, room for the length, the body, and then the length.
///
/// # Errors
///
/// [`TooLong`] when the length does not fit; `out` is then as it was, so that a wrapped length can never turn the
/// tail of somebody's data into messages.
pub fn put_message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) -> Result<(), TooLong> {
    let start = out.len();
    out.put_u8(tag);
    put_sized(out, body).inspect_err(|_| out.truncate(start))
}

/// Writes a length word and a body: the shape of the packets that have no tag.
fn put_sized(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) -> Result<(), TooLong> {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let size = out.len() - start;
    match u32::try_from(size) {
        Ok(length) if length <= MAX_MESSAGE => {
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(TooLong(size))
        }
    }
}

/// Writes a string and the zero byte that ends it. A zero byte inside would end it early, so it is cut there.
pub fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(CStr::from_bytes_until_nul(text).map_or(text, CStr::to_bytes));
    out.put_u8(0);
}

/// Bytes of a short name.
const NAME: usize = 16;

/// Splits a zero-terminated string off the front: the string without its zero byte, and what follows.
#[must_use]
pub fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Most are names: to find the end of such a one by itself takes less than to begin to search.
    let near = bytes[..bytes.len().min(NAME)].iter().position(|&byte| byte == 0);
    let end = match near {
        Some(end) => end,
        None => NAME + memchr::memchr(0, bytes.get(NAME..)?)?,
    };
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_too_long_leaves_the_buffer_as_it_was() {
        let mut out = BytesMut::from(&b"before"[..]);
        // A sparse allocation: the body is never touched beyond its length.
        let result = put_message(&mut out, b'Q', |out| out.put_bytes(0, MAX_MESSAGE as usize));
        assert!(result.is_err());
        assert_eq!(&out[..], b"before");
    }

    #[test]
    fn strings_are_cut_at_a_zero_byte() {
        let mut out = BytesMut::new();
        put_cstr(&mut out, b"ab\0cd");
        assert_eq!(&out[..], b"ab\0");
        assert_eq!(split_cstr(b"ab\0cd"), Some((&b"ab"[..], &b"cd"[..])));
        assert_eq!(split_cstr(b"ab"), None);
    }
}
