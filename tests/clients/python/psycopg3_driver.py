"""psycopg 3 with its default settings: it prepares a statement at its fifth use."""

import contextlib
import datetime
import decimal
import threading
import uuid

import psycopg
from psycopg import errors

import shared
from cases import case, expect_error, in_threads, main, until_active


def connect(**settings):
    """The address and the password come from the environment."""
    return psycopg.connect("", **settings)


@case
def connect_():
    with connect() as connection:
        assert connection.info.server_version >= 140000
        assert connection.info.parameter_status("client_encoding") == "UTF8"
        assert connection.info.parameter_status("server_version")
        assert connection.execute("SELECT current_user, current_database()").fetchone() == ("weir", "weir")


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
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        b"\x00\x01\xff",
        [1, 2, 3],
    )
    casts = "int, bigint, text, float8, bool, text, numeric, timestamptz, date, uuid, bytea, int[]".split(", ")
    sql = "SELECT " + ", ".join(f"%s::{cast}" for cast in casts)
    with connect() as connection:
        assert connection.execute(sql, values).fetchone() == values


@case
def binary_results():
    with connect() as connection:
        row = connection.execute("SELECT %b::int8, %b::bytea", (7, b"\xff\x00"), binary=True).fetchone()
        assert row == (7, b"\xff\x00")


@case
def errors_():
    with connect(autocommit=True) as connection:
        error = expect_error(errors.DivisionByZero, lambda: connection.execute("SELECT 1/%s", (0,)))
        assert error.sqlstate == "22012"
        error = expect_error(errors.UndefinedTable, lambda: connection.execute("SELECT * FROM nowhere"))
        assert "nowhere" in error.diag.message_primary and error.diag.statement_position == "15"
        assert connection.execute("SELECT 1").fetchone() == (1,)


@case
def transactions():
    with connect() as connection:
        connection.execute("SELECT 1")
        expect_error(errors.DivisionByZero, lambda: connection.execute("SELECT 1/0"))
        expect_error(errors.InFailedSqlTransaction, lambda: connection.execute("SELECT 1"))
        connection.rollback()
        assert connection.execute("SELECT 2").fetchone() == (2,)
    with connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS py_savepoints")
        connection.execute("CREATE TABLE py_savepoints (a int)")
        with connection.transaction():
            connection.execute("INSERT INTO py_savepoints VALUES (1)")
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO py_savepoints VALUES (2)")
                    raise psycopg.Rollback()
            except psycopg.Rollback:
                pass
            with connection.transaction():
                connection.execute("INSERT INTO py_savepoints VALUES (3)")
        rows = connection.execute("SELECT a FROM py_savepoints ORDER BY a").fetchall()
        assert rows == [(1,), (3,)], rows


@case
def copy():
    rows = [(number, f"row\t{number}\n", None if number % 3 else b"\x00\xff") for number in range(5000)]
    with connect() as connection:
        connection.execute("CREATE TEMP TABLE py_copy (a int, b text, c bytea) ON COMMIT DROP")
        with connection.cursor().copy("COPY py_copy FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        with connection.cursor().copy("COPY (SELECT * FROM py_copy ORDER BY a) TO STDOUT") as copy:
            copy.set_types(["int4", "text", "bytea"])
            assert list(copy.rows()) == rows


@case
def a_copy_that_fails():
    with connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS py_copy_fails")
        connection.execute("CREATE TABLE py_copy_fails (a int)")

        def bad_data():
            with connection.cursor().copy("COPY py_copy_fails FROM STDIN") as copy:
                copy.write("1\nx\n2\n")

        expect_error(errors.InvalidTextRepresentation, bad_data)

        def client_gives_up():
            with connection.cursor().copy("COPY py_copy_fails FROM STDIN") as copy:
                copy.write("1\n")
                raise ZeroDivisionError

        expect_error(ZeroDivisionError, client_gives_up)
        assert connection.execute("SELECT count(*) FROM py_copy_fails").fetchone() == (0,)


@case
def large():
    with connect() as connection:
        text, blob = "weir" * 1_000_000, bytes(range(256)) * 8192
        assert connection.execute("SELECT %s::text, %s::bytea", (text, blob)).fetchone() == (text, blob)


@case
def notices():
    with connect() as connection:
        seen = []
        connection.add_notice_handler(lambda notice: seen.append((notice.severity, notice.message_primary)))
        connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        assert seen == [("NOTICE", "one"), ("WARNING", "two")], seen


@case
def cursor():
    with connect() as connection, connection.cursor(name="numbers") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 1000)")
        assert sum(row[0] for row in cursor) == 500500


@case
def cancel():
    with connect(autocommit=True) as connection:
        canceller = threading.Thread(target=lambda: (until_active("SELECT pg_sleep(600)"), connection.cancel()))
        canceller.start()
        expect_error(errors.QueryCanceled, lambda: connection.execute("SELECT pg_sleep(600)"))
        canceller.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


@case
def several_syncs_of_a_pipeline():
    with connect() as connection:
        with connection.pipeline() as pipe:
            cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(3)]
            pipe.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == [0, 1, 2]
            more = connection.execute("SELECT 'after the sync'")
        assert more.fetchone() == ("after the sync",)


@case
def pipeline_of_many():
    with connect(autocommit=True) as connection:
        with connection.pipeline(), connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("CREATE TEMP TABLE py_pipeline (a int) ON COMMIT DROP")
            cursor.executemany("INSERT INTO py_pipeline VALUES (%s)", [(number,) for number in range(1000)])
            # A cursor of its own: the other one shows whichever result of its many commands has come.
            found = connection.execute("SELECT count(*) FROM py_pipeline").fetchone()
            cursor.execute("COMMIT")
        assert found == (1000,), found


@case
def pipeline():
    with connect(autocommit=True) as connection:
        with connection.pipeline() as pipe:
            good = connection.execute("SELECT 1")

            def wrong():
                connection.execute("SELECT 1/%s", (0,))
                connection.execute("SELECT 3")
                pipe.sync()

            expect_error(errors.DivisionByZero, wrong)
            # The server does not wait for the sync to tell of an error: it may be that none was sent yet.
            with contextlib.suppress(errors.PipelineAborted):
                pipe.sync()
            assert good.fetchone() == (1,)
            assert connection.execute("SELECT 4").fetchone() == (4,)
        assert connection.execute("SELECT 5").fetchone() == (5,)


class Client:
    """For `shared.Threaded`."""

    def __init__(self):
        self.connection = connect()
        self.close = self.connection.close
        self.commit = self.connection.commit

    def begin(self):
        """psycopg says BEGIN with the first query."""

    def row(self, sql, number):
        return self.connection.execute(sql.format("%s"), None if number is None else (number,)).fetchone()


@case
async def prepared():
    await shared.prepared(lambda: shared.Threaded(Client))


@case
async def rivals():
    await shared.rivals(lambda: shared.Threaded(Client))


@case
def many_clients_that_write():
    with connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS py_many")
        connection.execute("CREATE TABLE py_many (client int, turn int)")

    def client(number):
        with connect() as connection:
            for turn in range(20):
                connection.execute("INSERT INTO py_many VALUES (%s, %s)", (number, turn))
                found = connection.execute("SELECT count(*) FROM py_many WHERE client = %s", (number,)).fetchone()
                assert found == (turn + 1,), found
                connection.commit()

    in_threads(20, client)
    with connect() as connection:
        assert connection.execute("SELECT count(*) FROM py_many").fetchone() == (400,)


@case
def settings_stay_with_their_client():
    with connect(application_name="first") as first, connect(application_name="second") as second:
        for _ in range(3):
            assert first.execute("SHOW application_name").fetchone() == ("first",)
            first.commit()
            assert second.execute("SHOW application_name").fetchone() == ("second",)
            second.commit()


main("psycopg 3", psycopg.__version__)
