"""The Runner: one request's coroutine, moved between the event loop and the request's worker thread. Used over ASGI.

The coroutine asks for a move by awaiting TO_LOOP or TO_THREAD; everything else it yields goes to the event loop. What
lies between two moves is one *leg*. So neighbouring sync steps share one hop, and a request whose steps are all sync
makes exactly one: it starts in the thread.

One `contextvars.Context` serves both places; it is entered for a leg and left at its end. A cancellation that arrives
during a leg in the thread waits for the leg's end, since a thread cannot be stopped, and is thrown in on the loop.
"""

from __future__ import annotations

import typing as t
from asyncio import CancelledError, Future
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial

from werkzeug.exceptions import HTTPException, ServiceUnavailable

from .bridge import Home, current_loop, cv_home, mailbox_of
from .signals import on_overload
from .steps import LOOP, THREAD, TO_LOOP, TO_THREAD, tell_async
from .waiting import Begun
from .workers import Lane, Overloaded, PoolJob, PoolLane, RequestLane, WorkerPool

T = t.TypeVar("T")
Leg = Generator[t.Any, t.Any, None]


def begin_in_context(coro: Coroutine[t.Any, t.Any, None], context: Context | None = None) -> Begun[None] | None:
    """Run `coro` on the loop in `context` or a copy of the current one; None if it has ended, else the rest to await.

    What a request sets does not reach the server's task, which may go on to serve the next one.
    """
    run = (copy_context() if context is None else context).run  # an empty one is false
    try:
        return Begun(coro, run(coro.send, None), run)
    except StopIteration:  # it never had to wait
        return None


class Runner(Home, t.Generic[T]):
    """Awaitable: the result of `coro`, which starts in the place `start` (LOOP or THREAD)."""

    __slots__ = ("bound", "command", "context", "coro", "error", "pool", "result", "start", "waiter", "worker")

    def __init__(self, coro: Coroutine[t.Any, t.Any, T], pool: WorkerPool, start: str) -> None:
        super().__init__(mailbox_of(current_loop()), None)
        self.coro: Coroutine[t.Any, t.Any, T] = coro
        self.pool: WorkerPool = pool
        self.start: str = start
        self.worker: PoolLane | None = None
        self.bound: bool = False
        self.context: Context = copy_context()
        self.context.run(cv_home.set, self)
        self.command: t.Any = None  # what the coroutine asked for at the end of a leg in the thread
        self.error: BaseException | None = None  # to be thrown into it at the next leg
        self.result: Callable[[], T] | None = None  # set when it ended in the thread
        self.waiter: Future[None] | None = None  # set while a leg in the thread is not over

    @property
    def lane(self) -> Lane:
        """The request's share of its worker's lane."""
        if self._lane is None:
            if self.worker is None:
                self.bind()
            self._lane = RequestLane(t.cast(PoolLane, self.worker))
        return self._lane

    def lane_of(self, thread_id: int) -> Lane | None:
        return self.lane if self.worker is not None and self.worker.thread_id == thread_id else None

    def bind(self, refuse: bool = False) -> None:
        """Choose the request's thread now. Raises Overloaded if it may be refused."""
        self.worker = self.pool.choose(refuse)
        self.bound = True

    def discard(self) -> None:
        """It will not be awaited."""
        self.coro.close()
        self._let_go()

    def _let_go(self) -> None:
        self.context = None  # type: ignore[assignment]  # it holds this Runner (cv_home): no cycle is left behind

    def __await__(self) -> Generator[t.Any, t.Any, T]:
        value = None
        try:
            if self.start is THREAD:
                yield from self._leg_in_thread(self.pool.submit)
            while self.result is None:
                try:
                    command = self._go_on(value)
                except StopIteration as stop:
                    return t.cast(T, stop.value)
                value = None
                if command is TO_THREAD:
                    yield from self._leg_in_thread(self._put_in_lane)
                elif command is not TO_LOOP:
                    try:
                        value = yield command
                    except BaseException as thrown:
                        self.error = thrown
            if self.error is not None:
                _raise([self.error])
            return self.result()
        finally:
            if self.bound:
                self.pool.release(t.cast(PoolLane, self.worker))
            self.error = None
            self._let_go()

    def _go_on(self, value: t.Any = None) -> t.Any:
        """Run the coroutine, here, until it asks for something or ends."""
        error, self.error = self.error, None
        try:
            if error is None:
                return self.context.run(self.coro.send, value)
            return self.context.run(self.coro.throw, error)
        finally:
            del error

    def _put_in_lane(self, leg: PoolJob) -> None:
        self.lane.put(partial(leg, t.cast(PoolLane, self.worker)))

    def _leg_in_thread(self, put: Callable[[PoolJob], None]) -> Leg:
        """Wait for a leg in the thread, however often this task is cancelled meanwhile."""
        cancelled: CancelledError | None = None
        while True:
            self.waiter = self.mailbox.create_waiter()
            put(self._leg)
            while self.waiter is not None:
                try:
                    yield from self.waiter
                except CancelledError as error:
                    cancelled = error
                    if self.waiter is not None:
                        self.waiter = self.mailbox.create_waiter()
            if self.command is not TO_THREAD:
                break
            put = self._put_in_lane
        if cancelled is not None:
            self.error = cancelled
        elif self.result is None and self.command is not TO_LOOP:
            self.error = RuntimeError(f"A worker thread cannot wait for {self.command!r}: a step was planned wrongly.")
        self.command = cancelled = None

    def _leg(self, lane: PoolLane) -> Callable[[], None]:
        """In the thread: run the coroutine until it asks for something or ends. Returns what tells the loop."""
        self.worker = lane
        self.command = None
        try:
            self.command = self._go_on()
        except StopIteration as stop:
            self.result = partial(_identity, stop.value)
        except BaseException as raised:
            self.result = partial(_raise, [raised])
        return self._tell_loop

    def _tell_loop(self) -> None:
        self.mailbox.post(self._end_leg)

    def _end_leg(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def move(
    host: t.Any, coro: Coroutine[t.Any, t.Any, None], start: str, refuse: Callable[[HTTPException], Awaitable[None]]
) -> None:
    """Run `coro` of a context with steps in a worker thread. If all are busy and the queue is full: `refuse(503)`."""
    host.moves = True
    host.place = start
    runner = Runner(coro, host.app._workers, start)
    try:
        if start is LOOP:
            runner.bind(refuse=True)
        await runner
    except Overloaded:
        runner.discard()
        host.place = LOOP  # nothing moved
        if on_overload.receivers:
            await tell_async(host.app, on_overload)
        await refuse(ServiceUnavailable("All worker threads are busy.", retry_after=1))


def _identity(value: T) -> T:
    return value


def _raise(errors: list[BaseException]) -> t.NoReturn:
    raise errors.pop()
