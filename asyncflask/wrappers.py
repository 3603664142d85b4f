"""Request and Response: Werkzeug's, made from a WSGI environ or from an ASGI scope.

A request is built for every call and read rarely, so each field is computed when it is first asked for. `environ` is
one mutable dict for the whole request; over ASGI it is made at first use.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from functools import cache, lru_cache
from http import HTTPStatus
from io import BytesIO
from tempfile import SpooledTemporaryFile
from urllib.parse import quote

from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.datastructures.structures import iter_multi_items
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header
from werkzeug.utils import cached_property, get_content_type
from werkzeug.wrappers import Request as RequestBase, Response as ResponseBase
from werkzeug.wsgi import ClosingIterator

from . import json
from .body import AsyncInput, AsyncReading, BodyStream, LimitedBody, MemoryBody, declares_too_much, open_input
from .bridge import wait_for
from .environ import READER, ScopeHeaders, build_environ, check_host, decode, path_info, server_of
from .forgiving import ForgivingHeaders, make_conditional
from .forms import FormParser
from .globals import _cv_app, _cv_request, current_app
from .gone import missing_from
from .shortage import answering_shortages

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.routing import Rule

    from .body import BodyFile, BodyReader
    from .multipart import Parts
    from .typing import Receive, Scope
    from .watching import Departure


_FORM_TYPES = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
_SMALL_JSON = 64 * 1024  # bytes, below which nobody asks where they are read


@cache
def _split_blueprint_path(name: str) -> list[str]:
    """ "a.b.c" -> ["a.b.c", "a.b", "a"]: a nested blueprint's names, its own first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _decodable(query: bytes) -> bytes:
    """Percent-encoded where it is no UTF-8: Werkzeug decodes it, and a client's bytes must not raise."""
    if query.isascii():
        return query
    try:
        query.decode()
    except UnicodeDecodeError:
        return quote(query, safe=_ASCII).encode()
    return query


_ASCII = bytes(range(0x20, 0x7F))


class _Field:
    """An attribute computed from the scope or the environ when first read, then kept in the instance."""

    def __init__(self, from_scope: Callable[[Scope], t.Any], from_environ: Callable[[WSGIEnvironment], t.Any]) -> None:
        self.from_scope = from_scope
        self.from_environ = from_environ

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, request: Request | None, owner: type) -> t.Any:
        if request is None:
            return self
        scope = request._scope
        value = self.from_environ(request.environ) if scope is None else self.from_scope(scope)
        setattr(request, self.name, value)
        return value


class _LazyEnviron:
    """`Request.environ` over ASGI, where few requests need one. Under WSGI it is a plain attribute."""

    def __get__(self, request: Request | None, owner: type) -> t.Any:
        if request is None:
            return self
        request.has_environ = True
        request.environ = build_environ(t.cast("Scope", request._scope), request._input)
        request.environ["werkzeug.request"] = request  # let go when the context closes
        return request.environ


class _Limit:
    """A limit whose excess is answered with 413: the request's own, else the application's config, else Werkzeug's."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, request: Request | None, owner: type) -> t.Any:
        if request is None:
            return self
        value = request.__dict__.get(self.name)
        if value is None:
            ctx = _cv_app.get(None)
            value = getattr(RequestBase, self.name) if ctx is None else ctx.app.config[self.key]
        return value

    def __set__(self, request: Request, value: int | None) -> None:
        request.__dict__[self.name] = value


class Request(ForgivingHeaders, RequestBase):
    """Flask's request. Made from an environ, or over ASGI by `from_scope`."""

    json_module: t.Any = json
    url_rule: Rule | None = None
    view_args: dict[str, t.Any] | None = None
    routing_exception: HTTPException | None = None
    _scope: Scope | None = None
    _stream: t.IO[bytes] | None = None
    # What the client sends, over ASGI. The reader exists where there is a body, or once somebody asks for the client.
    _receive: Receive | None = None
    _reader: BodyReader | None = None
    # Whether these were made; to look into `__dict__` would cost each request more.
    has_environ: bool = False
    _has_form = False
    _form_ahead: tuple[tuple[int | None, ...], Exception | None, t.Any, t.Any] | None = None

    if not t.TYPE_CHECKING:  # declared by Werkzeug, set in its initialiser; here they wait until they are asked for
        environ = _LazyEnviron()
        scheme = _Field(
            lambda scope: scope.get("scheme", "http"), lambda environ: environ.get("wsgi.url_scheme", "http")
        )
        server = _Field(lambda scope: scope.get("server"), server_of)
        root_path = _Field(
            lambda scope: scope.get("root_path", "").rstrip("/"),
            lambda environ: decode(environ.get("SCRIPT_NAME") or "").rstrip("/"),
        )
        path = _Field(
            lambda scope: "/" + path_info(scope).lstrip("/"),
            lambda environ: "/" + decode(environ.get("PATH_INFO") or "").lstrip("/"),
        )
        query_string = _Field(
            lambda scope: _decodable(scope.get("query_string", b"")),
            lambda environ: _decodable(environ.get("QUERY_STRING", "").encode("latin-1")),
        )
        headers = _Field(lambda scope: ScopeHeaders(scope["headers"]), EnvironHeaders)
        remote_addr = _Field(
            lambda scope: scope["client"][0] if scope.get("client") else None,
            lambda environ: environ.get("REMOTE_ADDR"),
        )
        max_content_length = _Limit("MAX_CONTENT_LENGTH")
        max_form_memory_size = _Limit("MAX_FORM_MEMORY_SIZE")
        max_form_parts = _Limit("MAX_FORM_PARTS")

    def __init__(self, environ: WSGIEnvironment, populate_request: bool = True, shallow: bool = False) -> None:
        self.environ = environ
        self.has_environ = True
        self.method: str = environ.get("REQUEST_METHOD", "GET").upper()
        self.shallow = shallow
        if populate_request and not shallow:
            environ["werkzeug.request"] = self

    @classmethod
    def from_scope(cls, scope: Scope, stream: t.IO[bytes] | None) -> t.Self:
        """A request of an ASGI http scope; `stream` is its body, None if it has none."""
        if cls.__init__ is not Request.__init__:  # a subclass that expects an environ gets one
            return cls(build_environ(scope, stream or BytesIO()))
        request = cls.__new__(cls)
        request._scope = scope
        request._stream = stream
        request.method = scope["method"]  # in upper case already
        request.shallow = False
        return request

    @cached_property
    def _input(self) -> t.IO[bytes]:
        return self._stream or MemoryBody()

    @property
    def last_event_id(self) -> str | None:
        """The id of the last server-sent event that the client saw before it lost the connection."""
        value = self.headers.get("Last-Event-ID")
        return None if value is None else decode(value)

    async def send_early_hints(self, links: Iterable[str]) -> bool:
        """Send a 103 with these values of Link headers before the response. False where the server cannot."""
        from .extensions import send_early_hints

        return await send_early_hints(self, links)

    def _replace_input(self, stream: t.IO[bytes]) -> None:
        if self._scope is not None:
            self._stream = vars(self)["_input"] = stream
        if self.has_environ:
            self.environ["wsgi.input"] = stream

    @property
    def endpoint(self) -> str | None:
        return None if self.url_rule is None else self.url_rule.endpoint

    @property
    def blueprint(self) -> str | None:
        """The (dotted) name under which the current blueprint is registered."""
        endpoint = self.endpoint
        return endpoint.rpartition(".")[0] if endpoint is not None and "." in endpoint else None

    @property
    def blueprints(self) -> list[str]:
        """The current blueprint's name and its parents', its own first."""
        name = self.blueprint
        return [] if name is None else _split_blueprint_path(name)

    @cached_property
    def host(self) -> str:
        """As the client says, if it can be one: else "", as Werkzeug has it for characters that are not allowed."""
        return check_host(super().host)

    @cached_property
    def stream(self) -> BodyFile:
        """The body as a file; also `async for chunk in request.stream`. Raises RequestEntityTooLarge over the limit."""
        if self.shallow:
            return super().stream  # type: ignore[return-value]  # it refuses
        limit = self.max_content_length
        if limit is None and type(self._stream) is MemoryBody and not self.has_environ:
            return t.cast("BodyFile", self._stream)  # most bodies over ASGI
        if declares_too_much(self, limit):
            raise RequestEntityTooLarge()
        if self._scope is None:
            stream = open_input(self.environ)
        else:
            stream = self.input_stream if self.has_environ else self._input
        if isinstance(self._stream, BodyStream):
            self._stream.reader.claimed = True
        if isinstance(stream, MemoryBody | BodyStream) and (limit is None or stream.fits(limit)):
            return t.cast("BodyFile", stream)
        if not isinstance(stream, AsyncReading) and (ctx := _cv_request.get(None)) is not None and ctx.plan.has_async:
            stream = t.cast("t.IO[bytes]", AsyncInput(stream, ctx.plan.streams_body))
        return t.cast("BodyFile", stream if limit is None else LimitedBody(stream, limit))

    def stream_parts(self) -> Parts:
        """The parts of a multipart form, each as it arrives: `async for part in ...`, or `for` in sync code.

        Raises UnsupportedMediaType for other bodies.
        """
        return self._parts

    @cached_property
    def _parts(self) -> Parts:
        from .multipart import parts_of

        return parts_of(self)

    async def is_disconnected(self) -> bool:
        """Whether the client has left. Always False under WSGI, which does not say."""
        from .watching import is_gone

        return await is_gone(self)

    @property
    def disconnected(self) -> Departure:
        """For async code: `await request.disconnected` returns when the client leaves, or the request is over."""
        from .watching import departure_of

        return departure_of(self)

    form_data_parser_class: type[FormDataParser] = FormParser

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> t.IO[bytes]:
        """A file in memory up to BODY_SPOOL_SIZE bytes, beyond on disk."""
        ctx = _cv_app.get(None)
        if ctx is None:
            return super()._get_file_stream(total_content_length, content_type, filename, content_length)
        return t.cast("t.IO[bytes]", SpooledTemporaryFile(max_size=ctx.app.config["BODY_SPOOL_SIZE"]))

    def _get_stream_for_parsing(self) -> t.IO[bytes]:
        stream = super()._get_stream_for_parsing()
        limit = self.max_form_memory_size
        # Such a form is wholly in memory while it is parsed; Werkzeug bounds only the fields of multipart forms.
        if limit is None or self.mimetype != "application/x-www-form-urlencoded":
            return stream
        return t.cast("t.IO[bytes]", LimitedBody(stream, limit))

    def _parse_content_type(self) -> None:
        if not hasattr(self, "_parsed_content_type"):
            value = self.headers.get("Content-Type", "")
            self._parsed_content_type = parse_options_header(value) if ";" in value else (value.strip(" \t"), {})

    @property
    def want_form_data_parsed(self) -> bool:
        return bool(self.headers.get("Content-Type"))

    def close(self) -> None:
        """Close uploaded files, if there are any."""
        if self._has_form:
            super().close()
        if self._form_ahead is not None:
            _close_files(self._form_ahead[3])

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> t.Any:
        """Over ASGI raises RequestEntityTooLarge beyond MAX_JSON_SIZE."""
        reader = self._reader or (self.environ.get(READER) if self.has_environ else None)
        if reader is not None and (reader.received > _SMALL_JSON or not reader.complete):
            parsed = cache and self._cached_json[silent] is not ...
            if not parsed and (force or self.is_json):  # else there is nothing to be parsed
                self._refuse_large_json(reader)
        return super().get_json(force, silent, cache)

    def _refuse_large_json(self, reader: BodyReader) -> None:
        # The decoder is C code: in a thread, too, it lets nothing else run, the loop least of all.
        limit = current_app.config["MAX_JSON_SIZE"]
        if limit is None:
            return
        size = self.content_length
        if size is None and (reader.complete or getattr(self, "_cached_data", None) is not None):
            size = reader.received
        elif size is None:
            data = self.stream.read(limit + 1)  # no more: the rest stays with the client
            size = len(data)
            if size > limit:  # nobody may take what is left for the whole
                t.cast(BodyStream, self._stream or self.environ["wsgi.input"]).refused = True
            else:
                self._cached_data = data
        if size > limit:
            current_app.logger.warning("A JSON document of %s bytes or more was refused: see MAX_JSON_SIZE.", size)
            raise RequestEntityTooLarge("The JSON document is too large.")

    def _form_limits(self) -> tuple[int | None, ...]:
        return self.max_content_length, self.max_form_memory_size, self.max_form_parts

    def _parse_ahead(self) -> None:
        """In a thread, for a form on the disk: on the loop it could not be read and written without blocking."""
        if self.mimetype not in _FORM_TYPES:
            return
        limits = self._form_limits()
        error: Exception | None = None
        try:
            self._parse_form()
        except Exception as raised:  # for the view, if it asks for the form at all
            error = raised.with_traceback(None)
        fields = self.__dict__
        self._form_ahead = limits, error, fields.pop("form", None), fields.pop("files", None)
        fields.pop("stream", None)
        t.cast(BodyStream, self._stream).rewind()  # it may be the raw body that is wanted

    def _parse_form(self) -> None:
        with answering_shortages():
            super()._load_form_data()

    def _take_form_ahead(self) -> bool:
        """Whether the form is there, unless the limits were changed meanwhile, or some of the body read."""
        if self._form_ahead is None or "form" in self.__dict__:
            return False
        (limits, error, form, files), self._form_ahead = self._form_ahead, None
        stream = t.cast(BodyStream, self._stream)
        if limits != self._form_limits() or not stream.is_untouched():
            _close_files(files)
            return False
        if error is not None:
            raise error
        stream.seek_end()
        vars(self).update(stream=self.stream, form=form, files=files)
        return True

    def _load_form_data(self) -> None:
        self._has_form = True
        if not self._take_form_ahead():
            self._parse_form()
        if current_app and current_app.debug and self.mimetype != "multipart/form-data" and not self.files:
            from .debughelpers import attach_enctype_error_multidict

            attach_enctype_error_multidict(self)

    def on_json_loading_failed(self, e: ValueError | None) -> t.Any:
        try:
            return super().on_json_loading_failed(e)
        except BadRequest as error:
            if current_app and current_app.debug:
                raise
            # The parser's words stay inside: they quote the input.
            raise BadRequest() from error


def _close_files(files: t.Any) -> None:
    for _, file in iter_multi_items(files or ()):
        file.close()


class _LazyHeaders:
    """`Response.headers`, made when somebody looks at them: most JSON responses leave as they were made."""

    def __get__(self, response: Response | None, owner: type) -> t.Any:
        if response is None:
            return self
        headers = response.__dict__["headers"] = Headers()
        headers._list.extend(response.own_headers())  # which need no checks
        return headers


class Response(ResponseBase):
    """Flask's response: text/html, and a body that may also be an async iterable."""

    response: Iterable[str] | Iterable[bytes]
    # Set where the response is made in the short way, from the whole body.
    _whole: t.Sequence[bytes] = ()
    _content_type: tuple[str, bytes]
    _status: str = "200 OK"
    _status_code: int = 200
    direct_passthrough: bool = False
    # Headers after a stream's last piece, or a function that gives them then. Sent where server and client take them.
    trailers: Mapping[str, str] | Callable[[], t.Any] | None = None
    if not t.TYPE_CHECKING:
        headers = _LazyHeaders()

    default_mimetype: str | None = "text/html"
    json_module = json
    autocorrect_location_header = False

    def __init__(
        self,
        response: t.Any = None,
        status: int | str | HTTPStatus | None = None,
        headers: t.Any = None,
        mimetype: str | None = None,
        content_type: str | None = None,
        direct_passthrough: bool = False,
    ) -> None:
        if headers is None and content_type is None and not direct_passthrough and type(response) in (str, bytes):
            own_type = _content_type(self.default_mimetype if mimetype is None else mimetype)
            code = self.default_status if status is None else status
            if own_type is not None and type(code) is int and _starts_natively(type(self)):  # type: ignore[arg-type]
                # The body is at hand, as in nearly every response: what Werkzeug's initialisers would come to.
                self.response = self._whole = [response.encode() if type(response) is str else response]
                self._content_type = own_type
                self._on_close = []
                if code != 200:
                    self.status_code = code
                return
        super().__init__(response, status, headers, mimetype, content_type, direct_passthrough)

    def own_headers(self) -> list[tuple[str, str]]:
        """What Werkzeug would have put into the headers of such a response."""
        return [("Content-Type", self._content_type[0]), ("Content-Length", str(len(self._whole[0])))]

    def own_raw_headers(self) -> list[tuple[bytes, bytes]]:
        """`own_headers` as ASGI sends them."""
        return [(b"content-type", self._content_type[1]), (b"content-length", b"%d" % len(self._whole[0]))]

    def untouched_body(self) -> bytes | None:
        """The body, if all leaves as it was made here: nobody changed the body, nor looked at the headers."""
        whole = self._whole
        if self.response is whole and len(whole) == 1 and "headers" not in self.__dict__ and type(whole[0]) is bytes:
            return whole[0]
        return None

    @property
    def max_cookie_size(self) -> int:  # type: ignore[override]  # read only here, as in Flask
        """Bytes of a Set-Cookie header beyond which a warning is given. Config: MAX_COOKIE_SIZE."""
        ctx = _cv_app.get(None)
        return ResponseBase.max_cookie_size if ctx is None else t.cast(int, ctx.app.config["MAX_COOKIE_SIZE"])

    def make_conditional(self, request_or_environ: t.Any, *args: t.Any, **kwargs: t.Any) -> ResponseBase:
        environ = getattr(request_or_environ, "environ", request_or_environ)
        return make_conditional(super().make_conditional, environ, *args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether the body is an async iterable."""
        return hasattr(self.response, "__aiter__")

    def iter_encoded(self) -> Iterator[bytes]:
        if self.is_async:
            return _encode_all(iterate_sync(t.cast("AsyncIterable[t.Any]", self.response)), self.response)
        return _encode_all(self.response, self.response)

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        if self.is_async and "asgi.scope" in environ and environ["REQUEST_METHOD"] != "HEAD":
            return AsyncPassage(self)
        if self.is_async and self.direct_passthrough:
            return ClosingIterator(self.iter_encoded(), self.close)
        return super().get_app_iter(environ)


class AsyncPassage:
    """An async body on its way through WSGI middleware over ASGI. If nobody there iterates it, it stays async."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> t.Self:
        return self

    def __next__(self) -> bytes:
        if self._pieces is None:
            self._pieces = self._response.iter_encoded()
        return next(self._pieces)

    def __aiter__(self) -> AsyncIterator[t.Any]:
        return aiter(t.cast("AsyncIterable[t.Any]", self._response.response))

    async def aclose(self) -> None:
        body: t.Any = self._response.response
        if hasattr(body, "aclose"):
            await body.aclose()

    def close(self) -> None:
        if self._pieces is not None:
            t.cast(t.Any, self._pieces).close()
        self._response.close()


@cache
def _starts_natively(cls: t.Any) -> bool:
    """Whether a class of responses lets our initialiser do what Werkzeug's would."""
    native = cls.set_data is ResponseBase.set_data and cls.get_wsgi_headers is ResponseBase.get_wsgi_headers
    return native and bool(cls.automatically_set_content_length)


@lru_cache(maxsize=256)
def _content_type(mimetype: str | None) -> tuple[str, bytes] | None:
    """The Content-Type of a mimetype, as text and as ASGI sends it; None if Werkzeug had better look at it."""
    if mimetype is None or not re.fullmatch(r"[\w.+-]+/[\w.+-]+", mimetype, re.ASCII):
        return None
    full = get_content_type(mimetype, "utf-8")
    return full, full.encode("latin-1")


def _encode_all(pieces: Iterable[t.Any], source: t.Any) -> Iterator[bytes]:
    for piece in pieces:
        if type(piece) is bytes:
            yield piece
        elif type(piece) is str:
            yield piece.encode()
        else:
            yield encode(piece, source)


def encode(piece: t.Any, source: t.Any) -> bytes:
    """A piece of a body. Raises TypeError, which names what it came from."""
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    name = getattr(source, "__qualname__", type(source).__name__)  # a generator's is that of its function
    raise TypeError(f"A response's iterable must yield bytes or str, not {type(piece).__name__}, as {name!r} does.")


def iterate_sync(iterable: AsyncIterable[t.Any]) -> Iterator[t.Any]:
    """An async iterable for a WSGI server: each piece is awaited on the loop while the server's thread waits."""
    iterator: t.Any = aiter(iterable)
    context = copy_context()  # one for all pieces: a context that the first one pushes is popped by the last
    try:
        while (piece := wait_for(_next_piece(iterator), context)) is not _END:
            yield piece
    finally:
        if hasattr(iterator, "aclose"):
            wait_for(iterator.aclose(), context)


_END: t.Any = object()


async def _next_piece(iterator: AsyncIterator[t.Any]) -> t.Any:
    try:
        return await anext(iterator)
    except StopAsyncIteration:
        return _END


if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
