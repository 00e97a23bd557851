"""SQLAlchemy with its default settings.

The argument is the driver below it: `psycopg2` and `psycopg` block, `asyncpg` does not. All of them run the same
functions: asyncio hands out a connection that looks as if it blocked.
"""

import asyncio
import datetime
import decimal
import sys

import sqlalchemy
from sqlalchemy import Column, DateTime, ForeignKey, Integer, LargeBinary, MetaData, Numeric, String, Table
from sqlalchemy import create_engine, exc, func, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

import shared
from cases import case, in_threads, main, skip

DRIVER = sys.argv[1]
URL = f"postgresql+{DRIVER}://"
IS_ASYNC = DRIVER == "asyncpg"


def on_connection(function):
    """A case that is given a connection of a new engine."""

    async def blocking():
        engine = create_engine(URL)
        with engine.connect() as connection:
            function(connection)
        engine.dispose()

    async def awaiting():
        engine = create_async_engine(URL)
        async with engine.connect() as connection:
            await connection.run_sync(function)
        await engine.dispose()

    run = awaiting if IS_ASYNC else blocking
    run.__name__ = function.__name__
    return case(run)


def expect_state(state, function):
    """Runs the function, which must fail with this SQLSTATE."""
    try:
        function()
    except exc.DBAPIError as error:
        found = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        assert found == state, found
        return
    raise AssertionError(f"no {state}")


@on_connection
def connect(connection):
    assert connection.dialect.server_version_info >= (14,)
    assert connection.scalar(text("SELECT current_user::text")) == "weir"


@on_connection
def types(connection):
    table = Table(
        f"alchemy_types_{DRIVER}",
        MetaData(),
        Column("a", Integer, primary_key=True),
        Column("b", String),
        Column("c", Numeric),
        Column("d", DateTime(timezone=True)),
        Column("e", LargeBinary),
        Column("f", ARRAY(Integer)),
        Column("g", JSONB),
        Column("h", String),
    )
    table.drop(connection, checkfirst=True)
    table.create(connection)
    values = (
        42,
        "hé'\\",
        decimal.Decimal("12345.678901"),
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
        b"\x00\x01\xff",
        [1, 2, 3],
        {"a": [1]},
        None,
    )
    assert tuple(connection.execute(insert(table).values(values).returning(table)).one()) == values
    connection.commit()
    assert tuple(connection.execute(select(table).where(table.c.f.contains([2]))).one()) == values


@on_connection
def errors(connection):
    expect_state("22012", lambda: connection.execute(text("SELECT 1/CAST(:a AS int)"), {"a": 0}))
    connection.rollback()
    expect_state("42P01", lambda: connection.execute(text("SELECT * FROM nowhere")))
    connection.rollback()
    assert connection.scalar(text("SELECT 1")) == 1


@on_connection
def transactions(connection):
    table = Table(f"alchemy_savepoints_{DRIVER}", MetaData(), Column("a", Integer))
    table.drop(connection, checkfirst=True)
    table.create(connection)
    connection.execute(insert(table).values(a=1))
    inner = connection.begin_nested()
    connection.execute(insert(table).values(a=2))
    expect_state("22012", lambda: connection.execute(text("SELECT 1/0")))
    expect_state("25P02", lambda: connection.execute(text("SELECT 1")))
    inner.rollback()
    with connection.begin_nested():
        connection.execute(insert(table), [{"a": number} for number in range(3, 100)])
    connection.commit()
    connection.execute(insert(table).values(a=1000))
    connection.rollback()
    assert connection.scalar(select(func.sum(table.c.a))) == sum(range(100)) - 2


class Blocking:
    """For `shared.Threaded`."""

    def __init__(self):
        self.engine = create_engine(URL)
        self.connection = self.engine.connect()
        self.commit = self.connection.commit

    def begin(self):
        """A transaction begins with the first query."""

    def row(self, sql, number):
        return tuple(self.connection.execute(as_text(sql), {"number": number}).one())

    def close(self):
        self.connection.close()
        self.engine.dispose()


class Awaiting:
    """For `shared`."""

    async def __aenter__(self):
        self.engine = create_async_engine(URL)
        self.connection = await self.engine.connect()
        self.commit = self.connection.commit
        return self

    async def __aexit__(self, *_):
        await self.connection.close()
        await self.engine.dispose()

    async def begin(self):
        """A transaction begins with the first query."""

    async def row(self, sql, number):
        return tuple((await self.connection.execute(as_text(sql), {"number": number})).one())


def as_text(sql):
    return text(sql.replace("{}::int", "CAST(:number AS int)"))


def client():
    return Awaiting() if IS_ASYNC else shared.Threaded(Blocking)


if DRIVER == "psycopg2":
    skip("prepared", "psycopg 2 prepares nothing")
else:

    @case
    async def prepared():
        await shared.prepared(client)


skip("pipeline", "it waits for each answer")


@on_connection
def cursor(connection):
    rows = connection.execution_options(yield_per=100).execute(text("SELECT generate_series(1, 1000)"))
    assert sum(row[0] for row in rows) == 500500


skip("cancel", "a matter of the driver below")
skip("copy", "a matter of the driver below")


@on_connection
def large(connection):
    string, blob = "weir" * 1_000_000, bytes(range(256)) * 8192
    statement = select(sqlalchemy.literal(string), sqlalchemy.literal(blob))
    found = connection.execute(statement).one()
    assert found[0] == string and bytes(found[1]) == blob


skip("notices", "a matter of the driver below")


@case
async def rivals():
    await shared.rivals(client)


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = f"alchemy_parent_{DRIVER}"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list["Child"]] = relationship()


class Child(Base):
    __tablename__ = f"alchemy_child_{DRIVER}"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent: Mapped[int] = mapped_column(ForeignKey(Parent.id))
    name: Mapped[str]


@on_connection
def objects(connection):
    Base.metadata.drop_all(connection)
    Base.metadata.create_all(connection)
    connection.commit()
    with Session(connection) as session:
        session.add_all(Parent(children=[Child(name=f"child {number}") for number in range(20)]) for _ in range(20))
        session.commit()
        parents = session.scalars(select(Parent).options(selectinload(Parent.children))).all()
        assert sum(len(parent.children) for parent in parents) == 400
        parents[0].children[0].name = "another"
        session.commit()
        assert session.scalar(select(func.count()).where(Child.name == "another")) == 1


@case
async def a_pool_with_its_default_size():
    wanted = [number * 2 for number in range(40)]
    if IS_ASYNC:
        engine = create_async_engine(URL)

        async def ask(number):
            async with engine.begin() as connection:
                return await connection.scalar(as_text("SELECT {}::int * 2"), {"number": number})

        assert await asyncio.gather(*(ask(number) for number in range(40))) == wanted
        await engine.dispose()
    else:
        engine, found = create_engine(URL), {}

        def use(number):
            with engine.begin() as connection:
                found[number] = connection.scalar(as_text("SELECT {}::int * 2"), {"number": number})

        in_threads(40, use)
        assert [found[number] for number in range(40)] == wanted
        engine.dispose()


main(f"SQLAlchemy with {DRIVER}", sqlalchemy.__version__)
