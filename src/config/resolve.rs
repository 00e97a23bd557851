//! From what was written to checked values: unknown keys, bad values and what this version cannot do are found here.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::environment;
use super::error::{Findings, Origin, Problem, Remark, Section};
use super::front;
use super::lenient::{self, Reading};
use super::raw::{Dialect, Entry, Group, Raw, Value};
use super::settings::{self, GENERAL, Kind, Setting, Status};
use super::suggest;
use super::value::{self, Typed};

/// Where the process' environment comes from.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The checked values of one section or entry.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) section: Section,
    pub(super) origin: Origin,
    values: BTreeMap<&'static str, Held>,
}

#[derive(Debug)]
struct Held {
    typed: Typed,
    origin: Origin,
    /// A list as it was written, with its blanks: PgBouncer shows it so.
    written: Option<String>,
}

/// All checked values.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Every general setting has a value here.
    pub(super) general: Values,
    /// Databases, users and peers, in the order of the file.
    pub(super) groups: Vec<Values>,
}

/// Checks every entry. One with a bad value is left out (or at its default), so that the rest can be checked too.
pub(super) fn resolve(
    raw: &Raw,
    file: &Path,
    environment: &Environment<'_>,
    findings: &mut Findings,
) -> Resolved {
    let mut checker = Checker { dialect: raw.dialect, environment, findings };
    let mut general = defaults(file);
    checker.entries(&raw.general, &mut general);
    let groups = raw.groups.iter().map(|group| checker.group(group)).collect();
    Resolved { general, groups }
}

/// The value of a setting that nobody sets, as an ini file would spell it.
pub(super) fn default_text(setting: &Setting, file: &Path) -> String {
    match setting.name {
        "workers" => std::thread::available_parallelism().map_or(1, usize::from).min(1024).to_string(),
        "conffile" => file.display().to_string(),
        _ => setting.default.to_owned(),
    }
}

fn defaults(file: &Path) -> Values {
    let value = |setting: &'static Setting| {
        let text = default_text(setting, file);
        // A default that cannot be read would be missing for all; a test goes through the table.
        let typed = value::interpret(setting.kind, &Value::Text(text), Dialect::Ini)?;
        Some((setting.name, Held { typed, origin: Origin::Default, written: None }))
    };
    let values = GENERAL.iter().filter_map(value).collect();
    Values { section: Section::General, origin: Origin::Default, values }
}

struct Checker<'a> {
    dialect: Dialect,
    environment: &'a Environment<'a>,
    findings: &'a mut Findings,
}

impl Checker<'_> {
    fn group(&mut self, group: &Group) -> Values {
        if let Some(problem) = reserved(&group.section) {
            self.findings.error_in(&group.origin, &group.section, problem);
        }
        let (section, origin) = (group.section.clone(), group.origin.clone());
        let mut values = Values { section, origin, values: BTreeMap::new() };
        self.entries(&group.entries, &mut values);
        if matches!(group.section, Section::Peer(_)) && values.text("host").is_none() {
            let problem = Problem::Conflict("a peer needs a host".to_owned());
            self.findings.error_in(&group.origin, &group.section, problem);
        }
        values
    }

    fn entries(&mut self, entries: &[Entry], values: &mut Values) {
        for entry in entries {
            match self.entry(entry) {
                Ok(Some((name, typed))) => {
                    let written = match (&typed, &entry.value) {
                        (Typed::List(_), Value::Text(text)) => Some(text.clone()),
                        _ => None,
                    };
                    values.values.insert(name, Held { typed, origin: entry.origin.clone(), written });
                }
                Ok(None) => {}
                Err(problem) => self.findings.error_at(&entry.origin, &entry.section, &entry.key, problem),
            }
        }
    }

    /// The value of an entry; `None` when it is as if the key were not there.
    fn entry(&mut self, entry: &Entry) -> Result<Option<(&'static str, Typed)>, Problem> {
        let setting = settings::find(&entry.section, &entry.key).ok_or_else(|| unknown_key(entry))?;
        let mut value = self.expanded(entry)?;
        if setting.kind == Kind::Path {
            value = value.try_map(|path| Ok::<_, Problem>(self.at_home(path)))?;
        }
        let Some(typed) = self.read(setting, &value, entry)? else { return Ok(None) };
        self.status(setting, &typed, entry)?;
        Ok(Some((setting.name, typed)))
    }

    fn read(&mut self, setting: &Setting, value: &Value, entry: &Entry) -> Result<Option<Typed>, Problem> {
        let is_ini = self.dialect == Dialect::Ini || entry.origin == Origin::Console;
        let reading = if is_ini { lenient::read(&entry.section, setting, value) } else { None };
        let mut remark = |text| {
            let remark = Remark::Advice(text);
            self.findings.notice(&entry.origin, &entry.section, Some(&entry.key), remark);
        };
        match reading {
            Some(Reading::Value(typed, said)) => {
                said.into_iter().for_each(&mut remark);
                return Ok(Some(typed));
            }
            Some(Reading::Unset(said)) => {
                remark(said);
                return Ok(None);
            }
            None => {}
        }
        let typed = value::interpret(setting.kind, value, self.dialect).filter(|_| !is_ini);
        typed.map(Some).ok_or_else(|| bad_value(setting, &entry.value, self.dialect))
    }

    /// The value with variables of the environment in it, unless it comes from the console: whoever may use that may
    /// not read the environment.
    fn expanded(&mut self, entry: &Entry) -> Result<Value, Problem> {
        if entry.origin == Origin::Console {
            return Ok(entry.value.clone());
        }
        let expanded = entry.value.try_map(|text| environment::expand(text, self.environment));
        match expanded {
            // PgBouncer knows no variables, so there such a text means itself.
            Err(name) if self.dialect == Dialect::Ini => {
                let text =
                    format!("the environment variable {name} is not set, so the text is taken as it is");
                let remark = Remark::Advice(text);
                self.findings.notice(&entry.origin, &entry.section, Some(&entry.key), remark);
                Ok(entry.value.clone())
            }
            expanded => expanded.map_err(Problem::UnsetVariable),
        }
    }

    fn at_home(&self, path: &str) -> String {
        let home =
            path.strip_prefix("~/").and_then(|rest| Some(format!("{}/{rest}", (self.environment)("HOME")?)));
        home.unwrap_or_else(|| path.to_owned())
    }

    /// Says so when this version does not do what the value asks for.
    fn status(&mut self, setting: &Setting, typed: &Typed, entry: &Entry) -> Result<(), Problem> {
        if let Some(remark) = verdict(setting, typed)? {
            self.findings.notice(&entry.origin, &entry.section, Some(&entry.key), remark);
        }
        Ok(())
    }
}

/// What there is to say about a value that this version does not act on; the error is for one that it must not ignore.
pub(super) fn verdict(setting: &Setting, typed: &Typed) -> Result<Option<Remark>, Problem> {
    let means = |text: &str| {
        value::interpret(setting.kind, &Value::Text(text.to_owned()), Dialect::Ini).as_ref() == Some(typed)
    };
    match setting.status {
        Status::Honoured => Ok(None),
        Status::NotYet(acts_as) => Ok((!means(acts_as)).then_some(Remark::NotYetHonoured)),
        Status::Ignored(reason) => Ok((!means(setting.default)).then_some(Remark::Ignored(reason))),
        Status::Refused { harmless, tolerated, instead } => match tolerated {
            Some((values, remark)) if values.iter().any(|text| means(text)) => {
                Ok(Some(Remark::Advice(remark.to_owned())))
            }
            _ if harmless.iter().chain(&["", setting.default]).any(|text| means(text)) => Ok(None),
            _ => Err(Problem::Unsupported(instead.to_owned())),
        },
    }
}

/// The console's name is not to be had, and a peer's name is a number.
fn reserved(section: &Section) -> Option<Problem> {
    match section {
        Section::Database(name) if name == "pgbouncer" => {
            Some(Problem::Conflict("this name is reserved for the console".to_owned()))
        }
        Section::Peer(name) if !name.parse::<u16>().is_ok_and(|id| id > 0) => {
            Some(Problem::Conflict("the name of a peer is a number from 1 to 65535".to_owned()))
        }
        _ => None,
    }
}

fn unknown_key(entry: &Entry) -> Problem {
    if entry.section == Section::Own && settings::find(&Section::General, &entry.key).is_some() {
        return Problem::Conflict("this key belongs into [pgbouncer]".to_owned());
    }
    let suggestion = front::suggestion(&entry.section, &entry.key).map(str::to_owned);
    Problem::UnknownKey { suggestion }
}

/// The problem of a value that its setting does not take.
pub(super) fn bad_value(setting: &Setting, written: &Value, dialect: Dialect) -> Problem {
    let mut expected = value::expected(setting.kind, dialect);
    if let (Kind::Choice(words), Value::Text(text)) = (setting.kind, written) {
        if let Some(word) = suggest::closest(&text.to_lowercase(), words.iter().copied()) {
            expected = format!("{expected}; did you mean {word}?");
        }
    }
    let shown = (!setting.is_secret()).then(|| written.shown());
    Problem::BadValue { shown, expected }
}

impl Values {
    /// The values with their origins, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Typed, &Origin)> {
        self.values.iter().map(|(name, held)| (*name, &held.typed, &held.origin))
    }

    fn get(&self, name: &str) -> Option<&Typed> {
        self.values.get(name).map(|held| &held.typed)
    }

    /// Where a value comes from; the entry as a whole when the key is not set.
    pub(super) fn origin(&self, name: &str) -> &Origin {
        self.values.get(name).map_or(&self.origin, |held| &held.origin)
    }

    /// A list as it was written, if it was.
    pub(super) fn written(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.written.as_deref()
    }

    /// A text that is set and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Typed::Text(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            Typed::Choice(word) => Some(word),
            _ => None,
        }
    }

    /// The words of a list.
    pub(super) fn words(&self, name: &str) -> &[String] {
        match self.get(name) {
            Some(Typed::List(words)) => words,
            _ => &[],
        }
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            Typed::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A number of which 0 means without limit.
    pub(super) fn limit(&self, name: &str) -> Option<Option<u32>> {
        self.number(name).map(|number| (number > 0).then_some(number))
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Option<Duration> {
        match self.get(name)? {
            Typed::Seconds(time) => Some(*time),
            _ => None,
        }
    }

    /// A time of which 0 means off.
    pub(super) fn timeout(&self, name: &str) -> Option<Option<Duration>> {
        self.time(name).map(|time| (!time.is_zero()).then_some(time))
    }

    /// Off or on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Typed::Boolean(true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read() {
        let defaults = defaults(Path::new("x"));
        for setting in GENERAL {
            assert!(defaults.get(setting.name).is_some(), "{}", setting.name);
        }
    }
}
