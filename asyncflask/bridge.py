"""The bridge between sync and async code: how one side waits for the other.

Sync code waits for async code with `wait_for`: on the loop that serves its request, else on the process's one
background loop. Async code waits for sync code with `run_in_thread`: in the thread that belongs to its request.
A context variable that one side sets is seen by the other.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import typing as t
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial, update_wrapper

from .globals import _cv_app
from .workers import Bell, Lane, Ticket

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

T = t.TypeVar("T")


class Mailbox:
    """Calls for a loop from other threads; what arrives together shares one wake-up of the loop.

    A bell takes one system call to wake the loop and one there; asyncio's own way takes more, and an exception.
    """

    __slots__ = ("awake", "bell", "create_waiter", "items", "loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop: AbstractEventLoop = loop
        self.items: deque[Callable[[], object]] = deque()
        self.awake: bool = False
        self.bell: Bell | None = None
        # For a thread's work, which cannot be stopped. On trio it would be of no use to wait again once cancelled.
        self.create_waiter: Callable[[], Future[None]] = getattr(loop, "create_patient_future", loop.create_future)

    def post(self, call: Callable[[], object]) -> None:
        self.items.append(call)
        if not self.awake:
            self.awake = True
            try:
                self._wake_loop()
            except RuntimeError:  # the loop is closed: nobody waits any more
                self.items.clear()

    def _wake_loop(self) -> None:
        if self.bell is None or self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._deliver_first)
        else:
            self.bell.ring()

    def _deliver_first(self) -> None:
        if self.bell is None and hasattr(os, "eventfd") and hasattr(self.loop, "add_reader"):  # trio has none
            with suppress(NotImplementedError, OSError):
                bell = Bell(os.EFD_NONBLOCK)
                self.loop.add_reader(bell.fd, self._hear, bell)
                self.bell = bell
        self._deliver()

    def _hear(self, bell: Bell) -> None:
        bell.wait()
        self._deliver()

    def _deliver(self) -> None:
        self.awake = False  # before the first item: what comes from now on wakes the loop again
        try:
            while self.items:
                self.items.popleft()()
        finally:
            if self.items:  # one failed: the loop reports it, the others are still to be called
                self.loop.call_soon(self._deliver)


class Home:
    """The loop and the thread that belong to the request at hand."""

    __slots__ = ("_lane", "loop", "mailbox")

    def __init__(self, mailbox: Mailbox, lane: Lane | None) -> None:
        self.mailbox: Mailbox = mailbox
        self.loop: AbstractEventLoop = mailbox.loop
        self._lane = lane

    @property
    def lane(self) -> Lane:
        return t.cast(Lane, self._lane)  # a Runner's is chosen when first asked for

    def lane_of(self, thread_id: int) -> Lane | None:
        """The lane, if that is the thread it belongs to."""
        return self._lane if self._lane is not None and self._lane.thread_id == thread_id else None


def current_loop() -> AbstractEventLoop:
    """The running loop, asyncio's or trio's. Raises RuntimeError where there is none."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if "trio" not in sys.modules:
            raise
        from .trio_loop import running_trio_loop

        return t.cast("AbstractEventLoop", running_trio_loop())


_mailboxes: dict[AbstractEventLoop, Mailbox] = {}


def mailbox_of(loop: AbstractEventLoop) -> Mailbox:
    """The loop's one mailbox, kept until another loop's is made after the loop was closed."""
    return _mailboxes.get(loop) or _make_mailbox(loop)


def _make_mailbox(loop: AbstractEventLoop) -> Mailbox:
    for other in tuple(_mailboxes):
        if other.is_closed():
            _mailboxes.pop(other, None)
    return _mailboxes.setdefault(loop, Mailbox(loop))


cv_home: ContextVar[Home] = ContextVar("asyncflask.home")
_MISSING: t.Any = object()


def adopt(context: Context) -> None:
    """Take over the variables that were set in a copy of the current context."""
    for var, value in context.items():
        if var is not cv_home and var.get(_MISSING) is not value:
            var.set(value)


class _Background:
    """The process's one background loop, for async code that is reached without a serving loop."""

    def __init__(self) -> None:
        vars(self).pop("lock", None)
        self.mailbox: Mailbox | None = None
        self.thread_id: int | None = None

    def get(self) -> Mailbox:
        # Made when it is first needed: one from before gevent's patch would hold up the thread of all greenlets.
        with vars(self).setdefault("lock", threading.Lock()):
            if self.mailbox is None:
                import asyncio

                loop = asyncio.new_event_loop()
                started = threading.Event()
                loop.call_soon(started.set)
                threading.Thread(target=self._run, args=(loop,), name="asyncflask-loop", daemon=True).start()
                started.wait()
                self.mailbox = mailbox_of(loop)
            return self.mailbox

    def _run(self, loop: AbstractEventLoop) -> None:
        self.thread_id = threading.get_ident()
        loop.run_forever()


_background = _Background()
# Threads do not survive a fork: the child makes its own loop at first use.
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has none
    os.register_at_fork(after_in_child=_background.__init__)  # type: ignore[misc]  # to begin anew is what is meant


def _on_event_loop() -> bool:
    """Whether this very thread is running an event loop now.

    Under gevent the background loop is a greenlet of the same thread as all requests; its own identity tells it apart.
    """
    try:
        loop = current_loop()
    except RuntimeError:
        return False
    background = _background.mailbox
    if background is not None and loop is background.loop:
        return threading.get_ident() == _background.thread_id
    return True


def wait_for(awaitable: Awaitable[T], context: Context | None = None) -> T:
    """From sync code: run `awaitable` on the request's loop (or the background loop) and wait for its result.

    Several waits can share a `context`; else each gets a copy, and what it sets there is adopted.
    """
    if _on_event_loop():
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise RuntimeError(
            "Async code was called through its sync form on the event loop's own thread, which would wait for itself."
            " In async code, await the function (app.ensure_async(f)) or use the 'async with' form; await"
            " render_template_async(…) where context processors are async. In an async test, await what"
            " app.async_test_client() has, in place of app.test_client()."
        )
    home = cv_home.get(None)
    if home is not None and home.loop.is_closed():
        home = None  # the server of this thread's request is gone
    mailbox = _background.get() if home is None else home.mailbox
    lane = None if home is None else home.lane_of(threading.get_ident())
    if lane is None:
        lane = Lane(threading.get_ident())  # a thread of the user's own, or of a WSGI server
    return _Wait(awaitable, mailbox, lane, context).result()


class _Wait(t.Generic[T]):
    """One wait of a thread for an awaitable on a loop; the thread serves its lane meanwhile (workers, rule 3)."""

    def __init__(self, awaitable: Awaitable[T], mailbox: Mailbox, lane: Lane, context: Context | None) -> None:
        self.awaitable = awaitable
        self.mailbox = mailbox
        self.lane = lane
        self.ticket = Ticket()
        self.adopts = context is None
        self.context = copy_context() if context is None else context
        self.context.run(cv_home.set, Home(mailbox, lane))
        self.task: Future[T | _Exit] | None = None

    def result(self) -> T:
        self.mailbox.post(self._start)
        try:
            self.lane.serve(self.ticket)
        except BaseException:  # KeyboardInterrupt or SystemExit in the waiting thread
            self.mailbox.post(self._cancel)
            raise
        if self.adopts:
            adopt(self.context)
        task, self.task = self.task, None
        try:
            result = t.cast("Future[T | _Exit]", task).result()
            if isinstance(result, _Exit):
                raise result.error
            return result
        finally:
            del task  # an error's traceback holds this frame: no cycle

    def _start(self) -> None:
        self.task = self.mailbox.loop.create_task(_finish(self.awaitable), context=self.context)
        self.task.add_done_callback(lambda _: self.lane.wake(self.ticket))

    def _cancel(self) -> None:
        t.cast("Future[T | _Exit]", self.task).cancel()  # `_start` was posted before


class _Exit:
    """SystemExit or KeyboardInterrupt in async code: for its caller. A task would end the loop with it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _finish(awaitable: Awaitable[T]) -> T | _Exit:
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return _Exit(error)


async def run_in_thread(f: Callable[..., T], *args: t.Any) -> T:
    """From async code: run sync `f` in the request's own thread; context variables flow both ways."""
    context = copy_context()
    home = cv_home.get(None)
    if home is None and (app_ctx := _cv_app.get(None)) is not None:
        home = app_ctx.home()
    if home is not None and home.loop is not current_loop():
        home = None  # a loop of the user's own, in the thread that belongs to the request: it cannot serve
    call = t.cast("Callable[[], T]", partial(context.run, f, *args))
    future: Future[T] | None = None
    try:
        if home is None:
            from anyio.to_thread import run_sync  # outside of any application: a thread of no request

            return await run_sync(call)
        context.run(cv_home.set, home)
        future = home.loop.create_future()
        home.lane.put(_ThreadCall(call, future, home.mailbox).run)
        return await future
    finally:
        del future  # an error's traceback holds this frame: no cycle
        adopt(context)


class _ThreadCall:
    """A call for a lane whose outcome goes to a future on the loop."""

    __slots__ = ("call", "future", "mailbox")

    def __init__(self, call: Callable[[], t.Any], future: Future[t.Any], mailbox: Mailbox) -> None:
        self.call = call
        self.future: Future[t.Any] = future
        self.mailbox = mailbox

    def run(self) -> Callable[[], None]:
        return partial(self.mailbox.post, partial(self._settle, self._outcome()))

    def _outcome(self) -> Callable[[], None]:
        # Returned at once: a variable of this frame, which an error's traceback holds, would be a cycle.
        try:
            return partial(self.future.set_result, self._result())
        except BaseException as error:
            return partial(self.future.set_exception, error)

    def _result(self) -> t.Any:
        try:
            return self.call()
        except StopIteration as error:  # which no Future takes (PEP 479)
            raise RuntimeError("a sync function raised StopIteration") from error

    def _settle(self, outcome: Callable[[], None]) -> None:
        future, self.future = self.future, None  # type: ignore[assignment]  # its error's traceback holds this call
        if not future.done():  # the caller may have been cancelled meanwhile
            outcome()


def to_sync(f: Callable[..., Awaitable[T]]) -> Callable[..., T]:
    """A sync function that runs async `f` on the request's loop while its thread waits."""

    def call(*args: t.Any, **kwargs: t.Any) -> T:
        return wait_for(f(*args, **kwargs))

    return update_wrapper(call, f)


def to_async(f: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """An async function that runs sync `f` in the request's thread."""

    async def call(*args: t.Any, **kwargs: t.Any) -> T:
        return await run_in_thread(partial(f, *args, **kwargs))

    return update_wrapper(call, f)
