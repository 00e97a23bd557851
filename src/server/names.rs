//! The names that a client has given to statements, with what they take.

use super::interner::Statement;
use super::shape::Shape;
use super::statements::{Age, Named};
use super::usage::Counted;
use bytes::Bytes;
use foldhash::fast::RandomState;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// PostgreSQL tells names of statements apart by so many bytes (`NAMEDATALEN` - 1), however long they are.
const SIGNIFICANT: usize = 63;

/// Names of more bytes than this are not looked at: their statements stay on the server where they were made.
const LONGEST: usize = 1024;

/// Whether a name is short enough to be kept.
#[must_use]
pub fn is_kept(name: &[u8]) -> bool {
    name.len() <= LONGEST
}

/// As much of a name as counts.
pub(super) fn significant(name: &[u8]) -> &[u8] {
    &name[..name.len().min(SIGNIFICANT)]
}

/// A name as it was given, equal to all that PostgreSQL takes for the same.
#[derive(Debug, Clone)]
struct Name(Bytes);

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        significant(&self.0)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        significant(&self.0).hash(state);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        significant(&self.0) == significant(&other.0)
    }
}

impl Eq for Name {}

/// What a name stands for, counted for as long as it does.
#[derive(Debug)]
struct Entry {
    named: Named,
    counted: Counted,
}

/// The named statements of a client. Without any it takes no room beside that of a pointer.
#[derive(Debug, Default)]
pub struct Names(Option<Box<Book>>);

#[derive(Debug, Default)]
struct Book {
    named: HashMap<Name, Entry, RandomState>,
    /// That of the empty name: of an unnamed statement that is shared.
    unnamed: Option<Entry>,
    bytes: usize,
}

impl Book {
    fn entry(&self, name: &[u8]) -> Option<&Entry> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(significant(name)) }
    }

    fn entry_mut(&mut self, name: &[u8]) -> Option<&mut Entry> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(significant(name)) }
    }
}

impl Names {
    /// What a name stands for.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Named> {
        self.0.as_ref()?.entry(name).map(|entry| &entry.named)
    }

    /// The name as it was given, and what it stands for.
    #[must_use]
    pub fn get_key_value(&self, name: &[u8]) -> Option<(Bytes, &Named)> {
        let book = self.0.as_ref()?;
        if name.is_empty() {
            return book.unnamed.as_ref().map(|entry| (Bytes::new(), &entry.named));
        }
        book.named.get_key_value(significant(name)).map(|(name, entry)| (name.0.clone(), &entry.named))
    }

    /// Whether a name stands for something.
    #[must_use]
    pub fn contains_key(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Gives a name, and takes it from what had it.
    pub fn insert(&mut self, name: Bytes, named: Named) {
        self.remove(&name);
        let book = self.0.get_or_insert_default();
        book.bytes += cost(&name, &named);
        let counted = Counted::by_name(Arc::clone(&named.statement));
        let entry = Entry { named, counted };
        if name.is_empty() {
            book.unnamed = Some(entry);
        } else {
            book.named.insert(Name(name), entry);
        }
    }

    /// Takes a name away; what it stood for.
    pub fn remove(&mut self, name: &[u8]) -> Option<Named> {
        let book = self.0.as_mut()?;
        let (length, entry) = if name.is_empty() {
            (0, book.unnamed.take()?)
        } else {
            let (name, entry) = book.named.remove_entry(significant(name))?;
            (name.0.len(), entry)
        };
        book.bytes -= length + entry.named.statement.tail().len();
        Some(entry.named)
    }

    /// Notes what the client was told about the columns of what a name stands for, and how old that statement is.
    pub(super) fn told(&mut self, name: &[u8], shape: Shape, age: impl FnOnce(&Statement) -> Age) {
        if let Some(entry) = self.0.as_mut().and_then(|book| book.entry_mut(name)) {
            (entry.named.told, entry.named.told_at) = (Some(shape), age(&entry.named.statement));
        }
    }

    /// Whether a name stands for this statement; from then on its client has been told nothing of it.
    pub fn renew(&mut self, name: &[u8], statement: &Arc<Statement>) -> bool {
        let entry = self.0.as_mut().and_then(|book| book.entry_mut(name));
        entry.filter(|entry| Arc::ptr_eq(&entry.named.statement, statement)).is_some_and(|entry| {
            (entry.named.told, entry.named.told_at) = (None, Age::default());
            true
        })
    }

    /// Has a name stand for the same text in another context.
    pub fn replace(&mut self, name: &[u8], statement: Arc<Statement>) {
        if let Some(entry) = self.0.as_mut().and_then(|book| book.entry_mut(name)) {
            entry.counted = Counted::by_name(Arc::clone(&statement));
            entry.named.statement = statement;
        }
    }

    /// Takes all names away but the empty one and those that `keeps` says so of.
    pub fn retain(&mut self, mut keeps: impl FnMut(&Bytes) -> bool) {
        let Some(book) = &mut self.0 else { return };
        let bytes = &mut book.bytes;
        book.named.retain(|name, entry| {
            let kept = keeps(&name.0);
            if !kept {
                *bytes -= cost(&name.0, &entry.named);
            }
            kept
        });
        book.named.shrink_to_fit();
    }

    /// The names as they were given, but the empty one.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().flat_map(|book| book.named.keys().map(|name| &name.0))
    }

    /// How many there are. The empty one, of an unnamed statement that is shared, does not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |book| book.named.len())
    }

    /// Whether there are none, not even the empty one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|book| book.named.is_empty() && book.unnamed.is_none())
    }

    /// Bytes of the names and of the texts that they stand for. A text that has two names counts twice.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |book| book.bytes)
    }
}

fn cost(name: &[u8], named: &Named) -> usize {
    name.len() + named.statement.tail().len()
}

#[cfg(test)]
mod tests {
    use super::super::interner::Interner;
    use super::*;

    #[test]
    fn what_the_names_take_is_known_at_every_moment() {
        let (interner, mut names) = (Interner::default(), Names::default());
        let (one, two) = (interner.intern(b"1234567"), interner.intern(b"123"));
        names.insert(Bytes::from_static(b"a"), Arc::clone(&one).into());
        names.insert(Bytes::from_static(b"bb"), Arc::clone(&one).into());
        assert_eq!((names.len(), names.bytes(), one.usage.snapshot().names), (2, 17, 2));
        names.insert(Bytes::from_static(b"a"), Arc::clone(&two).into());
        assert_eq!((names.len(), names.bytes(), one.usage.snapshot().names), (2, 13, 1));
        assert!(names.remove(b"bb").is_some_and(|was| Arc::ptr_eq(&was.statement, &one)));
        assert!(names.remove(b"bb").is_none());
        assert_eq!((names.len(), names.bytes()), (1, 4));
        names.retain(|_| false);
        assert_eq!((names.is_empty(), names.bytes(), two.usage.snapshot().names), (true, 0, 0));
    }

    #[test]
    fn names_are_told_apart_as_postgresql_does() {
        let (interner, mut names) = (Interner::default(), Names::default());
        let long = "n".repeat(70);
        names.insert(Bytes::from(long.clone()), interner.intern(b"1").into());
        assert!(names.contains_key(&long.as_bytes()[..63]) && names.contains_key(&long.as_bytes()[..64]));
        assert!(!names.contains_key(&long.as_bytes()[..62]));
        let (given, _) = names.get_key_value(&long.as_bytes()[..63]).unwrap();
        assert_eq!(given, &long);
        assert!(names.remove(format!("{long}x").as_bytes()).is_some());
        assert_eq!(names.bytes(), 0);
    }
}
