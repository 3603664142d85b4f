"""Requests of many kinds, some of whose clients leave: the server holds as much after the last as after the first."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import typing as t
from collections import Counter
from pathlib import Path

from .findings import Findings
from .servers import UVICORN, Figures, SoakServer

ROOT = Path(__file__).parent.parent.parent
CONNECTIONS = 32
SLOWEST = 200  # requests a second, of all clients together
MIB = 2**20


class Size(t.NamedTuple):
    """Requests before the first look at the server, and then; with so many looks. Memory may grow by `growth`.

    `settle` is in seconds: of some clients that left, uvicorn and hypercorn keep the connection's objects until the
    5 seconds of their keep-alive are over, with any application.
    """

    warm_up: int
    requests: int
    looks: int
    processes: int
    growth: float
    settle: float


QUICK = Size(500, 1500, 1, 1, 0.1, 0)
FULL = Size(50_000, 1_000_000, 10, 2, 0.02, 6)
OTHERS = Size(10_000, 20_000, 1, 1, 0.05, 6)


class Load(t.NamedTuple):
    """What the clients sent and got."""

    sent: Counter[str]
    answered: int
    left: int
    wrong: list[str]
    seconds: float

    def plus(self, other: Load) -> Load:
        return Load(
            self.sent + other.sent,
            self.answered + other.answered,
            self.left + other.left,
            self.wrong + other.wrong,
            self.seconds + other.seconds,
        )


NOTHING = Load(Counter(), 0, 0, [], 0)


def soak(size: Size, names: t.Iterable[str] = (UVICORN,)) -> Findings:
    columns = ("requests", "answered", "left", "500s logged", "memory", "descriptors", "threads", "a second")
    found = Findings("Mix", "server", *columns)
    for name in names:
        with SoakServer(name) as server:
            soak_one(server, size, found)
    return found


def soak_one(server: SoakServer, size: Size, found: Findings) -> None:
    server.fill_threads()
    warm_up = send(server, size.warm_up, size.processes, seed=1)
    seen = [server.measure(size.settle)]
    load = NOTHING
    for look in range(size.looks):
        load = load.plus(send(server, size.requests // size.looks, size.processes, seed=2 + look))
        seen.append(server.measure(size.settle))
    report(server, load, seen, found)
    check_answers(server, size, warm_up, load, found)
    check_figures(server, size, seen, found)


def report(server: SoakServer, load: Load, seen: list[Figures], found: Findings) -> None:
    asked, failed = sum(load.sent.values()), count_boom(load)
    numbers = (f"{number:,}" for number in (asked, load.answered, load.left, failed))
    found.add(server.name, *numbers, *compare(seen[0], seen[-1]), f"{asked / load.seconds:,.0f}")
    if len(seen) > 2:
        memory = ", ".join(f"{figures.memory / MIB:.1f}" for figures in seen)
        blocks = ", ".join(f"{figures.blocks:,}" for figures in seen)
        found.notes += [
            f"After the warm-up and each {len(seen) - 1}th of the requests: {memory} MiB; {blocks} blocks.",
            "",
        ]


def check_answers(server: SoakServer, size: Size, warm_up: Load, load: Load, found: Findings) -> None:
    name, asked = server.name, sum(load.sent.values())
    for wrong in (*warm_up.wrong, *load.wrong):
        found.expect(False, f"{name}: {wrong}")
    found.expect(asked == size.requests == load.answered + load.left, f"{name}: not all requests were answered: {load}")
    unexpected, failed = server.read_unexpected()
    found.expect(failed == count_boom(warm_up) + count_boom(load), f"{name}: {failed} errors were logged")
    found.expect(not unexpected.strip(), f"{name}: logged {unexpected[-4000:]}")


def check_figures(server: SoakServer, size: Size, seen: list[Figures], found: Findings) -> None:
    name, before, after = server.name, seen[0], seen[-1]
    found.expect(after.memory <= before.memory * (1 + size.growth), f"{name}: memory grew: {seen}")
    found.expect(after.blocks <= before.blocks * (1 + size.growth), f"{name}: objects are left: {seen}")
    found.expect(after.descriptors <= before.descriptors, f"{name}: descriptors are left: {seen}")
    found.expect(after.threads <= before.threads, f"{name}: threads are left: {seen}")


def send(server: SoakServer, count: int, processes: int, seed: int) -> Load:
    """From processes of their own."""
    cookie = server.open("/page")[1]["Set-Cookie"].partition(";")[0]
    page = server.open("/page", Cookie=cookie)[2].decode()
    seconds = count / SLOWEST + 30
    begun = time.monotonic()
    clients = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.soak.load", str(server.port), str(count // processes)),
                *(str(CONNECTIONS // processes), str(seed * 100 + number), str(seconds), cookie, page),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    try:
        tallies = [json.loads(client.communicate(timeout=seconds + 30)[0]) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()
    sent: Counter[str] = sum((Counter(tally["sent"]) for tally in tallies), Counter())
    wrong = [wrong for tally in tallies for wrong in tally["wrong"]]
    answered, left = (sum(tally[name] for tally in tallies) for name in ("answered", "left"))
    return Load(sent, answered, left, wrong, time.monotonic() - begun)


def compare(before: Figures, after: Figures) -> tuple[str, str, str]:
    growth = (after.memory / before.memory - 1) * 100
    return (
        f"{before.memory / MIB:.1f} → {after.memory / MIB:.1f} MiB ({growth:+.1f} %)",
        f"{before.descriptors} → {after.descriptors}",
        f"{before.threads} → {after.threads}",
    )


def count_boom(load: Load) -> int:
    return load.sent["500, async"] + load.sent["500, sync"]
