//! What the text of a statement means depends on more than the text: on `search_path`, on the role, on how literals of dates
//! and times are read. Clients for which that differs share no statement.
//!
//! Settings that PostgreSQL reports are known as they are. Of the others only the commands that change them are seen:
//! equal commands in the same order make an equal context, and that is enough, since a difference that is none costs no
//! more than a Parse.

use std::hash::{DefaultHasher, Hash, Hasher};

/// How far a command that changes the meaning of texts reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// To the end of the transaction.
    Local,
    /// To the end of the server's session, for `search_path`, which newer servers report.
    Path,
    /// To the end of the server's session.
    Session,
    /// Back to what a fresh session has.
    Reset,
}

/// Settings, by what follows SET or stands in `set_config`, that change what texts mean. `SET SCHEMA`, `SET NAMES` and `SET
/// TIME ZONE` have spellings of their own.
///
/// <https://www.postgresql.org/docs/current/runtime-config-client.html>
const STEERING: [&str; 18] = [
    "search_path",
    "schema",
    "role",
    "authorization",
    "row_security",
    "plan_cache_mode",
    "transform_null_equals",
    "array_nulls",
    "backslash_quote",
    "xmloption",
    "default_text_search_config",
    "lc_monetary",
    "standard_conforming_strings",
    "client_encoding",
    "names",
    "timezone",
    "datestyle",
    "intervalstyle",
];

/// Those of them that every server reports: they need not be remembered, only waited for.
const REPORTED: [&str; 6] =
    ["standard_conforming_strings", "client_encoding", "names", "timezone", "datestyle", "intervalstyle"];

/// Settings whose value is all the same for what texts mean, among those that a client gives at startup or changes.
#[must_use]
pub(super) fn is_indifferent(setting: &str) -> bool {
    const INDIFFERENT: [&str; 9] = [
        "application_name",
        "scram_iterations",
        "default_transaction_read_only",
        "extra_float_digits",
        "bytea_output",
        "client_min_messages",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    ];
    INDIFFERENT.contains(&setting) || setting.starts_with("log_")
}

/// How a text changes what later texts mean, if it does.
#[must_use]
pub fn steering(sql: &[u8]) -> Option<Steering> {
    // Of most texts this is all that is asked.
    if !contains(sql, b't', b"set") {
        return None;
    }
    let commands = sql.split(|byte| *byte == b';').filter_map(steering_of_command).reduce(wider);
    commands.or_else(|| steering_by_function(sql))
}

fn wider(one: Steering, other: Steering) -> Steering {
    if one == Steering::Local { other } else { one }
}

fn steering_of_command(command: &[u8]) -> Option<Steering> {
    let mut words = words(command);
    let first = words.next()?;
    if first.eq_ignore_ascii_case(b"reset") {
        return Some(Steering::Reset);
    }
    if !first.eq_ignore_ascii_case(b"set") {
        return None;
    }
    let mut name = words.next()?;
    let is_local = name.eq_ignore_ascii_case(b"local");
    if is_local || name.eq_ignore_ascii_case(b"session") {
        name = words.next()?;
    }
    // SET TIME ZONE is SET timezone.
    let name = if name.eq_ignore_ascii_case(b"time") { b"timezone" } else { name };
    reach(is_local, std::iter::once(name))
}

/// `set_config` with the name of such a setting somewhere in the text.
fn steering_by_function(sql: &[u8]) -> Option<Steering> {
    const FUNCTION: &[u8] = b"set_config";
    let is_called = sql.iter().enumerate().filter(|(_, byte)| **byte == b'_').any(|(at, _)| {
        sql.get(at.wrapping_sub(3)..at + 7).is_some_and(|word| word.eq_ignore_ascii_case(FUNCTION))
    });
    if !is_called {
        return None;
    }
    let is_local = words(sql).any(|word| word.eq_ignore_ascii_case(b"true") || word == b"t");
    reach(is_local, words(sql))
}

fn reach<'a>(is_local: bool, mut names: impl Iterator<Item = &'a [u8]>) -> Option<Steering> {
    let name =
        names.find_map(|name| STEERING.iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes())))?;
    Some(match *name {
        _ if is_local => Steering::Local,
        name if REPORTED.contains(&name) => Steering::Local,
        "search_path" | "schema" => Steering::Path,
        _ => Steering::Session,
    })
}

/// Names and key words of a text, one after the other.
fn words(sql: &[u8]) -> impl Iterator<Item = &[u8]> {
    sql.split(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_')).filter(|word| !word.is_empty())
}

/// Whether a text may speak of prepared statements by name.
#[must_use]
pub fn speaks_of_statements(sql: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] = [b"execute", b"prepare", b"deallocate"];
    let may = contains(sql, b'x', WORDS[0]) || contains(sql, b'p', WORDS[1]) || contains(sql, b'c', WORDS[2]);
    may && words(sql).any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Whether a text contains a word in any case. It is looked for by one of its letters: the first of that kind in it.
fn contains(sql: &[u8], letter: u8, word: &[u8]) -> bool {
    let Some(at) = word.iter().position(|byte| *byte == letter) else { return false };
    memchr::memchr2_iter(letter, letter.to_ascii_uppercase(), sql).any(|found| {
        let start = found.checked_sub(at);
        start
            .and_then(|start| sql.get(start..start + word.len()))
            .is_some_and(|here| here.eq_ignore_ascii_case(word))
    })
}

/// Whether a text means something else tomorrow: PostgreSQL reads `'now'`, `'today'` and their like when it parses it.
///
/// <https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES>
#[must_use]
pub fn depends_on_the_hour(sql: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
    let mut rest = sql;
    // Only in a literal, which such a word begins in all but contrived cases.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\'' | b'$')) {
        rest = &rest[at + 1..];
        let word = words(rest.trim_ascii_start()).next().unwrap_or_default();
        let begins = rest.trim_ascii_start().starts_with(word);
        if begins && WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return true;
        }
    }
    false
}

/// What commands have made of a server's session, as far as it reports nothing.
#[derive(Debug, Default)]
pub struct PlanContext {
    /// Left behind by clients whose transactions are over.
    left: u64,
    /// By the client whose requests are under way, in all and for the session alone.
    open: u64,
    stays: Option<u64>,
}

impl PlanContext {
    /// A command goes out. `more` is what it depends on beside its text.
    pub fn steer(&mut self, steering: Steering, sql: &[u8], more: &[u8], reports_path: bool) {
        self.open = hash((self.open, sql, more));
        match steering {
            Steering::Local => {}
            Steering::Path if reports_path => {}
            Steering::Path | Steering::Session => self.stays = Some(hash((sql, more))),
            Steering::Reset => self.stays = Some(0),
        }
    }

    /// Nothing is under way, and no transaction is open.
    pub fn settle(&mut self) {
        self.open = 0;
        if let Some(stays) = self.stays.take() {
            self.left = stays;
        }
    }

    /// The context of a text under these settings: zero is that of a fresh session.
    #[must_use]
    pub fn under(&self, settings: u64) -> u64 {
        if self.left == 0 && self.open == 0 { settings } else { hash((settings, self.left, self.open)) }
    }
}

/// Never zero, which stands for nothing, and never as large as what belongs to one statement alone.
pub(super) fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    (hasher.finish() >> 1) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_change_what_texts_mean_are_recognised() {
        for (sql, expected) in [
            ("SET LOCAL search_path TO a", Some(Steering::Local)),
            ("set search_path = a", Some(Steering::Path)),
            ("SET SESSION search_path = a", Some(Steering::Path)),
            ("SET SCHEMA 'a'", Some(Steering::Path)),
            ("SET ROLE bob", Some(Steering::Session)),
            ("SET SESSION AUTHORIZATION bob", Some(Steering::Session)),
            ("SET TIME ZONE 'UTC'", Some(Steering::Local)),
            ("BEGIN; SET LOCAL \"search_path\" TO a", Some(Steering::Local)),
            ("RESET ALL", Some(Steering::Reset)),
            ("select set_config('search_path', $1, true)", Some(Steering::Local)),
            ("select pg_catalog.SET_CONFIG('role', 'bob', false)", Some(Steering::Session)),
            ("select set_config('app.tenant', '7', true)", None),
            ("SET statement_timeout = 5", None),
            ("SET TRANSACTION READ ONLY", None),
            ("UPDATE t SET search_path = 1", None),
            ("select 1", None),
            ("", None),
        ] {
            assert_eq!(steering(sql.as_bytes()), expected, "{sql}");
        }
    }

    #[test]
    fn literals_that_are_read_at_parse_time_are_recognised() {
        for sql in ["select 'now'::timestamp", "where d = date ' Today'", "select $$tomorrow$$::date"] {
            assert!(depends_on_the_hour(sql.as_bytes()), "{sql}");
        }
        for sql in ["select now()", "select today from t", "where a = 'nowhere'", "where a = $1"] {
            assert!(!depends_on_the_hour(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn a_context_lasts_as_long_as_what_made_it() {
        let mut context = PlanContext::default();
        assert_eq!(context.under(0), 0);
        context.steer(Steering::Local, b"SET LOCAL search_path TO a", b"", false);
        let one = context.under(0);
        assert_ne!(one, 0);
        context.settle();
        assert_eq!(context.under(0), 0);
        context.steer(Steering::Local, b"SET LOCAL search_path TO a", b"", false);
        assert_eq!(context.under(0), one);
        context.settle();
        context.steer(Steering::Path, b"SET search_path TO a", b"", true);
        context.settle();
        assert_eq!(context.under(7), 7);
        context.steer(Steering::Path, b"SET search_path TO a", b"", false);
        context.settle();
        assert_ne!(context.under(7), 7);
        context.steer(Steering::Reset, b"RESET ALL", b"", false);
        context.settle();
        assert_eq!(context.under(7), 7);
    }
}
