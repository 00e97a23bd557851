//! Prepared statements that all clients share: the same SQL and parameter types have one name on every server.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// Entries below which the table is not swept.
const SMALL: usize = 1024;

/// A prepared statement: what a Parse says behind the name, byte for byte, and a number that is never given to another.
#[derive(Debug)]
pub struct Statement {
    id: u64,
    tail: Bytes,
    generation: AtomicU32,
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

    /// Writes its name on servers, without an end.
    pub fn put_name(&self, out: &mut BytesMut) {
        out.put_slice(PREFIX);
        out.put_slice(self.id.to_string().as_bytes());
    }

    /// The SQL, the zero byte that ends it, and the parameter types. Empty for one that was too large to be kept.
    #[must_use]
    pub fn tail(&self) -> &Bytes {
        &self.tail
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

    /// Whether it exists only where its client parsed it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tail.is_empty()
    }
}

/// The table of statements. It keeps none alive: those who use one do.
#[derive(Debug, Default)]
pub struct Interner {
    table: Mutex<Table>,
    last: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    statements: HashMap<Bytes, Weak<Statement>>,
    sweep_at: usize,
}

impl Interner {
    /// The statement with this tail; byte by byte equal tails are the same statement.
    #[must_use]
    pub fn intern(&self, tail: &[u8]) -> Arc<Statement> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = table.statements.get(tail).and_then(Weak::upgrade) {
            return statement;
        }
        let statement = self.make(Bytes::copy_from_slice(tail));
        table.statements.insert(statement.tail.clone(), Arc::downgrade(&statement));
        table.sweep_if_large();
        statement
    }

    /// A statement that is shared with nobody and kept nowhere.
    #[must_use]
    pub fn local(&self) -> Arc<Statement> {
        self.make(Bytes::new())
    }

    fn make(&self, tail: Bytes) -> Arc<Statement> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Statement { id, tail, generation: AtomicU32::new(0) })
    }

    /// Statements in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).statements.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    /// Forgets statements that nobody uses, each time the table has doubled.
    fn sweep_if_large(&mut self) {
        if self.statements.len() >= self.sweep_at.max(SMALL) {
            self.statements.retain(|_, statement| statement.strong_count() > 0);
            self.statements.shrink_to(SMALL);
            self.sweep_at = self.statements.len().saturating_mul(2);
        }
    }
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
    fn an_error_shows_the_name_that_the_client_knows() {
        let body = b"C26000\0Mprepared statement \"pgweir_17\" does not exist\0\0";
        let shown = with_client_name(body, b"mine");
        assert_eq!(&shown[..], &b"C26000\0Mprepared statement \"mine\" does not exist\0\0"[..]);
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let interner = Interner::default();
        let kept = interner.intern(b"kept");
        for number in 0..10_000 {
            let _dropped = interner.intern(format!("select {number}").as_bytes());
        }
        assert!(interner.len() <= SMALL);
        assert!(Arc::ptr_eq(&kept, &interner.intern(b"kept")));
    }
}
