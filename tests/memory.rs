//! Memory does not grow with what goes through: results, rows and parameters of any size are streamed.
//!
//! `PGWEIR_MEMORY_SCALE=4` makes everything four times as large, which is a COPY of 1 GB.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::time::Duration;

use common::{Pgweir, Postgres, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MB: u64 = 1024 * 1024;

/// What the pooler may grow by, whatever goes through it.
const GROWTH: u64 = 8 * MB;

fn scale() -> u64 {
    std::env::var("PGWEIR_MEMORY_SCALE").map_or(1, |text| text.parse().unwrap())
}

struct Stage {
    pooler: Pgweir,
    socket: TcpStream,
    at_rest: u64,
    most: u64,
}

impl Stage {
    /// A pooler that has done all there is to do once, on a small scale.
    async fn open() -> Self {
        let pooler = Pgweir::builder(Postgres::shared()).pool_size(1).setting("auth_type", "trust").start();
        let mut socket = TcpStream::connect(("127.0.0.1", pooler.port())).await.unwrap();
        let startup = [("user", "weir_trust"), ("database", "weir")];
        socket.write_all(&frontend::startup(frontend::VERSION_3_0, &startup)).await.unwrap();
        let mut stage = Self { pooler, socket, at_rest: 0, most: 0 };
        stage.read_until_ready(Duration::ZERO).await;
        stage.ask(&frontend::query("SELECT repeat('x', 100000) FROM generate_series(1, 20)")).await;
        stage.at_rest = stage.pooler.rss();
        stage
    }

    async fn ask(&mut self, request: &[u8]) -> u64 {
        self.socket.write_all(request).await.unwrap();
        self.read_until_ready(Duration::ZERO).await
    }

    /// Reads up to ReadyForQuery without keeping anything, with a rest now and then; tells how much it was.
    async fn read_until_ready(&mut self, rest: Duration) -> u64 {
        let (mut block, mut tail, mut heard) = (vec![0; 256 * 1024], Vec::new(), 0_u64);
        let mut rests = 0;
        while !tail.ends_with(b"Z\0\0\0\x05I") {
            let count = common::patiently("answer", self.socket.read(&mut block)).await.unwrap();
            assert!(count > 0, "the connection was closed");
            heard += u64::try_from(count).unwrap();
            tail.extend_from_slice(&block[count.saturating_sub(6)..count]);
            tail.drain(..tail.len().saturating_sub(6));
            if heard / (16 * MB) > rests {
                rests += 1;
                self.look();
                tokio::time::sleep(rest).await;
            }
        }
        self.look();
        heard
    }

    /// Reads the answer to a batch of small results; whether it is an error.
    async fn is_refused(&mut self) -> bool {
        let mut failed = false;
        loop {
            let tag = common::patiently("answer", self.socket.read_u8()).await.unwrap();
            let length = usize::try_from(self.socket.read_u32().await.unwrap()).unwrap();
            let mut body = vec![0; length - 4];
            self.socket.read_exact(&mut body).await.unwrap();
            match tag {
                b'Z' => return failed,
                b'E' => failed = true,
                _ => {}
            }
        }
    }

    fn look(&mut self) {
        self.most = self.most.max(self.pooler.rss());
    }

    fn has_not_grown(&self) {
        let growth = self.most.saturating_sub(self.at_rest);
        assert!(growth < GROWTH, "{} kB at rest, {} kB at most", self.at_rest / 1024, self.most / 1024);
    }
}

#[tokio::test]
async fn a_copy_to_a_slow_reader() {
    let mut stage = Stage::open().await;
    let rows = 256 * scale() * MB / 1024;
    let sql = format!("COPY (SELECT repeat('x', 1018) FROM generate_series(1, {rows})) TO STDOUT");
    stage.socket.write_all(&frontend::query(&sql)).await.unwrap();
    // At first nothing is read at all, so that everything between fills up.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.look();
    let heard = stage.read_until_ready(Duration::from_millis(20)).await;
    assert!(heard >= rows * 1024, "{heard} bytes of {rows} rows");
    stage.has_not_grown();
}

#[tokio::test]
async fn a_row_that_is_larger_than_all_of_it() {
    let mut stage = Stage::open().await;
    let bytes = 75 * scale() * MB;
    let heard = stage.ask(&frontend::query(&format!("SELECT repeat('x', {bytes})"))).await;
    assert!(heard > bytes);
    stage.has_not_grown();
}

#[tokio::test]
async fn a_parameter_that_is_larger_than_all_of_it() {
    for statement in ["", "named"] {
        let mut stage = Stage::open().await;
        let bytes = usize::try_from(25 * scale() * MB).unwrap();
        let head = frontend::parse(statement, "SELECT length($1::text)", &[]);
        let parameter = "x".repeat(bytes);
        let bind = frontend::bind("", statement, &[Some(&parameter)]);
        stage.socket.write_all(&head).await.unwrap();
        for chunk in bind.chunks(1 << 20) {
            stage.socket.write_all(chunk).await.unwrap();
            stage.look();
        }
        let heard = stage.ask(&[frontend::execute("", 0), frontend::sync()].concat()).await;
        assert!(heard > 0);
        stage.has_not_grown();
    }
}

/// COPY data in one message, then in many.
#[tokio::test]
async fn a_copy_from_a_fast_writer() {
    Postgres::shared().execute("CREATE TABLE sink (a text); GRANT ALL ON sink TO weir_trust").await;
    let mut stage = Stage::open().await;
    let line = [vec![b'x'; 1023], vec![b'\n']].concat();
    let lines = usize::try_from(32 * scale() * 1024).unwrap();
    for per_message in [lines, 16] {
        stage
            .socket
            .write_all(&frontend::query("BEGIN; TRUNCATE sink; COPY sink FROM STDIN; ROLLBACK"))
            .await
            .unwrap();
        for _ in 0..lines / per_message {
            let header = [&[b'd'][..], &frontend::size(4 + per_message * line.len())].concat();
            stage.socket.write_all(&header).await.unwrap();
            for number in 0..per_message {
                stage.socket.write_all(&line).await.unwrap();
                if number % 4096 == 0 {
                    stage.look();
                }
            }
        }
        stage.ask(&frontend::copy_done()).await;
    }
    stage.has_not_grown();
}

/// A text that is larger than all of it, as a Query and as a Parse with a name and without.
#[tokio::test]
async fn a_text_that_is_larger_than_all_of_it() {
    let mut stage = Stage::open().await;
    let text = format!("SELECT 1 /* {} */", "x".repeat(usize::try_from(25 * scale() * MB).unwrap()));
    for statement in [None, Some(""), Some("named")] {
        let message =
            statement.map_or_else(|| frontend::query(&text), |name| frontend::parse(name, &text, &[]));
        for chunk in message.chunks(1 << 20) {
            stage.socket.write_all(chunk).await.unwrap();
            stage.look();
        }
        let run = [frontend::bind("", statement.unwrap_or_default(), &[]), frontend::execute("", 0)].concat();
        let rest = if statement.is_some() { [run, frontend::sync()].concat() } else { Vec::new() };
        assert!(stage.ask(&rest).await > 0);
    }
    stage.has_not_grown();
}

/// Clients of a crowd.
const CROWD: usize = 2_000;

/// What an idle client may cost. It is 1.6 kB in a release build, and 1.9 kB in PgBouncer.
const EACH: u64 = 2_500;

/// So many clients that have each run a query; they come a hundred at a time.
async fn crowd(pooler: &Pgweir, count: usize) -> Vec<TcpStream> {
    let startup = [("user", "weir_trust"), ("database", "weir"), ("application_name", "crowd")];
    let first = [frontend::startup(frontend::VERSION_3_0, &startup), frontend::query("SELECT 1")];
    let mut crowd: Vec<TcpStream> = Vec::new();
    while crowd.len() < count {
        let so_far = crowd.len();
        for _ in so_far..count.min(so_far + 100) {
            let mut socket = TcpStream::connect(("127.0.0.1", pooler.port())).await.unwrap();
            socket.write_all(&first.concat()).await.unwrap();
            crowd.push(socket);
        }
        for socket in &mut crowd[so_far..] {
            let mut heard = Vec::new();
            // The login and the query each end with one.
            while heard.windows(6).filter(|window| *window == b"Z\0\0\0\x05I").count() < 2 {
                let count = common::patiently("answer", socket.read_buf(&mut heard)).await.unwrap();
                assert!(count > 0, "the connection was closed");
            }
        }
    }
    crowd
}

/// Waits until the pooler has come down to so many bytes, or for ten seconds; what it has then.
async fn settled(pooler: &Pgweir, bytes: u64) -> u64 {
    for _ in 0..100 {
        if pooler.rss() <= bytes {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    pooler.rss()
}

/// Would break with: a session task that has room for the login, a copy for each client of what all have in common, a
/// block that an idle session holds, a map or a stock that stays as large as it was.
#[tokio::test]
async fn a_crowd_that_is_idle_and_one_that_has_left() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let pooler = Pgweir::builder(Postgres::shared())
        .pool_size(5)
        .setting("auth_type", "trust")
        .setting("max_client_conn", "5000")
        .start();
    drop(crowd(&pooler, 200).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let at_rest = pooler.rss();
    let count = u64::try_from(CROWD).unwrap();
    for _ in 0..2 {
        let crowd = crowd(&pooler, CROWD).await;
        let limit = at_rest + count * EACH;
        let with_crowd = settled(&pooler, limit).await;
        let each = with_crowd.saturating_sub(at_rest) / count;
        drop(crowd);
        let limit = at_rest + count * EACH / 2;
        let kept = settled(&pooler, limit).await.saturating_sub(at_rest);
        println!("{at_rest} bytes at rest, {each} more for each client, {kept} when they had left");
        assert!(each <= EACH, "{each} bytes each");
        assert!(kept <= count * EACH / 2, "{kept} bytes kept");
    }
}

/// Statements of a test with more distinct ones than anybody needs. A scale of 34 makes it a million.
fn many() -> u64 {
    30_000 * scale()
}

/// Each statement is parsed and used, in batches; `closes` tells whether it is closed again. The errors that came.
async fn prepare_many(stage: &mut Stage, closes: bool) -> usize {
    let mut refused = 0;
    for first in (0..many()).step_by(100) {
        let mut batch = Vec::new();
        for number in first..first + 100 {
            let name = format!("statement_{number}");
            batch.extend(frontend::parse(&name, &format!("SELECT {number} /* {closes} */"), &[]));
            batch.extend([frontend::bind("", &name, &[]), frontend::execute("", 0)].concat());
            if closes {
                batch.extend(frontend::close('S', &name));
            }
            batch.extend(frontend::sync());
        }
        stage.socket.write_all(&batch).await.unwrap();
        for _ in 0..100 {
            refused += usize::from(stage.is_refused().await);
        }
        stage.look();
    }
    refused
}

/// Would break with: anything that is kept for a statement which its client has closed, or which was refused.
#[tokio::test]
async fn more_distinct_statements_than_anybody_needs() {
    for closes in [true, false] {
        let mut stage = Stage::open().await;
        let refused = prepare_many(&mut stage, closes).await;
        let kept = if closes { 0 } else { 10_000 };
        assert_eq!(u64::try_from(refused).unwrap(), if closes { 0 } else { many() - kept });
        let shown = stage.pooler.console("SHOW PREPARED_STATEMENTS").await;
        // The server keeps the last ones for others.
        let held = if closes { 200 } else { 10_000 };
        assert_eq!(shown.len(), held);
        let bytes: u64 = shown.iter().map(|row| row[3].as_deref().unwrap().parse::<u64>().unwrap()).sum();
        let growth = stage.most.saturating_sub(stage.at_rest);
        println!(
            "{} statements, closed: {closes}: {held} kept with {bytes} bytes, {growth} bytes more",
            many()
        );
        assert!(growth < GROWTH, "{growth} bytes");
        stage.socket.write_all(&frontend::terminate()).await.unwrap();
    }
}

/// Would break with: statements of a long batch that stay on the server, or a search that grows with them.
#[tokio::test]
async fn more_distinct_statements_in_one_batch_than_a_server_keeps() {
    let mut stage = Stage::open().await;
    let began = stage.pooler.cpu_time();
    for first in (0..20_000 * scale()).step_by(100) {
        let mut chunk = Vec::new();
        for number in first..first + 100 {
            chunk.extend(frontend::parse("s", &format!("SELECT {number}"), &[]));
            chunk.extend(frontend::close('S', "s"));
        }
        chunk.extend(frontend::flush());
        stage.socket.write_all(&chunk).await.unwrap();
        let mut answers = [0; 200 * 5];
        common::patiently("answers", stage.socket.read_exact(&mut answers)).await.unwrap();
    }
    stage.ask(&frontend::sync()).await;
    let held = stage.pooler.console("SHOW PREPARED_STATEMENTS").await.len();
    println!("{held} statements in a batch took {:?}", stage.pooler.cpu_time() - began);
    assert_eq!(u64::try_from(held).unwrap(), 20_000 * scale());
    for number in 0..held / 7 {
        let again = format!("SELECT 'again' || {number}");
        let messages = [frontend::parse("s", &again, &[]), frontend::close('S', "s"), frontend::sync()];
        stage.ask(&messages.concat()).await;
    }
    assert_eq!(stage.pooler.console("SHOW PREPARED_STATEMENTS").await.len(), 200);
}
