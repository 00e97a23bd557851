//! Who the system says a client is: `peer` rules with their maps, and the console for the owner of the process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::look::try_login;
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw};

/// The name of the user that runs this test.
fn me() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared()).setting("unix_socket_dir", "{dir}")
}

fn with_rules(rules: &str, maps: &str) -> PgweirBuilder {
    pooler()
        .setting("auth_type", "hba")
        .setting("auth_hba_file", "{dir}/hba.conf")
        .setting("auth_ident_file", "{dir}/ident.conf")
        .file("hba.conf", rules)
        .file("ident.conf", maps)
}

async fn by_socket(pooler: &Pgweir, user: &str, database: &str) -> Result<Raw, Message> {
    let mut raw = Raw::open_unix(pooler.folder(), pooler.port()).await;
    raw.try_start(&[("user", user), ("database", database)], "wrong").await.map(|()| raw)
}

/// Would break with: names that are taken on trust, a map that is not asked, or one that lets in who is nowhere known.
#[tokio::test]
async fn a_peer_is_who_the_system_says_or_whom_a_map_allows() {
    let me = me();
    let rules = "local weir all peer map=ops\nlocal all all peer\nhost all all 127.0.0.1/32 peer\n";
    let maps = format!("ops {me} weir_trust\nops {me} unlisted\nops somebody weir\n");
    let pooler = with_rules(rules, &maps).user(&me, "").database("postgres", &trusted()).start();
    let mut raw = by_socket(&pooler, "weir_trust", "weir").await.unwrap();
    assert_eq!(raw.value("SELECT session_user").await.unwrap(), "weir_trust");
    for (user, database) in
        [("weir", "weir"), ("unlisted", "weir"), (&me, "weir"), ("weir_trust", "postgres")]
    {
        let error = by_socket(&pooler, user, database).await.unwrap_err();
        let told = (error.field('C'), error.field('M'));
        assert_eq!(told, ("28000".to_owned(), "unix socket login rejected".to_owned()), "{user}@{database}");
    }
    by_socket(&pooler, &me, "postgres").await.unwrap();
    let error = try_login(pooler.port(), "weir_trust", "weir", &[]).await.unwrap_err();
    assert_eq!(error.field('M'), "unix socket login rejected", "over TCP nobody vouches for anybody");
}

/// A database whose server asks for nothing.
fn trusted() -> String {
    format!("host=127.0.0.1 port={} user=weir_trust", Postgres::shared().port())
}

/// Would break with: a rule of `auth_type` that keeps the owner out, or lets in others as the owner.
#[tokio::test]
async fn the_owner_of_the_process_has_its_console_whatever_is_asked_of_others() {
    for method in ["scram-sha-256", "md5", "plain", "trust", "hba"] {
        let pooler =
            with_rules("host all all 127.0.0.1/32 reject\n", "").setting("auth_type", method).start();
        drop(Raw::open_unix(pooler.folder(), pooler.port()).await);
        let owner = std::os::unix::fs::MetadataExt::uid(
            &std::fs::metadata(format!("/proc/{}", pooler.pid())).unwrap(),
        );
        assert_eq!(visit(&pooler, owner, "pgbouncer", "pgbouncer"), "R0 K Z C Z", "{method}");
        assert_ne!(visit(&pooler, owner, "somebody", "pgbouncer"), "R0 K Z C Z", "{method}");
        let other = visit(&pooler, owner, "pgbouncer", "weir");
        assert!(!other.contains('Z'), "{method}: it is the console's user only: {other}");
        let by_tcp = try_login(pooler.port(), "pgbouncer", "pgbouncer", &[]).await;
        assert!(by_tcp.is_err(), "{method}: anybody may come by TCP");
    }
}

/// Would break with: another user of the machine who is taken for the owner.
#[tokio::test]
async fn another_user_of_the_machine_is_not_the_owner() {
    if me() != "root" {
        return; // only root can be somebody else
    }
    let pooler = pooler().setting("unix_socket_mode", "0777").start();
    drop(Raw::open_unix(pooler.folder(), pooler.port()).await);
    assert_eq!(visit(&pooler, 65_534, "pgbouncer", "pgbouncer"), "R10");
}

/// What somebody of this number is told who logs in over the socket, answers nothing, and says RELOAD when let in.
fn visit(pooler: &Pgweir, uid: u32, user: &str, database: &str) -> String {
    let script = format!(
        "import socket,struct\n\
         s=socket.socket(socket.AF_UNIX); s.connect('{}/.s.PGSQL.{}'); f=s.makefile('rb')\n\
         b=struct.pack('>I',196608)+b'user\\0{user}\\0database\\0{database}\\0\\0'\n\
         s.sendall(struct.pack('>I',len(b)+4)+b)\n\
         told=[]\n\
         while told.count('Z')<2:\n\
         \x20t=f.read(1).decode()\n\
         \x20if not t: break\n\
         \x20body=f.read(struct.unpack('>I',f.read(4))[0]-4)\n\
         \x20if t in 'SN': continue\n\
         \x20told.append(t+(str(body[3]) if t=='R' else ''))\n\
         \x20if t=='E' or t=='R' and body[3]: break\n\
         \x20if told.count('Z')==1 and t=='Z': s.sendall(b'Q'+struct.pack('>I',11)+b'RELOAD\\0')\n\
         print(' '.join(told))",
        pooler.folder().display(),
        pooler.port()
    );
    let mut command = std::process::Command::new("/usr/bin/python3");
    if me() == "root" {
        command = std::process::Command::new("setpriv");
        command.args(["--reuid", &uid.to_string(), "--clear-groups", "/usr/bin/python3"]);
    }
    let output = command.args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    said.replace("R0 Z", "R0 K Z")
}

/// Would break with: rights that depend on a name which nobody proves, or that are not those of the lists where one is.
#[tokio::test]
async fn the_console_knows_its_users_by_the_lists_or_everybody_where_nobody_is_asked() {
    let pooler = pooler().setting("auth_type", "any").start();
    let mut raw = try_login(pooler.port(), "whoever", "pgbouncer", &[]).await.unwrap();
    let version = raw.query("SHOW VERSION").await;
    assert!(version.iter().all(|message| message.tag != b'E'), "{version:?}");
    let reload = raw.query("RELOAD").await;
    assert!(reload.iter().any(|message| message.tag == b'E'), "{reload:?}");
    let pooler = self::pooler().setting("auth_type", "trust").start();
    for (user, may_look, may_act) in [("admin", true, true), ("stats", true, false), ("weir", false, false)] {
        let raw = try_login(pooler.port(), user, "pgbouncer", &[]).await;
        assert_eq!(raw.is_ok(), may_look, "{user}");
        if let Ok(mut raw) = raw {
            let reload = raw.query("RELOAD").await;
            assert_eq!(reload.iter().all(|message| message.tag != b'E'), may_act, "{user}: {reload:?}");
        }
    }
}
