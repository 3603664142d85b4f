"""More sync views that sleep than worker threads and places in the queue: what async views notice of it."""

from __future__ import annotations

import asyncio
import json
import time
import typing as t
from collections import Counter

from .cases import get
from .crowd import AT_ONCE
from .findings import Findings, in_ms, percentile
from .lines import Answer, Line, run
from .servers import PATIENT, SoakServer, allow_descriptors

PROBES = 4
INTERVAL = 0.01


class Size(t.NamedTuple):
    """`surplus` requests are more than have a thread or a place in the queue."""

    threads: int
    queue: int
    surplus: int
    sleep: float
    quiet: float  # seconds before and after
    limit: float  # seconds, of the 99th percentile of async views


QUICK = Size(4, 20, 10, 0.1, 0.3, 1)  # other tests may run beside it
FULL = Size(40, 1000, 200, 0.25, 5, 0.1)


class Seen(t.NamedTuple):
    """Delays of async views; the answers of sync views; the most of each of the counts of `app.stats()`."""

    before: list[float]
    during: list[float]
    after: list[float]
    answers: list[Answer]
    most: dict[str, float]
    seconds: float


def soak(size: Size) -> Findings:
    found = Findings("Worker threads", "async views", "requests", "median", "99th percentile", "worst")
    room = size.threads + size.queue
    allow_descriptors(2 * (room + size.surplus) + 200)
    with SoakServer(options=PATIENT, SOAK_THREADS=str(size.threads), SOAK_QUEUE=str(size.queue)) as server:
        seen = run(saturate(server, size, room + size.surplus))
        stats = server.stats()
        for title, delays in (("before", seen.before), ("during", seen.during), ("after", seen.after)):
            found.add(title, f"{len(delays):,}", *in_ms(delays))
        check(found, size, seen, stats)
        found.expect(not server.read_log().strip(), f"logged {server.read_log()[-4000:]}")
    return found


def check(found: Findings, size: Size, seen: Seen, stats: dict[str, t.Any]) -> None:
    statuses = Counter(answer.status for answer in seen.answers)
    refused = [answer for answer in seen.answers if answer.status == 503]
    waits = all(b"\r\nretry-after: 1" in answer.head.lower() for answer in refused)
    found.title = (
        f"Worker threads: {size.threads}, queue {size.queue:,}, {len(seen.answers):,} sync views of {size.sleep} s: "
        f"{statuses[200]:,} answered in {seen.seconds:.1f} s, {statuses[503]:,} refused"
    )
    found.expect(statuses == {200: size.threads + size.queue, 503: size.surplus}, f"sync views: {statuses}")
    found.expect(waits, "503 without Retry-After")
    found.expect(seen.most["busy_threads"] == size.threads, f"stats: {seen.most}")
    found.expect(size.queue <= seen.most["queued"] <= size.queue + size.threads, f"stats: {seen.most}")
    found.expect(stats["refused"] == size.surplus, f"on_overload was told {stats['refused']} times")
    found.expect((stats["busy_threads"], stats["queued"], stats["requests"]) == (0, 0, 1), f"afterwards {stats}")
    for delays in (seen.before, seen.during, seen.after):
        found.expect(percentile(delays, 0.99) < size.limit, f"async views: {in_ms(delays)}")


async def saturate(server: SoakServer, size: Size, count: int) -> Seen:
    lines: list[Line] = []
    while len(lines) < count:
        lines += await asyncio.gather(*(Line.open(server.port) for _ in range(min(AT_ONCE, count - len(lines)))))
    before, _ = await probe(server.port, asyncio.sleep(size.quiet))
    begun = time.perf_counter()
    sleepers = asyncio.gather(*(line.ask(get(f"/sleep/sync/{size.sleep}")) for line in lines))
    during, most = await probe(server.port, sleepers)
    seconds = time.perf_counter() - begun
    after, _ = await probe(server.port, asyncio.sleep(size.quiet))
    await asyncio.gather(*(line.ask(get("/sync")) for line in lines[: size.threads]))  # it has recovered
    for line in lines:
        line.leave()
    return Seen(before, during, after, sleepers.result(), most, seconds)


async def probe(port: int, awaitable: t.Awaitable[t.Any]) -> tuple[list[float], dict[str, float]]:
    """Delays of async views while it runs, and the most that `app.stats()` showed."""
    task = asyncio.ensure_future(awaitable)
    delays: list[float] = []
    most: dict[str, float] = {}
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(PROBES):
            group.create_task(probe_on(port, task, delays))
        group.create_task(watch_stats(port, task, most))
        await task
    return delays, most


async def probe_on(port: int, task: asyncio.Future[t.Any], delays: list[float]) -> None:
    line = await Line.open(port)
    while not task.done():
        begun = time.perf_counter()
        answer = await line.ask(get("/async"))
        assert answer.status == 200, answer
        delays.append(time.perf_counter() - begun)
        await asyncio.sleep(INTERVAL)
    line.leave()


async def watch_stats(port: int, task: asyncio.Future[t.Any], most: dict[str, float]) -> None:
    line = await Line.open(port)
    while not task.done():
        stats = json.loads((await line.ask(get("/stats"))).body)
        for name in ("requests", "busy_threads", "queued", "loop_lag"):
            most[name] = max(most.get(name, 0), stats[name] or 0)
        await asyncio.sleep(2 * INTERVAL)
    line.leave()
