"""The poolers to compare, each started with the same settings."""

import dataclasses
import pathlib
import re
import shlex
import shutil
import signal

from .base import PGBOUNCER, PGWEIR, env, fail, free_port, output, unprivileged
from .process import Daemon

INI = """\
[databases]
bench = host={host} port={server} dbname=bench
as_postgres = host={host} port={server} dbname=bench user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = {folder}/userlist.txt
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 12000
max_prepared_statements = 200
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
log_stats = 0
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 9000
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{port}
    server postgres {host}:{server}
"""


@dataclasses.dataclass(frozen=True)
class Task:
    """What poolers are started for: how they reach PostgreSQL, and how clients log in."""

    folder: pathlib.Path
    server: int
    servers: int = 20
    host: str = "127.0.0.1"
    auth: str = "trust"

    def write(self, file, template, port, old=False, **more):
        """A configuration with what stands in braces filled in."""
        known = {**dataclasses.asdict(self), "port": port, **more}
        text = re.sub(r"\{(\w+)\}", lambda found: str(known.get(found[1], found[0])), template)
        if old:
            text = re.sub(r"max_prepared_statements.*\n", "", text)
        path = self.folder / file
        path.write_text(text)
        path.chmod(0o644)
        return path


class Pgweir:
    """pgweir; `more` goes to its own section."""

    multiplexes, follows_names, speaks_scram, takes_unix = True, True, True, True

    def __init__(self, name="pgweir", workers=1, more=""):
        self.name, self.more = name, f"\n[pgweir]\nworkers = {workers}\n{more}"

    def start(self, task):
        port = free_port()
        file = task.write(f"{self.name.replace(' ', '-')}.ini", INI + self.more, port)
        return Daemon(self.name, unprivileged(task.folder / "pgweir", file), port, task.folder)


class PgBouncer:
    """PgBouncer, or a second one as control."""

    multiplexes, speaks_scram, takes_unix = True, True, True

    def __init__(self, name="PgBouncer"):
        self.name = name

    @property
    def follows_names(self):
        """It follows named statements since 1.21."""
        return tuple(int(part) for part in re.findall(r"\d+", version_of(PGBOUNCER))[:2]) >= (1, 21)

    def start(self, task):
        port = free_port()
        file = task.write(f"{self.name.replace(' ', '-')}.ini", INI, port, old=not self.follows_names)
        return Daemon(self.name, unprivileged(PGBOUNCER, file), port, task.folder)


class HAProxy:
    """The floor: what it costs to pass bytes on without looking at them. Every client has a server of its own."""

    name, multiplexes, follows_names, speaks_scram, takes_unix = "HAProxy", False, True, False, False

    def start(self, task):
        port = free_port()
        file = task.write("haproxy.cfg", HAPROXY, port)
        return Daemon(self.name, unprivileged(haproxy(), "-f", file, "-db"), port, task.folder, signal.SIGTERM)


class Other:
    """A pooler of the caller's: `NAME=TEMPLATE COMMAND…`, where the template is its configuration with {port}, {host},
    {server}, {servers} and {folder} in it, and the command has {config} where the file's path belongs."""

    multiplexes, follows_names, speaks_scram, takes_unix = True, True, False, False

    def __init__(self, text):
        self.name, _, rest = text.strip().partition("=")
        self.template, *self.command = shlex.split(rest)
        if not self.command:
            fail(f"BENCH_OTHER: {text!r} is not NAME=TEMPLATE COMMAND…")

    def start(self, task):
        port = free_port()
        template = pathlib.Path(self.template)
        file = task.write(f"{self.name}{template.suffix}", template.read_text(), port)
        command = [part.replace("{config}", str(file)) for part in self.command]
        return Daemon(self.name, unprivileged(*command), port, task.folder, signal.SIGTERM)


def haproxy():
    return shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") or shutil.which("haproxy")


def poolers():
    """All that there are, or those that BENCH_POOLERS names."""
    found = [Pgweir(), Pgweir("pgweir, 2 workers", 2), PgBouncer(), PgBouncer("control")]
    found += [HAProxy()] if haproxy() else []
    found += [Other(text) for text in env("OTHER", "").split(";") if text.strip()]
    wanted = [name.strip() for name in env("POOLERS", "").split(";") if name.strip()]
    unknown = set(wanted) - {pooler.name for pooler in found}
    if unknown:
        fail(f"BENCH_POOLERS: no {', '.join(sorted(unknown))}; there are {'; '.join(pooler.name for pooler in found)}")
    return [pooler for pooler in found if not wanted or pooler.name in wanted]


def version_of(program):
    return output(program, "--version").splitlines()[0]


def versions():
    if not pathlib.Path(PGWEIR).exists():
        fail(f"no {PGWEIR}: run `make build`")
    if not PGBOUNCER:
        fail("no pgbouncer: run scripts/debian.sh or scripts/pgbouncer.sh")
    return {
        # "PgBouncer x (pgweir y)": what it answers to those who look for PgBouncer.
        "pgweir": output(PGWEIR, "--version").strip().split("(")[-1].rstrip(")"),
        "PgBouncer": version_of(PGBOUNCER),
        **({"HAProxy": re.search(r"HAProxy version (\S+)", output(haproxy(), "-v")).group(1)} if haproxy() else {}),
    }
