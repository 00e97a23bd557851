//! Prepared statements that survive what happens behind their client's back: another server, DDL, a DEALLOCATE that
//! nobody saw. These tests run on every supported PostgreSQL major.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::frontend::{bind, close, describe, execute, flush, parse, query, sync};
use common::look::error_of;
use common::raw::tags;
use common::{Pgweir, PgweirBuilder, Postgres, Raw};
use tokio_postgres::Client;

const STALE: &str = "cached plan must not change result type";

/// A database of its own with the table `t` of one row, a direct connection to it, and a pooler before it.
struct Scene {
    database: String,
    direct: Client,
    pooler: Pgweir,
}

impl Scene {
    async fn set(servers: u32) -> Self {
        Self::set_with(servers, |builder| builder).await
    }

    async fn set_with(servers: u32, configure: impl FnOnce(PgweirBuilder) -> PgweirBuilder) -> Self {
        let postgres = Postgres::shared();
        let database = postgres.fresh_database().await;
        let direct = postgres.connect("postgres", &database).await;
        direct
            .batch_execute("SET lock_timeout TO '10s'; CREATE TABLE t (a int); INSERT INTO t VALUES (1); GRANT ALL ON t TO weir")
            .await
            .unwrap();
        let pooler = configure(Pgweir::builder(postgres).pool_size(servers)).start();
        Self { database, direct, pooler }
    }

    async fn client(&self) -> Raw {
        self.pooler.raw_as("weir", &self.database).await
    }

    /// DDL that pgweir does not see.
    async fn alter(&self, what: &str) {
        self.direct.batch_execute(&format!("ALTER TABLE t {what}")).await.unwrap();
    }
}

/// A client that has prepared `s` as a look at the whole table, without asking what comes.
async fn prepared(scene: &Scene) -> Raw {
    let mut client = scene.client().await;
    let batch = [parse("s", "SELECT * FROM t", &[]), bind("", "s", &[]), execute("", 0), sync()].concat();
    client.write(&batch).await;
    client.expect("1 2 D C Z").await;
    client
}

/// Two such clients, whose statement is on both of two servers.
async fn prepared_on_both(scene: &Scene) -> [Raw; 2] {
    let mut clients = [prepared(scene).await, prepared(scene).await];
    for client in &mut clients {
        client.query("BEGIN").await;
        client.write(&run("s")).await;
        client.expect("2 D C Z").await;
    }
    for client in &mut clients {
        client.query("COMMIT").await;
    }
    clients
}

/// What libpq sends for a prepared statement: it asks each time what comes.
fn run_asking(name: &str) -> Vec<u8> {
    [bind("", name, &[]), describe('P', ""), execute("", 0), sync()].concat()
}

fn run(name: &str) -> Vec<u8> {
    [bind("", name, &[]), execute("", 0), sync()].concat()
}

#[tokio::test]
async fn a_changed_result_is_prepared_afresh_unseen() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    scene.alter("ADD b text DEFAULT 'new'").await;
    client.write(&run_asking("s")).await;
    let answer = client.expect("2 T D C Z").await;
    assert_eq!(answer[2].columns(), [Some("1".to_owned()), Some("new".to_owned())]);
    // And so for the other clients: it was refreshed for all.
    scene.alter("DROP b").await;
    let mut other = prepared(&scene).await;
    other.write(&run_asking("s")).await;
    other.expect("2 T D C Z").await;
}

#[tokio::test]
async fn a_batch_that_begins_with_parse_is_run_again_too() {
    let scene = Scene::set(1).await;
    let _holder = prepared(&scene).await;
    scene.alter("ADD b text").await;
    // The statement is there for the pooler, so nothing but the Bind shows that its plan is outdated.
    let mut client = scene.client().await;
    let batch = [parse("mine", "SELECT * FROM t", &[]), run_asking("mine")].concat();
    client.write(&batch).await;
    client.expect("1 2 T D C Z").await;
}

#[tokio::test]
async fn a_describe_is_run_again_behind_a_flush() {
    let scene = Scene::set(1).await;
    let mut holder = prepared(&scene).await;
    scene.alter("ADD b text").await;
    let mut client = scene.client().await;
    client.write(&[parse("mine", "SELECT * FROM t", &[]), describe('S', "mine"), flush()].concat()).await;
    let answer = [client.read().await, client.read().await, client.read().await];
    assert_eq!(tags(&answer), "1 t T");
    client.write(&run("mine")).await;
    client.expect("2 D C Z").await;
    holder.write(&run_asking("s")).await;
    holder.expect("2 T D C Z").await;
}

/// On a direct connection too: what was described no longer holds, and nothing says that the client would notice.
#[tokio::test]
async fn who_was_told_other_columns_and_does_not_ask_again_gets_the_error() {
    let scene = Scene::set(1).await;
    let mut client = scene.client().await;
    client.write(&[parse("s", "SELECT * FROM t", &[]), describe('S', "s"), sync()].concat()).await;
    client.expect("1 t T Z").await;
    scene.alter("ADD b text").await;
    client.write(&run("s")).await;
    let answer = client.expect("E Z").await;
    assert_eq!((error_of(&answer).field('C'), error_of(&answer).field('M')), ("0A000".into(), STALE.into()));
    assert_eq!(answer[1].status(), 'I');
    // Back to what it was told.
    scene.alter("DROP b").await;
    client.write(&run("s")).await;
    client.expect("2 D C Z").await;
}

#[tokio::test]
async fn who_was_told_the_new_columns_meets_no_stale_plan() {
    let scene = Scene::set(2).await;
    let _holders = prepared_on_both(&scene).await;
    scene.alter("ADD b text").await;
    // One server is asked, and refreshed; the other one is not.
    let mut client = scene.client().await;
    client.write(&[parse("s", "SELECT * FROM t", &[]), describe('S', "s"), sync()].concat()).await;
    client.expect("1 t T Z").await;
    let mut blocker = scene.client().await;
    blocker.query("BEGIN").await;
    client.write(&run("s")).await;
    client.expect("2 D C Z").await;
    blocker.query("COMMIT").await;
}

#[tokio::test]
async fn in_a_transaction_the_error_is_the_clients_and_comes_once() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    let mut other = prepared(&scene).await;
    scene.alter("ADD b text").await;
    client.query("BEGIN").await;
    client.write(&run_asking("s")).await;
    let answer = client.expect("E Z").await;
    assert_eq!(error_of(&answer).field('M'), STALE);
    assert_eq!(answer[1].status(), 'E');
    client.query("ROLLBACK").await;
    other.query("BEGIN").await;
    other.write(&run_asking("s")).await;
    other.expect("2 T D C Z").await;
}

#[tokio::test]
async fn an_error_on_one_server_refreshes_the_others() {
    let scene = Scene::set(2).await;
    let [mut one, mut two] = prepared_on_both(&scene).await;
    scene.alter("ADD b text").await;
    one.query("BEGIN").await;
    two.query("BEGIN").await;
    one.write(&run_asking("s")).await;
    assert_eq!(error_of(&one.expect("E Z").await).field('M'), STALE);
    // Its own server still has the old plan, but it is known to be outdated.
    two.write(&run_asking("s")).await;
    two.expect("2 T D C Z").await;
}

#[tokio::test]
async fn ddl_that_was_seen_refreshes_all_servers_before_their_next_use() {
    let scene = Scene::set(2).await;
    scene.direct.batch_execute("ALTER TABLE t OWNER TO weir").await.unwrap();
    let [mut one, mut two] = prepared_on_both(&scene).await;
    one.query("ALTER TABLE t ADD b text").await;
    for client in [&mut one, &mut two] {
        client.query("BEGIN").await;
    }
    for client in [&mut one, &mut two] {
        client.write(&run_asking("s")).await;
        client.expect("2 T D C Z").await;
    }
}

#[tokio::test]
async fn a_statement_that_something_dropped_is_prepared_again_unseen() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    let mut other = scene.client().await;
    other.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$").await;
    client.write(&run_asking("s")).await;
    client.expect("2 T D C Z").await;
}

#[tokio::test]
async fn a_batch_that_has_begun_to_answer_keeps_its_error() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    scene.alter("ADD b text").await;
    let first = [parse("", "SELECT 7", &[]), bind("", "", &[]), execute("", 0)].concat();
    client.write(&[first, run_asking("s")].concat()).await;
    let answer = client.expect("1 2 D C E Z").await;
    assert_eq!(error_of(&answer).field('M'), STALE);
    client.write(&run_asking("s")).await;
    client.expect("2 T D C Z").await;
}

#[tokio::test]
async fn an_error_of_the_clients_own_is_its_own() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    client.write(&run_asking("unknown")).await;
    assert_eq!(error_of(&client.expect("E Z").await).field('C'), "26000");
    client.write(&[parse("s", "SELECT 1", &[]), sync()].concat()).await;
    assert_eq!(error_of(&client.expect("E Z").await).field('C'), "42P05");
    scene.direct.batch_execute("DROP TABLE t").await.unwrap();
    client.write(&run_asking("s")).await;
    assert_eq!(error_of(&client.expect("E Z").await).field('C'), "42P01");
    client.write(&[close('S', "s"), query("SELECT 1")].concat()).await;
    client.expect("3 T D C Z").await;
}

/// Statements that the server holds, by their SQL.
async fn held(client: &mut Raw) -> Vec<String> {
    let answer = client.query("SELECT statement FROM pg_prepared_statements ORDER BY 1").await;
    answer.iter().filter(|message| message.tag == b'D').map(|row| row.columns()[0].clone().unwrap()).collect()
}

fn unnamed(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", parameters), describe('P', ""), execute("", 0), sync()].concat()
}

#[tokio::test]
async fn an_unnamed_statement_that_comes_again_is_parsed_once() {
    let scene = Scene::set(1).await;
    let (mut one, mut two) = (scene.client().await, scene.client().await);
    for turn in 1..=4 {
        for client in [&mut one, &mut two] {
            client.write(&unnamed("SELECT a + $1::int FROM t", &[Some(&turn.to_string())])).await;
            let answer = client.expect("1 2 T D C Z").await;
            assert_eq!(answer[3].columns(), [Some((1 + turn).to_string())]);
        }
    }
    assert_eq!(held(&mut one).await, ["SELECT a + $1::int FROM t"]);
    // It is the client's unnamed statement all the same.
    one.write(&unnamed("SELECT a + $1::int FROM t", &[Some("1")])).await;
    one.expect("1 2 T D C Z").await;
    one.write(&[bind("", "", &[Some("2")]), execute("", 0), sync()].concat()).await;
    assert_eq!(one.expect("2 D C Z").await[1].columns(), [Some("3".to_owned())]);
    one.query("SELECT 1").await;
    one.write(&run("")).await;
    assert_eq!(error_of(&one.expect("E Z").await).field('C'), "26000");
}

#[tokio::test]
async fn a_shared_unnamed_statement_is_never_stale() {
    let scene = Scene::set(1).await;
    let mut client = scene.client().await;
    for _ in 0..3 {
        client.write(&unnamed("SELECT * FROM t", &[])).await;
        client.expect("1 2 T D C Z").await;
    }
    scene.alter("ADD b text").await;
    client.write(&unnamed("SELECT * FROM t", &[])).await;
    assert_eq!(client.expect("1 2 T D C Z").await[3].columns().len(), 2);
    // As it was parsed afresh, on a direct connection there would be no error for who asks nothing either.
    scene.alter("DROP b").await;
    let batch = [parse("", "SELECT * FROM t", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    client.write(&batch).await;
    assert_eq!(client.expect("1 2 D C Z").await[2].columns().len(), 1);
}

#[tokio::test]
async fn the_unnamed_statement_of_another_client_is_never_met() {
    let scene = Scene::set(1).await;
    let (mut one, mut two) = (scene.client().await, scene.client().await);
    for _ in 0..3 {
        two.write(&unnamed("SELECT 2 FROM t", &[])).await;
        two.expect("1 2 T D C Z").await;
        one.write(&unnamed("SELECT \'one\' || 1", &[])).await;
        one.write(&[parse("", "BEGIN", &[]), bind("", "", &[]), execute("", 0), sync()].concat()).await;
        one.query("COMMIT").await;
    }
    let mut one = scene.client().await;
    one.write(&[parse("", "SELECT \'mine\'", &[]), sync()].concat()).await;
    one.expect("1 Z").await;
    // A shared one that fails leaves none behind, though the server has one of another client's.
    two.write(&[parse("", "SELECT 2 FROM t", &[]), sync()].concat()).await;
    two.expect("1 Z").await;
    scene.direct.batch_execute("ALTER TABLE t RENAME TO u").await.unwrap();
    two.write(&[parse("", "SELECT 2 FROM t", &[]), bind("", "", &[]), execute("", 0), sync()].concat()).await;
    let answer = two.read_until(b'Z').await;
    assert_eq!(error_of(&answer).field('C'), "42P01");
    one.write(&run("")).await;
    assert_eq!(one.expect("2 D C Z").await[1].columns(), [Some("mine".to_owned())]);
    two.write(&run("")).await;
    let answer = two.read_until(b'Z').await;
    assert!(["26000", "42P01"].contains(&error_of(&answer).field('C').as_str()), "{answer:?}");
}

#[tokio::test]
async fn sharing_unnamed_statements_can_be_turned_off() {
    let scene = Scene::set_with(1, |builder| builder.setting("share_unnamed_statements", 0)).await;
    let mut client = scene.client().await;
    for _ in 0..4 {
        client.write(&unnamed("SELECT a FROM t", &[])).await;
        client.expect("1 2 T D C Z").await;
    }
    assert!(held(&mut client).await.is_empty());
}

#[tokio::test]
async fn what_is_read_when_it_is_parsed_is_not_shared() {
    let scene = Scene::set(1).await;
    let (mut one, mut two) = (scene.client().await, scene.client().await);
    let sql = "SELECT 'now'::timestamp";
    for name in ["", "s"] {
        one.write(&[parse(name, sql, &[]), run(name)].concat()).await;
        let first = one.expect("1 2 D C Z").await[2].columns();
        two.write(&[parse(name, sql, &[]), run(name)].concat()).await;
        assert_ne!(two.expect("1 2 D C Z").await[2].columns(), first, "{name:?}");
        one.write(&[close('S', name), sync()].concat()).await;
        one.expect("3 Z").await;
    }
}

/// Two schemas with a table of the same name, of other types in each.
async fn tenants(scene: &Scene) {
    scene
        .direct
        .batch_execute(
            "CREATE SCHEMA one; CREATE TABLE one.x (a int); INSERT INTO one.x VALUES (1); \
             CREATE SCHEMA two; CREATE TABLE two.x (a text); INSERT INTO two.x VALUES ('two'); \
             GRANT USAGE ON SCHEMA one, two TO weir; GRANT ALL ON one.x, two.x TO weir",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn clients_with_other_search_paths_share_no_statement() {
    let scene = Scene::set(1).await;
    tenants(&scene).await;
    let mut clients = Vec::new();
    for schema in ["one", "two"] {
        let settings = [("user", "weir"), ("database", &scene.database), ("search_path", schema)];
        let mut client = Raw::open(scene.pooler.port()).await;
        client.start(&settings, "weir").await;
        clients.push(client);
    }
    for turn in 0..3 {
        for (client, expected) in clients.iter_mut().zip(["1", "two"]) {
            if turn == 0 {
                client.write(&[parse("s", "SELECT a FROM x", &[]), sync()].concat()).await;
                client.expect("1 Z").await;
            }
            client.query("BEGIN").await;
            client.write(&run_asking("s")).await;
            assert_eq!(client.expect("2 T D C Z").await[2].columns(), [Some(expected.to_owned())]);
            client.query("COMMIT").await;
        }
    }
}

#[tokio::test]
async fn a_search_path_for_one_transaction_is_a_context_too() {
    for set in ["SET LOCAL search_path TO", "SELECT set_config('search_path', 'X', true) --"] {
        let scene = Scene::set(1).await;
        tenants(&scene).await;
        let mut clients = [scene.client().await, scene.client().await];
        for turn in 0..3 {
            for (client, (schema, expected)) in clients.iter_mut().zip([("one", "1"), ("two", "two")]) {
                client.query("BEGIN").await;
                client.query(&format!("{set} {schema}").replace('X', schema)).await;
                if turn == 0 {
                    client.write(&[parse("s", "SELECT a FROM x", &[]), sync()].concat()).await;
                    client.expect("1 Z").await;
                }
                client.write(&run_asking("s")).await;
                assert_eq!(client.expect("2 T D C Z").await[2].columns(), [Some(expected.to_owned())]);
                client.query("COMMIT").await;
            }
        }
    }
}

#[tokio::test]
async fn literals_are_read_in_the_time_zone_of_their_client() {
    let scene = Scene::set(1).await;
    let sql = "SELECT extract(epoch FROM '2020-01-01 00:00'::timestamptz)::bigint";
    for (zone, expected) in [("UTC", "1577836800"), ("Asia/Tokyo", "1577804400"), ("UTC", "1577836800")] {
        let settings = [("user", "weir"), ("database", &scene.database), ("TimeZone", zone)];
        let mut client = Raw::open(scene.pooler.port()).await;
        client.start(&settings, "weir").await;
        client.write(&[parse("s", sql, &[]), run("s")].concat()).await;
        assert_eq!(client.expect("1 2 D C Z").await[2].columns(), [Some(expected.to_owned())]);
    }
}

/// A server that is nobody's: the next client gets the other one of two.
async fn occupy(scene: &Scene) -> Raw {
    let mut other = scene.client().await;
    other.query("BEGIN").await;
    other
}

#[tokio::test]
async fn sql_finds_what_the_protocol_has_made_on_any_server() {
    let scene = Scene::set(2).await;
    let mut client = scene.client().await;
    client.write(&[parse("Mine 1", "SELECT a + $1::int FROM t", &[]), sync()].concat()).await;
    client.expect("1 Z").await;
    for turn in 0..4 {
        let other = if turn % 2 == 0 { Some(occupy(&scene).await) } else { None };
        assert_eq!(client.value("EXECUTE \"Mine 1\" (4)").await.as_deref(), Some("5"));
        client.write(&unnamed("EXPLAIN EXECUTE \"Mine 1\" (4)", &[])).await;
        client.expect("1 2 T D C Z").await;
        drop(other);
    }
    let answer = client.query("PREPARE \"Mine 1\" AS SELECT 1").await;
    assert_eq!(error_of(&answer).field('C'), "42P05");
}

#[tokio::test]
async fn what_sql_has_made_is_there_on_any_server_for_both() {
    let scene = Scene::set(2).await;
    let (mut one, mut two) = (scene.client().await, scene.client().await);
    for (client, value) in [(&mut one, 10), (&mut two, 20)] {
        client.query(&format!("PREPARE s (int) AS SELECT a + {value} + $1 FROM t")).await;
    }
    for turn in 0..4 {
        for (client, value) in [(&mut one, 10), (&mut two, 20)] {
            let other = if turn % 2 == 0 { Some(occupy(&scene).await) } else { None };
            let expected = Some((value + 5).to_string());
            assert_eq!(client.value("EXECUTE s (4)").await, expected);
            client
                .write(&[bind("", "s", &[Some("4")]), describe('P', ""), execute("", 0), sync()].concat())
                .await;
            assert_eq!(client.expect("2 T D C Z").await[2].columns(), [expected]);
            client.write(&[parse("s", "SELECT 1", &[]), sync()].concat()).await;
            assert_eq!(
                error_of(&client.expect("E Z").await).field('M'),
                "prepared statement \"s\" already exists"
            );
            drop(other);
        }
    }
    // Nothing keeps a server: both clients are served by one while the other is taken.
    let _other = occupy(&scene).await;
    one.query("DEALLOCATE s").await;
    assert_eq!(error_of(&one.query("EXECUTE s (4)").await).field('C'), "26000");
    assert_eq!(two.value("EXECUTE s (4)").await.as_deref(), Some("25"));
    two.write(&[close('S', "s"), sync()].concat()).await;
    two.expect("3 Z").await;
    assert_eq!(error_of(&two.query("EXECUTE s (4)").await).field('C'), "26000");
    two.query("PREPARE s AS SELECT 7").await;
    assert_eq!(two.value("EXECUTE s").await.as_deref(), Some("7"));
    two.query("DEALLOCATE ALL").await;
    assert_eq!(error_of(&two.query("EXECUTE s").await).field('C'), "26000");
}

#[tokio::test]
async fn deallocate_works_through_the_extended_protocol() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    let mut other = prepared(&scene).await;
    for name in ["", "d"] {
        client.write(&[parse(name, "DEALLOCATE s", &[]), run(name)].concat()).await;
        client.expect("1 2 C Z").await;
        client.write(&run("s")).await;
        let error = error_of(&client.expect("E Z").await).field('M');
        assert_eq!(error, "prepared statement \"s\" does not exist");
        client.write(&[parse("s", "SELECT a FROM t", &[]), run("s")].concat()).await;
        client.expect("1 2 D C Z").await;
    }
    other.write(&run("s")).await;
    other.expect("2 D C Z").await;
}

#[tokio::test]
async fn lists_of_commands_keep_their_server_until_all_is_dropped() {
    let scene = Scene::set(1).await;
    let mut client = scene.client().await;
    client.query("SELECT 1; PREPARE a AS SELECT 5").await;
    assert_eq!(client.value("EXECUTE a").await.as_deref(), Some("5"));
    client.query("DEALLOCATE a").await;
    // The only server is free for others again.
    assert_eq!(scene.client().await.value("SELECT 1").await.as_deref(), Some("1"));
}

/// DDL that went through the pooler: what is known to be outdated is not made afresh under who would misread it.
#[tokio::test]
async fn who_was_told_other_columns_is_not_given_new_ones_after_ddl_that_was_seen() {
    let scene = Scene::set(1).await;
    scene.direct.batch_execute("ALTER TABLE t OWNER TO weir").await.unwrap();
    let (mut client, mut other) = (scene.client().await, scene.client().await);
    client.write(&[parse("s", "SELECT a FROM t", &[]), describe('S', "s"), sync()].concat()).await;
    client.expect("1 t T Z").await;
    other.query("ALTER TABLE t ALTER a TYPE text").await;
    client.write(&run("s")).await;
    assert_eq!(error_of(&client.expect("E Z").await).field('M'), STALE);
    client.write(&run_asking("s")).await;
    client.expect("2 T D C Z").await;
}

/// A batch that its client never ended, and that would be sent again, is not sent to anybody else.
#[tokio::test]
async fn a_batch_of_a_client_that_has_left_is_forgotten() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    scene.alter("ADD b text").await;
    client.write(&[bind("", "s", &[]), execute("", 0), flush()].concat()).await;
    drop(client);
    let mut other = scene.client().await;
    for _ in 0..3 {
        assert_eq!(other.value("SELECT 1").await.as_deref(), Some("1"));
        other.write(&[parse("", "SELECT 2", &[]), bind("", "", &[]), execute("", 0), sync()].concat()).await;
        other.expect("1 2 D C Z").await;
    }
}

/// The Sync that a refused batch still owes is answered once.
#[tokio::test]
async fn a_sync_is_answered_once() {
    let scene = Scene::set(1).await;
    let mut client = scene.client().await;
    client.write(&[parse("s", "SELECT * FROM t", &[]), describe('S', "s"), sync()].concat()).await;
    client.expect("1 t T Z").await;
    scene.alter("ADD b text").await;
    client.write(&[bind("", "s", &[]), execute("", 0), close('S', "s"), flush()].concat()).await;
    assert_eq!(client.read().await.field('M'), STALE);
    client.write(&[sync(), query("SELECT 1")].concat()).await;
    client.expect("Z T D C Z").await;
}

#[tokio::test]
async fn no_client_finds_what_sql_of_another_has_made() {
    let scene = Scene::set(1).await;
    let long = "n".repeat(70);
    let mut one = scene.client().await;
    one.query("PREPARE x AS SELECT 'mine'; SELECT 1").await;
    one.query("PREPARE p AS SELECT 1").await;
    one.query("DEALLOCATE p; SELECT 1").await;
    one.terminate().await;
    let mut one = scene.client().await;
    one.write(&[parse(&long, "SELECT 'mine'", &[]), sync()].concat()).await;
    one.expect("1 Z").await;
    for name in [&long, &long[..63], &long] {
        assert_eq!(one.value(&format!("EXECUTE {name}")).await.as_deref(), Some("mine"));
    }
    one.write(&[parse("", "SELECT 'mine'", &[]), sync(), parse("", "SELECT '\\xff'", &[]), sync()].concat())
        .await;
    one.read_until(b'Z').await;
    one.read_until(b'Z').await;
    let mut two = scene.client().await;
    for sql in ["EXECUTE x", &format!("EXECUTE {long}")] {
        assert_eq!(error_of(&two.query(sql).await).field('C'), "26000", "{sql}");
    }
    two.write(&run("")).await;
    assert_eq!(error_of(&two.expect("E Z").await).field('C'), "26000");
}

#[tokio::test]
async fn a_text_that_only_mentions_a_statement_changes_nothing() {
    let scene = Scene::set(1).await;
    let mut client = prepared(&scene).await;
    scene
        .direct
        .batch_execute("ALTER TABLE t RENAME TO u; CREATE TABLE l (a text); GRANT ALL ON l TO weir")
        .await
        .unwrap();
    client.query("BEGIN").await;
    assert_eq!(tags(&client.query("INSERT INTO l VALUES ('please execute s')").await), "C Z");
    assert_eq!(tags(&client.query("COMMIT").await), "C Z");
    assert_eq!(client.value("SELECT count(*) FROM l").await.as_deref(), Some("1"));
}

/// A server that has no copy of a statement, outdated or not, would give whatever comes now.
#[tokio::test]
async fn who_was_told_other_columns_is_not_given_new_ones_by_another_server() {
    let scene = Scene::set(2).await;
    scene.direct.batch_execute("ALTER TABLE t OWNER TO weir").await.unwrap();
    let mut client = scene.client().await;
    client.write(&[parse("s", "SELECT a FROM t", &[]), describe('S', "s"), sync()].concat()).await;
    client.expect("1 t T Z").await;
    let taken = client.server().await;
    let mut other = scene.client().await;
    other.query("ALTER TABLE t ADD b int").await;
    // Not of this statement's: it is looked at once, and used.
    let _blocker = occupy_server(&scene, &taken).await;
    client.write(&run("s")).await;
    client.expect("2 D C Z").await;
    other.query("ALTER TABLE t ALTER a TYPE text").await;
    other.query("DEALLOCATE ALL").await;
    client.write(&run("s")).await;
    let answer = client.expect("E Z").await;
    assert_eq!((error_of(&answer).field('C'), error_of(&answer).field('M')), ("0A000".into(), STALE.into()));
    client.write(&run_asking("s")).await;
    client.expect("2 T D C Z").await;
}

/// Takes this server, and leaves the other one.
async fn occupy_server(scene: &Scene, wanted: &str) -> Raw {
    let mut others = Vec::new();
    loop {
        let mut other = scene.client().await;
        other.query("BEGIN").await;
        if other.server().await == wanted {
            return other;
        }
        others.push(other);
        assert!(others.len() < 2, "neither server is the one that was wanted");
    }
}
