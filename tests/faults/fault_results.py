"""What a run of the tests showed of each fault on each server: `python -m tests.faults.fault_results JUNIT_FILE`.

JUNIT_FILE is what `pytest --junitxml=JUNIT_FILE` wrote. Writes docs/reliability-results.md.
"""

from __future__ import annotations

import platform
import re
import sys
import xml.etree.ElementTree as xml
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reliability-results.md"
TEST = re.compile(r"`([\w/]+)\.py::([\w:]+)`")
HERE = "in process"
# What a name of a server in a test's parameters begins with, to the column. The first that fits counts.
COLUMNS = {
    "uvicorn": "uvicorn",
    "hypercorn": "hypercorn",
    "granian-wsgi": "granian WSGI",
    "granian": "granian",
    "gunicorn-asgi": "gunicorn asgi",
    "gunicorn-sync": "gunicorn sync",
    "gunicorn-gthread": "gunicorn gthread",
    "gunicorn-gevent": "gunicorn gevent",
    "waitress": "waitress",
    "": HERE,
}
HEAD = """\
# Each fault on each server

How many tests of each row passed there in one run of the suite. What a server cannot show, and why, says
[reliability.md](reliability.md). Written by `tests/faults/fault_results.py`.

"""
Outcomes = dict[str, Counter[str]]  # column -> outcome -> count


def read_rows(table: str) -> dict[str, list[str]]:
    """First and second cell of each row, to the names of its tests as a JUnit file has them."""
    rows = [line.split("|") for line in table.splitlines() if TEST.search(line)]
    return {
        f"{cells[1].strip()} | {cells[2].strip() if cells[1].strip().isdigit() else ''}": [
            ".".join(["tests", *file.split("/"), *test.split("::")]) for file, test in TEST.findall("|".join(cells))
        ]
        for cells in rows
    }


def read_outcomes(path: Path) -> dict[str, Outcomes]:
    outcomes: dict[str, Outcomes] = defaultdict(lambda: defaultdict(Counter))
    for case in xml.parse(path).iter("testcase"):
        test, _, parameters = case.attrib["name"].partition("[")
        bad = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[f"{case.attrib['classname']}.{test}"][find_column(parameters)][min(bad, default="passed")] += 1
    return outcomes


def find_column(parameters: str) -> str:
    return next(column for name, column in COLUMNS.items() if name in parameters)


def sum_up(tests: list[str], outcomes: dict[str, Outcomes]) -> Outcomes:
    total: Outcomes = defaultdict(Counter)
    for test in tests:
        if test not in outcomes:
            raise SystemExit(f"{test} was not run.")
        for column, counts in outcomes[test].items():
            total[column] += counts
    return total


def show(counts: Counter[str]) -> str:
    failed = counts["failure"] + counts["error"]
    return f"{failed} failed" if failed else str(counts["passed"] or "")


def make_page(table: str, path: Path) -> str:
    outcomes = read_outcomes(path)
    columns = list(dict.fromkeys(COLUMNS.values()))
    lines = ["| | fault | " + " | ".join(columns) + " |", "|---|---" + "|--:" * len(columns) + "|"]
    for row, tests in read_rows(table).items():
        total = sum_up(tests, outcomes)
        lines.append(f"| {row} | " + " | ".join(show(total[column]) for column in columns) + " |")
    suite = next(xml.parse(path).iter("testsuite")).attrib
    begun = f"{suite['timestamp'][:10]}, CPython {platform.python_version()}"
    run = f"The run: {begun}, {suite['tests']} tests, {suite['failures']} failed, {suite['errors']} errors.\n"
    return HEAD + run + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(make_page((ROOT / "docs" / "reliability.md").read_text("utf-8"), Path(sys.argv[1])), "utf-8")
