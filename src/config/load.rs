//! Loading a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build;
use super::error::{ConfigErrors, Findings, Notice, Origin, Remark, Section};
use super::front;
use super::model::Config;
use super::outside::Outside;
use super::raw::{Dialect, Entry, Raw, Value};
use super::resolve::{self, Environment, Resolved, Values};
use super::settings::{self, Change, GENERAL, Status};
use super::value::Typed;

/// A configuration that can be used, and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// What pgweir will not do as asked, and what may not be meant; in the order of the file.
    pub notices: Vec<Notice>,
    /// All general settings in alphabetical order, as `SHOW CONFIG` lists them.
    pub settings: Vec<Effective>,
    /// The settings of databases, users and peers, in the order of the file.
    pub entries: Vec<Effective>,
    /// Where pgweir does not do what PgBouncer 1.26 would do with this file; in the order of the file, defaults first.
    pub differences: Vec<Notice>,
    /// The language of the file.
    pub dialect: Dialect,
    /// What the file says, and what was `SET` since.
    raw: Raw,
    /// What else was read.
    outside: Outside,
    /// The file that was read. `conffile` may name another one for the next time.
    path: PathBuf,
}

/// The value that a setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Where the key belongs.
    pub section: Section,
    /// The key.
    pub key: &'static str,
    /// The value as PgBouncer spells it, `***` for a secret; `None` where PgBouncer shows NULL.
    pub value: Option<String>,
    /// The default, spelled likewise; empty when the entry inherits.
    pub default: Option<String>,
    /// Whether PgBouncer's `SHOW CONFIG` has it.
    pub is_listed: bool,
    /// When a new value takes effect.
    pub change: Change,
    /// Where the value comes from.
    pub origin: Origin,
}

/// The environment variables of this process, for [`Config::load`].
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// Loads a TOML file or a `pgbouncer.ini`; the content tells which.
    ///
    /// `environment` gives the variables for `${NAME}`. This reads files and may ask the resolver (for a host name in
    /// `listen_addr`), so it blocks.
    ///
    /// # Errors
    ///
    /// All that is wrong with the file, each with its line.
    pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Loaded, ConfigErrors> {
        let mut findings = Findings::default();
        let raw = front::read(path, &mut findings);
        Loaded::of(raw, path, environment, Outside::default(), findings)
    }
}

impl Loaded {
    fn of(
        raw: Raw,
        path: &Path,
        environment: &Environment<'_>,
        mut outside: Outside,
        mut findings: Findings,
    ) -> Result<Self, ConfigErrors> {
        let resolved = resolve::resolve(&raw, path, environment, &mut findings);
        let config = build::build(&resolved, path, &mut outside, &mut findings);
        let notices = findings.into_result()?;
        let settings = general(&resolved, path);
        let entries = resolved.groups.iter().flat_map(entries).collect();
        let differences = differences(&resolved, &settings);
        let dialect = raw.dialect;
        Ok(Self {
            config: Arc::new(config),
            notices,
            settings,
            entries,
            differences,
            dialect,
            raw,
            outside,
            path: path.to_owned(),
        })
    }

    /// The same with one more general setting, as it was given to `SET`. No file is read again, so that nothing
    /// else takes effect; variables of the environment are not for the console.
    ///
    /// # Errors
    ///
    /// What is wrong with the key or its value.
    pub fn with(&self, key: &str, value: &str, environment: &Environment<'_>) -> Result<Self, ConfigErrors> {
        let own = settings::find(&Section::Own, key).is_some();
        let section = if own { Section::Own } else { Section::General };
        let value = Value::Text(value.to_owned());
        let entry = Entry { section, key: key.to_owned(), value, origin: Origin::Console };
        let mut raw = self.raw.clone();
        raw.general.retain(|other| other.key != key);
        raw.general.push(entry);
        let mut loaded = Self::of(raw, &self.path, environment, self.outside.clone(), Findings::default())?;
        loaded
            .notices
            .retain(|notice| notice.origin == Origin::Console && notice.key.as_deref() == Some(key));
        Ok(loaded)
    }

    /// The same with the values of `before` shown for what cannot change at run time.
    #[must_use]
    pub fn keeping_fixed(mut self, before: &Self) -> Self {
        for setting in self.settings.iter_mut().filter(|setting| setting.change == Change::Restart) {
            if let Some(old) = before.settings.iter().find(|old| old.key == setting.key) {
                setting.clone_from(old);
            }
        }
        self
    }
}

/// When a new value of a general setting takes effect; `None` when there is no such setting.
#[must_use]
pub fn change_of(key: &str) -> Option<Change> {
    settings::find(&Section::General, key).map(|setting| setting.change)
}

/// What there is to say about each value in force, set or not.
fn differences(resolved: &Resolved, settings: &[Effective]) -> Vec<Notice> {
    let mut found = Findings::default();
    for values in std::iter::once(&resolved.general).chain(&resolved.groups) {
        for (key, typed, origin) in values.iter() {
            let Some(setting) = settings::find(&values.section, key) else { continue };
            // What is wrong has stopped this file already.
            if let Ok(Some(remark)) = resolve::verdict(setting, typed) {
                found.notice(origin, &values.section, Some(key), acting_as(remark, setting.status));
            }
        }
    }
    for difference in settings::DIFFERENCES {
        let met = |setting: &&Effective| {
            setting.key == difference.key
                && difference.when.holds(setting.value.as_deref().unwrap_or_default())
        };
        if let Some(setting) = settings.iter().find(met) {
            let remark = Remark::Advice(difference.text.to_owned());
            found.notice(&setting.origin, &setting.section, Some(setting.key), remark);
        }
    }
    found.into_result().unwrap_or_default()
}

/// A word more where it is known what happens instead.
fn acting_as(remark: Remark, status: Status) -> Remark {
    match (remark, status) {
        (Remark::NotYetHonoured, Status::NotYet(acts_as)) if !acts_as.is_empty() => {
            Remark::Advice(format!("not yet honoured: pgweir acts as if it were {acts_as}"))
        }
        (remark, _) => remark,
    }
}

fn general(resolved: &Resolved, file: &Path) -> Vec<Effective> {
    let mut listed = Vec::new();
    let general = &resolved.general;
    for (key, typed, origin) in general.iter() {
        // Only PgBouncer for Windows lists this one.
        let Some(setting) = GENERAL.iter().find(|setting| setting.name == key && key != "service_name")
        else {
            continue;
        };
        let unset = *origin == Origin::Default && setting.is_null_unset();
        let default = resolve::default_text(setting, file);
        listed.push(Effective {
            section: if setting.is_own() { Section::Own } else { Section::General },
            key,
            value: (!unset).then(|| {
                general.written(key).map_or_else(|| shown(typed, setting.is_secret()), str::to_owned)
            }),
            default: (!setting.is_null_by_default()).then_some(default),
            is_listed: setting.is_listed(),
            change: setting.change,
            origin: origin.clone(),
        });
    }
    listed
}

fn entries(values: &Values) -> impl Iterator<Item = Effective> + '_ {
    values.iter().filter_map(|(key, typed, origin)| {
        let setting = settings::find(&values.section, key)?;
        Some(Effective {
            section: values.section.clone(),
            key,
            value: Some(shown(typed, setting.is_secret())),
            default: Some(setting.default.to_owned()),
            is_listed: false,
            change: setting.change,
            origin: origin.clone(),
        })
    })
}

fn shown(typed: &Typed, is_secret: bool) -> String {
    let text = typed.shown();
    if is_secret && !text.is_empty() { "***".to_owned() } else { text }
}
