//! Who is not known is treated as if known, until the proof.

use crate::common::{Message, Raw, frontend};
use crate::stage::{Stage, builder};
use pgweir::auth::{Iterations, Password, ScramVerifier};
use std::time::Duration;

async fn first_challenge(stage: &Stage, user: &str, database: &str) -> (Raw, Message) {
    let mut raw = Raw::open(stage.pooler.port()).await;
    let startup = [("user", user), ("database", database)];
    raw.write(&frontend::startup(frontend::VERSION_3_0, &startup)).await;
    let challenge = raw.read().await;
    (raw, challenge)
}

/// A SCRAM login up to the server's first message.
async fn scram_first(stage: &Stage, user: &str) -> (Raw, String) {
    let (mut raw, challenge) = first_challenge(stage, user, "weir").await;
    assert_eq!(&challenge.body[..4], [0, 0, 0, 10], "{user}");
    let first = b"n,,n=,r=abcdefghijklmnop";
    let body = [b"SCRAM-SHA-256\0", &frontend::size(first.len())[..], first].concat();
    raw.write(&frontend::message(b'p', &body)).await;
    let answer = raw.read().await;
    assert_eq!(&answer.body[..4], [0, 0, 0, 11], "{user}: {answer:?}");
    (raw, String::from_utf8(answer.body[4..].to_vec()).unwrap())
}

/// The salt and the iterations of the server's first SCRAM message.
async fn scram_terms(stage: &Stage, user: &str) -> (String, String) {
    let (_, text) = scram_first(stage, user).await;
    let part = |key: &str| text.split(',').find_map(|part| part.strip_prefix(key)).unwrap().to_owned();
    (part("s="), part("i="))
}

#[tokio::test]
async fn an_unknown_user_is_asked_as_a_known_one_is() {
    for method in ["plain", "md5", "scram-sha-256"] {
        let stage = Stage::with(builder().setting("auth_type", method)).await;
        let mut answers = Vec::new();
        for user in ["weir", "nobody", "somebody else"] {
            let (mut raw, challenge) = first_challenge(&stage, user, "weir").await;
            // The salt of md5 is another one each time.
            answers.push((challenge.tag, challenge.body[..4].to_vec(), challenge.body.len()));
            if method != "scram-sha-256" {
                raw.write(&frontend::password("wrong")).await;
                let refusal = raw.read().await;
                let text = refusal.field('M').replace(user, "?");
                answers.push((refusal.tag, [refusal.field('C'), text].concat().into_bytes(), 0));
                raw.expect_eof().await;
            }
        }
        let each = answers.len() / 3;
        assert_eq!(answers[..each], answers[each..2 * each], "{method}");
        assert_eq!(answers[..each], answers[2 * each..], "{method}");
    }
}

#[tokio::test]
async fn the_salt_of_an_unknown_user_is_always_the_same() {
    let stage = Stage::with(builder().setting("auth_type", "scram-sha-256")).await;
    let (salt, iterations) = scram_terms(&stage, "weir").await;
    let nobody = scram_terms(&stage, "nobody").await;
    assert_eq!(scram_terms(&stage, "nobody").await, nobody);
    assert_ne!(scram_terms(&stage, "somebody").await.0, nobody.0);
    assert_eq!((nobody.0.len(), nobody.1), (salt.len(), iterations));
    assert_eq!(scram_terms(&stage, "weir").await.0, salt);
}

/// The key of a plain secret is derived when somebody claims to know it. Until then a core is busy, but no traffic waits.
#[tokio::test]
async fn traffic_goes_on_while_a_key_is_derived() {
    let cheap = Iterations::new(1).unwrap();
    let verifier = ScramVerifier::derive(&Password::new("weir_trust").unwrap(), b"salt", cheap);
    let builder = builder().user("weir_trust", &verifier.to_string());
    let settings = builder
        .setting("auth_type", "scram-sha-256")
        .setting("scram_iterations", 200_000)
        .setting("workers", 1);
    let stage = Stage::with(settings).await;
    let mut busy = Raw::login(stage.pooler.port(), "weir_trust", "weir_trust", &stage.database).await;
    let (mut claim, first) = scram_first(&stage, "weir").await;
    let nonce = first.split(',').next().unwrap();
    let last = format!("c=biws,{nonce},p={}=", "A".repeat(43));
    claim.write(&frontend::message(b'p', last.as_bytes())).await;
    assert_eq!(busy.value("SELECT 1").await.as_deref(), Some("1"));
    assert!(
        claim.is_silent_for(Duration::from_millis(1)).await,
        "the key was derived before a query was done"
    );
    assert_eq!(busy.value("SELECT 2").await.as_deref(), Some("2"));
    assert_eq!(claim.read().await.field('C'), "28P01");
}

/// A database that is not there is no news to who has not proved who he is.
#[tokio::test]
async fn an_unknown_database_shows_only_after_the_proof() {
    let stage = Stage::with(builder().setting("auth_type", "plain")).await;
    let (mut raw, challenge) = first_challenge(&stage, "weir", "no such database").await;
    assert_eq!(challenge.tag, b'R');
    raw.write(&frontend::password("wrong")).await;
    assert_eq!(raw.read().await.field('C'), "28P01");
    let mut raw = Raw::open(stage.pooler.port()).await;
    let startup = [("user", "weir"), ("database", "no such database")];
    assert_eq!(raw.try_start(&startup, "weir").await.unwrap_err().field('C'), "3D000");
}
