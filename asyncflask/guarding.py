"""Requests that do not go on without end: CANCEL_ON_DISCONNECT and RESPONSE_TIMEOUT, as configured or by their route.

Async steps are cancelled. A sync step cannot be: when the client leaves, the request ends after it; when its time is
over, 503 is sent meanwhile, and what the step makes in the end is dropped.
"""

from __future__ import annotations

import typing as t
from contextvars import Context

from .bridge import current_loop
from .deadlines import Deadline, explain_late, timeout_of
from .dispatch import handle
from .exchange import Exchange, Made
from .steps import LOOP, THREAD
from .waiting import cancel_scope, shield
from .watching import watch_of

if t.TYPE_CHECKING:
    from asyncio import Task, TimerHandle

    from .ctx import RequestContext
    from .typing import Send
    from .waiting import Scope
    from .watching import Watch
    from .wrappers import Response

# Seconds until a request whose time is over is looked at again, if it is on the loop: a step is being cancelled there,
# or it is not known yet which route it has.
AGAIN = 0.05


async def serve_guarded(ctx: RequestContext, send: Send) -> None:
    exchange = GuardedExchange(ctx, send)
    try:
        with exchange.scope:
            await exchange.serve(ctx.plan.start if ctx.plan.needs_thread else None)
    finally:
        exchange.end_guards()
        if exchange.refusal is not None:
            await shield(exchange.refusal)


class GuardedExchange(Exchange):
    """An exchange that ends early: `scope` is cancelled when the client leaves, `refusal` sends 503 in time."""

    __slots__ = ("refusal", "scope", "timer")

    def __init__(self, ctx: RequestContext, send: Send) -> None:
        super().__init__(ctx, send)
        self.scope: Scope = cancel_scope()
        self.refusal: Task[None] | None = None
        self.timer: TimerHandle | None = None
        if ctx.request.routing_exception is None:
            self._begin_guards("undecided" in ctx.plan.options)

    def _begin_guards(self, is_undecided: bool) -> None:
        ctx = self.ctx
        if is_undecided or self._cancels():
            t.cast("Watch", watch_of(ctx.request)).on_gone = self._note_leaving
        if is_undecided or timeout_of(ctx) is not None:
            ctx.deadline = Deadline()
            if ctx.plan.needs_thread:  # async steps are bound by the deadline each
                self._note_time()

    def _cancels(self) -> bool:
        ctx = self.ctx
        return bool(ctx.plan.options.get("cancel_on_disconnect", ctx.app.config["CANCEL_ON_DISCONNECT"]))

    def _note_leaving(self) -> None:
        if self._cancels():
            self.scope.cancel()

    def _note_time(self) -> None:
        """On the loop: refuse the request if it is in its thread and its time is over, else look again."""
        ctx = self.ctx
        if ctx.deadline is None:
            return
        left = ctx.deadline.left(ctx)
        if left is None and "undecided" not in ctx.plan.options:
            return
        if left == 0 and ctx.place is THREAD:
            self.refusal = current_loop().create_task(self._refuse(explain_late(ctx)), context=Context())
        else:
            self.timer = current_loop().call_later(left or AGAIN, self._note_time)

    def _render(self, response: Response) -> Made:
        """The response is there, and nothing is cut short any more."""
        self._let_be()
        return super()._render(response)

    def _let_be(self) -> None:
        reader = self.ctx.request._reader
        if reader is not None and reader.watch is not None:
            reader.watch.on_gone = None
        self.ctx.deadline = None

    async def _make(self) -> Made | None:
        if self.refusal is not None:  # while it waited for a thread
            return None
        made = await handle(self.ctx, self._render)
        try:
            await self.ctx.go(LOOP)
        except BaseException:
            await self._close(made[0], exhausted=False)
            raise
        if self.refusal is None:
            return made
        await self._close(made[0], exhausted=False)
        return None

    def end_guards(self) -> None:
        self._let_be()
        if self.timer is not None:
            self.timer.cancel()
