"""The cases that are about more than one client.

A client of asyncio is an async context manager with `begin()`, `commit()` and `row(sql, number)`, which gives the first
row of the SQL with the number in place of its `{}`, or of SQL without one for `None`. One that blocks has the same
without `await`, and `close()`; `Threaded` makes the first kind of it.
"""

import asyncio
import concurrent.futures
import contextlib

from cases import POOL_SIZE

RIVALS = 8
TURNS = 30
SERVER = "SELECT pg_backend_pid()"
DOUBLED = "SELECT {}::int * 2, pg_backend_pid()"


def tagged(number):
    """SQL that only this client sends: whoever gets the answer can tell whose it is."""
    return f"SELECT 'client {number}', {{}}::int + {number}, pg_backend_pid()"


async def prepared(client):
    """One statement over many transactions. Two holders take both servers, and one leaves: that server is left."""
    async with client() as own, client() as holder, client() as another:
        for turn in range(20):
            held = []
            for each in (holder, another):
                await each.begin()
                [server] = await each.row(SERVER, None)
                held.append((server, each))
            (first, leaver), (_, stayer) = sorted(held, key=lambda pair: pair[0], reverse=turn % 2)
            await leaver.commit()
            await own.begin()
            row = tuple(await own.row(DOUBLED, turn))
            assert row == (turn * 2, first), (row, turn, first)
            await own.commit()
            await stayer.commit()


async def rivals(client):
    """More clients than servers at the same time: the same statement names, different SQL, each answer with a tag."""
    servers = set()
    async with contextlib.AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(client()) for _ in range(RIVALS)]

        async def play(number, own):
            for turn in range(TURNS):
                await own.begin()
                whose, plus, server = await own.row(tagged(number), turn)
                doubled = tuple(await own.row(DOUBLED, turn))
                await own.commit()
                assert (whose, plus) == (f"client {number}", turn + number), (whose, plus, number, turn)
                assert doubled == (turn * 2, server), (doubled, turn, server)
                servers.add(server)

        await asyncio.gather(*(play(number, own) for number, own in enumerate(clients)))
    assert len(servers) <= POOL_SIZE, f"{len(servers)} servers"


class Threaded:
    """A client that blocks, in a thread of its own."""

    def __init__(self, client):
        self.client = client
        self.thread = concurrent.futures.ThreadPoolExecutor(1)

    async def __aenter__(self):
        self.client = await self.in_thread(self.client)
        return self

    async def __aexit__(self, *_):
        await self.in_thread(self.client.close)
        self.thread.shutdown()

    async def in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)

    async def begin(self):
        await self.in_thread(self.client.begin)

    async def row(self, sql, number):
        try:
            return await self.in_thread(self.client.row, sql, number)
        except Exception:
            # Its server would be missing to those who wait in their threads.
            await self.in_thread(self.client.close)
            raise

    async def commit(self):
        await self.in_thread(self.client.commit)
