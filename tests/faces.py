"""Both faces of an application in this process, and real Flask as the judge.

A *scenario* is a function of a `Web` that builds an application, asks it and returns what it saw. `as_flask` makes a
test of it: the scenario runs on Flask, then on asyncflask through WSGI and through ASGI, and all must see the same.
With `in_all_styles` the functions that pass through `web.fn` are also tried as coroutine functions, and mixed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import pytest
from werkzeug.http import parse_cookie

import asyncflask
from asyncflask.testing import EnvironBuilder


class Answer:
    """A response as the client saw it. Equal to another with the same status, body and headers."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next(iter(self.headers_of(name)), None)

    def headers_of(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def _key(self) -> tuple[Any, ...]:
        return self.status, self.body, sorted((name.lower(), value) for name, value in self.headers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]  # compared, never kept in sets

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.body[:300]!r} {self.headers}>"


class WsgiClient:
    """Asks through the application's own test client."""

    def __init__(self, app: Any) -> None:
        self.client = app.test_client()

    def open(self, *args: Any, **kwargs: Any) -> Answer:
        response = self.client.open(*args, **kwargs)
        try:
            return Answer(response.status_code, list(response.headers), response.data)
        finally:
            response.close()

    def get(self, *args: Any, **kwargs: Any) -> Answer:
        return self.open(*args, method="GET", **kwargs)

    def post(self, *args: Any, **kwargs: Any) -> Answer:
        return self.open(*args, method="POST", **kwargs)


class AsgiClient(WsgiClient):
    """Calls `app(scope, receive, send)` on a loop of its own; keeps cookies."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookies: dict[str, str] = {}

    def open(self, *args: Any, **kwargs: Any) -> Answer:
        answer = asyncio.run(ask_asgi(self.app, make_scope(self.app, self.cookies, *args, **kwargs)))
        for line in answer.headers_of("Set-Cookie"):
            ((name, value),) = list(parse_cookie(line.partition(";")[0]).items())
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer


def make_scope(app: Any, cookies: dict[str, str], *args: Any, **kwargs: Any) -> tuple[dict[str, Any], bytes]:
    """The ASGI scope and the body of what a test client would send."""
    builder = EnvironBuilder(app, *args, **kwargs)
    try:
        environ = builder.get_environ()
    finally:
        builder.close()
    body = environ["wsgi.input"].read()
    headers = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    headers.update({name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)})
    if cookies:
        headers["COOKIE"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    root = environ["SCRIPT_NAME"].encode("latin-1").decode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": root + environ["PATH_INFO"].encode("latin-1").decode(),
        "root_path": root,
        "query_string": environ["QUERY_STRING"].encode("latin-1"),
        "headers": [(k.lower().replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("127.0.0.1", 12345),
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
    }
    return scope, body


async def ask_asgi(app: Any, question: tuple[dict[str, Any], bytes]) -> Answer:
    """One request as a server would make it. Fails if the application does not end its response."""
    scope, body = question
    events = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    over.set()
    start, *pieces = sent
    assert start["type"] == "http.response.start" and pieces and not pieces[-1].get("more_body"), sent
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Answer(start["status"], headers, b"".join(piece["body"] for piece in pieces))


class Web:
    """What a scenario needs: the framework's module, clients of its applications, a folder with files."""

    def __init__(self, api: ModuleType, client: type[WsgiClient], style: str, folder: Path) -> None:
        self.api: Any = api
        self.client = client
        self.style = style
        self.folder = folder
        self._turns = itertools.count()

    def app(self, name: str = "scenario", **kwargs: Any) -> Any:
        kwargs.setdefault("root_path", str(self.folder))
        return self.api.Flask(name, **kwargs)

    def blueprint(self, name: str, **kwargs: Any) -> Any:
        kwargs.setdefault("root_path", str(self.folder))
        return self.api.Blueprint(name, name, **kwargs)

    def fn(self, f: Callable[..., Any]) -> Any:
        """`f`, or a coroutine function of the same meaning where the style asks for one."""
        if self.style == "sync" or (self.style == "mixed" and next(self._turns) % 2):
            return f

        async def async_f(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return f(*args, **kwargs)

        async_f.__name__ = f.__name__
        return async_f


def fails(f: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The name of the error that a call raises."""
    try:
        f(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return "no error"


def find_difference(seen: Any, expected: Any) -> str:
    """Where two answers begin to differ."""
    if type(seen) is type(expected) and isinstance(seen, (list, tuple)):
        for index, (ours, flasks) in enumerate(zip(seen, expected, strict=False)):
            if ours != flasks:
                return f"[{index}] {find_difference(ours, flasks)}"
    return f"seen:     {seen!r}\n  expected: {expected!r}"


FACES: dict[str, type[WsgiClient]] = {"wsgi": WsgiClient, "asgi": AsgiClient}
both_faces = pytest.mark.parametrize("face", list(FACES))


def make_folder(path: Path) -> Path:
    for folder, name, text in (
        ("static", "hello.txt", "hello"),
        ("static", "sub/deep.css", "p {}"),
        ("other", "hello.txt", "other hello"),
        ("templates", "page.html", "page {{ value }} {{ g.value }}"),
        ("templates", "both.html", "the app's"),
        ("bp_templates", "both.html", "the blueprint's"),
        ("bp_templates", "own.html", "own {{ value }}"),
        (".", "secret.txt", "secret"),
    ):
        file = path / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def _make_test(scenario: Callable[[Web], Any], styles: tuple[str, ...]) -> Callable[..., None]:
    @both_faces
    @pytest.mark.parametrize("style", styles)
    def test(face: str, style: str, tmp_path: Path) -> None:
        make_folder(tmp_path)
        expected = scenario(Web(flask, WsgiClient, "sync", tmp_path))
        assert expected is not None, "A scenario returns what it saw."
        seen = scenario(Web(asyncflask, FACES[face], style, tmp_path))
        assert seen == expected, find_difference(seen, expected)

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    test.__module__ = scenario.__module__
    return test


def as_flask(scenario: Callable[[Web], Any]) -> Callable[..., None]:
    """A test that asyncflask does on both faces what Flask does."""
    return _make_test(scenario, ("sync",))


def in_all_styles(scenario: Callable[[Web], Any]) -> Callable[..., None]:
    """As `as_flask`, with the functions of the scenario sync, async and mixed."""
    return _make_test(scenario, ("sync", "async", "mixed"))
