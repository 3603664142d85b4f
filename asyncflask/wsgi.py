"""The WSGI edge (PEP 3333): the request cycle is driven in the server's own thread.

No event loop exists until a step is async; such a step runs on the process's one background loop while the thread waits.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from werkzeug.exceptions import BadRequest

from .body import UnreadInput
from .bridge import DRIVEN, drive
from .ctx import RequestContext
from .dispatch import handle
from .routing import find_fast

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .app import Flask
    from .wrappers import Response


def serve(app: Flask, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    ctx = app.request_context(environ)
    prepare(ctx, environ)

    def render(response: Response) -> Iterable[bytes]:
        return response(environ, start_response)

    return drive(handle(ctx, render))


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
    if "HTTP_UPGRADE" not in environ:  # Werkzeug matches a websocket handshake otherwise
        ctx.matched = find_fast(app, request, environ.get("PATH_INFO", ""))
