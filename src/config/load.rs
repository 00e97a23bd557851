//! Loading a file.

use std::path::Path;
use std::sync::Arc;

use super::build;
use super::error::{ConfigErrors, Findings, Notice, Origin, Section};
use super::front;
use super::model::Config;
use super::raw::Dialect;
use super::resolve::{self, Environment, Resolved, Values};
use super::settings::{self, Change, GENERAL};
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
    /// The language of the file.
    pub dialect: Dialect,
}

/// The value that a setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Where the key belongs.
    pub section: Section,
    /// The key.
    pub key: &'static str,
    /// The value as PgBouncer spells it; `***` for a secret.
    pub value: String,
    /// The default, spelled likewise; empty when there is none or the entry inherits.
    pub default: String,
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
        let resolved = resolve::resolve(&raw, path, environment, &mut findings);
        let config = build::build(&resolved, path, &mut findings);
        let notices = findings.into_result()?;
        let settings = general(&resolved, path);
        let entries = resolved.groups.iter().flat_map(entries).collect();
        Ok(Loaded { config: Arc::new(config), notices, settings, entries, dialect: raw.dialect })
    }
}

fn general(resolved: &Resolved, file: &Path) -> Vec<Effective> {
    let mut listed = Vec::new();
    for (key, typed, origin) in resolved.general.iter() {
        // Only PgBouncer for Windows lists this one.
        let Some(setting) = GENERAL.iter().find(|setting| setting.name == key && key != "service_name")
        else {
            continue;
        };
        listed.push(Effective {
            section: if setting.is_own() { Section::Own } else { Section::General },
            key,
            value: shown(typed, setting.is_secret()),
            default: resolve::default_text(setting, file),
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
            value: shown(typed, setting.is_secret()),
            default: setting.default.to_owned(),
            change: setting.change,
            origin: origin.clone(),
        })
    })
}

fn shown(typed: &Typed, is_secret: bool) -> String {
    let text = typed.shown();
    if is_secret && !text.is_empty() { "***".to_owned() } else { text }
}
