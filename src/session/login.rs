//! The login: who is it, may it come in, and what it is told when it does.

use super::access::{self, Demand, Visitor};
use super::client::{Admission, Credentials, Registration};
use super::console::{self, Role};
use super::departure::{self, Departure};
use super::diary::Subject;
use super::greeting::{Greeting, greet};
use super::replication::{Enrolled, Replicating};
use super::run::Session;
use super::{CONSOLE, FAREWELL, Service, link, told, welcome};
use crate::auth::ChannelBinding;
use crate::auth::{Exchange, Proof, Step};
use crate::config::{AuthMethod, Config};
use crate::net::{Dialogue, Ends, Stream};
use crate::pool::{Presence, ServerPool};
use crate::server::Settings;
use crate::stats::{ClientRecord, Peer, Replication, unix_micros};
use crate::wire::backend::{self, AUTHENTICATION_OK, Status};
use crate::wire::{ProtocolVersion, Report, Startup, sqlstate};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::timeout;

/// The longest password message: PgBouncer's limit, which leaves room for tokens.
const PASSWORD_MESSAGE: u32 = 65_535 + 5;

/// Room for what a client is told when it is in; PostgreSQL's own parameters take half of it.
const WELCOME: usize = 1152;

/// A connection that is not logged in.
pub(super) struct Front {
    dialogue: Dialogue,
    peer: Peer,
    opening: Opening,
    /// When it came, in microseconds since 1970.
    since: u64,
    /// Database and user, once they are known.
    wants: Option<(String, String)>,
    /// What goes out with the next message that the client has to answer, in one write.
    out: BytesMut,
}

/// What is known of a connection when it is accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// The number that the client will have.
    pub(super) number: u64,
    /// It came when the process was about to end.
    pub(super) is_late: bool,
    /// The port that is listened on, which a Unix socket has in its name.
    pub(super) port: u16,
}

/// What became of a connection.
pub(super) enum Arrival {
    /// It is over.
    Gone,
    /// A client for a pool.
    Session(Box<Session>),
    /// A client with a server of its own.
    Replication(Box<Replicating>),
    /// A visitor of the console.
    Console(Box<console::Visitor>),
}

/// Who came in.
pub(super) enum Entrance {
    Client(Admitted),
    Replication(Box<Enrolled>),
    Console { user: String, application_name: String, role: Role },
}

/// A client that is logged in, without its connection.
pub(super) struct Admitted {
    pub(super) registration: Registration,
    pub(super) pool: Arc<ServerPool>,
    pub(super) settings: Settings,
}

/// What a StartupMessage says of who and where.
struct Applicant {
    user: String,
    database: String,
    version: ProtocolVersion,
    replication: Option<Replication>,
}

impl Front {
    pub(super) fn new(stream: Stream, ends: Ends, opening: Opening) -> Self {
        let peer = Peer::new(ends.peer, ends.local).at_ports(opening.port, opening.port);
        let (dialogue, out) = (Dialogue::new(stream), BytesMut::new());
        Self { dialogue, peer, opening, since: unix_micros(), wants: None, out }
    }

    /// Everything up to the first ReadyForQuery. Not cancel safe: a connection whose arrival was dropped is to be
    /// dismissed.
    pub(super) async fn arrive(&mut self, service: &Arc<Service>) -> Result<Entrance, Departure> {
        match greet(&mut self.dialogue).await? {
            Greeting::Startup(startup) => self.log_in(service, startup).await,
            Greeting::Cancel(key) => {
                // Boxed, as few connections are for this.
                Err(Box::pin(service.cancel(&key)).await)
            }
        }
    }

    /// Whom a line of the log is about.
    fn subject(&self) -> Subject<'_> {
        let wants = self.wants.as_ref();
        Subject {
            client: self.opening.number,
            peer: &self.peer,
            database: wants.map(|(database, _)| database.as_str()),
            user: wants.map(|(_, user)| user.as_str()),
            since: self.since,
        }
    }

    async fn log_in(&mut self, service: &Arc<Service>, mut startup: Startup) -> Result<Entrance, Departure> {
        let config = service.config.load_full();
        let mut applicant = self.identify(&mut startup)?;
        if config.log.connections {
            self.subject().login_attempt(applicant.replication.is_some());
        }
        if config.is_console(&applicant.database) {
            // Rules know the console by one name, and as no source of replication.
            CONSOLE.clone_into(&mut applicant.database);
            applicant.replication = None;
            // The console takes no client's place, so that it can be reached when all are taken.
            let role = self.console_role(service, &config, &applicant).await?;
            let application_name = startup.take("application_name").unwrap_or_default();
            return self.enter_console(&config, role, applicant.user, application_name).await;
        }
        if self.opening.is_late {
            return Err(departure::closing());
        }
        let admission = service
            .clients
            .admit(config.limits.max_client_conn)
            .ok_or_else(|| departure::too_many_clients(&config))?;
        self.authenticate(service, &applicant).await?;
        match applicant.replication {
            None => self.enter_pool(service, config, startup, applicant, admission).await,
            // Boxed, as few clients are for this.
            Some(replication) => {
                let entering =
                    self.enter_replication(service, config, startup, applicant, replication, admission);
                Box::pin(entering).await
            }
        }
    }

    /// Who wants in, and where. Versions and options of the protocol that are not known are declined once, before
    /// anything else is said.
    fn identify(&mut self, startup: &mut Startup) -> Result<Applicant, Departure> {
        let version = startup.version.min(ProtocolVersion::V3_2);
        if startup.version > ProtocolVersion::V3_2 || !startup.protocol_options.is_empty() {
            self.put(|out| backend::put_negotiate(out, version, &startup.protocol_options))?;
        }
        let Some(user) = startup.take("user").filter(|user| !user.is_empty()) else {
            let text = "no PostgreSQL user name specified in startup packet";
            return Err(Report::fatal(sqlstate::INVALID_AUTHORIZATION, text).into());
        };
        let replication = match startup.parameter("replication").map(Replication::parse) {
            None => None,
            Some(Ok(replication)) => replication,
            Some(Err(value)) => return Err(departure::not_replication(value)),
        };
        let database = startup.take("database").filter(|database| !database.is_empty());
        let database = database.unwrap_or_else(|| user.clone());
        self.wants = Some((database.clone(), user.clone()));
        Ok(Applicant { user, database, version, replication })
    }

    /// Asks for proof. Nothing of pools or databases shows before it is given.
    async fn authenticate(
        &mut self,
        service: &Arc<Service>,
        applicant: &Applicant,
    ) -> Result<Proof, Departure> {
        let Applicant { user, database, replication, .. } = applicant;
        let visitor =
            Visitor::new(&self.dialogue.stream, database, user, *replication == Some(Replication::Physical));
        let Demand { terms, secret } = access::demand(service, &visitor).await.inspect_err(|refusal| {
            tracing::warn!(
                user = applicant.user,
                database = applicant.database,
                address = self.peer.address(),
                "login denied: {}",
                refusal.reason()
            );
        })?;
        let mut step = Exchange::begin(
            &terms,
            &applicant.user,
            secret.as_ref(),
            ChannelBinding::Unavailable,
            &service.keys,
        );
        loop {
            match step {
                Step::Continue(exchange, challenge) => {
                    self.put(|out| backend::put_authentication(out, &challenge.body()))?;
                    self.flush().await?;
                    let body = self.password_message().await?;
                    step = next_step(service, *exchange, body).await?;
                }
                Step::Done(proof, last) => {
                    if let Some(challenge) = last {
                        self.put(|out| backend::put_authentication(out, &challenge.body()))?;
                    }
                    if let Some(keys) = proof.scram() {
                        service.proofs.remember(proof.user(), keys.clone());
                    }
                    return Ok(proof);
                }
                Step::Denied(denial) => {
                    tracing::warn!(
                        client = self.opening.number,
                        user = applicant.user,
                        database = applicant.database,
                        address = self.peer.address(),
                        port = self.peer.port(),
                        "login denied: {}",
                        denial.reason()
                    );
                    let code = crate::auth::Denial::SQLSTATE;
                    return Err(Report::fatal(code, denial.client_message()).into());
                }
            }
        }
    }

    async fn password_message(&mut self) -> Result<BytesMut, Departure> {
        match self.dialogue.message(PASSWORD_MESSAGE).await {
            Ok((b'p', body)) => Ok(body),
            Ok((tag, _)) => {
                Err(departure::violation(format!("expected password response, got message type {tag}")))
            }
            Err(crate::net::Broken::Malformed(error)) => Err(departure::violation(error.to_string())),
            Err(_) => Err(Departure::Vanished("client unexpected eof")),
        }
    }

    /// Whoever runs the process may use its console: nothing could be kept from them.
    async fn console_role(
        &mut self,
        service: &Arc<Service>,
        config: &Config,
        applicant: &Applicant,
    ) -> Result<Role, Departure> {
        if applicant.user == CONSOLE && access::is_owner(&self.dialogue.stream) {
            tracing::info!(address = self.peer.address(), "console access by the owner of the process");
            return Ok(Role::Admin);
        }
        self.authenticate(service, applicant).await?;
        Role::of(config, &applicant.user).ok_or_else(|| {
            Report::fatal(sqlstate::INVALID_AUTHORIZATION, "not allowed")
                .hint("admin_users and stats_users name who may use the console.")
                .into()
        })
    }

    async fn enter_console(
        &mut self,
        config: &Config,
        role: Role,
        user: String,
        application_name: String,
    ) -> Result<Entrance, Departure> {
        self.out.extend_from_slice(&AUTHENTICATION_OK);
        self.put(|out| told::put_pooler(&config.welcome, None, out))?;
        self.put(console::put_parameters)?;
        self.put(|out| told::put_message(&config.welcome, out))?;
        backend::put_ready(&mut self.out, Status::Idle);
        self.flush().await?;
        Ok(Entrance::Console { user, application_name, role })
    }

    async fn enter_pool(
        &mut self,
        service: &Arc<Service>,
        config: Arc<Config>,
        startup: Startup,
        applicant: Applicant,
        admission: Admission,
    ) -> Result<Entrance, Departure> {
        let Applicant { user, database, version, .. } = applicant;
        let mut asked = welcome::asked_for(startup, &config)?;
        told::add_host(&config.welcome, &self.dialogue.stream, config.listen.port, &mut asked);
        let (pool, presence) = pool_of(service, &config, &database, &user)?;
        let baseline = welcome::greeting(&pool).await?;
        let settings = welcome::adopt(&service.adopted, &pool, &baseline, asked).await?;
        let settings = service.shared.settings(settings);
        let application = settings.get("application_name").unwrap_or_default().to_owned();
        let record = ClientRecord::new(
            self.opening.number,
            service.shared.identity(user, database, application),
            self.peer,
        );
        let credentials = Credentials {
            record,
            version,
            peer: config.peering.id,
            cancels: Arc::clone(pool.cancels()),
            admission,
            presence,
        };
        let registration = register(service, &pool, credentials)?;
        self.out.reserve(WELCOME);
        self.out.extend_from_slice(&AUTHENTICATION_OK);
        self.put(|out| told::put_pooler(&config.welcome, Some(&pool), out))?;
        self.put(|out| baseline.put(out, &settings))?;
        self.put(|out| backend::put_backend_key(out, registration.key()))?;
        self.put(|out| told::put_message(&config.welcome, out))?;
        backend::put_ready(&mut self.out, Status::Idle);
        self.flush().await?;
        pool.traffic.count(|t| &t.logins);
        Ok(Entrance::Client(Admitted { registration, pool, settings }))
    }

    /// A replication client gets a server of its own at once, and hears at the login what that one has to say.
    async fn enter_replication(
        &mut self,
        service: &Arc<Service>,
        config: Arc<Config>,
        startup: Startup,
        applicant: Applicant,
        replication: Replication,
        admission: Admission,
    ) -> Result<Entrance, Departure> {
        let Applicant { user, database, version, .. } = applicant;
        let mut asked = welcome::asked_for(startup, &config)?;
        told::add_host(&config.welcome, &self.dialogue.stream, config.listen.port, &mut asked);
        let parameters: BTreeMap<_, _> = asked.into_iter().collect();
        let (pool, presence) = pool_of(service, &config, &database, &user)?;
        let server = tokio::select! {
            server = pool.dedicate(replication, &parameters) => server,
            // Its claim goes with it: a server that others have use for is not closed for nobody.
            () = self.dialogue.until_gone() => return Err(Departure::Vanished("client unexpected eof")),
        };
        let server = server.map_err(|refusal| departure::refused(&refusal, &link::describe(&pool)))?;
        let application = parameters.get("application_name").cloned().unwrap_or_default();
        let identity = service.shared.identity(user, database, application);
        let record =
            ClientRecord::new(self.opening.number, identity, self.peer).for_replication(Some(replication));
        let credentials = Credentials {
            record,
            version,
            peer: config.peering.id,
            cancels: Arc::clone(pool.cancels()),
            admission,
            presence,
        };
        let registration = register(service, &pool, credentials)?;
        self.out.extend_from_slice(&AUTHENTICATION_OK);
        self.put(|out| told::put_pooler(&config.welcome, Some(&pool), out))?;
        self.put(|out| server.state.baseline.put(out, &Settings::default()))?;
        self.put(|out| backend::put_backend_key(out, registration.key()))?;
        self.put(|out| told::put_message(&config.welcome, out))?;
        backend::put_ready(&mut self.out, Status::Idle);
        self.flush().await?;
        pool.traffic.count(|t| &t.logins);
        let enrolled = Enrolled { registration, pool, server, config };
        Ok(Entrance::Replication(Box::new(enrolled)))
    }

    /// Turns a finished login into what goes on with the connection.
    pub(super) fn enter(self, service: &Service, entrance: Entrance) -> Arrival {
        let Self { dialogue, peer, opening, .. } = self;
        match entrance {
            Entrance::Client(admitted) => {
                Arrival::Session(Box::new(Session::new(dialogue, admitted, service)))
            }
            Entrance::Replication(enrolled) => {
                Arrival::Replication(Box::new(Replicating::new(dialogue, *enrolled)))
            }
            Entrance::Console { user, application_name, role } => {
                let visitor =
                    console::Visitor { dialogue, peer, number: opening.number, user, application_name, role };
                Arrival::Console(Box::new(visitor))
            }
        }
    }

    /// Tells the client why it cannot come in, and closes.
    pub(super) async fn dismiss(mut self, service: &Service, departure: &Departure) {
        match departure {
            Departure::Nothing => {
                tracing::debug!(
                    address = self.peer.address(),
                    port = self.peer.port(),
                    "connection without a login"
                );
            }
            other => self.subject().closing(other, &service.config.load().log),
        }
        if let Departure::Dismissed(report) = departure {
            service.traffic.count(|t| &t.errors);
            service.errors.count(&report.message);
            if report.put(&mut self.out).is_ok() {
                let _heard_or_not = timeout(FAREWELL, self.dialogue.send(&self.out)).await;
            }
        }
    }

    fn put(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), crate::wire::TooLong>,
    ) -> Result<(), Departure> {
        write(&mut self.out).map_err(|error| departure::violation(error.to_string()))
    }

    async fn flush(&mut self) -> Result<(), Departure> {
        // Taken out, so that nothing is sent twice by whoever dismisses a client in the middle of this.
        let mut out = std::mem::take(&mut self.out);
        self.dialogue.send(&out).await.map_err(|_| Departure::Vanished("client unexpected eof"))?;
        out.clear();
        self.out = out;
        Ok(())
    }
}

/// The pool for a client that has proved who it is.
fn pool_of(
    service: &Service,
    config: &Config,
    database: &str,
    user: &str,
) -> Result<(Arc<ServerPool>, Presence), Departure> {
    let forces_nobody = config.database(database).is_some_and(|entry| entry.user.is_none());
    if config.auth.method == AuthMethod::Any && forces_nobody {
        return Err(departure::nobody_to_log_in_as());
    }
    let entered = service.pools.enter(config, database, user);
    entered.map_err(|closed| departure::closed(closed, database, user))
}

/// From now on orders find the client. One whose database was removed during its login had been seen by nobody.
fn register(
    service: &Service,
    pool: &ServerPool,
    credentials: Credentials,
) -> Result<Registration, Departure> {
    let registered = service.clients.register(credentials);
    let registration =
        registered.map_err(|error| Report::fatal(sqlstate::INTERNAL_ERROR, error.to_string()))?;
    if pool.is_removed() {
        return Err(departure::removed());
    }
    Ok(registration)
}

/// One step of the proof; an expensive one is made where it holds up nobody's traffic.
async fn next_step(service: &Arc<Service>, exchange: Exchange, body: BytesMut) -> Result<Step, Departure> {
    if !exchange.is_expensive() {
        return Ok(exchange.step(&body, &service.keys));
    }
    let failed = || Report::fatal(sqlstate::INTERNAL_ERROR, "authentication failed");
    let turn = Arc::clone(&service.derivations).acquire_owned().await.map_err(|_| failed())?;
    let keys = Arc::clone(&service.keys);
    let step = tokio::task::spawn_blocking(move || {
        // Given back when the work is done, also when nobody waits for it any longer.
        let _turn = turn;
        exchange.step(&body, &keys)
    });
    step.await.map_err(|_| failed().into())
}
