"""How an application hears that its server begins to end.

The lifespan says so last of all: a server first waits for the requests in flight, and a stream without an end would
keep it waiting. So the signals are heard as they arrive, on their way to whoever handles them:

    signal.signal             uvicorn, gunicorn's sync worker: the handler is wrapped
    loop.add_signal_handler   gunicorn's asgi worker, hypercorn without workers, granian: the loop learns of a signal
                              by its wake-up file; the Python handler beside that does nothing, and is wrapped
    hypercorn's workers       get no signal but a multiprocessing.Event among their arguments, which is asked as
                              hypercorn does it

A signal that nobody handles ends the process as before, and only the main thread can listen.
"""

from __future__ import annotations

import signal
import sys
import typing as t
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from .bridge import current_loop

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop


SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name))
POLL_INTERVAL = 0.1  # seconds
RUNNERS = ("asyncio.runners", "trio._core._ki")  # asyncio.run sets a partial of a method, trio.run a function


class ShutdownEvent:
    """As asyncio.Event, and besides to be set and asked in any thread, and waited for on any loop."""

    def __init__(self) -> None:
        self._is_set = False
        # A dict for its order, and since thousands come and go.
        self._waiters: dict[tuple[AbstractEventLoop, Callable[[], object]], None] = {}

    def is_set(self) -> bool:
        return self._is_set

    def clear(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        # Each step is atomic, without a lock: a signal's handler may come in the middle of another call.
        while self._waiters:
            (loop, callback), _ = self._waiters.popitem()
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(callback)

    def add_callback(self, loop: AbstractEventLoop, callback: Callable[[], object]) -> None:
        """Have it called on `loop` when this is set, once, and before the tasks that wait go on."""
        self._waiters[loop, callback] = None

    def remove_callback(self, loop: AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._waiters.pop((loop, callback), None)  # else it is on its way

    async def wait(self) -> t.Literal[True]:
        from anyio import Event

        loop, waiter = current_loop(), Event()
        self.add_callback(loop, waiter.set)
        try:
            if not self._is_set:  # asked only now: it may be set from another thread meanwhile
                await waiter.wait()
        finally:
            self.remove_callback(loop, waiter.set)
        return True


class Listener:
    """Calls `on_end` when the server is told to end, in the main thread, until `stop`."""

    def __init__(self, on_end: Callable[[], object]) -> None:
        self.on_end = on_end
        self.handlers: dict[int, Callable[[int, FrameType | None], t.Any]] = {}
        self.task: t.Any = None

    def start(self, loop: AbstractEventLoop | None = None) -> None:
        """In any thread. Listens for each signal that has a handler by now and is not listened for yet."""
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and not self._is_reached_by(number, handler) and not _is_pythons(handler):
                self.handlers[number] = handler
                if not _set_handler(number, self._handle):
                    del self.handlers[number]
        order = _order_of_hypercorn()
        if loop is not None and order is not None and self.task is None:
            self.task = loop.create_task(self._poll(order))

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task = None
        for number, handler in tuple(self.handlers.items()):
            current = signal.getsignal(number)
            if current == self._handle:
                is_free = _set_handler(number, handler)
            else:  # another application's, begun after us, may pass on to us: then we stay to pass on as well
                is_free = not self._is_reached_by(number, current)
            if is_free:
                del self.handlers[number]

    def _is_reached_by(self, number: int, handler: t.Any) -> bool:
        """Whether `handler` is ours, or comes to it by way of other listeners."""
        while isinstance(listener := getattr(handler, "__self__", None), Listener):
            if listener is self:
                return True
            handler = listener.handlers.get(number)
        return False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.on_end()
        self.handlers[number](number, frame)

    async def _poll(self, order: t.Any) -> None:
        from anyio import sleep

        while not order.is_set():  # noqa: ASYNC110  # another process sets it
            await sleep(POLL_INTERVAL)
        self.on_end()


def _is_pythons(handler: t.Any) -> bool:
    """Whether it is the one for Ctrl-C of Python or of a loop's runner, who takes away only what nobody replaced."""
    owner = getattr(getattr(handler, "func", None), "__self__", handler)
    return handler is signal.default_int_handler or getattr(owner, "__module__", None) in RUNNERS


def _set_handler(number: int, handler: Callable[[int, FrameType | None], t.Any]) -> bool:
    try:
        signal.signal(number, handler)
    except ValueError:  # not in the main thread. To ask which thread it is would not do: under gevent all are in it
        return False
    return True


def _order_of_hypercorn() -> t.Any:
    """The event by which hypercorn's main process ends this one; None in any other process."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None:
        return None
    return getattr(processes.current_process(), "_kwargs", {}).get("shutdown_event")
