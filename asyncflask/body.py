"""Request bodies over ASGI: read under limits, spooled to disk past a threshold, or read on from a worker thread.

What the first `receive()` brings is kept in memory; often that is all. A larger body is

    read through the event loop, piece by piece, when sync code in a worker thread reads it (nothing is stored), or
    read before the first async step (`load`), since sync access such as `request.form` cannot wait on the loop, or
    read by async code with `async for` (AsyncReading), where the route says `stream_body=True`.

A body that declares more than the limit is never read: the access raises 413. One that stalls gives 408.
"""

from __future__ import annotations

import io
import typing as t
from collections.abc import Awaitable, Generator, Iterator
from functools import partial
from tempfile import TemporaryFile
from types import CoroutineType, coroutine

from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, RequestTimeout
from werkzeug.wsgi import get_input_stream

from .bridge import _on_event_loop, run_in_thread, wait_for
from .shortage import answering_shortages
from .steps import DRIVEN
from .waiting import Begun, timeout

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .typing import Receive
    from .watching import Watch

T = t.TypeVar("T")
CHUNK = 64 * 1024
CRUMB = 1024
LOADED = "asyncflask.body_loaded"  # in an environ whose input is what was still to come of the body
MAX_DIGITS = 19  # of a Content-Length: more bytes than any disk has


class BodyReader:
    """Pieces of one request's body from `receive`.

    `timeout` in seconds bounds the wait for each piece; `left` is what of the declared length is still to come.
    """

    left: int | None = None
    received: int = 0  # bytes
    claimed: bool = False  # somebody reads on beyond the first piece
    given_up: bool = False
    complete: bool = False
    disconnected: bool = False
    receiving: bool = False
    watch: Watch | None = None  # which then receives in place of this

    def __init__(self, receive: Receive, timeout: float | None) -> None:
        self.receive = receive
        self.timeout = timeout

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises ClientDisconnected, RequestTimeout, BadRequest if the length lied."""
        if self.disconnected:
            raise ClientDisconnected()
        if self.given_up:
            raise RuntimeError(
                "The body was given up when the response began to stream. Read it, or take request.stream, before."
            )
        while not self.complete:
            self.receiving = True
            try:
                message = await (self.receive() if self.timeout is None else _within(self.receive(), self.timeout))
            except TimeoutError:
                raise RequestTimeout(f"No data of the request's body arrived for {self.timeout} seconds.") from None
            finally:
                self.receiving = False
                if self.watch is not None:
                    self.watch.go_on()
            if message["type"] == "http.disconnect":
                self.disconnected = True
                raise ClientDisconnected()
            self.complete = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            self.received += len(piece)
            if self.left is not None:
                self._count(piece)
            if piece:
                return piece
        return b""

    def give_up(self) -> None:
        """Let the rest go, if nobody reads it: what is received from now on tells of the client alone."""
        self.given_up = not self.complete and not self.claimed
        if self.watch is not None:
            self.watch.go_on()

    def close(self) -> None:
        """The request is over."""
        if self.watch is not None:
            self.watch.close()

    def _count(self, piece: bytes) -> None:
        self.left = t.cast(int, self.left) - len(piece)
        if self.left < 0 or (self.complete and self.left > 0):
            self.complete = True
            raise BadRequest("The body is not as long as its Content-Length says.")


@coroutine
def _within(awaitable: Awaitable[T], seconds: float) -> Generator[t.Any, t.Any, T]:
    """`awaitable` under a timer, or without one where its result is there: then a timer would be most of the work."""
    if type(awaitable) is not CoroutineType:
        return (yield from _wait_within(awaitable, seconds).__await__())
    try:
        command = awaitable.send(None)
    except StopIteration as stop:
        result: T = stop.value
    else:
        result = yield from _wait_within(Begun(awaitable, command), seconds).__await__()
    return result


async def _wait_within(awaitable: Awaitable[T], seconds: float) -> T:
    async with timeout(seconds):
        return await awaitable


class Spool:
    """A body on its way: in memory, and beyond `limit` bytes in a temporary file that takes about as many at a time.

    What is over the limit waits for the next piece, since it is in memory anyway.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size: int = 0
        self.on_disk: bool = False
        self.file: t.IO[bytes] = MemoryBody()
        self.pieces: list[bytes | bytearray] = []
        self.held: int = 0  # bytes in `pieces`

    @property
    def is_full(self) -> bool:
        return self.held > self.limit

    def add(self, piece: bytes) -> None:
        if len(piece) >= CRUMB:
            self.pieces.append(piece)
        else:  # thousands of them would be more objects than data
            if not self.pieces or type(self.pieces[-1]) is bytes or len(self.pieces[-1]) > CHUNK:
                self.pieces.append(bytearray())
            self.pieces[-1] += piece
        self.held += len(piece)
        self.size += len(piece)

    def write(self, piece: bytes) -> None:
        """`add` for those who may wait for the disk."""
        if self.is_full:
            self.flush()
        self.add(piece)

    def flush(self) -> None:
        with answering_shortages():
            if not self.on_disk:
                self.file, self.on_disk = TemporaryFile(), True
            self.file.writelines(self.pieces)
        self.pieces.clear()
        self.held = 0

    def rewind(self) -> t.IO[bytes]:
        """The whole as a file."""
        if self.on_disk:
            self.flush()
            self.file.seek(0)
        else:
            self.file = MemoryBody(b"".join(self.pieces))
        return self.file


class AsyncReading:
    """What a body offers to async code, beside the file that it is for sync code: `async for chunk in body`."""

    async def take(self, size: int) -> bytes:
        """The next piece, at most `size` bytes, b"" at the end."""
        raise NotImplementedError

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.take(CHUNK)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aread(self, size: int = -1) -> bytes:
        """`read` for async code: less than `size` only at the end."""
        pieces = []
        while size and (piece := await self.take(CHUNK if size < 0 else min(size, CHUNK))):
            pieces.append(piece)
            size = -1 if size < 0 else size - len(piece)
        return b"".join(pieces)


if t.TYPE_CHECKING:

    class BodyFile(AsyncReading, t.IO[bytes]):
        """What `request.stream` is."""


def refuse_on_loop() -> None:
    if _on_event_loop():
        raise RuntimeError(
            "This route streams its body (stream_body=True), and sync code cannot wait for it on the event loop: write"
            " 'async for chunk in request.stream', 'await request.stream.aread()' or 'async for part in"
            " request.stream_parts()'. Without stream_body the body is there before the view begins."
        )


class MemoryBody(AsyncReading, io.BytesIO):
    """A body that is at hand."""

    async def take(self, size: int) -> bytes:
        return self.read(size)

    def fits(self, limit: int) -> bool:
        return self.getbuffer().nbytes <= limit


class BodyStream(AsyncReading, io.RawIOBase):
    """A body as a file. Until `load` was called its rest is read through the loop, from a thread only.

    If it is `streamed`, sync code on the loop may not even read what is at hand: it would work with small bodies alone.
    """

    def __init__(self, reader: BodyReader, first: bytes, spool_size: int) -> None:
        self.reader = reader
        self.rest: memoryview = memoryview(first)
        self.spool_size = spool_size
        self.loaded: t.IO[bytes] | None = None
        self.pieces: list[bytes | bytearray] = []  # what `loaded` is to be made of, if it is in memory
        self.size: int = 0  # of what was loaded
        self.on_disk: bool = False
        self.refused: bool = False  # more than was loaded is not to be had
        self.streamed: bool = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        if self.loaded is not None:
            return t.cast("io.BytesIO", self._file()).readinto(buffer) or self._end()
        if self._begins_piece():
            self.rest = memoryview(wait_for(self.reader.read()))
        piece = self._cut(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    async def take(self, size: int) -> bytes:
        if self.loaded is not None:
            return await _take_from(self._file(), size) or bytes(self._end())
        self.reader.claimed = True
        if not self.rest and not self.reader.complete and not self._end():
            self.rest = memoryview(await self.reader.read())
        whole, piece = self.rest.obj, self._cut(size)
        return whole if type(whole) is bytes and len(whole) == len(piece) else bytes(piece)

    def _begins_piece(self) -> bool:
        """In sync code: whether the next piece is to be waited for."""
        self.reader.claimed = True
        needed = not self.rest and not self.reader.complete and not self._end()
        if needed or self.streamed:
            refuse_on_loop()
        return needed

    def _cut(self, size: int) -> memoryview:
        piece = self.rest[:size]
        self.rest = self.rest[len(piece) :]
        return piece

    def read(self, size: int = -1) -> bytes:
        """As a WSGI server's: less than `size` only at the end."""
        if self.loaded is not None and not self.refused:
            return self._file().read(size)
        pieces = []
        while size and (piece := super().read(size)):
            pieces.append(piece)
            size = -1 if size < 0 else size - len(piece)
        return b"".join(pieces)

    def readall(self) -> bytes:
        if self.loaded is not None or self.refused:
            return super().readall()
        self._begins_piece()
        pieces = [bytes(self.rest)]
        self.rest = memoryview(b"")
        while not self.reader.complete:
            pieces.append(wait_for(self.reader.read()))
        return b"".join(pieces)

    async def load(self, limit: int | None) -> None:
        """On the loop: read the rest, but not beyond the first byte over `limit`, where reading it gives 413."""
        spool = Spool(self.spool_size)
        self.loaded = spool.file
        piece = bytes(self.rest) or await self.reader.read()
        while piece:
            if limit is not None and spool.size + len(piece) > limit:
                piece = piece[: limit + 1 - spool.size]
                self.reader.complete = self.refused = True
            if spool.is_full:  # only what goes to the disk leaves the loop
                await run_in_thread(self._flush, spool)
            spool.add(piece)
            piece = await self.reader.read()
        self.size, self.on_disk = spool.size, spool.on_disk
        if spool.on_disk:
            await run_in_thread(spool.rewind)
        else:
            self.pieces = spool.pieces

    def _file(self) -> t.IO[bytes]:
        if self.pieces:
            self.loaded = MemoryBody(b"".join(self.pieces))
            self.pieces = []
        return t.cast("t.IO[bytes]", self.loaded)

    def rewind(self) -> None:
        """To the beginning of what was loaded."""
        self._file().seek(0)

    def seek_end(self) -> None:
        self._file().seek(0, io.SEEK_END)

    def is_untouched(self) -> bool:
        return self._file().tell() == 0

    def take_pieces(self) -> Iterator[bytes]:
        """What is in memory and unread, for one who needs no file. Each piece is let go when it is used."""
        pieces, self.pieces = self.pieces[::-1], []
        while pieces:
            yield bytes(pieces.pop())

    def fits(self, limit: int) -> bool:
        """Whether it is at hand, with at most so many bytes."""
        return self.loaded is not None and not self.refused and self.size <= limit

    def _flush(self, spool: Spool) -> None:
        try:
            spool.flush()
        finally:
            self.loaded = spool.file  # to be closed with this, come what may

    def _end(self) -> int:
        if self.refused:
            raise RequestEntityTooLarge()
        return 0

    def close(self) -> None:
        if self.loaded is not None:
            self.loaded.close()
        super().close()


def make_streamed(body: MemoryBody) -> BodyStream:
    """A body at hand as one that sync code on the loop may not read: as it would be with a larger one."""
    reader = BodyReader(t.cast("Receive", None), None)
    reader.complete = True
    return BodyStream(reader, body.getvalue(), 0)


class UnreadBody:
    """What an ASGI request still has to receive (`Host.unread`)."""

    def __init__(self, stream: BodyStream, request: t.Any) -> None:
        self.stream = stream
        self.request = request

    async def load(self, host: t.Any) -> None:
        limit = self.request.max_content_length
        if host.plan.streams_body:
            self.stream.streamed = True
        elif declares_too_much(self.request, limit):
            self.stream.refused = True
        elif host.place is DRIVEN:  # an overridden stage, in the request's thread
            wait_for(self.stream.load(limit))
        else:
            await self.stream.load(limit)
            if self.stream.on_disk:
                await run_in_thread(self.request._parse_ahead)
            if host.deadline is not None:  # this was the client's time
                host.deadline.begin()


class UnreadInput:
    """A WSGI request's body, read in the server's thread before its first async step."""

    def __init__(self, request: t.Any, spool_size: int) -> None:
        self.request = request
        self.spool: Spool = Spool(spool_size)

    async def load(self, host: t.Any) -> None:
        request = self.request
        limit = request.max_content_length
        if host.plan.streams_body or declares_too_much(request, limit):
            return
        # A hook may have read some of it already: what follows is the rest.
        stream = request.__dict__.pop("stream", None) or open_input(request.environ)
        for piece in iter(partial(stream.read, CHUNK), b""):
            self.spool.write(piece)
            if limit is not None and self.spool.size > limit:
                break
        request.environ["wsgi.input"] = self.spool.rewind()
        request.environ["wsgi.input_terminated"] = True
        request.environ[LOADED] = True


def open_input(environ: WSGIEnvironment) -> t.IO[bytes]:
    """Werkzeug's; but where the server says that it ends the body, what ends before its declared length raises."""
    stream = get_input_stream(environ)
    length = environ.get("CONTENT_LENGTH")
    if stream is not environ["wsgi.input"] or not length or LOADED in environ or isinstance(stream, AsyncReading):
        return stream
    return t.cast("t.IO[bytes]", DeclaredInput(stream, int(length)))


class DeclaredInput(io.RawIOBase):
    """A body of a declared length. gunicorn gives what came before its client left as if it were the whole."""

    def __init__(self, stream: t.IO[bytes], length: int) -> None:
        self.stream = stream
        self.left: int = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        try:
            piece = self.stream.read(size) if size else b""
        except OSError:  # the connection was reset
            raise ClientDisconnected() from None
        self.left -= len(piece)
        if len(piece) < size:  # a WSGI server gives less only at the end
            raise ClientDisconnected()
        return piece


def declares_too_much(request: t.Any, limit: int | None) -> bool:
    return limit is not None and request.content_length is not None and request.content_length > limit


class LimitedBody(AsyncReading, io.RawIOBase):
    """A body of unknown length that may have at most `limit` bytes: reading the next one raises 413."""

    def __init__(self, stream: t.IO[bytes], limit: int) -> None:
        self.stream = stream
        self.left: int = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        piece = self._count(self.stream.read(min(len(buffer), self.left + 1)))
        buffer[: len(piece)] = piece
        return len(piece)

    async def take(self, size: int) -> bytes:
        return self._count(await _take_from(self.stream, min(size, self.left + 1)))

    def _count(self, piece: bytes) -> bytes:
        self.left -= len(piece)
        if self.left < 0:
            self.left = 0
            raise RequestEntityTooLarge()
        return piece


class AsyncInput(AsyncReading, io.RawIOBase):
    """Another's file, such as `wsgi.input`, for async code: each piece is read in the request's thread."""

    def __init__(self, file: t.IO[bytes], streamed: bool) -> None:
        self.file = file
        self.streamed = streamed  # as in BodyStream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        if self.streamed:
            refuse_on_loop()
        piece = self.file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    async def take(self, size: int) -> bytes:
        return await _take_from(self.file, size)


async def _take_from(file: t.IO[bytes], size: int) -> bytes:
    if isinstance(file, AsyncReading):
        return await file.take(size)
    if isinstance(file, io.BytesIO):
        return file.read(size)
    return await run_in_thread(file.read, size)
