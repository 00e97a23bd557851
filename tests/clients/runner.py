"""Starts PostgreSQL and the pooler, runs the client programs, and counts their cases.

A program takes the usual PG* variables and speaks in lines:

    driver NAME VERSION
    ok CASE
    not ok CASE: why
    skip CASE: why
    1..N                    the last one: how many cases there were

A driver answers for each of `programs.CASES`, and for more of its own if it likes. A program that is silent about
one of them, or that ends in any other way, has one more failed case.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from programs import BUILT, CASES, HERE, PROGRAMS
from servers import POOL_SIZE, WIDE_POOL_SIZE, Pooler, Postgres
from table import RESULTS, check_readme, markdown, write_readme

BUILD_TIME = 1200
LINE = re.compile(r"(ok|not ok|skip) ([^:]+)(?:: (.*))?")


@dataclass
class Report:
    """What one program said."""

    driver: str = ""
    version: str = ""
    language: str = ""
    cases: dict = field(default_factory=dict)

    def fail(self, name, why):
        print(f"not ok {name}: {why}", flush=True)
        self.cases[name] = "not ok"

    def count(self, verdict):
        return sum(said == verdict for said in self.cases.values())


def main():
    arguments = parse_arguments()
    if arguments.table:
        print(markdown(), end="")
        return
    if arguments.update_readme:
        write_readme()
        return
    reports, missing = run_all([name for name in PROGRAMS if name in (arguments.programs or PROGRAMS)], arguments.direct)
    complaints = []
    if not arguments.direct:
        remember(reports)
        complaints = list(check_readme(reports))
    for complaint in complaints:
        print(f"not ok README.md: {complaint}")
    passed, failed, skipped = (sum(report.count(verdict) for report in reports.values()) for verdict in ("ok", "not ok", "skip"))
    failed += len(complaints)
    # Continuous integration installs all runtimes: there, one that is missing is a mistake in scripts/debian.sh.
    failed, skipped = (failed + missing, skipped) if os.environ.get("CI") else (failed, skipped + missing)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/clients/run")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=" ".join(PROGRAMS))
    parser.add_argument("--direct", action="store_true", help="without the pooler, to see what a driver does by itself")
    parser.add_argument("--table", action="store_true", help="print what the last run found, in Markdown")
    parser.add_argument("--update-readme", action="store_true", help="put that table into README.md")
    arguments = parser.parse_args()
    for name in set(arguments.programs) - set(PROGRAMS):
        parser.error(f"no program {name}")
    return arguments


def run_all(names, direct):
    """The report of each program that could run, and how many could not."""
    reports, missing = {}, 0
    with tempfile.TemporaryDirectory(prefix="pgweir-clients-") as folder:
        os.chmod(folder, 0o755)
        folder = pathlib.Path(folder)
        with Postgres(folder) as postgres, Pooler(folder, postgres.port) as pooler:
            for name in names:
                program = PROGRAMS[name]
                lacking = what_is_lacking(program)
                if lacking:
                    print(f"== {name}\nskipped: no {lacking}", flush=True)
                    missing += 1
                else:
                    reports[name] = run_program(name, program, postgres, postgres if direct else pooler)
            if any(report.count("not ok") for report in reports.values()):
                print("---- log of the pooler ----", pooler.log()[-10_000:], sep="\n")
    return reports, missing


def what_is_lacking(program):
    for thing, probe in program.needs.items():
        if subprocess.run(probe, shell=True, cwd=HERE, capture_output=True, check=False).returncode != 0:
            return thing
    return None


def run_program(name, program, postgres, server):
    print(f"== {name}", flush=True)
    report = Report(driver=name, language=program.language)
    if program.build and not build(program, report):
        return report
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "weir",
        "PGPASSWORD": "weir",
        "PGDATABASE": "weir",
        "DIRECT_PORT": str(postgres.port),
        "POOL_SIZE": str(POOL_SIZE),
        "WIDE_POOL_SIZE": str(WIDE_POOL_SIZE),
    }
    started = time.monotonic()
    process = subprocess.Popen(program.command, cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=program.time)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        report.fail(name, "it did not end")
    read(output, report)
    if process.returncode != 0 or output.splitlines()[-1:] != [f"1..{len(report.cases)}"]:
        report.fail(name, f"it ended with {process.returncode}, after {len(report.cases)} cases")
    for case in CASES if program.is_driver else ():
        if case not in report.cases:
            report.fail(case, "not a word about it")
    print(f"{report.driver} {report.version}: {time.monotonic() - started:.1f} s", flush=True)
    return report


def build(program, report):
    BUILT.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(program.build, cwd=HERE, timeout=BUILD_TIME, check=False)
    except subprocess.TimeoutExpired:
        report.fail("build", "it did not end")
        return False
    if done.returncode != 0:
        report.fail("build", f"it ended with {done.returncode}")
    return done.returncode == 0


def read(output, report):
    """Takes what a program printed into its report, and prints the cases."""
    for line in output.splitlines():
        if line.startswith("driver "):
            report.driver, report.version = line.removeprefix("driver ").rsplit(" ", 1)
        elif match := LINE.fullmatch(line):
            verdict, name, _ = match.groups()
            print(line, flush=True)
            # A case that is named twice has to hold twice.
            if report.cases.get(name) != "not ok":
                report.cases[name] = verdict
        elif not re.fullmatch(r"1\.\.\d+", line):
            print(line, flush=True)


def remember(reports):
    """Adds the drivers that ran to those of earlier runs."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, report in reports.items():
        if PROGRAMS[name].is_driver:
            known[name] = vars(report)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({name: known[name] for name in PROGRAMS if name in known}, indent=1) + "\n")


if __name__ == "__main__":
    main()
