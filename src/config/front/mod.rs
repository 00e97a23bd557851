//! The two front ends: each turns a file into the same [`Raw`].

mod connection_string;
mod detect;
mod ini;
mod toml;

use std::path::Path;
use std::sync::Arc;

use super::error::{Findings, Origin, Problem, Remark, Section};
use super::raw::{Dialect, Entry, Group, Raw, Value};
use super::{settings, suggest};

/// Reads a file, and what it includes; what is wrong with it goes to `findings`.
pub(super) fn read(path: &Path, findings: &mut Findings) -> Raw {
    let file: Arc<Path> = Arc::from(path);
    let text = text_of(&file, &Origin::File(Arc::clone(&file)), findings).unwrap_or_default();
    match detect::dialect(&text) {
        Dialect::Ini => ini::read(&text, file, findings),
        Dialect::Toml => toml::read(&text, &file, findings),
    }
}

/// The text of a file that is named at `named`.
fn text_of(file: &Arc<Path>, named: &Origin, findings: &mut Findings) -> Option<String> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let what = match named {
                Origin::File(_) => error.to_string(),
                _ => format!("{}: {error}", file.display()),
            };
            findings.error(named.clone(), Problem::Unreadable(what));
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => without_foreign_comments(error.as_bytes(), file, findings),
    }
}

/// The text of a file that is not UTF-8 as a whole. In a comment that does no harm.
fn without_foreign_comments(bytes: &[u8], file: &Arc<Path>, findings: &mut Findings) -> Option<String> {
    let mut text = String::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let is_comment = matches!(line.trim_ascii_start().first(), Some(b';' | b'#'));
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) if is_comment => text.push_str(&String::from_utf8_lossy(line)),
            Err(_) => {
                let origin = Origin::Line { file: Arc::clone(file), line: index + 1 };
                findings.error(origin, Problem::Syntax("this line is not UTF-8".to_owned()));
                return None;
            }
        }
        text.push('\n');
    }
    Some(text)
}

/// A section of named entries by its word.
fn group_section(table: &str, name: String) -> Option<Section> {
    match table {
        "databases" => Some(Section::Database(name)),
        "users" => Some(Section::User(name)),
        "peers" => Some(Section::Peer(name)),
        _ => None,
    }
}

/// The problem of a section that does not exist.
fn unknown_section(name: &str) -> Problem {
    const TABLES: [&str; 5] = ["pgbouncer", "pgweir", "databases", "users", "peers"];
    let suggestion = suggest::closest(&name.to_lowercase(), TABLES).map(|table| format!("[{table}]"));
    Problem::UnknownSection { name: name.to_owned(), suggestion }
}

/// The entries of a group whose value is a connection string.
fn string_entries(section: &Section, text: &str, origin: &Origin, findings: &mut Findings) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut after_secret = false;
    for pair in connection_string::pairs(text) {
        let (key, value) = match pair {
            Ok(pair) => pair,
            Err(problem) => {
                findings.error_in(origin, section, Problem::Syntax(problem.to_string()));
                break;
            }
        };
        let setting = settings::find(section, &key);
        if setting.is_none() && after_secret && suggestion(section, &key).is_none() {
            // This may be the rest of a password: it must not be quoted.
            let text = "a password that holds spaces needs single quotes".to_owned();
            findings.error_in(origin, section, Problem::Syntax(text));
            break;
        }
        after_secret = setting.is_some_and(settings::Setting::is_secret);
        let entry =
            Entry { section: section.clone(), key, value: Value::Text(value), origin: origin.clone() };
        put_last(&mut entries, entry, findings);
    }
    entries
}

/// Adds an entry; one of the same key that was there before goes, with a notice: the last one wins.
fn put_last(entries: &mut Vec<Entry>, entry: Entry, findings: &mut Findings) {
    if let Some(index) = entries.iter().position(|other| is_same(other, &entry)) {
        let before = entries.remove(index);
        let remark = Remark::Overridden(entry.origin.clone());
        findings.notice(&before.origin, &before.section, Some(&before.key), remark);
    }
    entries.push(entry);
}

/// Whether two entries set the same; what PgBouncer does not have may stand in either general section.
fn is_same(one: &Entry, other: &Entry) -> bool {
    let anywhere = || settings::find(&Section::Own, &one.key).is_some();
    one.key == other.key && (one.section == other.section || anywhere())
}

/// The key of the section that looks most like `key`.
pub(super) fn suggestion(section: &Section, key: &str) -> Option<&'static str> {
    let own_only = *section == Section::Own;
    let known = settings::of(section).iter().filter(|setting| !own_only || setting.is_own());
    suggest::closest(&key.to_lowercase(), known.map(|setting| setting.name))
}
