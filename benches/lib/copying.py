"""COPY of rows of 2 kB, out and in, and out to a client that reads slowly."""

import shutil
import struct
import time

from .base import fail, output, say
from .client import Client, Refused, is_ready
from .poolers import Task
from .postgres import address
from .process import SystemCalls, forget_peak, memory

ROW = b"x" * 1999 + b"\n"
MESSAGE = b"d" + struct.pack("!i", len(ROW) + 4) + ROW
SLOW_BUFFER = 65536


def copy_out(port, rows, pause=0.0):
    client = Client(port, receive_buffer=SLOW_BUFFER if pause else None)
    sql = f"COPY (SELECT repeat('x', {len(ROW) - 1}) FROM generate_series(1, {rows})) TO STDOUT"
    client.send(b"Q", sql.encode() + b"\0")
    buffer, last, total = bytearray(SLOW_BUFFER if pause else 1 << 20), b"", 0
    while not is_ready(last):
        count = client.socket.recv_into(buffer)
        total += count
        if not count:
            raise Refused(last)
        last = (last + bytes(buffer[max(0, count - 8):count]))[-8:]
        if pause:
            time.sleep(pause)
    if total < rows * len(MESSAGE):
        fail(f"COPY gave {total} bytes")
    client.close()


def copy_in(port, rows):
    """Four messages at a time: libpq sends 8 kB at a time."""
    client = Client(port)
    client.send(b"Q", b"COPY sink FROM STDIN WHERE false\0")
    four = MESSAGE * 4
    for _ in range(rows // 4):
        client.socket.sendall(four)
    client.socket.sendall(MESSAGE * (rows % 4))
    client.send(b"c")
    client.wait()
    client.close()


def slow_copy_out(port, rows):
    copy_out(port, rows, pause=0.002)


def ways(plan):
    """Title, what to do, and how many bytes."""
    return [
        ("out", copy_out, plan.copied),
        ("in", copy_in, plan.copied),
        ("out, slow reader", slow_copy_out, plan.copied // 10),
    ]


def measure(poolers, postgres, folder, plan):
    """CPU seconds for a GB, growth of the peak in kB, and system calls for a MB, by way and pooler."""
    output("psql", *address(postgres.port), "-qc", "CREATE UNLOGGED TABLE IF NOT EXISTS sink (line text)", "bench")
    daemons, found = {}, {}
    try:
        for pooler in poolers:
            daemons[pooler.name] = pooler.start(Task(folder, postgres.port))
            Client(daemons[pooler.name].port).close()
        for title, copy, size in ways(plan):
            say(f"COPY {title}")
            found[title] = {name: {"rounds": [], "calls": {}} for name in daemons}
            for _ in range(plan.copies):
                for name, daemon in daemons.items():
                    found[title][name]["rounds"].append(one(daemon, copy, size))
            for name, daemon in daemons.items():
                if shutil.which("strace"):
                    found[title][name]["calls"] = traced(daemon, copy, max(size // 20, 10_000_000), folder)
    finally:
        for daemon in daemons.values():
            daemon.stop()
    return found


def one(daemon, copy, size):
    copy(daemon.port, 100)
    forget_peak(daemon.pid)
    resident, before, began = memory(daemon.pid)["peak"], daemon.usage(), time.monotonic()
    copy(daemon.port, size // len(ROW))
    usage = daemon.usage().since(before)
    gigabytes = size / 1e9
    return {
        **{part: usage[part] / gigabytes for part in ("cpu", "user", "system")},
        "switches": usage["switches"] / (size / 1e6),
        "seconds": (time.monotonic() - began) / gigabytes,
        "peak": memory(daemon.pid)["peak"] - resident,
    }


def traced(daemon, copy, size, folder):
    tracer = SystemCalls(daemon, folder)
    try:
        copy(daemon.port, size // len(ROW))
    finally:
        counts = tracer.close()
    return {name: [count / (size / 1e6) for count in both] for name, both in counts.items()}
