"""The texts of texts.json, each a transaction, through a driver with its default settings; prints how many there were.

usage: drivers.py asyncpg|psycopg|psycopg-blocks|psycopg-first CLIENTS ROUNDS CONNECTIONS

Each client makes that many connections one after the other, and runs all texts that often on each. With psycopg-first it
runs a text of its own before them, unnamed, and prepares the others at once.
"""

import asyncio
import json
import pathlib
import sys
import threading

TEXTS = json.loads((pathlib.Path(__file__).parent / "texts.json").read_text())


async def asyncpg_client(number, rounds, connections):
    import asyncpg

    for _ in range(connections):
        connection = await asyncpg.connect()
        for turn in range(rounds):
            for text in TEXTS:
                await connection.fetch(text, 1 + number * rounds + turn)
        await connection.close()


async def asyncpg_clients(clients, rounds, connections):
    await asyncio.gather(*(asyncpg_client(number, rounds, connections) for number in range(clients)))


def psycopg_client(driver, number, rounds, connections):
    import psycopg

    autocommit = driver != "psycopg-blocks"
    prepare = True if driver == "psycopg-first" else None
    texts = [text.replace("%", "%%").replace("$1", "%(aid)s") for text in TEXTS]
    for _ in range(connections):
        with psycopg.connect("", autocommit=autocommit) as connection:
            if driver == "psycopg-first":
                connection.execute(f"SELECT {number} + %s::int AS abalance", (1,), prepare=False)
            for turn in range(rounds):
                for text in texts:
                    connection.execute(text, {"aid": 1 + number * rounds + turn}, prepare=prepare)
                    if not autocommit:
                        connection.commit()


def psycopg_clients(driver, clients, rounds, connections):
    failures = []

    def guarded(number):
        try:
            psycopg_client(driver, number, rounds, connections)
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main():
    driver, (clients, rounds, connections) = sys.argv[1], map(int, sys.argv[2:])
    if driver == "asyncpg":
        asyncio.run(asyncpg_clients(clients, rounds, connections))
    else:
        psycopg_clients(driver, clients, rounds, connections)
    print(clients * connections * (rounds * len(TEXTS) + (driver == "psycopg-first")))


main()
