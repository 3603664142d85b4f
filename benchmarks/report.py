"""The results as Markdown tables, which are also what the terminal shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .loader import CONNECTIONS, name_loader
from .peers import OURS, PEERS
from .rounds import Cases, Cell, Cells
from .scenarios import CYCLE_REQUESTS, SCENARIOS, Scenario
from .servers import Rates, Service
from .targets import find_ratio, judge_memory, judge_rates, judge_start, judge_times

FACES = {"asgi": "ASGI", "wsgi": "WSGI"}
# Of what startup.compare finds: the title, and what makes milliseconds or MiB of it.
STARTUP_TITLES = {
    "import": ("import, ms", 1000),
    "first": ("import and first answer (WSGI), ms", 1000),
    "memory": ("memory after hello, MiB", 1 / 1024),
}


class Results(NamedTuple):
    """All that one run found."""

    peers: Sequence[str]
    rounds: int
    machine: list[tuple[str, str]]
    cells: Cells
    cycles: Cases
    rates: Rates
    kept: Cases
    startup: dict[str, dict[str, float]]


class Footnotes:
    """Numbers reasons in the order of their first appearance."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        return f"- [{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"

    def write(self) -> list[str]:
        lines = (f"[{number}] {reason}" for reason, number in self.numbers.items())
        return ["  \n".join(lines)] if self.numbers else []


def format_number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def format_both(best: float, median: float, format_one: Callable[[float], str]) -> str:
    return f"{format_one(best)} ({format_one(median)})"


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned: the first column to the left, the others to the right."""
    rows = list(rows)
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]

    def format_row(cells: Sequence[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return [format_row(head), f"|{rule}|", *map(format_row, rows)]


Tables = dict[str, list[str]]


def fill_in(page: Path, tables: Tables) -> None:
    """Put each table between its marks, `<!-- begin: name -->` and `<!-- end: name -->`."""
    text = page.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = (f"<!-- {edge}: {name} -->\n" for edge in ("begin", "end"))
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"{page.name} has no marks for {name!r}.")
        text = f"{head}{begin}" + "".join(f"{line}\n" for line in lines) + end + tail
    page.write_text(text, encoding="utf-8")


def list_scenarios(results: Results, face: str) -> list[Scenario]:
    measured = {key for key, _ in results.cells}
    return [scenario for key, scenario in SCENARIOS.items() if scenario.face == face and key in measured]


def list_peers(results: Results, face: str) -> list[str]:
    return [peer for peer in results.peers if face in PEERS[peer].modules]


def write_times(results: Results, face: str, notes: Footnotes) -> list[str]:
    peers, scenarios = list_peers(results, face), list_scenarios(results, face)

    def format_cell(cell: Cell | str) -> str:
        return notes.mark(cell) if isinstance(cell, str) else format_both(*cell, format_number)

    rows = [[s.title, *(format_cell(results.cells[s.key, peer]) for peer in peers)] for s in scenarios]
    title = f"### {FACES[face]}: microseconds per request, best of {results.rounds} rounds (median)"
    return [title, "", *format_table(["scenario", *(PEERS[peer].title for peer in peers)], rows), ""]


def write_ratios(results: Results, face: str) -> list[str]:
    """Nothing where asyncflask was not measured, or was measured alone."""
    cells, scenarios = results.cells, list_scenarios(results, face)
    peers = [peer for peer in list_peers(results, face) if peer != OURS]
    if not peers or not any(isinstance(cells.get((s.key, OURS)), Cell) for s in scenarios):
        return []

    def format_ratio(key: str, peer: str) -> str:
        ratio = find_ratio(cells, (key, OURS), (key, peer))
        return "-" if ratio is None else format_both(*ratio, "{:.2f}".format)

    rows = [[s.title, *(format_ratio(s.key, peer) for peer in peers)] for s in scenarios]
    title = f"### {FACES[face]}: asyncflask's time as a share of the peer's, from the best (from the medians)"
    return [title, "", *format_table(["scenario", *(PEERS[peer].title for peer in peers)], rows), ""]


def write_targets(results: Results) -> list[str]:
    """Those of which both sides were measured."""
    rows = [
        *judge_times(results.cells),
        *judge_rates(results.rates),
        *judge_memory(results.kept, results.cycles),
        *judge_start(results.startup),
    ]
    if not rows:
        return []
    head = ["asyncflask's time (or rate) to the peer's", "promised", "measured", "result"]
    return ["### Targets", "", *format_table(head, rows), ""]


def write_cycles(results: Results) -> list[str]:
    """Totals for every peer; the types for asyncflask, where there should be none."""
    if not results.cycles:
        return []
    cases = list(dict.fromkeys(case for found in results.cycles.values() for case in found))
    rows = [
        [f"{PEERS[peer].title} ({FACES[face]})", *(format_garbage(found.get(case, "")) for case in cases)]
        for (peer, face), found in results.cycles.items()
    ]
    title = f"### Unreachable objects left by {CYCLE_REQUESTS:,} requests while gc is disabled"
    return [title, "", *format_table(["peer", *cases], rows), "", *list_garbage(results.cycles)]


def format_garbage(found: dict[str, int] | str) -> str:
    return "-" if isinstance(found, str) else f"{sum(found.values()):,}"


def list_garbage(cycles: Cases) -> list[str]:
    lines = [
        f"- asyncflask ({FACES[face]}), {case}: {format_types(types)}"
        for (peer, face), found in cycles.items()
        for case, types in found.items()
        if peer == OURS and types and not isinstance(types, str)
    ]
    return [*lines, ""] if lines else []


def write_kept(results: Results) -> list[str]:
    if not results.kept:
        return []
    cases = list(dict.fromkeys(case for found in results.kept.values() for case in found))
    rows = [
        [f"{PEERS[peer].title} ({FACES[face]})", *(format_kept(found.get(case, "")) for case in cases)]
        for (peer, face), found in results.kept.items()
    ]
    return ["### Bytes that each request keeps", "", *format_table(["peer", *cases], rows), ""]


def format_kept(found: float | str) -> str:
    return "-" if isinstance(found, str) else f"{found:.2f}"


def write_startup(results: Results) -> list[str]:
    """Seconds of what begins, KiB of memory."""
    if not results.startup:
        return []
    rows = [
        [STARTUP_TITLES[key][0], *(format_number(found[peer] * STARTUP_TITLES[key][1]) for peer in found)]
        for key, found in results.startup.items()
    ]
    peers = [PEERS[peer].title for peer in next(iter(results.startup.values()))]
    return ["### To begin", "", *format_table(["", *peers], rows), ""]


def format_types(types: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in Counter(types).most_common())


def write_rates(results: Results, notes: Footnotes) -> list[str]:
    if not results.rates:
        return []
    rows = []
    for service, rate in sorted(results.rates.items(), key=lambda item: order_service(item[0])):
        figure = notes.mark(rate) if isinstance(rate, str) else format_both(*rate, "{:,.0f}".format)
        rows.append([service.server, service.title, PEERS[service.peer].title, figure])
    how = f"{name_loader()}, {CONNECTIONS} connections"
    title = f"### Through servers: requests a second, best (median); {how}"
    return [title, "", *format_table(["server", "JSON", "peer", "requests/s"], rows), ""]


def order_service(service: Service) -> tuple[bool, str, int]:
    return service.server != "uvicorn", service.title, list(PEERS).index(service.peer)


def write_report(results: Results) -> str:
    notes = Footnotes()
    lines = [*(f"- {name}: {text}" for name, text in results.machine), ""]
    for face in FACES:
        if list_scenarios(results, face):
            lines += write_times(results, face, notes) + write_ratios(results, face)
    lines += write_targets(results) + write_cycles(results) + write_kept(results) + write_startup(results)
    lines += write_rates(results, notes) + notes.write()
    return "\n".join(lines).rstrip() + "\n"
