//! The first packets of a connection.

use crate::common::raw::tags;
use crate::common::{Raw, frontend};
use crate::stage::{Stage, builder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SSL: u8 = b's';
const GSS: u8 = b'g';

fn request(kind: u8) -> Vec<u8> {
    if kind == SSL { frontend::ssl_request() } else { frontend::gss_request() }
}

#[tokio::test]
async fn encryption_is_declined_in_any_order_but_each_kind_once() {
    let stage = Stage::open().await;
    let legal: [&[u8]; 5] = [&[], &[SSL], &[GSS], &[SSL, GSS], &[GSS, SSL]];
    for order in legal {
        let mut raw = Raw::open(stage.pooler.port()).await;
        for kind in order {
            raw.write(&request(*kind)).await;
            assert_eq!(raw.read_byte().await, b'N', "{order:?}");
        }
        raw.start(&[("user", "weir_trust"), ("database", &stage.database)], "").await;
        assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"), "{order:?}");
    }
    let illegal: [&[u8]; 4] = [&[SSL, SSL], &[GSS, GSS], &[SSL, GSS, SSL], &[GSS, SSL, GSS]];
    for order in illegal {
        let mut raw = Raw::open(stage.pooler.port()).await;
        let (last, first) = order.split_last().unwrap();
        for kind in first {
            raw.write(&request(*kind)).await;
            assert_eq!(raw.read_byte().await, b'N', "{order:?}");
        }
        raw.write(&request(*last)).await;
        assert_eq!(raw.read().await.field('C'), "0A000", "{order:?}");
        raw.expect_eof().await;
    }
}

/// Whoever sends the StartupMessage behind the SSLRequest without waiting is answered as PostgreSQL without TLS does.
#[tokio::test]
async fn a_startup_behind_a_declined_request_is_plain() {
    let stage = Stage::open().await;
    let mut raw = Raw::open(stage.pooler.port()).await;
    let startup = [("user", "weir_trust"), ("database", stage.database.as_str())];
    let both = [frontend::ssl_request(), frontend::startup(frontend::VERSION_3_0, &startup)].concat();
    raw.write(&both).await;
    assert_eq!(raw.read_byte().await, b'N');
    assert!(raw.read_until_ready().await.len() > 3);
}

#[tokio::test]
async fn lengths_that_no_packet_has_close_without_a_word() {
    let stage = Stage::open().await;
    for length in [0_u32, 1, 4, 7, 10_005, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::from_be_bytes(*b"GET ")] {
        let mut raw = Raw::open(stage.pooler.port()).await;
        raw.write(&[&length.to_be_bytes()[..], b"/ HTTP/1.1\r\n\r\n"].concat()).await;
        raw.expect_eof().await;
    }
    stage.is_clean("bad lengths").await;
}

#[tokio::test]
async fn a_login_in_single_bytes_is_a_login() {
    let stage = Stage::with(builder().setting("auth_type", "plain")).await;
    let mut raw = Raw::open(stage.pooler.port()).await;
    let startup = [("user", "weir_trust"), ("database", stage.database.as_str())];
    for byte in frontend::startup(frontend::VERSION_3_0, &startup) {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    raw.expect("R").await;
    for byte in frontend::password("weir_trust").into_iter().chain(frontend::query("SELECT 'bytes'")) {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    raw.read_until_ready().await;
    assert_eq!(tags(&raw.read_until_ready().await), "T D C Z");
}

#[tokio::test]
async fn a_startup_of_the_greatest_length_is_read() {
    let stage = Stage::open().await;
    let mut raw = Raw::open(stage.pooler.port()).await;
    let plain = [("user", "weir_trust"), ("database", stage.database.as_str()), ("application_name", "")];
    let filling = "x".repeat(10_004 - frontend::startup(frontend::VERSION_3_0, &plain).len());
    let full = [plain[0], plain[1], ("application_name", filling.as_str())];
    raw.start(&full, "").await;
    // NAMEDATALEN cuts it, as on PostgreSQL.
    assert_eq!(raw.value("SHOW application_name").await.map(|name| name.len()), Some(63));
}

#[tokio::test]
async fn layouts_are_refused_as_postgresql_does() {
    let stage = Stage::open().await;
    for (body, code) in [
        (&b"user\0nobody\0"[..], "08P01"),
        (b"user\0nobody\0\0x", "08P01"),
        (b"user\0nobody", "08P01"),
        (b"user", "08P01"),
        (b"", "08P01"),
        (b"\0", "28000"),
        (b"database\0weir\0\0", "28000"),
    ] {
        let mut raw = Raw::open(stage.pooler.port()).await;
        let packet = [&frontend::VERSION_3_0.to_be_bytes()[..], body].concat();
        raw.write(&frontend::untagged(&packet)).await;
        let answer = raw.read().await;
        assert_eq!((answer.field('C').as_str(), answer.field('S').as_str()), (code, "FATAL"), "{body:?}");
        raw.expect_eof().await;
    }
    let mut raw = Raw::open(stage.pooler.port()).await;
    let twice = [("user", "nobody"), ("user", "weir_trust"), ("database", stage.database.as_str())];
    raw.start(&twice, "").await;
    assert_eq!(raw.value("SELECT current_user").await.as_deref(), Some("weir_trust"));
}

#[tokio::test]
async fn other_majors_are_refused() {
    let stage = Stage::open().await;
    for version in [0x0002_0000_u32, 0x0004_0000, 0, 0x7fff_0000] {
        let mut raw = Raw::open(stage.pooler.port()).await;
        raw.write(&frontend::startup(version, &[("user", "weir_trust")])).await;
        assert_eq!(raw.read().await.field('C'), "0A000", "{version:x}");
        raw.expect_eof().await;
    }
}

#[tokio::test]
async fn newer_minors_and_options_are_negotiated_once() {
    let stage = Stage::open().await;
    let plain = [("user", "weir_trust"), ("database", stage.database.as_str())];
    let with_option = [plain[0], plain[1], ("_pq_.test", "1")];
    let cases = [
        (frontend::VERSION_3_0, &plain[..], None, 8),
        (frontend::VERSION_3_2, &plain[..], None, 36),
        (0x0003_270f, &plain[..], Some(&b"\0\x03\0\x02\0\0\0\0"[..]), 36),
        (frontend::VERSION_3_0, &with_option[..], Some(&b"\0\x03\0\0\0\0\0\x01_pq_.test\0"[..]), 8),
    ];
    for (version, parameters, negotiation, key) in cases {
        let mut raw = Raw::open(stage.pooler.port()).await;
        raw.write(&frontend::startup(version, parameters)).await;
        let answer = raw.read_until_ready().await;
        let negotiated: Vec<_> = answer.iter().filter(|message| message.tag == b'v').collect();
        assert_eq!(negotiated.len(), usize::from(negotiation.is_some()), "{version:x}");
        if let Some(wanted) = negotiation {
            assert_eq!((answer[0].tag, &answer[0].body[..]), (b'v', wanted), "{version:x}");
        }
        assert_eq!(raw.key.len(), key, "{version:x}");
        assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn whoever_does_not_finish_the_login_is_sent_away() {
    let stage = Stage::with(builder().setting("client_login_timeout", 1).setting("auth_type", "plain")).await;
    let startup = frontend::startup(frontend::VERSION_3_0, &[("user", "weir_trust")]);
    for said in [&[][..], &startup[..3], &startup[..], &frontend::ssl_request()[..]] {
        let mut raw = Raw::open(stage.pooler.port()).await;
        raw.write(said).await;
        if said == frontend::ssl_request() {
            assert_eq!(raw.read_byte().await, b'N');
        }
        let mut heard = Vec::new();
        while let Some(message) = raw.read_or_end().await {
            heard.push(message);
        }
        assert!(matches!(tags(&heard).as_str(), "" | "E" | "R E"), "{said:?} got {heard:?}");
    }
    // Bytes that trickle do not prolong it.
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", stage.pooler.port())).await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::common::PATIENCE;
    slow.write_all(&[0, 0, 1]).await.unwrap();
    loop {
        assert!(tokio::time::Instant::now() < deadline, "the trickle goes on for ever");
        if slow.write_all(&[0]).await.is_err() {
            break;
        }
        let mut end = [0; 64];
        let heard = tokio::time::timeout(std::time::Duration::from_millis(100), slow.read(&mut end)).await;
        if matches!(heard, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
}

#[tokio::test]
async fn too_many_clients_are_told_so() {
    let stage = Stage::with(builder().setting("max_client_conn", 2)).await;
    let _first = stage.client().await;
    let second = stage.client().await;
    let mut third = Raw::open(stage.pooler.port()).await;
    let startup = [("user", "weir_trust"), ("database", stage.database.as_str())];
    let refusal = third.try_start(&startup, "").await.unwrap_err();
    assert_eq!(refusal.field('C'), "53300");
    assert!(refusal.field('M').contains("no more connections allowed (max_client_conn)"), "{refusal:?}");
    third.expect_eof().await;
    second.terminate().await;
    let deadline = tokio::time::Instant::now() + crate::common::PATIENCE;
    while Raw::open(stage.pooler.port()).await.try_start(&startup, "").await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the place is not given back");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
