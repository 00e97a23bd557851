"""What the measurements share: a throwaway PostgreSQL, poolers before it with the same settings, and what they use of the
processor."""

import contextlib
import glob
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 30


def env(name, default):
    return os.environ.get(f"BENCH_{name}") or default


WORKERS = int(env("WORKERS", "1"))
PGWEIR = env("PGWEIR", str(ROOT / "target/release/pgweir"))
PGBOUNCER = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin") or ""

INI = """\
[databases]
bench = host=127.0.0.1 port={server} dbname=bench

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/userlist.txt
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 1000
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


def fail(text):
    sys.exit(f"error: {text}")


def server_bin():
    """The folder of the newest PostgreSQL."""
    of_debian = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: -int(path.split("/")[4]))
    on_path = [os.path.dirname(shutil.which("initdb") or "/nowhere/initdb")]
    for folder in on_path + of_debian:
        if all(os.path.exists(f"{folder}/{program}") for program in ("initdb", "postgres")):
            return folder
    fail("no PostgreSQL server: run scripts/debian.sh")


def unprivileged(*command):
    """Neither PostgreSQL nor PgBouncer accepts to be root; pgweir is run the same way."""
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    return [*prefix, *map(str, command)]


def output(*command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **{"env": environment(), **options}
    )
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def environment():
    return {**os.environ, "LC_ALL": "C", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stat(pid):
    """Parent, and ticks of processor time in user and in kernel mode: its own, then those of its ended children."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1]), [int(field) for field in fields[11:15]]


class Daemon:
    """A process of this run's own, ready when its port takes connections."""

    def __init__(self, name, command, port, folder):
        self.name, self.port, self.log = name, port, folder / f"{name}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=folder,
                env=environment(),
            )
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                fail(f"{name} does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def is_ready(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu(self):
        """Seconds of processor time so far, in user and in kernel mode. setpriv has become the pooler itself."""
        _, (user, system, _, _) = stat(self.process.pid)
        return user / TICK, system / TICK

    def cpu_of_all(self):
        """Seconds of processor time so far, its children's included, those that have ended too. It waits until they rest:
        one that ends meanwhile is neither here nor there."""
        before, now = None, self.cpu_at_once()
        while before != now:
            time.sleep(0.3)
            before, now = now, self.cpu_at_once()
        return now / TICK

    def cpu_at_once(self):
        total = sum(stat(self.process.pid)[1])
        for entry in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent, ticks = stat(os.path.basename(entry))
                total += sum(ticks) if parent == self.process.pid else 0
        return total


def start_postgres(folder, binaries, port, **more):
    data = folder / "data"
    output(*unprivileged(
        f"{binaries}/initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C",
        "--pgdata", data,
    ))
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 200,
        "shared_buffers": "128MB", "fsync": "off", "synchronous_commit": "off", "autovacuum": "off", **more,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Daemon("postgres", unprivileged(f"{binaries}/postgres", "-D", data, *options), port, folder)


def address(port):
    return ["-h", "127.0.0.1", "-p", port, "-U", "postgres"]


def fill(port):
    output("psql", *address(port), "-qc", "CREATE DATABASE bench", "postgres")
    output("pgbench", *address(port), "-iqs", "1", "bench")


def start_pooler(name, folder, server, servers, more=""):
    """Starts `pgweir` or `pgbouncer`; `more` goes to pgweir's own section."""
    port = free_port()
    text = INI.format(server=server, port=port, folder=folder, servers=servers)
    if name == "pgweir":
        text += f"\n[pgweir]\nworkers = {WORKERS}\n{more}"
    file = folder / f"{name}.ini"
    file.write_text(text)
    file.chmod(0o644)
    return Daemon(name, unprivileged(folder / "pgweir" if name == "pgweir" else PGBOUNCER, file), port, folder)


def processed(text):
    """The transactions that pgbench counted, of which none may have failed."""
    failed = re.search(r"number of failed transactions: (\d+)", text)
    if failed and failed.group(1) != "0":
        fail(text)
    return int(re.search(r"transactions actually processed: (\d+)", text).group(1))


def versions():
    if not pathlib.Path(PGWEIR).exists():
        fail(f"no {PGWEIR}: run `make build`")
    if not PGBOUNCER:
        fail("no pgbouncer: run scripts/debian.sh or scripts/pgbouncer.sh")
    return {
        # "PgBouncer x (pgweir y)": what it answers to those who look for PgBouncer.
        "pgweir": output(PGWEIR, "--version").strip().split("(")[-1].rstrip(")"),
        "pgbouncer": output(PGBOUNCER, "--version").splitlines()[0],
    }


def knows_prepared(version):
    """PgBouncer follows named statements since 1.21."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= (1, 21)


def facts(binaries, known):
    model = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = output("git", "-C", ROOT, "describe", "--always", "--dirty").strip()
    load = os.getloadavg()[0]
    return "\n".join([
        f"- {os.cpu_count()} CPUs: {model.group(1) if model else platform.machine()}; Linux {platform.release()};"
        f" load before: {load:.1f}",
        f"- {output(f'{binaries}/postgres', '--version').strip()}, on the same machine, over TCP",
        f"- {known['pgweir']} ({commit}), {WORKERS} worker(s)",
        f"- {known['pgbouncer']}",
    ])


@contextlib.contextmanager
def workshop():
    """A folder that PostgreSQL and the poolers can use, with a copy of pgweir, since the build may be closed to others."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pgweir-bench-"))
    try:
        folder.chmod(0o755)
        shutil.copy(PGWEIR, folder / "pgweir")
        (folder / "userlist.txt").write_text('"postgres" ""\n')
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(main):
    """Runs the program, so that what it started is stopped on any way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
