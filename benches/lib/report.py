"""Results as Markdown tables. They are made of what is in the JSON file and nothing else."""

import os
import pathlib
import platform
import re
import statistics

from .base import ROOT, output

ONE, OTHER, CONTROL, TWO = "pgweir", "PgBouncer", "control", "pgweir, 2 workers"


def machine(binaries):
    model = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "cpus": os.cpu_count(),
        "model": model.group(1) if model else platform.machine(),
        "linux": platform.release(),
        "load before": round(os.getloadavg()[0], 1),
        "postgres": output(f"{binaries}/postgres", "--version").strip(),
        "commit": output("git", "-C", ROOT, "describe", "--always", "--dirty").strip(),
    }


def facts(machine, known):
    return "\n".join([
        f"- {machine['cpus']} CPUs: {machine['model']}; Linux {machine['linux']}; load before: {machine['load before']}",
        f"- {machine['postgres']}, on the same machine",
        f"- {known['pgweir']} ({machine['commit']}), {known['PgBouncer']}"
        + "".join(f", {name} {version}" for name, version in known.items() if name not in ("pgweir", "PgBouncer")),
    ])


def median(rounds, part):
    return statistics.median(figures[part] for figures in rounds)


def ratio(rounds, base, part):
    """The median of the ratios of those rounds that ran one after the other."""
    pairs = [one[part] / other[part] for one, other in zip(rounds, base) if other[part]]
    return f"{statistics.median(pairs):.2f}" if pairs else "n/a"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def compare(title, first, rows, cell, part=None):
    """A table with a column for each pooler, and the ratios of `part`. `rows` are labels with results by pooler."""
    names = list(dict.fromkeys(name for _, found in rows for name in found))
    ratios = [pair for pair in ((ONE, OTHER), (TWO, ONE), (CONTROL, OTHER)) if part and set(pair) <= set(names)]
    head = [*first, *names, *(f"{one} / {other}" for one, other in ratios)]
    body = []
    for labels, found in rows:
        cells = [cell(found[name]) if name in found else "" for name in names]
        cells += [
            ratio(found[one]["rounds"], found[other]["rounds"], part) if one in found and other in found else ""
            for one, other in ratios
        ]
        body.append([*labels, *cells])
    return f"\n{title}\n\n{table(head, body)}"


def plain(part, digits=1):
    return lambda result: f"{median(result['rounds'], part):,.{digits}f}"


def with_parts(result):
    rounds = result["rounds"]
    return f"{median(rounds, 'cpu'):.1f} ({median(rounds, 'user'):.1f} + {median(rounds, 'system'):.1f})"


def calls(digits):
    """The sum, and each kind that makes up a hundredth of it; behind a minus those of them that failed."""
    def cell(result):
        total = sum(count for count, _ in result["calls"].values())
        if not total:
            return ""
        kinds = [
            f"{name} {count:.{digits}f}" + (f" (−{failed:.{digits}f})" if failed > total / 100 else "")
            for name, (count, failed) in sorted(result["calls"].items(), key=lambda item: -item[1][0])
            if count > total / 100
        ]
        return f"**{total:.{digits}f}**: {', '.join(kinds)}"

    return cell


def throughput(title, results):
    rows = [
        ((found["protocol"], f"{found['clients'] + found['idle']:,}" + (f" ({found['clients']} active)" if found["idle"] else "")),
         found["poolers"])
        for found in results
    ]
    first = ["protocol", "clients"]
    return [
        f"\n### {title}",
        compare("CPU µs for a transaction (user + system):", first, rows, with_parts, "cpu"),
        compare("System calls for a transaction:", first, rows, calls(2)),
        compare("Voluntary context switches for a transaction:", first, rows, plain("switches", 2), "switches"),
        compare("Transactions per second:", first, rows, plain("tps", 0), "tps"),
        compare("Latency, p50, µs:", first, rows, plain("p50", 0), "p50"),
        compare("Latency, p99, µs:", first, rows, plain("p99", 0), "p99"),
    ]


def memory(results):
    poolers, clients = results["poolers"], results["clients"]
    stages = list(next(iter(poolers.values()), {}))
    of_clients = [stage for stage in stages if stage != "empty" and "left" not in stage]
    grown = {name: {stage: found[stage]["share"] - found["empty"]["share"] for stage in stages} for name, found in poolers.items()}
    per_client = [[stage, *(f"{grown[name][stage] / clients:.2f}" for name in poolers)] for stage in of_clients]
    kept = [[stage, *(f"{grown[name][stage] / 1024:.1f}" for name in poolers)] for stage in stages if "left" in stage]
    empty = ["empty, as a whole", *(f"{found['empty']['share'] / 1024:.1f}" for found in poolers.values())]
    return [
        f"\n### Memory, {clients:,} clients",
        f"\nKB for an idle client:\n\n{table(['', *poolers], per_client)}",
        f"\nMB kept beyond those of the empty pooler:\n\n{table(['', *poolers], [empty, *kept])}",
    ]


def logins(results):
    rows = [((title,), found) for title, found in results.items()]
    return [
        "\n### Logins",
        compare("CPU µs for a login, a SELECT 1 and the goodbye (user + system):", ["login"], rows, with_parts, "cpu"),
    ]


def storm(results):
    rows = [((title,), found) for title, found in results.items()]
    first = ["logins at the same time"]
    return [
        "\n### Transactions of 8 clients while others log in",
        compare("Latency, p50, µs:", first, rows, plain("p50", 0), "p50"),
        compare("Latency, p99, µs:", first, rows, plain("p99", 0), "p99"),
        compare("Seconds that the logins took:", first, rows[1:], plain("seconds", 2), "seconds"),
    ]


def copying(results):
    rows = [((title,), found) for title, found in results.items()]
    return [
        "\n### COPY, rows of 2 kB",
        compare("CPU seconds for a GB:", ["COPY"], rows, plain("cpu", 2), "cpu"),
        compare("System calls for a MB:", ["COPY"], rows, calls(0)),
        compare("Growth of the peak of memory, kB:", ["COPY"], rows, plain("peak", 0)),
        compare("Seconds for a GB:", ["COPY"], rows, plain("seconds", 1), "seconds"),
    ]


TITLES = {
    "tcp": "Transactions, PostgreSQL over TCP",
    "unix": "Transactions, PostgreSQL over a Unix socket",
    "crowd": "Transactions, most clients idle",
}


def markdown(results):
    lines = [facts(results["machine"], results["versions"])]
    plan = results["plan"]
    lines.append(
        f"- `pgbench -S` on 20 server connections; {plan['rounds']} rounds of {plan['seconds']:g} s, the poolers in turn;"
        " medians of the rounds, ratios within a round"
    )
    for name, title in TITLES.items():
        if results.get(name):
            lines += throughput(title, results[name])
    for name, write in (("memory", memory), ("logins", logins), ("storm", storm), ("copy", copying)):
        if results.get(name):
            lines += write(results[name])
    return "\n".join(lines)
