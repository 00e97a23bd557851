"""pgbench's read-only transaction through each pooler in turn, and what a pooler spends on one."""

import contextlib
import dataclasses
import shutil
import subprocess
import time

from .base import environment, fail, say
from .client import idle_clients
from .poolers import Task
from .postgres import address, processed
from .process import SystemCalls


@dataclasses.dataclass(frozen=True)
class Cell:
    """A row of the tables. `idle` clients are logged in beside those of pgbench, and have used their connection once."""

    protocol: str
    clients: int
    idle: int = 0

    def suits(self, pooler):
        if self.protocol == "prepared" and not pooler.follows_names:
            return False
        return pooler.multiplexes or self.clients + self.idle <= 64


class Pgbench:
    """Runs for some seconds once all its clients are connected, and logs every transaction."""

    def __init__(self, daemon, cell, seconds, folder, password=""):
        self.prefix = folder / f"transactions-{daemon.name.replace(' ', '-')}"
        self.process = subprocess.Popen(
            list(map(str, [
                "pgbench", *address(daemon.port), "-nS", "-M", cell.protocol, "-c", cell.clients, "-j", 1, "-T", seconds,
                "-P", 1, "--log", "--log-prefix", self.prefix, "bench",
            ])),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**environment(), "PGPASSWORD": password},
        )
        said = ""
        while not said.startswith("progress:"):
            if not (said := self.process.stderr.readline()):
                self.finish(until=0)
                break

    def finish(self, until):
        """Time and latency of each transaction, in seconds. The last window must have ended before pgbench did."""
        said, errors = self.process.communicate()
        if self.process.returncode != 0:
            fail(f"pgbench: {said}{errors}")
        processed(said)
        found = []
        for file in self.prefix.parent.glob(f"{self.prefix.name}.*"):
            with open(file) as lines:
                for line in lines:
                    _, _, latency, _, second, micros = line.split()[:6]
                    found.append((int(second) + int(micros) / 1e6, int(latency) / 1e6))
            file.unlink()
        if max((at for at, _ in found), default=0) < until:
            fail("pgbench ended before the measured window did: the machine is too busy, or BENCH_SECONDS too small")
        return found


def one_run(daemon, cell, seconds, folder, count_calls):
    """What was spent in a window in the middle of a run, when all clients are connected and all caches are warm; and the
    system calls in a second window."""
    # With a thousand clients a transaction is logged some tenths of a second after its last call, and strace changes the
    # pace: a longer window has less of that.
    traced = (1.0 if cell.clients < 500 else 4.0) if count_calls else 0.0
    load = Pgbench(daemon, cell, round(seconds + traced + (3 if traced else 2)), folder)
    begin, before = time.time(), daemon.usage()
    time.sleep(seconds)
    end, after = time.time(), daemon.usage()
    calls = None
    if count_calls:
        tracer = SystemCalls(daemon, folder)
        trace_begin = time.time()
        time.sleep(traced)
        trace_end, calls = time.time(), tracer.close()
    done = load.finish(until=trace_end if count_calls else end)
    figures = spent(after.since(before), [latency for at, latency in done if begin < at <= end], end - begin)
    if count_calls:
        traced_count = sum(trace_begin < at <= trace_end for at, _ in done) or 1
        calls = {name: [count / traced_count for count in counts] for name, counts in calls.items()}
    return figures, calls


def spent(usage, latencies, seconds):
    """Microseconds of processor time, and switches, for a transaction."""
    count = len(latencies)
    if not count:
        fail("no transaction in the measured window")
    latencies.sort()
    return {
        **{part: usage[part] * 1e6 / count for part in ("cpu", "user", "system")},
        "switches": usage["switches"] / count,
        "transactions": count,
        "tps": count / seconds,
        "p50": latencies[count // 2] * 1e6,
        "p99": latencies[count * 99 // 100] * 1e6,
    }


def measure_cell(cell, daemons, plan, folder):
    """The figures of each round, and system calls, by pooler."""
    found = {name: {"rounds": [], "calls": {}} for name in daemons}
    can_trace = bool(shutil.which("strace"))
    with contextlib.ExitStack() as beside:
        for daemon in daemons.values():
            beside.enter_context(idle_clients(daemon.port, cell.idle))
        for turn in range(plan.rounds):
            for name, daemon in daemons.items():
                count_calls = can_trace and turn == plan.rounds - 1
                figures, calls = one_run(daemon, cell, plan.seconds, folder, count_calls)
                found[name]["rounds"].append(figures)
                if calls:
                    found[name]["calls"] = calls
    return found


def measure(cells, poolers, task, plan):
    """Every cell with every pooler that it suits, all started once."""
    daemons, results = {}, []
    try:
        for pooler in poolers:
            if any(cell.suits(pooler) for cell in cells) and (task.host == "127.0.0.1" or pooler.takes_unix):
                daemons[pooler] = pooler.start(task)
        for cell in cells:
            say(f"{cell.protocol}, {cell.clients} clients{f', {cell.idle} idle' if cell.idle else ''}")
            able = {pooler.name: daemon for pooler, daemon in daemons.items() if cell.suits(pooler)}
            results.append({**dataclasses.asdict(cell), "poolers": measure_cell(cell, able, plan, task.folder)})
    finally:
        for daemon in daemons.values():
            daemon.stop()
    return results


def over_tcp(poolers, postgres, folder, plan):
    cells = [Cell(protocol, clients) for protocol in plan.protocols for clients in plan.clients]
    return measure(cells, poolers, Task(folder, postgres.port), plan)


def over_unix(poolers, postgres, folder, plan):
    cells = [Cell(protocol, clients) for protocol in plan.protocols for clients in plan.clients if 16 <= clients <= 64]
    return measure(cells, poolers, Task(folder, postgres.port, host=str(folder)), plan)


def in_a_crowd(poolers, postgres, folder, plan):
    cells = [Cell(protocol, active, every - active) for protocol in plan.protocols for every, active in plan.crowd]
    return measure(cells, poolers, Task(folder, postgres.port), plan)
