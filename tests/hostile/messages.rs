//! Messages that are wrong in themselves or in their place.

use crate::common::raw::tags;
use crate::common::{Postgres, Raw, frontend};
use crate::stage::{Stage, builder};

#[tokio::test]
async fn lengths_that_no_message_has_end_the_session_only() {
    let stage = Stage::open().await;
    let mut neighbour = stage.client().await;
    for length in [0_u32, 3, 0x8000_0000, u32::MAX] {
        for tag in *b"QPBDECHSFdcfX" {
            let mut raw = stage.client().await;
            if length == 3 {
                // With a server as without one.
                raw.query("BEGIN; INSERT INTO t VALUES (1)").await;
            }
            raw.write(&[&[tag][..], &length.to_be_bytes(), b"whatever"].concat()).await;
            let answer = raw.read().await;
            assert_eq!(answer.field('C'), "08P01", "{} {length}", char::from(tag));
            raw.expect_eof().await;
        }
        assert_eq!(neighbour.value("SELECT txid_current_if_assigned()").await, None);
    }
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test]
async fn a_length_over_the_limit_ends_the_session_only() {
    let stage = Stage::with(builder().setting("max_packet_size", 100_000)).await;
    for tag in *b"QPBDECFd" {
        let mut raw = stage.client().await;
        raw.write(&[&[tag][..], &0x7fff_ffff_u32.to_be_bytes(), b"whatever"].concat()).await;
        assert_eq!(raw.read().await.field('C'), "08P01", "{}", char::from(tag));
        raw.expect_eof().await;
    }
    stage.is_clean("a message over the limit").await;
}

/// A message that never ends takes no server away from anybody once its sender is gone.
#[tokio::test]
async fn a_message_that_never_ends_harms_nobody_else() {
    let stage = Stage::open().await;
    for tag in *b"QPBDECF" {
        let mut raw = stage.client().await;
        let beginning = [&[tag][..], &0x7fff_0000_u32.to_be_bytes(), &[b'x'; 40_000]].concat();
        raw.write(&beginning).await;
        drop(raw);
        stage.is_clean("a message without an end").await;
    }
}

#[tokio::test]
async fn types_that_no_message_has_end_the_session_only() {
    let stage = Stage::open().await;
    let mut neighbour = stage.client().await;
    for tag in (0..=255_u8).filter(|tag| !b"QPBDECHSFdcfX".contains(tag)) {
        let mut raw = stage.client().await;
        if tag % 2 == 0 {
            raw.query("BEGIN").await;
        }
        raw.write(&frontend::message(tag, b"whatever")).await;
        let answer = raw.read().await;
        assert_eq!((answer.field('C').as_str(), answer.field('S').as_str()), ("08P01", "FATAL"), "{tag}");
        raw.expect_eof().await;
    }
    assert_eq!(neighbour.value("SELECT 1").await.as_deref(), Some("1"));
}

/// What is cut off within its own length is refused by PostgreSQL, and its refusal is what the client gets.
#[tokio::test]
async fn bodies_cut_short_are_refused_as_postgresql_does() {
    let stage = Stage::open().await;
    let mut neighbour = stage.client().await;
    let whole = [
        frontend::parse("name", "SELECT $1::int", &[23]),
        frontend::parse("", "SELECT $1::int", &[23]),
        frontend::bind("portal", "name", &[Some("1")]),
        frontend::bind("", "", &[Some("1")]),
        frontend::describe('S', "name"),
        frontend::describe('P', ""),
        frontend::close('S', "name"),
        frontend::close('P', "portal"),
        frontend::execute("portal", 1),
        frontend::function_call(177, &["1", "2"]),
        frontend::query("SELECT 1"),
    ];
    for message in whole {
        let (tag, body) = (message[0], &message[5..]);
        for end in 0..body.len() {
            let cut = [frontend::message(tag, &body[..end]), frontend::sync()].concat();
            let mut direct = Raw::login(Postgres::shared().port(), "weir_trust", "", &stage.database).await;
            let mut pooled = stage.client().await;
            let mut replies = Vec::new();
            for raw in [&mut direct, &mut pooled] {
                raw.write(&[&cut[..], &frontend::query("SELECT 'end'")].concat()).await;
                let mut heard = Vec::new();
                while !heard.iter().any(|message: &crate::common::Message| message.tag == b'D') {
                    heard.extend(raw.read_until_ready().await);
                }
                replies.push(heard);
            }
            assert_eq!(replies[1], replies[0], "{} cut at {end}", char::from(tag));
        }
        assert_eq!(neighbour.value("SELECT 'neighbour'").await.as_deref(), Some("neighbour"));
    }
}

#[tokio::test]
async fn messages_of_a_session_are_no_answer_to_a_challenge() {
    for method in ["plain", "md5", "scram-sha-256"] {
        let stage = Stage::with(builder().setting("auth_type", method)).await;
        for message in [
            frontend::query("INSERT INTO t VALUES (1)"),
            frontend::sync(),
            frontend::message(b'p', b""),
            frontend::message(b'p', &[255; 100]),
            frontend::message(b'p', &[b'x'; 70_000]),
            vec![b'p', 255, 255, 255, 255],
            vec![b'p', 0, 0, 0, 3],
        ] {
            let mut raw = Raw::open(stage.pooler.port()).await;
            let startup = [("user", "weir_trust"), ("database", stage.database.as_str())];
            raw.write(&frontend::startup(frontend::VERSION_3_0, &startup)).await;
            raw.expect("R").await;
            // It may be refused by its head alone.
            let _heard_or_not = raw.try_write(&message).await;
            let answer = raw.read_or_end().await;
            assert!(answer.is_none_or(|answer| answer.tag == b'E'), "{method}: {message:?}");
        }
        assert_eq!(stage.rows().await, 0);
    }
}

/// A thousand Syncs with and without a server.
#[tokio::test]
async fn every_sync_is_answered() {
    let stage = Stage::open().await;
    let mut raw = stage.client().await;
    raw.write(&frontend::sync().repeat(1000)).await;
    for _ in 0..1000 {
        raw.expect("Z").await;
    }
    raw.query("BEGIN").await;
    raw.write(&frontend::sync().repeat(1000)).await;
    for _ in 0..1000 {
        assert_eq!(raw.read().await.status(), 'T');
    }
    assert_eq!(tags(&raw.query("COMMIT").await), "C Z");
}
