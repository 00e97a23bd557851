//! The console's side of the protocol. What its commands mean is for whoever implements [`Console`].

use super::client::Visit;
use super::departure::Departure;
use super::diary::Subject;
use super::extended::{Extended, Reaction};
use super::{FAREWELL, Service};
use crate::config::Config;
use crate::net::{Broken, Dialogue};
use crate::stats::{Peer, TrafficSnapshot, unix_micros};
use crate::wire::backend::{self, Status, Type};
use crate::wire::{CancelKey, Report, TooLong, split_cstr, sqlstate};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::timeout;

/// The longest console command.
const COMMAND: u32 = 64 * 1024;

/// Answers to messages of the extended protocol are collected until so much is there.
const ENOUGH: usize = 64 * 1024;

/// What somebody may do on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look.
    Stats,
    /// Everything.
    Admin,
}

impl Role {
    /// The role of a user: `admin_users`, then `stats_users`; with `auth_type = any` everybody may look, as in PgBouncer.
    #[must_use]
    pub fn of(config: &Config, user: &str) -> Option<Self> {
        let auth = &config.auth;
        if auth.admin_users.contains(user) {
            return Some(Self::Admin);
        }
        let looks = auth.stats_users.contains(user) || auth.method == crate::config::AuthMethod::Any;
        looks.then_some(Self::Stats)
    }
}

/// What a command comes to: the messages up to but without ReadyForQuery, or an error.
pub type Answer = Result<BytesMut, Report>;

/// An answer that may take its time.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Names and types of the columns that a command gives; empty for one that gives no rows.
pub type Columns = Vec<(&'static str, Type)>;

/// Who answers on the console.
pub trait Console: Send + Sync + std::fmt::Debug {
    /// Runs one command.
    fn run<'a>(&'a self, service: &'a Arc<Service>, role: Role, command: &'a str) -> Answering<'a>;

    /// Somebody has come in.
    fn greet(&self);

    /// What a command will give, without running it.
    ///
    /// # Errors
    ///
    /// When it is none.
    fn columns(&self, command: &str) -> Result<Columns, Report>;

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
    pub(super) application_name: String,
    pub(super) role: Role,
}

/// Writes what a client of the console is told at its login. The values are PgBouncer's: tools read a version from them.
pub(super) fn put_parameters(out: &mut BytesMut) -> Result<(), TooLong> {
    for (name, value) in [
        ("server_version", "1.26.1/bouncer"),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ] {
        backend::put_parameter_status(out, name, value)?;
    }
    // Drivers want one; a cancel with it finds nobody.
    backend::put_backend_key(out, &CancelKey { process: 0, secret: vec![0; 4].into() })
}

/// Answers commands until the visitor leaves or is sent away.
pub(super) async fn converse(service: Arc<Service>, mut visitor: Visitor) {
    let (user, application) = (visitor.user.clone(), visitor.application_name.clone());
    service.console.greet();
    let present = service.clients.visit(visitor.number, user, application, visitor.peer);
    let mut desk =
        Desk { extended: Extended::default(), status: Status::Idle, out: BytesMut::new(), sending: false };
    let killed = tokio::select! {
        () = desk.serve(&service, &mut visitor, &present) => false,
        () = present.dismissed() => true,
    };
    let departure = if killed {
        let report = Report::fatal(sqlstate::ADMIN_SHUTDOWN, "admin forced disconnect");
        // In the middle of an answer nothing else can be said.
        if !desk.sending {
            dismiss(&mut visitor.dialogue, &report).await;
        }
        Departure::Dismissed(report)
    } else {
        Departure::Terminated
    };
    Subject::of(&present.record).closing(&departure, &service.config.load().log);
}

async fn dismiss(dialogue: &mut Dialogue, report: &Report) {
    let mut out = BytesMut::new();
    if report.put(&mut out).is_ok() {
        let _heard_or_not = timeout(FAREWELL, dialogue.send(&out)).await;
    }
}

/// One visitor's business: one command after the other, and the next is not read before the answer is written. So a
/// visitor who does not read holds one answer, whatever it asks for.
struct Desk {
    extended: Extended,
    status: Status,
    /// What is to be sent.
    out: BytesMut,
    /// A write is under way.
    sending: bool,
}

impl Desk {
    async fn serve(&mut self, service: &Arc<Service>, visitor: &mut Visitor, present: &Visit) {
        loop {
            let (tag, body) = match visitor.dialogue.message(COMMAND).await {
                Ok(message) => message,
                Err(Broken::Malformed(error)) => {
                    let report = Report::fatal(sqlstate::PROTOCOL_VIOLATION, error.to_string());
                    return dismiss(&mut visitor.dialogue, &report).await;
                }
                Err(_) => return,
            };
            present.record.requested_at(unix_micros());
            present.note_answered(true);
            if tag == b'X' || self.message(service, visitor, tag, body).await.is_err() {
                return;
            }
            present.note_answered(false);
        }
    }

    /// Answers one message. The error is one of the connection.
    async fn message(
        &mut self,
        service: &Arc<Service>,
        visitor: &mut Visitor,
        tag: u8,
        body: BytesMut,
    ) -> Result<(), Broken> {
        if self.extended.skips(tag) {
            return Ok(());
        }
        match tag {
            b'Q' => {
                let text = split_cstr(&body).map_or(&body[..], |(text, _)| text);
                let command = String::from_utf8_lossy(text).into_owned();
                let answer = self.run(service, visitor, &command).await;
                self.say(answer);
                self.ready();
            }
            _ => match self.extended.heed(tag, &body, &*service.console, &mut self.out) {
                Ok(Reaction::Said) => {}
                Ok(Reaction::Flush) => return self.send(visitor).await,
                Ok(Reaction::Ready) => self.ready(),
                Ok(Reaction::Run { command, portal }) => {
                    let answer = self.run(service, visitor, &command).await;
                    let told =
                        answer.and_then(|messages| self.extended.told(portal, messages, &mut self.out));
                    self.complain(told);
                }
                Err(report) => self.complain(Err(report)),
            },
        }
        if tag == b'Q' || tag == b'S' || self.out.len() >= ENOUGH { self.send(visitor).await } else { Ok(()) }
    }

    async fn run(&mut self, service: &Arc<Service>, visitor: &Visitor, command: &str) -> Answer {
        tracing::debug!(user = visitor.user, command, "console command");
        let answer = service.console.run(service, visitor.role, command).await;
        if let Ok(messages) = &answer {
            self.status = status_behind(messages).unwrap_or(self.status);
        }
        answer
    }

    fn say(&mut self, answer: Answer) {
        match answer {
            Ok(messages) if self.out.is_empty() => self.out = messages,
            Ok(messages) => self.out.extend_from_slice(&messages),
            // A report of our own is never too long for a message.
            Err(report) => drop(report.put(&mut self.out)),
        }
    }

    /// An error of the extended protocol: all is skipped up to the next Sync.
    fn complain(&mut self, result: Result<(), Report>) {
        if let Err(report) = result {
            self.extended.skip_to_sync();
            self.say(Err(report));
        }
    }

    fn ready(&mut self) {
        backend::put_ready(&mut self.out, self.status);
    }

    async fn send(&mut self, visitor: &mut Visitor) -> Result<(), Broken> {
        self.sending = true;
        visitor.dialogue.send(&self.out).await?;
        self.sending = false;
        // An answer can be large, and most are not.
        self.out = BytesMut::new();
        Ok(())
    }
}

/// There are no transactions here, but drivers begin and end some, and want to see that they did.
fn status_behind(messages: &[u8]) -> Option<Status> {
    match messages {
        [b'C', _, _, _, _, b'B', b'E', b'G', b'I', b'N', 0] => Some(Status::Open),
        [b'C', _, _, _, _, tag @ ..] if [&b"COMMIT\0"[..], b"ROLLBACK\0"].contains(&tag) => {
            Some(Status::Idle)
        }
        _ => None,
    }
}
