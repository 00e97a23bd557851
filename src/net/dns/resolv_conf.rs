//! `resolv.conf` and `/etc/hosts`.
//!
//! <https://man7.org/linux/man-pages/man5/resolv.conf.5.html>

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port of DNS.
const PORT: u16 = 53;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// Servers, in the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains in which a short name is looked for.
    pub(super) search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    pub(super) ndots: usize,
    /// How long a server may take.
    pub(super) timeout: Duration,
    /// How often each is asked.
    pub(super) attempts: u32,
}

impl ResolvConf {
    /// Reads the text. What is not known is left out, as the system's resolver does.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split([';', '#']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = usize::try_from(value.min(15)).unwrap_or(15),
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names that a name may stand for, in the order in which they are asked for.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut names: Vec<_> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let is_full = name.matches('.').count() >= self.ndots;
        names.insert(if is_full { 0 } else { names.len() }, name.to_owned());
        names
    }
}

/// An address, with a port where it is another one.
fn server(text: &str) -> Option<SocketAddr> {
    let port_53 = |ip| SocketAddr::new(ip, PORT);
    text.parse::<IpAddr>().map(port_53).or_else(|_| text.parse()).ok()
}

/// The addresses that a hosts file has for a name.
pub(super) fn of_hosts_file(text: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(ip)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_the_system_reads_it() {
        let conf = ResolvConf::parse(
            "# comment\nnameserver 10.0.0.1\nnameserver ::1 ; second\nnameserver 127.0.0.1:5353\nnameserver x\n\
             domain old.example\nsearch a.example b.example\noptions ndots:2 timeout:1 rotate attempts:99\nfoo bar\n",
        );
        let servers: Vec<_> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "127.0.0.1:5353"]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (2, Duration::from_secs(1), 5));
        assert_eq!(conf.candidates("db"), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(conf.candidates("db.x.y"), ["db.x.y", "db.x.y.a.example", "db.x.y.b.example"]);
        assert_eq!(conf.candidates("db."), ["db"]);
        assert_eq!(ResolvConf::parse("").candidates("db"), ["db"]);
    }

    #[test]
    fn a_hosts_file_knows_names_and_aliases() {
        let text = "127.0.0.1 localhost\n10.0.0.7\tdb.example db # the database\n10.0.0.8 DB\nbad db\n";
        assert_eq!(of_hosts_file(text, "db"), [IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8])]);
        assert!(of_hosts_file(text, "database").is_empty());
    }
}
