"""The ASGI edge: scopes `http`, `websocket` and `lifespan` (ASGI specification 3.0)."""

from __future__ import annotations

import typing as t
from collections.abc import Awaitable, Iterable
from io import BytesIO

from werkzeug.exceptions import BadRequest, HTTPException

from .body import MAX_DIGITS, BodyReader, BodyStream, MemoryBody, UnreadBody, make_streamed
from .ctx import RequestContext
from .environ import BODILESS_METHODS, IN_PROCESS, PRESERVE, build_environ, path_info
from .exchange import ChainExchange, Exchange
from .routing import find_fast, is_plain_host
from .steps import LOOP, THREAD

if t.TYPE_CHECKING:
    from .app import Flask
    from .plan import Plan
    from .typing import Receive, Scope, Send

# http


async def _serve_http(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    headers = dict(scope["headers"])
    if len(headers) != len(scope["headers"]):
        headers = _join_repeated(scope["headers"])
    reader = stream = refusal = ctx = request = None
    if scope["method"] not in BODILESS_METHODS or b"content-length" in headers or b"transfer-encoding" in headers:
        _ = app._plans[None]  # the first plan checks the configuration, before anything is read from it
        reader = BodyReader(receive, app.config["BODY_TIMEOUT"])
        stream, refusal = await _begin_body(app, reader, headers.get(b"content-length"))
    try:
        plan = app._plans[None]
        if plan.is_wrapped:
            ctx = RequestContext(app, build_environ(scope, stream or BytesIO()))
        else:
            ctx = _open_context(app, plan, scope, stream, headers, refusal)
            plan = ctx.plan
        request = ctx.request
        request._receive, request._reader = receive, reader
        app._open_requests.add(ctx)
        if plan.is_wrapped:
            await ChainExchange(ctx, send, refusal).serve(THREAD)
        elif plan.is_guarded:
            from .guarding import serve_guarded  # the others pay nothing for it

            await serve_guarded(ctx, send)
        else:
            await Exchange(ctx, send).serve(plan.start if plan.needs_thread else None)
    finally:
        if ctx is not None:
            app._open_requests.discard(ctx)
        if request is not None and request._reader is not None:
            request._reader.close()
        if stream is not None and PRESERVE not in scope:
            stream.close()


def _join_repeated(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """HTTP/2 clients send cookies one by one (RFC 9113 8.2.3). Two lengths joined so are no number any more."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {name: b"; ".join(several) for name, several in values.items()}


async def _begin_body(app: Flask, reader: BodyReader, length: bytes | None) -> tuple[t.IO[bytes], HTTPException | None]:
    """The body as a file, its first piece taken unless the declared length is too much; or why it is refused."""
    if length is not None and not (length.isdigit() and len(length) < MAX_DIGITS):
        return MemoryBody(), BadRequest("The Content-Length header is not a number.")
    limit = app.config["MAX_CONTENT_LENGTH"]
    first = b""
    reader.left = None if length is None else int(length)
    if reader.left == 0:
        reader.complete = True
    elif reader.left is None or limit is None or reader.left <= limit:
        try:
            first = await reader.read()
        except HTTPException as error:
            return MemoryBody(), error.with_traceback(None)
    if reader.complete:
        return MemoryBody(first), None
    return t.cast("t.IO[bytes]", BodyStream(reader, first, app.config["BODY_SPOOL_SIZE"])), None


def _open_context(
    app: Flask,
    plan: Plan,
    scope: Scope,
    stream: t.IO[bytes] | None,
    headers: dict[bytes, bytes],
    refusal: HTTPException | None,
) -> RequestContext:
    """The request's context, its URL matched where no user's code takes part, and so its plan.

    `plan` is that of requests which no rule matches.
    """
    if plan.native_context:
        ctx = RequestContext(app, {}, app.request_class.from_scope(scope, stream))
    else:
        ctx = app.request_context(build_environ(scope, stream or BytesIO()))
    request = ctx.request
    ctx.fresh_app_context = IN_PROCESS not in scope
    ctx.place = LOOP
    if PRESERVE in scope:  # the debugger's or the test client's
        request.environ[PRESERVE] = scope[PRESERVE]
    ctx.cookie = headers[b"cookie"].decode("latin-1") if b"cookie" in headers else ""
    matched = None
    if refusal is not None:
        request.routing_exception = refusal
    elif plan.matches_fast and b"upgrade" not in headers and is_plain_host(headers.get(b"host", b"")):
        # With an upgrade, Werkzeug would match a websocket handshake.
        matched = find_fast(app, request, scope["method"], path_info(scope))
    if matched is not None:
        request.url_rule, request.view_args = matched
        plan = app._plans[matched[0].endpoint]
    elif plan.matches_on_loop and request.routing_exception is None:
        ctx.match_request()  # by Werkzeug, but before it is decided where the request begins
        plan = app._plans[request.endpoint]
    ctx.plan = plan
    if plan.streams_body and type(stream) is MemoryBody:
        stream = t.cast("t.IO[bytes]", make_streamed(stream))
        request._replace_input(stream)
    if type(stream) is BodyStream:  # type: ignore[comparison-overlap]  # isinstance() of what io's classes are is slow
        ctx.unread = UnreadBody(stream, request)
    return ctx


def _serve_websocket(app: Flask, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    from .asgi_websocket import serve_websocket  # whoever has none does not pay for them

    return serve_websocket(app, scope, receive, send)


async def _serve_lifespan(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    from .lifespan import serve_lifespan

    await serve_lifespan(app, scope, receive, send)


class _Handlers(dict[str, t.Callable[[t.Any, t.Any, t.Any, t.Any], Awaitable[None]]]):
    def __missing__(self, kind: str) -> t.NoReturn:
        raise ValueError(f"Unknown ASGI scope type {kind!r}.")


SERVE = _Handlers({"http": _serve_http, "websocket": _serve_websocket, "lifespan": _serve_lifespan})
