"""The ASGI edge of websockets: the request cycle once for each connection, then the close that its outcome asks for.

before accept   a response (of a hook, the view, an error handler) refuses the connection
after it        the view's end closes it: 1000, or 1011 where an error got out
"""

from __future__ import annotations

import asyncio
import typing as t
from contextvars import Context
from functools import partial
from urllib.parse import urlsplit

from werkzeug.exceptions import Forbidden, HTTPException

from .asgi_connection import Connection
from .ctx import WebsocketContext
from .dispatch import handle
from .responding import final_headers, make_response, whole_body
from .runner import begin_in_context, move
from .steps import LOOP
from .websockets import CONNECTING, GOING_AWAY, INTERNAL_ERROR, NORMAL, OPEN, Websocket

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .app import Flask
    from .shutdown import ShutdownEvent
    from .typing import Receive, Scope, Send
    from .wrappers import Response


async def serve_websocket(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    websocket = app.websocket_class.from_connection(scope, receive, send)
    connection = websocket.connection
    open_ones = _open_connections(app, connection)
    open_ones.add(connection)
    app._open_websockets.add(connection)
    try:
        await _serve(app, websocket, scope)
    except Exception:
        await connection.close(INTERNAL_ERROR)
        raise
    finally:
        connection.let_go()
        open_ones.discard(connection)
        app._open_websockets.discard(connection)


async def _serve(app: Flask, websocket: Websocket, scope: Scope) -> None:
    ctx = app.websocket_context(websocket)
    ctx.place = LOOP
    ctx.cookie = _raw_header(scope, b"cookie") or ""
    if not _is_allowed_origin(app, scope):
        websocket.routing_exception = Forbidden("The websocket was opened from another origin.")
        # Where a proxy rewrites Host, this is how one finds out.
        origin, host = (_raw_header(scope, name) for name in (b"origin", b"host"))
        app.logger.warning("A websocket was refused: its origin is %r, and Host %r.", origin, host)
    elif app._plans[None].matches_on_loop:
        ctx.match_request()
        _let_environ_go(websocket)
    ctx.renew_plan()
    connection = websocket.connection
    connection.limit = app.config["WEBSOCKET_MAX_MESSAGE_SIZE"]
    if ctx.plan.needs_thread:
        await move(ctx, _converse(ctx, connection), ctx.plan.start, partial(_refuse, ctx, connection))
    elif (rest := begin_in_context(_converse(ctx, connection))) is not None:
        await rest


async def _converse(ctx: WebsocketContext, connection: Connection) -> None:
    outcome = await handle(ctx, lambda response: response)
    await ctx.go(LOOP)
    if connection.state is not CONNECTING:
        await connection.close(NORMAL if outcome is None else INTERNAL_ERROR)
    elif outcome is None:
        text = "The websocket view of %r ended before it accepted: refused. Was an await forgotten?"
        ctx.app.logger.warning(text, ctx.request.endpoint)
        await connection.close(NORMAL)
    else:
        await _deny(ctx, connection, outcome)


async def _refuse(ctx: WebsocketContext, connection: Connection, error: HTTPException) -> None:
    """Without the request cycle."""
    await _deny(ctx, connection, make_response(ctx.app, error))


async def _deny(ctx: WebsocketContext, connection: Connection, response: Response) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in final_headers(response, ctx.request)]
    await connection.deny(response.status_code, headers, whole_body(response))


def _raw_header(scope: Scope, name: bytes) -> str | None:
    # Not from `headers`, which would stay as long as the connection though nobody else may read them.
    values = [value for key, value in scope["headers"] if key == name]
    return b"; ".join(values).decode("latin-1") if values else None


def _let_environ_go(websocket: Websocket) -> None:
    """Werkzeug's matching needed it, and others may not: it is made again for who asks."""
    if websocket._scope is not None and websocket.has_environ:
        del websocket.__dict__["environ"]
        websocket.has_environ = False


def _is_allowed_origin(app: Flask, scope: Scope) -> bool:
    """WEBSOCKET_ORIGINS: "any", "same-origin", or a list of origins. Only browsers send an Origin (RFC 6455 10.2)."""
    allowed = app.config["WEBSOCKET_ORIGINS"]
    origin = _raw_header(scope, b"origin")
    if allowed == "any" or origin is None:
        return True
    if allowed == "same-origin":
        return urlsplit(origin).netloc.lower() == (_raw_header(scope, b"host") or "").lower()
    return origin.lower() in {item.lower() for item in allowed}


class _OpenConnections(set[Connection]):
    """An application's connections on the loop that serves. While there are some, the end of serving is listened for.

    Servers close them late (1012, 1006 or not at all); a view that knows of the end can still save what it has.
    """

    def __init__(self, loop: AbstractEventLoop, event: ShutdownEvent) -> None:
        self.loop: AbstractEventLoop = loop
        self.event: ShutdownEvent = event

    def add(self, connection: Connection) -> None:
        if not self:
            self.event.add_callback(self.loop, self.close)
        super().add(connection)

    def discard(self, connection: object) -> None:
        super().discard(t.cast(Connection, connection))
        if not self:
            self.event.remove_callback(self.loop, self.close)

    def close(self) -> None:
        """At once: the server, which has heard it too, is about to do it in its own way."""
        for connection in self:
            if connection.state is OPEN:  # each by a task: a client may be slow to take it
                _begun.add(closing := self.loop.create_task(connection.close(GOING_AWAY), context=Context()))
                closing.add_done_callback(_begun.discard)


_begun: set[asyncio.Task[None]] = set()  # a loop does not keep its tasks alive


def _open_connections(app: Flask, connection: Connection) -> set[Connection]:
    """Those to be closed with this one; outside of a serving life it is alone."""
    lifespan = vars(app).get("_lifespan")
    if lifespan is None or lifespan.loop is not connection.loop:
        return set()
    known: _OpenConnections | None = vars(app).get("_open_connections")
    if known is None or known.loop is not connection.loop:
        known = vars(app)["_open_connections"] = _OpenConnections(connection.loop, lifespan.shutdown_event)
    return known
