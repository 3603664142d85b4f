"""The module tests/live_site.py on a real server, and streams from it that are read bit by bit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS / "contract"))  # the helpers for real servers

from contract_servers import APP, ENVIRONMENT, SERVERS, ServerClient, find_free_port  # noqa: E402

ASGI = ("uvicorn-h11", "uvicorn-httptools", "hypercorn", "hypercorn-trio", "granian-asgi", "gunicorn-asgi")
PATIENCE = 10


class LiveServer(ServerClient):
    """One row of the contract's servers, serving live_site."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = find_free_port()
        self.log = tempfile.TemporaryFile()
        self.folder = tempfile.TemporaryDirectory()
        self.seen = 0
        self.process = self.start(SERVERS[name].command.replace(APP, "live_site:app"))
        try:
            self.wait_until_ready()
        except BaseException:
            self.end()
            raise

    def end(self) -> bool:
        ended = super().end()
        self.log.close()
        self.folder.cleanup()
        return ended

    def start(self, command: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
        return subprocess.Popen(
            [sys.executable, "-m", *command.format(port=self.port).split()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=self.folder.name,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path, "LIVE_FOLDER": self.folder.name},
            start_new_session=True,
        )

    def open(self, target: str, *headers: str) -> Stream:
        return Stream(self.port, target, *headers)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def serve_live(name: str) -> Iterator[LiveServer]:
    server = LiveServer(name)
    try:
        yield server
    finally:
        server.end()


class Stream:
    """A GET whose response is read as it comes."""

    def __init__(self, port: int, target: str, *headers: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        self.data = b""
        self.ended = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    def read_until(self, found: bytes) -> bytes:
        """All that came so far, once it has `found` in it."""
        self._read_while(lambda: found not in self.data and not self.ended)
        assert found in self.data, self.data
        return self.data

    def read_to_end(self) -> bytes:
        """Up to the end of a chunked body, or of the connection."""
        self._read_while(lambda: not self.ended and not self.data.endswith(b"0\r\n\r\n"))
        return self.data

    def _read_while(self, condition: Callable[[], t.Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while condition():
            self.sock.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            self.data += data
            self.ended = not data


def poll(condition: Callable[[], t.Any], seconds: float = PATIENCE) -> t.Any:
    """The first true value, or AssertionError after so long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return value
