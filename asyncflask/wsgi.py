"""The WSGI edge (PEP 3333): the request cycle is driven in the server's own thread.

No event loop exists until a step is async; that runs on the process's one background loop while the thread waits.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context

from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as ResponseBase

from .body import MAX_DIGITS, UnreadInput
from .ctx import RequestContext
from .dispatch import handle
from .environ import IN_PROCESS, check_headers, decode
from .responding import BODILESS_STATUS, answers_natively, final_headers, whole_body
from .routing import find_fast, is_plain_host
from .steps import DRIVEN, drive

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .app import Flask
    from .wrappers import Response


def serve(app: Flask, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """In a context of the request's own, as over ASGI: the server's thread goes on to serve others."""
    if IN_PROCESS in environ or "asgi.scope" in environ:  # a test, which shares its own, or the ASGI edge has made one
        return _answer(app, environ, start_response)
    context = copy_context()
    body = context.run(_answer, app, environ, start_response)
    wrapper = environ.get("wsgi.file_wrapper")  # PEP 3333: a callable; uWSGI's is no class
    if type(body) is list or (isinstance(wrapper, type) and isinstance(body, wrapper)):
        return body
    return _InContext(body, context)


class _InContext:
    """What runs the rest of a response in the request's context."""

    def __init__(self, body: Iterable[bytes], context: Context) -> None:
        self.body = body
        self.run: Callable[..., t.Any] = context.run
        self.pieces: Iterator[bytes] = self.run(iter, body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return t.cast(bytes, self.run(next, self.pieces))

    def close(self) -> None:
        body: t.Any = self.body
        if hasattr(body, "close"):
            self.run(body.close)


def _answer(app: Flask, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    ctx = app.request_context(environ)
    prepare(ctx, environ)
    unread = ctx.unread

    def render(response: Response) -> Iterable[bytes]:
        if unread is not None and unread.spool.on_disk:
            _close_later(unread.spool.file, response)
        if not isinstance(response, ResponseBase):
            return t.cast(t.Any, response)(environ, start_response)
        if response._status != "200 OK":
            check_headers([("status", response._status)])
        natively = answers_natively(type(response)) and not response._on_close  # type: ignore[arg-type]  # classes hash
        has_body = response._status_code not in BODILESS_STATUS and ctx.request.method != "HEAD"
        if natively and has_body and (body := response.untouched_body()) is not None:
            start_response(response._status, response.own_headers())
            return [body]
        if natively and has_body and response.is_sequence:
            headers, body = list(final_headers(response, ctx.request)), whole_body(response)
            start_response(response._status, headers)  # last: what fails before is still answered
            return [body]
        check_headers(response.headers)
        return response(environ, start_response)

    app._open_requests.add(ctx)
    try:
        return drive(handle(ctx, render))
    finally:
        app._open_requests.discard(ctx)


def _close_later(file: t.IO[bytes], response: t.Any) -> None:
    """Close the body's temporary file, at once unless a stream may still read it."""
    if isinstance(response, ResponseBase) and not response.is_sequence:
        response.call_on_close(file.close)
    else:
        file.close()


SERVE = serve


def prepare(ctx: RequestContext, environ: WSGIEnvironment) -> None:
    """Note on the context what the environ tells at once."""
    app, request = ctx.app, ctx.request
    ctx.place = DRIVEN
    ctx.cookie = environ.get("HTTP_COOKIE", "")
    plan = app._plans[None]
    if plan.is_guarded:
        from .deadlines import Deadline  # and asyncio with it

        ctx.deadline = Deadline()
    length = environ.get("CONTENT_LENGTH")
    if length and not (length.isascii() and length.isdigit() and len(length) < MAX_DIGITS):
        request.routing_exception = BadRequest("The Content-Length header is not a number.")
        return
    if length or "HTTP_TRANSFER_ENCODING" in environ:
        ctx.unread = UnreadInput(request, app.config["BODY_SPOOL_SIZE"])
    # With an upgrade, Werkzeug matches a websocket handshake.
    if "HTTP_UPGRADE" not in environ and plan.matches_fast and is_plain_host(environ.get("HTTP_HOST", "")):
        method = environ.get("REQUEST_METHOD", "GET").upper()
        matched = find_fast(app, request, method, decode(environ.get("PATH_INFO", "")))
        if matched is not None:
            request.url_rule, request.view_args = matched
            ctx.plan = app._plans[matched[0].endpoint]
