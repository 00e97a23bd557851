//! A session, from login to its end: idle, waiting, linked, and idle again.

use super::client::{Order, Registration};
use super::departure::{self, Departure};
use super::diary::Subject;
use super::idle::{Call, Intake, Rules};
use super::limits::ClientLimits;
use super::link::{Link, OwnStatements, Tracking, describe, note_application_name};
use super::login::Admitted;
use super::relay::{Fate, Parting};
use super::timer::Timer;
use super::{FAREWELL, Service};
use crate::config::PoolMode;
use crate::net::{Dialogue, Pipe, Stream};
use crate::pool::{Refusal, ServerCheckout, ServerPool};
use crate::server::{Interner, Settings, Unclean};
use crate::stats::{ClientState, ServerState, unix_micros, unix_micros_at};
use crate::wire::{Report, sqlstate};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

/// How long a server is held back for a cancel that was sent for it.
const FENCE: Duration = Duration::from_secs(10);

/// A client that is logged in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) stream: Stream,
    /// From the client.
    pub(super) up: Pipe,
    /// To the client, what is left over from its last server and what is answered without one.
    pub(super) down: Pipe,
    intake: Intake,
    /// Its settings, as reported.
    wanted: Settings,
    /// Its prepared statements; in a box, since many clients never have one.
    statements: Option<Box<OwnStatements>>,
    /// What its statements are shared by.
    pub(super) interner: Arc<Interner>,
    pub(super) pool: Arc<ServerPool>,
    pub(super) client: Registration,
    pub(super) limits: Arc<ClientLimits>,
    pub(super) timer: Timer,
    no_simple_queries: bool,
}

/// What comes of a wait: a server, or why not and what the pool looked like then.
type Served = Result<ServerCheckout, (Refusal, String)>;

/// Lives a session to its end.
pub(super) async fn run(service: Arc<Service>, mut session: Box<Session>) {
    let who = &session.client.record.who;
    tracing::debug!(
        user = who.user,
        database = who.database,
        application = who.application_name,
        "logged in"
    );
    let departure = session.live().await;
    Box::pin(session.bid_farewell(service, departure)).await;
}

impl Session {
    pub(super) fn new(dialogue: Dialogue, admitted: Admitted, service: &Service) -> Self {
        let Admitted { registration, pool, settings } = admitted;
        Self {
            stream: dialogue.stream,
            up: dialogue.input,
            down: Pipe::default(),
            intake: Intake::default(),
            wanted: settings,
            statements: None,
            interner: Arc::clone(&service.interner),
            limits: service.shared.limits(&registration.record.who.user, || service.config.load_full()),
            timer: Timer::default(),
            no_simple_queries: service.config.load().crowd.no_simple_queries,
            pool,
            client: registration,
        }
    }

    async fn live(&mut self) -> Departure {
        poll_fn(|cx| {
            self.client.listen(cx.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            if let Err(departure) = self.idle().await {
                return departure;
            }
            let server = match self.pool.try_checkout() {
                Some(server) => server,
                // Boxed, since few sessions wait and all would carry the room for it.
                None => match Box::pin(self.wait_in_line()).await {
                    Ok(Some(server)) => server,
                    Ok(None) => continue,
                    Err(departure) => return departure,
                },
            };
            // The link lives here and not in a function of its own, which would keep room for what it was called with.
            let (mut link, mode) = match self.join(server) {
                Ok(joined) => joined,
                Err(departure) => return departure,
            };
            let end = poll_fn(|cx| self.poll_relay(&mut link, mode, cx)).await;
            self.client.unlink();
            match end {
                Ok(()) => self.part(link),
                Err(parting) => return self.tear_off(link, mode, parting),
            }
        }
    }

    /// Waits for a message that needs a server. Meanwhile what is left for the client is written.
    async fn idle(&mut self) -> Result<(), Departure> {
        self.client.record.enter(ClientState::Idle, None);
        let mut since = self.limits.idle().map(|_| Instant::now());
        poll_fn(|cx| self.poll_idle(cx, &mut since)).await
    }

    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        since: &mut Option<Instant>,
    ) -> Poll<Result<(), Departure>> {
        loop {
            self.heed_orders()?;
            let call = if self.up.fresh().is_empty() {
                Call::More
            } else {
                let rules = self.rules();
                self.intake.examine(&mut self.up, &mut self.down, rules)?
            };
            if self.down.has_output()
                && let Poll::Ready(Err(_)) = self.down.poll_drain(cx, &mut self.stream)
            {
                return Poll::Ready(Err(Departure::Vanished("client unexpected eof")));
            }
            match call {
                Call::Server => return Poll::Ready(Ok(())),
                Call::Farewell => return Poll::Ready(Err(Departure::Terminated)),
                Call::More => {}
            }
            // While the client does not read its answers, its requests are not read either.
            if !self.down.has_output() && self.poll_read(cx)?.is_ready() {
                continue;
            }
            let deadline = self.idle_deadline(since);
            if self.timer.poll(cx, deadline).is_ready() {
                let text = "client_idle_timeout";
                return Poll::Ready(Err(Report::fatal(sqlstate::IDLE_SESSION_TIMEOUT, text).into()));
            }
            return Poll::Pending;
        }
    }

    /// When the client has been idle for too long. Where the limit was set only meanwhile, it counts from the last
    /// request, as in PgBouncer.
    fn idle_deadline(&self, since: &mut Option<Instant>) -> Option<Instant> {
        let limit = self.limits.idle()?;
        let since = since.get_or_insert_with(|| {
            let record = &self.client.record;
            let quiet = unix_micros().saturating_sub(record.last_request().max(record.connected));
            let now = Instant::now();
            now.checked_sub(Duration::from_micros(quiet)).unwrap_or(now)
        });
        Some(*since + limit)
    }

    /// Orders to a session without a server.
    fn heed_orders(&self) -> Result<(), Departure> {
        self.heed_orders_to_end()?;
        self.client.take_order(Order::Reconsider); // of a server that it does not have
        if self.client.has_order(Order::Leave) {
            return Err(Report::fatal(sqlstate::ADMIN_SHUTDOWN, "server shutting down").into());
        }
        Ok(())
    }

    /// Orders that end a session wherever it stands.
    pub(super) fn heed_orders_to_end(&self) -> Result<(), Departure> {
        if !self.client.has_orders() {
            return Ok(());
        }
        if self.client.has_order(Order::Kill) {
            return Err(departure::killed());
        }
        if self.client.has_order(Order::Remove) {
            return Err(departure::removed());
        }
        Ok(())
    }

    /// Reads from the client once. The end of its stream is the end of the session.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Departure> {
        if !self.up.has_room() {
            return Ok(Poll::Pending);
        }
        match self.up.poll_fill(cx, &mut self.stream) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(count @ 1..)) => {
                self.pool.traffic.add(|t| &t.received, u64::try_from(count).unwrap_or(u64::MAX));
                Ok(Poll::Ready(()))
            }
            Poll::Ready(_) => Err(Departure::Vanished("client unexpected eof")),
        }
    }

    /// What the client may send.
    pub(super) fn rules(&self) -> Rules {
        Rules { max_packet_size: self.limits.max_packet(), no_simple_queries: self.no_simple_queries }
    }

    /// Waits in line for a server; `None` when the wait was cancelled and the client was told so. A client that leaves
    /// leaves the line at once.
    async fn wait_in_line(&mut self) -> Result<Option<ServerCheckout>, Departure> {
        self.client.record.enter(ClientState::Waiting, None);
        let since = Instant::now();
        self.client.record.requested_at(unix_micros_at(since));
        self.client.wait_in_line();
        let pool = Arc::clone(&self.pool);
        let waited: Result<Option<Served>, Departure> = {
            let mut notice =
                pool.with_settings(|settings| settings.query_wait_notify).map(|after| since + after);
            let mut checkout = std::pin::pin!(pool.stand_in_line(since));
            poll_fn(|cx| {
                self.heed_orders()?;
                if self.client.take_order(Order::Cancel) {
                    return Poll::Ready(Ok(None)); // it was cancelled
                }
                while self.poll_read(cx)?.is_ready() {}
                if let Poll::Ready(result) = checkout.as_mut().poll(cx) {
                    return Poll::Ready(Ok(Some(result.map_err(|refusal| (refusal, describe(&pool))))));
                }
                if self.timer.poll(cx, notice).is_ready() {
                    notice = None;
                    self.tell_of_the_line(&pool);
                }
                if self.down.has_output()
                    && let Poll::Ready(Err(_)) = self.down.poll_drain(cx, &mut self.stream)
                {
                    return Poll::Ready(Err(Departure::Vanished("client unexpected eof")));
                }
                // It is described while this client is still in line, and so is counted with the others.
                self.timer
                    .poll(cx, pool.deadline(since))
                    .map(|()| Ok(Some(Err((Refusal::TimedOut, describe(&pool))))))
            })
            .await
        };
        self.client.unlink();
        match waited? {
            Some(Ok(server)) => Ok(Some(server)),
            Some(Err((refusal, pool))) => Err(departure::refused(&refusal, &pool)),
            None => {
                let report =
                    Report::error(sqlstate::QUERY_CANCELED, "canceling statement due to user request");
                self.intake.refuse(&mut self.up, &mut self.down, &report);
                Ok(None)
            }
        }
    }

    /// Tells the client that it is in line. While the pool is held back on purpose nobody needs to hear it.
    fn tell_of_the_line(&mut self, pool: &ServerPool) {
        if pool.is_held_back() {
            return;
        }
        let report = departure::in_line(&describe(pool));
        // A report of our own is never too long for a message.
        let _fits = self.down.insert(|out| report.put(out));
    }

    /// Has a server work for the client.
    fn join(&mut self, server: ServerCheckout) -> Result<(Link, PoolMode), Departure> {
        let (mode, terms) = self.pool.with_settings(|settings| {
            let tracking = match (settings.mode, usize::try_from(settings.max_prepared_statements)) {
                (PoolMode::Session, _) | (_, Ok(0) | Err(_)) => Tracking::Off,
                (_, Ok(limit)) => Tracking::Shared { limit, unnamed: settings.share_unnamed_statements },
            };
            (settings.mode, (tracking, settings.statement_limits))
        });
        let id = server.record().id;
        self.client.record.enter(ClientState::Active, Some(id));
        let statements = self.statements.as_deref_mut().map(std::mem::take).unwrap_or_default();
        let mut link = Link::join(server, &self.client, &mut self.wanted, statements, terms, &mut self.up)
            .map_err(|error| departure::violation(error.to_string()))?;
        if self.down.has_output() {
            link.server.put_in_front(std::mem::take(&mut self.down));
        }
        Ok((link, mode))
    }

    /// The server goes back, before a slow client has read all it said.
    fn part(&mut self, link: Link) {
        let (mut server, quiet) = (link.server, link.quiet);
        let state = &mut server.state;
        let statements = OwnStatements {
            unnamed: state.statements.take_unnamed(),
            names: std::mem::take(&mut state.statements.names),
        };
        self.client.record.note_statements(statements.names.len());
        if self.statements.is_some() || !statements.is_empty() {
            **self.statements.get_or_insert_default() = statements;
        }
        let held = state.statements.count();
        if !state.applied.settle_with(&mut self.wanted) {
            self.wanted = state.applied.clone();
            note_application_name(&server);
            self.client.record.rename(server.state.application_name());
        }
        server.record().note_statements(held);
        let clean = server.settle(&self.up);
        self.down = server.take_undelivered();
        match clean {
            Ok(_) if self.pool.resets_always() => {
                let reset = self.pool.settings().server_reset_query.clone();
                tokio::spawn(recover(server, Pipe::default(), reset));
            }
            Ok(clean) if !server.cancel_handle().is_fenced() => server.release_since(clean, quiet),
            Ok(_) => drop(tokio::spawn(release_behind_fence(server))),
            Err(why) => tracing::debug!(server = server.record().id, "server is not used again: {why}"),
        }
    }

    /// The session ends while it has a server.
    fn tear_off(&mut self, link: Link, mode: PoolMode, parting: Parting) -> Departure {
        let Parting { departure, fate } = parting;
        let mut server = link.server;
        let between = server.is_between_messages();
        self.down = server.take_undelivered();
        if !between {
            // In the middle of a message nothing else can be said.
            self.down.discard_output();
        }
        if fate == Fate::Recover {
            let up = std::mem::take(&mut self.up);
            let reset = match mode {
                PoolMode::Session => self.pool.settings().server_reset_query.clone(),
                _ if self.pool.resets_always() => self.pool.settings().server_reset_query.clone(),
                PoolMode::Transaction | PoolMode::Statement => String::new(),
            };
            tokio::spawn(recover(server, up, reset));
        }
        match departure {
            Departure::Dismissed(_) if !between => Departure::Vanished("cut in the middle of a message"),
            departure => departure,
        }
    }

    /// Logs that a message of this client was refused, if one was.
    pub(super) fn log_refusal(&self, link: &mut Link) {
        if let Some(limit) = link.refusal.take().filter(|_| self.limits.log_pooler_errors()) {
            let report = limit.report();
            Subject::of(&self.client.record).pooler_error(&report.code, &report.message);
        }
    }

    /// Tells the client why, as far as it listens, and logs it.
    async fn bid_farewell(mut self: Box<Self>, service: Arc<Service>, departure: Departure) {
        if let Departure::Dismissed(report) = &departure {
            self.pool.traffic.count(|t| &t.errors);
            service.errors.count(&report.message);
            // A report of our own is never too long for a message.
            let _fits = self.down.insert(|out| report.put(out));
        }
        Subject::of(&self.client.record).closing(&departure, &service.config.load().log);
        if !matches!(departure, Departure::Vanished(_)) && self.down.has_output() {
            let (down, stream) = (&mut self.down, &mut self.stream);
            let _heard_or_not = timeout(FAREWELL, poll_fn(|cx| down.poll_drain(cx, stream))).await;
        }
        // A client that has left hears nothing any longer; closing is all there is to do.
        if let Departure::Dismissed(_) | Departure::ServerEnded = departure {
            let _closed_or_gone = timeout(FAREWELL, self.stream.shutdown()).await;
        }
    }
}

/// Hands a server on only after every cancel that was sent for it has arrived.
async fn release_behind_fence(mut server: ServerCheckout) {
    server.record().enter(ServerState::BeingCanceled, None);
    let handle = Arc::clone(server.cancel_handle());
    if timeout(FENCE, handle.unfenced()).await.is_ok()
        && server.is_quiet()
        && let Ok(clean) = server.settle(&Pipe::default())
    {
        server.release(clean);
    }
}

/// Brings a server whose client is gone back to the pool, or closes it.
async fn recover(mut server: ServerCheckout, up: Pipe, reset: String) {
    server.record().enter(ServerState::Tested, None);
    match server.recover(&up, &reset).await {
        Ok(_) => {
            note_application_name(&server);
            release_behind_fence(server).await;
        }
        Err(why @ Unclean::HalfMessage) => {
            tracing::debug!(server = server.record().id, "server closed: {why}")
        }
        Err(why) => tracing::info!(server = server.record().id, "server closed: {why}"),
    }
}
