//! The table of all settings: names, kinds, defaults and what this version does with each.
//!
//! Validation, defaults, `check`, `convert` and `SHOW CONFIG` all read this one table.

mod differences;
mod entries;
mod general;

use super::error::Section;

pub(super) use differences::DIFFERENCES;
pub(super) use entries::{DATABASE, PEER, USER};
pub(super) use general::{AUTH_QUERY, GENERAL};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// Its key.
    pub(super) name: &'static str,
    /// What its value looks like.
    pub(super) kind: Kind,
    /// The value when nobody sets it, as an ini file would spell it; of no meaning where an entry inherits.
    pub(super) default: &'static str,
    /// When a new value takes effect.
    pub(super) change: Change,
    /// What this version does with it.
    pub(super) status: Status,
    /// What it is for, in a line.
    pub(super) about: &'static str,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// With `RELOAD`.
    Reload,
    /// With the next start.
    Restart,
}

impl Change {
    /// The column `changeable` of `SHOW CONFIG`.
    #[must_use]
    pub fn changeable(self) -> &'static str {
        match self {
            Self::Reload => "yes",
            Self::Restart => "no",
        }
    }
}

/// What this version does with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// What PgBouncer does.
    Honoured,
    /// Not built yet; meanwhile pgweir acts as if it had this value, so this value needs no notice.
    NotYet(&'static str),
    /// Not built yet, and to do without would change who may log in or who may listen in: only these values (and the
    /// default) can be used.
    Refused {
        /// Values that change nothing.
        harmless: &'static [&'static str],
        /// Values that are let through, and what to say then.
        tolerated: Option<(&'static [&'static str], &'static str)>,
        /// What to do instead.
        instead: &'static str,
    },
    /// There is nothing here that it could act on, for this reason.
    Ignored(&'static str),
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path; `~/` is the home folder.
    Path,
    /// Words between commas.
    List,
    /// A whole number, in C's notation where it is text.
    Integer {
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// A whole number of a connection string, where PgBouncer knows only decimal ones: a leading zero means nothing.
    Decimal {
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// A number of bytes.
    Bytes,
    /// Off or on.
    Boolean,
    /// A time; a bare number is in seconds.
    Seconds,
    /// A time; a bare number is in milliseconds.
    Milliseconds,
    /// Permission bits.
    Mode,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
}

/// Any whole number that PgBouncer can hold.
pub(super) const COUNT: Kind = Kind::Integer { min: 0, max: 2_147_483_647 };
/// `pool_mode`.
pub(super) const POOL_MODE: Kind = Kind::Choice(&["session", "transaction", "statement"]);

impl Setting {
    /// A setting that does what PgBouncer's does.
    const fn honoured(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Self {
        Self { name, kind, default, change: Change::Reload, status: Status::Honoured, about }
    }

    /// A setting that is not built yet; `acts_as` is the value that describes what pgweir does.
    const fn not_yet(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        acts_as: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, kind, default, change: Change::Reload, status: Status::NotYet(acts_as), about }
    }

    const fn refused(
        name: &'static str,
        default: &'static str,
        instead: &'static str,
        about: &'static str,
    ) -> Self {
        let status = Status::Refused { harmless: &[], tolerated: None, instead };
        Self { name, kind: Kind::Text, default, change: Change::Reload, status, about }
    }

    const fn ignored(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        reason: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, kind, default, change: Change::Reload, status: Status::Ignored(reason), about }
    }

    /// The same, but a change waits for the next start.
    const fn restart(mut self) -> Self {
        self.change = Change::Restart;
        self
    }

    /// The same, but its value is never shown.
    const fn secret(mut self) -> Self {
        self.kind = Kind::Secret;
        self
    }

    /// Whether its value must not be shown.
    pub(super) fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    /// Whether PgBouncer does not know it.
    pub(super) fn is_own(&self) -> bool {
        OWN.contains(&self.name)
    }

    /// Whether PgBouncer's `SHOW CONFIG` lists it.
    pub(super) fn is_listed(&self) -> bool {
        !self.is_own() && !UNLISTED.contains(&self.name)
    }

    /// Whether PgBouncer shows NULL where nobody has set it.
    pub(super) fn is_null_unset(&self) -> bool {
        NULL_UNSET.contains(&self.name)
    }

    /// Whether PgBouncer shows NULL for its default.
    pub(super) fn is_null_by_default(&self) -> bool {
        self.is_null_unset() || NULL_BY_DEFAULT.contains(&self.name)
    }
}

/// Settings of PgBouncer that PgBouncer 1.26 on Linux does not list.
const UNLISTED: [&str; 2] = ["service_name", "suspend_timeout"];

const NULL_UNSET: [&str; 8] = [
    "auth_dbname",
    "auth_file",
    "auth_ident_file",
    "auth_ldap_options",
    "auth_user",
    "client_tls13_ciphers",
    "server_tls13_ciphers",
    "user",
];

const NULL_BY_DEFAULT: [&str; 2] = ["conffile", "verbose"];

/// General settings that PgBouncer does not have.
const OWN: [&str; 8] = [
    "log_format",
    "max_client_prepared_bytes",
    "max_client_prepared_statements",
    "max_prepared_bytes",
    "metrics_listen",
    "report_pooler",
    "share_unnamed_statements",
    "workers",
];

/// The settings of a section.
pub(super) fn of(section: &Section) -> &'static [Setting] {
    match section {
        Section::General | Section::Own => GENERAL,
        Section::Database(_) => DATABASE,
        Section::User(_) => USER,
        Section::Peer(_) => PEER,
    }
}

/// A setting of a section by its key; `[pgweir]` holds only what PgBouncer does not have.
pub(super) fn find(section: &Section, key: &str) -> Option<&'static Setting> {
    of(section)
        .iter()
        .find(|setting| setting.name == key)
        .filter(|setting| *section != Section::Own || setting.is_own())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_is_sorted_and_complete() {
        let names: Vec<_> = GENERAL.iter().map(|s| s.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert_eq!(names.len(), 101 + OWN.len());
    }

    #[test]
    fn the_reference_names_whatever_is_honoured() {
        let reference = include_str!("../../../config/pgweir.toml");
        for setting in GENERAL.iter().chain(DATABASE).chain(USER) {
            let starts =
                |line: &str| line.trim_start_matches('#').starts_with(&format!("{} = ", setting.name));
            let is_named =
                reference.lines().any(starts) || reference.contains(&format!("or {} = ", setting.name));
            assert!(is_named || setting.status != Status::Honoured, "{}", setting.name);
        }
    }

    #[test]
    fn own_settings_are_in_the_table() {
        for name in OWN {
            assert!(find(&Section::Own, name).is_some(), "{name}");
        }
        let keys: Vec<_> = DIFFERENCES.iter().map(|difference| difference.key).collect();
        assert!(keys.is_sorted());
        for name in UNLISTED.iter().chain(&keys).chain(&NULL_UNSET).chain(&NULL_BY_DEFAULT) {
            assert!(find(&Section::General, name).is_some(), "{name}");
        }
        assert!(find(&Section::Own, "pool_mode").is_none());
    }
}
