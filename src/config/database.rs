//! One entry of `[databases]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::build::{error, pool_mode, port};
use super::care;
use super::error::{Findings, Problem, Remark};
use super::hosts::{Balance, Host, Hosts};
use super::lookup::AuthQuery;
use super::model::{Config, Database, Secret};
use super::outside::Outside;
use super::resolve::Values;

/// Builds the entry, or notes why it cannot be.
pub(super) fn database(
    values: &Values,
    config: &Config,
    outside: &mut Outside,
    findings: &mut Findings,
) -> Option<Database> {
    let hosts = hosts(values, config.pool.unix_socket_dir.as_deref(), findings)?;
    let user = values.text("user").map(str::to_owned);
    let password = password(values, outside, findings);
    if password.is_some() && user.is_none() {
        let text = "no effect without user".to_owned();
        let key = if values.text("password").is_some() { "password" } else { "password_file" };
        findings.notice(values.origin(key), &values.section, Some(key), Remark::Advice(text));
    }
    Some(Database {
        hosts,
        port: port(values.number("port")).unwrap_or(5432),
        dbname: values.text("dbname").map(str::to_owned),
        password: password.filter(|_| user.is_some()),
        user,
        pool_size: values.limit("pool_size"),
        min_pool_size: values.number("min_pool_size"),
        pool_mode: pool_mode(values),
        // Of these, 0 is the general value, as in PgBouncer.
        max_db_connections: values.limit("max_db_connections").flatten().map(Some),
        server_lifetime: values.timeout("server_lifetime").flatten().map(Some),
        query_wait_timeout: values.timeout("query_wait_timeout"),
        reserve_pool_size: care::own_reserve(values),
        max_client_connections: values.limit("max_db_client_connections").flatten().map(Some),
        connect_query: values.text("connect_query").map(str::to_owned),
        startup: startup(values),
        auth: AuthQuery::of(values),
    })
}

fn hosts(values: &Values, default_dir: Option<&Path>, findings: &mut Findings) -> Option<Hosts> {
    let balance = match values.text("load_balance_hosts") {
        Some("disable") => Balance::Stick,
        _ => Balance::RoundRobin,
    };
    let problem = match (values.text("host"), default_dir) {
        (Some(text), _) => match Hosts::parse(text, balance) {
            Some(hosts) => {
                if Hosts::has_gap(text) {
                    let advice = Remark::Advice("a comma has no host on one side of it".to_owned());
                    findings.notice(values.origin("host"), &values.section, Some("host"), advice);
                }
                return Some(hosts);
            }
            None => Problem::BadValue {
                shown: Some(format!("{text:?}")),
                expected: "hosts between commas".to_owned(),
            },
        },
        (None, Some(dir)) => return Some(Hosts::one(Host::Unix(dir.to_owned()))),
        (None, None) => {
            let text =
                "without a host the server is in unix_socket_dir, which is empty: it cannot be reached";
            findings.notice(values.origin("host"), &values.section, None, Remark::Advice(text.to_owned()));
            return Some(Hosts::one(Host::Unix(PathBuf::new())));
        }
    };
    error(values, "host", problem, findings);
    None
}

fn password(values: &Values, outside: &mut Outside, findings: &mut Findings) -> Option<Secret> {
    let Some(file) = values.text("password_file") else {
        return values.text("password").map(|password| Secret::new(password.to_owned()));
    };
    if values.text("password").is_some() {
        let problem = Problem::Conflict("password is set as well; keep one of them".to_owned());
        error(values, "password_file", problem, findings);
        return None;
    }
    let problem = match outside.secret(Path::new(file)) {
        Ok(secret) if secret.reveal().is_empty() => format!("the first line of {file} is empty"),
        Ok(secret) => return Some(secret),
        Err(error) => format!("{file}: {error}"),
    };
    error(values, "password_file", Problem::Unreadable(problem), findings);
    None
}

fn startup(values: &Values) -> BTreeMap<String, String> {
    let names = ["application_name", "client_encoding", "datestyle", "timezone"];
    names.iter().filter_map(|name| Some(((*name).to_owned(), values.text(name)?.to_owned()))).collect()
}
