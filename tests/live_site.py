"""What the tests of streams, files and hints ask real servers for."""

from __future__ import annotations

import os
import tempfile
import time
from functools import cache

import anyio

from asyncflask import Flask, Response, ServerSentEvent, request, send_file, sse

app = Flask(__name__, static_folder=None)
app.config["WORKER_THREADS"] = 4
PIECE = bytes(range(256)) * 1024
SIZE = 12 * len(PIECE) + 77  # over 3 MiB
closed: list[str] = []
ENDLESS = 1000


@app.get("/counts")
def counts():
    return {"closed": closed}


@app.get("/sse/async/<int:count>")
async def async_events(count):
    async def events():
        try:
            for number in range(int(request.last_event_id or 0) + 1, ENDLESS):
                yield ServerSentEvent({"number": number, "path": request.path}, id=str(number))
                if number >= count:
                    await anyio.sleep(60)
        finally:
            closed.append(request.path)

    return sse(events(), ping=0.2, retry=100)


@app.get("/sse/sync/<int:count>")
def events(count):
    def events():
        try:
            for number in range(int(request.last_event_id or 0) + 1, ENDLESS):
                yield ServerSentEvent({"number": number, "path": request.path}, id=str(number))
                if number >= count:
                    time.sleep(0.3)
        finally:
            closed.append(request.path)

    return sse(events(), ping=0.1)


@app.get("/sse/short/<int:count>")
async def short(count):
    """Ends after so many events: an EventSource comes again, with the id of the last one."""
    last = int(request.last_event_id or 0)
    numbers = range(last + 1, last + 1 + count)

    async def events():
        for number in numbers:
            yield ServerSentEvent(f"{number} after {last}", event="tick", id=f"{number}")

    return sse(events(), retry=50)


@app.get("/page")
def page():
    return """<!doctype html><title>Events</title><p id=seen></p><script>
        const source = new EventSource("/sse/short/2");
        source.onopen = () => { seen.textContent += "open;" };
        source.addEventListener("tick", event => { seen.textContent += event.lastEventId + ":" + event.data + ";" });
        </script>"""


def make_file() -> str:
    handle, path = tempfile.mkstemp(suffix=".bin", dir=os.environ["LIVE_FOLDER"])
    with os.fdopen(handle, "wb") as file:
        file.write((PIECE * (SIZE // len(PIECE) + 1))[:SIZE])
    return path


@cache
def find_big() -> str:
    return make_file()


@app.get("/extensions")
def extensions():
    return sorted(request.environ.get("asgi.scope", {}).get("extensions") or ())


@app.get("/file/sync")
def sync_file():
    return send_file(find_big(), mimetype="application/x-big", etag="big")


@app.get("/file/async")
async def async_file():
    return send_file(find_big(), mimetype="application/x-big", etag="big")


@app.get("/file/removed")
def removed_file():
    path = make_file()
    response = send_file(path, mimetype="application/x-big")
    os.remove(path)
    return response


@app.get("/file/removed-after")
def removed_after():
    path = make_file()
    response = send_file(path, mimetype="application/x-big")
    response.call_on_close(lambda: os.remove(path))
    return response


@app.get("/file/short")
def shortened_file():
    path = make_file()
    response = send_file(path, mimetype="application/x-big", conditional=False)
    os.truncate(path, SIZE // 2)
    return response


@app.get("/file/long")
def lengthened_file():
    path = make_file()
    response = send_file(path, mimetype="application/x-big", conditional=False)
    with open(path, "ab") as file:
        file.write(b"more" * 1000)
    return response


@app.get("/hints")
async def hints():
    sent = await request.send_early_hints(["</style.css>; rel=preload; as=style", "</app.js>; rel=preload; as=script"])
    return {"sent": sent}


@app.get("/trailers")
async def trailers():
    total = 0

    async def pieces():
        nonlocal total
        for number in range(5):
            total += number
            yield f"{number};"

    response = Response(pieces(), headers={"Trailer": "X-Total"})
    response.trailers = lambda: {"X-Total": str(total)}
    return response


@app.get("/early/<kind>")
def early(kind):
    def pieces():
        raise RuntimeError("before the first piece")
        yield ""

    return Response(pieces())
