"""Run the tests of Flask and of its extensions through the alias: `python tests/upstream/run.py --face wsgi [suite …]`.

Their archives are downloaded and checked, unpacked into a scratch folder and run there, unmodified. The exit code is
0 if each suite came out as suites.py has it. With `--face flask` they run on the real Flask, for comparison.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from archive import fetch, unpack
from environment import make_environ, prepare
from suites import FACES, FLASK, SUITES, Suite
from verdict import FAILED, PASSED, SKIPPED, Outcomes, count, find_problems, read_report

AT_ONCE = 2
TAIL = 6000
COLUMNS = "{:<18}{:<9}{:>6}{:>8}{:>8}{:>9}{:>9}"


@dataclass(frozen=True)
class Run:
    suite: Suite
    outcomes: Outcomes
    problems: Sequence[str]
    seconds: float
    output: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    wanted = [suite for suite in SUITES if not options.suites or suite.name in options.suites]
    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        environment = pool.submit(prepare, options.face)
        releases = {suite.release for suite in wanted}
        fetched = dict(zip(releases, pool.map(lambda release: fetch(*release), releases), strict=True))
        python = environment.result()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(lambda suite: run(suite, options.face, python, fetched[suite.release]), wanted))
    print(report(runs))
    return int(any(run.problems for run in runs))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--face", choices=FACES, required=True)
    parser.add_argument("suites", nargs="*", metavar="suite", help=", ".join(suite.name for suite in SUITES))
    options = parser.parse_args(arguments)
    if unknown := set(options.suites) - {suite.name for suite in SUITES}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    return options


def run(suite: Suite, face: str, python: Path, archive: Path) -> Run:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upstream-") as scratch:
        folder = unpack(archive, Path(scratch)) / suite.folder
        junit = Path(scratch) / "junit.xml"
        late, output = run_tests(make_command(suite, face, python, junit), folder, make_environ(python), suite.seconds)
        outcomes = read_report(junit)
    problems = [f"no end within {suite.seconds} s"] if late else find_problems(suite, face, outcomes)
    return Run(suite, outcomes, problems, time.monotonic() - started, output)


def make_command(suite: Suite, face: str, python: Path, junit: Path) -> list[str]:
    report = ["--rootdir=.", f"--junitxml={junit}", "-o", "junit_family=xunit1", "-o", "faulthandler_timeout=30"]
    command = [str(python), "-m", "pytest", "-q", "--tb=short", "--color=no", "-p", "no:cacheprovider", *report]
    if face != FLASK:
        command += ["-p", "asyncflask.as_flask", "-p", "upstream_plugin", f"--face={face}"]
        command += [f"--leave-out={name}={reason}" for name, reason in suite.get_left_out(face).items()]
    return [*command, *suite.options, "tests"]


def run_tests(command: list[str], folder: Path, environ: dict[str, str], seconds: float) -> tuple[bool, str]:
    """Whether it had to be ended, and what it wrote."""
    # A group of its own, since tests start processes too.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return False, process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return True, process.communicate()[0]


def report(runs: Sequence[Run]) -> str:
    """What went wrong, the table, and the one line that sums it up."""
    lines = []
    for run in runs:
        if run.problems:
            lines += [f"== {run.suite.name}", run.output[-TAIL:], *run.problems, ""]
    lines.append(COLUMNS.format("suite", "version", "tests", PASSED, FAILED, SKIPPED, "seconds"))
    total: Counter[str] = Counter()
    for run in runs:
        counts = count(run.outcomes)
        total += counts
        figures = (len(run.outcomes), counts[PASSED], counts[FAILED], counts[SKIPPED], f"{run.seconds:.1f}")
        lines.append(COLUMNS.format(run.suite.name, run.suite.version, *figures))
    problems = sum(len(run.problems) for run in runs)
    lines.append(f"\nNot as suites.py has it: {problems}" if problems else "\nAll as suites.py has it.")
    lines.append(" ".join(f"{outcome} {total[outcome]}" for outcome in (PASSED, FAILED, SKIPPED)))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
