"""What the peers of `benchmarks.sockets` share: the events of one SSE client, each due at its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

RATE = 10  # events a second


async def make_times(count: int) -> AsyncIterator[str]:
    """`count` events: the number and the moment (time.monotonic) at which it was made."""
    begun = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0, begun + number / RATE - time.monotonic()))
        yield f"{number} {time.monotonic():.6f}"


async def make_events(count: int) -> AsyncIterator[str]:
    """As text of the format, for those who have no helper for it."""
    async for text in make_times(count):
        yield f"data: {text}\n\n"
