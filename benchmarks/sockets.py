"""`python -m benchmarks.sockets`: many connections at once through uvicorn, beside Starlette and Quart.

memory   kilobytes of one idle websocket: growth of the server's resident memory over the connections
echo     messages a second through 20 websockets, each waiting for its answer
events   1,000 clients of server-sent events, ten events a second each: none may be lost; how late they come
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .machine import describe_machine, find_version
from .report import format_number, format_table
from .rounds import take_turns
from .servers import find_free_port

ROOT = Path(__file__).parent.parent
START_SECONDS = 15
HOLDERS = 2  # client processes; each has a loopback address, and so its own ports
# Name to what it needs; "raw" is a bare ASGI application.
PEERS = {"asyncflask": "asyncflask", "starlette": "starlette", "quart": "quart", "raw": "uvicorn"}


class Extent(NamedTuple):
    """How much is done."""

    idle: int
    echo_rounds: int
    echo_seconds: float
    listeners: int
    listen_seconds: float


FULL = Extent(10_000, 4, 2, 1_000, 20)
QUICK = Extent(500, 1, 0.3, 50, 1)
NOTES = """\
All through one process of uvicorn, on the loopback interface; the clients share the machine with it. `raw` is a bare
ASGI application: what it takes is the server's and contained in every figure. Memory is the growth of resident
memory; the clients ask for no compression. Messages a second vary by 10 % on an idle machine, by 30 % on a busy one. An
event is late when a thousand are due at once, since all wait for one loop: p50 and p99 tell how long its queue is. The
processor time includes the start of the server. Starlette and Quart send ready text from a generator; asyncflask's
`sse` besides encodes events, sends pings, and ends with the server.""".splitlines()
ECHOERS = 20
DISTRIBUTIONS = ("starlette", "Quart", "uvicorn", "uvloop", "httptools", "websockets")
WARM_UP = 50


class Server:
    """uvicorn with one peer, from its first answer to its end. Pings are off: the holders do not answer them."""

    def __init__(self, peer: str) -> None:
        self.port = find_free_port()
        app = f"benchmarks.peers.sockets_{peer}:app"
        options = f"--port {self.port} --log-level error --no-access-log --ws-ping-interval 0".split()
        self.process = subprocess.Popen([sys.executable, "-m", "uvicorn", app, *options], cwd=ROOT)

    def __enter__(self) -> Server:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise SystemExit("a server did not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/hello/world", timeout=5) as answer:
                return b"world" in answer.read()
        except OSError:
            return False

    def resident(self) -> int:
        """Bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def begin(self, kind: str, count: int, seconds: float = 0, host: str = "127.0.0.1") -> subprocess.Popen[str]:
        arguments = [kind, str(self.port), str(count), str(seconds), host]
        command = [sys.executable, "-m", "benchmarks.socket_clients", *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def ask(self, kind: str, count: int, seconds: float) -> dict[str, Any]:
        return finish(self.begin(kind, count, seconds))


def finish(client: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = client.communicate()
    if client.returncode:
        raise SystemExit("a client failed")
    answer: dict[str, Any] = json.loads(output)
    return answer


def measure_memory(peer: str, count: int) -> float:
    """Bytes of one idle connection. A few come and go before, so that what is made once is not counted."""
    with Server(peer) as server:
        finish(server.begin("hold", WARM_UP))
        time.sleep(0.5)
        before = server.resident()
        holders = [server.begin("hold", count // HOLDERS, host=f"127.0.0.{2 + number}") for number in range(HOLDERS)]
        try:
            for holder in holders:
                assert holder.stdout is not None
                if not holder.stdout.readline():
                    raise SystemExit("the connections could not be opened")
            time.sleep(0.5)
            return (server.resident() - before) / count
        finally:
            for holder in holders:
                holder.kill()
                holder.communicate()


def measure_echo(peers: Sequence[str], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Messages a second, by peer; in each round every peer has its turn."""
    rates: dict[str, list[float]] = {peer: [] for peer in peers}
    with ExitStack() as stack:
        servers = {peer: stack.enter_context(Server(peer)) for peer in peers}
        for peer in take_turns(list(peers), rounds):
            rates[peer].append(servers[peer].ask("echo", ECHOERS, seconds)["rate"])
    return rates


def measure_events(peer: str, count: int, seconds: float) -> dict[str, Any]:
    with Server(peer) as server:
        answer = server.ask("listen", count, seconds)
        return {**answer, "processor": processor_seconds(server.process.pid)}


def processor_seconds(pid: int) -> float:
    """What a process has used until now, its start included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def installed() -> list[str]:
    return [peer for peer, needs in PEERS.items() if importlib.util.find_spec(needs)]


def run(extent: Extent) -> str:
    peers = installed()
    tell(f"memory of {extent.idle} websockets")
    memory = {peer: measure_memory(peer, extent.idle) for peer in peers}
    tell("echo")
    rates = measure_echo(peers, extent.echo_rounds, extent.echo_seconds)
    tell(f"events for {extent.listeners} clients")
    events = {peer: measure_events(peer, extent.listeners, extent.listen_seconds) for peer in peers if peer != "raw"}
    return write_report(extent, memory, rates, events)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_report(
    extent: Extent, memory: dict[str, float], rates: dict[str, list[float]], events: dict[str, dict[str, Any]]
) -> str:
    best = {peer: max(found) for peer, found in rates.items()}
    ours = best["asyncflask"]
    versions = ", ".join(f"{name} {find_version(name)}" for name in DISTRIBUTIONS)
    sections = [
        ["# Many connections at once", "", "Written by `python -m benchmarks.sockets > benchmarks/sockets.md`."],
        format_table(("", ""), [*describe_machine(), ("Packages", versions)]),
        [f"Idle websockets, {extent.idle:,} on one process, each after one echo:"],
        format_table(("", "KiB each"), ((peer, format_number(size / 1024)) for peer, size in memory.items())),
        [f"Echo of 32 bytes through {ECHOERS} websockets, messages a second, best (median) of {extent.echo_rounds}:"],
        format_table(("", "messages/s", "asyncflask to it"), (rate_row(peer, rates[peer], ours) for peer in rates)),
        [
            f"Server-sent events, {extent.listeners:,} clients, ten events a second each for {extent.listen_seconds} s;"
            " milliseconds from the making of an event to its arrival:"
        ],
        format_table(("", "received", "lost", "p50", "p99", "processor s"), event_rows(events)),
        NOTES,
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def rate_row(peer: str, rates: list[float], ours: float) -> tuple[str, ...]:
    return peer, f"{max(rates):,.0f} ({median(rates):,.0f})", f"{ours / max(rates):.2f}"


def event_rows(events: dict[str, dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    for peer, found in events.items():
        times = (format_number(found[name]) for name in ("p50", "p99", "processor"))
        yield peer, f"{found['received']:,}", str(found["lost"]), *times


def raise_limit(needed: int) -> None:
    """Open files: a connection is one in the server and one in its client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard) if hard > 0 else needed, hard))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sockets", description="Many connections at once.")
    parser.add_argument("--quick", action="store_true", help="few connections: shows that all works, not how well")
    options = parser.parse_args(arguments)
    extent = QUICK if options.quick else FULL
    raise_limit(extent.idle + 1000)
    print(run(extent), end="")


if __name__ == "__main__":
    main()
