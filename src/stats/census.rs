//! Who is here: a record for each client and each server connection, for `SHOW CLIENTS` and `SHOW SERVERS`.

use super::{Replication, unix_micros};
use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A map for so many is not worth to be made smaller.
const SMALL: usize = 256;

/// All records of one kind. A record is on the roll for as long as its [`Entry`] lives.
#[derive(Debug)]
pub struct Roll<T>(Arc<Mutex<HashMap<u64, Arc<T>>>>);

impl<T> Default for Roll<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Roll<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A record that is on a [`Roll`] until this is dropped.
#[derive(Debug)]
pub struct Entry<T> {
    id: u64,
    record: Arc<T>,
    roll: Roll<T>,
}

impl<T> Roll<T> {
    /// Puts a record on the roll under a number of its own.
    #[must_use]
    pub fn enlist(&self, id: u64, record: T) -> Entry<T> {
        let record = Arc::new(record);
        self.lock().insert(id, Arc::clone(&record));
        Entry { id, record, roll: self.clone() }
    }

    /// The record with this number.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<T>> {
        self.lock().get(&id).cloned()
    }

    /// All records, in the order of their numbers.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<T>> {
        let mut all: Vec<_> = self.lock().iter().map(|(&id, record)| (id, Arc::clone(record))).collect();
        all.sort_unstable_by_key(|&(id, _)| id);
        all.into_iter().map(|(_, record)| record).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<T>>> {
        // The map is whole after every step, so a panic elsewhere cannot have spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entry<T> {
    /// The record, to be kept beyond its time on the roll.
    #[must_use]
    pub fn share(&self) -> Arc<T> {
        Arc::clone(&self.record)
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.record
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let mut records = self.roll.lock();
        records.remove(&self.id);
        shrink(&mut records);
    }
}

/// Gives back what a map has needed and needs no longer. It stays twice as large as its contents, so that the next ones
/// to come and go cost nothing.
pub fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > SMALL && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

/// The two ends of a connection; `None` is a Unix socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    remote: End,
    local: End,
}

/// One end. It is half as large as a [`SocketAddr`], which has room for what IPv6 knows beside address and port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct End {
    host: Option<IpAddr>,
    port: u16,
}

impl Peer {
    /// A connection between the other side and this one.
    #[must_use]
    pub fn new(remote: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Self { remote: End::new(remote), local: End::new(local) }
    }

    /// The same with ports for the ends of a Unix socket: it has one in its name.
    #[must_use]
    pub fn at_ports(mut self, remote: u16, local: u16) -> Self {
        for (end, port) in [(&mut self.remote, remote), (&mut self.local, local)] {
            if end.host.is_none() {
                end.port = port;
            }
        }
        self
    }

    /// Address of the other side, as it is shown.
    #[must_use]
    pub fn address(&self) -> String {
        self.remote.address()
    }

    /// Port of the other side; that of a Unix socket is in its name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.remote.port
    }

    /// Address of this side, as it is shown.
    #[must_use]
    pub fn local_address(&self) -> String {
        self.local.address()
    }

    /// Port of this side; 0 where a Unix socket was dialled.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.local.port
    }
}

impl End {
    fn new(address: Option<SocketAddr>) -> Self {
        let host = address.map(|address| address.ip().to_canonical());
        Self { host, port: address.map_or(0, |address| address.port()) }
    }

    fn address(self) -> String {
        self.host.map_or_else(|| "unix".to_owned(), |host| host.to_string())
    }
}

/// What a connection of a kind may be doing.
pub trait State: Copy {
    /// The number that stands for it.
    fn as_number(self) -> u8;
    /// What a number stands for.
    fn from_number(number: u8) -> Self;
}

/// What a connection is doing, since when, and with whom.
#[derive(Debug)]
pub struct Activity<S> {
    state: AtomicU8,
    requested: AtomicU64,
    partner: AtomicU64,
    statements: AtomicUsize,
    kind: PhantomData<S>,
}

impl<S: State> Activity<S> {
    fn new(state: S, now: u64) -> Self {
        let (state, requested) = (AtomicU8::new(state.as_number()), AtomicU64::new(now));
        Self {
            state,
            requested,
            partner: AtomicU64::new(0),
            statements: AtomicUsize::new(0),
            kind: PhantomData,
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> S {
        S::from_number(self.state.load(Ordering::Relaxed))
    }

    /// Notes what it is doing, and the number of the connection that it does it with.
    pub fn enter(&self, state: S, partner: Option<u64>) {
        self.state.store(state.as_number(), Ordering::Relaxed);
        self.partner.store(partner.unwrap_or(0), Ordering::Relaxed);
    }

    /// Notes that something was asked now (microseconds since 1970).
    pub fn requested_at(&self, now: u64) {
        self.requested.store(now, Ordering::Relaxed);
    }

    /// When something was last asked, microseconds since 1970.
    #[must_use]
    pub fn last_request(&self) -> u64 {
        self.requested.load(Ordering::Relaxed)
    }

    /// Notes how many prepared statements it has.
    pub fn note_statements(&self, count: usize) {
        self.statements.store(count, Ordering::Relaxed);
    }

    /// How many prepared statements it had when it was last joined to or parted from another.
    #[must_use]
    pub fn statements(&self) -> usize {
        self.statements.load(Ordering::Relaxed)
    }

    /// The number of the connection that it is joined to.
    #[must_use]
    pub fn partner(&self) -> Option<u64> {
        Some(self.partner.load(Ordering::Relaxed)).filter(|&id| id != 0)
    }
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal => $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant = $number),* }

        impl $name {
            /// The word that the console shows.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl State for $name {
            fn as_number(self) -> u8 {
                match self { $(Self::$variant => $number),* }
            }

            fn from_number(number: u8) -> Self {
                match number { $($number => Self::$variant,)* _ => Self::FIRST }
            }
        }
    };
}

states! {
    /// What a client is doing.
    ClientState {
        /// Proving who it is.
        Login = 0 => "login",
        /// Logged in, without a server.
        Idle = 1 => "idle",
        /// Waiting for a server.
        Waiting = 2 => "waiting",
        /// Joined to a server.
        Active = 3 => "active",
    }
}

states! {
    /// What a server connection is doing.
    ServerState {
        /// Being dialled and logged in.
        New = 0 => "new",
        /// In the pool, ready for a client.
        Idle = 1 => "idle",
        /// Joined to a client.
        Active = 2 => "active",
        /// Being cleaned after its client left.
        Tested = 3 => "tested",
        /// Held back until a cancel that was sent for it has arrived.
        BeingCanceled = 4 => "being_canceled",
        /// In the pool, to be checked before a client gets it.
        Used = 5 => "used",
    }
}

impl ClientState {
    const FIRST: Self = Self::Login;
}

impl ServerState {
    const FIRST: Self = Self::New;
}

/// Who a client is. It is the same for many clients, who share it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its user.
    pub user: String,
    /// The database it asked for.
    pub database: String,
    /// What it called itself at its login.
    pub application_name: String,
}

/// One client.
#[derive(Debug)]
pub struct ClientRecord {
    /// Its number, unique in this process.
    pub id: u64,
    /// Who it is.
    pub who: Arc<Identity>,
    /// Both ends of its connection.
    pub peer: Peer,
    /// When it connected, microseconds since 1970.
    pub connected: u64,
    /// What it replicates, if it does.
    pub replication: Option<Replication>,
    /// What it has called itself since its login.
    renamed: ArcSwapOption<String>,
    activity: Activity<ClientState>,
}

impl ClientRecord {
    /// A client that has just logged in.
    #[must_use]
    pub fn new(id: u64, who: Arc<Identity>, peer: Peer) -> Self {
        let connected = unix_micros();
        let activity = Activity::new(ClientState::Idle, connected);
        let renamed = ArcSwapOption::empty();
        Self { id, who, peer, connected, replication: None, renamed, activity }
    }

    /// The same, for replication.
    #[must_use]
    pub fn for_replication(mut self, replication: Option<Replication>) -> Self {
        self.replication = replication;
        self
    }

    /// Notes that it calls itself otherwise now.
    pub fn rename(&self, name: &str) {
        if self.application_name() != name {
            self.renamed.store(Some(Arc::new(name.to_owned())));
        }
    }

    /// What it calls itself.
    #[must_use]
    pub fn application_name(&self) -> String {
        let renamed = self.renamed.load();
        renamed.as_deref().unwrap_or(&self.who.application_name).clone()
    }

    /// The number of the server it is joined to.
    #[must_use]
    pub fn server(&self) -> Option<u64> {
        self.partner()
    }
}

impl Deref for ClientRecord {
    type Target = Activity<ClientState>;
    fn deref(&self) -> &Activity<ClientState> {
        &self.activity
    }
}

/// One server connection.
#[derive(Debug)]
pub struct ServerRecord {
    /// Its number, unique in this process.
    pub id: u64,
    /// The user it logged in as.
    pub user: String,
    /// The database entry it serves.
    pub database: String,
    /// Both ends of its connection.
    pub peer: Peer,
    /// When it was opened, microseconds since 1970.
    pub connected: u64,
    /// Its process ID on the server; 0 when the server did not tell.
    pub process: u32,
    /// The generation of its pool at the time it was dialled.
    pub generation: u64,
    /// What it replicates, if it does.
    pub replication: Option<Replication>,
    /// Tells when its host is elsewhere.
    withdrawn: Option<Arc<AtomicBool>>,
    /// What the server was last told that its client is.
    application_name: Mutex<Box<str>>,
    activity: Activity<ServerState>,
}

impl ServerRecord {
    /// A server connection that has just logged in.
    #[must_use]
    pub fn new(id: u64, user: String, database: String, peer: Peer, process: u32) -> Self {
        let connected = unix_micros();
        let activity = Activity::new(ServerState::New, connected);
        Self {
            id,
            user,
            database,
            peer,
            connected,
            process,
            generation: 0,
            replication: None,
            withdrawn: None,
            application_name: Mutex::default(),
            activity,
        }
    }

    /// The same, for replication.
    #[must_use]
    pub fn for_replication(mut self, replication: Option<Replication>) -> Self {
        self.replication = replication;
        self
    }

    /// The same, with a flag that tells when its host is elsewhere.
    #[must_use]
    pub fn withdrawn_by(mut self, flag: Option<Arc<AtomicBool>>) -> Self {
        self.withdrawn = flag;
        self
    }

    /// Whether its host is elsewhere now: it is closed when it is free.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The same, dialled in this generation of its pool.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Notes what the server was told that its client is. To be called when that changes, which costs a query, and
    /// not each time that somebody uses it.
    pub fn note_application_name(&self, name: &str) {
        let mut known = self.application_name.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != *name {
            *known = name.into();
        }
    }

    /// What the server was last told that its client is.
    #[must_use]
    pub fn application_name(&self) -> String {
        self.application_name.lock().unwrap_or_else(PoisonError::into_inner).to_string()
    }

    /// The number of the client it is joined to.
    #[must_use]
    pub fn client(&self) -> Option<u64> {
        self.partner()
    }
}

impl Deref for ServerRecord {
    type Target = Activity<ServerState>;
    fn deref(&self) -> &Activity<ServerState> {
        &self.activity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_leaves_the_roll_with_its_entry() {
        let roll = Roll::default();
        let entry = roll.enlist(7, "seven");
        let other = roll.enlist(3, "three");
        assert_eq!(roll.list().iter().map(|r| **r).collect::<Vec<_>>(), ["three", "seven"]);
        drop(entry);
        assert!(roll.find(7).is_none() && roll.len() == 1);
        drop(other);
        assert!(roll.is_empty());
    }

    #[test]
    fn a_roll_that_was_long_is_short_again() {
        let roll = Roll::default();
        let mut entries: Vec<_> = (0..10_000).map(|id| roll.enlist(id, ())).collect();
        entries.truncate(100);
        assert!(roll.lock().capacity() < 1_000);
        entries.clear();
        assert!(roll.is_empty());
    }

    #[test]
    fn states_are_read_back_as_they_were_noted() {
        let client = ClientRecord::new(1, Arc::default(), Peer::default());
        client.enter(ClientState::Waiting, None);
        assert_eq!((client.state(), client.server()), (ClientState::Waiting, None));
        client.enter(ClientState::Active, Some(9));
        assert_eq!((client.state().as_str(), client.server()), ("active", Some(9)));
    }
}
