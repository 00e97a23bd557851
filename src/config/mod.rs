//! What was asked: one model, two front ends.

mod environment;
mod error;
mod front;
mod model;
mod raw;
mod settings;
mod suggest;

pub use error::{ConfigError, ConfigErrors, Notice, Origin, Problem, Remark, Section};
pub use model::*;
