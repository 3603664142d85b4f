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
    """`growth` is the share by which memory may grow."""

    warm_up: int
    count: int
    processes: int
    growth: float


QUICK = Size(500, 1500, 1, 0.1)
FULL = Size(50_000, 1_000_000, 2, 0.02)
OTHERS = Size(10_000, 20_000, 1, 0.05)


class Load(t.NamedTuple):
    """What the clients sent and got."""

    sent: Counter[str]
    answered: int
    left: int
    wrong: list[str]
    seconds: float


def soak(size: Size, names: t.Iterable[str] = (UVICORN,)) -> Findings:
    columns = ("requests", "answered", "left", "500s logged", "memory", "descriptors", "threads", "a second")
    found = Findings("Mix", "server", *columns)
    for name in names:
        with SoakServer(name) as server:
            soak_one(server, size, found)
    return found


def soak_one(server: SoakServer, size: Size, found: Findings) -> None:
    server.fill_threads()
    first = send(server, size.warm_up, size.processes, seed=1)
    before = server.measure()
    load = send(server, size.count, size.processes, seed=2)
    after = server.measure()
    unexpected, failed = server.read_unexpected()
    name, asked = server.name, sum(load.sent.values())
    found.add(
        name, f"{asked:,}", f"{load.answered:,}", f"{load.left:,}", f"{failed:,}", *compare(before, after),
        f"{asked / load.seconds:,.0f}",
    )  # fmt: skip
    for wrong in (*first.wrong, *load.wrong):
        found.expect(False, f"{name}: {wrong}")
    found.expect(asked == size.count == load.answered + load.left, f"{name}: not all requests were answered: {load}")
    found.expect(after.memory <= before.memory * (1 + size.growth), f"{name}: memory grew: {before} {after}")
    found.expect(after.descriptors <= before.descriptors, f"{name}: descriptors are left: {before} {after}")
    found.expect(after.threads <= before.threads, f"{name}: threads are left: {before} {after}")
    found.expect(failed == count_boom(first) + count_boom(load), f"{name}: {failed} errors were logged")
    found.expect(not unexpected.strip(), f"{name}: logged {unexpected[-4000:]}")


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
