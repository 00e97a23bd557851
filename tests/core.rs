//! The core of the pooler, end to end, through a real driver. These tests run on every supported PostgreSQL major.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use common::postgres::{connect, password_of, try_connect};
use common::raw::{cancel, tags};
use common::{Pgweir, PgweirBuilder, Postgres, Raw, Rival, frontend, patiently};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

/// A pooler with its own database, so that a test may count server connections.
async fn pooler_of_fresh_database(servers: u32) -> (Pgweir, String) {
    let database = Postgres::shared().fresh_database().await;
    (pooler().pool_size(servers).start(), database)
}

#[tokio::test]
async fn clients_log_in_with_scram_to_servers_of_each_method() {
    let pooler = pooler().start();
    for user in ["weir", "weir_md5", "weir_trust", "postgres"] {
        let client = pooler.connect(user, "weir").await;
        let row = client.query_one("SELECT current_user::text, current_database()::text", &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (user, "weir"));
    }
}

/// A user of whom only the verifier is known: the keys that his own login reveals open the server.
#[tokio::test]
async fn a_verifier_lets_its_owner_through_to_the_server() {
    let postgres = Postgres::shared();
    let superuser = postgres.connect("postgres", "weir").await;
    let verifier = text(&superuser, "SELECT rolpassword FROM pg_authid WHERE rolname = 'weir'").await;
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    let pooler = pooler().user("weir", &verifier).start();
    let client = pooler.connect("weir", "weir").await;
    assert_eq!(text(&client, "SELECT current_user::text").await, "weir");
}

#[tokio::test]
async fn clients_log_in_with_md5_plain_and_trust() {
    for method in ["md5", "plain", "trust"] {
        let pooler = pooler().setting("auth_type", method).start();
        let client = pooler.connect("weir", "weir").await;
        assert_eq!(text(&client, "SELECT current_user::text").await, "weir", "{method}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    for method in ["scram-sha-256", "md5", "plain"] {
        let pooler = pooler().setting("auth_type", method).start();
        let mut config = pooler.config("weir", "weir");
        let error = try_connect(config.password("wrong")).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD), "{method}: {error:?}");
    }
}

#[tokio::test]
async fn an_unknown_user_is_refused() {
    let pooler = pooler().start();
    assert!(try_connect(&pooler.config("nobody", "weir")).await.is_err());
}

#[tokio::test]
async fn simple_queries() {
    let pooler = pooler().start();
    let client = pooler.connect("weir", "weir").await;
    let answer =
        client.simple_query("SELECT 1; SELECT 'two', NULL; CREATE TEMP TABLE t (a int)").await.unwrap();
    let rows: Vec<Vec<Option<&str>>> = answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column)).collect()),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [vec![Some("1")], vec![Some("two"), None]]);
    assert_eq!(text(&client, "").await, "");
}

#[tokio::test]
async fn extended_queries_with_typed_parameters() {
    let pooler = pooler().start();
    let client = pooler.connect("weir", "weir").await;
    let sql = "SELECT $1::int8 + 1, $2::text || '!', $3::bytea, $4::float8, $5::bool, $6::text, $7::int4[]";
    let bytes: &[u8] = &[0, 1, 255];
    let array = vec![1, 2, 3];
    let row = client
        .query_one(sql, &[&41_i64, &"hé", &bytes, &1.5_f64, &true, &None::<String>, &array])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 42);
    assert_eq!(row.get::<_, &str>(1), "hé!");
    assert_eq!(row.get::<_, &[u8]>(2), bytes);
    assert!((row.get::<_, f64>(3) - 1.5).abs() < f64::EPSILON);
    assert!(row.get::<_, bool>(4));
    assert_eq!(row.get::<_, Option<String>>(5), None);
    assert_eq!(row.get::<_, Vec<i32>>(6), array);
}

#[tokio::test]
async fn an_empty_query_and_large_values() {
    let pooler = pooler().start();
    let client = pooler.connect("weir", "weir").await;
    let large = "weir ".repeat(1_000_000);
    let row = client.query_one("SELECT $1::text, length($1::text)", &[&large]).await.unwrap();
    assert!(row.get::<_, &str>(0) == large);
    assert_eq!(row.get::<_, i32>(1), 5_000_000);
    client.batch_execute("").await.unwrap();
}

/// A client that does not read stops its server, and loses nothing by it.
#[tokio::test]
async fn a_slow_reader_gets_all_of_a_large_result() {
    let (pooler, database) = pooler_of_fresh_database(1).await;
    let mut raw = Raw::login(pooler.port(), "weir", "weir", &database).await;
    raw.write(&frontend::query("SELECT repeat('weir', 250000) FROM generate_series(1, 60)")).await;
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'ClientWrite'";
    seen(blocked, &[&database]).await;
    let answer = raw.read_until_ready().await;
    let rows: Vec<_> = answer.iter().filter(|message| message.tag == b'D').collect();
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| row.body.len() == 1_000_006));
    assert_eq!(raw.value("SELECT 'after'").await.as_deref(), Some("after"));
}

/// A server that does not read stops its client, and loses nothing by it.
#[tokio::test]
async fn a_slow_server_gets_all_of_a_large_copy() {
    const CHUNKS: usize = 300;
    let (pooler, database) = pooler_of_fresh_database(1).await;
    let locker = Postgres::shared().connect("weir", &database).await;
    locker.batch_execute("CREATE TABLE t (a text)").await.unwrap();
    // The copy waits for the lock, and so the server reads no more.
    locker.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.unwrap();
    let mut raw = Raw::login(pooler.port(), "weir", "weir", &database).await;
    let chunk = frontend::copy_data(&[&[b'x'; 99_999][..], b"\n"].concat());
    let unlock = async {
        seen(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'",
            &[&database],
        )
        .await;
        locker.batch_execute("COMMIT").await.unwrap();
    };
    let copy = async {
        raw.write(
            &[frontend::query("COPY t FROM STDIN"), chunk.repeat(CHUNKS), frontend::copy_done()].concat(),
        )
        .await;
        raw.read_until_ready().await
    };
    let ((), answer) = tokio::join!(unlock, copy);
    assert_eq!(answer[answer.len() - 2].text(), format!("COPY {CHUNKS}"));
}

/// More clients than servers: each sees its own transactions only, and the limit holds at each look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_few_servers() {
    const SERVERS: u32 = 3;
    let (pooler, database) = pooler_of_fresh_database(SERVERS).await;
    pooler
        .connect("weir", &database)
        .await
        .batch_execute("CREATE TABLE t (client int, turn int)")
        .await
        .unwrap();
    let mut clients = JoinSet::new();
    for number in 0..30 {
        let client = pooler.connect("weir", &database).await;
        clients.spawn(async move {
            for turn in 0..10 {
                transaction(&client, number, turn).await;
            }
        });
    }
    let mut most = 0;
    while !clients.is_empty() {
        most = most.max(Postgres::shared().connections(&database).await);
        while let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
    }
    assert!((1..=i64::from(SERVERS)).contains(&most), "{most} servers");
    let client = pooler.connect("weir", &database).await;
    assert_eq!(text(&client, "SELECT count(*) FROM t").await, "300");
}

/// Without named statements, which would tie the client to its server.
async fn transaction(client: &Client, number: i32, turn: i32) {
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute(&format!("INSERT INTO t VALUES ({number}, {turn})")).await.unwrap();
    let sql = format!("SELECT count(*), txid_current() = txid_current() FROM t WHERE client = {number}");
    assert_eq!(text(client, &sql).await, (turn + 1).to_string());
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_stays_on_one_server_beside_rivals() {
    let pooler = pooler().pool_size(2).start();
    let rival = Rival::start(&pooler, 6).await;
    let client = pooler.connect("weir", "weir").await;
    for _ in 0..20 {
        client.batch_execute("BEGIN").await.unwrap();
        let server = text(&client, "SELECT pg_backend_pid()").await;
        for _ in 0..5 {
            assert_eq!(text(&client, "SELECT pg_backend_pid()").await, server);
        }
        client.batch_execute("COMMIT").await.unwrap();
    }
    assert!(rival.stop().await > 0);
}

#[tokio::test]
async fn rollback_and_savepoints() {
    let (pooler, database) = pooler_of_fresh_database(2).await;
    let mut client = pooler.connect("weir", &database).await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let savepoint = transaction.savepoint("s").await.unwrap();
    assert!(savepoint.batch_execute("SELECT 1/0").await.is_err());
    savepoint.rollback().await.unwrap();
    transaction.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    transaction.commit().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(text(&client, "SELECT string_agg(a::text, ' ' ORDER BY a) FROM t").await, "1 2");
}

#[tokio::test]
async fn a_failed_transaction_stays_failed() {
    let pooler = pooler().pool_size(1).start();
    let mut raw = pooler.raw().await;
    raw.query("BEGIN").await;
    let failed = raw.query("SELECT 1/0").await;
    assert_eq!(failed.last().unwrap().status(), 'E');
    let refused = raw.query("SELECT 1").await;
    assert_eq!(refused[0].field('C'), "25P02");
    assert_eq!(raw.query("ROLLBACK").await.last().unwrap().status(), 'I');
}

/// Whatever the server says of an error reaches the client byte for byte.
#[tokio::test]
async fn errors_and_notices_are_those_of_the_server() {
    let postgres = Postgres::shared();
    let pooler = pooler().start();
    let mut direct = Raw::login(postgres.port(), "weir", password_of("weir"), "weir").await;
    let mut pooled = pooler.raw().await;
    let simple = [
        "SELECT 1/0",
        "SELECT * FROM nowhere",
        "SELEC 1",
        "DO $$ BEGIN RAISE NOTICE 'n' USING DETAIL = 'd', HINT = 'h'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'é' USING ERRCODE = 'P0W1R', CONSTRAINT = 'c', TABLE = 't'; END $$",
        "SELECT 'a', 1, NULL; SELECT 2; SELECT x",
        "",
    ];
    for sql in simple {
        assert_eq!(pooled.query(sql).await, direct.query(sql).await, "{sql}");
    }
    for sql in ["SELECT $1::int", "SELECT 1/$1::int", "SELECT", "SELEC $1", ""] {
        let message = frontend::extended(sql, &[Some("0")]);
        pooled.write(&message).await;
        direct.write(&message).await;
        assert_eq!(pooled.read_until_ready().await, direct.read_until_ready().await, "{sql}");
    }
}

#[tokio::test]
async fn a_pipeline_with_an_error_in_the_middle() {
    let pooler = pooler().pool_size(1).start();
    let mut raw = pooler.raw().await;
    let good = |value| frontend::extended("SELECT $1::int", &[Some(value)]);
    raw.write(&[good("1"), good("x"), good("3"), frontend::query("SELECT 4")].concat()).await;
    assert_eq!(tags(&raw.read_until_ready().await), "1 2 T D C Z");
    assert_eq!(tags(&raw.read_until_ready().await), "1 E Z");
    assert_eq!(tags(&raw.read_until_ready().await), "1 2 T D C Z");
    assert_eq!(tags(&raw.read_until_ready().await), "T D C Z");
}

#[tokio::test]
async fn copy_in_and_out() {
    let (pooler, database) = pooler_of_fresh_database(1).await;
    let client = pooler.connect("weir", &database).await;
    client.batch_execute("CREATE TABLE t (a int, b text)").await.unwrap();
    let mut sink = pin!(client.copy_in("COPY t FROM STDIN").await.unwrap());
    for number in 0..1000 {
        sink.send(Bytes::from(format!("{number}\trow {}\n", "x".repeat(1000)))).await.unwrap();
    }
    assert_eq!(patiently("end of COPY", sink.finish()).await.unwrap(), 1000);
    let mut stream = pin!(client.copy_out("COPY (SELECT * FROM t ORDER BY a) TO STDOUT").await.unwrap());
    let mut lines = 0;
    while let Some(chunk) = stream.next().await {
        assert!(chunk.unwrap().starts_with(format!("{lines}\trow xxx").as_bytes()));
        lines += 1;
    }
    assert_eq!(lines, 1000);
    assert_eq!(text(&client, "SELECT 'after'").await, "after");
}

#[tokio::test]
async fn an_abandoned_copy_changes_nothing() {
    let (pooler, database) = pooler_of_fresh_database(1).await;
    let mut raw = Raw::login(pooler.port(), "weir", "weir", &database).await;
    raw.query("CREATE TABLE t (a int)").await;
    raw.write(&frontend::query("COPY t FROM STDIN")).await;
    raw.expect("G").await;
    raw.write(&[frontend::copy_data(b"1\n"), frontend::copy_fail("enough")].concat()).await;
    assert_eq!(tags(&raw.read_until_ready().await), "E Z");
    assert_eq!(raw.value("SELECT count(*) FROM t").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_cancel_reaches_the_query_it_is_meant_for() {
    let (pooler, database) = pooler_of_fresh_database(2).await;
    let client = pooler.connect("weir", &database).await;
    let token = client.cancel_token();
    let sleep = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    running(&database, "SELECT pg_sleep(600)").await;
    token.cancel_query(NoTls).await.unwrap();
    let error = patiently("end of the query", sleep).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
}

#[tokio::test]
async fn a_cancel_with_a_wrong_key_does_nothing() {
    let (pooler, database) = pooler_of_fresh_database(2).await;
    let mut raw = Raw::login(pooler.port(), "weir", "weir", &database).await;
    raw.write(&frontend::query("SELECT pg_sleep(600)")).await;
    running(&database, "SELECT pg_sleep(600)").await;
    let mut wrong = raw.key.clone();
    wrong[7] ^= 1;
    cancel(pooler.port(), &wrong).await;
    assert!(raw.is_silent_for(Duration::from_millis(200)).await);
    cancel(pooler.port(), &raw.key.clone()).await;
    let answer = raw.read_until_ready().await;
    assert_eq!(answer.iter().find(|message| message.tag == b'E').unwrap().field('C'), "57014");
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_transaction_leaves_nothing_behind() {
    let (pooler, database) = pooler_of_fresh_database(1).await;
    let keeper = pooler.connect("weir", &database).await;
    keeper.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    let leaver = pooler.connect("weir", &database).await;
    leaver.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    drop(leaver);
    assert_eq!(text(&keeper, "SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn server_parameters_are_those_of_the_server() {
    let postgres = Postgres::shared();
    let pooler = pooler().start();
    let pooled = pooler.raw().await;
    let direct = Raw::login(postgres.port(), "weir", password_of("weir"), "weir").await;
    for name in
        ["server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes"]
    {
        assert_eq!(pooled.parameters.get(name), direct.parameters.get(name), "{name}");
    }
    let major = direct.parameters["server_version"].split(['.', ' ']).next().unwrap().to_owned();
    assert_eq!(major, postgres.major().to_string());
}

#[tokio::test]
async fn a_setting_of_the_startup_packet_holds() {
    let pooler = pooler().pool_size(1).start();
    let mut config = pooler.config("weir", "weir");
    let named = connect(config.application_name("one")).await;
    let mut config = pooler.config("weir", "weir");
    let other = connect(config.application_name("two")).await;
    for _ in 0..3 {
        assert_eq!(text(&named, "SHOW application_name").await, "one");
        assert_eq!(text(&other, "SHOW application_name").await, "two");
    }
}

/// The first column of the first row; nothing is prepared for it. No row is the empty text.
async fn text(client: &Client, sql: &str) -> String {
    let answer = client.simple_query(sql).await.unwrap();
    let value = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    value.unwrap_or_default().to_owned()
}

/// Waits until the server is busy with `sql` in `database`.
async fn running(database: &str, sql: &str) {
    let look = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query = $2 AND state = 'active'";
    seen(look, &[&database, &sql]).await;
}

/// Waits until a query of the server's own views counts something.
async fn seen(look: &str, parameters: &[&(dyn ToSql + Sync)]) {
    let looker = Postgres::shared().connect("postgres", "postgres").await;
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while looker.query_one(look, parameters).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "never so: {look}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
