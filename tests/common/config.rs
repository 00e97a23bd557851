//! The configuration of the pooler under test.

use std::fmt::Write as _;

use super::Postgres;
use super::pooler::Pgweir;
use super::postgres::ROLES;

/// A `pgbouncer.ini` in the making. What it starts from: transaction mode, five servers a pool, SCRAM towards
/// clients, every role of the cluster in the auth file, the console's users `admin` and `stats`, the database
/// `weir`, and any other database of the cluster under its own name.
#[derive(Debug, Clone)]
pub struct PgweirBuilder {
    settings: Vec<(String, String)>,
    databases: Vec<(String, String)>,
    users: Vec<(String, String)>,
    peers: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
    pub(super) files: Vec<(String, String)>,
    pub(super) port: Option<u16>,
    pub(super) program: Option<String>,
}

impl PgweirBuilder {
    pub(super) fn for_server(postgres: &Postgres) -> Self {
        Self::for_port(postgres.port())
    }

    pub(super) fn for_port(server: u16) -> Self {
        let mut builder = Self {
            settings: Vec::new(),
            databases: Vec::new(),
            users: Vec::new(),
            peers: Vec::new(),
            secrets: Vec::new(),
            files: Vec::new(),
            port: None,
            program: None,
        };
        for (name, secret) in ROLES.into_iter().chain([("admin", "admin"), ("stats", "stats")]) {
            builder = builder.user(name, secret);
        }
        builder
            .database("weir", &format!("host=127.0.0.1 port={server} dbname=weir"))
            .database("*", &format!("host=127.0.0.1 port={server}"))
            .setting("listen_addr", "127.0.0.1")
            .setting("unix_socket_dir", "")
            // A client that says nothing is to be seen at once.
            .setting("tcp_defer_accept", 0)
            .setting("auth_type", "scram-sha-256")
            .setting("admin_users", "admin")
            .setting("stats_users", "stats")
            .pool_mode("transaction")
            .pool_size(5)
    }

    /// A key of `[pgbouncer]`; the last value of a key wins.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        put(&mut self.settings, name, value.to_string());
        self
    }

    /// `default_pool_size`.
    #[must_use]
    pub fn pool_size(self, servers: u32) -> Self {
        self.setting("default_pool_size", servers)
    }

    /// `pool_mode`.
    #[must_use]
    pub fn pool_mode(self, mode: &str) -> Self {
        self.setting("pool_mode", mode)
    }

    /// An entry of `[databases]`: `host=… port=…`.
    #[must_use]
    pub fn database(mut self, name: &str, connection: &str) -> Self {
        put(&mut self.databases, name, connection.to_owned());
        self
    }

    /// An entry of `[users]`: `pool_mode=…`.
    #[must_use]
    pub fn user_setting(mut self, name: &str, settings: &str) -> Self {
        put(&mut self.users, name, settings.to_owned());
        self
    }

    /// An entry of `[peers]`: `host=… port=…`.
    #[must_use]
    pub fn peer(mut self, id: u16, connection: &str) -> Self {
        put(&mut self.peers, &id.to_string(), connection.to_owned());
        self
    }

    /// A line of the auth file: a plain password, or an `md5…` or `SCRAM-SHA-256$…` secret.
    #[must_use]
    pub fn user(mut self, name: &str, secret: &str) -> Self {
        put(&mut self.secrets, name, secret.to_owned());
        self
    }

    /// A further file in the folder of the configuration; `{dir}` in a setting stands for that folder.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        put(&mut self.files, name, text.to_owned());
        self
    }

    /// The port to listen on, when another process has to know it before.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Another program than the one under test.
    #[must_use]
    pub fn program(mut self, program: &str) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Starts the pooler and waits until it takes connections.
    pub fn start(self) -> Pgweir {
        Pgweir::start(self)
    }

    /// The text of the file, for a pooler that listens on `port` and whose files are in `folder`.
    pub(super) fn render(&self, port: u16, folder: &str) -> String {
        let mut text = String::new();
        section(&mut text, "databases", &self.databases);
        section(&mut text, "users", &self.users);
        section(&mut text, "peers", &self.peers);
        section(&mut text, "pgbouncer", &self.settings);
        if !self.settings.iter().any(|(name, _)| name == "listen_port") {
            writeln!(text, "listen_port = {port}").unwrap();
        }
        text.push_str("auth_file = {dir}/userlist.txt\n");
        text.replace("{dir}", folder)
    }

    /// The text of the auth file.
    pub(super) fn userlist(&self) -> String {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        self.secrets.iter().map(|(name, secret)| format!("{} {}\n", quote(name), quote(secret))).collect()
    }
}

fn put(entries: &mut Vec<(String, String)>, name: &str, value: String) {
    entries.retain(|(known, _)| known != name);
    entries.push((name.to_owned(), value));
}

fn section(text: &mut String, name: &str, entries: &[(String, String)]) {
    writeln!(text, "[{name}]").unwrap();
    for (key, value) in entries {
        let is_plain = name == "pgbouncer" || key == "*" || is_word(key);
        let key = if is_plain { key.clone() } else { format!("\"{}\"", key.replace('"', "\"\"")) };
        writeln!(text, "{key} = {value}").unwrap();
    }
}

fn is_word(key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
