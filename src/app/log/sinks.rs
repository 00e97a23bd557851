//! Where log lines go.

pub(super) use super::syslog::Severity;

use super::shape::without_stamp;
use super::syslog::SystemLog;
use crate::config::{LogFormat, LogTargets};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Standard error, a file and the system's log, as far as they are wanted.
#[derive(Debug)]
pub(super) struct Sinks {
    format: LogFormat,
    to_stderr: bool,
    targets: Mutex<Targets>,
}

#[derive(Debug, Default)]
struct Targets {
    file: Option<File>,
    syslog: Option<SystemLog>,
}

/// Opens a file to append to. The standard streams are there already, and may belong to whoever started the process: then
/// they can be written to and not opened.
fn open(path: &Path) -> io::Result<File> {
    match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => {
            io::stdout().as_fd().try_clone_to_owned().map(File::from)
        }
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => {
            io::stderr().as_fd().try_clone_to_owned().map(File::from)
        }
        _ => OpenOptions::new().append(true).create(true).open(path),
    }
}

impl Sinks {
    pub(super) fn new(format: LogFormat, to_stderr: bool) -> Self {
        Self { format, to_stderr, targets: Mutex::default() }
    }

    /// Opens all targets anew.
    pub(super) fn open(&self, wanted: &LogTargets) -> io::Result<()> {
        let file = wanted.file.as_ref().map(|path| {
            open(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        });
        let file = file.transpose()?;
        let syslog = wanted.syslog.as_ref().map(SystemLog::new);
        *self.lock() = Targets { file, syslog };
        Ok(())
    }

    /// Writes a line to all targets at once: a log that is read while the process runs shows whole lines.
    pub(super) fn write(&self, severity: Severity, line: &[u8], to_stderr: bool) {
        let mut targets = self.lock();
        if let Some(file) = &mut targets.file {
            let _disk_full = file.write_all(line);
        }
        if let Some(syslog) = &mut targets.syslog {
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end_matches('\n');
            let text = if self.format == LogFormat::PgBouncer { without_stamp(text) } else { text };
            syslog.write(severity, text);
        }
        if to_stderr {
            let _nobody_reads = io::stderr().lock().write_all(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Targets> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line on its way.
#[derive(Debug)]
pub(super) struct Line {
    sinks: Arc<Sinks>,
    severity: Severity,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sinks.write(self.severity, line, self.sinks.to_stderr);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A subscriber writes each event with a single call.
impl<'a> MakeWriter<'a> for Logging {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { sinks: Arc::clone(&self.0), severity: Severity::Info }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        let severity = match *event.level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            Level::INFO => Severity::Info,
            _ => Severity::Debug,
        };
        Line { sinks: Arc::clone(&self.0), severity }
    }
}

/// Makes the writers of a subscriber.
#[derive(Debug, Clone)]
pub(super) struct Logging(pub(super) Arc<Sinks>);
