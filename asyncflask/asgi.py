"""The ASGI edge: scopes `http`, `websocket` and `lifespan` (ASGI specification 3.0)."""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import AsyncIterable, Iterable, Iterator
from io import BytesIO
from types import GeneratorType

from werkzeug.exceptions import BadRequest, HTTPException, ServiceUnavailable
from werkzeug.wsgi import FileWrapper

from .body import BodyReader, BodyStream, UnreadBody
from .bridge import LOOP, THREAD
from .ctx import RequestContext
from .dispatch import handle
from .overrides import find_override
from .responding import final_headers
from .routing import find_fast
from .runner import Runner
from .workers import Overloaded
from .wrappers import build_environ, path_info

if t.TYPE_CHECKING:
    from .app import Flask
    from .typing import Receive, Scope, Send
    from .wrappers import Response

# Header fields that decide how a request is read; RFC 9112 6.
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"cookie"})
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_BODILESS_STATUS = frozenset({*range(100, 200), 204, 304})


async def serve(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one scope. Raises ValueError for a type that the specification does not have."""
    handler = _HANDLERS.get(scope["type"])
    if handler is None:
        raise ValueError(f"Unknown ASGI scope type {scope['type']!r}.")
    await handler(app, scope, receive, send)


# http


async def _serve_http(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    noted = {name: value for name, value in scope["headers"] if name in _FRAMING}
    body = await _Body(app, scope, receive).begin(noted)
    ctx = _open_context(app, scope, body.stream)
    ctx.request.routing_exception = body.refusal
    if isinstance(body.stream, BodyStream):
        ctx.unread = UnreadBody(body.stream, ctx.request)
    ctx.cookie = noted.get(b"cookie", b"").decode("latin-1")
    if body.refusal is None and b"upgrade" not in noted:
        ctx.matched = find_fast(app, ctx.request, path_info(scope))
    exchange = _Exchange(ctx, receive, send, body)
    try:
        await exchange.run()
    finally:
        body.stream.close()


def _open_context(app: Flask, scope: Scope, stream: t.IO[bytes]) -> RequestContext:
    if find_override(app, "request_context") is None:
        ctx = RequestContext(app, {}, app.request_class.from_scope(scope, stream))
    else:
        ctx = app.request_context(build_environ(scope, stream))
    ctx.fresh_app_context = True
    return ctx


class _Body:
    """A request's body as far as it is known before the request cycle starts."""

    def __init__(self, app: Flask, scope: Scope, receive: Receive) -> None:
        self.app = app
        self.scope = scope
        self.reader = BodyReader(receive, app.config["BODY_TIMEOUT"])
        self.refusal: HTTPException | None = None  # what the request will be answered with
        self.stream: t.IO[bytes]

    async def begin(self, noted: dict[bytes, bytes]) -> _Body:
        """Take the first piece, if there may be one and its declared length is not too much."""
        length = noted.get(b"content-length")
        first = b""
        if length is not None and not length.isdigit():
            self.refusal = BadRequest("The Content-Length header is not a number.")
        elif self._may_have_body(length, noted):
            limit = self.app.config["MAX_CONTENT_LENGTH"]
            if length is None or limit is None or int(length) <= limit:
                try:
                    first = await self.reader.read()
                except HTTPException as error:
                    self.refusal = error.with_traceback(None)
        else:
            self.reader.complete = True
        if self.reader.complete or self.refusal is not None:
            self.stream = BytesIO(first)
        else:
            self.stream = t.cast("t.IO[bytes]", BodyStream(self.reader, first, self.app.config["BODY_SPOOL_SIZE"]))
        return self

    def _may_have_body(self, length: bytes | None, noted: dict[bytes, bytes]) -> bool:
        if length is not None:
            return int(length) > 0
        # HTTP/2 needs neither field, and servers may take the second away.
        return b"transfer-encoding" in noted or self.scope["method"] not in _BODILESS_METHODS


class _Exchange:
    """One request and its response."""

    def __init__(self, ctx: RequestContext, receive: Receive, send: Send, body: _Body) -> None:
        self.ctx = ctx
        self.receive = receive
        self.send = send
        self.body = body
        self.disconnected = False

    async def run(self) -> None:
        app, ctx = self.ctx.app, self.ctx
        plan = app._plan(None if ctx.matched is None else ctx.matched[0].endpoint)
        ctx.place = plan.start
        coro = self._answer()
        runner = Runner(coro, app._workers, plan.start)
        try:
            if plan.start is LOOP and plan.needs_thread:
                runner.bind(refuse=True)
            await runner
        except Overloaded:
            coro.close()
            await self._refuse(ServiceUnavailable("All worker threads are busy.", retry_after=1))

    async def _refuse(self, error: HTTPException) -> None:
        """Answer without the request cycle."""
        response: t.Any = error.get_response()
        await self._start(response.status_code, list(response.headers))
        await self._send_body(response.get_data())

    async def _answer(self) -> None:
        response, headers = await handle(self.ctx, self._render)
        bodiless = self.ctx.request.method == "HEAD" or response.status_code in _BODILESS_STATUS
        if bodiless or response.is_sequence:
            await self.ctx.go(LOOP)
            await self._start(response.status_code, headers)
            await self._send_body(b"" if bodiless else b"".join(response.iter_encoded()))
            await self._close(response, exhausted=not bodiless)
        elif response.is_async:
            await self.ctx.go(LOOP)
            await self._start(response.status_code, headers)
            await self._stream_async(response)
        else:
            await self._stream_sync(response, headers)

    def _render(self, response: Response) -> tuple[Response, list[tuple[str, str]]]:
        return response, final_headers(response, self.ctx.request)

    async def _start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})

    async def _send_body(self, piece: bytes, more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": piece, "more_body": more})

    # Streaming: each piece is awaited or made before the next, and `send` waits while the client is slow.

    async def _stream_async(self, response: Response) -> None:
        pieces = t.cast("AsyncIterable[t.Any]", response.response)
        task = t.cast("asyncio.Task[t.Any]", asyncio.current_task())
        watcher = self._watch(task.cancel)
        try:
            async for piece in pieces:
                await self._send_body(piece.encode() if isinstance(piece, str) else piece, more=True)
            await self._send_body(b"")
        except asyncio.CancelledError:
            if not self.disconnected:
                raise
            task.uncancel()  # it was the client's leaving, and that ends here
        finally:
            watcher.cancel()
            if hasattr(pieces, "aclose"):
                await pieces.aclose()
            await self._close(response, exhausted=True)

    async def _stream_sync(self, response: Response, headers: list[tuple[str, str]]) -> None:
        go = self.ctx.go
        await go(THREAD)
        pieces = iter(response.iter_encoded())
        # A file's first piece is there at once, so it shares the view's hop; a generator's may be long in coming.
        first = next(pieces, b"") if isinstance(response.response, FileWrapper) else None
        await go(LOOP)
        await self._start(response.status_code, headers)
        watcher = self._watch()
        exhausted = False
        try:
            exhausted = await self._send_pieces(pieces, first, response.content_length)
        finally:
            await go(LOOP)  # a piece that failed left us in the thread
            watcher.cancel()
            await self._close(response, exhausted)

    async def _send_pieces(self, pieces: Iterator[bytes], piece: bytes | None, length: int | None) -> bool:
        """True once all is sent; False if the client left. Raises RuntimeError if less than `length` bytes came."""
        go = self.ctx.go
        sent = 0
        while not self.disconnected:
            if piece is None:
                await go(THREAD)
                piece = next(pieces, _END)
                await go(LOOP)
            if piece is _END:
                if length is not None and sent < length:
                    raise RuntimeError(f"The body ended after {sent} of {length} bytes.")
                await self._send_body(b"")
                return True
            sent += len(piece)
            complete = length is not None and sent >= length
            await self._send_body(piece, more=not complete)
            if complete:
                return True
            piece = None
        return False

    def _watch(self, on_disconnect: t.Callable[[], object] | None = None) -> asyncio.Task[None]:
        """A task that notes the client's leaving while a response is streamed."""

        async def watch() -> None:
            if self.body.reader.complete and (await self.receive())["type"] == "http.disconnect":
                self.disconnected = True
                if on_disconnect is not None:
                    on_disconnect()

        return asyncio.create_task(watch())

    async def _close(self, response: Response, exhausted: bool) -> None:
        """Close the body and run `call_on_close` functions; in the thread unless nothing of the user's is called."""
        body = response.response
        harmless = not hasattr(body, "close") or isinstance(body, FileWrapper)
        if response._on_close or not (harmless or (exhausted and isinstance(body, GeneratorType))):
            await self.ctx.go(THREAD)
        response.close()


_END: t.Any = object()


# websocket, lifespan


async def _refuse_websocket(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    """No route takes websockets: close before accept, which servers turn into HTTP 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1000, "reason": ""})


async def _serve_lifespan(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            app._workers.close()
            return


_HANDLERS = {"http": _serve_http, "websocket": _refuse_websocket, "lifespan": _serve_lifespan}
