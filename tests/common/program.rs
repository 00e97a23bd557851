//! The program as somebody types it: its arguments, its files, its exit status.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::postgres::Postgres;
use super::raw::{Raw, patiently};
use super::watchdog::{self, Scratch};
use super::{block_until, free_port, give_to_unprivileged, is_root, kill, unprivileged, until};

/// A folder with a configuration, in front of the shared PostgreSQL.
#[derive(Debug)]
pub struct Place {
    folder: Scratch,
    port: u16,
    running: Vec<u32>,
}

impl Place {
    /// A configuration with these lines at the end; `{dir}` is the folder.
    pub fn new(settings: &str) -> Self {
        let place = Self { folder: Scratch::new("pgweir-place"), port: free_port(), running: Vec::new() };
        std::fs::write(place.file("userlist.txt"), "\"weir\" \"weir\"\n\"admin\" \"admin\"\n").unwrap();
        place.configure(settings);
        place
    }

    /// Writes the configuration anew.
    pub fn configure(&self, settings: &str) {
        let (port, server, dir) = (self.port, Postgres::shared().port(), self.folder.display().to_string());
        let text = format!(
            "[databases]\nweir = host=127.0.0.1 port={server} dbname=weir\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {dir}\nauth_type = trust\n\
             auth_file = {dir}/userlist.txt\nadmin_users = admin\npool_mode = transaction\n\
             default_pool_size = 5\n{}\n",
            settings.replace("{dir}", &dir)
        );
        std::fs::write(self.file("pgbouncer.ini"), text).unwrap();
        give_to_unprivileged(&self.folder);
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The text of a file; empty when there is none.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The program as an ordinary user, with the configuration as its last argument.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.complete(unprivileged(program()), arguments)
    }

    /// The program as root.
    pub fn command_of_root(&self, arguments: &[&str]) -> Command {
        assert!(is_root(), "only root can try what root does");
        self.complete(Command::new(program()), arguments)
    }

    fn complete(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).arg(self.file("pgbouncer.ini"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the daemon, and gives its process when the command has returned.
    pub fn daemon(&mut self, arguments: &[&str]) -> u32 {
        let output = self.command(&[&["-d"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{}\n{}", text(&output.stderr), self.read("log"));
        let process = self.read("pid").trim().parse().unwrap();
        watchdog::watch(process);
        self.running.push(process);
        process
    }

    /// Starts it in the foreground and waits until it listens.
    pub fn start(&mut self, arguments: &[&str]) -> Running {
        self.start_command(self.command(arguments))
    }

    /// Starts a command and waits until it listens.
    pub fn start_command(&mut self, command: Command) -> Running {
        let mut running = self.begin(command);
        block_until("start", || {
            assert!(running.child.try_wait().unwrap().is_none(), "{}", running.log());
            running.log().contains("process up:")
        });
        running
    }

    /// Starts a command, and does not wait for it.
    pub fn begin(&mut self, mut command: Command) -> Running {
        let log = self.file(&format!("stderr-{}", self.running.len()));
        let child =
            command.stderr(std::fs::File::create(&log).unwrap()).stdout(Stdio::null()).spawn().unwrap();
        watchdog::watch(child.id());
        self.running.push(child.id());
        Running { child, log }
    }

    /// The rows of a console command over TCP, as text.
    pub async fn console(&self, command: &str) -> Vec<Vec<Option<String>>> {
        let mut admin = Raw::login(self.port, "admin", "", "pgbouncer").await;
        let answer = admin.query(command).await;
        answer.iter().filter(|message| message.tag == b'D').map(|row| row.columns()).collect()
    }

    /// Who listens on TCP, by what it says of itself.
    pub async fn answers(&self) -> bool {
        !self.console("SHOW VERSION").await.is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in self.running.drain(..) {
            if is_alive(process) {
                kill(process, "QUIT");
                block_until("end of a pooler", || !is_alive(process));
            }
            watchdog::forget(process);
        }
        if std::thread::panicking() {
            for name in ["log", "stderr-0", "stderr-1", "stderr-2", "stderr-3"] {
                eprintln!("---- {name} ----\n{}", self.read(name));
            }
        }
    }
}

/// A program in the foreground; whoever drops it leaves its end to the [`Place`].
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until standard error holds `needle`.
    pub async fn logged(&self, needle: &str) {
        until(&format!("{needle:?} in {}", self.log()), || self.log().contains(needle)).await;
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        kill(self.pid(), name);
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; gives the exit status.
    pub async fn ended(&mut self) -> Option<i32> {
        until("end of the pooler", || self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }
}

/// Runs a command to its end: its exit status, and what it said on both outputs.
pub async fn outcome(command: Command) -> (Option<i32>, String) {
    let output: Output = patiently("end of a command", async {
        tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap()
    })
    .await;
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Whether there is such a process that has not ended.
pub fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The program under test.
pub fn program() -> String {
    std::env::var("PGWEIR_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pgweir").to_owned())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
