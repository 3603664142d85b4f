"""What it costs to begin, beside Flask: time of the import, memory of an application that said hello, its imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.startup import HELLO, IMPORT, measure

TRIES = 3  # a busy machine disturbs one measurement, rarely three


def test_import_takes_at_most_a_little_more_than_flasks() -> None:
    ratios = []
    for _ in range(TRIES):
        seconds = measure(IMPORT, rounds=5)
        ratios.append(seconds["asyncflask"] / seconds["flask"])
        if ratios[-1] <= 1.15:
            return
    pytest.fail(f"ratios to Flask's import: {ratios}")


def test_memory_after_hello() -> None:
    kibibytes = measure(HELLO, rounds=2)
    assert kibibytes["asyncflask"] < kibibytes["flask"] + 10 * 1024


def test_no_code_of_tests_commands_or_servers_is_imported() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import asyncflask"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "asyncflask.app" in imported
    unwanted = ("asyncflask.testing", "asyncflask.cli", "asyncflask.serving", "werkzeug.debug")
    unwanted += ("click", "uvicorn", "anyio", "asyncio", "trio", "h11", "pytest")
    assert imported.isdisjoint(unwanted), imported.intersection(unwanted)
