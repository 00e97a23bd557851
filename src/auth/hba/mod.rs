//! Who is asked for what, by where they come from: files in the format of `pg_hba.conf` and `pg_ident.conf`, as far as
//! PgBouncer has it.
//!
//! <https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>. The first rule that fits decides; where none fits,
//! nobody comes in. A line that cannot be used is a [`Flaw`]. PgBouncer leaves such lines out, and so it is here, except
//! for those without which somebody would come in who was to stay out: see [`Flaw::is_grave`].

mod address;
mod ident;
mod line;
mod parse;
#[cfg(test)]
mod tests;

pub use ident::{IdentMap, IdentMaps};
pub use parse::{Include, Parsed, parse};

use address::Addresses;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The rules, in their order.
#[derive(Debug, Clone, Default)]
pub struct Hba {
    rules: Vec<Rule>,
}

/// One line that can be used.
#[derive(Debug, Clone)]
pub struct Rule {
    line: usize,
    text: String,
    over: Over,
    databases: Vec<DatabaseName>,
    users: Vec<UserName>,
    addresses: Addresses,
    method: RuleMethod,
    map: Option<Arc<IdentMap>>,
}

/// The connections that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// `local`
    Unix,
    /// `host`
    Tcp,
    /// `hostssl`
    Tls,
    /// `hostnossl`
    PlainTcp,
}

/// A word of the column of databases.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DatabaseName {
    All,
    SameUser,
    Replication,
    Named(String),
}

/// A word of the column of users.
#[derive(Debug, Clone, PartialEq, Eq)]
enum UserName {
    All,
    Named(String),
}

/// What a rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleMethod {
    /// Nothing.
    Trust,
    /// The impossible.
    Reject,
    /// The password in clear text.
    Password,
    /// md5, or SCRAM of a user whose secret is a SCRAM verifier.
    Md5,
    /// SCRAM.
    ScramSha256,
    /// A certificate.
    Cert,
    /// To be the system's user of that name, or of one that a map allows.
    Peer,
}

/// How a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over a Unix socket.
    Unix,
    /// Over TCP, in plain text.
    Plain(IpAddr),
    /// Over TLS.
    Tls(IpAddr),
}

/// Who wants in, where, and how they have come.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The database that is asked for.
    pub database: &'a str,
    /// The user of the startup packet.
    pub user: &'a str,
    /// Whether it asks for physical replication, which is in no database: no word but `replication` means that.
    pub replication: bool,
    /// How the client has come.
    pub way: Way,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
    /// Whether somebody might come in who was to stay out, were the line left out: it rejects, or it asks for a proof
    /// that PgBouncer would ask for.
    pub is_grave: bool,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Hba {
    /// The first rule that fits.
    #[must_use]
    pub fn find(&self, visit: &Visit<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(visit))
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Rule {
    /// What it asks for.
    #[must_use]
    pub fn method(&self) -> RuleMethod {
        self.method
    }

    /// Its line, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Its map of user names.
    #[must_use]
    pub fn map(&self) -> Option<&IdentMap> {
        self.map.as_deref()
    }

    /// Whether the system's user may log in as `user` by this rule.
    #[must_use]
    pub fn lets_in(&self, system: &str, user: &str) -> bool {
        self.map().map_or(system == user, |map| map.allows(system, user))
    }

    fn fits(&self, visit: &Visit<'_>) -> bool {
        self.over.fits(visit.way)
            && self.addresses.hold(visit.way)
            && self.databases.iter().any(|name| name.fits(visit))
            && self.users.iter().any(|name| name.fits(visit.user))
    }
}

/// The line as it was written, without its comment.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Over {
    fn fits(self, way: Way) -> bool {
        match self {
            Self::Unix => way == Way::Unix,
            Self::Tcp => way != Way::Unix,
            Self::Tls => matches!(way, Way::Tls(_)),
            Self::PlainTcp => matches!(way, Way::Plain(_)),
        }
    }
}

impl DatabaseName {
    fn fits(&self, visit: &Visit<'_>) -> bool {
        match self {
            Self::Replication => visit.replication,
            _ if visit.replication => false,
            Self::All => true,
            Self::SameUser => visit.database == visit.user,
            Self::Named(name) => name == visit.database,
        }
    }
}

impl UserName {
    fn fits(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) => name == user,
        }
    }
}

impl RuleMethod {
    /// The word of the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Cert => "cert",
            Self::Peer => "peer",
        }
    }
}
