"""The ASGI edge of websockets: the request cycle once for each connection, then the close that its outcome asks for.

    before accept   a response (of a hook, the view, an error handler) refuses the connection
    after it        the view's end closes it: 1000, or 1011 where an error got out
"""

from __future__ import annotations

import asyncio
import typing as t
from urllib.parse import urlsplit

from werkzeug.exceptions import Forbidden, HTTPException, ServiceUnavailable

from .ctx import WebsocketContext
from .dispatch import handle
from .responding import final_headers, make_response, whole_body
from .runner import Runner, begin_in_context
from .steps import LOOP
from .websocket import CONNECTING, INTERNAL_ERROR, NORMAL, Connection, Websocket, WebsocketDisconnect
from .workers import Overloaded

if t.TYPE_CHECKING:
    from .app import Flask
    from .typing import Receive, Scope, Send
    from .wrappers import Response


async def serve_websocket(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    websocket = _websocket_class(app).from_connection(scope, receive, send)
    ctx = app.websocket_context(websocket)
    ctx.place = LOOP
    ctx.cookie = websocket.headers.get("Cookie", "")
    if not _is_allowed_origin(app, websocket):
        websocket.routing_exception = Forbidden("The websocket was opened from another origin.")
    elif app._plan(None).matches_on_loop:
        ctx.match_request()
    ctx.renew_plan()
    try:
        if ctx.plan.needs_thread:
            await _move(ctx, websocket.connection)
        elif (rest := begin_in_context(_converse(ctx, websocket.connection))) is not None:
            await rest
    except Exception:
        await websocket.connection.close(INTERNAL_ERROR)
        raise


async def _move(ctx: WebsocketContext, connection: Connection) -> None:
    """With steps in a worker thread, which is not held while the connection waits."""
    ctx.moves = True
    ctx.place = ctx.plan.start
    runner = Runner(_converse(ctx, connection), ctx.app._workers, ctx.plan.start)
    try:
        if ctx.plan.start is LOOP:
            runner.bind(refuse=True)
        await runner
    except Overloaded:
        runner.discard()
        ctx.place = LOOP
        busy = ServiceUnavailable("All worker threads are busy.", retry_after=1)
        await connection.deny(*_render(ctx, make_response(ctx.app, busy)))


async def _converse(ctx: WebsocketContext, connection: Connection) -> None:
    outcome = await handle(ctx, lambda response: response)
    await ctx.go(LOOP)
    if connection.state is not CONNECTING:
        await connection.close(NORMAL if outcome is None else INTERNAL_ERROR)
    elif outcome is None:
        await connection.close(NORMAL)
    else:
        await connection.deny(*_render(ctx, outcome))


def _render(ctx: WebsocketContext, response: Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in final_headers(response, ctx.request)]
    return response.status_code, headers, whole_body(response)


def _websocket_class(app: Flask) -> type[Websocket]:
    return getattr(app, "websocket_class", Websocket)


def _is_allowed_origin(app: Flask, websocket: Websocket) -> bool:
    """WEBSOCKET_ORIGINS: "any", "same-origin", or a list of origins. Only browsers send an Origin (RFC 6455 10.2)."""
    allowed = app.config["WEBSOCKET_ORIGINS"]
    origin = websocket.headers.get("Origin")
    if allowed == "any" or origin is None:
        return True
    if allowed == "same-origin":
        return urlsplit(origin).netloc.lower() == websocket.headers.get("Host", "").lower()
    return origin.lower() in {item.lower() for item in allowed}
