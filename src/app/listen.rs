//! Listening: sockets are accepted on the main thread and handed to the runtimes in turn.

use super::workers::Workers;
use crate::config::Config;
use crate::net::{
    Acceptor, Ends, ListenError, SocketFile, Stream, accept_error_is_local, bind_tcp, bind_unix,
};
use crate::session::{self, Service};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Pause after `accept` failed for want of descriptors or memory: others give some back, and trying on would only burn
/// CPU.
const BREATHER: Duration = Duration::from_millis(50);

/// Listening sockets that are served.
#[derive(Debug)]
pub(super) struct Listeners {
    tcp: Vec<JoinHandle<()>>,
    _unix: Option<(JoinHandle<()>, SocketFile)>,
}

/// Sockets that are bound and not served yet.
pub(super) struct Bound {
    tcp: Vec<Acceptor>,
    unix: Option<(Acceptor, SocketFile)>,
}

impl Bound {
    /// Binds all sockets, or none.
    pub(super) fn bind(config: &Config) -> Result<Self, ListenError> {
        let listen = &config.listen;
        let tcp = bind_addresses(&listen.addresses, listen.port, listen.backlog)?;
        let unix = listen
            .unix
            .as_ref()
            .map(|unix| bind_unix(&unix.dir.join(format!(".s.PGSQL.{}", listen.port)), unix.mode))
            .transpose()?;
        Ok(Self { tcp, unix })
    }

    /// Starts to serve.
    pub(super) fn serve(self, service: &Arc<Service>, workers: &Workers) -> Listeners {
        let turn = Arc::new(AtomicUsize::new(0));
        let spawn = |acceptor: Acceptor| {
            let hand_out =
                HandOut { service: Arc::clone(service), workers: workers.clone(), turn: Arc::clone(&turn) };
            tokio::spawn(accept(acceptor, hand_out))
        };
        for acceptor in &self.tcp {
            if let Some(address) = acceptor.tcp_address() {
                tracing::info!("listening on {address}");
            }
        }
        if let Some((_, file)) = &self.unix {
            tracing::info!("listening on unix:{}", file.path().display());
        }
        Listeners {
            tcp: self.tcp.into_iter().map(spawn).collect(),
            _unix: self.unix.map(|(acceptor, file)| (spawn(acceptor), file)),
        }
    }
}

/// Binds all addresses. Where a name or `*` stands for both families, a machine without IPv6 gets by with the other.
fn bind_addresses(addresses: &[IpAddr], port: u16, backlog: u32) -> Result<Vec<Acceptor>, ListenError> {
    let mut bound: Vec<Acceptor> = Vec::new();
    for &address in addresses {
        match bind_tcp(SocketAddr::new(address, port), backlog) {
            Ok(acceptor) => bound.push(acceptor),
            Err(error) if !bound.is_empty() && error.is_missing_family() => tracing::warn!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(bound)
}

impl Listeners {
    /// Stops to accept over TCP; the Unix socket stays open for the console.
    pub(super) fn stop_tcp(&mut self) {
        self.tcp.drain(..).for_each(|task| task.abort());
    }
}

/// Who gets the next connection.
struct HandOut {
    service: Arc<Service>,
    workers: Workers,
    turn: Arc<AtomicUsize>,
}

impl HandOut {
    fn give(&self, stream: Stream, ends: Ends) {
        let service = Arc::clone(&self.service);
        let handles = &self.workers.0;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % handles.len();
        if turn == 0 {
            tokio::spawn(session::serve(service, stream, ends));
            return;
        }
        // The connection changes over to the reactor of the thread that it will live on.
        if let Ok(loose) = stream.release() {
            handles[turn].spawn(async move {
                if let Ok(stream) = loose.adopt() {
                    session::serve(service, stream, ends).await;
                }
            });
        }
    }
}

async fn accept(acceptor: Acceptor, hand_out: HandOut) {
    let mut short = false;
    loop {
        match acceptor.accept().await {
            Ok((stream, ends)) => {
                short = false;
                hand_out.give(stream, ends);
            }
            Err(error) if accept_error_is_local(&error) => {
                if !std::mem::replace(&mut short, true) {
                    tracing::error!("cannot accept clients for now: {error}");
                }
                sleep(BREATHER).await;
            }
            // The client was gone before it was accepted.
            Err(error) => tracing::debug!("accept failed: {error}"),
        }
    }
}
