//! PAUSE, RESUME, KILL, DISABLE, RECONNECT and WAIT_CLOSE: what the console answers, and when; what clients notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::time::Duration;

use common::look::{connections_become, try_login};
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, Rival, frontend, until};

const MOMENT: Duration = Duration::from_millis(150);

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

fn entry(database: &str, more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname={database} {more}", Postgres::shared().port())
}

/// Somebody on the console.
async fn admin(pooler: &Pgweir) -> Raw {
    Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await
}

/// What the console says to a command: its tag, or the error's code and text.
async fn say(admin: &mut Raw, command: &str) -> String {
    said(&admin.query(command).await)
}

fn said(answer: &[Message]) -> String {
    let told = answer.iter().find_map(|message| match message.tag {
        b'E' => Some(format!("{} {}", message.field('C'), message.field('M'))),
        b'C' => Some(String::from_utf8_lossy(message.body.strip_suffix(b"\0").unwrap()).into_owned()),
        _ => None,
    });
    told.unwrap_or_else(|| panic!("neither an error nor an end: {answer:?}"))
}

/// Whether a database is paused and disabled, as `SHOW DATABASES` has it.
async fn columns(pooler: &Pgweir, database: &str) -> (String, String) {
    let rows = pooler.console("SHOW DATABASES").await;
    let row = rows.iter().find(|row| row[0].as_deref() == Some(database)).unwrap();
    (row[15].clone().unwrap(), row[16].clone().unwrap())
}

async fn state(pooler: &Pgweir) -> String {
    let rows = pooler.console("SHOW STATE").await;
    rows.iter().map(|row| format!("{}={};", row[0].as_deref().unwrap(), row[1].as_deref().unwrap())).collect()
}

/// Every odd order, with the answers of PgBouncer 1.26.1. Would break with: another text, another code, a state that is
/// kept or lost, or a pause of one database that a pause of all overwrites.
#[tokio::test]
async fn every_order_is_answered_as_pgbouncer_does() {
    let pooler = pooler().database("other", &entry("weir", "")).start();
    let mut admin = admin(&pooler).await;
    let script = [
        ("RESUME", "08P01 pooler is not paused"),
        ("RESUME weir", "08P01 database weir is not paused"),
        ("PAUSE pgbouncer", "08P01 cannot pause admin db: pgbouncer"),
        ("RESUME pgbouncer", "08P01 database pgbouncer is not paused"),
        ("KILL pgbouncer", "08P01 cannot kill admin db: pgbouncer"),
        ("DISABLE pgbouncer", "08P01 cannot disable admin db: pgbouncer"),
        ("ENABLE pgbouncer", "08P01 cannot enable admin db: pgbouncer"),
        ("RECONNECT pgbouncer", "08P01 cannot reconnect admin db: pgbouncer"),
        ("WAIT_CLOSE pgbouncer", "08P01 cannot wait in admin db: pgbouncer"),
        ("DISABLE", "08P01 a database is required"),
        ("ENABLE", "08P01 a database is required"),
        ("PAUSE", "PAUSE"),
        ("PAUSE", "08P01 already paused"),
        ("PAUSE weir", "08P01 already paused"),
        ("KILL", "08P01 already paused"),
        ("KILL weir", "08P01 already paused"),
        ("RESUME weir", "08P01 database weir is not paused"),
        ("RESUME", "RESUME"),
        ("PAUSE weir", "PAUSE"),
        ("pause \"weir\";", "PAUSE"),
        ("PAUSE", "PAUSE"),
        ("RESUME", "RESUME"),
        ("RESUME", "08P01 pooler is not paused"),
        ("RESUME weir", "RESUME"),
        ("KILL weir", "KILL"),
        ("KILL weir", "KILL"),
        ("RESUME", "08P01 pooler is not paused"),
        ("RESUME weir", "RESUME"),
        ("DISABLE weir", "DISABLE"),
        ("DISABLE weir", "DISABLE"),
        ("ENABLE weir", "ENABLE"),
        ("ENABLE weir", "ENABLE"),
        ("RECONNECT", "RECONNECT"),
        ("RECONNECT weir", "RECONNECT"),
        ("WAIT_CLOSE", "WAIT_CLOSE"),
        ("WAIT_CLOSE weir", "WAIT_CLOSE"),
        // `*` serves any name.
        ("PAUSE any_name", "PAUSE"),
        ("RESUME any_name", "RESUME"),
        ("PAUSE a b", "08P01 invalid command 'PAUSE a b', use SHOW HELP;"),
        ("SUSPEND", "SUSPEND"),
    ];
    for (number, (command, answer)) in script.into_iter().enumerate() {
        assert_eq!(say(&mut admin, command).await, answer, "{number}: {command}");
    }
}

/// Would break with: names that no entry serves and that are taken for databases.
#[tokio::test]
async fn an_unknown_database_is_refused() {
    let text = "[databases]\nweir = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n\
                auth_type = any\nadmin_users = admin\n";
    let pooler = Pgweir::start_text("pgbouncer.ini", |port, _| {
        format!("{}listen_port = {port}\n", text.replace("port=1", "port=1 user=weir"))
    });
    let mut admin = Raw::login(pooler.port(), "admin", "", "pgbouncer").await;
    for command in ["PAUSE", "RESUME", "KILL", "DISABLE", "ENABLE", "RECONNECT", "WAIT_CLOSE"] {
        let answer = say(&mut admin, &format!("{command} nope")).await;
        assert_eq!(answer, "08P01 no such database: nope", "{command}");
    }
}

/// Would break with: a PAUSE that answers while a transaction runs, that lets a query through, or that keeps servers; with
/// columns that do not show it; with clients who notice more than that they wait.
#[tokio::test]
async fn a_pause_ends_when_the_last_transaction_does_and_then_no_server_is_left() {
    let postgres = Postgres::shared();
    for target in ["", " paused"] {
        let database = postgres.fresh_database().await;
        let pooler = pooler().database("paused", &entry(&database, "min_pool_size=1")).start();
        let mut inside = pooler.raw_as("weir", "paused").await;
        inside.query("BEGIN").await;
        let mut outside = pooler.raw_as("weir", "paused").await;
        outside.query("SELECT 1").await;
        let mut admin = admin(&pooler).await;
        admin.write(&frontend::query(&format!("PAUSE{target}"))).await;
        assert!(admin.is_silent_for(MOMENT).await);
        let by_itself = if target.is_empty() { "0" } else { "1" };
        assert_eq!(columns(&pooler, "paused").await, (by_itself.to_owned(), "0".to_owned()));
        let all = if target.is_empty() { "active=no;paused=yes;" } else { "active=yes;paused=no;" };
        assert_eq!(state(&pooler).await, all);
        // The transaction goes on, nobody else begins one, and who logs in is let in.
        inside.query("SELECT 1").await;
        outside.write(&frontend::query("SELECT 2")).await;
        let mut late = pooler.raw_as("weir", "paused").await;
        late.write(&frontend::query("SELECT 3")).await;
        assert!(outside.is_silent_for(MOMENT).await && late.is_silent_for(MOMENT).await);
        inside.query("COMMIT").await;
        assert_eq!(said(&admin.read_until_ready().await), "PAUSE");
        assert_eq!(postgres.connections(&database).await, 0);
        assert!(outside.is_silent_for(MOMENT).await && late.is_silent_for(MOMENT).await);
        assert_eq!(postgres.connections(&database).await, 0, "something is dialled while it is paused");
        assert_eq!(say(&mut admin, &format!("RESUME{target}")).await, "RESUME");
        outside.expect("T D C Z").await;
        late.expect("T D C Z").await;
        assert_eq!(columns(&pooler, "paused").await.0, "0");
    }
}

/// Would break with: a pause of one database that holds up another, or one that a pool made later does not know of.
#[tokio::test]
async fn a_pause_of_one_database_is_of_all_its_users_and_of_no_other() {
    let pooler = pooler().database("other", &entry("weir", "")).start();
    let mut admin = admin(&pooler).await;
    assert_eq!(say(&mut admin, "PAUSE weir").await, "PAUSE");
    pooler.raw_as("weir", "other").await.query("SELECT 1").await;
    // No server has told yet what it is like, so this one waits with its login.
    let mut waiting = Raw::open(pooler.port()).await;
    let login = waiting.try_start(&[("user", "weir_md5"), ("database", "weir")], "weir_md5");
    let mut login = std::pin::pin!(login);
    assert!(tokio::time::timeout(MOMENT, &mut login).await.is_err());
    assert_eq!(say(&mut admin, "RESUME weir").await, "RESUME");
    login.await.unwrap();
}

/// Would break with: a PAUSE that hangs when it is undone, or that answers as if it were done.
#[tokio::test]
async fn a_pause_that_is_undone_says_so_and_nothing_is_paused() {
    for target in ["", " weir"] {
        let pooler = pooler().start();
        let mut inside = pooler.raw().await;
        inside.query("BEGIN").await;
        let (mut one, mut two) = (admin(&pooler).await, admin(&pooler).await);
        one.write(&frontend::query(&format!("PAUSE{target}"))).await;
        assert!(one.is_silent_for(MOMENT).await);
        assert_eq!(say(&mut two, &format!("RESUME{target}")).await, "RESUME");
        assert_eq!(said(&one.read_until_ready().await), "08P01 PAUSE was undone by RESUME");
        pooler.raw().await.query("SELECT 1").await;
        assert_eq!(inside.query("COMMIT").await.last().unwrap().status(), 'I');
    }
}

/// Would break with: a pause that goes with the connection that asked for it, or with a reload.
#[tokio::test]
async fn a_pause_outlives_its_connection_and_a_reload() {
    let database = Postgres::shared().fresh_database().await;
    let pooler = pooler().start();
    let mut inside = pooler.raw_as("weir", &database).await;
    inside.query("BEGIN").await;
    let mut gone = admin(&pooler).await;
    gone.write(&frontend::query("PAUSE")).await;
    assert!(gone.is_silent_for(MOMENT).await);
    drop(gone);
    inside.query("COMMIT").await;
    connections_become(Postgres::shared(), &database, 0).await;
    inside.write(&frontend::query("SELECT 1")).await;
    assert!(pooler.hang_up(self::pooler().pool_size(3)).await);
    assert!(inside.is_silent_for(MOMENT).await);
    assert_eq!(state(&pooler).await, "active=no;paused=yes;");
    assert_eq!(say(&mut admin(&pooler).await, "RESUME").await, "RESUME");
    inside.expect("T D C Z").await;
}

/// Would break with: a KILL that spares anybody, that cuts clients of others, or that does not leave the database paused.
#[tokio::test]
async fn kill_sends_everybody_away_and_leaves_the_database_paused() {
    let postgres = Postgres::shared();
    for target in ["", " killed"] {
        let database = postgres.fresh_database().await;
        let pooler = pooler().pool_size(1).database("killed", &entry(&database, "")).start();
        let mut other = pooler.raw().await;
        other.query("BEGIN").await;
        let mut idle = pooler.raw_as("weir", "killed").await;
        let mut inside = pooler.raw_as("weir", "killed").await;
        inside.query("BEGIN").await;
        let mut waiting = pooler.raw_as("weir", "killed").await;
        waiting.write(&frontend::query("SELECT 1")).await;
        assert!(waiting.is_silent_for(MOMENT).await);
        let mut admin = admin(&pooler).await;
        assert_eq!(say(&mut admin, &format!("KILL{target}")).await, "KILL");
        for raw in [&mut idle, &mut inside, &mut waiting] {
            let words = raw.last_words().await;
            assert_eq!((words.field('M').as_str(), words.field('C').as_str()), ("database removed", "57P01"));
        }
        connections_become(postgres, &database, 0).await;
        assert_eq!(columns(&pooler, "killed").await.0, "1");
        assert_eq!(state(&pooler).await, "active=yes;paused=no;");
        if target.is_empty() {
            other.last_words().await;
        } else {
            assert_eq!(other.query("COMMIT").await.last().unwrap().status(), 'I');
        }
        let mut next = pooler.raw_as("weir", "killed").await;
        next.write(&frontend::query("SELECT 1")).await;
        assert!(next.is_silent_for(MOMENT).await);
        assert_eq!(say(&mut admin, "RESUME killed").await, "RESUME");
        next.expect("T D C Z").await;
    }
}

/// Would break with: clients that are let in, clients of before that are cut, or an order that a reload forgets.
#[tokio::test]
async fn a_disabled_database_lets_nobody_in_and_sends_nobody_away() {
    let pooler = pooler().start();
    let mut here = pooler.raw().await;
    let mut admin = admin(&pooler).await;
    assert_eq!(say(&mut admin, "DISABLE weir").await, "DISABLE");
    assert!(pooler.hang_up(self::pooler()).await);
    assert_eq!(columns(&pooler, "weir").await, ("0".to_owned(), "1".to_owned()));
    let refused = pooler.refusal("weir", &[]).await;
    assert_eq!(refused.field('M'), "database \"weir\" is disabled");
    assert_eq!(refused.field('C'), "08P01");
    here.query("SELECT 1").await;
    assert!(try_login(pooler.port(), "weir", "postgres", &[]).await.is_ok());
    assert_eq!(say(&mut admin, "ENABLE weir").await, "ENABLE");
    pooler.raw().await.query("SELECT 1").await;
}

/// Would break with: servers that are kept, that are cut in a transaction, or a WAIT_CLOSE that does not wait for them.
#[tokio::test]
async fn reconnect_replaces_servers_and_wait_close_waits_for_the_old_ones() {
    for target in ["", " weir"] {
        let pooler = pooler().pool_size(2).database("other", &entry("weir", "")).start();
        let (mut one, mut two) = (pooler.raw().await, pooler.raw().await);
        one.query("BEGIN").await;
        let (first, second) = (one.server().await, two.server().await);
        let (mut admin, mut waiting) = (admin(&pooler).await, admin(&pooler).await);
        assert_eq!(say(&mut admin, &format!("RECONNECT{target}")).await, "RECONNECT");
        waiting.write(&frontend::query(&format!("WAIT_CLOSE{target}"))).await;
        assert!(waiting.is_silent_for(MOMENT).await);
        assert_eq!(say(&mut admin, "WAIT_CLOSE other").await, "WAIT_CLOSE");
        assert_ne!(two.server().await, second);
        assert_eq!(one.server().await, first);
        one.query("COMMIT").await;
        assert_eq!(said(&waiting.read_until_ready().await), "WAIT_CLOSE");
        assert_ne!(one.server().await, first);
    }
}

/// Would break with: signals that do nothing, or that do it twice.
#[tokio::test]
async fn signals_pause_and_resume() {
    let database = Postgres::shared().fresh_database().await;
    let pooler = pooler().start();
    let mut inside = pooler.raw_as("weir", &database).await;
    inside.query("BEGIN").await;
    pooler.signal("USR1");
    pooler.logged("got SIGUSR1, pausing all activity").await;
    assert_eq!(state(&pooler).await, "active=no;paused=yes;");
    inside.query("COMMIT").await;
    connections_become(Postgres::shared(), &database, 0).await;
    inside.write(&frontend::query("SELECT 1")).await;
    pooler.signal("USR1");
    pooler.logged("got SIGUSR1, but already paused").await;
    assert!(inside.is_silent_for(MOMENT).await);
    pooler.signal("USR2");
    pooler.logged("got SIGUSR2, continuing from PAUSE").await;
    inside.expect("T D C Z").await;
    pooler.signal("USR2");
    pooler.logged("got SIGUSR2, but pooler is not paused").await;
}

/// Would break with: a pause that is resumed while the process ends, or a console that cannot change its mind.
#[tokio::test]
async fn nothing_is_resumed_while_the_process_ends() {
    let mut pooler = pooler().pool_size(1).start();
    let mut inside = pooler.raw().await;
    inside.query("BEGIN").await;
    let mut idle = pooler.raw().await;
    let mut waiting = pooler.raw().await;
    waiting.write(&frontend::query("SELECT 1")).await;
    assert!(waiting.is_silent_for(MOMENT).await);
    let mut admin = admin(&pooler).await;
    assert_eq!(say(&mut admin, "SHUTDOWN WAIT_FOR_CLIENTS").await, "SHUTDOWN");
    assert_eq!(say(&mut admin, "RESUME").await, "08P01 pooler is shutting down");
    assert_eq!(say(&mut admin, "SHOW STATE").await, "SHOW");
    assert!(idle.is_silent_for(MOMENT).await);
    assert_eq!(say(&mut admin, "SHUTDOWN WAIT_FOR_SERVERS").await, "SHUTDOWN");
    for raw in [&mut idle, &mut waiting] {
        let words = raw.last_words().await;
        assert_eq!((words.field('C').as_str(), words.field('M').as_str()), ("57P01", "server shutting down"));
    }
    assert_eq!(say(&mut admin, "PAUSE").await, "08P01 already paused");
    assert_eq!(say(&mut admin, "RESUME").await, "08P01 pooler is shutting down");
    pooler.signal("USR2");
    pooler.logged("got SIGUSR2 while shutting down, ignoring").await;
    inside.query("SELECT 1").await;
    assert_eq!(inside.query("COMMIT").await[1].status(), 'I');
    assert_eq!(inside.last_words().await.field('C'), "57P01");
    assert!(pooler.ended().await.success());
}

/// A number that is the same in every run of a test and looks like any other.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// Orders at random, several at once, while clients work: nobody meets an error, and each PAUSE that is answered has left
/// no server. Would break with: a lost waiter, a query that slips through, a pause that stays, servers beyond the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_at_random_lose_nobody() {
    let postgres = Postgres::start();
    for workers in [1, 3] {
        let builder = |size: u32| Pgweir::builder(&postgres).pool_size(size).setting("workers", workers);
        let pooler = builder(3).setting("min_pool_size", 1).start();
        let rival = Rival::start(&pooler, 12).await;
        let (mut one, mut two) = (admin(&pooler).await, admin(&pooler).await);
        let mut dice = Dice(workers);
        for _ in 0..40 {
            match dice.roll(6) {
                0 | 1 => {
                    let target = ["", " weir"][dice.roll(2)];
                    assert_eq!(say(&mut one, &format!("PAUSE{target}")).await, "PAUSE");
                    assert_eq!(postgres.connections("weir").await, 0);
                    let before = rival.transactions();
                    assert!(pooler.hang_up(builder(2)).await);
                    assert_eq!(rival.transactions(), before, "something is done while it is paused");
                    assert_eq!(say(&mut two, &format!("RESUME{target}")).await, "RESUME");
                }
                2 => {
                    // It is undone, or it was done before that.
                    one.write(&frontend::query("PAUSE")).await;
                    while say(&mut two, "RESUME").await != "RESUME" {}
                    let answer = said(&one.read_until_ready().await);
                    assert!(
                        matches!(answer.as_str(), "PAUSE" | "08P01 PAUSE was undone by RESUME"),
                        "{answer}"
                    );
                }
                3 => {
                    assert_eq!(say(&mut one, "RECONNECT").await, "RECONNECT");
                    assert_eq!(say(&mut one, "WAIT_CLOSE").await, "WAIT_CLOSE");
                }
                4 => assert!(pooler.hang_up(builder(3)).await),
                _ => {
                    pooler.signal("USR1");
                    while say(&mut two, "RESUME").await != "RESUME" {}
                }
            }
            let before = rival.transactions();
            until("transactions of the rival", || rival.transactions() > before + 3).await;
            assert!(postgres.connections("weir").await <= 3);
        }
        assert!(rival.stop().await > 0);
    }
}

/// Somebody else's load, with sessions that come and go. Would break with anything that it does not survive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_does_not_notice_pauses() {
    let postgres = Postgres::shared();
    let pooler = pooler().pool_size(3).setting("max_client_conn", 50).start();
    let script = pooler.folder().join("script.sql");
    std::fs::write(&script, "BEGIN;\nSELECT 1;\nSELECT pg_sleep(0.001);\nEND;\n").unwrap();
    // A thread for each client: pgbench waits for some answers without looking after its other clients.
    let mut benches = Vec::new();
    for more in [&["-M", "prepared"][..], &["-M", "simple"], &["-C", "-M", "extended"]] {
        let mut command = postgres.tool("pgbench");
        command
            .args(["-n", "-T", "4", "-c", "6", "-j", "6", "-h", "127.0.0.1", "-U", "weir", "-f"])
            .arg(&script)
            .args(more);
        command.arg("-p").arg(pooler.port().to_string()).arg("weir").env("PGPASSWORD", "weir");
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        benches.push(command.spawn().unwrap());
    }
    let mut admin = admin(&pooler).await;
    let mut dice = Dice(7);
    let is_running = |bench: &mut std::process::Child| bench.try_wait().unwrap().is_none();
    while benches.iter_mut().all(is_running) {
        let target = ["", " weir"][dice.roll(2)];
        assert_eq!(say(&mut admin, &format!("PAUSE{target}")).await, "PAUSE");
        assert_eq!(say(&mut admin, &format!("RESUME{target}")).await, "RESUME");
        let order = ["RECONNECT", "RELOAD"][dice.roll(2)];
        assert_eq!(say(&mut admin, order).await, order);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for bench in benches {
        let output = bench.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("number of failed transactions: 0"), "{out}{err}");
    }
}
