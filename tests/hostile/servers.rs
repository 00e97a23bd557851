//! Servers that die, and servers that do not behave.

use crate::common::fake::{self, FakeConnection, Opening, data_row, error, notice, ready, row_description};
use crate::common::raw::tags;
use crate::common::{FakeServer, Message, Pgweir, Raw, frontend};
use crate::stage::{Stage, builder};

/// What else could follow a FATAL: nothing.
async fn one_fatal(raw: &mut Raw) -> Message {
    let mut heard = Vec::new();
    while let Some(message) = raw.read_or_end().await {
        heard.push(message);
    }
    let errors: Vec<_> = heard.iter().filter(|message| message.tag == b'E').collect();
    assert_eq!(errors.len(), 1, "{heard:?}");
    assert_eq!(heard.last().map(|last| last.tag), Some(b'E'), "{heard:?}");
    assert_eq!(errors[0].field('S'), "FATAL");
    errors[0].clone()
}

const TERMINATE: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                         WHERE datname = current_database() AND usename = 'weir_trust'";

#[tokio::test]
async fn a_server_that_dies_in_a_transaction_takes_its_session_with_it() {
    let stage = Stage::open().await;
    for behind in [
        vec![],
        frontend::query("INSERT INTO t VALUES (2)"),
        frontend::extended("INSERT INTO t VALUES (2)", &[]),
        frontend::query("INSERT INTO t VALUES (2); COMMIT").repeat(3),
    ] {
        let mut raw = stage.client().await;
        raw.query("BEGIN; INSERT INTO t VALUES (1)").await;
        stage.execute(TERMINATE).await;
        let _heard_or_not = raw.try_write(&behind).await;
        assert_eq!(one_fatal(&mut raw).await.field('C'), "57P01");
        stage.is_clean("the death of a server").await;
        assert_eq!(stage.rows().await, 0);
    }
}

#[tokio::test]
async fn a_server_that_dies_at_work_is_one_error() {
    let stage = Stage::open().await;
    for request in [
        frontend::query("SELECT pg_sleep(600)"),
        [
            frontend::extended("SELECT pg_sleep(600)", &[]),
            frontend::extended("INSERT INTO t VALUES (1)", &[]),
        ]
        .concat(),
        frontend::query("SELECT pg_sleep(600)").repeat(5),
    ] {
        let mut raw = stage.client().await;
        raw.write(&request).await;
        stage.sees("wait_event = 'PgSleep'", 1).await;
        stage.execute(TERMINATE).await;
        assert_eq!(one_fatal(&mut raw).await.field('C'), "57P01");
        stage.is_clean("the death of a server").await;
        assert_eq!(stage.rows().await, 0);
    }
}

#[tokio::test]
async fn a_server_that_dies_while_idle_is_nobodys_error() {
    let stage = Stage::open().await;
    let mut raw = stage.client().await;
    for turn in 0..10 {
        assert_eq!(raw.value("SELECT 'alive'").await.as_deref(), Some("alive"), "turn {turn}");
        stage.execute(TERMINATE).await;
        // No wait: the news of it may be unread still when the next query comes.
    }
    assert_eq!(raw.value("SELECT 'alive'").await.as_deref(), Some("alive"));
}

/// A script between the StartupMessage and the end of a login.
fn welcome_with(between: &[u8]) -> Vec<Vec<u8>> {
    let parts = [
        fake::authentication_ok(),
        fake::parameter_status("server_version", "15.18"),
        fake::parameter_status("client_encoding", "UTF8"),
        fake::backend_key_data(1, 1),
        ready('I'),
    ];
    (0..parts.len())
        .map(|place| {
            let mut bytes = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                if number == place {
                    bytes.extend_from_slice(between);
                }
                bytes.extend_from_slice(part);
            }
            bytes
        })
        .collect()
}

async fn greet_with(connection: &mut FakeConnection, welcome: &[u8]) -> bool {
    loop {
        match connection.opening().await {
            Opening::Ssl | Opening::Gss => connection.write(b"N").await,
            Opening::Startup(_) => {
                connection.write(welcome).await;
                return true;
            }
            Opening::Cancel(_) | Opening::End => return false,
        }
    }
}

fn in_front_of(server: &FakeServer) -> Pgweir {
    Pgweir::in_front_of(server.port())
        .pool_size(1)
        .setting("auth_type", "trust")
        .setting("server_login_retry", 1)
        .setting("query_wait_timeout", 2)
        .setting("server_connect_timeout", 2)
        .start()
}

async fn try_login(pooler: &Pgweir) -> Result<Raw, Message> {
    let mut raw = Raw::open(pooler.port()).await;
    raw.try_start(&[("user", "weir"), ("database", "weir")], "").await.map(|()| raw)
}

#[tokio::test]
async fn a_login_may_be_full_of_asynchronous_messages() {
    let asides = [notice("hello"), fake::parameter_status("is_superuser", "off")];
    // A ParameterStatus ahead of AuthenticationOk is no login of PostgreSQL's.
    let scripts: Vec<_> = asides
        .iter()
        .enumerate()
        .flat_map(|(number, aside)| welcome_with(aside).into_iter().skip(number))
        .collect();
    for welcome in scripts {
        let script = welcome.clone();
        let server = FakeServer::start(move |mut connection, _| {
            let script = script.clone();
            async move {
                if greet_with(&mut connection, &script).await {
                    connection.serve().await;
                }
            }
        })
        .await;
        let pooler = in_front_of(&server);
        let mut raw = try_login(&pooler).await.unwrap_or_else(|error| panic!("{error:?}: {welcome:?}"));
        assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
    }
}

/// What no server says in a login fails it, with an error for the client, and the pooler lives on.
#[tokio::test]
async fn a_login_that_makes_no_sense_fails() {
    let messages = [
        vec![b'?', 0, 0, 0, 4],
        vec![b'R', 0, 0, 0, 3],
        vec![b'S', 255, 255, 255, 255],
        vec![b'N', 0x7f, 0xff, 0xff, 0xff],
        frontend::message(b'R', &99_u32.to_be_bytes()),
        frontend::message(b'R', b""),
        frontend::message(b'S', b"no end"),
        data_row(&[Some("1")]),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        error("FATAL", "28P01", "password authentication failed"),
        error("FATAL", "3D000", "no such database"),
    ];
    let scripts: Vec<Vec<u8>> = messages.iter().flat_map(|message| welcome_with(message)).collect();
    let many = scripts.clone();
    let server = FakeServer::start(move |mut connection, number| {
        let script = many[number % many.len()].clone();
        async move {
            greet_with(&mut connection, &script).await;
        }
    })
    .await;
    let mut pooler = in_front_of(&server);
    // A pool for each, so that none waits for the retry of another.
    for number in 0..scripts.len() {
        let mut raw = Raw::open(pooler.port()).await;
        let database = format!("other{number}");
        let refusal = raw.try_start(&[("user", "weir"), ("database", &database)], "").await.unwrap_err();
        assert_eq!(refusal.field('S'), "FATAL", "{number}");
        raw.expect_eof().await;
    }
    assert_eq!(pooler.exit_status(), None);
}

/// A server that is starting up is waited for.
#[tokio::test]
async fn a_server_that_takes_no_logins_yet_is_waited_for() {
    let server = FakeServer::start(|mut connection, number| async move {
        if number < 2 {
            greet_with(&mut connection, &error("FATAL", "57P03", "the database system is starting up")).await;
        } else if connection.greet().await {
            connection.serve().await;
        }
    })
    .await;
    let pooler = Pgweir::in_front_of(server.port())
        .pool_size(1)
        .setting("auth_type", "trust")
        .setting("server_login_retry", 1)
        .start();
    let mut raw = try_login(&pooler).await.unwrap();
    assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
}

/// In each state of a query: the end, garbage, and messages that nothing asked for. The client hears of it, and the next
/// one gets another server.
#[tokio::test]
async fn a_server_that_breaks_the_rules_is_not_used_again() {
    let lead_in = [row_description(&["one"]), data_row(&[Some("1")]), fake::command_complete("SELECT 1")];
    let faults = [
        vec![],
        b"garbage!".to_vec(),
        vec![b'D', 0, 0, 0, 3],
        vec![b'Z', 0, 0, 0, 5, b'?'],
        vec![b'Z', 0, 0, 0, 4],
        frontend::message(b'1', b""),
        frontend::message(b'K', b"12345678"),
        frontend::message(b'R', &[0; 4]),
        frontend::message(b'S', b"no end"),
    ];
    for fault in &faults {
        for lead in 0..=lead_in.len() {
            let answer = [lead_in[..lead].concat(), fault.clone()].concat();
            let server = FakeServer::start(move |mut connection, number| {
                let answer = answer.clone();
                async move {
                    if !connection.greet().await {
                        return;
                    }
                    if number == 0 {
                        connection.read_until(b'Q').await;
                        connection.write(&answer).await;
                    } else {
                        connection.serve().await;
                    }
                }
            })
            .await;
            let pooler = in_front_of(&server);
            let mut raw = try_login(&pooler).await.unwrap();
            raw.write(&frontend::query("SELECT 1")).await;
            assert_eq!(one_fatal(&mut raw).await.field('C'), "08006", "{fault:?} behind {lead}");
            let mut next = try_login(&pooler).await.unwrap();
            assert_eq!(next.value("SELECT 1").await.as_deref(), Some("1"), "{fault:?} behind {lead}");
        }
    }
}

/// What comes from a server that works for nobody is for nobody.
#[tokio::test]
async fn what_an_idle_server_says_reaches_no_client() {
    for stray in [data_row(&[Some("stray")]), ready('T'), error("ERROR", "XX000", "stray"), b"??".to_vec()] {
        let server = FakeServer::start(move |mut connection, number| {
            let stray = stray.clone();
            async move {
                if !connection.greet().await {
                    return;
                }
                if number == 0 {
                    connection.read_until(b'Q').await;
                    let answer = [data_row(&[Some("1")]), fake::command_complete("SELECT 1"), ready('I')];
                    connection.write(&[answer.concat(), stray].concat()).await;
                    connection.drain().await;
                } else {
                    connection.serve().await;
                }
            }
        })
        .await;
        let pooler = in_front_of(&server);
        let mut first = try_login(&pooler).await.unwrap();
        first.write(&frontend::query("SELECT 1")).await;
        let heard = first.read().await;
        assert_eq!(heard.columns(), [Some("1".to_owned())]);
        drop(first);
        let mut next = try_login(&pooler).await.unwrap();
        assert_eq!(tags(&next.query("SELECT 1").await), "T D C Z");
    }
}

/// The answers to a query may be mixed with what nobody asked for, at every place.
#[tokio::test]
async fn asynchronous_messages_may_come_at_any_place() {
    let parts =
        [row_description(&["one"]), data_row(&[Some("1")]), fake::command_complete("SELECT 1"), ready('I')];
    let asides = [
        notice("aside"),
        fake::notification("channel", "payload"),
        fake::parameter_status("application_name", "aside"),
    ];
    for place in 0..parts.len() {
        for aside in &asides {
            let mut answer = parts.to_vec();
            answer.insert(place, aside.clone());
            let (bytes, tag) = (answer.concat(), char::from(aside[0]));
            let server = FakeServer::start(move |mut connection, _| {
                let bytes = bytes.clone();
                async move {
                    if connection.greet().await {
                        while connection.read().await.is_some_and(|message| message.tag == b'Q') {
                            connection.write(&bytes).await;
                        }
                    }
                }
            })
            .await;
            let pooler = in_front_of(&server);
            let mut raw = try_login(&pooler).await.unwrap();
            raw.write(&frontend::query("SELECT 1")).await;
            let mut wanted: Vec<_> = "TDCZ".chars().collect();
            wanted.insert(place, tag);
            let heard = raw.read_until_ready().await;
            assert_eq!(tags(&heard).replace(' ', ""), wanted.into_iter().collect::<String>());
            assert!(place > 0 || heard[0].tag == aside[0]);
        }
    }
}

/// A secret of a server's user shows nowhere, whatever fails.
#[tokio::test]
async fn passwords_are_never_logged() {
    const CANARY: &str = "canary-in-the-coal-mine";
    for method in ["plain", "md5", "scram-sha-256"] {
        let stage = Stage::with(
            builder()
                .setting("auth_type", method)
                .setting("verbose", 3)
                .user("weir", CANARY)
                .user("weir_md5", CANARY),
        )
        .await;
        let mut raw = Raw::open(stage.pooler.port()).await;
        // It is let in by the pooler and refused by the server.
        let refusal = raw.try_start(&[("user", "weir"), ("database", &stage.database)], CANARY).await;
        assert_eq!(refusal.unwrap_err().field('C'), "28P01", "{method}");
        let mut raw = Raw::open(stage.pooler.port()).await;
        let wrong = format!("{CANARY}-wrong");
        let refusal = raw.try_start(&[("user", "weir"), ("database", &stage.database)], &wrong).await;
        assert_eq!(refusal.unwrap_err().field('C'), "28P01", "{method}");
        stage.pooler.logged("login denied").await;
        assert!(!stage.pooler.log().contains("canary"), "{method}");
    }
}
