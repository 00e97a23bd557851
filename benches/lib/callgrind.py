"""Programs under valgrind's callgrind, and what it counted."""

import collections
import re

from .base import fail, output, wrapped

VALGRIND = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--error-exitcode=0"]


def under(pooler, task, profile):
    """Starts a pooler whose counts go to the file when it ends."""
    with wrapped([*VALGRIND, f"--callgrind-out-file={profile}"]):
        return pooler.start(task)


def functions(profile):
    """Instructions of each function itself, as callgrind_annotate lists them."""
    found = collections.Counter()
    for line in output("callgrind_annotate", "--threshold=100", "--inclusive=no", profile).splitlines():
        if match := re.match(r"\s*([\d,]+)\s+\([ \d.]+%\)\s+(\S.*?):(.+?)(?:\s+\[([^\]]*)\])?$", line):
            found[match[3]] += int(match[1].replace(",", ""))
    if not found:
        fail(f"callgrind counted nothing: {profile}")
    return found


def per(begun, ended, count):
    """The difference of two counts, for each of `count`."""
    return {name: (ended[name] - begun[name]) / count for name in ended if ended[name] != begun[name]}


def of_case(program, name, few, profile):
    """Instructions of one pass of a case of the micro-benchmark."""
    def passes(count):
        output(*VALGRIND, f"--callgrind-out-file={profile}", program, "pass", name, count)
        return int(re.search(r"^(?:summary|totals): (\d+)", profile.read_text(), re.M)[1])

    return (passes(3 * few) - passes(few)) / (2 * few)
