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
    # Seconds after which it is taken to hang.
    time: int = 120


def python(file, *arguments):
    return Program([sys.executable, f"python/{file}.py", *arguments], "Python")


def node(file):
    return Program(["node", f"node/{file}.mjs"], "Node.js", {"node": "command -v node"})


LIBPQ = BUILT / "libpq"
GOCODE = "/usr/share/gocode"
PGJDBC = "/usr/share/java/postgresql.jar"


def rust(driver):
    return Program(
        [str(BUILT / "rust/debug/pgweir-client-tests"), driver],
        "Rust",
        {"cargo": "command -v cargo", "libpq-dev": "command -v pg_config"},
        ["cargo", "build", "--quiet", "--locked", "--manifest-path=rust/Cargo.toml", f"--target-dir={BUILT}/rust"],
    )


def go(driver, source):
    """Debian's Go packages are a GOPATH; no module is fetched."""
    settings = f'GO111MODULE=off GOFLAGS= GOPATH={GOCODE} GOCACHE="{BUILT}/go-cache"'
    return Program(
        [str(BUILT / "go-drivers"), driver],
        "Go",
        {"go": "command -v go", source: f"test -e {GOCODE}/src/github.com/lib/pq -a -e {GOCODE}/src/github.com/jackc/pgx/v4"},
        ["sh", "-c", f'cd go && {settings} go build -o "{BUILT}/go-drivers" .'],
    )


PROGRAMS = {
    "libpq": Program(
        [str(LIBPQ)],
        "C",
        {"C compiler": "command -v cc", "libpq-dev": "command -v pg_config"},
        ["sh", "-c", f'cc -Wall -Wextra -Werror -I"$(pg_config --includedir)" -o "{LIBPQ}" c/libpq.c -lpq -pthread'],
    ),
    "psycopg2": python("psycopg2_driver"),
    "psycopg3": python("psycopg3_driver"),
    "asyncpg": python("asyncpg_driver"),
    "sqlalchemy-psycopg2": python("sqlalchemy_driver", "psycopg2"),
    "sqlalchemy-psycopg3": python("sqlalchemy_driver", "psycopg"),
    "sqlalchemy-asyncpg": python("sqlalchemy_driver", "asyncpg"),
    "django": python("django_driver"),
    "node-postgres": node("node_postgres"),
    "postgres.js": node("postgres_js"),
    "drizzle": node("drizzle"),
    "pgjdbc": Program(
        ["java", "-cp", PGJDBC, "java/Pgjdbc.java"], "Java", {"java": "command -v javac", "pgjdbc": f"test -e {PGJDBC}"}
    ),
    "tokio-postgres": rust("tokio-postgres"),
    "deadpool-postgres": rust("deadpool-postgres"),
    "sqlx": rust("sqlx"),
    "diesel": rust("diesel"),
    "pgx": go("pgx", "pgx"),
    "lib/pq": go("pq", "lib/pq"),
    "pdo": Program(
        ["php", "php/pdo.php"],
        "PHP",
        {"php": "command -v php", "pdo_pgsql": "php -r 'exit(extension_loaded(\"pdo_pgsql\") ? 0 : 1);'"},
    ),
    "dbd-pg": Program(["perl", "perl/dbd_pg.pl"], "Perl", {"perl": "command -v perl", "DBD::Pg": "perl -MDBD::Pg -e 1"}),
    "ruby-pg": Program(["ruby", "ruby/ruby_pg.rb"], "Ruby", {"ruby": "command -v ruby", "pg": "ruby -e 'require %(pg)'"}),
    "psql": Program([sys.executable, "python/psql.py"], is_driver=False),
    "pgbench": Program([sys.executable, "python/pgbench.py"], is_driver=False),
    # Longer where DDL_SECONDS asks for it.
    "ddl": Program([sys.executable, "python/ddl.py"], is_driver=False, time=600),
    # The last one: it says SET client_min_messages, which stays on the servers and would keep notices from others.
    "active-record": Program(
        ["ruby", "ruby/active_record.rb"],
        "Ruby",
        {"ruby": "command -v ruby", "ActiveRecord": "ruby -e 'require %(active_record)'"},
    ),
}
