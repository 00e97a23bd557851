//! Finding a PostgreSQL server on this machine.

use super::error::DemoError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian puts its servers, a folder for each major.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs of one PostgreSQL.
#[derive(Debug)]
pub(super) struct Installation {
    bin: PathBuf,
    /// As `postgres --version` says it: `15.18`.
    pub(super) version: String,
}

/// The user that PostgreSQL and pgweir run as where this process is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Servant {
    pub(super) name: &'static str,
    pub(super) user: u32,
    pub(super) group: u32,
}

impl Installation {
    /// The first that is found: in `PATH`, Debian's newest, or where `pg_config` says.
    pub(super) fn find() -> Result<Self, DemoError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let from_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let mut places = from_path.into_iter().chain(of_debian()).chain(by_pg_config());
        let bin = places.find(|bin| is_server(bin)).ok_or(DemoError::NoPostgres)?;
        let version = output(Command::new(bin.join("postgres")).arg("--version")).unwrap_or_default();
        let version = version.split_whitespace().nth(2).unwrap_or("of unknown version").to_owned();
        Ok(Self { bin, version })
    }

    /// The path of one of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// How a user calls psql: by its name, where a shell would find it.
    pub(super) fn psql(&self) -> String {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let known = std::env::split_paths(&path).any(|folder| folder.join("psql").exists());
        let own = self.program("psql");
        if known || !own.exists() { "psql".to_owned() } else { own.display().to_string() }
    }

    /// Who runs it where this process is root, which it refuses to be.
    pub(super) fn servant(&self) -> Result<Servant, DemoError> {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"].into_iter().find_map(|name| account(&users, name)).ok_or(DemoError::NoUser)
    }
}

fn is_server(bin: &Path) -> bool {
    ["initdb", "postgres"].into_iter().all(|program| bin.join(program).is_file())
}

/// Debian's servers, newest first.
fn of_debian() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|one, other| other.cmp(one));
    majors.into_iter().map(|major| Path::new(DEBIAN).join(major.to_string()).join("bin")).collect()
}

fn by_pg_config() -> Option<PathBuf> {
    output(Command::new("pg_config").arg("--bindir")).map(|path| PathBuf::from(path.trim()))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The numbers of a user in the text of `/etc/passwd`.
fn account(users: &str, name: &'static str) -> Option<Servant> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, user, group, ..] = fields[..] else { return None };
        (found == name).then_some(Servant { name, user: user.parse().ok()?, group: group.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:102:,,,:/:/bin/sh\nodd\n";
        assert_eq!(account(users, "postgres"), Some(Servant { name: "postgres", user: 101, group: 102 }));
        assert_eq!(account(users, "nobody"), None);
    }
}
