"""The environments the suites run in: one for both faces of ours, where Flask is not installed, and one with Flask."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from archive import locate_cache
from suites import FLASK, FLASK_VERSION, SUITES

ROOT = Path(__file__).parents[2]
PATIENCE = 300


def prepare(face: str) -> Path:
    """The Python of the environment for a face, made if it is not there."""
    plans = plan_installs(face)
    key = hashlib.sha256(json.dumps([sys.version, sys.base_prefix, plans]).encode()).hexdigest()[:12]
    folder = locate_cache() / f"env-{'flask' if face == FLASK else 'ours'}-{key}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        call(sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder))
        for plan in plans:
            call(sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *plan)
        if face != FLASK:
            add_command(folder / "bin" / "flask", python)
        (folder / "complete").touch()
    return python


def plan_installs(face: str) -> list[list[str]]:
    """pip's arguments: first what brings its own requirements, then what would bring Flask."""
    requires = {requirement for suite in SUITES for requirement in suite.requires}
    base = [f"flask=={FLASK_VERSION}"] if face == FLASK else read_dependencies()
    packages = [package for suite in SUITES for package in suite.packages]
    return [base + sorted(requires), ["--no-deps", *packages]]


def read_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def add_command(path: Path, python: Path) -> None:
    """The command `flask`, which means ours as `import flask` does."""
    path.write_text(f'#!/bin/sh\nexec "{python}" -m asyncflask --as-flask "$@"\n')
    path.chmod(0o755)


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def make_environ(python: Path) -> dict[str, str]:
    """A suite's environment variables: this tree's asyncflask, the environment's commands, nothing that interferes."""
    foreign = ("FLASK_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {
        **kept,
        "PATH": os.pathsep.join((str(python.parent), os.environ.get("PATH", ""))),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
