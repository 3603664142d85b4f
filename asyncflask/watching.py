"""To know that a client has left. Loaded by those who ask, or who stream a response.

Only one may call a request's `receive` at a time. While somebody watches, it is the Watch that does; it keeps what
comes of the body for its reader, and goes on until so much is kept that only reading would make room.
"""

from __future__ import annotations

import asyncio
import typing as t
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context

from .body import BodyReader

if t.TYPE_CHECKING:
    from .typing import Message
    from .wrappers import Request

MOST_KEPT = 256 * 1024  # bytes of a body, before its reader comes
_GONE: Message = {"type": "http.disconnect"}
_LOOKS = 2  # turns of the loop in which a message that has arrived already is taken


class Departure(asyncio.Event):
    """Set when the client leaves, at the latest when the request is over. `await` it, or call `wait()`."""

    def __await__(self) -> Generator[t.Any, None, t.Literal[True]]:
        return self.wait().__await__()


class Watch:
    """Receives for `reader`, and tells when the client leaves: `gone` is set and `on_gone` called, once."""

    def __init__(self, reader: BodyReader) -> None:
        self.reader = reader
        self.gone = Departure()
        self.on_gone: Callable[[], object] | None = None
        self._server = reader.receive
        self._kept: deque[Message] = deque()
        self._size = 0
        self._ended = reader.complete
        self._ends = 0  # a server may still tell of the end of a body that was read or let go, but once
        self._changed = asyncio.Event()
        self._may_receive = not reader.receiving  # else a reader is at it: this one is next
        reader.watch = self
        reader.receive = self._take
        self._task = asyncio.create_task(self._run(), context=Context())

    def go_on(self) -> None:
        """The reader has received, or gives up."""
        self._may_receive = True
        self._changed.set()

    def close(self) -> None:
        self.on_gone = None
        self.reader.watch, self.reader.receive = None, self._server  # no cycle
        self._task.cancel()
        self.gone.set()

    async def _run(self) -> None:
        try:
            while await self._receive():
                pass
        finally:
            self._changed.set()  # for a reader that waits

    async def _receive(self) -> bool:
        """One message more; False at the end."""
        while not self._has_room():
            self._changed.clear()
            await self._changed.wait()
        message = _GONE if self.reader.disconnected else await self._server()
        if message["type"] == "http.disconnect":
            self._leave()
            return False
        if not self._ended and not self.reader.given_up:
            self._kept.append(message)
            self._size += len(message.get("body", b""))
            self._changed.set()
        if not message.get("more_body", False):
            self._ended = True
            self._ends += 1
        return self._ends < 2

    def _has_room(self) -> bool:
        return self._may_receive and (self._size < MOST_KEPT or self._ended or self.reader.given_up)

    def _leave(self) -> None:
        self.gone.set()
        if self.on_gone is not None:
            self.on_gone()

    async def _take(self) -> Message:
        """What the reader calls for the server's `receive`."""
        while not self._kept:
            if self._task.done():
                return _GONE
            self._changed.clear()
            await self._changed.wait()
        message = self._kept.popleft()
        self._size -= len(message.get("body", b""))
        self._changed.set()
        return message


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
    return Departure() if watch is None else watch.gone


async def is_gone(request: Request) -> bool:
    watch = watch_of(request)
    if watch is None:
        return False
    for _ in range(_LOOKS):
        if watch.gone.is_set():
            break
        await asyncio.sleep(0)
    return watch.gone.is_set()
