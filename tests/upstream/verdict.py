"""What a suite's junit report says, held against its row of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from suites import Listed, Suite

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
Outcomes = Mapping[str, str]


def read_report(path: Path) -> dict[str, str]:
    """{test id: outcome}; nothing where pytest did not get as far as its report."""
    outcomes: dict[str, str] = {}
    if not path.is_file():
        return outcomes
    for case in ElementTree.parse(path).iter("testcase"):
        key = make_id(case)
        # A test that fails in its teardown too is there twice.
        if outcomes.get(key) != FAILED:
            outcomes[key] = read_outcome(case)
    return outcomes


def make_id(case: ElementTree.Element) -> str:
    """pytest's id. `classname` is the module's dotted path, and the classes in it."""
    file = case.get("file", "")
    module = file.removesuffix(".py").replace("/", ".")
    classes = case.get("classname", "").removeprefix(module).strip(".")
    return "::".join(filter(None, (file, *classes.split("."), case.get("name", ""))))


def read_outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    return SKIPPED if case.find("skipped") is not None else PASSED


def find_problems(suite: Suite, face: str, outcomes: Outcomes) -> list[str]:
    """One line each; none where all is as the table has it."""
    problems = [] if len(outcomes) == suite.tests else [f"{len(outcomes)} tests instead of {suite.tests}"]
    for outcome, listed in ((FAILED, suite.get_failing(face)), (SKIPPED, suite.get_left_out(face))):
        problems += [f"{outcome}: {key}" for key in find_unlisted(outcomes, outcome, listed)]
        problems += [f"listed, but not {outcome}: {name}" for name in find_stale(outcomes, outcome, listed)]
    return problems


def find_unlisted(outcomes: Outcomes, outcome: str, listed: Listed) -> list[str]:
    return [key for key, value in outcomes.items() if value == outcome and not listed.keys() & names_of(key)]


def find_stale(outcomes: Outcomes, outcome: str, listed: Listed) -> list[str]:
    """Entries with a case that came out otherwise, and those which no test has."""
    seen: dict[str, set[str]] = {}
    for key, value in outcomes.items():
        for name in names_of(key):
            seen.setdefault(name, set()).add(value)
    return [name for name in listed if seen.get(name) != {outcome}]


def names_of(key: str) -> set[str]:
    """A case goes by its own id, and by its function's."""
    return {key, key.partition("[")[0]}


def count(outcomes: Outcomes) -> Counter[str]:
    return Counter(outcomes.values())
