//! The binaries of one PostgreSQL version, and what is done with them.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::watchdog::{self, Scratch};
use super::{block_until, cache, give_to_unprivileged, run, unprivileged};

/// Run once in a new cluster, in single-user mode: one command a line.
const SETUP: &str = "\
    SET password_encryption = 'md5'; CREATE ROLE weir_md5 LOGIN PASSWORD 'weir_md5'\n\
    SET password_encryption = 'scram-sha-256'; CREATE ROLE weir LOGIN CREATEDB PASSWORD 'weir'\n\
    CREATE ROLE weir_trust LOGIN PASSWORD 'weir_trust'\n\
    ALTER ROLE postgres PASSWORD 'postgres'\n\
    CREATE DATABASE weir OWNER weir\n";

/// Named in the template's path: raise it when [`SETUP`] or the arguments of `initdb` change.
const TEMPLATE_REVISION: u32 = 1;

/// The binaries of one version.
#[derive(Debug)]
pub(super) struct Installation {
    bin: PathBuf,
    /// As `postgres --version` says it: `15.18`.
    version: String,
    pub(super) major: u32,
}

impl Installation {
    /// Those of `major` from the cache; Debian's own when no major is asked for or when it is that one.
    pub(super) fn find(major: Option<&str>) -> Self {
        let cached = |major: &str| {
            let folder = cache().join("postgres").join(major);
            folder.canonicalize().map_or(folder, |folder| folder.join("bin"))
        };
        let debian = |major: &str| Path::new("/usr/lib/postgresql").join(major).join("bin");
        let bin = match major {
            Some(major) if debian(major).join("initdb").exists() => debian(major),
            Some(major) => cached(major),
            None => newest_of_debian().unwrap_or_else(|| cached("16")),
        };
        assert!(bin.join("initdb").exists(), "no PostgreSQL in {}: run `make setup`", bin.display());
        let output = run(&mut unprivileged_with_libraries(&bin, "postgres", |c| c.arg("--version")));
        let version = output.split_whitespace().nth(2).unwrap().to_owned();
        let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        Self { bin, version, major }
    }

    pub(super) fn command(&self, program: &str) -> Command {
        unprivileged_with_libraries(&self.bin, program, |command| command)
    }

    /// A data folder to copy, made once: `initdb` takes longer than a copy.
    pub(super) fn template(&self) -> PathBuf {
        let finished = cache().join("clusters").join(format!("{}-r{TEMPLATE_REVISION}", self.version));
        // One thread at a time; other processes have names of their own for their copies.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !finished.exists() {
            let scratch = Scratch::new("pgweir-initdb");
            self.initialise(&scratch);
            std::fs::create_dir_all(finished.parent().unwrap()).unwrap();
            let copy = finished.with_extension(std::process::id().to_string());
            run(Command::new("cp").arg("-a").arg(scratch.join("data")).arg(&copy));
            // Another process may have been first: its folder is as good as ours.
            if std::fs::rename(&copy, &finished).is_err() {
                std::fs::remove_dir_all(&copy).unwrap();
            }
        }
        finished
    }

    fn initialise(&self, scratch: &Path) {
        give_to_unprivileged(scratch);
        let data = scratch.join("data");
        let fixed = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"];
        run(self.command("initdb").args(fixed).arg("--wal-segsize=4").arg("--pgdata").arg(&data));
        let sql = scratch.join("setup.sql");
        std::fs::write(&sql, SETUP).unwrap();
        let mut single = self.command("postgres");
        single.args(["--single", "-F", "-c", "exit_on_error=on", "-D"]).arg(&data).arg("postgres");
        run(single.stdin(std::fs::File::open(&sql).unwrap()));
    }

    /// Starts the server on the data in `folder`, and waits until it takes connections.
    pub(super) fn serve(&self, folder: &Path) -> Child {
        let pid_file = folder.join("data/postmaster.pid");
        let _left_by_a_crash = std::fs::remove_file(&pid_file);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(folder.join("data")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut process = command.spawn().unwrap();
        watchdog::watch(process.id());
        block_until("start of PostgreSQL", || {
            if let Some(status) = process.try_wait().unwrap() {
                let log = std::fs::read_to_string(folder.join("log")).unwrap();
                panic!("PostgreSQL ended with {status}:\n{log}");
            }
            std::fs::read_to_string(&pid_file)
                .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
        });
        process
    }
}

fn newest_of_debian() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest =
        folders.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin"))
}

fn unprivileged_with_libraries(
    bin: &Path,
    program: &str,
    add: impl Fn(&mut Command) -> &mut Command,
) -> Command {
    let mut command = unprivileged(bin.join(program));
    // Debian's binaries find their own libraries; those from npm come with theirs.
    let libraries = bin.with_file_name("lib");
    if libraries.join("libpq.so.5").exists() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command.env("LC_ALL", "C");
    add(&mut command);
    command
}
