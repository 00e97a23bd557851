//! The settings of `[pgbouncer]` and `[pgweir]`, in alphabetical order, as `SHOW CONFIG` prints them.

use super::Kind::{Boolean, Bytes, Choice, Integer, List, Milliseconds, Mode, Path, Seconds, Text};
use super::{COUNT, Change, Kind, POOL_MODE, Setting, Status};

const AUTH_TYPES: Kind =
    Choice(&["any", "trust", "plain", "md5", "cert", "hba", "ldap", "pam", "scram-sha-256"]);
const SSLMODES: Kind = Choice(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]);
const FACILITIES: Kind = Choice(&[
    "auth", "authpriv", "daemon", "user", "local0", "local1", "local2", "local3", "local4", "local5",
    "local6", "local7",
]);
/// What is asked where no `auth_query` is set: PgBouncer's.
pub(crate) const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM \
                          pg_authid WHERE rolname=$1 AND rolcanlogin";
const LIST_USERS: &str = "list the users and their secrets in auth_file, and remove this line";

const fn auth_type() -> Setting {
    let status = Status::Refused {
        harmless: &["any", "trust", "plain", "md5", "hba", "scram-sha-256"],
        tolerated: None,
        instead: "cert waits for TLS, ldap and pam have no way to the directory: use any, trust, plain, md5, hba or \
                  scram-sha-256",
    };
    let about = "How clients prove who they are: any, trust, plain, md5, scram-sha-256, or hba: by the rules of \
                 auth_hba_file. md5 also lets in a user whose secret is a SCRAM verifier; scram-sha-256 never sees a \
                 password.";
    Setting { name: "auth_type", kind: AUTH_TYPES, default: "md5", change: Change::Reload, status, about }
}

const fn client_tls_sslmode() -> Setting {
    let status = Status::Refused {
        harmless: &["disable"],
        tolerated: None,
        instead: "set it to disable, and let clients come by a trusted network, a Unix socket or a TLS proxy",
    };
    let about = "TLS towards clients.";
    Setting {
        name: "client_tls_sslmode",
        kind: SSLMODES,
        default: "disable",
        change: Change::Reload,
        status,
        about,
    }
}

const fn server_tls_sslmode() -> Setting {
    let status = Status::Refused {
        harmless: &["disable"],
        tolerated: Some((&["allow", "prefer"], "not yet honoured: connections to servers are plain text")),
        instead: "set it to disable or prefer (both are plain text for now), or reach the server by a trusted network \
                  or a TLS proxy",
    };
    let about = "TLS towards servers; connections are plain text for now.";
    Setting {
        name: "server_tls_sslmode",
        kind: SSLMODES,
        default: "prefer",
        change: Change::Reload,
        status,
        about,
    }
}

/// All general settings.
#[rustfmt::skip]
pub(in crate::config) const GENERAL: &[Setting] = &[
    Setting::honoured("admin_users", List, "", "Users who may use the whole console."),
    Setting::honoured("application_name_add_host", Boolean, "0", "Append the client's address and port to application_name at its login."),
    Setting::honoured("auth_dbname", Text, "", "Entry of [databases] in which auth_query runs; unset is the one that the client asks for."),
    Setting::honoured("auth_file", Path, "", "File of users and secrets: lines of \"user\" \"secret\"."),
    Setting::honoured("auth_hba_file", Path, "", "Rules in the format of pg_hba.conf, for auth_type = hba."),
    Setting::honoured("auth_ident_file", Path, "", "Maps of user names in the format of pg_ident.conf, for auth_type = hba."),
    Setting::refused("auth_ldap_options", "", LIST_USERS, "How to ask an LDAP server.").secret(),
    Setting::honoured("auth_query", Text, AUTH_QUERY, "Query for name and secret of a user who is not in auth_file; $1 is the name. Better a SECURITY DEFINER function than a superuser as auth_user."),
    auth_type(),
    Setting::honoured("auth_user", Text, "", "User who runs auth_query; unset is no auth_query."),
    Setting::honoured("autodb_idle_timeout", Seconds, "3600", "Forget an unused database of the entry * after this time; 0 is never."),
    Setting::honoured("cancel_wait_timeout", Seconds, "10", "Longest wait of a cancel request for its turn: no more are forwarded at a time than the pool has places; 0 is for ever."),
    Setting::honoured("client_idle_timeout", Seconds, "0", "Disconnect a client idle this long outside a transaction; 0 is never. Longer than the idle time of the clients' own pools, or they see errors."),
    Setting::honoured("client_login_timeout", Seconds, "60", "Disconnect a client that takes longer to log in; 0 is never."),
    Setting::not_yet("client_tls13_ciphers", Text, "", "", "TLS 1.3 suites towards clients."),
    Setting::not_yet("client_tls_ca_file", Path, "", "", "Authorities that clients' certificates must come from."),
    Setting::not_yet("client_tls_cert_file", Path, "", "", "Certificate shown to clients."),
    Setting::not_yet("client_tls_ciphers", Text, "default", "default", "TLS 1.2 suites towards clients."),
    Setting::not_yet("client_tls_dheparams", Text, "auto", "auto", "Diffie-Hellman parameters towards clients."),
    Setting::not_yet("client_tls_ecdhcurve", Text, "auto", "auto", "Elliptic curve towards clients."),
    Setting::not_yet("client_tls_key_file", Path, "", "", "Key of the certificate shown to clients."),
    Setting::not_yet("client_tls_protocols", Text, "secure", "secure", "TLS versions towards clients."),
    client_tls_sslmode(),
    Setting::honoured("conffile", Path, "", "File that the next RELOAD reads."),
    Setting::honoured("default_pool_size", COUNT, "20", "Server connections of one user to one database; 0 is unlimited. Two or three per CPU of the server is a start; more adds waiting inside PostgreSQL instead of before it."),
    Setting::honoured("disable_pqexec", Boolean, "0", "Refuse the simple query protocol.").restart(),
    Setting::honoured("dns_max_ttl", Seconds, "15", "How long the addresses of a host's name are kept. Names in use are looked up again then; servers at an address that is gone are closed as they become free."),
    Setting::honoured("dns_nxdomain_ttl", Seconds, "15", "How long a failed look-up of a host's name is kept."),
    Setting::ignored("dns_zone_check_period", Seconds, "0", "names in use are looked up again after each dns_max_ttl", "How often to look for changes of a DNS zone; 0 is never."),
    Setting::honoured("idle_transaction_timeout", Seconds, "0", "Disconnect a client idle this long inside a transaction; 0 is never. Such a client holds a server and its locks."),
    Setting::honoured("ignore_startup_parameters", List, "", "Startup parameters to drop instead of refusing the client; `options` stands for unknown ones in options."),
    Setting::honoured("job_name", Text, "pgbouncer", "Old name of service_name; shown, and of no other use.").restart(),
    Setting::honoured("listen_addr", List, "", "Addresses to listen on; * is all, empty is none: the Unix socket only.").restart(),
    Setting::honoured("listen_backlog", COUNT, "128", "Connections that the kernel keeps waiting to be accepted.").restart(),
    Setting::honoured("listen_port", Integer { min: 0, max: 65_535 }, "6432", "Port to listen on, and the suffix of the Unix socket.").restart(),
    Setting::honoured("log_connections", Boolean, "1", "Log each login. With many short connections this is most of the log."),
    Setting::honoured("log_disconnections", Boolean, "1", "Log each disconnect and its reason."),
    Setting::honoured("log_format", Choice(&["pgbouncer", "human", "json"]), "pgbouncer", "How a log line looks: pgbouncer, human or json.").restart(),
    Setting::honoured("log_pooler_errors", Boolean, "1", "Log each error that the pooler itself sends to a client."),
    Setting::honoured("log_stats", Boolean, "1", "Log a line of totals each stats_period."),
    Setting::honoured("logfile", Path, "", "File to log to, beside stderr; a reload opens it again."),
    Setting::honoured("login_notify_message", Text, "", "Notice sent to a client at its login; empty is none."),
    Setting::honoured("max_client_conn", COUNT, "100", "Clients at a time. Each needs a file descriptor, and so does each server."),
    Setting::honoured("max_client_prepared_bytes", Bytes, "16777216", "Bytes of the named prepared statements of one client, names and SQL; 0 is unlimited. Guards pgweir's memory against a client that never closes any."),
    Setting::honoured("max_client_prepared_statements", COUNT, "10000", "Named prepared statements of one client; 0 is unlimited. Guards pgweir's memory against a client that never closes any."),
    Setting::honoured("max_db_client_connections", COUNT, "0", "Clients of one database at a time; 0 is unlimited."),
    Setting::honoured("max_db_connections", COUNT, "0", "Server connections of one database over all its users; 0 is unlimited. Keep the sum below max_connections of the server."),
    Setting::honoured("max_packet_size", Bytes, "2147483647", "Largest protocol message let through, in bytes."),
    Setting::honoured("max_prepared_bytes", Bytes, "268435456", "Bytes of all named prepared statements of all clients, each text counted once; 0 is unlimited."),
    Setting::honoured("max_prepared_statements", COUNT, "200", "Named prepared statements that a server connection keeps, shared by all clients; the one unused for longest makes room. 0 lets them through as they are, which fails as soon as a client changes servers."),
    Setting::honoured("max_user_client_connections", COUNT, "0", "Clients of one user at a time; 0 is unlimited."),
    Setting::honoured("max_user_connections", COUNT, "0", "Server connections of one user over all databases; 0 is unlimited."),
    Setting::honoured("metrics_listen", Text, "", "host:port where GET /metrics answers; empty is off. It shows names of databases and users: keep it inside.").restart(),
    Setting::honoured("min_pool_size", COUNT, "0", "Server connections kept open in a pool. Warm pools answer a burst at once, but hold connections when nobody asks."),
    Setting::honoured("peer_id", Integer { min: 0, max: 65_535 }, "0", "This process in a group of peers that clients reach at one address; 0 stands alone. Cancel requests for another's clients are forwarded to it, see [peers]."),
    Setting::honoured("pidfile", Path, "", "File for the process id; -d needs it.").restart(),
    Setting::ignored("pkt_buf", Bytes, "4096", "buffers have their own size", "Size of a socket buffer.").restart(),
    Setting::honoured("pool_idle_timeout", Seconds, "0", "Forget an unused pool after this time; 0 is never."),
    Setting::honoured("pool_mode", POOL_MODE, "session", "When a server goes back to the pool: session, transaction or statement. transaction shares best; session is transparent even to what clients leave on a server."),
    Setting::honoured("query_timeout", Seconds, "0", "End a query, with its client and server, that runs longer; 0 is never. Longer than statement_timeout of the server."),
    Setting::honoured("query_wait_notify", Seconds, "5", "Tell a client that it is waiting for a server after this time; 0 is never."),
    Setting::honoured("query_wait_timeout", Seconds, "120", "Disconnect a client that waits longer for a server; 0 is never. Short fails fast when the server is down; long rides out a restart."),
    Setting::honoured("report_pooler", Boolean, "1", "Tell clients at their login pgbouncer.version, pgbouncer.pool_mode and pgbouncer.max_prepared_statements, as PgBouncer 1.26 does. Off, the welcome is that of PostgreSQL alone."),
    Setting::honoured("reserve_pool_size", COUNT, "0", "Extra server connections of a pool in need."),
    Setting::honoured("reserve_pool_timeout", Seconds, "5", "Wait after which the reserve may be used."),
    Setting::honoured("resolv_conf", Path, "", "Another resolv.conf for the names of hosts: its servers are asked (after /etc/hosts) instead of the system.").restart(),
    Setting::ignored("sbuf_loopcnt", COUNT, "5", "turns have their own length", "Buffers handled before the next client has its turn."),
    Setting::honoured("scram_iterations", Integer { min: 1, max: 1_000_000 }, "4096", "Iterations of a SCRAM secret derived from a plain password. More slows down both guessing and logging in."),
    Setting::honoured("server_check_delay", Seconds, "30", "Idle time after which a server is checked before use."),
    Setting::honoured("server_check_query", Text, "<empty>", "Query that checks a server."),
    Setting::honoured("server_connect_timeout", Seconds, "15", "Give up on a server that takes longer to connect and log in; 0 is never."),
    Setting::honoured("server_fast_close", Boolean, "0", "In session mode, close a server that must go at the end of its transaction."),
    Setting::honoured("server_idle_timeout", Seconds, "600", "Close a server idle this long; 0 is never."),
    Setting::honoured("server_lifetime", Seconds, "3600", "Close an unused server that is older; 0 uses each server once. Bounds what a server's caches grow to."),
    Setting::honoured("server_login_retry", Seconds, "15", "Pause after a failed login to a server; clients who come meanwhile fail at once."),
    Setting::honoured("server_reset_query", Text, "DISCARD ALL", "Query that cleans a server when a client leaves it in session mode; empty is none."),
    Setting::honoured("server_reset_query_always", Boolean, "0", "Run server_reset_query in every mode."),
    Setting::honoured("server_round_robin", Boolean, "0", "Hand out the server idle longest instead of the one used last: even load, but no server gets old enough to be closed."),
    Setting::not_yet("server_tls13_ciphers", Text, "", "", "TLS 1.3 suites towards servers."),
    Setting::not_yet("server_tls_ca_file", Path, "", "", "Authorities that servers' certificates must come from."),
    Setting::not_yet("server_tls_cert_file", Path, "", "", "Certificate shown to servers."),
    Setting::not_yet("server_tls_ciphers", Text, "default", "default", "TLS 1.2 suites towards servers."),
    Setting::not_yet("server_tls_key_file", Path, "", "", "Key of the certificate shown to servers."),
    Setting::not_yet("server_tls_protocols", Text, "secure", "secure", "TLS versions towards servers."),
    server_tls_sslmode(),
    Setting::ignored("service_name", Text, "", "there are no service names here", "Name of a Windows service.").restart(),
    Setting::honoured("share_unnamed_statements", Boolean, "1", "Prepare an unnamed statement that comes again and again once for all clients, where nobody can tell. PostgreSQL then also decides once whether one plan does for all parameters."),
    Setting::honoured("so_reuseport", Boolean, "0", "Let several processes listen on the same port.").restart(),
    Setting::honoured("stats_period", Seconds, "60", "Time between two lines of totals, and the window of averages."),
    Setting::honoured("stats_users", List, "", "Users who may look at the console."),
    Setting::ignored("suspend_timeout", Seconds, "10", "there is no SUSPEND", "Limit of SUSPEND."),
    Setting::honoured("syslog", Boolean, "0", "Log to syslog too."),
    Setting::honoured("syslog_facility", FACILITIES, "daemon", "Facility of syslog."),
    Setting::honoured("syslog_ident", Text, "pgbouncer", "Name in syslog."),
    Setting::honoured("tcp_defer_accept", COUNT, "1", "Leave a client with the kernel until its first bytes are there; 0 is off."),
    Setting::honoured("tcp_keepalive", Boolean, "1", "Probe connections that are silent, so that dead ones are noticed."),
    Setting::honoured("tcp_keepcnt", COUNT, "0", "Lost probes after which a connection is dead; 0 is the system's default."),
    Setting::honoured("tcp_keepidle", COUNT, "0", "Seconds of silence before the first probe; 0 is the system's default."),
    Setting::honoured("tcp_keepintvl", COUNT, "0", "Seconds between probes; 0 is the system's default."),
    Setting::honoured("tcp_socket_buffer", Bytes, "0", "Size of the kernel's socket buffers; 0 is the system's default."),
    Setting::honoured("tcp_user_timeout", Milliseconds, "0", "Milliseconds that sent data may stay unacknowledged; 0 is the system's default."),
    Setting::honoured("track_extra_parameters", List, "", "Further parameters that stay with a client, if the server reports them. All that PostgreSQL itself reports do anyway; extensions and other servers may report more.").restart(),
    Setting::honoured("transaction_timeout", Seconds, "0", "Disconnect a client whose transaction takes longer; 0 is never."),
    Setting::honoured("unix_socket_dir", Path, "/tmp", "Folder of the Unix socket, and of the server's when a database has no host; @ before it makes an abstract one, empty is no socket.").restart(),
    Setting::honoured("unix_socket_group", Text, "", "Group of the Unix socket.").restart(),
    Setting::honoured("unix_socket_mode", Mode, "0777", "Permission bits of the Unix socket.").restart(),
    Setting::honoured("user", Text, "", "User to become after the start; a process started by root needs it.").restart(),
    Setting::honoured("verbose", Integer { min: 0, max: 3 }, "0", "How much to log, 0 to 3."),
    Setting::honoured("workers", Integer { min: 1, max: 1024 }, "", "Threads; the default is one per CPU. 1 costs least per query.").restart(),
];
