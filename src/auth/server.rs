//! pgweir as the server: asking a client who it is.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>. An [`Exchange`] begins when the
//! startup packet is read; every message of type `p` that follows is one step, any other type in between ends the
//! connection. A user who does not exist is asked the same questions and denied at the end, in the same words.

mod exchange;

pub use exchange::Exchange;

use thiserror::Error;

use super::mock::Mock;
use super::password::PasswordError;
use super::sasl;
use super::scram::{Iterations, Malformed, ScramCredential};

/// What is configured to be asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing, of anybody.
    Any,
    /// Nothing, of users who are known.
    Trust,
    /// The password, in clear text; it is checked against every form of secret.
    Plain,
    /// md5; SCRAM of a user whose secret is a SCRAM verifier.
    Md5,
    /// SCRAM. A user whose secret is md5 cannot log in.
    ScramSha256,
}

/// What holds for all clients until the configuration changes.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What is asked.
    pub method: Method,
    /// Iterations of verifiers derived from plain secrets.
    pub iterations: Iterations,
    /// What unknown users look like.
    pub mock: Mock,
}

/// What comes out of a step.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send the challenge, and step on with the body of the next password message.
    Continue(Box<Exchange>, Challenge),
    /// The client is who it says. Send the last challenge, if any, and AuthenticationOk.
    Done(Proof, Option<Challenge>),
    /// It is not. Send [`Denial::SQLSTATE`] with [`Denial::client_message`], and close.
    Denied(Denial),
}

/// The Authentication message to send.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// AuthenticationCleartextPassword.
    CleartextPassword,
    /// AuthenticationMD5Password with its salt.
    Md5Password([u8; 4]),
    /// AuthenticationSASL with the mechanisms offered.
    Sasl(&'static [&'static str]),
    /// AuthenticationSASLContinue with the data of the mechanism.
    SaslContinue(Vec<u8>),
    /// AuthenticationSASLFinal with the data of the mechanism.
    SaslFinal(Vec<u8>),
}

/// A client that has proved to be `user`, and nobody else. Only an [`Exchange`] makes one.
#[derive(Debug)]
pub struct Proof {
    user: String,
    scram: Option<ScramCredential>,
}

/// A client that has not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("login of user {user:?} denied: {reason}")]
pub struct Denial {
    user: String,
    reason: Reason,
}

/// Why a client was denied: for the log, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// Nobody of this name.
    #[error("no such user")]
    UnknownUser,
    /// The user has an empty secret.
    #[error("user has no password")]
    NoSecret,
    /// SCRAM is configured and the secret is md5.
    #[error("user has an md5 secret, which cannot be used with SCRAM")]
    Md5Secret,
    /// The password, or what was computed from it, is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// The password is empty or contains a zero byte.
    #[error("{0}")]
    Password(PasswordError),
    /// A message that breaks the rules of its format.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// A mechanism that was not offered.
    #[error("client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// The client wants to act for somebody else, which PostgreSQL does not have.
    #[error("client uses an authorization identity, which is not supported")]
    AuthorizationIdentity,
    /// Flag, mechanism, connection and binding data do not go together.
    #[error("channel binding does not match")]
    ChannelBinding,
    /// The client could bind and was not told that pgweir can: somebody is in between.
    #[error("client supports channel binding but thinks that the server does not")]
    Downgrade,
    /// The nonce of client-final is not the one of this exchange.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

impl Challenge {
    /// The body of the message, what follows its length: the code of the request and its data.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::CleartextPassword => request(3, b""),
            Self::Md5Password(salt) => request(5, salt),
            Self::Sasl(mechanisms) => request(10, &sasl::mechanisms(mechanisms)),
            Self::SaslContinue(data) => request(11, data),
            Self::SaslFinal(data) => request(12, data),
        }
    }
}

impl Proof {
    /// Who the client is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A login to a server that has the same verifier, when SCRAM was used.
    #[must_use]
    pub fn scram(&self) -> Option<&ScramCredential> {
        self.scram.as_ref()
    }
}

impl Denial {
    /// invalid_password, for every reason.
    pub const SQLSTATE: &'static str = "28P01";

    /// All that a client may read, the same for every reason.
    #[must_use]
    pub fn client_message(&self) -> String {
        format!("password authentication failed for user \"{}\"", self.user)
    }

    /// Why, for the log.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

fn request(code: i32, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), data].concat()
}
