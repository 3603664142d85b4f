"""What some servers offer beyond ASGI's core (its "extensions"), and gunicorn beyond WSGI: early hints and trailers.

Where a server offers nothing, nothing is sent.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from .globals import _cv_request
from .steps import Host, kind_of

if t.TYPE_CHECKING:
    from .typing import Message
    from .wrappers import Request, Response

EARLY_HINT = "http.response.early_hint"
PATHSEND = "http.response.pathsend"
TRAILERS = "http.response.trailers"


def offers(request: Request, name: str) -> bool:
    """Whether the server of this request has the ASGI extension `name`."""
    scope = request._scope or request.environ.get("asgi.scope") or {}
    return name in (scope.get("extensions") or ())


async def send_early_hints(request: Request, links: Iterable[str]) -> bool:
    """Send a 103 with these Link headers (RFC 8297). Whether the server could."""
    values = [_check(link) for link in links]
    ctx = _cv_request.get(None)
    if ctx is not None and ctx.send is not None and offers(request, EARLY_HINT):
        await ctx.send({"type": EARLY_HINT, "links": [value.encode("latin-1") for value in values]})
        return True
    send = request.environ.get("wsgi.early_hints")
    if send is not None:
        send([("Link", value) for value in values])
    return send is not None


def _check(value: str) -> str:
    if not {"\r", "\n", "\0"}.isdisjoint(value):
        raise ValueError(f"A header's value must be one line: {value!r}.")
    return value


def takes_trailers(request: Request) -> bool:
    """Whether the server sends trailers, and the client has said that it reads them (RFC 9110 6.5.1)."""
    wanted = request.headers.get("TE", "").lower().split(",")
    return "trailers" in map(str.strip, wanted) and offers(request, TRAILERS)


async def make_trailers(host: Host, response: Response) -> Message:
    """The event with the response's trailers, which are made now if `response.trailers` is a function."""
    given = response.trailers
    trailers = await host.call((kind_of(given), given)) if callable(given) else given
    pairs = [(_check(name).lower(), _check(value)) for name, value in (trailers or {}).items()]
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    return {"type": TRAILERS, "headers": headers, "more_trailers": False}
