"""Every command and every example in README and docs is run here, or by `.ci/run` where it sets up an environment."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MORE_PAGES = [
    ROOT / name
    for name in ("CONTRIBUTING.md", "benchmarks/README.md", "examples/live/README.md", "examples/tour/README.md")
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^<!-- file: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent

# How each server is told its port.
PORT_OPTIONS = {
    "uvicorn": "--port {port}",
    "hypercorn": "--bind 127.0.0.1:{port}",
    "granian": "--port {port}",
    "gunicorn": "--bind 127.0.0.1:{port} --no-control-socket",
    "waitress-serve": "--listen 127.0.0.1:{port}",
    "asyncflask": "--port {port}",
}


def blocks(language: str) -> list[tuple[str, str]]:
    found = [(page, match) for page in PAGES for match in BLOCK.finditer(page.read_text())]
    return [(page.name, match[2]) for page, match in found if match[1] == language]


# What a page says is in a file of that name.
FILES = {name: code for page in PAGES for name, code in NAMED.findall(page.read_text())}
COMMANDS = sorted({line for _, text in blocks("sh") for line in text.splitlines() if line})
IN_CI = [line for line in COMMANDS if line.startswith("python3 -m venv")]
SERVED = [line for line in COMMANDS if line not in IN_CI and re.search(r":app$| run( --debug| --workers \d+)?$", line)]
PRINTED = [line for line in COMMANDS if line not in IN_CI and line not in SERVED]


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_example(page: str, code: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    module = tmp_path / "example.py"
    module.write_text(code)
    subprocess.run([sys.executable, "-W", "error", module], check=True, env=environment(), timeout=30)


@pytest.mark.parametrize("command", SERVED)
def test_server(command: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    port = free_port()
    name, *arguments = shlex.split(command)
    if not (BIN / name).exists():
        pytest.skip(f"{name} is not installed")
    options = PORT_OPTIONS[name].format(port=port).split()
    arguments = [*arguments, *options] if name == "asyncflask" else [*options, *arguments]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [BIN / name, *arguments], cwd=tmp_path, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        assert b'"hello":' in fetch(f"http://127.0.0.1:{port}/hello/you", server).replace(b'": "', b'":"')
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.parametrize("command", PRINTED)
def test_command(command: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    name, *arguments = shlex.split(command)
    done = subprocess.run(
        [BIN / name, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"hello +GET +/hello/<name> +(loop|thread)", done.stdout)


@pytest.mark.parametrize("name", ["tests", "tour"])
def test_set_up_commands_are_run_by_ci(name: str) -> None:
    assert f"<!-- command: {name} -->" in (ROOT / "README.md").read_text()
    assert f".ci/readme-command {name}" in (ROOT / ".ci" / "run").read_text()
    assert len(IN_CI) == 2


@pytest.mark.parametrize("page", [*PAGES, *MORE_PAGES], ids=lambda page: page.parent.name + "/" + page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def write_files(folder: Path) -> None:
    for name, code in FILES.items():
        (folder / name).write_text(code)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str, server: subprocess.Popen[bytes]) -> bytes:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.1)
