//! Cancelling what a server runs: a CancelRequest on a connection of its own, and the fence that keeps a late one from
//! hitting anybody else.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>

use crate::net::{Address, SocketOptions, connect};
use crate::wire::CancelKey;
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// How long one cancel may take, from its dial to the end that PostgreSQL puts to it.
const DEADLINE: Duration = Duration::from_secs(10);

/// How to cancel what one server connection runs.
#[derive(Debug)]
pub struct CancelHandle {
    address: Address,
    key: Option<CancelKey>,
    busy: AtomicBool,
    under_way: AtomicU32,
    arrived: Notify,
}

/// A cancel that is under way. While one lives, its server is handed to nobody else.
#[derive(Debug)]
pub struct Cancelling(Arc<CancelHandle>);

impl CancelHandle {
    /// The handle of a connection to this very address. A server that gave no key cannot be cancelled.
    #[must_use]
    pub fn new(address: Address, key: Option<CancelKey>) -> Self {
        Self {
            address,
            key,
            busy: AtomicBool::new(false),
            under_way: AtomicU32::new(0),
            arrived: Notify::new(),
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The server's process ID; 0 when it did not tell.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.key.as_ref().map_or(0, |key| key.process)
    }

    /// Notes whether the server runs a request of a client's.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }

    /// Whether the server runs a request of a client's.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Begins a cancel. The caller holds the lock under which this server is assigned to its client.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Cancelling {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Cancelling(Arc::clone(self))
    }

    /// Whether a cancel is under way.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Waits until no cancel is under way. Cancel safe.
    pub async fn unfenced(&self) {
        loop {
            let arrived = self.arrived.notified();
            if !self.is_fenced() {
                return;
            }
            arrived.await;
        }
    }
}

impl Cancelling {
    /// Sends the CancelRequest and waits until PostgreSQL has closed the connection, which it does after it has sent
    /// the signal: from then on the cancel cannot hit what comes later. `still` is asked last, right before the
    /// request is written, whether it is still to be sent.
    ///
    /// # Errors
    ///
    /// When the connection fails or takes longer than its deadline.
    pub async fn send(self, still: impl Fn() -> bool) -> io::Result<()> {
        let Some(key) = &self.0.key else { return Ok(()) };
        let attempt = async {
            let mut stream = connect(&self.0.address, &SocketOptions::default()).await?;
            if !still() {
                return Ok(());
            }
            let mut request = BytesMut::new();
            key.put_request(&mut request).map_err(io::Error::other)?;
            stream.write_all(&request).await?;
            // PostgreSQL sends nothing; anything but its end is of no interest.
            match stream.read(&mut [0; 16]).await {
                Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
                _ => Ok(()),
            }
        };
        tokio::time::timeout(DEADLINE, attempt).await?
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.arrived.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fence_stands_until_the_last_cancel_has_arrived() {
        let handle = Arc::new(CancelHandle::new(Address::Unix("/nowhere".into()), None));
        handle.unfenced().await;
        let (one, two) = (handle.begin(), handle.begin());
        assert!(handle.is_fenced());
        let waiter = tokio::spawn({
            let handle = Arc::clone(&handle);
            async move { handle.unfenced().await }
        });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(two);
        waiter.await.unwrap();
    }
}
