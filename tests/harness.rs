//! The harness itself: what it says of a server must be so without a pooler between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::postgres::{password_of, try_connect};
use common::raw::{cancel, tags};
use common::{FakeServer, Opening, Postgres, Raw, fake, frontend, until};

#[tokio::test]
async fn raw_logs_in_with_each_method() {
    let port = Postgres::shared().port();
    for user in ["weir", "weir_md5", "weir_trust"] {
        let mut raw = Raw::login(port, user, password_of(user), "weir").await;
        assert_eq!(raw.value("SELECT current_user").await.as_deref(), Some(user));
        assert_eq!(raw.key.len(), 8);
        raw.terminate().await;
    }
    for user in ["weir", "weir_md5"] {
        let mut raw = Raw::open(port).await;
        let refused = raw.try_start(&[("user", user), ("database", "weir")], "wrong").await.unwrap_err();
        assert_eq!(refused.field('C'), "28P01");
        raw.expect_eof().await;
    }
}

#[tokio::test]
async fn raw_logs_in_over_a_unix_socket() {
    let postgres = Postgres::shared();
    let mut raw = Raw::open_unix(postgres.socket_folder(), postgres.port()).await;
    raw.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(raw.value("SELECT inet_client_addr()").await, None);
}

#[tokio::test]
async fn raw_speaks_both_query_protocols_and_copy() {
    let mut raw = Raw::login(Postgres::shared().port(), "weir", "weir", "weir").await;
    raw.write(&frontend::extended("SELECT $1::text, $2::int", &[Some("x"), None])).await;
    let answer = raw.expect("1 2 T D C Z").await;
    assert_eq!(answer[3].columns(), [Some("x".to_owned()), None]);
    raw.write(&frontend::function_call(1598, &[])).await;
    raw.expect("V Z").await;
    raw.query("BEGIN; CREATE TEMP TABLE t (a int)").await;
    raw.write(&frontend::query("COPY t FROM STDIN")).await;
    raw.expect("G").await;
    raw.write(&[frontend::copy_data(b"1\n"), frontend::copy_done()].concat()).await;
    assert_eq!(raw.read_until_ready().await[0].text(), "COPY 1");
}

#[tokio::test]
async fn a_cluster_has_its_own_rules_and_comes_back_after_a_stop() {
    let mut postgres = Postgres::builder()
        .hba("host all all 127.0.0.1/32 trust\nlocal all all trust\n")
        .setting("work_mem", "5MB")
        .start();
    let mut raw = Raw::login(postgres.port(), "weir", "not asked for", "weir").await;
    assert_eq!(raw.value("SHOW work_mem").await.as_deref(), Some("5MB"));
    postgres.stop();
    while raw.read_or_end().await.is_some() {}
    assert!(try_connect(&postgres.config("weir", "weir")).await.is_err());
    postgres.start_again();
    postgres.connect("weir", "weir").await;
}

#[tokio::test]
async fn a_fresh_database_has_no_connections() {
    let postgres = Postgres::shared();
    let database = postgres.fresh_database().await;
    assert_eq!(postgres.connections(&database).await, 0);
    let _client = postgres.connect("weir", &database).await;
    assert_eq!(postgres.connections(&database).await, 1);
}

#[tokio::test]
async fn the_fake_server_follows_its_script() {
    let server = FakeServer::start(|mut connection, number| async move {
        match connection.opening().await {
            Opening::Startup(parameters) => assert_eq!(parameters["user"], "u"),
            Opening::Cancel(key) => return assert_eq!((key, number), (vec![0, 0, 0, 1, 0, 0, 0, 1], 1)),
            other => panic!("{other:?}"),
        }
        connection.write(&fake::welcome()).await;
        connection.read_until(b'Q').await;
        connection.write(&fake::notice("slow")).await;
        connection.write(&[fake::error("ERROR", "XX000", "scripted"), fake::ready('I')].concat()).await;
        connection.drain().await;
    })
    .await;
    let mut raw = Raw::login(server.port(), "u", "", "d").await;
    assert_eq!(raw.parameters["server_version"], "15.18");
    let answer = raw.query("SELECT 1").await;
    assert_eq!(tags(&answer), "N E Z");
    assert_eq!((answer[0].field('M').as_str(), answer[1].field('M').as_str()), ("slow", "scripted"));
    cancel(server.port(), &raw.key).await;
    assert_eq!(server.accepted(), 2);
    raw.terminate().await;
    until("end of the scripts", || server.open() == 0).await;
}

#[tokio::test]
async fn the_simple_fake_server_serves_a_driver() {
    let server = FakeServer::simple().await;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user("u");
    let client = try_connect(&config).await.unwrap();
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, &str>(0), "1");
}
