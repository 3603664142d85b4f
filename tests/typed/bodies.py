"""Views that read their bodies and forms as they arrive, ask for their client, and have options for that."""

# pyright: strict
from __future__ import annotations

import typing as t

from asyncflask import Blueprint, Flask, request

app = Flask(__name__)
bp = Blueprint("bp", __name__)


@app.post("/", stream_body=True, response_timeout=3, cancel_on_disconnect=True)
async def read() -> dict[str, int]:
    sizes = [len(chunk) async for chunk in request.stream]
    t.assert_type(await request.stream.aread(3), bytes)
    return {"size": sum(sizes)}


@bp.post("/", stream_body=True)
async def read_parts() -> dict[str, int]:
    sizes: dict[str, int] = {}
    async for part in request.stream_parts():
        t.assert_type(part.name, str | None)
        t.assert_type(part.filename, str | None)
        t.assert_type(part.content_type, str | None)
        t.assert_type(await part.read(10), bytes)
        sizes[part.filename or ""] = sum([len(chunk) async for chunk in part])
    return sizes


@app.post("/sync", stream_body=True)
def read_parts_sync() -> str:
    t.assert_type(request.stream.read(3), bytes)
    for part in request.stream_parts():
        t.assert_type(part.read(), bytes)
        t.assert_type(list(part), list[bytes])
    return "text"


@app.get("/client")
async def ask() -> str:
    t.assert_type(await request.is_disconnected(), bool)
    await request.disconnected
    await request.disconnected.wait()
    return "text"
