//! The console over the extended protocol, which PgBouncer refuses there: with drivers that speak nothing else, and byte by
//! byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::raw::tags;
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

async fn admin(pooler: &Pgweir) -> Raw {
    Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await
}

async fn driver(pooler: &Pgweir, user: &str) -> tokio_postgres::Client {
    let mut config = pooler.config(user, "pgbouncer");
    config.password(user);
    common::postgres::connect(&config).await
}

/// A Bind of the unnamed statement whose results come in these formats.
fn bind_in(formats: &[u16]) -> Vec<u8> {
    let mut body = b"\0\0\0\0\0\0".to_vec();
    body.extend(frontend::count(formats.len()));
    formats.iter().for_each(|format| body.extend(format.to_be_bytes()));
    frontend::message(b'B', &body)
}

fn batch(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.concat()
}

async fn answer(raw: &mut Raw, messages: &[Vec<u8>]) -> Vec<Message> {
    raw.write(&batch(messages)).await;
    raw.read_until_ready().await
}

/// Would break with: types that a driver cannot read in the binary format that it asks for, or none at all.
#[tokio::test]
async fn a_driver_reads_every_table() {
    let pooler = pooler().start();
    let _client = pooler.raw().await;
    let stats = driver(&pooler, "stats").await;
    let version: String = stats.query_one("SHOW VERSION", &[]).await.unwrap().get(0);
    assert!(version.starts_with("PgBouncer 1.26.1"), "{version}");
    let pools = stats.query("SHOW POOLS", &[]).await.unwrap();
    let pool = pools.iter().find(|row| row.get::<_, &str>("database") == "weir").unwrap();
    assert_eq!((pool.get::<_, i32>("cl_active"), pool.get::<_, &str>("pool_mode")), (1, "transaction"));
    assert_eq!(pool.get::<_, Option<&str>>("load_balance_hosts"), None);
    let held = stats.query("SHOW PREPARED_STATEMENTS", &[]).await.unwrap();
    assert!(held.iter().all(|row| row.get::<_, i64>("bytes") > 0));
    let tables = [
        "SHOW CLIENTS",
        "SHOW SERVERS",
        "SHOW STATS",
        "SHOW STATS_TOTALS",
        "SHOW STATS_AVERAGES",
        "SHOW TOTALS",
        "SHOW DATABASES",
        "SHOW USERS",
        "SHOW LISTS",
        "SHOW CONFIG",
        "SHOW STATE",
        "SHOW PEERS",
        "SHOW PEER_POOLS",
        "SHOW SOCKETS",
        "SHOW ACTIVE_SOCKETS",
        "SHOW DNS_HOSTS",
        "SHOW DNS_ZONES",
        "SHOW MEM",
        "SHOW SETTINGS",
        "SHOW client_encoding",
        "SELECT pools;",
    ];
    for table in tables {
        let statement = stats.prepare(table).await.unwrap_or_else(|error| panic!("{table}: {error}"));
        let rows = stats.query(&statement, &[]).await.unwrap_or_else(|error| panic!("{table}: {error}"));
        assert!(rows.iter().all(|row| row.len() == statement.columns().len()), "{table}");
        // And a second time, as whoever scrapes does.
        stats.query(&statement, &[]).await.unwrap();
    }
}

/// Would break with: errors that end the connection, or a driver's transaction that fails.
#[tokio::test]
async fn a_driver_gives_commands_and_survives_errors() {
    let pooler = pooler().start();
    let mut admin = driver(&pooler, "admin").await;
    admin.execute("SET max_client_conn = 77", &[]).await.unwrap();
    let rows = admin.query("SHOW CONFIG", &[]).await.unwrap();
    let value = rows.iter().find(|row| row.get::<_, &str>(0) == "max_client_conn").unwrap();
    assert_eq!(value.get::<_, &str>(1), "77");
    let transaction = admin.transaction().await.unwrap();
    transaction.query("SHOW POOLS", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    for (text, code) in [
        ("SHOW nothing", "08P01"),
        ("SELECT 1", "08P01"),
        ("KILL_CLIENT 99", "08P01"),
        ("SET pool_mode = x", "08P01"),
    ] {
        let error = admin.query(text, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{text}");
    }
    assert_eq!(admin.execute("RELOAD", &[]).await.unwrap(), 0);
    let stats = driver(&pooler, "stats").await;
    let error = stats.execute("RELOAD", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "admin access needed");
    assert!(stats.query_one("SHOW VERSION", &[]).await.is_ok());
}

/// Would break with: messages that are missing or out of place.
#[tokio::test]
async fn each_message_is_answered_in_its_place() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    let show = |text| frontend::parse("", text, &[]);
    let simple =
        [show("SHOW VERSION"), frontend::bind("", "", &[]), frontend::execute("", 0), frontend::sync()];
    assert_eq!(tags(&answer(&mut admin, &simple).await), "1 2 D C Z");
    let described = [
        frontend::parse("s", "SHOW STATE", &[]),
        frontend::describe('S', "s"),
        frontend::bind("p", "s", &[]),
        frontend::describe('P', "p"),
        frontend::execute("p", 1),
        frontend::execute("p", 0),
        frontend::close('P', "p"),
        frontend::close('S', "s"),
        frontend::close('S', "never was"),
        frontend::sync(),
    ];
    assert_eq!(tags(&answer(&mut admin, &described).await), "1 t T 2 T D s D C 3 3 3 Z");
    let no_rows = [
        show("RELOAD"),
        frontend::describe('S', ""),
        frontend::bind("", "", &[]),
        frontend::execute("", 0),
        frontend::sync(),
    ];
    assert_eq!(tags(&answer(&mut admin, &no_rows).await), "1 t n 2 C Z");
    let help = [show("SHOW HELP"), frontend::bind("", "", &[]), frontend::execute("", 0), frontend::sync()];
    assert_eq!(tags(&answer(&mut admin, &help).await), "1 2 N C Z");
    let empty = [show(""), frontend::bind("", "", &[]), frontend::execute("", 0), frontend::sync()];
    assert_eq!(tags(&answer(&mut admin, &empty).await), "1 2 I Z");
    assert_eq!(tags(&answer(&mut admin, &[frontend::sync()]).await), "Z");
    // A Flush brings what is there.
    admin.write(&batch(&[show("SHOW VERSION"), frontend::flush()])).await;
    admin.expect("1").await;
    assert_eq!(tags(&answer(&mut admin, &[frontend::sync()]).await), "Z");
    // BEGIN is told, whatever protocol it comes by.
    let begin = [show("BEGIN"), frontend::bind("", "", &[]), frontend::execute("", 0), frontend::sync()];
    assert_eq!(answer(&mut admin, &begin).await.last().unwrap().status(), 'T');
    assert_eq!(admin.query("COMMIT").await.last().unwrap().status(), 'I');
}

/// Would break with: an error after which something is done before the Sync, or nothing behind it.
#[tokio::test]
async fn an_error_skips_up_to_the_sync() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    let set = |text| {
        [frontend::parse("", text, &[]), frontend::bind("", "", &[]), frontend::execute("", 0)].concat()
    };
    for wrong in [
        frontend::parse("", "SHOW nothing", &[]),
        frontend::bind("", "nothing", &[]),
        frontend::describe('S', "nothing"),
        frontend::describe('P', "nothing"),
        frontend::execute("nothing", 0),
        frontend::message(b'D', b"X\0"),
        frontend::message(b'P', b"no zero byte"),
        batch(&[frontend::parse("", "SHOW VERSION", &[]), frontend::bind("", "", &[Some("1")])]),
        batch(&[frontend::parse("", "SHOW STATE", &[]), bind_in(&[2])]),
        batch(&[frontend::parse("", "SHOW STATE", &[]), bind_in(&[0, 1, 0])]),
    ] {
        let behind = set("SET max_client_conn = 5");
        let got =
            answer(&mut admin, &[wrong.clone(), behind, frontend::query("RELOAD"), frontend::sync()]).await;
        let errors = got.iter().filter(|message| message.tag == b'E').count();
        assert_eq!((errors, tags(&got).ends_with("E Z")), (1, true), "{wrong:?}: {got:?}");
    }
    let shown = pooler.console("SHOW CONFIG").await;
    let limit = shown.iter().find(|row| row[0].as_deref() == Some("max_client_conn")).unwrap();
    assert_eq!(limit[1].as_deref(), Some("100"));
    let fine = [frontend::extended("SHOW VERSION", &[])];
    assert!(tags(&answer(&mut admin, &fine).await).ends_with("D C Z"));
}

/// Would break with: a binary value that is not of its type's length, or text where binary was asked for.
#[tokio::test]
async fn values_come_in_the_format_that_was_asked_for() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    let show = frontend::parse("", "SHOW LISTS", &[]);
    for (formats, length) in [(vec![], 1), (vec![0], 1), (vec![1], 4), (vec![0, 1], 4), (vec![1, 0], 1)] {
        let messages = [
            show.clone(),
            bind_in(&formats),
            frontend::describe('P', ""),
            frontend::execute("", 1),
            frontend::sync(),
        ];
        let got = answer(&mut admin, &messages).await;
        let row = got.iter().find(|message| message.tag == b'D').unwrap();
        // "databases", then the number of them.
        let number = &row.body[2 + 4 + 9..];
        assert_eq!(number.len(), 4 + length, "{formats:?}");
        let description = got.iter().find(|message| message.tag == b'T').unwrap();
        let of_number = u16::from_be_bytes(*description.body.last_chunk().unwrap());
        assert_eq!(of_number, u16::from(length == 4), "{formats:?}");
    }
}

/// Would break with: names that are collected for ever.
#[tokio::test]
async fn a_visitor_holds_only_so_many_statements() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    let many: Vec<u8> =
        (0..1000).flat_map(|number| frontend::parse(&format!("s{number}"), "SHOW VERSION", &[])).collect();
    let got = answer(&mut admin, &[many, frontend::sync()]).await;
    let error = got.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field('C'), "54000");
    assert!(got.len() < 300);
}

/// Would break with: long answers that are kept for as many portals as a visitor opens.
#[tokio::test]
async fn what_is_left_of_an_answer_is_kept_for_one_portal_only() {
    let pooler = pooler().start();
    let mut raw = admin(&pooler).await;
    let batch = [
        frontend::parse("s", "SHOW CONFIG", &[]),
        frontend::bind("one", "s", &[]),
        frontend::bind("two", "s", &[]),
        frontend::execute("one", 1),
        frontend::execute("one", 1),
        frontend::execute("two", 1),
        frontend::sync(),
    ];
    let answers = answer(&mut raw, &batch).await;
    assert_eq!(tags(&answers), "1 2 2 D s D s D E Z");
    assert_eq!(answers[8].field('C'), "54000");
}
