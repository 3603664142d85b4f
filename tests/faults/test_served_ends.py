"""Faults at the begin and the end of serving, each with a server of its own."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from contract_message import Answer
from contract_servers import LINGERING
from fault_servers import ASGI, PATIENCE, FaultServer, new_id, read_answer, require
from served import Served

# How long the server waits for requests in flight. granian and uvicorn do without end.
PATIENT = {"hypercorn": "--graceful-timeout 20", "hypercorn-trio": "--graceful-timeout 20"}
HASTY = {
    "uvicorn-h11": "--timeout-graceful-shutdown 1",
    "hypercorn": "--graceful-timeout 1",
    "hypercorn-trio": "--graceful-timeout 1",
}
# A server accepts what it has a thread for; what waits in the kernel's queue was not accepted.
IN_FLIGHT = {"gunicorn-sync": 1, "gunicorn-gthread": 4}
ENDED = (0, -signal.SIGTERM)  # uvicorn ends gracefully, and then by the very signal


@contextmanager
def serve(name: str, options: str = "", **environment: str) -> Iterator[FaultServer]:
    require(name)
    server = FaultServer(name, options, **environment)
    try:
        yield server
    finally:
        server.end()
        server.log.close()


@contextmanager
def ask_many(server: FaultServer, who: str, *counts: tuple[str, int]) -> Iterator[list[socket.socket]]:
    """So many requests in flight of each style, all held until `who` is released. Yields the sockets."""
    with ExitStack() as stack:
        wires = [
            stack.enter_context(server.send("GET", f"/hold/{style}?id={who}", "Connection: close"))
            for style, count in counts
            for _ in range(count)
        ]
        total = sum(count for _, count in counts)
        server.poll(lambda: server.events(who).count("begins") == total)
        yield wires


def read_and_close(wire: socket.socket) -> Answer:
    """gunicorn waits for a client that does not hang up."""
    with wire:
        return read_answer(wire)


def end_of(server: FaultServer) -> int:
    return server.process.wait(PATIENCE)


@pytest.mark.parametrize("name", [*ASGI, *IN_FLIGHT])
def test_18_sigterm_with_requests_in_flight(name: str) -> None:
    """All finish; then the lifespan's shutdown runs."""
    counts = [("sync", IN_FLIGHT[name])] if name in IN_FLIGHT else [("sync", 40), ("async", 60)]
    who = new_id()
    with (
        serve(name, PATIENT.get(name, ""), FAULTS_THREADS="40") as server,
        ask_many(server, who, *counts) as wires,
    ):
        server.process.terminate()
        server.poll(lambda: server.events(who).count("told of the shutdown") == len(wires))
        assert "ends" not in server.events(who)
        server.release(who)
        answers = [read_and_close(wire) for wire in wires]
        assert [(answer.status, answer.text) for answer in answers] == [(200, "held")] * len(wires)
        assert end_of(server) in ENDED
        assert server.events(who).count("teardown NoneType") == len(wires)
        assert [event.split()[0] for event in server.events("life")] == ["begins", "ends"]
        assert "Traceback" not in server.read_log()


@pytest.mark.parametrize("name", HASTY)
def test_18_sigterm_and_a_request_that_goes_on(name: str) -> None:
    """At the server's deadline it is cancelled: no clean end, one teardown; then the lifespan's shutdown runs."""
    if name in LINGERING:
        pytest.skip("its deadline never begins")
    who = new_id()
    with serve(name, HASTY[name]) as server, ask_many(server, who, ("async", 3)) as wires:
        server.process.terminate()
        end_of(server)
        for wire in wires:
            assert b"held" not in wire.recv(4096)
        torn_down = [event for event in server.events(who) if event.startswith("teardown")]
        assert len(torn_down) == 3 and all("Cancelled" in event for event in torn_down)
        assert [event.split()[0] for event in server.events("life")] == ["begins", "ends"]


@pytest.mark.parametrize(
    "name", ["hypercorn-alone", "granian-asgi", "gunicorn-asgi", "gunicorn-sync", "gunicorn-gthread"]
)
def test_22_a_shutdown_hook_raises(name: str) -> None:
    """The others run; it is logged once. (uvicorn: tests/test_lifespan.py)"""
    with Served(name, FAIL="shutdown") as site:
        pid = site.get("/")
        site.end()
        assert site.said_by(pid) == ["before", "enter", "leave", "after"]
        assert site.text.count("\nValueError: no database") == 1, site.text


@pytest.mark.parametrize("name", ["gunicorn-sync", "gunicorn-gthread", "gunicorn-asgi"])
def test_31_fork_after_use_with_preload(name: str) -> None:
    """Worker threads and loop were used before the fork: each worker makes its own."""
    with serve(name, "--preload --workers 2", FAULTS_USED="1", FAULTS_QUEUE="100") as server:
        (used,) = server.events("fork")
        ask_both_workers(server)
        for path in ("/plain/sync", "/plain/async", "/clean/async", "/look-up"):
            assert server.get(f"{path}?id={new_id()}").status == 200
        server.process.terminate()
        assert end_of(server) == 0
        begun = [event for event in server.events("life") if event.startswith("begins")]
        assert used.removeprefix("used in ") not in " ".join(begun)
        assert len(server.events("life")) == 2 * len(begun) > 0


def ask_both_workers(server: FaultServer) -> None:
    """gunicorn forgets the signal for a worker which it is just beginning."""
    who = new_id()

    def ask(_: int) -> int:
        return server.post(f"/read/sync?id={who}").status

    with ThreadPoolExecutor(8) as pool:
        server.poll(lambda: set(pool.map(ask, range(16))) == {200} and len(set(server.events(who))) > 2)
