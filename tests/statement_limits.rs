//! What prepared statements may take, what is shown of them, and names and messages that are as large as can be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::collections::BTreeMap;

use common::look::error_of;
use common::raw::tags;
use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HELD: &str = "SELECT count(*) FROM pg_prepared_statements";

/// The shortest name that makes a Describe or a Close longer than PostgreSQL reads.
const TOO_LONG: usize = 9_995;

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared())
}

async fn direct() -> Raw {
    Raw::login(Postgres::shared().port(), "weir", "weir", "weir").await
}

/// Sends messages and a Sync; the answers.
async fn ask(raw: &mut Raw, messages: &[Vec<u8>]) -> Vec<Message> {
    raw.write(&[&messages.concat()[..], &frontend::sync()].concat()).await;
    raw.read_until_ready().await
}

async fn prepare(raw: &mut Raw, name: &str, sql: &str) -> Vec<Message> {
    ask(raw, &[frontend::parse(name, sql, &[])]).await
}

/// Bind and Execute.
fn run(name: &str) -> Vec<u8> {
    [frontend::bind("", name, &[]), frontend::execute("", 0)].concat()
}

fn assert_refused(answer: &[Message], text: &str, setting: &str) {
    let error = error_of(answer);
    let fields = ['S', 'C', 'M'].map(|field| error.field(field));
    assert_eq!(fields, ["ERROR", "53400", text]);
    assert!(!error.field('D').is_empty());
    assert!(error.field('H').ends_with(&format!("raise {setting}.")), "{error:?}");
}

/// The samples of the exporter without labels, and those of the pool of `weir`.
async fn metrics(port: &str) -> BTreeMap<String, u64> {
    let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        let name = name.replace("{database=\"weir\",user=\"weir\"}", "");
        Some((name, value.parse().ok()?))
    };
    page.lines().filter_map(sample).collect()
}

/// Would break with: a reply out of its place, a message behind it that is carried out, or a client that cannot go on.
#[tokio::test]
async fn one_statement_too_many_fails_in_its_place() {
    let pooler = pooler().setting("max_client_prepared_statements", 3).pool_size(1).start();
    let mut raw = pooler.raw().await;
    for name in ["a", "b", "c"] {
        assert_eq!(tags(&prepare(&mut raw, name, &format!("SELECT '{name}'")).await), "1 Z");
    }
    let many = [
        run("a"),
        frontend::parse("d", "SELECT 'd'", &[]),
        run("d"),
        frontend::parse("e", "SELECT 'e'", &[]),
        frontend::query("SELECT 'skipped'"),
    ];
    let answer = ask(&mut raw, &many).await;
    assert_eq!(tags(&answer), "2 D C E Z");
    assert_refused(&answer, "too many prepared statements", "max_client_prepared_statements");
    assert_eq!(answer[4].status(), 'I');
    pooler.logged("pooler error: too many prepared statements").await;
    // The name stands for nothing, and what was there before is there still.
    assert_eq!(error_of(&ask(&mut raw, &[run("d")]).await).field('C'), "26000");
    assert_eq!(tags(&ask(&mut raw, &[run("c")]).await), "2 D C Z");
    // PostgreSQL's own refusals come first.
    assert_eq!(error_of(&prepare(&mut raw, "a", "SELECT 1").await).field('C'), "42P05");
    // Somebody else is not concerned.
    let mut other = pooler.raw().await;
    assert_eq!(tags(&prepare(&mut other, "d", "SELECT 'd'").await), "1 Z");
}

/// Would break with: room that is not given back, or given back for what has failed.
#[tokio::test]
async fn what_is_closed_makes_room_and_what_fails_takes_none() {
    let pooler = pooler().setting("max_client_prepared_statements", 2).pool_size(1).start();
    let mut raw = pooler.raw().await;
    assert_eq!(tags(&prepare(&mut raw, "a", "SELECT 1").await), "1 Z");
    for _ in 0..3 {
        assert_eq!(error_of(&prepare(&mut raw, "b", "SELEC").await).field('C'), "42601");
    }
    assert_eq!(tags(&prepare(&mut raw, "b", "SELECT 2").await), "1 Z");
    let swap = [frontend::close('S', "a"), frontend::parse("c", "SELECT 3", &[]), run("c")];
    assert_eq!(tags(&ask(&mut raw, &swap).await), "3 1 2 D C Z");
    // A swap that is skipped leaves all as it was.
    let skipped = [run("nobody"), frontend::close('S', "b"), frontend::parse("d", "SELECT 4", &[])];
    assert_eq!(tags(&ask(&mut raw, &skipped).await), "E Z");
    assert_eq!(tags(&ask(&mut raw, &[run("b"), run("c")]).await), "2 D C 2 D C Z");
    assert_eq!(error_of(&prepare(&mut raw, "d", "SELECT 4").await).field('C'), "53400");
    raw.query("DEALLOCATE b").await;
    assert_eq!(tags(&prepare(&mut raw, "d", "SELECT 4").await), "1 Z");
    for all in ["DEALLOCATE ALL", "DISCARD ALL"] {
        assert_eq!(error_of(&prepare(&mut raw, "z", "SELECT 0").await).field('C'), "53400");
        raw.query(all).await;
        for name in ["x", "y"] {
            assert_eq!(tags(&prepare(&mut raw, name, "SELECT 5").await), "1 Z");
        }
    }
}

/// Would break with: an error that does not abort the transaction, or a refusal that an aborted one cannot give.
#[tokio::test]
async fn a_refusal_aborts_the_transaction_as_any_error_does() {
    let pooler = pooler().setting("max_client_prepared_statements", 1).pool_size(1).start();
    let mut raw = pooler.raw().await;
    prepare(&mut raw, "a", "SELECT 1").await;
    raw.query("BEGIN").await;
    for _ in 0..2 {
        let answer = prepare(&mut raw, "b", "SELECT 2").await;
        assert_refused(&answer, "too many prepared statements", "max_client_prepared_statements");
        assert_eq!(answer.last().unwrap().status(), 'E');
    }
    assert_eq!(error_of(&ask(&mut raw, &[run("a")]).await).field('C'), "25P02");
    assert_eq!(raw.query("ROLLBACK").await.last().unwrap().status(), 'I');
    assert_eq!(tags(&ask(&mut raw, &[run("a")]).await), "2 D C Z");
}

/// Would break with: the rest of a refused Parse taken for messages.
#[tokio::test]
async fn a_large_parse_is_refused_with_all_that_belongs_to_it() {
    let pooler = pooler().setting("max_client_prepared_statements", 1).pool_size(1).start();
    let mut raw = pooler.raw().await;
    prepare(&mut raw, "a", "SELECT 1").await;
    for size in [15_000, 16_370, 16_384, 20_000, 1_000_000] {
        // What is dropped looks like messages.
        let sql = format!("SELECT 2 /* {} */", "Q\0\0\0\x05".replace('\0', "\u{1}").repeat(size / 5));
        let answer = ask(&mut raw, &[run("a"), frontend::parse("b", &sql, &[]), run("a")]).await;
        assert_eq!(tags(&answer), "2 D C E Z", "{size}");
        assert_refused(&answer, "too many prepared statements", "max_client_prepared_statements");
        assert_eq!(tags(&ask(&mut raw, &[run("a")]).await), "2 D C Z", "{size}");
    }
}

/// Would break with: bytes that are counted wrong, or a limit that is off by one.
#[tokio::test]
async fn the_bytes_of_a_client_have_a_limit() {
    // Name, SQL with its end, and the count of types.
    let size = |name: &str, sql: &str| name.len() + sql.len() + 3;
    let (one, two) = ("SELECT 'one'", "SELECT 'the second'");
    let room = size("a", one) + size("bb", two);
    let pooler = pooler().setting("max_client_prepared_bytes", room).start();
    let mut raw = pooler.raw().await;
    assert_eq!(tags(&prepare(&mut raw, "a", one).await), "1 Z");
    let answer = prepare(&mut raw, "bbb", two).await;
    assert_refused(&answer, "prepared statements take too much memory", "max_client_prepared_bytes");
    assert_eq!(tags(&prepare(&mut raw, "bb", two).await), "1 Z");
    assert_eq!(error_of(&prepare(&mut raw, "c", "").await).field('C'), "53400");
    ask(&mut raw, &[frontend::close('S', "a")]).await;
    assert_eq!(tags(&prepare(&mut raw, "a", one).await), "1 Z");
    // A reload is for what comes from then on.
    let more = self::pooler().setting("max_client_prepared_bytes", 0);
    assert!(pooler.hang_up(more).await);
    assert_eq!(tags(&prepare(&mut raw, "c", two).await), "1 Z");
}

/// Would break with: a text that counts twice, or one that stays when its last client has left.
#[tokio::test]
async fn the_bytes_of_all_clients_have_a_limit() {
    let pooler = pooler().setting("max_prepared_bytes", 20_000).pool_size(1).start();
    let text = |number: u32| format!("SELECT {number} /* {} */", "x".repeat(6000));
    let mut one = pooler.raw().await;
    for number in 0..3 {
        assert_eq!(tags(&prepare(&mut one, &format!("s{number}"), &text(number)).await), "1 Z");
    }
    let mut two = pooler.raw().await;
    for number in 0..3 {
        assert_eq!(tags(&prepare(&mut two, &format!("t{number}"), &text(number)).await), "1 Z");
    }
    let answer = ask(&mut two, &[run("t1"), frontend::parse("t3", &text(3), &[]), run("t3")]).await;
    assert_eq!(tags(&answer), "2 D C E Z");
    assert_refused(&answer, "prepared statements take too much memory", "max_prepared_bytes");
    assert_eq!(pooler.console("SHOW PREPARED_STATEMENTS").await.len(), 3);
    // What only a server still keeps for one who has left goes when it is in the way.
    ask(&mut two, &["t0", "t1"].map(|name| frontend::close('S', name))).await;
    ask(&mut one, &["s0", "s1", "s2"].map(|name| frontend::close('S', name))).await;
    let refused = prepare(&mut two, "t3", &text(3)).await;
    assert_eq!(error_of(&refused).field('C'), "53400");
    assert_eq!(tags(&prepare(&mut two, "t3", &text(3)).await), "1 Z");
    assert_eq!(tags(&ask(&mut two, &[run("t2"), run("t3")]).await), "2 D C 2 D C Z");
    assert_eq!(pooler.console("SHOW PREPARED_STATEMENTS").await.len(), 2);
}

/// Would break with: any counter that is off by one.
#[tokio::test]
async fn everything_is_counted() {
    let port = common::free_port().to_string();
    let pooler = pooler()
        .setting("max_prepared_statements", 2)
        .setting("metrics_listen", format!("127.0.0.1:{port}"))
        .pool_size(1)
        .start();
    let (mut one, mut two) = (pooler.raw().await, pooler.raw().await);
    let add = "SELECT $1::int\n+ $2";
    let add_parse = |name| frontend::parse(name, add, &[23, 23]);
    let add_run =
        |name| [frontend::bind("", name, &[Some("1"), Some("2")]), frontend::execute("", 0)].concat();
    assert_eq!(tags(&ask(&mut one, &[add_parse("a"), add_run("a"), add_run("a")]).await), "1 2 D C 2 D C Z");
    assert_eq!(tags(&ask(&mut two, &[add_parse("b"), add_run("b")]).await), "1 2 D C Z");
    let long = format!("SELECT '{}'", "é".repeat(250));
    assert_eq!(tags(&prepare(&mut one, "long", &long).await), "1 Z");
    // The third makes the first of the server's two go.
    assert_eq!(tags(&prepare(&mut two, "third", "SELECT 3").await), "1 Z");
    assert_eq!(tags(&ask(&mut two, &[frontend::describe('S', "b"), add_run("b")]).await), "t T 2 D C Z");
    assert_eq!(error_of(&ask(&mut two, &[run("unknown")]).await).field('C'), "26000");

    let shown = pooler.console("SHOW PREPARED_STATEMENTS").await;
    let shown: Vec<Vec<_>> =
        shown.into_iter().map(|row| row.into_iter().map(Option::unwrap).collect()).collect();
    assert_eq!(shown[0][..3], ["pgweir_1", add, "{23,23}"]);
    assert_eq!(shown[0][4..], ["2", "1", "2", "4", "0"]);
    assert_eq!(shown[1][1], long.chars().take(200).collect::<String>());
    assert_eq!((&shown[1][0][..], &shown[2][0][..], shown.len()), ("pgweir_2", "pgweir_3", 3));
    assert_eq!(
        (&shown[1][4..], &shown[2][4..]),
        (&["1", "0", "1", "0", "0"].map(String::from)[..], &["1", "1", "1", "0", "0"].map(String::from)[..])
    );
    let bytes: u64 = shown.iter().map(|row| row[3].parse::<u64>().unwrap()).sum();

    let metrics = metrics(&port).await;
    let counts = [
        ("pgweir_prepared_statements", 3),
        ("pgweir_prepared_bytes", bytes),
        ("pgweir_prepared_bytes_limit", 268_435_456),
        ("pgweir_pool_prepared_statements", 2),
        ("pgweir_pool_prepared_hits_total", 4),
        ("pgweir_pool_prepared_misses_total", 1),
        ("pgweir_pool_parses_saved_total", 1),
        ("pgweir_pool_prepared_evictions_total", 2),
        ("pgweir_pool_prepared_heals_total", 0),
        ("pgweir_pool_prepared_refusals_total", 0),
    ];
    for (name, expected) in counts {
        assert_eq!(metrics.get(name), Some(&expected), "{name}");
    }
    let column = |rows: &[Vec<Option<String>>]| -> Vec<String> {
        let of_pool = rows.iter().filter(|row| row[2].as_deref() == Some("weir"));
        of_pool.map(|row| row[19].clone().unwrap()).collect()
    };
    assert_eq!(column(&pooler.console("SHOW CLIENTS").await), ["2", "2"]);
    assert_eq!(column(&pooler.console("SHOW SERVERS").await), ["2"]);
    assert_eq!(one.value(HELD).await.as_deref(), Some("2"));
    // With their clients and their server they are gone.
    one.terminate().await;
    two.terminate().await;
    pooler.console("RECONNECT").await;
    let mut left = usize::MAX;
    while left > 0 {
        left = pooler.console("SHOW PREPARED_STATEMENTS").await.len();
    }
}

/// Would break with: a statement that is made afresh without being counted, or counted as what it is not.
#[tokio::test]
async fn what_is_made_afresh_is_counted() {
    let database = Postgres::shared().fresh_database().await;
    let pooler = pooler().pool_size(1).start();
    let mut raw = pooler.raw_as("weir", &database).await;
    raw.query("CREATE TABLE t AS SELECT 1 AS a").await;
    assert_eq!(
        tags(&ask(&mut raw, &[frontend::parse("s", "SELECT a FROM t", &[]), run("s")]).await),
        "1 2 D C Z"
    );
    let figures = async || -> Vec<String> {
        let shown = pooler.console("SHOW PREPARED_STATEMENTS").await;
        shown[0][6..].iter().map(|cell| cell.clone().unwrap()).collect()
    };
    assert_eq!(figures().await, ["1", "1", "0"]);
    raw.query("ALTER TABLE t ALTER a TYPE text").await;
    assert_eq!(tags(&ask(&mut raw, &[frontend::describe('S', "s"), run("s")]).await), "t T 2 D C Z");
    assert_eq!(figures().await, ["2", "2", "1"]);
}

/// Would break with: a name that is cut, takes a message apart, or reaches another client.
#[tokio::test]
async fn names_of_any_length_are_what_they_are_without_a_pooler() {
    let pooler = pooler().pool_size(2).start();
    let mut server = direct().await;
    for length in [62, 63, 64, 1024, 1025, 9_000, 16_300, 16_370, 16_384, 60_000] {
        let name = "n".repeat(length);
        let mut script = vec![
            vec![frontend::parse(&name, "SELECT 'mine'", &[]), run(&name)],
            vec![run(&name)],
            vec![frontend::parse(&name, "SELECT 'again'", &[]), run(&name)],
            vec![frontend::bind("", &name, &[Some("one too many")])],
        ];
        if length < TOO_LONG {
            script.extend([
                vec![frontend::describe('S', &name)],
                vec![frontend::close('S', &name), frontend::close('S', &name)],
                vec![frontend::describe('S', &name)],
                vec![run(&name)],
            ]);
        }
        let mut raw = pooler.raw().await;
        let mut other = pooler.raw().await;
        for (turn, messages) in script.iter().enumerate() {
            let expected = ask(&mut server, messages).await;
            assert_eq!(ask(&mut raw, messages).await, expected, "{length} {turn}");
            // The same name of another client is another statement.
            if turn == 1 {
                assert_eq!(tags(&prepare(&mut other, &name, "SELECT 'theirs'").await), "1 Z", "{length}");
            }
            if turn > 0 {
                let row = &ask(&mut other, &[run(&name)]).await[1];
                assert_eq!(row.columns(), [Some("theirs".to_owned())], "{length}");
            }
        }
        raw.terminate().await;
        other.terminate().await;
        server.query("DEALLOCATE ALL").await;
        // Nor does it stay for one who comes later.
        for _ in 0..4 {
            let mut late = pooler.raw().await;
            assert_eq!(error_of(&ask(&mut late, &[run(&name)]).await).field('C'), "26000", "{length}");
        }
    }
}

/// Would break with: a server that is lost to a length at which PostgreSQL ends the session.
#[tokio::test]
async fn a_describe_that_is_too_long_ends_the_session_only() {
    let pooler = pooler().pool_size(1).start();
    let process = pooler.raw().await.server().await;
    for length in [TOO_LONG - 1, TOO_LONG, 60_000] {
        let name = "n".repeat(length);
        for message in [frontend::describe('S', &name), frontend::close('S', &name)] {
            let (mut server, mut raw) = (direct().await, pooler.raw().await);
            if length < TOO_LONG {
                let messages = std::slice::from_ref(&message);
                assert_eq!(ask(&mut raw, messages).await, ask(&mut server, messages).await);
                continue;
            }
            server.write(&message).await;
            server.expect_eof().await;
            raw.write(&message).await;
            assert_eq!(raw.last_words().await.field('C'), "08P01");
            assert_eq!(pooler.raw().await.server().await, process);
        }
    }
}

/// Would break with: a statement that is taken for another, or bytes of a name taken for messages.
#[tokio::test]
async fn a_portal_name_that_hides_the_statement_is_refused() {
    let pooler = pooler().pool_size(1).start();
    let mut raw = pooler.raw().await;
    prepare(&mut raw, "s", "SELECT 1").await;
    for (length, expected) in [(9_000, "2 D C Z"), (16_300, "2 D C Z"), (16_400, "E Z"), (60_000, "E Z")] {
        let portal = "p".repeat(length);
        // The server cuts the name, so that a short Execute finds it.
        let bind = [frontend::bind(&portal, "s", &[]), frontend::execute(&portal[..63], 0)];
        let answer = ask(&mut raw, &bind).await;
        assert_eq!(tags(&answer), expected, "{length}");
        if expected == "E Z" {
            let error = error_of(&answer);
            assert_eq!([error.field('C'), error.field('M')], ["54000", "portal name is too long"]);
        }
        assert_eq!(tags(&ask(&mut raw, &[run("s")]).await), "2 D C Z", "{length}");
    }
}

/// Would break with: names that PostgreSQL takes for one, taken for two.
#[tokio::test]
async fn names_are_told_apart_by_what_postgresql_looks_at() {
    let pooler = pooler().start();
    let (mut server, mut raw) = (direct().await, pooler.raw().await);
    let names = [63, 64, 70, 200].map(|length| "n".repeat(length));
    let mut script = vec![vec![frontend::parse(&names[2], "SELECT 1", &[])]];
    for name in &names {
        script.push(vec![run(name)]);
        script.push(vec![frontend::describe('S', name)]);
    }
    script.push(vec![frontend::query(&format!("DEALLOCATE {}", names[0]))]);
    script.push(vec![run(&names[0])]);
    for (turn, messages) in script.iter().enumerate() {
        let expected = tags(&ask(&mut server, messages).await);
        assert_eq!(tags(&ask(&mut raw, messages).await), expected, "{turn}");
    }
}

/// Would break with: a message of ours that is longer or shorter than what it replaces.
#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_as_postgresql_says_it() {
    let pooler = pooler().pool_size(1).start();
    let (mut server, mut raw) = (direct().await, pooler.raw().await);
    let parse = frontend::parse("s", "SELECT $1::int, $2::text", &[]);
    assert_eq!(ask(&mut raw, std::slice::from_ref(&parse)).await, ask(&mut server, &[parse]).await);
    let stuffed = |tag, name: &str, stuffing: usize| {
        let query = frontend::query("SELECT 'smuggled'");
        let body = [b"S", name.as_bytes(), b"\0", &query.repeat(stuffing)].concat();
        frontend::message(tag, &body)
    };
    let mut script = vec![
        vec![frontend::bind("", "s", &[])],
        vec![frontend::bind("", "s", &[Some("1")])],
        vec![frontend::bind("", "s", &[Some("1"), None, None])],
        vec![frontend::bind("", "s", &[Some("x"), None])],
        vec![frontend::bind("", "unknown", &[])],
        vec![frontend::describe('S', "unknown")],
        vec![frontend::close('S', "unknown"), run("unknown")],
        vec![frontend::bind("", "s", &[Some("1"), None]), frontend::execute("", 0)],
    ];
    for tag in *b"DC" {
        for name in ["s", "unknown", ""] {
            script.extend([1, 10, 300].map(|stuffing| vec![stuffed(tag, name, stuffing)]));
        }
    }
    script.push(vec![frontend::bind("", "s", &[Some("1"), None]), frontend::execute("", 0)]);
    for (turn, messages) in script.iter().enumerate() {
        let expected = ask(&mut server, messages).await;
        assert_eq!(ask(&mut raw, messages).await, expected, "{turn}");
    }
    assert_eq!(raw.value("SELECT 1").await.as_deref(), Some("1"));
}
