"""The guard of the tests (conftest.py) sees what it is there for, and lets the rest pass."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = Path(__file__).parent
TASK = """
    async def test_it():
        asyncio.ensure_future(asyncio.sleep(60))
"""
FAULTS = {
    "sleeps": ("async def test_it(): time.sleep(1)", "It was asleep"),
    "waits for a thread": (
        """
        async def test_it():
            threading.Thread(target=lambda: time.sleep(1), name="other").start()
            next(thread for thread in threading.enumerate() if thread.name == "other").join()
        """,
        "It was asleep",
    ),
    "computes": ("async def test_it(): sum(range(30_000_000))", "It computed for"),
    "on another loop": ("def test_it(): asyncio.run(asyncio.to_thread(asyncio.run, nap()))", "It was asleep"),
    "leaves a task": (TASK, "A task was left"),
    "of asyncio.run": ("def test_it(): asyncio.run(leave())", "A task was left"),
    "leaves a context": ("def test_it(): Flask('x').app_context().push()", "Changed: the application context"),
    "async": ("async def test_it(): Flask('x').test_request_context().push()", "contexts() == before"),
    "leaves a thread": ("def test_it(): threading.Thread(target=lambda: time.sleep(9)).start()", "A thread was left"),
    "leaves a handler": ("def test_it(): signal.signal(signal.SIGTERM, print)", "Changed: the handler of SIGTERM"),
    "moves": ("def test_it(): os.chdir('/')", "Changed: the working directory"),
}
FINE = {
    "awaits": "async def test_it(): await asyncio.sleep(0.2)",
    "sleeps in a thread": "async def test_it(): await asyncio.to_thread(time.sleep, 0.2)",
    "others compute": "async def test_it(): await asyncio.to_thread(sum, range(10_000_000))",
    "imports": "async def test_it(): import slow_to_import",
    "says that it sleeps": "@pytest.mark.blocks_loop('why')\nasync def test_it(): time.sleep(0.3)",
    "says that it leaves tasks": "@pytest.mark.leaves_tasks('why')" + textwrap.dedent(TASK),
    "in a context": "async def test_it():\n    with Flask('x').test_request_context(): await asyncio.sleep(0)",
    "a thread that ends": "def test_it(): threading.Thread(target=lambda: time.sleep(0.2)).start()",
}
START = """\
import asyncio, os, signal, threading, time
import pytest
from asyncflask import Flask

async def nap(): time.sleep(1)
async def leave(): asyncio.ensure_future(asyncio.sleep(60))

"""
INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
CASES = {**{name: code for name, (code, _) in FAULTS.items()}, **FINE}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each case; they run in one session of pytest."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "pytest.ini").write_text(INI)
    (folder / "slow_to_import.py").write_text("sum(range(30_000_000))\n")
    pieces = (textwrap.dedent(code).replace("test_it", f"test_{at}") for at, code in enumerate(CASES.values()))
    (folder / "test_them.py").write_text(START + "\n".join(pieces))
    own = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # which has wider limits
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "--junit-xml=said.xml"],
        cwd=folder,
        env={**own, "GUARD": "", "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))},
        stdout=subprocess.DEVNULL,
        timeout=120,
    )
    said = dict.fromkeys(CASES, "")
    for case in ElementTree.parse(folder / "said.xml").iter("testcase"):
        said[list(CASES)[int(case.attrib["name"].removeprefix("test_"))]] += "".join(case.itertext())
    return said


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, (_, words) in FAULTS.items()], ids=FAULTS)
def test_fails(found: dict[str, str], name: str, words: str) -> None:
    assert words in found[name]


@pytest.mark.parametrize("name", FINE)
def test_passes(found: dict[str, str], name: str) -> None:
    assert found[name] == ""
