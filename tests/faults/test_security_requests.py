"""Methods, types and heads of requests that are not what they say."""

from __future__ import annotations

import io
import typing as t

import pytest
from edge import make_scope
from fuzz.faces import Question
from security import FACES, ask, both_faces, is_linear, make_app

from asyncflask import Flask, request
from asyncflask.environ import build_environ, build_scope
from asyncflask.views import MethodView

JSON = (b"content-type", b"application/json")

# CVE-2026-48817


def make_views() -> Flask:
    app = make_app(PROPAGATE_EXCEPTIONS=False)

    class Sync(MethodView):
        decorators: t.ClassVar[list[t.Any]] = []

        def get(self) -> str:
            return "get"

        def _helper(self) -> str:
            return "helper"

        helper = report = _helper

    class Async(MethodView):
        async def get(self) -> str:
            return "get"

        async def _helper(self) -> str:
            return "helper"

        helper = report = _helper

    class Any(Sync):
        methods = ("GET", "POST", "REPORT")

    for cls in (Sync, Async, Any):
        app.add_url_rule(f"/{cls.__name__.lower()}", view_func=cls.as_view(cls.__name__))
    return app


@both_faces
@pytest.mark.parametrize("view", ["sync", "async", "any"])
@pytest.mark.parametrize(
    "method",
    [
        "_HELPER",
        "HELPER",
        "__INIT__",
        "__CLASS__",
        "DISPATCH_REQUEST",
        "AS_VIEW",
        "METHODS",
        "DECORATORS",
        "G\u0130T",
        "",
    ],
)
def test_method_is_no_attribute(face: str, view: str, method: str) -> None:
    app = make_views()
    assert ask(face, app, f"/{view}", method="GET").body == b"get"
    answer = ask(face, app, f"/{view}", method=method)
    assert answer.status == 405 or (not method and answer.body == b"get")


@both_faces
def test_method_that_was_asked_for(face: str) -> None:
    app = make_views()
    assert ask(face, app, "/any", method="REPORT").body == b"helper"
    assert ask(face, app, "/any", method="POST").status in (405, 500)  # announced, but not there: as in Flask
    assert ask(face, app, "/sync", method="HEAD").status == 200


# Types


@both_faces
@pytest.mark.parametrize("view", ["sync", "async"])
def test_json_as_another_type(face: str, view: str) -> None:
    """What a form of another site can send is no JSON: browsers ask first before they send that type."""
    app = make_app()
    app.add_url_rule("/sync", "sync", lambda: {"seen": request.json}, methods=["POST"])

    @app.post("/async")
    async def read() -> dict[str, t.Any]:
        return {"seen": request.get_json(), "silent": request.get_json(silent=True)}

    simple = (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=b",
        b"text/json",
        b"",
        b"application/jsonx",
        b"json",
        b"text/plain; application/json",
    )
    for kind in simple:
        assert ask(face, app, f"/{view}", (b"content-type", kind), body=b"{}").status == 415, kind
    assert ask(face, app, f"/{view}", body=b"{}").status == 415
    for kind in (
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/problem+json",
        b"Application/JSON",
    ):
        assert ask(face, app, f"/{view}", (b"content-type", kind), body=b"{}").status == 200, kind


@both_faces
@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"-" + b"9" * 5_000, b"\xff", b"", b"{", b"\xef\xbb\xbf{}"],
)
def test_json_that_is_none(face: str, body: bytes) -> None:
    """Faults 14 and 15."""
    app = make_app()
    app.add_url_rule("/", "read", lambda: {"type": type(request.json).__name__}, methods=["POST"])
    answer = ask(face, app, "/", JSON, body=body)
    assert answer.status == 400 or body.startswith(b"\xef\xbb\xbf")


# Heads. CVE-2025-14550, fault 16


# So long that copying what was joined before, at each header, costs more than all else.
VALUE = "v" * 100
COOKIE = f"a={VALUE}"


def make_headers(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"x-name", VALUE.encode())] * count + [(b"cookie", COOKIE.encode())] * count


def make_head(count: int) -> dict[str, t.Any]:
    scope = make_scope("GET", "/", ())
    scope["headers"] = make_headers(count)
    return scope


def test_environ_of_many_equal_headers() -> None:
    environ = build_environ(make_head(10_000), io.BytesIO())
    assert environ["HTTP_X_NAME"] == ",".join([VALUE] * 10_000)
    assert environ["HTTP_COOKIE"] == "; ".join([COOKIE] * 10_000)
    assert is_linear(lambda size: build_environ(make_head(size), io.BytesIO()))
    assert len(build_scope(environ)["headers"]) == 2


@pytest.mark.parametrize(
    "looks",
    [
        lambda: request.headers["X-Name"],
        lambda: list(request.headers),
        lambda: request.environ["HTTP_COOKIE"],
        lambda: request.cookies,
    ],
)
def test_many_equal_headers_take_linear_time(looks: t.Callable[[], object]) -> None:
    app = make_app()
    app.add_url_rule("/", "look", lambda: str(looks())[:10])

    def send(count: int) -> None:
        assert ask("asgi", app, "/", *make_headers(count)).status == 200

    assert is_linear(send)


@both_faces
def test_many_different_headers_take_linear_time(face: str) -> None:
    app = make_app()
    app.add_url_rule("/", "look", lambda: str(len(request.headers)))
    assert is_linear(lambda size: ask(face, app, "/", *((b"x-%d" % n, b"value") for n in range(size))))


@both_faces
def test_headers_with_underscores_do_not_pose_as_others(face: str) -> None:
    """Over WSGI it is the servers that leave them out."""
    app = make_app()
    app.add_url_rule("/", "look", lambda: str(request.headers.get("X-User")) + str(request.environ.get("HTTP_X_USER")))
    if face == "asgi":
        assert ask(face, app, "/", (b"x_user", b"admin")).body == b"NoneNone"
        assert ask(face, app, "/", (b"x_user", b"admin"), (b"x-user", b"me")).body == b"meme"


@both_faces
@pytest.mark.parametrize(
    "query", [b"\xdf", b"a=\xff&b=1", b"%", b"%zz", b"a=%ff", b"\xc3\xa9=1", b"&&==&", b"a" * 100_000, b"a&" * 50_000]
)
def test_any_query_can_be_read(face: str, query: bytes) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule(
        "/", "look", lambda: str([len(request.args), request.full_path, request.url, request.query_string][0])
    )
    assert FACES[face](app, Question("/", query)).status == 200


@both_faces
@pytest.mark.parametrize(
    "path",
    ["/\ufffd", "/%", "/\0", "/" + "a/" * 20_000, "/" + "//" * 20_000, "/" + "../" * 20_000, "/\u2028", "/*", "/<a>"],
)
def test_any_path_is_an_answer(face: str, path: str) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/<path:path>", "look", lambda path: path[:5])
    app.add_url_rule("/<a>/<b>/<c>/", "three", lambda a, b, c: a)
    assert ask(face, app, path).status < 500
