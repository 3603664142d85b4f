"""What asyncio and trio have in forms of their own for those who wait; chosen at each use.

asyncio throws a cancellation in once. On trio each wait meets it until its scope is left: what cleans up is `shielded`.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from types import TracebackType

from .bridge import current_loop

if t.TYPE_CHECKING:
    from asyncio import Future, Task

T = t.TypeVar("T")
LONGEST_TURN = 0.01  # seconds for which one who sends again and again may hold the loop


def on_trio() -> bool:
    """Whether this is code of a task of trio."""
    if "trio" not in sys.modules:
        return False
    from trio.lowlevel import in_trio_task

    return in_trio_task()


class Expiry(t.Protocol):
    """What `timeout` gives: whether the time was over."""

    def expired(self) -> bool:
        raise NotImplementedError


def timeout(seconds: float | None) -> AbstractAsyncContextManager[Expiry]:
    """asyncio.timeout, or the like of it."""
    if on_trio():
        from .trio_loop import Timeout

        return Timeout(seconds)
    import asyncio

    return asyncio.timeout(seconds)


class Scope(t.Protocol):
    """A block of a task that `cancel` ends early, without an error."""

    def cancel(self) -> object:
        raise NotImplementedError

    def __enter__(self) -> t.Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        raise NotImplementedError


def cancel_scope() -> Scope:
    if "trio" in sys.modules and on_trio():
        from trio import CancelScope

        return CancelScope()
    return _TaskScope()


class _TaskScope:
    """asyncio's. Another's cancellation of the task at the same time goes on beyond the block."""

    _is_cancelled = False
    _task: Task[t.Any] | None = None

    def cancel(self) -> None:
        if self._task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._task.cancel()

    def __enter__(self) -> t.Self:
        # It is loaded, since a task of it runs; and this is once per message of a websocket.
        self._task = task = sys.modules["asyncio"].current_task()
        self._before = task.cancelling()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        task, self._task = self._task, None
        if not self._is_cancelled or t.cast("Task[t.Any]", task).uncancel() > self._before or kind is None:
            return False
        from asyncio import CancelledError

        return issubclass(kind, CancelledError)


def _call(resume: Callable[[t.Any], t.Any], value: t.Any) -> t.Any:
    return resume(value)


class Begun(t.Generic[T]):
    """Awaitable: the rest of a coroutine that has yielded `command` to its loop; `run(resume, value)` goes on."""

    __slots__ = ("command", "coro", "run")

    def __init__(self, coro: Coroutine[t.Any, t.Any, T], command: t.Any, run: Callable[..., t.Any] = _call) -> None:
        self.coro: Coroutine[t.Any, t.Any, T] = coro
        self.command: t.Any = command
        self.run: Callable[..., t.Any] = run

    def __await__(self) -> Generator[t.Any, t.Any, T]:
        run, command, self.command = self.run, self.command, None
        resume: Callable[..., t.Any]
        value: t.Any
        while True:
            try:
                resume, value = self.coro.send, (yield command)
            except BaseException as thrown:
                resume, value = self.coro.throw, thrown
            command = None  # a future that failed holds an error whose traceback holds this frame: no cycle
            try:
                command = run(resume, value)
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                value = None


_OPEN = nullcontext()


def shielded() -> AbstractContextManager[object]:
    """On trio: a block that cancellations from outside do not reach."""
    if on_trio():
        from trio import CancelScope

        return CancelScope(shield=True)
    return _OPEN


def shield(awaitable: Awaitable[T]) -> Awaitable[T]:
    """`awaitable` itself, or on trio one that such a block is around."""
    return _await_shielded(awaitable) if on_trio() else awaitable


async def _await_shielded(awaitable: Awaitable[T]) -> T:
    with shielded():
        return await awaitable


async def pause() -> None:
    """Let what is ready on the loop go on."""
    if on_trio():
        from trio.lowlevel import checkpoint

        await checkpoint()
        await checkpoint()  # the tasks of one turn go in no order
    else:
        import asyncio

        await asyncio.sleep(0)


class Event:
    """As asyncio.Event, for tasks of either loop."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[Future[None]] = []

    def is_set(self) -> bool:
        return self._is_set

    def clear(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> t.Literal[True]:
        if not self._is_set:
            waiter: Future[None] = current_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        return True
