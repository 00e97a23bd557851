"""Files that are a little wrong, or odd: whether each of the two starts with it. pgweir must start wherever PgBouncer does, but
where a setting of authentication or TLS would be ignored."""

from scenario import Transcript, scenario
from stage import BASE, Files

# Lines of a section.
ODD = {
    "pgbouncer": (
        "", "nothing_of_ours = 1", "pool_mode = sometimes", "pool_mode = Transaction", "max_client_conn = 0x20", "max_client_conn = 020",
        "max_client_conn = 10k", "max_client_conn = -1", "max_client_conn =", "max_client_conn = 1.5", "max_client_conn = 99999999999",
        "server_lifetime = 1.5", "server_lifetime = 1e3", "server_lifetime = -1", "server_lifetime = soon", "log_stats = on", "log_stats = 2",
        "log_stats = -1", "log_stats =", "listen_port = 70000", "listen_port = 0", "unix_socket_mode = 777", "unix_socket_mode = rwx",
        "unix_socket_mode = 0999", "auth_type = magic", "auth_type = MD5", "auth_type = any", "auth_type = trust", "auth_type = cert",
        "auth_type = hba", "auth_type = pam", "auth_type = ldap", "auth_file = /nowhere/users", "auth_file =", "auth_hba_file = /nowhere/hba",
        "auth_query = SELECT", "auth_user = somebody", "auth_dbname = nowhere", "auth_dbname = pgbouncer", "admin_users = a,,b ,",
        "ignore_startup_parameters = ,", "server_tls_sslmode = always", "server_tls_sslmode = require", "client_tls_sslmode = require",
        "client_tls_sslmode = allow", "server_tls_protocols = tlsv1.9", "server_tls_protocols = tlsv1.2, tlsv1.3", "server_tls_ca_file = /nowhere",
        "pkt_buf = 0", "pkt_buf = 64", "peer_id = 70000", "peer_id = 20000", "syslog_facility = nowhere", "dns_max_ttl = 0",
        "resolv_conf = /nowhere", "resolv_conf = /dev/null", "user = nobody_here", "user = postgres", "unix_socket_group = nowhere", "tcp_keepidle = -1",
        "server_check_query =", "server_reset_query =", "stats_period = 0", "default_pool_size = 0", "scram_iterations = 0", "verbose = 9",
        "verbose = -1", "suspend_timeout = 10", "service_name = x", "job_name = x", "so_reuseport = 1", "tcp_defer_accept = 45",
        "query_wait_notify = 0", "max_packet_size = 10", "sbuf_loopcnt = 0", "track_extra_parameters = search_path, Nothing",
        "[pgbouncer]", "[users]\n[pgbouncer]\nmax_client_conn = 5", "max_client_conn = 5\nmax_client_conn = 6", "  max_client_conn = 5", "max_client_conn=5", "max_client_conn 5", "= 5", "max_client_conn : 5",
        "MAX_CLIENT_CONN = 5", "just words", "; comment", "# comment", "max_client_conn = 5 ; comment", "%include /nowhere/at/all",
        "%include", "%nothing x", "[nowhere]", "[nowhere]\nx = 1", "[ pgbouncer ]", "[pgbouncer", "[]", "listen_backlog = 0",
        "application_name_add_host = 1", "pidfile =", "logfile = /nowhere/log", "pidfile = /nowhere/pid", "unix_socket_dir = /nowhere",
        "unix_socket_dir = @abstract", "listen_addr = nowhere.invalid", "listen_addr =", "listen_addr = 127.0.0.1, 127.0.0.2", "conffile = x",
        "server_round_robin = 1", "server_login_retry = 0", "cancel_wait_timeout = 0", "log_connections = 0x1", "auth_ident_file = /nowhere",
        "auth_ldap_options = x", "max_prepared_statements = -1", "load_balance_hosts = disable", "reserve_pool = 3", "pool_size = 3",
    ),
    "databases": (
        "x =", "x", "x = host", "x = host=", "x = host=a port=1 pool_size=10k", "x = pool_size=0x10", "x = port=0", "x = port=70000", "x = port=abc",
        "x = nothing=1", "x = pool_mode=sometimes", "x = pool_mode=TRANSACTION", "x = host='a", "x = host=a,b", "x = host=a,b port=1,2",
        "x = host=a,,b", "x = host=/tmp", "x = host=@abstract", "x = host=::1", "x = host=[::1]", "x = load_balance_hosts=maybe",
        "x = load_balance_hosts=disable", "pgbouncer = host=a", "* = host=a", "*", "pgweir = host=a", "x = auth_user=a", "x = auth_dbname=app",
        "x = auth_query='SELECT 1'", "x = connect_query='SELECT 1'", "x = connect_query='", "x = min_pool_size=-1", "x = reserve_pool=1",
        "x = reserve_pool_size=1", "x = server_lifetime=1.5", "x = query_wait_timeout=1", "x = max_db_connections=1",
        "x = max_db_client_connections=1", "x = user=''", "x = password=''", "x = dbname=", "x = host=a\nx = host=b", "x = timezone=Nowhere",
        "x = client_encoding=nothing", "x = application_name=a", "x = pool_size=", "x = HOST=a", "x = host=a;port=1", "x = host=a, port=1",
        "x-y.z = host=a", '"x" = host=a', "é = host=a", "x y = host=a", "postgres://h/d = x", "x = postgres://u@h/d", "x = password_file=/nowhere",
        "x = sslmode=require", "x = max_user_connections=1", "x = pool_idle_timeout=1",
    ),
    "users": (
        "alice =", "alice", "alice = pool_mode=session", "alice = pool_mode=x", "alice = nothing=1", "alice = max_user_connections=5",
        "alice = max_user_connections=x", "nobody_here = pool_size=1", "alice = pool_size=1 reserve_pool_size=1",
        "alice = query_timeout=1 idle_transaction_timeout=1 transaction_timeout=1 client_idle_timeout=1 query_wait_timeout=1",
        "alice = max_user_client_connections=1", "alice = password=x", "alice = host=x", "* = pool_mode=session", "alice = query_timeout=1.5",
        "alice = server_lifetime=1",
    ),
    "peers": (
        "1 = host=a", "1 = host=a port=1 pool_size=1", "x = host=a", "0 = host=a", "70000 = host=a", "1 =", "1 = port=1", "1 = host=a user=b",
        "20000 = host=a", "1 = host=/tmp", "1 = host=a\n1 = host=b",
    ),
}


def odd(section):
    def play(at):
        at.kill()
        told = Transcript(at)
        for line in ODD[section]:
            told.append(f"> [{section}] {line}")
            key = line.split("=")[0].strip()
            without = (key,) if key in BASE and key not in ("listen_port",) else ()
            # A section that comes again would begin with its defaults; that of the program is the last one anyway.
            head = "" if section == "pgbouncer" else f"[{section}]\n"
            text = Files(without=without).ini() + f"{head}{line}\n"
            told.note("it starts" if starts(at, text, key) else "it ends")
        return told

    play.__name__ = f"odd_lines_of_{section}"
    return play


def starts(at, text, key):
    """Whether it is there after a moment."""
    files = Files(more={"pgbouncer.ini": text})
    if key in ("listen_addr", "listen_port", "unix_socket_dir"):
        at.write(files)
        return at.survives()
    begun = at.start(files, patience=2) == "it takes connections"
    at.kill()
    return begun


for section in ODD:
    scenario()(odd(section))
