"""One HTTP request and its response over ASGI: where it is answered, and how the answer is sent.

Each piece of a stream is made when the client has taken the one before.
"""

from __future__ import annotations

import typing as t
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from functools import lru_cache, partial
from time import monotonic
from types import CoroutineType, GeneratorType

from werkzeug.exceptions import ClientDisconnected, HTTPException, InternalServerError
from werkzeug.wsgi import FileWrapper

from .ctx import RequestContext
from .dispatch import handle, report_late
from .environ import READER, check_headers
from .extensions import PATHSEND, make_trailers, offers, takes_trailers
from .files import find_path
from .responding import BODILESS_STATUS, final_headers, make_response, whole_body
from .runner import Runner, begin_in_context, move
from .steps import LOOP, THREAD
from .waiting import LONGEST_TURN, cancel_scope, pause, shield, shielded
from .watching import Watch, watch_of
from .wrapped import call_chain, find_chain
from .wrappers import encode

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from .typing import Message, Send
    from .wrappers import Response

_END: t.Any = object()
Made: t.TypeAlias = "tuple[Response, Message, bytes | None]"


class Exchange:
    """One request and its response."""

    __slots__ = ("ctx", "outside", "send", "sending", "whole")

    def __init__(self, ctx: RequestContext, send: Send) -> None:
        self.ctx: RequestContext = ctx
        self.send: Send = send
        self.outside: Context = copy_context()  # the server's
        self.whole: tuple[Message, bytes] | None = None  # an answer to be sent from there
        self.sending: bool = False  # a piece of a stream
        ctx.send = send

    async def serve(self, place: str | None) -> None:
        """Answer in a context of the request's own: on the loop, or from `place` on with steps in a worker thread.

        What is sent last is sent in the server's: uvicorn begins the next of pipelined requests in there.
        """
        if place is not None:
            await self.move(self.answer(), place)
        elif (rest := begin_in_context(self.answer())) is not None:
            await rest
        if self.whole is not None:
            start, body = self.whole
            await self.send(start)
            await self.send({"type": "http.response.body", "body": body, "more_body": False})

    def move(self, coro: Coroutine[t.Any, t.Any, None], start: str) -> Awaitable[None]:
        """Answer with steps in a worker thread."""
        return move(self.ctx, coro, start, self._refuse)

    async def _refuse(self, error: HTTPException) -> None:
        """Answer without the request cycle."""
        _, start, body = self._render(make_response(self.ctx.app, error))
        await self.send(start)
        await self._send_last(body or b"")

    def _make(self) -> Coroutine[t.Any, t.Any, Made | None]:
        """The response, its start and, where it is at hand, its body; None: there is nothing to send."""
        return handle(self.ctx, self._render)

    async def answer(self) -> None:
        made = await self._make()
        if made is None:
            return
        response, start, body = made
        ctx = self.ctx
        ctx.send = None
        reader = ctx.request._reader
        if reader is not None and reader.disconnected:
            self.send = _send_to_nobody  # a server may be closing the connection just now
        if body is not None and not response._on_close and type(response.response) is list:
            self.whole = start, body
            return
        if body is not None:
            try:
                await ctx.go(LOOP)
                await self.send(start)
                await self._send_last(body)
            finally:
                await self._close(response, exhausted=False)
            return
        if response.trailers is not None and takes_trailers(ctx.request):
            start["trailers"] = True
        if response.is_async:
            await self._stream_async(response, start)
        elif offers(ctx.request, PATHSEND) and (path := find_path(response)) is not None:
            await self._send_path(response, start, path)
        elif ctx.moves:
            await self._stream_sync(response, start)
        else:  # an async view's sync stream: its pieces share a thread and a context
            ctx.moves = True
            await Runner(self._stream_sync(response, start), ctx.app._workers, LOOP)

    def _render(self, response: Response) -> Made:
        if response._status != "200 OK":
            check_headers([("status", response._status)])
        status = response._status_code
        is_bodiless = status in BODILESS_STATUS
        body = None if is_bodiless else response.untouched_body()
        if body is not None:
            raw = response.own_raw_headers()
        else:
            headers = final_headers(response, self.ctx.request)
            raw = [(_raw_name(name), value.encode("latin-1")) for name, value in headers]
            body = whole_body(response) if response.is_sequence else None
        if is_bodiless or self.ctx.request.method == "HEAD":
            body = b""
        return response, {"type": "http.response.start", "status": status, "headers": raw}, body

    # Streaming: each piece is made before the next, and `send` waits while the client is slow.

    def _is_of_client(self, error: Exception) -> bool:
        """Whether it says that the client has gone: an OSError of `send`, or what reading its body raised."""
        return (self.sending and isinstance(error, OSError)) or isinstance(error, ClientDisconnected)

    async def _send_start(self, start: Message) -> None:
        self.sending = True  # not undone by an error: then it was the client's leaving
        await self.send(start)
        self.sending = False

    async def _send_piece(self, piece: bytes) -> None:
        self.sending = True
        await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        self.sending = False

    async def _send_until_gone(self, piece: t.Any, step: t.Any, count: _Count, watch: Watch) -> t.Any:
        """`send` may go on waiting for a client that has left: gunicorn's does so for three seconds."""
        with cancel_scope() as scope:
            try:
                while piece is not _END and not watch.is_gone:
                    watch.on_gone = scope.cancel
                    await self._send_piece(count(piece))
                    watch.on_gone = None
                    if not watch.is_gone:  # pragma: no branch  # see docs/coverage.md
                        piece = _END if count.is_complete() else await self.ctx.call(step)
                        await self.ctx.go(LOOP)
            finally:
                watch.on_gone = None
                await self.ctx.go(LOOP)  # a piece that failed left us in the thread, where a scope cannot end
        return piece

    async def _send_last(self, piece: bytes) -> None:
        """Outside of the request's context (see `serve`)."""
        self.sending = True
        sending = self.send({"type": "http.response.body", "body": piece, "more_body": False})
        if type(sending) is not CoroutineType:
            await sending
        elif (rest := begin_in_context(sending, self.outside)) is not None:
            await rest

    async def _end(self, response: Response, start: Message, watch: Watch) -> None:
        trailers = await make_trailers(self.ctx, response) if "trailers" in start else None
        await self.ctx.go(LOOP)
        watch.on_gone = None  # the response is complete once the last piece is with the server
        await self._send_last(b"")
        if trailers is not None:
            await self.send(trailers)

    async def _send_path(self, response: Response, start: Message, path: str) -> None:
        """The server opens and sends the file by itself."""
        try:
            await self.ctx.go(LOOP)
            await self.send(start)
            await self.send({"type": PATHSEND, "path": path})
        finally:
            await self._close(response, exhausted=True)

    async def _stream_async(self, response: Response, start: Message) -> None:
        ctx = self.ctx
        pieces: t.Any = response.response
        count = _Count(response.content_length)
        try:
            if ctx.place is not LOOP:
                await ctx.go(LOOP)
            with cancel_scope() as scope:
                watch = self._watch(scope.cancel)
                try:
                    await self._send_start(start)
                    await self._send_pieces(pieces, count)
                    await self._end(response, start, watch)
                finally:
                    watch.on_gone = None
                    if ctx.place is not LOOP:  # trailers that failed left us in the thread
                        await ctx.go(LOOP)
        except Exception as error:
            if not self._is_of_client(error):
                await report_late(ctx, error)
            raise
        finally:
            if hasattr(pieces, "aclose"):
                await shield(pieces.aclose())
            await self._close(response, exhausted=True)

    async def _send_pieces(self, pieces: t.Any, count: _Count) -> None:
        turn = monotonic()
        async for piece in pieces:
            await self._send_piece(count(piece if type(piece) is bytes else encode(piece, pieces)))
            if monotonic() - turn > LONGEST_TURN:  # a generator need not wait, nor a `send` to one who has left
                await pause()
                turn = monotonic()
        count.check_end()

    async def _stream_sync(self, response: Response, start: Message) -> None:
        ctx = self.ctx
        pieces = iter(response.iter_encoded())
        count = _Count(response.content_length)
        step = (THREAD, partial(next, pieces, _END))
        piece = watch = None
        try:
            # In the view's hop. The head waits for it, as under WSGI: a failure before the first piece is a plain 500.
            piece = await ctx.call(step)
            await ctx.go(LOOP)
            watch = self._watch()
            await self._send_start(start)
            piece = await self._send_until_gone(piece, step, count, watch)
            if not watch.is_gone:
                count.check_end()
                await self._end(response, start, watch)
        except Exception as error:
            await ctx.go(LOOP)
            if watch is None:
                await report_late(ctx, error)
                await self._refuse(InternalServerError())
            elif not self._is_of_client(error):
                await report_late(ctx, error)
            raise
        finally:
            await ctx.go(LOOP)  # a piece that failed left us in the thread
            await self._close(response, exhausted=piece is _END)

    def _watch(self, on_gone: Callable[[], object] | None = None) -> Watch:
        """What notes the client's leaving while a response is streamed."""
        request = self.ctx.request
        if request._reader is not None:
            request._reader.give_up()
        watch = t.cast(Watch, watch_of(request))
        watch.on_gone = on_gone
        if on_gone is not None and watch.is_gone:
            on_gone()
        return watch

    async def _close(self, response: Response, exhausted: bool) -> None:
        """Close the body and run `call_on_close` functions; in the thread unless nothing of the user's is called."""
        body = response.response
        harmless = not hasattr(body, "close") or isinstance(body, FileWrapper)
        if response._on_close or not (harmless or (exhausted and isinstance(body, GeneratorType))):
            with shielded():
                try:
                    await self.ctx.call((THREAD, response.close))
                finally:
                    await self.ctx.go(LOOP)
        else:
            response.close()


class ChainExchange(Exchange):
    """Answers through the WSGI middleware around the application. What the edge refuses does not get that far."""

    __slots__ = ("refusal",)

    def __init__(self, ctx: RequestContext, send: Send, refusal: HTTPException | None) -> None:
        super().__init__(ctx, send)
        self.refusal: HTTPException | None = refusal

    async def _make(self) -> Made:
        environ = self.ctx.request.environ
        environ[READER] = self.ctx.request._reader
        called = find_chain(self.ctx.app) if self.refusal is None else self.refusal
        response = call_chain(t.cast("WSGIApplication", called), environ)
        environ["werkzeug.request"] = None
        return self._render(response)


class _Count:
    """The bytes of a stream against its Content-Length, if it has one."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.sent = 0

    def __call__(self, piece: bytes) -> bytes:
        if self.length is not None:  # a file may have grown since it was measured
            piece = piece[: self.length - self.sent]
        self.sent += len(piece)
        return piece

    def is_complete(self) -> bool:
        return self.length is not None and self.sent >= self.length

    def check_end(self) -> None:
        """The client must not take a part for the whole: the error aborts the connection."""
        if self.length is not None and self.sent < self.length:
            raise RuntimeError(f"The body ended after {self.sent} of {self.length} bytes.")


async def _send_to_nobody(message: Message) -> None:
    pass


@lru_cache(maxsize=512)
def _raw_name(name: str) -> bytes:
    return name.lower().encode("latin-1")
