//! Dialling a server and logging in to it.

use super::{CancelHandle, Parameters, Server, Unclean, Understanding};
use crate::auth::KeyCache;
use crate::auth::{ClientLogin, Credential, LeastMethod, LoginError, LoginStep};
use crate::net::{Address, Broken, Dialogue, SocketOptions, Stream, connect};
use crate::wire::backend;
use crate::wire::{
    CancelKey, Fields, Malformed, ProtocolVersion, Report, Startup, TooLong, frontend, sqlstate,
};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The longest message that a server may send before it is ready for queries.
const LOGIN_MESSAGE: u32 = 64 * 1024;

/// Messages that a server may send before it is ready for queries: reports, notices and the like.
const LOGIN_MESSAGES: usize = 1000;

/// What to dial, and as whom.
#[derive(Debug)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// Options of the socket.
    pub socket: SocketOptions,
    /// Limit on the connect alone, where it may be somewhere else.
    pub impatience: Option<Duration>,
    /// User on the server.
    pub user: String,
    /// Database on the server.
    pub database: String,
    /// Further startup parameters.
    pub startup: BTreeMap<String, String>,
    /// What proves the user.
    pub credential: Credential,
    /// SCRAM keys of earlier logins.
    pub keys: Arc<KeyCache>,
    /// Parameters of which changes stay with a client, beside those that PostgreSQL reports.
    pub followed: Arc<[String]>,
    /// Limit on all of it.
    pub deadline: Option<Duration>,
}

/// Why a server could not be logged in to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers.
    #[error("connect failed: {0}")]
    Connect(io::Error),
    /// The host has no address.
    #[error("server DNS lookup failed: {host}: {error}")]
    Lookup {
        /// Its name.
        host: String,
        /// Why it has none.
        error: io::Error,
    },
    /// It took longer than `server_connect_timeout`.
    #[error("server_connect_timeout: no login within {0:?}")]
    TimedOut(Duration),
    /// It ended the connection without a word.
    #[error("server closed the connection during login")]
    Closed,
    /// The connection broke.
    #[error("connection broke during login: {0}")]
    Io(#[from] io::Error),
    /// It refused.
    #[error("{message}")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// What it said.
        message: String,
    },
    /// The proof failed, or the server failed to prove itself.
    #[error("{0}")]
    Auth(#[from] LoginError),
    /// It does not speak the protocol.
    #[error("protocol error of the server during login: {0}")]
    Malformed(Malformed),
    /// It sent a message that has no place in a login.
    #[error("protocol error of the server during login: unexpected message of type {:?}", char::from(*.0))]
    Unexpected(u8),
    /// What `connect_query` asked for left the server unusable.
    #[error("connect_query: {0}")]
    ConnectQuery(Unclean),
    /// It took too long.
    #[error("connect_query did not end within server_connect_timeout")]
    LateConnectQuery,
    /// What is to be sent is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl From<Broken> for DialError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Closed => Self::Closed,
            Broken::Io(error) => Self::Io(error),
            Broken::Malformed(error) => Self::Malformed(error),
        }
    }
}

impl DialError {
    /// Whether the same login may well succeed in a moment, so that whoever waits should go on waiting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ConnectQuery(_)
            | Self::LateConnectQuery
            | Self::Connect(_)
            | Self::Lookup { .. }
            | Self::TimedOut(_)
            | Self::Closed
            | Self::Io(_) => true,
            Self::Refused { code, .. } => {
                code == sqlstate::CANNOT_CONNECT_NOW
                    || code == sqlstate::TOO_MANY_CONNECTIONS
                    || code == sqlstate::ADMIN_SHUTDOWN
                    || code == sqlstate::CRASH_SHUTDOWN
            }
            _ => false,
        }
    }

    /// Whether the proof was not good enough.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Auth(_) => true,
            Self::Refused { code, .. } => code == sqlstate::INVALID_PASSWORD,
            _ => false,
        }
    }

    /// Whether the server itself said that it takes no logins for the moment.
    #[must_use]
    pub fn is_busy_server(&self) -> bool {
        matches!(self, Self::Refused { .. }) && self.is_transient()
    }

    /// The error that a client gets: the server's own where it gave one.
    #[must_use]
    pub fn report(&self) -> Report {
        match self {
            Self::Refused { code, message } => Report::fatal(code.clone(), message.clone()),
            other => Report::fatal(sqlstate::CANNOT_CONNECT, other.to_string()),
        }
    }
}

/// Dials and logs in.
///
/// Cancel safe: a dropped attempt closes its connection.
///
/// # Errors
///
/// [`DialError`].
pub async fn dial(target: Target) -> Result<Server, DialError> {
    match target.deadline {
        None => attempt(target).await,
        Some(limit) => {
            tokio::time::timeout(limit, attempt(target)).await.map_err(|_| DialError::TimedOut(limit))?
        }
    }
}

async fn attempt(target: Target) -> Result<Server, DialError> {
    let stream = reach(&target).await?;
    let mut login = Login { dialogue: Dialogue::new(stream), left: LOGIN_MESSAGES };
    login.send_startup(&target).await?;
    let proof = ClientLogin::new(&target.user, target.credential, LeastMethod::Any);
    login.authenticate(proof, &target.keys).await?;
    let welcome = login.welcome().await?;
    let state = Understanding::fresh(Parameters::following(welcome.parameters, &target.followed));
    let Dialogue { stream, input } = login.dialogue;
    Ok(Server::new(stream, input, state, CancelHandle::new(target.address, welcome.key)))
}

async fn reach(target: &Target) -> Result<Stream, DialError> {
    let address = &target.address;
    let failed =
        |error: io::Error| DialError::Connect(io::Error::new(error.kind(), format!("{address}: {error}")));
    match target.impatience {
        None => connect(address, &target.socket).await.map_err(failed),
        Some(limit) => match tokio::time::timeout(limit, connect(address, &target.socket)).await {
            Ok(result) => result.map_err(failed),
            Err(late) => Err(failed(late.into())),
        },
    }
}

/// What a server tells between AuthenticationOk and ReadyForQuery.
#[derive(Debug, Default)]
struct Welcome {
    parameters: BTreeMap<String, String>,
    key: Option<CancelKey>,
}

/// A connection that is being logged in to.
struct Login {
    dialogue: Dialogue,
    left: usize,
}

impl Login {
    async fn message(&mut self) -> Result<(u8, BytesMut), DialError> {
        self.left = self.left.checked_sub(1).ok_or(DialError::Unexpected(b'N'))?;
        Ok(self.dialogue.message(LOGIN_MESSAGE).await?)
    }

    async fn send_startup(&mut self, target: &Target) -> Result<(), DialError> {
        let mut parameters =
            vec![("user".to_owned(), target.user.clone()), ("database".to_owned(), target.database.clone())];
        // PostgreSQL takes the last of several: nothing that a client asks for may change who logs in, and where.
        let settings =
            target.startup.iter().filter(|(name, _)| !matches!(name.as_str(), "user" | "database"));
        parameters.extend(settings.map(|(name, value)| (name.clone(), value.clone())));
        // 3.0 suffices: of 3.2 only longer cancel keys are known, and those stay between pgweir and the server.
        let startup = Startup { version: ProtocolVersion::V3_0, parameters, protocol_options: Vec::new() };
        let mut out = BytesMut::new();
        startup.put(&mut out)?;
        Ok(self.dialogue.send(&out).await?)
    }

    /// Answers what the server asks until it accepts or refuses.
    async fn authenticate(&mut self, mut login: ClientLogin, keys: &Arc<KeyCache>) -> Result<(), DialError> {
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'R' => match step(login, body, keys).await? {
                    LoginStep::Accepted(_) => return Ok(()),
                    LoginStep::Wait(next) => login = next,
                    LoginStep::Send(next, answer) => {
                        let mut out = BytesMut::new();
                        frontend::put_authentication(&mut out, &answer)?;
                        self.dialogue.send(&out).await?;
                        login = next;
                    }
                },
                b'N' | b'v' => {}
                b'E' => return Err(refusal(Fields(&body))),
                other => return Err(DialError::Unexpected(other)),
            }
        }
    }

    /// Reads what the server tells until it is ready for queries. It may still refuse: AuthenticationOk is no success.
    async fn welcome(&mut self) -> Result<Welcome, DialError> {
        let mut welcome = Welcome::default();
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'S' => {
                    let (name, value) = backend::parameter_status(&body).ok_or(DialError::Unexpected(tag))?;
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    welcome.parameters.insert(text(name), text(value));
                }
                b'K' => welcome.key = backend::backend_key(&body),
                b'N' | b'v' => {}
                b'E' => return Err(refusal(Fields(&body))),
                b'Z' if body == b"I"[..] => return Ok(welcome),
                other => return Err(DialError::Unexpected(other)),
            }
        }
    }
}

/// One step of the proof; an expensive one is made where it holds up nobody's traffic.
async fn step(login: ClientLogin, body: BytesMut, keys: &Arc<KeyCache>) -> Result<LoginStep, DialError> {
    let (code, _) = body.split_first_chunk::<4>().ok_or(DialError::Unexpected(b'R'))?;
    let code = i32::from_be_bytes(*code);
    if !login.is_expensive() {
        return Ok(login.on_authentication(code, &body[4..], keys)?);
    }
    let keys = Arc::clone(keys);
    let step = tokio::task::spawn_blocking(move || login.on_authentication(code, &body[4..], &keys));
    Ok(step.await.map_err(io::Error::other)??)
}

fn refusal(fields: Fields<'_>) -> DialError {
    DialError::Refused {
        code: fields.sqlstate().unwrap_or(sqlstate::CANNOT_CONNECT).to_owned(),
        message: fields.message().into_owned(),
    }
}
