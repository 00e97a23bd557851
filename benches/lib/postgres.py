"""A throwaway PostgreSQL."""

import glob
import os
import re
import shutil

from .base import fail, output, unprivileged
from .process import Daemon


def server_bin():
    """The folder of the newest PostgreSQL."""
    of_debian = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: -int(path.split("/")[4]))
    on_path = [os.path.dirname(shutil.which("initdb") or "/nowhere/initdb")]
    for folder in on_path + of_debian:
        if all(os.path.exists(f"{folder}/{program}") for program in ("initdb", "postgres")):
            return folder
    fail("no PostgreSQL server: run scripts/debian.sh")


def start_postgres(folder, binaries, port, **more):
    """It listens on the port and, in the folder, on a Unix socket."""
    data = folder / "data"
    output(*unprivileged(
        f"{binaries}/initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C",
        "--pgdata", data,
    ))
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "max_connections": 200,
        "shared_buffers": "128MB", "fsync": "off", "synchronous_commit": "off", "autovacuum": "off", **more,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Daemon("postgres", unprivileged(f"{binaries}/postgres", "-D", data, *options), port, folder)


def address(port):
    return ["-h", "127.0.0.1", "-p", port, "-U", "postgres"]


def fill(port):
    output("psql", *address(port), "-qc", "CREATE DATABASE bench", "postgres")
    output("pgbench", *address(port), "-iqs", "1", "bench")


def processed(text):
    """The transactions that pgbench counted, of which none may have failed."""
    failed = re.search(r"number of failed transactions: (\d+)", text)
    if failed and failed.group(1) != "0":
        fail(text)
    return int(re.search(r"transactions actually processed: (\d+)", text).group(1))
