"""From what a view returned to a response object, and from that to the headers that leave."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache, lru_cache
from types import NoneType

from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from .environ import check_headers
from .globals import request
from .wrappers import Response, _starts_natively

if t.TYPE_CHECKING:
    from .app import Flask
    from .typing import ResponseReturnValue
    from .wrappers import Request

_VALID = (
    "The return type must be a string, dict, list, tuple with headers or status, Response instance, generator, async"
    " generator or WSGI callable"
)

# RFC 9110 6.4.1: these have no body.
BODILESS_STATUS = frozenset({*range(100, 200), 204, 304})


def make_response(app: Flask, rv: ResponseReturnValue) -> Response:
    """Flask's rules for every return type. Raises TypeError for anything else, None above all."""
    body, status, headers = _split(rv) if isinstance(rv, tuple) else (rv, None, None)
    if isinstance(body, (dict, list)):
        response: Response = app.json.response(body)
    elif isinstance(body, (str, bytes, bytearray, Iterator, AsyncIterator)):
        return _check_status(app.response_class(body, status=status, headers=headers), status)
    else:
        response = _convert(app, body)
    if status is not None:
        if isinstance(status, (str, bytes, bytearray)):
            response.status = status  # type: ignore[assignment]  # bytes pass as in Flask
        else:
            response.status_code = status
    if headers:
        response.headers.update(headers)
    return response if status is None else _check_status(response, status)


def _check_status(response: Response, status: t.Any) -> Response:
    """Werkzeug takes any text for a status, with the code 0; no server does."""
    if response.status_code == 0:
        raise TypeError(
            f"The view function for {request.endpoint!r} returned the status {status!r}, which has no code."
        )
    return response


def _split(rv: tuple[t.Any, ...]) -> tuple[t.Any, t.Any, t.Any]:
    if len(rv) == 3:
        return rv
    if len(rv) == 2:
        body, second = rv
        if isinstance(second, (dict, tuple, list)) or hasattr(second, "getlist"):
            return body, None, second
        return body, second, None
    raise TypeError(
        "The view function did not return a valid response tuple. The tuple must have the form (body, status,"
        " headers), (body, status), or (body, headers)."
    )


def _convert(app: Flask, body: t.Any) -> Response:
    if isinstance(body, app.response_class):
        return body
    if isinstance(body, HTTPException) and body.response is None:
        return _convert_exception(app, body)
    if isinstance(body, BaseResponse) or callable(body):
        return _run_wsgi(app, body)
    if body is None:
        raise TypeError(
            f"The view function for {request.endpoint!r} did not return a valid response. The function either"
            " returned None or ended without a return statement."
        )
    raise TypeError(f"The view function did not return a valid response. {_VALID}, but it was a {type(body).__name__}.")


def _convert_exception(app: Flask, error: HTTPException) -> Response:
    cls: t.Any = app.response_class
    response: t.Any
    if answers_natively(cls) and _starts_natively(cls) and _has_plain_page(error):
        response = _make_page(error)
    else:  # Werkzeug's own do not look at the environ, which over ASGI would be built for nothing
        plain = type(error).__module__.startswith("werkzeug.")
        response = error.get_response(None if plain else request.environ)
    response.__class__ = cls  # its initialiser takes no part, as in Flask
    return t.cast("Response", response)


_MADE_BY = frozenset({"get_response", "get_body", "get_description", "get_headers"})


def _has_plain_page(error: HTTPException) -> bool:
    """Whether all that makes an error's response is Werkzeug's."""
    cls = type(error)
    is_plain = _are_plain(cls.get_response, cls.get_body, cls.get_description, cls.get_headers)
    return is_plain and _MADE_BY.isdisjoint(vars(error))


@lru_cache(maxsize=256)
def _are_plain(*methods: t.Any) -> bool:
    return all(getattr(method, "__module__", "") == HTTPException.__module__ for method in methods)


def _make_page(error: HTTPException) -> Response:
    """What `error.get_response` would come to."""
    cls = type(error)
    default = cls.description
    if type(default) is str and error.description is default and cls.name is HTTPException.name:
        page = _render_default_page(error.code, default)
    else:
        page = error.get_body().encode()
    response = Response(page, error.code, mimetype="text/html")
    headers = error.get_headers()
    if len(headers) > 1:
        response.headers = Headers()
        for name, value in (*headers, ("Content-Length", str(len(page)))):
            response.headers.add(name, value)
    return response


@lru_cache(maxsize=256, typed=True)
def _render_default_page(code: int | None, description: str) -> bytes:
    """The page of a class of errors, whose text comes from no request."""
    error = HTTPException(description)
    error.code = code
    return error.get_body().encode()


def _run_wsgi(app: Flask, body: t.Any) -> Response:
    if isinstance(body, Response):  # whose class holds what Werkzeug keeps in the instance
        kept = ("headers", "_status", "_status_code", "direct_passthrough")
        vars(body).update({name: getattr(body, name) for name in kept})
    try:
        return t.cast("Response", app.response_class.force_type(body, request.environ))
    except TypeError as error:
        raise TypeError(
            f"{error}\nThe view function did not return a valid response. {_VALID}, but it was a {type(body).__name__}."
        ) from None


@cache
def answers_natively(cls: t.Any) -> bool:
    """Whether a class of responses leaves to us and to Werkzeug how it is called, so that it need not be called.

    So does NoneType: a websocket's view has no response.
    """
    if cls is NoneType:
        return True
    return issubclass(cls, Response) and all(getattr(cls, name) is getattr(Response, name) for name in _CALLED)


_CALLED = ("__call__", "get_wsgi_response", "get_app_iter", "iter_encoded", "close")


def call_response(response: t.Any, request: Request) -> Response:
    """The answer of a WSGI application, or of a response with its own way of being called."""
    from werkzeug.test import run_wsgi_app

    return Response(*run_wsgi_app(response, request.environ))


def whole_body(response: BaseResponse) -> bytes:
    """The body of a response that is a sequence."""
    pieces = response.response
    if len(pieces) == 1 and type(pieces[0]) is bytes:  # type: ignore[arg-type,index]  # a list or tuple
        return pieces[0]  # type: ignore[index]
    return b"".join(response.iter_encoded())


def final_headers(response: Response, request: Request) -> Iterable[tuple[str, str]]:
    """The headers to send: Werkzeug's `get_wsgi_headers`, without an environ where none is needed."""
    check_headers(response.headers)
    plain = type(response).get_wsgi_headers is BaseResponse.get_wsgi_headers
    if plain and response.status_code not in BODILESS_STATUS and response.is_sequence:
        names = [name.lower() for name, _ in response.headers]
        if "content-length" in names and "location" not in names and "content-location" not in names:
            return response.headers  # the common case: Werkzeug's would be a copy
    environ = {} if plain and not response.autocorrect_location_header else request.environ
    return response.get_wsgi_headers(environ).to_wsgi_list()
