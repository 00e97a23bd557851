//! The console over the simple protocol: every table and every answer is PgBouncer's. What is compared with stands in
//! `tests/fixtures/console`, written down from PgBouncer 1.26.1 itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::look::error_of;
use common::raw::tags;
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

const COLUMNS: &str = include_str!("fixtures/console/columns.txt");
const CONFIG: &str = include_str!("fixtures/console/config.txt");

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

async fn admin(pooler: &Pgweir) -> Raw {
    Raw::login(pooler.port(), "admin", "admin", "pgbouncer").await
}

async fn stats(pooler: &Pgweir) -> Raw {
    Raw::login(pooler.port(), "stats", "stats", "pgbouncer").await
}

/// Name and type of each column of a RowDescription.
fn described(message: &Message) -> String {
    assert_eq!(message.tag, b'T', "{message:?}");
    let mut rest = &message.body[2..];
    let mut columns = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, behind) = (String::from_utf8_lossy(&rest[..end]), &rest[end + 1..]);
        let oid = u32::from_be_bytes(behind[6..10].try_into().unwrap());
        let size = i16::from_be_bytes(behind[10..12].try_into().unwrap());
        assert_eq!(
            size,
            match oid {
                23 => 4,
                20 => 8,
                _ => -1,
            },
            "{name}"
        );
        assert_eq!(behind[12..18], [255, 255, 255, 255, 0, 0], "{name}");
        columns.push(format!("{name}:{oid}"));
        rest = &behind[18..];
    }
    columns.join(" ")
}

fn rows(answer: &[Message]) -> Vec<Vec<Option<String>>> {
    answer.iter().filter(|message| message.tag == b'D').map(Message::columns).collect()
}

fn lines(answer: &[Message]) -> Vec<String> {
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
    rows(answer).into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join("|")).collect()
}

/// What became of a command, in a line: the SQLSTATE and text of an error, or the tag.
fn outcome(answer: &[Message]) -> String {
    match answer.iter().find(|message| message.tag == b'E') {
        Some(error) => format!("{} {}", error.field('C'), error.field('M')),
        None => answer.iter().find(|message| message.tag == b'C').map(Message::text).unwrap_or(tags(answer)),
    }
}

/// Would break with: a column that is missing, more, renamed, moved or of another type.
#[tokio::test]
async fn every_table_has_the_columns_of_pgbouncer() {
    let pooler = pooler().start();
    let (mut admin, mut stats) = (admin(&pooler).await, stats(&pooler).await);
    let tables = COLUMNS.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for (word, columns) in tables.map(|line| line.split_once(": ").unwrap()) {
        for user in [&mut admin, &mut stats] {
            let answer = user.query(&format!("SHOW {word}")).await;
            assert_eq!(described(&answer[0]), columns, "SHOW {word}");
            assert_eq!(outcome(&answer), "SHOW", "SHOW {word}");
            let width = columns.split(' ').count();
            assert!(rows(&answer).iter().all(|row| row.len() == width), "SHOW {word}");
        }
        count += 1;
    }
    assert_eq!(count, 20);
}

/// Would break with: rows of other names, in another order, or figures that do not follow what happens.
#[tokio::test]
async fn rows_come_in_pgbouncers_order() {
    let database = Postgres::shared().fresh_database().await;
    let entry = format!("host=127.0.0.1 port={}", Postgres::shared().port());
    // With several threads a pool may dial one more than it needs when its first client comes.
    let pooler = pooler()
        .setting("workers", 1)
        .database("zeta", &format!("{entry} dbname={database} pool_size=3 pool_mode=statement user=weir"))
        .database("sock", "dbname=weir host=/tmp")
        .user_setting("weir_trust", "max_user_connections=4 pool_size=7 reserve_pool_size=2")
        .start();
    let mut one = pooler.raw().await;
    one.query("BEGIN").await;
    let mut two = Raw::login(pooler.port(), "weir_trust", "weir_trust", "zeta").await;
    two.query("SELECT 1").await;
    let mut admin = Raw::open(pooler.port()).await;
    admin.start(&[("user", "admin"), ("database", "pgbouncer"), ("application_name", "me")], "admin").await;
    let first = |lines: Vec<String>, columns: usize| -> Vec<String> {
        lines.iter().map(|line| line.split('|').take(columns).collect::<Vec<_>>().join("|")).collect()
    };
    let pools = lines(&admin.query("SHOW POOLS").await);
    assert_eq!(
        pools,
        [
            "pgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement|NULL",
            "weir|weir|1|0|0|0|1|0|0|0|0|0|0|0|0|transaction|NULL",
            "zeta|weir|1|0|0|0|0|0|0|1|0|0|0|0|0|statement|NULL",
        ]
    );
    let clients = lines(&admin.query("SHOW CLIENTS").await);
    assert_eq!(
        first(clients.clone(), 6),
        [
            "C|admin|pgbouncer|none|idle|127.0.0.1",
            "C|weir|weir|none|active|127.0.0.1",
            "C|weir_trust|zeta|none|idle|127.0.0.1"
        ]
    );
    assert_eq!(clients[0].split('|').nth(18), Some("me"));
    let servers = lines(&admin.query("SHOW SERVERS").await);
    assert_eq!(first(servers, 6), ["S|weir|weir|none|active|127.0.0.1", "S|weir|zeta|none|idle|127.0.0.1"]);
    let sockets = lines(&admin.query("SHOW SOCKETS").await);
    assert_eq!(
        first(sockets, 5),
        [
            "C|admin|pgbouncer|none|cl_active",
            "C|weir|weir|none|cl_active",
            "S|weir|weir|none|sv_active",
            "C|weir_trust|zeta|none|cl_active",
            "S|weir|zeta|none|sv_idle",
        ]
    );
    let active = lines(&admin.query("SHOW ACTIVE_SOCKETS").await);
    assert_eq!(first(active, 5), ["C|admin|pgbouncer|none|cl_active"]);
    let users = lines(&admin.query("SHOW USERS").await);
    assert!(users.iter().any(|line| line.starts_with("weir_trust|        7|")), "{users:?}");
    assert!(users.contains(&"admin|||NULL|0|0|0|1".to_owned()), "{users:?}");
    let databases = first(lines(&admin.query("SHOW DATABASES").await), 1);
    assert_eq!(databases, ["pgbouncer", "sock", "weir", "zeta"]);
    let lists = lines(&admin.query("SHOW LISTS").await);
    let names: Vec<_> = lists.iter().map(|line| line.split('|').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "databases",
            "users",
            "peers",
            "pools",
            "peer_pools",
            "free_clients",
            "used_clients",
            "login_clients",
            "free_servers",
            "used_servers",
            "dns_names",
            "dns_zones",
            "dns_queries",
            "dns_pending"
        ]
    );
    assert!(
        lists.contains(&"pools|3".to_owned()) && lists.contains(&"used_clients|3".to_owned()),
        "{lists:?}"
    );
    let stats = lines(&admin.query("SHOW STATS_TOTALS").await);
    let console: Vec<_> =
        stats.iter().find(|line| line.starts_with("pgbouncer|")).unwrap().split('|').collect();
    // Eight commands so far, and one login.
    assert_eq!((console[2], console[3], console[12]), ("9", "9", "1"));
    let memory = lines(&admin.query("SHOW MEM").await);
    assert!(memory.iter().any(|line| line.starts_with("client_cache|")), "{memory:?}");
    let totals = lines(&admin.query("SHOW TOTALS").await);
    assert_eq!((totals.len(), totals[11].split('|').next()), (24, Some("total_client_login_count")));
}

/// Would break with: a setting that is missing or ours among them, another default, or NULL in the wrong place.
#[tokio::test]
async fn show_config_is_that_of_pgbouncer() {
    let pooler = Pgweir::start_text("defaults.ini", |port, _| {
        format!("[databases]\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n")
    });
    let mut admin = Raw::open(pooler.port()).await;
    admin.start(&[("user", "anyone"), ("database", "pgbouncer")], "").await;
    let shown = lines(&admin.query("SHOW CONFIG").await);
    let golden: Vec<_> = CONFIG.lines().filter(|line| !line.starts_with('#')).collect();
    let keys = |lines: &[&str]| -> Vec<String> {
        lines.iter().map(|line| line.split('|').next().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&shown.iter().map(String::as_str).collect::<Vec<_>>()), keys(&golden));
    for (ours, theirs) in shown.iter().zip(golden) {
        let key = theirs.split('|').next().unwrap();
        if !["conffile", "listen_addr", "listen_port"].contains(&key) {
            assert_eq!(ours, theirs);
        }
    }
    assert!(shown.contains(&format!("listen_port|{}|6432|no", pooler.port())));
    // Our own have a table of their own, which names the line.
    let settings = lines(&admin.query("SHOW SETTINGS").await);
    assert!(settings.iter().any(|line| line.starts_with("workers|")), "{settings:?}");
    let port = settings.iter().find(|line| line.starts_with("listen_port|")).unwrap();
    assert!(port.ends_with("defaults.ini:4"), "{port}");
}

/// Would break with: another reading of a text than PgBouncer's. The outcomes were taken from it.
#[tokio::test]
async fn texts_are_read_as_pgbouncer_reads_them() {
    let pooler = pooler().start();
    let mut admin = admin(&pooler).await;
    for text in [
        "SHOW VERSION;",
        "show version",
        " \n\tShow\r\n vErsion ; ",
        "\"show\" \"version\"",
        "select version",
        "SELECT pools",
        "show client_encoding",
        "SHOW TimeZone",
        "select datestyle",
    ] {
        assert_eq!(outcome(&admin.query(text).await), "SHOW", "{text}");
    }
    for (name, value) in [
        ("client_encoding", "UTF-8"),
        ("default_transaction_isolation", "read committed"),
        ("standard_conforming_strings", "on"),
        ("datestyle", "ISO"),
        ("timezone", "GMT"),
        ("extra_float_digits", "2"),
    ] {
        let answer = admin.query(&format!("SHOW {name}")).await;
        assert_eq!(described(&answer[0]), format!("{name}:25"));
        assert_eq!(lines(&answer), [value]);
        let answer = admin.query(&format!("SET {name} TO 'something'")).await;
        assert_eq!((tags(&answer).as_str(), answer[0].field('M').as_str()), ("N C Z", "SET ignored"));
    }
    for text in [
        "",
        ";",
        " ; ",
        ";;",
        "SHOW VERSION;;",
        "SHOW VERSION; SHOW VERSION",
        "show",
        "show foo",
        "show 'version'",
        "select version()",
        "SELECT 1",
        "-- hi\nshow version",
        "/* x */ show version",
        "show version -- hi",
        "show version x",
        "show time zone",
        "show max_client_conn",
        "show fds",
        "set client_encoding utf8",
        "set datestyle to ISO, MDY",
        "RELOAD x",
        "kill_client -1",
        "kill_client '99'",
        "foo",
        "foo bar",
        "set",
        "set x = y z",
        "set query_timeout = 1.5",
        "set max_client_conn == 1",
        "set 'max_client_conn' = 1",
        "SHOW é",
        "reconnect \"unclosed",
        "select * from pools",
        "show config where key = 'x'",
    ] {
        let error = format!("08P01 invalid command '{text}', use SHOW HELP;");
        let answer = admin.query(text).await;
        assert_eq!((outcome(&answer), error_of(&answer).field('S').as_str()), (error, "ERROR"));
    }
    for (text, error) in [
        ("kill_client", "08P01 invalid client pointer supplied"),
        ("kill_client x", "08P01 invalid client pointer supplied"),
        ("kill_client 0x55", "08P01 client not found"),
        ("kill_client 99999999999999999999", "08P01 client not found"),
        ("kill_client \"-1\"", "08P01 client not found"),
        ("reconnect pgbouncer", "08P01 cannot reconnect admin db: pgbouncer"),
        ("set nosuch = 1", "08P01 SET failed"),
    ] {
        assert_eq!(outcome(&admin.query(text).await), error, "{text}");
    }
    let help = admin.query("SHOW HELP").await;
    assert_eq!((tags(&help).as_str(), help[0].field('M').as_str()), ("N C Z", "Console usage"));
    for word in COLUMNS.lines().filter_map(|line| line.split_once(": ")).map(|(word, _)| word) {
        assert!(help[0].field('D').split(['|', ' ', '\n']).any(|known| known == word), "{word}");
    }
}

/// Would break with: a driver that begins a transaction, cleans up or pings being told that it made a mistake.
#[tokio::test]
async fn what_drivers_send_unasked_is_answered() {
    let pooler = pooler().start();
    let mut stats = stats(&pooler).await;
    for (text, tag, status) in [
        ("BEGIN", "BEGIN", 'T'),
        ("SHOW VERSION", "SHOW", 'T'),
        ("COMMIT", "COMMIT", 'I'),
        ("START TRANSACTION READ ONLY", "BEGIN", 'T'),
        ("ROLLBACK", "ROLLBACK", 'I'),
        ("DISCARD ALL", "DISCARD ALL", 'I'),
    ] {
        let answer = stats.query(text).await;
        assert_eq!((outcome(&answer).as_str(), answer.last().unwrap().status()), (tag, status), "{text}");
    }
    assert_eq!(tags(&stats.query("-- ping").await), "I Z");
}

/// Would break with: a right too much, or an argument that is looked at before the right.
#[tokio::test]
async fn only_administrators_change_things() {
    let pooler = pooler().start();
    let mut stats = stats(&pooler).await;
    for text in [
        "RELOAD",
        "PAUSE",
        "RESUME",
        "DISABLE weir",
        "ENABLE weir",
        "RECONNECT",
        "KILL",
        "KILL_CLIENT 1",
        "KILL_CLIENT x",
        "KILL_CLIENT",
        "SHUTDOWN",
        "SHUTDOWN WAIT_FOR_SERVERS",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "WAIT_CLOSE",
        "SET max_client_conn = 1",
        "SET nosuch = 1",
        "SUSPEND",
    ] {
        assert_eq!(outcome(&stats.query(text).await), "08P01 admin access needed", "{text}");
    }
    let refused = common::look::try_login(pooler.port(), "weir", "pgbouncer", &[]).await.unwrap_err();
    assert_eq!((refused.field('S').as_str(), refused.field('M').as_str()), ("FATAL", "not allowed"));
}

/// Would break with: other parameters than PgBouncer's, from which tools take what they talk to.
#[tokio::test]
async fn the_welcome_is_that_of_pgbouncer() {
    let pooler = pooler().start();
    let admin = admin(&pooler).await;
    let told: BTreeMap<_, _> =
        admin.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("pgbouncer.version", "1.26.1"),
        ("server_version", "1.26.1/bouncer"),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ];
    assert_eq!(told, BTreeMap::from(expected));
    assert_eq!(admin.key.len(), 8);
}

/// Would break with: a client of the console or one in line that cannot be killed, or another text.
#[tokio::test]
async fn any_client_can_be_killed() {
    let pooler = pooler().pool_size(1).start();
    let mut holder = pooler.raw().await;
    holder.query("BEGIN").await;
    let mut waiter = Raw::login(pooler.port(), "weir", "weir", "weir").await;
    waiter.write(&frontend::query("SELECT 1")).await;
    let mut idle = Raw::login(pooler.port(), "weir_trust", "weir_trust", "weir").await;
    let mut visitor = stats(&pooler).await;
    let mut admin = admin(&pooler).await;
    loop {
        let states = lines(&admin.query("SHOW CLIENTS").await);
        if states.iter().any(|line| line.contains("|waiting|")) {
            break;
        }
    }
    let ids: Vec<(String, String, String)> = rows(&admin.query("SHOW CLIENTS").await)
        .into_iter()
        .map(|row| (row[1].clone().unwrap(), row[4].clone().unwrap(), row[20].clone().unwrap()))
        .collect();
    let id = |user: &str, state: &str| {
        ids.iter().find(|(of, now, _)| of == user && now == state).map(|(_, _, id)| id.clone()).unwrap()
    };
    for (user, state, raw) in
        [("weir", "waiting", &mut waiter), ("weir_trust", "idle", &mut idle), ("stats", "idle", &mut visitor)]
    {
        assert_eq!(outcome(&admin.query(&format!("KILL_CLIENT {}x", id(user, state))).await), "KILL_CLIENT");
        assert_eq!(raw.last_words().await.field('S'), "FATAL", "{user}");
    }
    assert_eq!(
        outcome(&admin.query(&format!("KILL_CLIENT {}", id("stats", "idle"))).await),
        "08P01 client not found"
    );
    assert_eq!(holder.query("COMMIT").await.last().unwrap().status(), 'I');
    // Oneself, too; PgBouncer ends then as a whole.
    admin.write(&frontend::query(&format!("KILL_CLIENT {}", id("admin", "idle")))).await;
    while admin.read_or_end().await.is_some() {}
    assert_eq!(pooler.console("SHOW CLIENTS").await.len(), 2);
}

/// Would break with: answers that are made while nobody reads them, or a command of any length that is collected.
#[tokio::test]
async fn a_visitor_who_does_not_read_costs_one_answer() {
    let pooler = pooler().setting("max_client_conn", 1000).start();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Raw::login(pooler.port(), "weir", "weir", "weir").await);
    }
    let before = pooler.rss();
    let mut lazy = admin(&pooler).await;
    let burst = frontend::query("SHOW CLIENTS").repeat(1000);
    // What fits into the socket is taken, the rest waits for its turn.
    for _ in 0..10 {
        let _full = tokio::time::timeout(Duration::from_millis(50), lazy.try_write(&burst)).await;
    }
    assert_eq!(pooler.console("SHOW CLIENTS").await.len(), 102);
    let grown = pooler.rss().saturating_sub(before);
    assert!(grown < 8_000_000, "{grown} bytes more");
}

#[tokio::test]
async fn a_command_has_an_end() {
    let pooler = pooler().start();
    let mut long = admin(&pooler).await;
    assert_eq!(outcome(&long.query(&format!("SHOW VERSION{}", " ".repeat(60_000))).await), "SHOW");
    let _cut = long.try_write(&frontend::query(&"x".repeat(1_000_000))).await;
    assert_eq!(long.last_words().await.field('S'), "FATAL");
    let mut error = admin(&pooler).await;
    let answer = error.query(&"x".repeat(60_000)).await;
    assert!(error_of(&answer).field('M').len() < 300);
    // Many at once, and over the Unix socket.
    let mut many = Vec::new();
    for _ in 0..50 {
        many.push(admin(&pooler).await);
    }
    for visitor in &mut many {
        assert_eq!(outcome(&visitor.query("SHOW POOLS").await), "SHOW");
    }
    assert!(lines(&many[0].query("SHOW POOLS").await)[0].starts_with("pgbouncer|pgbouncer|51|"));
}
