//! pgweir itself, as a process before the demo's PostgreSQL.

use super::cluster::{Cluster, PORT};
use super::error::DemoError;
use super::folder::Folder;
use super::process::Process;
use super::{DEMO, Show};
use crate::net::Address;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// Where a free port is looked for, first PgBouncer's own.
const PORTS: (u16, u16) = (6432, 6531);
/// Where a free port for the exporter is looked for.
const METRICS_PORTS: (u16, u16) = (9127, 9226);

/// A running pgweir. It ends on drop.
#[derive(Debug)]
pub(super) struct Pooler {
    /// Where clients come in, on 127.0.0.1.
    pub(super) port: u16,
    /// Where the exporter answers.
    pub(super) metrics: SocketAddr,
    _process: Process,
}

impl Pooler {
    /// Writes its configuration and starts it.
    pub(super) async fn start(folder: &Folder, cluster: &Cluster, show: Show) -> Result<Self, DemoError> {
        folder.write("userlist.txt", &format!("\"{DEMO}\" \"{}\"\n", cluster.secret))?;
        let log = folder.path().join("pgweir.log");
        let (mut port, mut metrics) = (PORTS.0, METRICS_PORTS.0);
        loop {
            (port, metrics) = (free_port((port, PORTS.1))?, free_port((metrics, METRICS_PORTS.1))?);
            let text = configuration(folder, cluster, show, port, local(metrics));
            let file = folder.write("pgweir.toml", &text)?;
            match Self::try_start(folder, &file, &log).await {
                Ok(process) => return Ok(Self { port, metrics: local(metrics), _process: process }),
                // Another program took a port after it was found free.
                Err(_) if says(&log, "cannot listen on") => (port, metrics) = (port + 1, metrics + 1),
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_start(folder: &Folder, file: &Path, log: &Path) -> Result<Process, DemoError> {
        let program =
            std::env::current_exe().map_err(DemoError::system("find the program of this process"))?;
        let mut command = Command::new(program);
        command.arg(file);
        if let Some(servant) = folder.servant() {
            command.args(["-u", servant.name]);
        }
        let mut process = Process::start("pgweir", &mut command, log.to_owned())?;
        // Its own word counts: somebody else may answer at the port.
        process.ready(|| says(log, "is ready")).await?;
        Ok(process)
    }

    /// Where clients come in.
    pub(super) fn address(&self) -> Address {
        Address::Tcp(local(self.port))
    }
}

fn configuration(folder: &Folder, cluster: &Cluster, show: Show, port: u16, metrics: SocketAddr) -> String {
    let most = show.clients.saturating_add(100);
    // A path between single quotes is taken as it stands.
    let (users, socket) = (folder.path().join("userlist.txt"), &cluster.socket);
    let (users, socket) = (users.display(), socket.display());
    format!(
        "[pgbouncer]\n\
         listen_addr = \"127.0.0.1\"\n\
         listen_port = {port}\n\
         unix_socket_dir = \"\"\n\
         auth_type = \"scram-sha-256\"\n\
         auth_file = '{users}'\n\
         admin_users = [\"{DEMO}\"]\n\
         pool_mode = \"transaction\"\n\
         default_pool_size = {servers}\n\
         max_client_conn = {most}\n\
         log_connections = false\n\
         log_disconnections = false\n\
         \n\
         [pgweir]\n\
         metrics_listen = \"{metrics}\"\n\
         \n\
         [databases.{DEMO}]\n\
         host = '{socket}'\n\
         port = {PORT}\n",
        servers = show.servers,
    )
}

fn says(log: &Path, words: &str) -> bool {
    std::fs::read_to_string(log).is_ok_and(|log| log.contains(words))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn free_port((first, last): (u16, u16)) -> Result<u16, DemoError> {
    // On all addresses: another program may listen on them.
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    (first..=last).find(is_free).ok_or(DemoError::NoPort(first, last))
}
