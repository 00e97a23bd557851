//! pgweir, a PostgreSQL connection pooler.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::cast_sign_loss))]

pub mod auth;
pub mod config;
pub mod net;
pub mod pool;
pub mod server;
pub mod session;
pub mod stats;
pub mod wire;
