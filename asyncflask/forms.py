"""Forms: what `request.form`, `request.files` and `request.stream_parts()` read a multipart body with (RFC 7578).

The results are Werkzeug's, and so are the classes. Its decoder copies each byte several times and searches with regular
expressions; here data is found by `bytes.find`, handed on as views of the pieces that arrived, and the result does not
depend on where these were cut.

    piece  -> receive_data -> next_event until NEED_DATA -> the next piece; None after the last
    events -> Field or File for each part, then its Data, the last of which has `more_data` False
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from io import BytesIO
from tempfile import SpooledTemporaryFile
from urllib.parse import parse_qsl, quote

from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser, MultiPartParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import NEED_DATA, Field, File, NeedData

from .body import BodyStream

# Lines should end in CR LF; CR or LF alone are common enough. Spaces may follow a boundary (RFC 2046 5.1.1).
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r\n?")
_CONTINUATION = re.compile(rb"(?:\r\n|[\r\n])[ \t]")
_NO_UTF_8 = re.compile("[\udc80-\udcff]+")
_SPACES = b" \t\v\f"
_LONGEST_BOUNDARY = 256  # bytes; 70 are allowed (RFC 2046 5.1.1). Patterns are made of it.
_MOST_SPACES = 512
_BOUNDARY_END = re.compile(rb"--|[ \t\v\f]{0,%d}(?:\r\n|[\r\n])" % _MOST_SPACES)
_MAY_BE_END = rb"(?=--|-?\Z|[ \t\v\f]{0,%d}(?:[\r\n]|\Z))" % _MOST_SPACES  # if what is still to come makes it one
_MOST_IN_VAIN = 16  # delimiters that are none; a pattern of their own is costly for the forms of everybody else
_MOST_HEADERS = 500_000  # bytes of one part's headers where nothing else limits them
_OURS = (BytesIO, SpooledTemporaryFile)  # files that take a view of bytes


class Data(t.NamedTuple):
    """Some of a part's data, as a view of the piece in which it came."""

    data: memoryview
    more_data: bool


Event = Field | File | Data | NeedData
Step = t.Callable[["Decoder"], Event]


class Decoder:
    """Pieces of a multipart body to events. ValueError where it is malformed or cut short.

    RequestEntityTooLarge beyond `most_parts`, or where a part's headers, or what comes before the first part, have more
    than `most_memory` bytes. The size of fields is the caller's business. After Data with `more_data` the piece is used
    up: another one is needed.
    """

    is_over: bool = False  # what follows the last part is of no interest

    def __init__(self, boundary: bytes, most_parts: int | None = None, most_memory: int | None = None) -> None:
        if not boundary or len(boundary) > _LONGEST_BOUNDARY or b"\r" in boundary or b"\n" in boundary:
            raise ValueError("The boundary is missing, too long, or has more than one line.")
        self.most_parts = most_parts
        self.most_headers: int = _MOST_HEADERS if most_memory is None else most_memory
        self.parts: int = 0
        self._step: Step = Decoder._pass_preamble
        self._delimiter = b"--" + boundary
        self._buffer: bytes = b""
        self._at = 0  # what is before was handed out
        self._searched = 0  # what is before was looked through in vain
        self._in_vain = 0  # delimiters that were only data
        self._lead = 0  # of a part's data that begins: the line break before it, which may be its boundary's too
        self._is_complete = False

    def receive_data(self, piece: bytes | None) -> None:
        """The next piece of the body, None at its end."""
        if piece is None:
            self._is_complete = True
            return
        rest = self._buffer[self._at :]
        self._buffer = rest + piece if rest else piece
        self._searched -= self._at
        self._at = 0

    def next_event(self) -> Event:
        return self._step(self)

    def _wait(self) -> NeedData:
        if self._is_complete:
            raise ValueError("The form was cut short.")
        return NEED_DATA

    def _pass_preamble(self) -> Event:
        """The first boundary may stand anywhere in a line: many omit the break before it."""
        found = self._buffer.find(self._delimiter, self._searched)
        while found >= 0 and not self._may_end_later(found):
            self._limit_headers(found)
            if self._go_beyond_boundary(found):
                return self.next_event()
            found = self._find_next(found)
        self._searched = found if found >= 0 else max(self._searched, len(self._buffer) - len(self._delimiter) + 1)
        self._limit_headers(len(self._buffer))
        return self._wait()

    def _read_headers(self) -> Event:
        blank = _BLANK_LINE.search(self._buffer, self._searched, self._at + self.most_headers + 4)
        if blank is None or (blank[0] == b"\r\r" and blank.end() == len(self._buffer)):  # LF may follow
            self._searched = max(self._at, len(self._buffer) - 3)
            self._limit_headers(len(self._buffer))
            return self._wait()
        self._limit_headers(blank.start())
        head = _make_head(_parse_headers(self._buffer[self._at : blank.start()]))
        self.parts += 1
        if self.most_parts is not None and self.parts > self.most_parts:
            raise RequestEntityTooLarge()
        self._lead = 2 if blank[0].endswith(b"\r\n") else 1
        self._at = self._searched = blank.end() - self._lead
        self._step = Decoder._read_data
        return head

    def _limit_headers(self, end: int) -> None:
        if end - self._at > self.most_headers:
            raise RequestEntityTooLarge()

    def _read_data(self) -> Event:
        """Data up to a boundary, or up to where one may have begun."""
        found = self._buffer.find(self._delimiter, self._searched)
        if found < 0:
            return self._hand_out(self._find_begun_boundary())
        while found >= 0:
            end = self._find_line_break(found)
            if end is not None:
                if self._may_end_later(found):
                    return self._hand_out(end)
                data = memoryview(self._buffer)[self._at + self._lead : end]
                if self._go_beyond_boundary(found):
                    return Data(data, False)
            found = self._find_next(found)
        return self._hand_out(self._find_begun_boundary())

    def _hand_out(self, end: int) -> Event:
        start = self._at + self._lead
        if end > self._searched:
            self._searched = end
        if end <= start or self._is_complete:
            return self._wait()
        self._at, self._lead = end, 0
        return Data(memoryview(self._buffer)[start:end], True)

    def _find_next(self, found: int) -> int:
        """The delimiter after one that was only data. In a flood of those, only C code is quick enough."""
        self._searched = found + len(self._delimiter)
        self._in_vain += 1
        if self._in_vain <= _MOST_IN_VAIN:
            return self._buffer.find(self._delimiter, self._searched)
        if self.parts:
            match = self._in_data.search(self._buffer, self._searched)
        else:  # no further than to what is too large
            most = self._at + self.most_headers + len(self._delimiter) + 1
            match = self._in_preamble.search(self._buffer, self._searched, most)
        return -1 if match is None else match.start()

    @cached_property
    def _in_preamble(self) -> re.Pattern[bytes]:
        return re.compile(re.escape(self._delimiter) + _MAY_BE_END)

    @cached_property
    def _in_data(self) -> re.Pattern[bytes]:
        delimiter = re.escape(self._delimiter)
        # The search is quick because the pattern begins with what is the same in all places.
        return re.compile(delimiter + rb"(?<=[\r\n]" + delimiter + rb")" + _MAY_BE_END)

    def _find_line_break(self, end: int) -> int | None:
        """Where the line break before `end` begins, if there is one."""
        before = self._buffer[max(self._at, end - 2) : end]
        if before == b"\r\n":
            return end - 2
        return end - 1 if before.endswith((b"\n", b"\r")) else None

    def _find_begun_boundary(self) -> int:
        """Where the last line begins, with its break before it, if it may become a boundary; else the buffer's end."""
        buffer = self._buffer
        least = max(self._at, len(buffer) - len(self._delimiter))
        last = max(buffer.rfind(b"\n", least), buffer.rfind(b"\r", least))
        if last < 0 or not self._delimiter.startswith(buffer[last + 1 :]):
            return len(buffer)
        return last - 1 if last > self._at and buffer[last - 1 : last + 1] == b"\r\n" else last

    def _may_end_later(self, found: int) -> bool:
        """Whether what is still to come decides if the delimiter at `found` ends a part, or where its line ends."""
        start = found + len(self._delimiter)
        rest = self._buffer[start : start + _MOST_SPACES + 2]
        if self._is_complete or len(rest) > _MOST_SPACES + 1:
            return False
        return rest == b"-" or rest.strip(_SPACES) in (b"", b"\r")

    def _go_beyond_boundary(self, found: int) -> bool:
        """To the next part, or to what follows the last one; False if the delimiter at `found` is only data."""
        match = _BOUNDARY_END.match(self._buffer, found + len(self._delimiter))
        if match is None:
            return False
        self.is_over = match[0] == b"--"
        self._step = Decoder._pass_epilogue if self.is_over else Decoder._read_headers
        self._at = self._searched = match.end()
        self._lead = 0
        return True

    def _pass_epilogue(self) -> Event:
        self._at = self._searched = len(self._buffer)
        return NEED_DATA


def _parse_headers(block: bytes) -> Headers:
    lines = (line.strip(b" \t") for line in _CONTINUATION.sub(b" ", block).splitlines())
    fields = (line.decode().partition(":") for line in lines if line)
    return Headers([(name.strip(" \t"), value.strip(" \t")) for name, _, value in fields])


def _quote_invalid(text: str) -> str:
    """Bytes that are no UTF-8 stay percent-encoded. Werkzeug asks a function about each, which a flood would use."""
    return _NO_UTF_8.sub(lambda found: quote(found[0], "", errors="surrogateescape"), text)


def _make_head(headers: Headers) -> Field | File:
    disposition = headers.get("Content-Disposition")
    if disposition is None:
        raise ValueError("A part has no Content-Disposition.")
    options = parse_options_header(disposition)[1]
    name, filename = t.cast(str, options.get("name")), options.get("filename")
    return Field(name, headers) if filename is None else File(name, filename, headers)


class FormParser(FormDataParser):
    """Werkzeug's parser of forms, but for how multipart ones are taken apart, and bytes that are no UTF-8."""

    def _parse_urlencoded(
        self, stream: t.IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> t.Any:
        text = stream.read().decode()
        try:
            fields = parse_qsl(text, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            escaped = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
            fields = [(_quote_invalid(name), _quote_invalid(value)) for name, value in escaped]
        return stream, self.cls(fields), self.cls()

    def _parse_multipart(
        self, stream: t.IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> t.Any:
        collector = Collector(
            self.stream_factory, self.max_form_memory_size, self.cls, max_form_parts=self.max_form_parts
        )
        return stream, *collector.parse(stream, options.get("boundary", "").encode("ascii"), content_length)


class Collector(MultiPartParser):
    """Pieces of a multipart body to fields and files: `begin`, `feed` each piece, then None; `result`."""

    def begin(self, boundary: bytes, content_length: int | None) -> None:
        self.decoder: Decoder = Decoder(boundary, self.max_form_parts, self.max_form_memory_size)
        self.content_length = content_length
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileStorage]] = []

    def parse(self, stream: t.IO[bytes], boundary: bytes, content_length: int | None) -> t.Any:
        self.begin(boundary, content_length)
        for piece in _pieces(stream, self.buffer_size):
            self.feed(piece)
        return self.result()

    def feed(self, piece: bytes | None) -> None:
        """After an error there are no files left open."""
        try:
            self.decoder.receive_data(piece)
            while not isinstance(event := self.decoder.next_event(), NeedData):
                if not isinstance(event, Data):
                    self._begin_part(event)
                    continue
                self.write(event.data)
                if event.more_data:
                    break
                self._end_part()
        except BaseException:
            self.close()
            raise

    def result(self) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
        return self.cls(self.fields), self.cls(self.files)

    def close(self) -> None:
        for _, file in self.files:
            file.close()

    def _begin_part(self, head: Field | File) -> None:
        self.head = head
        self.size: int = 0
        self.pieces: list[memoryview] = []
        if isinstance(head, File):
            stream = self.start_file_streaming(head, self.content_length)
            self.files.append((head.name, FileStorage(stream, head.filename, head.name, headers=head.headers)))
            self.write: Callable[[t.Any], object] = stream.write if type(stream) in _OURS else _WriteBytes(stream)
        else:
            self.write = self._keep

    def _keep(self, data: memoryview) -> None:
        self.size += len(data)
        if self.max_form_memory_size is not None and self.size > self.max_form_memory_size:
            raise RequestEntityTooLarge()
        self.pieces.append(data)

    def _end_part(self) -> None:
        if isinstance(self.head, File):
            self.files[-1][1].stream.seek(0)
        else:
            charset = self.get_part_charset(self.head.headers)
            self.fields.append((self.head.name, b"".join(self.pieces).decode(charset, "replace")))


class _WriteBytes:
    """`write` of a file of the user's, who may expect what Werkzeug gives it."""

    def __init__(self, file: t.IO[bytes]) -> None:
        self.file = file

    def __call__(self, data: memoryview) -> None:
        self.file.write(bytes(data))


def _pieces(stream: t.IO[bytes], size: int) -> Iterator[bytes | None]:
    if isinstance(stream, BodyStream):
        yield from stream.take_pieces()
    # What is in memory is not cut up.
    yield from iter(partial(stream.read, -1 if isinstance(stream, BytesIO) else size), b"")
    yield None
