"""Scenarios: what is typed at both poolers, and how what comes back is written down."""

import dataclasses
import typing

from protocol import Row
from stage import Files

ALL = []


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Files to start with, and what to do then: a function of the pooler that gives lines."""

    name: str
    files: Files
    play: typing.Callable


def scenario(files=None, **settings):
    """Makes a function a scenario of its name."""

    def add(function):
        chosen = files or Files()
        ALL.append(Scenario(function.__name__, chosen.but(settings={**chosen.settings, **settings}), function))
        return function

    return add


# What differs from run to run, by column.
ADDRESSES = {"ptr", "link", "id", "remote_pid", "connect_time", "request_time", "wait", "wait_us", "maxwait_us"}
TIMES = {"total_xact_time", "total_query_time", "total_wait_time", "xact_time", "query_time", "wait_time"}
MEMORY = {"size", "used", "free", "memtotal"}
# Where PgBouncer is in its own buffers.
BUFFERS = {"recv_pos", "pkt_pos", "pkt_remain", "send_pos", "send_remain", "pkt_avail", "send_avail"}
PORTS = {"port", "local_port"}

def cell(at, column, value):
    if value is None:
        return "NULL"
    if column in ADDRESSES | TIMES | MEMORY | BUFFERS or column.startswith("avg_"):
        return "#"
    if column in PORTS and value not in ("0", str(at.port), str(at.postgres.port)):
        return "#"
    return value


def show_row(at, row):
    names = [name for name, _ in row.columns]
    if names == ["name", "value"] and (row[0].startswith("avg_") or row[0].endswith("_time")):
        return f"row {row[0]} | #"
    # Averages are all of these, under names without a prefix.
    if "avg_client_parse_count" in names and "total_xact_count" not in names:
        return f"row {row[0]} | averages"
    return str(Row(cell(at, name, value) for name, value in zip(names, row)))


def lines(at, answer, ordered=True):
    """An answer as text that can be compared."""
    made = [at.same(show_row(at, line) if isinstance(line, Row) else line) for line in answer]
    # In which order parameters are told makes no difference to anybody.
    parameters = iter(sorted(line for line in made if line.startswith("parameter ")))
    made = [next(parameters) if line.startswith("parameter ") else line for line in made]
    if ordered:
        return made
    rows = sorted(line for line in made if line.startswith("row "))
    rest = [line for line in made if not line.startswith("row ")]
    head = 1 if rest and rest[0].startswith("columns") else 0
    return rest[:head] + rows + rest[head:]


class Transcript(list):
    """What was done and what came back."""

    def __init__(self, at):
        self.at = at

    def note(self, *text):
        self.extend(self.at.same(line) for line in text)

    def typed(self, what, answer, ordered=True):
        self.append(f"> {what}")
        self.extend(lines(self.at, answer, ordered))
