//! Taking a server from the pool and putting it back.

use super::Case;
use pgweir::config::{Care, Host, Hosts, PoolMode, PoolSettings, Reserve, StatementLimits};
use pgweir::pool::{Connector, Pool, PoolId, Pooled, Quota, Quotas, Shared};
use pgweir::server::{DialError, Parameters};
use pgweir::stats::Peer;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

pub(crate) const CASES: &[Case] = &[
    Case { name: "pool/checkout-and-release", few: 10_000, prepare: checkout },
    Case { name: "pool/hand-over-to-a-waiter", few: 1000, prepare: hand_over },
];

/// A server without a socket.
struct Idle;

impl Pooled for Idle {
    type Proof = ();

    async fn check(&mut self, _query: &str) -> bool {
        true
    }

    fn is_quiet(&self) -> bool {
        true
    }

    async fn close(self) {}

    fn baseline(&self) -> Arc<Parameters> {
        Arc::default()
    }

    fn identity(&self) -> (Peer, u32) {
        (Peer::default(), 1)
    }
}

struct AtOnce;

impl Connector for AtOnce {
    type Server = Idle;

    async fn dial(&self, _: &PoolSettings) -> Result<Idle, DialError> {
        Ok(Idle)
    }
}

fn checkout() -> Box<dyn FnMut() -> usize> {
    let (runtime, pool) = pool_of(20);
    Box::new(move || {
        let _entered = runtime.enter();
        pool.try_checkout().unwrap().release(());
        1
    })
}

/// One server, one client that has it, and one that waits.
fn hand_over() -> Box<dyn FnMut() -> usize> {
    let (runtime, pool) = pool_of(1);
    Box::new(move || {
        runtime.block_on(async {
            let held = pool.checkout().await.unwrap();
            let mut waiter = pin!(pool.checkout());
            let waits = poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx).is_pending())).await;
            assert!(waits);
            held.release(());
            waiter.await.unwrap().release(());
        });
        1
    })
}

/// A pool whose servers stand idle.
fn pool_of(size: u32) -> (Runtime, Arc<Pool<AtOnce>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = runtime.block_on(async {
        let quotas = Quotas {
            pool: Arc::new(Quota::new(Some(size))),
            database: Arc::new(Quota::new(None)),
            user: Arc::new(Quota::new(None)),
        };
        let shared = Shared {
            numbers: Arc::new(1.into()),
            runtimes: [Handle::current()].into(),
            crowded: Arc::default(),
            lanes: Arc::default(),
        };
        let id = PoolId { database: "shop".to_owned(), user: "alice".to_owned() };
        let pool = Pool::start(id, settings(size), AtOnce, quotas, shared, false);
        let mut taken = Vec::new();
        for _ in 0..size {
            taken.push(pool.checkout().await.unwrap());
        }
        taken.into_iter().for_each(|server| server.release(()));
        pool
    });
    (runtime, pool)
}

fn settings(size: u32) -> PoolSettings {
    let hour = Duration::from_secs(3600);
    PoolSettings {
        hosts: Hosts::one(Host::Tcp("db".to_owned())),
        port: 5432,
        dbname: "shop".to_owned(),
        user: "alice".to_owned(),
        user_is_forced: false,
        password: None,
        startup: BTreeMap::new(),
        mode: PoolMode::Transaction,
        size: Some(size),
        min_size: 0,
        max_db_connections: None,
        max_user_connections: None,
        server_lifetime: Some(hour),
        server_idle_timeout: Some(hour),
        server_connect_timeout: Some(hour),
        server_login_retry: hour,
        query_wait_timeout: Some(hour),
        server_reset_query: String::new(),
        server_round_robin: false,
        share_unnamed_statements: true,
        max_prepared_statements: 200,
        statement_limits: StatementLimits::default(),
        track_extra: [].into(),
        reserve: Reserve::default(),
        care: Care::default(),
        query_wait_notify: None,
        tcp: pgweir::config::TcpOptions::default(),
        lookup: None,
    }
}
