//! A server in a session's hands. To have a [`Link`] is to be joined to a server.

use super::admission::Limit;
use super::client::ClientHandle;
use super::spelled::{self, Command};
use super::unnamed;
use crate::config::StatementLimits;
use crate::net::{BLOCK, Pipe};
use crate::pool::{ServerCheckout, ServerPool};
use crate::server::{Names, Origin, Request, Settings, Steering, Unnamed};
use crate::stats::ServerState;
use crate::wire::{TooLong, frontend};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

/// A server that works for one client.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: ServerCheckout,
    /// Since when the server works on the requests that are under way; `None` when it owes nothing.
    pub(super) request: Option<Instant>,
    /// Since when a transaction is open or under way.
    pub(super) transaction: Option<Instant>,
    /// Since when it waits for its client; `None` until it has waited once.
    pub(super) quiet: Option<Instant>,
    /// What becomes of the rest of a client's message that is larger than a block.
    pub(super) rest: Rest,
    /// Whether the client has said goodbye.
    pub(super) farewell: Farewell,
    /// What the unnamed statement does to statements, where that is known from its text.
    pub(super) unnamed_command: Option<Command>,
    /// A name whose client would misread what its statement gives now: its next Bind is refused.
    pub(super) outdated: Option<Bytes>,
    /// How the unnamed statement changes what later texts mean.
    pub(super) unnamed_steering: Option<Steering>,
    /// How named statements are treated.
    pub(super) tracking: Tracking,
    /// What the client's statements may take.
    pub(super) limits: StatementLimits,
    /// The limit that its last message was refused for, until that is logged.
    pub(super) refusal: Option<Limit>,
}

/// How named prepared statements are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracking {
    /// They go through as they are.
    Off,
    /// They travel with their client.
    Shared {
        /// As many as a server holds.
        limit: usize,
        /// Whether unnamed ones are shared too.
        unnamed: bool,
    },
}

/// What becomes of the rest of a message whose head was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It goes to the server.
    Passes,
    /// It is dropped.
    Drops,
}

/// Whether the client has said goodbye (Terminate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// It goes on.
    No,
    /// Once what it sent before is done.
    Said,
}

/// The prepared statements of a client, while no server works for it.
#[derive(Debug, Default)]
pub(super) struct OwnStatements {
    pub(super) unnamed: Unnamed,
    pub(super) names: Names,
}

impl OwnStatements {
    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.unnamed, Unnamed::Absent) && self.names.is_empty()
    }
}

impl Link {
    /// Room to write messages in; give it back with [`Link::keep_scratch`].
    pub(super) fn scratch(&mut self) -> BytesMut {
        std::mem::take(&mut self.server.scratch)
    }

    /// What was written is used up.
    pub(super) fn keep_scratch(&mut self, mut scratch: BytesMut) {
        if scratch.capacity() <= BLOCK {
            scratch.clear();
            self.server.scratch = scratch;
        }
    }

    /// What the text of a statement would be parsed under now.
    pub(super) fn context(&self) -> u64 {
        self.server.state.statements.context.under(self.server.state.applied.context())
    }

    /// A text goes out that may change what later ones mean; `more` is what it depends on beside its text.
    pub(super) fn steer(&mut self, steering: Option<Steering>, sql: &[u8], more: &[u8]) {
        if let Some(steering) = steering {
            let state = &mut self.server.state;
            let reports_path = state.baseline.contains_key("search_path");
            state.statements.context.steer(steering, sql, more, reports_path);
        }
    }

    /// Joins a client to a server. In front of its first message goes what makes the server this client's. No round trip
    /// is spent on it.
    pub(super) fn join(
        mut server: ServerCheckout,
        client: &ClientHandle,
        wanted: &mut Settings,
        statements: OwnStatements,
        (tracking, limits): (Tracking, StatementLimits),
        up: &mut Pipe,
    ) -> Result<Self, TooLong> {
        let OwnStatements { unnamed, names } = statements;
        client.link(server.cancel_handle());
        server.record().enter(ServerState::Active, Some(client.record.id));
        let state = &mut server.state;
        state.rerun.give_up();
        state.statements.looking = None;
        if (!state.applied.settle_with(wanted) || state.was_reset)
            && let Some(sql) = state.transition(wanted)
        {
            up.insert(|out| frontend::put_query(out, &sql))?;
            state.sent(Origin::Pooler, Request::Query);
            state.apply(wanted.clone());
            // As the simple query that it is, it leaves no unnamed statement.
            state.statements.unnamed = Unnamed::Absent;
            note_application_name(&server);
        }
        let state = &mut server.state;
        if state.statements.spelled.changes_hands(client.record.id) {
            up.insert(|out| spelled::clear(state, out))?;
        }
        state.statements.names = names;
        state.statements.bring_unnamed(unnamed);
        if tracking == Tracking::Off {
            up.insert(|out| unnamed::restore(state, out))?;
        } else {
            state.rerun.begin();
        }
        Ok(Self {
            limits,
            server,
            tracking,
            refusal: None,
            unnamed_command: None,
            unnamed_steering: None,
            outdated: None,
            request: None,
            transaction: None,
            quiet: None,
            rest: Rest::Passes,
            farewell: Farewell::No,
        })
    }
}

/// Shows what the server knows its client as from now on. Only where its settings change there is something to note.
pub(super) fn note_application_name(server: &ServerCheckout) {
    server.record().note_application_name(server.state.application_name());
}

/// Puts back a server that was used for pgweir's own questions; one that is not clean is closed.
pub(super) fn give_back(mut server: ServerCheckout) {
    if let Ok(clean) = server.settle(&Pipe::default()) {
        note_application_name(&server);
        server.release(clean);
    }
}

/// What a pool looks like, for the client that gets nothing from it.
pub(super) fn describe(pool: &ServerPool) -> String {
    let snapshot = pool.snapshot();
    let size = snapshot.size.map_or_else(|| "unlimited".to_owned(), |size| size.to_string());
    let failure =
        pool.failure().map_or_else(String::new, |error| format!(" The last server login failed: {error}."));
    let obstacle = match pool.obstacle() {
        Some(obstacle) => format!(" {obstacle}."),
        None => String::new(),
    };
    format!(
        "Pool {}/{}: {} servers active, {} idle, {} being connected, pool_size {size}, {} clients waiting.{obstacle}{failure}",
        snapshot.id.database,
        snapshot.id.user,
        snapshot.active,
        snapshot.idle,
        snapshot.login,
        snapshot.waiting
    )
}
