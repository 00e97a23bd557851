//! `auth_type = hba`: rules by database, user and address, and the files that hold them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::look::try_login;
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

/// What the console needs in every one of these files.
const CONSOLE: &str = "host pgbouncer admin 127.0.0.1/32 md5\n";

fn pooler(rules: &str) -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
        .setting("auth_type", "hba")
        .setting("auth_hba_file", "{dir}/hba.conf")
        .setting("unix_socket_dir", "{dir}")
        .file("hba.conf", &format!("{rules}{CONSOLE}"))
}

/// The text of a refusal, or of whom the server takes the client for.
async fn outcome(pooler: &Pgweir, user: &str, database: &str) -> String {
    match try_login(pooler.port(), user, database, &[]).await {
        Ok(mut raw) => raw.value("SELECT session_user").await.unwrap(),
        Err(error) => text(&error),
    }
}

fn text(error: &Message) -> String {
    assert_eq!(error.field('S'), "FATAL");
    format!("{} {}", error.field('C'), error.field('M'))
}

/// The code of the first thing that a user is asked for.
async fn asked(pooler: &Pgweir, user: &str) -> Option<u8> {
    let mut raw = Raw::open(pooler.port()).await;
    raw.write(&frontend::startup(frontend::VERSION_3_0, &[("user", user), ("database", "weir")])).await;
    let message = raw.read().await;
    (message.tag == b'R').then(|| message.body[3])
}

/// Would break with: rules that are not asked, a later rule that wins, or TCP rules that count for a socket.
#[tokio::test]
async fn the_first_rule_that_fits_decides() {
    let pooler = pooler(
        "# who may come in\n\
         hostssl all weir 127.0.0.1/32 reject\n\
         host weir postgres 10.0.0.0/8 trust\n\
         host weir weir 127.0.0.1/32 scram-sha-256\n\
         hostnossl weir \"weir_trust\" 127.0.0.1 255.255.255.255 trust\n\
         host weir weir_md5 127.0.0.1/32 md5 # asks\n\
         host weir stats 127.0.0.1/32 password\n\
         host weir admin 127.0.0.1/32 reject\n\
         host all admin 127.0.0.1/32 trust\n\
         local weir weir_trust trust\n",
    )
    .start();
    let asks = [("weir", Some(10)), ("weir_trust", Some(0)), ("weir_md5", Some(5)), ("stats", Some(3))];
    for (user, code) in asks {
        assert_eq!(asked(&pooler, user).await, code, "{user}");
    }
    assert_eq!(outcome(&pooler, "weir", "weir").await, "weir");
    assert_eq!(outcome(&pooler, "admin", "weir").await, "28000 login rejected");
    let nothing = "28000 no authentication method is found";
    assert_eq!(outcome(&pooler, "postgres", "weir").await, nothing, "that is for another network");
    assert_eq!(outcome(&pooler, "weir", "postgres").await, nothing, "that is for another database");
    let mut raw = Raw::open_unix(pooler.folder(), pooler.port()).await;
    let error = raw.try_start(&[("user", "weir"), ("database", "weir")], "weir").await.unwrap_err();
    assert_eq!(text(&error), nothing, "that is for TCP");
    let mut raw = Raw::open_unix(pooler.folder(), pooler.port()).await;
    raw.start(&[("user", "weir_trust"), ("database", "weir")], "").await;
}

/// Would break with: a rule that lets in whoever says a name, or that asks ghosts for something else.
#[tokio::test]
async fn every_method_looks_at_who_it_is() {
    let pooler = pooler(
        "host weir weir,ghost_scram 127.0.0.1/32 scram-sha-256\nhost weir weir_md5,ghost_md5,verifier 127.0.0.1/32 md5\n\
         host weir stats,ghost_plain 127.0.0.1/32 password\nhost weir weir_trust,ghost_trust 127.0.0.1/32 trust\n\
         host weir hashed 127.0.0.1/32 scram-sha-256\n",
    )
    .user("hashed", "md5783277baca28003b33453252be4dbb34")
    .user("verifier", &verifier_of_weir().await)
    .start();
    for user in
        ["weir", "weir_md5", "stats", "hashed", "ghost_scram", "ghost_md5", "ghost_plain", "ghost_trust"]
    {
        let mut raw = Raw::open(pooler.port()).await;
        let error = raw.try_start(&[("user", user), ("database", "weir")], "wrong").await.unwrap_err();
        assert_eq!(text(&error), format!("28P01 password authentication failed for user \"{user}\""));
    }
    assert_eq!(asked(&pooler, "verifier").await, Some(10), "md5 asks for SCRAM where that is what is stored");
    assert_eq!(asked(&pooler, "hashed").await, Some(10));
    assert_eq!(asked(&pooler, "ghost_scram").await, Some(10));
    assert_eq!(asked(&pooler, "ghost_plain").await, Some(3));
}

async fn verifier_of_weir() -> String {
    let client = Postgres::shared().connect("postgres", "postgres").await;
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = 'weir'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Would break with: lists from files that are not read, or read from the wrong folder.
#[tokio::test]
async fn names_come_from_files_beside_the_rules() {
    let pooler = pooler("host @databases @users,stats 127.0.0.1/32 trust\n")
        .file("databases", "weir # and\n@more\n")
        .file("more", "\"postgres\"\n")
        .file("users", "weir_trust, weir")
        .start();
    assert_eq!(outcome(&pooler, "weir_trust", "weir").await, "weir_trust");
    assert_eq!(outcome(&pooler, "weir_trust", "postgres").await, "weir_trust");
    assert_eq!(outcome(&pooler, "weir_md5", "weir").await, "28000 no authentication method is found");
}

/// Would break with: a process that does not start where PgBouncer does, or that says nothing of a line it leaves out.
#[tokio::test]
async fn lines_that_cannot_be_used_are_told_and_left_out() {
    let pooler = pooler(
        "host all all 127.0.0.1/32 gss\nhost weir +staff 127.0.0.1/32 md5\nhost weir weir_trust 127.0.0.1/32 trust\n",
    )
    .start();
    let folder = pooler.folder().display();
    pooler.logged(&format!("{folder}/hba.conf:1: \"gss\" is no method")).await;
    pooler.logged(&format!("{folder}/hba.conf:2: +staff: groups are not supported")).await;
    assert_eq!(outcome(&pooler, "weir_trust", "weir").await, "weir_trust");
    let checked = check(&pooler.folder().join("pgbouncer.ini"));
    assert!(checked.contains("3: host weir weir_trust 127.0.0.1/32 trust\n"), "{checked}");
    assert!(checked.contains("hba.conf:2: +staff: groups are not supported"), "{checked}");
}

fn check(file: &std::path::Path) -> String {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_pgweir")).arg("check").arg(file).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Would break with: a reload that takes no notice of the rules, or one that takes over a file it cannot read.
#[tokio::test]
async fn a_reload_takes_over_good_rules_and_no_others() {
    let pooler = pooler("host weir weir_trust 127.0.0.1/32 trust\n").start();
    let write = |rules: &str| {
        std::fs::write(pooler.folder().join("hba.conf"), format!("{rules}{CONSOLE}")).unwrap();
    };
    assert_eq!(outcome(&pooler, "weir_trust", "weir").await, "weir_trust");
    write("host weir weir 127.0.0.1/32 trust\n");
    assert_eq!(outcome(&pooler, "weir_trust", "weir").await, "weir_trust", "it was not told to reload");
    pooler.console("RELOAD").await;
    assert_eq!(outcome(&pooler, "weir_trust", "weir").await, "28000 no authentication method is found");
    assert_eq!(asked(&pooler, "weir").await, Some(0));
    // A line that keeps somebody out must not be left out.
    write("host weir badhost reject\nhost weir weir 127.0.0.1/32 md5\n");
    let mut admin = Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await;
    assert_eq!(admin.query("RELOAD").await[0].field('C'), "F0000");
    std::fs::remove_file(pooler.folder().join("hba.conf")).unwrap();
    assert_eq!(admin.query("RELOAD").await[0].field('C'), "F0000");
    assert_eq!(asked(&pooler, "weir").await, Some(0), "the rules of before stay in force");
}

/// Would break with: a start that lets in whoever a broken line was to keep out, or that knows no rules at all.
#[test]
fn a_start_without_usable_rules_is_refused() {
    let folder = std::env::temp_dir().join(format!("pgweir-hba-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ini = |more: &str| {
        let file = folder.join("pgbouncer.ini");
        let text = format!(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\nlisten_port = 1\nauth_type = hba\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        check(&file)
    };
    assert!(ini("").contains("auth_type = hba needs auth_hba_file"));
    let rules = folder.join("hba.conf");
    let line = format!("auth_hba_file = {}\n", rules.display());
    assert!(ini(&line).contains(&format!("auth_hba_file {}: No such file", rules.display())));
    std::fs::write(&rules, "host all all all md5\nhost all +staff all reject\n").unwrap();
    let told = ini(&line);
    assert!(told.contains("hba.conf:2: +staff: groups are not supported; without this line"), "{told}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Would break with: rules for databases that let in for replication, or the other way round.
#[tokio::test]
async fn replication_has_rules_of_its_own() {
    let pooler =
        pooler("host replication weir_trust 127.0.0.1/32 trust\nhost all weir 127.0.0.1/32 trust\n").start();
    let nothing = "28000 no authentication method is found";
    for (user, replication, is_let_in) in [
        ("weir_trust", "true", true),
        ("weir_trust", "database", false),
        ("weir_trust", "false", false),
        ("weir", "true", false),
        ("weir", "database", true),
        ("weir", "off", true),
    ] {
        let mut raw = Raw::open(pooler.port()).await;
        let startup = [("user", user), ("database", "weir"), ("replication", replication)];
        // Who is let in by the rule may still not be a role that may replicate.
        let refused = raw.try_start(&startup, "").await.err().map(|error| text(&error));
        assert_eq!(refused.as_deref() == Some(nothing), !is_let_in, "{user} {replication}: {refused:?}");
    }
}

/// Would break with: a plain connection that passes for one with a certificate.
#[tokio::test]
async fn a_certificate_needs_tls() {
    let pooler = pooler("host weir weir 127.0.0.1/32 cert\nhostssl weir weir_trust all trust\n").start();
    assert_eq!(outcome(&pooler, "weir", "weir").await, "28000 certificate authentication failed");
    assert_eq!(outcome(&pooler, "weir_trust", "weir").await, "28000 no authentication method is found");
}

/// Would break with: the console's other name taken for a database like any other, or replication that opens it.
#[tokio::test]
async fn the_console_is_one_database_to_the_rules() {
    let rules =
        "host pgbouncer admin 127.0.0.1/32 reject\nhost replication all all trust\nhost all all all trust\n";
    let pooler = pooler(rules).start();
    for database in ["pgbouncer", "pgweir"] {
        for more in [&[][..], &[("replication", "true")]] {
            let refused = try_login(pooler.port(), "admin", database, more).await.unwrap_err();
            assert_eq!(text(&refused), "28000 login rejected", "{database} {more:?}");
        }
    }
}
