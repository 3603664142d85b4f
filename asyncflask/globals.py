"""The two context variables and the proxies that read them. Everything bound to a request hangs on these."""

from __future__ import annotations

import typing as t
from contextvars import ContextVar

from werkzeug.local import LocalProxy

from .gone import missing_from

if t.TYPE_CHECKING:
    from .app import Flask
    from .ctx import AppContext, RequestContext, _AppCtxGlobals
    from .sessions import SessionMixin
    from .websockets import Websocket
    from .wrappers import Request

_no_app_msg = """\
Working outside of application context.

Something here needs the current application (current_app, g, url_for, ...). In a script, a shell or a test, open one:

    with app.app_context():
        ...

In a thread or task that a request starts, wrap the function in copy_current_request_context. In one of your own, give
it the application (current_app._get_current_object()) and open the context in there.
"""
_no_req_msg = """\
Working outside of request context.

Something here needs an active HTTP request (request, session, ...). It works inside of views and request hooks. In a
test, make a request with app.test_client(), or open a context:

    with app.test_request_context("/path"):
        ...

While a response is streamed the context is gone: wrap the generator, or the view that is one, in stream_with_context.
In a thread or task of your own, wrap the function in copy_current_request_context.
"""

_no_ws_msg = """\
Working outside of websocket context.

Something here needs an open websocket (websocket). It works inside of the views and hooks of websockets. In a thread or
task of your own, wrap the function in copy_current_websocket_context.
"""

_cv_app: ContextVar[AppContext] = ContextVar("asyncflask.app_ctx")
_cv_request: ContextVar[RequestContext] = ContextVar("asyncflask.request_ctx")

app_ctx: AppContext = LocalProxy(_cv_app, unbound_message=_no_app_msg)  # type: ignore[assignment]  # proxy
current_app: Flask = LocalProxy(_cv_app, "app", unbound_message=_no_app_msg)  # type: ignore[assignment]  # proxy
g: _AppCtxGlobals = LocalProxy(_cv_app, "g", unbound_message=_no_app_msg)  # type: ignore[assignment]  # proxy
request_ctx: RequestContext = LocalProxy(_cv_request, unbound_message=_no_req_msg)  # type: ignore[assignment]  # proxy
request: Request = LocalProxy(_cv_request, "request", unbound_message=_no_req_msg)  # type: ignore[assignment]  # proxy
session: SessionMixin = LocalProxy(_cv_request, "session", unbound_message=_no_req_msg)  # type: ignore[assignment]  # proxy


def _current_websocket() -> Websocket:
    # A websocket's context is a request context, whose request is the handshake.
    ctx = _cv_request.get(None)
    if ctx is None or not ctx.is_websocket:
        raise RuntimeError(_no_ws_msg)
    return t.cast("Websocket", ctx.request)


websocket: Websocket = LocalProxy(_current_websocket)  # type: ignore[assignment]  # proxy

if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
