"""To know that a client has left. Loaded by those who ask, or who stream a response.

Only one may call a request's `receive` at a time. While somebody watches, it is the Watch that does; it keeps what
comes of the body for its reader, and goes on until so much is kept that only reading would make room.
"""

from __future__ import annotations

import typing as t
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context

from .body import BodyReader
from .bridge import current_loop
from .waiting import Event, pause

if t.TYPE_CHECKING:
    from asyncio import Task

    from .typing import Message, Receive
    from .wrappers import Request

MOST_KEPT = 256 * 1024  # bytes of a body, before its reader comes
_GONE: Message = {"type": "http.disconnect"}
_LOOKS = 2  # turns of the loop in which a message that has arrived already is taken


class Departure(Event):
    """Set when the client leaves, at the latest when the request is over. `await` it, or call `wait()`."""

    def __await__(self) -> Generator[t.Any, None, t.Literal[True]]:
        return self.wait().__await__()


class Watch:
    """Receives for `reader`, and tells when the client leaves: `is_gone` is set, and `on_gone` called, once."""

    __slots__ = (
        "__weakref__", "_changed", "_departure", "_ended", "_ends", "_is_over", "_kept", "_may_receive", "_server",
        "_size", "_task", "is_gone", "on_gone", "reader",
    )  # fmt: skip

    def __init__(self, reader: BodyReader) -> None:
        self.reader: BodyReader = reader
        self.is_gone: bool = False
        self.on_gone: Callable[[], object] | None = None
        self._departure: Departure | None = None
        self._server: Receive = reader.receive
        self._kept: deque[Message] = deque()
        self._size: int = 0
        self._ended: bool = reader.complete
        self._ends: int = 0  # a server may still tell of the end of a body that was read or let go, but once
        self._may_receive: bool = not reader.receiving  # else a reader is at it: this one is next
        self._changed: Event | None = None
        self._is_over: bool = False
        reader.watch = self
        reader.receive = self._take
        self._task: Task[None] = current_loop().create_task(self._run(), context=Context())

    @property
    def departure(self) -> Departure:
        if self._departure is None:
            self._departure = Departure()
            if self.is_gone:
                self._departure.set()
        return self._departure

    def go_on(self) -> None:
        """The reader has received, or gives up."""
        self._may_receive = True
        self._tell()

    def close(self) -> None:
        self.on_gone = None
        self.reader.watch, self.reader.receive = None, self._server
        self._task.cancel()
        del self._task  # an error's traceback holds the frames that hold this: no cycle
        if not self.is_gone:
            self._leave()

    async def _run(self) -> None:
        try:
            while self._ends < 2:
                while not self._has_room():
                    await self._wait()
                message = _GONE if self.reader.disconnected else await self._server()
                if message["type"] == "http.disconnect":
                    self._leave()
                    break
                self._keep(message)
        finally:
            self._is_over = True
            self._tell()  # a reader that waits

    def _has_room(self) -> bool:
        return self._may_receive and (self._size < MOST_KEPT or self._ended or self.reader.given_up)

    def _keep(self, message: Message) -> None:
        if not self._ended and not self.reader.given_up:
            self._kept.append(message)
            self._size += len(message.get("body", b""))
            self._tell()
        if not message.get("more_body", False):
            self._ended = True
            self._ends += 1

    def _leave(self) -> None:
        self.is_gone = True
        if self._departure is not None:
            self._departure.set()
        if self.on_gone is not None:
            self.on_gone()

    async def _take(self) -> Message:
        """What the reader calls for the server's `receive`."""
        while not self._kept:
            if self._is_over:
                return _GONE
            await self._wait()
        message = self._kept.popleft()
        self._size -= len(message.get("body", b""))
        self._tell()
        return message

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = Event()
        self._changed.clear()
        await self._changed.wait()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()


def watch_of(request: Request) -> Watch | None:
    """The request's one Watch, begun at first use; None where there is nothing to receive from: under WSGI."""
    reader = request._reader
    if reader is None:
        if request._receive is None:
            return None
        reader = request._reader = BodyReader(request._receive, None)
        reader.complete = True
    return reader.watch or Watch(reader)


def departure_of(request: Request) -> Departure:
    watch = watch_of(request)
    return Departure() if watch is None else watch.departure


async def is_gone(request: Request) -> bool:
    watch = watch_of(request)
    if watch is None:
        return False
    for _ in range(_LOOKS):
        if watch.is_gone:
            break
        await pause()
    return watch.is_gone
