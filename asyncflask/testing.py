"""Test clients: one for requests, on Werkzeug's, and one for commands, on click's."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from copy import copy
from functools import cache
from types import TracebackType
from urllib.parse import urlsplit

import werkzeug.test
from click.testing import CliRunner, Result
from werkzeug.datastructures import Headers
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request as BaseRequest
from werkzeug.wsgi import get_current_url

from .commands import ScriptInfo
from .environ import IN_PROCESS, PRESERVE
from .gone import missing_from
from .steps import drive, kind_of

if t.TYPE_CHECKING:
    from .app import Flask
    from .ctx import RequestContext
    from .sessions import SessionMixin
    from .typing import WSGIEnvironment


class EnvironBuilder(werkzeug.test.EnvironBuilder):
    """Werkzeug's builder; host, root and scheme come from the app's config where they are not given."""

    def __init__(
        self,
        app: Flask,
        path: str = "/",
        base_url: str | None = None,
        subdomain: str | None = None,
        url_scheme: str | None = None,
        *args: t.Any,
        **kwargs: t.Any,
    ) -> None:
        assert not (base_url is not None and (subdomain or url_scheme)), (
            'Give either "base_url", or "subdomain" and "url_scheme".'
        )
        if base_url is None:
            base_url, path = _split_url(app, path, subdomain, url_scheme)
        self.app = app
        super().__init__(path, base_url, *args, **kwargs)

    def json_dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
        return self.app.json.dumps(obj, **kwargs)


def _split_url(app: Flask, url: str, subdomain: str | None, scheme: str | None) -> tuple[str, str]:
    """``(base_url, path?query)`` of a path or a full URL."""
    parts = urlsplit(url)
    host = app.config.get("SERVER_NAME") or "localhost"
    if subdomain:
        host = f"{subdomain}.{host}"
    scheme = parts.scheme or scheme or app.config["PREFERRED_URL_SCHEME"]
    base_url = f"{scheme}://{parts.netloc or host}/{app.config['APPLICATION_ROOT'].lstrip('/')}"
    return base_url, f"{parts.path}?{parts.query}" if parts.query else parts.path


@cache
def _get_user_agent() -> str:
    from importlib.metadata import version

    return f"Werkzeug/{version('werkzeug')}"


async def open_session(ctx: RequestContext) -> SessionMixin:
    """The session of a test's request. Raises RuntimeError where there is none to be had."""
    f = ctx.app.session_interface.open_session
    session: SessionMixin | None = await ctx.call((kind_of(f), f), ctx.app, ctx.request)
    if session is None:
        raise RuntimeError("Session backend did not open a session.")
    return session


async def save_session(ctx: RequestContext, session: SessionMixin) -> Headers:
    """The headers of a response that saves it."""
    f, response = ctx.app.session_interface.save_session, ctx.app.response_class()
    await ctx.call((kind_of(f), f), ctx.app, session, response)
    return response.headers


class FlaskClient(Client):
    """Werkzeug's client for an app. In a `with` block a request's contexts stay until the next one.

    It speaks to the WSGI face of the app, or where `face` is "asgi" to the other.
    """

    application: Flask
    face: t.Literal["wsgi", "asgi"] = "wsgi"

    def __init__(self, *args: t.Any, face: t.Literal["wsgi", "asgi"] | None = None, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self.face = face or self.face
        if self.face not in ("wsgi", "asgi"):
            raise ValueError(f"A test client's face is 'wsgi' or 'asgi', not {self.face!r}.")
        self.preserve_context: bool = False
        self.environ_base: dict[str, str] = {"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": _get_user_agent()}
        self._new_contexts: list[AbstractContextManager[t.Any]] = []
        self._context_stack = ExitStack()

    @contextmanager
    def session_transaction(self, *args: t.Any, **kwargs: t.Any) -> Iterator[SessionMixin]:
        """The client's session, saved at the end of the block. Arguments as test_request_context's."""
        ctx = self._session_context(args, kwargs)
        with ctx:
            session = drive(open_session(ctx))
        yield session
        if not self.application.session_interface.is_null_session(session):
            with ctx:
                headers = drive(save_session(ctx, session))
            self._keep_cookies(ctx.request.environ, headers)

    def _session_context(self, args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> RequestContext:
        """The context of a request with the client's cookies."""
        if self._cookies is None:
            raise TypeError("Cookies are disabled. Create the client with 'use_cookies=True'.")
        ctx = self.application.test_request_context(*args, **kwargs)
        self._add_cookies_to_wsgi(ctx.request.environ)
        return ctx

    def _keep_cookies(self, environ: WSGIEnvironment, headers: Headers) -> None:
        url = urlsplit(get_current_url(environ))
        self._update_cookies_from_response(url.hostname or "localhost", url.path, headers.getlist("Set-Cookie"))

    def open(
        self, *args: t.Any, buffered: bool = False, follow_redirects: bool = False, **kwargs: t.Any
    ) -> TestResponse:
        """Make a request. Arguments as EnvironBuilder's without the app; or a builder, environ or request."""
        request = self._make_request(args, kwargs)
        # Each request of a block, redirects included, replaces what the one before it left.
        self._context_stack.close()
        response = super().open(request, buffered=buffered, follow_redirects=follow_redirects)
        response.json_module = self.application.json  # type: ignore[assignment]  # has its dumps and loads
        for ctx in self._new_contexts:
            self._context_stack.enter_context(ctx)
        self._new_contexts.clear()
        return response

    def run_wsgi_app(self, environ: WSGIEnvironment, buffered: bool = False) -> tuple[Iterable[bytes], str, Headers]:
        if self.face == "wsgi":
            environ[IN_PROCESS] = True  # no server's request: serving hooks do not run for it
            return super().run_wsgi_app(environ, buffered=buffered)
        from .transport import call_asgi

        self._add_cookies_to_wsgi(environ)
        body, status, headers = call_asgi(self.application, environ, buffered)
        self._keep_cookies(environ, headers)
        return body, status, headers

    def _make_request(self, args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> BaseRequest:
        match args[0] if args else None:
            case werkzeug.test.EnvironBuilder() as given:
                builder = copy(given)
                builder.environ_base = self._copy_environ(builder.environ_base or {})
                return builder.get_request()
            case dict() as environ:
                defaults = {"app": self.application, "environ_base": self._copy_environ({})}
                return EnvironBuilder.from_environ(environ, **defaults).get_request()
            case BaseRequest() as given:
                request = copy(given)
                request.environ = self._copy_environ(request.environ)
                return request
        return self._request_from_builder_args(args, kwargs)

    def _request_from_builder_args(  # Flask's name: Flask-SocketIO's client calls it
        self, args: tuple[t.Any, ...], kwargs: dict[str, t.Any]
    ) -> BaseRequest:
        environ_base = self._copy_environ(kwargs.pop("environ_base", {}))
        with closing(EnvironBuilder(self.application, *args, environ_base=environ_base, **kwargs)) as builder:
            return builder.get_request()

    def _copy_environ(self, other: Mapping[str, t.Any]) -> WSGIEnvironment:
        keep = {PRESERVE: self._new_contexts.append} if self.preserve_context else {}
        return {**self.environ_base, **other, **keep}

    def __enter__(self) -> t.Self:
        if self.preserve_context:
            raise RuntimeError("A client's 'with' block cannot be opened inside of itself.")
        self.preserve_context = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.preserve_context = False
        self._context_stack.close()


class FlaskCliRunner(CliRunner):
    """click's runner for an application's commands."""

    def __init__(self, app: Flask, **kwargs: t.Any) -> None:
        self.app = app
        super().__init__(**kwargs)

    def invoke(  # type: ignore[override]  # cli may be left out
        self, cli: t.Any = None, args: t.Any = None, **kwargs: t.Any
    ) -> Result:
        """As click's. Without `cli` it is `app.cli`; without `obj`, a ScriptInfo that loads this app."""
        if "obj" not in kwargs:
            kwargs["obj"] = ScriptInfo(create_app=lambda: self.app)
        return super().invoke(self.app.cli if cli is None else cli, args, **kwargs)


if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
