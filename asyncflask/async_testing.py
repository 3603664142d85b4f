"""The async test client: requests, streams and websockets in this process, on the loop of the test, and the lifespan.

What a request is made of, its cookies and where a redirect leads are FlaskClient's; here it is run.
"""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from types import TracebackType

from werkzeug.datastructures import Headers
from werkzeug.test import ClientRedirectError, TestResponse
from werkzeug.wrappers import Request as BaseRequest
from werkzeug.wsgi import get_content_length

from .steps import LOOP
from .testing import FlaskClient, open_session, save_session
from .transport import (
    Body,
    Conversation,
    FileBody,
    IteratedBody,
    Line,
    Transport,
    client_scope,
    decode_headers,
    rewind,
)
from .websocket import ABNORMAL, CLOSED, INTERNAL_ERROR, NO_STATUS, NORMAL, OPEN, WebsocketDisconnect, json_value

if t.TYPE_CHECKING:
    from .app import Flask
    from .sessions import SessionMixin
    from .typing import Message, Scope, WSGIEnvironment

_REDIRECTS = frozenset({301, 302, 303, 305, 307, 308})
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# RFC 6455 1.3; its key
_HANDSHAKE = {
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


class WebsocketResponseError(Exception):
    """The application refused a websocket, with `response`."""

    def __init__(self, response: TestResponse) -> None:
        super().__init__(f"The websocket was refused: {response.status}.")
        self.response = response


class LifespanError(Exception):
    """The application says that its start-up or its shutdown failed."""


class _RequestMaker(FlaskClient):
    """A FlaskClient that gives the request instead of a response."""

    def open(self, *args: t.Any, buffered: bool = False, **kwargs: t.Any) -> BaseRequest:  # type: ignore[override]
        request = self._make_request(args, kwargs)
        self._add_cookies_to_wsgi(request.environ)
        return request


def _verb(method: str) -> Callable[..., Awaitable[TestResponse]]:
    async def request(self: AsyncClient, *args: t.Any, **kwargs: t.Any) -> TestResponse:
        return await self.open(*args, **{**kwargs, "method": method})

    return request


class AsyncClient:
    """As FlaskClient, to be awaited. In an `async with` block a request's contexts stay until the next one."""

    def __init__(
        self,
        application: Flask,
        use_cookies: bool = True,
        allow_subdomain_redirects: bool = False,
        state: dict[str, t.Any] | None = None,
    ) -> None:
        """`state` is what the lifespan left for requests: each gets a copy in its scope."""
        self.application = application
        self.state = state
        self._maker = _RequestMaker(application, application.response_class, use_cookies, allow_subdomain_redirects)
        self._preserved = AsyncExitStack()
        self.environ_base = self._maker.environ_base
        self.get_cookie = self._maker.get_cookie
        self.set_cookie = self._maker.set_cookie
        self.delete_cookie = self._maker.delete_cookie

    async def open(self, *args: t.Any, follow_redirects: bool = False, **kwargs: t.Any) -> TestResponse:
        """Make a request and read its response. Arguments as FlaskClient's; `data` may be an async iterator."""
        request, body = self._make(args, kwargs)
        response = await self._answer(request, body)
        history: list[TestResponse] = []
        while follow_redirects and response.status_code in _REDIRECTS:
            response.history = tuple(history)
            history.append(response)
            response = await self._redirect(response, history, body)
        response.history = tuple(history)
        request.input_stream.close()
        return response

    get, post, put, delete = _verb("GET"), _verb("POST"), _verb("PUT"), _verb("DELETE")
    patch, options, head, trace = _verb("PATCH"), _verb("OPTIONS"), _verb("HEAD"), _verb("TRACE")

    def stream(self, method: str, *args: t.Any, **kwargs: t.Any) -> HTTPConnection:
        """`async with` it: a response whose pieces are read as they come. Leaving the block disconnects."""
        return HTTPConnection(self, *self._make(args, {**kwargs, "method": method}))

    def request(self, *args: t.Any, **kwargs: t.Any) -> HTTPConnection:
        """`async with` it: a request whose body is sent by `send` and `send_complete`, and a response as `stream`'s."""
        request, _ = self._make(args, kwargs)
        upload = Upload()
        if request.method not in _BODILESS_METHODS:
            _expect_pieces(request.environ)
        return HTTPConnection(self, request, upload)

    def websocket(self, *args: t.Any, subprotocols: t.Iterable[str] = (), **kwargs: t.Any) -> WebsocketConnection:
        """`async with` it: an open websocket. Raises WebsocketResponseError where it is refused."""
        request, _ = self._make(args, kwargs)
        return WebsocketConnection(self, request, list(subprotocols))

    @asynccontextmanager
    async def session_transaction(self, *args: t.Any, **kwargs: t.Any) -> AsyncIterator[SessionMixin]:
        """The client's session, saved at the end of the block. Arguments as test_request_context's."""
        ctx = self._maker._session_context(args, kwargs)
        async with ctx:
            with ctx.staying(LOOP):
                session = await open_session(ctx)
        yield session
        if not self.application.session_interface.is_null_session(session):
            async with ctx:
                with ctx.staying(LOOP):
                    headers = await save_session(ctx, session)
            self._maker._keep_cookies(ctx.request.environ, headers)

    def _make(self, args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> tuple[BaseRequest, Body]:
        pieces = kwargs.get("data")
        if not hasattr(pieces, "__aiter__"):
            request = self._maker.open(*args, **kwargs)
            return request, FileBody(request.environ["wsgi.input"], get_content_length(request.environ))
        request = self._maker.open(*args, **{**kwargs, "data": None})
        _expect_pieces(request.environ)
        return request, IteratedBody(aiter(t.cast("t.AsyncIterable[bytes]", pieces)))

    async def _answer(self, request: BaseRequest, body: Body) -> TestResponse:
        async with HTTPConnection(self, request, body) as connection:
            return await connection.as_response()

    async def _redirect(self, response: TestResponse, history: list[TestResponse], body: Body) -> TestResponse:
        """The answer of the place that the last response of `history` leads to."""
        if any((response.location, response.status_code) == (old.location, old.status_code) for old in history[:-1]):
            raise ClientRedirectError(f"{response.location} was reached before: {response.status_code} in a loop.")
        if response.status_code in (307, 308) and isinstance(body, IteratedBody):
            raise RuntimeError("The redirect asks for the body again, but an async iterator can be read only once.")
        rewind(response.request.environ["wsgi.input"])
        request = t.cast(BaseRequest, self._maker.resolve_redirect(response))
        return await self._answer(request, FileBody(request.environ["wsgi.input"], get_content_length(request.environ)))

    def _respond(self, status: int, headers: Headers, body: bytes, request: BaseRequest) -> TestResponse:
        response = self._maker.response_wrapper([body], str(status), headers, request=request)
        response.json_module = self.application.json  # type: ignore[assignment]  # has its dumps and loads
        return response

    def _scope(self, environ: WSGIEnvironment) -> Scope:
        scope = client_scope(environ)
        if self.state is not None:
            scope["state"] = self.state.copy()
        return scope

    async def _preserve(self) -> None:
        """Enter the contexts that the last request left; none outside of an `async with` block."""
        contexts = self._maker._new_contexts
        while contexts:
            await self._preserved.enter_async_context(t.cast(t.Any, contexts.pop(0)))

    async def __aenter__(self) -> t.Self:
        self._maker.__enter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._maker.__exit__(exc_type, exc_value, tb)
        await self._preserved.aclose()


def _expect_pieces(environ: WSGIEnvironment) -> None:
    if not environ.get("CONTENT_LENGTH"):
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"


class Upload:
    """A body which a test sends piece by piece."""

    def __init__(self) -> None:
        self.complete = False
        self.pieces: Line[bytes | None] = Line()

    async def pull(self) -> tuple[bytes, bool]:
        piece = await self.pieces.get()
        return piece or b"", piece is not None


class HTTPConnection:
    """One request and its response, piece by piece. `status_code` and `headers` are there with the first piece.

    Who leaves the block disconnects; after `send_complete`, the rest of the response is kept for `as_response`.
    """

    def __init__(self, client: AsyncClient, request: BaseRequest, body: Body) -> None:
        self.client = client
        self.request = request
        self.status_code: int | None = None
        self.headers: Headers | None = None
        self._upload = body if isinstance(body, Upload) else None
        self._transport = Transport(t.cast(t.Any, client.application), client._scope(request.environ), body)
        self._data = bytearray()  # what has come
        self._is_whole = False

    async def send(self, data: bytes) -> None:
        """Send a piece of the body. It does not wait until the application reads it."""
        self._require_upload().pieces.put(data)

    async def send_complete(self) -> None:
        """Send the end of the body."""
        upload = self._require_upload()
        upload.complete = True
        upload.pieces.put(None)

    async def receive(self) -> bytes:
        """The next piece of the response, b"" at its end."""
        if self.status_code is None:
            await self._start()
        piece = await self._transport.read()
        self._data += piece
        self._is_whole = not (piece or self._transport.left_early)
        return piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.receive():
            yield piece

    async def as_response(self) -> TestResponse:
        """The whole response: what was read, and the rest."""
        while not self._is_whole and await self.receive():
            pass
        if not self._is_whole:
            raise RuntimeError("The client left before the end of the response.")
        return self.client._respond(
            t.cast(int, self.status_code), t.cast(Headers, self.headers), bytes(self._data), self.request
        )

    async def disconnect(self) -> None:
        """Leave before the end; the application is told. It has ended by the end of the block."""
        self._transport.leave()

    async def _start(self) -> None:
        self.status_code, raw = await self._transport.start()
        self.headers = decode_headers(raw)
        self.client._maker._keep_cookies(self.request.environ, self.headers)

    def _require_upload(self) -> Upload:
        if self._upload is None:
            raise RuntimeError("This request has its body: use client.request() to send it by hand.")
        return self._upload

    async def __aenter__(self) -> t.Self:
        await self.client._preserved.aclose()
        self._transport.begin(copy_context())
        if self._upload is None:
            await self._start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        ...
