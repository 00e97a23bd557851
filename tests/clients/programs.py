"""The client programs: how each is built and run, and what it needs on the machine."""

import os
import pathlib
import sys
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("PGWEIR_CACHE") or HERE.parent.parent / ".cache").resolve()
BUILT = CACHE / "clients"

# What each driver is asked, with its column in the README; README.md beside this file says what each case holds.
CASES = {
    "connect": None,
    "types": "types",
    "errors": "errors",
    "transactions": "transactions",
    "prepared": "prepared",
    "pipeline": "pipeline",
    "cursor": "cursor",
    "cancel": "cancel",
    "copy": "COPY",
    "large": "large values",
    "notices": "notices",
    "rivals": "rivals",
}


@dataclass(frozen=True)
class Program:
    """A command of this folder. Where a shell command in `needs` fails, it is skipped for want of that thing."""

    command: list
    language: str = ""
    needs: dict = field(default_factory=dict)
    build: list = None
    # Whether it is a driver, which answers for all `CASES`, or a tool with cases of its own.
    is_driver: bool = True


def python(file, **more):
    return Program([sys.executable, f"python/{file}.py"], "Python", **more)


def node(file):
    return Program(["node", f"node/{file}.mjs"], "Node.js", {"node": "command -v node"})


LIBPQ = BUILT / "libpq"

PROGRAMS = {
    "libpq": Program(
        [str(LIBPQ)],
        "C",
        {"C compiler": "command -v cc", "libpq-dev": "command -v pg_config"},
        ["sh", "-c", f'cc -Wall -Wextra -Werror -I"$(pg_config --includedir)" -o "{LIBPQ}" c/libpq.c -lpq -pthread'],
    ),
    "psycopg3": python("psycopg3"),
    "asyncpg": python("asyncpg_driver"),
    "node-postgres": node("node_postgres"),
    "postgres.js": node("postgres_js"),
    "psql": Program([sys.executable, "python/psql.py"], is_driver=False),
    "pgbench": Program([sys.executable, "python/pgbench.py"], is_driver=False),
}
