//! Proving who: towards clients as a server, towards PostgreSQL as a client.
//!
//! Nothing here reads a socket, a file or a clock. A mechanism is a pure step: it takes the body of one message and
//! gives back the next state and what to send. The random bytes of salts and nonces come from the system.
//!
//! | module | what it holds |
//! |---|---|
//! | [`server`] | [`Exchange`]: pgweir asks a client; ends in a [`Proof`] or a [`Denial`] |
//! | [`client`] | [`ClientLogin`]: pgweir answers PostgreSQL; ends in [`Accepted`] |
//! | [`secret`] | [`StoredSecret`], as found in a user list or in `pg_authid.rolpassword` |
//! | [`userlist`] | [`UserList`], the file of users and secrets |
//! | [`hba`] | [`Hba`](hba::Hba): what is asked of whom, by where they come from |
//! | [`mock`] | [`Mock`], what makes a user who does not exist look like one who does |
//! | [`random`] | unguessable bytes, for nonces and cancel keys |
//! | [`password`] | [`Password`], bytes that are wiped and never shown |
//! | [`md5`] | [`Md5Secret`] and the answer to AuthenticationMD5Password |
//! | [`scram`] | SCRAM-SHA-256: keys, verifiers, the messages of both sides, the [`KeyCache`] |
//! | `sasl` | the bodies of the SASL messages around a mechanism |
//! | `saslprep` | PostgreSQL's way of normalising a password |
//!
//! # Cost
//!
//! Only PBKDF2 is heavy: thousands of HMACs, a millisecond or several of one core. It runs in exactly these places, and a caller
//! keeps them off the threads that do I/O:
//!
//! - [`Exchange::step`] when [`Exchange::is_expensive`] says so;
//! - [`ClientLogin::on_authentication`] when [`ClientLogin::is_expensive`] says so;
//! - [`ScramVerifier::derive`], [`ScramKeys::derive`] and [`KeyCache::keys`] when called by themselves.
//!
//! # Secrets
//!
//! No type here that holds a secret has `PartialEq` or a `Debug` that shows it; comparisons take constant time and
//! memory is wiped on drop.

pub mod client;
pub mod hba;
pub mod md5;
pub mod mock;
pub mod password;
pub mod random;
mod sasl;
mod saslprep;
pub mod scram;
pub mod secret;
pub mod server;
pub mod userlist;

#[cfg(test)]
mod tests;

pub use client::{Accepted, ClientLogin, Credential, LeastMethod, LoginError, LoginStep};
pub use md5::Md5Secret;
pub use mock::{Disguise, Mock};
pub use password::{Password, PasswordError};
pub use sasl::ChannelBinding;
pub use scram::{Iterations, KeyCache, Malformed, ScramCredential, ScramKeys, ScramVerifier};
pub use secret::{SecretError, StoredSecret};
pub use server::{Challenge, Denial, Exchange, Method, Proof, Reason, Step, Terms};
pub use userlist::{Flaw, UserList, UserListError};
