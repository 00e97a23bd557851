//! From checked values to the model: what no setting can tell alone is found here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Findings, Problem, Remark, Section};
use super::lookup::AuthQuery;
use super::model::{
    Auth, AuthMethod, ClientTimeouts, Config, Database, Dns, Limits, Listen, Log, LogFormat, PoolDefaults,
    PoolMode, StatementLimits, StatsTerms, UnixListen, User, Welcome,
};
use super::outside::Outside;
use super::resolve::{Resolved, Values};
use super::{care, database, lookup, peers, settings, system};

/// Builds the model; it is of use only when `findings` has no errors then.
pub(super) fn build(
    resolved: &Resolved,
    file: &Path,
    outside: &mut Outside,
    findings: &mut Findings,
) -> Config {
    let general = &resolved.general;
    let mut config = Config {
        file: path(general, "conffile").unwrap_or_else(|| file.to_owned()),
        process: system::process(general),
        listen: listen(general, outside, findings),
        auth: auth(general),
        limits: limits(general),
        tcp: system::tcp(general, findings),
        pool: pool(general),
        client: client(general),
        crowd: care::crowd(general),
        log: log(general),
        databases: BTreeMap::new(),
        fallback: None,
        users: BTreeMap::new(),
        ignore_startup_parameters: lower(general.words("ignore_startup_parameters")),
        welcome: welcome(general),
        dns: dns(general, outside, findings),
        peering: peers::peering(general),
        workers: usize::try_from(general.number("workers").unwrap_or(1)).unwrap_or(1),
        metrics_listen: metrics_listen(general, outside, findings),
    };
    if config.listen.addresses.is_empty() && config.listen.unix.is_none() && findings.errors.is_empty() {
        let text = "nowhere to listen: listen_addr and unix_socket_dir are both empty".to_owned();
        error(general, "listen_addr", Problem::Conflict(text), findings);
    }
    advise_pool_sizes(general, config.pool.min_size, config.pool.size, findings);
    for values in &resolved.groups {
        entry(&mut config, values, outside, findings);
    }
    for values in resolved.groups.iter().chain([general]) {
        lookup::advise(values, &config, findings);
    }
    config
}

/// Adds a database or a user.
fn entry(config: &mut Config, values: &Values, outside: &mut Outside, findings: &mut Findings) {
    match &values.section {
        Section::Database(name) => {
            let Some(database) = database::database(values, config, outside, findings) else { return };
            advise_database(config, &database, values, findings);
            if name == "*" {
                config.fallback = Some(Arc::new(database));
            } else {
                config.databases.insert(name.clone(), Arc::new(database));
            }
        }
        Section::User(name) => {
            config.users.insert(name.clone(), Arc::new(user(values)));
        }
        Section::Peer(name) => {
            // A name that is no number has been refused.
            let peer = peers::peer(values, config.pool.size, findings);
            if let (Ok(id), Some(peer)) = (name.parse(), peer) {
                config.peering.peers.insert(id, peer);
            }
        }
        Section::General | Section::Own => {}
    }
}

fn advise_database(config: &Config, database: &Database, values: &Values, findings: &mut Findings) {
    if config.auth.method == AuthMethod::Any && database.user.is_none() {
        let text =
            "auth_type=any does not know who a client is: without a user to log in as nobody gets in here";
        findings.notice(&values.origin, &values.section, None, Remark::Advice(text.to_owned()));
    }
    if database.min_pool_size.is_some() || database.pool_size.is_some() {
        let min = database.min_pool_size.unwrap_or(config.pool.min_size);
        advise_pool_sizes(values, min, database.pool_size.unwrap_or(config.pool.size), findings);
    }
}

fn advise_pool_sizes(values: &Values, min: u32, size: Option<u32>, findings: &mut Findings) {
    if let Some(size) = size.filter(|size| min > *size) {
        let text = format!("{min} is more than the size of the pool, {size}, which bounds it");
        let key = "min_pool_size";
        findings.notice(values.origin(key), &values.section, Some(key), Remark::Advice(text));
    }
}

fn listen(general: &Values, outside: &mut Outside, findings: &mut Findings) -> Listen {
    let mut addresses = Vec::new();
    for word in general.words("listen_addr") {
        match addresses_of(word, outside) {
            Some(found) => addresses.extend(found),
            None => error(
                general,
                "listen_addr",
                bad(word, "*, an address, or a host name that resolves"),
                findings,
            ),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|address| seen.insert(*address));
    Listen {
        addresses,
        port: port(general.number("listen_port")).unwrap_or(6432),
        backlog: general.number("listen_backlog").unwrap_or(128),
        reuse_port: general.is_on("so_reuseport"),
        unix: unix(general),
    }
}

fn unix(general: &Values) -> Option<UnixListen> {
    Some(UnixListen {
        dir: path(general, "unix_socket_dir")?,
        mode: general.number("unix_socket_mode").unwrap_or(0o777),
        group: general.text("unix_socket_group").map(str::to_owned),
    })
}

/// The addresses that a word of `listen_addr` stands for.
fn addresses_of(word: &str, outside: &mut Outside) -> Option<Vec<IpAddr>> {
    if word == "*" {
        return Some(vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    }
    if let Ok(address) = word.parse() {
        return Some(vec![address]);
    }
    let found: Vec<_> = outside.addresses(word, &(word, 0)).iter().map(SocketAddr::ip).collect();
    (!found.is_empty()).then_some(found)
}

fn metrics_listen(general: &Values, outside: &mut Outside, findings: &mut Findings) -> Option<SocketAddr> {
    let text = general.text("metrics_listen")?;
    let address = match text.rsplit_once(':') {
        Some(("" | "*", port)) => port.parse().ok().map(|port: u16| (Ipv4Addr::UNSPECIFIED, port).into()),
        _ => outside.addresses(text, &text).first().copied(),
    };
    if address.is_none() {
        error(general, "metrics_listen", bad(text, "host:port, such as 127.0.0.1:9127"), findings);
    }
    address
}

fn auth(general: &Values) -> Auth {
    let method = match general.text("auth_type") {
        Some("any") => AuthMethod::Any,
        Some("trust") => AuthMethod::Trust,
        Some("plain") => AuthMethod::Plain,
        Some("scram-sha-256") => AuthMethod::ScramSha256,
        Some("hba") => AuthMethod::Hba,
        _ => AuthMethod::Md5,
    };
    Auth {
        method,
        file: path(general, "auth_file"),
        hba_file: path(general, "auth_hba_file"),
        ident_file: path(general, "auth_ident_file"),
        query: AuthQuery::of(general),
        scram_iterations: general.number("scram_iterations").unwrap_or(4096),
        admin_users: general.words("admin_users").iter().cloned().collect(),
        stats_users: general.words("stats_users").iter().cloned().collect(),
    }
}

fn welcome(general: &Values) -> Welcome {
    Welcome {
        report_pooler: general.is_on("report_pooler"),
        add_host: general.is_on("application_name_add_host"),
        message: general.text("login_notify_message").map(str::to_owned),
    }
}

fn limits(general: &Values) -> Limits {
    let clients = general.number("max_client_conn").unwrap_or(100);
    Limits {
        max_client_conn: usize::try_from(clients).unwrap_or(usize::MAX),
        max_user_connections: general.limit("max_user_connections").flatten(),
        max_packet_size: general.number("max_packet_size").unwrap_or(2_147_483_647),
    }
}

fn pool(general: &Values) -> PoolDefaults {
    PoolDefaults {
        mode: pool_mode(general).unwrap_or(PoolMode::Session),
        size: general.limit("default_pool_size").flatten(),
        min_size: general.number("min_pool_size").unwrap_or(0),
        max_db_connections: general.limit("max_db_connections").flatten(),
        server_lifetime: general.timeout("server_lifetime").flatten(),
        server_idle_timeout: general.timeout("server_idle_timeout").flatten(),
        server_connect_timeout: general.timeout("server_connect_timeout").flatten(),
        server_login_retry: general.time("server_login_retry").unwrap_or(Duration::from_secs(15)),
        query_wait_timeout: general.timeout("query_wait_timeout").flatten(),
        server_reset_query: general.text("server_reset_query").unwrap_or_default().to_owned(),
        server_round_robin: general.is_on("server_round_robin"),
        share_unnamed_statements: general.is_on("share_unnamed_statements"),
        max_prepared_statements: general.number("max_prepared_statements").unwrap_or(200),
        statement_limits: statement_limits(general),
        track_extra: general.words("track_extra_parameters").into(),
        reserve: care::reserve(general),
        care: care::care(general),
        unix_socket_dir: path(general, "unix_socket_dir"),
    }
}

fn statement_limits(general: &Values) -> StatementLimits {
    let limit = |name| general.limit(name).flatten().and_then(|limit| usize::try_from(limit).ok());
    StatementLimits {
        client_count: limit("max_client_prepared_statements"),
        client_bytes: limit("max_client_prepared_bytes"),
        bytes: limit("max_prepared_bytes"),
    }
}

fn dns(general: &Values, outside: &mut Outside, findings: &mut Findings) -> Dns {
    let key = "resolv_conf";
    let mut resolv_conf = path(general, key);
    if let Some(path) = resolv_conf.take_if(|path| outside.is_readable(path).is_err()) {
        // PgBouncer starts all the same.
        let text = format!("{} cannot be read, so the system is asked for names", path.display());
        findings.notice(general.origin(key), &general.section, Some(key), Remark::Advice(text));
    }
    let ttl = |name| general.time(name).unwrap_or(Duration::from_secs(15));
    Dns { max_ttl: ttl("dns_max_ttl"), nxdomain_ttl: ttl("dns_nxdomain_ttl"), resolv_conf }
}

fn client(general: &Values) -> ClientTimeouts {
    ClientTimeouts {
        login: general.timeout("client_login_timeout").flatten(),
        idle: general.timeout("client_idle_timeout").flatten(),
        idle_transaction: general.timeout("idle_transaction_timeout").flatten(),
        query: general.timeout("query_timeout").flatten(),
        transaction: general.timeout("transaction_timeout").flatten(),
    }
}

fn log(general: &Values) -> Log {
    Log {
        connections: general.is_on("log_connections"),
        disconnections: general.is_on("log_disconnections"),
        pooler_errors: general.is_on("log_pooler_errors"),
        format: match general.text("log_format") {
            Some("json") => LogFormat::Json,
            Some("human") => LogFormat::Human,
            _ => LogFormat::PgBouncer,
        },
        verbose: general.number("verbose").and_then(|level| u8::try_from(level).ok()).unwrap_or(0),
        stats: StatsTerms {
            logged: general.is_on("log_stats"),
            period: general.timeout("stats_period").flatten().unwrap_or(Duration::from_secs(60)),
        },
        targets: system::log_targets(general),
    }
}

fn user(values: &Values) -> User {
    User {
        pool_mode: pool_mode(values),
        pool_size: values.limit("pool_size"),
        // Of these, 0 is the general value, as in PgBouncer.
        max_user_connections: values.limit("max_user_connections").flatten().map(Some),
        query_timeout: values.timeout("query_timeout").flatten().map(Some),
        idle_transaction_timeout: values.timeout("idle_transaction_timeout").flatten().map(Some),
        transaction_timeout: values.timeout("transaction_timeout").flatten().map(Some),
        client_idle_timeout: values.timeout("client_idle_timeout").flatten().map(Some),
        query_wait_timeout: values.timeout("query_wait_timeout"),
        reserve_pool_size: care::own_reserve(values),
        max_client_connections: values.limit("max_user_client_connections").flatten().map(Some),
    }
}

/// `pool_mode` of a section.
pub(super) fn pool_mode(values: &Values) -> Option<PoolMode> {
    match values.text("pool_mode")? {
        "transaction" => Some(PoolMode::Transaction),
        "statement" => Some(PoolMode::Statement),
        _ => Some(PoolMode::Session),
    }
}

/// A port that the table has bounded.
pub(super) fn port(number: Option<u32>) -> Option<u16> {
    u16::try_from(number?).ok()
}

/// Notes a problem with a key, where it was set.
pub(super) fn error(values: &Values, key: &str, problem: Problem, findings: &mut Findings) {
    let own = settings::find(&Section::Own, key).is_some() && values.section == Section::General;
    let section = if own { &Section::Own } else { &values.section };
    findings.error_at(values.origin(key), section, key, problem);
}

fn bad(shown: &str, expected: &str) -> Problem {
    Problem::BadValue { shown: Some(format!("{shown:?}")), expected: expected.to_owned() }
}

fn path(values: &Values, name: &str) -> Option<PathBuf> {
    values.text(name).map(PathBuf::from)
}

fn lower(words: &[String]) -> std::collections::BTreeSet<String> {
    words.iter().map(|word| word.to_lowercase()).collect()
}
