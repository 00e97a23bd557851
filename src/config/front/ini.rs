//! The front end for `pgbouncer.ini`, line by line as PgBouncer reads it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{Dialect, Entry, Findings, Group, Origin, Problem, Raw, Remark, Section, Value};
use super::{group_section, put_last, string_entries, text_of, unknown_section};

/// Files within files; more is a file that includes itself.
const MAX_DEPTH: usize = 10;

/// Reads a text that came from `file`.
pub(super) fn read(text: &str, file: Arc<Path>, findings: &mut Findings) -> Raw {
    let raw = Raw { dialect: Dialect::Ini, general: Vec::new(), groups: Vec::new() };
    let mut reader = Reader { raw, named: HashMap::new(), place: Place::Nowhere, findings };
    reader.text(text, &file, 1);
    reader.raw
}

struct Reader<'a> {
    raw: Raw,
    /// Where each group is in `raw`: there may be thousands.
    named: HashMap<Section, usize>,
    /// The section of the lines to come; it carries over into included files and back.
    place: Place,
    findings: &'a mut Findings,
}

/// Where a line stands.
enum Place {
    /// Before the first section.
    Nowhere,
    /// In `[pgbouncer]` or `[pgweir]`.
    General(Section),
    /// In a section of named entries.
    Groups(&'static str),
    /// In a section that does not exist; one error for it is enough.
    Unknown,
}

impl Reader<'_> {
    fn text(&mut self, text: &str, file: &Arc<Path>, depth: usize) {
        for (index, line) in text.split('\n').enumerate() {
            let origin = Origin::Line { file: Arc::clone(file), line: index + 1 };
            self.line(line.trim_matches(is_space), &origin, depth);
        }
    }

    fn line(&mut self, line: &str, origin: &Origin, depth: usize) {
        if line.is_empty() || line.starts_with([';', '#']) {
            return;
        }
        if let Some(named) = line.strip_prefix("%include").filter(|rest| rest.starts_with([' ', '\t'])) {
            return self.include(named.trim_matches(is_space), origin, depth);
        }
        if let Some(header) = line.strip_prefix('[') {
            return match header.split_once(']') {
                Some((name, rest)) => {
                    self.section(name, origin);
                    self.line(rest.trim_start_matches(is_space), origin, depth);
                }
                None => self.findings.error(origin.clone(), Problem::Syntax("expected ] after [".to_owned())),
            };
        }
        match key_and_value(line) {
            Some((key, value)) => self.pair(key, value, origin),
            None => {
                let text = "expected key = value; a key of other characters than letters, digits and _ . - * needs \
                            double quotes";
                self.findings.error(origin.clone(), Problem::Syntax(text.to_owned()));
            }
        }
    }

    /// The path counts from the working directory, also within an included file.
    fn include(&mut self, named: &str, origin: &Origin, depth: usize) {
        if depth >= MAX_DEPTH {
            let text = format!("%include more than {MAX_DEPTH} files deep");
            return self.findings.error(origin.clone(), Problem::Syntax(text));
        }
        let file: Arc<Path> = Arc::from(Path::new(named));
        if let Some(text) = text_of(&file, origin, self.findings) {
            self.text(&text, &file, depth + 1);
        }
    }

    fn section(&mut self, name: &str, origin: &Origin) {
        self.place = match name {
            "pgbouncer" => {
                self.start_over(origin);
                Place::General(Section::General)
            }
            "pgweir" => Place::General(Section::Own),
            "databases" => Place::Groups("databases"),
            "users" => Place::Groups("users"),
            "peers" => Place::Groups("peers"),
            _ => {
                self.findings.error(origin.clone(), unknown_section(name));
                Place::Unknown
            }
        };
    }

    /// PgBouncer sets all settings to their defaults where `[pgbouncer]` begins, also for the second time.
    fn start_over(&mut self, origin: &Origin) {
        let all = std::mem::take(&mut self.raw.general);
        let (gone, rest): (Vec<_>, _) = all.into_iter().partition(|entry| entry.section == Section::General);
        self.raw.general = rest;
        for gone in gone {
            let text = format!("does not count, since [pgbouncer] begins again at {origin} and all with it");
            self.findings.notice(&gone.origin, &gone.section, Some(&gone.key), Remark::Advice(text));
        }
    }

    fn pair(&mut self, key: String, value: &str, origin: &Origin) {
        match &self.place {
            Place::General(section) => {
                let value = Value::Text(value.to_owned());
                let entry = Entry { section: section.clone(), key, value, origin: origin.clone() };
                put_last(&mut self.raw.general, entry, self.findings);
            }
            Place::Groups(table) => {
                if let Some(section) = group_section(table, key) {
                    let entries = string_entries(&section, value, origin, self.findings);
                    let group = Group { section, origin: origin.clone(), entries };
                    self.put_last_group(group);
                }
            }
            Place::Nowhere => {
                let text = format!("{key} stands before the first section");
                self.findings.error(origin.clone(), Problem::Syntax(text));
            }
            Place::Unknown => {}
        }
    }
}

impl Reader<'_> {
    /// Adds a group, in the place of one of the same name: the last one wins.
    fn put_last_group(&mut self, group: Group) {
        let groups = &mut self.raw.groups;
        let index = *self.named.entry(group.section.clone()).or_insert(groups.len());
        match groups.get_mut(index) {
            Some(before) => {
                let remark = Remark::Overridden(group.origin.clone());
                self.findings.notice(&before.origin, &before.section, None, remark);
                *before = group;
            }
            None => groups.push(group),
        }
    }
}

/// Splits `key = value`; a quoted key may hold anything, with `""` for a quote.
fn key_and_value(line: &str) -> Option<(String, &str)> {
    let (key, rest) = match (line.strip_prefix('"'), line.strip_prefix('\'')) {
        (Some(quoted), _) => quoted_key(quoted)?,
        // PgBouncer 1.26 takes single quotes; there is no way to write one inside.
        (None, Some(quoted)) => quoted.split_once('\'').map(|(key, rest)| (key.to_owned(), rest))?,
        (None, None) => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-*".contains(c);
            let end = line.find(|c| !is_plain(c)).unwrap_or(line.len());
            (line[..end].to_owned(), &line[end..])
        }
    };
    let value = rest.trim_start_matches([' ', '\t']).strip_prefix('=')?;
    (!key.is_empty()).then(|| (key, value.trim_start_matches([' ', '\t'])))
}

/// The key after its opening quote, and what comes after its closing one.
fn quoted_key(mut rest: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        key.push_str(part);
        let Some(more) = after.strip_prefix('"') else {
            return Some((key, after));
        };
        key.push('"');
        rest = more;
    }
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Raw, Findings) {
        let mut findings = Findings::default();
        let raw = read(text, Arc::from(Path::new("t.ini")), &mut findings);
        (raw, findings)
    }

    fn general(text: &str) -> Vec<(String, Value)> {
        parse(text).0.general.into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    fn text(key: &str, value: &str) -> (String, Value) {
        (key.to_owned(), Value::Text(value.to_owned()))
    }

    fn messages(text: &str) -> Vec<String> {
        parse(text).1.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_lines_as_pgbouncer_does() {
        let file = "; a\n# b\r\n  [pgbouncer]\r\n\t key=v ; # part of it \r\nempty =\nquery = a = b\n";
        assert_eq!(
            general(file),
            [text("key", "v ; # part of it"), text("empty", ""), text("query", "a = b")]
        );
        // Where the section begins again, all is as if nothing had been set.
        assert_eq!(general("[pgbouncer] a = 1\n[pgbouncer]\nb = 2"), [text("b", "2")]);
    }

    #[test]
    fn the_last_of_two_wins_with_a_notice() {
        let (raw, findings) = parse(
            "[pgbouncer]\na = 1\nb = 2\na = 3\n[databases]\nx = host=a\n[users]\n[databases]\nx = port=1\n",
        );
        let values: Vec<_> =
            raw.general.iter().map(|entry| (entry.key.as_str(), entry.value.shown())).collect();
        assert_eq!(values, [("b", "\"2\"".to_owned()), ("a", "\"3\"".to_owned())]);
        assert_eq!(raw.groups.len(), 1);
        assert_eq!(raw.groups[0].entries[0].key, "port");
        let notices: Vec<_> = findings.notices.iter().map(ToString::to_string).collect();
        assert_eq!(
            notices,
            [
                "t.ini:2: [pgbouncer] a: set again at t.ini:4, and the last one wins",
                "t.ini:6: [databases] x: set again at t.ini:9, and the last one wins",
            ]
        );
    }

    #[test]
    fn reads_quoted_names() {
        let (raw, findings) =
            parse("[databases]\n\"my \"\"db\"\" = 1\" = host=a\nb.c-d* =\n'x \"y' = host=b\n");
        assert!(findings.errors.is_empty());
        let names: Vec<_> = raw.groups.iter().filter_map(|group| group.section.entry()).collect();
        assert_eq!(names, ["my \"db\" = 1", "b.c-d*", "x \"y"]);
    }

    #[test]
    fn says_what_is_wrong_and_goes_on() {
        let errors =
            messages("a = 1\n[databses]\nx = y\n[pgbouncer\n[users]\nmy user = a=1\nbob = pool_size\n");
        assert_eq!(errors.len(), 5, "{errors:#?}");
        assert_eq!(errors[0], "t.ini:1: syntax error: a stands before the first section");
        assert_eq!(errors[1], "t.ini:2: unknown section [databses], did you mean [databases]?");
        assert_eq!(errors[2], "t.ini:4: syntax error: expected ] after [");
        assert!(errors[3].starts_with("t.ini:6: syntax error: expected key = value"));
        assert_eq!(errors[4], "t.ini:7: [users] bob: syntax error: expected key=value at character 1");
    }

    #[test]
    fn never_quotes_what_may_be_a_password() {
        let errors = messages("[databases]\na = password=my hidden=word\nb = password='it hidden\n");
        assert_eq!(
            errors,
            [
                "t.ini:2: [databases] a: syntax error: a password that holds spaces needs single quotes",
                "t.ini:3: [databases] b: syntax error: the quote at character 10 is not closed",
            ]
        );
    }
}
