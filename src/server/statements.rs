//! The prepared statements that a server connection holds, as far as its client's session depends on them.
//!
//! Named statements keep a session on its server for as long as there are any. The unnamed statement travels: it is
//! remembered as the Parse that made it, and that Parse is put in front when a Bind or Describe meets another server.

use super::pending::Request;
use bytes::Bytes;
use std::collections::HashSet;

/// Named statements whose names are remembered; with more of them the session stays on its server to its end.
const NAMES: usize = 4096;

/// The unnamed statement of a session or of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unnamed {
    /// There is none.
    #[default]
    Absent,
    /// The one that this Parse made.
    Parsed(Bytes),
    /// One that was too large to be remembered: it exists on this server only.
    Here,
}

/// What a server holds.
#[derive(Debug, Default)]
pub struct Statements {
    /// Names given by Parse.
    names: HashSet<Bytes>,
    /// Named statements altogether, those made by PREPARE included.
    named: usize,
    /// Whether so many names were given that some were not remembered.
    overflow: bool,
    /// The unnamed statement.
    pub unnamed: Unnamed,
}

impl Statements {
    /// Whether there are statements that exist on this server only.
    #[must_use]
    pub fn keep_their_server(&self) -> bool {
        self.named > 0 || self.overflow
    }

    /// Named statements, by count.
    #[must_use]
    pub fn count(&self) -> usize {
        self.named
    }

    /// All of them were dropped by pgweir.
    pub fn clear_named(&mut self) {
        self.names.clear();
        self.named = 0;
        self.overflow = false;
    }

    /// A request was answered to its end.
    pub(super) fn succeeded(&mut self, request: Request) {
        match request {
            Request::ParseNamed(name) => self.add(name),
            Request::ParseUnnamed(parse) => self.unnamed = parse.map_or(Unnamed::Here, Unnamed::Parsed),
            Request::CloseNamed(name) => self.remove(&name),
            // A simple query replaces the unnamed statement by none.
            Request::CloseUnnamed | Request::Query => self.unnamed = Unnamed::Absent,
            _ => {}
        }
    }

    /// A request failed. A Parse drops the unnamed statement before it looks at the text.
    pub(super) fn failed(&mut self, request: &Request) {
        if matches!(request, Request::ParseUnnamed(_)) {
            self.unnamed = Unnamed::Absent;
        }
    }

    /// A CommandComplete. Its tag tells what SQL did to the statements.
    pub(super) fn completed(&mut self, body: &[u8]) {
        match crate::wire::backend::command_tag(body) {
            b"PREPARE" => self.named += 1,
            b"DEALLOCATE" => self.deallocated(),
            b"DEALLOCATE ALL" | b"DISCARD ALL" => self.clear_named(),
            _ => {}
        }
    }

    fn add(&mut self, name: Bytes) {
        self.named += 1;
        if self.names.len() < NAMES {
            self.names.insert(name);
        } else {
            self.overflow = true;
        }
    }

    /// Closing a name that does not exist succeeds too.
    fn remove(&mut self, name: &Bytes) {
        if self.names.remove(name) {
            self.named -= 1;
        }
        self.forget_names_when_empty();
    }

    /// The tag does not say which one. Names are kept until the count is down, so that the session lets go of its
    /// server rather too late than too early.
    fn deallocated(&mut self) {
        self.named = self.named.saturating_sub(1);
        self.forget_names_when_empty();
    }

    fn forget_names_when_empty(&mut self) {
        if self.named == 0 && !self.overflow {
            self.names.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str) -> Request {
        Request::ParseNamed(Bytes::from_static(name.as_bytes()))
    }

    #[test]
    fn a_named_statement_keeps_the_server_until_it_is_closed() {
        let mut statements = Statements::default();
        statements.succeeded(named("a"));
        assert!(statements.keep_their_server());
        statements.succeeded(Request::CloseNamed(Bytes::from_static(b"b")));
        assert!(statements.keep_their_server());
        statements.succeeded(Request::CloseNamed(Bytes::from_static(b"a")));
        assert!(!statements.keep_their_server());
    }

    #[test]
    fn sql_counts_too() {
        let mut statements = Statements::default();
        statements.completed(b"PREPARE\0");
        statements.succeeded(named("pdo"));
        statements.completed(b"DEALLOCATE\0");
        assert!(statements.keep_their_server());
        statements.completed(b"DEALLOCATE\0");
        assert!(!statements.keep_their_server());
        statements.succeeded(named("pdo"));
        statements.completed(b"DISCARD ALL\0");
        assert!(!statements.keep_their_server());
    }

    #[test]
    fn the_unnamed_statement_is_what_the_last_parse_left() {
        let mut statements = Statements::default();
        let parse = Bytes::from_static(b"P");
        statements.succeeded(Request::ParseUnnamed(Some(parse.clone())));
        assert_eq!(statements.unnamed, Unnamed::Parsed(parse));
        statements.failed(&Request::ParseUnnamed(None));
        assert_eq!(statements.unnamed, Unnamed::Absent);
        statements.succeeded(Request::ParseUnnamed(None));
        assert_eq!(statements.unnamed, Unnamed::Here);
        statements.succeeded(Request::Query);
        assert_eq!(statements.unnamed, Unnamed::Absent);
    }
}
