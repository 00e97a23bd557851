//! What pgweir adds of its own to a login: what kind of pooler it is, where the client comes from, a message.

use crate::config::Welcome;
use crate::net::Stream;
use crate::pool::ServerPool;
use crate::wire::{Report, TooLong, backend};
use bytes::BytesMut;

/// The release of PgBouncer that this one takes the place of.
const RELEASE: &str = "1.26.1";

/// The name of a client that gives none.
const NAMELESS: &str = "app";

/// Tells what kind of pooler this is, as PgBouncer 1.26 does, so that a driver can know.
pub(super) fn put_pooler(
    welcome: &Welcome,
    pool: Option<&ServerPool>,
    out: &mut BytesMut,
) -> Result<(), TooLong> {
    if !welcome.report_pooler {
        return Ok(());
    }
    backend::put_parameter_status(out, "pgbouncer.version", RELEASE)?;
    let Some(pool) = pool else { return Ok(()) };
    let (mode, statements) = pool.with_settings(|settings| (settings.mode, settings.max_prepared_statements));
    backend::put_parameter_status(out, "pgbouncer.max_prepared_statements", &statements.to_string())?;
    backend::put_parameter_status(out, "pgbouncer.pool_mode", mode.as_str())
}

/// Gives the operator's message.
pub(super) fn put_message(welcome: &Welcome, out: &mut BytesMut) -> Result<(), TooLong> {
    welcome.message.as_ref().map_or(Ok(()), |message| Report::notice(message.as_str()).put(out))
}

/// Puts the client's address behind the name it gives itself, where that is asked for. What it sets later is its own.
pub(super) fn add_host(
    welcome: &Welcome,
    stream: &Stream,
    listen_port: u16,
    asked: &mut Vec<(String, String)>,
) {
    if !welcome.add_host {
        return;
    }
    let is_name = |(name, _): &&mut (String, String)| name.eq_ignore_ascii_case("application_name");
    let from = place(stream, listen_port);
    match asked.iter_mut().rev().find(is_name) {
        Some((_, value)) => *value = format!("{value} - {from}"),
        None => asked.push(("application_name".to_owned(), format!("{NAMELESS} - {from}"))),
    }
}

/// Where a client is, as PgBouncer writes it: `127.0.0.1:5000`, `[::1]:5000`, `unix(process@host):port`.
fn place(stream: &Stream, listen_port: u16) -> String {
    match stream.peer() {
        Some(address) => match address.ip().to_canonical() {
            ip if ip.is_ipv4() => format!("{ip}:{}", address.port()),
            ip => format!("[{ip}]:{}", address.port()),
        },
        None => {
            let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
            let (process, host) = (stream.peer_process().unwrap_or_default(), host.unwrap_or_default());
            format!("unix({process}@{host}):{listen_port}")
        }
    }
}
