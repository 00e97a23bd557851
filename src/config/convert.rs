//! The text of `convert`: the same configuration as commented TOML.

use std::fmt::Write;
use std::path::Path;

use super::error::{ConfigErrors, Findings, Problem, Section};
use super::front;
use super::raw::{Dialect, Entry, Raw, Value};
use super::resolve::{bad_value, verdict};
use super::settings::{self, Kind, Setting};
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

/// Columns of a comment.
const COMMENT_WIDTH: usize = 100;

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
        if entry.section.entry().is_none() {
            self.line("");
            self.comment(setting.about);
            let default = Value::Text(setting.default.to_owned());
            if let Some(text) =
                literal(setting, &default, Dialect::Ini).filter(|_| !setting.default.is_empty())
            {
                self.comment(&format!("Default: {text}"));
            }
        }
        let typed = value::interpret(setting.kind, &entry.value, self.dialect);
        match typed.map_or(Ok(None), |typed| verdict(setting, &typed)) {
            Ok(None) => {}
            Ok(Some(remark)) => self.comment(&format!("pgweir: {remark}.")),
            Err(problem) => self.comment(&format!("pgweir does not start with this: {problem}.")),
        }
        if setting.is_secret() && !entry.value.has_variable() {
            self.comment(
                "A secret in clear text: \"${NAME}\" or password_file would keep it out of this file.",
            );
        }
    }

    /// A comment, in lines of a width that reads well.
    fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split(' ') {
            if line.len() + word.len() > COMMENT_WIDTH {
                self.line(&line);
                line.truncate(1);
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
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
