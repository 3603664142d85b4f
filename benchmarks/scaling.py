"""`python -m benchmarks.scaling`: one process and two, threads and the loop, neighbours that compute, sessions.

Through real servers on the loopback interface, loaded by `wrk` (else by the bundled loader), which takes its part of
the same machine. Writes the tables into docs/scaling.md.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from asyncflask.redis_store import RedisStore
from asyncflask.sqlite_store import SQLiteStore
from asyncflask.stored_sessions import StoredSessionInterface

from .drivers import BROWSER_HEADERS, AsgiDriver, Request
from .loader import CONNECTIONS, load, name_loader
from .machine import describe_machine, find_version
from .report import Tables, fill_in, format_number, format_table
from .rounds import take_turns
from .scaling_app import make_app
from .servers import ROOT, Server, find_free_port

APP = "benchmarks.scaling_app:app"
HELLO = "/hello/world"
DISTRIBUTIONS = ("uvicorn", "uvloop", "httptools", "gunicorn", "granian", "redis")
UVICORN = f"uvicorn {APP} --port {{port}} --workers {{workers}} --log-level error --no-access-log"
GUNICORN = f"gunicorn {{kind}} {APP} -b 127.0.0.1:{{{{port}}}} -w {{{{workers}}}} --log-level error"
# Each server's command, by its module, which says whether it is installed.
SERVERS = {
    "uvicorn": UVICORN,
    "asyncflask run": f"asyncflask --app {APP} run --port {{port}} --workers {{workers}}",
    "gunicorn -k asgi": GUNICORN.format(kind="-k asgi"),
    "granian": f"granian --interface asgi {APP} --port {{port}} --workers {{workers}} --log-level error",
    "gunicorn": GUNICORN.format(kind=""),
    "gunicorn -k gthread --threads 4": GUNICORN.format(kind="-k gthread --threads 4"),
}
WORKERS = (1, 2)
VIEWS = {"JSON, async view": HELLO, "JSON, sync view": "/hello-sync/world", "sync view that computes": "/compute"}
# A wait of 50 ms: (view, WORKER_THREADS).
WAITS = {
    "sync view": ("/wait-sync", 40),
    "sync view, WORKER_THREADS 200": ("/wait-sync", 200),
    "async view": ("/wait", 40),
}
WAITING = 400  # connections
# What else the process does while an async view is asked.
NEIGHBOURS = {"nothing": "", "a sync view that computes": "/compute", "an async view that computes": "/compute-async"}
COMPUTING = 4  # connections
ROUND = 25  # requests whose mean counts, if it is the best


class Extent(NamedTuple):
    """How many servers; turns of so many seconds; answers timed one by one; requests for each store of sessions."""

    servers: int
    turns: int
    seconds: int
    answers: int
    requests: int


FULL, QUICK = Extent(len(SERVERS), 3, 2, 500, 4_000), Extent(1, 1, 1, 20, 50)
Table = list[tuple[str, ...]]
PAGE = ROOT / "docs" / "scaling.md"


def make_command(command: str, workers: int, port: int) -> list[str]:
    return [sys.executable, "-m", *command.format(port=port, workers=workers).split()]


@contextmanager
def serve(command: str, workers: int = 1, **environ: str) -> Iterator[Server]:
    with Server(partial(make_command, command, workers), HELLO, **environ) as server:
        server.wait_until_it_answers()
        yield server


def list_installed() -> dict[str, str]:
    return {title: command for title, command in SERVERS.items() if importlib.util.find_spec(command.split()[0])}


def measure_workers(extent: Extent) -> Table:
    """Requests a second with one worker and with two, and how many times as many."""
    rows = []
    for title, command in list(list_installed().items())[: extent.servers]:
        tell(title)
        with ExitStack() as stack:
            servers = {str(count): stack.enter_context(serve(command, count)) for count in WORKERS}
            for view, path in VIEWS.items():
                one, two = find_best(extent, {name: partial(load, s.port, path) for name, s in servers.items()})
                rows.append((title, view, f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}"))
    return rows


def find_best(extent: Extent, loads: dict[str, Callable[[int], float]]) -> list[float]:
    """Requests a second of each; they take turns."""
    rates: dict[str, list[float]] = {name: [] for name in loads}
    for name in take_turns(list(loads), extent.turns):
        rates[name].append(loads[name](extent.seconds))
    return [max(found) for found in rates.values()]


def measure_waits(extent: Extent) -> Table:
    tell("views that wait")
    with ExitStack() as stack:
        loads: dict[str, Callable[[int], float]] = {}
        for title, (path, threads) in WAITS.items():
            server = stack.enter_context(serve(UVICORN, WORKER_THREADS=str(threads)))
            loads[title] = partial(load, server.port, path, connections=WAITING)
        rates = find_best(extent, loads)
    return [(title, f"{rate:,.0f}") for title, rate in zip(loads, rates, strict=True)]


def measure_neighbours(extent: Extent) -> Table:
    """Milliseconds that one client waits for an async view: the median and the 99th percentile."""
    tell("neighbours")
    rows = []
    for title, path in NEIGHBOURS.items():
        with serve(UVICORN) as server, busy(server.port, path):
            hundredths = quantiles(time_answers(server.port, extent.answers), n=100)
            rows.append((title, *(f"{hundredths[place - 1] * 1000:.2f}" for place in (50, 99))))
    return rows


@contextmanager
def busy(port: int, path: str) -> Iterator[None]:
    """A few connections ask for the path without a pause."""
    ended = threading.Event()

    def ask() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            while not ended.is_set():
                connection.request("GET", path)
                connection.getresponse().read()

    threads = [threading.Thread(target=ask) for _ in range(COMPUTING if path else 0)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def time_answers(port: int, count: int) -> list[float]:
    seconds = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for _ in range(count):
            begin = time.perf_counter()
            connection.request("GET", HELLO)
            connection.getresponse().read()
            seconds.append(time.perf_counter() - begin)
    return seconds


def measure_sessions(extent: Extent) -> Table:
    """Microseconds of a request in process, one after the other: without a session, and in each store."""
    tell("stores of sessions")
    rows = []
    with tempfile.TemporaryDirectory() as folder, run_redis(folder) as url:
        stores = {"signed cookie": None, "SQLite": SQLiteStore(Path(folder) / "sessions.db")}
        if url:
            stores["Redis, on the same machine"] = RedisStore(url)
        rows.append(("no session", *[format_number(time_requests(None, HELLO, extent))] * 2))
        for title, store in stores.items():
            rows.append((title, *(format_number(time_requests(store, path, extent)) for path in ("/read", "/count"))))
    return rows


def time_requests(store: Any, path: str, extent: Extent) -> float:
    app = make_app()
    if store is not None:
        app.session_interface = StoredSessionInterface(store)
    with closing(AsgiDriver(app)) as driver:
        first = driver.ask(Request("GET", "/count", BROWSER_HEADERS, b""))
        cookie = ("cookie", first.headers["set-cookie"].partition(";")[0])
        request = Request("GET", path, (*BROWSER_HEADERS, cookie), b"")
        seconds = [time_once(driver, request, ROUND) for _ in range(extent.requests // ROUND)]
    return min(seconds) / ROUND * 1e6


def time_once(driver: AsgiDriver, request: Request, count: int) -> float:
    begin = time.perf_counter()
    driver.ask(request, count)
    return time.perf_counter() - begin


@contextmanager
def run_redis(folder: str) -> Iterator[str]:
    """The URL of a server on a free port; empty where redis-server or the client is missing."""
    if not shutil.which("redis-server") or not importlib.util.find_spec("redis"):
        yield ""
        return
    port = find_free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def wait_for_port(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as probe:
        for _ in range(200):
            try:
                return probe.connect()
            except OSError:
                time.sleep(0.05)
    raise SystemExit("redis-server did not start")


def run(extent: Extent) -> Tables:
    versions = ", ".join(f"{name} {find_version(name)}" for name in DISTRIBUTIONS)
    how = f"{name_loader()}, {CONNECTIONS} connections, best of {extent.turns} turns of {extent.seconds} s"
    return {
        "machine": format_table(("", ""), [*describe_machine(), ("Packages", versions), ("Load", how)]),
        "workers": format_table(("requests/s", "view", "1 worker", "2 workers", "times"), measure_workers(extent)),
        "waits": format_table((f"50 ms, {WAITING} connections", "requests/s"), measure_waits(extent)),
        "neighbours": format_table(
            (f"{COMPUTING} other clients ask for", "median, ms", "99 %, ms"), measure_neighbours(extent)
        ),
        "sessions": format_table(("µs", "read", "read and written"), measure_sessions(extent)),
    }


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="One process and two.")
    parser.add_argument("--quick", action="store_true", help="shows that all works, not how fast; writes nothing")
    options = parser.parse_args(arguments)
    tables = run(QUICK if options.quick else FULL)
    print("\n\n".join("\n".join(table) for table in tables.values()))
    if not options.quick:
        fill_in(PAGE, tables)


if __name__ == "__main__":
    main()
