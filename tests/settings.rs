//! Where the pooler listens, how clients prove who they are, and what is logged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use common::{Pgweir, PgweirBuilder, Postgres, Raw, patiently};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

/// Would break with: another mode, a socket file that stays or that a crash makes unusable, or one that is taken from a
/// running process.
#[tokio::test]
async fn the_unix_socket() {
    let builder = || pooler().setting("unix_socket_dir", "{dir}").setting("unix_socket_mode", "0700");
    let mut pooler = builder().start();
    pooler.logged("is ready").await; // the TCP port answers before there is a socket file
    let file = pooler.folder().join(format!(".s.PGSQL.{}", pooler.port()));
    let meta = std::fs::metadata(&file).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o700);
    let mut raw = Raw::open_unix(pooler.folder(), pooler.port()).await;
    raw.start(&[("user", "weir"), ("database", "weir")], "weir").await;
    assert_eq!(raw.value("SELECT current_user").await.as_deref(), Some("weir"));

    // The same folder and port again: in use.
    let text = std::fs::read_to_string(pooler.folder().join("pgbouncer.ini")).unwrap();
    let second = pooler.folder().join("second.ini");
    std::fs::write(&second, text.replace("listen_addr = 127.0.0.1", "listen_addr =")).unwrap();
    let binary = std::env::var("PGWEIR_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pgweir").to_owned());
    let output = patiently("end of the second pooler", async {
        tokio::process::Command::from(common::unprivileged(binary))
            .arg(&second)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    })
    .await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("unix socket is in use, cannot continue"), "{said}");
    raw.query("SELECT 1").await;
    drop(raw);
    pooler.signal("INT");
    assert!(pooler.ended().await.success());
    assert!(!file.exists());

    // What a crash leaves behind is replaced.
    let folder = pooler.folder().join("stale");
    std::fs::create_dir(&folder).unwrap();
    common::give_to_unprivileged(&folder);
    let after = Pgweir::start_text("pgbouncer.ini", |port, _| {
        drop(UnixListener::bind(folder.join(format!(".s.PGSQL.{port}"))).unwrap());
        let server = Postgres::shared().port();
        format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir = {}\nauth_type = trust\nauth_file = {}\n",
            folder.display(),
            pooler.folder().join("userlist.txt").display()
        )
    });
    after.logged("is ready").await;
    let mut raw = Raw::open_unix(&folder, after.port()).await;
    raw.start(&[("user", "weir"), ("database", "weir")], "").await;
    raw.query("SELECT 1").await;
}

/// Would break with: the first address only.
#[tokio::test]
async fn several_addresses() {
    let pooler = pooler().setting("listen_addr", "127.0.0.1, 127.0.0.2").start();
    for address in ["127.0.0.1", "127.0.0.2"] {
        let stream = tokio::net::TcpStream::connect((address, pooler.port())).await.unwrap();
        let mut raw = Raw::over(stream);
        raw.start(&[("user", "weir"), ("database", "weir")], "weir").await;
        raw.query("SELECT 1").await;
    }
    assert!(tokio::net::TcpStream::connect(("127.0.0.3", pooler.port())).await.is_err());
}

/// The secrets of the cluster's roles, as `pg_authid` has them, serve towards clients. Would break with: a form of secret
/// that a method cannot use, or that lets anybody in.
#[tokio::test]
async fn each_method_takes_each_secret_that_it_can() {
    let postgres = Postgres::shared();
    let look = postgres.connect("postgres", "postgres").await;
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    let verifier: String = look.query_one(sql, &[&"weir"]).await.unwrap().get(0);
    let md5: String = look.query_one(sql, &[&"weir_md5"]).await.unwrap().get(0);
    assert!(verifier.starts_with("SCRAM-SHA-256$") && md5.starts_with("md5"));
    let entry = format!("host=127.0.0.1 port={} dbname=weir user=weir_trust", postgres.port());
    for (method, asked) in [("plain", 3_u8), ("md5", 5), ("scram-sha-256", 10)] {
        let pooler = pooler()
            .setting("auth_type", method)
            .database("weir", &entry)
            .user("weir", &verifier)
            .user("weir_md5", &md5)
            .start();
        for user in ["weir", "weir_md5", "postgres"] {
            let expected = user != "weir_md5" || method != "scram-sha-256";
            for (password, right) in [(user, true), ("wrong", false), ("", false)] {
                let mut raw = Raw::open(pooler.port()).await;
                let came = raw.try_start(&[("user", user), ("database", "weir")], password).await;
                assert_eq!(came.is_ok(), right && expected, "{method} {user} {password:?}: {came:?}");
                if let Err(error) = came {
                    assert_eq!(error.field('C'), "28P01", "{method} {user}");
                }
            }
        }
        // The hash itself is no password.
        let mut raw = Raw::open(pooler.port()).await;
        assert!(raw.try_start(&[("user", "weir_md5"), ("database", "weir")], &md5).await.is_err());
        let mut raw = Raw::open(pooler.port()).await;
        let startup = [("user", "postgres"), ("database", "weir")];
        raw.write(&common::frontend::startup(common::frontend::VERSION_3_0, &startup)).await;
        assert_eq!(raw.read().await.body[3], asked, "{method}");
    }
    let trusting = pooler().setting("auth_type", "trust").start();
    Raw::login(trusting.port(), "weir", "wrong", "weir").await.query("SELECT 1").await;
    let mut raw = Raw::open(trusting.port()).await;
    assert!(raw.try_start(&[("user", "nobody"), ("database", "weir")], "").await.is_err());
}

/// Would break with: a line that is missing, doubled or without its reason, or a switch that does nothing.
#[tokio::test]
async fn a_login_and_a_disconnect_are_one_line_each() {
    let pooler = pooler().setting("query_wait_timeout", 1).pool_size(1).start();
    let mut holder = pooler.raw().await;
    holder.query("BEGIN").await;
    pooler.raw().await.terminate().await;
    drop(pooler.raw().await);
    let mut cut = pooler.raw().await;
    cut.write(&common::frontend::query("SELECT 1")).await;
    cut.last_words().await;
    for reason in ["client close request", "client unexpected eof", "query_wait_timeout"] {
        pooler.logged(&format!("closing because: {reason} (age=")).await;
    }
    let log = pooler.log();
    assert_eq!(
        log.lines()
            .filter(|line| line.contains("login attempt: db=weir user=weir tls=no replication=no"))
            .count(),
        4,
        "{log}"
    );
    assert_eq!(log.matches("closing because: ").count(), 3, "{log}");
    assert_eq!(log.matches("pooler error: query_wait_timeout").count(), 1, "{log}");

    let names = ["log_connections", "log_disconnections", "log_pooler_errors"];
    let quiet = names.iter().fold(self::pooler(), |builder, name| builder.setting(name, 0));
    let quiet = quiet.setting("client_idle_timeout", 0.1).start();
    quiet.raw().await.last_words().await;
    let mut refused = Raw::open(quiet.port()).await;
    assert!(refused.try_start(&[("user", "weir"), ("database", "weir")], "wrong").await.is_err());
    quiet.logged("login denied").await;
    let log = quiet.log();
    for text in ["login attempt", "closing because", "pooler error"] {
        assert!(!log.contains(text), "{log}");
    }
}

/// Would break with: a line that is no JSON, or fields that are not there.
#[tokio::test]
async fn json_lines_are_json() {
    let pooler = pooler().setting("log_format", "json").start();
    let hostile = "quote \" backslash \\ newline \n";
    pooler.raw_with("weir", &[("application_name", hostile)]).await.terminate().await;
    pooler.logged("closing because: client close request").await;
    let log = pooler.log();
    let check = "import json, sys\n\
                 lines = [json.loads(line) for line in sys.stdin]\n\
                 assert all('timestamp' in line and 'level' in line and 'message' in line for line in lines)\n\
                 logins = [line for line in lines if line['message'].startswith('login attempt')]\n\
                 assert [(line['user'], line['database']) for line in logins] == [('weir', 'weir')], lines";
    let mut python = Command::new("python3").args(["-c", check]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), log.as_bytes()).unwrap();
    assert!(python.wait().unwrap().success(), "{log}");
}
