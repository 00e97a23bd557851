//! Servers for one client alone, which are never pooled: replication connections. They count under the limits of their
//! pool like any other, and an idle server makes room for one.

use super::member::{Held, Member};
use super::quota::{Full, Seat};
use super::{Pooled, Refusal, ServerPool};
use crate::server::Server;
use crate::stats::{Replication, ServerRecord, ServerState};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// How often one who waits for a place looks whether there is one, should nothing have told them.
const LOOK: Duration = Duration::from_millis(100);

/// A server in use by one client for as long as that stays. To drop it closes the server.
#[derive(Debug)]
pub struct Dedicated {
    pool: Arc<ServerPool>,
    /// There until drop takes it.
    member: Option<Held<Server>>,
}

impl ServerPool {
    /// Dials a server for one client, with further startup parameters, when there is a place for it: of a pool that is
    /// full an idle server, or the next that comes back, is closed instead.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Refusal::LoginFailed`] with what the server said, [`Refusal::TimedOut`] when no place became free in time.
    pub async fn dedicate(
        self: &Arc<Self>,
        replication: Replication,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Dedicated, Refusal> {
        let seat = match self.deadline(Instant::now()) {
            None => self.seat().await,
            Some(at) => timeout_at(at, self.seat()).await.map_err(|_| Refusal::TimedOut)?,
        };
        let settings = self.settings();
        let generation = self.generation.load(Ordering::Acquire);
        let _counted = self.dedicating.enter();
        let mut startup = settings.startup.clone();
        startup.retain(|name, _| !parameters.keys().any(|other| other.eq_ignore_ascii_case(name)));
        startup.extend(parameters.clone());
        startup.insert("replication".to_owned(), replication.parameter().to_owned());
        // Boxed, as the client's task carries it.
        let dial = Box::pin(self.connector.dial_any(&settings, &startup));
        let server = dial.await.map_err(|error| Refusal::LoginFailed(Arc::new(error)))?;
        self.traffic.count(|t| &t.connects);
        let (peer, process) = server.identity();
        let id = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let record = ServerRecord::new(id, self.id.user.clone(), self.id.database.clone(), peer, process)
            .of_generation(generation)
            .withdrawn_by(server.withdrawal())
            .for_replication(Some(replication));
        record.enter(ServerState::Active, None);
        record.note_application_name(server.baseline().get("application_name").map_or("", String::as_str));
        let member = Member::new(server, self.servers.enlist(id, record), None, generation, seat);
        Ok(Dedicated { pool: Arc::clone(self), member: Some(Box::new(member)) })
    }

    /// Waits for a place. While one is wanted, a server that comes back is closed to make it.
    async fn seat(&self) -> Seat {
        let freed = Arc::new(Notify::new());
        for quota in [&self.quotas.pool, &self.quotas.database, &self.quotas.user] {
            quota.interest(&freed);
        }
        let _wanted = Claim::make(self);
        loop {
            if !self.is_held_back() {
                match self.quotas.take() {
                    // Looked at once more: who holds the pool back either sees this seat, or is seen here.
                    Ok(seat) if !self.is_held_back() => return seat,
                    Ok(_) => {}
                    Err(full) => self.make_place(full),
                }
            }
            let _freed_or_not = timeout(LOOK, freed.notified()).await;
        }
    }

    /// Closes an idle server, or the next that comes back, and asks other pools too where the limit is theirs as well.
    fn make_place(&self, full: Full) {
        if self.evict_one(full) {
            return;
        }
        self.claims.fetch_max(1, Ordering::AcqRel);
        if full != Full::Pool {
            self.shared.crowded.notify_one();
        }
    }

    /// Whether somebody waits for a server of their own.
    pub(super) fn is_sought(&self) -> bool {
        self.seekers.load(Ordering::Relaxed) > 0
    }
}

/// One who waits for a server of their own, as long as they do.
struct Claim<'a>(&'a ServerPool);

impl<'a> Claim<'a> {
    fn make(pool: &'a ServerPool) -> Self {
        pool.seekers.fetch_add(1, Ordering::AcqRel);
        Self(pool)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.0.seekers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.claims.store(0, Ordering::Release);
        }
    }
}

impl Dedicated {
    /// What is known of it outside.
    #[must_use]
    pub fn record(&self) -> &ServerRecord {
        &self.member().record
    }

    fn member(&self) -> &Member<Server> {
        match &self.member {
            Some(member) => member,
            None => unreachable!("it gives its server away only when it ends"),
        }
    }
}

impl Deref for Dedicated {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.member().server
    }
}

impl DerefMut for Dedicated {
    fn deref_mut(&mut self) -> &mut Server {
        match &mut self.member {
            Some(member) => &mut member.server,
            None => unreachable!("it gives its server away only when it ends"),
        }
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            self.pool.close(*member, "client disconnect");
        }
    }
}
