"""`python -m benchmarks.growth`: what a request costs as something grows; writes growth.md and growth.svg here.

In process and without a socket, as `python -m benchmarks`. Sizes take turns, and the best time of each counts:
processor time, which other programs do not use up, but the clock's where a view sleeps.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

from . import growing
from .chart import draw_growth
from .drivers import BROWSER_HEADERS, DRIVERS, Request
from .fit import Points, Wording, describe, format_figure, format_size
from .machine import describe_machine
from .report import fill_in, format_table
from .servers import ROOT

ROUND_SECONDS = 0.02
FEWEST_ROUNDS = 3
FULL_SECONDS, QUICK_SECONDS = 0.5, 0.0  # for each point
AT_ONCE = 256  # requests for a number of threads
MIB = 1024 * 1024


class Curve(NamedTuple):
    """One line of a chart. `make` builds the application: of a size, or once for all."""

    title: str
    needs: str
    face: str
    make: Callable[..., Any]
    path: Callable[[float], str]
    by_clock: bool = False


class Series(NamedTuple):
    """One chart and table. `of_app`: the application grows; else the request does, or their number at once."""

    key: str
    title: str
    unit: str
    sizes: tuple[float, ...]
    curves: tuple[Curve, ...]
    of_app: bool = False
    is_rate: bool = False
    make_request: Callable[[str, float], Request] = lambda path, size: Request("GET", path, BROWSER_HEADERS, b"")
    at_once: Callable[[float], int] = lambda size: 1

    @property
    def plural(self) -> str:
        """MiB stays as it is, "request at once" has its plural inside."""
        noun, *rest = self.unit.split()
        return " ".join([noun if noun == "MiB" else f"{noun}s", *rest])

    @property
    def wording(self) -> Wording:
        return Wording(self.unit, "requests/s" if self.is_rate else "µs")


def to(path: str) -> Callable[[float], str]:
    return lambda size: path


def last_route(size: float) -> str:
    return f"/resource{int(size) - 1}/world"


def make_headed(path: str, size: float) -> Request:
    others = tuple((f"x-header-{number}", "a value") for number in range(int(size) - len(FEW) - 1))
    return Request("GET", path, (*FEW, *others, ("x-last", "read")), b"")


def make_posted(path: str, size: float) -> Request:
    body = bytes(int(size * MIB))
    return Request("POST", path, (*BROWSER_HEADERS, ("content-length", str(len(body)))), body)


FEW = BROWSER_HEADERS[:4]
OURS = "asyncflask"
SERIES = (
    Series(
        "routes",
        "Routes: the last of them, with a parameter",
        "route",
        (10, 100, 1_000, 10_000),
        (
            Curve("asyncflask, ASGI", OURS, "asgi", growing.routes("asyncflask"), last_route),
            Curve("asyncflask, WSGI", OURS, "wsgi", growing.routes("asyncflask", "routes_sync"), last_route),
            Curve("Starlette", "starlette", "asgi", growing.routes("starlette"), last_route),
        ),
        of_app=True,
    ),
    Series(
        "hooks-async",
        "Async before hooks, async view, ASGI",
        "hook",
        (0, 1, 5, 10, 20, 50),
        (
            Curve("asyncflask", OURS, "asgi", growing.hooks_async("asyncflask", "Flask"), to("/")),
            Curve("Quart", "quart", "asgi", growing.hooks_async("quart", "Quart"), to("/")),
        ),
        of_app=True,
    ),
    Series(
        "hooks-sync",
        "Sync before hooks, sync view, WSGI",
        "hook",
        (0, 1, 5, 10, 20, 50),
        (
            Curve("asyncflask", OURS, "wsgi", growing.hooks_sync("asyncflask"), to("/")),
            Curve("Flask", "flask", "wsgi", growing.hooks_sync("flask"), to("/")),
        ),
        of_app=True,
    ),
    Series(
        "depth",
        "Depth of blueprints in blueprints, async view, ASGI",
        "level",
        (1, 2, 4, 6, 8, 10),
        (
            Curve("no hooks", OURS, "asgi", growing.depth_async(False), to("/")),
            Curve("an async hook each", OURS, "asgi", growing.depth_async(True), to("/")),
        ),
        of_app=True,
    ),
    Series(
        "headers",
        "Request headers, of which an async view reads the last",
        "header",
        (5, 10, 20, 50, 100, 200),
        (
            Curve("asyncflask", OURS, "asgi", growing.reading, to("/header")),
            Curve("Starlette", "starlette", "asgi", growing.reading_starlette, to("/header")),
        ),
        make_request=make_headed,
    ),
    Series(
        "body",
        "Request body, read whole; it arrives in pieces of 64 KiB",
        "MiB",
        (1 / 1024, 1 / 16, 1, 10, 100),
        (
            Curve("asyncflask, async view", OURS, "asgi", growing.reading, to("/body")),
            Curve("asyncflask, sync view", OURS, "asgi", growing.reading, to("/body-sync")),
            Curve("Starlette, async", "starlette", "asgi", growing.reading_starlette, to("/body")),
        ),
        make_request=make_posted,
    ),
    Series(
        "concurrency",
        "Requests at once, ASGI: an async view that lets others run once, and a sync one (40 threads)",
        "request at once",
        (1, 10, 100, 500, 1_000, 2_000),
        (
            Curve("asyncflask, async view", OURS, "asgi", growing.reading, to("/wait")),
            Curve("asyncflask, sync view", OURS, "asgi", growing.reading, to("/sync")),
            Curve("Starlette, async", "starlette", "asgi", growing.reading_starlette, to("/wait")),
            Curve("Starlette, sync", "starlette", "asgi", growing.reading_starlette, to("/sync")),
        ),
        at_once=int,
    ),
    Series(
        "threads",
        f"Worker threads, {AT_ONCE} requests at once, ASGI",
        "thread",
        (1, 2, 4, 8, 16, 32, 64),
        (
            Curve("a sync view sleeps 2 ms", OURS, "asgi", growing.threads, to("/sleep"), by_clock=True),
            Curve("a sync view computes (per processor second)", OURS, "asgi", growing.threads, to("/compute")),
        ),
        of_app=True,
        is_rate=True,
        at_once=lambda size: AT_ONCE,
    ),
)
BY_KEY = {series.key: series for series in SERIES}
Found = dict[str, Points]  # by the curve's title
HEAD = """\
# How it grows

Written by `python -m benchmarks.growth`; [README.md](README.md) says what follows.
"""
NOTES = """\
Microseconds of processor time that a request takes in all threads, or requests a second; the best of many rounds, the
driver's own part of some 2 µs included. Words and slopes are of a least-squares fit: `flat` is a largest figure of at
most 1.2 times the smallest, `linear` a line from which no point is off by more than 15 %; else both are said of the
longest beginning for which they hold.
"""


class Point:
    """One size of one curve, which remembers its best time."""

    def __init__(self, series: Series, curve: Curve, size: float, driver: Any) -> None:
        self.driver, self.size, self.by_clock = driver, size, curve.by_clock
        self.request = series.make_request(curve.path(size), size)
        self.at_once = series.at_once(size)
        self.expected = driver.ask(self.request)
        if self.expected.status != 200:
            raise SystemExit(f"{series.key}, {curve.title}: answers {self.expected.status}")
        self.count, self.rounds, self.spent, self.best = self.at_once, 0, 0.0, float("inf")

    def run(self) -> None:
        gc.collect()
        begin = process_time()
        seconds = self.driver.time(self.request, self.count, self.expected, self.at_once)
        if not self.by_clock:
            seconds = process_time() - begin
        self.spent += seconds
        self.rounds += 1
        self.best = min(self.best, seconds / self.count * 1e6)
        if seconds < ROUND_SECONDS / 2:  # a longer one the next time, as close to the aim as can be
            self.count *= min(16, max(2, int(ROUND_SECONDS / seconds)))


def measure(series: Series, sizes: Iterable[float], seconds: float) -> Found:
    points: dict[str, list[Point]] = {}
    drivers: list[Any] = []

    def open_driver(curve: Curve, *arguments: Any) -> Any:
        drivers.append(DRIVERS[curve.face](curve.make(*arguments)))
        return drivers[-1]

    try:
        for curve in series.curves:
            if importlib.util.find_spec(curve.needs) is not None:
                shared = None if series.of_app else open_driver(curve)
                points[curve.title] = [
                    Point(series, curve, size, shared or open_driver(curve, int(size))) for size in sizes
                ]
        gc.freeze()  # else the collection before each round would look at all routes of all sizes
        take_turns([point for found in points.values() for point in found], seconds)
    finally:
        gc.unfreeze()
        for driver in drivers:
            driver.close()
    return {title: [(point.size, value_of(series, point.best)) for point in found] for title, found in points.items()}


def take_turns(points: list[Point], seconds: float) -> None:
    while unfinished := [point for point in points if point.rounds < FEWEST_ROUNDS or point.spent < seconds]:
        for point in unfinished:
            point.run()


def value_of(series: Series, microseconds: float) -> float:
    return 1e6 / microseconds if series.is_rate else microseconds


def write_report(found: dict[str, Found], drawn: bool) -> str:
    lines = [HEAD, *(f"- {name}: {text}" for name, text in describe_machine()), "", NOTES]
    for series in SERIES:
        if series.key in found:
            lines += write_series(series, found[series.key])
    lines += ["![How it grows](growth.svg)", ""] if drawn else []
    return "\n".join(lines)


def write_series(series: Series, found: Found) -> list[str]:
    words = [f"- {title}: {describe(points, series.wording)}" for title, points in found.items()]
    return [f"## {series.title}", "", *write_table(series, found), "", *words, ""]


def write_table(series: Series, found: Found) -> list[str]:
    sizes = [size for size, _ in next(iter(found.values()))]
    rows = [
        [format_size(size), *(format_figure(points[number][1]) for points in found.values())]
        for number, size in enumerate(sizes)
    ]
    return format_table([series.plural, *found], rows)


def choose_sizes(series: Series, quick: bool) -> tuple[float, ...]:
    return series.sizes[:FEWEST_ROUNDS] if quick else series.sizes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description="How costs grow.")
    parser.add_argument("--quick", action="store_true", help="few sizes, short: shows that all works, not how fast")
    parser.add_argument("--only", nargs="+", metavar="SERIES", choices=BY_KEY, help=", ".join(BY_KEY))
    parser.add_argument("--output", type=Path, metavar="DIR", help="write growth.md and growth.svg there")
    options = parser.parse_args(arguments)
    seconds = QUICK_SECONDS if options.quick else FULL_SECONDS
    found: dict[str, Found] = {}
    for series in SERIES:
        if not options.only or series.key in options.only:
            print(series.title, file=sys.stderr, flush=True)
            found[series.key] = measure(series, choose_sizes(series, options.quick), seconds)
    if options.output is None and not (options.quick or options.only):
        options.output = Path(__file__).parent
    drawn = bool(options.output) and draw_growth(SERIES, found, options.output / "growth.svg")
    text = write_report(found, drawn)
    print(text)
    if options.output:
        (options.output / "growth.md").write_text(text, encoding="utf-8")
    if options.output == Path(__file__).parent:
        fill_in(ROOT / "docs" / "scaling.md", {"threads": write_table(BY_KEY["threads"], found["threads"])})


if __name__ == "__main__":
    main()
