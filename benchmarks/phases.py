"""Where the time of a JSON request goes that an async view answers: `python -m benchmarks.phases`.

Each part is timed alone, over and over, best of 15. The parts leave out what it costs to go from one to the next.
"""

from __future__ import annotations

import asyncio
import json
import timeit
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import asyncflask.asgi as edge
from asyncflask.dispatch import dispatch_request, finalize_request, handle
from asyncflask.exchange import Exchange
from asyncflask.json.provider import COMPACT
from asyncflask.routing import find_fast
from asyncflask.runner import begin_in_context

from .drivers import Request, make_scope
from .machine import describe_machine
from .peers import asyncflask as peer
from .scenarios import SCENARIOS

REPEAT, COUNT = 15, 20_000
VALUE = {"message": "Hello, World!"}


async def ignore(_: Any = None) -> None:
    pass


def drive(coro: Any) -> None:
    try:
        coro.send(None)
    except StopIteration:
        return
    raise AssertionError("It waits for something.")


def measure(function: Callable[[], object]) -> float:
    """Microseconds of one call."""
    return min(timeit.repeat(function, number=COUNT, repeat=REPEAT)) / COUNT * 1e6


def make_parts(app: Any, scope: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """In the order of a request; those that begin with spaces are within the one before."""
    headers, none = dict(scope["headers"]), app._plans[None]
    open_context = lambda: edge._open_context(app, none, scope, None, headers, None)  # noqa: E731
    ctx = open_context()
    exchange = Exchange(ctx, ignore)

    def open_and_close() -> None:
        ctx._open_at_once()
        ctx._close_at_once()

    ctx._open_at_once()
    response = app.make_response(VALUE)
    return {
        "the whole request": lambda: drive(app(scope, ignore, ignore)),
        "  the head: the context made": open_context,
        "    of this: the request object": lambda: app.request_class.from_scope(scope, None),
        "    of this: the URL matched": lambda: find_fast(app, ctx.request, scope["method"], scope["path"]),
        "  a context of its own": lambda: begin_in_context(ignore()),
        "    of this: copied": copy_context,
        "  the head and the request cycle": lambda: drive(handle(open_context(), exchange._render)),
        "    of this: the contexts opened and closed": open_and_close,
        "    of this: the view called": lambda: drive(dispatch_request(ctx)),
        "    of this: the response made of its value": lambda: finalize_request(ctx, VALUE),
        "      of this: JSON encoded": lambda: app.json._find_encode(COMPACT)(VALUE),
        "    of this: the response rendered": lambda: exchange._render(response),
        "json.dumps alone": lambda: json.dumps(VALUE),
    }


async def measure_parts() -> dict[str, float]:
    app: Any = peer.plain()
    parts = make_parts(app, make_scope(Request.of(SCENARIOS["json-async"])))
    return {name: measure(part) for name, part in parts.items()}


def main() -> None:
    print(", ".join(value for _, value in describe_machine()), f"best of {REPEAT}", sep=", ", end="\n\n")
    for name, microseconds in asyncio.run(measure_parts()).items():
        print(f"{name:46}{microseconds:6.2f} µs")


if __name__ == "__main__":
    main()
