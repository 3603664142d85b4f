"""The application under load. Served as `asgi` or `wsgi`, it journals each request that the server began."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import typing as t
from collections.abc import AsyncIterator, Iterable, Iterator

from asyncflask import Flask, render_template, request, session
from asyncflask.signals import on_overload

app = Flask(__name__)
app.config.update(
    SECRET_KEY="a key of the soak test, longer than 32 bytes",
    WORKER_THREADS=int(os.environ.get("SOAK_THREADS", app.config["WORKER_THREADS"])),
    WORKER_QUEUE_LIMIT=int(os.environ.get("SOAK_QUEUE", app.config["WORKER_QUEUE_LIMIT"])),
)
ITEMS = ("tea", "coffee", "<cake>")
PIECE = b"0123456789abcdef" * 16
LONG_PIECE = PIECE * 128
refused: list[Flask] = []


class Boom(Exception):
    """What the views raise that are to fail."""


@on_overload.connect_via(app)
def count_refused(sender: Flask) -> None:
    refused.append(sender)


@app.get("/async")
async def answer_async() -> dict[str, str]:
    return {"view": "async"}


@app.get("/sync")
def answer_sync() -> dict[str, str]:
    return {"view": "sync"}


@app.get("/boom/async")
async def fail_async() -> t.NoReturn:
    raise Boom("expected")


@app.get("/boom/sync")
def fail_sync() -> t.NoReturn:
    raise Boom("expected")


@app.get("/page")
def show_page() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return render_template("page.html", title="Soak", items=ITEMS)


@app.post("/upload/sync")
def upload_sync() -> dict[str, t.Any]:
    return {"title": request.form["title"], "size": len(request.files["file"].read())}


@app.post("/upload/async")
async def upload_async() -> dict[str, t.Any]:
    return {"title": request.form["title"], "size": len(request.files["file"].read())}


@app.get("/stream/sync/<int:count>")
def stream_sync(count: int) -> Iterator[bytes]:
    yield from _pieces(count)


@app.get("/stream/async/<int:count>")
def stream_async(count: int) -> AsyncIterator[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in _pieces(count):
            yield piece
            await asyncio.sleep(0)

    return pieces()


def _pieces(count: int) -> Iterable[bytes]:
    """Small ones; long ones where they are many: what no socket's buffer takes at once."""
    return [PIECE if count < 10 else LONG_PIECE] * count


@app.get("/sleep/sync/<float:seconds>")
def sleep_sync(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@app.get("/sleep/async/<float:seconds>")
async def sleep_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@app.get("/settle")
async def settle() -> dict[str, t.Any]:
    """Collect what is garbage, and tell what is left."""
    gc.collect()
    return {"pid": os.getpid(), "blocks": sys.getallocatedblocks(), "refused": len(refused), **app.stats()}


@app.get("/stats")
async def show_stats() -> dict[str, t.Any]:
    return app.stats()


# The journal


async def asgi(scope: t.Any, receive: t.Any, send: t.Any) -> None:
    if scope["type"] == "http":
        _note(scope["query_string"])
    await app(scope, receive, send)


def wsgi(environ: dict[str, t.Any], start_response: t.Any) -> Iterable[bytes]:
    _note(environ["QUERY_STRING"].encode())
    return app(environ, start_response)


def _note(query: bytes) -> None:
    if query:
        os.write(_journal, query + b"\n")


_journal = os.open(os.environ.get("SOAK_JOURNAL", os.devnull), os.O_WRONLY | os.O_APPEND)
