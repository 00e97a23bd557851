//! The auth file while it changes, and what is known of passwords while they change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

async fn log_in(pooler: &Pgweir, user: &str, password: &str, database: &str) -> Result<Raw, Message> {
    let mut raw = Raw::open(pooler.port()).await;
    raw.try_start(&[("user", user), ("database", database)], password).await.map(|()| raw)
}

fn write(pooler: &Pgweir, lines: &str) {
    // As editors do, and as a mounted secret changes: another file under the same name.
    let (file, new) = (pooler.folder().join("userlist.txt"), pooler.folder().join("new"));
    std::fs::write(&new, lines).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Ends all servers of a role, from outside.
async fn end_servers(postgres: &Postgres, role: &str) {
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    postgres.execute(&sql).await;
    let look = format!("SELECT (count(*) = 0)::int::int8 FROM pg_stat_activity WHERE usename = '{role}'");
    common::look::seen(postgres, &look, &[]).await;
}

/// A role of its own on the shared cluster, with the verifier of its password.
async fn role(name: &str, password: &str) -> String {
    let postgres = Postgres::shared();
    postgres.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'")).await;
    verifier(postgres, name).await
}

async fn verifier(postgres: &Postgres, role: &str) -> String {
    let client = postgres.connect("postgres", "postgres").await;
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    client.query_one(sql, &[&role]).await.unwrap().get(0)
}

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

/// Would break with: a file that only a reload reads, and a bad one that locks everybody out.
#[tokio::test]
async fn a_changed_file_counts_at_the_next_login() {
    let pooler = pooler().setting("auth_type", "plain").start();
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    for (password, other) in [("other", "weir"), ("weir", "other"), ("third", "weir")] {
        write(&pooler, &format!("\"weir\" \"{password}\"\n\"admin\" \"admin\"\n"));
        let error = log_in(&pooler, "weir", other, "weir").await.unwrap_err();
        assert_eq!(error.field('C'), "28P01");
        assert!(log_in(&pooler, "weir_trust", "weir_trust", "weir").await.is_err(), "no longer in the file");
    }
    write(&pooler, "\"weir\" \"weir\"\n\"admin\" \"admin\"\n");
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    write(&pooler, "\"weir\" unquoted\n");
    for _ in 0..3 {
        log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    }
    std::fs::remove_file(pooler.folder().join("userlist.txt")).unwrap();
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    let log = pooler.log();
    assert_eq!(log.matches("line 1: secret must follow").count(), 1, "told once: {log}");
    write(&pooler, "\"weir\" \"last\"\n");
    assert!(log_in(&pooler, "weir", "weir", "weir").await.is_err());
    log_in(&pooler, "weir", "last", "weir").await.unwrap();
}

/// Would break with: a new secret for servers that waits until a client comes who needs it.
#[tokio::test]
async fn a_secret_that_a_server_refuses_is_read_afresh() {
    role("afresh", "one").await;
    let pooler = pooler().user("afresh", "one").start();
    let mut raw = log_in(&pooler, "afresh", "one", "weir").await.unwrap();
    for (password, turn) in [("two", "2"), ("three", "3")] {
        Postgres::shared().execute(&format!("ALTER ROLE afresh PASSWORD '{password}'")).await;
        write(&pooler, &format!("\"afresh\" \"{password}\"\n\"admin\" \"admin\"\n"));
        end_servers(Postgres::shared(), "afresh").await;
        // Nobody has logged in since.
        assert_eq!(raw.value(&format!("SELECT {turn}")).await.unwrap(), turn);
    }
}

/// Would break with: a reload that forgets what opens servers, or keeps what opens none any longer.
#[tokio::test]
async fn revealed_keys_outlive_a_reload() {
    let secret = role("revealed", "one").await;
    let builder = pooler().user("revealed", &secret);
    let pooler = builder.clone().start();
    let mut raw = log_in(&pooler, "revealed", "one", "weir").await.unwrap();
    for turn in ["1", "2"] {
        pooler.console("RELOAD").await;
        end_servers(Postgres::shared(), "revealed").await;
        assert_eq!(raw.value(&format!("SELECT {turn}")).await.unwrap(), turn);
    }
    // Another password: who has logged in with it opens servers again, for all.
    Postgres::shared().execute("ALTER ROLE revealed PASSWORD 'two'").await;
    let secret = verifier(Postgres::shared(), "revealed").await;
    pooler.reload(builder.user("revealed", &secret)).await;
    end_servers(Postgres::shared(), "revealed").await;
    assert_eq!(log_in(&pooler, "revealed", "one", "weir").await.unwrap_err().field('C'), "28P01");
    let mut new = log_in(&pooler, "revealed", "two", "weir").await.unwrap();
    assert_eq!(new.value("SELECT 1").await.unwrap(), "1");
    assert_eq!(raw.value("SELECT 2").await.unwrap(), "2");
}

/// Would break with: keys that are kept for one server per user, or handed to a server whose verifier is another.
#[tokio::test]
async fn one_user_has_a_verifier_on_each_server() {
    let (one, two) = (Postgres::shared(), Postgres::start());
    for (postgres, password) in [(one, "here"), (&two, "there")] {
        postgres.execute(&format!("CREATE ROLE twin LOGIN PASSWORD '{password}'")).await;
        postgres.execute("CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asker'").await;
    }
    let entry =
        |postgres: &Postgres| format!("host=127.0.0.1 port={} dbname=weir auth_user=asker", postgres.port());
    let pooler =
        pooler().database("one", &entry(one)).database("two", &entry(&two)).user("asker", "asker").start();
    let mut here = log_in(&pooler, "twin", "here", "one").await.unwrap();
    let mut there = log_in(&pooler, "twin", "there", "two").await.unwrap();
    assert!(log_in(&pooler, "twin", "here", "two").await.is_err());
    for turn in ["1", "2"] {
        end_servers(one, "twin").await;
        end_servers(&two, "twin").await;
        assert_eq!(here.value(&format!("SELECT {turn}")).await.unwrap(), turn);
        assert_eq!(there.value(&format!("SELECT {turn}")).await.unwrap(), turn);
    }
}

/// Would break with: a forced user without a password whose own login opens nothing, or opens for others than the entry
/// says.
#[tokio::test]
async fn a_forced_user_is_opened_by_its_own_login() {
    let secret = role("forced", "forced").await;
    let server = Postgres::shared().port();
    let entry = format!("host=127.0.0.1 port={server} dbname=weir user=forced");
    let pooler = pooler().user("forced", &secret).database("entry", &entry).start();
    let mut raw = log_in(&pooler, "forced", "forced", "entry").await.unwrap();
    assert_eq!(raw.value("SELECT session_user").await.unwrap(), "forced");
    end_servers(Postgres::shared(), "forced").await;
    let mut other = log_in(&pooler, "weir", "weir", "entry").await.unwrap();
    assert_eq!(other.value("SELECT session_user").await.unwrap(), "forced");
}

/// Would break with: tokens that are cut or refused on their way, and a limit that is none.
#[tokio::test]
async fn a_password_may_have_65535_bytes() {
    let token = "t".repeat(65_535);
    let server = Postgres::shared().port();
    let entry = format!("host=127.0.0.1 port={server} dbname=weir user=weir_trust");
    let pooler =
        pooler().setting("auth_type", "plain").database("entry", &entry).user("token", &token).start();
    let mut raw = log_in(&pooler, "token", &token, "entry").await.unwrap();
    assert_eq!(raw.value("SELECT session_user").await.unwrap(), "weir_trust");
    let error = log_in(&pooler, "token", &token[1..], "entry").await.unwrap_err();
    assert_eq!(error.field('C'), "28P01");
    let error = log_in(&pooler, "token", &format!("{token}t"), "entry").await.unwrap_err();
    assert_eq!(error.field('C'), "08P01", "{error:?}");
}

/// Would break with: a count that is not the one of the file, or that waits for a restart.
#[tokio::test]
async fn scram_iterations_are_those_of_secrets_that_are_derived() {
    let builder = pooler().setting("scram_iterations", 5000);
    let pooler = builder.clone().start();
    assert_eq!(iterations(&pooler).await, "i=5000");
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    pooler.reload(builder.setting("scram_iterations", 6000)).await;
    assert_eq!(iterations(&pooler).await, "i=6000");
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
}

/// What server-first says.
async fn iterations(pooler: &Pgweir) -> String {
    let mut raw = Raw::open(pooler.port()).await;
    raw.write(&frontend::startup(frontend::VERSION_3_0, &[("user", "weir"), ("database", "weir")])).await;
    raw.expect("R").await;
    let first = b"n,,n=,r=abc";
    let body = [b"SCRAM-SHA-256\0", &frontend::size(first.len())[..], first].concat();
    raw.write(&frontend::message(b'p', &body)).await;
    let said = raw.read().await;
    String::from_utf8_lossy(&said.body[4..]).rsplit(',').next().unwrap().to_owned()
}

/// Would break with: a start that fails where PgBouncer starts, or a file that nobody looks for again; with a reload that
/// locks everybody out.
#[tokio::test]
async fn a_file_that_is_not_there_lists_nobody_until_it_is() {
    let server = Postgres::shared().port();
    let pooler = Pgweir::start_text("pgbouncer.ini", |port, dir| {
        let file = dir.join("later.txt");
        format!(
            "[databases]\nweir = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nadmin_users = admin\nauth_file = {}\n",
            file.display()
        )
    });
    assert_eq!(log_in(&pooler, "weir", "weir", "weir").await.unwrap_err().field('C'), "28P01");
    let file = pooler.folder().join("later.txt");
    std::fs::write(&file, "\"weir\" \"weir\"\n\"admin\" \"admin\"\n").unwrap();
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    std::fs::remove_file(&file).unwrap();
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
    let mut admin = log_in(&pooler, "admin", "admin", "pgbouncer").await.unwrap();
    let reload = admin.query("RELOAD").await;
    assert_eq!(reload[0].field('C'), "F0000", "{reload:?}");
    log_in(&pooler, "weir", "weir", "weir").await.unwrap();
}

/// Would break with: keys that are lost by a login that had nothing to do with them.
#[tokio::test]
async fn a_wrong_password_elsewhere_costs_nobody_their_keys() {
    let secret = role("bystander", "bystander").await;
    let server = Postgres::shared().port();
    let bad = format!("host=127.0.0.1 port={server} dbname=weir user=bystander password=wrong");
    let pooler = pooler().user("bystander", &secret).database("bad", &bad).start();
    let mut raw = log_in(&pooler, "bystander", "bystander", "weir").await.unwrap();
    assert_eq!(log_in(&pooler, "weir", "weir", "bad").await.unwrap_err().field('C'), "28P01");
    end_servers(Postgres::shared(), "bystander").await;
    assert_eq!(raw.value("SELECT 1").await.unwrap(), "1");
}

/// Would break with: keys of a namesake, who may choose the salt, that take the place of those that fit.
#[tokio::test]
async fn a_namesake_on_another_server_costs_nobody_their_keys() {
    let salt = "SCRAM-SHA-256$4096:dGhlIHZlcnkgc2FtZSBzYWx0";
    let here = format!(
        "{salt}$S18Gz36sveK6RroiKV5uzCC9ujALUSrE/i+7zP4cveA=:7EcBUMJjto/Ao4T9qGehiQoWwknozS89tXMyUevzYSY="
    );
    let there = format!(
        "{salt}$7Kl80xHOJsClg8TR/QtpAKR8VH19WERnVaXhTyoGHso=:+Z6wcE66tLUdbOMQbesuG1BXFPsSqVodyW+F3US0B1c="
    );
    Postgres::shared().execute(&format!("CREATE ROLE namesake LOGIN PASSWORD '{here}'")).await;
    let server = Postgres::shared().port();
    let entry = |query: &str| {
        format!("host=127.0.0.1 port={server} dbname=weir auth_user=postgres auth_query='{query}'")
    };
    let pooler = pooler()
        .database("here", &entry("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1"))
        .database("there", &format!("{} user=weir", entry(&format!("SELECT $1::text, ''{there}''::text"))))
        .start();
    let mut raw = log_in(&pooler, "namesake", "here", "here").await.unwrap();
    log_in(&pooler, "namesake", "there", "there").await.unwrap();
    end_servers(Postgres::shared(), "namesake").await;
    assert_eq!(raw.value("SELECT 1").await.unwrap(), "1");
}
