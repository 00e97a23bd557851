//! The core of the pooler, end to end. These tests run on every supported PostgreSQL major.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{Pgweir, Postgres};

#[tokio::test]
async fn a_query_goes_through() {
    let pooler = Pgweir::builder(Postgres::shared()).start();
    let client = pooler.connect("weir", "weir").await;
    let row = client.query_one("SELECT $1::int + 1", &[&41]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
}

#[tokio::test]
async fn raw_goes_through() {
    let pooler = Pgweir::builder(Postgres::shared()).start();
    let mut raw = pooler.raw().await;
    assert_eq!(raw.value("SELECT 'x'").await.as_deref(), Some("x"));
    println!(
        "{:?} rss {} cpu {:?} {:?}",
        raw.parameters,
        pooler.rss(),
        pooler.cpu_time(),
        pooler.console("SHOW VERSION").await
    );
}
