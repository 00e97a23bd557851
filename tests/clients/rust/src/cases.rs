//! What the programs have in common: the report, and the cases that are about more than one client.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::env;
use std::future::Future;
use std::time::Duration;

const RIVALS: i32 = 8;
const TURNS: i32 = 30;
/// Only a broken pooler ever makes a case wait for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the cases that are about more than one.
pub trait Client: Send + Sized + 'static {
    fn open() -> impl Future<Output = Result<Self>> + Send;
    fn begin(&mut self) -> impl Future<Output = Result<()>> + Send;
    fn commit(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// Which server this is.
    fn server(&mut self) -> impl Future<Output = Result<i32>> + Send;
    /// Twice the number, and the server, by a statement that stays prepared.
    fn doubled(&mut self, number: i32) -> impl Future<Output = Result<(i32, i32)>> + Send;
    /// Who this is, both numbers together, and the server.
    fn tagged(&mut self, own: i32, number: i32) -> impl Future<Output = Result<(String, i32, i32)>> + Send;
}

/// SQL that only this client sends: whoever gets the answer can tell whose it is.
pub fn tagged(own: i32) -> String {
    format!("SELECT 'client {own}', $1::int + {own}, pg_backend_pid()")
}

pub const SERVER: &str = "SELECT pg_backend_pid()";
pub const DOUBLED: &str = "SELECT $1::int * 2, pg_backend_pid()";

/// One statement over many transactions. Two holders take both servers, and one leaves: that server is left.
pub async fn prepared<C: Client>() -> Result<()> {
    let (mut own, mut holder, mut another) = (C::open().await?, C::open().await?, C::open().await?);
    for turn in 0..20 {
        holder.begin().await?;
        another.begin().await?;
        let (one, other) = (holder.server().await?, another.server().await?);
        let (leaver, stayer) = if (one < other) == (turn % 2 == 0) {
            (&mut holder, &mut another)
        } else {
            (&mut another, &mut holder)
        };
        let left = if turn % 2 == 0 { one.min(other) } else { one.max(other) };
        leaver.commit().await?;
        own.begin().await?;
        let found = own.doubled(turn).await?;
        ensure!(found == (turn * 2, left), "{found:?} in turn {turn}, not from {left}");
        own.commit().await?;
        stayer.commit().await?;
    }
    Ok(())
}

/// More clients than servers at the same time: the same statement names, different SQL, each answer with a tag.
pub async fn rivals<C: Client>() -> Result<()> {
    let mut clients = Vec::new();
    for number in 0..RIVALS {
        clients.push((number, C::open().await?));
    }
    let players: Vec<_> =
        clients.into_iter().map(|(number, client)| tokio::spawn(play(number, client))).collect();
    let mut servers = BTreeSet::new();
    for player in players {
        servers.extend(player.await??);
    }
    let limit: usize = env::var("POOL_SIZE")?.parse()?;
    ensure!(servers.len() <= limit, "{} servers", servers.len());
    Ok(())
}

async fn play<C: Client>(own: i32, mut client: C) -> Result<BTreeSet<i32>> {
    let mut servers = BTreeSet::new();
    for turn in 0..TURNS {
        client.begin().await?;
        // Statements are numbered as they come: in half of the clients it is the other way round.
        let early = if own % 2 == 0 { Some(client.doubled(turn).await?) } else { None };
        let (whose, sum, server) = client.tagged(own, turn).await?;
        let doubled = match early {
            Some(doubled) => doubled,
            None => client.doubled(turn).await?,
        };
        client.commit().await?;
        ensure!(
            (whose.as_str(), sum) == (format!("client {own}").as_str(), own + turn),
            "{own} got {whose}, {sum}"
        );
        ensure!(doubled == (turn * 2, server), "{doubled:?} in turn {turn} on {server}");
        servers.insert(server);
    }
    Ok(servers)
}

/// Prints the outcomes, and counts them.
#[derive(Default)]
pub struct Report {
    count: usize,
}

impl Report {
    pub fn of(driver: &str) -> Self {
        let lock = include_str!("../Cargo.lock");
        let version = lock
            .split_once(&format!("name = \"{driver}\"\nversion = \""))
            .and_then(|(_, rest)| rest.split('"').next());
        println!("driver {driver} {}", version.unwrap_or("?"));
        Self::default()
    }

    pub async fn case(&mut self, name: &str, case: impl Future<Output = Result<()>> + Send + 'static) {
        self.count += 1;
        let outcome = match tokio::time::timeout(PATIENCE, tokio::spawn(case)).await {
            Ok(joined) => joined.context("it panicked").and_then(|outcome| outcome),
            Err(_) => Err(anyhow::anyhow!("it does not end")),
        };
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(error) => println!("not ok {name}: {}", format!("{error:#}").replace('\n', " ")),
        }
    }

    pub fn skip(&mut self, name: &str, why: &str) {
        self.count += 1;
        println!("skip {name}: {why}");
    }

    pub fn close(self) {
        println!("1..{}", self.count);
    }
}

/// Where the server itself is to be asked, as a superuser.
pub fn direct_port() -> Result<u16> {
    Ok(env::var("DIRECT_PORT")?.parse()?)
}

pub fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| name.to_owned())
}

/// What COPY sends and gets.
pub fn lines() -> String {
    (0..5000).map(|number| format!("{number}\trow {number}\n")).collect()
}
