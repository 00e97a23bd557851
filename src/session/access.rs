//! What a client is asked for: by the rules, by the secret that is stored about it, by who the system says it is.

use super::Service;
use super::departure::{self, Departure};
use crate::auth::hba::{Rule, RuleMethod, Visit, Way};
use crate::auth::{Method, StoredSecret, Terms};
use crate::config::{AuthMethod, Config};
use crate::net::Stream;
use crate::pool::{Found, LookupError};
use crate::wire::{Report, sqlstate};
use nix::unistd::{Uid, User};
use std::sync::Arc;

/// What a client has to prove, and by what.
pub(super) struct Demand {
    pub(super) terms: Terms,
    pub(super) secret: Option<StoredSecret>,
}

/// Who wants in.
pub(super) struct Visitor<'a> {
    visit: Visit<'a>,
    /// The system's user on the other side of a Unix socket.
    uid: Option<u32>,
}

impl<'a> Visitor<'a> {
    pub(super) fn new(stream: &Stream, database: &'a str, user: &'a str, replication: bool) -> Self {
        let way = match (stream, stream.peer()) {
            (Stream::Tcp(_), Some(address)) => Way::Plain(address.ip()),
            _ => Way::Unix,
        };
        Self { visit: Visit { database, user, replication, way }, uid: stream.peer_uid() }
    }
}

/// Whether the client runs as the same user of the system as this process.
pub(super) fn is_owner(stream: &Stream) -> bool {
    stream.peer_uid().is_some_and(|uid| uid == Uid::effective().as_raw())
}

/// What a client is asked for.
///
/// # Errors
///
/// When nothing that it could prove would let it in, or when nobody can tell.
pub(super) async fn demand(service: &Arc<Service>, visitor: &Visitor<'_>) -> Result<Demand, Departure> {
    let config = service.config.load_full();
    service.users.refresh().await;
    let listed = service.users.listed();
    let mut terms = listed.terms.clone();
    let mut is_known_to_system = false;
    if config.auth.method == AuthMethod::Hba {
        let asked = by_rule(service, visitor).await?;
        is_known_to_system = asked == RuleMethod::Peer;
        terms.method = method(asked);
    }
    let user = visitor.visit.user;
    let mut secret = listed.list.get(user).cloned();
    if secret.is_none() && terms.method != Method::Any {
        secret = look_up(service, &config, visitor).await?;
        if let Some((disguise, iterations)) = service.pools.lookups().usual() {
            // Most users come from there, and one who does not exist must look like most.
            terms.mock = terms.mock.disguised(disguise, iterations);
        }
    }
    if is_known_to_system && secret.is_none() {
        return Err(not_that_user());
    }
    Ok(Demand { terms, secret })
}

fn method(asked: RuleMethod) -> Method {
    match asked {
        // Whom the system has vouched for is asked for nothing more.
        RuleMethod::Trust | RuleMethod::Peer => Method::Trust,
        RuleMethod::Password => Method::Plain,
        RuleMethod::Md5 => Method::Md5,
        RuleMethod::ScramSha256 | RuleMethod::Reject | RuleMethod::Cert => Method::ScramSha256,
    }
}

/// What the first rule that fits asks for, as far as it does not settle the matter.
async fn by_rule(service: &Service, visitor: &Visitor<'_>) -> Result<RuleMethod, Departure> {
    let rules = service.rules.load_full();
    let rule = rules.find(&visitor.visit).ok_or_else(|| refused("no authentication method is found"))?;
    match rule.method() {
        RuleMethod::Reject => Err(refused("login rejected")),
        // Such a one has come over TLS, with a certificate.
        RuleMethod::Cert => Err(refused("certificate authentication failed")),
        RuleMethod::Peer if !is_peer(rule, visitor).await => Err(not_that_user()),
        method => Ok(method),
    }
}

/// Whether the system's user on the other side may log in as the one that is asked for.
async fn is_peer(rule: &Rule, visitor: &Visitor<'_>) -> bool {
    let Some(uid) = visitor.uid else { return false };
    // The system may ask a directory on the network.
    let user = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid))).await;
    match user {
        Ok(Ok(Some(system))) => rule.lets_in(&system.name, visitor.visit.user),
        Ok(Err(error)) => {
            tracing::warn!(uid, "cannot tell the name of a user of the system: {error}");
            false
        }
        _ => false,
    }
}

/// Asks for the secret of a user whom the auth file does not know, where somebody is to be asked.
async fn look_up(
    service: &Service,
    config: &Config,
    visitor: &Visitor<'_>,
) -> Result<Option<StoredSecret>, Departure> {
    let Visit { database, user, .. } = visitor.visit;
    if let Some(place) = config.nowhere_to_ask(database) {
        tracing::error!(user, "cannot look up a user: there is no database {place} (auth_dbname) to ask in");
        return Err(config_error());
    }
    let Some(lookup) = config.lookup(database).map(Arc::new) else { return Ok(None) };
    let error = match service.pools.lookups().ask(&lookup, user).await {
        Ok(Found::User(secret)) => return Ok(Some(secret)),
        Ok(Found::Nobody) => return Ok(None),
        Err(error) => error,
    };
    tracing::warn!(
        user,
        database = lookup.database,
        auth_user = lookup.user,
        "cannot look up a user: {error}"
    );
    Err(match error {
        // Who has proved nothing is not told which databases there are.
        LookupError::NoServer(refusal) if !lookup.is_named && refusal.is_for_no_database() => {
            return Ok(None);
        }
        LookupError::NoServer(refusal) => departure::refused(
            &refusal,
            "auth_query, which knows the user, found no server connection in time.",
        ),
        LookupError::Config(_) => config_error(),
        LookupError::Broken(_) | LookupError::TooLate => {
            Report::fatal(sqlstate::CANNOT_CONNECT, "cannot look up the user")
                .hint("The log tells why auth_query has no answer.")
                .into()
        }
    })
}

fn config_error() -> Departure {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, "bouncer config error")
        .hint("The log tells what is wrong with auth_query.")
        .into()
}

/// A refusal by a rule. Which one it was, and what others would have asked, is for the log.
fn refused(text: &'static str) -> Departure {
    Report::fatal(sqlstate::INVALID_AUTHORIZATION, text)
        .hint("The rules of auth_hba_file decide by database, user and address; the first that fits counts.")
        .into()
}

fn not_that_user() -> Departure {
    Report::fatal(sqlstate::INVALID_AUTHORIZATION, "unix socket login rejected").into()
}
