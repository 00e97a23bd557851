//! Clients as the rest of the program sees them: a record, a cancel key, a way to give one an order.

use super::keys;
use crate::pool::{Cancels, Presence};
use crate::server::{CancelHandle, Cancelling};
use crate::stats::{ClientRecord, Entry, Gauge, GaugeGuard, Identity, Peer, Roll, shrink};
use crate::wire::{CancelKey, ProtocolVersion};
use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// What a client's session is told from outside. An order is not a queue: a later one of the same kind adds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Leave the line: what the client waits with was cancelled.
    Cancel,
    /// End the session; it was killed.
    Kill,
    /// End the session as soon as it has no server: the process shuts down.
    Leave,
    /// End the session; its database was killed or removed.
    Remove,
    /// Look whether the server is one to be replaced (`server_fast_close`).
    Reconsider,
}

impl Order {
    fn bit(self) -> u8 {
        match self {
            Self::Cancel => 1,
            Self::Kill => 2,
            Self::Leave => 4,
            Self::Remove => 8,
            Self::Reconsider => 16,
        }
    }
}

/// Where a cancel for a client goes.
#[derive(Debug, Default)]
enum CancelTarget {
    /// Nowhere: it waits for nothing.
    #[default]
    None,
    /// To the client itself, which waits in line.
    Line,
    /// To the server that works for it.
    Server(Arc<CancelHandle>),
}

/// A client that is logged in.
#[derive(Debug)]
pub struct ClientHandle {
    /// What is shown of it.
    pub record: ClientRecord,
    key: CancelKey,
    /// Whose turn it is to cancel in its pool.
    cancels: Arc<Cancels>,
    target: Mutex<CancelTarget>,
    orders: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl ClientHandle {
    /// Gives an order; the session sees it at its next turn.
    pub fn order(&self, order: Order) {
        self.orders.fetch_or(order.bit(), Ordering::AcqRel);
        self.wake();
    }

    /// Has the session look at its limits anew.
    pub fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes whom to wake for an order. A task has one waker for life, so once is enough.
    pub(super) fn listen(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Takes an order, if it was given.
    pub(super) fn take_order(&self, order: Order) -> bool {
        // The common case costs a load.
        self.has_order(order) && self.orders.fetch_and(!order.bit(), Ordering::AcqRel) & order.bit() != 0
    }

    /// Whether there is any order.
    pub(super) fn has_orders(&self) -> bool {
        self.orders.load(Ordering::Acquire) != 0
    }

    /// Whether an order was given.
    pub(super) fn has_order(&self, order: Order) -> bool {
        self.orders.load(Ordering::Acquire) & order.bit() != 0
    }

    /// The client waits in line.
    pub(super) fn wait_in_line(&self) {
        *self.target() = CancelTarget::Line;
    }

    /// A server works for the client.
    pub(super) fn link(&self, server: &Arc<CancelHandle>) {
        *self.target() = CancelTarget::Server(Arc::clone(server));
    }

    /// Nothing works for the client any longer. From now on no cancel of this client's begins.
    pub(super) fn unlink(&self) {
        *self.target() = CancelTarget::None;
        self.take_order(Order::Cancel);
    }

    /// Begins a cancel of what runs for this client. A client in line is told to leave it.
    fn begin_cancel(&self) -> Option<(Cancelling, Arc<CancelHandle>)> {
        let target = self.target();
        match &*target {
            CancelTarget::Server(server) if server.is_busy() => Some((server.begin(), Arc::clone(server))),
            CancelTarget::Line => {
                self.order(Order::Cancel);
                None
            }
            _ => None,
        }
    }

    /// Whether a server works for this client.
    fn has_server(&self) -> bool {
        matches!(&*self.target(), CancelTarget::Server(_))
    }

    /// Whether that server still works on a request of this client.
    fn is_served_by(&self, server: &Arc<CancelHandle>) -> bool {
        matches!(&*self.target(), CancelTarget::Server(now) if Arc::ptr_eq(now, server)) && server.is_busy()
    }

    fn target(&self) -> MutexGuard<'_, CancelTarget> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client is told about itself in BackendKeyData.
    #[must_use]
    pub fn key(&self) -> &CancelKey {
        &self.key
    }
}

/// The numbers of clients, by those of their keys.
type Keys = Arc<Mutex<HashMap<u64, u64>>>;

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    roll: Roll<ClientHandle>,
    keys: Keys,
    admitted: Gauge,
    visitors: Roll<Visit>,
    next: AtomicU64,
}

/// Somebody on the console.
#[derive(Debug)]
pub struct Visit {
    /// What is shown of it.
    pub record: ClientRecord,
    dismissed: Notify,
    is_answered: AtomicBool,
}

impl Visit {
    /// Ends the visit.
    pub fn dismiss(&self) {
        self.dismissed.notify_one();
    }

    /// A message was read, or it was answered.
    pub(super) fn note_answered(&self, is_answered: bool) {
        self.is_answered.store(is_answered, Ordering::Relaxed);
    }

    /// Its number, if a command of its is being answered.
    #[must_use]
    pub fn answered(&self) -> Option<u64> {
        self.is_answered.load(Ordering::Relaxed).then_some(self.record.id)
    }

    /// Returns when the visit is to end.
    pub(super) async fn dismissed(&self) {
        self.dismissed.notified().await;
    }
}

/// A place under `max_client_conn`, given back on drop.
#[derive(Debug)]
pub struct Admission(#[expect(dead_code, reason = "it counts by being there")] GaugeGuard);

/// A client's entry in all registers, given up on drop.
#[derive(Debug)]
pub(super) struct Registration {
    entry: Entry<ClientHandle>,
    keys: Keys,
    index: u64,
    _admission: Admission,
    _presence: Presence,
}

/// What a client is registered with.
pub(super) struct Credentials {
    /// Both numbers of clients: shown, and unique in this process.
    pub(super) record: ClientRecord,
    /// What the client speaks decides how long its cancel key is.
    pub(super) version: ProtocolVersion,
    /// The number of this process among its peers, which shows in the key; 0 without peers.
    pub(super) peer: u16,
    /// Whose turn it is to cancel in its pool.
    pub(super) cancels: Arc<Cancels>,
    /// Its place under `max_client_conn`.
    pub(super) admission: Admission,
    /// Its place among the clients of its pool.
    pub(super) presence: Presence,
}

impl Clients {
    /// Takes a place under the limit, if one is free.
    #[must_use]
    pub fn admit(&self, limit: usize) -> Option<Admission> {
        let guard = self.admitted.enter();
        let within = usize::try_from(self.admitted.get()).is_ok_and(|now| now <= limit);
        within.then_some(Admission(guard))
    }

    /// A number for a client.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers a client under a new cancel key.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub(super) fn register(&self, credentials: Credentials) -> Result<Registration, getrandom::Error> {
        let Credentials { record, version, peer, cancels, admission, presence } = credentials;
        let id = record.id;
        let (index, key) = self.reserve_key(id, version, peer)?;
        let handle = ClientHandle {
            record,
            key,
            cancels,
            target: Mutex::default(),
            orders: AtomicU8::new(0),
            waker: Mutex::default(),
        };
        let keys = Arc::clone(&self.keys);
        Ok(Registration {
            entry: self.roll.enlist(id, handle),
            keys,
            index,
            _admission: admission,
            _presence: presence,
        })
    }

    /// A key that no other client has, and that nobody can guess from his own.
    fn reserve_key(
        &self,
        id: u64,
        version: ProtocolVersion,
        peer: u16,
    ) -> Result<(u64, CancelKey), getrandom::Error> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let key = if peer == 0 { keys::lone(version)? } else { keys::peered(peer)? };
            let index = keys::index(&key, peer != 0);
            if let hash_map::Entry::Vacant(free) = keys.entry(index) {
                free.insert(id);
                return Ok((index, key));
            }
        }
    }

    /// All clients that are logged in.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<ClientHandle>> {
        self.roll.list()
    }

    /// Puts somebody who came to the console on a roll of their own, until the entry is dropped.
    pub(super) fn visit(&self, id: u64, user: String, application_name: String, peer: Peer) -> Entry<Visit> {
        let who = Identity { user, database: super::CONSOLE.to_owned(), application_name };
        let record = ClientRecord::new(id, Arc::new(who), peer);
        self.visitors
            .enlist(id, Visit { record, dismissed: Notify::new(), is_answered: AtomicBool::new(false) })
    }

    /// Who is on the console.
    #[must_use]
    pub fn visitors(&self) -> Vec<Arc<Visit>> {
        self.visitors.list()
    }

    /// The visitor with this number.
    #[must_use]
    pub fn find_visitor(&self, id: u64) -> Option<Arc<Visit>> {
        self.visitors.find(id)
    }

    /// The client with this number.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<ClientHandle>> {
        self.roll.find(id)
    }

    /// Clients that hold a place under `max_client_conn`.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.admitted.get()
    }

    /// The client with exactly this key, but for how often it was passed on.
    fn owner(&self, key: &CancelKey) -> Option<Arc<ClientHandle>> {
        let find = |key: &CancelKey, peered| {
            let index = keys::index(key, peered);
            let id = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied()?;
            self.roll.find(id).filter(|client| client.key == *key)
        };
        find(key, false).or_else(|| find(&keys::as_given(key)?, true))
    }

    /// Cancels what the owner of a key runs or waits with, as soon as it has a turn within `wait`, and returns when that has arrived or was dropped: only then
    /// the connection that asked for it may be closed. A key that is not exactly right does nothing.
    pub(super) async fn cancel(&self, key: &CancelKey, wait: Option<Duration>) -> Cancelled {
        let Some(client) = self.owner(key) else { return Cancelled::UnknownKey };
        // Only who has a server waits for a turn; a place in line is left at once.
        let _turn = match (client.has_server(), wait) {
            (false, _) => None,
            (true, None) => Some(client.cancels.turn().await),
            (true, Some(limit)) => match timeout(limit, client.cancels.turn()).await {
                Ok(turn) => Some(turn),
                Err(_) => return Cancelled::TimedOut,
            },
        };
        let Some((cancelling, server)) = client.begin_cancel() else { return Cancelled::NothingRuns };
        match cancelling.send(|| client.is_served_by(&server)).await {
            Ok(()) => Cancelled::Sent,
            Err(error) => Cancelled::Failed(error),
        }
    }
}

/// What became of a cancel request.
#[derive(Debug)]
pub(super) enum Cancelled {
    /// It was forwarded, or the query was over when it was about to be.
    Sent,
    /// The client runs nothing on a server; if it waits in line, it was told to leave.
    NothingRuns,
    /// It waited for longer than `cancel_wait_timeout`.
    TimedOut,
    /// No client has this key.
    UnknownKey,
    /// The server could not be told.
    Failed(std::io::Error),
}

impl std::ops::Deref for Registration {
    type Target = ClientHandle;
    fn deref(&self) -> &ClientHandle {
        &self.entry
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.index);
        shrink(&mut keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;

    fn register(clients: &Clients, version: ProtocolVersion) -> Registration {
        let id = clients.number();
        let record = ClientRecord::new(id, Arc::default(), Peer::default());
        let admission = clients.admit(10).unwrap();
        let presence = Presence::default();
        clients
            .register(Credentials { record, version, peer: 0, cancels: Arc::default(), admission, presence })
            .unwrap()
    }

    #[test]
    fn keys_are_as_long_as_the_version_wants_and_die_with_the_client() {
        let clients = Clients::default();
        let (one, two) =
            (register(&clients, ProtocolVersion::V3_0), register(&clients, ProtocolVersion::V3_2));
        assert_eq!((one.key().secret.len(), two.key().secret.len()), (4, 32));
        assert_ne!(one.key().process, two.key().process);
        drop((one, two));
        assert!(clients.keys.lock().unwrap().is_empty() && clients.list().is_empty());
        assert_eq!(clients.count(), 0);
    }

    #[test]
    fn no_more_are_admitted_than_the_limit_says() {
        let clients = Clients::default();
        let _one = clients.admit(1).unwrap();
        assert!(clients.admit(1).is_none());
        assert_eq!(clients.count(), 1);
    }

    #[tokio::test]
    async fn only_the_right_key_cancels_and_only_what_runs() {
        let clients = Clients::default();
        let client = register(&clients, ProtocolVersion::V3_0);
        let mut wrong = client.key().clone();
        wrong.secret[0] ^= 1;
        assert!(matches!(clients.cancel(&wrong, None).await, Cancelled::UnknownKey));
        assert!(matches!(clients.cancel(client.key(), None).await, Cancelled::NothingRuns));
        client.wait_in_line();
        assert!(matches!(clients.cancel(&wrong, None).await, Cancelled::UnknownKey));
        assert!(!client.take_order(Order::Cancel));
        assert!(matches!(clients.cancel(client.key(), None).await, Cancelled::NothingRuns));
        assert!(client.take_order(Order::Cancel));
        let server = Arc::new(CancelHandle::new(Address::Unix("/nowhere".into()), None));
        client.link(&server);
        assert!(matches!(clients.cancel(client.key(), None).await, Cancelled::NothingRuns));
        server.set_busy(true);
        assert!(matches!(clients.cancel(client.key(), None).await, Cancelled::Sent));
        assert!(!server.is_fenced());
    }
}
