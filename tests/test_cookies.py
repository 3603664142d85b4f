"""Single cookies: what is found and what is written is Werkzeug's."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from hypothesis import example, given, settings, strategies as st
from werkzeug.datastructures import Headers, ImmutableMultiDict
from werkzeug.wrappers import Response as BaseResponse

from asyncflask import Request, Response
from asyncflask.cookies import find_cookie, set_cookie, vary_by_cookie

PIECES = st.sampled_from(
    ["a", "session", "b", "=", "==", ";", "; ", " ", "\t", ",", '"', "\\", "\xe9", "\n", "x.y-z_", ""]
)
OPTIONS: dict[str, t.Any] = {
    "domain": None, "path": "/", "secure": False, "partitioned": False, "samesite": None, "httponly": True
}  # fmt: skip
MOMENT = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def make_requests(cookie: str) -> list[Request]:
    """One of each edge."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", cookie.encode("latin-1"))]}
    return [Request({"REQUEST_METHOD": "GET", "HTTP_COOKIE": cookie}), Request.from_scope(scope, None)]


@example("a=b c; a=d", "a")  # what Werkzeug skips
@given(st.lists(PIECES, max_size=14).map("".join), st.sampled_from(["a", "session", "b", "", "a b", "x.y-z_", "="]))
@settings(max_examples=500, deadline=None)
def test_a_cookie_is_found(header: str, name: str) -> None:
    for request in make_requests(header):
        found = find_cookie(request, name)
        assert found == request.cookies.get(name)


def test_the_others_are_not_parsed() -> None:
    for request in make_requests("a=1; session=x.y; b=2"):
        assert find_cookie(request, "session") == "x.y"
        assert "cookies" not in request.__dict__


def test_no_cookies_at_all() -> None:
    assert find_cookie(Request({"REQUEST_METHOD": "GET"}), "a") is None


def test_cookies_of_a_subclass_or_of_own_headers() -> None:
    class Own(Request):
        cookies = ImmutableMultiDict({"a": "own"})  # type: ignore[assignment]

    assert find_cookie(Own({"HTTP_COOKIE": "a=sent"}), "a") == "own"
    request = Request({"HTTP_COOKIE": "a=sent"})
    request.headers = Headers([("Cookie", "b=1"), ("Cookie", "a=2")])
    assert find_cookie(request, "a") == "2"
    request = Request({"HTTP_COOKIE": "a=sent"})
    request.__dict__["cookies"] = ImmutableMultiDict({"a": "patched"})
    assert find_cookie(request, "a") == "patched"


@given(
    value=st.text("abcXYZ019._-", max_size=80) | st.text(max_size=20),
    expires=st.sampled_from([None, MOMENT, MOMENT.replace(tzinfo=None), "some day", 1_900_000_000]),
    domain=st.sampled_from([None, "", "example.com", ".example.com:80", "b\xfccher.example"]),
    path=st.sampled_from([None, "/", "/\xe4 b;c"]),
    flags=st.tuples(*[st.sampled_from([True, False, 1])] * 3),
    samesite=st.sampled_from([None, "lax", "Strict", "none"]),
    name=st.sampled_from(["session", "s\xe9"]),
)
@settings(max_examples=300, deadline=None)
def test_a_cookie_is_written(
    name: str, value: str, expires: t.Any, domain: t.Any, path: t.Any, flags: t.Any, samesite: t.Any
) -> None:
    options = {"domain": domain, "path": path, "samesite": samesite}
    options |= dict(zip(("secure", "partitioned", "httponly"), flags, strict=True))
    ours, theirs = Response(), Response()
    set_cookie(ours, name, value, expires, **options)
    theirs.set_cookie(name, value, expires=expires, **options)
    assert list(ours.headers) == list(theirs.headers)


def test_a_wrong_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match="SameSite"):
        set_cookie(Response(), "a", "b", None, **{**OPTIONS, "samesite": "sometimes"})


def test_a_cookie_that_is_too_large() -> None:
    response = Response()
    with pytest.warns(UserWarning, match="too large"):
        set_cookie(response, "a", "b" * 5000, None, **OPTIONS)
    assert len(response.headers["Set-Cookie"]) > 5000


def test_a_response_with_its_own_way() -> None:
    class Own(Response):
        def set_cookie(self, key: str, value: str = "", **options: t.Any) -> None:
            super().set_cookie(key, value.upper(), **options)

    response = Own()
    set_cookie(response, "a", "b", None, **OPTIONS)
    assert response.headers["Set-Cookie"] == "a=B; HttpOnly; Path=/"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("vary", "Cookie")],
        [("Vary", "cookie, Accept")],
        [("Vary", "Accept")],
        [("VARY", "*"), ("X", "y")],
        [("Vary", "")],
        [("Vary", "Accept"), ("Vary", "Cookie")],
        [("Vary", "Cookie"), ("Vary", "Accept")],
    ],
)
def test_the_response_varies(headers: list[tuple[str, str]]) -> None:
    ours, theirs = Response(headers=headers), BaseResponse(headers=headers, mimetype="text/html")
    for _ in range(2):
        vary_by_cookie(ours)
        theirs.vary.add("Cookie")
        assert ours.headers.getlist("Vary") == theirs.headers.getlist("Vary")
