//! The file that holds the process id.

use rustix::process::{Pid, test_kill_process};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why there is no pid file of this process.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another process has it.
    #[error("pidfile '{}' exists, another instance running? ({holder})", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who holds it, as far as the file tells.
        holder: String,
    },
    /// It cannot be written.
    #[error("cannot write pidfile '{}': {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// `-d` without one.
    #[error("daemon needs pidfile configured")]
    Missing,
}

/// What a pid file says.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Nothing: there is none, or it is empty.
    Nothing,
    /// The process is gone, or it is this one: in a container the last one had the same number.
    Stale,
    /// The process lives.
    Alive(i32),
    /// No number.
    Strange,
}

/// A pid file; it is removed on drop, unless another process has written its own number there.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

/// Removes a file of a process that is gone; an error when its process lives.
pub(super) fn check(path: &Path) -> Result<(), PidFileError> {
    let in_use = |holder: String| PidFileError::InUse { path: path.to_owned(), holder };
    match read(path).map_err(|error| PidFileError::Io { path: path.to_owned(), error })? {
        Content::Nothing => Ok(()),
        Content::Alive(process) => Err(in_use(format!("process {process} lives"))),
        Content::Strange => Err(in_use("it holds no process id".to_owned())),
        Content::Stale => {
            tracing::info!("stale pidfile, removing");
            let _already_gone = std::fs::remove_file(path);
            Ok(())
        }
    }
}

impl PidFile {
    /// Writes the number of this process.
    pub(super) fn write(path: &Path) -> Result<Self, PidFileError> {
        replace(path, &format!("{}\n", std::process::id()))
            .map_err(|error| PidFileError::Io { path: path.to_owned(), error })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let holds_this =
            std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim().parse() == Ok(std::process::id()));
        if holds_this {
            let _already_gone = std::fs::remove_file(&self.0);
        }
    }
}

/// Puts a new file in the place of whatever is there: a link is not followed, the number of a process that is taken over
/// is never half written, and nobody else may write to it, whatever the umask.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    // Left by a process that had the same number.
    let _most_often_none = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside)?;
    let result = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&beside, path));
    if result.is_err() {
        let _nothing_to_lose = std::fs::remove_file(&beside);
    }
    result
}

fn read(path: &Path) -> io::Result<Content> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::Nothing),
        Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(Content::Strange),
        other => other?,
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(Content::Nothing);
    }
    let Some(pid) = text.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
        return Ok(Content::Strange);
    };
    let number = pid.as_raw_nonzero().get();
    if u32::try_from(number) == Ok(std::process::id()) {
        return Ok(Content::Stale);
    }
    Ok(match test_kill_process(pid) {
        Err(rustix::io::Errno::SRCH) => Content::Stale,
        // One of another user lives too.
        _ => Content::Alive(number),
    })
}
