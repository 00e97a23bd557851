//! A pooler, the rivals that keep it busy, and the tables that programs work on.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::common::postgres::try_connect;
use crate::common::{PATIENCE, Pgweir, Postgres, patiently};
use crate::play::{Heard, directly, through_pooler};
use crate::program::Program;
use crate::rival::Usurper;

/// How long a failing program is made shorter.
const SHRINKING: Duration = Duration::from_secs(60);

/// Plays of a program before it counts as one that does not fail.
const TRIES: u32 = 5;

/// Plays after which the tables are made afresh though nothing has changed, since what was undone takes room too.
const WORN: u32 = 20;

/// The tables as every play finds them.
const FRESH: &str = "TRUNCATE t, u; INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 5) g";

/// The table that some programs define anew.
const DEFINED: &str = "DROP TABLE IF EXISTS w, w2; CREATE TABLE w (a int, c text); \
                       INSERT INTO w VALUES (1, 'one'), (2, 'two'); ALTER TABLE w OWNER TO weir_trust";

/// What can be seen of the tables, in a transaction that waits for whoever has locked them.
const LOOK: &str = "LOCK TABLE t, u; \
                    SELECT (SELECT array_agg((ctid, xmin, t)::text) FROM t), \
                    (SELECT array_agg((ctid, xmin, u)::text) FROM u), \
                    (SELECT array_agg((ctid, xmin, w)::text) FROM w), \
                    (SELECT array_agg((attrelid, attname, atttypid)::text ORDER BY attrelid, attnum) FROM pg_attribute \
                    WHERE attrelid IN (SELECT oid FROM pg_class WHERE relname IN ('w', 'w2', 'w_a_idx')))";

/// How a pooler is set up.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Its servers, and as many rivals.
    pub servers: u32,
    /// Statements that a server may hold.
    pub statements: u32,
}

/// Where programs are played.
pub struct Arena {
    pooler: Pgweir,
    database: String,
    keeper: Client,
    through_pooler: Client,
    rivals: Vec<Usurper>,
    gate: watch::Sender<bool>,
    /// The tables after they were made afresh, and how many plays there were since.
    fresh: Vec<Option<String>>,
    plays: u32,
}

impl Arena {
    /// Makes the tables and starts everybody.
    pub async fn open(terms: Terms) -> Self {
        let postgres = Postgres::shared();
        let database = postgres.fresh_database().await;
        let keeper = postgres.connect("postgres", &database).await;
        let sql = "SET lock_timeout TO '10s'; SET client_min_messages TO warning; \
                   CREATE TABLE t (a int PRIMARY KEY, b text); CREATE TABLE u (a int); \
                   GRANT ALL ON t, u TO weir_trust; GRANT ALL ON SCHEMA public TO weir_trust";
        keeper.batch_execute(sql).await.unwrap();
        // What a Parse warns of is not said again of a statement that is there.
        let quiet = format!("ALTER DATABASE {database} SET escape_string_warning TO off");
        keeper.batch_execute(&quiet).await.unwrap();
        let pooler = Pgweir::builder(postgres)
            .pool_size(terms.servers)
            .setting("auth_type", "trust")
            .setting("report_pooler", 0)
            .setting("log_connections", 0)
            .setting("log_disconnections", 0)
            .setting("max_prepared_statements", terms.statements)
            .start();
        let through_pooler = pooler.connect("weir_trust", &database).await;
        let (gate, open) = watch::channel(false);
        let mut rivals = Vec::new();
        for number in 0..terms.servers {
            rivals.push(Usurper::start(pooler.port(), &database, number.into(), open.clone()).await);
        }
        Self { pooler, database, keeper, through_pooler, rivals, gate, fresh: Vec::new(), plays: WORN + 1 }
    }

    /// Starts again where PostgreSQL has crashed, as soon as it takes connections.
    pub async fn reopen(terms: Terms) -> Self {
        let config = Postgres::shared().config("postgres", "postgres");
        // It may have a large memory image to write before.
        let deadline = Instant::now() + 4 * PATIENCE;
        while try_connect(&config).await.is_err() {
            assert!(Instant::now() < deadline, "PostgreSQL does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self::open(terms).await
    }

    /// Whether PostgreSQL has ended all its connections.
    pub fn is_lost(&self) -> bool {
        self.keeper.is_closed()
    }

    /// Plays it on both. What a client left locked would show here: the tables cannot be locked.
    pub async fn compare(&mut self, program: &Program) -> (Heard, Heard) {
        self.reset(program).await;
        let direct = directly(Postgres::shared().port(), &self.database, program).await;
        self.reset(program).await;
        if self.is_lost() {
            return (direct.clone(), direct);
        }
        self.gate.send_replace(true);
        let pooled = through_pooler(self.pooler.port(), &self.database, program, &direct).await;
        self.gate.send_replace(false);
        (direct, pooled)
    }

    /// Makes the tables afresh where a play has changed them.
    async fn reset(&mut self, program: &Program) {
        self.plays += 1;
        let seen = self.look().await;
        if self.is_lost() {
            return;
        }
        if self.plays < WORN && !program.mentions("VACUUM") && seen == self.fresh {
            return;
        }
        run(&self.keeper, FRESH).await;
        if seen.get(2..) != self.fresh.get(2..) || self.plays > WORN {
            run(&self.keeper, DEFINED).await;
            // Somebody who changes tables behind the pooler's back is not among what is tried here.
            run(&self.through_pooler, "ALTER TABLE w RESET (fillfactor)").await;
        }
        self.fresh = self.look().await;
        self.plays = 0;
    }

    /// Nothing is seen where a table is gone.
    async fn look(&mut self) -> Vec<Option<String>> {
        let answer = patiently("look at the tables", self.keeper.simple_query(LOOK)).await;
        let row = answer.iter().flatten().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.map_or(Vec::new(), |row| {
            (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()
        })
    }

    /// What a rival got that was not its own.
    pub fn complaint(&self) -> Option<String> {
        self.rivals.iter().find_map(Usurper::complaint)
    }

    /// How often rivals have had a server.
    pub fn turns(&self) -> u64 {
        self.rivals.iter().map(Usurper::turns).sum()
    }

    /// The shortest program found that still fails, by leaving out half of it, a quarter, and so on to single steps.
    pub async fn shrink(&mut self, program: Program) -> Program {
        let deadline = Instant::now() + SHRINKING;
        let mut shortest = program;
        let mut size = shortest.steps.len();
        while size > 1 {
            size = size.div_ceil(2);
            let mut at = 0;
            while at < shortest.steps.len() && Instant::now() < deadline {
                let shorter = shortest.without(at..at + size);
                if self.fails(&shorter).await {
                    shortest = shorter;
                } else {
                    at += size;
                }
            }
        }
        shortest
    }

    /// Whether one of a few plays differs.
    async fn fails(&mut self, program: &Program) -> bool {
        for _ in 0..TRIES {
            let (direct, pooled) = self.compare(program).await;
            if !direct.matches(&pooled) {
                return true;
            }
        }
        false
    }
}

/// A crash of PostgreSQL is seen later.
async fn run(client: &Client, sql: &str) {
    let result = patiently("reset of the tables", client.batch_execute(sql)).await;
    if let Err(error) = result
        && !client.is_closed()
        && error.code().is_none_or(|code| !code.code().starts_with("57P") && !code.code().starts_with("08"))
    {
        panic!("{sql}: {error}");
    }
}
