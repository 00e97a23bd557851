//! Prepared statements that all clients share: the same SQL and parameter types have one name on every server.

use super::context::{Steering, hash, speaks_of_statements, steering};
use super::usage::Usage;
use crate::wire::split_cstr;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What all names that pgweir gives to statements begin with.
pub const PREFIX: &[u8] = b"pgweir_";

/// A name that no statement ever has: closing it succeeds and changes nothing.
pub const NOBODY: &[u8] = b"pgweir_0";

/// A name for statements that live for one message.
pub const PROBE: &[u8] = b"pgweir_probe";

/// An ErrorResponse body that names a statement as the client does.
pub(super) fn with_client_name(body: &[u8], name: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(body.len() + name.len());
    let mut rest = body;
    while let Some(at) =
        rest.windows(PREFIX.len() + 1).position(|window| window[0] == b'"' && window[1..] == *PREFIX)
    {
        let (before, quoted) = rest.split_at(at + 1);
        let Some(end) = quoted.iter().position(|&byte| byte == b'"') else { break };
        out.put_slice(before);
        out.put_slice(name);
        rest = &quoted[end..];
    }
    out.put_slice(rest);
    out
}

/// Entries that the table keeps room for.
const SMALL: usize = 1024;

/// What a statement takes beside its text: itself, its entry in the table, and what the allocator keeps of both.
const OVERHEAD: usize = size_of::<Statement>() + size_of::<(Bytes, Weak<Statement>)>() + 64;

/// Contexts from here on are of one statement each.
const PRIVATE: u64 = 1 << 63;

/// A prepared statement: what a Parse says behind the name, byte for byte, what it was said under, and a number that is
/// never given to another.
pub struct Statement {
    id: u64,
    /// Its name on servers.
    name: Box<str>,
    /// The context, and the tail.
    key: Bytes,
    tail: Bytes,
    /// How it changes what texts mean that come behind it.
    steering: Option<Steering>,
    speaks_of_statements: bool,
    /// Whether it is a PREPARE, which makes it under its client's name.
    is_sql: bool,
    generation: AtomicU32,
    /// How it is used.
    pub usage: Usage,
    /// Where it is forgotten when nobody uses it any longer.
    home: Arc<Mutex<Table>>,
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its home is the table of all others.
        f.debug_struct("Statement").field("id", &self.id).field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Statement {}

impl Statement {
    /// Its number in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The SQL, the zero byte that ends it, and the parameter types. Empty for one that was too large to be kept.
    #[must_use]
    pub fn tail(&self) -> &Bytes {
        &self.tail
    }

    /// Its name on servers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SQL, in its client's encoding.
    #[must_use]
    pub fn sql(&self) -> &[u8] {
        split_cstr(&self.tail).map_or(&self.tail[..], |(sql, _)| sql)
    }

    /// The types of parameters that its client named.
    pub fn parameter_types(&self) -> impl Iterator<Item = u32> {
        let types = split_cstr(&self.tail).and_then(|(_, rest)| rest.get(2..)).unwrap_or_default();
        types.chunks_exact(4).filter_map(|oid| oid.first_chunk().map(|oid| u32::from_be_bytes(*oid)))
    }

    /// How often it has turned out that what servers made of it no longer holds.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What servers have made of it up to this generation no longer holds: they are to make it afresh.
    pub fn outdate(&self, generation: u32) {
        let (old, new) = (generation, generation.wrapping_add(1));
        // If another server was faster, this copy was outdated already and says nothing about newer ones.
        let _either_way = self.generation.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What it was parsed under.
    #[must_use]
    pub fn context(&self) -> u64 {
        self.key.first_chunk().map_or(0, |context| u64::from_be_bytes(*context))
    }

    /// Whether one client has it to itself, since others would mean something else by the same text.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.context() >= PRIVATE
    }

    /// How it changes what texts mean that come behind it.
    #[must_use]
    pub fn steering(&self) -> Option<Steering> {
        self.steering
    }

    /// Whether it may speak of other prepared statements by name.
    #[must_use]
    pub fn speaks_of_statements(&self) -> bool {
        self.speaks_of_statements
    }

    /// Whether SQL made it: its tail is the PREPARE, and it has its client's name on servers.
    #[must_use]
    pub fn is_sql(&self) -> bool {
        self.is_sql
    }

    /// Whether it exists only where its client parsed it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tail.is_empty()
    }

    /// The bytes that it takes, wherever it is used.
    #[must_use]
    pub fn bytes(&self) -> usize {
        cost(&self.tail)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if !self.is_local() && !self.is_sql {
            lock(&self.home).forget(self);
        }
    }
}

/// Bytes of a context.
const CONTEXT: usize = size_of::<u64>();

/// What a statement is found by.
fn key(context: u64, tail: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(CONTEXT + tail.len());
    key.put_u64(context);
    key.put_slice(tail);
    key.freeze()
}

fn cost(tail: &[u8]) -> usize {
    tail.len() + OVERHEAD
}

/// The table of statements. It keeps none alive: those who use one do, and it goes with the last of them.
#[derive(Debug, Default)]
pub struct Interner {
    table: Arc<Mutex<Table>>,
    last: AtomicU64,
    sightings: Sightings,
}

/// Texts that came lately, by their hashes: a new one takes the place of an older one.
#[derive(Debug)]
struct Sightings(Box<[AtomicU64]>);

impl Default for Sightings {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(Self::ROOM).collect())
    }
}

impl Sightings {
    /// Texts that have room.
    const ROOM: usize = 4096;

    /// Notes one; tells whether it was there.
    fn note(&self, hash: u64) -> bool {
        let at = usize::try_from(hash >> 1).unwrap_or_default() % Self::ROOM;
        self.0.get(at).is_some_and(|place| {
            place.load(Ordering::Relaxed) == hash || {
                place.store(hash, Ordering::Relaxed);
                false
            }
        })
    }
}

/// A statement would not fit under the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Bytes that all statements take.
    pub bytes: usize,
    /// Bytes that it would take.
    pub wanted: usize,
    /// The limit.
    pub limit: usize,
}

/// What all statements take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InternerTotals {
    /// Statements that are in use.
    pub statements: usize,
    /// Their bytes.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Table {
    statements: HashMap<Bytes, Weak<Statement>>,
    /// Of all statements that are not dropped yet. It changes under the lock, so that a limit holds at every moment.
    bytes: usize,
}

impl Interner {
    /// The statement with this tail in the context of a fresh session.
    #[must_use]
    pub fn intern(&self, tail: &[u8]) -> Arc<Statement> {
        self.intern_in(0, tail)
    }

    /// The statement with this tail in this context; byte by byte equal tails are the same statement.
    #[must_use]
    pub fn intern_in(&self, context: u64, tail: &[u8]) -> Arc<Statement> {
        let key = key(context, tail);
        let mut table = lock(&self.table);
        table.find(&key).unwrap_or_else(|| self.add(&mut table, key))
    }

    /// A context that no other statement has.
    #[must_use]
    pub fn private_context(&self) -> u64 {
        PRIVATE + self.last.fetch_add(1, Ordering::Relaxed)
    }

    /// The same under a limit on the bytes of all statements. One that is there already takes nothing more.
    ///
    /// # Errors
    ///
    /// [`Full`] when a new one would be over it.
    pub fn intern_within(
        &self,
        context: u64,
        tail: &[u8],
        limit: Option<usize>,
    ) -> Result<Arc<Statement>, Full> {
        let key = key(context, tail);
        let mut table = lock(&self.table);
        if let Some(statement) = table.find(&key) {
            return Ok(statement);
        }
        let (bytes, wanted) = (table.bytes, cost(tail));
        match limit.filter(|limit| bytes + wanted > *limit) {
            Some(limit) => Err(Full { bytes, wanted, limit }),
            None => Ok(self.add(&mut table, key)),
        }
    }

    /// The statement with this tail in this context, if anybody uses it.
    #[must_use]
    pub fn find(&self, context: u64, tail: &[u8]) -> Option<Arc<Statement>> {
        lock(&self.table).find(&key(context, tail))
    }

    /// Whether this text has come before, lately. Sometimes it is forgotten that it has; hardly ever is it the other way.
    #[must_use]
    pub fn has_seen(&self, context: u64, tail: &[u8]) -> bool {
        self.sightings.note(hash((context, tail)))
    }

    /// A statement that is shared with nobody and kept nowhere.
    #[must_use]
    pub fn local(&self) -> Arc<Statement> {
        self.make(key(0, &[]), false)
    }

    /// A statement that a PREPARE makes. It is counted where a client has a name for it.
    #[must_use]
    pub fn of_sql(&self, prepare: &[u8]) -> Arc<Statement> {
        self.make(key(0, prepare), true)
    }

    fn add(&self, table: &mut Table, key: Bytes) -> Arc<Statement> {
        // A namesake that is about to be forgotten goes first, with its copy of the text.
        table.statements.remove(&key);
        let statement = self.make(key, false);
        table.statements.insert(statement.key.clone(), Arc::downgrade(&statement));
        table.bytes += statement.bytes();
        statement
    }

    fn make(&self, key: Bytes, is_sql: bool) -> Arc<Statement> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let tail = key.slice(CONTEXT..);
        let sql = split_cstr(&tail).map_or(&tail[..], |(sql, _)| sql);
        Arc::new(Statement {
            id,
            name: format!("{}{id}", String::from_utf8_lossy(PREFIX)).into(),
            steering: steering(sql),
            speaks_of_statements: speaks_of_statements(sql),
            is_sql,
            generation: AtomicU32::new(0),
            usage: Usage::default(),
            home: Arc::clone(&self.table),
            key,
            tail,
        })
    }

    /// How many statements there are, and what they take.
    #[must_use]
    pub fn totals(&self) -> InternerTotals {
        let table = lock(&self.table);
        InternerTotals { statements: table.statements.len(), bytes: table.bytes }
    }

    /// All statements, in the order of their numbers.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Statement>> {
        let mut all: Vec<_> = lock(&self.table).statements.values().filter_map(Weak::upgrade).collect();
        all.sort_unstable_by_key(|statement| statement.id);
        all
    }
}

impl Table {
    fn find(&self, key: &[u8]) -> Option<Arc<Statement>> {
        self.statements.get(key).and_then(Weak::upgrade)
    }

    /// Forgets a statement that nobody uses any longer. Another may have come in its place meanwhile.
    fn forget(&mut self, statement: &Statement) {
        self.bytes -= statement.bytes();
        let entry = self.statements.get(&statement.key);
        if entry.is_some_and(|entry| std::ptr::eq(entry.as_ptr(), statement)) {
            self.statements.remove(&statement.key);
        }
        if self.statements.len().max(SMALL) < self.statements.capacity() / 4 {
            self.statements.shrink_to(2 * self.statements.len());
        }
    }
}

/// No strong reference may end while the lock is held: it would be taken again for the drop.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // The table is whole after every step, so a panic elsewhere cannot have spoilt it.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_one_statement_and_numbers_are_never_given_twice() {
        let interner = Interner::default();
        let one = interner.intern(b"select 1\0\0\0");
        assert!(Arc::ptr_eq(&one, &interner.intern(b"select 1\0\0\0")));
        let other = interner.intern(b"select 1\0\0\x01\0\0\0\x17");
        assert_ne!(one.id(), other.id());
        let id = one.id();
        drop(one);
        assert_ne!(interner.intern(b"select 1\0\0\0").id(), id);
    }

    #[test]
    fn another_context_is_another_statement() {
        let interner = Interner::default();
        let (one, other) = (interner.intern_in(1, b"select 1\0"), interner.intern_in(2, b"select 1\0"));
        assert_ne!(one.id(), other.id());
        assert_eq!((one.context(), one.tail(), other.tail()), (1, other.tail(), one.tail()));
        assert!(!one.is_private());
        assert!(interner.intern_in(interner.private_context(), b"select 1\0").is_private());
    }

    #[test]
    fn an_error_shows_the_name_that_the_client_knows() {
        let body = b"C26000\0Mprepared statement \"pgweir_17\" does not exist\0\0";
        let shown = with_client_name(body, b"mine");
        assert_eq!(&shown[..], &b"C26000\0Mprepared statement \"mine\" does not exist\0\0"[..]);
    }

    #[test]
    fn what_nobody_uses_is_forgotten_at_once() {
        let interner = Interner::default();
        let kept = interner.intern(b"kept");
        let many: Vec<_> =
            (0..10_000).map(|number| interner.intern(format!("select {number}").as_bytes())).collect();
        assert_eq!(interner.totals().statements, 10_001);
        let bytes: usize = many.iter().map(|statement| statement.bytes()).sum();
        assert_eq!(interner.totals().bytes, bytes + kept.bytes());
        drop(many);
        assert_eq!(interner.totals(), InternerTotals { statements: 1, bytes: kept.bytes() });
        assert!(Arc::ptr_eq(&kept, &interner.intern(b"kept")));
        assert_eq!(interner.list(), [kept]);
        assert_eq!(interner.totals(), InternerTotals::default());
    }

    #[test]
    fn a_limit_is_for_what_is_not_there_yet() {
        let interner = Interner::default();
        let one = interner.intern_within(0, b"one", Some(cost(b"one"))).unwrap();
        let (bytes, limit) = (one.bytes(), cost(b"one") + 1);
        let full = Full { bytes, wanted: cost(b"two"), limit };
        assert_eq!(interner.intern_within(0, b"two", Some(limit)), Err(full));
        assert!(interner.intern_within(0, b"one", Some(0)).is_ok_and(|same| Arc::ptr_eq(&same, &one)));
        drop(one);
        assert!(interner.intern_within(0, b"two", Some(cost(b"two"))).is_ok());
        assert!(interner.intern_within(0, b"three", None).is_ok());
    }

    #[test]
    fn the_limit_holds_whatever_happens_at_once() {
        let interner = Interner::default();
        let limit = 8 * cost(b"0");
        std::thread::scope(|scope| {
            for seed in 0..4_u8 {
                let interner = &interner;
                scope.spawn(move || {
                    for turn in (0..=u8::MAX).cycle().take(5_000) {
                        let tail = [(turn % 11) ^ seed];
                        let _held = interner.intern_within(0, &tail, Some(limit));
                        assert!(interner.totals().bytes <= limit);
                    }
                });
            }
        });
        assert_eq!(interner.totals(), InternerTotals::default());
    }
}
