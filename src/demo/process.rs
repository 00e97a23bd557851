//! Processes that end with the demo.

use super::error::DemoError;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a program may take to come up.
const START: Duration = Duration::from_secs(30);
/// How long a program may take to end after it was asked to.
const STOP: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Lines of a log that are shown when its program has failed.
const TAIL: usize = 12;

/// A process that is ended on drop, and waited for.
#[derive(Debug)]
pub(super) struct Process {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to `log`.
    pub(super) fn start(
        program: &'static str,
        command: &mut Command,
        log: PathBuf,
    ) -> Result<Self, DemoError> {
        let failed = || DemoError::system(format!("start {program}"));
        let out = File::create(&log).map_err(failed())?;
        let err = out.try_clone().map_err(failed())?;
        // Its own process group: Ctrl-C at the terminal is for the demo, which ends the others in their order.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        Ok(Self { program, child: command.spawn().map_err(failed())?, log })
    }

    /// Waits until it is up.
    pub(super) async fn ready(&mut self, mut is_ready: impl FnMut() -> bool) -> Result<(), DemoError> {
        let deadline = Instant::now() + START;
        while !is_ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(failure(self.program, &status.to_string(), &self.log));
            }
            if Instant::now() > deadline {
                return Err(DemoError::NotReady(self.program.to_owned(), START.as_secs()));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn has_ended_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGQUIT: both PostgreSQL and pgweir end at once, PostgreSQL with all its children.
        let quit = format!("kill -s QUIT {}", self.child.id());
        let asked = Command::new("sh").args(["-c", &quit]).stderr(Stdio::null()).status();
        if asked.is_err() || !self.has_ended_within(STOP) {
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Runs a program to its end; what it says goes to `log`.
pub(super) fn run(program: &'static str, command: &mut Command, log: PathBuf) -> Result<(), DemoError> {
    let mut process = Process::start(program, command, log)?;
    let status = process.child.wait().map_err(DemoError::system(format!("wait for {program}")))?;
    if status.success() { Ok(()) } else { Err(failure(program, &status.to_string(), &process.log)) }
}

fn failure(program: &str, status: &str, log: &Path) -> DemoError {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let said = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    DemoError::Failed { program: program.to_owned(), status: status.to_owned(), said }
}
