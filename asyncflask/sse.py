"""Server-sent events (WHATWG HTML, 9.2): a response that goes on for as long as its source gives events.

On a loop the source is iterated by a task of its own, one for each client, so that a ping does not disturb it while it
waits. Both go in step: the next event is asked for when the last one was sent. That task is cancelled when the client
leaves, and when the application ends.
"""

from __future__ import annotations

import re
import typing as t
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable

from . import json
from .bridge import current_loop, cv_home, run_in_thread
from .globals import _cv_request
from .steps import DRIVEN
from .streaming import stream_with_context
from .waiting import Event, shield
from .workers import RequestLane

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

    from .shutdown import ShutdownEvent
    from .typing import HeadersValue
    from .wrappers import Response

Dumps = Callable[[t.Any], str]

# A comment: no client shows it, and every proxy sees that the connection lives.
PING = b":\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second one is nginx's
_LINE_END = re.compile(r"\r\n|\r|\n")
_END: t.Any = object()


class ServerSentEvent:
    """One event. `data` is text, or anything else to send as JSON; `retry` is in milliseconds. Raises ValueError."""

    __slots__ = ("comment", "data", "event", "id", "retry")

    def __init__(
        self,
        data: t.Any = None,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        _refuse_characters("event", event, "\r\n")
        _refuse_characters("id", id, "\r\n\0")  # a client ignores an id with NUL
        if retry is not None and (type(retry) is not int or retry < 0):
            raise ValueError(f"'retry' is a whole number of milliseconds, not {retry!r}.")
        self.data: t.Any = data
        self.event: str | None = event
        self.id: str | None = id
        self.retry: int | None = retry
        self.comment: str | None = comment

    def encode(self, dumps: Dumps = json.dumps) -> bytes:
        """As it is sent: one `data` line for each line of text, and an empty line at the end."""
        data = self.data if self.data is None or isinstance(self.data, str) else dumps(self.data)
        fields = (("event", self.event), ("id", self.id), ("retry", self.retry))
        lines = [f": {line}" for line in _lines(self.comment)]
        lines += [f"{name}: {value}" for name, value in fields if value is not None]
        lines += [f"data: {line}" for line in _lines(data)]
        return "\n".join([*lines, "", ""]).encode()

    def __repr__(self) -> str:
        given = (f"{name}={getattr(self, name)!r}" for name in self.__slots__ if getattr(self, name) is not None)
        return f"{type(self).__name__}({', '.join(given)})"


def _refuse_characters(name: str, value: str | None, characters: str) -> None:
    if value is not None and not set(characters).isdisjoint(value):
        raise ValueError(f"'{name}' must not contain a line end or NUL: {value!r}.")


def _lines(text: str | None) -> list[str]:
    # Not by splitlines, which knows more line ends than a client does.
    return [] if text is None else _LINE_END.split(text)


def _encode(item: t.Any, dumps: Dumps) -> bytes:
    return (item if isinstance(item, ServerSentEvent) else ServerSentEvent(item)).encode(dumps)


def sse(
    source: AsyncIterable[t.Any] | Iterable[t.Any],
    *,
    ping: float | None = 15,
    retry: int | None = None,
    headers: HeadersValue | None = None,
) -> Response:
    """A response that sends each of the source's items as an event: text, a ServerSentEvent, or something for JSON.

    A comment is sent after `ping` seconds without an event. `retry`: milliseconds that a client waits to reconnect.
    """
    if isinstance(source, str | bytes | dict) or not isinstance(source, AsyncIterable | Iterable):
        raise TypeError(f"sse() takes an iterable of events, sync or async, not {source!r}.")
    ctx = _cv_request.get(None)
    if ctx is None:
        raise RuntimeError("'sse' can only be used while a request context is active, as in a view function.")
    app = ctx.app
    # Something is sent at once: some servers hold the head back until then, and the client learns that it is connected.
    opening = PING if retry is None else ServerSentEvent(retry=retry).encode()
    body: t.Any
    if ctx.place is DRIVEN and isinstance(source, Iterable):
        body = _generate(stream_with_context(iter(source)), opening, app.json.dumps, app.shutdown_event)
    else:
        items = aiter(source) if isinstance(source, AsyncIterable) else _iterate_in_thread(iter(source))
        feed = _Feed(stream_with_context(items), app.json.dumps, ctx.place is DRIVEN)
        body = _stream(feed, opening, ping, app.shutdown_event)
    response: Response = app.response_class(body, content_type="text/event-stream", headers=HEADERS)
    response.headers.update(headers or {})
    return response


def _generate(items: t.Any, opening: bytes, dumps: Dumps, ending: ShutdownEvent) -> Generator[bytes]:
    """Under WSGI a sync source needs no loop. Nobody pings while it holds the server's thread."""
    try:
        yield opening
        for item in items:
            yield _encode(item, dumps)
            if ending.is_set():
                break
    finally:
        items.close()


async def _iterate_in_thread(items: t.Any) -> AsyncGenerator[t.Any]:
    """A sync source over ASGI, in the request's thread. One that waits there holds the thread."""
    try:
        while (item := await run_in_thread(next, items, _END)) is not _END:
            yield item
    finally:
        if hasattr(items, "close"):
            await run_in_thread(items.close)  # once the thread has left it


async def _stream(feed: _Feed, opening: bytes, ping: float | None, ending: ShutdownEvent) -> AsyncGenerator[bytes]:
    """The events and pings of one client, until the source or the application ends."""
    yield opening
    feed.start()
    ending.add_callback(feed.loop, feed.end)
    if ending.is_set():  # before it could be told
        feed.end()
    try:
        while (piece := await feed.next(ping)) is not _END:
            yield piece
            feed.note_sent()
    finally:
        ending.remove_callback(feed.loop, feed.end)
        await shield(feed.stop())
    feed.raise_error()


class _Feed:
    """A source that is iterated by a task, and the pieces between it and the response."""

    loop: AbstractEventLoop
    task: Task[None]
    ended: bool = False

    def __init__(self, items: t.Any, dumps: Dumps, driven: bool) -> None:
        self.items = items
        self.dumps = dumps
        self.driven = driven
        self.pieces: deque[t.Any] = deque()
        self.arrival, self.sent, self.end_of_task = Event(), Event(), Event()

    def start(self) -> None:
        self.loop = current_loop()
        self.task = self.loop.create_task(self._run())
        self.task.add_done_callback(self._note_end)

    def _note_end(self, task: object) -> None:
        self._put(_END)
        self.end_of_task.set()

    def _put(self, piece: t.Any) -> None:
        self.pieces.append(piece)
        self.sent.clear()
        self.arrival.set()

    def note_sent(self) -> None:
        if not self.pieces:
            self.sent.set()

    async def _run(self) -> None:
        if self.driven and not isinstance(cv_home.get().lane, RequestLane):
            # A WSGI server's thread serves the source's sync calls only while it waits for a piece.
            cv_home.set(t.cast(t.Any, None))
        try:
            async for item in self.items:
                if self.ended:  # it took no notice of its cancellation
                    break  # pragma: no cover  # CPython 3.11 traces no line after a throw that a generator caught
                self._put(_encode(item, self.dumps))
                await self.sent.wait()
        finally:
            await shield(self.items.aclose())

    async def next(self, ping: float | None) -> t.Any:
        """The next piece to send, which is a ping if the source has none in time; _END at the end."""
        if ping is None:
            return await self._take()
        timer = self.loop.call_later(ping, self._put, PING)
        try:
            return await self._take()
        finally:
            timer.cancel()

    async def _take(self) -> t.Any:
        while not self.pieces:
            self.arrival.clear()
            await self.arrival.wait()
        return self.pieces.popleft()

    def end(self) -> None:
        self.ended = True
        self.task.cancel()

    async def stop(self) -> None:
        """End, and wait until the source is closed."""
        self.end()
        await self.end_of_task.wait()

    def raise_error(self) -> None:
        """What the source raised, if it did not just end or was made to."""
        task = self.task
        del self.task  # its error's traceback holds this feed: no cycle
        try:
            if not task.cancelled():
                task.result()
        finally:
            del task
