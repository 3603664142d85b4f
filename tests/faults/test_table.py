"""docs/reliability.md has a row for each fault and each class of attacks, and its tests exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import fault_results
import pytest

TESTS = Path(__file__).parent.parent
TABLE = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")
FAULTS = 36
ATTACKS = (
    *("Floods of parts and fields", "Spooling", "Traversal", "Open redirect", "Session and cache"),
    *("Header and log injection", "Host", "Environ of equal headers", "Debugger", "Ranges", "Cookies"),
    *("Websocket origin", "Method names", "Decompression"),
)
TEST = re.compile(r"`([\w/]+\.py)::([\w:]+)`")


def read_rows() -> dict[str, list[tuple[str, str]]]:
    """The first cell of each row to its tests: file, and function or Class::method."""
    rows = [line for line in TABLE.splitlines() if TEST.search(line)]
    names = [line.split("|")[1].strip() for line in rows]
    assert len(set(names)) == len(names)
    return {name: TEST.findall(line) for name, line in zip(names, rows, strict=True)}


ROWS = read_rows()
NUMBERS = [str(number) for number in range(1, FAULTS + 1)]


@cache
def names_in(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}::{method.name}" for method in node.body if is_test(method))
        elif is_test(node):
            found.add(node.name)
    return frozenset(found)


def is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def test_each_fault_and_each_attack_has_a_row() -> None:
    assert sorted(ROWS) == sorted([*NUMBERS, *ATTACKS])


@pytest.mark.parametrize("name", ROWS)
def test_its_tests_exist(name: str) -> None:
    missing = [f"{file}::{test}" for file, test in ROWS[name] if test not in names_in(TESTS / file)]
    assert not missing


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.stem)
def test_numbered_tests_are_in_the_row_of_their_number(path: Path) -> None:
    for test in names_in(path):
        if number := re.match(r"test_(\d\d)_", test):
            assert (f"faults/{path.name}", test) in ROWS[str(int(number[1]))]


def test_results_are_of_each_row(tmp_path: Path) -> None:
    """Of a run in which each test passed on uvicorn, but for one that failed there too."""
    rows = fault_results.read_rows(TABLE)
    names = sorted({name for tests in rows.values() for name in tests})
    cases = "".join(
        f'<testcase classname="{name.rpartition(".")[0]}" name="{name.rpartition(".")[2]}[uvicorn-h11]">'
        f"{'<failure/>' * (number == 0)}</testcase>"
        for number, name in enumerate(names)
    )
    path = tmp_path / "junit.xml"
    suite = '<testsuite timestamp="2026-01-01T00:00:00" tests="9" failures="1" errors="0">'
    path.write_text(f"<testsuites>{suite}{cases}</testsuite></testsuites>")
    page = fault_results.make_page(TABLE, path)
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [line.split("|")[1].strip() for line in lines] == list(ROWS)
    for line, tests in zip(lines, rows.values(), strict=True):
        assert line.split("|")[3].strip() == ("1 failed" if names[0] in tests else str(len(tests)))


def test_the_page_of_results_has_each_row() -> None:
    lines = [line for line in fault_results.PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    assert [line.split("|")[1].strip() for line in lines] == list(ROWS)
    assert "failed |" not in "".join(lines)


@pytest.mark.parametrize("number", NUMBERS)
def test_each_row_says_which_servers_show_it(number: str) -> None:
    (row,) = re.findall(rf"^\| {number} \|.*$", TABLE, re.MULTILINE)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert len(cells) == 5 and all(cells)
