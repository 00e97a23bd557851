//! The exporters of the field, run for real against the console, beside pgweir's own `/metrics`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Pgweir, PgweirBuilder, Postgres, Raw, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Samples by name and sorted labels.
type Page = BTreeMap<String, f64>;

/// An exporter that runs, until it is dropped.
struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The program, or `None` where it cannot be had: it comes from a newer Debian.
fn program(name: &str) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/exporter.sh");
    let output = Command::new(script).arg(name).output().unwrap();
    if !output.status.success() {
        eprintln!("SKIPPED: no exporter {name}: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

impl Exporter {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// What a page says, once there is a page.
async fn scrape(port: u16) -> Page {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        if let Some(page) = try_scrape(port).await {
            return page;
        }
        assert!(tokio::time::Instant::now() < deadline, "no page on port {port}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn try_scrape(port: u16) -> Option<Page> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.contains(" 200 "), "{answer}");
    Some(body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect())
}

/// A sample with its labels sorted. None of the tests' values has a comma.
fn sample(line: &str) -> (String, f64) {
    let (sample, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap();
    let Some((name, labels)) = sample.trim_end_matches('}').split_once('{') else {
        return (sample.to_owned(), value);
    };
    let mut labels: Vec<_> = labels.trim_end_matches(',').split(',').collect();
    labels.sort_unstable();
    (format!("{name}{{{}}}", labels.join(",")), value)
}

/// What differs between two scrapes because of the scrapes themselves: the exporter's own visit to the console and its
/// commands; and the database whose name and port are the pooler's own.
fn is_about_the_scrape(sample: &str) -> bool {
    let own_visit = sample.contains("user=\"stats\"") || sample.starts_with("pgbouncer_used_clients");
    own_visit || sample.contains("database=\"pgbouncer\"") && !sample.starts_with("pgbouncer_databases_")
}

fn pooler(metrics: u16) -> PgweirBuilder {
    let server = Postgres::shared().port();
    Pgweir::builder(Postgres::shared())
        .setting("metrics_listen", format!("127.0.0.1:{metrics}"))
        .database(
            "forced",
            &format!("host=127.0.0.1 port={server} dbname=weir user=weir_trust pool_mode=session"),
        )
        .user_setting("weir_md5", "pool_size=1 max_user_connections=9")
}

/// Clients in each state: idle, active and waiting, some with a name, and one that was refused.
async fn little_load(pooler: &Pgweir) -> Vec<Raw> {
    let mut clients = Vec::new();
    let mut idle = pooler.raw_with("weir", &[("application_name", "held")]).await;
    idle.query("SELECT 1").await;
    idle.write(&common::frontend::extended("SELECT 2", &[])).await;
    idle.read_until_ready().await;
    let mut active = pooler.raw_as("weir_md5", "weir").await;
    active.query("BEGIN").await;
    let mut waiting = pooler.raw_as("weir_md5", "weir").await;
    waiting.write(&common::frontend::query("SELECT 3")).await;
    let mut forced = pooler.raw_as("weir", "forced").await;
    forced.query("SELECT 4").await;
    pooler.refusal("weir", &[("user", "nobody")]).await;
    clients.extend([idle, active, waiting, forced]);
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while !pooler.console("SHOW POOLS").await.iter().any(|row| row[3].as_deref() == Some("1")) {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits");
    }
    clients
}

/// Would break with: a console that the exporter cannot log in to or read; a name, a label or a value that differs
/// between what it makes of the console and `/metrics`.
#[tokio::test]
async fn the_community_exporter_says_what_metrics_says() {
    let Some(program) = program("community") else { return };
    let metrics = free_port();
    let pooler = pooler(metrics).start();
    let _clients = little_load(&pooler).await;
    let port = free_port();
    let console = format!("postgres://stats:stats@127.0.0.1:{}/pgbouncer?sslmode=disable", pooler.port());
    let _exporter = Exporter::start(
        Command::new(program)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--pgBouncer.connectionString={console}")),
    );
    scrape(port).await; // it may say "down" while it starts
    let theirs = scrape(port).await;
    let ours = scrape(metrics).await;
    assert_eq!(theirs.get("pgbouncer_up"), Some(&1.0), "{theirs:?}");
    assert!(theirs.keys().filter(|name| name.starts_with("pgbouncer_")).count() > 100, "{theirs:?}");
    let (mut compared, mut wrong) = (0, Vec::new());
    for (sample, value) in theirs.iter().filter(|(sample, _)| sample.starts_with("pgbouncer_")) {
        if sample.starts_with("pgbouncer_exporter") || is_about_the_scrape(sample) {
            continue;
        }
        compared += 1;
        match ours.get(sample) {
            None => wrong.push(format!("missing: {sample} {value}")),
            // How long somebody has waited by now differs between two looks.
            Some(_) if sample.starts_with("pgbouncer_pools_client_maxwait_seconds") => {}
            Some(own) if (own - value).abs() > 1e-9 => {
                wrong.push(format!("{sample}: {value}, and we say {own}"))
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared > 80, "{compared} of {theirs:?}");
    // The manual of the exporter and older dashboards have another spelling of the same.
    for (sample, value) in &ours {
        if let Some(rest) = sample.strip_prefix("pgbouncer_stats_totals_") {
            assert_eq!(ours.get(&format!("pgbouncer_stats_{rest}")), Some(value), "{sample}");
        }
    }
    assert_eq!(ours["pgbouncer_errors_count{errmsg=\"password authentication failed\"}"], 1.0);
}

/// Would break with: another number of columns in a view, by which this exporter chooses its queries.
#[tokio::test]
async fn the_exporter_that_counts_columns_can_read_the_console() {
    let Some(program) = program("pigsty") else { return };
    let pooler = pooler(free_port()).start();
    let _clients = little_load(&pooler).await;
    let port = free_port();
    let folder = Path::new(&program).parent().unwrap().join("root/etc/pg_exporter/pg_exporter.yml");
    let console = format!("postgres://stats:stats@127.0.0.1:{}/pgbouncer?sslmode=disable", pooler.port());
    let _exporter = Exporter::start(
        Command::new(&program)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--url={console}"))
            .arg(format!("--config={}", folder.display()))
            .arg("--auto-discovery=false"),
    );
    let page = scrape(port).await;
    assert_eq!(page.get("pgbouncer_up"), Some(&1.0), "{page:#?}");
    assert_eq!(page.get("pgbouncer_exporter_scrape_error_count"), Some(&0.0), "{page:#?}");
    for (name, value) in [
        ("pgbouncer_pool_waiting_clients", 1.0),
        ("pgbouncer_pool_active_servers", 1.0),
        ("pgbouncer_pool_active_clients", 1.0),
    ] {
        let is_it =
            |key: &str| key.starts_with(name) && key.contains("=\"weir\"") && key.contains("=\"weir_md5\"");
        let found = page.iter().find(|(key, _)| is_it(key)).map(|(_, value)| *value);
        assert_eq!(found, Some(value), "{name} in {page:#?}");
    }
    for group in ["pgbouncer_list_", "pgbouncer_database_", "pgbouncer_stat_"] {
        assert!(page.keys().any(|name| name.starts_with(group)), "nothing of {group}: {page:#?}");
    }
}

/// What the panels and the alerts of the field ask for, by the names that stand in their queries.
const ASKED_FOR: &[&str] = &[
    "pgbouncer_up",
    "pgbouncer_version_info",
    "pgbouncer_client_connections",
    "pgbouncer_config_max_client_connections",
    "pgbouncer_config_max_user_connections",
    "pgbouncer_databases",
    "pgbouncer_users",
    "pgbouncer_pools",
    "pgbouncer_free_clients",
    "pgbouncer_used_clients",
    "pgbouncer_login_clients",
    "pgbouncer_free_servers",
    "pgbouncer_used_servers",
    "pgbouncer_cached_dns_names",
    "pgbouncer_cached_dns_zones",
    "pgbouncer_in_flight_dns_queries",
    "pgbouncer_databases_pool_size",
    "pgbouncer_databases_reserve_pool",
    "pgbouncer_databases_max_connections",
    "pgbouncer_databases_current_connections",
    "pgbouncer_databases_paused",
    "pgbouncer_databases_disabled",
    "pgbouncer_pools_client_active_connections",
    "pgbouncer_pools_client_waiting_connections",
    "pgbouncer_pools_client_active_cancel_connections",
    "pgbouncer_pools_client_waiting_cancel_connections",
    "pgbouncer_pools_server_active_connections",
    "pgbouncer_pools_server_active_cancel_connections",
    "pgbouncer_pools_server_being_canceled_connections",
    "pgbouncer_pools_server_idle_connections",
    "pgbouncer_pools_server_used_connections",
    "pgbouncer_pools_server_testing_connections",
    "pgbouncer_pools_server_login_connections",
    "pgbouncer_pools_client_maxwait_seconds",
    "pgbouncer_stats_queries_pooled_total",
    "pgbouncer_stats_queries_total",
    "pgbouncer_stats_queries_duration_seconds_total",
    "pgbouncer_stats_received_bytes_total",
    "pgbouncer_stats_sent_bytes_total",
    "pgbouncer_stats_client_wait_seconds_total",
    "pgbouncer_stats_sql_transactions_pooled_total",
    "pgbouncer_stats_server_in_transaction_seconds_total",
    "pgbouncer_stats_totals_client_parses_total",
    "pgbouncer_stats_totals_server_parses_total",
    "pgbouncer_stats_totals_binds_total",
    "pgbouncer_stats_totals_server_assignments_total",
    "pgbouncer_stats_totals_queries_total",
    "pgbouncer_errors_count",
];

/// Samples with labels that the rules ask for.
const ASKED_FOR_WITH_LABELS: &[&str] = &[
    "pgbouncer_errors_count{errmsg=\"server conn crashed?\"}",
    "pgbouncer_errors_count{errmsg=\"no more connections allowed (max_client_conn)\"}",
    "pgbouncer_errors_count{errmsg=\"query_wait_timeout\"}",
    "pgbouncer_pools_server_active_connections{database=\"weir\",user=\"weir_md5\"}",
    "pgbouncer_stats_queries_pooled_total{database=\"weir\"}",
    "pgbouncer_stats_totals_queries_pooled_total{database=\"pgbouncer\"}",
    "pgbouncer_client_connections{application_name=\"held\",database=\"weir\",state=\"idle\",user=\"weir\"}",
    "pgbouncer_client_connections{application_name=\"\",database=\"weir\",state=\"waiting\",user=\"weir_md5\"}",
];

/// Would break with: a panel or an alert that finds no data.
#[tokio::test]
async fn every_query_of_the_dashboards_finds_data() {
    let metrics = free_port();
    let pooler = pooler(metrics).start();
    let _clients = little_load(&pooler).await;
    let page = scrape(metrics).await;
    for name in ASKED_FOR {
        let has = |sample: &String| sample == name || sample.starts_with(&format!("{name}{{"));
        assert!(page.keys().any(has), "no data: {name}");
    }
    for sample in ASKED_FOR_WITH_LABELS {
        assert!(page.contains_key(*sample), "no data: {sample} in {page:#?}");
    }
}

/// Would break with: a label for each name that a client invents.
#[tokio::test]
async fn names_that_clients_invent_do_not_become_labels_without_end() {
    let metrics = free_port();
    let pooler = pooler(metrics).setting("max_client_conn", 300).start();
    let mut clients = Vec::new();
    for number in 0..120 {
        let name = format!("invented {number}");
        clients.push(pooler.raw_with("weir", &[("application_name", &name)]).await);
    }
    let page = scrape(metrics).await;
    let invented = page.keys().filter(|sample| sample.contains("invented")).count();
    let others = "pgbouncer_client_connections{application_name=\"(others)\",database=\"weir\",state=\"idle\",user=\"weir\"}";
    assert_eq!((invented, page.get(others)), (100, Some(&20.0)), "{page:#?}");
}
