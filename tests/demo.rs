//! `pgweir demo`: what it shows, and that it leaves nothing behind however it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn many_clients_are_served_by_few_servers() {
    let place = Place::new();
    let output = demo(&place, &["--exit", "--seconds", "2", "--clients", "60", "--servers", "3"]);
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("\nserved 60 of 60 clients with 3 servers: "), "{shown}");
    assert!(shown.contains(" transactions, 0 errors\n"), "{shown}");
    // Columns: second, clients, servers, in line, transactions, average wait.
    let first = shown.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap();
    let columns: Vec<&str> = first.split_whitespace().collect();
    assert_eq!((columns[2], columns[4] != "0"), ("3", true), "{shown}");
    place.is_as_it_was();
}

#[test]
fn a_signal_ends_it_and_all_it_started() {
    for signal in ["INT", "TERM", "HUP"] {
        let place = Place::new();
        let mut process = command(&place, &["--seconds", "600", "--clients", "5"]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().trim_start().starts_with("1 ")), "the load did not begin");
        let kill = format!("kill -s {signal} {}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert!(lines.all(|line| line.is_ok()));
        let mut said = String::new();
        process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!process.wait().unwrap().success());
        assert_eq!(said, "interrupted\n");
        place.is_as_it_was();
    }
}

#[test]
fn a_step_that_fails_is_shown_and_cleaned_up() {
    let place = Place::new();
    let bin = place.0.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["initdb", "postgres"] {
        let file = bin.join(program);
        std::fs::write(&file, "#!/bin/sh\necho \"no room for $0\" >&2\nexit 3\n").unwrap();
        std::fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::join_paths([bin.clone(), "/usr/bin".into(), "/bin".into()]).unwrap();
    let output = command(&place, &["--exit"]).env("PATH", path).output().unwrap();
    let shown = text(&output);
    assert!(!output.status.success(), "{shown}");
    assert!(shown.contains("initdb failed (exit status: 3)") && shown.contains("no room for"), "{shown}");
    std::fs::remove_dir_all(bin).unwrap();
    place.is_as_it_was();
}

/// A temporary folder for one run.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("weir-demo-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// No file is left in it, and no process that works in it.
    fn is_as_it_was(&self) {
        let files: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files, Vec::<PathBuf>::new());
        assert_eq!(processes_that_name(&self.0), Vec::<String>::new());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone_or_not = std::fs::remove_dir_all(&self.0);
    }
}

fn processes_that_name(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}

fn demo(place: &Place, arguments: &[&str]) -> Output {
    command(place, arguments).output().unwrap()
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgweir"));
    command.arg("demo").args(arguments).env("TMPDIR", &place.0).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}
