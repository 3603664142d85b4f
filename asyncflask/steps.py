"""The steps of a request: where each may run, and the hosts that run them.

A *step* is a user's function in the request cycle: a hook, a view, an error handler. Its kind says where it may run:

    LOOP     a coroutine function (or async generator function): on an event loop
    THREAD   any other function: in a thread, never on the event loop
    ANYWHERE a function marked `nonblocking`: wherever the request happens to be

The request cycle is written once, as `async def`. Who runs it is the *host*:

    driven   one `coro.send(None)` in the caller's thread. There is no event loop; an async step is sent to the serving
             loop, or to the process's background loop, while the thread waits. WSGI, and Flask's sync methods.
    a Runner moves the coroutine between the event loop and the request's worker thread (runner.py). ASGI.
    a task   an ordinary coroutine on the loop: the odd sync step is sent to the request's thread and awaited. ASGI,
             where every planned step is async; `async with` contexts.

A context variable that one side sets is seen by the other: the Runner uses one `contextvars.Context` in both places;
elsewhere it is copied, and the changes are adopted on the way back.
"""

from __future__ import annotations

import inspect
import sys
import typing as t
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial

from .bridge import _on_event_loop, current_loop, cv_home, run_in_thread, wait_for
from .globals import _cv_request
from .waiting import shield, shielded

if t.TYPE_CHECKING:
    from asyncio import Task

    from blinker import Signal

    from .app import Flask

T = t.TypeVar("T")
F = t.TypeVar("F", bound=Callable[..., t.Any])

LOOP = "loop"
THREAD = "thread"
ANYWHERE = "anywhere"
DRIVEN = "driven"  # only of a host's place

Step = tuple[str, Callable[..., t.Any]]


def nonblocking(f: F) -> F:
    """Mark a sync view or hook as safe on the event loop: it does no I/O, waits for nothing and is short."""
    f._nonblocking = True  # type: ignore[attr-defined]  # functions take attributes
    return f


def is_async(f: t.Any) -> bool:
    """Whether a call of `f` gives a coroutine or an async generator, so that it belongs on the loop."""
    while isinstance(f, partial):
        f = f.func
    if inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f):
        return True
    call = getattr(type(f), "__call__", None)  # noqa: B004  # its function is wanted, not whether it exists
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def kind_of(f: t.Any) -> str:
    if is_async(f):
        return LOOP
    return ANYWHERE if getattr(f, "_nonblocking", False) else THREAD


class _Switch:
    """Awaiting one yields it to the Runner, which goes on in the other place."""

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place: str = place

    def __await__(self) -> Generator[_Switch, None, None]:
        yield self


TO_LOOP = _Switch(LOOP)
TO_THREAD = _Switch(THREAD)


class Host:
    """What runs a request's steps. `place` is where it is; `moves` whether a Runner can take it to the other place.

    `unread` is a body that async code could not wait for in a sync access such as `request.form`: loaded before.
    `deadline` ends async steps that take too long (RESPONSE_TIMEOUT).
    """

    place: str = DRIVEN
    moves: bool = False
    unread: t.Any = None
    receiving: tuple[Task[t.Any], ...] = ()  # async receivers of signals that `tell` sent on the loop
    deadline: t.Any = None

    async def go(self, place: str) -> None:
        """Move to the loop or to the request's thread, if that can be."""
        if self.moves and self.place is not place:
            self.place = place
            await (TO_LOOP if place is LOOP else TO_THREAD)

    async def call(self, step: Step, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Run one step where its kind belongs and wait for its result."""
        kind, func = step
        if kind is not self.place and kind is not ANYWHERE and self.place is not DRIVEN:
            if not self.moves:
                return await settle(await run_in_thread(partial(func, *args, **kwargs)))
            await self.go(kind)
        if self.unread is not None and (kind is LOOP or self.place is LOOP):
            unread, self.unread = self.unread, None
            await unread.load(self)
        result = func(*args, **kwargs)
        if result is None or not hasattr(result, "__await__"):
            return result
        return await self.complete(result)

    async def complete(self, result: Awaitable[t.Any]) -> t.Any:
        """Await on the loop what a step returned."""
        if self.deadline is not None:
            result = self.deadline.bound(self, result)
        if self.place is DRIVEN:
            return wait_for(result)
        await self.go(LOOP)
        return await result


def calls_to_end(host: Host) -> Callable[..., Awaitable[t.Any]]:
    """`host.call` for what cleans up: once a task of trio is cancelled, it would be cut short at its first wait."""
    if "trio" not in sys.modules or host.place is DRIVEN:  # which awaits in a task of its own
        return host.call
    return partial(_call_to_end, host)


async def _call_to_end(host: Host, step: Step, *args: t.Any, **kwargs: t.Any) -> t.Any:
    sheltered = step[0], partial(_shield_result, step[1])
    if host.moves:  # a block on the loop could end in the thread
        return await host.call(sheltered, *args, **kwargs)
    with shielded():
        return await host.call(sheltered, *args, **kwargs)


def _shield_result(f: Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
    result = f(*args, **kwargs)
    return _shield_on_loop(result) if hasattr(result, "__await__") else result


async def _shield_on_loop(awaitable: Awaitable[T]) -> T:
    return await shield(awaitable)


async def settle(result: t.Any) -> t.Any:
    """The value, awaited where it is an awaitable: a sync wrapper may return a coroutine."""
    return await result if hasattr(result, "__await__") else result


async def emit(host: Host, signal: Signal, sender: t.Any, **values: t.Any) -> None:
    """Send a signal: sync receivers at once (they are short), async ones on the loop."""
    for step in _steps_of(signal, sender):
        await host.call(step, sender, **values)


async def emit_to_end(host: Host, signal: Signal, sender: t.Any, **values: t.Any) -> None:
    """A signal of cleaning up."""
    call = calls_to_end(host)
    for step in _steps_of(signal, sender):
        await call(step, sender, **values)


def _steps_of(signal: Signal, sender: t.Any) -> list[Step]:
    receivers = () if signal.is_muted else signal.receivers_for(sender)
    return [(LOOP if is_async(receiver) else ANYWHERE, receiver) for receiver in receivers]


def tell(app: Flask, signal: Signal, **values: t.Any) -> None:
    """Send a signal from sync code, which waits for async receivers; on the loop's own thread the request does."""
    if signal.receivers:
        signal.send(app, _async_wrapper=partial(_call_receiver, app), **values)


async def tell_async(app: Flask, signal: Signal, **values: t.Any) -> None:
    """Send a signal from async code that has no host at hand: async receivers are awaited here."""
    for _, receiver in _steps_of(signal, app):
        await settle(receiver(app, **values))


def _call_receiver(app: Flask, receiver: Callable[..., t.Any]) -> Callable[..., t.Any]:
    return partial(_begin_receiver, receiver) if _on_event_loop() else app.ensure_sync(receiver)


_begun: set[Task[t.Any]] = set()  # a loop does not keep its tasks alive


def _begin_receiver(receiver: Callable[..., Coroutine[t.Any, t.Any, t.Any]], sender: t.Any, **values: t.Any) -> None:
    loop = current_loop()
    task = loop.create_task(receiver(sender, **values))
    _begun.add(task)
    task.add_done_callback(_begun.discard)
    ctx, home = _cv_request.get(None), cv_home.get(None)
    if ctx is not None and (ctx.place is LOOP if home is None else home.loop is loop):
        ctx.receiving += (task,)  # else it is a loop of the user's own


async def finish_receivers(host: Host) -> None:
    """Before the response is made. Raises what a receiver raised."""
    while host.receiving:
        task, *rest = host.receiving
        host.receiving = tuple(rest)
        await task


def drive(coro: Coroutine[t.Any, t.Any, T]) -> T:
    """Run to its end, in this thread and without a loop, a coroutine that never suspends."""
    try:
        coro.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coro.close()
    raise RuntimeError(f"{coro!r} was driven without an event loop and suspended: a step was planned wrongly.")
