"""The guard of every test: what it leaves behind, and what holds an event loop, fails it (loop_watch.py).

GUARD=0 turns it off.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import typing as t
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from inspect import iscoroutinefunction

import pytest
from loop_watch import LoopWatch

from asyncflask.globals import _cv_app, _cv_request

IS_ON = os.environ.get("GUARD") != "0"
PATIENCE = 5  # seconds for a thread to end
MARKS = {
    "blocks_loop(reason)": "the test holds an event loop on purpose",
    "leaves_tasks(reason)": "the test ends its loop in the midst of things on purpose",
    "leaves_context(reason)": "the context belongs to a fixture that closes it after the test",
}
KEPT = ("asyncflask-sessions",)  # as long as its store lives, which may be a site's; the interpreter's end waits for it
watch = LoopWatch()
left: list[str] = []  # tasks


def look() -> dict[str, t.Any]:
    """What belongs to all tests, and is to be after each as before."""
    return {
        "the handler of SIGINT": signal.getsignal(signal.SIGINT),
        "the handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        "the working directory": os.getcwd(),
        **contexts(),
    }


def contexts() -> dict[str, t.Any]:
    return {"the application context": _cv_app.get(None), "the request context": _cv_request.get(None)}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if not IS_ON:
        return
    watch.start()
    cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def note_tasks(loop: asyncio.AbstractEventLoop) -> None:
        left.extend(repr(task) for task in asyncio.all_tasks(loop) if not task.cancelling())
        cancel_all_tasks(loop)

    asyncio.runners._cancel_all_tasks = note_tasks  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if IS_ON else ():
        is_async = isinstance(item, pytest.Function) and iscoroutinefunction(item.obj)
        if is_async and not item.get_closest_marker("leaves_context"):
            item.obj = guard_context(item.obj)


def guard_context(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Its task has contexts of its own, which nobody sees from outside."""

    @wraps(test)
    async def run(**fixtures: t.Any) -> None:
        before = contexts()
        await test(**fixtures)
        assert contexts() == before

    return run


class State:
    """Before the test, once without and once with the fixtures it shares with others."""

    alone: dict[str, t.Any]
    shared: dict[str, t.Any]
    threads: set[threading.Thread]


@pytest.fixture(autouse=True)
def _state() -> None:
    State.shared, State.threads = look(), set(threading.enumerate())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Iterator[None]:
    State.alone = State.shared = look()
    State.threads = set(threading.enumerate())
    watch.held.clear()
    left.clear()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> t.Generator[None, t.Any, t.Any]:
    outcome = yield
    if IS_ON and (faults := list(find_faults(item))):
        pytest.fail("\n".join(faults), pytrace=False)
    return outcome


def find_faults(item: pytest.Item) -> Iterator[str]:
    if not item.get_closest_marker("blocks_loop"):
        yield from (f"An event loop was held. {found}" for found in watch.held)
    if not item.get_closest_marker("leaves_tasks"):
        yield from (f"A task was left: {task}" for task in left)
    for name, now in look().items():
        if name == "the handler of SIGTERM" and sys.gettrace() is not None:
            continue  # coverage has one, which applications wrap
        if now not in (State.alone[name], State.shared[name]):
            yield f"Changed: {name}, from {State.shared[name]!r} to {now!r}"
    for thread in set(threading.enumerate()) - State.threads:
        if not thread.daemon and not thread.name.startswith(KEPT):
            gc.collect()  # an executor ends its threads when nobody holds it any more
            thread.join(PATIENCE)
            if thread.is_alive():
                yield f"A thread was left: {thread!r}"
