//! Whatever a client sends, it gets the same bytes through the pooler as from PostgreSQL itself.
//!
//! Programs of messages are generated, played on both, and compared, while rivals run transactions of their own on the
//! pooler's only server, or on its two, so that these change hands at every chance.
//!
//! | variable | |
//! |---|---|
//! | `PGWEIR_DIFF_MESSAGES` | how many messages |
//! | `PGWEIR_DIFF_SEED` | the first program |
//! | `PGWEIR_DIFF_REPEAT` | how often each program is played; 1 |
//! | `PGWEIR_DIFF_SERVERS` | servers of a pool; unset, both 1 and 2 are played |
//! | `PGWEIR_DIFF_STATEMENTS` | `max_prepared_statements`; unset, both many and few are played |
//! | `PGWEIR_DIFF_MIXED` | set, names are given both by Parse and by PREPARE, which differs: see `docs/transaction-mode.md` |
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a test may")]

#[path = "differential/arena.rs"]
mod arena;
mod common;
#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/dice.rs"]
mod dice;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/play.rs"]
mod play;
#[path = "differential/program.rs"]
mod program;
#[path = "differential/rival.rs"]
mod rival;
#[path = "differential/sql.rs"]
mod sql;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arena::{Arena, Terms};
use generate::Kind;
use program::Program;

/// Failing programs after which the run ends.
const FAILURES: usize = 3;

/// What the arenas of one run share.
struct Run {
    first: u64,
    /// How often each program is played.
    repeat: u64,
    next: AtomicU64,
    messages: AtomicU64,
    /// Programs of which only the part up to an outdated plan could be compared.
    outdated: AtomicU64,
    wanted: u64,
    failures: Mutex<Vec<String>>,
}

impl Run {
    /// The next program, as long as there is one.
    fn program(&self) -> Option<(u64, Program)> {
        let is_over = self.messages.load(Ordering::Relaxed) >= self.wanted
            || self.failures.lock().unwrap().len() >= FAILURES;
        if is_over {
            return None;
        }
        let seed = self.first + self.next.fetch_add(1, Ordering::Relaxed) / self.repeat;
        let program = generate::program(seed, kind(seed));
        self.messages.fetch_add(u64::try_from(program.messages()).unwrap(), Ordering::Relaxed);
        Some((seed, program))
    }

    /// Plays programs in one arena until there are no more. Tells the turns of its rivals.
    async fn play(&self, terms: Terms) -> u64 {
        let mut arena = Arena::open(terms).await;
        let (mut programs, mut turns) = (0, 0);
        let how =
            format!("PGWEIR_DIFF_SERVERS={} PGWEIR_DIFF_STATEMENTS={}", terms.servers, terms.statements);
        while let Some((seed, program)) = self.program() {
            programs += 1;
            let (direct, pooled) = arena.compare(&program).await;
            if arena.is_lost() {
                // That is PostgreSQL's own fault, whatever the program was.
                println!("PGWEIR_DIFF_SEED={seed}: PostgreSQL has crashed, here or in another database");
                (programs, turns) = (0, turns + arena.turns());
                arena = Arena::reopen(terms).await;
                continue;
            }
            if let Some(complaint) = arena.complaint() {
                let text =
                    format!("{how} PGWEIR_DIFF_SEED={seed}: a rival got {complaint} beside\n{program}");
                println!("{text}");
                self.failures.lock().unwrap().push(text);
                break;
            }
            self.outdated.fetch_add(u64::from(direct.is_outdated_for(&pooled)), Ordering::Relaxed);
            if !direct.matches(&pooled) {
                let first = format!("{program}{}", direct.difference(&pooled));
                let shortest = arena.shrink(program).await;
                let (direct, pooled) = arena.compare(&shortest).await;
                let text = format!(
                    "{how} PGWEIR_DIFF_SEED={seed}\n at first\n{first} then\n{shortest}{}",
                    direct.difference(&pooled)
                );
                println!("{text}");
                self.failures.lock().unwrap().push(text);
            }
        }
        assert!(
            arena.turns() >= programs,
            "{} turns of the rivals beside {programs} programs",
            arena.turns()
        );
        turns + arena.turns()
    }
}

/// What the program of a seed may be made of.
fn kind(seed: u64) -> Kind {
    match seed % 8 {
        _ if std::env::var_os("PGWEIR_DIFF_MIXED").is_some() => Kind::Mixed,
        0 | 2 | 4 => Kind::Named,
        6 => Kind::Defining,
        7 => Kind::Contextual,
        _ => Kind::Unnamed,
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// The poolers of a run.
fn all_terms() -> Vec<Terms> {
    let choices = |variable, all: [u32; 2]| {
        number(variable).map_or(all.to_vec(), |one| vec![u32::try_from(one).unwrap()])
    };
    let servers = choices("PGWEIR_DIFF_SERVERS", [1, 2]);
    let statements = choices("PGWEIR_DIFF_STATEMENTS", [200, 4]);
    let pairs = servers
        .iter()
        .flat_map(|&servers| statements.iter().map(move |&statements| Terms { servers, statements }));
    pairs.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_those_of_postgresql() {
    let first = number("PGWEIR_DIFF_SEED").unwrap_or(1);
    let run = Arc::new(Run {
        first,
        repeat: number("PGWEIR_DIFF_REPEAT").unwrap_or(1),
        next: 0.into(),
        messages: 0.into(),
        outdated: 0.into(),
        wanted: number("PGWEIR_DIFF_MESSAGES").unwrap_or(60_000),
        failures: Mutex::default(),
    });
    let plays = all_terms().into_iter().map(|terms| {
        let run = Arc::clone(&run);
        tokio::spawn(async move { run.play(terms).await })
    });
    let mut turns = 0;
    for play in plays.collect::<Vec<_>>() {
        turns += play.await.unwrap();
    }
    let failures = run.failures.lock().unwrap().join("\n");
    assert!(failures.is_empty(), "{failures}");
    let [messages, programs, outdated] =
        [&run.messages, &run.next, &run.outdated].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{messages} messages in {programs} programs, {outdated} of them up to an outdated plan, \
         {turns} turns of the rivals"
    );
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
        // Names that SQL takes away, in the same go.
        vec![
            vec![parse("a longer name", "SELECT 1", &[]), sync()],
            vec![query("DEALLOCATE \"a longer name\"")],
            vec![parse("s2", "SELECT nothing", &[]), sync(), query("DEALLOCATE s2")],
            vec![parse("s2", "SELECT 2", &[]), sync()],
            vec![query("DISCARD ALL"), bind("", "s2", &[]), execute("", 0), sync()],
        ],
        // A Close that is skipped gives nothing back that is gone.
        vec![
            vec![
                parse("s1", "SELECT 1", &[]),
                parse("", "DEALLOCATE ALL", &[]),
                bind("", "", &[]),
                execute("", 0),
                execute("nope", 0),
                close('S', "s1"),
                sync(),
            ],
            vec![bind("", "s1", &[]), execute("", 0), sync()],
        ],
        // A name that is given anew, and what SQL finds under it.
        vec![
            vec![parse("s1", "SELECT 1", &[]), sync()],
            vec![query("EXECUTE s1")],
            vec![close('S', "s1"), sync()],
            vec![query("EXECUTE s1")],
            vec![parse("s1", "SELECT 2", &[]), sync()],
            vec![query("EXECUTE s1")],
            vec![query("DEALLOCATE s1")],
            vec![parse("s1", "SELECT 3", &[]), sync()],
            vec![query("DEALLOCATE s1")],
        ],
        // The next client finds nothing of it.
        vec![vec![bind("", "s1", &[]), execute("", 0), sync()], vec![query("EXECUTE s1")]],
    ];
    let mut arena = Arena::open(Terms { servers: 1, statements: 200 }).await;
    for turns in programs {
        let with_waits = turns.into_iter().flat_map(|turn| {
            turn.into_iter().map(program::Step::Send).chain([program::Step::Wait]).collect::<Vec<_>>()
        });
        let program = Program { startup: Vec::new(), steps: with_waits.collect() };
        let (direct, pooled) = arena.compare(&program).await;
        assert!(direct.equals(&pooled), "{program}{}", direct.difference(&pooled));
        assert_eq!(arena.complaint(), None);
    }
}
