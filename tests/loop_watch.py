"""Notes what holds an event loop of asyncio, in whichever thread: one callback of more than LIMIT.

The clock on the wall does not decide, since the machine is busy with other things as well, but the loop's thread: for
how long it computed, or how often the watcher found it asleep with no other thread of the process at work (Linux
tells). What is found suspicious is measured against what the machine can do at that moment.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from asyncflask.watchdog import find_frame

LIMIT = 0.05  # seconds, or more where STEPS take more than a fifth of it: the machine is slow, or others slow it down
STEPS = 1_000_000
TRACED = 5  # times as long, where coverage is measured
INTERVAL = LIMIT / 5
LOOKS = 6  # in a row that find it asleep; they come late where the machine is busy
TASKS = Path("/proc/self/task")


class Callback:
    """One that runs, as the watcher saw it."""

    __slots__ = ("asleep", "asleep_since", "is_noted", "seen_at", "stack")

    def __init__(self) -> None:
        self.seen_at = self.asleep_since = 0.0
        self.asleep = 0  # looks
        self.is_noted = False
        self.stack = ""


class LoopWatch:
    """From `start` to the process's end; what it found is in `held`."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.running: dict[int, Callback] = {}
        self.collecting = 0.0  # seconds of the collection of garbage: what it takes depends on all tests before
        self.collection_began = 0.0

    def start(self) -> None:
        gc.callbacks.append(self._note_collection)
        asyncio.events.Handle._run = self._wrap(asyncio.events.Handle._run)  # type: ignore[attr-defined]
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def _note_collection(self, phase: str, _: object) -> None:
        if phase == "start":
            self.collection_began = time.thread_time()
        else:
            self.collecting += time.thread_time() - self.collection_began

    def _wrap(self, run):  # type: ignore[no-untyped-def]
        running, now, ident = self.running, time.thread_time, threading.get_ident
        times = 1 if sys.gettrace() is None else TRACED

        def watched(handle: asyncio.Handle) -> None:
            thread = ident()
            callback = running[thread] = Callback()
            modules = len(sys.modules)
            start = now() - self.collecting
            try:
                run(handle)
            finally:
                running.pop(thread, None)
            taken = now() - self.collecting - start
            if taken > LIMIT * times and len(sys.modules) <= modules:  # an import is for once, in whichever test
                if taken > measure_limit() * times:
                    self.held.append(f"It computed for {taken * 1000:.0f} ms.\n{callback.stack or handle}")
            del handle, callback  # an error's traceback may keep this frame: asyncio's own lets go of them as well

        return watched

    def _watch(self) -> None:
        while True:
            time.sleep(INTERVAL)
            for ident, callback in tuple(self.running.items()):
                self._look(ident, callback)

    def _look(self, ident: int, callback: Callback) -> None:
        now = time.monotonic()
        callback.seen_at = callback.seen_at or now
        if now - callback.seen_at < LIMIT / 2:
            return
        frame = find_frame(ident)
        callback.stack = "".join(traceback.format_stack(frame)[-12:])
        del frame
        if not self._is_asleep(ident):
            callback.asleep = 0
            return
        callback.asleep += 1
        if callback.asleep == 1:
            callback.asleep_since = now
        if callback.asleep >= LOOKS and not callback.is_noted:
            callback.is_noted = True
            self.held.append(f"It was asleep for {(now - callback.asleep_since) * 1000:.0f} ms.\n{callback.stack}")

    def _is_asleep(self, ident: int) -> bool:
        """And does not wait for the interpreter's lock: nobody else is at work, who could have it."""
        native = {thread.ident: thread.native_id for thread in threading.enumerate()}
        if native.get(ident) is None or not TASKS.exists():
            return False
        others = set(os.listdir(TASKS)) - {str(native[ident]), str(threading.get_native_id())}
        return _state(str(native[ident])) == "S" and not {"R", "D"} & {_state(other) for other in others}


def measure_limit() -> float:
    start = time.thread_time()
    for _ in range(STEPS):
        pass
    return 5 * (time.thread_time() - start)


def _state(task: str) -> str:
    """R: it computes or would like to; D: it waits for the disk; S: it sleeps."""
    try:
        return (TASKS / task / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # it has ended
        return ""
