"""Calls of an ASGI application in this process, without a server (ASGI specification 3.0). Test clients stand on them.

A request's two sides go in step: a `send` of the application returns when its reader asks for the next piece, so a
stream is made no faster than it is read; a connection that a test plays by hand is `ahead` by a little. Websockets and
the lifespan are not held back, as a network would not.
"""

from __future__ import annotations

import typing as t
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import Context, copy_context
from itertools import islice

from anyio import CancelScope, Event
from werkzeug.datastructures import Headers
from werkzeug.wsgi import get_content_length

from .bridge import Mailbox, current_loop, mailbox_of, wait_for
from .environ import IN_PROCESS, PRESERVE, build_scope

if t.TYPE_CHECKING:
    from asyncio import Task

    from _typeshed.wsgi import WSGIEnvironment

    from .typing import ASGIApp, Message, Scope

T = t.TypeVar("T")
RawHeaders = list[tuple[bytes, bytes]]
REQUEST_CHUNK = 64 * 1024


class ClientLeft(OSError):
    """What `send` raises in the application once its client has gone (ASGI 2.4)."""


class Line(t.Generic[T]):
    """What one task leaves for another, in order and without a bound."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._arrival: Event | None = None

    def put(self, item: T) -> None:
        self._items.append(item)
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    async def get(self) -> T:
        while not self._items:
            if self._arrival is None:
                self._arrival = Event()
            await self._arrival.wait()
        return self._items.popleft()


_running: set[Conversation] = set()  # a loop holds its tasks weakly


class Conversation:
    """A call of an ASGI application in a task of its own; `tell` and `take` are the other side of it."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self.app = app
        self.scope = scope
        self.left: bool = False  # by the client
        self.ended: bool = False  # the application, and the client knows
        self.error: BaseException | None = None  # what the application raised, or the test's own side of it
        self._told: Line[Message] = Line()
        self._said: Line[Message | None] = Line()
        self._task: Task[None]  # once it has begun
        self._mailbox: Mailbox

    def begin(self, context: Context) -> None:
        """Call the application, on the loop that is running now."""
        loop = current_loop()
        self._mailbox = mailbox_of(loop)
        self._task = loop.create_task(self._run(), context=context)
        _running.add(self)

    def tell(self, message: Message) -> None:
        self._told.put(message)

    async def take(self) -> Message | None:
        """The application's next message; None once it has ended. Who is cancelled here cancels the application."""
        if not self.ended:
            try:
                message = await self._said.get()
            except BaseException:
                await self.abort()
                raise
            if message is not None:
                return message
            self.ended = True
        return None

    def leave(self) -> None:
        self.left = True

    async def close(self) -> None:
        """Leave, and wait until the application has ended."""
        self.leave()
        while await self.take() is not None:
            pass

    def dismiss(self) -> None:
        """Leave, from any thread and without waiting."""
        if self in _running:
            self._mailbox.post(self.leave)

    async def abort(self) -> None:
        """Leave, cancel the application and wait for its end."""
        self.leave()
        self._task.cancel()
        with CancelScope(shield=True):
            while not self.ended:
                self.ended = await self._said.get() is None

    def note_error(self, error: BaseException) -> None:
        """The first counts."""
        self.error = self.error or error

    def raise_error(self) -> None:
        """Raise, once, what the application raised, unless it only heard that the client has gone."""
        error, self.error = self.error, None
        try:
            if error is not None and not isinstance(error, ClientLeft):
                raise error
        finally:
            del error  # its traceback holds this frame: no cycle

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except BaseException as error:  # for the reader; KeyboardInterrupt would end the loop
            self.note_error(error)
        finally:
            _running.discard(self)
            self._said.put(None)

    # The application's side

    async def receive(self) -> Message:
        return await self._told.get()

    async def send(self, message: Message) -> None:
        self._said.put(message)


def begin_lifespan(app: ASGIApp, state: dict[str, t.Any]) -> Conversation:
    """The conversation of an application's lifespan, which leaves in `state` what requests get."""
    state.clear()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    conversation = Conversation(app, scope)
    conversation.begin(copy_context())
    return conversation


class Body(t.Protocol):
    """A request's body, where the application asks for it."""

    async def pull(self) -> tuple[bytes, bool]:
        """The next piece, and whether more may follow."""
        raise NotImplementedError


class FileBody:
    """A file, or the next `length` bytes of it."""

    def __init__(self, file: t.IO[bytes], length: int | None) -> None:
        self.file = file
        self.left = length

    async def pull(self) -> tuple[bytes, bool]:
        chunk = self.file.read(REQUEST_CHUNK if self.left is None else min(REQUEST_CHUNK, self.left))
        if self.left is not None:
            self.left -= len(chunk)
        return chunk, bool(chunk) and self.left != 0


class IteratedBody:
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.pieces = pieces

    async def pull(self) -> tuple[bytes, bool]:
        try:
            return await anext(self.pieces), True
        except StopAsyncIteration:
            return b"", False


class Transport(Conversation):
    """A request on the loop of those who await its methods: `start`, then `read` until b"", or `close`."""

    def __init__(self, app: ASGIApp, scope: Scope, body: Body, ahead: int = 0) -> None:
        super().__init__(app, scope)
        self.ahead = ahead  # so many messages the application may send before they are taken
        self.complete: bool = False  # the reading of the response
        self.whole: bool = False  # the response, when it has been read
        self._body: Body | None = body
        self._pulling: CancelScope | None = None
        self._gone: Event
        self._held: Event | None = None  # of the message that was taken: its `send` waits for it
        self._holds: deque[Event] = deque()  # of those still to be taken

    def begin(self, context: Context) -> None:
        self._gone = Event()
        super().begin(context)

    async def start(self) -> tuple[int, RawHeaders]:
        """Status and headers. Raises what the application raises instead of answering."""
        while (message := await self.take()) is not None:
            if message["type"] == "http.response.start":
                return message["status"], list(message.get("headers", ()))
        self.raise_error()
        raise RuntimeError("The application ended without a response.")

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises what the application raises while it answers."""
        while not self.complete:
            message = await self.take()
            if message is None:
                self.complete = True
                self.raise_error()
                if not self.left:
                    raise RuntimeError("The application ended before its response did.")
            elif message["type"] == "http.response.body":
                if not message.get("more_body"):
                    self.whole = True
                    await self.close()
                    self.raise_error()
                if message.get("body"):
                    return bytes(message["body"])
        return b""

    async def take(self) -> Message | None:
        self._let_go()
        message = await super().take()
        if message is not None:
            self._held = self._holds.popleft()
            for hold in islice(self._holds, self.ahead):
                hold.set()
        return message

    def leave(self) -> None:
        super().leave()
        self._gone.set()
        if self._pulling is not None:
            self._pulling.cancel()
        self._let_go()
        for hold in self._holds:
            hold.set()

    async def close(self) -> None:
        self.complete = True
        await super().close()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.set()
            self._held = None

    async def receive(self) -> Message:
        if self._body is not None and not self.left:
            with CancelScope() as self._pulling:
                return await self._pull(self._body)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _pull(self, body: Body) -> Message:
        try:
            chunk, more = await body.pull()
        except Exception as error:  # of the test's own iterator: its client fails, and the test is told why
            self.note_error(error)
            self.leave()
            return {"type": "http.disconnect"}
        if not more:
            self._body = None
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def send(self, message: Message) -> None:
        if self.left:
            raise ClientLeft("The client has disconnected.")
        hold = Event()
        self._holds.append(hold)
        if len(self._holds) <= self.ahead:
            hold.set()
        await super().send(message)
        await hold.wait()


def client_scope(environ: WSGIEnvironment) -> Scope:
    """The scope of a test client's request."""
    scope = build_scope(environ)
    scope[IN_PROCESS] = True
    if PRESERVE in environ:
        scope[PRESERVE] = environ[PRESERVE]
    return scope


def decode_headers(raw: RawHeaders) -> Headers:
    return Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])


def call_asgi(app: ASGIApp, environ: WSGIEnvironment, buffered: bool) -> tuple[Iterator[bytes], str, Headers]:
    """What `werkzeug.test.run_wsgi_app` gives, over ASGI: ``(body, status, headers)``.

    A body of unknown length is made as it is read, unless `buffered`.
    """
    file = environ["wsgi.input"]
    transport = Transport(app, client_scope(environ), FileBody(file, get_content_length(environ)))
    status, raw = wait_for(_begin(transport, copy_context()))
    headers = decode_headers(raw)
    pieces = Pieces(transport, file)
    whole = buffered or "Content-Length" in headers
    return iter(list(pieces)) if whole else pieces, str(status), headers


async def _begin(transport: Transport, context: Context) -> tuple[int, RawHeaders]:
    transport.begin(context)
    return await transport.start()


class Pieces(Iterator[bytes]):
    """A response's body for sync code. One that is dropped unread lets the application go."""

    def __init__(self, transport: Transport, request_body: t.IO[bytes]) -> None:
        self.transport = transport
        self.request_body = request_body

    def __next__(self) -> bytes:
        piece = wait_for(self.transport.read())
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        if not self.transport.complete:
            wait_for(self.transport.close())
        rewind(self.request_body)

    def __del__(self) -> None:
        self.transport.dismiss()


def rewind(body: t.IO[bytes]) -> None:
    """A redirect that keeps the method sends the body again."""
    if not body.closed and body.seekable():
        body.seek(0)
