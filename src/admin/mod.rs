//! The console: PgBouncer's commands over a connection to the database `pgbouncer`.
//!
//! A text becomes a [`Command`], the command is held against the visitor's [`Role`], and its answer is a table of
//! figures that are read at that moment. The tables are laid out in `columns`, a constant for each, and filled in
//! `rows`. What is for the program as a whole, reload and shutdown, goes to its [`Verbs`].

mod averages;
mod columns;
mod command;
mod connections;
mod control;
mod rows;
mod table;
mod token;

pub use command::{Command, ParseError, Show};
pub use control::Control;

use crate::session::{Answer, Answering, Console, Order, Role, Service};
use crate::stats::{Traffic, TrafficSnapshot};
use crate::wire::backend::{Type, put_command_complete, put_data_row, put_row_description};
use crate::wire::{Report, TooLong, put_message, sqlstate};
use averages::{Averages, Statistics, Totals};
use bytes::BytesMut;
use std::sync::Arc;
use table::{Columns, Row, Table};

/// How the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once.
    Immediate,
    /// When no server works for a client any longer.
    WaitForServers,
    /// When all clients have left.
    WaitForClients,
}

/// One setting, as `SHOW CONFIG` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    /// Its name.
    pub key: String,
    /// Its value, as PgBouncer spells it; `None` is NULL.
    pub value: Option<String>,
    /// The value it has when nobody sets it; `None` is NULL.
    pub default: Option<String>,
    /// Whether a reload can change it.
    pub changeable: bool,
    /// The line of the file that it comes from, or what else.
    pub origin: String,
    /// Whether PgBouncer lists it, too.
    pub is_pgbouncers: bool,
}

/// What the console can have the program do.
pub trait Verbs: Send + Sync + std::fmt::Debug {
    /// Reads the configuration again and takes it over, or gives all that is wrong with it. It may block.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be used; the old one stays in force then.
    fn reload(&self) -> Result<(), Vec<String>>;

    /// Sets a general setting until the next reload. It may block.
    ///
    /// # Errors
    ///
    /// When the value cannot be used; nothing has changed then.
    fn set(&self, key: &str, value: &str) -> Result<(), Vec<String>>;

    /// Begins the end of the process.
    fn shutdown(&self, how: Shutdown);

    /// All general settings.
    fn effective(&self) -> Vec<ConfigRow>;
}

/// The console of one process.
#[derive(Debug)]
pub struct AdminConsole {
    verbs: Arc<dyn Verbs>,
    averages: Averages,
    /// Commands count as queries of the database `pgbouncer`.
    traffic: Traffic,
}

impl AdminConsole {
    /// A console whose averages begin now.
    #[must_use]
    pub fn new(verbs: Arc<dyn Verbs>) -> Self {
        Self { verbs, averages: Averages::new(), traffic: Traffic::default() }
    }

    /// Begins a new period of the averages. To be called each `stats_period`.
    pub fn tick(&self, service: &Arc<Service>) {
        self.averages.tick(self.totals(service));
    }

    /// PgBouncer's line for the log, over the period that the last [`tick`](Self::tick) has ended.
    #[must_use]
    pub fn stats_line(&self) -> String {
        self.averages.line()
    }

    /// Keeps the counters of a pool that was removed, so that those of its database do not go down.
    pub fn retire(&self, database: &str, traffic: TrafficSnapshot) {
        self.averages.retire(database, &traffic);
    }

    /// Forgets the counters of a database that nobody uses any longer and that no entry names.
    pub fn forget(&self, database: &str) {
        self.averages.forget(database);
    }

    async fn answer(&self, service: &Arc<Service>, role: Role, text: &str) -> Answer {
        let command = Command::parse(text).map_err(|error| refusal(error.to_string()))?;
        if command.role() == Role::Admin && role != Role::Admin {
            return Err(refusal("admin access needed"));
        }
        self.traffic.count(|t| &t.queries);
        self.traffic.count(|t| &t.transactions);
        match command {
            Command::Empty => messages(|out| put_message(out, b'I', |_| {})),
            Command::Nothing(tag) => messages(|out| put_command_complete(out, tag)),
            Command::Show(Show::Help) => help(),
            Command::Show(show) => messages(|out| self.table(service, show).put(out)),
            Command::ShowSetting(name, value) => setting(name, value),
            Command::SetSetting => messages(|out| {
                Report::notice("SET ignored").put(out)?;
                put_command_complete(out, "SET")
            }),
            Command::Set { key, value } => self.set(key, value).await,
            Command::Reload => self.reload().await,
            Command::Shutdown(how) => self.shutdown(how).await,
            Command::KillClient(id) => kill_client(service, id),
            Command::Control(control) => control.run(service).await,
        }
    }

    fn table(&self, service: &Arc<Service>, show: Show) -> Table {
        use columns as c;
        match show {
            // Help is a notice.
            Show::Version | Show::Help => Table::new(c::VERSION, rows::version()),
            Show::Pools => Table::new(c::POOLS, rows::pools(&service.overview())),
            Show::Clients => Table::new(c::CONNECTIONS, connections::clients(service)),
            Show::Servers => Table::new(c::CONNECTIONS, connections::servers(service)),
            Show::Sockets => Table::new(c::SOCKETS, connections::sockets(service)),
            Show::ActiveSockets => Table::new(c::SOCKETS, connections::active_sockets(service)),
            Show::Stats => self.statistics(service, c::STATS, rows::stats),
            Show::StatsTotals => self.statistics(service, c::STATS_TOTALS, rows::stats_totals),
            Show::StatsAverages => self.statistics(service, c::STATS_AVERAGES, rows::stats_averages),
            Show::Totals => {
                let (_, all) = self.averages.statistics(self.totals(service));
                Table::new(c::TOTALS, rows::totals(&all))
            }
            Show::Databases => {
                Table::new(c::DATABASES, service.overview().databases.iter().map(rows::databases))
            }
            Show::Users => Table::new(c::USERS, service.overview().users.iter().map(rows::users)),
            Show::PreparedStatements => {
                Table::new(c::PREPARED_STATEMENTS, rows::prepared_statements(&service.interner))
            }
            Show::Config => {
                let settings = self.verbs.effective();
                Table::new(
                    c::CONFIG,
                    settings.iter().filter(|setting| setting.is_pgbouncers).map(rows::config),
                )
            }
            Show::Settings => Table::new(c::SETTINGS, self.verbs.effective().iter().map(rows::setting)),
            Show::Memory => Table::new(c::MEMORY, rows::memory(service)),
            Show::Lists => Table::new(c::LISTS, rows::lists(&service.overview())),
            Show::Peers => Table::new(c::PEERS, rows::peers(&service.config.load().peering)),
            Show::PeerPools => Table::new(c::PEER_POOLS, rows::peer_pools(&service.peers.list())),
            Show::DnsHosts => Table::new(c::DNS_HOSTS, rows::dns_hosts(&service.names())),
            Show::DnsZones => Table::new(c::DNS_ZONES, rows::dns_zones(&service.names())),
            Show::State => Table::new(c::STATE, rows::state(service.pools.are_paused())),
        }
    }

    fn statistics(
        &self,
        service: &Service,
        columns: Columns,
        row: impl Fn(String, &Statistics) -> Row,
    ) -> Table {
        let (each, _) = self.averages.statistics(self.totals(service));
        Table::new(columns, each.into_iter().map(|(database, statistics)| row(database, &statistics)))
    }

    fn totals(&self, service: &Service) -> Totals {
        let pools = service.pools.list();
        let live = pools.iter().map(|pool| (pool.id.database.clone(), pool.traffic.snapshot()));
        rows::live(live, self.traffic.snapshot())
    }

    /// A new value takes effect at once, for the pools and clients that are there, too.
    async fn set(&self, key: String, value: String) -> Answer {
        tracing::info!(key, "SET command issued");
        let tag = format!("SET {key}={value}");
        let verbs = Arc::clone(&self.verbs);
        match tokio::task::spawn_blocking(move || verbs.set(&key, &value)).await {
            Ok(Ok(())) => messages(|out| put_command_complete(out, &tag)),
            Ok(Err(errors)) => Err(refusal("SET failed").detail(errors.join("\n"))),
            Err(_) => Err(Report::error(sqlstate::INTERNAL_ERROR, "SET failed")),
        }
    }

    /// The files are read where that holds up nobody's traffic.
    async fn reload(&self) -> Answer {
        tracing::info!("RELOAD command issued");
        let verbs = Arc::clone(&self.verbs);
        let result = tokio::task::spawn_blocking(move || verbs.reload()).await;
        match result {
            // What there is to say about the file is in the log, as at the start.
            Ok(Ok(())) => messages(|out| put_command_complete(out, "RELOAD")),
            Ok(Err(errors)) => Err(reload_failed(&errors)),
            Err(_) => Err(Report::error(sqlstate::INTERNAL_ERROR, "RELOAD failed, see logs")),
        }
    }

    /// As in PgBouncer, an immediate one is not answered: its connection closes when the process is gone, and by that
    /// scripts know when to go on.
    async fn shutdown(&self, how: Shutdown) -> Answer {
        tracing::info!(?how, "SHUTDOWN command issued");
        self.verbs.shutdown(how);
        if how == Shutdown::Immediate {
            std::future::pending::<()>().await;
        }
        messages(|out| put_command_complete(out, "SHUTDOWN"))
    }
}

impl Console for AdminConsole {
    fn run<'a>(&'a self, service: &'a Arc<Service>, role: Role, command: &'a str) -> Answering<'a> {
        Box::pin(self.answer(service, role, command))
    }

    fn greet(&self) {
        self.traffic.count(|t| &t.logins);
    }

    fn columns(&self, command: &str) -> Result<Vec<(&'static str, Type)>, Report> {
        Ok(match Command::parse(command).map_err(|error| refusal(error.to_string()))? {
            Command::Show(show) => columns_of(show).to_vec(),
            Command::ShowSetting(name, _) => vec![(name, Type::Text)],
            _ => Vec::new(),
        })
    }

    fn totals(&self, service: &Service) -> Totals {
        self.averages.with_retired(Self::totals(self, service))
    }
}

fn columns_of(show: Show) -> Columns {
    use columns as c;
    match show {
        Show::Help => &[], // a notice
        Show::Version => c::VERSION,
        Show::Pools => c::POOLS,
        Show::Clients | Show::Servers => c::CONNECTIONS,
        Show::Sockets | Show::ActiveSockets => c::SOCKETS,
        Show::Stats => c::STATS,
        Show::StatsTotals => c::STATS_TOTALS,
        Show::StatsAverages => c::STATS_AVERAGES,
        Show::Totals => c::TOTALS,
        Show::Databases => c::DATABASES,
        Show::Users => c::USERS,
        Show::PreparedStatements => c::PREPARED_STATEMENTS,
        Show::Config => c::CONFIG,
        Show::Settings => c::SETTINGS,
        Show::Lists => c::LISTS,
        Show::State => c::STATE,
        Show::Peers => c::PEERS,
        Show::PeerPools => c::PEER_POOLS,
        Show::DnsHosts => c::DNS_HOSTS,
        Show::DnsZones => c::DNS_ZONES,
        Show::Memory => c::MEMORY,
    }
}

/// PgBouncer's text, with a line of our own commands.
const USAGE: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW PEERS|PEER_POOLS
\tSHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSHOW PREPARED_STATEMENTS|SETTINGS
\tSET key = arg
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
\tWAIT_CLOSE [<db>]
";

/// An error under PgBouncer's usual code.
fn refusal(text: impl Into<String>) -> Report {
    Report::error(sqlstate::PROTOCOL_VIOLATION, text)
}

/// Nothing that is written here can be too long, but if it were, the visitor would hear it.
fn messages(write: impl FnOnce(&mut BytesMut) -> Result<(), TooLong>) -> Answer {
    let mut out = BytesMut::new();
    match write(&mut out) {
        Ok(()) => Ok(out),
        Err(error) => Err(Report::error(sqlstate::INTERNAL_ERROR, error.to_string())),
    }
}

fn help() -> Answer {
    messages(|out| {
        Report::notice("Console usage").detail(USAGE).put(out)?;
        put_command_complete(out, "SHOW")
    })
}

fn setting(name: &'static str, value: &'static str) -> Answer {
    messages(|out| {
        put_row_description(out, &[(name, Type::Text)])?;
        put_data_row(out, [Some(value)].into_iter())?;
        put_command_complete(out, "SHOW")
    })
}

/// The text is PgBouncer's, which has the reason in its log only.
fn reload_failed(errors: &[String]) -> Report {
    let text = "RELOAD failed, see logs for additional details";
    Report::error(sqlstate::CONFIG_FILE_ERROR, text).detail(errors.join("\n"))
}

/// Clients of pools and those of the console have numbers of one kind.
fn kill_client(service: &Service, id: Option<u64>) -> Answer {
    let id = id.ok_or_else(|| refusal("invalid client pointer supplied"))?;
    tracing::info!(id, "KILL_CLIENT command issued");
    match (service.clients.find(id), service.clients.find_visitor(id)) {
        (Some(client), _) => client.order(Order::Kill),
        (None, Some(visitor)) => visitor.dismiss(),
        (None, None) => return Err(refusal("client not found")),
    }
    messages(|out| put_command_complete(out, "KILL_CLIENT"))
}
