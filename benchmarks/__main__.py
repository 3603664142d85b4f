"""`python -m benchmarks`: see README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from .chart import draw_chart
from .machine import describe_machine, describe_packages
from .peers import OURS, PEERS
from .report import Results, write_report
from .rounds import ask_all, measure_all
from .scenarios import SCENARIOS, Scenario
from .servers import SECONDS, TURNS, measure_servers
from .startup import compare


class Extent(NamedTuple):
    """How long a run takes: rounds of so many seconds, turns of so many through each server, processes begun.

    `kept`: after how many requests memory is looked at, and at which it is looked at again.
    """

    rounds: int
    round_seconds: float
    turns: int
    turn_seconds: int
    starts: int
    kept: tuple[int, int]


FULL = Extent(7, 0.2, TURNS, SECONDS, 20, (2_000, 20_000))
QUICK = Extent(2, 0.02, 1, 1, 2, (50, 100))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Microseconds per request.")
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that all works, not speed")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", choices=SCENARIOS, help=", ".join(SCENARIOS))
    parser.add_argument("--peers", nargs="+", metavar="PEER", choices=PEERS, help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, help=f"turns of each peer (default {FULL.rounds})")
    parser.add_argument("--servers", action="store_true", help="also measure through uvicorn and gunicorn")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write results.md and results.svg there")
    options = parser.parse_args(arguments)
    if options.output is None and not (options.quick or options.only or options.peers):
        options.output = Path(__file__).parent  # a part must not replace the figures of the whole
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def choose_scenarios(only: list[str] | None) -> list[Scenario]:
    """Those named; without names all but the optional ones."""
    return [s for key, s in SCENARIOS.items() if (key in only if only else not s.optional)]


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> Results:
    extent = QUICK if options.quick else FULL
    rounds = options.rounds or extent.rounds
    peers = options.peers or list(PEERS)
    cells = measure_all(choose_scenarios(options.only), peers, rounds, extent.round_seconds, tell)
    cycles, kept, startup = {}, {}, {}
    if not options.only:
        tell("what is left behind, and what it takes to begin")
        cycles = ask_all(peers, "cycles")
        kept = ask_all({OURS} & set(peers), "kept", few=extent.kept[0], many=extent.kept[1])
        startup = compare(extent.starts) if {OURS, "flask"} <= set(peers) else {}
    rates = measure_servers(peers, extent.turns, extent.turn_seconds, tell) if options.servers else {}
    machine = [*describe_machine(), ("Packages", describe_packages(peers, options.servers))]
    return Results(peers, rounds, machine, cells, cycles, rates, kept, startup)


def save(results: Results, text: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_chart(results, folder / "results.svg")
    chart = "\n![Microseconds per request](results.svg)\n" if drawn else ""
    (folder / "results.md").write_text(f"# Results\n\n{text}{chart}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    results = run(options)
    text = write_report(results)
    print(text, end="")
    if options.output:
        save(results, text, options.output)


if __name__ == "__main__":
    main()
