//! The states of an authentication and the way from one to the next.

use zeroize::Zeroizing;

use super::{Challenge, Denial, Method, Proof, Reason, Step, Terms};
use crate::auth::md5::Md5Secret;
use crate::auth::mock::{Disguise, Mock};
use crate::auth::password::Password;
use crate::auth::random;
use crate::auth::sasl::{self, ChannelBinding, InitialResponse, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use crate::auth::scram::server::{ExpectClientFinal, ExpectClientFirst};
use crate::auth::scram::{Iterations, KeyCache, Malformed, Nonce, ScramCredential, ScramVerifier};
use crate::auth::secret::StoredSecret;

/// An authentication under way.
#[derive(Debug)]
pub struct Exchange {
    user: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Cleartext(Option<StoredSecret>),
    Md5 {
        salt: [u8; 4],
        claim: Result<Md5Secret, Reason>,
    },
    /// Waits for SASLInitialResponse.
    Sasl {
        nonce: Nonce,
        claim: ScramClaim,
        binding: ChannelBinding,
    },
    /// Waits for client-first in a SASLResponse, since the initial response had none.
    ClientFirst {
        expect: ExpectClientFirst,
        claim: ScramClaim,
    },
    ClientFinal {
        expect: ExpectClientFinal,
        claim: ScramClaim,
    },
}

/// What a SCRAM proof is held against.
#[derive(Debug)]
enum ScramClaim {
    Verifier(ScramVerifier),
    /// The verifier is not known. It is derived, or found by then, when a complete client-final is there.
    Plain {
        password: Password,
        salt: [u8; 16],
        iterations: Iterations,
    },
    /// Denied at the end for this reason, whatever the client proves.
    Doomed(ScramVerifier, Reason),
}

/// What a state does with a message: go on, or end well.
enum Next {
    Ask(State, Challenge),
    Done(Option<ScramCredential>, Option<Challenge>),
}

impl Exchange {
    /// Begins for the user of a startup packet with the secret that is stored about him. Cheap; what was derived before
    /// is looked up now, so that no later step is expensive for it.
    pub fn begin(
        terms: &Terms,
        user: &str,
        secret: Option<&StoredSecret>,
        binding: ChannelBinding,
        cache: &KeyCache,
    ) -> Step {
        let next = match (terms.method, secret) {
            (Method::Any, _) | (Method::Trust, Some(_)) => Ok(Next::Done(None, None)),
            (Method::Trust, None) => Err(Reason::UnknownUser),
            (Method::Plain, _) => {
                Ok(Next::Ask(State::Cleartext(secret.cloned()), Challenge::CleartextPassword))
            }
            (Method::Md5, _) if !asks_for_scram(secret, &terms.mock) => begin_md5(user, secret),
            (Method::Md5 | Method::ScramSha256, _) => {
                begin_sasl(ScramClaim::new(terms, user, secret, cache), binding)
            }
        };
        Step::from_next(user.to_owned(), next)
    }

    /// Takes the body of a password message: PasswordMessage, SASLInitialResponse or SASLResponse. **Expensive** when
    /// [`Self::is_expensive`] says so.
    pub fn step(self, body: &[u8], cache: &KeyCache) -> Step {
        let next = self.state.step(&self.user, body, cache);
        Step::from_next(self.user, next)
    }

    /// Whether the next step may run PBKDF2. Says yes also where the cache has got the keys since the beginning, or has
    /// those of a password that is not here yet.
    #[must_use]
    pub fn is_expensive(&self) -> bool {
        matches!(
            self.state,
            State::Cleartext(Some(StoredSecret::Scram(_)))
                | State::ClientFinal { claim: ScramClaim::Plain { .. }, .. }
        )
    }
}

impl Step {
    fn from_next(user: String, next: Result<Next, Reason>) -> Self {
        match next {
            Ok(Next::Ask(state, challenge)) => Self::Continue(Box::new(Exchange { user, state }), challenge),
            Ok(Next::Done(scram, last)) => Self::Done(Proof { user, scram }, last),
            Err(reason) => Self::Denied(Denial { user, reason }),
        }
    }
}

impl State {
    fn step(self, user: &str, body: &[u8], cache: &KeyCache) -> Result<Next, Reason> {
        match self {
            Self::Cleartext(secret) => check_cleartext(secret.as_ref(), user, password(body)?, cache),
            Self::Md5 { salt, claim } => check_md5(claim, salt, string(body)?),
            Self::Sasl { nonce, claim, binding } => choose_mechanism(nonce, claim, binding, body),
            Self::ClientFirst { expect, claim } => client_first(expect, claim, body),
            Self::ClientFinal { expect, claim } => client_final(expect, claim, body, cache),
        }
    }
}

impl ScramClaim {
    fn new(terms: &Terms, user: &str, secret: Option<&StoredSecret>, cache: &KeyCache) -> Self {
        let doomed = |reason| Self::Doomed(terms.mock.verifier(user), reason);
        match secret {
            Some(StoredSecret::Scram(verifier)) => Self::Verifier(verifier.clone()),
            Some(StoredSecret::Plain(password)) => {
                let (salt, iterations) = (terms.mock.salt(user), terms.iterations);
                match cache.known(password, &salt, iterations) {
                    Some(keys) => Self::Verifier(ScramVerifier::of_keys(&keys, &salt, iterations)),
                    None => Self::Plain { password: password.clone(), salt, iterations },
                }
            }
            Some(StoredSecret::Md5(_)) => doomed(Reason::Md5Secret),
            Some(StoredSecret::Absent) => doomed(Reason::NoSecret),
            None => doomed(Reason::UnknownUser),
        }
    }

    /// What client-first is answered with.
    fn salt_and_iterations(&self) -> (Box<[u8]>, Iterations) {
        match self {
            Self::Verifier(verifier) | Self::Doomed(verifier, _) => {
                (verifier.salt().into(), verifier.iterations())
            }
            Self::Plain { salt, iterations, .. } => (salt.as_slice().into(), *iterations),
        }
    }
}

/// PostgreSQL's rule: md5 is what the configuration allows, the secret decides.
fn asks_for_scram(secret: Option<&StoredSecret>, mock: &Mock) -> bool {
    match secret {
        Some(StoredSecret::Scram(_)) => true,
        Some(StoredSecret::Plain(_) | StoredSecret::Md5(_)) => false,
        Some(StoredSecret::Absent) | None => mock.disguise() == Disguise::Scram,
    }
}

fn begin_md5(user: &str, secret: Option<&StoredSecret>) -> Result<Next, Reason> {
    let mut salt = [0; 4];
    random::fill(&mut salt).map_err(|_| Reason::Random)?;
    let claim = match secret {
        Some(StoredSecret::Md5(secret)) if secret.is_of_empty_password(user) => Err(Reason::NoSecret),
        Some(StoredSecret::Md5(secret)) => Ok(secret.clone()),
        Some(StoredSecret::Plain(password)) => Ok(Md5Secret::derive(password, user)),
        Some(StoredSecret::Absent | StoredSecret::Scram(_)) => Err(Reason::NoSecret),
        None => Err(Reason::UnknownUser),
    };
    Ok(Next::Ask(State::Md5 { salt, claim }, Challenge::Md5Password(salt)))
}

fn begin_sasl(claim: ScramClaim, binding: ChannelBinding) -> Result<Next, Reason> {
    let nonce = Nonce::random().map_err(|_| Reason::Random)?;
    let challenge = Challenge::Sasl(binding.mechanisms());
    Ok(Next::Ask(State::Sasl { nonce, claim, binding }, challenge))
}

fn check_cleartext(
    secret: Option<&StoredSecret>,
    user: &str,
    password: Password,
    cache: &KeyCache,
) -> Result<Next, Reason> {
    match secret {
        None => Err(Reason::UnknownUser),
        Some(StoredSecret::Absent) => Err(Reason::NoSecret),
        Some(secret) if secret.accepts(user, &password, cache) => {
            Ok(Next::Done(secret.scram_login(&password, cache), None))
        }
        Some(_) => Err(Reason::WrongPassword),
    }
}

fn check_md5(claim: Result<Md5Secret, Reason>, salt: [u8; 4], answer: &[u8]) -> Result<Next, Reason> {
    if claim?.accepts(salt, answer) { Ok(Next::Done(None, None)) } else { Err(Reason::WrongPassword) }
}

fn choose_mechanism(
    nonce: Nonce,
    claim: ScramClaim,
    binding: ChannelBinding,
    body: &[u8],
) -> Result<Next, Reason> {
    let InitialResponse { mechanism, data } = InitialResponse::parse(body)?;
    let offered = binding.mechanisms().iter().find(|offered| offered.as_bytes() == mechanism);
    let plus = match offered.copied() {
        Some(SCRAM_SHA_256) => false,
        Some(SCRAM_SHA_256_PLUS) => true,
        _ => return Err(Reason::Mechanism),
    };
    let (salt, iterations) = claim.salt_and_iterations();
    let expect = ExpectClientFirst { nonce, salt, iterations, binding, plus };
    match data {
        Some(data) => client_first(expect, claim, data),
        None => Ok(Next::Ask(State::ClientFirst { expect, claim }, Challenge::SaslContinue(Vec::new()))),
    }
}

fn client_first(expect: ExpectClientFirst, claim: ScramClaim, message: &[u8]) -> Result<Next, Reason> {
    let (expect, server_first) = expect.read(message)?;
    let challenge = Challenge::SaslContinue(server_first.into_bytes());
    Ok(Next::Ask(State::ClientFinal { expect, claim }, challenge))
}

fn client_final(
    expect: ExpectClientFinal,
    claim: ScramClaim,
    message: &[u8],
    cache: &KeyCache,
) -> Result<Next, Reason> {
    let (credential, server_final) = match claim {
        ScramClaim::Verifier(verifier) => expect.read(message, || verifier)?,
        ScramClaim::Plain { password, salt, iterations } => expect.read(message, || {
            ScramVerifier::of_keys(&cache.keys(&password, &salt, iterations), &salt, iterations)
        })?,
        ScramClaim::Doomed(verifier, reason) => {
            // As much work and the same errors as for the others, and then no way to be Done.
            return match expect.read(message, || verifier) {
                Ok(_) | Err(Reason::WrongPassword) => Err(reason),
                Err(other) => Err(other),
            };
        }
    };
    Ok(Next::Done(Some(credential), Some(Challenge::SaslFinal(server_final.into_bytes()))))
}

fn password(body: &[u8]) -> Result<Password, Reason> {
    let bytes = Zeroizing::new(string(body)?.to_vec());
    Password::new(bytes.as_slice()).map_err(Reason::Password)
}

/// The one string of a PasswordMessage, whose zero byte ends the body.
fn string(body: &[u8]) -> Result<&[u8], Malformed> {
    match sasl::split_string(body)? {
        (string, []) => Ok(string),
        _ => Err(Malformed::Sasl),
    }
}
