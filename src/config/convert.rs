//! The text of `convert`: the same configuration as commented TOML.

use std::fmt::Write;
use std::path::Path;

use super::error::{ConfigErrors, Findings, Problem, Section};
use super::front;
use super::raw::{Dialect, Entry, Raw, Value};
use super::resolve::bad_value;
use super::settings::{self, Kind, Setting, Status};
use super::value::{self, Typed};

/// Turns a configuration file into commented TOML that means the same.
///
/// Values are written as they are: `${NAME}` and `password_file` stay, and so does a password in clear text, with a
/// comment that says so. A line that a later one overrides is left out, and included files become part of the one.
/// What this version refuses is written too, with a comment.
///
/// # Errors
///
/// All that is wrong with the file, as far as it can be known without the environment.
pub fn convert(path: &Path) -> Result<String, ConfigErrors> {
    let mut findings = Findings::default();
    let raw = front::read(path, &mut findings);
    let mut writer = Writer { text: String::new(), dialect: raw.dialect, findings };
    writer.line(&format!("# Converted from {}.", path.display().to_string().escape_debug()));
    writer.general(&raw);
    for group in &raw.groups {
        let name = group.section.entry().unwrap_or_default();
        writer.line(&format!("\n[{}.{}]", group.section.table(), key(name)));
        for entry in &group.entries {
            writer.entry(entry);
        }
    }
    let Writer { text, findings, .. } = writer;
    findings.into_result().map(|_| text)
}

struct Writer {
    text: String,
    dialect: Dialect,
    findings: Findings,
}

impl Writer {
    fn line(&mut self, line: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn general(&mut self, raw: &Raw) {
        for section in [Section::General, Section::Own] {
            let mut entries = raw.general.iter().filter(|entry| entry.section == section).peekable();
            if entries.peek().is_some() {
                self.line(&format!("\n{section}"));
            }
            for entry in entries {
                self.entry(entry);
            }
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let Some(setting) = settings::find(&entry.section, &entry.key) else {
            let suggestion = front::suggestion(&entry.section, &entry.key).map(str::to_owned);
            let problem = Problem::UnknownKey { suggestion };
            return self.findings.error_at(&entry.origin, &entry.section, &entry.key, problem);
        };
        let Some(value) = literal(setting, &entry.value, self.dialect) else {
            let problem = bad_value(setting, &entry.value, self.dialect);
            return self.findings.error_at(&entry.origin, &entry.section, &entry.key, problem);
        };
        self.comments(setting, entry);
        self.line(&format!("{} = {value}", entry.key));
    }

    fn comments(&mut self, setting: &Setting, entry: &Entry) {
        let is_general = entry.section.entry().is_none();
        if is_general {
            let default =
                if setting.default.is_empty() { "" } else { &format!(" Default: {}.", setting.default) };
            self.line(&format!("\n# {}{default}", setting.about));
        }
        match setting.status {
            Status::NotYet(_) => self.line("# pgweir does not honour this yet."),
            Status::Ignored(reason) => self.line(&format!("# Ignored: {reason}.")),
            Status::Refused { instead, .. } if self.is_refused(setting, entry) => {
                self.line(&format!("# pgweir refuses this: {instead}."));
            }
            Status::Refused { .. } | Status::Honoured => {}
        }
        if setting.is_secret() && !entry.value.has_variable() {
            self.line(
                "# A secret in clear text: \"${NAME}\" or password_file would keep it out of this file.",
            );
        }
    }

    fn is_refused(&self, setting: &Setting, entry: &Entry) -> bool {
        let typed = value::interpret(setting.kind, &entry.value, self.dialect);
        let Status::Refused { harmless, .. } = setting.status else { return false };
        !harmless.iter().chain(&["", setting.default]).any(|text| {
            typed.is_some()
                && value::interpret(setting.kind, &Value::Text((*text).to_owned()), Dialect::Ini) == typed
        })
    }
}

/// The value in TOML; `None` when the setting does not take it.
fn literal(setting: &Setting, value: &Value, dialect: Dialect) -> Option<String> {
    // What a variable holds is not known here, so its text must stay, and be read as text again.
    if value.has_variable() {
        return Some(match value {
            Value::List(items) => list(items),
            Value::Text(text) => string(text),
            other => other.shown(),
        });
    }
    Some(match (setting.kind, value::interpret(setting.kind, value, dialect)?) {
        (Kind::Mode, Typed::Number(mode)) => format!("0o{mode:03o}"),
        (_, Typed::Number(number)) => number.to_string(),
        (_, Typed::Boolean(value)) => value.to_string(),
        (_, Typed::Seconds(time)) => time.as_secs_f64().to_string(),
        (_, Typed::List(words)) => list(&words),
        (_, Typed::Text(text)) => string(&text),
        (_, Typed::Choice(word)) => string(word),
    })
}

fn list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| string(word)).collect::<Vec<_>>().join(", "))
}

fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { string(name) }
}

/// A basic string of TOML.
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
