//! What a reload changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{Config, Database};

/// What is different between two configurations, as far as someone must act on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Keys with a new value that waits for the next start; [`Config::keeping_fixed`] keeps the old one.
    pub needs_restart: Vec<&'static str>,
    /// Databases that are new; `*` is the fallback.
    pub added: Vec<String>,
    /// Databases that are gone: their clients and servers have to leave.
    pub removed: Vec<String>,
    /// Databases whose servers are no longer the right ones: another host, port, name, user, password or startup
    /// parameter.
    pub moved: Vec<String>,
}

impl Config {
    /// What is different in `new`.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Diff {
        let (before, after) = (self.all_databases(), new.all_databases());
        let names = |of: &BTreeMap<&str, _>, keep: &dyn Fn(&str) -> bool| {
            of.keys().filter(|name| keep(name)).map(|name| (*name).to_owned()).collect()
        };
        Diff {
            needs_restart: self.fixed_changes(new),
            added: names(&after, &|name| !before.contains_key(name)),
            removed: names(&before, &|name| !after.contains_key(name)),
            moved: names(
                &after,
                &|name| matches!((before.get(name), after.get(name)), (Some(old), Some(new)) if !same_endpoint(old, new)),
            ),
        }
    }

    /// This configuration with the values of `running` for what cannot change at run time.
    #[must_use]
    pub fn keeping_fixed(mut self, running: &Self) -> Self {
        self.listen = running.listen.clone();
        self.workers = running.workers;
        self.dns.resolv_conf.clone_from(&running.dns.resolv_conf);
        self.metrics_listen = running.metrics_listen;
        self.log.format = running.log.format;
        self.crowd.no_simple_queries = running.crowd.no_simple_queries;
        self.process = running.process.clone();
        self
    }

    fn fixed_changes(&self, new: &Self) -> Vec<&'static str> {
        let (old_unix, new_unix) = (self.listen.unix.as_ref(), new.listen.unix.as_ref());
        let both = old_unix.zip(new_unix);
        let changes = [
            ("disable_pqexec", self.crowd.no_simple_queries != new.crowd.no_simple_queries),
            ("listen_addr", self.listen.addresses != new.listen.addresses),
            ("listen_backlog", self.listen.backlog != new.listen.backlog),
            ("listen_port", self.listen.port != new.listen.port),
            ("log_format", self.log.format != new.log.format),
            ("metrics_listen", self.metrics_listen != new.metrics_listen),
            ("resolv_conf", self.dns.resolv_conf != new.dns.resolv_conf),
            ("unix_socket_dir", old_unix.map(|unix| &unix.dir) != new_unix.map(|unix| &unix.dir)),
            ("unix_socket_mode", both.is_some_and(|(old, new)| old.mode != new.mode)),
            ("pidfile", self.process.pidfile != new.process.pidfile),
            ("so_reuseport", self.listen.reuse_port != new.listen.reuse_port),
            ("unix_socket_group", both.is_some_and(|(old, new)| old.group != new.group)),
            ("user", self.process.user != new.process.user),
            ("workers", self.workers != new.workers),
        ];
        changes.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect()
    }

    fn all_databases(&self) -> BTreeMap<&str, &Arc<Database>> {
        let fallback = self.fallback.iter().map(|database| ("*", database));
        self.databases.iter().map(|(name, database)| (name.as_str(), database)).chain(fallback).collect()
    }
}

fn same_endpoint(old: &Database, new: &Database) -> bool {
    (&old.hosts, old.port, &old.dbname, &old.user) == (&new.hosts, new.port, &new.dbname, &new.user)
        && (&old.password, &old.startup) == (&new.password, &new.startup)
}
