//! What was asked: one model, two front ends.
//!
//! A file is TOML or a `pgbouncer.ini`. Its way, each step in a module of its own:
//!
//! 1. `front` turns either language into the same raw entries, each with its file and line;
//! 2. `resolve` holds them against the table in `settings`: names, values, what this version can do, `${NAME}`;
//! 3. `build` makes the [`Config`] of it, which is all that the rest of the program sees.
//!
//! Everything that is wrong is reported at once. Start at [`Config::load`]; [`check_report`] and [`convert`] serve the
//! commands `check` and `convert`, and [`Config::diff`] a reload.

mod build;
mod care;
mod convert;
mod database;
mod diff;
mod environment;
mod error;
mod front;
mod hosts;
mod lenient;
mod load;
mod lookup;
mod model;
mod outside;
mod peers;
mod raw;
mod report;
mod resolve;
mod settings;
mod suggest;
mod system;
mod value;

pub use care::{Care, Check, Crowd, Reserve, ServerLines};
pub use convert::convert;
pub use diff::Diff;
pub use error::{ConfigError, ConfigErrors, Notice, Origin, Problem, Remark, Section};
pub use hosts::{Balance, Host, Hosts};
pub use load::{Effective, Loaded, change_of, process_environment};
pub use lookup::{AuthQuery, Lookup};
pub use model::*;
pub use peers::{Peer, Peering};
pub use raw::Dialect;
pub use report::check_report;
pub use resolve::Environment;
pub use settings::Change;
pub use system::{LogTargets, ProcessSettings, Syslog, TcpOptions};
