"""mypy --strict and pyright accept the package, the tour, user code and Flask's own type checks; and refuse mistakes.

`# error: CODE RULE` in a checked file: mypy reports CODE in this line and pyright RULE. Nothing else is reported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from upstream.archive import fetch, locate_cache, unpack
from upstream.suites import FLASK_HASH, FLASK_VERSION

ROOT = Path(__file__).resolve().parent.parent
OURS = [ROOT / "asyncflask", ROOT / "examples" / "tour", ROOT / "examples" / "live", ROOT / "tests" / "typed"]
MARK = re.compile(r"# error: (?P<mypy>\S+) (?P<pyright>\S+)")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # whose packages `--verifytypes` sees
    "PYRIGHT_PYTHON_GLOBAL_NODE": "false",  # node comes with the extra `dev`: who knows how old another one is
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "true",  # and nothing asks the network for a newer pyright
}

Problem = tuple[str, int, str]


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_our_code(checker: str) -> None:
    found, expected = RUN[checker](OURS), find_marks(OURS, checker)
    assert sorted(found - expected) == []
    assert sorted(expected - found) == []


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_flasks_own_type_checks(checker: str, tmp_path: Path) -> None:
    copy_type_checks(tmp_path / "checked", tmp_path)
    assert sorted(RUN[checker]([tmp_path / "checked"])) == []


def test_every_public_name_has_a_complete_type() -> None:
    answer = call_checker("pyright", "--verifytypes", "asyncflask", "--ignoreexternal", "--outputjson")
    report = json.loads(answer)["typeCompleteness"]
    lacking = [
        f"{symbol['name']}: {error['message']}"
        for symbol in report["symbols"]
        for error in symbol["diagnostics"]
        if error["severity"] == "error" and "partially" not in error["message"]  # which follows from another one
    ]
    assert lacking == []
    assert report["completenessScore"] == 1


def run_mypy(paths: list[Path]) -> set[Problem]:
    cache = locate_cache() / f"mypy-{paths[0].name}"
    answer = call_checker("mypy", "--strict", "--output=json", "--cache-dir", str(cache), *map(str, paths))
    found = [json.loads(line) for line in answer.splitlines() if line.startswith("{")]
    return {(name_of(row["file"]), row["line"], row["code"]) for row in found if row["severity"] == "error"}


def run_pyright(paths: list[Path]) -> set[Problem]:
    answer = call_checker("pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, paths))
    found = json.loads(answer)["generalDiagnostics"]
    return {(name_of(row["file"]), row["range"]["start"]["line"] + 1, row.get("rule", "")) for row in found}


RUN: dict[str, Callable[[list[Path]], set[Problem]]] = {"mypy": run_mypy, "pyright": run_pyright}


def call_checker(module: str, *arguments: str) -> str:
    if find_spec(module) is None:
        skip_at_home(f"{module} is not installed: it comes with the extra 'dev'")
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: it found something
    return done.stdout


def name_of(file: str) -> str:
    path = ROOT / file
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def find_marks(paths: list[Path], checker: str) -> set[Problem]:
    files = [file for path in paths for file in path.rglob("*.py")]
    return {(name_of(str(file)), number, mark[checker]) for file in files for number, mark in marks_in(file)}


def marks_in(file: Path) -> Iterator[tuple[int, re.Match[str]]]:
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if mark := MARK.search(line):
            yield number, mark


def copy_type_checks(target: Path, scratch: Path) -> None:
    """Flask's files, with nothing but the import changed."""
    (scratch / "source").mkdir()
    source = unpack(get_flask(), scratch / "source") / "tests" / "type_check"
    files = sorted(source.glob("*.py"))
    assert len(files) == 3
    target.mkdir()
    for file in files:
        text = re.sub(r"^from flask\b", "from asyncflask", file.read_text("utf-8"), flags=re.MULTILINE)
        (target / file.name).write_text(text, "utf-8")


def get_flask() -> Path:
    try:
        return fetch("flask", FLASK_VERSION, FLASK_HASH)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        skip_at_home(f"Flask's source could not be had: {error}")


def skip_at_home(reason: str) -> t.NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
