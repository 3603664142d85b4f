"""What `async def` is for: waiting for several things at once, and sending a page while it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import Any

from asyncflask import Blueprint, Flask, current_app, g, render_template
from asyncflask.typing import ResponseReturnValue

from . import store
from .auth import require_login
from .where import name_place

TICKS = 10

bp = Blueprint("live", __name__)
bp.before_request(require_login)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/today")
async def today() -> str:
    """Three look-ups at once: the page takes as long as the slowest, not as long as all of them."""
    started = time.perf_counter()
    seconds = current_app.config["LOOKUP_SECONDS"]
    lookups = await asyncio.gather(
        measure(fetch_weather(seconds)),
        measure(fetch_saying(seconds)),
        measure(asyncio.to_thread(store.count_notes, current_app.config["DATABASE"], g.user["id"])),
    )
    total = time.perf_counter() - started
    return render_template("today.html", lookups=lookups, total=total, place=name_place())


async def measure(lookup: Awaitable[Any]) -> tuple[Any, float]:
    """What the look-up returned, and the seconds it took."""
    started = time.perf_counter()
    return await lookup, time.perf_counter() - started


async def fetch_weather(seconds: float) -> dict[str, Any]:
    await asyncio.sleep(seconds)  # in place of a call to a weather service
    return {"sky": "Light rain", "degrees": 14}


async def fetch_saying(seconds: float) -> str:
    await asyncio.sleep(seconds * 0.75)
    return "The palest ink is better than the best memory."


@bp.get("/live")
async def live() -> ResponseReturnValue:
    # The page is rendered here, where the request is; only its lines are made while it is sent.
    head, tail = render_template("live.html", ticks=TICKS, place=name_place()).split("<!-- lines -->")
    return send_page(head, tail, current_app.config["TICK_SECONDS"]), {"X-Accel-Buffering": "no"}


async def send_page(head: str, tail: str, seconds: float) -> AsyncIterator[str]:
    yield head
    for left in range(TICKS, 0, -1):
        clock = datetime.now().isoformat(timespec="milliseconds").partition("T")[2]
        yield f"<li><time>{clock}</time> <b>{left}</b> {name_place()}</li>\n"
        await asyncio.sleep(seconds)
    yield tail
