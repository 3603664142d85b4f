"""docs/reliability.md has a row for each fault and each class of attacks, and its tests exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

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


@pytest.mark.parametrize("number", NUMBERS)
def test_each_row_says_which_servers_show_it(number: str) -> None:
    (row,) = re.findall(rf"^\| {number} \|.*$", TABLE, re.MULTILINE)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert len(cells) == 5 and all(cells)
