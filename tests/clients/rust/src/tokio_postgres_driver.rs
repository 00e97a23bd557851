//! tokio-postgres: it prepares under names, and sends queries without waiting for the answers of those before.

use crate::cases::{self, DOUBLED, Report, SERVER, direct_port, lines, variable};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut, stream};
use std::future::Future;
use std::ops::DerefMut;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Statement};

/// Where the clients of these cases come from: deadpool hands out the same ones.
pub trait Source: 'static {
    type Held: DerefMut<Target = Client> + Send + Sync;
    fn open() -> impl Future<Output = Result<Self::Held>> + Send;
}

/// A connection of its own.
pub struct Single;

impl Source for Single {
    type Held = Box<Client>;

    async fn open() -> Result<Self::Held> {
        connect(&config()?).await
    }
}

pub fn config() -> Result<Config> {
    let mut config = Config::new();
    config.host(variable("PGHOST")?).port(variable("PGPORT")?.parse()?).dbname(variable("PGDATABASE")?);
    config.user(variable("PGUSER")?).password(variable("PGPASSWORD")?);
    Ok(config)
}

async fn connect(config: &Config) -> Result<Box<Client>> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(Box::new(client))
}

pub async fn run() {
    let mut report = Report::of("tokio-postgres");
    run_cases_of_a_client::<Single>(&mut report).await;
    report.case("notices", notices()).await;
    report.case("prepared", cases::prepared::<Tagging>()).await;
    report.case("rivals", cases::rivals::<Tagging>()).await;
    report.close();
}

/// The cases that need a client and nothing else.
pub async fn run_cases_of_a_client<S: Source>(report: &mut Report) {
    report.case("connect", connects::<S>()).await;
    report.case("types", types::<S>()).await;
    report.case("errors", errors::<S>()).await;
    report.case("transactions", transactions::<S>()).await;
    report.case("pipeline", pipeline::<S>()).await;
    report.case("cursor", cursor::<S>()).await;
    report.case("cancel", cancel::<S>()).await;
    report.case("copy", copy::<S>()).await;
    report.case("large", large::<S>()).await;
}

fn expect_state<T>(state: &str, outcome: Result<T, Error>) -> Result<()> {
    let error = outcome.err().with_context(|| format!("no {state}"))?;
    ensure!(error.code().is_some_and(|code| code.code() == state), "{error}");
    Ok(())
}

async fn number(client: &Client, sql: &str) -> Result<i32> {
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

async fn connects<S: Source>() -> Result<()> {
    let client = S::open().await?;
    let user: String = client.query_one("SELECT current_user::text", &[]).await?.get(0);
    ensure!(user == "weir", "{user}");
    Ok(())
}

async fn types<S: Source>() -> Result<()> {
    let client = S::open().await?;
    let (text, bytes, numbers) = ("hé'\\".to_owned(), vec![0_u8, 1, 255], vec![1, 2, 3]);
    let (null, at) = (None::<String>, SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_209_800));
    let sql = "SELECT $1::int, $2::bigint, $3::text, $4::float8, $5::bool, $6::text, $7::bytea, $8::int[], $9::timestamptz";
    let row = client
        .query_one(sql, &[&42, &(1_i64 << 40), &text, &1.5, &true, &null, &bytes, &numbers, &at])
        .await?;
    ensure!((row.get::<_, i32>(0), row.get::<_, i64>(1)) == (42, 1 << 40), "{row:?}");
    ensure!(
        row.get::<_, String>(2) == text && row.get::<_, f64>(3) == 1.5 && row.get::<_, bool>(4),
        "{row:?}"
    );
    ensure!(row.get::<_, Option<String>>(5).is_none() && row.get::<_, Vec<u8>>(6) == bytes, "{row:?}");
    ensure!(row.get::<_, Vec<i32>>(7) == numbers && row.get::<_, SystemTime>(8) == at, "{row:?}");
    // A type that it has to ask the server about, by statements of its own.
    client
        .batch_execute("DROP TYPE IF EXISTS rust_mood; CREATE TYPE rust_mood AS ENUM ('calm', 'wild')")
        .await?;
    let mood = client.query_one("SELECT 'wild'::rust_mood, ARRAY['calm'::rust_mood]", &[]).await?;
    ensure!(mood.columns()[0].type_().name() == "rust_mood", "{mood:?}");
    Ok(())
}

async fn errors<S: Source>() -> Result<()> {
    let client = S::open().await?;
    expect_state("22012", client.query("SELECT 1/$1::int", &[&0]).await)?;
    expect_state("42P01", client.query("SELECT * FROM nowhere", &[]).await)?;
    ensure!(number(&client, "SELECT 1").await? == 1);
    Ok(())
}

async fn transactions<S: Source>() -> Result<()> {
    let mut client = S::open().await?;
    client
        .batch_execute("DROP TABLE IF EXISTS rust_savepoints; CREATE TABLE rust_savepoints (a int)")
        .await?;
    let insert = "INSERT INTO rust_savepoints VALUES ($1)";
    let mut outer = client.transaction().await?;
    outer.execute(insert, &[&1]).await?;
    let inner = outer.transaction().await?;
    inner.execute(insert, &[&2]).await?;
    expect_state("22012", inner.execute("SELECT 1/0", &[]).await)?;
    expect_state("25P02", inner.execute("SELECT 1", &[]).await)?;
    inner.rollback().await?;
    outer.execute(insert, &[&3]).await?;
    outer.commit().await?;
    let dropped = client.transaction().await?;
    dropped.execute(insert, &[&4]).await?;
    drop(dropped);
    ensure!(number(&client, "SELECT sum(a)::int FROM rust_savepoints").await? == 4);
    Ok(())
}

async fn pipeline<S: Source>() -> Result<()> {
    let client = S::open().await?;
    let sql = "SELECT 10 / $1::int";
    let divide = client.prepare(sql).await?;
    for _ in 0..3 {
        // Statements of their own, and one that they share: all of it is on its way before the first answer.
        let divisors = [5, 0, 2, 0, 1];
        let outcomes = future::join_all(divisors.iter().map(async |divisor| {
            future::join(client.query_one(&divide, &[divisor]), client.query_one(sql, &[divisor])).await
        }))
        .await;
        for (divisor, (shared, own)) in divisors.iter().zip(outcomes) {
            for outcome in [shared, own] {
                match divisor {
                    0 => expect_state("22012", outcome)?,
                    _ => ensure!(outcome?.get::<_, i32>(0) == 10 / divisor),
                }
            }
        }
    }
    Ok(())
}

async fn cursor<S: Source>() -> Result<()> {
    let mut client = S::open().await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT generate_series(1, $1::int)", &[&1000]).await?;
    let mut sum = 0;
    loop {
        let rows = transaction.query_portal(&portal, 100).await?;
        sum += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
        if rows.is_empty() {
            break;
        }
    }
    transaction.commit().await?;
    ensure!(sum == 500_500, "{sum}");
    Ok(())
}

async fn cancel<S: Source>() -> Result<()> {
    let client = S::open().await?;
    let sql = "SELECT pg_sleep(600)";
    let token = client.cancel_token();
    let canceller = async {
        until_active(sql).await?;
        anyhow::Ok(token.cancel_query(NoTls).await?)
    };
    let (outcome, cancelled) = future::join(client.simple_query(sql), canceller).await;
    cancelled?;
    expect_state("57014", outcome)?;
    ensure!(number(&client, "SELECT 1").await? == 1);
    Ok(())
}

/// Waits until the server itself says that the query runs.
async fn until_active(sql: &str) -> Result<()> {
    let mut direct = Config::new();
    direct.host(variable("PGHOST")?).port(direct_port()?).dbname(variable("PGDATABASE")?).user("postgres");
    let looker = connect(&direct).await?;
    let look = "SELECT FROM pg_stat_activity WHERE query = $1 AND state = 'active'";
    while looker.query_opt(look, &[&sql]).await?.is_none() {}
    Ok(())
}

async fn copy<S: Source>() -> Result<()> {
    let client = S::open().await?;
    client.batch_execute("DROP TABLE IF EXISTS rust_copy; CREATE TABLE rust_copy (a int, b text)").await?;
    let sink = client.copy_in("COPY rust_copy FROM STDIN").await?;
    pin_mut!(sink);
    let whole = lines();
    for line in whole.split_inclusive('\n') {
        sink.feed(Bytes::copy_from_slice(line.as_bytes())).await?;
    }
    ensure!(sink.finish().await? == 5000);
    let out = client.copy_out("COPY (SELECT * FROM rust_copy ORDER BY a) TO STDOUT").await?;
    ensure!(out.try_collect::<Vec<Bytes>>().await?.concat() == whole.as_bytes());
    // A COPY that the client gives up, and one with bad data.
    drop(client.copy_in::<_, Bytes>("COPY rust_copy FROM STDIN").await?);
    let bad = client.copy_in("COPY rust_copy FROM STDIN").await?;
    pin_mut!(bad);
    bad.send(Bytes::from_static(b"x\ty\n")).await?;
    expect_state("22P02", bad.finish().await)?;
    ensure!(number(&client, "SELECT count(*)::int FROM rust_copy").await? == 5000);
    Ok(())
}

async fn large<S: Source>() -> Result<()> {
    let client = S::open().await?;
    let (text, blob) = ("weir".repeat(1_000_000), vec![7_u8; 1 << 21]);
    let row = client.query_one("SELECT $1::text, $2::bytea", &[&text, &blob]).await?;
    ensure!(row.get::<_, String>(0) == text && row.get::<_, Vec<u8>>(1) == blob);
    Ok(())
}

async fn notices() -> Result<()> {
    let (client, mut connection) = config()?.connect(NoTls).await?;
    let (sender, mut seen) = mpsc::channel(10);
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                sender.send(notice.message().to_owned()).await.ok();
            }
        }
    });
    client.batch_execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$").await?;
    let both = (seen.recv().await, seen.recv().await);
    ensure!(both == (Some("one".to_owned()), Some("two".to_owned())), "{both:?}");
    Ok(())
}

/// For `cases`.
struct Tagging {
    client: Box<Client>,
    doubled: Option<Statement>,
}

impl cases::Client for Tagging {
    async fn open() -> Result<Self> {
        Ok(Self { client: Single::open().await?, doubled: None })
    }

    async fn begin(&mut self) -> Result<()> {
        Ok(self.client.batch_execute("BEGIN").await?)
    }

    async fn commit(&mut self) -> Result<()> {
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    async fn server(&mut self) -> Result<i32> {
        number(&self.client, SERVER).await
    }

    async fn doubled(&mut self, number: i32) -> Result<(i32, i32)> {
        if self.doubled.is_none() {
            self.doubled = Some(self.client.prepare(DOUBLED).await?);
        }
        let statement = self.doubled.as_ref().context("just prepared")?;
        let row = self.client.query_one(statement, &[&number]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    async fn tagged(&mut self, own: i32, number: i32) -> Result<(String, i32, i32)> {
        let row = self.client.query_one(&cases::tagged(own), &[&number]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }
}
