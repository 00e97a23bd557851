//! Commands of the console, as PgBouncer spells them.

use super::Shutdown;
use super::control::Control;
use super::token::{Token, tokens};
use crate::session::Role;

/// What somebody asks the console for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing, as drivers do to see whether the connection is alive.
    Empty,
    /// One of the tables.
    Show(Show),
    /// A setting of PostgreSQL that drivers look at: its name and its value.
    ShowSetting(&'static str, &'static str),
    /// The same, set; it is ignored.
    SetSetting,
    /// Read the configuration again.
    Reload,
    /// End the process.
    Shutdown(Shutdown),
    /// Close the connection of a client, by its number.
    KillClient(u64),
    /// Hold back, close, end: PAUSE and the like.
    Control(Control),
    /// PgBouncer knows it, pgweir does not yet.
    Unsupported {
        /// The command.
        what: String,
        /// Who may give it.
        role: Role,
    },
}

/// Why a text is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is none; its beginning is shown.
    #[error("invalid command '{0}', use SHOW HELP;")]
    Invalid(String),
    /// `KILL_CLIENT` without the number of a client.
    #[error("invalid client pointer supplied")]
    ClientId,
}

macro_rules! shows {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),* $(,)?) => {
        /// What can be shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Show { $($(#[$doc])* $variant),* }

        impl Show {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word behind `SHOW`.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

shows! {
    /// The commands.
    Help = "HELP",
    /// The version.
    Version = "VERSION",
    /// A row for each pool.
    Pools = "POOLS",
    /// A row for each client.
    Clients = "CLIENTS",
    /// A row for each server connection.
    Servers = "SERVERS",
    /// Totals and averages of each database.
    Stats = "STATS",
    /// Totals of each database.
    StatsTotals = "STATS_TOTALS",
    /// Averages of each database.
    StatsAverages = "STATS_AVERAGES",
    /// Totals and averages over all databases.
    Totals = "TOTALS",
    /// A row for each database.
    Databases = "DATABASES",
    /// A row for each user.
    Users = "USERS",
    /// A row for each prepared statement.
    PreparedStatements = "PREPARED_STATEMENTS",
    /// A row for each setting.
    Config = "CONFIG",
    /// How many there are of what.
    Lists = "LISTS",
    /// Whether it is paused.
    State = "STATE",
    /// Other poolers of a group.
    Peers = "PEERS",
    /// Connections to them.
    PeerPools = "PEER_POOLS",
    /// A row for each host name that is looked up.
    DnsHosts = "DNS_HOSTS",
    /// A row for each zone of host names.
    DnsZones = "DNS_ZONES",
}

/// What PgBouncer answers for settings that drivers look at or set without need.
const SETTINGS: [(&str, &str); 6] = [
    ("client_encoding", "UTF-8"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
    ("extra_float_digits", "2"),
];

/// Tables of PgBouncer that are not here yet. `FDS` hands out secrets, so it is for administrators.
const OTHER_SHOWS: [(&str, Role); 4] =
    [("ACTIVE_SOCKETS", Role::Stats), ("FDS", Role::Admin), ("MEM", Role::Stats), ("SOCKETS", Role::Stats)];

/// How much of a text an error repeats, in characters.
const SHOWN: usize = 200;

impl Command {
    /// Reads a command: keywords in any case, arguments bare or in double quotes, an optional `;` at the end.
    ///
    /// # Errors
    ///
    /// [`ParseError`], whose text is PgBouncer's.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::Invalid(text.trim().chars().take(SHOWN).collect());
        let tokens = tokens(text).ok_or_else(invalid)?;
        let tokens = match &tokens[..] {
            [rest @ .., Token::Semicolon] => rest,
            all => all,
        };
        match tokens {
            [] => Ok(Self::Empty),
            [Token::Word(command)] => Self::of(command, None).unwrap_or_else(|| Err(invalid())),
            [Token::Word(command), Token::Word(argument)] => {
                Self::of(command, Some(argument)).unwrap_or_else(|| Err(invalid()))
            }
            [Token::Word(set), Token::Word(key), to, Token::Word(_) | Token::Text]
                if is(set, "SET") && to.is_assignment() =>
            {
                Ok(Self::set(key))
            }
            _ => Err(invalid()),
        }
    }

    fn of(command: &str, argument: Option<&str>) -> Option<Result<Self, ParseError>> {
        let known = match (command.to_ascii_uppercase().as_str(), argument) {
            ("SHOW" | "SELECT", Some(what)) => Self::show(what)?,
            ("RELOAD", None) => Self::Reload,
            ("SHUTDOWN", how) => Self::Shutdown(shutdown(how)?),
            ("KILL_CLIENT", id) => return Some(kill_client(id)),
            (word, argument) => Self::Control(Control::of(word, argument)?),
        };
        Some(Ok(known))
    }

    fn show(what: &str) -> Option<Self> {
        if let Some((name, value)) = SETTINGS.into_iter().find(|(name, _)| is(what, name)) {
            return Some(Self::ShowSetting(name, value));
        }
        if let Some(show) = Show::ALL.iter().find(|show| is(what, show.word())) {
            return Some(Self::Show(*show));
        }
        let (word, role) = OTHER_SHOWS.into_iter().find(|(word, _)| is(what, word))?;
        Some(Self::Unsupported { what: format!("SHOW {word}"), role })
    }

    fn set(key: &str) -> Self {
        if SETTINGS.iter().any(|(name, _)| is(key, name)) {
            return Self::SetSetting;
        }
        Self::Unsupported { what: "SET".to_owned(), role: Role::Admin }
    }

    /// Who may give it.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Empty | Self::Show(_) | Self::ShowSetting(..) | Self::SetSetting => Role::Stats,
            Self::Reload | Self::Shutdown(_) | Self::KillClient(_) | Self::Control(_) => Role::Admin,
            Self::Unsupported { role, .. } => *role,
        }
    }
}

fn is(text: &str, keyword: &str) -> bool {
    text.eq_ignore_ascii_case(keyword)
}

fn shutdown(how: Option<&str>) -> Option<Shutdown> {
    match how {
        None => Some(Shutdown::Immediate),
        Some(how) if is(how, "WAIT_FOR_SERVERS") => Some(Shutdown::WaitForServers),
        Some(how) if is(how, "WAIT_FOR_CLIENTS") => Some(Shutdown::WaitForClients),
        Some(_) => None,
    }
}

fn kill_client(id: Option<&str>) -> Result<Command, ParseError> {
    id.and_then(|id| id.parse().ok()).map(Command::KillClient).ok_or(ParseError::ClientId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        let control = |word, database| Command::Control(Control::of(word, database).unwrap());
        let unsupported = |what: &str, role| Command::Unsupported { what: what.to_owned(), role };
        let cases = [
            ("", Command::Empty),
            (" \t\r\n; ", Command::Empty),
            ("SHOW POOLS", Command::Show(Show::Pools)),
            (" show\n pools ; ", Command::Show(Show::Pools)),
            ("SELECT version;", Command::Show(Show::Version)),
            ("\"show\" \"stats_totals\"", Command::Show(Show::StatsTotals)),
            ("show TimeZone", Command::ShowSetting("timezone", "GMT")),
            ("SHOW EXTRA_FLOAT_DIGITS;", Command::ShowSetting("extra_float_digits", "2")),
            ("SET client_encoding TO 'UTF8'", Command::SetSetting),
            ("set extra_float_digits=3", Command::SetSetting),
            ("set datestyle = 'it''s'", Command::SetSetting),
            ("set \"timezone\" to \"UTC\";", Command::SetSetting),
            ("SET pool_mode = session", unsupported("SET", Role::Admin)),
            ("reload", Command::Reload),
            ("SHUTDOWN", Command::Shutdown(Shutdown::Immediate)),
            ("shutdown wait_for_servers;", Command::Shutdown(Shutdown::WaitForServers)),
            ("SHUTDOWN WAIT_FOR_CLIENTS", Command::Shutdown(Shutdown::WaitForClients)),
            ("KILL_CLIENT 42", Command::KillClient(42)),
            ("KILL_CLIENT \"42\"", Command::KillClient(42)),
            ("RECONNECT", control("RECONNECT", None)),
            ("RECONNECT \"My \"\"db\"\"\"", control("RECONNECT", Some("My \"db\""))),
            ("pause app;", control("PAUSE", Some("app"))),
            ("KILL", control("KILL", None)),
            ("show fds", unsupported("SHOW FDS", Role::Admin)),
            ("show sockets", unsupported("SHOW SOCKETS", Role::Stats)),
        ];
        for (text, command) in cases {
            assert_eq!(Command::parse(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_in_pgbouncers_words() {
        for text in [
            "SHOW",
            "SHOW nothing",
            "SHOW POOLS CLIENTS",
            "SELECT 1",
            "SHOW POOLS;;",
            "SHOW POOLS; SHOW POOLS",
            "RELOAD now",
            "SHUTDOWN later",
            "SET timezone",
            "SET = =",
            "RECONNECT \"open",
            "RECONNECT \"\"",
            "SHOW 'pools'",
            "SHOW pööls",
            "-- SHOW POOLS",
            "\0",
        ] {
            let error = Command::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid command '{text}', use SHOW HELP;"));
        }
        for text in ["KILL_CLIENT", "KILL_CLIENT x", "KILL_CLIENT 99999999999999999999"] {
            assert_eq!(Command::parse(text), Err(ParseError::ClientId), "{text}");
        }
    }

    #[test]
    fn an_error_repeats_the_beginning_only() {
        let error = Command::parse(&"é".repeat(60_000)).unwrap_err().to_string();
        assert!(error.chars().count() < SHOWN + 50);
    }

    #[test]
    fn only_looking_is_for_everybody() {
        for text in ["", "SHOW CONFIG", "SHOW timezone", "SET timezone = UTC", "SHOW MEM"] {
            assert_eq!(Command::parse(text).unwrap().role(), Role::Stats, "{text}");
        }
        for text in ["RELOAD", "SHUTDOWN", "KILL_CLIENT 1", "RECONNECT", "PAUSE", "SHOW FDS", "SET a = b"] {
            assert_eq!(Command::parse(text).unwrap().role(), Role::Admin, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Command::parse(&text);
        }

        #[test]
        fn no_pieces_make_it_panic(text in "(show|set|to|=|;|'|\"|\"\"|[a-z_0-9]{0,3}|\\s|\\PC){0,12}") {
            let _ = Command::parse(&text);
        }

        #[test]
        fn any_name_can_be_quoted(name in "[^\0]{1,20}") {
            let text = format!("RECONNECT \"{}\"", name.replace('"', "\"\""));
            prop_assert_eq!(Command::parse(&text).ok(), Control::of("RECONNECT", Some(&name)).map(Command::Control));
        }
    }
}
