//! What is logged, where, and how it looks.

use crate::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;

/// How much the command line asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verbosity {
    /// `-v`, by how often it was given.
    pub verbose: u8,
    /// `-q`: nothing on standard error.
    pub quiet: bool,
}

/// Starts logging to standard error. A second call changes nothing.
pub(super) fn start(log: &Log, verbosity: Verbosity) {
    if verbosity.quiet {
        return;
    }
    let level = match log.verbose.max(verbosity.verbose) {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::new(format!("warn,pgweir={level}"));
    let builder =
        Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _set_already = match log.format {
        LogFormat::Human => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
