//! Configuration files as people have them: each starts, serves, and shows the settings that PgBouncer shows for it.
//!
//! The files are in `tests/files`. `@PORT@` and `@FOLDER@` are the pooler's own, `@SERVER@` is PostgreSQL's port.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Pgweir, Postgres, Raw, free_port};

/// The users of the cluster and of the console, as `auth_file` has them.
const USERLIST: &str = "; made by hand\n\"weir\" \"weir\"\n\"weir_md5\" \"weir_md5\"\n\"weir_trust\" \"\"\n\"admin\" \"admin\"\n\"stats\" \"stats\" \"\"\n";
/// Whoever asks PostgreSQL for the others.
const LOOKUP: &str = "\"lookup\" \"lookup\"\n\"admin\" \"admin\"\n";

/// What the files with an `auth_query` need of the cluster.
const SEARCH: &str = "CREATE SCHEMA IF NOT EXISTS weir_files; \
    DO $$ BEGIN CREATE ROLE lookup LOGIN PASSWORD 'lookup'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
    CREATE OR REPLACE FUNCTION weir_files.user_search(uname text) RETURNS TABLE (usename name, passwd text) \
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS \
    'SELECT usename, passwd FROM pg_shadow WHERE usename = $1'; \
    GRANT USAGE ON SCHEMA weir_files TO lookup; \
    GRANT EXECUTE ON FUNCTION weir_files.user_search(text) TO lookup;";

async fn let_users_be_looked_up() {
    static DONE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    DONE.get_or_init(|| Postgres::shared().execute(SEARCH)).await;
}

fn folder_of_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn filled_in(text: &str, port: u16, folder: &Path) -> String {
    text.replace("@PORT@", &port.to_string())
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@SERVER@", &Postgres::shared().port().to_string())
}

/// The text of the file; whatever belongs to it is written beside it.
fn prepare(name: &str, port: u16, folder: &Path) -> String {
    let write =
        |name: &str, text: &str| std::fs::write(folder.join(name), filled_in(text, port, folder)).unwrap();
    write("userlist.txt", USERLIST);
    write("auth_file.txt", LOOKUP);
    for entry in std::fs::read_dir(folder_of_files()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if file.starts_with(&format!("{name}-")) {
            write(file, &std::fs::read_to_string(&path).unwrap());
        }
    }
    if let Ok(rules) = std::fs::read_to_string(folder_of_files().join(format!("{name}.hba"))) {
        write("pg_hba.conf", &rules);
    }
    let text = std::fs::read_to_string(folder_of_files().join(format!("{name}.ini"))).unwrap();
    filled_in(&text, port, folder)
}

/// Starts pgweir on a file.
fn start(name: &str) -> Pgweir {
    Pgweir::start_text("pgbouncer.ini", |port, folder| prepare(name, port, folder))
}

/// What `SHOW CONFIG` shows: value, default and whether it can be changed, with nothing left of one pooler's own port
/// and folder.
type Settings = BTreeMap<String, [String; 3]>;

async fn settings(port: u16, folder: &Path) -> Settings {
    let mut admin = Raw::login(port, "admin", "admin", "pgbouncer").await;
    let answer = admin.query("SHOW CONFIG").await;
    let folder = folder.display().to_string();
    let shown =
        |value: Option<String>| value.unwrap_or_default().replace(&folder, "FOLDER").replace(", ", ",");
    let rows = answer.iter().filter(|message| message.tag == b'D').map(|row| {
        let [key, value, default, changeable] = row.columns().try_into().unwrap();
        let key: String = key.unwrap();
        let value = if key == "listen_port" { "PORT".to_owned() } else { shown(value) };
        (key, [value, shown(default), shown(changeable)])
    });
    rows.collect()
}

/// The PgBouncer of 1.26, or `None` where it cannot be had.
fn pgbouncer() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pgbouncer.sh");
    let output = Command::new(script).arg("sid").output().unwrap();
    if !output.status.success() {
        eprintln!("SKIPPED: no PgBouncer to compare with: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// A PgBouncer that runs until it is dropped, and its folder.
struct Real(Child, PathBuf);

impl Drop for Real {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _status = self.0.wait();
        let _left = std::fs::remove_dir_all(&self.1);
    }
}

/// What the real one shows for the same file.
async fn settings_of_pgbouncer(name: &str) -> Option<Settings> {
    let program = pgbouncer()?;
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("pgweir-files-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("pgbouncer.ini"), prepare(name, port, &folder)).unwrap();
    common::give_to_unprivileged(&folder);
    let mut command = common::unprivileged(program);
    command.arg("-q").arg(folder.join("pgbouncer.ini"));
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let real = Real(process, folder);
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    common::until("start of PgBouncer", listens).await;
    Some(settings(port, &real.1).await)
}

/// That the file is understood as PgBouncer understands it.
async fn shows_what_pgbouncer_shows(name: &str, pooler: &Pgweir) {
    let ours = settings(pooler.port(), pooler.folder()).await;
    let Some(theirs) = settings_of_pgbouncer(name).await else { return };
    assert!(theirs.len() > 90, "{theirs:?}");
    let mut wrong = Vec::new();
    for (key, shown) in &theirs {
        let own = ours.get(key);
        // What is shown as the default of these is no default that anybody could rely on.
        let differs = |own: &[String; 3]| own[0] != shown[0] || own[2] != shown[2];
        if own.is_none_or(differs) {
            wrong.push(format!("{key}: PgBouncer shows {shown:?}, pgweir {own:?}"));
        }
    }
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

/// A login, a transaction, and a second one that finds nothing of the first.
async fn serves(pooler: &Pgweir, user: &str, password: &str, database: &str) {
    let mut client = Raw::login(pooler.port(), user, password, database).await;
    for turn in ["1", "2"] {
        client.query("BEGIN").await;
        client.query("CREATE TEMP TABLE files (a text) ON COMMIT DROP").await;
        client.query(&format!("INSERT INTO files VALUES ('{turn}')")).await;
        assert_eq!(client.value("SELECT a FROM files").await.as_deref(), Some(turn), "{database}");
        assert_eq!(client.query("COMMIT").await.last().unwrap().status(), 'I');
    }
    client.terminate().await;
}

async fn shown(pooler: &Pgweir, command: &str, name: &str, column: usize) -> Option<String> {
    let rows = pooler.console(command).await;
    let row = rows.iter().find(|row| row[0].as_deref() == Some(name));
    row.unwrap_or_else(|| panic!("no {name} in {rows:?}"))[column].clone()
}

/// Would break with: what a distribution ships that does not start or does not serve.
#[tokio::test]
async fn as_a_distribution_ships_it() {
    let pooler = start("debian");
    serves(&pooler, "weir", "weir", "weir").await;
    shows_what_pgbouncer_shows("debian", &pooler).await;
}

/// Would break with: keys that a chart renders and that stop the start.
#[tokio::test]
async fn as_a_chart_renders_it() {
    let pooler = start("chart");
    serves(&pooler, "weir", "weir", "weir").await;
    serves(&pooler, "weir_md5", "weir_md5", "postgres").await;
    shows_what_pgbouncer_shows("chart", &pooler).await;
}

/// Would break with: a rule file, an `auth_query` in a database of its own, or both together.
#[tokio::test]
async fn as_an_operator_writes_it() {
    let_users_be_looked_up().await;
    let pooler = start("operator-of-a-cluster");
    serves(&pooler, "weir", "weir", "weir").await;
    serves(&pooler, "weir_md5", "weir_md5", "postgres").await;
    shows_what_pgbouncer_shows("operator-of-a-cluster", &pooler).await;
}

/// Would break with: an `auth_user` of the entry `*`.
#[tokio::test]
async fn as_a_sidecar_has_it() {
    let_users_be_looked_up().await;
    let pooler = start("sidecar");
    serves(&pooler, "weir", "weir", "postgres").await;
    serves(&pooler, "weir_md5", "weir_md5", "weir").await;
    shows_what_pgbouncer_shows("sidecar", &pooler).await;
}

/// Would break with: settings of entries and users that are not read together with the general ones.
#[tokio::test]
async fn as_a_shop_has_it() {
    let pooler = start("shop");
    for database in ["shop_production", "shop_production_jobs", "shop_production_replica", "shop_migrations"]
    {
        serves(&pooler, "weir", "weir", database).await;
    }
    assert_eq!(shown(&pooler, "SHOW DATABASES", "shop_production", 5).await.as_deref(), Some("15"));
    assert_eq!(shown(&pooler, "SHOW DATABASES", "shop_production_jobs", 9).await.as_deref(), Some("session"));
    assert_eq!(shown(&pooler, "SHOW USERS", "weir_md5", 3).await.as_deref(), Some("session"));
    assert_eq!(shown(&pooler, "SHOW USERS", "weir", 4).await.as_deref(), Some("40"));
    shows_what_pgbouncer_shows("shop", &pooler).await;
}

/// Would break with: an old spelling that is taken for a mistake; a number in octal or hexadecimal that is read as
/// decimal, or one in a connection string that is not.
#[tokio::test]
async fn as_it_was_written_for_old_versions() {
    let pooler = start("old");
    serves(&pooler, "weir", "weir", "weir").await;
    serves(&pooler, "weir", "weir", "nodefault").await;
    assert_eq!(shown(&pooler, "SHOW CONFIG", "max_client_conn", 1).await.as_deref(), Some("256"));
    assert_eq!(shown(&pooler, "SHOW CONFIG", "default_pool_size", 1).await.as_deref(), Some("16"));
    assert_eq!(shown(&pooler, "SHOW DATABASES", "weir", 5).await.as_deref(), Some("10"));
    shows_what_pgbouncer_shows("old", &pooler).await;
}

/// Would break with: an entry `*` that forgets its user or its mode.
#[tokio::test]
async fn as_it_stands_for_a_proxy() {
    let pooler = start("proxy");
    serves(&pooler, "weir", "weir", "weir").await;
    serves(&pooler, "weir_md5", "weir_md5", "postgres").await;
    let mut client = Raw::login(pooler.port(), "weir", "weir", "postgres").await;
    assert_eq!(client.value("SELECT current_user").await.as_deref(), Some("weir_trust"));
    shows_what_pgbouncer_shows("proxy", &pooler).await;
}

/// Would break with: an `%include` that loses its section or gives it to the lines behind, or a first value that wins.
#[tokio::test]
async fn as_parts_of_several_hands() {
    let pooler = start("parts");
    for database in ["weir", "with-dash", "second"] {
        serves(&pooler, "weir", "weir", database).await;
    }
    assert_eq!(shown(&pooler, "SHOW CONFIG", "max_client_conn", 1).await.as_deref(), Some("70"));
    assert_eq!(shown(&pooler, "SHOW DATABASES", "weir", 5).await.as_deref(), Some("4"));
    assert_eq!(shown(&pooler, "SHOW USERS", "weir", 3).await.as_deref(), Some("transaction"));
    shows_what_pgbouncer_shows("parts", &pooler).await;
}

/// Would break with: an `auth_user` of an entry, beside a general `auth_query`.
#[tokio::test]
async fn as_the_package_of_a_forge_renders_it() {
    let_users_be_looked_up().await;
    let pooler = start("package-of-a-forge");
    serves(&pooler, "weir", "weir", "forge_production").await;
    serves(&pooler, "weir_md5", "weir_md5", "forge_production_sidekiq").await;
    shows_what_pgbouncer_shows("package-of-a-forge", &pooler).await;
}

/// Would break with: names that PgBouncer's manual allows and its parser does not: they need double quotes.
#[tokio::test]
async fn with_names_in_quotes() {
    let server = Postgres::shared().port();
    let entry = format!("host=127.0.0.1 port={server} dbname=weir");
    let text = "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\nauth_type = trust\nauth_file = ";
    let pooler = Pgweir::start_text("pgbouncer.ini", |port, folder| {
        std::fs::write(folder.join("userlist.txt"), "\"weir_trust\" \"\"\n").unwrap();
        let folder = folder.display();
        format!(
            "{text}{folder}/userlist.txt\nlisten_port = {port}\n[databases]\n\"app-é\" = {entry}\n\"a \"\"b\"\"\" = {entry}\n"
        )
    });
    for database in ["app-é", "a \"b\""] {
        serves(&pooler, "weir_trust", "", database).await;
    }
}

/// Would break with: quotes that end early, a `;` or `#` in a value taken for a comment, blanks around `=`.
#[tokio::test]
async fn with_quotes_in_quotes() {
    let pooler = start("quotes");
    let name = "SHOW application_name";
    for (database, setting, value) in [
        ("app-team.web", name, "{\"team\": \"web\", \"env\"=\"prod\"; x}"),
        ("it_is", name, "it's; #not a comment"),
        ("UPPER.case", "SHOW TimeZone", "America/St_Johns"),
        ("UPPER.case", "SHOW DateStyle", "German, DMY"),
        ("UPPER.case", "SHOW client_encoding", "LATIN1"),
    ] {
        serves(&pooler, "weir", "weir", database).await;
        let mut client = Raw::login(pooler.port(), "weir", "weir", database).await;
        assert_eq!(client.value(setting).await.as_deref(), Some(value), "{database}");
    }
    serves(&pooler, "weir", "weir", "weir").await;
    assert_eq!(
        shown(&pooler, "SHOW CONFIG", "server_check_query", 1).await.as_deref(),
        Some("select '; # no comment'")
    );
    shows_what_pgbouncer_shows("quotes", &pooler).await;
}

/// Would break with: a file of this folder that no test starts.
#[test]
fn every_file_is_started() {
    let tests = include_str!("files.rs");
    for entry in std::fs::read_dir(folder_of_files()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_part = name.starts_with("parts-");
        assert!(is_part || tests.contains(&format!("start(\"{name}\")")), "{name}");
    }
}
