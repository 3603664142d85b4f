"""JSON through the current application's provider; through the standard library where there is none."""

from __future__ import annotations

import json as _json
import typing as t

from ..globals import _cv_app, current_app
from ..gone import missing_from
from .provider import JSONProvider, _default

if t.TYPE_CHECKING:
    from ..wrappers import Response


def _get_provider() -> JSONProvider | None:
    context = _cv_app.get(None)
    return None if context is None else context.app.json


def dumps(obj: t.Any, **kwargs: t.Any) -> str:
    if provider := _get_provider():
        return provider.dumps(obj, **kwargs)
    kwargs.setdefault("default", _default)
    return _json.dumps(obj, **kwargs)


def dump(obj: t.Any, fp: t.IO[str], **kwargs: t.Any) -> None:
    if provider := _get_provider():
        provider.dump(obj, fp, **kwargs)
    else:
        kwargs.setdefault("default", _default)
        _json.dump(obj, fp, **kwargs)


def loads(s: str | bytes, **kwargs: t.Any) -> t.Any:
    return (_get_provider() or _json).loads(s, **kwargs)


def load(fp: t.IO[t.AnyStr], **kwargs: t.Any) -> t.Any:
    return (_get_provider() or _json).load(fp, **kwargs)


def jsonify(*args: t.Any, **kwargs: t.Any) -> Response:
    """A JSON response: one value, several as a list, or keywords as an object."""
    return current_app.json.response(*args, **kwargs)


if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
