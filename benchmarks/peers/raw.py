"""No framework: the least that an ASGI application can do, which is also what the driver costs."""

from __future__ import annotations

import json

from . import shared

WITHOUT = shared.NOT_NATURAL | dict.fromkeys(
    ("json-sync", "json-sync-200", "405", "routes-10", "routes-1000", "routes-10000"),
    "a bare application has no threads and no routing",
)
del WITHOUT["stream-async"]


async def app(scope, receive, send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    if path.startswith("/hello/"):
        await send_all(send, 200, json.dumps({"hello": path[7:]}).encode())
    elif path == "/echo":
        await send_all(send, 200, json.dumps(json.loads(await read(receive))).encode())
    elif path == "/stream":
        await stream(send)
    elif path == "/boom":
        await send_all(send, 500, b"boom")
    else:
        await send_all(send, 404, b"Not Found")


def plain():
    return app


async def read(receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def send_all(send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for chunk in shared.make_chunks_async():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
