"""WSGI middleware keeps its word over ASGI: where `app.wsgi_app` was wrapped, HTTP requests go through that chain.

The chain runs in the request's worker thread, behind the same edge as all else: body, limits, disconnects and 503 are
the edge's. Async steps inside of it run on the serving loop. An async body that the middleware passes on untouched is
streamed on the loop as well, so that no thread waits for its pieces.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from itertools import chain as join

from werkzeug.wsgi import ClosingIterator

from .overrides import find_override
from .wrappers import Response

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from .app import Flask

NOTICE = (
    "app.wsgi_app is wrapped: HTTP requests go through that WSGI middleware, each in a worker thread."
    " ASGI middleware around app.asgi_app keeps async views on the event loop."
)


def find_chain(app: Flask) -> WSGIApplication | None:
    """What wraps `app.wsgi_app`, or overrides it in a class; None if nothing does."""
    return t.cast("WSGIApplication | None", find_override(app, "wsgi_app"))


def call_chain(chain: WSGIApplication, environ: WSGIEnvironment) -> Response:
    """The chain's answer (PEP 3333), up to its first piece unless that is async."""
    head: list[t.Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: t.Any = None) -> t.Any:
        if exc_info:  # nothing was sent yet, but a server is free to give up (PEP 3333, "Error Handling")
            raise exc_info[1].with_traceback(exc_info[2])
        head[:] = status, headers
        return written.append

    body = chain(environ, start_response)
    if not (head and hasattr(body, "__aiter__") and not written):
        body = _begin(body, head, written)
    if not head:
        raise RuntimeError(f"The WSGI middleware {chain!r} answered without a call of start_response.")
    response = Response(body, *head)
    if not any(name.lower() == "content-type" for name, _ in head[1]):
        del response.headers["Content-Type"]  # a default of ours
    return response


def _begin(body: Iterable[bytes], head: list[t.Any], written: list[bytes]) -> Iterable[bytes]:
    """The body, iterated until the response has started."""
    pieces = iter(body)
    for piece in pieces:
        written.append(piece)
        if head:
            break
    return ClosingIterator(join(written, pieces), getattr(body, "close", None))
