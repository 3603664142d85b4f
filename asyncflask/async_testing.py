"""The async test client, in this process and on the loop of the test, and the serving life without a server.

What a request is made of, its cookies and where a redirect leads are FlaskClient's; here it is run.
"""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from types import TracebackType

from werkzeug.datastructures import Headers
from werkzeug.test import ClientRedirectError, Cookie, TestResponse
from werkzeug.wrappers import Request as BaseRequest
from werkzeug.wsgi import get_content_length

from .connections import HTTPConnection, Upload, WebsocketConnection, WebsocketResponseError
from .environ import BODILESS_METHODS
from .globals import _cv_app, _cv_request
from .signals import got_serving_exception
from .steps import LOOP
from .testing import FlaskClient, open_session, save_session
from .transport import Body, FileBody, IteratedBody, begin_lifespan, client_scope, rewind

if t.TYPE_CHECKING:
    from .app import Flask
    from .ctx import Context
    from .sessions import SessionMixin
    from .typing import Scope, WSGIEnvironment

__all__ = [
    "AsyncClient", "HTTPConnection", "LifespanError", "TestApp", "WebsocketConnection", "WebsocketResponseError",
]  # fmt: skip

_REDIRECTS = frozenset({301, 302, 303, 305, 307, 308})


class _RequestMaker(FlaskClient):
    """A FlaskClient that makes a request and leaves it to others to run it."""

    def open(  # type: ignore[override]  # which `resolve_redirect` calls as well
        self, *args: t.Any, buffered: bool = False, **kwargs: t.Any
    ) -> BaseRequest:
        request = self._make_request(args, kwargs)
        self._add_cookies_to_wsgi(request.environ)
        return request


Verb = Callable[..., Coroutine[t.Any, t.Any, TestResponse]]


def _verb(method: str) -> Verb:
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
        """`state` is what the lifespan left for requests: each has a copy in its scope."""
        self.application = application
        self.state = state
        self._maker = _RequestMaker(application, application.response_class, use_cookies, allow_subdomain_redirects)
        self._contexts: list[Context] = []  # those of the last request, entered anew
        self.get_cookie: Callable[..., Cookie | None] = self._maker.get_cookie
        self.set_cookie: Callable[..., None] = self._maker.set_cookie
        self.delete_cookie: Callable[..., None] = self._maker.delete_cookie

    @property
    def environ_base(self) -> WSGIEnvironment:
        """What each request's environ begins with."""
        return self._maker.environ_base

    async def open(self, *args: t.Any, follow_redirects: bool = False, **kwargs: t.Any) -> TestResponse:
        """Make a request and read its response. Arguments as FlaskClient's; `data` may be an async iterable."""
        request, body = self._make(args, kwargs)
        history: list[TestResponse] = []
        try:
            response = await self._answer(request, body)
            while follow_redirects and response.status_code in _REDIRECTS:
                _check_redirect(response, history, body)
                history.append(response)
                response = await self._follow(response)
                response.history = tuple(history)
        finally:
            if "input_stream" not in kwargs and all(isinstance(place, str) for place in args[:1]):
                request.environ["wsgi.input"].close()  # made here, for a large form a file
        return response

    get: t.ClassVar[Verb] = _verb("GET")
    head: t.ClassVar[Verb] = _verb("HEAD")
    post: t.ClassVar[Verb] = _verb("POST")
    put: t.ClassVar[Verb] = _verb("PUT")
    patch: t.ClassVar[Verb] = _verb("PATCH")
    delete: t.ClassVar[Verb] = _verb("DELETE")
    options: t.ClassVar[Verb] = _verb("OPTIONS")
    trace: t.ClassVar[Verb] = _verb("TRACE")

    def stream(self, method: str, *args: t.Any, **kwargs: t.Any) -> HTTPConnection:
        """`async with` it: a response whose pieces are read as they are sent. Leaving the block disconnects."""
        return HTTPConnection(self, *self._make(args, {**kwargs, "method": method}))

    def request(self, *args: t.Any, **kwargs: t.Any) -> HTTPConnection:
        """`async with` it: a request whose body is sent with `send` and `send_complete`."""
        if not kwargs.keys().isdisjoint(("data", "json", "input_stream")):
            raise TypeError("client.request() sends its body by hand: client.stream() takes one as an argument.")
        request = self._maker.open(*args, **kwargs)
        if request.method not in BODILESS_METHODS:
            _announce_pieces(request.environ)
        return HTTPConnection(self, request, Upload())

    def websocket(self, *args: t.Any, subprotocols: Iterable[str] = (), **kwargs: t.Any) -> WebsocketConnection:
        """`async with` it: an open websocket. Raises WebsocketResponseError where it is refused."""
        return WebsocketConnection(self, self._maker.open(*args, **kwargs), list(subprotocols))

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
            self._keep_cookies(ctx.request, headers)

    def _make(self, args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> tuple[BaseRequest, Body]:
        data = kwargs.get("data")
        if not isinstance(data, AsyncIterable):
            request = self._maker.open(*args, **kwargs)
            return request, _file_body(request)
        request = self._maker.open(*args, **{**kwargs, "data": None})
        _announce_pieces(request.environ)
        return request, IteratedBody(aiter(data))

    async def _answer(self, request: BaseRequest, body: Body) -> TestResponse:
        async with HTTPConnection(self, request, body) as connection:
            return await connection.as_response()

    async def _follow(self, response: TestResponse) -> TestResponse:
        rewind(response.request.environ["wsgi.input"])
        request = t.cast(BaseRequest, self._maker.resolve_redirect(response))
        return await self._answer(request, _file_body(request))

    # For connections

    def _scope(self, environ: WSGIEnvironment) -> Scope:
        scope = client_scope(environ)
        if self.state is not None:
            scope["state"] = self.state.copy()
        return scope

    def _respond(self, status: int, headers: Headers, data: bytes, request: BaseRequest) -> TestResponse:
        response = self._maker.response_wrapper([data], str(status), headers, request=request)
        response.json_module = self.application.json  # type: ignore[assignment]  # has its dumps and loads
        return response

    def _keep_cookies(self, request: BaseRequest, headers: Headers) -> None:
        self._maker._keep_cookies(request.environ, headers)

    async def _enter_contexts(self) -> None:
        """Those that the last request left, in an `async with` block."""
        contexts = t.cast("list[Context]", self._maker._new_contexts)
        while contexts:
            self._contexts.append(await contexts.pop(0).__aenter__())

    async def _forget_contexts(self) -> None:
        while self._contexts:
            ctx = self._contexts.pop()
            if ctx in (_cv_request.get(None), _cv_app.get(None)):  # else it ended with the task that entered it
                await ctx.__aexit__(None, None, None)

    async def __aenter__(self) -> t.Self:
        self._maker.__enter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._maker.preserve_context = False
        await self._forget_contexts()


def _file_body(request: BaseRequest) -> FileBody:
    return FileBody(request.environ["wsgi.input"], get_content_length(request.environ))


def _announce_pieces(environ: WSGIEnvironment) -> None:
    """A body whose length is not known before."""
    if not environ.get("CONTENT_LENGTH"):
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"


def _check_redirect(response: TestResponse, history: list[TestResponse], body: Body) -> None:
    target = response.location, response.status_code
    if any(target == (other.location, other.status_code) for other in history):
        raise ClientRedirectError(f"{response.location} was reached before: {response.status_code} in a loop.")
    if response.status_code in (307, 308) and isinstance(body, IteratedBody):
        raise RuntimeError("The redirect asks for the body once more, but an async iterator can be read only once.")


class LifespanError(Exception):
    """The application says that its start-up or its shutdown failed."""


class TestApp:
    """An application that is served without a server: `async with` it, from start-up to shutdown."""

    __test__ = False  # for pytest

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.state: dict[str, t.Any] = {}  # the lifespan's, for each request

    def test_client(self, use_cookies: bool = True, **kwargs: t.Any) -> AsyncClient:
        """A client whose requests have the state of the lifespan."""
        return self.app.async_test_client(use_cookies, state=self.state, **kwargs)

    async def startup(self) -> None:
        """Raises LifespanError, its cause the application's error where that is known."""
        self._conversation = begin_lifespan(t.cast(t.Any, self.app), self.state)
        await self._ask("lifespan.startup")

    async def shutdown(self) -> None:
        """Raises as `startup`."""
        await self._ask("lifespan.shutdown")
        await self._conversation.close()
        self._conversation.raise_error()

    async def _ask(self, event: str) -> None:
        conversation = self._conversation
        conversation.tell({"type": event})
        errors: list[BaseException] = []
        with got_serving_exception.connected_to(lambda _, exception: errors.append(exception), self.app):
            message = await conversation.take()
        if message is None:
            conversation.raise_error()
            raise LifespanError(f"The application ended without an answer to {event!r}.")
        if message["type"] == f"{event}.failed":
            await conversation.abort()
            raise LifespanError(message.get("message") or f"{event} failed") from next(iter(errors), None)

    async def __aenter__(self) -> t.Self:
        await self.startup()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.shutdown()
