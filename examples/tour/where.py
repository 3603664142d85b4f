"""The line at the foot of each page: which view made it, and where that view ran."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

from asyncflask import Flask, current_app, g, nonblocking, request


def init_app(app: Flask) -> None:
    app.before_request(start_clock)
    app.add_template_global(describe_run)


@nonblocking  # one look at a clock: not worth a hop to a worker thread before an `async def` view
def start_clock() -> None:
    g.started = time.perf_counter()


def describe_run() -> str:
    """For example "def notes.index in worker thread asyncflask_0, 1.8 ms"."""
    milliseconds = (time.perf_counter() - g.started) * 1000
    return f"{name_view(request.endpoint)} {name_place()}, {milliseconds:.1f} ms"


def name_view(endpoint: str | None) -> str:
    return f"{name_kind(endpoint)} {endpoint}" if endpoint else "an error handler"


def name_kind(endpoint: str) -> str:
    is_async = inspect.iscoroutinefunction(current_app.view_functions[endpoint])
    return "async def" if is_async else "def"


def name_place() -> str:
    """Where the caller runs: on an event loop, or in a thread that may wait."""
    thread = threading.current_thread().name
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return f"in thread {thread}"
    return f"on the event loop in {thread}"
