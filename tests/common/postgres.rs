//! A throwaway PostgreSQL cluster.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, Config, NoTls};

use super::watchdog::{self, Scratch};
use super::{block_until, cache, free_port, give_to_unprivileged, kill, run, unprivileged};

/// The roles of every cluster, with their passwords; each has its own method in [`HBA`].
pub const ROLES: [(&str, &str); 4] =
    [("postgres", "postgres"), ("weir", "weir"), ("weir_md5", "weir_md5"), ("weir_trust", "weir_trust")];

/// Run once in a new cluster, in single-user mode: one command a line.
const SETUP: &str = "\
    SET password_encryption = 'md5'; CREATE ROLE weir_md5 LOGIN PASSWORD 'weir_md5'\n\
    SET password_encryption = 'scram-sha-256'; CREATE ROLE weir LOGIN CREATEDB PASSWORD 'weir'\n\
    CREATE ROLE weir_trust LOGIN PASSWORD 'weir_trust'\n\
    ALTER ROLE postgres PASSWORD 'postgres'\n\
    CREATE DATABASE weir OWNER weir\n";

/// Named in the template's path: raise it when [`SETUP`] or the arguments of `initdb` change.
const TEMPLATE_REVISION: u32 = 1;

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

/// The binaries of one version.
#[derive(Debug)]
struct Installation {
    bin: PathBuf,
    /// As `postgres --version` says it: `15.18`.
    version: String,
    major: u32,
}

impl Installation {
    /// Those of `major` from the cache; Debian's own when no major is asked for or when it is that one.
    fn find(major: Option<&str>) -> Self {
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

    fn command(&self, program: &str) -> Command {
        unprivileged_with_libraries(&self.bin, program, |command| command)
    }

    /// A data folder to copy, made once: `initdb` takes longer than a copy.
    fn template(&self) -> PathBuf {
        let finished = cache().join("clusters").join(format!("{}-r{TEMPLATE_REVISION}", self.version));
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
    fn serve(&self, folder: &Path) -> Child {
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
