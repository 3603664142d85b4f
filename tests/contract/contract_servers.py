"""The real servers: how each is started, asked and stopped. None gets a hint of the interface but granian."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from contract_hosts import Client
from contract_message import Answer, Question
from contract_wire import ask_over_socket

HERE = Path(__file__).parent
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path)]),
    "PYTHONWARNINGS": "default::ResourceWarning",
}
START_TIMEOUT = 20
STOP_TIMEOUT = 8
# From Python 3.12 on, hypercorn 0.18 waits for all connections before its own deadline begins.
LINGERING = ("hypercorn",) if sys.version_info >= (3, 12) else ()
LOG_SIZE = 1 << 24
# What no run may leave in a server's log, whatever the cases did.
ALARMS = (
    "never awaited",
    "never retrieved",
    "Exception ignored",
    "was destroyed",
    "planned wrongly",
    "Unclosed",
)


class Server(NamedTuple):
    """A row: the face it must choose, the modules it needs, its command line after `python -m`."""

    face: str
    needs: tuple[str, ...]
    command: str


APP = "contract_app:app"
GUNICORN = f"gunicorn {APP} --bind 127.0.0.1:{{port}} --no-control-socket --log-level warning"
GRANIAN = f"granian {APP} --host 127.0.0.1 --port {{port}} --log-level warning"
UVICORN = f"uvicorn {APP} --host 127.0.0.1 --port {{port}} --log-level warning"
HYPERCORN = f"hypercorn {APP} --bind 127.0.0.1:{{port}} --log-level warning"

SERVERS = {
    "uvicorn-h11": Server("asgi", ("uvicorn", "h11"), f"{UVICORN} --http h11 --loop asyncio"),
    "uvicorn-httptools": Server("asgi", ("uvicorn", "httptools"), f"{UVICORN} --http httptools"),
    # It waits the whole grace period for a connection whose body the application left unread.
    "hypercorn": Server("asgi", ("hypercorn",), f"{HYPERCORN} --graceful-timeout 1"),
    "hypercorn-trio": Server("asgi", ("hypercorn", "trio"), f"{HYPERCORN} --graceful-timeout 1 --worker-class trio"),
    "granian-asgi": Server("asgi", ("granian",), f"{GRANIAN} --interface asgi"),
    "gunicorn-asgi": Server("asgi", ("gunicorn.workers.gasgi",), f"{GUNICORN} -k asgi"),
    "granian-wsgi": Server("wsgi", ("granian",), f"{GRANIAN} --interface wsgi --blocking-threads 4"),
    "gunicorn-sync": Server("wsgi", ("gunicorn",), GUNICORN),
    "gunicorn-gthread": Server("wsgi", ("gunicorn",), f"{GUNICORN} -k gthread --threads 4"),
    "gunicorn-gevent": Server("wsgi", ("gunicorn", "gevent"), f"{GUNICORN} -k gevent"),
    "waitress": Server("wsgi", ("waitress",), f"waitress --listen=127.0.0.1:{{port}} --threads=4 {APP}"),
}


def is_installed(server: Server) -> bool:
    try:
        return all(importlib.util.find_spec(name) for name in server.needs)
    except ModuleNotFoundError:
        return False


class ServerClient(Client):
    """Starts a server in a process group of its own and asks it over sockets."""

    folder: str | Path = tempfile.gettempdir()  # where it runs
    environment: Mapping[str, str] = {}  # beside ENVIRONMENT

    def __init__(self, name: str, server: Server | None = None) -> None:
        server = server or SERVERS[name]
        self.name = name
        self.face = server.face
        self.port = find_free_port()
        self.log = tempfile.TemporaryFile()
        self.seen = 0
        self.process = self.start(server.command)
        try:
            self.wait_until_ready()
        except BaseException:
            self.end()
            self.log.close()
            raise

    def start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *command.format(port=self.port).split()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT, **self.environment},
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.is_ready():
            alive = self.process.poll() is None
            assert alive and time.monotonic() < deadline, f"{self.name} did not start:\n{self.read_log()}"
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            return self.get("/counts").status == 200
        except OSError:
            return False

    def ask(self, question: Question) -> Answer:
        return ask_over_socket(self.port, question)

    def read_log(self) -> str:
        # The server writes at the same file offset: reading must not move it.
        return os.pread(self.log.fileno(), LOG_SIZE, 0).decode(errors="replace")

    def take_alarms(self) -> list[str]:
        """The lines of alarm in the log since the last call."""
        log = self.read_log()
        text, self.seen = log[self.seen :], len(log)
        return [line for line in text.splitlines() if any(alarm in line for alarm in ALARMS)]

    def stop(self) -> None:
        died = self.process.poll() is not None
        ended = self.end()
        alarms = self.take_alarms()
        tail = self.read_log()[-8000:]
        self.log.close()
        assert not died, f"{self.name} died:\n{tail}"
        assert ended or self.name in LINGERING, f"{self.name} did not end within {STOP_TIMEOUT} s of SIGTERM:\n{tail}"
        assert not alarms, f"{self.name} logged {alarms}:\n{tail}"

    def end(self) -> bool:
        """SIGTERM to the server, SIGKILL to what is left of its group; whether it ended by itself."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
