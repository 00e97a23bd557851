"""What a client costs that is logged in and does nothing."""

import time

from .base import say
from .client import Client
from .poolers import Task
from .process import memory

SERVERS = 20
LARGE = 100_000


def measure(poolers, postgres, folder, plan):
    """Kilobytes of each pooler at each stage. One at a time, each freshly started."""
    found = {}
    for pooler in poolers:
        if pooler.multiplexes:
            say(f"memory of {pooler.name}, {plan.idle} clients")
            daemon = pooler.start(Task(folder, postgres.port, SERVERS))
            try:
                found[pooler.name] = stages(daemon, plan.idle)
            finally:
                daemon.stop()
    return {"clients": plan.idle, "poolers": found}


def stages(daemon, count):
    first = [Client(daemon.port) for _ in range(SERVERS)]
    for client in first:
        client.query("BEGIN")
    for client in first:
        client.query("COMMIT")
        client.close()
    found = {"empty": settled(daemon)}
    clients = [Client(daemon.port) for _ in range(count)]
    found["at rest"] = settled(daemon)
    every(clients, "SELECT 1")
    found["after a query"] = settled(daemon)
    every(clients, f"SELECT repeat('x', {LARGE})")
    found["after a row of 100 kB"] = settled(daemon)
    for client in clients:
        client.close()
    found["1 s after all left"] = settled(daemon)
    time.sleep(9)
    found["10 s after all left"] = settled(daemon)
    return found


def every(clients, sql):
    for client in clients:
        client.query(sql)


def settled(daemon):
    time.sleep(1)
    return memory(daemon.pid)
