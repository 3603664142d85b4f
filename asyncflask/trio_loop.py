"""The part of an event loop's interface that this package uses, on trio: calls from threads, futures, tasks.

A future's waiter is not cancelled while it waits: it stands for a thread, which cannot be stopped. trio delivers the
cancellation at the next checkpoint instead. A task of `create_task` is a system task of trio, in a scope of its own.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context

import trio
from trio.lowlevel import Abort, Task, TrioToken, current_task, reschedule, spawn_system_task, wait_task_rescheduled

T = t.TypeVar("T")


class TrioFuture(t.Generic[T]):
    """As asyncio's Future, for the trio thread alone."""

    def __init__(self) -> None:
        self._outcome: Callable[[], T] | None = None
        self._waiters: list[Task] = []
        self._callbacks: list[Callable[[t.Any], object]] = []

    def done(self) -> bool:
        return self._outcome is not None

    def result(self) -> T:
        return t.cast("Callable[[], T]", self._outcome)()

    def set_result(self, value: T) -> None:
        self._settle(lambda: value)

    def set_exception(self, error: BaseException) -> None:
        errors = [error]
        self._settle(lambda: _raise(errors))

    def add_done_callback(self, callback: Callable[[t.Any], object]) -> None:
        self._callbacks.append(callback)

    def _settle(self, outcome: Callable[[], T]) -> None:
        self._outcome = outcome
        waiters, self._waiters = self._waiters, []
        for task in waiters:
            reschedule(task)
        for callback in self._callbacks:
            callback(self)

    def __await__(self) -> Generator[t.Any, t.Any, T]:
        if self._outcome is None:
            self._waiters.append(current_task())
            yield from wait_task_rescheduled(lambda _: Abort.FAILED).__await__()
        return self.result()

    __iter__ = __await__


def _raise(errors: list[BaseException]) -> t.NoReturn:
    raise errors.pop()


class TrioTask(TrioFuture[T]):
    """A coroutine that runs beside the others."""

    def __init__(self) -> None:
        super().__init__()
        self._scope = trio.CancelScope()

    async def run(self, coro: Coroutine[t.Any, t.Any, T]) -> None:
        with self._scope:
            try:
                value = await coro
            except trio.Cancelled:
                self.set_exception(RuntimeError("The task was cancelled."))
                raise
            except BaseException as error:  # a system task that fails would end trio
                self.set_exception(error)
            else:
                self.set_result(value)

    def cancel(self, msg: object = None) -> bool:
        self._scope.cancel()
        return not self.done()


class TrioLoop:
    """The trio run of the thread that makes it."""

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self._closed = False
        spawn_system_task(self._note_end)

    async def _note_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._closed = True

    def is_closed(self) -> bool:
        return self._closed

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        """Raises RuntimeError where the run has ended."""
        self.token.run_sync_soon(call)

    call_soon = call_soon_threadsafe

    def create_future(self) -> TrioFuture[t.Any]:
        return TrioFuture()

    def create_task(
        self, coro: Coroutine[t.Any, t.Any, T], *, name: str | None = None, context: Context | None = None
    ) -> TrioTask[T]:
        task: TrioTask[T] = TrioTask()
        spawn_system_task(task.run, coro, name=name, context=context)
        return task


_loops: dict[TrioToken, TrioLoop] = {}


def running_trio_loop() -> TrioLoop:
    """The loop of this thread's trio run. Raises RuntimeError where there is none."""
    token = trio.lowlevel.current_trio_token()
    loop = _loops.get(token)
    if loop is None:
        _loops.clear()  # of runs that are over, most probably
        loop = _loops[token] = TrioLoop()
    return loop
