"""The watchdog: code that holds the event loop is logged with its endpoint and its stack."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
import time

import pytest
from edge import get, wait_until

from asyncflask import Flask, render_template_string
from asyncflask.watchdog import Watchdog, limit_of

pytestmark = pytest.mark.blocks_loop("the watchdog is to see it")


@pytest.fixture
def app():
    app = Flask(__name__)

    @app.route("/block")
    async def block():
        hold_the_loop()
        return ""

    @app.route("/block-long")
    async def block_long():
        hold_the_loop(0.4)
        return ""

    @app.route("/sync")
    def sync_view():
        hold_the_loop()
        return ""

    @app.route("/wait")
    async def wait():
        await asyncio.sleep(0.15)
        return ""

    return app


def hold_the_loop(seconds=0.15):
    time.sleep(seconds)


@pytest.fixture
async def watchdog(app):
    watchdog = Watchdog(app, asyncio.get_running_loop(), 0.05)
    yield watchdog
    watchdog.stop()


async def test_says_who_holds_the_loop_and_where(app, watchdog, caplog):
    await get(app, "/block")
    await wait_until(lambda: len(caplog.records) == 2)
    first, second = caplog.messages
    assert "more than 50 ms by the endpoint 'block'" in first
    assert "hold_the_loop()" in first
    assert "time.sleep(seconds)" in first
    assert "was held for" in second
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("path", ["/sync", "/wait"])
async def test_says_nothing_of_threads_and_of_waiting(app, watchdog, caplog, path):
    await get(app, path)
    await asyncio.sleep(0.1)
    assert not caplog.records


def find_reports(caplog):
    """Of `hold_the_loop` alone: a busy machine may hold the loop as well."""
    return [message for message in caplog.messages if "hold_the_loop" in message]


async def test_code_outside_of_requests(watchdog, caplog):
    hold_the_loop()
    await wait_until(lambda: find_reports(caplog))
    assert "endpoint" not in find_reports(caplog)[0]


async def test_the_stack_begins_at_the_users_code(app, watchdog, caplog):
    @app.get("/render")
    async def render():
        return render_template_string("{{ hold() }}", hold=hold_the_loop)  # frames of ours and of Jinja are kept here

    await get(app, "/render")
    await wait_until(lambda: len(caplog.records) == 2)
    frames = re.findall(r'File ".*", line \d+, in (.*)', caplog.messages[0])
    assert (frames[0], frames[-1]) == ("render", "hold_the_loop")
    assert "render_template_string" in frames


async def test_a_stack_without_the_users_code_is_whole(watchdog, caplog):
    asyncio.get_running_loop().call_soon(threading.Event().wait, 0.15)
    await wait_until(lambda: len(caplog.records) == 2)
    assert "base_events.py" in caplog.messages[0]


async def test_a_long_hold_is_told_of_once_and_at_its_end(watchdog, caplog):
    hold_the_loop(2)  # of which a busy machine may tell the watchdog late
    await wait_until(lambda: max(map(int, re.findall(r"was held for (\d+) ms", caplog.text)), default=0) > 1000)
    (report,) = find_reports(caplog)
    assert "has been held for more than 50 ms" in report


async def test_a_loop_that_only_waits_is_not_blamed(app, caplog):
    """It answers late where other threads, or other processes, keep it from running."""

    class Starved:
        def call_soon_threadsafe(self, call): ...

    watchdog = Watchdog(app, Starved(), 0.1)
    await asyncio.sleep(0.3)
    watchdog.stop()
    assert not caplog.records


async def test_stops(app, caplog):
    watchdog = Watchdog(app, asyncio.get_running_loop(), 0.05)
    watchdog.stop()
    await wait_until(lambda: "asyncflask-watchdog" not in {thread.name for thread in threading.enumerate()})
    caplog.clear()  # it may have seen a busy machine
    hold_the_loop()
    await asyncio.sleep(0.05)
    assert not caplog.records


def test_ends_with_its_loop(app):
    async def main():
        Watchdog(app, asyncio.get_running_loop(), 0.01)

    asyncio.run(main())
    deadline = time.monotonic() + 5
    while "asyncflask-watchdog" in {thread.name for thread in threading.enumerate()}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("debug", "value", "limit"),
    [(True, None, 0.1), (False, None, None), (False, 250, 0.25), (True, 50, 0.05), (True, 0, None)],
)
def test_when_it_watches(app, debug, value, limit):
    app.debug = debug
    app.config["SLOW_CALLBACK_MS"] = value
    assert limit_of(app) == limit


@pytest.mark.parametrize("debug", [True, False])
async def test_watches_while_the_application_is_served(app, debug, caplog):
    app.debug = debug
    async with app.test_app() as test_app:
        await test_app.test_client().get("/block-long")
        if debug:
            await wait_until(lambda: "by the endpoint 'block_long'" in caplog.text)
    assert ("The event loop has been held" in caplog.text) is debug
    await wait_until(lambda: "asyncflask-watchdog" not in {thread.name for thread in threading.enumerate()})


GARBAGE = """
import _thread, gc, threading, weakref
from asyncflask.watchdog import find_frame
class Garbage: ...
for number in range(400):
    garbage = Garbage()
    garbage.itself = garbage
    weakref.finalize(garbage, _thread.start_new_thread, int, ())
    del garbage
    kept = [[] for _ in range(number)]
    gc.set_threshold(max(1, sum(gc.get_count()[:1])))
    assert find_frame(threading.get_ident())
    gc.set_threshold(700)
    gc.collect()
assert gc.isenabled()
"""


def test_looks_while_garbage_starts_threads():
    """Worker threads are ended by one where nobody closes an application; CPython 3.11 would wait for itself."""
    subprocess.run([sys.executable, "-c", GARBAGE], check=True, timeout=60)
