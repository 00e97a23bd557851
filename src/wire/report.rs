//! ErrorResponse and NoticeResponse: the fields of one that was received, and one of our own.
//!
//! <https://www.postgresql.org/docs/current/protocol-error-fields.html>

use super::{TooLong, put_cstr, put_message, split_cstr};
use bytes::{BufMut, BytesMut};
use std::borrow::Cow;

/// How bad it is, in the words of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed, the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Nothing failed.
    Notice,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
        }
    }
}

/// An error or a notice of pgweir's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// Its SQLSTATE.
    pub code: Cow<'static, str>,
    /// The one-line text.
    pub message: String,
    /// What state led to it.
    pub detail: Option<String>,
    /// Which setting decides, and what to do.
    pub hint: Option<String>,
}

impl Report {
    /// An error that ends the session.
    #[must_use]
    pub fn fatal(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, code, message)
    }

    /// An error that ends the statement.
    #[must_use]
    pub fn error(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A notice.
    #[must_use]
    pub fn notice(message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, "00000", message)
    }

    fn new(severity: Severity, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { severity, code: code.into(), message: message.into(), detail: None, hint: None }
    }

    /// Adds what state led to it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds which setting decides, and what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes it as ErrorResponse or NoticeResponse.
    ///
    /// # Errors
    ///
    /// Only when the texts are absurdly long.
    pub fn put(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        let tag = if self.severity == Severity::Notice { b'N' } else { b'E' };
        put_message(out, tag, |out| {
            let severity = self.severity.as_str();
            let mut field = |code: u8, text: &str| {
                out.put_u8(code);
                put_cstr(out, text.as_bytes());
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', &self.code);
            field(b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            out.put_u8(0);
        })
    }
}

/// The fields of an ErrorResponse or NoticeResponse that was received; any of them may be missing.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The field with this code; also of a body whose end is not here yet.
    #[must_use]
    pub fn get(self, code: u8) -> Option<&'a [u8]> {
        let mut rest = self.0;
        while let Some((&this, tail)) = rest.split_first() {
            if this == 0 {
                return None;
            }
            let (value, tail) = split_cstr(tail)?;
            if this == code {
                return Some(value);
            }
            rest = tail;
        }
        None
    }

    /// The SQLSTATE.
    #[must_use]
    pub fn sqlstate(self) -> Option<&'a str> {
        self.get(b'C').and_then(|code| std::str::from_utf8(code).ok())
    }

    /// The severity in English: field `V`, or `S` of a server before 9.6.
    #[must_use]
    pub fn severity(self) -> Option<&'a [u8]> {
        self.get(b'V').or_else(|| self.get(b'S'))
    }

    /// Whether the server closes the connection after it.
    #[must_use]
    pub fn ends_session(self) -> bool {
        matches!(self.severity(), Some(b"FATAL" | b"PANIC"))
    }

    /// A report of pgweir's own that says the same.
    #[must_use]
    pub fn to_report(self, severity: Severity) -> Report {
        let text = |code| self.get(code).map(|text| String::from_utf8_lossy(text).into_owned());
        Report {
            severity,
            code: self.sqlstate().unwrap_or(super::sqlstate::INTERNAL_ERROR).to_owned().into(),
            message: self.message().into_owned(),
            detail: text(b'D'),
            hint: text(b'H'),
        }
    }

    /// The message, as far as it is text, for logs and for errors of our own.
    #[must_use]
    pub fn message(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.get(b'M').unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_can_be_read_back() {
        let report = Report::fatal("57P03", "no").detail("d").hint("h");
        let mut out = BytesMut::new();
        report.put(&mut out).unwrap();
        assert_eq!(out[0], b'E');
        let fields = Fields(&out[5..]);
        assert_eq!(fields.sqlstate(), Some("57P03"));
        assert_eq!(fields.message(), "no");
        assert_eq!((fields.get(b'D'), fields.get(b'H')), (Some(&b"d"[..]), Some(&b"h"[..])));
        assert!(fields.ends_session());
        assert_eq!(fields.get(b'X'), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), code: u8) {
            let fields = Fields(&bytes);
            let _ = (fields.get(code), fields.sqlstate(), fields.severity(), fields.message());
        }
    }
}
