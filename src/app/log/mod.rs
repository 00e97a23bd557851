//! What is logged, where, and how it looks.

mod shape;
mod sinks;
mod syslog;

use crate::config::{Log, LogFormat};
use shape::{OneLine, PgBouncerShape, human};
use sinks::{Logging, Sinks};
use std::sync::Arc;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

/// How much the command line asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verbosity {
    /// `-v`, by how often it was given.
    pub verbose: u8,
    /// `-q`: nothing on standard error.
    pub quiet: bool,
}

/// The log of this process.
#[derive(Debug, Clone)]
pub(super) struct Logger {
    sinks: Arc<Sinks>,
    filter: Handle<Targets, Registry>,
    verbosity: Verbosity,
}

impl Logger {
    /// Starts logging. A second call in a process changes nothing.
    pub(super) fn start(log: &Log, verbosity: Verbosity) -> Self {
        let sinks = Arc::new(Sinks::new(log.format, !verbosity.quiet));
        let (filter, handle) = reload::Layer::new(targets(log.verbose, verbosity));
        let base = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false);
        let writer = Logging(Arc::clone(&sinks));
        let lines: Box<dyn Layer<_> + Send + Sync> = match log.format {
            LogFormat::PgBouncer => base.event_format(PgBouncerShape::default()).with_writer(writer).boxed(),
            LogFormat::Human => base.event_format(OneLine(human())).with_writer(writer).boxed(),
            LogFormat::Json => base.json().flatten_event(true).with_writer(writer).boxed(),
        };
        let _set_already = tracing_subscriber::registry().with(filter).with(lines).try_init();
        // What went wrong must be read where everything else is, also when there is no standard error.
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tracing::error!("{panic}");
            before(panic);
        }));
        Self { sinks, filter: handle, verbosity }
    }

    /// Opens the log file and the way to syslog, anew where they were open: who rotates files moves them away first. What
    /// cannot be opened is an error, and nothing has changed then.
    pub(super) fn open(&self, log: &Log) -> std::io::Result<()> {
        self.sinks.open(&log.targets)?;
        let _subscriber_is_gone = self.filter.reload(targets(log.verbose, self.verbosity));
        Ok(())
    }

    /// Writes why this process ends. Standard error is told by `main`.
    pub(super) fn last_words(&self, text: &str) {
        let line = shape::fatal(text);
        self.sinks.write(sinks::Severity::Fatal, line.as_bytes(), false);
    }
}

fn targets(configured: u8, verbosity: Verbosity) -> Targets {
    let level = match configured.max(verbosity.verbose) {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_default(LevelFilter::WARN).with_target("pgweir", level)
}
