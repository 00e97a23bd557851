//! The front end for TOML.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Dialect, Entry, Findings, Group, Origin, Problem, Raw, Section, Value};
use super::{group_section, is_same, string_entries, unknown_section};

/// Reads a text that came from `file`.
pub(super) fn read(text: &str, file: &Arc<Path>, findings: &mut Findings) -> Raw {
    let (document, errors) = DeTable::parse_recoverable(text);
    let raw = Raw { dialect: Dialect::Toml, general: Vec::new(), groups: Vec::new() };
    let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
    let mut reader = Reader { line_ends, file, raw, findings };
    if errors.is_empty() {
        reader.document(document.get_ref());
    }
    // What was recovered from a broken file would only give errors that follow from the first ones.
    for error in &errors {
        let origin = reader.origin(error.span().map_or(0, |span| span.start));
        let problem = Problem::Syntax(error.message().lines().collect::<Vec<_>>().join(", "));
        reader.findings.error(origin, problem);
    }
    reader.raw
}

struct Reader<'a> {
    /// Where each line ends.
    line_ends: Vec<usize>,
    file: &'a Arc<Path>,
    raw: Raw,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    /// The line of a byte.
    fn origin(&self, at: usize) -> Origin {
        let line = 1 + self.line_ends.partition_point(|end| *end < at);
        Origin::Line { file: Arc::clone(self.file), line }
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let origin = self.origin(name.span().start);
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("pgbouncer", DeValue::Table(table)) => self.general(&Section::General, table),
                ("pgweir", DeValue::Table(table)) => self.general(&Section::Own, table),
                (name @ ("databases" | "users" | "peers"), DeValue::Table(table)) => self.groups(name, table),
                (name, DeValue::Table(_)) => self.findings.error(origin, unknown_section(name)),
                (name, _) => {
                    let text = format!("{name} stands outside of a table: put it into [pgbouncer]");
                    self.findings.error(origin, Problem::Syntax(text));
                }
            }
        }
    }

    fn general(&mut self, section: &Section, table: &DeTable<'_>) {
        let entries = self.entries(section, table);
        for entry in entries {
            // Only the two general tables together can hold a key twice; TOML refuses the rest.
            match self.raw.general.iter().find(|other| is_same(other, &entry)) {
                Some(other) => {
                    let problem = Problem::Conflict(format!("already set at {}", other.origin));
                    self.findings.error_at(&entry.origin, section, &entry.key, problem);
                }
                None => self.raw.general.push(entry),
            }
        }
    }

    fn groups(&mut self, name: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let origin = self.origin(key.span().start);
            let Some(section) = group_section(name, key.get_ref().to_string()) else { continue };
            let entries = match value.get_ref() {
                DeValue::Table(table) => self.entries(&section, table),
                DeValue::String(text) => string_entries(&section, text, &origin, self.findings),
                _ => {
                    let expected = format!("a table [{name}.NAME] or a connection string");
                    self.findings.error_in(&origin, &section, Problem::BadValue { shown: None, expected });
                    continue;
                }
            };
            self.raw.groups.push(Group { section, origin, entries });
        }
    }

    fn entries(&self, section: &Section, table: &DeTable<'_>) -> Vec<Entry> {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| Entry {
            section: section.clone(),
            key: key_text(key),
            value: value_of(value.get_ref()),
            origin: self.origin(key.span().start),
        };
        table.iter().map(entry).collect()
    }
}

fn key_text(key: &Spanned<std::borrow::Cow<'_, str>>) -> String {
    key.get_ref().to_string()
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer { digits: number.as_str().to_owned(), radix: number.radix() }
        }
        DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Unusable("a date"),
        DeValue::Table(_) => Value::Unusable("a table"),
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| item_text(item.get_ref())).collect();
            items.map_or(Value::Unusable("a list of other things than words"), Value::List)
        }
    }
}

fn item_text(item: &DeValue<'_>) -> Option<String> {
    match item {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Raw, Findings) {
        let mut findings = Findings::default();
        let raw = read(text, &Arc::from(Path::new("t.toml")), &mut findings);
        (raw, findings)
    }

    fn messages(text: &str) -> Vec<String> {
        parse(text).1.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_typed_values_with_their_lines() {
        let (raw, findings) = parse("[pgbouncer]\na = 'x'\nb = 0o17\nc = 1.5\nd = true\n\ne = [\n 'x', 1]\n");
        assert!(findings.errors.is_empty());
        let values: Vec<_> = raw.general.iter().map(|e| (e.value.shown(), e.origin.to_string())).collect();
        let expected = [("\"x\"", 2), ("0o17", 3), ("1.5", 4), ("true", 5), ("[\"x\", \"1\"]", 7)];
        assert_eq!(values, expected.map(|(value, line)| (value.to_owned(), format!("t.toml:{line}"))));
    }

    #[test]
    fn reads_groups_as_tables_or_strings() {
        let (raw, findings) =
            parse("[databases]\na = 'host=x port=1'\n[databases.b]\nhost = 'y'\n[users.\"c d\"]\n");
        assert!(findings.errors.is_empty());
        let groups: Vec<_> = raw.groups.iter().map(|g| (g.section.to_string(), g.entries.len())).collect();
        let expected = [("[databases] a", 2), ("[databases] b", 1), ("[users] c d", 0)];
        assert_eq!(groups, expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn says_what_is_wrong_with_its_line() {
        let errors = messages(
            "x = 1\n[pgbouncr]\n[databases]\na = 1\n[pgbouncer]\nworkers = 1\n[pgweir]\nworkers = 2\n",
        );
        assert_eq!(
            errors,
            [
                "t.toml:1: syntax error: x stands outside of a table: put it into [pgbouncer]",
                "t.toml:2: unknown section [pgbouncr], did you mean [pgbouncer]?",
                "t.toml:4: [databases] a: this value is not allowed: expected a table [databases.NAME] or a \
                 connection string",
                "t.toml:8: [pgweir] workers: already set at t.toml:6",
            ]
        );
    }

    #[test]
    fn syntax_errors_have_lines_and_quote_nothing() {
        let errors = messages("[databases.a]\npassword = hidden\nport = 1\nport = 2\n");
        assert!(errors.iter().all(|error| !error.contains("hidden")), "{errors:#?}");
        assert!(errors[0].starts_with("t.toml:2: syntax error: "), "{errors:#?}");
        assert!(errors.iter().any(|error| error.starts_with("t.toml:4: syntax error: ")), "{errors:#?}");
    }
}
