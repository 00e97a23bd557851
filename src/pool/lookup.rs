//! `auth_query`: the secrets of users that the auth file does not know, asked of a server.
//!
//! It is asked at every login, so that a role that was dropped, locked or given another password is so at once; what
//! was found is kept only for logins to servers. Of logins of one user that come at the same time, those share a question
//! that came before it was sent: what an answer says is never older than the login that it decides.

use super::{Pools, Refusal, ServerPool};
use crate::auth::{Disguise, Iterations, StoredSecret};
use crate::config::Lookup;
use crate::net::Pipe;
use crate::server::{QueryError, Rows, Unclean};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::sync::watch;
use tokio::time::timeout;

/// How often a question is sent when its connection breaks.
const ATTEMPTS: u32 = 3;

/// Secrets that are kept for logins to servers.
const KEPT: usize = 65_536;

/// What is known of a user.
#[derive(Debug, Clone)]
pub enum Found {
    /// There is none of that name, or none who may log in.
    Nobody,
    /// The secret; [`StoredSecret::Absent`] where there is none, or none any longer.
    User(StoredSecret),
}

/// Why a question has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LookupError {
    /// There is no connection to ask over.
    #[error(transparent)]
    NoServer(Refusal),
    /// The query is wrong, or what it gives.
    #[error("{0}")]
    Config(String),
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("auth_query was not answered in time")]
    TooLate,
}

/// What is asked, of whom, about whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    database: String,
    auth_user: String,
    query: Arc<str>,
    user: String,
}

type Answer = Result<Found, LookupError>;

/// A question that has not been sent yet. Who waits for it holds a receiver.
type Open = Arc<watch::Sender<Option<Answer>>>;

/// All questions.
#[derive(Debug, Default)]
pub struct Lookups {
    pools: OnceLock<Weak<Pools>>,
    open: Mutex<HashMap<Question, Open>>,
    found: Mutex<HashMap<Question, StoredSecret>>,
    kinds: Kinds,
}

/// What secrets were found so far, which is what those of users who do not exist must look like.
#[derive(Debug, Default)]
struct Kinds {
    scram: AtomicU64,
    others: AtomicU64,
    iterations: AtomicU32,
}

impl Lookups {
    pub(super) fn attach(&self, pools: &Arc<Pools>) {
        // Once, by those whose questions these are.
        let _first = self.pools.set(Arc::downgrade(pools));
    }

    /// Asks about a user, or waits for an answer that somebody else is about to ask for.
    ///
    /// Cancel safe: a question is sent or dropped as a whole.
    ///
    /// # Errors
    ///
    /// [`LookupError`].
    pub async fn ask(self: &Arc<Self>, lookup: &Arc<Lookup>, user: &str) -> Answer {
        let mut answer = self.join(lookup, user);
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err(LookupError::TooLate)),
            Err(_) => Err(LookupError::Broken("auth_query was given up".to_owned())),
        }
    }

    /// What was found about a user at the last login.
    #[must_use]
    pub fn known(&self, lookup: &Lookup, user: &str) -> Option<StoredSecret> {
        lock(&self.found).get(&Question::of(lookup, user)).cloned()
    }

    /// Forgets what was found.
    pub fn forget(&self) {
        lock(&self.found).clear();
    }

    /// What a user who does not exist should look like; `None` before anything was found.
    #[must_use]
    pub fn usual(&self) -> Option<(Disguise, Option<Iterations>)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (scram, others) = (count(&self.kinds.scram), count(&self.kinds.others));
        let disguise = if scram >= others { Disguise::Scram } else { Disguise::Md5 };
        let iterations = Iterations::new(self.kinds.iterations.load(Ordering::Relaxed));
        (scram + others > 0).then_some((disguise, iterations))
    }

    fn join(self: &Arc<Self>, lookup: &Arc<Lookup>, user: &str) -> watch::Receiver<Option<Answer>> {
        let question = Question::of(lookup, user);
        let mut open = lock(&self.open);
        if let Some(sender) = open.get(&question) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        open.insert(question.clone(), Arc::clone(&sender));
        tokio::spawn(Arc::clone(self).answer(Arc::clone(lookup), question, sender));
        receiver
    }

    /// Has the question answered, unless nobody waits for it any longer before it is sent.
    async fn answer(self: Arc<Self>, lookup: Arc<Lookup>, question: Question, sender: Open) {
        let asking = timeout(lookup.limit, self.fetch(&lookup, &question, &sender));
        let answer = asking.await.unwrap_or(Some(Err(LookupError::TooLate)));
        // Also where it was not sent: who comes later asks anew.
        self.close(&question, &sender);
        let Some(answer) = answer else { return };
        self.note(question, &answer);
        sender.send_replace(Some(answer));
    }

    /// `None` when nobody waits for it.
    async fn fetch(&self, lookup: &Lookup, question: &Question, sender: &Open) -> Option<Answer> {
        let pools = self.pools.get().and_then(Weak::upgrade)?;
        let Some(pool) = pools.lookup_pool(lookup) else {
            return Some(Err(LookupError::Broken("too many databases are asked in".to_owned())));
        };
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let checkout = tokio::select! {
                checkout = pool.checkout() => checkout,
                () = self.abandoned(question, sender) => return None,
            };
            let mut server = match checkout {
                Ok(server) => server,
                Err(refusal) => return Some(Err(LookupError::NoServer(refusal))),
            };
            self.close(question, sender);
            let asked = server.ask(&lookup.query, &question.user).await;
            match asked {
                // It ended while it stood idle, which shows in the first use.
                Err(QueryError::Unclean(Unclean::Fault(_) | Unclean::Write(_))) if attempts > 0 => {}
                Err(QueryError::Unclean(unclean)) => {
                    return Some(Err(LookupError::Broken(format!("auth_query: {unclean}"))));
                }
                Err(QueryError::Refused(report)) => {
                    release(server);
                    return Some(Err(LookupError::Config(format!("auth_query: {}", report.message))));
                }
                Ok(rows) => {
                    release(server);
                    return Some(interpret(rows, &question.user));
                }
            }
        }
    }

    /// When nobody waits; the question is closed then.
    async fn abandoned(&self, question: &Question, sender: &Open) {
        loop {
            sender.closed().await;
            let mut open = lock(&self.open);
            if sender.receiver_count() == 0 {
                remove(&mut open, question, sender);
                return;
            }
        }
    }

    /// From now on whoever asks the same asks anew.
    fn close(&self, question: &Question, sender: &Open) {
        remove(&mut lock(&self.open), question, sender);
    }

    fn note(&self, question: Question, answer: &Answer) {
        let mut found = lock(&self.found);
        match answer {
            Ok(Found::User(secret)) => {
                self.kinds.count(secret);
                if found.len() >= KEPT && !found.contains_key(&question) {
                    found.clear();
                }
                found.insert(question, secret.clone());
            }
            Ok(Found::Nobody) => {
                found.remove(&question);
            }
            Err(_) => {}
        }
    }
}

impl Question {
    fn of(lookup: &Lookup, user: &str) -> Self {
        Self {
            database: lookup.database.clone(),
            auth_user: lookup.user.clone(),
            query: Arc::clone(&lookup.query),
            user: user.to_owned(),
        }
    }
}

impl Kinds {
    fn count(&self, secret: &StoredSecret) {
        match secret {
            StoredSecret::Scram(verifier) => {
                self.scram.fetch_add(1, Ordering::Relaxed);
                self.iterations.store(verifier.iterations().count(), Ordering::Relaxed);
            }
            StoredSecret::Md5(_) | StoredSecret::Plain(_) => {
                self.others.fetch_add(1, Ordering::Relaxed);
            }
            StoredSecret::Absent => {}
        }
    }
}

fn release(mut server: super::ServerCheckout) {
    if let Ok(clean) = server.settle(&Pipe::default()) {
        server.release(clean);
    }
}

/// What the rows say: one of them, with the name and the secret.
fn interpret(rows: Rows, user: &str) -> Answer {
    let wrong = |what: String| Err(LookupError::Config(format!("auth_query {what}")));
    match rows.columns {
        None => return wrong("gives no rows at all: it must be a SELECT".to_owned()),
        Some(2) => {}
        Some(count) => return wrong(format!("gives {count} columns: it must give the name and the secret")),
    }
    let mut rows = rows.rows.into_iter();
    let Some(row) = rows.next() else { return Ok(Found::Nobody) };
    if rows.next().is_some() {
        return wrong("gives several rows: does it compare the name with $1?".to_owned());
    }
    let mut values = row.into_iter();
    let (Some(Some(name)), Some(secret)) = (values.next(), values.next()) else { return Ok(Found::Nobody) };
    if *name != *user.as_bytes() {
        // Whoever logs in as one is that one, and nobody else.
        tracing::warn!(user, "auth_query answers for another user than the one who was asked about");
        return Ok(Found::Nobody);
    }
    match StoredSecret::parse(&secret.unwrap_or_default()) {
        Ok(secret) => Ok(Found::User(secret)),
        Err(error) => {
            tracing::warn!(user, "auth_query: {error}");
            Ok(Found::User(StoredSecret::Absent))
        }
    }
}

fn remove(open: &mut HashMap<Question, Open>, question: &Question, sender: &Open) {
    if open.get(question).is_some_and(|known| Arc::ptr_eq(known, sender)) {
        open.remove(question);
    }
}

/// The maps are whole after every step, so a panic elsewhere cannot have spoilt them.
fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pools of connections to ask over that are kept at most.
pub(super) const SOURCES: usize = 1000;

/// Makes room for one more pool: those go that have no connection and that nobody uses.
pub(super) fn make_room<K: Eq + std::hash::Hash>(pools: &mut HashMap<K, Arc<ServerPool>>) -> bool {
    if pools.len() >= SOURCES {
        pools.retain(|_, pool| {
            Arc::strong_count(pool) > 1 || !pool.servers().is_empty() || pool.dialling_count() > 0
        });
    }
    pools.len() < SOURCES
}
