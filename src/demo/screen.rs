//! What the demo prints.

use super::client::{Client, Login};
use super::cluster::Cluster;
use super::error::DemoError;
use super::pooler::Pooler;
use super::watch::{Outcome, Second, expected_sum};
use super::{DEMO, Show};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Errors that are shown; a thousand clients make a thousand of the same.
const ERRORS: usize = 5;

/// How long the exporter may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen;

impl Screen {
    /// Prints a line.
    pub(super) fn say(self, line: &str) -> Result<(), DemoError> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(DemoError::system("write to standard output"))
    }

    /// What will be seen.
    pub(super) fn head(self, show: Show, cluster: &Cluster) -> Result<(), DemoError> {
        let Show { clients, servers, .. } = show;
        self.say(&format!(
            "\n{clients} clients share {servers} server connections; PostgreSQL itself would take {most}.\n\
             Each pauses up to a quarter of a second, then moves money between two accounts in a transaction\n\
             of five queries.\n\n\
             {:>6}  {:>8}  {:>8}  {:>8}  {:>14}  {:>12}",
            "second",
            "clients",
            "servers",
            "in line",
            "transactions/s",
            "average wait",
            most = cluster.most,
        ))
    }

    /// One second of it.
    pub(super) fn second(self, seen: Second) -> Result<(), DemoError> {
        let Second { number, clients, servers, waiting, transactions, wait } = seen;
        let wait = format!("{:.1} ms", wait.as_secs_f64() * 1000.0);
        self.say(&format!(
            "{number:>6}  {clients:>8}  {servers:>8}  {waiting:>8}  {transactions:>14}  {wait:>12}"
        ))
    }

    /// What came of it.
    pub(super) fn sum_up(self, show: Show, outcome: &Outcome) -> Result<(), DemoError> {
        let Outcome { clients, servers, served, transactions, errors, sum } = outcome;
        self.say(&format!(
            "\nserved {served} of {} clients with {servers} servers: {transactions} transactions, {} errors",
            show.clients,
            errors.len()
        ))?;
        self.say(&format!(
            "at most {clients} clients at a time; all accounts together hold {sum} of {}",
            expected_sum()
        ))?;
        for error in errors.iter().take(ERRORS) {
            self.say(&format!("error: {error}"))?;
        }
        Ok(())
    }

    /// What can be tried while both run.
    pub(super) async fn invite(self, cluster: &Cluster, pooler: &Pooler) -> Result<(), DemoError> {
        let psql = cluster.installation.psql();
        let url = format!("postgresql://{DEMO}:{DEMO}@127.0.0.1:{}", pooler.port);
        self.say("\nBoth are still running. In another terminal:\n")?;
        self.say(&format!("  {psql} {url}/{DEMO}"))?;
        if console_answers(pooler).await {
            self.say(&format!("  {psql} {url}/pgbouncer -c 'SHOW POOLS'"))?;
        }
        if exporter_answers(pooler.metrics).await {
            self.say(&format!("  curl http://{}/metrics", pooler.metrics))?;
        }
        self.say("\nCtrl-C ends both and removes their files.")
    }
}

async fn console_answers(pooler: &Pooler) -> bool {
    let Ok(mut console) = Client::connect(&pooler.address(), &Login::of(DEMO, "pgbouncer")).await else {
        return false;
    };
    let pools = console.query("SHOW POOLS").await;
    console.leave().await;
    pools.is_ok_and(|pools| pools.sum("cl_waiting").is_some())
}

async fn exporter_answers(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(status.ends_with(b" 200"))
    };
    timeout(PATIENCE, ask).await.is_ok_and(|answer| answer.unwrap_or(false))
}
