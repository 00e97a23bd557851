//! `SET` on the console: what it changes, for whom, and for how long.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::time::Duration;

use common::look::{error_of, try_login};
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

async fn admin(pooler: &Pgweir) -> Raw {
    Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await
}

/// Sends a command; the tag of its answer, or SQLSTATE and text of its error.
async fn say(admin: &mut Raw, command: &str) -> String {
    let answer = admin.query(command).await;
    match answer.iter().find(|message| message.tag == b'E') {
        Some(error) => format!("{} {}", error.field('C'), error.field('M')),
        None => answer.iter().find(|message| message.tag == b'C').map(Message::text).unwrap(),
    }
}

async fn set(admin: &mut Raw, key: &str, value: &str) {
    assert_eq!(say(admin, &format!("SET {key} = '{value}'")).await, format!("SET {key}={value}"));
}

/// A value as `SHOW CONFIG` has it.
async fn shown(admin: &mut Raw, key: &str) -> String {
    let rows = admin.query("SHOW CONFIG").await;
    let mut rows = rows.iter().filter(|message| message.tag == b'D').map(Message::columns);
    rows.find(|row| row[0].as_deref() == Some(key)).unwrap().swap_remove(1).unwrap()
}

/// Would break with: timeouts that a client keeps from its login.
#[tokio::test]
async fn timeouts_change_for_clients_that_are_here() {
    let pooler = pooler().pool_size(2).user_setting("weir_trust", "client_idle_timeout=600").start();
    let mut admin = admin(&pooler).await;
    let mut spared = pooler.raw_as("weir_trust", "weir").await;

    let mut idle = pooler.raw().await;
    idle.query("SELECT 1").await;
    set(&mut admin, "client_idle_timeout", "0.2").await;
    assert_eq!(idle.last_words().await.field('M'), "client_idle_timeout");
    set(&mut admin, "client_idle_timeout", "0").await;

    let mut in_transaction = pooler.raw().await;
    in_transaction.query("BEGIN").await;
    set(&mut admin, "idle_transaction_timeout", "0.2").await;
    assert_eq!(in_transaction.last_words().await.field('M'), "idle transaction timeout");
    set(&mut admin, "idle_transaction_timeout", "0").await;

    let mut long = pooler.raw().await;
    long.query("BEGIN").await;
    set(&mut admin, "transaction_timeout", "0.2").await;
    assert_eq!(long.last_words().await.field('M'), "transaction timeout");
    set(&mut admin, "transaction_timeout", "0").await;

    let mut query = pooler.raw().await;
    query.write(&frontend::query("SELECT pg_sleep(60)")).await;
    assert!(query.is_silent_for(Duration::from_millis(100)).await);
    set(&mut admin, "query_timeout", "0.2").await;
    assert_eq!(query.last_words().await.field('M'), "query timeout");
    set(&mut admin, "query_timeout", "0").await;

    // Who has settings of his own keeps them, and an idle one that was spared is as before.
    assert_eq!(spared.value("SELECT 1").await.as_deref(), Some("1"));
}

/// Would break with: a deadline that whoever waits has from the beginning of the wait.
#[tokio::test]
async fn who_waits_in_line_is_told_of_another_limit() {
    let pooler = pooler().pool_size(1).setting("query_wait_timeout", 600).start();
    let mut admin = admin(&pooler).await;
    let mut holder = pooler.raw().await;
    holder.query("BEGIN").await;
    let mut waiter = pooler.raw().await;
    waiter.write(&frontend::query("SELECT 1")).await;
    assert!(waiter.is_silent_for(Duration::from_millis(100)).await);
    set(&mut admin, "query_wait_timeout", "0.1").await;
    assert_eq!(waiter.last_words().await.field('M'), "query_wait_timeout");
    // And of a larger pool.
    set(&mut admin, "query_wait_timeout", "600").await;
    let mut waiter = pooler.raw().await;
    waiter.write(&frontend::query("SELECT 2")).await;
    assert!(waiter.is_silent_for(Duration::from_millis(100)).await);
    set(&mut admin, "default_pool_size", "2").await;
    assert_eq!(waiter.read_until_ready().await.last().unwrap().status(), 'I');
}

/// Would break with: a RELOAD that changes clients at their next login only.
#[tokio::test]
async fn a_reload_reaches_them_as_well() {
    let pooler = pooler().start();
    let mut idle = pooler.raw().await;
    idle.query("SELECT 1").await;
    let changed = self::pooler().setting("client_idle_timeout", 0.2);
    assert!(pooler.hang_up(changed).await);
    assert_eq!(idle.last_words().await.field('M'), "client_idle_timeout");
}

/// Would break with: a value that is shown and not in force, or the other way round.
#[tokio::test]
async fn a_value_holds_until_the_next_reload() {
    let pooler = pooler().setting("max_client_conn", 50).start();
    let mut admin = admin(&pooler).await;
    set(&mut admin, "max_client_conn", "1").await;
    assert_eq!(shown(&mut admin, "max_client_conn").await, "1");
    let _first = pooler.raw().await;
    let refused = try_login(pooler.port(), "weir", "weir", &[]).await.unwrap_err();
    assert!(refused.field('M').contains("max_client_conn"), "{refused:?}");
    assert_eq!(say(&mut admin, "SET max_client_conn TO 0x10").await, "SET max_client_conn=0x10");
    assert_eq!(shown(&mut admin, "max_client_conn").await, "16");
    assert_eq!(say(&mut admin, "set \"max_client_conn\"=010;").await, "SET max_client_conn=010");
    assert_eq!(shown(&mut admin, "max_client_conn").await, "8");
    assert_eq!(say(&mut admin, "RELOAD").await, "RELOAD");
    assert_eq!(shown(&mut admin, "max_client_conn").await, "50");
    assert!(try_login(pooler.port(), "weir", "weir", &[]).await.is_ok());
    // Pools that are there follow, too; several values stand side by side.
    set(&mut admin, "pool_mode", "session").await;
    set(&mut admin, "server_reset_query", "").await;
    let rows = pooler.console("SHOW POOLS").await;
    let pool = rows.iter().find(|row| row[0].as_deref() == Some("weir")).unwrap();
    assert_eq!(pool[15].as_deref(), Some("session"));
    assert_eq!(
        (shown(&mut admin, "pool_mode").await, shown(&mut admin, "server_reset_query").await),
        ("session".into(), String::new())
    );
    // And users of the console.
    assert!(try_login(pooler.port(), "weir", "pgbouncer", &[]).await.is_err());
    set(&mut admin, "stats_users", "stats, weir").await;
    assert!(try_login(pooler.port(), "weir", "pgbouncer", &[]).await.is_ok());
    assert_eq!(shown(&mut admin, "stats_users").await, "stats, weir");
}

/// Would break with: what is not meant being changed, or what is refused being lost.
#[tokio::test]
async fn what_cannot_be_set_stays_as_it_is() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    // PgBouncer says nothing about settings that only change at a start.
    for (key, value) in
        [("listen_port", "77"), ("listen_addr", "x"), ("unix_socket_mode", "0700"), ("job_name", "x")]
    {
        let before = shown(&mut admin, key).await;
        set(&mut admin, key, value).await;
        assert_eq!(shown(&mut admin, key).await, before, "{key}");
    }
    for command in [
        "SET nosuch = 1",
        "SET POOL_MODE = session",
        "SET pool_mode = nosuch",
        "SET max_client_conn = abc",
        "SET max_client_conn = ''",
        "SET log_stats = on",
        "SET query_timeout = abc",
        "SET query_timeout = '-1'",
        "SET auth_type = foo",
        "SET application_name = 'x'",
        "SET load_balance_hosts = disable",
    ] {
        assert_eq!(say(&mut admin, command).await, "08P01 SET failed", "{command}");
    }
    let answer = admin.query("SET pool_mode = sesion").await;
    assert!(error_of(&answer).field('D').contains("did you mean session?"), "{answer:?}");
    assert_eq!(shown(&mut admin, "pool_mode").await, "transaction");
    // The process' environment is nothing for the console.
    set(&mut admin, "server_reset_query", "${HOME}").await;
    assert_eq!(shown(&mut admin, "server_reset_query").await, "${HOME}");
}

/// Would break with: a SET that reads the file again, or a conffile that is not the next one.
#[tokio::test]
async fn conffile_names_what_the_next_reload_reads() {
    let pooler = pooler().setting("default_pool_size", 5).start();
    let mut admin = admin(&pooler).await;
    let file = pooler.folder().join("pgbouncer.ini");
    let other = pooler.folder().join("other.ini");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&other, text.replace("default_pool_size = 5", "default_pool_size = 6")).unwrap();
    std::fs::write(&file, text.replace("default_pool_size = 5", "default_pool_size = 7")).unwrap();
    assert_eq!(shown(&mut admin, "conffile").await, file.display().to_string());
    set(&mut admin, "min_pool_size", "0").await;
    assert_eq!(shown(&mut admin, "default_pool_size").await, "5");
    set(&mut admin, "conffile", &other.display().to_string()).await;
    assert_eq!(shown(&mut admin, "default_pool_size").await, "5");
    assert_eq!(say(&mut admin, "RELOAD").await, "RELOAD");
    assert_eq!(shown(&mut admin, "default_pool_size").await, "6");
    assert_eq!(shown(&mut admin, "conffile").await, other.display().to_string());
    // A file that is not there leaves everything as it was, and can be corrected.
    set(&mut admin, "conffile", "/nonexistent").await;
    let answer = admin.query("RELOAD").await;
    let error = error_of(&answer);
    let expected = ("F0000".to_owned(), "RELOAD failed, see logs for additional details".to_owned());
    assert_eq!((error.field('C'), error.field('M')), expected);
    assert!(error.field('D').contains("/nonexistent"), "{error:?}");
    assert_eq!(shown(&mut admin, "default_pool_size").await, "6");
    set(&mut admin, "conffile", &file.display().to_string()).await;
    assert_eq!(say(&mut admin, "RELOAD").await, "RELOAD");
    assert_eq!(shown(&mut admin, "default_pool_size").await, "7");
}

/// Would break with: a log file that is shown and not written to, or one that cannot be changed at all.
#[tokio::test]
async fn a_log_file_that_cannot_be_opened_is_refused() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    let before = shown(&mut admin, "logfile").await;
    let answer = admin.query("SET logfile = '/no/such/folder/log'").await;
    let error = error_of(&answer);
    assert_eq!((error.field('C'), error.field('M')), ("08P01".to_owned(), "SET failed".to_owned()));
    assert!(error.field('D').contains("/no/such/folder/log"), "{error:?}");
    assert_eq!(shown(&mut admin, "logfile").await, before);
    let file = pooler.folder().join("other.log");
    set(&mut admin, "logfile", &file.display().to_string()).await;
    assert_eq!(shown(&mut admin, "logfile").await, file.display().to_string());
    assert_eq!(say(&mut admin, "RELOAD").await, "RELOAD");
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.contains("RELOAD command issued"), "{log}");
}

/// Would break with: a SET that reads the other files of the configuration again, or a RELOAD that does not.
#[tokio::test]
async fn a_value_does_not_depend_on_other_files() {
    let pooler = pooler().start();
    let folder = pooler.folder();
    let (password, names, file) =
        (folder.join("password"), folder.join("resolv.conf"), folder.join("pgbouncer.ini"));
    std::fs::write(&password, "weir\n").unwrap();
    std::fs::write(&names, "nameserver 127.0.0.1\n").unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let entry = format!(
        "[databases]\nown = host=127.0.0.1 port={} dbname=weir user=weir password_file={}\n",
        Postgres::shared().port(),
        password.display()
    );
    let general = format!("[pgbouncer]\nresolv_conf = {}\n", names.display());
    let text = text.replacen("[databases]\n", &entry, 1).replacen("[pgbouncer]\n", &general, 1);
    std::fs::write(&file, text).unwrap();
    common::give_to_unprivileged(folder);
    let mut admin = admin(&pooler).await;
    assert_eq!(say(&mut admin, "RELOAD").await, "RELOAD");
    let mut client = Raw::login(pooler.port(), "weir", "weir", "own").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    // A changed password waits for the reload,
    std::fs::write(&password, "wrong\n").unwrap();
    set(&mut admin, "verbose", "0").await;
    assert_eq!(say(&mut admin, "RECONNECT").await, "RECONNECT");
    assert_eq!(client.value("SELECT 2").await.as_deref(), Some("2"));
    // and files that are gone keep nothing from being set.
    std::fs::remove_file(&password).unwrap();
    std::fs::remove_file(&names).unwrap();
    set(&mut admin, "min_pool_size", "0").await;
    assert_eq!(client.value("SELECT 3").await.as_deref(), Some("3"));
    assert_eq!(say(&mut admin, "RELOAD").await, "F0000 RELOAD failed, see logs for additional details");
}
