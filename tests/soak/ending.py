"""SIGTERM while clients send at full speed: what the server began, by its journal, is answered in whole.

A request whose connection ends without a byte of an answer, and that the server had not begun, was not accepted: its
client may send it again.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
import typing as t
from itertools import count, cycle
from pathlib import Path

from .cases import FILE, PIECES, get, upload
from .findings import Findings
from .lines import Cut, Line, run
from .servers import PATIENCE, UVICORN, SoakServer, is_there

ASGI = (UVICORN, "uvicorn-h11", "hypercorn", "granian-asgi", "gunicorn-asgi")
WSGI = ("gunicorn-sync", "gunicorn-gthread", "granian-wsgi")
CLIENTS = 16
GOES_ON = 5  # seconds, then the clients of a server that serves on stop by themselves
# With any application: on SIGTERM it closes the idle connections, even if one of them brings a request at that moment.
LOSING = ("hypercorn",)
ENDED = (0, -signal.SIGTERM)  # uvicorn ends gracefully, and then by the very signal
UPLOADED = b'{"size":%d,"title":"A title"}\n' % len(FILE)
KINDS = (
    (get, "/async", b'{"view":"async"}\n'),
    (get, "/sync", b'{"view":"sync"}\n'),
    (get, "/sleep/async/0.03", b"slept"),
    (get, "/sleep/sync/0.03", b"slept"),
    (get, "/stream/async/4", PIECES),
    (get, "/stream/sync/4", PIECES),
    (upload, "/upload/async", UPLOADED),
    (upload, "/upload/sync", UPLOADED),
)


class Size(t.NamedTuple):
    """So many times each server is ended, after so many seconds of load."""

    names: tuple[str, ...]
    times: int
    seconds: float


QUICK = Size((UVICORN,), 1, 0.3)
FULL = Size((*ASGI, *WSGI), 5, 1)


class Load:
    """What the clients sent, by the requests' ids."""

    def __init__(self) -> None:
        self.ids = count()
        self.kinds = cycle(KINDS)
        self.sent: dict[str, str] = {}  # targets
        self.answered: set[str] = set()
        self.wrong: set[str] = set()  # the answer is not whole, or another
        self.ended = False  # the clients stop

    async def send(self, port: int) -> None:
        """One client, until the server takes no more connections."""
        while not self.ended:
            try:
                line = await Line.open(port)
            except OSError:
                return
            while line.is_open and not self.ended:
                await self.ask(line)
            line.leave()

    async def ask(self, line: Line) -> None:
        make, target, body = next(self.kinds)
        name = str(next(self.ids))
        self.sent[name] = target
        try:
            answer = await line.ask(make(f"{target}?{name}"))
        except Cut as cut:
            if cut.data:
                self.wrong.add(name)
        else:
            (self.answered if (answer.status, answer.body) == (200, body) else self.wrong).add(name)

    def lost(self, begun: set[str]) -> dict[str, str]:
        """Those that the server began, or answered in part."""
        return {name: self.sent[name] for name in (begun - self.answered) | self.wrong}


def soak(size: Size) -> Findings:
    found = Findings("SIGTERM", "server", "times", "answered", "not accepted", "lost", "ended after", "exit code")
    for name in filter(is_there, size.names):
        end_often(found, name, size)
    return found


def end_often(found: Findings, name: str, size: Size) -> None:
    answered = refused = lost = 0
    ends: list[float] = []
    codes: set[int] = set()
    for _ in range(size.times):
        load, begun, seconds, code, log = end_once(name, size.seconds)
        missing = load.lost(begun)
        answered += len(load.answered)
        refused += len(load.sent) - len(load.answered) - len(missing)
        lost += len(missing)
        ends.append(seconds)
        codes.add(code)
        found.expect(name in LOSING or not missing, f"{name} lost {missing}: {log[-3000:]}")
        found.expect(code in ENDED, f"{name} ended with {code}: {log[-3000:]}")
        found.expect("Traceback" not in log, f"{name} logged {log[-4000:]}")
    found.add(name, size.times, f"{answered:,}", refused, lost, f"{max(ends):.1f} s", *sorted(codes))


def end_once(name: str, seconds: float) -> tuple[Load, set[str], float, int, str]:
    """The load, the ids that the server began, how long it took to end, its exit code, its log."""
    load = Load()
    with tempfile.NamedTemporaryFile() as journal:
        with SoakServer(name, "wsgi" if name in WSGI else "asgi", SOAK_JOURNAL=journal.name) as server:
            took = run(send_and_end(server, load, seconds))
            code, log = server.process.wait(PATIENCE), server.read_log()
        begun = set(Path(journal.name).read_text("ascii").split())
    return load, begun, took, code, log


async def send_and_end(server: SoakServer, load: Load, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds + PATIENCE):
        clients = asyncio.gather(*(load.send(server.port) for _ in range(CLIENTS)))
        await asyncio.sleep(seconds)
        server.process.terminate()
        begun = time.monotonic()
        loop.call_later(GOES_ON, setattr, load, "ended", True)
        exited = loop.run_in_executor(None, server.process.wait, PATIENCE)
        await clients
        await exited
    return time.monotonic() - begun
