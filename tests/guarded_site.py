"""The application that the tests of bodies, cancellation and timeouts serve by real servers; its log is at /events."""

from __future__ import annotations

import time
import typing as t
from collections.abc import AsyncIterator, Iterator

import anyio

from asyncflask import Flask, Response, nonblocking, request, stream_with_context

app = Flask(__name__)
app.config["BODY_TIMEOUT"] = 2
events: list[str] = []
LONG = 20  # seconds; nothing takes so long, unless something is wrong


@app.get("/events")
@nonblocking
def show_events() -> list[str]:
    return events


@app.teardown_request
@nonblocking
def note_teardown(error: BaseException | None) -> None:
    if request.path != "/events":
        events.append(f"teardown {request.path} {type(error).__name__}")


@app.post("/up", stream_body=True)
async def up() -> dict[str, int]:
    size = chunks = 0
    async for chunk in request.stream:
        size, chunks = size + len(chunk), chunks + 1
        events.append(f"chunk {size}")
    return {"size": size, "chunks": chunks}


@app.post("/sync-up", stream_body=True)
def sync_up() -> dict[str, int]:
    return {"size": sum(map(len, iter(lambda: request.stream.read(64 * 1024), b"")))}


@app.post("/ignore", stream_body=True)
async def ignore() -> str:
    return "ignored"


@app.post("/parts", stream_body=True)
async def parts() -> list[t.Any]:
    found = []
    async for part in request.stream_parts():
        events.append(f"part {part.name}")
        found.append([part.name, part.filename, sum([len(chunk) async for chunk in part])])
    return found


@app.post("/sync-parts", stream_body=True)
def sync_parts() -> list[t.Any]:
    return [[part.name, part.filename, sum(map(len, part))] for part in request.stream_parts()]


@app.get("/wait", cancel_on_disconnect=True)
async def wait() -> str:
    return await _wait_long("wait")


@app.post("/wait-with-body", stream_body=True, cancel_on_disconnect=True)
async def wait_with_body() -> str:
    return await _wait_long("wait-with-body")


async def _wait_long(name: str) -> str:
    events.append(f"{name} begins")
    try:
        await anyio.sleep(LONG)
    finally:
        events.append(f"{name} ends")
    return "waited"


@app.get("/sync-wait", cancel_on_disconnect=True)
def sync_wait() -> str:
    events.append("sync-wait begins")
    time.sleep(0.4)
    events.append("sync-wait ends")
    return "waited"


@app.get("/ask")
async def ask() -> str:
    events.append("ask begins")
    while not await request.is_disconnected():  # noqa: ASYNC110  # that is what it is for
        await anyio.sleep(0.01)
    events.append("ask ends")
    return "left"


@app.get("/departure")
async def departure() -> str:
    events.append("departure begins")
    await request.disconnected
    events.append("departure ends")
    return "left"


@app.get("/slow", response_timeout=0.2)
async def slow() -> str:
    return await _wait_long("slow")


@app.get("/sync-slow", response_timeout=0.2)
def sync_slow() -> str:
    time.sleep(0.6)
    events.append("sync-slow ends")
    return "late"


@app.get("/stream/<kind>")
async def stream(kind: str) -> Response:
    async def wait_for_news() -> AsyncIterator[str]:
        try:
            yield "piece"
            await anyio.sleep(LONG)
        finally:
            events.append(f"closed {request.path}")

    def poll_for_news() -> Iterator[str]:
        try:
            while True:
                yield "piece"
                time.sleep(0.1)
        finally:
            events.append(f"closed {request.path}")

    news: t.Any = wait_for_news() if kind == "async" else poll_for_news()
    return Response(stream_with_context(news))
