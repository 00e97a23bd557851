//! A throwaway PostgreSQL cluster.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, Config, NoTls};

use super::installation::Installation;
use super::watchdog::{self, Scratch};
use super::{free_port, give_to_unprivileged, kill, run};

/// The roles of every cluster, with their passwords; each has its own method in [`HBA`].
pub const ROLES: [(&str, &str); 4] =
    [("postgres", "postgres"), ("weir", "weir"), ("weir_md5", "weir_md5"), ("weir_trust", "weir_trust")];

const HBA: &str = "\
    local all all trust\n\
    host all postgres 127.0.0.1/32 trust\n\
    host all weir_trust 127.0.0.1/32 trust\n\
    host all weir_md5 127.0.0.1/32 md5\n\
    host all all 127.0.0.1/32 scram-sha-256\n";

/// Fast rather than durable, and the same in every place.
const SETTINGS: [(&str, &str); 9] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("autovacuum", "off"),
    ("timezone", "UTC"),
    ("log_min_messages", "warning"),
];

/// A running cluster with the roles of [`ROLES`] and the database `weir`. It is gone when dropped.
#[derive(Debug)]
pub struct Postgres {
    installation: Installation,
    folder: Scratch,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// The cluster that the tests of one program share, of the major in `PGWEIR_TEST_PG`.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::builder().start());
        &SHARED
    }

    /// A cluster of its own, with the same settings as the shared one.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A cluster of its own, with settings of its own.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder {
            major: std::env::var("PGWEIR_TEST_PG").ok(),
            hba: HBA.to_owned(),
            settings: Vec::new(),
        }
    }

    /// The TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The data folder, for certificates and the like.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// One of the client programs of its version.
    pub fn tool(&self, program: &str) -> Command {
        self.installation.command(program)
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.installation.major
    }

    /// How a client logs in without a pooler.
    pub fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(user).dbname(database).password(password_of(user));
        config
    }

    /// A client without a pooler between.
    pub async fn connect(&self, user: &str, database: &str) -> Client {
        connect(&self.config(user, database)).await
    }

    /// Runs SQL as the superuser in the database `weir`.
    pub async fn execute(&self, sql: &str) {
        self.connect("postgres", "weir").await.batch_execute(sql).await.unwrap();
    }

    /// A new, empty database of the user `weir`.
    pub async fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fresh_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name} OWNER weir")).await;
        name
    }

    /// How many client connections to `database` the server has at this moment.
    pub async fn connections(&self, database: &str) -> i64 {
        let client = self.connect("postgres", "postgres").await;
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = $1 AND backend_type = 'client backend'";
        client.query_one(sql, &[&database]).await.unwrap().get(0)
    }

    /// Stops the server at once, as a crash would; its data stay.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(process.id(), "QUIT");
            process.wait().unwrap();
            watchdog::forget(process.id());
        }
    }

    /// Starts the server again, on the same port.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        self.process = Some(self.installation.serve(&self.folder));
    }

    /// A program of the same installation, to be run as the user that the server runs as.
    pub fn program(&self, name: &str) -> Command {
        self.installation.command(name)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A cluster that is not started yet.
#[derive(Debug)]
pub struct PostgresBuilder {
    major: Option<String>,
    hba: String,
    settings: Vec<(String, String)>,
}

impl PostgresBuilder {
    /// The major, instead of the one in `PGWEIR_TEST_PG`.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = Some(major.to_string());
        self
    }

    /// The whole of `pg_hba.conf`.
    #[must_use]
    pub fn hba(mut self, hba: &str) -> Self {
        hba.clone_into(&mut self.hba);
        self
    }

    /// A line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it takes connections.
    pub fn start(self) -> Postgres {
        let installation = Installation::find(self.major.as_deref());
        let folder = Scratch::new("pgweir-pg");
        let port = free_port();
        run(Command::new("cp").arg("-a").arg(installation.template()).arg(folder.join("data")));
        std::fs::write(folder.join("data/pg_hba.conf"), &self.hba).unwrap();
        std::fs::write(folder.join("data/postgresql.conf"), self.configuration(&folder, port)).unwrap();
        give_to_unprivileged(&folder);
        let process = Some(installation.serve(&folder));
        Postgres { installation, folder, port, process }
    }

    fn configuration(&self, folder: &Path, port: u16) -> String {
        let mut text = format!("port = {port}\nunix_socket_directories = '{}'\n", folder.display());
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.into_iter().chain(own) {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''")).unwrap();
        }
        text
    }
}

/// A client over a connection that is driven in the background.
pub async fn connect(config: &Config) -> Client {
    try_connect(config).await.unwrap()
}

/// [`connect`], where the login may fail.
pub async fn try_connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The password of a role of [`ROLES`]; any other has its name as its password.
pub fn password_of(role: &str) -> &str {
    ROLES.iter().find(|(name, _)| *name == role).map_or(role, |(_, password)| password)
}
