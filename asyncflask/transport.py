"""One HTTP request to an ASGI application in this process, without a server (ASGI specification 3.0).

Both sides go in step: a `send` of the application returns when its reader asks for the next piece, so a stream is
made no faster than it is read. Closing before the end is the client's leaving.
"""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import Iterator
from contextvars import Context, copy_context
from http import HTTPStatus

from werkzeug.datastructures import Headers
from werkzeug.wsgi import get_content_length

from .bridge import wait_for
from .environ import IN_PROCESS, PRESERVE, build_scope

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .typing import ASGIApp, Message, Scope

REQUEST_CHUNK = 64 * 1024


class Transport:
    """A request on the loop of those who await its methods: `start`, then `read` until b"", or `close`."""

    def __init__(self, app: ASGIApp, scope: Scope, body: t.IO[bytes], length: int | None = None) -> None:
        self.app = app
        self.scope = scope
        self.body: t.IO[bytes] | None = body
        self.left = length  # None: all that there is
        self.ended: bool = False
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_held = False  # a message was taken, and its `send` still waits
        self._left = asyncio.Event()
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, context: Context) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers. The application runs in `context`. Raises what it raises instead of answering."""
        self._task = asyncio.create_task(self._run(), context=context)
        while (message := await self._take()) is not None:
            if message["type"] == "http.response.start":
                return message["status"], list(message.get("headers", ()))
        self._raise_error()
        raise RuntimeError("The application ended without a response.")

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises what the application raises while it answers."""
        while not self.ended:
            message = await self._take()
            if message is None:
                self.ended = True
                self._raise_error()
                raise RuntimeError("The application ended before its response did.")
            if message["type"] == "http.response.body":
                if not message.get("more_body"):
                    await self.close()
                    self._raise_error()
                if message.get("body"):
                    return bytes(message["body"])
        return b""

    async def close(self) -> None:
        """Leave, and wait until the application has ended."""
        self.ended = True
        self._left.set()
        while self._is_held or not self._messages.empty():
            self._let_go()
            if not self._messages.empty():
                self._messages.get_nowait()
                self._is_held = True
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self._receive, self._send)
        except BaseException as error:  # for the reader; KeyboardInterrupt would end the loop
            self._error = error
        finally:
            self._messages.put_nowait(None)

    async def _receive(self) -> Message:
        if self.body is None:
            await self._left.wait()
            return {"type": "http.disconnect"}
        chunk = self.body.read(REQUEST_CHUNK if self.left is None else min(REQUEST_CHUNK, self.left))
        if self.left is not None:
            self.left -= len(chunk)
        more = bool(chunk) and self.left != 0
        if not more:
            self.body = None
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def _send(self, message: Message) -> None:
        if self._left.is_set():
            raise OSError("The client has disconnected.")
        self._messages.put_nowait(message)
        await self._messages.join()

    async def _take(self) -> Message | None:
        self._let_go()
        message = await self._messages.get()
        self._is_held = True
        return message

    def _let_go(self) -> None:
        if self._is_held:
            self._is_held = False
            self._messages.task_done()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame: no cycle


def call_asgi(app: ASGIApp, environ: WSGIEnvironment, buffered: bool) -> tuple[Iterator[bytes], str, Headers]:
    """What `werkzeug.test.run_wsgi_app` gives, over ASGI: ``(body, status, headers)``.

    A body of unknown length is made as it is read, unless `buffered`.
    """
    scope = build_scope(environ)
    scope[IN_PROCESS] = True
    if PRESERVE in environ:
        scope[PRESERVE] = environ[PRESERVE]
    transport = Transport(app, scope, environ["wsgi.input"], get_content_length(environ))
    status, raw = wait_for(transport.start(copy_context()))
    headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])
    pieces = _iterate(transport, environ["wsgi.input"])
    if buffered or "Content-Length" in headers:
        pieces = iter(list(pieces))
    return pieces, f"{status} {HTTPStatus(status).phrase}", headers


def _iterate(transport: Transport, body: t.IO[bytes]) -> Iterator[bytes]:
    try:
        while piece := wait_for(transport.read()):
            yield piece
    finally:
        if not transport.ended:
            wait_for(transport.close())
        if not body.closed and body.seekable():
            body.seek(0)  # a redirect that keeps the method sends it again
