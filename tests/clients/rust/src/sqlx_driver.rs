//! sqlx: it prepares every query with values under a name, and keeps them.

use crate::cases::{self, DOUBLED, Report, SERVER, lines};
use anyhow::{Context, Result, ensure};
use futures_util::{TryStreamExt, future};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    AssertSqlSafe, Connection, Error, Executor, PgConnection, Row, query, query_as, query_scalar, raw_sql,
};

async fn connect() -> Result<PgConnection> {
    // The address and the password come from the environment.
    Ok(PgConnection::connect_with(&PgConnectOptions::new()).await?)
}

pub async fn run() {
    let mut report = Report::of("sqlx");
    report.case("connect", connects()).await;
    report.case("types", types()).await;
    report.case("errors", errors()).await;
    report.case("transactions", transactions()).await;
    report.case("prepared", cases::prepared::<PgConnection>()).await;
    report.skip("pipeline", "it waits for each answer");
    report.case("cursor", cursor()).await;
    report.skip("cancel", "it has no call for it");
    report.case("copy", copy()).await;
    report.case("large", large()).await;
    report.skip("notices", "it logs them");
    report.case("rivals", cases::rivals::<PgConnection>()).await;
    report.case("the driver's own pool", own_pool()).await;
    report.close();
}

fn expect_state<T>(state: &str, outcome: Result<T, Error>) -> Result<()> {
    let error = outcome.err().with_context(|| format!("no {state}"))?;
    let found = error.as_database_error().and_then(|error| error.code());
    ensure!(found.as_deref() == Some(state), "{error}");
    Ok(())
}

async fn connects() -> Result<()> {
    let mut client = connect().await?;
    client.ping().await?;
    let user: String = query_scalar("SELECT current_user::text").fetch_one(&mut client).await?;
    ensure!(user == "weir", "{user}");
    Ok(client.close().await?)
}

async fn types() -> Result<()> {
    let mut client = connect().await?;
    let sql = "SELECT $1::int, $2::bigint, $3::text, $4::float8, $5::bool, $6::text, $7::bytea, $8::int[]";
    let row = query(sql)
        .bind(42)
        .bind(1_i64 << 40)
        .bind("hé'\\")
        .bind(1.5)
        .bind(true)
        .bind(None::<String>)
        .bind(vec![0_u8, 1, 255])
        .bind(vec![1, 2, 3])
        .fetch_one(&mut client)
        .await?;
    ensure!((row.get::<i32, _>(0), row.get::<i64, _>(1), row.get::<&str, _>(2)) == (42, 1 << 40, "hé'\\"));
    ensure!(row.get::<f64, _>(3) == 1.5 && row.get::<bool, _>(4) && row.get::<Option<&str>, _>(5).is_none());
    ensure!(row.get::<Vec<u8>, _>(6) == [0, 1, 255] && row.get::<Vec<i32>, _>(7) == [1, 2, 3]);
    // A type that it has to ask the server about, by statements of its own.
    client.execute("DROP TYPE IF EXISTS sqlx_mood").await?;
    client.execute("CREATE TYPE sqlx_mood AS ENUM ('calm', 'wild')").await?;
    let mood: String =
        query("SELECT 'wild'::sqlx_mood").fetch_one(&mut client).await?.try_get_unchecked(0)?;
    ensure!(mood == "wild", "{mood}");
    Ok(())
}

async fn errors() -> Result<()> {
    let mut client = connect().await?;
    expect_state("22012", query("SELECT 1/$1::int").bind(0).fetch_one(&mut client).await)?;
    expect_state("42P01", query("SELECT * FROM nowhere").fetch_one(&mut client).await)?;
    ensure!(query_scalar::<_, i32>("SELECT 1").fetch_one(&mut client).await? == 1);
    Ok(())
}

async fn transactions() -> Result<()> {
    let mut client = connect().await?;
    raw_sql("DROP TABLE IF EXISTS sqlx_savepoints; CREATE TABLE sqlx_savepoints (a int)")
        .execute(&mut client)
        .await?;
    let insert = "INSERT INTO sqlx_savepoints VALUES ($1)";
    let mut outer = client.begin().await?;
    query(insert).bind(1).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    query(insert).bind(2).execute(&mut *inner).await?;
    expect_state("22012", query("SELECT 1/$1::int").bind(0).execute(&mut *inner).await)?;
    expect_state("25P02", query(insert).bind(2).execute(&mut *inner).await)?;
    inner.rollback().await?;
    query(insert).bind(3).execute(&mut *outer).await?;
    outer.commit().await?;
    let mut dropped = client.begin().await?;
    query(insert).bind(4).execute(&mut *dropped).await?;
    drop(dropped);
    ensure!(query_scalar::<_, i64>("SELECT sum(a) FROM sqlx_savepoints").fetch_one(&mut client).await? == 4);
    Ok(())
}

async fn cursor() -> Result<()> {
    let mut client = connect().await?;
    let mut transaction = client.begin().await?;
    let declare = "DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)";
    query(declare).execute(&mut *transaction).await?;
    let mut sum = 0;
    loop {
        let numbers: Vec<i32> = query_scalar("FETCH 100 FROM numbers").fetch_all(&mut *transaction).await?;
        sum += numbers.iter().sum::<i32>();
        if numbers.is_empty() {
            break;
        }
    }
    transaction.commit().await?;
    ensure!(sum == 500_500, "{sum}");
    Ok(())
}

async fn copy() -> Result<()> {
    let mut client = connect().await?;
    raw_sql("DROP TABLE IF EXISTS sqlx_copy; CREATE TABLE sqlx_copy (a int, b text)")
        .execute(&mut client)
        .await?;
    let whole = lines();
    let mut copy = client.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    for line in whole.split_inclusive('\n') {
        copy.send(line.as_bytes()).await?;
    }
    ensure!(copy.finish().await? == 5000);
    let out = client.copy_out_raw("COPY (SELECT * FROM sqlx_copy ORDER BY a) TO STDOUT").await?;
    ensure!(out.try_collect::<Vec<_>>().await?.concat() == whole.as_bytes());
    let mut bad = client.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    bad.send(b"x\ty\n".as_slice()).await?;
    expect_state("22P02", bad.finish().await)?;
    let abandoned = client.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    abandoned.abort("never mind").await?;
    ensure!(query_scalar::<_, i64>("SELECT count(*) FROM sqlx_copy").fetch_one(&mut client).await? == 5000);
    Ok(())
}

async fn large() -> Result<()> {
    let mut client = connect().await?;
    let (text, blob) = ("weir".repeat(1_000_000), vec![7_u8; 1 << 21]);
    let found: (String, Vec<u8>) =
        query_as("SELECT $1::text, $2::bytea").bind(&text).bind(&blob).fetch_one(&mut client).await?;
    ensure!(found == (text, blob));
    Ok(())
}

async fn own_pool() -> Result<()> {
    let pool = PgPoolOptions::new().connect_with(PgConnectOptions::new()).await?;
    let doubled = (0..200).map(|number| query_as::<_, (i32, i32)>(DOUBLED).bind(number).fetch_one(&pool));
    for (number, (doubled, _)) in future::try_join_all(doubled).await?.into_iter().enumerate() {
        ensure!(doubled == i32::try_from(number)? * 2, "{doubled} for {number}");
    }
    pool.close().await;
    Ok(())
}

impl cases::Client for PgConnection {
    async fn open() -> Result<Self> {
        connect().await
    }

    async fn begin(&mut self) -> Result<()> {
        self.execute("BEGIN").await?;
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.execute("COMMIT").await?;
        Ok(())
    }

    async fn server(&mut self) -> Result<i32> {
        Ok(query_scalar(SERVER).fetch_one(self).await?)
    }

    async fn doubled(&mut self, number: i32) -> Result<(i32, i32)> {
        Ok(query_as(DOUBLED).bind(number).fetch_one(self).await?)
    }

    async fn tagged(&mut self, own: i32, number: i32) -> Result<(String, i32, i32)> {
        Ok(query_as(AssertSqlSafe(cases::tagged(own))).bind(number).fetch_one(self).await?)
    }
}
