//! What a configuration takes from outside of its file: passwords, addresses, the file of name servers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::model::Secret;

/// All that was found, so that who asks again hears the same: a setting that is changed on the console may neither fail
/// for a file that it has nothing to do with, nor bring a new password into force.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    texts: BTreeMap<PathBuf, Secret>,
    readable: BTreeSet<PathBuf>,
    addresses: BTreeMap<String, Vec<SocketAddr>>,
}

impl Outside {
    /// The first line of a file with a secret.
    pub(super) fn secret(&mut self, file: &Path) -> io::Result<Secret> {
        if let Some(secret) = self.texts.get(file) {
            return Ok(secret.clone());
        }
        let text = std::fs::read_to_string(file)?;
        let secret = Secret::new(text.lines().next().unwrap_or_default().to_owned());
        self.texts.insert(file.to_owned(), secret.clone());
        Ok(secret)
    }

    /// Whether a file can be read.
    pub(super) fn is_readable(&mut self, file: &Path) -> io::Result<()> {
        if !self.readable.contains(file) {
            std::fs::read_to_string(file)?;
            self.readable.insert(file.to_owned());
        }
        Ok(())
    }

    /// The addresses that a text stands for, as `name` asks for them; none when there is no such host.
    pub(super) fn addresses(&mut self, text: &str, name: &impl ToSocketAddrs) -> Vec<SocketAddr> {
        if let Some(known) = self.addresses.get(text) {
            return known.clone();
        }
        let found: Vec<_> = name.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        if !found.is_empty() {
            self.addresses.insert(text.to_owned(), found.clone());
        }
        found
    }
}
