//! Settings that a client asks for at startup or changes later: in force for all of that client's transactions, and
//! for nobody else's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::look::error_of;
use common::{Pgweir, PgweirBuilder, Postgres, Raw, frontend};

/// What the three kinds of client differ in: reported settings and others, by name and as `SHOW` gives them.
const NAMES: [&str; 8] = [
    "application_name",
    "DateStyle",
    "TimeZone",
    "IntervalStyle",
    "search_path",
    "extra_float_digits",
    "statement_timeout",
    "work_mem",
];

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared()).pool_size(1)
}

/// Would break with: a setting applied once to whichever server comes first, one left behind for the next client, or
/// one dropped.
#[tokio::test]
async fn settings_are_in_force_for_their_client_and_for_nobody_else() {
    let pooler = pooler().start();
    let mut plain = pooler.raw().await;
    let fresh = plain.show(&NAMES).await;
    let one = ["one", "SQL, DMY", "Asia/Tokyo", "iso_8601", "\"$user\", app", "3", "5s", "5MB"];
    let mut first = pooler
        .raw_with(
            "weir",
            &[
                ("application_name", "one"),
                ("DateStyle", "SQL, DMY"),
                ("TimeZone", "Asia/Tokyo"),
                ("IntervalStyle", "iso_8601"),
                ("search_path", "\"$user\", app"),
                ("extra_float_digits", "3"),
                ("statement_timeout", "5s"),
                ("options", "-c work_mem=5MB -c app.tenant=eins --geqo=off"),
            ],
        )
        .await;
    let two = ["two", "German, DMY", "America/New_York", "postgres_verbose", "two", "1", "7s", "7MB"];
    let mut second = pooler
        .raw_with(
            "weir",
            &[
                ("datestyle", "German"),
                ("TIMEZONE", "America/New_York"),
                ("intervalstyle", "postgres_verbose"),
                ("work_mem", "7MB"),
                ("app.tenant", "zwei"),
                ("options", "-cextra_float_digits=1 --statement-timeout=7s -c search_path=two"),
                ("application_name", "two"),
            ],
        )
        .await;
    for turn in 0..25 {
        assert_eq!(first.show(&NAMES).await, one, "turn {turn}");
        assert_eq!(first.show(&["app.tenant", "geqo"]).await, ["eins", "off"], "turn {turn}");
        assert_eq!(second.show(&NAMES).await, two, "turn {turn}");
        assert_eq!(second.show(&["app.tenant", "geqo"]).await, ["zwei", "on"], "turn {turn}");
        if turn % 5 == 0 {
            assert_eq!(plain.show(&NAMES).await, fresh, "turn {turn}");
            // What was once known to the server by this name stays known, without a value.
            let tenant = plain.value("SELECT current_setting('app.tenant', true)").await;
            assert_eq!(tenant.unwrap_or_default(), "", "turn {turn}");
        }
    }
}

/// Would break with: settings that are sent before a simple query only, or answers to them that reach the client.
#[tokio::test]
async fn settings_are_in_force_for_each_way_to_ask() {
    let pooler = pooler().start();
    let mut other = pooler.raw_with("weir", &[("work_mem", "7MB")]).await;
    let mut raw = pooler.raw_with("weir", &[("work_mem", "5MB")]).await;
    for _ in 0..3 {
        assert_eq!(other.show(&["work_mem"]).await, ["7MB"]);
        raw.write(&frontend::extended("SELECT current_setting('work_mem')", &[])).await;
        let answer = raw.expect("1 2 T D C Z").await;
        assert_eq!(answer[3].columns(), [Some("5MB".to_owned())]);
        assert_eq!(other.show(&["work_mem"]).await, ["7MB"]);
        assert_eq!(raw.query("BEGIN").await.last().unwrap().status(), 'T');
        assert_eq!(raw.show(&["work_mem"]).await, ["5MB"]);
        raw.query("COMMIT").await;
    }
}

/// Would break with: options that win over keys.
#[tokio::test]
async fn plain_keys_beat_options() {
    let pooler = pooler().start();
    let settings = [("work_mem", "7MB"), ("options", "-c work_mem=5MB -c geqo=off -c geqo=on")];
    let mut raw = pooler.raw_with("weir", &settings).await;
    assert_eq!(raw.show(&["work_mem", "geqo"]).await, ["7MB", "on"]);
}

/// Would break with: a refused setting that costs the only server or stays on it.
#[tokio::test]
async fn an_invalid_value_is_refused_with_the_words_of_the_server() {
    let pooler = pooler().start();
    let mut direct = Raw::open(Postgres::shared().port()).await;
    let settings = [("user", "weir"), ("database", "weir"), ("work_mem", "plenty")];
    let expected = direct.try_start(&settings, "weir").await.unwrap_err();
    let mut raw = pooler.raw().await;
    let server = raw.server().await;
    for settings in [
        &[("work_mem", "plenty")][..],
        &[("options", "-c work_mem=plenty -c geqo=off")],
        &[("geqo", "off"), ("work_mem", "plenty")],
    ] {
        let refused = pooler.refusal("weir", settings).await;
        for field in ['S', 'C', 'M'] {
            assert_eq!(refused.field(field), expected.field(field), "{settings:?}: {refused:?}");
        }
    }
    assert_eq!(expected.field('C'), "22023");
    assert_eq!((raw.show(&["geqo"]).await, raw.server().await), (vec!["on".to_owned()], server));
    let names = pooler.refusal("weir", &[("client_encoding", "morse")]).await;
    assert_eq!((names.field('S').as_str(), names.field('C').as_str()), ("FATAL", "22023"));
}

/// Would break with: unknown names that are dropped without a word, or refused without saying which.
#[tokio::test]
async fn an_unknown_name_is_refused_by_its_name_unless_it_is_ignored() {
    let strict = pooler().start();
    for settings in [("no_such_thing", "1"), ("options", "-c no_such_thing=1")] {
        let refused = strict.refusal("weir", &[settings]).await;
        assert_eq!((refused.field('S').as_str(), refused.field('C').as_str()), ("FATAL", "42704"));
        assert!(refused.field('M').contains("\"no_such_thing\""), "{refused:?}");
    }
    for name in ["a;b", "a'b", "a b", "1a", "a..b", ""] {
        let settings = if name.is_empty() { ("options", "-c =1") } else { (name, "1") };
        let refused = strict.refusal("weir", &[settings]).await;
        assert_eq!(refused.field('S'), "FATAL", "{name:?}: {refused:?}");
    }
    let switch = strict.refusal("weir", &[("options", "-B 5")]).await;
    assert!(switch.field('M').contains("-B"), "{switch:?}");
    assert_eq!(strict.raw().await.show(&["geqo"]).await, ["on"]);

    let lenient = pooler().setting("ignore_startup_parameters", "no_such_thing, WORK_MEM, not used").start();
    let settings = [("no_such_thing", "1"), ("work_mem", "5MB"), ("geqo", "off")];
    let mut raw = lenient.raw_with("weir", &settings).await;
    let fresh = strict.raw().await.show(&["work_mem"]).await;
    assert_eq!((raw.show(&["work_mem"]).await, raw.show(&["geqo"]).await), (fresh, vec!["off".to_owned()]));
}

/// Would break with: values that are quoted by hand.
#[tokio::test]
async fn hostile_values_survive() {
    let pooler = pooler().start();
    let hostile = [
        "it's",
        "back\\slash \\' end\\",
        "zwölf Boxkämpfer 🥊",
        "line\nbreak\r\n\ttab",
        "'; SELECT pg_sleep(600); --",
        "$$dollar$$ \"quoted\", list, -c x=y",
        "E'\\x41'",
        "",
        " ",
    ];
    let mut other = pooler.raw_with("weir", &[("app.tenant", "other")]).await;
    for value in hostile {
        let mut raw =
            pooler.raw_with("weir", &[("app.tenant", value), ("standard_conforming_strings", "off")]).await;
        for _ in 0..2 {
            assert_eq!(raw.show(&["app.tenant"]).await, [value]);
            assert_eq!(other.show(&["app.tenant"]).await, ["other"]);
        }
    }
    // As an option, with a backslash before what ends a word.
    let mut raw = pooler.raw_with("weir", &[("options", "-c app.tenant=a\\ \\\\b\\'\\\"é")]).await;
    assert_eq!(raw.show(&["app.tenant"]).await, ["a \\b'\"é"]);
    assert_eq!(other.show(&["app.tenant"]).await, ["other"]);
}

/// Would break with: values that go back to the client as it sent them, or a comparison that sees a difference in each
/// transaction.
#[tokio::test]
async fn the_welcome_tells_the_values_as_the_server_reports_them() {
    let postgres = Postgres::shared();
    let pooler = pooler().setting("report_pooler", 0).start();
    let long = "x".repeat(100);
    let settings = [
        ("TimeZone", "utc"),
        ("datestyle", "ymd"),
        ("client_encoding", "utf-8"),
        ("application_name", long.as_str()),
        ("intervalstyle", "ISO_8601"),
        ("standard_conforming_strings", "0"),
    ];
    let mut direct = Raw::open(postgres.port()).await;
    direct.start(&[&[("user", "weir"), ("database", "weir")], &settings[..]].concat(), "weir").await;
    assert_eq!(direct.parameters["TimeZone"], "UTC");
    assert_eq!(direct.parameters["application_name"].len(), 63);
    for _ in 0..2 {
        let pooled = pooler.raw_with("weir", &settings).await;
        assert_eq!(pooled.parameters, direct.parameters);
    }
    // A name with other characters than ASCII is the server's to clean.
    for name in ["", "zwölf", "two words"] {
        let mut direct = Raw::open(postgres.port()).await;
        direct.start(&[("user", "weir"), ("database", "weir"), ("application_name", name)], "weir").await;
        let pooled = pooler.raw_with("weir", &[("application_name", name)]).await;
        assert_eq!(pooled.parameters, direct.parameters, "{name:?}");
    }
}

/// Would break with: a `SET` that stays with the server, gets lost, or survives its rollback.
#[tokio::test]
async fn a_set_of_a_reported_setting_follows_its_client() {
    let database = Postgres::shared().fresh_database().await;
    let pooler = pooler().pool_size(2).start();
    let mut raw = pooler.raw_with(&database, &[("application_name", "before")]).await;
    let mut other = pooler.raw_with(&database, &[]).await;
    let set = raw.query("SET TimeZone = 'asia/tokyo'").await;
    assert_eq!(raw.parameters["TimeZone"], "Asia/Tokyo", "{set:?}");
    let first = raw.server().await;
    // The other client takes that server and stays on it.
    other.query("BEGIN").await;
    let mut servers = vec![first.clone()];
    if other.server().await != first {
        other.query("COMMIT").await;
        raw.query("BEGIN").await;
        servers.push(raw.server().await);
        raw.query("COMMIT").await;
    }
    assert_eq!(other.show(&["TimeZone"]).await, ["UTC"]);
    assert_eq!(raw.show(&["TimeZone", "application_name"]).await, ["Asia/Tokyo", "before"]);
    assert_ne!(raw.server().await, other.server().await);
    other.query("ROLLBACK").await;

    raw.query("BEGIN").await;
    raw.query("SET TimeZone = 'America/New_York'; SET application_name = 'inside'").await;
    assert_eq!(raw.parameters["TimeZone"], "America/New_York");
    raw.query("ROLLBACK").await;
    assert_eq!(raw.parameters["TimeZone"], "Asia/Tokyo");
    assert_eq!(raw.parameters["application_name"], "before");
    for _ in 0..4 {
        assert_eq!(other.show(&["TimeZone"]).await, ["UTC"]);
        assert_eq!(raw.show(&["TimeZone", "application_name"]).await, ["Asia/Tokyo", "before"]);
    }
    raw.query("RESET TimeZone").await;
    assert_eq!(other.show(&["TimeZone"]).await, ["UTC"]);
    assert_eq!(raw.show(&["TimeZone"]).await, ["UTC"]);
}

/// Would break with: settings that are sent again though they are in force.
#[tokio::test]
async fn nothing_is_sent_while_nothing_changes() {
    let log_all =
        [("log_statement", "all"), ("log_min_messages", "log"), ("log_min_error_statement", "error")];
    let postgres = log_all
        .iter()
        .fold(Postgres::builder(), |builder, (name, value)| builder.setting(name, value))
        .start();
    let pooler = Pgweir::builder(&postgres).pool_size(1).start();
    let settings = [
        ("application_name", "é"),
        ("TimeZone", "utc"),
        ("DateStyle", "iso"),
        ("client_encoding", "utf-8"),
        ("search_path", "a,b"),
        ("extra_float_digits", "3"),
        ("statement_timeout", "5s"),
        ("options", "-c app.tenant=eins"),
    ];
    let sent = || {
        let log = std::fs::read_to_string(postgres.socket_folder().join("log")).unwrap();
        log.lines().filter(|line| line.contains("set_config") || line.contains("RESET ")).count()
    };
    let mut one = pooler.raw_with("weir", &settings).await;
    let mut two = pooler.raw_with("weir", &settings).await;
    one.query("SELECT 'begin'").await;
    let before = sent();
    assert!(before > 0, "the log does not show settings at all");
    for _ in 0..20 {
        one.query("SELECT 1").await;
        two.query("BEGIN; SELECT 1; COMMIT").await;
    }
    // Once more, so that all of the log is written that is looked at.
    one.query("SELECT 'end'").await;
    assert_eq!(sent(), before);
    // It can be seen at all.
    pooler.raw().await.query("SELECT 1").await;
    assert!(sent() > before);
}

/// Would break with: parameters of an entry that are not sent, or that win over the client's.
#[tokio::test]
async fn an_entry_has_startup_parameters_of_its_own() {
    let server = Postgres::shared().port();
    let entry = format!(
        "host=127.0.0.1 port={server} dbname=weir timezone=Asia/Tokyo datestyle=German client_encoding=LATIN1 \
         application_name=entry"
    );
    let pooler = pooler().database("tokyo", &entry).start();
    let mut raw = pooler.raw_with("tokyo", &[]).await;
    let names = ["TimeZone", "DateStyle", "client_encoding", "application_name"];
    assert_eq!(raw.show(&names).await, ["Asia/Tokyo", "German, DMY", "LATIN1", "entry"]);
    assert_eq!(raw.parameters["TimeZone"], "Asia/Tokyo");
    let own = [("TimeZone", "UTC"), ("client_encoding", "UTF8"), ("application_name", "own")];
    let mut own = pooler.raw_with("tokyo", &own).await;
    assert_eq!(own.show(&names).await, ["UTC", "German, DMY", "UTF8", "own"]);
    assert_eq!(raw.show(&names).await, ["Asia/Tokyo", "German, DMY", "LATIN1", "entry"]);
    let failed = own.query("SELECT nothing").await;
    assert_eq!(error_of(&failed).field('C'), "42703");
}
