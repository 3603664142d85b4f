"""What lives as long as the process serves: the hub, and the pulse that the dashboard shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from asyncflask import Flask, current_app

from .hub import Hub
from .pulse import Pulse


def init_app(app: Flask) -> None:
    app.extensions["pulse"] = Pulse()
    app.while_serving(live)


async def live() -> AsyncIterator[None]:
    async with get_hub().serve(), asyncio.TaskGroup() as group:
        beating = group.create_task(get_pulse().beat(get_hub(), current_app.config["BEAT_SECONDS"]))
        yield
        while not beating.done():  # a Redis client in trouble may swallow a cancellation
            beating.cancel()
            await asyncio.wait({beating}, timeout=1)


def get_hub() -> Hub:
    hub: Hub = current_app.extensions["hub"]
    return hub


def get_pulse() -> Pulse:
    pulse: Pulse = current_app.extensions["pulse"]
    return pulse
