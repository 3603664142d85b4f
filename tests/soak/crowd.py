"""Many connections that stay open: each asks, waits, and asks again; at last all ask at the same moment."""

from __future__ import annotations

import asyncio
import random
import time
import typing as t

from .cases import get
from .findings import Findings, in_ms
from .lines import Line, run
from .servers import PATIENT, SoakServer, allow_descriptors

AT_ONCE = 100  # connects
REQUESTS = {"async": get("/async"), "sync": get("/sync")}


class Size(t.NamedTuple):
    """Each connection asks once in each of the rounds, which last so many seconds."""

    connections: int
    rounds: int
    seconds: float


QUICK = Size(200, 2, 0.2)
FULL = Size(2_000, 5, 4)
Delays = dict[str, list[float]]


def soak(size: Size) -> Findings:
    found = Findings("Crowd", "connections", "requests", "view", "answered", "median", "99th percentile", "worst")
    allow_descriptors(2 * size.connections + 200)
    with SoakServer(options=PATIENT) as server:
        server.fill_threads()
        before = server.measure()
        spread, burst = run(ask_all(server.port, size))
        after = server.measure()
        for title, delays, rounds in (("spread out", spread, size.rounds), ("all at once", burst, 1)):
            report(found, size, title, delays, rounds)
        found.expect(after.descriptors <= before.descriptors, f"descriptors are left: {before} {after}")
        found.expect(not server.read_log().strip(), f"logged {server.read_log()[-4000:]}")
    return found


def report(found: Findings, size: Size, title: str, delays: Delays, rounds: int) -> None:
    for view, seen in delays.items():
        found.add(f"{size.connections:,}", title, view, f"{len(seen):,}", *in_ms(seen))
    answered = sum(len(seen) for seen in delays.values())
    found.expect(answered == size.connections * rounds, f"{answered} answers, {title}")


async def ask_all(port: int, size: Size) -> tuple[Delays, Delays]:
    lines: list[Line] = []
    while len(lines) < size.connections:
        lines += await asyncio.gather(*(Line.open(port) for _ in range(AT_ONCE)))
    spread: Delays = {"async": [], "sync": []}
    burst: Delays = {"async": [], "sync": []}
    for _ in range(size.rounds):
        await asyncio.gather(*(ask(line, at, spread, size.seconds) for at, line in enumerate(lines)))
    await asyncio.gather(*(ask(line, at, burst, 0) for at, line in enumerate(lines)))
    for line in lines:
        line.leave()
    await asyncio.sleep(0)
    return spread, burst


async def ask(line: Line, at: int, delays: Delays, seconds: float) -> None:
    """At some moment within the seconds."""
    view = "sync" if at % 2 else "async"
    await asyncio.sleep(random.uniform(0, seconds))
    begun = time.perf_counter()
    async with asyncio.timeout(30):
        answer = await line.ask(REQUESTS[view])
    if answer.status == 200:
        delays[view].append(time.perf_counter() - begun)
