//! Whatever a client sends, it gets the same bytes through the pooler as from PostgreSQL itself.
//!
//! Programs of messages are generated, played on both, and compared, while a rival runs transactions of its own on
//! the pooler's only server, so that it changes hands at every chance. `PGWEIR_DIFF_MESSAGES` makes the run longer,
//! `PGWEIR_DIFF_SEED` starts it elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a test may")]

mod common;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/play.rs"]
mod play;
#[path = "differential/program.rs"]
mod program;
#[path = "differential/rival.rs"]
mod rival;

use std::fmt::Write as _;
use std::time::Duration;

use common::{Pgweir, Postgres, patiently};
use generate::Names;
use play::{Heard, directly, through_pooler};
use program::Program;
use rival::Usurper;
use tokio::time::Instant;
use tokio_postgres::Client;

/// How long a failing program is made shorter.
const SHRINKING: Duration = Duration::from_secs(60);

/// Failing programs after which the run ends.
const FAILURES: u64 = 3;

struct Arena {
    pooler: Pgweir,
    database: String,
    keeper: Client,
    rival: Usurper,
}

impl Arena {
    async fn open() -> Self {
        let postgres = Postgres::shared();
        let database = postgres.fresh_database().await;
        let keeper = postgres.connect("postgres", &database).await;
        let sql = "SET lock_timeout TO '10s'; CREATE TABLE t (a int PRIMARY KEY, b text); CREATE TABLE u (a int); \
                   GRANT ALL ON t, u TO weir_trust";
        keeper.batch_execute(sql).await.unwrap();
        let pooler = Pgweir::builder(postgres)
            .pool_size(1)
            .setting("auth_type", "trust")
            .setting("log_connections", 0)
            .setting("log_disconnections", 0)
            .start();
        let rival = Usurper::start(pooler.port(), &database).await;
        Self { pooler, database, keeper, rival }
    }

    /// Plays it on both. What a client left locked would show here: the tables cannot be emptied.
    async fn compare(&self, program: &Program) -> (Heard, Heard) {
        self.reset().await;
        let direct = directly(Postgres::shared().port(), &self.database, program).await;
        self.reset().await;
        let pooled = through_pooler(self.pooler.port(), &self.database, program, &direct).await;
        (direct, pooled)
    }

    async fn reset(&self) {
        let sql = "TRUNCATE t, u; INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 5) g";
        patiently("reset of the tables", self.keeper.batch_execute(sql)).await.unwrap();
    }

    /// The shortest program found that still fails, by leaving out one step after the other.
    async fn shrink(&self, program: Program) -> Program {
        let deadline = Instant::now() + SHRINKING;
        let mut shortest = program;
        let mut at = 0;
        while at < shortest.steps.len() && Instant::now() < deadline {
            let shorter = shortest.without(at);
            let (direct, pooled) = self.compare(&shorter).await;
            if direct.matches(&pooled) {
                at += 1;
            } else {
                shortest = shorter;
            }
        }
        shortest
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_those_of_postgresql() {
    let arena = Arena::open().await;
    let (first, wanted) = (number("PGWEIR_DIFF_SEED", 1), number("PGWEIR_DIFF_MESSAGES", 5000));
    let mut failures = String::new();
    let (mut seed, mut messages, mut failed) = (first, 0, 0);
    while messages < wanted && failed < FAILURES {
        let names = if seed % 2 == 0 { Names::Some } else { Names::None };
        let program = generate::program(seed, names);
        messages += u64::try_from(program.messages()).unwrap();
        let (direct, pooled) = arena.compare(&program).await;
        if let Some(complaint) = arena.rival.complaint() {
            let program = generate::program(seed, names);
            panic!("PGWEIR_DIFF_SEED={seed}: the rival got {complaint} beside\n{program}");
        }
        if !direct.matches(&pooled) {
            failed += 1;
            let shortest = arena.shrink(program).await;
            let (direct, pooled) = arena.compare(&shortest).await;
            writeln!(failures, "PGWEIR_DIFF_SEED={seed}\n{shortest} PostgreSQL:\n{direct} pgweir:\n{pooled}")
                .unwrap();
        }
        seed += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    let turns = arena.rival.stop().await;
    assert!(turns > seed - first, "{turns} turns of the rival");
    println!("{messages} messages in {} programs, {turns} turns of the rival", seed - first);
}

/// Programs that have gone wrong once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_to_programs_of_old() {
    use program::{bind, close, copy_data, copy_done, execute, parse, query, sync};
    let unnamed = |sql| vec![parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()];
    let copy = || vec![parse("", "COPY u FROM STDIN", &[]), bind("", "", &[]), execute("", 0), sync()];
    let programs = [
        // The statement that comes back takes a snapshot.
        vec![
            unnamed("SELECT a FROM t"),
            vec![
                parse("s1", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", &[]),
                bind("p2", "s1", &[]),
                execute("p2", 0),
                close('S', "s1"),
                sync(),
            ],
            vec![query("COMMIT")],
        ],
        // A Sync that a COPY ignores ends nothing.
        vec![
            copy(),
            vec![copy_data("1\n"), copy_done()],
            unnamed("SELECT count(*) FROM u"),
            vec![query("SELECT 1")],
        ],
        // A name that a failed batch did not give.
        vec![
            vec![
                parse("s1", "SELEC", &[]),
                sync(),
                parse("s1", "SELECT 1", &[]),
                bind("", "s1", &[]),
                execute("", 0),
            ],
            vec![sync(), bind("", "s1", &[Some("1")]), sync()],
        ],
        // A COPY names the type of a message that it does not take.
        vec![
            vec![query("BEGIN"), parse("s1", "SELECT 1", &[]), sync()],
            vec![
                parse("", "COPY u FROM STDIN", &[]),
                bind("", "", &[]),
                execute("", 0),
                parse("s2", "SELECT 1", &[]),
            ],
        ],
        vec![vec![parse("s1", "SELECT 1", &[]), sync()], copy(), vec![parse("s2", "SELECT 1", &[]), sync()]],
        vec![vec![parse("s1", "SELECT 1", &[]), sync()], copy(), vec![parse("s1", "SELECT 1", &[]), sync()]],
        vec![vec![query("COPY u FROM STDIN")], vec![parse("s1", "SELECT 'one of its own'", &[]), sync()]],
        // A name that is taken, where nothing but ROLLBACK is taken.
        vec![
            vec![parse("s1", "SELECT 1", &[]), sync()],
            vec![query("BEGIN")],
            vec![query("DISCARD ALL")],
            vec![parse("s1", "ROLLBACK", &[]), sync()],
            vec![parse("s1", "SELECT 1", &[]), sync()],
            vec![query("ROLLBACK"), parse("s1", "SELECT nothing", &[]), sync()],
            vec![parse("s1", "SELECT 2", &[]), sync(), bind("", "s1", &[]), execute("", 0), sync()],
        ],
    ];
    let arena = Arena::open().await;
    for turns in programs {
        let with_waits = turns.into_iter().flat_map(|turn| {
            turn.into_iter().map(program::Step::Send).chain([program::Step::Wait]).collect::<Vec<_>>()
        });
        let program = Program { startup: Vec::new(), steps: with_waits.collect() };
        let (direct, pooled) = arena.compare(&program).await;
        assert!(direct.matches(&pooled), "{program} PostgreSQL:\n{direct} pgweir:\n{pooled}");
        assert_eq!(arena.rival.complaint(), None);
    }
    arena.rival.stop().await;
}
