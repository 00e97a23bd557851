"""A process of a run, and what it uses of the machine."""

import contextlib
import dataclasses
import glob
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from .base import PATIENCE, environment, fail, say

TICK = os.sysconf("SC_CLK_TCK")


def stat(pid):
    """Parent, and ticks of processor time in user and in kernel mode: its own, then those of its ended children."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1]), [int(field) for field in fields[11:15]]


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process has used so far, by all its threads: seconds of processor time, and voluntary context switches."""

    user: float
    system: float
    exact: dict
    switches: int

    @classmethod
    def of(cls, pid):
        _, (user, system, _, _) = stat(pid)
        exact, switches = {}, 0
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                exact[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
                switches += int(re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text()).group(1))
        return cls(user / TICK, system / TICK, exact, switches)

    def since(self, before):
        """Processor time since then, as a whole, in user mode and in kernel mode, and switches.

        The scheduler counts to the nanosecond, but for a thread that has ended nobody does: where one has, the ticks
        of the process as a whole have to do. They also give the shares of user and kernel mode."""
        user, system = self.user - before.user, self.system - before.system
        total = user + system
        if before.exact.keys() <= self.exact.keys():
            exact = sum(self.exact.values()) - sum(before.exact.values())
            user, system = (user * exact / total, system * exact / total) if total else (0.0, exact)
            total = exact
        return {"cpu": total, "user": user, "system": system, "switches": self.switches - before.switches}


def memory(pid):
    """Kilobytes: proportional share, anonymous pages, and the peak of the resident set."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    try:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        share = int(re.search(r"\nPss:\s*(\d+)", rollup).group(1))
    except PermissionError:
        share = int(re.search(r"VmRSS:\s*(\d+)", status).group(1))
    return {
        "share": share,
        "anonymous": int(re.search(r"RssAnon:\s*(\d+)", status).group(1)),
        "peak": int(re.search(r"VmHWM:\s*(\d+)", status).group(1)),
    }


def forget_peak(pid):
    with contextlib.suppress(PermissionError):
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


class Daemon:
    """A process of this run's own, ready when its port takes connections."""

    def __init__(self, name, command, port, folder, ending=signal.SIGQUIT, patience=PATIENCE):
        self.name, self.port, self.ending = name, port, ending
        self.log = folder / f"{name.replace(' ', '-')}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=folder,
                env=environment(),
            )
        deadline = time.monotonic() + patience
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                fail(f"{name} does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    @property
    def pid(self):
        """setpriv has become the pooler itself."""
        return self.process.pid

    def is_ready(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self, patience=5):
        if self.process.poll() is None:
            self.process.send_signal(self.ending)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def usage(self):
        return Usage.of(self.pid)

    def cpu(self):
        """Seconds of processor time so far, in user and in kernel mode."""
        _, (user, system, _, _) = stat(self.pid)
        return user / TICK, system / TICK

    def cpu_of_all(self):
        """Seconds of processor time so far, its children's included, those that have ended too. It waits until they rest:
        one that ends meanwhile is neither here nor there."""
        before, now = None, self.cpu_at_once()
        while before != now:
            time.sleep(0.3)
            before, now = now, self.cpu_at_once()
        return now / TICK

    def cpu_at_once(self):
        total = sum(stat(self.pid)[1])
        for entry in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent, ticks = stat(os.path.basename(entry))
                total += sum(ticks) if parent == self.pid else 0
        return total


class SystemCalls:
    """Counts a process' system calls while it is open. strace slows the process down, so nothing else is measured then."""

    def __init__(self, daemon, folder):
        self.file = folder / "strace.txt"
        self.file.write_text("")
        self.process = subprocess.Popen(
            ["strace", "-f", "-c", "-o", self.file, "-p", str(daemon.pid)], stderr=subprocess.PIPE, text=True
        )
        while "attached" not in (line := self.process.stderr.readline()):
            if not line:
                say("no system calls are counted: strace may not look at a process that it has not started")
                break

    def close(self):
        """By name: how often, and how often with an error. Nothing where strace is not allowed to."""
        counts = {}
        if self.process.poll() is not None:
            return counts
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE)
        for line in self.file.read_text().splitlines():
            fields = line.split()
            if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
                counts[fields[-1]] = [int(fields[3]), int(fields[4]) if len(fields) == 6 else 0]
        return counts
