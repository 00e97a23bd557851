//! The text of `check`.

use std::fmt::Write;

use super::error::Section;
use super::load::{Effective, Loaded};
use super::raw::Dialect;

/// Column at which origins start, where values are not longer.
const ORIGIN_COLUMN: usize = 56;

/// The effective configuration with the origin of each value, then the notices, then what PgBouncer would do otherwise.
/// Secrets show as `***`.
#[must_use]
pub fn check_report(loaded: &Loaded) -> String {
    let mut report = String::new();
    let language = match loaded.dialect {
        Dialect::Ini => "as pgbouncer.ini",
        Dialect::Toml => "as TOML",
    };
    line(&mut report, &format!("{}: read {language}", loaded.config.file.display()));
    for section in [Section::General, Section::Own] {
        line(&mut report, &format!("\n{section}"));
        for setting in loaded.settings.iter().filter(|setting| setting.section == section) {
            value(&mut report, "", setting);
        }
    }
    entries(&mut report, "databases", loaded);
    entries(&mut report, "users", loaded);
    entries(&mut report, "peers", loaded);
    notices(&mut report, loaded);
    differences(&mut report, loaded);
    report
}

fn entries(report: &mut String, table: &str, loaded: &Loaded) {
    let config = &loaded.config;
    let peers: Vec<String> = config.peering.peers.keys().map(ToString::to_string).collect();
    let names: Vec<&str> = match table {
        "peers" => peers.iter().map(String::as_str).collect(),
        "users" => config.users.keys().map(String::as_str).collect(),
        _ => {
            config.databases.keys().map(String::as_str).chain(config.fallback.as_ref().map(|_| "*")).collect()
        }
    };
    if names.is_empty() {
        return;
    }
    line(report, &format!("\n[{table}]"));
    for name in names {
        line(report, name);
        let mine = |entry: &&Effective| entry.section.table() == table && entry.section.entry() == Some(name);
        for entry in loaded.entries.iter().filter(mine) {
            value(report, "    ", entry);
        }
    }
}

fn value(report: &mut String, indent: &str, setting: &Effective) {
    let shown = setting.value.as_deref().unwrap_or_default();
    let text = match shown.parse::<u32>() {
        // PgBouncer spells it in decimal, in which nobody can read it.
        Ok(mode) if setting.key == "unix_socket_mode" => format!("{mode:04o}"),
        _ => shown.to_owned(),
    };
    let text = format!("{indent}{} = {text}", setting.key);
    line(report, &format!("{text:ORIGIN_COLUMN$} # {}", setting.origin));
}

fn notices(report: &mut String, loaded: &Loaded) {
    if loaded.notices.is_empty() {
        return;
    }
    line(report, "\nnotices");
    for notice in &loaded.notices {
        line(report, &notice.to_string());
    }
}

/// What an operator should read before it takes PgBouncer's place.
fn differences(report: &mut String, loaded: &Loaded) {
    line(report, "\ndifferences from PgBouncer 1.26 that this file meets");
    for difference in &loaded.differences {
        line(report, &difference.to_string());
    }
}

fn line(report: &mut String, text: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(report, "{text}");
}
