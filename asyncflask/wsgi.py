"""The WSGI edge (PEP 3333): the request cycle is driven in the server's own thread.

No event loop exists until a step is async; that runs on the process's one background loop while the thread waits.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from functools import cache

from werkzeug.exceptions import BadRequest

from .body import UnreadInput
from .bridge import DRIVEN, drive
from .ctx import RequestContext
from .dispatch import handle
from .responding import BODILESS_STATUS, final_headers, whole_body
from .routing import find_fast
from .wrappers import Response as NativeResponse

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .app import Flask
    from .wrappers import Response


def serve(app: Flask, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    ctx = app.request_context(environ)
    prepare(ctx, environ)
    unread = ctx.unread

    def render(response: Response) -> Iterable[bytes]:
        if unread is not None and unread.spool.on_disk:
            response.call_on_close(unread.spool.file.close)
        if response.status_code in BODILESS_STATUS or ctx.request.method == "HEAD" or response._on_close:
            return response(environ, start_response)
        if not response.is_sequence or not _answers_natively(type(response)):  # type: ignore[arg-type]  # classes do hash
            return response(environ, start_response)
        start_response(response.status, list(final_headers(response, ctx.request)))
        return [whole_body(response)]

    return drive(handle(ctx, render))


SERVE = serve


@cache
def _answers_natively(cls: t.Any) -> bool:
    """Whether a class of responses leaves to Werkzeug how it is called, so that a whole body needs no call."""
    return all(getattr(cls, name) is getattr(NativeResponse, name) for name in _CALLED)


_CALLED = ("__call__", "get_wsgi_response", "get_app_iter")


def prepare(ctx: RequestContext, environ: WSGIEnvironment) -> None:
    """Note on the context what the environ tells at once."""
    app, request = ctx.app, ctx.request
    ctx.place = DRIVEN
    ctx.cookie = environ.get("HTTP_COOKIE", "")
    length = environ.get("CONTENT_LENGTH")
    if length and not (length.isascii() and length.isdigit()):
        request.routing_exception = BadRequest("The Content-Length header is not a number.")
        return
    if length or "HTTP_TRANSFER_ENCODING" in environ:
        ctx.unread = UnreadInput(request, app.config["BODY_SPOOL_SIZE"])
    if "HTTP_UPGRADE" not in environ and app._plan(None).matches_fast:
        # With it, Werkzeug matches a websocket handshake.
        matched = ctx.matched = find_fast(app, request, request.path if environ.get("PATH_INFO") else "")
        if matched is not None:
            ctx.plan = app._plan(matched[0].endpoint)
