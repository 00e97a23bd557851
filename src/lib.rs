//! pgweir, a PostgreSQL connection pooler with transaction-level multiplexing.
//!
//! A weir holds a river back, forms a pool and lets through a bounded flow: thousands of client sessions share a few
//! server connections. This page is the map; a layer uses only what stands below it, and a test says so
//! (`tests/layering.rs`).
//!
//! | layer | module | what it does |
//! |---|---|---|
//! | 7 | [`demo`] | a throwaway PostgreSQL and a load to look at; beside it `main`, arguments only |
//! | 6 | [`app`] | start, listeners, signals, reload, shutdown |
//! | 5 | [`admin`], [`metrics`] | the faces: console and exporter |
//! | 4 | [`session`] | one client, from its first byte to its last |
//! | 3 | [`pool`] | who gets a server, and when one is dialled |
//! | 2 | [`server`] | one backend connection, live and understood |
//! | 1 | [`net`], [`auth`], [`config`], [`stats`] | moving bytes, proving who, what was asked, counting |
//! | 0 | [`wire`] | bytes ⇄ messages |
//!
//! # The way of a query
//!
//! An idle [`session`] holds no buffer and no server. When its socket becomes readable it borrows a block
//! ([`net::Buffer`]), reads once, and walks the message headers in place ([`wire::Scanner`]). The first message that
//! needs a server takes one from the pool ([`pool::Pool::try_checkout`]) or waits in line, oldest first. What the server
//! lacks of this client (settings, the unnamed statement) is put in front of the client's bytes, which go out in the
//! block they were read into ([`net::Pipe`]). Answers go back the same way; [`server::Understanding`] follows what the
//! server says and [`server::Pending`] counts what it owes. At a ReadyForQuery with the transaction over and nothing
//! owed, [`server::Server::settle`] gives the proof that the server is clean, and only with that proof it goes back.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::cast_sign_loss))]

pub mod admin;
pub mod app;
pub mod auth;
pub mod config;
pub mod demo;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod server;
pub mod session;
pub mod stats;
pub mod wire;
