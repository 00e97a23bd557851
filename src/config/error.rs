//! What can be wrong with a configuration, and what is worth saying about one that is fine.
//!
//! No text here ever holds a secret: values are quoted as they were written, before `${NAME}` is replaced, and the
//! value of a secret key is not quoted at all.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    Line {
        /// The file, as it was named: the one loaded or one that it includes.
        file: Arc<Path>,
        /// Line number, from 1.
        line: usize,
    },
    /// A file as a whole.
    File(Arc<Path>),
    /// `SET` on the console.
    Console,
}

impl Origin {
    /// By which things are told in order: file by file, line by line.
    fn position(&self) -> (Option<&Path>, usize) {
        match self {
            Self::Default | Self::Console => (None, 0),
            Self::File(file) => (Some(file), 0),
            Self::Line { file, line } => (Some(file), *line),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Console => f.write_str("SET"),
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
        }
    }
}

/// A section of the configuration, or one entry of a section that holds named entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// `[pgbouncer]`: the general settings.
    General,
    /// `[pgweir]`: general settings that PgBouncer does not have.
    Own,
    /// An entry of `[databases]`.
    Database(String),
    /// An entry of `[users]`.
    User(String),
    /// An entry of `[peers]`.
    Peer(String),
}

impl Section {
    /// The word between the brackets.
    #[must_use]
    pub fn table(&self) -> &'static str {
        match self {
            Self::General => "pgbouncer",
            Self::Own => "pgweir",
            Self::Database(_) => "databases",
            Self::User(_) => "users",
            Self::Peer(_) => "peers",
        }
    }

    /// The name of the entry, in a section that holds named entries.
    #[must_use]
    pub fn entry(&self) -> Option<&str> {
        match self {
            Self::General | Self::Own => None,
            Self::Database(name) | Self::User(name) | Self::Peer(name) => Some(name),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.table())?;
        self.entry().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{problem}", place(.section.as_ref(), .key.as_deref()))]
pub struct ConfigError {
    /// Where it was written.
    pub origin: Origin,
    /// The section it is about, when it is about one.
    pub section: Option<Section>,
    /// The key it is about, when it is about one.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a value, a line or a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file, or one that it names, cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The line is not in the syntax of the file.
    #[error("syntax error: {0}")]
    Syntax(String),
    /// No such section.
    #[error("unknown section [{name}]{}", did_you_mean(.suggestion.as_deref()))]
    UnknownSection {
        /// The section as written.
        name: String,
        /// The section that looks most like it.
        suggestion: Option<String>,
    },
    /// No such key in this section.
    #[error("unknown key{}", did_you_mean(.suggestion.as_deref()))]
    UnknownKey {
        /// The key that looks most like it.
        suggestion: Option<String>,
    },
    /// The value is not one of those allowed.
    #[error("{} is not allowed: expected {expected}", .shown.as_deref().unwrap_or("this value"))]
    BadValue {
        /// The value as written, unless it is a secret.
        shown: Option<String>,
        /// What would be allowed.
        expected: String,
    },
    /// `${NAME}` names an environment variable that is not set.
    #[error("the environment variable {0} is not set")]
    UnsetVariable(String),
    /// PgBouncer has it, this version does not, and doing without would weaken or break logins.
    #[error("not supported yet: {0}")]
    Unsupported(String),
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// All that is wrong with a configuration, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Something worth saying about a configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where it was written.
    pub origin: Origin,
    /// The section it is about, when it is about one.
    pub section: Option<Section>,
    /// The key it is about, when it is about one.
    pub key: Option<String>,
    /// What there is to say.
    pub remark: Remark,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = place(self.section.as_ref(), self.key.as_deref());
        write!(f, "{}: {place}{}", self.origin, self.remark)
    }
}

/// What a [`Notice`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// PgBouncer has it, this version does not.
    NotYetHonoured,
    /// It has nothing to act on here, for this reason.
    Ignored(&'static str),
    /// A later line sets the same and wins.
    Overridden(Origin),
    /// Allowed, but perhaps not meant.
    Advice(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetHonoured => f.write_str("not yet honoured"),
            Self::Ignored(reason) => write!(f, "ignored: {reason}"),
            Self::Overridden(by) => write!(f, "set again at {by}, and the last one wins"),
            Self::Advice(text) => f.write_str(text),
        }
    }
}

/// What a pass over the configuration found, so that one pass can find it all.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<ConfigError>,
    pub(super) notices: Vec<Notice>,
}

impl Findings {
    /// Notes a problem with a line or a file.
    pub(super) fn error(&mut self, origin: Origin, problem: Problem) {
        self.errors.push(ConfigError { origin, section: None, key: None, problem });
    }

    /// Notes a problem with a section or an entry of it.
    pub(super) fn error_in(&mut self, origin: &Origin, section: &Section, problem: Problem) {
        let section = Some(section.clone());
        self.errors.push(ConfigError { origin: origin.clone(), section, key: None, problem });
    }

    /// Notes a problem with a key.
    pub(super) fn error_at(&mut self, origin: &Origin, section: &Section, key: &str, problem: Problem) {
        let (section, key) = (Some(section.clone()), Some(key.to_owned()));
        self.errors.push(ConfigError { origin: origin.clone(), section, key, problem });
    }

    /// Notes something about a section, or about one of its keys.
    pub(super) fn notice(&mut self, origin: &Origin, section: &Section, key: Option<&str>, remark: Remark) {
        let (section, key) = (Some(section.clone()), key.map(str::to_owned));
        self.notices.push(Notice { origin: origin.clone(), section, key, remark });
    }

    /// The notices, or the errors when there are any; by line, since passes come one after the other.
    pub(super) fn into_result(mut self) -> Result<Vec<Notice>, ConfigErrors> {
        self.errors.sort_by(|one, other| one.origin.position().cmp(&other.origin.position()));
        self.notices.sort_by(|one, other| one.origin.position().cmp(&other.origin.position()));
        if self.errors.is_empty() { Ok(self.notices) } else { Err(ConfigErrors(self.errors)) }
    }
}

fn place(section: Option<&Section>, key: Option<&str>) -> String {
    match (section, key) {
        (Some(section), Some(key)) => format!("{section} {key}: "),
        (Some(section), None) => format!("{section}: "),
        (None, Some(key)) => format!("{key}: "),
        (None, None) => String::new(),
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}
