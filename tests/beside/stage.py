"""A PostgreSQL, and before it PgBouncer and pgweir on the same files."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def newest_pgweir():
    """The build to test: PGWEIR_BIN, or the one that was made last."""
    if os.environ.get("PGWEIR_BIN"):
        return os.environ["PGWEIR_BIN"]
    built = [path for kind in ("debug", "release") if (path := ROOT / "target" / kind / "pgweir").exists()]
    if not built:
        sys.exit("error: no pgweir in target: run `cargo build`")
    return str(max(built, key=lambda path: path.stat().st_mtime))


sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "benches"))
os.environ["BENCH_PGWEIR"] = newest_pgweir()

from lib.base import PATIENCE, PGBOUNCER, environment, free_port, output, unprivileged  # noqa: E402
from lib.postgres import address, server_bin, start_postgres  # noqa: E402

from protocol import Wire  # noqa: E402

# A user is named after what is special about them; the password is the name.
USERS = ("alice", "bob", "admin", "stats", "nobody", "pgbouncer", "single", "limited", "forced", "impatient", "stranger")
UNKNOWN_TO_THE_POOLER = ("stranger",)

BASE = {
    "listen_addr": "127.0.0.1",
    "listen_port": "@PORT@",
    "unix_socket_dir": "@FOLDER@",
    "auth_type": "scram-sha-256",
    "auth_file": "@FOLDER@/userlist.txt",
    "admin_users": "admin",
    "stats_users": "stats",
    "logfile": "@FOLDER@/log",
    "pidfile": "@FOLDER@/pid",
    "pool_mode": "transaction",
    "server_tls_sslmode": "disable",
}
DATABASES = {"app": "host=127.0.0.1 port=@POSTGRES@ dbname=bench"}


@dataclasses.dataclass
class Files:
    """What both poolers are started with. @PORT@ and @FOLDER@ are each pooler's own, @POSTGRES@ is the server's port."""

    settings: dict = dataclasses.field(default_factory=dict)
    databases: dict = dataclasses.field(default_factory=dict)
    users: dict = dataclasses.field(default_factory=dict)
    peers: dict = dataclasses.field(default_factory=dict)
    hba: str = ""
    more: dict = dataclasses.field(default_factory=dict)
    without: tuple = ()

    def ini(self):
        settings = {key: value for key, value in {**BASE, **self.settings}.items() if key not in self.without}
        sections = {"databases": {**DATABASES, **self.databases}, "users": self.users, "peers": self.peers,
                    "pgbouncer": settings}
        return "\n".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
            for name, entries in sections.items() if entries
        )

    def texts(self):
        userlist = "".join(f'"{user}" "{user}"\n' for user in USERS if user not in UNKNOWN_TO_THE_POOLER)
        return {"pgbouncer.ini": self.ini(), "userlist.txt": userlist, "hba.conf": self.hba, **self.more}

    def but(self, **changes):
        return dataclasses.replace(self, **changes)


class Pooler:
    """One of the two, running."""

    def __init__(self, name, program, parent, postgres):
        self.name, self.postgres = name, postgres
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        self.program, self.process, self.wires = program, None, []
        give(self.folder)

    def substitutions(self):
        return {"@PORT@": str(self.port), "@FOLDER@": str(self.folder), "@POSTGRES@": str(self.postgres.port)}

    def write(self, files):
        for name, content in files.texts().items():
            for key, value in self.substitutions().items():
                content = content.replace(key, value)
            (self.folder / name).write_text(content)
            give(self.folder / name)

    def start(self, files, *arguments, patience=PATIENCE):
        self.write(files)
        self.launch(*arguments)
        deadline = time.monotonic() + patience
        while not self.takes_connections():
            if self.process.poll() is not None:
                return f"it ended with {self.process.returncode}"
            if time.monotonic() > deadline:
                return "it does not take connections"
            time.sleep(0.01)
        return "it takes connections"

    def launch(self, *arguments):
        self.process = subprocess.Popen(
            unprivileged(self.program, *arguments, self.folder / "pgbouncer.ini"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd=self.folder, env=environment(),
        )

    def survives(self, moment=0.7):
        """Whether it still runs after a moment, where its port tells nothing."""
        self.launch()
        try:
            self.process.wait(moment)
            return False
        except subprocess.TimeoutExpired:
            return True
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for left in (self.folder / "pid", self.socket_file()):
            left.unlink(missing_ok=True)

    def takes_connections(self):
        try:
            Wire(self.port, 1).close()
            return True
        except OSError:
            return False

    def log(self):
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text()
        return ""

    def signal(self, name):
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def ended(self, patience=10):
        """How it ended, when it does."""
        try:
            return f"it ended with {self.process.wait(patience)}"
        except subprocess.TimeoutExpired:
            return "it still runs"

    def stop(self):
        for wire in self.wires:
            wire.close()
        if self.is_running():
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def socket_file(self):
        return self.folder / f".s.PGSQL.{self.port}"

    # What scenarios do with it.

    def wire(self, address=None, patience=20):
        wire = Wire(address or self.port, patience)
        self.wires.append(wire)
        return wire

    def login(self, user="alice", database="app", password=None, parameters=(), address=None):
        """A connection, and what came of its login."""
        wire = self.wire(address)
        return wire, wire.login(user, database, user if password is None else password, parameters)

    def client(self, user="alice", database="app", **more):
        """A connection that must have been let in."""
        wire, lines = self.login(user, database, **more)
        if not str(lines[-1]).startswith("ready"):
            raise AssertionError(f"{self.name} does not let {user} into {database}: {lines}")
        return wire

    def console(self, user="admin"):
        return self.client(user, "pgbouncer")

    def ask(self, command):
        """Rows of the console."""
        wire = self.console()
        rows = [line for line in wire.query(command) if hasattr(line, "columns") and isinstance(line, tuple)]
        wire.close()
        return rows

    def until(self, what, patience=15):
        """Waits until it is so."""
        deadline = time.monotonic() + patience
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def waiting(self, count):
        """Waits until so many clients are in line."""
        return self.until(lambda: sum(int(row[3]) for row in self.ask("SHOW POOLS")) == count)

    def same(self, line):
        """A line without what is this pooler's own."""
        line = str(line)
        for mark, value in self.substitutions().items():
            line = re.sub(rf"(?<!\d){re.escape(value)}(?!\d)", mark.strip("@"), line)
        return line


def give(path):
    if os.getuid() == 0:
        shutil.chown(path, "postgres", "postgres")


class Stage:
    """The folder and the PostgreSQL that all scenarios share."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgweir-beside-"))
        self.folder.chmod(0o755)
        give(self.folder)
        shutil.copy(os.environ["BENCH_PGWEIR"], self.folder / "pgweir")
        self.postgres = start_postgres(self.folder, server_bin(), free_port(), log_min_messages="error")
        try:
            self.fill()
        except BaseException:
            self.close()
            raise

    def fill(self):
        while subprocess.run(["pg_isready", "-q", *map(str, address(self.postgres.port)[:4])], check=False).returncode:
            time.sleep(0.05)
        sql = "".join(f"CREATE ROLE {user} LOGIN PASSWORD '{user}';" for user in USERS)
        for name in ("bench", "second"):
            output("psql", *address(self.postgres.port), "-qc", f"CREATE DATABASE {name}", "postgres")
        output("psql", *address(self.postgres.port), "-qc", sql, "postgres")

    def poolers(self):
        return (
            Pooler("pgbouncer", PGBOUNCER, self.folder, self.postgres),
            Pooler("pgweir", self.folder / "pgweir", self.folder, self.postgres),
        )

    def close(self):
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def versions():
    ours = output(os.environ["BENCH_PGWEIR"], "--version").splitlines()[0]
    return ours, output(PGBOUNCER, "--version").splitlines()[0]
