"""The dashboard: two streams of server-sent events, one of numbers and one of what is said in all rooms."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from asyncflask import Blueprint, Flask, Response, ServerSentEvent, render_template, request, sse

from .chat import FEED
from .hub import KEPT, Event, Hub, recall_surely
from .pulse import PULSES, Pulse
from .serving import get_hub, get_pulse

RETRY = 1000  # milliseconds until a browser asks again

bp = Blueprint("dashboard", __name__, url_prefix="/dashboard")


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/")
async def show() -> str:
    return render_template("dashboard.html")


@bp.get("/numbers")
async def send_numbers() -> Response:
    return sse(watch(get_hub(), get_pulse()), retry=RETRY)


@bp.get("/feed")
async def send_feed() -> Response:
    """A browser that was cut off says which message it had last, and gets those that came after it."""
    return sse(follow(get_hub(), request.headers.get("Last-Event-ID", "")), retry=RETRY)


async def watch(hub: Hub, pulse: Pulse) -> AsyncIterator[ServerSentEvent]:
    with hub.subscribe(PULSES) as events, count_watcher(pulse):
        async for event in events:
            yield ServerSentEvent(event, event=event["type"])


@contextmanager
def count_watcher(pulse: Pulse) -> Iterator[None]:
    pulse.watchers += 1
    try:
        yield
    finally:
        pulse.watchers -= 1


async def follow(hub: Hub, last_id: str) -> AsyncIterator[ServerSentEvent]:
    """What was said after the message `last_id` (or all that is kept, if that is not), and what is said: once each."""
    sent: deque[str] = deque([last_id], maxlen=2 * KEPT)
    with hub.subscribe(FEED) as events:
        for message in await recall_after(hub, last_id):
            yield send_once(message, sent)
        async for event in events:
            for message in [event] if event["type"] == "message" else await recall_after(hub, sent[-1]):
                if message["id"] not in sent:
                    yield send_once(message, sent)


def send_once(message: Event, sent: deque[str]) -> ServerSentEvent:
    sent.append(message["id"])
    return ServerSentEvent(message, event="message", id=message["id"])


async def recall_after(hub: Hub, id: str) -> list[Event]:
    messages = await recall_surely(hub, FEED)
    ids = [message["id"] for message in messages]
    return messages[ids.index(id) + 1 :] if id in ids else messages
