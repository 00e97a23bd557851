//! Other poolers behind the same address. A cancel request that lands here and is for a client of another goes on to it.

use super::Service;
use super::client::Cancelled;
use super::departure::{self, Departure};
use super::keys;
use crate::config::{Peer, Peering};
use crate::net::{SocketOptions, Stream, connect};
use crate::pool::Whereabouts;
use crate::stats::{Gauge, GaugeGuard};
use crate::wire::CancelKey;
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a peer may take for a request that it was given: PostgreSQL's own limit for it, and one more hop.
const DEADLINE: Duration = Duration::from_secs(20);

/// As many as are forwarded at a time where there is no limit.
const UNLIMITED: usize = Semaphore::MAX_PERMITS;

/// The peers that requests were forwarded to.
#[derive(Debug, Default)]
pub struct Peers(Mutex<BTreeMap<u16, Arc<PeerPool>>>);

/// What goes to one peer.
#[derive(Debug)]
struct PeerPool {
    peer: Peer,
    slots: Semaphore,
    waiting: Gauge,
    connecting: Gauge,
    active: Gauge,
}

/// One peer, as `SHOW PEER_POOLS` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPoolView {
    /// Its number.
    pub id: u16,
    /// Requests that wait to be forwarded.
    pub waiting: u64,
    /// Connections to it that are being made.
    pub connecting: u64,
    /// Requests that were forwarded and are not done.
    pub active: u64,
}

/// Why a request was not forwarded.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("it has no cancel key of a group of peers")]
    NoPeer,
    #[error("there is no peer {0} in [peers]")]
    Unknown(u16),
    #[error("it was passed on for often enough: the entries of [peers] lead in a circle")]
    Circle,
    #[error("cancel_wait_timeout")]
    TimedOut,
    #[error("peer {0}: {1}")]
    Failed(u16, io::Error),
}

/// Does what a cancel request asks for, and returns when it is done or came to nothing: only then the connection that it
/// came on may be closed.
pub(super) async fn cancel(service: &Service, key: &CancelKey) -> Departure {
    let config = service.config.load_full();
    let wait = config.peering.wait;
    match service.clients.cancel(key, wait).await {
        Cancelled::Sent => service.traffic.count(|t| &t.cancels),
        Cancelled::NothingRuns => {}
        Cancelled::Failed(error) => tracing::warn!("cannot forward a cancel request: {error}"),
        Cancelled::TimedOut => return departure::cancel_wait_timeout(),
        Cancelled::UnknownKey if config.peering.id == 0 || keys::peer(key) == Some(config.peering.id) => {
            // Unless its client is gone, it is one of a process that this one has taken over from.
            if let Some(elsewhere) = service.elsewhere.get() {
                elsewhere.cancel(key).await;
            }
        }
        Cancelled::UnknownKey => {
            let whereabouts = service.pools.whereabouts();
            match service.peers.forward(&config.peering, whereabouts, key).await {
                Ok(()) => {}
                Err(Lost::TimedOut) => return departure::cancel_wait_timeout(),
                // Any stranger can send such a key, as often as they like.
                Err(lost @ (Lost::NoPeer | Lost::Unknown(_) | Lost::Circle)) => {
                    tracing::debug!("cannot forward a cancel request to its peer: {lost}");
                }
                Err(lost) => tracing::warn!("cannot forward a cancel request to its peer: {lost}"),
            }
        }
    }
    Departure::Nothing
}

impl Peers {
    /// Those that requests were forwarded to, in the order of their numbers.
    #[must_use]
    pub fn list(&self) -> Vec<PeerPoolView> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(id, pool): (&u16, &Arc<PeerPool>)| PeerPoolView {
            id: *id,
            waiting: pool.waiting.get(),
            connecting: pool.connecting.get(),
            active: pool.active.get(),
        };
        pools.iter().map(view).collect()
    }

    /// Forgets peers that are not configured any longer.
    pub fn reconfigure(&self, peering: &Peering) {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|id, pool| peering.peers.get(id) == Some(&pool.peer));
    }

    async fn forward(
        &self,
        peering: &Peering,
        whereabouts: &Whereabouts,
        key: &CancelKey,
    ) -> Result<(), Lost> {
        let id = keys::peer(key).ok_or(Lost::NoPeer)?;
        let pool = self.pool(peering, id).ok_or(Lost::Unknown(id))?;
        let key = keys::passed_on(key).ok_or(Lost::Circle)?;
        let turn = pool.connected(whereabouts);
        let connected = match peering.wait {
            None => turn.await,
            Some(limit) => timeout(limit, turn).await.map_err(|_| Lost::TimedOut)?,
        };
        let (stream, _active) = connected.map_err(|error| Lost::Failed(id, error))?;
        let sent = timeout(DEADLINE, send(stream, &key)).await.unwrap_or_else(|late| Err(late.into()));
        sent.map_err(|error| Lost::Failed(id, error))
    }

    fn pool(&self, peering: &Peering, id: u16) -> Option<Arc<PeerPool>> {
        let peer = peering.peers.get(&id)?;
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pools.get(&id).filter(|pool| pool.peer == *peer);
        if let Some(pool) = known {
            return Some(Arc::clone(pool));
        }
        let size = peer.pool_size.map_or(UNLIMITED, |size| usize::try_from(size).unwrap_or(UNLIMITED));
        let pool = Arc::new(PeerPool {
            peer: peer.clone(),
            slots: Semaphore::new(size.min(UNLIMITED)),
            waiting: Gauge::default(),
            connecting: Gauge::default(),
            active: Gauge::default(),
        });
        pools.insert(id, Arc::clone(&pool));
        Some(pool)
    }
}

/// A request that is with its peer: its slot, and its place in the count.
struct Active<'a> {
    _counted: GaugeGuard,
    _slot: tokio::sync::SemaphorePermit<'a>,
}

impl PeerPool {
    /// Waits for a slot and connects.
    async fn connected(&self, whereabouts: &Whereabouts) -> io::Result<(Stream, Active<'_>)> {
        let waiting = self.waiting.enter();
        let slot = self.slots.acquire().await.map_err(io::Error::other)?;
        let connecting = self.connecting.enter();
        let stream = self.connect(whereabouts).await?;
        drop((waiting, connecting));
        Ok((stream, Active { _counted: self.active.enter(), _slot: slot }))
    }

    /// Connects to the first of its addresses that answers.
    async fn connect(&self, whereabouts: &Whereabouts) -> io::Result<Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for host in self.peer.hosts.iter() {
            let sites = match whereabouts.sites(host, self.peer.port).await {
                Ok(sites) => sites,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            for site in sites {
                match connect(&site.address, &SocketOptions::default()).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = io::Error::new(error.kind(), format!("{}: {error}", site.address)),
                }
            }
        }
        Err(last)
    }
}

/// Sends the request, and waits until the peer closes the connection: then it is done.
async fn send(mut stream: Stream, key: &CancelKey) -> io::Result<()> {
    let mut request = BytesMut::new();
    key.put_request(&mut request).map_err(io::Error::other)?;
    stream.write_all(&request).await?;
    match stream.read(&mut [0; 16]).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}
