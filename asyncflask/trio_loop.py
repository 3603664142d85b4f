"""The part of an event loop's interface that this package uses, on trio: calls from threads, futures, tasks.

A task of `create_task` is a system task of trio, in a scope of its own. Each name stands for asyncio's.
"""

from __future__ import annotations

import math
import typing as t
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from logging import getLogger
from types import TracebackType

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
            task = current_task()
            self._waiters.append(task)
            yield from wait_task_rescheduled(partial(self._abort, task)).__await__()  # noqa: ASYNC105  # it is awaited
        return self.result()

    __iter__ = __await__

    def _abort(self, task: Task, _: object) -> Abort:
        """The waiter is cancelled."""
        self._waiters.remove(task)
        return Abort.SUCCEEDED


class PatientFuture(TrioFuture[T]):
    """One whose waiter is not cancelled while it waits. trio delivers the cancellation at its next checkpoint."""

    def _abort(self, task: Task, _: object) -> Abort:
        return Abort.FAILED


_CANCELLED: t.Any = object()


def _raise(errors: list[BaseException]) -> t.NoReturn:
    raise errors.pop()


class TrioTask(TrioFuture[T]):
    """A coroutine that runs beside the others."""

    def __init__(self) -> None:
        super().__init__()
        self._scope = trio.CancelScope()
        self._is_cancelled = False

    async def run(self, coro: Coroutine[t.Any, t.Any, T]) -> None:
        value: t.Any = _CANCELLED
        try:
            with self._scope:
                value = await coro
        except trio.Cancelled:  # the run ends
            self._note_cancellation()
            raise
        except BaseException as error:  # a system task that fails would end trio
            self.set_exception(error)
        else:
            if value is _CANCELLED:
                self._note_cancellation()
            else:
                self.set_result(value)

    def _note_cancellation(self) -> None:
        self._is_cancelled = True
        self.set_exception(RuntimeError("The task was cancelled."))

    def cancel(self, msg: object = None) -> bool:
        self._scope.cancel()
        return not self.done()

    def cancelled(self) -> bool:
        return self._is_cancelled


class TrioLoop:
    """The trio run of the thread that makes it."""

    def __init__(self) -> None:
        self.token: TrioToken = trio.lowlevel.current_trio_token()
        self._closed = False
        spawn_system_task(self._note_end)

    async def _note_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._closed = True
            _loops.pop(self.token, None)

    def is_closed(self) -> bool:
        return self._closed

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        """Raises RuntimeError where the run has ended."""
        self.token.run_sync_soon(_call, call)

    call_soon = call_soon_threadsafe

    def create_future(self) -> TrioFuture[t.Any]:
        return TrioFuture()

    def create_patient_future(self) -> TrioFuture[t.Any]:
        return PatientFuture()

    def create_task(
        self, coro: Coroutine[t.Any, t.Any, T], *, name: str | None = None, context: Context | None = None
    ) -> TrioTask[T]:
        task: TrioTask[T] = TrioTask()
        spawn_system_task(task.run, coro, name=name, context=copy_context() if context is None else context)
        return task

    def call_later(self, delay: float, call: Callable[..., object], *args: t.Any) -> TrioTask[None]:
        return self.create_task(_call_later(delay, call, args))

    def run_in_executor(self, executor: Executor, call: Callable[..., T], *args: t.Any) -> TrioFuture[T]:
        future: TrioFuture[T] = TrioFuture()
        executor.submit(call, *args).add_done_callback(partial(self._pass_on, future))
        return future

    def _pass_on(self, future: TrioFuture[T], done: Future[T]) -> None:
        with suppress(RuntimeError):  # the run has ended: nobody waits any more
            self.call_soon_threadsafe(partial(future._settle, done.result))


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:  # which would end trio; asyncio's loop logs it, too
        getLogger("asyncflask").exception("Exception in a call for the loop")


async def _call_later(delay: float, call: Callable[..., object], args: tuple[t.Any, ...]) -> None:
    await trio.sleep(delay)
    call(*args)


class Timeout:
    """As asyncio.timeout."""

    def __init__(self, seconds: float | None) -> None:
        self._scope = trio.move_on_after(math.inf if seconds is None else seconds)

    def expired(self) -> bool:
        return self._scope.cancelled_caught

    async def __aenter__(self) -> t.Self:
        self._scope.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        is_over = self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise TimeoutError
        return is_over


_loops: dict[TrioToken, TrioLoop] = {}


def running_trio_loop() -> TrioLoop:
    """The loop of this thread's trio run. Raises RuntimeError where there is none."""
    token = trio.lowlevel.current_trio_token()
    loop = _loops.get(token)
    if loop is None:
        loop = _loops[token] = TrioLoop()
    return loop
