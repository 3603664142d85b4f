"""Headers of clients that Werkzeug would fail over, or read for too long: dates, ranges, credentials (RFC 9110)."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from werkzeug.datastructures import IfRange
from werkzeug.utils import cached_property
from werkzeug.wrappers import Request as RequestBase

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

T = t.TypeVar("T")
_LONGEST_RANGE = 200  # of one range. Of several Werkzeug answers 416 too, but it would read them all first.
_DATED = frozenset({"HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE", "HTTP_RANGE"})


def make_conditional(make: Callable[..., T], environ: WSGIEnvironment, *args: t.Any, **kwargs: t.Any) -> T:
    """What Werkzeug's `make` makes of the client's conditions, without those that are none."""
    if len(environ.get("HTTP_RANGE", "")) > _LONGEST_RANGE:
        environ = {**environ, "HTTP_RANGE": "bytes="}
    try:
        return make(environ, *args, **kwargs)
    except OverflowError:  # a date with a number too large: `parse_date` lets it pass
        return make({key: environ[key] for key in environ.keys() - _DATED}, *args, **kwargs)


def _forgiving(name: str, default: Callable[[], t.Any], kind: Callable[..., t.Any] = property) -> t.Any:
    read = getattr(RequestBase, name).__get__

    def get(request: RequestBase) -> t.Any:
        try:
            return read(request, type(request))
        except (OverflowError, ValueError):
            return default()

    get.__name__, get.__doc__ = name, getattr(RequestBase, name).__doc__
    return kind(get)


class ForgivingHeaders:
    """What Werkzeug raises over and Flask answers 500 for: dates with numbers too large, credentials beyond ASCII."""

    if not t.TYPE_CHECKING:  # their types are Werkzeug's
        date = _forgiving("date", lambda: None)
        if_modified_since = _forgiving("if_modified_since", lambda: None)
        if_unmodified_since = _forgiving("if_unmodified_since", lambda: None)
        if_range = _forgiving("if_range", IfRange)
        authorization = _forgiving("authorization", lambda: None, cached_property)
