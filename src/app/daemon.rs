//! `-d`: in the background, once it listens.
//!
//! No fork: the program is started once more, with its standard output as a pipe to the first process, and tells by it
//! that it is ready. A fork would copy one thread of a process that may have several, with the locks of the others held
//! for ever; and it takes `unsafe`.

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};

/// Tells the second process whose child it is.
const PARENT: &str = "PGWEIR_DAEMON_OF";
/// What the second process says when it listens.
const READY: &[u8] = b"ready\n";

/// Which of the two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It was started by somebody who asked for a daemon.
    Parent,
    /// It is to become the daemon.
    Daemon,
}

impl Role {
    /// The role of this process when `-d` was given.
    #[must_use]
    pub fn of_this_process() -> Self {
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get().to_string());
        if parent.is_some() && std::env::var(PARENT).ok() == parent { Self::Daemon } else { Self::Parent }
    }
}

/// Starts the daemon with the arguments of this process and waits until it listens. What it says meanwhile goes to this
/// process's standard error.
///
/// # Errors
///
/// When it cannot be started. One that was started and failed has said why, and its exit status is the result.
pub fn start_and_wait() -> io::Result<ExitCode> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    command.args(arguments).env(PARENT, std::process::id().to_string());
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    if let Some(pipe) = daemon.stdout.take() {
        pipe.take(READY.len() as u64).read_to_end(&mut said)?;
    }
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let code = daemon.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.filter(|code| *code != 0).unwrap_or(1)))
}

/// Leaves the session of the terminal.
pub(super) fn detach() -> io::Result<()> {
    // Whoever leads a session already has nothing to leave.
    let _leads_already = rustix::process::setsid();
    Ok(())
}

/// Tells the first process that this one listens, and lets go of its terminal.
pub(super) fn tell_ready() -> io::Result<()> {
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    Ok(())
}
