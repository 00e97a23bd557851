//! deadpool-postgres: tokio-postgres in a pool, with a cache of prepared statements.

use crate::cases::{self, DOUBLED, Report, SERVER};
use crate::tokio_postgres_driver::{Source, config, run_cases_of_a_client};
use anyhow::{Result, ensure};
use deadpool_postgres::{Manager, Object, Pool};
use futures_util::future;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use tokio_postgres::{Client, NoTls};

static POOL: OnceLock<Pool> = OnceLock::new();

/// From the one pool: what a case leaves behind, the next one finds.
async fn object() -> Result<Object> {
    let fresh = Pool::builder(Manager::new(config()?, NoTls)).max_size(16).build()?;
    Ok(POOL.get_or_init(|| fresh).get().await?)
}

struct Pooled(Object);

impl Deref for Pooled {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.0
    }
}

struct FromPool;

impl Source for FromPool {
    type Held = Pooled;

    async fn open() -> Result<Pooled> {
        Ok(Pooled(object().await?))
    }
}

pub async fn run() {
    let mut report = Report::of("deadpool-postgres");
    run_cases_of_a_client::<FromPool>(&mut report).await;
    report.skip("notices", "it logs them");
    report.case("prepared", cases::prepared::<Pooled>()).await;
    report.case("rivals", cases::rivals::<Pooled>()).await;
    report.case("more tasks than connections", many_tasks()).await;
    report.close();
}

async fn many_tasks() -> Result<()> {
    let doubled = future::try_join_all((0..200).map(async |number| {
        let client = object().await?;
        let statement = client.prepare_cached(DOUBLED).await?;
        anyhow::Ok(client.query_one(&statement, &[&number]).await?.get::<_, i32>(0))
    }));
    ensure!(doubled.await? == (0..200).map(|number| number * 2).collect::<Vec<_>>());
    Ok(())
}

impl cases::Client for Pooled {
    async fn open() -> Result<Self> {
        Ok(Self(object().await?))
    }

    async fn begin(&mut self) -> Result<()> {
        Ok(self.0.batch_execute("BEGIN").await?)
    }

    async fn commit(&mut self) -> Result<()> {
        Ok(self.0.batch_execute("COMMIT").await?)
    }

    async fn server(&mut self) -> Result<i32> {
        Ok(self.0.query_one(SERVER, &[]).await?.try_get(0)?)
    }

    async fn doubled(&mut self, number: i32) -> Result<(i32, i32)> {
        let statement = self.0.prepare_cached(DOUBLED).await?;
        let row = self.0.query_one(&statement, &[&number]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    async fn tagged(&mut self, own: i32, number: i32) -> Result<(String, i32, i32)> {
        let statement = self.0.prepare_cached(&cases::tagged(own)).await?;
        let row = self.0.query_one(&statement, &[&number]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }
}
