"""asyncpg with its default settings: it prepares every query under a name."""

import asyncio
import datetime
import decimal
import io
import uuid

import asyncpg

import shared
from cases import case, main, until_active


class connection:  # pylint: disable=invalid-name
    """A connection for a `with` block; the address comes from the environment."""

    def __init__(self, **settings):
        self.settings = settings

    async def __aenter__(self):
        self.opened = await asyncpg.connect(**self.settings)
        return self.opened

    async def __aexit__(self, *_):
        await self.opened.close(timeout=10)


async def expect_error(kind, awaitable):
    """Awaits what must fail in this way."""
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@case
async def connect():
    async with connection() as client:
        assert client.get_server_version().major >= 14
        assert client.get_settings().server_encoding == "UTF8"
        assert await client.fetchval("SELECT current_user") == "weir"


@case
async def types():
    values = [
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
    ]
    casts = "int, bigint, text, float8, bool, text, numeric, timestamptz, date, uuid, bytea, int[]".split(", ")
    sql = "SELECT " + ", ".join(f"${place}::{cast}" for place, cast in enumerate(casts, 1))
    async with connection() as client:
        assert list(await client.fetchrow(sql, *values)) == values


@case
async def errors():
    async with connection() as client:
        await expect_error(asyncpg.DivisionByZeroError, client.fetchval("SELECT 1/$1::int", 0))
        await expect_error(asyncpg.UndefinedTableError, client.fetch("SELECT * FROM nowhere"))
        await expect_error(asyncpg.PostgresSyntaxError, client.execute("SELEC 1"))
        assert await client.fetchval("SELECT 1") == 1


@case
async def transactions():
    async with connection() as client:
        await client.execute("DROP TABLE IF EXISTS apg_savepoints; CREATE TABLE apg_savepoints (a int)")
        async with client.transaction():
            await client.execute("INSERT INTO apg_savepoints VALUES ($1)", 1)
            inner = client.transaction()
            await inner.start()
            await client.execute("INSERT INTO apg_savepoints VALUES ($1)", 2)
            await inner.rollback()
        outer = client.transaction(isolation="serializable")
        await outer.start()
        await client.execute("INSERT INTO apg_savepoints VALUES ($1)", 3)
        await outer.rollback()
        failed = client.transaction()
        await failed.start()
        await expect_error(asyncpg.DivisionByZeroError, client.execute("SELECT 1/0"))
        await expect_error(asyncpg.InFailedSQLTransactionError, client.execute("SELECT 1"))
        await failed.rollback()
        assert [row["a"] for row in await client.fetch("SELECT a FROM apg_savepoints")] == [1]


@case
async def copy():
    rows = [(number, f"row {number}") for number in range(5000)]
    async with connection() as client:
        await client.execute("DROP TABLE IF EXISTS apg_copy; CREATE TABLE apg_copy (a int, b text)")
        assert await client.copy_records_to_table("apg_copy", records=rows) == "COPY 5000"
        output = io.BytesIO()
        await client.copy_from_query("SELECT * FROM apg_copy ORDER BY a", output=output)
        lines = output.getvalue().decode().splitlines()
        assert lines == [f"{number}\trow {number}" for number in range(5000)]


@case
async def pipeline():
    async with connection() as client:
        await client.execute("DROP TABLE IF EXISTS apg_many; CREATE TABLE apg_many (a int)")
        await client.executemany("INSERT INTO apg_many VALUES ($1)", [(number,) for number in range(2000)])
        assert await client.fetchval("SELECT sum(a) FROM apg_many") == 1999000
        divisors = [(number - 1000,) for number in range(2000)]
        many = client.executemany("INSERT INTO apg_many VALUES (10 / $1::int)", divisors)
        await expect_error(asyncpg.DivisionByZeroError, many)
        assert await client.fetchval("SELECT count(*) FROM apg_many") == 2000


@case
async def large():
    async with connection() as client:
        text, blob = "weir" * 1_000_000, bytes(range(256)) * 8192
        assert list(await client.fetchrow("SELECT $1::text, $2::bytea", text, blob)) == [text, blob]


@case
async def cursor():
    async with connection() as client, client.transaction():
        total = 0
        async for row in client.cursor("SELECT generate_series(1, 1000) AS n", prefetch=50):
            total += row["n"]
        assert total == 500500


@case
async def notices():
    async with connection() as client:
        seen = []
        client.add_log_listener(lambda _, message: seen.append(message.message))
        await client.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        await client.fetchval("SELECT 1")
        assert seen == ["one", "two"], seen


@case
async def cancel():
    async with connection() as client:
        task = asyncio.create_task(client.execute("SELECT pg_sleep(600)"))
        await asyncio.to_thread(until_active, "SELECT pg_sleep(600)")
        task.cancel()
        await expect_error(asyncio.CancelledError, task)
        await expect_error(asyncio.TimeoutError, client.execute("SELECT pg_sleep(601)", timeout=0.3))
        assert await client.fetchval("SELECT 1") == 1


class Client(connection):
    """For `shared`."""

    async def __aenter__(self):
        await super().__aenter__()
        return self

    async def begin(self):
        self.transaction = self.opened.transaction()
        await self.transaction.start()

    async def commit(self):
        await self.transaction.commit()

    async def row(self, sql, number):
        return await self.opened.fetchrow(sql.format("$1"), *(() if number is None else (number,)))


@case
async def prepared():
    await shared.prepared(Client)


@case
async def rivals():
    await shared.rivals(Client)


@case
async def a_pool_of_the_driver():
    async with asyncpg.create_pool(min_size=2, max_size=8) as pool:

        async def client(number):
            for turn in range(10):
                async with pool.acquire() as own:
                    assert await own.fetchval("SELECT $1::int * 100 + $2::int", number, turn) == number * 100 + turn

        await asyncio.gather(*(client(number) for number in range(20)))


main("asyncpg", asyncpg.__version__)
