//! pgweir itself, as a process before the demo's PostgreSQL.

use super::cluster::{Cluster, PORT};
use super::error::DemoError;
use super::folder::Folder;
use super::process::Process;
use super::{DEMO, Show};
use crate::net::Address;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
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
        let port = free_port(PORTS)?;
        let metrics = local(free_port(METRICS_PORTS)?);
        folder.write("userlist.txt", &format!("\"{DEMO}\" \"{}\"\n", cluster.secret))?;
        let file = folder.write("pgweir.toml", &configuration(folder, cluster, show, port, metrics))?;
        let program =
            std::env::current_exe().map_err(DemoError::system("find the program of this process"))?;
        let mut command = Command::new(program);
        let log = folder.path().join("pgweir.log");
        let mut process = Process::start("pgweir", command.arg(file), log)?;
        process.ready(|| TcpStream::connect(local(port)).is_ok()).await?;
        Ok(Self { port, metrics, _process: process })
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

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn free_port((first, last): (u16, u16)) -> Result<u16, DemoError> {
    // On all addresses: another program may listen on them.
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    (first..=last).find(is_free).ok_or(DemoError::NoPort(first, last))
}
