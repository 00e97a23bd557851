//! The console's side of the protocol. What its commands mean is for whoever implements [`Console`].

use super::departure::Departure;
use super::diary::Subject;
use super::{FAREWELL, Service};
use crate::config::Config;
use crate::net::{Broken, Dialogue};
use crate::stats::{Peer, TrafficSnapshot, unix_micros};
use crate::wire::backend::{self, Status};
use crate::wire::{Report, TooLong, split_cstr, sqlstate};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::timeout;

/// The longest console command.
const COMMAND: u32 = 64 * 1024;

/// What somebody may do on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look.
    Stats,
    /// Everything.
    Admin,
}

impl Role {
    /// The role of a user: `admin_users`, then `stats_users`; with `auth_type = any` everybody is let in, as in
    /// PgBouncer.
    #[must_use]
    pub fn of(config: &Config, user: &str) -> Option<Self> {
        let auth = &config.auth;
        if auth.admin_users.contains(user) || auth.method == crate::config::AuthMethod::Any {
            return Some(Self::Admin);
        }
        auth.stats_users.contains(user).then_some(Self::Stats)
    }
}

/// What a command comes to: the messages up to but without ReadyForQuery, or an error.
pub type Answer = Result<BytesMut, Report>;

/// An answer that may take its time.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Who answers on the console.
pub trait Console: Send + Sync + std::fmt::Debug {
    /// Runs one command.
    fn run<'a>(&'a self, service: &'a Arc<Service>, role: Role, command: &'a str) -> Answering<'a>;

    /// The counters of each database since the process began, as `SHOW STATS_TOTALS` shows them: those of pools that are
    /// gone are among them.
    fn totals(&self, service: &Service) -> BTreeMap<String, TrafficSnapshot>;
}

/// Somebody on the console.
pub(super) struct Visitor {
    pub(super) dialogue: Dialogue,
    pub(super) peer: Peer,
    pub(super) number: u64,
    pub(super) user: String,
    pub(super) role: Role,
}

/// Writes what a client of the console is told at its login.
pub(super) fn put_parameters(out: &mut BytesMut) {
    let version = concat!(env!("CARGO_PKG_VERSION"), "/pgweir");
    for (name, value) in [
        ("server_version", version),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ] {
        // They are short.
        let _fits = backend::put_parameter_status(out, name, value);
    }
}

/// Answers commands until the visitor leaves.
pub(super) async fn converse(service: Arc<Service>, mut visitor: Visitor) {
    let present = service.clients.visit(visitor.number, visitor.user.clone(), visitor.peer);
    while let Ok(out) = next_answer(&service, &mut visitor).await {
        present.requested_at(unix_micros());
        if visitor.dialogue.send(&out).await.is_err() {
            break;
        }
    }
    Subject::of(&present).closing(&Departure::Terminated, &service.config.load().log);
}

async fn next_answer(service: &Arc<Service>, visitor: &mut Visitor) -> Result<BytesMut, Broken> {
    let (tag, body) = visitor.dialogue.message(COMMAND).await?;
    match tag {
        b'Q' => {
            let text = split_cstr(&body).map_or(&body[..], |(text, _)| text);
            let command = String::from_utf8_lossy(text);
            tracing::debug!(user = visitor.user, command = %command, "console command");
            let answer = service.console.run(service, visitor.role, &command).await;
            Ok(finished(answer).unwrap_or_default())
        }
        b'X' => Err(Broken::Closed),
        _ => {
            let text = "extended query protocol not supported by admin console";
            let mut out = BytesMut::new();
            if Report::fatal(sqlstate::PROTOCOL_VIOLATION, text).put(&mut out).is_ok() {
                let _heard_or_not = timeout(FAREWELL, visitor.dialogue.send(&out)).await;
            }
            Err(Broken::Closed)
        }
    }
}

fn finished(answer: Answer) -> Result<BytesMut, TooLong> {
    let mut out = match answer {
        Ok(messages) => messages,
        Err(report) => {
            let mut out = BytesMut::new();
            report.put(&mut out)?;
            out
        }
    };
    backend::put_ready(&mut out, Status::Idle);
    Ok(out)
}
