"""What a client gave and the application puts into a header, a cookie, a file's name or a log stays inside of it."""

from __future__ import annotations

import io
import logging
import typing as t
from collections.abc import Callable

import pytest
from fuzz.faces import Answer
from security import ask, both_faces, make_app
from socket_edge import Socket
from werkzeug.datastructures import WWWAuthenticate

from asyncflask import (
    Response,
    ServerSentEvent,
    abort,
    after_this_request,
    make_response,
    redirect,
    request,
    send_file,
    url_for,
    websocket,
)  # fmt: skip

UNSAFE = {"cr": "a\rX-Evil: 1", "lf": "a\nX-Evil: 1", "crlf": "a\r\nX-Evil: 1", "nul": "a\0X-Evil: 1"}
Maker = Callable[[str], t.Any]


def changed(change: Callable[[Response], object]) -> Response:
    response = make_response("body")
    change(response)
    return response


def with_cookie(**options: str) -> Response:
    return changed(lambda response: response.set_cookie(**{"key": "name", **options}))  # type: ignore[arg-type]


def set_later(bad: str) -> str:
    after_this_request(lambda response: changed(lambda other: other.headers.set("X-Name", bad)))
    return "body"


MAKERS: dict[str, Maker] = {
    "value": lambda bad: changed(lambda response: response.headers.set("X-Name", bad)),
    "name": lambda bad: changed(lambda response: response.headers.set(bad, "value")),
    "returned value": lambda bad: ("body", {"X-Name": bad}),
    "returned name": lambda bad: ("body", {bad: "value"}),
    "returned pairs": lambda bad: ("body", 200, [(bad, "value")]),
    "response": lambda bad: Response("body", headers=[("X-Name", bad)]),
    "response's name": lambda bad: Response("body", headers=[(bad, "value")]),
    "stream's name": lambda bad: Response(iter(["body"]), headers=[(bad, "value")]),
    "no content": lambda bad: Response(status=204, headers=[(bad, "value")]),
    "after_request": set_later,
    "status": lambda bad: ("body", f"200 {bad}"),
    "set status": lambda bad: changed(lambda response: setattr(response, "status", f"200 {bad}")),
    "content type": lambda bad: Response("body", content_type=f"text/{bad}"),
    "mimetype": lambda bad: Response("body", mimetype=f"text/{bad}"),
    "etag": lambda bad: changed(lambda response: response.set_etag(bad)),
    "vary": lambda bad: changed(lambda response: response.vary.add(bad)),
    "authenticate": lambda bad: changed(
        lambda response: setattr(response, "www_authenticate", WWWAuthenticate("basic", {"realm": bad}))
    ),
    "option": lambda bad: changed(lambda response: response.headers.add("X-Name", "value", option=bad)),
    "redirect": lambda bad: redirect(f"/{bad}"),
    "redirect's host": lambda bad: redirect(f"http://{bad}/"),
    "cookie's name": lambda bad: with_cookie(key=bad),
    "cookie's domain": lambda bad: with_cookie(domain=bad),
    "cookie's samesite": lambda bad: with_cookie(samesite=bad),
    "attachment": lambda bad: send_file(io.BytesIO(), download_name=f"{bad}.txt", as_attachment=True),
    "file": lambda bad: send_file(io.BytesIO(), "text/plain", download_name=bad),
    "file's type": lambda bad: send_file(io.BytesIO(), f"text/{bad}"),
    "abort": lambda bad: abort(Response("body", 400, [(bad, "value")])),
}
# Quoted where they can be: the client gets back what was given.
QUOTED: dict[str, Maker] = {
    "cookie's value": lambda bad: with_cookie(value=bad),
    "cookie's path": lambda bad: with_cookie(path=bad),
    "url_for": lambda bad: redirect(url_for("sync", value=bad, _anchor=bad)),
    "page of an error": lambda bad: abort(400, bad),
}


class Case:
    """Two views that make what the case says."""

    def __init__(self) -> None:
        self.app = make_app(PROPAGATE_EXCEPTIONS=False)
        self.make: Callable[[], t.Any] = str
        self.app.add_url_rule("/sync", "sync", lambda: self.make())
        self.app.add_url_rule("/async", "async", self.make_async)

    async def make_async(self) -> t.Any:
        return self.make()

    def ask(self, face: str, style: str, make: Maker, bad: str) -> Answer:
        self.make = lambda: make(bad)
        answer = ask(face, self.app, f"/{style}")
        for name, value in answer.headers.items():
            assert set(name + value).isdisjoint("\r\n\0"), (name, value)
        return answer


@pytest.fixture
def case() -> Case:
    return Case()


@both_faces
@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.parametrize("unsafe", list(UNSAFE))
@pytest.mark.parametrize("place", list(MAKERS))
def test_line_ends_and_nul_raise(case: Case, face: str, style: str, unsafe: str, place: str) -> None:
    """A 500 leaves, and nothing of them."""
    assert case.ask(face, style, MAKERS[place], "fine").status < 500 or place == "cookie's samesite"
    answer = case.ask(face, style, MAKERS[place], UNSAFE[unsafe])
    assert answer.status == 500 and "evil" not in str(answer.headers).lower()


@both_faces
@pytest.mark.parametrize("unsafe", list(UNSAFE))
@pytest.mark.parametrize("place", list(QUOTED))
def test_line_ends_and_nul_are_quoted(case: Case, face: str, unsafe: str, place: str) -> None:
    assert case.ask(face, "sync", QUOTED[place], UNSAFE[unsafe]).status < 500


@both_faces
def test_hook_that_spoils_each_response(case: Case, face: str, caplog: pytest.LogCaptureFixture) -> None:
    """The 500 too: a plain one leaves, and both are logged."""

    @case.app.after_request
    def spoil(response: Response) -> Response:
        response.headers["X-Name"] = "\0"
        return response

    answer = case.ask(face, "sync", str, "fine")
    assert answer.status == 500 and "x-name" not in answer.headers
    assert len(caplog.records) == 2


@both_faces
@pytest.mark.parametrize("location", ["http://[", "http://[:5:1]/", "//["])
def test_location_that_is_none(case: Case, face: str, location: str) -> None:
    """It cannot be sent; but a response leaves."""
    assert case.ask(face, "sync", lambda bad: redirect(bad), location).status == 500


@both_faces
def test_header_that_is_not_latin_1(case: Case, face: str) -> None:
    """WSGI servers encode it, so that it is their fault there."""
    answer = case.ask(face, "sync", MAKERS["value"], "\u20ac")
    assert answer.status == 500 or face == "wsgi"


@pytest.mark.parametrize("bad", list(UNSAFE.values()))
async def test_what_goes_before_and_after_the_response_refuses_them(bad: str) -> None:
    """Early hints, and the headers of a websocket's handshake. (Trailers: tests/test_early_hints.py)"""
    app = make_app()
    raised = []

    @app.websocket("/")
    async def talk() -> None:
        for pair in ((bad, "value"), ("X-Name", bad)):
            with pytest.raises(ValueError):
                await websocket.accept(headers=[pair])
            raised.append(pair)

    async with app.test_request_context("/"):
        with pytest.raises(ValueError):
            await request.send_early_hints([bad])
    async with Socket(app):
        pass
    assert len(raised) == 2


def test_events_refuse_them() -> None:
    for bad in "\r\n":
        for field in ("event", "id"):
            with pytest.raises(ValueError):
                ServerSentEvent("data", **{field: f"a{bad}data: evil"})  # type: ignore[arg-type]


# Logs


@both_faces
@pytest.mark.parametrize("bad", ["\n", "\r", "\x1b[2J", "\x00", "\u2028", "\x85"])
def test_logs_are_quoted(face: str, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(PROPAGATE_EXCEPTIONS=False)

    @app.before_request
    def fail() -> None:
        raise LookupError

    assert ask(face, app, f"/a{bad}ERROR forged").status == 500
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.getMessage().isprintable()


@both_faces
def test_errors_do_not_show_secrets(face: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the page nor the log tells what the client sent."""
    app = make_app(PROPAGATE_EXCEPTIONS=False)

    @app.post("/")
    def fail() -> t.Any:
        return request.json["absent"]

    headers = [(b"content-type", b"application/json"), (b"cookie", b"k=secret"), (b"authorization", b"Bearer secret")]
    for body in (b'{"password": "secret"}', b'{"secret": '):
        answer = ask(face, app, "/?token=secret", *headers, body=body)
        assert answer.status >= 400 and b"secret" not in answer.body and "secret" not in caplog.text
