"""The watchdog: tells when code holds the event loop, where it does so, and for how long.

A thread asks the loop for a sign of life. If none comes in time it takes the stack of the loop's thread at that moment.
It costs the requests nothing: they neither start nor stop it (docs/execution.md has the figure).
"""

from __future__ import annotations

import gc
import os
import selectors
import sys
import threading
import time
import traceback
import typing as t
from itertools import takewhile
from types import FrameType

from .dispatch import handle

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from logging import Logger

    from .app import Flask

IN_DEBUG = 100  # ms
# Asked this often in the time that is the limit, so that what exceeds it by half is always seen.
ROUNDS = 2
# What calls the callbacks and steps the tasks.
_LOOPS = (
    *(os.path.join(os.sep, "asyncio", name) for name in ("events.py", "base_events.py", "runners.py")),
    os.path.join(os.sep, "trio", "_core", "_run.py"),
)


def limit_of(app: Flask) -> float | None:
    """SLOW_CALLBACK_MS in seconds; where it is not set, 100 ms in debug mode and no watchdog otherwise."""
    limit: float | None = app.config["SLOW_CALLBACK_MS"]
    if limit is None and app.debug:
        limit = IN_DEBUG
    return None if not limit else limit / 1000


def watch(app: Flask, loop: AbstractEventLoop) -> Watchdog | None:
    """A watchdog of this thread's loop, if the application wants one."""
    limit = limit_of(app)
    return None if limit is None else Watchdog(app, loop, limit)


class Watchdog:
    """Watches the loop of the thread that makes it, until `stop`. `limit` in seconds."""

    def __init__(self, app: Flask, loop: AbstractEventLoop, limit: float) -> None:
        self.logger: Logger = app.logger
        self.import_name: str = app.import_name
        self.loop = loop
        self.limit = limit
        self.thread_id: int = threading.get_ident()
        self.stopping: threading.Event = threading.Event()
        threading.Thread(target=self._watch, name="asyncflask-watchdog", daemon=True).start()

    def stop(self) -> None:
        self.stopping.set()

    def _watch(self) -> None:
        while not self.stopping.wait(self.limit / ROUNDS):
            alive = threading.Event()
            asked = time.monotonic()
            try:
                self.loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not alive.wait(self.limit) and self._report():
                while not alive.wait(1) and not self.stopping.is_set():
                    pass
                self.logger.warning("The event loop was held for %.0f ms.", (time.monotonic() - asked) * 1000)

    def _report(self) -> bool:
        """Log what the loop's thread is at. False if it is idle: it waits for I/O, or for the interpreter's lock."""
        frame = find_frame(self.thread_id)
        if frame is None or _is_idle(frame):
            return False
        stack = "".join(traceback.format_stack(frame, _count_frames(frame, self.import_name)))
        place = _find_endpoint(frame)
        self.logger.warning(
            "The event loop has been held for more than %.0f ms%s. Make the code async, or the view a plain 'def',"
            " which runs in a thread. Now it is here:\n%s",
            *(self.limit * 1000, f" by the endpoint {place!r}" if place else "", stack.rstrip()),
        )
        return True


def find_frame(thread_id: int) -> FrameType | None:
    """Where a thread is. CPython 3.11 holds a lock meanwhile that new threads need, and finalizers may start one."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread_id)
    finally:
        (gc.enable if collects else gc.disable)()


def _is_idle(frame: FrameType) -> bool:
    filename = frame.f_code.co_filename
    waits = (f"{os.sep}asyncio{os.sep}", f"{os.sep}trio{os.sep}_core{os.sep}_io_")
    return filename == selectors.__file__ or any(part in filename for part in waits)


def _count_frames(frame: FrameType, import_name: str) -> int | None:
    """How many frames there are from the view on, or from other code of the user's; None, which is all, without any."""
    from .hints import Place

    callers = takewhile(_has_been_started, (caller for caller, _ in traceback.walk_stack(frame)))
    places = enumerate((Place(caller, caller.f_lasti) for caller in callers), 1)
    return max((number for number, place in places if place.is_of_user(import_name)), default=None)


def _has_been_started(caller: FrameType) -> bool:
    """Whether it stands behind what begins requests and tasks."""
    return caller.f_code is not handle.__code__ and not caller.f_code.co_filename.endswith(_LOOPS)


def _find_endpoint(frame: FrameType | None) -> str | None:
    """The endpoint whose view is on the stack."""
    while frame is not None:
        if frame.f_code is handle.__code__:
            return t.cast("str | None", frame.f_locals["ctx"].request.endpoint)
        frame = frame.f_back
    return None
