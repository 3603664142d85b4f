"""No framework: what the server itself takes, which is contained in every figure."""

from __future__ import annotations

from typing import Any

from .sockets import make_events


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await answer(scope["path"].split("/"), send)


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def answer(path: list[str], send: Any) -> None:
    is_stream = path[1] == "events"
    kind = b"text/event-stream" if is_stream else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if is_stream:
        async for text in make_events(int(path[2])):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    body = b"" if is_stream else b'{"hello":"world"}'
    await send({"type": "http.response.body", "body": body, "more_body": False})
