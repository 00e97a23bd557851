//! A configuration as it was written: what both front ends produce.

use super::error::{Origin, Section};

/// The language of a file, which decides how its values may be spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As PgBouncer reads it: bare numbers, booleans 0 and 1.
    Ini,
    /// Typed values, and units.
    Toml,
}

/// All that a file says, with the files it includes.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) dialect: Dialect,
    /// Entries of `[pgbouncer]` and `[pgweir]`; each key at most once.
    pub(super) general: Vec<Entry>,
    /// Entries of the other sections; each name at most once.
    pub(super) groups: Vec<Group>,
}

/// One database, user or peer.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) section: Section,
    pub(super) origin: Origin,
    /// Each key at most once.
    pub(super) entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) section: Section,
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value as written; `${NAME}` is still in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Any value of an ini file; a string of a TOML file.
    Text(String),
    /// A TOML integer: its digits without the prefix, and their base.
    Integer { digits: String, radix: u32 },
    /// A TOML float.
    Float(String),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array of strings or numbers.
    List(Vec<String>),
    /// Something that no setting takes, by its TOML name.
    Unusable(&'static str),
}

impl Value {
    /// The value as one line of text, for error messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer { digits, radix: 8 } => format!("0o{digits}"),
            Self::Integer { digits, radix: 16 } => format!("0x{digits}"),
            Self::Integer { digits, radix: 2 } => format!("0b{digits}"),
            Self::Integer { digits: number, .. } | Self::Float(number) => number.clone(),
            Self::Boolean(value) => value.to_string(),
            Self::List(items) => format!("{items:?}"),
            Self::Unusable(what) => (*what).to_owned(),
        }
    }

    /// The value with each string put through `expand`.
    pub(super) fn try_map<E>(&self, expand: impl Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        Ok(match self {
            Self::Text(text) => Self::Text(expand(text)?),
            Self::List(items) => Self::List(items.iter().map(|item| expand(item)).collect::<Result<_, E>>()?),
            other => other.clone(),
        })
    }

    /// Whether an environment variable stands in it.
    pub(super) fn has_variable(&self) -> bool {
        match self {
            Self::Text(text) => super::environment::has_variable(text),
            Self::List(items) => items.iter().any(|item| super::environment::has_variable(item)),
            _ => false,
        }
    }
}
