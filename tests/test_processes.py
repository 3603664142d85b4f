"""`asyncflask run --workers N`: real processes that share a port, are replaced when they die, and end together."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_serving import PATIENCE, Server

from asyncflask.listening import check_address

SITE = """
import os, {module}

app = {module}.Flask(__name__)

@app.get("/")
async def index():
    return str(os.getpid())

@app.get("/sync")
def sync():
    return f"{{app.debug}} {{{module}.Flask.__module__}}"
"""


class Crew(Server):
    """Announced by uvicorn itself."""

    @property
    def port(self) -> int:
        return int(self.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])


def start(folder: Path, *options: str, module: str = "asyncflask", before: tuple[str, ...] = ()) -> Crew:
    (folder / "site_app.py").write_text(SITE.format(module=module))
    command = ["-m", "asyncflask", *before, "--app", "site_app", "run", "--port", "0", *options]
    return Crew(folder, command, {})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Crew]:
    server = start(tmp_path, "--workers", "2")
    yield server
    kill(server)


def kill(server: Crew) -> None:
    try:
        os.killpg(server.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    server.process.wait()


def wait_for_workers(server: Crew, but: int = 0) -> set[int]:
    """The ids of two processes that answer, none of them `but`."""
    seen: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while len(seen - {but}) < 2:
        assert time.monotonic() < deadline, server.text
        try:
            seen.add(int(server.get()[1]))
        except OSError:  # nobody listens yet, or the worker that was killed had taken the connection
            time.sleep(0.05)
    return seen - {but}


def test_two_processes_answer_and_end(server: Crew) -> None:
    workers = wait_for_workers(server)
    assert server.process.pid not in workers
    os.kill(server.process.pid, signal.SIGTERM)
    assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_one_that_dies_is_replaced(server: Crew) -> None:
    victim = wait_for_workers(server).pop()
    os.kill(victim, signal.SIGKILL)
    wait_for_workers(server, but=victim)


def test_workers_know_what_the_command_was_told(tmp_path: Path) -> None:
    server = start(tmp_path, "--workers", "2", "--debug", module="flask", before=("--as-flask",))
    try:
        wait_for_workers(server)
        assert server.get("/sync") == (200, "True asyncflask.app")
        assert server.stop(signal.SIGTERM)[0] in (0, -signal.SIGTERM)
    finally:
        kill(server)


def test_workers_find_the_application_that_no_option_names(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SITE.format(module="asyncflask"))
    server = Crew(tmp_path, ["-m", "asyncflask", "run", "--port", "0", "--workers", "2"], {})
    try:
        wait_for_workers(server)
        assert server.stop(signal.SIGTERM)[0] in (0, -signal.SIGTERM)
    finally:
        kill(server)


@pytest.mark.parametrize("option", ["--reload", "--debugger"])
def test_what_belongs_to_one_process_is_refused(tmp_path: Path, option: str) -> None:
    server = start(tmp_path, "--workers", "2", option)
    assert server.process.wait(PATIENCE) == 2
    assert re.search('"--reload" and "--debugger" are for one process', server.text)


def test_a_broken_application_is_told_at_once(tmp_path: Path) -> None:
    server = start(tmp_path, "--workers", "2", module="no_such_module")
    assert server.process.wait(PATIENCE) == 2
    assert "no_such_module" in server.text


def test_a_unix_socket_is_refused(tmp_path: Path) -> None:
    server = start(tmp_path, "--workers", "2", "--host", "unix://site.socket")
    assert server.process.wait(PATIENCE) == 2
    assert '"--workers" needs a host' in server.text
    assert not (tmp_path / "site.socket").exists()


def test_nobody_can_connect_while_the_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is taken and then closed with the socket would be a request lost."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit):
            check_address(*taken.getsockname())
        port = taken.getsockname()[1]
    listened = []
    monkeypatch.setattr(socket.socket, "listen", lambda self, *backlog: listened.append(self))
    check_address("127.0.0.1", port)
    assert not listened
