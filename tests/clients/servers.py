"""The throwaway PostgreSQL, and the pooler before it, each on a free port."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PATIENCE = 30
# Fewer than the connections that any driver opens in its case `rivals`.
POOL_SIZE = 2
# Those of a second database, `wide`, for loads.
WIDE_POOL_SIZE = 10


class Server:
    """A process that is told to end when its `with` block does."""

    def __init__(self, command, log, port, end):
        self.port = port
        self.log_file = log
        self.end = end
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            if self.process.poll() is not None:
                sys.exit(f"{self.process.args[0]} ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                sys.exit(f"{self.process.args[0]} is not ready:\n{self.log()}")
            time.sleep(0.02)

    def is_ready(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self):
        return self.log_file.read_text(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(self.end)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Postgres(Server):
    """A throwaway cluster with the user and the database `weir`."""

    SETTINGS = {
        "max_connections": "100",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "autovacuum": "off",
        "max_wal_size": "2GB",
        "listen_addresses": "127.0.0.1",
        "timezone": "UTC",
        "lc_messages": "C",
    }

    def __init__(self, folder):
        bin_folder = find_postgres()
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
        arguments = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [*unprivileged(), str(bin_folder / "initdb"), *arguments, "--pgdata", str(data)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (data / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        setup = "CREATE ROLE weir LOGIN PASSWORD 'weir'\nCREATE DATABASE weir OWNER weir\n"
        single = [str(bin_folder / "postgres"), "--single", "-F", "-c", "exit_on_error=on", "-D", str(data), "postgres"]
        subprocess.run([*unprivileged(), *single], input=setup, text=True, check=True, capture_output=True)
        port = free_port()
        settings = [f"--{name}={value}" for name, value in self.SETTINGS.items()]
        command = [str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), "-k", "", *settings]
        self.pid_file = data / "postmaster.pid"
        super().__init__([*unprivileged(), *command], folder / "postgres.log", port, signal.SIGINT)

    def is_ready(self):
        lines = self.pid_file.read_text().splitlines() if self.pid_file.exists() else []
        return len(lines) > 7 and lines[7].strip() == "ready"


class Pooler(Server):
    """The pooler: few servers, many clients. `PGWEIR_CLIENTS_SETTINGS` holds more lines for its configuration."""

    def __init__(self, folder, server_port):
        program = os.environ.get("PGWEIR_BIN", str(ROOT / "target/release/pgweir"))
        if not pathlib.Path(program).exists():
            sys.exit(f"no pooler at {program}: run `make build`, or name one with PGWEIR_BIN")
        port = free_port()
        (folder / "userlist.txt").write_text('"weir" "weir"\n"admin" "admin"\n')
        config = folder / "pgbouncer.ini"
        config.write_text(
            f"""[databases]
weir = host=127.0.0.1 port={server_port} dbname=weir
wide = host=127.0.0.1 port={server_port} dbname=weir pool_size={WIDE_POOL_SIZE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/userlist.txt
admin_users = admin
pool_mode = transaction
default_pool_size = {POOL_SIZE}
max_client_conn = 1000
query_wait_timeout = 120
log_connections = 0
log_disconnections = 0
{os.environ.get("PGWEIR_CLIENTS_SETTINGS", "")}
"""
        )
        # Like PostgreSQL, neither pgweir nor PgBouncer wants to be root.
        super().__init__([*unprivileged(), program, str(config)], folder / "pooler.log", port, signal.SIGKILL)


def find_postgres():
    """Debian's newest, else the cached ones."""
    debian = pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(debian, key=lambda path: int(path.parent.parent.name))
    if not found:
        sys.exit("no PostgreSQL below /usr/lib/postgresql: run `make setup`")
    return found[-1].parent


def unprivileged():
    """What makes a command run as the user `postgres` where this program runs as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]


def free_port():
    """Outside of the range that outgoing connections get theirs from."""
    for port in range(10_000 + os.getpid() * 101 % 20_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in free_port.given:
                free_port.given.add(port)
                return port
    sys.exit("no free port")


free_port.given = set()
