//! Clients that leave at the worst moment. Nothing of theirs is left, and nothing that they did not commit is there.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::frontend;
use crate::stage::Stage;

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Way {
    Terminate,
    Fin,
    Rst,
}

const WAYS: [Way; 3] = [Way::Terminate, Way::Fin, Way::Rst];

async fn leave(mut socket: TcpStream, way: Way) {
    match way {
        Way::Terminate => socket.write_all(&frontend::terminate()).await.unwrap(),
        Way::Fin => {}
        Way::Rst => socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap(),
    }
}

/// Reads until this has come.
async fn hear(socket: &mut TcpStream, wanted: &[u8]) {
    let mut heard = Vec::new();
    while !heard.windows(wanted.len()).any(|window| window == wanted) {
        let mut block = [0; 4096];
        let count = crate::common::patiently("answer", socket.read(&mut block)).await.unwrap();
        assert!(count > 0, "the connection was closed behind {}", heard.escape_ascii());
        heard.extend_from_slice(&block[..count]);
    }
}

fn batch() -> [Vec<u8>; 3] {
    [
        frontend::parse("", "INSERT INTO t VALUES (1)", &[]),
        frontend::bind("", "", &[]),
        frontend::execute("", 0),
    ]
}

/// After each byte of a batch that has no Sync, alone and in a transaction.
#[tokio::test]
async fn leaving_inside_of_a_batch_commits_nothing() {
    let stage = Stage::open().await;
    let bytes = batch().concat();
    for begin in [false, true] {
        for way in [Way::Fin, Way::Rst] {
            // Each byte matters in one of the four.
            let offset = usize::from(begin) * 2 + usize::from(matches!(way, Way::Rst));
            for cut in (0..=bytes.len()).filter(|cut| cut % 4 == offset || *cut == bytes.len()) {
                let mut socket = stage.socket().await;
                if begin {
                    socket.write_all(&frontend::query("BEGIN")).await.unwrap();
                    hear(&mut socket, b"Z\0\0\0\x05T").await;
                }
                socket.write_all(&bytes[..cut]).await.unwrap();
                leave(socket, way).await;
                stage.is_clean(&format!("{way:?} behind {cut} bytes, begin {begin}")).await;
            }
        }
    }
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test]
async fn leaving_behind_an_executed_batch_without_sync_commits_nothing() {
    let stage = Stage::open().await;
    for way in WAYS {
        for messages in 1..=3 {
            let mut socket = stage.socket().await;
            let bytes = [batch()[..messages].concat(), frontend::flush()].concat();
            socket.write_all(&bytes).await.unwrap();
            let last: [&[u8]; 3] = [b"1\0\0\0\x04", b"2\0\0\0\x04", b"INSERT 0 1"];
            hear(&mut socket, last[messages - 1]).await;
            leave(socket, way).await;
            stage.is_clean(&format!("{way:?} behind {messages} messages")).await;
            assert_eq!(stage.rows().await, 0, "{way:?} behind {messages} messages");
        }
    }
}

/// What was sent ahead of Terminate is carried out, as PostgreSQL does.
#[tokio::test]
async fn what_was_asked_before_terminate_is_done() {
    let stage = Stage::open().await;
    for (turn, request) in [
        frontend::query("INSERT INTO t VALUES (1)"),
        [batch().concat(), frontend::sync()].concat(),
        [frontend::query("INSERT INTO t VALUES (1)"), batch().concat()].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut socket = stage.socket().await;
        socket.write_all(&[request, frontend::terminate()].concat()).await.unwrap();
        let mut rest = Vec::new();
        crate::common::patiently("end", socket.read_to_end(&mut rest)).await.unwrap();
        stage.is_clean("Terminate").await;
        assert_eq!(stage.rows().await, i64::try_from(turn).unwrap() + 1, "request {turn}");
    }
}

#[tokio::test]
async fn leaving_inside_of_a_transaction_rolls_it_back() {
    let stage = Stage::open().await;
    for way in WAYS {
        for (sql, wait) in [
            ("BEGIN; INSERT INTO t VALUES (1)", &b"Z\0\0\0\x05T"[..]),
            ("BEGIN; INSERT INTO t VALUES (1); SELECT 1/0", b"Z\0\0\0\x05I"),
            ("BEGIN", b""),
            ("BEGIN; INSERT INTO t VALUES (1)", b""),
        ] {
            let mut socket = stage.socket().await;
            socket.write_all(&frontend::query(sql)).await.unwrap();
            if !wait.is_empty() && !sql.contains("1/0") {
                hear(&mut socket, wait).await;
            }
            leave(socket, way).await;
            stage.is_clean(&format!("{way:?} behind {sql}")).await;
        }
    }
    assert_eq!(stage.rows().await, 0);
}

/// The end of a file that was not sent to its end is no end of a COPY.
#[tokio::test]
async fn a_truncated_copy_is_no_copy() {
    let stage = Stage::open().await;
    let data = [frontend::copy_data(b"1\n2\n"), frontend::copy_data(b"3\n4\n")].concat();
    let extended = [
        frontend::parse("", "COPY t FROM STDIN", &[]),
        frontend::bind("", "", &[]),
        frontend::execute("", 0),
    ];
    let ways_in = [
        frontend::query("COPY t FROM STDIN"),
        [extended.concat(), frontend::flush()].concat(),
        [extended.concat(), frontend::sync()].concat(),
    ];
    for way in WAYS {
        for (number, way_in) in ways_in.iter().enumerate() {
            for cut in [0, data.len() / 2, data.len() - 3, data.len()] {
                // Terminate is a message only where one can begin.
                if matches!(way, Way::Terminate) && ![0, data.len() / 2, data.len()].contains(&cut) {
                    continue;
                }
                for early in [false, true] {
                    let mut socket = stage.socket().await;
                    socket.write_all(way_in).await.unwrap();
                    if !early {
                        hear(&mut socket, b"G\0\0\0").await;
                    }
                    socket.write_all(&data[..cut]).await.unwrap();
                    leave(socket, way).await;
                    stage.is_clean(&format!("{way:?} in COPY {number} at {cut}, early {early}")).await;
                }
            }
        }
    }
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test]
async fn leaving_inside_of_a_result_frees_the_server() {
    let stage = Stage::open().await;
    for way in [Way::Fin, Way::Rst] {
        for sql in [
            "SELECT repeat('x', 1000) FROM generate_series(1, 2000000)",
            "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 2000000)) TO STDOUT",
            "SELECT repeat('x', 50000000)",
        ] {
            let mut socket = stage.socket().await;
            socket.write_all(&frontend::query(sql)).await.unwrap();
            let mut some = vec![0; 100_000];
            crate::common::patiently("rows", socket.read_exact(&mut some)).await.unwrap();
            leave(socket, way).await;
            stage.is_clean(&format!("{way:?} inside of {sql}")).await;
            stage.sees("state = 'active'", 0).await;
        }
    }
}

/// Nobody waits for what nobody wants: the query is cancelled.
#[tokio::test]
async fn leaving_a_long_query_frees_the_server() {
    let stage = Stage::open().await;
    for way in [Way::Fin, Way::Rst] {
        for request in [
            frontend::query("SELECT pg_sleep(600)"),
            frontend::query("BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(600)"),
            frontend::extended("SELECT pg_sleep(600)", &[]),
        ] {
            let mut socket = stage.socket().await;
            socket.write_all(&request).await.unwrap();
            stage.sees("wait_event = 'PgSleep'", 1).await;
            leave(socket, way).await;
            stage.is_clean(&format!("{way:?} in a long query")).await;
            stage.sees("wait_event = 'PgSleep'", 0).await;
        }
    }
    assert_eq!(stage.rows().await, 0);
}

/// A client that leaves the line of those who wait for a server leaves nothing in it.
#[tokio::test]
async fn leaving_the_line_is_noticed() {
    let stage = Stage::open().await;
    let mut holder = stage.client().await;
    holder.query("BEGIN").await;
    for way in WAYS {
        let mut socket = stage.socket().await;
        socket.write_all(&frontend::query("INSERT INTO t VALUES (1)")).await.unwrap();
        leave(socket, way).await;
    }
    // Whatever was still in line comes before this one, and Terminate lets its query be done, as PostgreSQL does.
    let mut next = stage.client().await;
    next.write(&frontend::query("SELECT 'next'")).await;
    holder.query("COMMIT").await;
    assert_eq!(next.read_until_ready().await[1].columns(), [Some("next".to_owned())]);
    assert!(stage.rows().await <= 1);
}
