"""Prepared statements that read with SELECT * while the table's columns come and go: no client may see an error.

PostgreSQL refuses a prepared statement whose columns changed ("cached plan must not change result type"). pgbench runs many
clients on few servers, a reader looks at what the answers hold, and a session says ALTER TABLE over and over: directly to
PostgreSQL, where the pooler cannot see it, and through the pooler, where it can. The same once more with unnamed statements,
which the pooler prepares too where it can: there, PostgreSQL itself never fails.

DDL_CLIENTS  clients of pgbench     100
DDL_SECONDS  length of each case    4
"""

import os
import re
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager

import psycopg

from cases import DIRECT_PORT, PATIENCE, case, main

CLIENTS = int(os.environ.get("DDL_CLIENTS", "100"))
SECONDS = int(os.environ.get("DDL_SECONDS", "4"))
SERVERS = int(os.environ["WIDE_POOL_SIZE"])
# The database whose pool is wide enough for a load.
POOLED = {"dbname": "wide"}
DIRECT = {"dbname": "weir", "user": "postgres", "port": DIRECT_PORT}
ROWS = 1000
# A table takes 1600 columns over its life, dropped ones counted: no case may say more ALTERs than that.
PAUSE = max(0.02, SECONDS / 3000)

SCRIPTS = {
    "row": "SELECT * FROM {table} WHERE id = :id;",
    "rows": "SELECT * FROM {table} WHERE id BETWEEN :id AND :id + 5 ORDER BY id;",
    "join": "SELECT a.*, b.text FROM {table} a JOIN {table} b USING (id) WHERE a.id = :id;",
}
# Only with unnamed statements: PostgreSQL cannot take back an error inside a transaction block, and nor can a pooler.
BLOCK = {"block": "BEGIN;\nSELECT * FROM {table} WHERE id = :id;\nEND;"}


class Repeated:
    """Does something over and over in a thread of its own, as long as its `with` block runs, and raises its error."""

    def __init__(self, step, pause):
        self.step, self.pause = step, pause
        self.count, self.error = 0, None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.done.wait(self.pause):
                self.step(self.count)
                self.count += 1
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), f"{self.step.__name__} hangs"
        if self.error:
            raise self.error


@contextmanager
def opened(**address):
    with psycopg.connect("", autocommit=True, **address) as connection:
        yield connection


def make(table):
    with opened(**DIRECT) as owner:
        owner.execute(f"DROP TABLE IF EXISTS {table}")
        owner.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, text text NOT NULL)")
        owner.execute(f"INSERT INTO {table} SELECT id, 'row ' || id FROM generate_series(1, {ROWS}) AS id")
        owner.execute(f"ALTER TABLE {table} OWNER TO weir")


def columns_ever(table):
    """How many columns the table has had, from PostgreSQL itself."""
    with opened(**DIRECT) as looker:
        look = "SELECT max(attnum) FROM pg_attribute WHERE attrelid = %s::regclass"
        return looker.execute(look, (table,)).fetchone()[0]


def pooler_counts(table):
    """Heals and binds of the statements that read the table, from the pooler's console."""
    heals = binds = 0
    with opened(dbname="pgbouncer", user="admin", password="admin") as console:
        shown = console.execute("SHOW PREPARED_STATEMENTS")
        place = {column.name: number for number, column in enumerate(shown.description)}
        for row in shown:
            if table in row[place["query"]]:
                heals += int(row[place["heals"]])
                binds += int(row[place["binds"]])
    return heals, binds


def pgbench(folder, protocol, table):
    """Runs the load, in which no client may fail; gives the number of transactions."""
    scripts = []
    for name, text in (SCRIPTS if protocol == "prepared" else SCRIPTS | BLOCK).items():
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as script:
            script.write(f"\\set id random(1, {ROWS})\n{text.format(table=table)}\n")
        scripts.append(f"--file={path}")
    command = [
        "pgbench", "--no-vacuum", f"--protocol={protocol}", f"--client={CLIENTS}", "--jobs=2", f"--time={SECONDS}",
        *scripts, POOLED["dbname"],
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE + 2 * SECONDS, check=False)
    output = done.stdout + done.stderr
    errors = re.findall(r".*(?:error|aborted|fatal).*", output, re.IGNORECASE)
    assert done.returncode == 0 and not errors, f"{len(errors)} errors: {errors[:3]} in {output[-2000:]}"
    return int(re.search(r"number of transactions actually processed: (\d+)", output).group(1))


def reader(connection, table):
    """Looks whether an answer's columns are those that it has, and its row the one that was asked for."""

    def read(turn):
        wanted = turn % ROWS + 1
        cursor = connection.execute(f"SELECT * FROM {table} WHERE id = %s", (wanted,), prepare=True)
        names = [column.name for column in cursor.description]
        row = cursor.fetchone()
        assert row[:2] == (wanted, f"row {wanted}") and len(row) == len(names), (names, row)
        assert names in (["id", "text"], ["id", "text", "extra"]) and row[2:] in ((), (7,)), (names, row)

    return read


def alterer(connection, table):
    """An ALTER TABLE, in turn with the one that undoes it."""

    def alter(turn):
        what = "DROP COLUMN extra" if turn % 2 else "ADD COLUMN extra int DEFAULT 7"
        connection.execute(f"ALTER TABLE {table} {what}")

    return alter


def load(protocol, table, **altering):
    # A table for each case, so that the pooler's counts are of this case only.
    make(table)
    with tempfile.TemporaryDirectory(prefix="pgweir-ddl-") as folder, opened(**POOLED) as looks, opened(**altering) as alters:
        with Repeated(reader(looks, table), 0.001) as reads, Repeated(alterer(alters, table), PAUSE) as altered:
            transactions = pgbench(folder, protocol, table)
            heals, binds = pooler_counts(table)
    added = columns_ever(table) - 2
    print(
        f"# {protocol}, {CLIENTS} clients, {SERVERS} servers, {SECONDS} s: {transactions} transactions,"
        f" {reads.count} reads checked, {altered.count} alters, 0 errors, {heals} heals of {binds} binds"
    )
    assert added == (altered.count + 1) // 2 > 0, f"{altered.count} alters, and {added} columns"
    assert transactions > 0 and reads.count > 0
    assert heals > 0, "nothing was healed: has the table been read through prepared statements?"


@case
def tables_altered_behind_the_pooler():
    load("prepared", "altered_behind", **DIRECT)


@case
def tables_altered_through_the_pooler():
    load("prepared", "altered_through", **POOLED)


@case
def unnamed_statements_on_tables_altered_behind_the_pooler():
    load("extended", "unnamed_behind", **DIRECT)


@case
def unnamed_statements_on_tables_altered_through_the_pooler():
    load("extended", "unnamed_through", **POOLED)


main()
