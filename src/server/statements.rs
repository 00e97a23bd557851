//! The prepared statements of a server connection, and those of the client that works with it.
//!
//! A client's names are its own: each stands for a [`Statement`] that has one name on all servers. What a server holds
//! is known from its answers only. Both maps are changed when a message goes out and changed back when it turns out that
//! the server did not carry it out, so that they always say what will be true when the next message arrives there.

use super::context::PlanContext;
use super::interner::Statement;
use super::names::Names;
use super::pending::{Origin, Request};
use super::shape::Shape;
use super::spelled::{Spelled, Spelling};
use super::usage::Counted;
use crate::wire::sqlstate;
use bytes::Bytes;
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The unnamed statement of a session or of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unnamed {
    /// There is none.
    #[default]
    Absent,
    /// The one that this Parse made.
    Parsed(Bytes),
    /// One that was too large to be remembered: it exists on this server only.
    Here,
    /// There may still be an older one. It is nobody's.
    Doubtful,
}

/// What a client's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The statement.
    pub statement: Arc<Statement>,
    /// What the client was told last about its columns.
    pub told: Option<Shape>,
    /// When that was.
    pub(super) told_at: Age,
}

impl From<Arc<Statement>> for Named {
    fn from(statement: Arc<Statement>) -> Self {
        Self { statement, told: None, told_at: Age::default() }
    }
}

/// A portal, and the client's name for the statement that it was made from.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The portal's name.
    pub portal: Bytes,
    /// The statement's.
    pub name: Bytes,
    /// Whether the statement may be about statements: then its Execute does something to them.
    pub speaks: bool,
}

/// How sure it is that a server holds a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It said so.
    Sure,
    /// Its Parse went out in this batch: it will be there, or everything behind it in the batch is skipped.
    Coming {
        /// The batch.
        batch: u64,
    },
    /// Something is under way that may have dropped it.
    Doubtful,
}

/// Whether a statement can be used on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there, by the server's own word.
    Sure,
    /// It will be there when the next message of this batch is.
    Coming,
    /// It may be there.
    Doubtful,
    /// It is not.
    Absent,
}

/// What may change the meaning of a statement that was parsed before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Age {
    /// DDL in the database.
    epoch: u64,
    /// Errors of other servers about this statement.
    generation: u32,
}

#[derive(Debug)]
struct Held {
    statement: Counted,
    hold: Hold,
    /// When it was parsed.
    age: Age,
    /// DDL in this session before it was parsed.
    local_ddl: u64,
    /// The batch that used it last.
    used: u64,
    /// Its place in the order of use, which may be an earlier one; none while a Close for it is under way.
    listed: Option<u64>,
}

impl Held {
    /// Whether the next message, of this batch, can use it. Notes that it is used.
    fn presence(&mut self, batch: u64, age: Age) -> Presence {
        self.used = batch;
        if self.hold == Hold::Sure && self.age != age {
            self.hold = Hold::Doubtful;
        }
        match self.hold {
            Hold::Sure => Presence::Sure,
            Hold::Coming { batch: since } if since == batch => Presence::Coming,
            Hold::Coming { .. } | Hold::Doubtful => Presence::Doubtful,
        }
    }

    /// A Close goes out for it.
    fn leave(&mut self) -> Arc<Statement> {
        self.hold = Hold::Doubtful;
        self.listed = None;
        Arc::clone(&self.statement)
    }
}

/// What a server holds.
#[derive(Debug, Default)]
pub struct Statements {
    /// The unnamed statement.
    pub unnamed: Unnamed,
    /// The client's names.
    pub names: Names,
    /// The portal that was bound last in this batch.
    pub bound: Option<Bound>,
    held: HashMap<u64, Held, RandomState>,
    /// Those that are to stay, by the batch that used them last, as far as it was looked at since.
    order: BTreeSet<(u64, u64)>,
    /// Statements under the names that their client gave them.
    pub spelled: Spelled,
    /// What clients have made of the session, as far as the server does not report it.
    pub context: PlanContext,
    /// Whether the server's unnamed statement is its client's: not so while the client's is one that is shared, which has
    /// the empty name among its names, or is still to be made here.
    pub unnamed_is_clients: bool,
    /// The client's unnamed statement, where the server's is not.
    pub own_unnamed: Unnamed,
    /// Whether an unnamed statement of the client's own was made or closed in this batch.
    pub unnamed_in_batch: bool,
    /// The client's name whose statement the server is asked about, before a message of the client's goes out.
    pub looking: Option<Bytes>,
    /// What a Describe of pgweir's own has found.
    pub found: Option<Shape>,
    /// DDL that was committed in the database, as far as any server's client has said so.
    epoch: Arc<AtomicU64>,
    /// DDL on this server: what it makes may hide what was there before, from this session at once.
    local_ddl: u64,
    /// Whether DDL that others will see is to be committed.
    ddl_is_open: bool,
    /// Statements made by PREPARE, and those of Parse messages too large to be kept: they exist here only.
    local: usize,
    batch: u64,
}

impl Statements {
    /// Takes part in what is known of DDL in the database.
    pub fn follow(&mut self, epoch: Arc<AtomicU64>) {
        self.epoch = epoch;
    }

    /// Another client comes, with its unnamed statement. A shared one has nothing to do with the server's.
    pub fn bring_unnamed(&mut self, own: Unnamed) {
        self.unnamed_is_clients = !self.names.contains_key(b"") && self.unnamed == own;
        self.own_unnamed = own;
    }

    /// The client's unnamed statement, to be kept for it.
    #[must_use]
    pub fn take_unnamed(&mut self) -> Unnamed {
        match &self.unnamed {
            _ if !self.unnamed_is_clients => std::mem::take(&mut self.own_unnamed),
            Unnamed::Doubtful => Unnamed::Absent,
            unnamed => unnamed.clone(),
        }
    }

    /// Whether there are statements that exist on this server only.
    #[must_use]
    pub fn keep_their_server(&self) -> bool {
        self.local > 0
    }

    /// Shared statements that the server holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// All named ones were dropped by pgweir.
    pub fn clear_named(&mut self) {
        self.held.clear();
        self.spelled.clear();
        self.order.clear();
        self.local = 0;
    }

    /// A batch ends with the message that goes out now.
    pub(super) fn end_batch(&mut self) {
        self.batch += 1;
        self.bound = None;
        self.unnamed_in_batch = false;
    }

    /// The server is outside a transaction: what was changed in one is there for all. `settled` when nothing is under way.
    pub(super) fn transaction_ended(&mut self, settled: bool) {
        if settled {
            self.context.settle();
        }
        if std::mem::take(&mut self.ddl_is_open) {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn age_of(&self, statement: &Statement) -> Age {
        Age { epoch: self.epoch.load(Ordering::Relaxed), generation: statement.generation() }
    }

    /// Whether the server holds a statement, as the next message will find it. Notes that it is used.
    pub fn presence(&mut self, statement: &Statement) -> Presence {
        let (batch, age) = (self.batch, self.age_of(statement));
        let held = self.held.get_mut(&statement.id());
        held.map_or(Presence::Absent, |held| held.presence(batch, age))
    }

    /// [`Statements::presence`] for a client that will read the rows as it was told of them before. What may be outdated
    /// stays as it is: should it be, the server's error keeps the client from misreading them.
    pub fn presence_for_told(&mut self, statement: &Statement) -> Presence {
        let age = self.age_of(statement);
        match self.held.get_mut(&statement.id()) {
            Some(held) if held.hold == Hold::Sure => {
                held.used = self.batch;
                Presence::Sure
            }
            Some(held) => held.presence(self.batch, age),
            None => Presence::Absent,
        }
    }

    /// Whether a client that reads the rows of a statement as it was told of them before has to be kept from them until it
    /// is known that they are the same: the server has no copy that would be refused, and something has changed since.
    #[must_use]
    pub fn must_be_looked_at(&self, name: &[u8]) -> bool {
        self.names.get(name).is_some_and(|named| {
            let held = || self.held.get(&named.statement.id());
            named.told.is_some()
                && named.told_at != self.age_of(&named.statement)
                && !named.statement.is_local()
                && !named.statement.is_sql()
                && !held().is_some_and(|held| held.hold != Hold::Doubtful)
        })
    }

    /// The server was asked what a name's statement gives now. Tells whether its client knows that.
    pub fn was_looked_at(&mut self, name: &[u8]) -> bool {
        let found = self.found.take();
        let Some(named) = self.names.get(name) else { return true };
        let (told, age) = (named.told, self.age_of(&named.statement));
        match (told, found) {
            (Some(told), Some(found)) if !told.is_surely(found) => false,
            (Some(told), _) => {
                self.names.told(name, told, |_| age);
                true
            }
            (None, _) => true,
        }
    }

    /// [`Statements::presence`] for a Parse: what the server holds stands in for it only if nothing was made in this
    /// session since then that the text could mean now.
    pub fn presence_for_parse(&mut self, statement: &Statement) -> Presence {
        let (batch, age) = (self.batch, self.age_of(statement));
        let Some(held) = self.held.get_mut(&statement.id()) else { return Presence::Absent };
        if held.hold == Hold::Sure && held.local_ddl != self.local_ddl {
            held.hold = Hold::Doubtful;
        }
        held.presence(batch, age)
    }

    /// Whether answers are still to come that tell whether a statement is there, and its next use is in another batch.
    #[must_use]
    pub fn is_open(&self, statement: &Statement) -> bool {
        let hold = self.held.get(&statement.id()).map(|held| held.hold);
        match hold {
            Some(Hold::Coming { batch }) => batch != self.batch,
            Some(Hold::Doubtful) => true,
            Some(Hold::Sure) | None => false,
        }
    }

    /// A Parse of this statement goes out.
    pub fn comes(&mut self, statement: &Arc<Statement>) {
        let (batch, age, local_ddl) = (self.batch, self.age_of(statement), self.local_ddl);
        let (id, hold) = (statement.id(), Hold::Coming { batch });
        self.unlist(id);
        let statement = Counted::on_server(Arc::clone(statement));
        let held = Held { statement, hold, age, local_ddl, used: batch, listed: Some(batch) };
        self.held.insert(id, held);
        self.order.insert((batch, id));
    }

    /// The statement to be closed before another one comes, when there are `limit` or more that stay: the one not used
    /// for longest. One that was used in this batch is never chosen, since messages under way may still need it.
    #[must_use]
    pub fn surplus(&mut self, limit: usize) -> Option<Arc<Statement>> {
        while self.order.len() >= limit {
            let (listed, id) = self.order.first().copied().filter(|(listed, _)| *listed < self.batch)?;
            self.order.remove(&(listed, id));
            let Some(held) = self.held.get_mut(&id) else { continue };
            if held.used == listed {
                return Some(held.leave());
            }
            // It was used since it was listed.
            held.listed = Some(held.used);
            self.order.insert((held.used, id));
        }
        None
    }

    /// Whether a Close for a statement is under way to make room.
    #[must_use]
    pub fn is_leaving(&self, statement: &Statement) -> bool {
        self.held.get(&statement.id()).is_some_and(|held| held.listed.is_none())
    }

    fn unlist(&mut self, id: u64) {
        if let Some(listed) = self.held.get_mut(&id).and_then(|held| held.listed.take()) {
            self.order.remove(&(listed, id));
        }
    }

    /// Statements that no client has a name for, to be closed when memory is short. None of this batch is among them.
    pub fn unused(&mut self) -> Vec<Arc<Statement>> {
        let batch = self.batch;
        let is_unused = |held: &&mut Held| {
            held.used < batch && held.hold == Hold::Sure && held.statement.usage.snapshot().names == 0
        };
        let unused: Vec<_> = self.held.values_mut().filter(is_unused).map(Held::leave).collect();
        self.order.retain(|(_, id)| self.held.get(id).is_some_and(|held| held.listed.is_some()));
        unused
    }

    /// It was not closed after all.
    fn relist(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id).filter(|held| held.listed.is_none()) {
            held.listed = Some(held.used);
            self.order.insert((held.used, id));
        }
    }

    /// Something goes out that may drop all statements.
    pub fn doubt_all(&mut self) {
        self.held.values_mut().for_each(|held| held.hold = Hold::Doubtful);
    }

    /// A statement is to be made afresh before its next use.
    pub(super) fn doubt(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.hold = Hold::Doubtful;
        }
    }

    /// The server refuses to use a statement as it was parsed: neither this server's nor any older copy holds.
    pub(super) fn outdated(&mut self, id: u64) {
        self.doubt(id);
        if let Some(held) = self.held.get(&id) {
            held.statement.outdate(held.age.generation);
        }
    }

    /// A statement, or a portal made from it, was described: to the client, or to pgweir itself.
    pub(super) fn described(&mut self, origin: Origin, name: &Bytes, shape: Shape) {
        match origin {
            Origin::Pooler => self.found = Some(shape),
            Origin::Client => {
                let epoch = self.epoch.load(Ordering::Relaxed);
                self.names.told(name, shape, |statement| Age { epoch, generation: statement.generation() });
            }
        }
    }

    /// A request was answered to its end.
    pub(super) fn succeeded(&mut self, origin: Origin, request: Request) {
        // Most requests change nothing.
        if matches!(
            request,
            Request::BindNamed { .. }
                | Request::Bind
                | Request::DescribePortal(_)
                | Request::DescribeNamed { .. }
                | Request::Execute
                | Request::Sync
                | Request::ParseKnown(_)
        ) {
            return;
        }
        let is_restored = matches!(request, Request::ParseUnnamed(_) | Request::CloseUnnamed);
        if is_restored || (origin == Origin::Client && request.ends_unnamed()) {
            self.unnamed_is_clients = true;
            self.own_unnamed = Unnamed::Absent;
        }
        if origin == Origin::Client && request.ends_unnamed() {
            self.names.remove(b"");
        }
        match request {
            Request::ParseHere => self.local += 1,
            Request::ParseNamed { statement, .. } if statement.is_local() => self.local += 1,
            Request::ParseNamed { statement, .. } => self.came(&statement),
            Request::ParseUnnamed(parse) => self.unnamed = parse.map_or(Unnamed::Here, Unnamed::Parsed),
            Request::CloseNamed { was: Some(named), .. } if named.statement.is_local() => {
                self.local = self.local.saturating_sub(1);
            }
            Request::ParseRefused { id, .. } => self.doubt(id),
            // Unless it came back behind the Close that has been answered now.
            Request::Evict(id) if self.held.get(&id).is_some_and(|held| held.hold == Hold::Doubtful) => {
                self.unlist(id);
                self.held.remove(&id);
            }
            Request::CloseNamed { name, .. } => {
                self.spelled.remove(&name);
            }
            // What took all away in front of it did not take this.
            Request::SpellParse(spelling) | Request::SpellExecute(spelling) => self.spelled.insert(spelling),
            // A simple query replaces the unnamed statement by none.
            Request::CloseUnnamed
            | Request::Query
            | Request::Discard
            | Request::DeallocateHere
            | Request::Prepare { .. }
            | Request::Spell(_)
            | Request::Deallocate(_)
            | Request::Tolerated => {
                self.unnamed = Unnamed::Absent;
            }
            _ => {}
        }
    }

    /// A Parse of this statement was answered. What may have dropped it since then went out behind it.
    fn came(&mut self, statement: &Arc<Statement>) {
        let id = statement.id();
        match self.held.get_mut(&id) {
            Some(held) if matches!(held.hold, Hold::Coming { .. }) => held.hold = Hold::Sure,
            Some(_) => {}
            None => {
                self.comes(statement);
                self.doubt(id);
            }
        }
    }

    /// SQL has made a statement.
    pub(super) fn prepared(&mut self, name: &Bytes, statement: &Arc<Statement>) {
        self.names.insert(name.clone(), Arc::clone(statement).into());
        self.spelled.insert(Spelling { name: name.clone(), id: statement.id() });
    }

    /// SQL has dropped a statement that its client has a name for.
    pub(super) fn deallocated(&mut self, name: &Bytes) {
        let was = self.names.remove(name);
        if was.is_some_and(|named| named.statement.is_local()) {
            self.local = self.local.saturating_sub(1);
        }
        self.spelled.remove(name);
    }

    /// SQL has dropped a statement that only SQL knew of.
    pub(super) fn deallocated_local(&mut self) {
        self.local = self.local.saturating_sub(1);
    }

    /// A request failed. A Parse drops the unnamed statement before it looks at the text.
    pub(super) fn failed(&mut self, origin: Origin, request: &Request, code: Option<&str>) {
        if let Request::Spell(failed) | Request::SpellParse(failed) | Request::SpellExecute(failed) = request
            && code != Some(sqlstate::DUPLICATE_STATEMENT)
        {
            self.spelled.remove(&failed.name);
        }
        if matches!(request, Request::ParseUnnamed(_)) {
            // PostgreSQL drops the old one before it looks at the text, but not before it has read the message.
            self.unnamed = Unnamed::Doubtful;
            // One that could not be restored is the client's all the same.
            if origin == Origin::Client {
                self.unnamed_is_clients = true;
                self.own_unnamed = Unnamed::Absent;
                self.names.remove(b"");
            }
        }
    }

    /// Takes back what was noted for a request that the server did not carry out. Requests are taken back in the
    /// reverse of the order in which they went out.
    pub(super) fn take_back(&mut self, request: Request) {
        match request {
            Request::ParseNamed { name, statement } => {
                if let Some(name) = name {
                    self.names.remove(&name);
                }
                // It may be there all the same, when it was to be made afresh.
                self.doubt(statement.id());
            }
            Request::ParseKnown(name) | Request::ParseProbe(name) => {
                self.names.remove(&name);
            }
            Request::SpellParse(skipped) | Request::SpellExecute(skipped) => {
                self.spelled.remove(&skipped.name);
            }
            Request::Unspell(skipped) => self.spelled.insert(skipped),
            Request::CloseNamed { name, was: Some(named) } => {
                self.names.insert(name, named);
            }
            Request::Evict(id) => self.relist(id),
            _ => {}
        }
    }

    /// A CommandComplete for the client. Its tag tells what SQL did to the statements; `later` are the names that
    /// messages behind it have made.
    pub(super) fn completed<'a>(&mut self, tag: &[u8], later: impl Iterator<Item = &'a Bytes>) {
        match tag {
            b"PREPARE" => self.local += 1,
            b"DEALLOCATE ALL" | b"DISCARD ALL" => {
                let later: std::collections::HashSet<_> = later.collect();
                self.names.retain(|name| later.contains(name));
                self.held.retain(|_, held| matches!(held.hold, Hold::Coming { .. }));
                self.order.retain(|(_, id)| self.held.contains_key(id));
                self.spelled.clear();
                self.local = 0;
                self.local_ddl += 1;
                if tag == b"DISCARD ALL" {
                    self.context = PlanContext::default();
                }
            }
            tag => {
                let reach = reach(tag);
                self.local_ddl += u64::from(reach >= Reach::Session);
                self.ddl_is_open |= reach == Reach::Database;
            }
        }
    }
}

/// How far a command may change what the text of a statement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Nowhere,
    /// In its own session, at once.
    Session,
    /// In the whole database, once it is committed.
    Database,
}

/// Of a command by its tag. New tables are mostly temporary, and many applications make them all the time: for others
/// they change nothing. Where that is wrong the server finds out by itself, and says so.
///
/// <https://www.postgresql.org/docs/current/sql-commands.html>
fn reach(tag: &[u8]) -> Reach {
    // Of most commands this is all that is asked.
    const PLAIN: [&[u8]; 3] = [b"INSERT", b"DELETE", b"COMMIT"];
    if !matches!(tag.first(), Some(b'A' | b'C' | b'D' | b'I'))
        || PLAIN.iter().any(|plain| tag.starts_with(plain))
    {
        return Reach::Nowhere;
    }
    const OWN: [&[u8]; 8] = [
        b"CREATE TABLE",
        b"DROP TABLE",
        b"CREATE INDEX",
        b"DROP INDEX",
        b"CREATE SEQUENCE",
        b"DROP SEQUENCE",
        b"DO",
        b"CALL",
    ];
    const ALL: [&[u8]; 4] = [b"CREATE ", b"ALTER ", b"DROP ", b"IMPORT FOREIGN SCHEMA"];
    if OWN.iter().any(|own| tag.starts_with(own)) || tag == b"DISCARD TEMP" {
        Reach::Session
    } else if ALL.iter().any(|all| tag.starts_with(all)) {
        Reach::Database
    } else {
        Reach::Nowhere
    }
}

#[cfg(test)]
mod tests {
    use super::super::interner::Interner;
    use super::*;

    fn parse(name: &'static str, statement: &Arc<Statement>) -> Request {
        Request::ParseNamed {
            name: Some(Bytes::from_static(name.as_bytes())),
            statement: Arc::clone(statement),
        }
    }

    #[test]
    fn a_server_holds_what_it_said_it_holds() {
        let (interner, mut statements) = (Interner::default(), Statements::default());
        let one = interner.intern(b"1");
        assert_eq!(statements.presence(&one), Presence::Absent);
        statements.comes(&one);
        assert_eq!(statements.presence(&one), Presence::Coming);
        statements.end_batch();
        assert_eq!(statements.presence(&one), Presence::Doubtful);
        statements.succeeded(Origin::Client, parse("a", &one));
        assert_eq!(statements.presence(&one), Presence::Sure);
        statements.doubt_all();
        assert_eq!(statements.presence(&one), Presence::Doubtful);
    }

    #[test]
    fn what_went_out_behind_a_parse_keeps_it_in_doubt() {
        let (interner, mut statements) = (Interner::default(), Statements::default());
        let one = interner.intern(b"1");
        // DEALLOCATE ALL, Parse and another DEALLOCATE ALL, sent in one go.
        statements.comes(&one);
        statements.doubt_all();
        statements.completed(b"DEALLOCATE ALL", std::iter::empty());
        statements.succeeded(Origin::Client, parse("a", &one));
        assert_eq!(statements.presence(&one), Presence::Doubtful);
        // Parse, and behind it a Close that makes room.
        statements.comes(&one);
        statements.end_batch();
        assert_eq!(statements.surplus(1).unwrap().id(), one.id());
        statements.succeeded(Origin::Client, parse("a", &one));
        statements.succeeded(Origin::Client, Request::Evict(one.id()));
        assert_eq!(statements.presence(&one), Presence::Absent);
    }

    #[test]
    fn what_was_not_carried_out_is_taken_back() {
        let (interner, mut statements) = (Interner::default(), Statements::default());
        let one = interner.intern(b"1");
        let name = Bytes::from_static(b"a");
        statements.names.insert(name.clone(), Arc::clone(&one).into());
        statements.comes(&one);
        statements.take_back(parse("a", &one));
        assert!(statements.names.is_empty());
        assert_eq!(statements.presence(&one), Presence::Doubtful);
        statements.take_back(Request::CloseNamed { name: name.clone(), was: Some(one.into()) });
        assert!(statements.names.contains_key(&name));
    }

    #[test]
    fn the_one_unused_for_longest_makes_room_but_none_of_this_batch() {
        let (interner, mut statements) = (Interner::default(), Statements::default());
        let all: Vec<_> = (0..3u8).map(|tail| interner.intern(&[tail])).collect();
        for statement in &all {
            statements.comes(statement);
            statements.succeeded(Origin::Client, parse("x", statement));
            statements.end_batch();
        }
        assert_eq!(statements.surplus(4), None);
        let _used = statements.presence(&all[0]);
        let _used = statements.presence(&all[1]);
        assert_eq!(statements.surplus(3).unwrap().id(), all[2].id());
        let _used = statements.presence(&all[2]);
        assert_eq!(statements.surplus(3), None);
        statements.succeeded(Origin::Client, Request::Evict(all[2].id()));
        assert_eq!(statements.count(), 2);
    }

    #[test]
    fn what_is_on_its_way_out_is_not_chosen_again() {
        let (interner, mut statements) = (Interner::default(), Statements::default());
        let all: Vec<_> = (0..9u8).map(|tail| interner.intern(&[tail])).collect();
        // Nothing makes room within a batch, but what follows it has to.
        all[..6].iter().for_each(|statement| statements.comes(statement));
        assert_eq!(statements.surplus(3), None);
        statements.end_batch();
        let _used = statements.presence(&all[0]);
        let gone: Vec<_> = std::iter::from_fn(|| statements.surplus(3)).map(|gone| gone.id()).collect();
        assert_eq!(gone, all[1..5].iter().map(|statement| statement.id()).collect::<Vec<_>>());
        statements.comes(&all[6]);
        // One that was not closed after all, and one that came back before it was.
        statements.take_back(Request::Evict(gone[0]));
        statements.comes(&all[2]);
        statements.succeeded(Origin::Client, Request::Evict(gone[1]));
        statements.succeeded(Origin::Client, Request::Evict(gone[2]));
        assert_eq!((statements.count(), statements.order.len()), (6, 5));
        statements.end_batch();
        assert_eq!(statements.surplus(5).map(|gone| gone.id()), Some(gone[0]));
        statements.completed(b"DISCARD ALL", std::iter::empty());
        assert_eq!(statements.count(), statements.order.len());
    }

    #[test]
    fn discard_all_keeps_what_comes_behind_it() {
        let (interner, mut statements) = (Interner::default(), Statements::default());
        let (one, two) = (interner.intern(b"1"), interner.intern(b"2"));
        let (early, late) = (Bytes::from_static(b"early"), Bytes::from_static(b"late"));
        statements.names.insert(early, one.into());
        statements.names.insert(late.clone(), Arc::clone(&two).into());
        statements.comes(&two);
        statements.completed(b"DISCARD ALL", std::iter::once(&late));
        assert_eq!(statements.names.keys().collect::<Vec<_>>(), [&late]);
        assert_eq!(statements.presence(&two), Presence::Coming);
    }

    #[test]
    fn sql_level_statements_keep_their_server() {
        let mut statements = Statements::default();
        statements.completed(b"PREPARE", std::iter::empty());
        assert!(statements.keep_their_server());
        statements.deallocated_local();
        assert!(!statements.keep_their_server());
    }

    #[test]
    fn the_unnamed_statement_is_what_the_last_parse_left() {
        let mut statements = Statements::default();
        let parse = Bytes::from_static(b"P");
        statements.succeeded(Origin::Client, Request::ParseUnnamed(Some(parse.clone())));
        assert_eq!(statements.unnamed, Unnamed::Parsed(parse));
        statements.failed(Origin::Client, &Request::ParseUnnamed(None), None);
        assert_eq!(statements.unnamed, Unnamed::Doubtful);
        statements.succeeded(Origin::Client, Request::ParseUnnamed(None));
        assert_eq!(statements.unnamed, Unnamed::Here);
        statements.succeeded(Origin::Client, Request::Query);
        assert_eq!(statements.unnamed, Unnamed::Absent);
    }
}
