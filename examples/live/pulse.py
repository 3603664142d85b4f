"""The numbers of one worker process: who is connected, how much is said, and how the process bears it."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from .hub import Event, Hub, HubDown

PULSES = "*pulses"  # no room of people has a star in its name
LOOKS = 10  # at the loop's lag, in each beat


class Pulse:
    def __init__(self) -> None:
        self.people = 0
        self.watchers = 0
        self.said = 0  # since the last beat
        self._started = time.monotonic()

    async def beat(self, hub: Hub, seconds: float) -> None:
        """Publish the numbers, again and again."""
        while True:
            begun = time.monotonic()
            lag = await measure_lag(seconds)
            event = self._take(time.monotonic() - begun, lag)
            with suppress(HubDown):
                await hub.publish(event, PULSES)

    def _take(self, seconds: float, lag: float) -> Event:
        said, self.said = self.said, 0
        return {
            "type": "pulse",
            "worker": os.getpid(),
            "people": self.people,
            "watchers": self.watchers,
            "per_second": round(said / seconds, 2),
            "memory": read_memory(),
            "lag": round(lag * 1000, 2),
            "uptime": round(time.monotonic() - self._started),
        }


async def measure_lag(seconds: float) -> float:
    """The longest time (s) that the loop let a timer wait, of several in `seconds`."""
    step, longest = seconds / LOOKS, 0.0
    for _ in range(LOOKS):
        due = time.monotonic() + step
        await asyncio.sleep(step)
        longest = max(longest, time.monotonic() - due)
    return longest


def read_memory() -> float | None:
    """MiB that the process holds; None where the system does not say so in /proc."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    return None
