//! Clients and servers that break the rules, leave at the worst moment, or say nothing at all. Whatever one of them
//! does, the process lives on and everybody else gets their own.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a test may")]

#[path = "hostile/cancel.rs"]
mod cancel;
mod common;
#[path = "hostile/departures.rs"]
mod departures;
#[path = "hostile/logins.rs"]
mod logins;
#[path = "hostile/messages.rs"]
mod messages;
#[path = "hostile/openings.rs"]
mod openings;
#[path = "hostile/servers.rs"]
mod servers;
#[path = "hostile/stage.rs"]
mod stage;
