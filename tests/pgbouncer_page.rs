//! `docs/pgbouncer.md` is complete, and each of its lines names tests that there are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;
use std::path::Path;

const PAGE: &str = include_str!("../docs/pgbouncer.md");
const GENERAL: &str = include_str!("../src/config/settings/general.rs");
const ENTRIES: &str = include_str!("../src/config/settings/entries.rs");

const TABLE: &str = include_str!("../src/config/settings/mod.rs");

/// What a line may say.
const WORDS: [&str; 4] = ["same", "better", "different", "not honoured"];

const COMMANDS: [&str; 14] = [
    "DISABLE db",
    "ENABLE db",
    "KILL [db]",
    "KILL_CLIENT id",
    "PAUSE [db]",
    "RECONNECT [db]",
    "RELOAD",
    "RESUME [db]",
    "SET key = value",
    "SHUTDOWN",
    "SHUTDOWN WAIT_FOR_CLIENTS",
    "SHUTDOWN WAIT_FOR_SERVERS",
    "SUSPEND",
    "WAIT_CLOSE [db]",
];

const SHOWS: [&str; 22] = [
    "ACTIVE_SOCKETS",
    "CLIENTS",
    "CONFIG",
    "DATABASES",
    "DNS_HOSTS",
    "DNS_ZONES",
    "FDS",
    "HELP",
    "LISTS",
    "MEM",
    "PEERS",
    "PEER_POOLS",
    "POOLS",
    "SERVERS",
    "SOCKETS",
    "STATE",
    "STATS",
    "STATS_AVERAGES",
    "STATS_TOTALS",
    "TOTALS",
    "USERS",
    "VERSION",
];

const SIGNALS: [&str; 6] = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"];

const FLAGS: [&str; 7] = [
    "-d, --daemon",
    "-h, --help",
    "-q, --quiet",
    "-R, --reboot",
    "-u, --user",
    "-v, --verbose",
    "-V, --version",
];

/// A line of a table.
struct Line {
    name: String,
    word: String,
    tests: String,
}

/// The lines of each table, by the heading above it.
fn tables() -> BTreeMap<&'static str, Vec<Line>> {
    let mut tables: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    let mut heading = "";
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        }
        if !line.starts_with('|') || line.starts_with("| | |") || line.starts_with("|---") {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        let cell = |number: usize| cells[number].to_owned();
        let line = Line { name: cell(0).replace('`', ""), word: cell(1), tests: cell(3) };
        tables.entry(heading).or_default().push(line);
    }
    tables
}

/// The names of settings in a piece of the table of settings.
fn settings(source: &str) -> Vec<String> {
    let starts = [
        "Setting::honoured(\"",
        "Setting::not_yet(\"",
        "Setting::refused(\"",
        "Setting::ignored(\"",
        "name: \"",
    ];
    let name = |line: &str| {
        let after = starts.iter().find_map(|start| line.split_once(start))?.1;
        Some(after.split_once('"')?.0.to_owned())
    };
    source.lines().filter_map(name).collect()
}

/// Those that PgBouncer does not have.
fn own() -> Vec<&'static str> {
    let list = TABLE.split_once("const OWN: [").unwrap().1.split_once("];").unwrap().0;
    list.split('"').skip(1).step_by(2).collect()
}

fn assert_has(heading: &str, names: impl IntoIterator<Item = impl AsRef<str>>) {
    let tables = tables();
    let lines = tables.get(heading).unwrap_or_else(|| panic!("no table under {heading:?}"));
    let found: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    for name in names {
        let count = found.iter().filter(|found| **found == name.as_ref()).count();
        assert_eq!(count, 1, "lines about {:?} under {heading:?}", name.as_ref());
    }
}

/// Would break with: a setting that was added, or honoured, without its line.
#[test]
fn every_setting_has_a_line() {
    let own = own();
    let general: Vec<_> =
        settings(GENERAL).into_iter().filter(|name| !own.contains(&name.as_str())).collect();
    assert!(general.len() > 95, "{general:?}");
    assert_has("Settings of `[pgbouncer]`", general);
    let (databases, rest) = ENTRIES.split_once("const USER:").unwrap();
    let (users, peers) = rest.split_once("const PEER:").unwrap();
    for (heading, source) in [
        ("Settings of `[databases]`", databases),
        ("Settings of `[users]`", users),
        ("Settings of `[peers]`", peers),
    ] {
        assert!(settings(source).len() > 2);
        assert_has(heading, settings(source));
    }
}

/// Would break with: a setting that is said to be honoured and is not, or the other way round.
#[test]
fn what_is_not_built_is_said_to_be_not_honoured() {
    let tables = tables();
    for line in GENERAL.lines().filter(|line| line.contains("Setting::not_yet(")) {
        let name = &settings(line)[0];
        let found = tables["Settings of `[pgbouncer]`"].iter().find(|row| row.name == *name).unwrap();
        // What pgweir does anyway may be better than what the setting asks for.
        assert!(["not honoured", "better"].contains(&found.word.as_str()), "{name} is {}", found.word);
    }
    for line in GENERAL.lines().filter(|line| line.contains("Setting::honoured(")) {
        let name = &settings(line)[0];
        if let Some(found) = tables["Settings of `[pgbouncer]`"].iter().find(|row| row.name == *name) {
            assert_ne!(found.word, "not honoured", "{name}");
        }
    }
}

/// Would break with: a command, a view, a signal or a flag without its line.
#[test]
fn every_command_has_a_line() {
    assert_has("Console commands", COMMANDS);
    assert_has("SHOW", SHOWS.map(|name| format!("SHOW {name}")));
    assert_has("Signals", SIGNALS);
    assert_has("Command line", FLAGS);
}

/// Would break with: a line that nothing holds, or a test that has another name by now.
#[test]
fn every_line_is_held_by_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for line in tables().values().flatten() {
        assert!(WORDS.contains(&line.word.as_str()), "{}: {:?}", line.name, line.word);
        let tests: Vec<&str> = line.tests.split(',').map(|test| test.trim().trim_matches('`')).collect();
        assert!(!line.tests.is_empty(), "{} has no test", line.name);
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{}: {test:?}", line.name));
            let text = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|_| panic!("{}: no {file}", line.name));
            let name = name.rsplit("::").next().unwrap();
            let is_there =
                [format!("fn {name}("), format!("def {name}(")].iter().any(|start| text.contains(start));
            assert!(is_there, "{}: no {name} in {file}", line.name);
        }
    }
}

/// Would break with: rows in no order, where nobody finds them.
#[test]
fn settings_are_in_the_order_of_their_names() {
    for (heading, lines) in tables().into_iter().filter(|(heading, _)| heading.starts_with("Settings")) {
        assert!(lines.is_sorted_by(|a, b| a.name <= b.name), "{heading}");
    }
}
