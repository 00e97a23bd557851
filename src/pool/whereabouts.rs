//! Where servers are: the addresses of their hosts, whose turn it is, and who does not answer for the moment.

use crate::config::{Balance, Config, Dns, Host, Hosts, PoolSettings};
use crate::net::{Address, Keep, Resolver, Standing};
use crate::server::DialError;
use crate::wire::sqlstate;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The first pause after an address has failed; it doubles up to `server_login_retry`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How many failing addresses are remembered.
const FAILING: usize = 1024;

/// Whom hosts in turn are counted for: all pools of one database.
type Rota = (Hosts, u16, String);

/// Where servers are.
#[derive(Debug)]
pub struct Whereabouts {
    resolver: Arc<Resolver>,
    /// The number of the host that is next, or that is stuck to.
    turns: Mutex<HashMap<Rota, usize>>,
    failing: Mutex<HashMap<Address, Failing>>,
}

/// An address at which nobody answers.
#[derive(Debug, Clone, Copy)]
struct Failing {
    streak: u32,
    until: Instant,
}

/// An address to dial.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where it is.
    pub address: Address,
    /// Whether its name still has it; `None` where there is no name.
    pub standing: Option<Standing>,
}

impl Whereabouts {
    /// Nothing is known yet.
    ///
    /// # Errors
    ///
    /// When the `resolv_conf` of the configuration cannot be used.
    pub fn new(dns: &Dns) -> io::Result<Self> {
        let resolver = Resolver::new(dns.resolv_conf.as_deref(), keep(dns))?;
        Ok(Self { resolver, turns: Mutex::default(), failing: Mutex::default() })
    }

    /// Who looks up names.
    #[must_use]
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// Takes over a changed configuration: names and lists that it does not have are forgotten.
    pub fn reconfigure(&self, config: &Config) {
        self.resolver.set_keep(keep(&config.dns));
        let databases = config.databases.values().chain(&config.fallback).map(|database| &database.hosts);
        let hosts: Vec<&Hosts> =
            databases.chain(config.peering.peers.values().map(|peer| &peer.hosts)).collect();
        let is_named = |name: &str| {
            hosts.iter().flat_map(|hosts| hosts.iter()).any(|host| matches!(host, Host::Tcp(n) if n == name))
        };
        self.resolver.retain(is_named);
        lock(&self.turns).retain(|(rota, ..), _| hosts.contains(&rota));
        lock(&self.failing).clear();
    }

    /// Where a host of these settings is; with a list it matters whose turn it is.
    ///
    /// # Errors
    ///
    /// When its name has no address.
    pub async fn sites(&self, host: &Host, port: u16) -> io::Result<Vec<Site>> {
        match host {
            Host::Unix(dir) => {
                let address = Address::unix(dir.join(format!(".s.PGSQL.{port}")));
                Ok(vec![Site { address, standing: None }])
            }
            Host::Tcp(name) => {
                let found = self.resolver.addresses(name).await?;
                let site = |found: crate::net::Found| Site {
                    address: Address::Tcp((found.ip, port).into()),
                    standing: found.standing,
                };
                Ok(found.into_iter().map(site).collect())
            }
        }
    }

    /// The next host to try among those that were not `tried` yet; `None` when all were.
    pub(super) fn next_host<'a>(
        &self,
        settings: &'a PoolSettings,
        tried: &mut Vec<usize>,
    ) -> Option<&'a Host> {
        let hosts = &settings.hosts;
        let count = hosts.count();
        if tried.len() >= count {
            return None;
        }
        let turn = match hosts.balance() {
            None => 0,
            Some(balance) => {
                let mut turns = lock(&self.turns);
                let turn = turns.entry(rota(settings)).or_default();
                let now = *turn % count;
                if balance == Balance::RoundRobin {
                    *turn = (now + 1) % count;
                }
                now
            }
        };
        let next = (turn..turn + count).map(|at| at % count).find(|at| !tried.contains(at))?;
        tried.push(next);
        hosts.iter().nth(next)
    }

    /// A host of a list came to nothing: whoever sticks to it goes on to the next.
    pub(super) fn give_up(&self, settings: &PoolSettings, host: usize) {
        if settings.hosts.balance() == Some(Balance::Stick) {
            let mut turns = lock(&self.turns);
            let turn = turns.entry(rota(settings)).or_default();
            if *turn == host {
                *turn = (host + 1) % settings.hosts.count();
            }
        }
    }

    /// Forgets whose turn it is for a database that is forgotten itself, as one may be that only `*` stands for: there are
    /// as many names of those as clients can think of.
    pub(super) fn forget(&self, settings: &PoolSettings) {
        lock(&self.turns).remove(&rota(settings));
    }

    /// Whether nobody answered there a moment ago.
    pub(super) fn is_failing(&self, address: &Address) -> bool {
        lock(&self.failing).get(address).is_some_and(|failing| failing.until > Instant::now())
    }

    /// Notes what a dial came to. Only what concerns the server as a whole counts against it.
    pub(super) fn note(&self, address: &Address, error: Option<&DialError>, retry: Duration) {
        let mut failing = lock(&self.failing);
        let Some(error) = error else {
            if !failing.is_empty() {
                failing.remove(address);
            }
            return;
        };
        let now = Instant::now();
        let fault = match error {
            DialError::Refused { code, .. } => code != sqlstate::TOO_MANY_CONNECTIONS && error.is_transient(),
            other => other.is_transient(),
        };
        if !fault {
            return;
        }
        if failing.len() >= FAILING {
            failing.retain(|_, failing| failing.until > now);
        }
        let streak = failing.get(address).map_or(0, |failing| failing.streak.saturating_add(1));
        let pause = FIRST_PAUSE.saturating_mul(1 << streak.min(16)).min(retry);
        if failing.len() < FAILING {
            failing.insert(address.clone(), Failing { streak, until: now + pause });
        }
    }
}

fn rota(settings: &PoolSettings) -> Rota {
    (settings.hosts.clone(), settings.port, settings.dbname.clone())
}

fn keep(dns: &Dns) -> Keep {
    Keep { found: dns.max_ttl, failed: dns.nxdomain_ttl }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are whole after every step, so a panic elsewhere cannot have spoilt them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_forgotten_with_their_database() {
        let dns = Dns { max_ttl: Duration::ZERO, nxdomain_ttl: Duration::ZERO, resolv_conf: None };
        let whereabouts = Whereabouts::new(&dns).unwrap();
        let hosts = Hosts::parse("a,b", Balance::RoundRobin).unwrap();
        for name in ["one", "two"] {
            let settings = PoolSettings {
                hosts: hosts.clone(),
                dbname: name.to_owned(),
                ..crate::pool::tests::settings()
            };
            let next = || whereabouts.next_host(&settings, &mut Vec::new()).unwrap().to_string();
            assert_eq!([next(), next(), next()], ["a", "b", "a"]);
            whereabouts.forget(&settings);
            assert!(lock(&whereabouts.turns).is_empty());
            assert_eq!(next(), "a");
            whereabouts.forget(&settings);
        }
    }
}
