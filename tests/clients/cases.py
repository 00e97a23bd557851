"""Cases of a client program: functions that are run in order, one line of output each."""

import asyncio
import inspect
import os
import sys
import traceback

POOL_SIZE = int(os.environ.get("POOL_SIZE", "5"))
DIRECT_PORT = int(os.environ["DIRECT_PORT"]) if "DIRECT_PORT" in os.environ else None
# Only a broken pooler ever makes a case wait for so long.
PATIENCE = 60

_cases = []


def case(function):
    """Marks a function, plain or async, as a case. Its name is the case's."""
    _cases.append(function)
    return function


def main():
    """Runs all cases, prints the closing line, and ends the program."""
    failed = sum(not _passes(function) for function in _cases)
    print(f"{len(_cases) - failed} passed, {failed} failed")
    sys.stdout.flush()
    # Not sys.exit: a thread or a connection that hangs must not keep the program.
    os._exit(1 if failed else 0)


def _passes(function):
    name = function.__name__.replace("_", " ")
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(asyncio.wait_for(function(), PATIENCE))
        else:
            function()
    except Exception as error:  # pylint: disable=broad-except
        traceback.print_exc()
        print(f"FAILED {name}: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)
        return False
    print(f"ok {name}", flush=True)
    return True
