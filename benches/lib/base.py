"""Variables, commands, and a folder to work in."""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 30
WRAPPER = []


def env(name, default):
    return os.environ.get(f"BENCH_{name}") or default


PGWEIR = env("PGWEIR", str(ROOT / "target/release/pgweir"))
CACHE = pathlib.Path(os.environ.get("PGWEIR_CACHE") or ROOT / ".cache").resolve()


def newest_pgbouncer():
    """That of the newest suite that scripts/pgbouncer.sh has fetched, or the system's own."""
    for suite in ("sid", "trixie"):
        program = CACHE / "pgbouncer" / suite / "pgbouncer"
        if program.exists():
            return str(program)
    return shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin") or ""


PGBOUNCER = os.environ.get("PGBOUNCER") or newest_pgbouncer()


def fail(text):
    sys.exit(f"error: {text}")


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def environment():
    return {**os.environ, "LC_ALL": "C", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}


def unprivileged(*command):
    """Neither PostgreSQL nor PgBouncer accepts to be root; pgweir is run the same way."""
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    return [*prefix, *WRAPPER, *map(str, command)]


@contextlib.contextmanager
def wrapped(wrapper):
    """What is started meanwhile is started by this command."""
    WRAPPER[:] = wrapper
    try:
        yield
    finally:
        WRAPPER.clear()


def output(*command, stderr_too=False, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **{"env": environment(), **options}
    )
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + (done.stderr if stderr_too else "")


def free_port():
    """One that connections are not given: thousands of clients would soon have taken any of those."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            return listener.getsockname()[1]


def allow_many_files():
    """Clients by the thousand: the poolers inherit this limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


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
