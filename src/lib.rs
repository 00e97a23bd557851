//! pgweir, a PostgreSQL connection pooler.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod config;
