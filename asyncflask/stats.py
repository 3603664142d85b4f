"""What an application is doing at the moment, for `app.stats()`. Always on: what is counted is in sets and queues."""

from __future__ import annotations

import time
import typing as t
from collections import deque

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from .app import Flask

INTERVAL = 1  # seconds between two looks at the loop
KEPT = 10  # looks


def collect_stats(app: Flask) -> dict[str, t.Any]:
    """Counts of this process, and `loop_lag` in seconds: the worst of the last ten; None while no loop serves."""
    from .background import tasks_of
    from .lifespan import lifespan_of

    pool = app._workers
    return {
        "requests": len(app._open_requests),
        "websockets": len(app._open_websockets),
        "background_tasks": len(tasks_of(app)),
        "worker_threads": len(pool.lanes),
        "busy_threads": pool.count_busy(),
        "queued": pool.count_queued(),
        "loop_lag": lifespan_of(app).loop_lag,
    }


class Pulse:
    """A timer that looks how late it is: so long other code held the loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.delays: deque[float] = deque([0.0], maxlen=KEPT)
        self._wait()

    def _wait(self) -> None:
        self.due: float = time.monotonic() + INTERVAL
        self.timer: TimerHandle = self.loop.call_later(INTERVAL, self._beat)

    def _beat(self) -> None:
        self.delays.append(max(time.monotonic() - self.due, 0))
        self._wait()

    @property
    def lag(self) -> float:
        """In seconds. What holds the loop right now counts too: another thread may ask."""
        return max(*self.delays, time.monotonic() - self.due)

    def stop(self) -> None:
        self.timer.cancel()
