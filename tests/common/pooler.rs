//! The pooler under test, as a process.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::{Client, Config};

use super::config::PgweirBuilder;
use super::postgres::{Postgres, connect, password_of};
use super::raw::Raw;
use super::watchdog::{self, Scratch};
use super::{block_until, free_port, give_to_unprivileged, kill, run, unprivileged, until};

/// A running pooler. It is killed when dropped; its log is shown when the test fails.
///
/// `PGWEIR_BIN` names another program to test in its place: another build, or PgBouncer to see whether a test
/// holds for it too.
#[derive(Debug)]
pub struct Pgweir {
    process: Child,
    status: Option<ExitStatus>,
    folder: Scratch,
    file: PathBuf,
    port: u16,
    log: Log,
}

impl Pgweir {
    /// A configuration to start from, in front of `postgres`.
    pub fn builder(postgres: &Postgres) -> PgweirBuilder {
        PgweirBuilder::for_server(postgres)
    }

    /// The same in front of whatever listens on `port`.
    pub fn in_front_of(port: u16) -> PgweirBuilder {
        PgweirBuilder::for_port(port)
    }

    pub(super) fn start(builder: PgweirBuilder) -> Self {
        let files = builder.files.clone();
        let userlist = builder.userlist();
        Self::start_with(
            "pgbouncer.ini",
            Place { port: builder.port.unwrap_or_else(free_port), program: builder.program.clone() },
            |port, folder| builder.render(port, &folder.display().to_string()),
            |folder| {
                std::fs::write(folder.join("userlist.txt"), &userlist).unwrap();
                for (name, text) in &files {
                    std::fs::write(folder.join(name), text).unwrap();
                }
            },
        )
    }

    /// Starts it with a configuration file of the test's own: `text` is given a free port and the folder.
    pub fn start_text(name: &str, text: impl FnOnce(u16, &Path) -> String) -> Self {
        Self::start_with(name, Place { port: free_port(), program: None }, text, |_| ())
    }

    fn start_with(
        name: &str,
        Place { port, program }: Place,
        text: impl FnOnce(u16, &Path) -> String,
        add_files: impl FnOnce(&Path),
    ) -> Self {
        let folder = Scratch::new("pgweir-test");
        let file = folder.join(name);
        std::fs::write(&file, text(port, &folder)).unwrap();
        add_files(&folder);
        give_to_unprivileged(&folder);
        let mut process = command(&file, program).spawn().unwrap();
        watchdog::watch(process.id());
        let log = Log::default();
        log.follow(process.stdout.take().unwrap());
        log.follow(process.stderr.take().unwrap());
        let mut pooler = Self { process, status: None, folder, file, port, log };
        block_until("start of the pooler", || {
            assert!(pooler.exit_status().is_none(), "the pooler ended: {:?}", pooler.status);
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        pooler
    }

    /// The TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How a client logs in.
    pub fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(user).dbname(database).password(password_of(user));
        config
    }

    /// A client whose password is the one of the cluster.
    pub async fn connect(&self, user: &str, database: &str) -> Client {
        connect(&self.config(user, database)).await
    }

    /// A client that speaks byte by byte, logged in as `weir` to the database `weir`.
    pub async fn raw(&self) -> Raw {
        Raw::login(self.port, "weir", "weir", "weir").await
    }

    /// The rows of a console command, as text.
    pub async fn console(&self, command: &str) -> Vec<Vec<Option<String>>> {
        let mut admin = Raw::login(self.port, "admin", "admin", "pgbouncer").await;
        admin
            .query(command)
            .await
            .iter()
            .filter(|message| message.tag == b'D')
            .map(|row| row.columns())
            .collect()
    }

    /// Sends a signal by its name: `TERM`, `INT`, `HUP`, `USR1` and so on.
    pub fn signal(&self, name: &str) {
        kill(self.pid(), name);
    }

    /// Writes a new configuration and has it read; ends when the log says so, or the console when `log` is off.
    pub async fn reload(&self, builder: PgweirBuilder) {
        let folder = self.folder.display().to_string();
        std::fs::write(self.folder.join("userlist.txt"), builder.userlist()).unwrap();
        std::fs::write(&self.file, builder.render(self.port, &folder)).unwrap();
        give_to_unprivileged(&self.folder);
        self.console("RELOAD").await;
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the log holds `needle`.
    pub async fn logged(&self, needle: &str) {
        until(&format!("{needle:?} in the log"), || self.log().contains(needle)).await;
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().unwrap();
        }
        self.status
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        until("end of the pooler", || self.exit_status().is_some()).await;
        self.exit_status().unwrap()
    }

    /// Resident memory, in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time used so far, in user and kernel mode; it moves in steps of the kernel's clock tick.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / ticks_per_second())
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Pgweir {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
        watchdog::forget(self.process.id());
        if std::thread::panicking() {
            eprintln!("---- log of the pooler ----\n{}", self.log());
        }
    }
}

/// Lines that the pooler writes, in order of arrival.
#[derive(Debug, Default, Clone)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn follow(&self, output: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut text = lines.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a pooler listens, and which program it is when not the usual one.
struct Place {
    port: u16,
    program: Option<String>,
}

fn command(file: &Path, program: Option<String>) -> Command {
    let usual = || std::env::var("PGWEIR_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pgweir").to_owned());
    let program = program.unwrap_or_else(usual);
    // Neither pgweir nor PgBouncer wants to be root.
    let mut command = unprivileged(program);
    command.arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

fn ticks_per_second() -> u64 {
    run(Command::new("getconf").arg("CLK_TCK")).trim().parse().unwrap()
}
