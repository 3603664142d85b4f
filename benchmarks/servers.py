"""Requests a second through real servers: one worker process, a fixed number of connections, loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from .loader import LoadFailed, load
from .peers import PEERS
from .rounds import Tell

ROOT = Path(__file__).parent.parent
START_SECONDS = 15
SECONDS = 5
TURNS = 3


class Service(NamedTuple):
    """One row of the table."""

    server: str
    peer: str
    title: str
    path: str


class Rate(NamedTuple):
    """Requests a second."""

    best: float
    median: float


ASYNC, SYNC = ("async view", "/hello/world"), ("sync view", "/hello-sync/world")
SERVICES = (
    *(Service("uvicorn", peer, *ASYNC) for peer in ("asyncflask", "starlette", "quart", "raw")),
    *(Service("uvicorn", peer, *SYNC) for peer in ("asyncflask", "starlette", "quart")),
    *(Service("gunicorn", peer, *SYNC) for peer in ("asyncflask", "flask")),
    *(Service("gunicorn", peer, *ASYNC) for peer in ("asyncflask", "flask")),
)
Rates = dict[Service, Rate | str]


def make_command(service: Service, port: int) -> list[str]:
    quiet = ["--log-level", "error"]
    if service.server == "uvicorn":
        app = f"benchmarks.peers.{PEERS[service.peer].modules['asgi']}:plain"
        quiet.append("--no-access-log")
        return [sys.executable, "-m", "uvicorn", "--factory", app, f"--port={port}", *quiet]
    app = f"benchmarks.peers.{PEERS[service.peer].modules['wsgi']}:plain()"
    return [sys.executable, "-m", "gunicorn", app, f"--bind=127.0.0.1:{port}", "--workers=1", *quiet]


class Server:
    """A server process, from its first answer to its end."""

    def __init__(self, make: Callable[[int], list[str]], path: str, **environ: str) -> None:
        """`make` gives the command for a port; `path` is asked until it answers."""
        self.make, self.path, self.environ, self.port = make, path, environ, find_free_port()

    def __enter__(self) -> Server:
        command, environ = self.make(self.port), {**os.environ, **self.environ}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_until_it_answers(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if self.answers():
                return
            time.sleep(0.1)
        raise LoadFailed("the server did not start")

    def answers(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}{self.path}"
            with urllib.request.urlopen(url, timeout=5) as response:
                return bool(response.read())
        except OSError:
            return False


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure_servers(peers: Iterable[str], turns: int, seconds: int, tell: Tell) -> Rates:
    """All servers are up at once; each is loaded in its turn, `turns` times."""
    rates: dict[Service, list[float]] = {}
    failed: dict[Service, Rate | str] = {}
    with ExitStack() as stack:
        wanted = [service for service in SERVICES if service.peer in peers]
        servers = {
            service: stack.enter_context(Server(partial(make_command, service), service.path)) for service in wanted
        }
        for service, server in servers.items():
            try:
                server.wait_until_it_answers()
            except LoadFailed as failure:
                failed[service] = str(failure)
        for turn in range(turns):
            for service, server in servers.items():
                if service not in failed:
                    tell(f"turn {turn + 1}: {', '.join(service[:3])}")
                    try:
                        rates.setdefault(service, []).append(load(server.port, service.path, seconds))
                    except (LoadFailed, OSError, EOFError) as failure:
                        failed[service] = str(failure)
    return failed | {s: Rate(max(r), median(r)) for s, r in rates.items() if s not in failed}
