"""pgbench with many clients on few servers: no error, and never more servers than the limit."""

import os
import re
import subprocess
import threading

import psycopg

from cases import DIRECT_PORT, PATIENCE, POOL_SIZE, case, main

CLIENTS = 200
SECONDS = 3


class Sampler:
    """Asks the server, as long as its `with` block runs, how many connections the pooler has."""

    def __enter__(self):
        self.most = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def sample(self):
        look = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'weir' AND backend_type = 'client backend'"
        with psycopg.connect("", port=DIRECT_PORT, user="postgres", autocommit=True) as looker:
            while True:
                self.most = max(self.most, looker.execute(look).fetchone()[0])
                if self.done.wait(0.02):
                    return


def pgbench(*arguments):
    """Runs pgbench, which must succeed; gives its output."""
    command = ["pgbench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE + SECONDS, env=os.environ)
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {output[-2000:]}"
    return output


def load(*arguments, clients=CLIENTS):
    """Runs a load of some seconds: no failed transaction, no error, no client lost, the limit kept."""
    with Sampler() as sampler:
        output = pgbench("--no-vacuum", f"--client={clients}", "--jobs=2", f"--time={SECONDS}", *arguments)
    processed = int(re.search(r"number of transactions actually processed: (\d+)", output).group(1))
    failed = re.search(r"number of failed transactions: (\d+)", output)
    assert processed > 0 and (failed is None or failed.group(1) == "0"), output
    assert not re.search(r"error|aborted|fatal", output, re.IGNORECASE), output
    assert 1 <= sampler.most <= POOL_SIZE, f"{sampler.most} servers"


@case
def initialise():
    pgbench("--initialize", "--scale=1", "--quiet")


@case
def select_only_simple():
    load("--select-only", "--protocol=simple")


@case
def select_only_extended():
    load("--select-only", "--protocol=extended")


@case
def tpcb_simple():
    load("--protocol=simple")


@case
def tpcb_extended():
    load("--protocol=extended")


@case
def select_only_prepared():
    load("--select-only", "--protocol=prepared")


@case
def tpcb_prepared():
    # pgbench waits for a statement to be prepared with its whole thread, also where other clients of that thread
    # hold all servers: no more clients than servers.
    load("--protocol=prepared", clients=POOL_SIZE)


@case
def a_new_connection_for_each_transaction():
    load("--select-only", "--connect", clients=20)


@case
def balances_add_up():
    sql = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(delta) FROM pgbench_history)"
    with psycopg.connect("") as connection:
        accounts, history = connection.execute(sql).fetchone()
    assert accounts == history, (accounts, history)


main()
