//! A throwaway PostgreSQL: fast rather than durable, and reached by a Unix socket in a closed folder only.

use super::DEMO;
use super::client::{Client, Login};
use super::error::DemoError;
use super::folder::Folder;
use super::installation::Installation;
use super::process::{self, Process};
use crate::net::Address;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suffix of the socket file.
pub(super) const PORT: u16 = 5432;

/// Accounts between which the clients move money.
pub(super) const ACCOUNTS: u32 = 1000;
/// What is in each account at the beginning.
pub(super) const BALANCE: u32 = 1000;

/// Connections beyond those of pgweir: the demo's own, and those that are kept for the superuser.
const SPARE: u32 = 10;

/// A running cluster. It ends on drop.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) installation: Installation,
    /// The folder of its socket.
    pub(super) socket: PathBuf,
    /// What the demo's role proves itself with, as PostgreSQL keeps it.
    pub(super) secret: String,
    /// `max_connections`.
    pub(super) most: u32,
    _process: Process,
}

impl Cluster {
    /// Makes the cluster, starts it, and fills in the demo's data.
    pub(super) async fn start(
        installation: Installation,
        folder: &Folder,
        servers: u32,
    ) -> Result<Self, DemoError> {
        let data = folder.path().join("data");
        // A program of its own process group: it is not interrupted, so it leaves nothing half done.
        let mut initdb = command(folder, &installation.program("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        process::run("initdb", initdb.arg("--pgdata").arg(&data), folder.path().join("initdb.log"))?;
        let most = servers.saturating_add(SPARE);
        let mut postgres = command(folder, &installation.program("postgres"));
        for setting in settings(folder.path(), most) {
            postgres.args(["-c", &setting]);
        }
        let log = folder.path().join("postgres.log");
        let mut process = Process::start("PostgreSQL", postgres.arg("-D").arg(&data), log)?;
        process.ready(|| is_ready(&data)).await?;
        let socket = folder.path().to_owned();
        let secret = fill(&address(&socket)).await?;
        Ok(Self { installation, socket, secret, most, _process: process })
    }

    /// A client of the superuser that goes past pgweir.
    pub(super) async fn observer(&self) -> Result<Client, DemoError> {
        Client::connect(&address(&self.socket), &Login::of("postgres", DEMO)).await
    }
}

fn command(folder: &Folder, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder.path()).env("LC_ALL", "C");
    if let Some(servant) = folder.servant() {
        command.uid(servant.user).gid(servant.group);
    }
    command
}

fn settings(socket: &Path, most: u32) -> [String; 9] {
    [
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", socket.display()),
        format!("port={PORT}"),
        format!("max_connections={most}"),
        "fsync=off".to_owned(),
        "synchronous_commit=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "password_encryption=scram-sha-256".to_owned(),
    ]
}

/// Whether the server says so in its pid file, whose eighth line is its state.
fn is_ready(data: &Path) -> bool {
    std::fs::read_to_string(data.join("postmaster.pid"))
        .is_ok_and(|text| text.lines().nth(7).is_some_and(|state| state.trim() == "ready"))
}

fn address(socket: &Path) -> Address {
    Address::Unix(socket.join(format!(".s.PGSQL.{PORT}")))
}

/// Makes the role, the database and the accounts; tells the role's secret.
async fn fill(address: &Address) -> Result<String, DemoError> {
    let mut superuser = Client::connect(address, &Login::of("postgres", "postgres")).await?;
    superuser.query(&format!("CREATE ROLE {DEMO} LOGIN PASSWORD '{DEMO}'")).await?;
    superuser.query(&format!("CREATE DATABASE {DEMO} OWNER {DEMO}")).await?;
    let secret = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{DEMO}'");
    let secret = superuser.query(&secret).await?.value()?;
    superuser.leave().await;
    let mut owner = Client::connect(address, &Login::of(DEMO, DEMO)).await?;
    owner.query("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)").await?;
    let rows = format!("INSERT INTO account SELECT id, {BALANCE} FROM generate_series(1, {ACCOUNTS}) id");
    owner.query(&rows).await?;
    owner.leave().await;
    Ok(secret)
}
