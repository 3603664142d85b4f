"""`python -m benchmarks.check`: fails when asyncflask has become slower beside its peers than ratios.json says.

Ratios only: absolute times are of one machine. Both sides of a ratio run in turns, each in a process of its own; the
best times count, and where no thread waits for another, those of the processor. A ratio fails if it is more than 25 %
above the committed one in each of three tries. Rounds are short, so that some fall between two moments in which another
program ran, and each try has more of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

from .rounds import Turn, WorkerProcess, measure_in_turns
from .scenarios import SCENARIOS
from .targets import TARGETS, Target

RATIOS = Path(__file__).parent / "ratios.json"
WORSE = 1.25
SECONDS = 0.03  # of a round
WAITS = 0.1  # a request
TRIES = (20, 60, 150)  # rounds
BY_KEY = {target.key: target for target in TARGETS}


class NotMeasured(Exception):
    """A side takes no part; the text says why."""


Measure = Callable[[Target, int], float]


class Outcome(NamedTuple):
    """The ratios of as many tries as were needed."""

    key: str
    committed: float
    tries: list[float]
    reason: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.reason) or min(self.tries) > self.committed * WORSE

    def __str__(self) -> str:
        found = self.reason or " ".join(f"{ratio:.3f}" for ratio in self.tries)
        return f"{'WORSE' if self.failed else 'ok':5} {self.key:42} committed {self.committed:.3f}  now {found}"


def measure_ratio(target: Target, rounds: int) -> float:
    """asyncflask's best time over the other's."""
    sides = (target.ours, target.theirs)
    workers = [WorkerProcess(peer, SCENARIOS[key].face) for key, peer in sides]
    try:
        entries = {str(number): (worker, sides[number][0]) for number, worker in enumerate(workers)}
        found = measure_in_turns(entries, rounds, SECONDS)
    finally:
        for worker in workers:
            worker.close()
    return compare(*(require(peer, found[str(number)]) for number, (_, peer) in enumerate(sides)))


def require(peer: str, turns: list[Turn] | str) -> list[Turn]:
    if isinstance(turns, str):
        raise NotMeasured(f"{peer}: {turns}")
    return turns


def compare(ours: list[Turn], theirs: list[Turn]) -> float:
    """By the clock where a side waits, as for a thread; else by the processor, which other programs do not use up."""
    waits = max(median(turn.waits for turn in turns) for turns in (ours, theirs)) > WAITS
    pick = attrgetter("seconds" if waits else "processor")
    ratio: float = min(map(pick, ours)) / min(map(pick, theirs))
    return ratio


def check(key: str, committed: float, measure: Measure = measure_ratio) -> Outcome:
    outcome = Outcome(key, committed, [])
    if key not in BY_KEY:
        return outcome._replace(reason="no such target")
    for rounds in TRIES:
        try:
            outcome.tries.append(measure(BY_KEY[key], rounds))
        except NotMeasured as reason:
            return outcome._replace(reason=str(reason))
        if not outcome.failed:
            break
    return outcome


def read_ratios(path: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_ratios(path: Path, ratios: dict[str, float]) -> None:
    """Three digits each."""
    rounded = {key: float(f"{ratio:.3g}") for key, ratio in ratios.items()}
    path.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")


def check_all(ratios: dict[str, float], keys: Iterable[str]) -> int:
    """The number of those which fail; a target without a committed ratio is one."""
    failed = 0
    for key in keys:
        outcome = check(key, ratios[key]) if key in ratios else Outcome(key, 0, [], "not in the file: --write")
        failed += outcome.failed
        print(outcome, flush=True)
    return failed


def commit(path: Path, keys: Iterable[str]) -> None:
    """The median of as many tries as a check has, each as its first one. Other ratios of the file stay."""
    ratios = read_ratios(path) if path.exists() else {}
    for key in keys:
        found = [measure_ratio(BY_KEY[key], TRIES[0]) for _ in TRIES]
        ratios[key] = median(found)
        print(f"{key:42} {' '.join(f'{ratio:.3f}' for ratio in found)}", flush=True)
        write_ratios(path, {key: ratios[key] for key in BY_KEY if key in ratios})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description="Have ratios become worse?")
    parser.add_argument("--write", action="store_true", help="measure and write the file instead")
    parser.add_argument("--only", nargs="+", metavar="RATIO", choices=BY_KEY, help=", ".join(BY_KEY))
    parser.add_argument("--ratios", type=Path, default=RATIOS, metavar="FILE", help="default: ratios.json here")
    options = parser.parse_args(arguments)
    keys = options.only or list(BY_KEY)
    if options.write:
        commit(options.ratios, keys)
        return 0
    failed = check_all(read_ratios(options.ratios), keys)
    if failed:
        print(f"{failed} of {len(keys)} worse than committed by more than {WORSE - 1:.0%} in {len(TRIES)} tries")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
