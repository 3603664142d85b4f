"""`faults_site` on the real servers, its journal, and a raw client whose answers h11 reads."""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from contract_message import Answer, make_question
from contract_servers import APP, ENVIRONMENT, SERVERS, ServerClient, is_installed
from contract_wire import Wire

HERE = Path(__file__).parent
ASGI = ("uvicorn-h11", "hypercorn", "hypercorn-trio", "granian-asgi", "gunicorn-asgi")
WSGI = ("gunicorn-sync", "gunicorn-gthread")
ALL = (*ASGI, *WSGI)
STYLES = ("sync", "async")
PATIENCE = 10
MIB = 2**20
TYPE = {"json": ("Content-Type", "application/json")}

_numbers = itertools.count()


class FaultServer(ServerClient):
    """One row of the contract's servers. `options` are added to its command, `environment` to the site's."""

    def __init__(self, name: str, options: str = "", **environment: str) -> None:
        self.made = tempfile.TemporaryDirectory()
        self.folder = self.path = Path(self.made.name)
        path = os.pathsep.join([str(HERE), ENVIRONMENT["PYTHONPATH"]])
        self.environment = {"PYTHONPATH": path, "FAULTS_FOLDER": self.made.name, **environment}
        server = SERVERS[name]
        super().__init__(name, server._replace(command=f"{server.command.replace(APP, 'faults_site:app')} {options}"))

    def is_ready(self) -> bool:
        try:
            return self.get("/ping").text == "pong"
        except OSError:
            return False

    def end(self) -> bool:
        ended = super().end()
        self.made.cleanup()
        return ended

    # The journal

    def events(self, who: str) -> list[str]:
        lines = (self.path / "journal").read_text("utf-8").splitlines()
        return [event for line in lines for name, _, event in [line.partition(" ")] if name == who]

    def wait_for(self, who: str, event: str, seconds: float = PATIENCE) -> None:
        """Until an event that begins so was journalled."""
        self.poll(lambda: any(seen.startswith(event) for seen in self.events(who)), seconds, (who, event))

    def poll(self, condition: Callable[[], t.Any], seconds: float = PATIENCE, what: t.Any = None) -> t.Any:
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, (what, (self.path / "journal").read_text("utf-8"), self.read_log()[-4000:])
            time.sleep(0.01)
        return value

    def check_torn_down(self, who: str, *errors: str) -> None:
        """Once, and by none but these errors."""
        self.wait_for(who, "teardown")
        time.sleep(0.02)
        torn_down = [event for event in self.events(who) if event.startswith("teardown")]
        assert torn_down in [[f"teardown {error}"] for error in errors], torn_down

    def release(self, who: str) -> None:
        (self.path / f"release-{who}").touch()

    def resident(self, who: str) -> int:
        """Bytes of memory of the process that this request is in."""
        pid = next(event for event in self.events(who) if event.startswith("pid ")).removeprefix("pid ")
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # Connections

    def send(self, method: str, target: str, *headers: str, body: bytes = b"") -> socket.socket:
        """Send a request's head and a body's begin. The caller closes."""
        wire = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
        wire.sendall(head + body)
        return wire


def require(name: str) -> None:
    if not is_installed(SERVERS[name]):
        pytest.skip(f"{name} is not installed")


def new_id() -> str:
    return f"{os.getpid()}-{next(_numbers)}"


def read_answer(sock: socket.socket, method: str = "GET") -> Answer:
    """h11's view of what comes: h11.RemoteProtocolError where the connection ends before the answer does."""
    return Wire(sock).read(make_question(method, "/"))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def flood(sock: socket.socket, data: bytes, most: int, patience: float = 0.6) -> int:
    """Send `data` again and again until nobody takes it for so long, or `most` bytes are gone. Bytes sent."""
    sock.setblocking(False)
    sent, last = 0, time.monotonic()
    rest = memoryview(data)
    while sent < most and time.monotonic() - last < patience:
        try:
            count = sock.send(rest)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        except (BrokenPipeError, ConnectionResetError):
            break
        sent, last = sent + count, time.monotonic()
        rest = rest[count:] or memoryview(data)
    sock.setblocking(True)
    sock.settimeout(PATIENCE)
    return sent
