//! Commands of the console, as PgBouncer spells them.

use super::Shutdown;
use super::control::Control;
use super::token::{Token, tokens};
use crate::session::Role;

/// What somebody asks the console for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A comment and nothing else, as some drivers send to see whether the connection is alive.
    Empty,
    /// One of the tables.
    Show(Show),
    /// A setting of PostgreSQL that drivers look at: its name and its value.
    ShowSetting(&'static str, &'static str),
    /// The same, set; it is ignored.
    SetSetting,
    /// Begin or end a transaction, forget what a session holds: drivers send it unasked, and here it comes to nothing.
    /// This is its tag.
    Nothing(&'static str),
    /// Set a setting of the configuration until the next reload.
    Set {
        /// Its name.
        key: String,
        /// Its value, as it would stand in an ini file.
        value: String,
    },
    /// Read the configuration again.
    Reload,
    /// End the process.
    Shutdown(Shutdown),
    /// Close the connection of a client, by its number; `None` is an argument that is none.
    KillClient(Option<u64>),
    /// Hold back, close, end: PAUSE and the like.
    Control(Control),
}

/// A text is no command; its beginning is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid command '{0}', use SHOW HELP;")]
pub struct ParseError(String);

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
    /// A row for each connection, of clients and of servers.
    Sockets = "SOCKETS",
    /// The same, for those on which something is under way.
    ActiveSockets = "ACTIVE_SOCKETS",
    /// A row for each host name that is looked up.
    DnsHosts = "DNS_HOSTS",
    /// A row for each zone of host names.
    DnsZones = "DNS_ZONES",
    /// What is kept in memory, by kind.
    Memory = "MEM",
    /// A row for each setting, those of pgweir included, with the line that it comes from.
    Settings = "SETTINGS",
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

/// What drivers send unasked, each with its tag. The first two may go on, with READ ONLY or an isolation level.
const NOTHING: [(&str, &str); 12] = [
    ("BEGIN", "BEGIN"),
    ("START TRANSACTION", "BEGIN"),
    ("COMMIT", "COMMIT"),
    ("END", "COMMIT"),
    ("ROLLBACK", "ROLLBACK"),
    ("ABORT", "ROLLBACK"),
    ("DISCARD ALL", "DISCARD ALL"),
    ("RESET ALL", "RESET"),
    ("DEALLOCATE ALL", "DEALLOCATE ALL"),
    ("CLOSE ALL", "CLOSE CURSOR ALL"),
    ("UNLISTEN *", "UNLISTEN"),
    ("SELECT PG_ADVISORY_UNLOCK_ALL()", "SELECT 0"),
];

/// The longest of them, with what may follow.
const NOTHING_LENGTH: usize = 100;

/// How much of a text an error repeats, in characters.
const SHOWN: usize = 200;

impl Command {
    /// Reads a command: keywords in any case, arguments bare or in double quotes, an optional `;` at the end.
    ///
    /// # Errors
    ///
    /// [`ParseError`], whose text is PgBouncer's.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError(text.chars().take(SHOWN).collect());
        if is_comment(text) {
            return Ok(Self::Empty);
        }
        if let Some(tag) = nothing(text) {
            return Ok(Self::Nothing(tag));
        }
        let tokens = tokens(text).ok_or_else(invalid)?;
        let tokens = match &tokens[..] {
            [rest @ .., Token::Semicolon] => rest,
            all => all,
        };
        match tokens {
            [Token::Word(command)] => Self::of(command, None).ok_or_else(invalid),
            [Token::Word(command), Token::Word(argument)] => {
                // As in PgBouncer, "" is as good as no argument.
                let argument = Some(argument.as_ref()).filter(|argument: &&str| !argument.is_empty());
                Self::of(command, argument).ok_or_else(invalid)
            }
            [Token::Word(set), Token::Word(key), to, Token::Word(value) | Token::Text(value)]
                if is(set, "SET") && to.is_assignment() =>
            {
                Ok(Self::set(key, value))
            }
            _ => Err(invalid()),
        }
    }

    fn of(command: &str, argument: Option<&str>) -> Option<Self> {
        Some(match (command.to_ascii_uppercase().as_str(), argument) {
            ("SHOW" | "SELECT", Some(what)) => Self::show(what)?,
            ("RELOAD", None) => Self::Reload,
            ("SHUTDOWN", how) => Self::Shutdown(shutdown(how)?),
            ("KILL_CLIENT", id) => Self::KillClient(client_id(id)),
            (word, argument) => Self::Control(Control::of(word, argument)?),
        })
    }

    fn show(what: &str) -> Option<Self> {
        if let Some((name, value)) = SETTINGS.into_iter().find(|(name, _)| is(what, name)) {
            return Some(Self::ShowSetting(name, value));
        }
        Show::ALL.iter().find(|show| is(what, show.word())).map(|show| Self::Show(*show))
    }

    fn set(key: &str, value: &str) -> Self {
        if SETTINGS.iter().any(|(name, _)| is(key, name)) {
            return Self::SetSetting;
        }
        Self::Set { key: key.to_owned(), value: value.to_owned() }
    }

    /// Who may give it.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Empty | Self::Nothing(_) | Self::Show(_) | Self::ShowSetting(..) | Self::SetSetting => {
                Role::Stats
            }
            Self::Set { .. } | Self::Reload | Self::Shutdown(_) | Self::KillClient(_) | Self::Control(_) => {
                Role::Admin
            }
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

/// The number that a text begins with, as C's `strtoull` reads it: what stands behind it does not count. One that is too
/// large, or below zero, is no client's.
fn client_id(id: Option<&str>) -> Option<u64> {
    let text = id?.trim_start();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
    let number = digits.parse().ok().filter(|_| !text.starts_with('-'));
    (!digits.is_empty()).then(|| number.unwrap_or(u64::MAX))
}

/// The tag of what comes to nothing, also of several such in one text.
fn nothing(text: &str) -> Option<&'static str> {
    if text.len() > 4 * NOTHING_LENGTH {
        return None;
    }
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let tags: Option<Vec<_>> = parts.map(nothing_of).collect();
    tags?.last().copied()
}

fn nothing_of(part: &str) -> Option<&'static str> {
    let words: Vec<_> = part.split_ascii_whitespace().map(str::to_ascii_uppercase).collect();
    let text = words.join(" ");
    let goes_on = |start: &str| {
        let options = text.strip_prefix(start).and_then(|rest| rest.strip_prefix(' '));
        let known = |word: &str| {
            matches!(
                word.trim_end_matches(','),
                "WORK"
                    | "TRANSACTION"
                    | "ISOLATION"
                    | "LEVEL"
                    | "READ"
                    | "ONLY"
                    | "WRITE"
                    | "COMMITTED"
                    | "UNCOMMITTED"
                    | "REPEATABLE"
                    | "SERIALIZABLE"
                    | "NOT"
                    | "DEFERRABLE"
            )
        };
        options.is_some_and(|options| options.split(' ').all(known))
    };
    let is_meant = |start: &str, tag: &str| text == start || (tag == "BEGIN" && goes_on(start));
    NOTHING.into_iter().find(|(start, tag)| is_meant(start, tag)).map(|(_, tag)| tag)
}

/// Whether there is a comment and nothing else, such as the `-- ping` of pgx. An empty text is PgBouncer's to refuse.
fn is_comment(text: &str) -> bool {
    let text = text.trim();
    let comments = |line: &str| line.trim().is_empty() || line.trim_start().starts_with("--");
    text.starts_with("--") && text.lines().all(comments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        let control = |word, database| Command::Control(Control::of(word, database).unwrap());
        let set = |key: &str, value: &str| Command::Set { key: key.to_owned(), value: value.to_owned() };
        let cases = [
            ("-- ping", Command::Empty),
            ("begin", Command::Nothing("BEGIN")),
            (" Start  Transaction ISOLATION LEVEL READ COMMITTED, READ ONLY;", Command::Nothing("BEGIN")),
            ("END;", Command::Nothing("COMMIT")),
            ("ROLLBACK", Command::Nothing("ROLLBACK")),
            (
                "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
                Command::Nothing("RESET"),
            ),
            (" -- a\n\n  -- b\n", Command::Empty),
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
            ("SET pool_mode = session", set("pool_mode", "session")),
            ("SET Pool_Mode TO 'it''s; a = b';", set("Pool_Mode", "it's; a = b")),
            ("SET \"pool_mode\"=\"x y\"", set("pool_mode", "x y")),
            ("SET server_reset_query = ''", set("server_reset_query", "")),
            ("reload", Command::Reload),
            ("SHUTDOWN", Command::Shutdown(Shutdown::Immediate)),
            ("shutdown wait_for_servers;", Command::Shutdown(Shutdown::WaitForServers)),
            ("SHUTDOWN WAIT_FOR_CLIENTS", Command::Shutdown(Shutdown::WaitForClients)),
            ("KILL_CLIENT 42", Command::KillClient(Some(42))),
            ("KILL_CLIENT \"42\"", Command::KillClient(Some(42))),
            ("KILL_CLIENT 042x", Command::KillClient(Some(42))),
            ("KILL_CLIENT \" +42 \"", Command::KillClient(Some(42))),
            ("KILL_CLIENT 0x2a", Command::KillClient(Some(0))),
            ("KILL_CLIENT \"-42\"", Command::KillClient(Some(u64::MAX))),
            ("KILL_CLIENT 99999999999999999999", Command::KillClient(Some(u64::MAX))),
            ("RECONNECT", control("RECONNECT", None)),
            ("RECONNECT \"My \"\"db\"\"\"", control("RECONNECT", Some("My \"db\""))),
            ("pause app;", control("PAUSE", Some("app"))),
            ("KILL", control("KILL", None)),
            ("show sockets", Command::Show(Show::Sockets)),
        ];
        for (text, command) in cases {
            assert_eq!(Command::parse(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_in_pgbouncers_words() {
        for text in [
            "",
            " \t\r\n; ",
            "-- ping\nSHOW POOLS",
            "BEGIN; SHOW POOLS",
            "BEGIN; RELOAD",
            "BEGIN SHUTDOWN",
            "SELECT 1",
            "SHOW FDS",
            "SET pool_mode = 1.5",
            "SET 'pool_mode' = session",
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
            "SHOW 'pools'",
            "SHOW pööls",
            "\0",
        ] {
            let error = Command::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid command '{text}', use SHOW HELP;"));
        }
        for text in ["KILL_CLIENT", "KILL_CLIENT x", "KILL_CLIENT \"\u{2009}\"", "KILL_CLIENT _1"] {
            assert_eq!(Command::parse(text), Ok(Command::KillClient(None)), "{text}");
        }
    }

    #[test]
    fn an_error_repeats_the_beginning_only() {
        let error = Command::parse(&"é".repeat(60_000)).unwrap_err().to_string();
        assert!(error.chars().count() < SHOWN + 50);
    }

    #[test]
    fn only_looking_is_for_everybody() {
        for text in ["--", "SHOW CONFIG", "SHOW timezone", "SET timezone = UTC", "SHOW MEM"] {
            assert_eq!(Command::parse(text).unwrap().role(), Role::Stats, "{text}");
        }
        for text in ["RELOAD", "SHUTDOWN", "KILL_CLIENT 1", "RECONNECT", "PAUSE", "SET a = b"] {
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
