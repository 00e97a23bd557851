"""Processor time of the pooler for a login, a SELECT 1 and the goodbye."""

import time

from .base import say
from .client import Client, in_processes, scram_verifier
from .poolers import Task
from .throughput import Cell, Pgbench

PROCESSES = 4
PASSWORD = "correct horse battery staple"
# Of these each logs in once, so that nothing of it can be remembered.
STRANGERS = 400
# Clients of pgbench beside a storm of logins, and for how long they go on.
BESIDE, STORM_LASTS = 8, 6


class Kind:
    """A way to log in, and the users who do it."""

    def __init__(self, title, auth, count, user, password=None):
        self.title, self.auth, self.count, self.user, self.password = title, auth, count, user, password

    def storm(self, port, turn):
        """Some processes log in again and again, all at a time."""
        def work(process):
            for number in range(self.count // PROCESSES):
                user = self.user(turn, process * (self.count // PROCESSES) + number)
                client = Client(port, user, "as_postgres", self.password)
                client.query("SELECT 1")
                client.close()

        in_processes(PROCESSES, work)

    def while_running(self, daemon, turn, folder):
        """Latencies of the transactions of pgbench during a storm, and how long that took."""
        load = Pgbench(daemon, Cell("simple", BESIDE), STORM_LASTS if self.count else 3, folder, PASSWORD)
        begin = time.time()
        if self.count:
            self.storm(daemon.port, turn)
        else:
            time.sleep(1)
        end = time.time()
        done = load.finish(until=begin)
        latencies = sorted(latency for at, latency in done if begin < at <= end)
        return {
            "p50": latencies[len(latencies) // 2] * 1e6,
            "p99": latencies[len(latencies) * 99 // 100] * 1e6,
            "seconds": end - begin,
        }


def kinds(plan):
    return [
        Kind("trust", "trust", plan.logins, lambda *_: "postgres"),
        Kind("SCRAM, verifier in auth_file", "scram-sha-256", plan.logins, lambda *_: "verified", PASSWORD),
        # An old PgBouncer derives keys at each of these: milliseconds.
        Kind("SCRAM, password in auth_file", "scram-sha-256", plan.logins // 4, lambda *_: "plain", PASSWORD),
        Kind(
            "SCRAM, password in auth_file, first login of a user", "scram-sha-256", STRANGERS,
            lambda turn, number: f"stranger{turn}_{number}", PASSWORD,
        ),
    ]


def write_users(folder, rounds):
    strangers = [f'"stranger{turn}_{number}" "{PASSWORD}"' for turn in range(rounds) for number in range(STRANGERS)]
    (folder / "userlist.txt").write_text("\n".join([
        f'"postgres" "{PASSWORD}"', f'"verified" "{scram_verifier(PASSWORD)}"', f'"plain" "{PASSWORD}"', *strangers, "",
    ]))


def measure(poolers, postgres, folder, plan):
    """Microseconds for a login, by kind and pooler, for each round."""
    write_users(folder, plan.rounds)
    found = {}
    for kind in kinds(plan):
        say(f"logins: {kind.title}")
        # What passes bytes on has no logins of its own, and no database names either.
        able = [pooler for pooler in poolers if pooler.multiplexes and (kind.auth == "trust" or pooler.speaks_scram)]
        daemons = {}
        try:
            for pooler in able:
                daemons[pooler.name] = pooler.start(Task(folder, postgres.port, auth=kind.auth))
            found[kind.title] = rounds(kind, daemons, plan.rounds)
        finally:
            for daemon in daemons.values():
                daemon.stop()
    return found


def measure_beside(poolers, postgres, folder, plan):
    """Latencies of transactions beside logins, by kind and pooler, for each round. Only PBKDF2 takes time in a login."""
    write_users(folder, plan.rounds)
    _, verified, _, first = kinds(plan)
    verified.count = first.count
    daemons, found = {}, {}
    try:
        for pooler in poolers:
            if pooler.multiplexes and pooler.speaks_scram:
                daemons[pooler.name] = pooler.start(Task(folder, postgres.port, auth="scram-sha-256"))
        for kind in (Kind("none", "", 0, None), verified, first):
            say(f"transactions beside logins: {kind.title}")
            found[kind.title] = {name: {"rounds": []} for name in daemons}
            for turn in range(plan.rounds):
                for name, daemon in daemons.items():
                    found[kind.title][name]["rounds"].append(kind.while_running(daemon, turn, folder))
    finally:
        for daemon in daemons.values():
            daemon.stop()
    return found


def rounds(kind, daemons, count):
    found = {name: {"rounds": []} for name in daemons}
    for daemon in daemons.values():
        # Opens the servers; of the strangers nobody may have been here before.
        warm = Client(daemon.port, *(("plain", "as_postgres", PASSWORD) if kind.password else ()))
        warm.query("SELECT 1")
        warm.close()
    for turn in range(count):
        for name, daemon in daemons.items():
            before = daemon.usage()
            kind.storm(daemon.port, turn)
            usage = daemon.usage().since(before)
            found[name]["rounds"].append({part: usage[part] * 1e6 / kind.count for part in ("cpu", "user", "system")})
    return found
