"""The parent's side: workers that stay alive, and rounds in which each peer has its turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from statistics import median
from threading import Timer
from typing import Any, NamedTuple

from .peers import PEERS
from .scenarios import Scenario

ANSWER_SECONDS = 120  # a worker that is silent for longer is ended
Key = tuple[str, str]


class Cell(NamedTuple):
    """Microseconds per request of one peer in one scenario."""

    best: float
    median: float


Tell = Callable[[str], None]
Cells = dict[Key, Cell | str]  # by (scenario, peer); a text is the reason of an empty cell


class WorkerProcess:
    """A peer's face behind two pipes."""

    def __init__(self, peer: str, face: str) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", peer, face]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        timer = Timer(ANSWER_SECONDS, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        return json.loads(line) if line else {"without": "its process ended or was too slow"}

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Workers:
    """One process per peer and face, started when first asked for."""

    def __init__(self) -> None:
        self.started: dict[Key, WorkerProcess] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for worker in self.started.values():
            worker.close()

    def get(self, peer: str, face: str) -> WorkerProcess:
        worker = self.started.get((peer, face))
        if worker is not None and not worker.is_alive():
            worker.close()
            worker = None
        if worker is None:
            worker = self.started[peer, face] = WorkerProcess(peer, face)
        return worker


def measure(
    workers: Workers, scenario: Scenario, peers: Iterable[str], rounds: int, seconds: float
) -> dict[str, Cell | str]:
    """One scenario for those peers which have its face."""
    taking_part = [peer for peer in peers if scenario.face in PEERS[peer].modules]
    replies = {
        peer: workers.get(peer, scenario.face).ask(do="prepare", key=scenario.key, seconds=seconds)
        for peer in taking_part
    }
    results: dict[str, Cell | str] = {p: r["without"] for p, r in replies.items() if "without" in r}
    counts = {peer: reply["count"] for peer, reply in replies.items() if "count" in reply}
    times: dict[str, list[float]] = {peer: [] for peer in counts}
    for peer in take_turns(list(counts), rounds):
        reply = workers.get(peer, scenario.face).ask(do="run", count=counts[peer])
        if "without" in reply:
            results[peer] = reply["without"]
        else:
            times[peer].append(reply["seconds"] / counts[peer] * 1e6)
    return results | {p: Cell(min(t), median(t)) for p, t in times.items() if p not in results}


def take_turns(peers: list[str], rounds: int) -> Iterator[str]:
    """Each peer once a round; another one begins each time, so that none always follows the same."""
    for number in range(rounds):
        first = number % len(peers) if peers else 0
        yield from peers[first:] + peers[:first]


def measure_all(
    scenarios: Iterable[Scenario], peers: Iterable[str], rounds: int, seconds: float, tell: Tell
) -> Cells:
    cells: Cells = {}
    with Workers() as workers:
        for scenario in scenarios:
            tell(f"{scenario.face}: {scenario.title}")
            for peer, cell in measure(workers, scenario, peers, rounds, seconds).items():
                cells[scenario.key, peer] = cell
    return cells


def find_cycles(peers: Iterable[str]) -> dict[Key, dict[str, Any]]:
    """By (peer, face): the objects left behind, by case."""
    with Workers() as workers:
        faces = [(peer, face) for peer in peers for face in PEERS[peer].modules]
        replies = {key: workers.get(*key).ask(do="cycles") for key in faces}
    return {key: reply["cases"] for key, reply in replies.items() if "cases" in reply}
