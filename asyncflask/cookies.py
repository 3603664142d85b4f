"""Single cookies, read and written as Werkzeug does it, in a shorter way where they are plain."""

from __future__ import annotations

import re
import typing as t
from datetime import datetime
from functools import lru_cache

from werkzeug.datastructures import EnvironHeaders
from werkzeug.http import dump_cookie, http_date
from werkzeug.wrappers import Request as RequestBase, Response as ResponseBase

from .environ import ScopeHeaders

_PLAIN_VALUE = re.compile(r"[\w.-]*", re.ASCII)  # needs no quotes
_JOINED = (ScopeHeaders, EnvironHeaders)  # have all cookies in one header


def find_cookie(request: RequestBase, name: str) -> str | None:
    """`request.cookies.get(name)`, without parsing the others."""
    header = _find_plain_header(request)
    if header is None or name.split() != [name]:
        return request.cookies.get(name)
    for part in header.split(";"):
        key, _, value = part.partition("=")
        if key.strip(" \t") == name:
            value = value.strip(" \t")
            if " " not in value and "\t" not in value:  # else Werkzeug skips it
                return value
    return None


def _find_plain_header(request: RequestBase) -> str | None:
    """The cookies as they were sent; None if they may mean something else."""
    headers = request.headers
    native = "cookies" not in request.__dict__ and getattr(type(request), "cookies", None) is RequestBase.cookies
    if not native or not isinstance(headers, _JOINED):
        return None
    header = headers.get("Cookie", "")
    return None if '"' in header else header  # quotes may hide a semicolon


def set_cookie(response: ResponseBase, name: str, value: str, expires: t.Any, **options: t.Any) -> None:
    """`response.set_cookie` with what `SessionInterface` knows of a cookie."""
    dated = expires is None or isinstance(expires, datetime)
    if dated and type(response).set_cookie is ResponseBase.set_cookie and _PLAIN_VALUE.fullmatch(value):
        start, domain, rest = _dump_around(name, **options)
        expiry = "" if expires is None else f"; Expires={http_date(expires)}"
        header = f"{start}{value}{domain}{expiry}{rest}"
        if len(header) <= response.max_cookie_size:  # else there is a warning to be given
            response.headers.add("Set-Cookie", header)
            return
    response.set_cookie(name, value, expires=expires, **options)


@lru_cache(maxsize=64, typed=True)
def _dump_around(name: str, domain: str | None, **options: t.Any) -> tuple[str, str, str]:
    """A cookie's header up to its value, its domain, and what follows the expiry."""
    start = dump_cookie(name, path=None)
    whole = dump_cookie(name, domain=domain, path=None)
    rest = dump_cookie(name, max_size=0, **options)
    return start, whole.removeprefix(start), rest.removeprefix(start)


def vary_by_cookie(response: ResponseBase) -> None:
    """`response.vary.add("Cookie")`."""
    for name, value in response.headers:
        if name.lower() == "vary":
            if value != "Cookie":
                response.vary.add("Cookie")
            return
    response.headers.add("Vary", "Cookie")
