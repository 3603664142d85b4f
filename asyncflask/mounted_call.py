"""An ASGI application called from a WSGI server's thread: its response, piece by piece, as the server sends it."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from contextvars import Context, copy_context
from io import BytesIO

from anyio.to_thread import run_sync
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wsgi import get_input_stream

from .bridge import wait_for
from .transport import REQUEST_CHUNK, Body, Pieces, RawHeaders, Transport

if t.TYPE_CHECKING:
    from logging import Logger

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .typing import ASGIApp, Scope


class _Input:
    """`wsgi.input` as a body: read in a thread, since it may be slow to arrive."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.is_announced = bool(environ.get("CONTENT_LENGTH")) or "HTTP_TRANSFER_ENCODING" in environ
        self.stream = get_input_stream(environ)

    async def pull(self) -> tuple[bytes, bool]:
        chunk = await run_sync(self.stream.read, REQUEST_CHUNK) if self.is_announced else b""
        return chunk, bool(chunk)


class _Call(Transport):
    """After its whole response the application goes on by itself, as on an ASGI server; before, it is cancelled."""

    def __init__(self, app: ASGIApp, scope: Scope, body: Body, logger: Logger) -> None:
        super().__init__(app, scope, body)
        self.logger = logger

    async def close(self) -> None:
        self.complete = True
        if self.whole:
            self.leave()
        else:
            await self.abort()
            self.error = None  # its traceback would keep a stream of the application's alive

    def note_error(self, error: BaseException) -> None:
        if self.whole and isinstance(error, Exception):
            self.logger.error("Exception in a mounted application, after its response", exc_info=error)
        else:
            super().note_error(error)


def call_from_wsgi(
    app: ASGIApp, scope: Scope, environ: WSGIEnvironment, start_response: StartResponse, logger: Logger
) -> Iterable[bytes]:
    """Raises what the application raises before its response has begun."""
    call = _Call(app, scope, _Input(environ), logger)
    status, headers = wait_for(_begin(call, copy_context()))
    phrase = HTTP_STATUS_CODES.get(status, "Unknown")
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    start_response(f"{status} {phrase}", pairs)
    pieces = Pieces(call, BytesIO())
    if environ["REQUEST_METHOD"] != "HEAD":
        return pieces
    pieces.close()  # ASGI servers leave the body out by themselves, WSGI servers do not
    return []


async def _begin(call: _Call, context: Context) -> tuple[int, RawHeaders]:
    call.begin(context)
    return await call.start()
