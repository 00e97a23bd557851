"""psycopg 2 with its default settings: it puts the values into the SQL by itself, and prepares nothing."""

import datetime
import decimal
import io
import threading

import psycopg2
from psycopg2 import errors

import shared
from cases import case, expect_error, main, skip, until_active


class Client:
    """A connection with one cursor; the address and the password come from the environment."""

    def __init__(self):
        self.connection = psycopg2.connect("")
        self.cursor = self.connection.cursor()
        self.close = self.connection.close
        self.commit = self.connection.commit
        self.rollback = self.connection.rollback

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def begin(self):
        """psycopg says BEGIN with the first query."""

    def do(self, sql, *values):
        self.cursor.execute(sql, values)

    def one(self, sql, *values):
        self.do(sql, *values)
        return self.cursor.fetchone()

    def row(self, sql, number):
        return self.one(sql.format("%s"), *(() if number is None else (number,)))


@case
def connect():
    with Client() as client:
        assert client.connection.server_version >= 140000
        assert client.one("SELECT current_user::text") == ("weir",)


@case
def types():
    values = (
        42,
        2**40,
        "hé'\\",
        1.5,
        True,
        None,
        decimal.Decimal("12345.678901"),
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
        datetime.date(1999, 12, 31),
        [1, 2, 3],
    )
    casts = "int, bigint, text, float8, bool, text, numeric, timestamptz, date, int[]".split(", ")
    with Client() as client:
        assert client.one("SELECT " + ", ".join(f"%s::{cast}" for cast in casts), *values) == values
        assert bytes(client.one("SELECT %s::bytea", b"\x00\x01\xff")[0]) == b"\x00\x01\xff"


@case
def errors_():
    with Client() as client:
        client.connection.autocommit = True
        error = expect_error(errors.DivisionByZero, lambda: client.do("SELECT 1/%s", 0))
        assert error.pgcode == "22012"
        expect_error(errors.UndefinedTable, lambda: client.do("SELECT * FROM nowhere"))
        assert client.one("SELECT 1") == (1,)


@case
def transactions():
    with Client() as client:
        client.do("DROP TABLE IF EXISTS psycopg2_savepoints")
        client.do("CREATE TABLE psycopg2_savepoints (a int)")
        client.commit()
        client.do("INSERT INTO psycopg2_savepoints VALUES (1)")
        client.do("SAVEPOINT s")
        client.do("INSERT INTO psycopg2_savepoints VALUES (2)")
        expect_error(errors.DivisionByZero, lambda: client.do("SELECT 1/0"))
        expect_error(errors.InFailedSqlTransaction, lambda: client.do("SELECT 1"))
        client.do("ROLLBACK TO s")
        client.commit()
        client.do("INSERT INTO psycopg2_savepoints VALUES (3)")
        client.rollback()
        assert client.one("SELECT array_agg(a) FROM psycopg2_savepoints") == ([1],)
        client.rollback()
        client.connection.set_session(isolation_level="SERIALIZABLE", readonly=True)
        expect_error(errors.ReadOnlySqlTransaction, lambda: client.do("INSERT INTO psycopg2_savepoints VALUES (4)"))


skip("prepared", "it prepares nothing")
skip("pipeline", "it has none")


@case
def cursor():
    with Client() as client, client.connection.cursor(name="numbers") as cursor_:
        cursor_.itersize = 100
        cursor_.execute("SELECT generate_series(1, 1000)")
        assert sum(row[0] for row in cursor_) == 500500


@case
def cancel():
    with Client() as client:
        canceller = threading.Thread(target=lambda: (until_active("SELECT pg_sleep(600)"), client.connection.cancel()))
        canceller.start()
        expect_error(errors.QueryCanceled, lambda: client.do("SELECT pg_sleep(600)"))
        canceller.join()
        client.rollback()
        assert client.one("SELECT 1") == (1,)


@case
def copy():
    lines = "".join(f"{number}\trow {number}\n" for number in range(5000))
    with Client() as client:
        client.do("CREATE TEMP TABLE psycopg2_copy (a int, b text) ON COMMIT DROP")
        client.cursor.copy_expert("COPY psycopg2_copy FROM STDIN", io.StringIO(lines))
        out = io.StringIO()
        client.cursor.copy_expert("COPY (SELECT * FROM psycopg2_copy ORDER BY a) TO STDOUT", out)
        assert out.getvalue() == lines
        bad = io.StringIO("x\ty\n")
        expect_error(
            errors.InvalidTextRepresentation, lambda: client.cursor.copy_expert("COPY psycopg2_copy FROM STDIN", bad)
        )
        client.rollback()
        assert client.one("SELECT 1") == (1,)


@case
def large():
    text, blob = "weir" * 1_000_000, bytes(range(256)) * 8192
    with Client() as client:
        found = client.one("SELECT %s::text, %s::bytea", text, blob)
        assert found[0] == text and bytes(found[1]) == blob


@case
def notices():
    with Client() as client:
        client.do("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        assert client.connection.notices == ["NOTICE:  one\n", "WARNING:  two\n"], client.connection.notices


@case
async def rivals():
    await shared.rivals(lambda: shared.Threaded(Client))


main("psycopg 2", psycopg2.__version__.split()[0])
