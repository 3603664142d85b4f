"""WSGI middleware keeps its word over ASGI: where `app.wsgi_app` was wrapped, HTTP requests go through that chain.

The chain runs in the request's worker thread, behind the same edge as all else: body, limits, disconnects and 503 are
the edge's. Async steps inside of it run on the serving loop.
"""

from __future__ import annotations

import typing as t

from werkzeug.test import run_wsgi_app

from .wrappers import Response

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from .app import Flask

NOTICE = (
    "app.wsgi_app is wrapped: HTTP requests go through that WSGI middleware, each in a worker thread."
    " ASGI middleware around app.asgi_app keeps async views on the event loop."
)


def find_chain(app: Flask) -> WSGIApplication | None:
    """What wraps `app.wsgi_app`; None if nothing does."""
    return t.cast("WSGIApplication | None", app.__dict__.get("wsgi_app"))


def call_chain(chain: WSGIApplication, environ: WSGIEnvironment) -> Response:
    """The chain's answer, up to its first piece."""
    return Response(*run_wsgi_app(chain, environ))
