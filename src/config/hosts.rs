//! Where the servers of a database are: one place, or several between commas.

use std::path::PathBuf;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A Unix socket in this folder; one that begins with `@` is in the abstract namespace.
    Unix(PathBuf),
    /// A host name or an IP address.
    Tcp(String),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(dir) => dir.display().fmt(f),
            Self::Tcp(name) => name.fmt(f),
        }
    }
}

/// `load_balance_hosts`: which of several hosts the next connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Balance {
    /// The next one of the list.
    #[default]
    RoundRobin,
    /// The same one, until a connection to it fails.
    Stick,
}

impl Balance {
    /// The word used in configuration files and in the console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Stick => "disable",
        }
    }
}

/// The hosts of a database, at least one, and how to choose among them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hosts {
    /// As they were written.
    text: String,
    first: Host,
    others: Vec<Host>,
    balance: Balance,
}

impl Hosts {
    /// A single one.
    #[must_use]
    pub fn one(host: Host) -> Self {
        Self { text: host.to_string(), first: host, others: Vec::new(), balance: Balance::default() }
    }

    /// The hosts between the commas of a text; `None` when there are none. What is empty is left out.
    #[must_use]
    pub fn parse(text: &str, balance: Balance) -> Option<Self> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut hosts = words.map(|word| match word.starts_with(['/', '@']) {
            true => Host::Unix(PathBuf::from(word)),
            false => Host::Tcp(word.to_owned()),
        });
        let first = hosts.next()?;
        let others: Vec<_> = hosts.collect();
        // Of one there is nothing to choose.
        let balance = if others.is_empty() { Balance::default() } else { balance };
        Some(Self { text: text.trim().to_owned(), first, others, balance })
    }

    /// Whether a comma of a text has nothing on one side.
    #[must_use]
    pub fn has_gap(text: &str) -> bool {
        text.split(',').any(|word| word.trim().is_empty())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// How to choose among several; `None` when there is one.
    #[must_use]
    pub fn balance(&self) -> Option<Balance> {
        (!self.others.is_empty()).then_some(self.balance)
    }

    /// The only one.
    #[must_use]
    pub fn only(&self) -> Option<&Host> {
        self.others.is_empty().then_some(&self.first)
    }
}

impl std::fmt::Display for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_shown() {
        let hosts = Hosts::parse("db1, /run/pg,@spare", Balance::Stick).unwrap();
        let expected =
            [Host::Tcp("db1".to_owned()), Host::Unix("/run/pg".into()), Host::Unix("@spare".into())];
        assert_eq!(hosts.iter().cloned().collect::<Vec<_>>(), expected);
        assert_eq!((hosts.to_string().as_str(), hosts.count()), ("db1, /run/pg,@spare", 3));
        assert_eq!((hosts.balance(), hosts.only()), (Some(Balance::Stick), None));
        let one = Hosts::parse("::1", Balance::Stick).unwrap();
        assert_eq!((one.balance(), one.only()), (None, Some(&Host::Tcp("::1".to_owned()))));
        assert_eq!(one, Hosts::one(Host::Tcp("::1".to_owned())));
        for text in ["", ",", " , "] {
            assert!(Hosts::has_gap(text) && Hosts::parse(text, Balance::RoundRobin).is_none(), "{text:?}");
        }
        let gap = Hosts::parse("a,,b,", Balance::RoundRobin).unwrap();
        assert_eq!((gap.count(), Hosts::has_gap("a,,b"), Hosts::has_gap("a,b")), (2, true, false));
    }
}
