//! What can go wrong in the demo.

use crate::auth::{LoginError, PasswordError};
use crate::net::Broken;
use crate::wire::TooLong;
use std::io;

/// Why the demo does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no PostgreSQL on this machine.
    #[error(
        "no PostgreSQL server was found (initdb and postgres) in PATH, in /usr/lib/postgresql, or by pg_config.\n\
         On Debian and Ubuntu: apt-get install postgresql    (`make demo` does it)"
    )]
    NoPostgres,
    /// PostgreSQL does not run as root, and there is nobody else.
    #[error("PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody")]
    NoUser,
    /// No port is free.
    #[error("no free port between {0} and {1}")]
    NoPort(u16, u16),
    /// A file, a process or a signal.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A program ended that should not have.
    #[error("{program} failed ({status}); the end of what it said:\n{said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines of its output.
        said: String,
    },
    /// A program did not come up.
    #[error("{0} is not ready after {1} seconds")]
    NotReady(String, u64),
    /// The server or pgweir answered with an error.
    #[error("{0}")]
    Refused(String),
    /// A connection broke.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A login failed.
    #[error("login failed: {0}")]
    Login(#[from] LoginError),
    /// A password that cannot be one.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A query too long for a message.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// An answer that is none.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// The load met errors; they were shown.
    #[error("not all clients were served as they should have been")]
    NotServed,
    /// A signal came before the load was over.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    /// For `map_err`: what was tried, in the words after "cannot".
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }
}
