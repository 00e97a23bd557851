"""The table of drivers in README.md: made from the last results, and checked against those of a run."""

import json
import re

from programs import CACHE, CASES, HERE, PROGRAMS

RESULTS = CACHE / "drivers.json"
README = HERE.parent.parent / "README.md"
MARKS = {"ok": "✓", "not ok": "✗", "skip": "–"}
BEGIN, END = "<!-- drivers: made by `make drivers` -->", "<!-- /drivers -->"


def markdown():
    """One row for each driver, one column for each case that has a title."""
    columns = [title for title in CASES.values() if title]
    rows = [["driver", "version", *columns], ["---", "---", *[":-:"] * len(columns)]]
    for report in json.loads(RESULTS.read_text()).values():
        marks = [MARKS[report["cases"].get(case, "not ok")] for case, title in CASES.items() if title]
        rows.append([f"{report['driver']} ({report['language']})", report["version"], *marks])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def write_readme():
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{markdown()}{END}{after}")


def check_readme(reports):
    """What is wrong with the table, given what ran: versions may differ, drivers and marks may not."""
    shown = {row[0]: row[2:] for row in _rows(README.read_text().partition(BEGIN)[2].partition(END)[0])}
    for name, report in reports.items():
        if not PROGRAMS[name].is_driver or "not ok" in report.cases.values():
            continue
        title = f"{report.driver} ({report.language})"
        marks = [MARKS[report.cases[case]] for case, column in CASES.items() if column]
        if shown.get(title) != marks:
            yield f"the row of {title} is not what ran; `make drivers` makes the table"


def _rows(table):
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in table.splitlines() if line.startswith("|")]
