//! The console: PgBouncer's commands over a connection to the database `pgbouncer`.
//!
//! A text becomes a [`Command`], the command is held against the visitor's [`Role`], and its answer is a table of
//! figures that are read at that moment. The tables are laid out in `columns`, a constant for each, and filled in
//! `rows`. What is for the program as a whole, reload and shutdown, goes to its [`Verbs`].

mod averages;
mod columns;
mod command;
mod control;
mod rows;
mod table;
mod token;

pub use command::{Command, ParseError, Show};
pub use control::Control;

use crate::session::{Answer, Answering, Console, Order, Role, Service};
use crate::stats::{Traffic, TrafficSnapshot, unix_micros};
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
    /// Its value, as PgBouncer spells it.
    pub value: String,
    /// The value it has when nobody sets it.
    pub default: String,
    /// Whether a reload can change it.
    pub changeable: bool,
}

/// What the console can have the program do.
pub trait Verbs: Send + Sync + std::fmt::Debug {
    /// Reads the configuration again and takes it over: notices, one a line, or all that is wrong with it. It may
    /// block.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be used; the old one stays in force then.
    fn reload(&self) -> Result<String, Vec<String>>;

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

    async fn answer(&self, service: &Arc<Service>, role: Role, text: &str) -> Answer {
        let command = Command::parse(text).map_err(|error| refusal(error.to_string()))?;
        if command.role() == Role::Admin && role != Role::Admin {
            return Err(refusal("admin access needed"));
        }
        self.traffic.count(|t| &t.queries);
        self.traffic.count(|t| &t.transactions);
        match command {
            Command::Empty => messages(|out| put_message(out, b'I', |_| {})),
            Command::Show(Show::Help) => help(),
            Command::Show(show) => messages(|out| self.table(service, show).put(out)),
            Command::ShowSetting(name, value) => setting(name, value),
            Command::SetSetting => messages(|out| {
                Report::notice("SET ignored").put(out)?;
                put_command_complete(out, "SET")
            }),
            Command::Reload => self.reload().await,
            Command::Shutdown(how) => self.shutdown(how).await,
            Command::KillClient(id) => kill_client(service, id),
            Command::Control(control) => control.run(service).await,
            Command::Unsupported { what, .. } => {
                let text = format!("command not supported yet: {what}");
                Err(Report::error(sqlstate::FEATURE_NOT_SUPPORTED, text))
            }
        }
    }

    fn table(&self, service: &Arc<Service>, show: Show) -> Table {
        use columns as c;
        match show {
            // Help is a notice.
            Show::Version | Show::Help => Table::new(c::VERSION, rows::version()),
            Show::Pools => Table::new(c::POOLS, rows::pools(&service.overview())),
            Show::Clients => Table::new(c::SOCKETS, clients(service)),
            Show::Servers => Table::new(c::SOCKETS, servers(service)),
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
            Show::Config => Table::new(c::CONFIG, self.verbs.effective().iter().map(rows::config)),
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

    /// The files are read where that holds up nobody's traffic.
    async fn reload(&self) -> Answer {
        tracing::info!("RELOAD command issued");
        let verbs = Arc::clone(&self.verbs);
        let result = tokio::task::spawn_blocking(move || verbs.reload()).await;
        match result {
            Ok(Ok(notices)) => messages(|out| {
                notices
                    .lines()
                    .filter(|notice| !notice.is_empty())
                    .try_for_each(|notice| Report::notice(notice).put(out))?;
                put_command_complete(out, "RELOAD")
            }),
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

    fn totals(&self, service: &Service) -> Totals {
        self.averages.with_retired(Self::totals(self, service))
    }
}

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
    let shows: Vec<_> = Show::ALL.iter().map(|show| show.word()).collect();
    let usage = format!(
        "\n\tSHOW {}\n\tRELOAD\n\tRECONNECT [<db>]\n\tKILL_CLIENT <client_id>\n\tSHUTDOWN\n\t\
         SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS",
        shows.join("|")
    );
    messages(|out| {
        Report::notice("Console usage").detail(usage).put(out)?;
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

fn clients(service: &Service) -> Vec<Row> {
    let now = unix_micros();
    let (clients, visitors) = (service.clients.list(), service.clients.visitors());
    let clients = clients.iter().map(|client| rows::client(&client.record, now));
    clients.chain(visitors.iter().map(|visitor| rows::visitor(visitor))).collect()
}

fn servers(service: &Service) -> Vec<Row> {
    let pools = service.pools.list();
    pools.iter().flat_map(|pool| pool.servers().list()).map(|server| rows::server(&server)).collect()
}

fn reload_failed(errors: &[String]) -> Report {
    let first = errors.first().map_or("see logs for additional details", String::as_str);
    Report::error(sqlstate::CONFIG_FILE_ERROR, format!("RELOAD failed: {first}")).detail(errors.join("\n"))
}

fn kill_client(service: &Service, id: u64) -> Answer {
    let client = service.clients.find(id).ok_or_else(|| refusal("client not found"))?;
    client.order(Order::Kill);
    messages(|out| put_command_complete(out, "KILL_CLIENT"))
}
