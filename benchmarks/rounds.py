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


class Turn(NamedTuple):
    """Of one request in one round: seconds of the clock and of the processor, how often a thread waited."""

    seconds: float
    processor: float
    waits: float


Tell = Callable[[str], None]
Cells = dict[Key, Cell | str]  # by (scenario, peer); a text is the reason of an empty cell
Cases = dict[Key, dict[str, Any]]  # by (peer, face): what was found, by case; a text is the reason of nothing


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
    entries = {peer: (workers.get(peer, scenario.face), scenario.key) for peer in taking_part}
    found = measure_in_turns(entries, rounds, seconds)
    return {peer: turns if isinstance(turns, str) else make_cell(turns) for peer, turns in found.items()}


def make_cell(turns: list[Turn]) -> Cell:
    times = [turn.seconds * 1e6 for turn in turns]
    return Cell(min(times), median(times))


def measure_in_turns(
    entries: dict[str, tuple[WorkerProcess, str]], rounds: int, seconds: float
) -> dict[str, list[Turn] | str]:
    """By name: what a worker, which is no other's, takes for its scenario; a text is the reason of nothing."""
    replies = {name: worker.ask(do="prepare", key=key, seconds=seconds) for name, (worker, key) in entries.items()}
    failed: dict[str, list[Turn] | str] = {name: r["without"] for name, r in replies.items() if "without" in r}
    counts = {name: reply["count"] for name, reply in replies.items() if "count" in reply}
    turns: dict[str, list[Turn]] = {name: [] for name in counts}
    for name in take_turns(list(counts), rounds):
        reply = entries[name][0].ask(do="run", count=counts[name])
        if "without" in reply:
            failed[name] = reply["without"]
        else:
            turns[name].append(Turn(*(reply[key] / counts[name] for key in Turn._fields)))
    return turns | failed


def take_turns(peers: list[str], rounds: int) -> Iterator[str]:
    """Each peer once a round; another one begins each time, so that none always follows the same."""
    for number in range(rounds):
        first = number % len(peers) if peers else 0
        yield from peers[first:] + peers[:first]


def measure_all(scenarios: Iterable[Scenario], peers: Iterable[str], rounds: int, seconds: float, tell: Tell) -> Cells:
    cells: Cells = {}
    with Workers() as workers:
        for scenario in scenarios:
            tell(f"{scenario.face}: {scenario.title}")
            for peer, cell in measure(workers, scenario, peers, rounds, seconds).items():
                cells[scenario.key, peer] = cell
    return cells


def ask_all(peers: Iterable[str], what: str, **how: int) -> Cases:
    """`cycles`: the objects left behind. `kept`: bytes that each request keeps."""
    with Workers() as workers:
        faces = [(peer, face) for peer in peers for face in PEERS[peer].modules]
        replies = {key: workers.get(*key).ask(do=what, **how) for key in faces}
    return {key: reply["cases"] for key, reply in replies.items() if "cases" in reply}
