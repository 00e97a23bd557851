//! Other clients that are busy on the same servers: what they get must always be their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio_postgres::SimpleQueryMessage;

use super::pooler::Pgweir;
use super::until;

/// Clients that run small transactions until they are told to stop.
#[derive(Debug)]
pub struct Rival {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
}

impl Rival {
    /// Starts this many clients of the user `weir`, and waits until transactions come through.
    pub async fn start(pooler: &Pgweir, clients: u32) -> Self {
        let mut rival = Self { clients: JoinSet::new(), stop: Arc::default(), transactions: Arc::default() };
        for number in 0..clients {
            let client = pooler.connect("weir", "weir").await;
            rival.clients.spawn(hammer(
                client,
                number,
                Arc::clone(&rival.stop),
                Arc::clone(&rival.transactions),
            ));
        }
        until("transaction of the rival", || rival.transactions() > 0).await;
        rival
    }

    /// Transactions so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Ends them; panics when any of them met an error or somebody else's rows. Gives the transactions.
    pub async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.transactions()
    }
}

async fn hammer(
    client: tokio_postgres::Client,
    number: u32,
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
) {
    let mut turn = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let mine = format!("rival {number} turn {turn}");
        client.batch_execute("BEGIN").await.unwrap();
        let answer = client.simple_query(&format!("SELECT '{mine}'")).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        let rows: Vec<_> = answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        assert_eq!(rows, [mine.as_str()]);
        transactions.fetch_add(1, Ordering::Relaxed);
    }
}
