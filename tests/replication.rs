//! Replication connections: each client has a server of its own, and nothing of it is ever pooled.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::look::{error_of, seen};
use common::{FakeServer, Opening, Pgweir, PgweirBuilder, Postgres, Raw, Rival, frontend, until};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cluster that can be replicated, for all tests of this program.
fn postgres() -> &'static Postgres {
    static SHARED: LazyLock<Postgres> = LazyLock::new(|| {
        Postgres::builder()
            .setting("wal_level", "logical")
            .setting("max_wal_senders", "20")
            .setting("max_replication_slots", "20")
            .setting("wal_sender_timeout", "5s")
            .hba("local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n")
            .start()
    });
    &SHARED
}

fn builder() -> PgweirBuilder {
    Pgweir::builder(postgres())
}

/// A name of a slot, a folder or a table that no other test has.
fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A place that PostgreSQL's programs may write to.
fn folder() -> PathBuf {
    postgres().socket_folder().join(unique("folder"))
}

/// One of PostgreSQL's programs, as the superuser through the pooler.
fn program(pooler: &Pgweir, name: &str, arguments: &[&str]) -> Command {
    let mut command = postgres().program(name);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-w", "-p", &pooler.port().to_string()]);
    command.args(arguments).env("PGPASSWORD", "postgres").stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A program in the background; killed when dropped, as by kill -9.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        self.0.wait().unwrap();
    }
}

async fn walsenders(application: &str, count: i64) {
    let look = "SELECT ((SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' \
                AND application_name = $1) = $2)::int::int8";
    seen(postgres(), look, &[&application, &count]).await;
}

/// A replication client of the superuser.
async fn try_replicate(pooler: &Pgweir, user: &str, more: &[(&str, &str)]) -> Result<Raw, common::Message> {
    let mut raw = Raw::open(pooler.port()).await;
    let parameters = [&[("user", user), ("database", "weir")], more].concat();
    raw.try_start(&parameters, common::postgres::password_of(user)).await.map(|()| raw)
}

async fn logical(pooler: &Pgweir) -> Raw {
    try_replicate(pooler, "postgres", &[("replication", "database")]).await.unwrap()
}

fn tags(answer: &[common::Message]) -> String {
    common::raw::tags(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_basebackup_with_traffic_beside() {
    let pooler = builder().start();
    let rival = Rival::start(&pooler, 4).await;
    let target = folder();
    let path = target.display().to_string();
    let backup = program(&pooler, "pg_basebackup", &["-D", &path, "-X", "stream", "-c", "fast"]);
    tokio::task::spawn_blocking(|| run(backup)).await.unwrap();
    assert!(target.join("backup_label").exists() && target.join("global/pg_control").exists());
    let manifest = postgres().program("pg_verifybackup").arg(&target).output().unwrap();
    assert!(manifest.status.success(), "{}", String::from_utf8_lossy(&manifest.stderr));
    assert!(rival.stop().await > 0);
    walsenders("pg_basebackup", 0).await;
    let servers = pooler.console("SHOW SERVERS").await;
    assert!(servers.iter().all(|row| row[3].as_deref() == Some("none")), "{servers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_receivewal_streams_until_it_is_killed() {
    let pooler = builder().start();
    let target = folder();
    std::fs::create_dir(&target).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&target, permissions).unwrap();
    let path = target.display().to_string();
    let receiver = Running::start(program(&pooler, "pg_receivewal", &["-D", &path, "--no-loop", "-s", "1"]));
    walsenders("pg_receivewal", 1).await;
    let rows = pooler.console("SHOW CLIENTS").await;
    let client = rows.iter().find(|row| row[3].as_deref() == Some("physical")).unwrap();
    assert_eq!((client[4].as_deref(), client[18].as_deref()), (Some("active"), Some("pg_receivewal")));
    postgres().execute("CREATE TABLE received AS SELECT generate_series(1, 10000) AS i").await;
    postgres().execute("SELECT pg_switch_wal()").await;
    let is_segment = |entry: std::fs::DirEntry| !entry.file_name().to_string_lossy().ends_with(".partial");
    until("finished segment of WAL", || std::fs::read_dir(&target).unwrap().flatten().any(is_segment)).await;
    // Both ends are there for as long as both are: feedback flows, or PostgreSQL would have ended it after 5 s.
    drop(receiver);
    walsenders("pg_receivewal", 0).await;
    until_no_replication(&pooler).await;
}

async fn until_no_replication(pooler: &Pgweir) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let rows = [pooler.console("SHOW SERVERS").await, pooler.console("SHOW CLIENTS").await].concat();
        if rows.iter().all(|row| row[3].as_deref() == Some("none")) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_recvlogical_decodes_and_outlives_keepalives() {
    let pooler = builder().start();
    let (slot, table) = (unique("slot"), unique("decoded"));
    postgres().execute(&format!("CREATE TABLE {table} (t text)")).await;
    let base = ["-d", "weir", "-S", &slot];
    run(program(&pooler, "pg_recvlogical", &[&base[..], &["--create-slot", "-P", "test_decoding"]].concat()));
    let file = postgres().socket_folder().join(unique("changes"));
    let path = file.display().to_string();
    let start = [&base[..], &["--start", "--no-loop", "-s", "1", "-F", "1", "-f", &path]].concat();
    let receiver = Running::start(program(&pooler, "pg_recvlogical", &start));
    walsenders("pg_recvlogical", 1).await;
    for turn in 0..3 {
        let mark = format!("mark {turn}");
        postgres().execute(&format!("INSERT INTO {table} VALUES ('{mark}')")).await;
        until("decoded change", || std::fs::read_to_string(&file).unwrap_or_default().contains(&mark)).await;
        // Longer than half of wal_sender_timeout, when PostgreSQL asks for a sign of life.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    }
    walsenders("pg_recvlogical", 1).await;
    drop(receiver);
    walsenders("pg_recvlogical", 0).await;
    run(program(&pooler, "pg_recvlogical", &[&base[..], &["--drop-slot"]].concat()));
}

/// The walsender is killed while it streams: the client hears what PostgreSQL said, and its end.
#[tokio::test]
async fn the_end_of_the_server_is_the_end_of_the_client() {
    let pooler = builder().start();
    let mut raw = logical(&pooler).await;
    let process = raw.server().await;
    let slot = unique("slot");
    raw.query(&format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL test_decoding")).await;
    raw.write(&frontend::query(&format!("START_REPLICATION SLOT {slot} LOGICAL 0/0"))).await;
    raw.read_until(b'W').await;
    let looker = postgres().connect("postgres", "weir").await;
    looker.execute(&format!("SELECT pg_terminate_backend({process})"), &[]).await.unwrap();
    assert_eq!(raw.last_words().await.field('C'), "57P01");
    until_no_replication(&pooler).await;
}

#[tokio::test]
async fn a_walsender_speaks_for_itself() {
    let pooler = builder().start();
    let mut raw = logical(&pooler).await;
    let answer = raw.query("IDENTIFY_SYSTEM").await;
    assert_eq!(tags(&answer), "T D C Z");
    assert_eq!(answer[1].columns()[3].as_deref(), Some("weir"));
    assert_eq!(raw.value("SELECT 'plain SQL'").await.as_deref(), Some("plain SQL"));
    let (process, statistics) = (raw.server().await, raw.query("SHOW wal_level").await);
    assert_eq!(statistics[1].columns()[0].as_deref(), Some("logical"));
    // The extended protocol is the server's to refuse, and the session goes on.
    raw.write(&frontend::extended("SELECT 1", &[])).await;
    let refused = raw.read_until_ready().await;
    assert!(error_of(&refused).field('M').contains("extended query protocol not supported"), "{refused:?}");
    // The same server all the time, also behind transactions.
    raw.query("BEGIN; COMMIT").await;
    assert_eq!(raw.server().await, process);
    let rows = pooler.console("SHOW SERVERS").await;
    let server = rows.iter().find(|row| row[16].as_deref() == Some(process.as_str())).unwrap();
    assert_eq!((server[3].as_deref(), server[4].as_deref()), (Some("logical"), Some("active")));
    let clients = pooler.console("SHOW CLIENTS").await;
    let client = clients.iter().find(|row| row[3].as_deref() == Some("logical")).unwrap();
    assert_eq!((&client[15], &server[15]), (&server[14], &client[14]));
    let stats = pooler.console("SHOW STATS_TOTALS").await;
    let weir = stats.iter().find(|row| row[0].as_deref() == Some("weir")).unwrap();
    // IDENTIFY_SYSTEM, three of plain SQL, SHOW, the one that was refused, and BEGIN; COMMIT.
    assert_eq!((weir[2].as_deref(), weir[3].as_deref()), (Some("7"), Some("7")));
    let pools = pooler.console("SHOW POOLS").await;
    let pool = pools.iter().find(|row| row[1].as_deref() == Some("postgres")).unwrap();
    assert_eq!(
        (pool[2].as_deref(), pool[6].as_deref(), pool[9].as_deref()),
        (Some("1"), Some("1"), Some("0"))
    );
    // Its server goes with it: whoever comes next has another.
    raw.terminate().await;
    until_no_replication(&pooler).await;
    let mut next = Raw::login(pooler.port(), "postgres", "postgres", "weir").await;
    assert_ne!(next.server().await, process);
    let syntax = next.query("IDENTIFY_SYSTEM").await;
    assert_eq!(error_of(&syntax).field('C'), "42601", "{syntax:?}");
}

#[tokio::test]
async fn startup_parameters_reach_the_walsender_and_nobody_else() {
    let pooler = builder().setting("ignore_startup_parameters", "work_mem").database(
        "weir",
        &format!(
            "host=127.0.0.1 port={} dbname=weir timezone=Asia/Tokyo datestyle=German",
            postgres().port()
        ),
    );
    let pooler = pooler.start();
    let more = [
        ("replication", "database"),
        ("application_name", "walls"),
        ("TimeZone", "Europe/Berlin"),
        ("options", "-c statement_timeout=7s -c work_mem=1MB"),
    ];
    let mut raw = try_replicate(&pooler, "postgres", &more).await.unwrap();
    assert_eq!(raw.parameters["application_name"], "walls");
    assert_eq!(raw.parameters["TimeZone"], "Europe/Berlin");
    let shown =
        raw.show(&["application_name", "TimeZone", "DateStyle", "statement_timeout", "work_mem"]).await;
    assert_eq!(shown, ["walls", "Europe/Berlin", "German, DMY", "7s", "4MB"]);
    let mut plain = Raw::login(pooler.port(), "postgres", "postgres", "weir").await;
    assert_eq!(plain.show(&["TimeZone", "statement_timeout"]).await, ["Asia/Tokyo", "0"]);
}

#[tokio::test]
async fn values_of_the_parameter_mean_what_postgresql_says() {
    let pooler = builder().start();
    for yes in ["true", "on", "1", "yes"] {
        let mut raw = try_replicate(&pooler, "postgres", &[("replication", yes)]).await.unwrap();
        assert_eq!(tags(&raw.query("IDENTIFY_SYSTEM").await), "T D C Z", "{yes}");
        let refused = raw.query("SELECT 1").await;
        assert!(error_of(&refused).field('M').contains("physical replication"), "{refused:?}");
    }
    for no in ["false", "off", "0", "no"] {
        let mut raw = try_replicate(&pooler, "postgres", &[("replication", no)]).await.unwrap();
        assert_eq!(error_of(&raw.query("IDENTIFY_SYSTEM").await).field('C'), "42601", "{no}");
    }
    let refused = try_replicate(&pooler, "postgres", &[("replication", "DATABASE")]).await.unwrap_err();
    assert_eq!(refused.field('C'), "22023");
    assert_eq!(refused.field('M'), "invalid value for parameter \"replication\": \"DATABASE\"");
}

/// What PostgreSQL says of such a login reaches the client, and is no failure of the pool.
#[tokio::test]
async fn a_role_that_may_not_replicate_hears_it_from_postgresql() {
    let pooler = builder().start();
    let mut plain = pooler.raw().await;
    plain.query("SELECT 1").await;
    let refused = try_replicate(&pooler, "weir", &[("replication", "database")]).await.unwrap_err();
    assert_eq!((refused.field('S').as_str(), refused.field('C').as_str()), ("FATAL", "42501"));
    assert_eq!(plain.value("SELECT 'on'").await.as_deref(), Some("on"));
    let mut other = pooler.raw().await;
    assert_eq!(other.value("SELECT 'on'").await.as_deref(), Some("on"));
    until_no_replication(&pooler).await;
    let pools = pooler.console("SHOW POOLS").await;
    assert_eq!(pools.iter().find(|row| row[1].as_deref() == Some("weir")).unwrap()[12].as_deref(), Some("0"));
}

/// An idle server makes room, one in use does not, and who waits is served when one comes back.
#[tokio::test]
async fn replication_counts_under_the_limits() {
    for limit in ["default_pool_size", "max_db_connections", "max_user_connections"] {
        let pooler = builder().setting("default_pool_size", 5).setting(limit, 1).start();
        let mut plain = Raw::login(pooler.port(), "postgres", "postgres", "weir").await;
        let idle = plain.server().await;
        let first = logical(&pooler).await;
        let servers = pooler.console("SHOW SERVERS").await;
        assert_eq!((servers.len(), servers[0][3].as_deref()), (1, Some("logical")), "{limit}");
        assert_ne!(servers[0][16], Some(idle));
        let setting = limit.trim_start_matches("default_");
        assert!(pooler.log().contains(&format!("evicted for {setting}")), "{}", pooler.log());
        // The plain client waits now, and so does a second one for replication.
        plain.write(&frontend::query("SELECT 'late'")).await;
        let port = pooler.port();
        let second = tokio::spawn(async move {
            let mut raw = Raw::open(port).await;
            let parameters = [("user", "postgres"), ("database", "weir"), ("replication", "database")];
            raw.start(&parameters, "postgres").await;
            raw
        });
        assert!(plain.is_silent_for(std::time::Duration::from_millis(300)).await && !second.is_finished());
        first.terminate().await;
        // Whoever comes first, both are served.
        let second = second.await.unwrap();
        second.terminate().await;
        assert_eq!(plain.read_until_ready().await[1].columns()[0].as_deref(), Some("late"));
    }
}

/// A client that works all the time does not keep one for replication out.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pool_makes_room_for_replication() {
    let pooler = builder().pool_size(2).start();
    let rival = Rival::start(&pooler, 6).await;
    // It has its place when PostgreSQL hears of it, which refuses this role.
    let refused = try_replicate(&pooler, "weir", &[("replication", "database")]).await.unwrap_err();
    assert_eq!(refused.field('C'), "42501");
    assert!(rival.stop().await > 0);
}

#[tokio::test]
async fn a_wait_for_a_place_has_its_limit() {
    let pooler = builder().pool_size(1).setting("query_wait_timeout", 1).start();
    let _first = logical(&pooler).await;
    let refused = try_replicate(&pooler, "postgres", &[("replication", "database")]).await.unwrap_err();
    assert_eq!(refused.field('M'), "query_wait_timeout");
    // Nothing is left of the wait: the place is to be had again.
    drop(_first);
    common::look::try_until(&pooler, "weir", Result::is_ok).await.unwrap();
    let _second = logical(&pooler).await;
}

/// Would break with: a client that is gone and still waits for a place, for which the next free server is closed.
#[tokio::test]
async fn a_client_that_gives_up_waiting_leaves_no_claim() {
    let pooler = builder().pool_size(1).start();
    let mut plain = Raw::login(pooler.port(), "postgres", "postgres", "weir").await;
    let before = plain.server().await;
    plain.query("BEGIN").await;
    let mut raw = Raw::open(pooler.port()).await;
    let parameters = [("user", "postgres"), ("database", "weir"), ("replication", "database")];
    let waiting = tokio::spawn(async move { raw.try_start(&parameters, "postgres").await.is_ok() });
    pooler.logged("replication=yes").await;
    waiting.abort();
    pooler.logged("client unexpected eof").await;
    plain.query("COMMIT").await;
    assert_eq!(plain.server().await, before);
}

/// A server that leaves logins for replication without an answer, and serves all others.
async fn slow_for_replication() -> FakeServer {
    FakeServer::start(|mut connection, _| async move {
        loop {
            match connection.opening().await {
                Opening::Ssl | Opening::Gss => connection.write(b"N").await,
                Opening::Startup(asked) if asked.contains_key("replication") => {
                    return connection.drain().await;
                }
                Opening::Startup(_) => break,
                Opening::Cancel(_) | Opening::End => return,
            }
        }
        connection.write(&common::fake::welcome()).await;
        connection.serve().await;
    })
    .await
}

fn before(server: &FakeServer) -> PgweirBuilder {
    let entry = format!("host=127.0.0.1 port={} dbname=weir", server.port());
    Pgweir::builder(Postgres::shared()).database("weir", &entry).setting("server_connect_timeout", 600)
}

/// Would break with: a login for replication that counts as one that serves the line.
#[tokio::test]
async fn nobody_waits_for_the_login_of_a_replication_client() {
    let server = slow_for_replication().await;
    let pooler = before(&server).start();
    let mut replicating = Raw::open(pooler.port()).await;
    let parameters = [("user", "weir"), ("database", "weir"), ("replication", "database")];
    let replicating = tokio::spawn(async move { replicating.try_start(&parameters, "weir").await.is_ok() });
    server.has_accepted(1).await;
    let mut plain = pooler.raw().await;
    plain.query("SELECT 1").await;
    assert!(!replicating.is_finished());
    replicating.abort();
}

#[tokio::test]
async fn orders_and_cancels_reach_replication_clients() {
    let mut pooler = builder().start();
    let mut raw = logical(&pooler).await;
    raw.write(&frontend::query("SELECT pg_sleep(600), 'walsender'")).await;
    let look = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%walsender%' \
                AND backend_type = 'walsender'";
    seen(postgres(), look, &[]).await;
    common::raw::cancel(pooler.port(), &raw.key.clone()).await;
    assert_eq!(error_of(&raw.read_until_ready().await).field('C'), "57014");
    let clients = pooler.console("SHOW CLIENTS").await;
    let id = clients.iter().find(|row| row[3].as_deref() == Some("logical")).unwrap()[20].clone().unwrap();
    pooler.console(&format!("KILL_CLIENT {id}")).await;
    assert_eq!(raw.last_words().await.field('C'), "57P01");
    // SIGINT waits for transactions; a stream has no end to wait for.
    let mut raw = logical(&pooler).await;
    pooler.signal("INT");
    assert_eq!(raw.last_words().await.field('C'), "57P01");
    assert!(pooler.ended().await.success());
}

/// A subscription of PostgreSQL's own, whose publisher is behind the pooler.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_replicates_through_the_pooler() {
    let postgres = postgres();
    let (publisher, subscriber) = (postgres.fresh_database().await, postgres.fresh_database().await);
    let pooler = builder().start();
    let (source, target) =
        (postgres.connect("postgres", &publisher).await, postgres.connect("postgres", &subscriber).await);
    source.batch_execute("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await.unwrap();
    source.batch_execute("CREATE PUBLICATION p FOR TABLE t").await.unwrap();
    target.batch_execute("CREATE TABLE t (i int PRIMARY KEY)").await.unwrap();
    // In one and the same cluster the slot has to be made beforehand.
    let slot = unique("slot");
    source.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await.unwrap();
    let port = pooler.port();
    let subscription = format!(
        "CREATE SUBSCRIPTION s CONNECTION \
         'host=127.0.0.1 port={port} user=postgres password=postgres dbname={publisher}' \
         PUBLICATION p WITH (create_slot = false, slot_name = {slot})"
    );
    target.batch_execute(&subscription).await.unwrap();
    source.batch_execute("INSERT INTO t SELECT generate_series(3, 1000)").await.unwrap();
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let count: i64 = target.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
        if count == 1000 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{count} rows have come");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let clients = pooler.console("SHOW CLIENTS").await;
    assert!(clients.iter().any(|row| row[3].as_deref() == Some("logical")), "{clients:?}");
    target.batch_execute("ALTER SUBSCRIPTION s DISABLE").await.unwrap();
    until_no_replication(&pooler).await;
    target.batch_execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)").await.unwrap();
    target.batch_execute("DROP SUBSCRIPTION s").await.unwrap();
}

/// As in PostgreSQL: the word `replication` of a rule means a stream of WAL, and nothing else does.
#[tokio::test]
async fn rules_tell_a_stream_of_wal_from_a_database() {
    let rules = |word: &str| format!("host {word} postgres 127.0.0.1/32 trust\n");
    for (word, physical, logical) in [("all", false, true), ("replication", true, false)] {
        let pooler = builder()
            .setting("auth_type", "hba")
            .setting("auth_hba_file", "{dir}/hba.conf")
            .file("hba.conf", &rules(word))
            .start();
        for (kind, let_in) in [("true", physical), ("database", logical)] {
            let tried = try_replicate(&pooler, "postgres", &[("replication", kind)]).await;
            let refusal = tried.err().map(|error| error.field('M'));
            let expected = (!let_in).then(|| "no authentication method is found".to_owned());
            assert_eq!(refusal, expected, "{word}, {kind}");
        }
    }
}

/// Who logs in, and where, is said outside of `options`: PostgreSQL would take the last of several.
#[tokio::test]
async fn options_change_neither_the_user_nor_the_database() {
    let pooler = builder().start();
    for (options, name) in [
        ("-c user=weir", "user"),
        ("-c database=postgres", "database"),
        ("--Replication=true", "Replication"),
    ] {
        for replication in ["database", "off"] {
            let more = [("replication", replication), ("options", options)];
            let refused = try_replicate(&pooler, "postgres", &more).await.unwrap_err();
            let text = format!("unrecognized configuration parameter \"{name}\"");
            assert_eq!((refused.field('C'), refused.field('M')), ("42704".to_owned(), text));
        }
    }
}
