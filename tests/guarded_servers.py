"""The real servers of `guarded_site`, asked over plain sockets."""

from __future__ import annotations

import json
import socket
import sys
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "contract"))

from contract_servers import APP, SERVERS, ServerClient, is_installed  # noqa: E402  # it is found from here on

ASGI_SERVERS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn", "hypercorn-trio", "granian-asgi", "gunicorn-asgi")
WSGI_SERVERS = ("gunicorn-gthread", "waitress")
PATIENCE = 5


class GuardedServer(ServerClient):
    def start(self, command: str) -> t.Any:
        return super().start(command.replace(APP, "guarded_site:app"))

    def is_ready(self) -> bool:
        try:
            return self.get("/events").status == 200
        except OSError:
            return False

    @property
    def events(self) -> list[str]:
        return t.cast("list[str]", json.loads(self.get("/events").body))

    def wait_for(self, event: str, times: int = 1, seconds: float = PATIENCE) -> float:
        """Until the event was seen so often. Seconds that it took."""
        start = time.monotonic()
        while self.events.count(event) < times:
            assert time.monotonic() - start < seconds, (event, self.events, self.read_log()[-4000:])
            time.sleep(0.01)
        return time.monotonic() - start

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, method: str, path: str, *headers: str, body: bytes = b"") -> socket.socket:
        """Send a request's head, and a body's begin. The caller closes."""
        wire = self.connect()
        wire.sendall("\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode() + body)
        return wire


def read_answer(wire: socket.socket) -> tuple[int, bytes]:
    """Status and body of an answer with a Content-Length."""
    with wire, wire.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return status, file.read(length)


def make_fixture(names: tuple[str, ...], make: Callable[[str], ServerClient] = GuardedServer) -> t.Any:
    @pytest.fixture(scope="module", params=names)
    def server(request: pytest.FixtureRequest) -> Iterator[ServerClient]:
        if not is_installed(SERVERS[request.param]):
            pytest.skip(f"{request.param} is not installed")
        made = make(request.param)
        yield made
        made.stop()

    return server
