//! pgweir as the client: logging in to PostgreSQL.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>. Every Authentication message is
//! one step of a [`ClientLogin`]. A server gets one answer by one method: it cannot fall back to a weaker one, and after
//! SCRAM it is believed only when it has proved that it knows the verifier. [`Accepted`] is not the end of the login:
//! the server may still refuse until its first ReadyForQuery.

use thiserror::Error;
use zeroize::Zeroizing;

use super::md5::Md5Secret;
use super::password::Password;
use super::sasl::{self, SCRAM_SHA_256};
use super::scram::client::{ExpectServerFinal, ExpectServerFirst};
use super::scram::{Iterations, KeyCache, Malformed, Nonce, ScramCredential, ScramKeys};
use super::secret::StoredSecret;

/// What pgweir has to log in with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing: only a server that asks for nothing lets in.
    None,
    /// A password: fits every method.
    Plain(Password),
    /// An md5 secret: fits md5.
    Md5(Md5Secret),
    /// The keys that a client has revealed: they fit SCRAM where the server stores the verifier that they belong to.
    Scram(ScramCredential),
}

/// The weakest method that a server may ask for. libpq's `require_auth` has the same purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeastMethod {
    /// Whatever the server asks, the password in clear text included.
    #[default]
    Any,
    /// Not the password in clear text.
    Md5,
    /// SCRAM only; the server has to prove itself.
    ScramSha256,
}

/// A login under way.
#[derive(Debug)]
pub struct ClientLogin {
    user: String,
    credential: Credential,
    least: LeastMethod,
    state: State,
}

/// What comes out of a step.
#[derive(Debug)]
#[must_use]
pub enum LoginStep {
    /// Send a message of type `p` with this body, and wait for the next Authentication message.
    Send(ClientLogin, Zeroizing<Vec<u8>>),
    /// Send nothing, and wait for the next Authentication message.
    Wait(ClientLogin),
    /// That was AuthenticationOk, and rightly so.
    Accepted(Accepted),
}

/// A server that has accepted the login and, after SCRAM, has proved itself. Only a [`ClientLogin`] makes one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted;

/// Why a login goes no further. All but [`Self::NoPassword`], [`Self::Unfit`], [`Self::StaleKeys`] and [`Self::Random`]
/// blame the server.
#[derive(Debug, Error)]
pub enum LoginError {
    /// There is nothing to answer with.
    #[error("server asks for a password ({0}) and there is none for the user")]
    NoPassword(&'static str),
    /// What is stored about the user cannot be used with the method.
    #[error("server asks for {method}, which {credential} cannot answer")]
    Unfit {
        /// What the server asked for.
        method: &'static str,
        /// What there is.
        credential: &'static str,
    },
    /// The keys are of another verifier: the password was changed, or the server has another one.
    #[error("SCRAM keys do not fit the salt and iteration count of the server")]
    StaleKeys,
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
    /// Kerberos and its like.
    #[error("server asks for {0} authentication, which is not supported")]
    Unsupported(&'static str),
    /// None of the SASL mechanisms is known.
    #[error("server offers no SASL mechanism that is supported")]
    NoMechanism,
    /// A method weaker than configured.
    #[error("server asks for {0}, which is weaker than what is required")]
    Weak(&'static str),
    /// A request that makes no sense at this point.
    #[error("unexpected authentication request {0} from server")]
    Unexpected(i32),
    /// A message that breaks the rules of its format.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The server's nonce does not extend ours.
    #[error("SCRAM nonce of the server does not extend that of the client")]
    Nonce,
    /// The server does not know the verifier: it is not the one it seems to be.
    #[error("SCRAM signature of the server is wrong")]
    ServerSignature,
    /// AuthenticationOk in the middle of SCRAM.
    #[error("server ended SCRAM without proving itself")]
    NoServerSignature,
    /// The server gave a SCRAM error instead of its signature.
    #[error("server refused SCRAM: {0}")]
    ServerRefused(String),
}

#[derive(Debug)]
enum State {
    Start,
    /// A password or md5 digest is out; there is only yes or no.
    Answered,
    ServerFirst(ExpectServerFirst),
    ServerFinal(ExpectServerFinal),
    Verified,
}

/// The codes of Authentication messages that are understood.
const OK: i32 = 0;
const CLEARTEXT_PASSWORD: i32 = 3;
const MD5_PASSWORD: i32 = 5;
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

impl ClientLogin {
    /// Begins for the user of the startup packet that was sent.
    #[must_use]
    pub fn new(user: impl Into<String>, credential: Credential, least: LeastMethod) -> Self {
        Self { user: user.into(), credential, least, state: State::Start }
    }

    /// Takes an Authentication message: the code of the request, and the data behind it. **Expensive** when
    /// [`Self::is_expensive`] says so.
    ///
    /// # Errors
    ///
    /// Always final: the connection is to be closed.
    pub fn on_authentication(
        self,
        code: i32,
        data: &[u8],
        cache: &KeyCache,
    ) -> Result<LoginStep, LoginError> {
        let Self { user, credential, least, state } = self;
        let asked = Asked { user, credential, least };
        match (state, code) {
            (State::Start, OK) => asked.trusted(data),
            (State::Answered | State::Verified, OK) => accepted(data),
            (State::ServerFirst(_) | State::ServerFinal(_), OK) => Err(LoginError::NoServerSignature),
            (State::Start, CLEARTEXT_PASSWORD) => asked.cleartext(data),
            (State::Start, MD5_PASSWORD) => asked.md5(data),
            (State::Start, SASL) => asked.sasl(data),
            (State::ServerFirst(expect), SASL_CONTINUE) => asked.server_first(expect, data, cache),
            (State::ServerFinal(expect), SASL_FINAL) => asked.server_final(expect, data),
            (_, code) => Err(unexpected(code)),
        }
    }

    /// Whether the next step may run PBKDF2. Says yes also where the cache turns out to have the keys.
    #[must_use]
    pub fn is_expensive(&self) -> bool {
        matches!((&self.state, &self.credential), (State::ServerFirst(_), Credential::Plain(_)))
    }
}

impl From<&StoredSecret> for Credential {
    /// A SCRAM verifier checks logins but makes none, so it is as good as nothing.
    fn from(secret: &StoredSecret) -> Self {
        match secret {
            StoredSecret::Plain(password) => Self::Plain(password.clone()),
            StoredSecret::Md5(secret) => Self::Md5(secret.clone()),
            StoredSecret::Absent | StoredSecret::Scram(_) => Self::None,
        }
    }
}

impl Credential {
    /// Whether a login with the other one would come to the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Plain(one), Self::Plain(two)) => one.is(two),
            (Self::Md5(one), Self::Md5(two)) => one.is(two),
            (Self::Scram(one), Self::Scram(two)) => one.is(two),
            _ => false,
        }
    }

    /// Why this cannot answer a method.
    fn unfit(&self, method: &'static str) -> LoginError {
        let credential = match self {
            Self::None => return LoginError::NoPassword(method),
            Self::Plain(_) => "a password",
            Self::Md5(_) => "an md5 secret",
            Self::Scram(_) => "a SCRAM key",
        };
        LoginError::Unfit { method, credential }
    }

    fn keys(&self, salt: &[u8], iterations: Iterations, cache: &KeyCache) -> Result<ScramKeys, LoginError> {
        match self {
            Self::Plain(password) => Ok(cache.keys(password, salt, iterations)),
            Self::Scram(known) => known.keys_for(salt, iterations).cloned().ok_or(LoginError::StaleKeys),
            Self::None | Self::Md5(_) => Err(self.unfit(SCRAM_SHA_256)),
        }
    }
}

/// A login without its state, while a request is being answered.
struct Asked {
    user: String,
    credential: Credential,
    least: LeastMethod,
}

impl Asked {
    /// The server asks for nothing.
    fn trusted(&self, data: &[u8]) -> Result<LoginStep, LoginError> {
        match self.least {
            LeastMethod::Any | LeastMethod::Md5 => accepted(data),
            LeastMethod::ScramSha256 => Err(LoginError::Weak("no authentication")),
        }
    }

    fn cleartext(self, data: &[u8]) -> Result<LoginStep, LoginError> {
        const METHOD: &str = "a cleartext password";
        empty(data)?;
        if self.least != LeastMethod::Any {
            return Err(LoginError::Weak(METHOD));
        }
        let Credential::Plain(password) = &self.credential else { return Err(self.credential.unfit(METHOD)) };
        let body = string(password.as_bytes());
        Ok(self.send(State::Answered, body))
    }

    fn md5(self, data: &[u8]) -> Result<LoginStep, LoginError> {
        const METHOD: &str = "an md5 password";
        let salt = data.try_into().map_err(|_| Malformed::Sasl)?;
        if self.least == LeastMethod::ScramSha256 {
            return Err(LoginError::Weak(METHOD));
        }
        let answer = match &self.credential {
            Credential::Md5(secret) => secret.answer(salt),
            Credential::Plain(password) => Md5Secret::derive(password, &self.user).answer(salt),
            other => return Err(other.unfit(METHOD)),
        };
        Ok(self.send(State::Answered, string(answer.as_slice())))
    }

    /// Chooses SCRAM without channel binding wherever in the list it stands: servers put the other one first.
    fn sasl(self, data: &[u8]) -> Result<LoginStep, LoginError> {
        if !sasl::parse_mechanisms(data)?.contains(&SCRAM_SHA_256.as_bytes()) {
            return Err(LoginError::NoMechanism);
        }
        if let Credential::None | Credential::Md5(_) = self.credential {
            return Err(self.credential.unfit(SCRAM_SHA_256));
        }
        let (expect, client_first) = ExpectServerFirst::start(Nonce::random().map_err(LoginError::Random)?);
        let body = sasl::initial_response(SCRAM_SHA_256, client_first.as_bytes())?;
        Ok(self.send(State::ServerFirst(expect), body.into()))
    }

    fn server_first(
        self,
        expect: ExpectServerFirst,
        data: &[u8],
        cache: &KeyCache,
    ) -> Result<LoginStep, LoginError> {
        let keys = |salt: &[u8], iterations| self.credential.keys(salt, iterations, cache);
        let (expect, client_final) = expect.read(data, keys)?;
        Ok(self.send(State::ServerFinal(expect), client_final.into_bytes().into()))
    }

    fn server_final(self, expect: ExpectServerFinal, data: &[u8]) -> Result<LoginStep, LoginError> {
        expect.read(data)?;
        Ok(LoginStep::Wait(self.with(State::Verified)))
    }

    fn send(self, state: State, body: Zeroizing<Vec<u8>>) -> LoginStep {
        LoginStep::Send(self.with(state), body)
    }

    fn with(self, state: State) -> ClientLogin {
        let Self { user, credential, least } = self;
        ClientLogin { user, credential, least, state }
    }
}

fn accepted(data: &[u8]) -> Result<LoginStep, LoginError> {
    empty(data)?;
    Ok(LoginStep::Accepted(Accepted))
}

fn empty(data: &[u8]) -> Result<(), Malformed> {
    if data.is_empty() { Ok(()) } else { Err(Malformed::Sasl) }
}

/// The body of a PasswordMessage.
fn string(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([bytes, b"\0"].concat())
}

fn unexpected(code: i32) -> LoginError {
    match code {
        1 | 2 => LoginError::Unsupported("Kerberos"),
        4 => LoginError::Unsupported("crypt"),
        6 => LoginError::Unsupported("SCM credential"),
        7 | 8 => LoginError::Unsupported("GSSAPI"),
        9 => LoginError::Unsupported("SSPI"),
        other => LoginError::Unexpected(other),
    }
}
