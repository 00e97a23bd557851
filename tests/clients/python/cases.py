"""Cases of a client program: functions that are run in order, one line of output each."""

import asyncio
import inspect
import os
import sys
import threading
import time
import traceback

import psycopg

POOL_SIZE = int(os.environ.get("POOL_SIZE", "2"))
DIRECT_PORT = int(os.environ.get("DIRECT_PORT", "5432"))
# Only a broken pooler ever makes a case wait for so long.
PATIENCE = 60

_cases = {}


def case(function):
    """Marks a function, plain or async, as a case. Its name is the case's."""
    # A name that Python has taken may end in an underscore.
    _cases[function.__name__.strip("_").replace("_", " ")] = function
    return function


def skip(name, why):
    """Says that the driver has no such thing."""
    _cases[name] = why


def main(driver=None, version=None):
    """Runs all cases, prints the closing line, and ends the program."""
    if driver:
        print(f"driver {driver} {version}")
    for name, function in _cases.items():
        print(_outcome(name, function), flush=True)
    print(f"1..{len(_cases)}", flush=True)
    # Not sys.exit: a thread or a connection that hangs must not keep the program.
    os._exit(0)


def _outcome(name, function):
    if isinstance(function, str):
        return f"skip {name}: {function}"
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(asyncio.wait_for(function(), PATIENCE))
        else:
            function()
    except Exception as error:  # pylint: disable=broad-except
        traceback.print_exc(limit=-4, chain=False)
        return f"not ok {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return f"ok {name}"


def expect_error(kind, function):
    """Runs the function, which must fail in this way."""
    try:
        function()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def in_threads(count, function):
    """Runs the function in that many threads, and raises what any of them raised."""
    failures = []

    def guarded(number):
        try:
            function(number)
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a client hangs"
    if failures:
        raise failures[0]


def until_active(sql):
    """Waits until the server itself says that the query runs."""
    look = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect("", port=DIRECT_PORT, user="postgres", autocommit=True) as looker:
        while looker.execute(look, (sql,)).fetchone() == (0,):
            assert time.monotonic() < deadline, f"{sql} does not run"
            time.sleep(0.01)
