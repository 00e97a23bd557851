//! The pool as a model: fake servers, scripted dials, a paused clock and no socket.

mod dialling;
mod failures;
mod holding;
mod line;
mod programs;
mod refusals;
mod retiring;
mod seats;
mod shared;

use super::{Checkout, Connector, Pool, PoolId, Pooled, Quota, Quotas, Refusal, Shared};
use crate::config::{Care, Host, Hosts, PoolMode, PoolSettings, Reserve, StatementLimits};
use crate::server::{DialError, Parameters};
use crate::stats::Peer;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

/// How a dial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Success,
    /// Nobody listens: may pass.
    Transient,
    /// A wrong password: will not pass by itself.
    Permanent,
    /// 57P03: the server starts up.
    Busy,
}

/// What becomes of a dial, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    After(Duration, Fate),
    /// When the test says so.
    Asked,
    Never,
}

const AT_ONCE: Plan = Plan::After(Duration::ZERO, Fate::Success);

impl Fate {
    fn result(self, world: &Arc<World>) -> Result<Fake, DialError> {
        let refused = |code: &str| DialError::Refused { code: code.to_owned(), message: code.to_owned() };
        match self {
            Self::Success => Ok(world.bear()),
            Self::Transient => Err(DialError::Connect(io::ErrorKind::ConnectionRefused.into())),
            Self::Permanent => Err(refused("28P01")),
            Self::Busy => Err(refused("57P03")),
        }
    }
}

/// The database server that a pool dials.
#[derive(Debug)]
struct World {
    plans: Mutex<VecDeque<Plan>>,
    otherwise: Mutex<Plan>,
    /// Dials that wait to be told how they end.
    asked: Mutex<VecDeque<oneshot::Sender<Fate>>>,
    close_takes: Mutex<Duration>,
    check_takes: Mutex<Duration>,
    checks: AtomicUsize,
    checking: AtomicUsize,
    vitals: Mutex<Vec<Arc<Vitals>>>,
    dials: AtomicUsize,
    under_way: AtomicUsize,
    closing: AtomicUsize,
    live: AtomicUsize,
    /// The most servers that ever lived at once.
    peak: AtomicUsize,
}

/// What a test can see and do of a server from outside.
#[derive(Debug)]
struct Vitals {
    number: u32,
    quiet: AtomicBool,
    /// Whether it answers a check.
    answers: AtomicBool,
    gone: AtomicBool,
}

/// A server.
#[derive(Debug)]
struct Fake {
    vitals: Arc<Vitals>,
    world: Arc<World>,
}

/// Counts something for as long as it lives, however its scope ends.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            plans: Mutex::default(),
            otherwise: Mutex::new(AT_ONCE),
            asked: Mutex::default(),
            close_takes: Mutex::default(),
            check_takes: Mutex::default(),
            checks: AtomicUsize::new(0),
            checking: AtomicUsize::new(0),
            vitals: Mutex::default(),
            dials: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            closing: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        })
    }

    fn bear(self: &Arc<Self>) -> Fake {
        let mut all = self.vitals.lock().unwrap();
        let number = u32::try_from(all.len()).unwrap();
        let (quiet, answers, gone) = (AtomicBool::new(true), AtomicBool::new(true), AtomicBool::new(false));
        let vitals = Arc::new(Vitals { number, quiet, answers, gone });
        all.push(Arc::clone(&vitals));
        let live = self.live.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(live, Ordering::SeqCst);
        Fake { vitals, world: Arc::clone(self) }
    }

    fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    /// Ends the dial that has waited for longest; tells whether there was one.
    fn answer(&self, fate: Fate) -> bool {
        let first = self.asked.lock().unwrap().pop_front();
        first.is_some_and(|dial| dial.send(fate).is_ok())
    }

    fn plan(&self, plan: Plan) {
        self.plans.lock().unwrap().push_back(plan);
    }

    fn always(&self, plan: Plan) {
        *self.otherwise.lock().unwrap() = plan;
    }

    fn kill(&self, number: usize) {
        self.vitals.lock().unwrap()[number].quiet.store(false, Ordering::SeqCst);
    }

    fn is_gone(&self, number: usize) -> bool {
        self.vitals.lock().unwrap()[number].gone.load(Ordering::SeqCst)
    }
}

impl Connector for Arc<World> {
    type Server = Fake;

    async fn dial(&self, _settings: &PoolSettings) -> Result<Fake, DialError> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let _under_way = Counted::new(&self.under_way);
        let planned = self.plans.lock().unwrap().pop_front();
        let plan = planned.unwrap_or(*self.otherwise.lock().unwrap());
        match plan {
            Plan::After(Duration::ZERO, fate) => fate.result(self),
            Plan::After(pause, fate) => {
                tokio::time::sleep(pause).await;
                fate.result(self)
            }
            Plan::Never => std::future::pending().await,
            Plan::Asked => {
                let (tell, told) = oneshot::channel();
                self.asked.lock().unwrap().push_back(tell);
                told.await.unwrap().result(self)
            }
        }
    }
}

impl Pooled for Fake {
    type Proof = ();

    fn is_quiet(&self) -> bool {
        self.vitals.quiet.load(Ordering::SeqCst)
    }

    async fn check(&mut self, _query: &str) -> bool {
        let _checking = Counted::new(&self.world.checking);
        self.world.checks.fetch_add(1, Ordering::SeqCst);
        let pause = *self.world.check_takes.lock().unwrap();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.vitals.answers.load(Ordering::SeqCst)
    }

    async fn close(self) {
        let _closing = Counted::new(&self.world.closing);
        let pause = *self.world.close_takes.lock().unwrap();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    fn baseline(&self) -> Arc<Parameters> {
        Arc::new(BTreeMap::from([("number".to_owned(), self.vitals.number.to_string())]).into())
    }

    fn identity(&self) -> (Peer, u32) {
        (Peer::default(), self.vitals.number)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.vitals.gone.store(true, Ordering::SeqCst);
        self.world.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A pool and the server that it dials.
struct Bench {
    pool: Arc<Pool<Arc<World>>>,
    world: Arc<World>,
}

type Taken = Checkout<Arc<World>>;

impl Bench {
    fn new(settings: PoolSettings) -> Self {
        let quotas = quotas(&settings, &Arc::new(Quota::new(None)));
        Self::start(settings, quotas, World::new(), shared())
    }

    fn of_size(size: u32) -> Self {
        Self::new(PoolSettings { size: Some(size), ..settings() })
    }

    fn start(settings: PoolSettings, quotas: Quotas, world: Arc<World>, shared: Shared) -> Self {
        let id = PoolId { database: settings.dbname.clone(), user: settings.user.clone() };
        Self { pool: Pool::start(id, settings, Arc::clone(&world), quotas, shared, false), world }
    }

    /// A client that asks for a server.
    fn ask(&self) -> Client {
        let (pool, served) = (Arc::clone(&self.pool), Arc::new(AtomicBool::new(false)));
        let tell = Arc::clone(&served);
        let task = tokio::spawn(async move {
            let result = pool.checkout().await;
            tell.store(result.is_ok(), Ordering::SeqCst);
            result
        });
        Client { task, served }
    }

    async fn take(&self) -> Taken {
        self.ask().served().await
    }

    /// So many servers in use.
    async fn take_all(&self, count: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.take().await);
        }
        taken
    }

    fn used(&self) -> usize {
        usize::try_from(self.pool.quotas().pool.used()).unwrap()
    }

    fn waiting(&self) -> usize {
        self.pool.queue().0
    }

    fn change(&self, change: impl FnOnce(&mut PoolSettings)) {
        let mut settings = (*self.pool.settings()).clone();
        change(&mut settings);
        self.pool.reconfigure(settings);
    }

    /// Every seat is that of a server or of a dial, every server stands idle, is held or is being closed, and
    /// nobody waits while a server stands idle.
    fn check(&self, held: usize) {
        let under_way = self.world.under_way.load(Ordering::SeqCst);
        let closing = self.world.closing.load(Ordering::SeqCst);
        let stale = self.pool.stale_count() + self.world.checking.load(Ordering::SeqCst);
        let idle = self.pool.idle_count();
        assert_eq!(self.used(), self.world.live() + under_way, "a seat leaked");
        assert_eq!(self.pool.dialling_count(), under_way as u64, "dials are miscounted");
        assert_eq!(self.pool.servers().len(), self.world.live(), "the roll is wrong");
        assert_eq!(idle + stale + held + closing, self.world.live(), "a server is lost");
        assert!(idle == 0 || self.waiting() == 0, "{idle} servers idle while {} wait", self.waiting());
    }
}

/// A client that asked for a server.
struct Client {
    task: JoinHandle<Result<Taken, Refusal>>,
    served: Arc<AtomicBool>,
}

impl Client {
    fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    fn has_server(&self) -> bool {
        self.served.load(Ordering::SeqCst)
    }

    /// It hangs up; what it was handed meanwhile is not lost.
    fn leave(self) {
        self.task.abort();
    }

    async fn result(self) -> Result<Taken, Refusal> {
        settle().await;
        assert!(self.is_done(), "the client still waits");
        self.task.await.unwrap()
    }

    async fn served(self) -> Taken {
        self.result().await.unwrap()
    }

    async fn refused(self) -> Refusal {
        self.result().await.unwrap_err()
    }
}

pub(super) fn settings() -> PoolSettings {
    PoolSettings {
        hosts: Hosts::one(Host::Tcp("db".to_owned())),
        port: 5432,
        dbname: "shop".to_owned(),
        user: "alice".to_owned(),
        user_is_forced: false,
        password: None,
        startup: BTreeMap::new(),
        mode: PoolMode::Transaction,
        size: Some(2),
        min_size: 0,
        max_db_connections: None,
        max_user_connections: None,
        server_lifetime: Some(3600 * SECOND),
        server_idle_timeout: Some(600 * SECOND),
        server_connect_timeout: Some(15 * SECOND),
        server_login_retry: 15 * SECOND,
        query_wait_timeout: Some(120 * SECOND),
        server_reset_query: "DISCARD ALL".to_owned(),
        server_round_robin: false,
        share_unnamed_statements: true,
        max_prepared_statements: 200,
        statement_limits: StatementLimits::default(),
        track_extra: [].into(),
        reserve: Reserve::default(),
        care: Care::default(),
        query_wait_notify: None,
        tcp: crate::config::TcpOptions::default(),
        lookup: None,
    }
}

fn quotas(settings: &PoolSettings, database: &Arc<Quota>) -> Quotas {
    Quotas {
        pool: Arc::new(Quota::new(settings.size)),
        database: Arc::clone(database),
        user: Arc::new(Quota::new(None)),
    }
}

fn shared() -> Shared {
    Shared {
        numbers: Arc::new(1.into()),
        runtimes: [Handle::current()].into(),
        crowded: Arc::new(Notify::new()),
        lanes: Arc::default(),
    }
}

/// Lets every task run until none has anything left to do, while the clock stands still. A task that never rests is
/// no hang here: it is cut off.
async fn settle() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

/// Lets time go by in small steps.
async fn pass(duration: Duration) {
    let step = if duration > 5 * SECOND { SECOND } else { SECOND / 10 };
    let mut left = duration;
    settle().await;
    while !left.is_zero() {
        tokio::time::advance(step.min(left)).await;
        settle().await;
        left = left.saturating_sub(step);
    }
    // The timer counts whole milliseconds and is never early.
    tokio::time::advance(Duration::from_millis(2)).await;
    settle().await;
}

/// Counts how often something is notified.
fn count_notifications(notify: &Arc<Notify>) -> Arc<AtomicU32> {
    let (count, notify) = (Arc::new(AtomicU32::new(0)), Arc::clone(notify));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            notify.notified().await;
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    count
}
