"""Multipart bodies as they arrive: `request.stream_parts()` for views that must not wait for, nor store, a whole form.

The flow is written once, as generators that `yield` where they need the next piece of the body, and driven twice:
`_read` for sync views, `_read_async` for async ones.
"""

from __future__ import annotations

import typing as t
from collections.abc import Generator

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.sansio.multipart import Field, File, NeedData

from .body import CHUNK, AsyncReading
from .forms import Data, Decoder, Event

if t.TYPE_CHECKING:
    from werkzeug.datastructures import Headers

    from .wrappers import Request

T = t.TypeVar("T")
Flow = Generator[None, bytes, T]
Head = Field | File


class _Form:
    """The decoder of one body, and the part that it has reached."""

    def __init__(self, boundary: bytes, most_parts: int | None, most_memory: int | None) -> None:
        self.decoder: Decoder = Decoder(boundary, most_parts, most_memory)
        self.most_memory = most_memory
        self.head: Head | None = None
        self.goes_on: bool = False  # the part has more data
        self.size: int = 0  # of the part so far

    def go_to_next_part(self) -> Flow[Head | None]:
        """What is left of a part is passed over. None at the end of the form, where the body is read to its end."""
        while not self.decoder.is_over:
            event = yield from self._next_event()
            if isinstance(event, Head):
                self.head, self.goes_on, self.size = event, True, 0
                return event
        while (yield):
            pass
        self.head = None
        return None

    def next_chunk(self, head: Head) -> Flow[bytes]:
        """Data of the part, b"" at its end."""
        if head is not self.head:
            raise RuntimeError(f"The part {head.name!r} is over: the form is read in the order in which it arrives.")
        while self.goes_on:
            event = t.cast(Data, (yield from self._next_event()))
            self.goes_on = event.more_data
            self._count(head, len(event.data))
            if event.data:
                whole = event.data.obj
                return whole if type(whole) is bytes and len(whole) == len(event.data) else bytes(event.data)
        return b""

    def read(self, head: Head, limit: int | None) -> Flow[bytes]:
        """All that is left of the part. 413 beyond `limit` bytes, by default MAX_FORM_MEMORY_SIZE."""
        limit = self.most_memory if limit is None else limit
        whole = bytearray()
        while chunk := (yield from self.next_chunk(head)):
            whole += chunk
            if limit is not None and len(whole) > limit:
                raise RequestEntityTooLarge()
        return bytes(whole)

    def _next_event(self) -> Flow[Event]:
        while isinstance(event := self._decode(), NeedData) and not self.decoder.is_over:
            self.decoder.receive_data((yield) or None)
        return event

    def _decode(self) -> Event:
        try:
            return self.decoder.next_event()
        except ValueError as error:
            raise BadRequest("The multipart form is malformed, or it was cut short.") from error

    def _count(self, head: Head, size: int) -> None:
        self.size += size
        if isinstance(head, Field) and self.most_memory is not None and self.size > self.most_memory:
            raise RequestEntityTooLarge()


def _read(flow: Flow[T], stream: t.IO[bytes]) -> T:
    try:
        next(flow)
        while True:
            flow.send(stream.read(CHUNK))
    except StopIteration as stop:
        return t.cast(T, stop.value)


async def _read_async(flow: Flow[T], stream: AsyncReading) -> T:
    try:
        next(flow)
        while True:
            flow.send(await stream.take(CHUNK))
    except StopIteration as stop:
        return t.cast(T, stop.value)


class _Part:
    """One part of a form. A field has no filename; a file's is what the client says: not safe as a path."""

    def __init__(self, form: _Form, stream: t.Any, head: Head) -> None:
        self._form = form
        self._stream = stream
        self._head = head
        self.name: str | None = head.name
        self.filename: str | None = head.filename if isinstance(head, File) else None
        self.headers: Headers = head.headers

    @property
    def content_type(self) -> str | None:
        return self.headers.get("Content-Type")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.filename!r}>"


class Part(_Part):
    """A part for sync code: `for chunk in part`, or `part.read()`."""

    def __iter__(self) -> t.Self:
        return self

    def __next__(self) -> bytes:
        chunk = _read(self._form.next_chunk(self._head), self._stream)
        if not chunk:
            raise StopIteration
        return chunk

    def read(self, limit: int | None = None) -> bytes:
        """All that is left. 413 beyond `limit` bytes, by default MAX_FORM_MEMORY_SIZE."""
        return _read(self._form.read(self._head, limit), self._stream)


class AsyncPart(_Part):
    """A part for async code: `async for chunk in part`, or `await part.read()`."""

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await _read_async(self._form.next_chunk(self._head), self._stream)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def read(self, limit: int | None = None) -> bytes:
        """All that is left. 413 beyond `limit` bytes, by default MAX_FORM_MEMORY_SIZE."""
        return await _read_async(self._form.read(self._head, limit), self._stream)


class Parts:
    """The parts of a form, each as it arrives: `for part in parts`, or `async for part in parts` in async code."""

    def __init__(self, form: _Form, stream: t.Any) -> None:
        self._form = form
        self._stream = stream

    def __iter__(self) -> t.Self:
        return self

    def __next__(self) -> Part:
        head = _read(self._form.go_to_next_part(), self._stream)
        if head is None:
            raise StopIteration
        return Part(self._form, self._stream, head)

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> AsyncPart:
        head = await _read_async(self._form.go_to_next_part(), self._stream)
        if head is None:
            raise StopAsyncIteration
        return AsyncPart(self._form, self._stream, head)


def parts_of(request: Request) -> Parts:
    """Raises UnsupportedMediaType for other bodies, BadRequest where the boundary is missing."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType(
            f"The body is {request.mimetype or 'of no type'!r}, and only multipart/form-data comes in parts."
        )
    if request._has_form:
        raise RuntimeError("The form was parsed already: its parts are in request.form and request.files.")
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    try:
        form = _Form(boundary, request.max_form_parts, request.max_form_memory_size)
    except ValueError as error:
        raise BadRequest("The Content-Type names no boundary.") from error
    return Parts(form, request.stream)
