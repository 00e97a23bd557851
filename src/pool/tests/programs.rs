//! Random programs over one to three pools of one database, checked after each step.

use super::*;
use crate::config::Check;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One thing that happens. Numbers that pick one of several are taken modulo their count.
#[derive(Debug, Clone)]
enum Op {
    Ask(usize),
    Leave(usize),
    Release(usize),
    Close(usize),
    Dial(usize, Fate),
    Pass(u64),
    Resize(usize, u32),
    Limit(u32),
    Reconnect(usize),
    KillIdle(usize),
    Evict(usize),
    CloseSlowly(usize, u64),
    HoldBack(usize, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let fate = prop_oneof![
        6 => Just(Fate::Success),
        1 => Just(Fate::Transient),
        1 => Just(Fate::Permanent),
        1 => Just(Fate::Busy),
    ];
    let any = 0..64_usize;
    prop_oneof![
        8 => any.clone().prop_map(Op::Ask),
        3 => any.clone().prop_map(Op::Leave),
        6 => any.clone().prop_map(Op::Release),
        3 => any.clone().prop_map(Op::Close),
        8 => (any.clone(), fate).prop_map(|(pool, fate)| Op::Dial(pool, fate)),
        2 => (1..3000_u64).prop_map(Op::Pass),
        1 => (any.clone(), 0..5_u32).prop_map(|(pool, size)| Op::Resize(pool, size)),
        1 => (0..7_u32).prop_map(Op::Limit),
        1 => any.clone().prop_map(Op::Reconnect),
        1 => any.clone().prop_map(Op::KillIdle),
        1 => any.clone().prop_map(Op::Evict),
        1 => (any.clone(), proptest::bool::ANY).prop_map(|(pool, held)| Op::HoldBack(pool, held)),
        1 => (any, 0..2000_u64).prop_map(|(pool, millis)| Op::CloseSlowly(pool, millis)),
    ]
}

/// What happens within one step happens before any task runs.
fn programs() -> impl Strategy<Value = (usize, Vec<Vec<Op>>)> {
    (1..4_usize, prop::collection::vec(prop::collection::vec(op(), 1..4), 1..60))
}

#[test]
fn random_programs_keep_the_invariants() {
    let config = Config { cases: 200, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    runner
        .run(&programs(), |(pools, steps)| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(run(pools, steps));
            Ok(())
        })
        .unwrap();
}

async fn run(pools: usize, steps: Vec<Vec<Op>>) {
    let mut model = Model::new(pools);
    for step in steps {
        for op in step {
            model.play(op).await;
        }
        settle().await;
        model.collect().await;
        model.check();
    }
    model.drain().await;
}

/// A limit, and how much of it may be used: what was in use when it was lowered may stay.
struct Allowed {
    quota: Arc<Quota>,
    most: u32,
}

impl Allowed {
    fn new(quota: &Arc<Quota>) -> Self {
        Self { quota: Arc::clone(quota), most: quota.limit().unwrap() }
    }

    fn check(&mut self) {
        let (used, limit) = (self.quota.used(), self.quota.limit().unwrap());
        assert!(used <= self.most.max(limit), "{used} places used of {limit}, {} before", self.most);
        self.most = used;
    }
}

struct Model {
    benches: Vec<Bench>,
    database: Arc<Quota>,
    allowed: Vec<Allowed>,
    /// In the order in which they asked, with the pool that they asked.
    line: Vec<(usize, Client)>,
    held: Vec<(usize, Taken)>,
}

const WAIT: Duration = Duration::from_secs(20);

impl Model {
    fn new(pools: usize) -> Self {
        let (database, shared) = (Arc::new(Quota::new(Some(4))), shared());
        let bench = |number: usize| {
            let settings = PoolSettings {
                user: format!("user{number}"),
                size: Some(3),
                min_size: u32::from(number == 1),
                query_wait_timeout: Some(WAIT),
                server_lifetime: Some(60 * SECOND),
                server_idle_timeout: Some(20 * SECOND),
                care: Care {
                    check: Some(Check { delay: 2 * SECOND, query: String::new() }),
                    ..Care::default()
                },
                ..settings()
            };
            let quotas = quotas(&settings, &database);
            let bench = Bench::start(settings, quotas, World::new(), shared.clone());
            bench.world.always(Plan::Asked);
            bench
        };
        let benches: Vec<_> = (0..pools).map(bench).collect();
        tokio::spawn(relieve(benches.iter().map(|bench| Arc::clone(&bench.pool)).collect(), shared.crowded));
        let pools = benches.iter().map(|bench| Allowed::new(&bench.pool.quotas().pool));
        let allowed = pools.chain([Allowed::new(&database)]).collect();
        Self { benches, database, allowed, line: Vec::new(), held: Vec::new() }
    }

    fn bench(&self, number: usize) -> &Bench {
        &self.benches[number % self.benches.len()]
    }

    async fn play(&mut self, op: Op) {
        self.allowed.iter_mut().for_each(Allowed::check);
        match op {
            Op::Ask(number) => {
                let pool = number % self.benches.len();
                self.line.push((pool, self.benches[pool].ask()));
            }
            Op::Leave(nth) => pick(&mut self.line, nth).into_iter().for_each(|(_, client)| client.leave()),
            Op::Release(nth) => pick(&mut self.held, nth).into_iter().for_each(|(_, held)| held.release(())),
            Op::Close(nth) => drop(pick(&mut self.held, nth)),
            Op::Dial(number, fate) => drop(self.bench(number).world.answer(fate)),
            Op::Pass(millis) => pass(Duration::from_millis(millis)).await,
            Op::Resize(number, size) => self.bench(number).change(|settings| settings.size = Some(size)),
            Op::Limit(limit) => self.database.set_limit(Some(limit)),
            // A server that is spoilt while it is being handed over costs its waiter the place in line, so first
            // everybody gets what is theirs.
            Op::Reconnect(number) => {
                settle().await;
                self.bench(number).pool.reconnect();
            }
            Op::HoldBack(number, held) => {
                settle().await;
                self.bench(number).pool.hold_back(held);
            }
            Op::KillIdle(number) => {
                settle().await;
                self.kill_idle(number);
            }
            Op::Evict(number) => drop(self.bench(number).pool.evict_one(crate::pool::Full::Database)),
            Op::CloseSlowly(number, millis) => {
                *self.bench(number).world.close_takes.lock().unwrap() = Duration::from_millis(millis);
            }
        }
    }

    fn kill_idle(&self, number: usize) {
        let bench = self.bench(number);
        let in_use = |vitals: &Arc<Vitals>| {
            let held = self.held.iter().any(|(_, held)| Arc::ptr_eq(&held.vitals, vitals));
            held || self.line.iter().any(|(_, client)| client.has_server())
        };
        let vitals = bench.world.vitals.lock().unwrap();
        vitals
            .iter()
            .filter(|vitals| !in_use(vitals))
            .for_each(|one| one.quiet.store(false, Ordering::SeqCst));
    }

    /// Takes those who are done out of the line. Nobody is served before one who came earlier.
    async fn collect(&mut self) {
        for pool in 0..self.benches.len() {
            let served = |(of, client): &(usize, Client)| *of == pool && client.has_server();
            let waits = |(of, client): &(usize, Client)| *of == pool && !client.is_done();
            let youngest_served = self.line.iter().rposition(served);
            let oldest_waiting = self.line.iter().position(waits);
            if let (Some(served), Some(waiting)) = (youngest_served, oldest_waiting) {
                assert!(served < waiting, "number {served} in line was served before {waiting}");
            }
        }
        for (pool, client) in std::mem::take(&mut self.line) {
            if !client.is_done() {
                self.line.push((pool, client));
            } else if let Ok(server) = client.result().await {
                self.held.push((pool, server));
            }
        }
    }

    fn check(&mut self) {
        self.allowed.iter_mut().for_each(Allowed::check);
        let used: usize = self.benches.iter().map(Bench::used).sum();
        assert_eq!(used, usize::try_from(self.database.used()).unwrap());
        for (number, bench) in self.benches.iter().enumerate() {
            bench.check(self.held.iter().filter(|(pool, _)| *pool == number).count());
            let waiting = self.line.iter().filter(|(pool, _)| *pool == number).count();
            assert_eq!(bench.waiting(), waiting, "the line is wrong");
            assert!(bench.pool.queue().1 <= WAIT + SECOND, "one waits for too long");
            assert!(bench.pool.dialling_count() <= 4, "too many dials");
            if bench.pool.is_held_back() {
                assert_eq!((bench.pool.idle_count(), bench.pool.stale_count()), (0, 0), "kept in a pause");
            }
            if waiting > 0 {
                self.check_progress(bench);
            }
        }
    }

    /// Who waits, waits for something: a dial, a pause after a failure, or a limit that is used up and has no idle
    /// server under it that could go.
    fn check_progress(&self, bench: &Bench) {
        let is_full = |quota: &Quota| quota.limit().is_some_and(|limit| quota.used() >= limit);
        let could_make_room =
            |other: &Bench| other.waiting() == 0 && other.pool.idle_count() + other.pool.stale_count() > 0;
        let makes_room = |other: &Bench| other.world.closing.load(Ordering::SeqCst) > 0;
        let (dialling, waiting) = (bench.pool.dialling_count(), bench.waiting() as u64);
        assert!(
            bench.pool.stale_count() == 0 || dialling >= waiting,
            "a server is not checked for who waits"
        );
        let for_good_reason = dialling > 0
            || bench.pool.is_held_back()
            || bench.pool.health().retry_at().is_some()
            || is_full(&bench.pool.quotas().pool)
            || (is_full(&self.database)
                && (self.benches.iter().any(makes_room) || !self.benches.iter().any(could_make_room)));
        let state = |bench: &Bench| (bench.waiting(), bench.pool.idle_count(), bench.used());
        let states: Vec<_> = self.benches.iter().map(state).collect();
        assert!(for_good_reason, "{} wait for nothing: (waiting, idle, used) {states:?}", bench.pool.id.user);
    }

    /// When everybody has gone and every dial has ended, nothing is left.
    async fn drain(mut self) {
        self.line.drain(..).for_each(|(_, client)| client.leave());
        self.held.clear();
        for bench in &self.benches {
            bench.world.always(AT_ONCE);
            while bench.world.answer(Fate::Success) {}
            bench.pool.hold_back(false);
        }
        pass(100 * SECOND).await;
        for bench in &self.benches {
            bench.check(0);
            assert_eq!((bench.used(), bench.waiting()), (0, 0));
        }
        assert_eq!(self.database.used(), 0);
    }
}

fn pick<T>(all: &mut Vec<T>, nth: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.remove(nth % all.len()))
}

/// As the registry does: an idle server of a pool in which nobody waits makes room for one in which somebody does.
async fn relieve(pools: Vec<Arc<Pool<Arc<World>>>>, crowded: Arc<Notify>) {
    loop {
        crowded.notified().await;
        for needy in pools.iter().filter(|pool| pool.queue().0 > 0) {
            let database = &needy.quotas().database;
            if database.limit().is_some_and(|limit| database.used() >= limit) {
                let _freed = pools
                    .iter()
                    .filter(|pool| pool.queue().0 == 0)
                    .any(|pool| pool.evict_one(crate::pool::Full::Database));
            }
        }
    }
}
