"""The client: connections with one request at a time under way, and answers read with as little work as possible."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import typing as t

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


class Answer(t.NamedTuple):
    status: int
    head: bytes
    body: bytes


class Cut(Exception):
    """The connection ended before the answer did; `data` is what came of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


def read_answer(data: bytes) -> Answer | None:
    """None: there is more to come."""
    head, ended, body = data.partition(b"\r\n\r\n")
    if not ended:
        return None
    length = LENGTH.search(head)
    if length is not None:
        is_whole = len(body) >= int(length[1])
    else:
        is_whole = CHUNKED.search(head) is not None and body.endswith(b"0\r\n\r\n")
        body = _unchunk(body) if is_whole else body
    return Answer(int(head[9:12]), head, body) if is_whole else None


def _unchunk(body: bytes) -> bytes:
    pieces = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        pieces.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    return b"".join(pieces)


class Line(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self) -> None:
        self.data = b""
        self.is_open = False
        self.wants_all = True
        self.waiter: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> Line:
        _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return line

    async def ask(self, request: bytes) -> Answer:
        """Raises Cut."""
        answer = await self._send(request, wants_all=True)
        if CLOSES.search(answer.head):
            self.leave()
        return answer

    async def begin(self, request: bytes) -> None:
        """Send it and wait for the answer's first bytes. Raises Cut."""
        await self._send(request, wants_all=False)

    async def _send(self, request: bytes, wants_all: bool) -> Answer:
        if not self.is_open:
            raise Cut(b"")
        self.data, self.wants_all = b"", wants_all
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.waiter

    def leave(self, reset: bool = False) -> None:
        """Close after what was written; or at once, which the server sees as an error."""
        self.is_open = False
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        else:
            self.transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = t.cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self.data += data
        answer = read_answer(self.data) if self.wants_all else Answer(0, b"", b"")
        if answer is not None and self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(Cut(self.data))


def run(coro: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
    """On uvloop where it is installed: the client is to need little of the machine."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(coro)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coro)
