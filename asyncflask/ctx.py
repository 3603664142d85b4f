"""The two contexts of Flask 3.1: of an application and of a request. They live in `contextvars` alone.

Opening and closing a context runs user code (sessions, converters, teardowns), so each is one `async def`; `push`,
`pop` and `with` drive it in the caller's thread, `async with` awaits it.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import update_wrapper
from types import TracebackType

from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter
from werkzeug.utils import cached_property

from . import typing as ft
from .bridge import Home, current_loop, mailbox_of
from .globals import _cv_app, _cv_request, _no_app_msg, _no_ws_msg
from .gone import missing_from
from .hooks import WEBSOCKET
from .plan import Plan, make_session_step
from .routing import check_protocol
from .signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    got_request_exception,
    got_websocket_exception,
    request_started,
    request_tearing_down,
    websocket_started,
    websocket_tearing_down,
)
from .steps import DRIVEN, LOOP, THREAD, Host, drive, emit, emit_to_end, is_async
from .workers import RequestLane

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from blinker import NamedSignal

    from .app import Flask
    from .sessions import SessionMixin
    from .typing import Send
    from .wrappers import Request

F = t.TypeVar("F", bound=Callable[..., t.Any])
Push: t.TypeAlias = "tuple[Token[t.Any], AppContext | None]"  # and the application context that came with it
_sentinel: t.Any = object()


class _AppCtxGlobals:
    """The object behind `g`: a namespace that also answers `in`, `iter`, `get`, `pop` and `setdefault`."""

    def __getattr__(self, name: str) -> t.Any:
        # Only reached for a missing name; declared so that type checkers accept any attribute.
        raise AttributeError(name)

    def __setattr__(self, name: str, value: t.Any) -> None:
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        if self.__dict__.pop(name, _sentinel) is _sentinel:
            raise AttributeError(name)

    def get(self, name: str, default: t.Any = None) -> t.Any:
        return self.__dict__.get(name, default)

    def pop(self, name: str, default: t.Any = _sentinel) -> t.Any:
        return self.__dict__.pop(name) if default is _sentinel else self.__dict__.pop(name, default)

    def setdefault(self, name: str, default: t.Any = None) -> t.Any:
        return self.__dict__.setdefault(name, default)

    def __contains__(self, item: str) -> bool:
        return item in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __repr__(self) -> str:
        ctx = _cv_app.get(None)
        return object.__repr__(self) if ctx is None else f"<flask.g of '{ctx.app.name}'>"


def after_this_request(f: ft.T_after_request) -> ft.T_after_request:
    """Call `f(response)` after this request only; it returns the response or another."""
    _require_request("after_this_request")._after_request_functions.append(f)
    return f


def copy_current_request_context(f: F) -> F:
    """Wrap `f` so that it runs in a copy of the current request context, in a thread or task of its own."""
    return _call_in(_require_request("copy_current_request_context").copy(), f)


def copy_current_websocket_context(f: F) -> F:
    """As `copy_current_request_context`, inside of a websocket."""
    if not has_websocket_context():
        raise RuntimeError(_no_ws_msg)
    return copy_current_request_context(f)


def copy_current_app_context(f: F) -> F:
    """Wrap `f` so that it runs in an application context with the current `g`, in a thread or task of its own."""
    ctx = _cv_app.get(None)
    if ctx is None:
        raise RuntimeError(_no_app_msg)
    return _call_in(ctx.copy(), f)


def _call_in(ctx: AppContext | RequestContext, f: F) -> F:
    def wrapper(*args: t.Any, **kwargs: t.Any) -> t.Any:
        with ctx.copy():  # each call its own: several may run at once
            return ctx.app.ensure_sync(f)(*args, **kwargs)

    async def async_wrapper(*args: t.Any, **kwargs: t.Any) -> t.Any:
        async with ctx.copy():
            return await f(*args, **kwargs)

    return t.cast(F, update_wrapper(async_wrapper if is_async(f) else wrapper, f))


def _require_request(name: str) -> RequestContext:
    ctx = _cv_request.get(None)
    if ctx is None:
        raise RuntimeError(f"'{name}' can only be used when a request context is active, such as in a view function.")
    return ctx


def has_request_context() -> bool:
    return _cv_request.get(None) is not None


def has_websocket_context() -> bool:
    ctx = _cv_request.get(None)
    return ctx is not None and ctx.is_websocket


def has_app_context() -> bool:
    return _cv_app.get(None) is not None


class Context(Host):
    """`push`, `pop`, `with` and `async with` over `_open` and `_close`."""

    place: str
    moves: bool

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self, exc: BaseException | None) -> None:
        raise NotImplementedError

    @contextmanager
    def staying(self, place: str) -> Iterator[None]:
        """Be a host that does not move, for now: a stream may push a context again that a Runner is moving."""
        before = self.place, self.moves
        self.place, self.moves = place, False
        try:
            yield
        finally:
            self.place, self.moves = before

    def push(self) -> None:
        """Make this the current context."""
        with self.staying(DRIVEN):
            drive(self._open())

    def pop(self, exc: BaseException | None = _sentinel) -> None:
        """Leave the context; at the last pop the teardowns run with `exc`, by default the error being handled."""
        if exc is _sentinel:
            exc = sys.exc_info()[1]
        with self.staying(DRIVEN):
            drive(self._close(exc))

    def __enter__(self) -> t.Self:
        self.push()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pop(error)

    async def __aenter__(self) -> t.Self:
        with self.staying(LOOP):
            await self._open()
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self.staying(LOOP):
            await self._close(error)


class AppContext(Context):
    """The application's context: `current_app` and `g`."""

    _home: Home | None = None

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.g: _AppCtxGlobals = app.app_ctx_globals_class()
        self._cv_tokens: list[Push] = []

    def copy(self) -> AppContext:
        """A context with the same `g`, for another thread or task."""
        ctx = self.__class__(self.app)
        ctx.g = self.g
        return ctx

    @cached_property
    def url_adapter(self) -> MapAdapter | None:
        """Builds URLs outside of a request; None without SERVER_NAME."""
        return self.app.create_url_adapter(None)

    def home(self) -> Home:
        """On the loop: the thread for the sync code that this context's async code calls, always the same one."""
        if self._home is not None:
            return self._home
        worker = self.app._workers.choose()
        home = Home(mailbox_of(current_loop()), RequestLane(worker))
        if self._cv_tokens:
            self._home = home
        else:  # a task that outlived its request: there will be no end at which to release the thread
            self.app._workers.release(worker)
        return home

    def _unbind(self) -> None:
        current = _cv_app.get()
        _reset(_cv_app, self._cv_tokens)
        if self._home is not None and not self._cv_tokens:
            self.app._workers.release(t.cast(RequestLane, self._home.lane).worker)
            self._home = None
        if current is not self:
            _raise_wrong_pop(current, self, "app")

    async def _open(self) -> None:
        self._cv_tokens.append((_cv_app.set(self), None))
        if appcontext_pushed.receivers:
            await emit(self, appcontext_pushed, self.app)

    async def _close(self, exc: BaseException | None, host: Host | None = None) -> None:
        """Inside of a request, its context is the host that runs the teardowns."""
        host = host or self
        try:
            if len(self._cv_tokens) == 1:
                await self.app._plans[None].stages.do_teardown_appcontext(host, exc)
        finally:
            self._unbind()
        if appcontext_popped.receivers:
            await emit_to_end(host, appcontext_popped, self.app)


def _reset(var: ContextVar[t.Any], pushes: list[Push]) -> AppContext | None:
    """Undo the newest push of the current `contextvars.Context`; gives the application context that came with it.

    Others may be newer: a stream holds tokens of its own Context while a test client enters the same one in another.
    """
    push = pushes.pop()
    try:
        var.reset(push[0])
    except ValueError:  # of another Context
        app_ctx = _reset(var, pushes)
        pushes.append(push)
        return app_ctx
    return push[1]


def _raise_wrong_pop(current: object, expected: object, name: str) -> t.NoReturn:
    raise AssertionError(f"Popped wrong {name} context. ({current!r} instead of {expected!r})")


class RequestContext(Context):
    """A request's context: `request`, `session`, the URL adapter, and what the dispatcher keeps for it."""

    # Set by an edge: what it knows before the context opens.
    is_websocket: bool = False
    started: NamedSignal = request_started
    failed: NamedSignal = got_request_exception
    tearing_down: NamedSignal = request_tearing_down
    cookie: str | None = None  # the Cookie header; None: unknown
    send: Send | None = None  # ASGI's, until the response starts
    fresh_app_context: bool = False  # never share the application context that surrounds the server
    plan: Plan = None  # type: ignore[assignment]  # known at the latest when the context is open
    flashes: list[tuple[str, str]] | None = None
    _session_is_lazy: bool = False
    unread: t.Any

    def __init__(
        self,
        app: Flask,
        environ: WSGIEnvironment,
        request: Request | None = None,
        session: SessionMixin | None = None,
    ) -> None:
        self.app = app
        if request is None:
            request = app.request_class(environ)
        request.json_module = app.json
        self.request = request
        self._opened_session = session
        self._after_request_functions: list[ft.AfterRequestCallable[t.Any]] = []
        self._cv_tokens: list[Push] = []

    @cached_property
    def url_adapter(self) -> MapAdapter | None:
        """Matches and builds URLs for this request; None, and a routing exception, if the host is refused."""
        try:
            return self.app.create_url_adapter(self.request)
        except HTTPException as error:
            self.request.routing_exception = error.with_traceback(None)
            return None

    def copy(self) -> RequestContext:
        """A context with the same request and session, for another thread or task."""
        environ = self.request.__dict__.get("environ", {})
        return self.__class__(self.app, environ=environ, request=self.request, session=self._session)

    def forgives(self, error: Exception) -> bool:
        """Whether an error that nobody handles is an end like any other."""
        return False

    def match_request(self) -> None:
        """Find the URL rule; a subclass may do it its own way."""
        request = self.request
        adapter = self.url_adapter
        if adapter is None or request.routing_exception is not None:
            return
        try:
            # None: as the Upgrade header says. HTTP/2 has none (RFC 8441).
            found = adapter.match(return_rule=True, websocket=self.is_websocket or None)
            check_protocol(found[0], self.is_websocket)
            request.url_rule, request.view_args = found  # type: ignore[assignment]
        except HTTPException as error:
            # Tracebacks hold this frame and so the request; without them there is no cycle.
            error.__context__ = None
            request.routing_exception = error.with_traceback(None)

    @property
    def _session(self) -> SessionMixin | None:
        """The session, opened when first needed if its interface allows; reading it here does not count as access."""
        if self._opened_session is None and self._session_is_lazy:
            self._opened_session = self._open_session_at_once()
        return self._opened_session

    @_session.setter
    def _session(self, session: SessionMixin | None) -> None:
        self._opened_session = session

    def _open_session_at_once(self) -> SessionMixin:
        interface: t.Any = self.app.session_interface
        if self.plan.session_needs_cookie:
            return t.cast("SessionMixin", interface.make_session(self.app))
        session: SessionMixin | None = interface.open_session(self.app, self.request)
        return self._null_session() if session is None else session

    @property
    def session(self) -> SessionMixin:
        """The session. Reading it marks it as accessed, and so the response as varying by cookie."""
        session = self._session
        assert session is not None, "The session has not yet been opened."
        session.accessed = True
        return session

    async def _open(self) -> None:
        if not self._open_at_once():
            await self._open_waiting()

    def _open_at_once(self) -> bool:
        """Make the contexts current, and open them if nothing has to be waited for; else False."""
        if appcontext_pushed.receivers:
            return False
        self._bind(self._push_app_context())
        if len(self._cv_tokens) > 1:
            return True
        if not self.plan.session_is_lazy and (not self._brings_no_session() or self._has_to_leave_loop()):
            return False
        self._session_is_lazy = True
        if self.request.url_rule is None:  # else the edge has matched it
            self._match()
        return True

    def _brings_no_session(self) -> bool:
        """Whether there is no cookie for an interface which asks for nothing else."""
        if not self.plan.session_needs_cookie:
            return False
        cookie = self.request.headers.get("Cookie", "") if self.cookie is None else self.cookie
        return self.app.session_interface.get_cookie_name(self.app) not in cookie

    def _has_to_leave_loop(self) -> bool:
        """Whether the URL is still to be matched, and by code that may block."""
        return self.place is LOOP and not self.plan.matches_on_loop and self._is_unmatched()

    def _is_unmatched(self) -> bool:
        request = self.request
        return request.url_rule is None and request.routing_exception is None

    def _push_app_context(self) -> AppContext | None:
        """A new application context where there is none of this application."""
        app_ctx = None if self.fresh_app_context else _cv_app.get(None)
        if app_ctx is not None and app_ctx.app is self.app:
            return None
        self.fresh_app_context = False  # pushed again, as for a stream, it shares the recorded one
        app_ctx = self.app.app_context()
        app_ctx._cv_tokens.append((_cv_app.set(app_ctx), None))
        return app_ctx

    def _bind(self, app_ctx: AppContext | None) -> None:
        self._cv_tokens.append((_cv_request.set(self), app_ctx))
        if self.plan is None:
            self.renew_plan()

    async def _open_waiting(self) -> None:
        if appcontext_pushed.receivers:
            app_ctx = self._push_app_context()
            try:
                if app_ctx is not None:
                    await emit(self, appcontext_pushed, self.app)
            finally:  # what failed is answered, and closed, inside of the contexts
                self._bind(app_ctx)
            if len(self._cv_tokens) > 1:
                return
        self._session_is_lazy = self.plan.session_is_lazy or self._brings_no_session()
        # The session first: URL converters may use it, and opening it may itself match the request.
        if self._opened_session is None and not self._session_is_lazy:
            await self._open_session()
        if self._has_to_leave_loop():
            await self.go(THREAD)
        self._match()

    async def _open_session(self) -> None:
        request = self.request
        matched = request.url_rule, request.view_args
        request.url_rule = request.view_args = None  # which the interface does not see, as in Flask
        step = make_session_step(self.app.session_interface.open_session, self.plan.open_session)
        if self.unread is not None and (step[0] is LOOP or self.place is LOOP):
            await self._load_body()
        session = await self.call(step, self.app, request)
        self._opened_session = self._null_session() if session is None else session
        if request.url_rule is None:
            request.url_rule, request.view_args = matched

    async def _load_body(self) -> None:
        """A body that fails is answered as such once the context is open, and not as an error of the session."""
        unread, self.unread = self.unread, None
        try:
            await unread.load(self)
        except HTTPException as error:
            self.request.routing_exception = error.with_traceback(None)

    def _null_session(self) -> SessionMixin:
        return self.app.session_interface.make_null_session(self.app)

    def _match(self) -> None:
        if self._is_unmatched():
            self.match_request()
        self.renew_plan()

    def renew_plan(self) -> None:
        """Take the plan of the endpoint as it is now."""
        self.plan = self._plan_of(self.request.endpoint)

    def _plan_of(self, endpoint: str | None) -> Plan:
        return self.app._plans[endpoint]

    async def _close(self, exc: BaseException | None) -> None:
        plan = self.plan
        app_ctx = None
        try:
            if len(self._cv_tokens) == 1 and (plan.tears_down or self.tearing_down.receivers):
                await plan.stages.do_teardown_request(self, exc)
        finally:
            app_ctx = self._unbind()
            if app_ctx is not None:
                await app_ctx._close(exc, self)

    def _close_at_once(self) -> bool:
        """Leave the contexts, if no teardown and no signal's receiver has to be waited for; else False."""
        plan = self.plan
        if plan.tears_down or plan.tears_down_app or self.tearing_down.receivers:
            return False
        if appcontext_tearing_down.receivers or appcontext_popped.receivers:
            return False
        app_ctx = self._unbind()
        if app_ctx is not None:
            app_ctx._unbind()
        return True

    def _unbind(self) -> AppContext | None:
        """Leave this context. Gives the application context that was pushed with it, which is still to be left."""
        request = self.request
        if len(self._cv_tokens) == 1:
            if not self.is_websocket:  # whose `close` closes the connection
                request.close()
            if request.has_environ or request.routing_exception is not None:
                self._break_cycles(request)
        current = _cv_request.get()
        app_ctx = _reset(_cv_request, self._cv_tokens)
        if current is not self:
            if app_ctx is not None:
                app_ctx._unbind()
            _raise_wrong_pop(current, self, "request")
        return app_ctx

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Be current without being opened again, for what is said about a request after its end."""
        app_token, token = _cv_app.set(self.app.app_context()), _cv_request.set(self)
        try:
            yield
        finally:
            _cv_request.reset(token)
            _cv_app.reset(app_token)

    def _break_cycles(self, request: Request) -> None:
        """What refers back to the request is let go, so that its memory is free without the garbage collector."""
        if request.has_environ:
            request.environ["werkzeug.request"] = None
        if request.routing_exception is not None:
            request.routing_exception.__traceback__ = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.request.url!r} [{self.request.method}] of {self.app.name}>"


class WebsocketContext(RequestContext):
    """A request's context whose request is a websocket's handshake: `request` is `websocket` there."""

    is_websocket = True
    started = websocket_started
    failed = got_websocket_exception
    tearing_down = websocket_tearing_down
    fresh_app_context = True

    def forgives(self, error: Exception) -> bool:
        from .websockets import WebsocketDisconnect

        if isinstance(error, ExceptionGroup):  # of a view whose tasks receive and send
            return error.split(WebsocketDisconnect)[1] is None
        return isinstance(error, WebsocketDisconnect)

    def _plan_of(self, endpoint: str | None) -> Plan:
        return self.app._plans[WEBSOCKET, endpoint]


if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
