//! Configuration files as people have them: loading, converting, checking, reloading.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgweir::config::{
    self, AuthMethod, Config, ConfigErrors, Dialect, Host, Hosts, Loaded, LogFormat, PoolMode,
};
use proptest::prelude::*;

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "POSTGRESQL_HOST" => "db.internal",
        "POSTGRESQL_PORT" => "5433",
        "POSTGRESQL_PASSWORD" => "two words ' and a ${quote}",
        "ADMINS" => "alice, bob",
        "MAX_CLIENTS" => "1000",
        "HOME" => "/home/pooler",
        _ => return None,
    };
    Some(value.to_owned())
}

fn load(path: impl AsRef<Path>) -> Loaded {
    Config::load(path.as_ref(), &environment).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A file that lives as long as this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pgweir-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(&self.0, &environment)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load_text(text: &str) -> Loaded {
    Scratch::new(text).load().unwrap_or_else(|errors| panic!("{errors}"))
}

/// The lines of the error, with the file called `F`.
fn errors(text: &str) -> Vec<String> {
    let file = Scratch::new(text);
    let Err(errors) = file.load() else { panic!("no error in {text}") };
    errors.to_string().lines().map(|line| line.replace(&*file.0.to_string_lossy(), "F")).collect()
}

fn notices(text: &str) -> Vec<String> {
    let file = Scratch::new(text);
    let loaded = file.load().unwrap_or_else(|errors| panic!("{errors}"));
    loaded.notices.iter().map(|notice| notice.to_string().replace(&*file.0.to_string_lossy(), "F")).collect()
}

#[test]
fn shipped_files_load() {
    let reference = load("config/pgweir.toml");
    assert_eq!(reference.dialect, Dialect::Toml);
    assert!(reference.notices.is_empty(), "{:#?}", reference.notices);
    assert_eq!(reference.config.metrics_listen, Some(([127, 0, 0, 1], 9127).into()));
    let minimal = Config::clone(&load("config/minimal.toml").config);
    let ini = load("config/pgbouncer.ini");
    assert_eq!(ini.dialect, Dialect::Ini);
    assert_eq!(Config { file: minimal.file.clone(), ..Config::clone(&ini.config) }, minimal);
}

#[test]
fn the_reference_shows_every_default_as_it_is() {
    // Each commented setting, put into force, must change nothing.
    let text = std::fs::read_to_string("config/pgweir.toml").unwrap();
    let general = text.split("# --- Databases").next().unwrap();
    let is_setting = |line: &&str| {
        line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    for line in general.lines().filter(is_setting) {
        let setting = line.trim_start_matches('#');
        let key = setting.split(' ').next().unwrap();
        if key == "workers" {
            continue;
        }
        let loaded = load_text(&format!("[pgbouncer]\n{setting}\n[databases.x]\nhost = 'x'\n"));
        let effective = loaded.settings.iter().find(|effective| effective.key == key).unwrap();
        // What PgBouncer shows as NULL is not set here, so there is nothing to compare.
        let Some(default) = effective.default.as_deref() else { continue };
        let default = if key == "unix_socket_mode" { "511" } else { default };
        assert_eq!(effective.value.as_deref(), Some(default), "{key}");
    }
}

#[test]
fn the_reference_loads_with_every_line_in_force() {
    let text = std::fs::read_to_string("config/pgweir.toml").unwrap();
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    let text: Vec<_> = text.lines().map(in_force).collect();
    let text = text.join("\n").replace("/run/secrets/app", "tests/fixtures/config/password.txt");
    let loaded = load_text(&text);
    assert!(loaded.notices.is_empty(), "{:#?}", loaded.notices);
    assert!(loaded.config.fallback.is_some() && loaded.config.users.contains_key("reports"));
}

#[test]
fn the_package_file_loads() {
    let loaded = load("tests/fixtures/config/package.ini");
    let config = &loaded.config;
    assert_eq!(config.auth.method, AuthMethod::Trust);
    assert_eq!(config.listen.unix.as_ref().unwrap().dir, Path::new("/var/run/postgresql"));
    assert!(
        config.listen.addresses.iter().all(|address| address.is_loopback())
            && !config.listen.addresses.is_empty()
    );
    assert!(config.databases.is_empty() && config.fallback.is_none());
    assert_eq!(config.log.targets.file.as_deref(), Some(Path::new("/var/log/postgresql/pgbouncer.log")));
    assert_eq!(config.process.pidfile.as_deref(), Some(Path::new("/var/run/postgresql/pgbouncer.pid")));
    assert!(loaded.notices.is_empty(), "{:#?}", loaded.notices);
}

#[test]
fn the_chart_file_loads() {
    let loaded = load("tests/fixtures/config/chart.ini");
    let config = &loaded.config;
    assert_eq!(config.auth.method, AuthMethod::ScramSha256);
    assert_eq!(config.limits.max_client_conn, 1000);
    assert_eq!(config.auth.admin_users.iter().map(String::as_str).collect::<Vec<_>>(), ["alice", "bob"]);
    assert!(config.listen.unix.is_none());
    assert_eq!(config.pool.server_lifetime, Some(Duration::from_millis(1_200_500)));
    let app = &config.databases["app"];
    assert_eq!(app.hosts, Hosts::one(Host::Tcp("db.internal".to_owned())));
    assert_eq!((app.port, app.pool_size), (5433, Some(Some(16))));
    assert_eq!(app.password.as_ref().unwrap().reveal(), "two words ' and a ${quote}");
    let reports = &config.databases["app-reports"];
    assert_eq!(reports.startup["application_name"], "monthly reports; it's slow");
    assert_eq!((reports.pool_mode, reports.query_wait_timeout), (Some(PoolMode::Session), Some(None)));
    assert!(config.fallback.is_some());
    assert_eq!(config.users["reporting"].query_timeout, Some(Some(Duration::from_secs(900))));
    // 0 is the general one.
    assert_eq!(config.users["reporting"].max_user_connections, None);
}

#[test]
fn the_operator_file_loads() {
    let loaded = load("tests/fixtures/config/operator.ini");
    let config = &loaded.config;
    assert_eq!(config.pool.mode, PoolMode::Transaction);
    assert_eq!(config.pool.size, None);
    assert_eq!(config.auth.file.as_deref(), Some(Path::new("/home/pooler/users.txt")));
    assert_eq!(config.client.idle_transaction, Some(Duration::from_secs(10)));
    assert_eq!(config.listen.unix.as_ref().unwrap().mode, 0o770);
    assert_eq!(config.databases["orders"].hosts, Hosts::one(Host::Tcp("orders-rw".to_owned())));
    assert_eq!(config.databases["orders"].password.as_ref().unwrap().reveal(), "first line = secret");
    assert_eq!(config.databases["local"].hosts, Hosts::one(Host::Unix("/controller/run".into())));
    assert_eq!(config.databases["stock"].server_lifetime, None);
    assert_eq!(config.databases["stock"].port, 5432);
    assert_eq!((config.workers, config.log.format), (2, LogFormat::Json));
    let twice = "tests/fixtures/config/operator-databases.ini:2: [databases] orders: set again at \
                 tests/fixtures/config/operator-databases.ini:4, and the last one wins";
    assert!(loaded.notices.iter().any(|notice| notice.to_string() == twice), "{:#?}", loaded.notices);
    assert_eq!(loaded.notices.iter().filter(|notice| notice.to_string().contains("[peers]")).count(), 0);
    assert_eq!(config.peering.peers.len(), 2);
}

#[test]
fn converting_changes_nothing() {
    for name in ["package.ini", "chart.ini", "operator.ini"] {
        let path = Path::new("tests/fixtures/config").join(name);
        let text = config::convert(&path).unwrap_or_else(|errors| panic!("{errors}"));
        let converted = load_text(&text);
        assert_eq!(converted.dialect, Dialect::Toml);
        let before = Config::clone(&load(&path).config);
        assert_eq!(
            Config { file: before.file.clone(), ..Config::clone(&converted.config) },
            before,
            "{text}"
        );
        let again = Scratch::new(&text);
        let twice = config::convert(&again.0).unwrap();
        let body = |text: &str| text.split_once('\n').unwrap().1.to_owned();
        assert_eq!(body(&twice), body(&text));
    }
}

#[test]
fn converting_keeps_what_stands_for_a_secret() {
    let chart = config::convert(Path::new("tests/fixtures/config/chart.ini")).unwrap();
    assert!(chart.contains("password = \"${POSTGRESQL_PASSWORD}\""), "{chart}");
    assert!(!chart.contains("clear text"), "{chart}");
    let file = Scratch::new("[databases]\na = user=u password='x y'\n[pgbouncer]\nauth_type = pam\n");
    let text = config::convert(&file.0).unwrap();
    assert!(text.contains("# A secret in clear text"), "{text}");
    assert!(text.contains("password = \"x y\""), "{text}");
    assert!(
        text.contains("# pgweir does not start with this: not supported yet: cert waits for TLS"),
        "{text}"
    );
    let file = Scratch::new("[pgbouncer]\npool_moed = x\nverbose = 9\n");
    let errors = config::convert(&file.0).unwrap_err();
    assert_eq!(errors.0.len(), 2, "{errors}");
}

#[test]
fn every_problem_is_told_with_its_line() {
    let text = "[pgbouncer]
pool_szie = 1
pool_mode = sesion
server_lifetime = 30s
log_stats = on
listen_port = 65536
default_pool_size = one
auth_file = x
unix_socket_mode = 0999
[databases]
pgbouncer = host=a
a = host=a,b hots=c port=0
b = host=, password_file=/no/such/file
c = password=hidden password_file=x pool_mode=many
[pgweir]
pool_mode = session
metrics_listen = 9127
[peers]
0 = host=a
7 = port=1
";
    let expected = [
        "F:2: [pgbouncer] pool_szie: unknown key",
        "F:3: [pgbouncer] pool_mode: \"sesion\" is not allowed: expected session, transaction or statement; did you \
         mean session?",
        "F:4: [pgbouncer] server_lifetime: \"30s\" is not allowed: expected a number of seconds",
        "F:5: [pgbouncer] log_stats: \"on\" is not allowed: expected 0 or 1",
        "F:6: [pgbouncer] listen_port: \"65536\" is not allowed: expected a whole number from 0 to 65535",
        "F:7: [pgbouncer] default_pool_size: \"one\" is not allowed: expected a whole number from 0 to 2147483647",
        "F:9: [pgbouncer] unix_socket_mode: \"0999\" is not allowed: expected permission bits such as 0770",
        "F:11: [databases] pgbouncer: this name is reserved for the console",
        "F:12: [databases] a hots: unknown key, did you mean host?",
        "F:12: [databases] a port: \"0\" is not allowed: expected a whole number from 1 to 65535",
        "F:13: [databases] b host: \",\" is not allowed: expected hosts between commas",
        "F:14: [databases] c pool_mode: \"many\" is not allowed: expected session, transaction or statement",
        "F:14: [databases] c password_file: password is set as well; keep one of them",
        "F:16: [pgweir] pool_mode: this key belongs into [pgbouncer]",
        "F:17: [pgweir] metrics_listen: \"9127\" is not allowed: expected host:port, such as 127.0.0.1:9127",
        "F:19: [peers] 0: the name of a peer is a number from 1 to 65535",
        "F:20: [peers] 7: a peer needs a host",
    ];
    let told = errors(text);
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn toml_problems_are_told_with_their_line() {
    let text = "[pgbouncer]
unix_socket_mode = 770
listen_addr = [true]
log_stats = 'on'
query_timeout = '1 fortnight'
[databases.a]
port = 'x'
[databases.b]
password = 1234
[users.u]
pool_mode = 1979-05-27
";
    assert_eq!(
        errors(text),
        [
            "F:2: [pgbouncer] unix_socket_mode: 770 is not allowed: expected permission bits such as 0o770 or \"0770\"",
            "F:3: [pgbouncer] listen_addr: a list of other things than words is not allowed: expected words with \
             commas between them, or a list of strings",
            "F:4: [pgbouncer] log_stats: \"on\" is not allowed: expected true or false",
            "F:5: [pgbouncer] query_timeout: \"1 fortnight\" is not allowed: expected a number of seconds, or one \
             with a unit such as \"500ms\", \"30s\", \"5min\" or \"1h\"",
            "F:7: [databases] a port: \"x\" is not allowed: expected a whole number from 1 to 65535",
            "F:9: [databases] b password: this value is not allowed: expected a string",
            "F:11: [users] u pool_mode: a date is not allowed: expected session, transaction or statement",
        ]
    );
}

#[test]
fn security_settings_are_refused_not_ignored() {
    for line in [
        "auth_ldap_options = x",
        "auth_type = cert",
        "auth_type = ldap",
        "auth_type = pam",
        "client_tls_sslmode = allow",
        "client_tls_sslmode = require",
        "server_tls_sslmode = require",
        "server_tls_sslmode = verify-full",
    ] {
        let told = errors(&format!("[pgbouncer]\n{line}\n"));
        let key = line.split(' ').next().unwrap();
        assert!(told[0].starts_with(&format!("F:2: [pgbouncer] {key}: not supported yet: ")), "{told:?}");
    }
    // Values that change nothing are fine.
    assert!(notices("[pgbouncer]\nauth_query =\nauth_hba_file =\nclient_tls_sslmode = disable\n").is_empty());
    assert!(notices("[pgbouncer]\nserver_tls_sslmode = disable\n").is_empty());
    assert_eq!(
        notices("[pgbouncer]\nserver_tls_sslmode = prefer\n"),
        ["F:2: [pgbouncer] server_tls_sslmode: not yet honoured: connections to servers are plain text"]
    );
}

#[test]
fn a_place_to_look_users_up_that_is_none_is_noticed() {
    let text = "[databases]\na = host=a\nb = host=b auth_dbname=a\nc = host=c auth_dbname=x\n[pgbouncer]\nauth_dbname = y\n";
    let nobody = |name| format!("there is no database {name} to ask in: nobody can be looked up");
    assert_eq!(
        notices(text),
        [
            format!("F:4: [databases] c auth_dbname: {}", nobody("x")),
            format!("F:6: [pgbouncer] auth_dbname: {}", nobody("y")),
        ]
    );
    assert_eq!(notices(&format!("{text}[databases]\n* = host=z\n")), [""; 0]);
    assert_eq!(notices("[pgbouncer]\nauth_dbname = pgbouncer\n").len(), 1);
}

#[test]
fn what_is_not_done_as_asked_is_noticed() {
    let text = "[databases]
a = pool_size=2 min_pool_size=3 connect_query='SELECT 1'
b = password=x
[pgbouncer]
pkt_buf = 8192
syslog = 0
syslog = 1
reserve_pool_size = 0
";
    assert_eq!(
        notices(text),
        [
            "F:2: [databases] a min_pool_size: 3 is more than the size of the pool, 2, which bounds it",
            "F:3: [databases] b password: no effect without user",
            "F:5: [pgbouncer] pkt_buf: ignored: buffers have their own size",
            "F:6: [pgbouncer] syslog: set again at F:7, and the last one wins",
        ]
    );
}

#[test]
fn settings_that_do_not_go_together() {
    let any = "[pgbouncer]\nauth_type = any\n[databases]\na = user=x\n* = host=b\n";
    let why = "auth_type=any does not know who a client is: without a user to log in as nobody gets in here";
    assert_eq!(notices(any), [format!("F:5: [databases] *: {why}")]);
    assert_eq!(
        errors("[pgbouncer]\nunix_socket_dir =\n"),
        [
            "default: [pgbouncer] listen_addr: nowhere to listen: listen_addr and unix_socket_dir are both empty"
        ]
    );
    assert_eq!(
        notices("[pgbouncer]\nunix_socket_dir =\nlisten_addr = ::1\n[databases]\na =\n"),
        [
            "F:5: [databases] a: without a host the server is in unix_socket_dir, which is empty: it cannot be reached"
        ]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let errors_of = |path: &Path| Config::load(path, &environment).unwrap_err().to_string();
    assert!(errors_of(Path::new("/no/such/file")).starts_with("/no/such/file: cannot be read: No such file"));
    let told = errors("; x\n%include /no/such/file\n");
    assert!(told[0].starts_with("F:2: cannot be read: /no/such/file: No such file"), "{told:?}");
    let itself = Scratch::new("");
    std::fs::write(&itself.0, format!("%include {}\n", itself.0.display())).unwrap();
    assert!(errors_of(&itself.0).ends_with(":1: syntax error: %include more than 10 files deep"));
    std::fs::write(&itself.0, b"[databases]\na = user=\xff\n").unwrap();
    assert!(errors_of(&itself.0).ends_with(":2: syntax error: this line is not UTF-8"));
}

#[test]
fn the_report_shows_values_with_their_origin() {
    let loaded = load("tests/fixtures/config/chart.ini");
    let report = config::check_report(&loaded);
    for text in [
        "default_pool_size = 40",
        "# tests/fixtures/config/chart.ini:17",
        "server_round_robin = 0                                   # default",
        "unix_socket_mode = 0777",
        "    password = ***",
    ] {
        assert!(report.contains(text), "{text}\n{report}");
    }
    assert!(!report.contains("two words"), "{report}");
    let (_, differences) =
        report.split_once("\ndifferences from PgBouncer 1.26 that this file meets\n").unwrap();
    for text in [
        // What is set, and what nobody sets.
        "tests/fixtures/config/chart.ini:15: [pgbouncer] pool_mode: a client stays with its server",
        "default: [pgweir] workers: there are several threads, PgBouncer has one",
    ] {
        assert!(differences.contains(text), "{text}\n{differences}");
    }
    let one = load_text("[pgbouncer]\nlisten_addr = ::1\nworkers = 1\npkt_buf = 8192\nsbuf_loopcnt = 5\n");
    let told = |key: &str| one.differences.iter().filter(|told| told.key.as_deref() == Some(key)).count();
    assert_eq!((told("workers"), told("pkt_buf"), told("sbuf_loopcnt"), told("listen_addr")), (0, 1, 0, 0));
    assert!(!format!("{loaded:?}").contains("two words"));
}

#[test]
fn settings_are_listed_as_pgbouncer_does() {
    let loaded = load("tests/fixtures/config/operator.ini");
    let keys: Vec<_> = loaded.settings.iter().map(|setting| setting.key).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), 108);
    let value = |key: &str| {
        loaded.settings.iter().find(|setting| setting.key == key).unwrap().value.as_deref().unwrap()
    };
    assert_eq!(value("unix_socket_mode"), "504");
    assert_eq!(value("server_lifetime"), "3600");
    assert_eq!(value("server_round_robin"), "1");
    assert_eq!(value("track_extra_parameters"), "IntervalStyle, search_path");
    assert_eq!(value("conffile"), "tests/fixtures/config/operator.ini");
}

#[test]
fn a_reload_knows_what_changed() {
    let text = "[pgbouncer]\nlisten_port = 1\nworkers = 1\n[databases]\na = host=a\nb = host=b\nc = host=c\n* = host=x\n";
    let old = load_text(text).config;
    assert_eq!(old.diff(&old), config::Diff::default());
    let text = "[pgbouncer]\nlisten_port = 2\nworkers = 1\npool_mode=statement\nunix_socket_mode = 0700\n\
                [databases]\na = host=a pool_size=1\nb = host=b port=1\nd =\n";
    let new = load_text(text).config;
    let diff = old.diff(&new);
    assert_eq!(diff.needs_restart, ["listen_port", "unix_socket_mode"]);
    assert_eq!((diff.added, diff.removed), (vec!["d".to_owned()], vec!["*".to_owned(), "c".to_owned()]));
    assert_eq!(diff.moved, ["b"]);
    let kept = Config::clone(&new).keeping_fixed(&old);
    assert_eq!((kept.listen.port, kept.pool.mode), (1, PoolMode::Statement));
    assert!(old.diff(&kept).needs_restart.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let file = Scratch::new(&text);
        let _ = file.load();
        let _ = config::convert(&file.0);
    }

    #[test]
    fn no_ini_makes_it_panic(
        lines in prop::collection::vec("(\\[(pgbouncer|databases|users|peers|pgweir)\\]|[a-c\"*]{1,4} ?= ?[a-z='\" ${}0-9]{0,20}|(listen_port|verbose|stats_period|unix_socket_mode|auth_type) = [0-9a-fx.${}-]{0,12}|[;#%]?.{0,10})", 0..12)
    ) {
        let file = Scratch::new(&format!("; ini\n{}", lines.join("\n")));
        let _ = file.load();
        let _ = config::convert(&file.0);
    }

    #[test]
    fn no_toml_makes_it_panic(
        lines in prop::collection::vec("(\\[(pgbouncer|databases\\.[a-c\"*]{1,3}|users\\.u|peers\\.[0-9]|pgweir)\\]|(listen_port|verbose|stats_period|unix_socket_mode|host|port|password) = ([0-9a-fxo._-]{0,12}|\"[a-z='${}0-9]{0,12}\"|\\[[0-9,]{0,5}\\])|.{0,10})", 0..12)
    ) {
        let file = Scratch::new(&format!("{}\n[users.v]\n", lines.join("\n")));
        let _ = file.load();
        let _ = config::convert(&file.0);
    }

    #[test]
    fn any_name_and_secret_survive_converting(name in "[a-z\" .*\\\\]{1,8}", password in "[ -~é]{1,20}", size in 0..500u32) {
        prop_assume!(!password.contains("${"));
        let (quoted, secret) = (name.replace('"', "\"\""), password.replace('\'', "''"));
        let text = format!("[databases]\n\"{quoted}\" = user=u password='{secret}' pool_size={size}\n");
        let (before, file) = (Scratch::new(&text).load(), Scratch::new(&text));
        let before = before.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let converted = load_text(&config::convert(&file.0).unwrap());
        prop_assert_eq!(&before.config.databases, &converted.config.databases);
        let database = before.config.database(&name).unwrap();
        prop_assert_eq!(database.password.as_ref().unwrap().reveal(), password);
    }
}
