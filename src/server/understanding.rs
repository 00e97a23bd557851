//! What is known of a server's state from what it said. Pure: messages in, judgement out.

use super::parameters::Parameters;
use super::pending::{Delivery, Origin, Pending, Request, Surprise};
use super::rerun::Rerun;
use super::settings::Settings;
use super::statements::Statements;
use crate::wire::backend::{self, Status};
use crate::wire::frontend::SYNC;
use crate::wire::{Fields, sqlstate};
use bytes::BytesMut;
use std::sync::Arc;

/// How a server connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Sound,
    /// It works, but is not to be handed on to another client; why.
    Spent(&'static str),
    /// It said that it ends, in an error that its client got.
    Ending,
    /// It warned that it ends, after the crash of another backend; that is no error yet.
    Crashing,
}

/// What its client's session needs to know of what a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// ReadyForQuery to a request of the client's.
    Ready,
    /// An ErrorResponse for the client.
    Error(Fields<'a>),
    /// pgweir's own query failed; the client has not seen it.
    PoolerError(Fields<'a>),
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Fields<'_> {}

/// What is known of a server.
#[derive(Debug)]
pub struct Understanding {
    /// What it owes.
    pub pending: Pending,
    /// Its transaction, as of the last ReadyForQuery.
    pub transaction: Status,
    /// Its prepared statements.
    pub statements: Statements,
    /// The client's batch that is under way.
    pub rerun: Rerun,
    /// What it reported before its first client: when it was logged in to, and to `connect_query`.
    pub baseline: Arc<Parameters>,
    /// The settings in force that differ from a fresh login's.
    pub applied: Settings,
    /// Whether SQL that is not pgweir's may have reset those of them that are not reported.
    pub was_reset: bool,
    /// How it is.
    pub health: Health,
}

impl Understanding {
    /// A server that has just been logged in to.
    #[must_use]
    pub fn fresh(baseline: Parameters) -> Self {
        Self {
            pending: Pending::default(),
            transaction: Status::Idle,
            statements: Statements::default(),
            rerun: Rerun::default(),
            baseline: Arc::new(baseline),
            applied: Settings::default(),
            was_reset: false,
            health: Health::Sound,
        }
    }

    /// What the server knows its client as.
    #[must_use]
    pub fn application_name(&self) -> &str {
        let name = "application_name";
        let fresh = || self.baseline.get(name).map_or("", String::as_str);
        self.applied.get(name).unwrap_or_else(fresh)
    }

    /// Whether a message of this type is to be seen as a whole, as far as it fits into a block. Of the others the type
    /// is all that matters.
    #[must_use]
    pub fn wants_whole(tag: u8) -> bool {
        matches!(tag, b'C' | b'E' | b'N' | b'S' | b'T' | b't' | b'Z' | b'K' | b'R')
    }

    /// The SQL that leads from the settings in force to `wanted`, or `None` when nothing differs.
    #[must_use]
    pub fn transition(&self, wanted: &Settings) -> Option<String> {
        if self.was_reset {
            return self.applied.transition_after_reset(wanted, &self.baseline);
        }
        self.applied.transition(wanted, &self.baseline)
    }

    /// These settings are in force now, or will be before anything else is asked.
    pub fn apply(&mut self, settings: Settings) {
        self.applied = settings;
        self.was_reset = false;
    }

    /// Takes what is in force now for what each client begins with.
    pub fn settle_in(&mut self) {
        if !self.applied.is_empty() {
            self.baseline = Arc::new(self.baseline.with(&self.applied));
            self.apply(Settings::default());
        }
    }

    /// Notes a message that goes to the server now.
    pub fn sent(&mut self, origin: Origin, request: Request) {
        self.pending.sent(origin, request, &mut self.statements);
    }

    /// Writes a Sync of pgweir's own behind messages of its own.
    pub fn put_sync(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&SYNC);
        self.sent(Origin::Pooler, Request::Sync);
    }

    /// Hears a whole message; tells what becomes of it.
    ///
    /// # Errors
    ///
    /// [`Surprise`] when nothing asked for it.
    pub fn hear(
        &mut self,
        tag: u8,
        body: &[u8],
        events: &mut impl FnMut(Event, &Self),
    ) -> Result<Delivery, Surprise> {
        match tag {
            b'D' | b'd' if !self.pending.owes_nothing() => Ok(self.pending.audience().into()),
            b'N' => Ok(self.notice(body).into()),
            b'A' => Ok(Delivery::Client),
            b'S' => self.parameter(body),
            b'E' => self.error(body, events),
            b'Z' => self.ready(body, events),
            b'C' => self.completed(body),
            _ => self.pending.answered(tag, body, &mut self.statements),
        }
    }

    /// Hears the head of a message that is too long for a block.
    ///
    /// # Errors
    ///
    /// [`Surprise`] when nothing asked for it.
    pub fn hear_head(
        &mut self,
        tag: u8,
        body: &[u8],
        events: &mut impl FnMut(Event, &Self),
    ) -> Result<Delivery, Surprise> {
        if tag == b'S' {
            // The value is not known, so nobody else may get this server.
            self.health = Health::Spent("a parameter is too long to be followed");
            return Ok(self.pending.audience_of_settings().into());
        }
        let delivery = self.hear(tag, body, events)?;
        if delivery == Delivery::ClientLater {
            self.pending.told_more();
            return Ok(Delivery::Client);
        }
        Ok(delivery)
    }

    fn completed(&mut self, body: &[u8]) -> Result<Delivery, Surprise> {
        let delivery = self.pending.answered(b'C', body, &mut self.statements)?;
        // pgweir knows what its own RESET does.
        let is_clients = !matches!(delivery, Delivery::Pooler | Delivery::Tolerated);
        self.was_reset |= is_clients && (body == b"RESET\0" || body == b"DISCARD ALL\0");
        Ok(delivery)
    }

    fn notice(&mut self, body: &[u8]) -> Origin {
        // After the crash of another backend the server ends with this warning instead of an error.
        if Fields(body).sqlstate() == Some(sqlstate::CRASH_SHUTDOWN) {
            self.health = Health::Crashing;
        }
        self.pending.audience()
    }

    fn parameter(&mut self, body: &[u8]) -> Result<Delivery, Surprise> {
        let (name, value) = backend::parameter_status(body).ok_or(Surprise(b'S'))?;
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => self.applied = self.applied.after_report(name, value, &self.baseline),
            _ => self.health = Health::Spent("a parameter is not UTF-8"),
        }
        Ok(self.pending.audience_of_settings().into())
    }

    fn error(&mut self, body: &[u8], events: &mut impl FnMut(Event, &Self)) -> Result<Delivery, Surprise> {
        let fields = Fields(body);
        if fields.ends_session() {
            self.health = Health::Ending;
            events(Event::Error(fields), self);
            return Ok(Delivery::Client);
        }
        if self.rerun.is_possible()
            && let Some(fault) = self.pending.fault(fields, body)
            && (fault.synced || !self.is_told(&fault.name))
        {
            self.pending.withhold(fields, &mut self.statements);
            self.rerun.refused(fault);
            return Ok(Delivery::Tolerated);
        }
        if self.rerun.has_asked() || self.statements.looking.is_some() {
            // The client hears of it when its batch goes out again.
            let _not_for_the_client = self.pending.answered(b'E', body, &mut self.statements)?;
            return Ok(Delivery::Tolerated);
        }
        if fields.sqlstate().is_some_and(|code| code.starts_with("XX") || code == "53200") {
            self.health = Health::Spent("it reported an internal error or no memory");
        }
        let delivery = self.pending.answered(b'E', body, &mut self.statements)?;
        match delivery {
            Delivery::Pooler => events(Event::PoolerError(fields), self),
            Delivery::Tolerated => {}
            _ => events(Event::Error(fields), self),
        }
        Ok(delivery)
    }

    /// Whether the client will read rows as what it was told of this statement before.
    fn is_told(&self, name: &[u8]) -> bool {
        // A name that is not known any longer was closed behind that.
        let named = self.statements.names.get(name);
        named.is_none_or(|named| named.told.is_some()) && self.rerun.relies_on_what_was_told(name)
    }

    fn ready(&mut self, body: &[u8], events: &mut impl FnMut(Event, &Self)) -> Result<Delivery, Surprise> {
        let &[byte] = body else { return Err(Surprise(b'Z')) };
        let status = Status::from_byte(byte).ok_or(Surprise(b'Z'))?;
        let delivery = self.pending.answered(b'Z', body, &mut self.statements)?;
        self.transaction = status;
        if status == Status::Idle {
            self.statements.transaction_ended(self.pending.is_settled());
        }
        if delivery == Delivery::Client {
            events(Event::Ready, self);
        }
        Ok(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Request;

    fn fresh() -> Understanding {
        Understanding::fresh(
            std::collections::BTreeMap::from([("TimeZone".to_owned(), "UTC".to_owned())]).into(),
        )
    }

    fn hear(state: &mut Understanding, tag: u8, body: &[u8]) -> Result<Delivery, Surprise> {
        state.hear(tag, body, &mut |_, _| {})
    }

    #[test]
    fn what_answers_the_pooler_is_not_for_the_client() {
        let mut state = fresh();
        state.sent(Origin::Pooler, Request::Query);
        state.sent(Origin::Client, Request::Query);
        for (tag, body) in
            [(b'S', &b"TimeZone\0Asia/Tokyo\0"[..]), (b'N', b"CX\0\0"), (b'C', b"SELECT 1\0"), (b'Z', b"I")]
        {
            assert_eq!(hear(&mut state, tag, body), Ok(Delivery::Pooler));
        }
        assert_eq!(state.applied.get("TimeZone"), Some("Asia/Tokyo"));
        assert_eq!(hear(&mut state, b'C', b"SELECT 1\0"), Ok(Delivery::Client));
        assert_eq!(hear(&mut state, b'Z', b"T"), Ok(Delivery::Client));
        assert_eq!(state.transaction, Status::Open);
    }

    #[test]
    fn asynchronous_messages_settle_nothing() {
        let mut state = fresh();
        state.sent(Origin::Client, Request::Query);
        for (tag, body) in [(b'N', &b"\0"[..]), (b'A', b"\0\0\0\0a\0b\0"), (b'S', b"x\0y\0")] {
            assert_eq!(hear(&mut state, tag, body), Ok(Delivery::Client));
        }
        assert!(!state.pending.owes_nothing());
    }

    #[test]
    fn an_end_announced_is_an_end() {
        let mut state = fresh();
        assert_eq!(hear(&mut state, b'E', b"SFATAL\0VFATAL\0C57P01\0Mx\0\0"), Ok(Delivery::Client));
        assert_eq!(state.health, Health::Ending);
        let mut state = fresh();
        hear(&mut state, b'N', b"SWARNING\0C57P02\0Mx\0\0").unwrap();
        assert_eq!(state.health, Health::Crashing);
    }

    #[test]
    fn an_error_that_nothing_caused_is_a_surprise() {
        assert_eq!(hear(&mut fresh(), b'E', b"SERROR\0C42601\0Mx\0\0"), Err(Surprise(b'E')));
        assert_eq!(hear(&mut fresh(), b'Z', b"I"), Err(Surprise(b'Z')));
        assert_eq!(hear(&mut fresh(), b'D', b"\0\0"), Err(Surprise(b'D')));
    }
}
