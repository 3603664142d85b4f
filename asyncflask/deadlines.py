"""RESPONSE_TIMEOUT: an async step that outlasts it is cancelled, and the request answered with 503."""

from __future__ import annotations

import typing as t
from collections.abc import Awaitable
from time import monotonic

from werkzeug.exceptions import ServiceUnavailable

from .waiting import timeout

if t.TYPE_CHECKING:
    from .ctx import RequestContext


def timeout_of(ctx: RequestContext) -> float | None:
    """Seconds until the response starts, as the route or the configuration has it; None: no limit."""
    timeout: float | None = ctx.plan.options.get("response_timeout", ctx.app.config["RESPONSE_TIMEOUT"])
    return timeout


def explain_late(ctx: RequestContext) -> ServiceUnavailable:
    """Log it, and give the answer."""
    request, timeout = ctx.request, timeout_of(ctx)
    path = request.path if request.path.isprintable() else ascii(request.path)  # a line break would forge a line
    ctx.app.logger.error("No response within %s s from %r: %s [%s]", timeout, request.endpoint, path, request.method)
    return ServiceUnavailable(f"The response did not start within {timeout} seconds.")


class Deadline:
    """The time of one request's response."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.start: float = monotonic()

    def left(self, ctx: RequestContext) -> float | None:
        """Seconds; None: no limit."""
        timeout = timeout_of(ctx)
        return None if timeout is None else max(0.0, timeout - (monotonic() - self.start))

    async def bound(self, ctx: RequestContext, awaitable: Awaitable[t.Any]) -> t.Any:
        """The result, or ServiceUnavailable when the time is over: once, since error handlers need some more."""
        scope = None
        try:
            async with timeout(self.left(ctx)) as scope:
                return await awaitable
        except TimeoutError:
            if scope is None or not scope.expired():
                raise
        ctx.deadline = None
        raise explain_late(ctx)
