"""The ratios which the project promises, and what became of them in a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .peers import OURS, PEERS
from .rounds import Cases, Cell, Cells, Key
from .servers import ASYNC, SYNC, Rate, Rates, Service

KEPT_LIMIT = 1.0  # bytes a request: what the interpreter's own tables add is less, one pointer is more


class Target(NamedTuple):
    """asyncflask's time in `scenario` over that of `theirs`, a (scenario, peer), is at most `limit`."""

    title: str
    scenario: str
    theirs: Key
    limit: float

    @property
    def ours(self) -> Key:
        return self.scenario, OURS

    @property
    def key(self) -> str:
        """`scenario/peer`; the other's scenario is named where it is another."""
        scenario, peer = self.theirs
        return f"{self.scenario}/{peer}" if scenario == self.scenario else f"{self.scenario}/{peer}:{scenario}"


class RateTarget(NamedTuple):
    """asyncflask's requests a second through a server are at least `limit` times the peer's."""

    title: str
    server: str
    view: tuple[str, str]
    peer: str
    limit: float


def promise(title: str, scenario: str, peer: str, limit: float, other: str = "") -> Target:
    return Target(title, scenario, (other or scenario, peer), limit)


TARGETS = (
    promise("JSON, async view, ASGI", "json-async", "starlette", 0.90),
    promise("JSON, sync view, ASGI", "json-sync", "starlette", 0.55),
    promise("JSON, sync view, ASGI, 200 at once", "json-sync-200", "starlette", 0.25),
    promise("JSON, sync view, WSGI", "json-wsgi", "flask", 0.22),
    promise("JSON echo of 1 KiB, async", "echo", "starlette", 0.95),
    promise("page, async", "page", "starlette", 0.95),
    promise("page, async, to Flask's on WSGI", "page", "flask", 0.40, "page-wsgi"),
    promise("page, sync, WSGI", "page-wsgi", "flask", 0.50),
    promise("404, ASGI, to Flask's on WSGI", "404", "flask", 0.30, "404-wsgi"),
    promise("404, WSGI", "404-wsgi", "flask", 0.30),
    promise("405, ASGI, to Flask's on WSGI", "405", "flask", 0.30, "405-wsgi"),
    promise("405, WSGI", "405-wsgi", "flask", 0.30),
    promise("last of 1,000 routes, to the last of 10, ASGI", "routes-1000", OURS, 1.10, "routes-10"),
    promise("last of 1,000 routes, to the last of 10, WSGI", "routes-1000-wsgi", OURS, 1.10, "routes-10-wsgi"),
    promise("last of 1,000 routes", "routes-1000", "starlette", 0.05),
    promise("sync before hook, async view", "mixed", "quart", 0.30),
    promise("multipart upload of 1 MiB", "upload", "starlette", 0.90),
    promise("static file of 64 KiB", "static", "starlette", 0.90),
    promise("static file, 304", "static-304", "starlette", 0.90),
    promise("async view, WSGI", "async-wsgi", "flask", 0.50),
)
RATE_TARGETS = (
    RateTarget("uvicorn, JSON, async view", "uvicorn", ASYNC, "raw", 0.85),
    RateTarget("uvicorn, JSON, async view", "uvicorn", ASYNC, "starlette", 1.00),
    RateTarget("gunicorn, JSON, sync view", "gunicorn", SYNC, "flask", 1.30),
    RateTarget("gunicorn, JSON, async view", "gunicorn", ASYNC, "flask", 2.00),
)
# What `startup.compare` finds, to Flask's, at most.
START_TARGETS = {"import": ("import", 1.00), "first": ("import and first answer, WSGI", 1.00)}


class Verdict(NamedTuple):
    """A row of the table."""

    work: str
    promised: str
    measured: str
    result: str


def find_ratio(cells: Cells, ours: Key, theirs: Key) -> Cell | None:
    one, other = cells.get(ours), cells.get(theirs)
    if not isinstance(one, Cell) or not isinstance(other, Cell):
        return None
    return Cell(one.best / other.best, one.median / other.median)


def judge(ratio: Cell, limit: float) -> str:
    """`unsure` where best and median disagree: run again on a quieter machine."""
    return name_result({ratio.best <= limit, ratio.median <= limit})


def name_result(reached: set[bool]) -> str:
    return "unsure" if len(reached) == 2 else "reached" if True in reached else "not reached"


def format_ratio(ratio: Cell) -> str:
    return f"{ratio.best:.2f} ({ratio.median:.2f})"


def judge_times(cells: Cells) -> Iterator[Verdict]:
    for target in TARGETS:
        ratio = find_ratio(cells, target.ours, target.theirs)
        if ratio is not None:
            whose = "its own" if target.theirs[1] == OURS else PEERS[target.theirs[1]].title
            promised = f"<= {target.limit:.2f} x {whose}"
            yield Verdict(target.title, promised, format_ratio(ratio), judge(ratio, target.limit))


def judge_rates(rates: Rates) -> Iterator[Verdict]:
    for target in RATE_TARGETS:
        ours = rates.get(Service(target.server, OURS, *target.view))
        theirs = rates.get(Service(target.server, target.peer, *target.view))
        if isinstance(ours, Rate) and isinstance(theirs, Rate):
            ratio = Cell(ours.best / theirs.best, ours.median / theirs.median)
            result = name_result({ratio.best >= target.limit, ratio.median >= target.limit})
            promised = f">= {target.limit:.2f} x {PEERS[target.peer].title}, requests/s"
            yield Verdict(target.title, promised, format_ratio(ratio), result)


def judge_start(startup: dict[str, dict[str, float]]) -> Iterator[Verdict]:
    for key, (title, limit) in START_TARGETS.items():
        if key in startup:
            ratio = startup[key][OURS] / startup[key]["flask"]
            yield Verdict(title, f"<= {limit:.2f} x Flask", f"{ratio:.2f}", name_result({ratio <= limit}))


def judge_memory(kept: Cases, cycles: Cases) -> Iterator[Verdict]:
    """The worst of all cases, on both faces."""
    worst = max(list_ours(kept), default=None)
    left = max((sum(types.values()) for types in list_ours(cycles)), default=None)
    if worst is not None:
        yield Verdict("memory kept by a request", "none", f"{worst:.2f} bytes", name_result({worst < KEPT_LIMIT}))
    if left is not None:
        yield Verdict("objects left in cycles", "none", f"{left:,}", name_result({left == 0}))


def list_ours(cases: Cases) -> Iterator[Any]:
    for (peer, _), found in cases.items():
        if peer == OURS:
            yield from (value for value in found.values() if not isinstance(value, str))
