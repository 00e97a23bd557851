//! Cancel requests: from strangers, too late, and on slow lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::raw::cancel;
use crate::common::{Pgweir, Postgres, Raw, frontend};
use crate::stage::Stage;

async fn sleeping(stage: &Stage) -> Raw {
    let mut raw = stage.client().await;
    raw.write(&frontend::query("SELECT pg_sleep(600)")).await;
    stage.sees("wait_event = 'PgSleep'", 1).await;
    raw
}

#[tokio::test]
async fn only_the_right_key_of_a_client_that_is_there_cancels() {
    let stage = Stage::open().await;
    let gone = stage.client().await;
    let stale = gone.key.clone();
    gone.terminate().await;
    let mut raw = sleeping(&stage).await;
    let key = raw.key.clone();
    let mut wrong_keys = vec![stale, [&key[..4], &[0; 4]].concat(), [&[0; 4], &key[4..]].concat()];
    wrong_keys.push([&key[..], &[0; 28]].concat());
    wrong_keys.extend((0..8).map(|byte| {
        let mut wrong = key.clone();
        wrong[byte] ^= 1;
        wrong
    }));
    for wrong in wrong_keys {
        cancel(stage.pooler.port(), &wrong).await;
    }
    stage.sees("wait_event = 'PgSleep'", 1).await;
    cancel(stage.pooler.port(), &key).await;
    assert_eq!(raw.read_until_ready().await[1].field('C'), "57014");
    // It was for the query, not for the client.
    assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn cancel_packets_of_any_length_harm_nobody() {
    let stage = Stage::open().await;
    let mut raw = stage.client().await;
    for length in [0, 1, 3, 4, 5, 7, 9, 255, 256, 257, 260, 261, 1000, 9000] {
        cancel(stage.pooler.port(), &vec![7; length]).await;
    }
    assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_query_that_is_cancelled_in_line_is_never_sent() {
    let stage = Stage::open().await;
    let mut holder = stage.client().await;
    holder.query("BEGIN").await;
    let insert = "INSERT INTO t VALUES (1)";
    let batch = frontend::extended(insert, &[]);
    for (request, answers) in [(frontend::query(insert), 1), (batch.clone(), 1), (batch.repeat(2), 2)] {
        let mut raw = stage.client().await;
        let key = raw.key.clone();
        // With a query behind it that shows that the session goes on.
        raw.write(&request).await;
        for _ in 0..answers {
            let answer = canceled(&stage, &mut raw, &key).await;
            assert_eq!(answer, "57014");
        }
        raw.write(&frontend::query("SELECT 'after'")).await;
        holder.query("COMMIT").await;
        assert_eq!(raw.read_until_ready().await[1].columns(), [Some("after".to_owned())]);
        holder.query("BEGIN").await;
    }
    assert_eq!(stage.rows().await, 0);
}

/// Cancels until the client is told so: a request is in line only a moment after it was written.
async fn canceled(stage: &Stage, raw: &mut Raw, key: &[u8]) -> String {
    let port = stage.pooler.port();
    let (answered, key) = (Arc::new(AtomicBool::new(false)), key.to_vec());
    let until = Arc::clone(&answered);
    let canceller = tokio::spawn(async move {
        while !until.load(Ordering::SeqCst) {
            cancel(port, &key).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let error = raw.read().await;
    answered.store(true, Ordering::SeqCst);
    canceller.await.unwrap();
    assert_eq!(raw.read().await.status(), 'I');
    error.field('C')
}

/// A line to PostgreSQL on which cancel requests wait until they are let through.
struct SlowLine {
    port: u16,
    open: Arc<AtomicBool>,
    held: Arc<std::sync::atomic::AtomicUsize>,
}

impl SlowLine {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, held) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let line = Self { port, open: Arc::clone(&open), held: Arc::clone(&held) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, Arc::clone(&open), Arc::clone(&held)));
            }
        });
        line
    }
}

async fn carry(
    mut client: TcpStream,
    open: Arc<AtomicBool>,
    held: Arc<std::sync::atomic::AtomicUsize>,
) -> Option<()> {
    let mut head = [0; 8];
    client.read_exact(&mut head).await.ok()?;
    if head[4..] == 80_877_102_u32.to_be_bytes() {
        held.fetch_add(1, Ordering::SeqCst);
        while !open.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut server = TcpStream::connect(("127.0.0.1", Postgres::shared().port())).await.ok()?;
    server.write_all(&head).await.ok()?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok().map(|_| ())
}

/// A cancel that is still on its way when its query ends hits neither the next query of the client nor that of another:
/// the server is held back until it has arrived.
#[tokio::test]
async fn a_cancel_on_a_slow_line_never_hits_somebody_else() {
    let line = SlowLine::start().await;
    let database = Postgres::shared().fresh_database().await;
    let pooler = Pgweir::builder(Postgres::shared())
        .database(&database, &format!("host=127.0.0.1 port={}", line.port))
        .pool_size(1)
        .setting("auth_type", "trust")
        .start();
    for turn in 0..20 {
        line.open.store(false, Ordering::SeqCst);
        line.held.store(0, Ordering::SeqCst);
        let mut owner = Raw::login(pooler.port(), "weir_trust", "", &database).await;
        let mut other = Raw::login(pooler.port(), "weir_trust", "", &database).await;
        owner.write(&frontend::query("SELECT pg_sleep(0.05)")).await;
        let (port, key) = (pooler.port(), owner.key.clone());
        let (held, open) = (Arc::clone(&line.held), Arc::clone(&line.open));
        let canceller = tokio::spawn(async move {
            // As long as nothing runs, a cancel is dropped and has to be sent again.
            let deadline = tokio::time::Instant::now() + Duration::from_millis(40);
            while held.load(Ordering::SeqCst) == 0 && tokio::time::Instant::now() < deadline {
                let key = key.clone();
                tokio::spawn(async move { cancel(port, &key).await });
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tokio::time::sleep(Duration::from_millis(turn % 5 * 20)).await;
            open.store(true, Ordering::SeqCst);
        });
        let answer = owner.read_until_ready().await;
        other.write(&frontend::query("SELECT pg_sleep(0.03), 'other'")).await;
        let others = other.read_until_ready().await;
        assert!(others.iter().all(|message| message.tag != b'E'), "turn {turn}: {others:?} after {answer:?}");
        canceller.await.unwrap();
        // Nor the owner's own next query, once its cancel connection is closed.
        cancel(pooler.port(), &owner.key.clone()).await;
        assert_eq!(owner.value("SELECT 'next'").await.as_deref(), Some("next"), "turn {turn}");
    }
}

/// Cancels, waits for the end of the cancel connection, and goes on: what comes next is not hit.
#[tokio::test]
async fn the_query_behind_a_cancel_is_not_hit() {
    let stage = Stage::open().await;
    let mut raw = stage.client().await;
    let key = raw.key.clone();
    for turn in 0..100 {
        raw.write(&frontend::query(if turn % 2 == 0 { "SELECT pg_sleep(0.001)" } else { "SELECT 1" })).await;
        cancel(stage.pooler.port(), &key).await;
        let _hit_or_not = raw.read_until_ready().await;
        let tagged = format!("turn {turn}");
        assert_eq!(raw.value(&format!("SELECT '{tagged}'")).await, Some(tagged));
    }
}
