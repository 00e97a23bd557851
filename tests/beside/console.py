"""Every command of the console, in good and in odd spelling, by each role."""

from scenario import Transcript, scenario
from stage import Files

SHOWS = (
    "HELP", "VERSION", "STATE", "CONFIG", "DATABASES", "POOLS", "CLIENTS", "SERVERS", "SOCKETS", "ACTIVE_SOCKETS", "LISTS",
    "USERS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "PEERS", "PEER_POOLS", "DNS_HOSTS", "DNS_ZONES", "MEM",
    "FDS", "client_encoding", "default_transaction_isolation", "standard_conforming_strings", "datestyle", "timezone",
    "extra_float_digits", "server_version", "server_encoding", "is_superuser", "nothing", "",
)
ORDERED = ("CONFIG", "LISTS", "TOTALS", "STATE", "VERSION", "HELP")

# What is understood, in ways that people and drivers write it.
SPELLINGS = (
    "show version", "Show Version;", "  SHOW   VERSION  ;  ", "SHOW\tVERSION", "SHOW\nVERSION\n;", "SELECT version", "SELECT 1",
    "select pools", "SELECT VERSION()", "\"show\" version", "\"SHOW\" \"VERSION\"", "SHOW \"version\"", "SHOW 'version'",
    "SHOW VERSION;;", "SHOW VERSION; SHOW VERSION", "SHOW VERSION SHOW", "SHOW VERSION POOLS", "", " ", ";", ";;", "-- SHOW VERSION",
    "/* c */ SHOW VERSION", "SHOW VERSION -- c", "SHO VERSION", "SHOW VERSIONS", "SHOW.VERSION", "SHOW=VERSION",
    "SHOW pööls", "\"", "'", "SHOW \"", "SHOW POOLS app", "SHOW FDS 1", "HELP", "\\d", "BEGIN", "COMMIT", "ROLLBACK", "DISCARD ALL",
    "SELECT", "SELECT 1 + 1", "EXPLAIN SHOW POOLS", "SHOW TIME ZONE", "SHOW ALL", "show transaction isolation level",
)

# Arguments that do not fit.
WRONG = (
    "PAUSE nowhere", "RESUME nowhere", "RESUME", "RESUME app", "KILL nowhere", "RECONNECT nowhere", "WAIT_CLOSE nowhere",
    "DISABLE", "DISABLE nowhere", "ENABLE", "ENABLE nowhere", "KILL_CLIENT", "KILL_CLIENT x", "KILL_CLIENT 0", "KILL_CLIENT 999999",
    "KILL_CLIENT 99999999999999999999", "KILL_CLIENT \"999998\"", "KILL_CLIENT -1", "PAUSE pgbouncer", "RESUME pgbouncer",
    "KILL pgbouncer", "DISABLE pgbouncer", "ENABLE pgbouncer", "RECONNECT pgbouncer", "WAIT_CLOSE pgbouncer", "PAUSE app app",
    "PAUSE \"app", "PAUSE \"\"", "PAUSE \"\"", "RESUME \"\"", "RESUME \"\"", "KILL \"\"", "DISABLE \"\"", "ENABLE \"\"", "RECONNECT \"\"",
    "WAIT_CLOSE \"\"", "RELOAD \"\"", "KILL_CLIENT \"\"", "SHOW \"\"", "PAUSE 'app'", "PAUSE app.app", "RELOAD now", "SHUTDOWN later", "SHUTDOWN WAIT_FOR_NOBODY",
    "SUSPEND app", "PAUSE =", "RELOAD = 1", "SET", "SET pool_mode", "SET pool_mode =", "SET pool_mode TO", "SET = transaction",
    "SET pool_mode = nothing", "SET nothing = 1", "SET pool_mode transaction", "SET \"pool_mode\" = session",
    "SET max_client_conn = many", "SET max_client_conn = -1", "SET max_client_conn = 1.5", "SET server_lifetime = soon",
    "SET log_stats = on", "SET log_stats = 2", "SET log_stats = ''", "SET verbose = x", "SET auth_type = magic",
    "SET listen_port = 1", "SET listen_addr = '*'", "SET unix_socket_dir = '/nowhere'", "SET pidfile = 'x'", "SET pkt_buf = 8192",
    "SET peer_id = 70000", "SET server_tls_sslmode = always", "SET client_tls_sslmode = require",
    "SET timezone = UTC", "SET client_encoding = LATIN1", "SET client_encoding TO 'UTF8'", "SET datestyle = 'ISO, DMY'",
    "SET extra_float_digits = 3", "SET standard_conforming_strings = off", "SET default_transaction_isolation = serializable",
    "SET application_name = x", "SET TimeZone TO 'UTC'", "SET SESSION x = 1", "SET search_path TO public", "SET statement_timeout = 0",
)

# Settings at run time. What was set is looked at again.
SETS = (
    ("max_client_conn = 50", "max_client_conn"), ("max_client_conn TO 51", "max_client_conn"),
    ("MAX_CLIENT_CONN = 52", "max_client_conn"), ("max_client_conn = '53'", "max_client_conn"),
    ("default_pool_size=7", "default_pool_size"), ("pool_mode = session", "pool_mode"), ("pool_mode = TRANSACTION", "pool_mode"),
    ("server_lifetime = 1200.5", "server_lifetime"), ("query_wait_timeout = 0", "query_wait_timeout"),
    ("server_idle_timeout = 0x10", "server_idle_timeout"), ("log_connections = 0", "log_connections"),
    ("log_disconnections = 0", "log_disconnections"), ("log_pooler_errors = 0", "log_pooler_errors"),
    ("verbose = 1", "verbose"), ("verbose = 0", "verbose"), ("server_reset_query = 'DISCARD ALL'", "server_reset_query"),
    ("server_reset_query = ''", "server_reset_query"), ("server_check_query = 'select 1'", "server_check_query"),
    ("server_check_query = ''", "server_check_query"), ("server_check_delay = 10", "server_check_delay"),
    ("ignore_startup_parameters = 'extra_float_digits, options'", "ignore_startup_parameters"),
    ("admin_users = 'admin, alice'", "admin_users"), ("stats_users = 'stats,bob'", "stats_users"),
    ("reserve_pool_size = 2", "reserve_pool_size"), ("reserve_pool_timeout = 1.5", "reserve_pool_timeout"),
    ("min_pool_size = 1", "min_pool_size"), ("max_db_connections = 30", "max_db_connections"),
    ("max_user_connections = 31", "max_user_connections"), ("max_db_client_connections = 32", "max_db_client_connections"),
    ("max_user_client_connections = 33", "max_user_client_connections"), ("server_round_robin = 1", "server_round_robin"),
    ("server_fast_close = 1", "server_fast_close"), ("server_reset_query_always = 1", "server_reset_query_always"),
    ("application_name_add_host = 1", "application_name_add_host"), ("autodb_idle_timeout = 10", "autodb_idle_timeout"),
    ("cancel_wait_timeout = 5", "cancel_wait_timeout"), ("client_idle_timeout = 100", "client_idle_timeout"),
    ("client_login_timeout = 50", "client_login_timeout"), ("dns_max_ttl = 20", "dns_max_ttl"),
    ("dns_nxdomain_ttl = 20", "dns_nxdomain_ttl"), ("idle_transaction_timeout = 100", "idle_transaction_timeout"),
    ("transaction_timeout = 100", "transaction_timeout"), ("query_timeout = 100", "query_timeout"),
    ("query_wait_notify = 7", "query_wait_notify"), ("pool_idle_timeout = 100", "pool_idle_timeout"),
    ("login_notify_message = 'hello'", "login_notify_message"), ("max_packet_size = 1000000", "max_packet_size"),
    ("max_prepared_statements = 100", "max_prepared_statements"), ("sbuf_loopcnt = 6", "sbuf_loopcnt"),
    ("scram_iterations = 5000", "scram_iterations"), ("server_connect_timeout = 10", "server_connect_timeout"),
    ("server_login_retry = 3", "server_login_retry"), ("stats_period = 30", "stats_period"), ("suspend_timeout = 5", "suspend_timeout"),
    ("syslog_ident = x", "syslog_ident"), ("syslog_facility = local0", "syslog_facility"), ("tcp_keepalive = 0", "tcp_keepalive"),
    ("tcp_keepidle = 10", "tcp_keepidle"), ("tcp_user_timeout = 1000", "tcp_user_timeout"), ("peer_id = 5", "peer_id"),
    ("auth_type = md5", "auth_type"), ("auth_user = bob", "auth_user"), ("auth_dbname = app", "auth_dbname"),
    ("auth_query = 'SELECT 1'", "auth_query"), ("listen_backlog = 99", "listen_backlog"), ("job_name = x", "job_name"),
    ("conffile = '@FOLDER@/pgbouncer.ini'", "conffile"), ("server_tls_sslmode = prefer", "server_tls_sslmode"),
)


def load(at):
    """The same small load for both: what it does is counted exactly."""
    for user in ("alice", "bob"):
        client = at.client(user, "app")
        client.query("SELECT 1")
        client.query("BEGIN")
        client.query("SELECT 2")
        client.query("COMMIT")
        client.extended("SELECT $1::text", "", ["x"])
        client.close()
    held = at.client("alice", "app", parameters=[("application_name", "held")])
    held.query("SELECT 3")
    busy = at.client("bob", "app", parameters=[("application_name", "busy")])
    busy.query("BEGIN")
    at.until(lambda: sum(row[0] == "C" and row[2] == "app" for row in at.ask("SHOW CLIENTS")) == 2)
    return held, busy


def each(at, commands, user="admin", ordered=True):
    """Each command on a connection of its own if the last one has ended the old one."""
    told, wire = Transcript(at), at.console(user)
    for command in commands:
        answer = wire.query(command)
        told.typed(command, answer, ordered)
        if not str(answer[-1]).startswith("ready"):
            wire = at.console(user)
    return told


@scenario(Files(databases={"second": "host=127.0.0.1 port=@POSTGRES@ pool_size=3 pool_mode=session max_db_connections=9",
                           "forced": "host=127.0.0.1 port=@POSTGRES@ dbname=bench user=forced",
                           "sockets": "dbname=bench"},
                users={"limited": "pool_mode=session max_user_connections=3 pool_size=2"}))
def show(at):
    """Every SHOW, after a little load."""
    clients = load(at)
    told, wire = Transcript(at), at.console()
    for what in SHOWS:
        told.typed(f"SHOW {what}", wire.query(f"SHOW {what}"), what in ORDERED)
    for client in clients:
        client.close()
    return told


@scenario(default_pool_size=1)
def who_uses_a_server(at):
    """The name at a server, and which sockets are active while somebody waits."""
    told, wire = Transcript(at), at.console()
    one, two = (at.client(parameters=[("application_name", name)]) for name in ("one", "two"))
    nobody = at.client()

    def look(what):
        told.typed(f"SHOW SERVERS after {what}", wire.query("SHOW SERVERS"))

    for client, sql in ((one, "SELECT 1"), (two, "SELECT 1"), (two, "SET application_name = 'three'"), (one, "SELECT 1"),
                        (nobody, "SELECT 1"), (one, "BEGIN")):
        client.query(sql)
        look(sql)
    told.typed("SHOW ACTIVE_SOCKETS", wire.query("SHOW ACTIVE_SOCKETS"))
    two.send(b"Q", b"SELECT 1\0")
    at.waiting(1)
    told.typed("SHOW ACTIVE_SOCKETS with a client in line", wire.query("SHOW ACTIVE_SOCKETS"))
    one.close()
    two.until(b"Z")
    look("the one in line")
    return told


@scenario(pool_mode="session")
def who_used_a_server(at):
    """The name at a server that was cleaned."""
    told, wire = Transcript(at), at.console()
    one = at.client(parameters=[("application_name", "one")])
    one.query("SELECT 1")
    told.typed("SHOW SERVERS", wire.query("SHOW SERVERS"))
    one.close()
    at.until(lambda: any(row[4] == "idle" for row in at.ask("SHOW SERVERS")))
    told.typed("SHOW SERVERS after it has left", wire.query("SHOW SERVERS"))
    return told


@scenario(Files(settings={"max_db_client_connections": 1, "max_user_client_connections": 1, "max_db_connections": 5},
                databases={"none": "host=127.0.0.1 port=@POSTGRES@ dbname=bench max_db_client_connections=0",
                           "many": "host=127.0.0.1 port=@POSTGRES@ dbname=bench max_db_client_connections=9"},
                users={"alice": "max_user_client_connections=0", "bob": "max_user_client_connections=9"}))
def limits_of_zero(at):
    """0 of a database or a user is the general limit."""
    told = Transcript(at)
    for user, database in (("bob", "none"), ("bob", "none"), ("alice", "many"), ("alice", "many"), ("bob", "many")):
        told.typed(f"login of {user} to {database}", at.login(user, database)[1])
    for what, column in (("DATABASES", "max_client_connections"), ("USERS", "max_user_client_connections")):
        for row in at.ask(f"SHOW {what}"):
            limit = dict(zip([name for name, _ in row.columns], row))[column]
            told.note(f"{what}: {row[0]} {limit}")
    return told


@scenario(Files(databases={"pgweir": "host=127.0.0.1 port=@POSTGRES@ dbname=bench"}))
def a_database_of_our_name(at):
    told, wire = Transcript(at), at.console()
    client, lines = at.login("alice", "pgweir")
    told.typed("login", lines)
    told.typed("its query", client.query("SELECT 1"))
    for command in ("PAUSE pgweir", "RESUME pgweir", "DISABLE pgweir", "ENABLE pgweir", "RECONNECT pgweir", "KILL pgweir"):
        told.typed(command, wire.query(command))
    return told


@scenario()
def show_as_others(at):
    """Who may see and do what."""
    told = Transcript(at)
    for user in ("stats", "pgbouncer", "alice", "nobody"):
        wire, lines = at.login(user, "pgbouncer")
        told.typed(f"login of {user}", lines)
        if not str(lines[-1]).startswith("ready"):
            continue
        told += each(at, [f"SHOW {what}" for what in ("VERSION", "CONFIG", "FDS", "CLIENTS")], user, False)
        told += each(at, ["RELOAD", "PAUSE", "RESUME", "SUSPEND", "KILL", "KILL app", "DISABLE app", "ENABLE app", "RECONNECT",
                          "WAIT_CLOSE", "KILL_CLIENT 1", "SET verbose = 1", "SET timezone = UTC", "SHUTDOWN",
                          "SHUTDOWN WAIT_FOR_CLIENTS", "NOTHING"], user)
    return told


@scenario(auth_type="trust")
def show_over_the_unix_socket(at):
    """The console over the Unix socket, where `pgbouncer` needs neither password nor mention."""
    told = Transcript(at)
    for user in ("pgbouncer", "admin", "nobody"):
        wire, lines = at.login(user, "pgbouncer", address=at.socket_file())
        told.typed(f"login of {user} at the socket", lines)
        told.typed("SHOW CLIENTS", wire.query("SHOW CLIENTS"))
    return told


@scenario(auth_type="any")
def anybody_is_admin(at):
    told = Transcript(at)
    wire, lines = at.login("whoever", "pgbouncer")
    told.typed("login", lines)
    told.typed("RELOAD", wire.query("RELOAD"))
    return told


@scenario()
def spellings(at):
    return each(at, SPELLINGS)


@scenario()
def wrong_arguments(at):
    return each(at, WRONG)


@scenario()
def set_at_run_time(at):
    told, wire = Transcript(at), at.console()
    for what, key in SETS:
        told.typed(f"SET {what}", wire.query("SET " + what.replace("@FOLDER@", str(at.folder))))
        shown = [line for line in wire.query("SHOW CONFIG") if isinstance(line, tuple) and line[0] == key]
        told.typed(f"SHOW CONFIG of {key}", shown)
    told.typed("RELOAD", wire.query("RELOAD"))
    told.typed("SHOW CONFIG", wire.query("SHOW CONFIG"))
    return told


@scenario()
def console_over_the_extended_protocol(at):
    wire = at.console()
    told = Transcript(at)
    told.typed("SHOW VERSION, extended", wire.extended("SHOW VERSION"))
    return told


@scenario()
def logins_to_the_console(at):
    told = Transcript(at)
    for user, database, password, parameters in (
        ("admin", "pgbouncer", "admin", []),
        ("admin", "pgbouncer", "wrong", []),
        ("stranger", "pgbouncer", "stranger", []),
        ("alice", "pgbouncer", "alice", []),
        ("admin", "pgbouncer", "admin", [("extra_float_digits", "2")]),
        ("admin", "pgbouncer", "admin", [("application_name", "x"), ("client_encoding", "LATIN1"), ("timezone", "UTC")]),
        ("admin", "pgbouncer", "admin", [("nothing_of_ours", "1")]),
        ("admin", "pgbouncer", "admin", [("options", "-c statement_timeout=1")]),
        ("admin", "pgbouncer", "admin", [("replication", "true")]),
    ):
        wire, lines = at.login(user, database, password, parameters)
        told.typed(f"login of {user} by {password} with {parameters}", lines)
        wire.close()
    return told


@scenario()
def pause_and_resume(at):
    told, wire = Transcript(at), at.console()
    at.client().query("SELECT 1")
    for command in ("PAUSE", "PAUSE", "PAUSE app", "SHOW STATE", "SHOW DATABASES", "RESUME app", "RESUME", "RESUME", "PAUSE app",
                    "PAUSE app", "SHOW STATE", "SHOW DATABASES", "RESUME", "RESUME app", "SHOW DATABASES", "PAUSE app", "RESUME app",
                    "DISABLE app", "DISABLE app", "SHOW DATABASES", "ENABLE app", "ENABLE app", "RECONNECT", "RECONNECT app",
                    "WAIT_CLOSE", "WAIT_CLOSE app", "KILL app", "SHOW DATABASES", "KILL app", "RESUME app", "KILL", "SHOW STATE",
                    "KILL", "RESUME", "SUSPEND", "SHOW STATE", "RESUME", "RELOAD", "SHOW STATE"):
        told.typed(command, wire.query(command))
    return told


@scenario()
def pause_waits_for_a_transaction(at):
    told, wire, other = Transcript(at), at.console(), at.console()
    busy, idle = at.client(), at.client("bob")
    busy.query("BEGIN")
    idle.query("SELECT 1")
    wire.send(b"Q", b"PAUSE\0")
    told.note(f"paused soon: {at.until(lambda: dict(r for r in at.ask('SHOW STATE'))['paused'] == 'yes')}")
    told.typed("PAUSE again", other.query("PAUSE"))
    told.typed("PAUSE of one", other.query("PAUSE app"))
    idle.send(b"Q", b"SELECT 2\0")
    at.until(lambda: any(row[4] == "waiting" for row in at.ask("SHOW CLIENTS")))
    told.typed("SHOW POOLS", other.query("SHOW POOLS"), False)
    told.typed("COMMIT", busy.query("COMMIT"))
    told.typed("the answer to PAUSE", wire.until(b"Z"))
    told.typed("SHOW SERVERS", other.query("SHOW SERVERS"))
    told.typed("RESUME", other.query("RESUME"))
    told.typed("the answer to who waited", idle.until(b"Z"))
    return told


@scenario()
def pause_is_given_up_by_resume(at):
    told, wire, other = Transcript(at), at.console(), at.console()
    busy = at.client()
    busy.query("BEGIN")
    wire.send(b"Q", b"PAUSE app\0")
    told.note(f"paused soon: {at.until(lambda: any(r[0] == 'app' and r[-2] == '1' for r in at.ask('SHOW DATABASES')))}")
    told.typed("RESUME", other.query("RESUME app"))
    wire.socket.settimeout(2)
    told.typed("the answer to PAUSE", wire.until(b"Z"))
    told.typed("COMMIT", busy.query("COMMIT"))
    return told


@scenario()
def kill_and_kill_client(at):
    told, wire = Transcript(at), at.console()
    one, two, busy = at.client(), at.client("bob"), at.client("limited")
    for client in (one, two):
        client.query("SELECT 1")
    busy.query("BEGIN")
    number = next(row[-1] for row in at.ask("SHOW CLIENTS") if row[1] == "alice")
    told.note("KILL_CLIENT", *map(str, wire.query(f"KILL_CLIENT {number}")))
    told.typed("who is killed", one.to_the_end())
    told.typed("KILL app", wire.query("KILL app"))
    told.typed("an idle client", two.to_the_end())
    told.typed("one in a transaction", busy.to_the_end())
    told.typed("SHOW POOLS", wire.query("SHOW POOLS"), False)
    again, lines = at.login()
    told.typed("a login while it is paused", lines)
    again.send(b"Q", b"SELECT 1\0")
    told.typed("RESUME app", wire.query("RESUME app"))
    told.typed("its query", again.until(b"Z"))
    return told


@scenario()
def reconnect_and_wait_close(at):
    told, wire, other = Transcript(at), at.console(), at.console()
    busy = at.client()
    busy.query("BEGIN")
    told.typed("RECONNECT", wire.query("RECONNECT app"))
    told.typed("SHOW SERVERS", wire.query("SHOW SERVERS"))
    wire.send(b"Q", b"WAIT_CLOSE app\0")
    told.typed("COMMIT", busy.query("COMMIT"))
    told.typed("the answer to WAIT_CLOSE", wire.until(b"Z"))
    told.typed("SHOW SERVERS", other.query("SHOW SERVERS"))
    return told


@scenario()
def disable_and_enable(at):
    told, wire = Transcript(at), at.console()
    old = at.client()
    told.typed("DISABLE app", wire.query("DISABLE app"))
    told.typed("a query of an old client", old.query("SELECT 1"))
    told.typed("a new client", at.login()[1])
    told.typed("a new client of nobody's", at.login("stranger")[1])
    told.typed("ENABLE app", wire.query("ENABLE app"))
    told.typed("a new client", at.login()[1])
    return told


@scenario()
def reload_of_a_bad_file(at):
    told, wire = Transcript(at), at.console()
    file = at.folder / "pgbouncer.ini"
    good = file.read_text()
    for change in ("nothing_of_ours = 1\n", "pool_mode = sometimes\n", "[nowhere]\nx = 1\n", "max_client_conn = many\n", "just a line\n",
                   "[databases]\nbad = host\n", "[databases]\nbad = nothing=1\n", "[databases]\npgbouncer = host=x\n",
                   "[users]\nalice = pool_mode=never\n", "%include /nowhere/at/all\n", "auth_file = /nowhere/users\n"):
        file.write_text(good + change)
        told.typed(f"RELOAD with {change!r}", wire.query("RELOAD"))
    file.unlink()
    told.typed("RELOAD without a file", wire.query("RELOAD"))
    file.write_text(good.replace("max_client_conn", "x") + "default_pool_size = 9\n[databases]\nnew = host=127.0.0.1\n")
    told.typed("RELOAD of a good one", wire.query("RELOAD"))
    told.typed("SHOW DATABASES", wire.query("SHOW DATABASES"), False)
    return told


def shutdown(how):
    def play(at):
        told, wire = Transcript(at), at.console()
        busy, idle = at.client(), at.client("bob")
        idle.query("SELECT 1")
        busy.query("BEGIN")
        told.typed(f"SHUTDOWN{how}", wire.query(f"SHUTDOWN{how}"))
        if how:
            told.typed("SHUTDOWN again", at_socket(at).query(f"SHUTDOWN{how}"))
            told.typed("a query of an idle client", idle.query("SELECT 1"))
            told.typed("a new client over the socket", at.login("alice", address=at.socket_file())[1])
            told.typed("COMMIT", busy.query("COMMIT"))
            busy.socket.settimeout(1)
            told.typed("and then", busy.until())
            busy.close(), idle.close()
            wire.close()
        else:
            told.typed("one in a transaction", busy.to_the_end())
        told.note(at.ended(5))
        return told

    play.__name__ = "shutdown" + how.lower().replace(" ", "_")
    return play


def at_socket(at):
    wire = at.wire(at.socket_file())
    wire.login("admin", "pgbouncer", "admin")
    return wire


for how in ("", " WAIT_FOR_SERVERS", " WAIT_FOR_CLIENTS"):
    scenario()(shutdown(how))
