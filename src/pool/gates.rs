//! PAUSE, RESUME, KILL, DISABLE and RECONNECT: what holds a pool back, for one database or for all.
//!
//! A pool that is held back dials nothing, and what it has is closed as it comes back: so no server is left, and who
//! wants one waits in line like anybody else. A checkout knows nothing of all this.

use super::{Connector, Full, Pool, Pools, Refusal, ServerPool};
use crate::stats::ServerRecord;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

/// What was ordered for single databases and for all.
#[derive(Debug, Default)]
pub(super) struct Gates {
    all_paused: bool,
    /// Nothing is resumed any longer.
    is_shutting_down: bool,
    /// Only databases for which something was ordered.
    databases: HashMap<String, Gate>,
}

/// What was ordered for one database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    /// Its clients get no server (PAUSE, KILL).
    pub is_paused: bool,
    /// New clients are refused (DISABLE).
    pub is_disabled: bool,
}

/// Why an order is not carried out. The texts are PgBouncer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// All databases are paused as it is.
    #[error("already paused")]
    AlreadyPaused,
    /// There is no PAUSE of all to be undone.
    #[error("pooler is not paused")]
    NotPaused,
    /// The process is about to end.
    #[error("pooler is shutting down")]
    ShuttingDown,
    /// That database is not paused by itself.
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    /// Somebody resumed before the last server had come back.
    #[error("PAUSE was undone by RESUME")]
    Undone,
}

impl Gates {
    pub(super) fn of(&self, database: &str) -> Gate {
        self.databases.get(database).copied().unwrap_or_default()
    }

    /// Whether pools of this database are held back.
    pub(super) fn hold_back(&self, database: &str) -> bool {
        self.all_paused || self.of(database).is_paused
    }

    fn set(&mut self, database: &str, change: impl FnOnce(&mut Gate)) {
        let mut gate = self.of(database);
        change(&mut gate);
        if gate == Gate::default() {
            self.databases.remove(database);
        } else {
            self.databases.insert(database.to_owned(), gate);
        }
    }

    /// Forgets databases that are gone.
    pub(super) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.databases.retain(|database, _| exists(database));
    }

    fn is_paused(&self, database: Option<&str>) -> bool {
        database.map_or(self.all_paused, |database| self.of(database).is_paused)
    }
}

impl Pools {
    /// Gives out no more servers, for one database or for all; [`Pools::until_paused`] waits for those in use.
    ///
    /// # Errors
    ///
    /// [`OrderError::AlreadyPaused`] when all are. A database may be paused twice.
    pub fn pause(&self, database: Option<&str>) -> Result<(), OrderError> {
        let mut inner = self.lock();
        if inner.gates.all_paused {
            return Err(OrderError::AlreadyPaused);
        }
        match database {
            None => inner.gates.all_paused = true,
            Some(name) => inner.gates.set(name, |gate| gate.is_paused = true),
        }
        inner.apply_gates();
        Ok(())
    }

    /// Waits until no server is left of what was paused: all are released and closed.
    ///
    /// Cancel safe; what was paused stays so when nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`OrderError::Undone`] when it is resumed meanwhile.
    pub async fn until_paused(&self, database: Option<&str>) -> Result<(), OrderError> {
        let is_over = |pools: &Self| {
            if !pools.lock().gates.is_paused(database) {
                return Some(Err(OrderError::Undone));
            }
            let pools = pools.of_database(database);
            pools.iter().all(|pool| pool.quotas().pool.used() == 0).then_some(Ok(()))
        };
        self.watch(database, is_over).await
    }

    /// Undoes [`Pools::pause`] and [`Pools::kill`]. What was paused by itself stays so when all are resumed.
    ///
    /// # Errors
    ///
    /// When it is not paused.
    pub fn resume(&self, database: Option<&str>) -> Result<(), OrderError> {
        {
            let mut inner = self.lock();
            match database {
                None if inner.gates.is_shutting_down => return Err(OrderError::ShuttingDown),
                None if !inner.gates.all_paused => return Err(OrderError::NotPaused),
                None => inner.gates.all_paused = false,
                Some(name) if !inner.gates.of(name).is_paused => {
                    return Err(OrderError::DatabaseNotPaused(name.to_owned()));
                }
                Some(name) => inner.gates.set(name, |gate| gate.is_paused = false),
            }
            inner.apply_gates();
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Pauses a database, or each that has a pool, and sends away whoever waits in line there. Gives the databases;
    /// their clients are the caller's to end.
    ///
    /// # Errors
    ///
    /// [`OrderError::AlreadyPaused`] when all are paused.
    pub fn kill(&self, database: Option<&str>) -> Result<Vec<String>, OrderError> {
        let mut inner = self.lock();
        if inner.gates.all_paused {
            return Err(OrderError::AlreadyPaused);
        }
        let mut names: Vec<String> = match database {
            Some(name) => vec![name.to_owned()],
            None => inner.pools.keys().map(|id| id.database.clone()).collect(),
        };
        names.sort_unstable();
        names.dedup();
        names.iter().for_each(|name| inner.gates.set(name, |gate| gate.is_paused = true));
        inner.apply_gates();
        let killed = |pool: &&Arc<ServerPool>| names.contains(&pool.id.database);
        inner.all().filter(killed).for_each(|pool| pool.send_all_away(Refusal::Killed));
        Ok(names)
    }

    /// The process is to end: nothing that is paused is resumed any longer. When it ends without its clients, nobody gets
    /// another server, and who waits for one is sent away.
    pub fn shut_down(&self, without_clients: bool) {
        let mut inner = self.lock();
        inner.gates.is_shutting_down = true;
        if without_clients {
            inner.gates.all_paused = true;
            inner.apply_gates();
            inner.all().for_each(|pool| pool.send_all_away(Refusal::ShuttingDown));
        }
    }

    /// Refuses new clients of a database, or lets them in again.
    pub fn disable(&self, database: &str, is_disabled: bool) {
        self.lock().gates.set(database, |gate| gate.is_disabled = is_disabled);
    }

    /// What was ordered for a database by itself.
    #[must_use]
    pub fn gate(&self, database: &str) -> Gate {
        self.lock().gates.of(database)
    }

    /// Whether all databases are paused.
    #[must_use]
    pub fn are_paused(&self) -> bool {
        self.lock().gates.all_paused
    }

    /// Databases that are paused by themselves, in the order of their names.
    #[must_use]
    pub fn paused_databases(&self) -> Vec<String> {
        let inner = self.lock();
        let paused = inner.gates.databases.iter().filter(|(_, gate)| gate.is_paused);
        let mut names: Vec<_> = paused.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Has the servers of a database, or of all, replaced as they come back.
    pub fn reconnect(&self, database: Option<&str>) {
        self.of_database(database).iter().for_each(|pool| pool.reconnect());
    }

    /// Waits until every server that is to be replaced is closed (WAIT_CLOSE). Cancel safe.
    pub async fn until_closed(&self, database: Option<&str>) {
        let is_over = |pools: &Self| {
            let pools = pools.of_database(database);
            let awaited = |pool: &Arc<ServerPool>| {
                pool.servers().list().iter().any(|server| pool.is_to_be_replaced(server))
            };
            (!pools.iter().any(awaited)).then_some(())
        };
        self.watch(database, is_over).await;
    }

    /// Waits until a look at the pools says that it is over. It is looked again whenever a server of theirs is gone.
    async fn watch<T>(&self, database: Option<&str>, is_over: impl Fn(&Self) -> Option<T>) -> T {
        let freed = Arc::new(Notify::new());
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            // Each time, since there may be new ones; a place that is interested twice is woken once.
            self.of_database(database).iter().for_each(|pool| pool.quotas().pool.interest(&freed));
            if let Some(result) = is_over(self) {
                return result;
            }
            tokio::select! {
                () = freed.notified() => {}
                () = changed => {}
            }
        }
    }

    fn of_database(&self, database: Option<&str>) -> Vec<Arc<ServerPool>> {
        let inner = self.lock();
        inner.all().filter(|pool| database.is_none_or(|name| pool.id.database == name)).cloned().collect()
    }
}

impl<C: Connector> Pool<C> {
    /// Holds the pool back or lets it go on. Servers that it has when it is held back are closed as they come back.
    pub(super) fn hold_back(&self, held: bool) {
        if self.held_back.swap(held, Ordering::SeqCst) == held {
            return;
        }
        if held {
            // What failed before it was held back says nothing of what is there afterwards.
            self.health().clear();
            self.retire_generation();
        }
        self.wake.notify_one();
    }

    /// Whether it gives out no servers for now.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.held_back.load(Ordering::SeqCst)
    }

    /// Has all servers of now replaced as they come back.
    pub fn reconnect(&self) {
        let next = self.retire_generation();
        self.replaced_below.fetch_max(next, Ordering::AcqRel);
    }

    /// Marks all servers of now as not to be used again; gives the generation of those to come.
    fn retire_generation(&self) -> u64 {
        let next = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake.notify_one();
        next
    }

    /// Whether a server is to be closed as soon as it is released, since it was reconnected or has another endpoint.
    #[must_use]
    pub fn is_to_be_replaced(&self, server: &ServerRecord) -> bool {
        server.generation < self.replaced_below.load(Ordering::Acquire)
    }

    /// What stands between those who wait and another server, in words; `None` when nothing does.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        if self.is_held_back() {
            return Some("It is paused (PAUSE, KILL)".to_owned());
        }
        let (setting, quota) = match self.quotas.narrowest()? {
            Full::Pool => ("the size of the pool", &self.quotas.pool),
            Full::Database => ("max_db_connections", &self.quotas.database),
            Full::User => ("max_user_connections", &self.quotas.user),
        };
        Some(format!("{} of {} places under {setting} are taken", quota.used(), quota.limit()?))
    }

    /// Sends away everybody who waits in line now.
    pub(super) fn send_all_away(&self, why: Refusal) {
        self.dismissal.store(Some(Arc::new(why)));
        self.dismissals.fetch_add(1, Ordering::Release);
        self.rack.wake_all();
    }
}
