"""Corners of many modules that no other test comes to: what is refused, what is absent, what belongs to another."""

from __future__ import annotations

import io
import socket
import sys
import typing as t
from contextvars import copy_context
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import click
import pytest
from edge import Exchange, get
from werkzeug.exceptions import BadRequestKeyError
from werkzeug.routing import RequestRedirect

from asyncflask import (
    Blueprint,
    Flask,
    Response,
    copy_current_app_context,
    has_app_context,
    request,
    session,
    websocket,
)
from asyncflask.body import AsyncInput, BodyStream, DeclaredInput, LimitedBody
from asyncflask.cli import ScriptInfo
from asyncflask.debughelpers import FormDataRoutingRedirect
from asyncflask.environ import ScopeHeaders, server_of
from asyncflask.json.provider import DefaultJSONProvider
from asyncflask.listening import open_listener
from asyncflask.paths import get_root_path
from asyncflask.processes import run_workers
from asyncflask.serving import _is_loopback
from asyncflask.sessions import SecureCookieSessionInterface


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "a key that is long enough"
    return app


# JSON


def test_json_that_contains_itself(app: Flask) -> None:
    items: list[t.Any] = []
    items.append(items)
    with pytest.raises(ValueError, match="Circular"):
        DefaultJSONProvider(app).dumps(items)
    deep: t.Any = None
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        DefaultJSONProvider(app).dumps(deep)


# Requests and responses


def test_headers_of_a_scope() -> None:
    headers = ScopeHeaders([(b"x-a", b"1"), (b"x-b", b"2"), (b"x-b", b"3")])
    assert headers["X-A"] == "1" and headers.get("X-A", type=int) == 1
    assert headers.get("X-C", 5, type=int) == 5 and headers.get("X-C") is None
    with pytest.raises(BadRequestKeyError):
        headers["X-C"]


@pytest.mark.parametrize(
    ("environ", "server"),
    [({}, None), ({"SERVER_NAME": "a"}, ("a", None)), ({"SERVER_NAME": "a", "SERVER_PORT": "x"}, ("a", None))],
)
def test_server_of_an_environ(environ: dict[str, t.Any], server: tuple[str, int | None] | None) -> None:
    assert server_of(environ) == server


def test_bodies_are_files_to_read() -> None:
    empty = io.BytesIO()
    bodies = [LimitedBody(empty, 5), AsyncInput(empty, False), DeclaredInput.__new__(DeclaredInput)]
    for body in (*bodies, BodyStream.__new__(BodyStream)):
        assert body.readable()


def test_lazy_attributes_are_found_on_the_class() -> None:
    for name in ("environ", "method", "headers", "path", "scheme"):
        assert hasattr(Flask.request_class, name) or name == "method"
    assert not isinstance(Flask.response_class.headers, str)


def test_shallow_request_has_no_stream(app: Flask) -> None:
    made = app.request_class({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"x")}, shallow=True)
    with pytest.raises(RuntimeError, match="shallow"):
        made.stream  # noqa: B018


def test_form_outside_of_an_application() -> None:
    made = Flask.request_class({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"x")})
    with made._get_file_stream(None, "text/plain") as file:
        assert file.writable()


@pytest.mark.parametrize("value", ["201 Made", 201])
def test_status_as_flask_takes_it(app: Flask, value: t.Any) -> None:
    app.add_url_rule("/", "view", lambda: ("text", value))
    assert app.test_client().get("/").status_code == 201


def test_wsgi_callable_that_is_none(app: Flask) -> None:
    app.add_url_rule("/", "view", lambda: lambda: "no WSGI application")
    app.testing = True
    with pytest.raises(TypeError):
        app.test_client().get("/")


async def test_accepted_is_known_before_and_after(app: Flask) -> None:
    seen = []

    @app.websocket("/")
    async def view() -> None:
        seen.append(websocket.accepted)
        await websocket.accept()
        seen.append(websocket.accepted)

    async with app.async_test_client().websocket("/"):
        pass
    assert seen == [False, True]


def test_redirect_that_loses_a_form(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestRedirect, "code", 301)
    app.debug = app.testing = True
    app.add_url_rule("/x/", "view", lambda: "", methods=["GET", "POST"])
    with pytest.raises(FormDataRoutingRedirect):
        app.test_client().post("/x", data={"a": "b"})


def test_middleware_that_reports_an_error_at_once(app: Flask) -> None:
    def chain(environ: t.Any, start_response: t.Any) -> t.Any:
        try:
            raise LookupError("inside")
        except LookupError:
            start_response("500 No", [], sys.exc_info())

    app.wsgi_app = chain  # type: ignore[method-assign]
    app.testing = True
    with pytest.raises(LookupError, match="inside"):
        app.test_client(face="asgi").get("/")


async def test_middleware_that_never_starts_a_response(app: Flask) -> None:
    app.wsgi_app = lambda environ, start_response: [b"text"]  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="without a call"):
        await get(app, "/")


# Contexts


def test_copy_of_an_app_context_that_is_not_there() -> None:
    assert not has_app_context()
    with pytest.raises(RuntimeError, match="outside of application context"):
        copy_current_app_context(print)


def test_app_context_popped_in_another_context(app: Flask) -> None:
    ctx = app.app_context()
    copy_context().run(ctx.push)
    with pytest.raises((AssertionError, LookupError, RuntimeError)):
        ctx.pop()


def test_wrong_request_context_popped(app: Flask) -> None:
    one, two = app.test_request_context("/one"), app.test_request_context("/two")
    one.push()
    two.push()
    with pytest.raises(AssertionError):
        one.pop()
    two.pop() if request else None
    while has_app_context():
        two.pop()


def test_session_of_a_context_can_be_replaced(app: Flask) -> None:
    with app.test_request_context("/") as ctx:
        ctx._session = app.session_interface.make_null_session(app)
        assert session._get_current_object() is ctx._session  # type: ignore[attr-defined]


def test_session_without_a_date(app: Flask) -> None:
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    value = b"e30.A"  # one sign of base64 is none
    signed = value + b"." + serializer._sign(value)  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r"(?i)timestamp|malformed|padd|base64"):
        serializer.loads(signed.decode(), max_age=10)


# Registration


def test_blueprint_on_itself() -> None:
    blueprint = Blueprint("b", __name__)
    with pytest.raises(ValueError, match="on itself"):
        blueprint.register_blueprint(blueprint)


@pytest.mark.parametrize(("wrong", "error"), [(LookupError(), TypeError), (KeyboardInterrupt, ValueError)])
def test_no_handler_of_it(app: Flask, wrong: t.Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        app.register_error_handler(wrong, print)


def test_options_of_routes(app: Flask) -> None:
    with pytest.raises(TypeError, match="no option"):
        app.add_url_rule("/socket", "socket", print, websocket=True, response_timeout=5)
    app.add_url_rule("/a", "a", print, response_timeout=1)
    with pytest.raises(ValueError, match="differ in"):
        app.add_url_rule("/b", "a", response_timeout=2)


def test_module_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("without_a_file")
    module.__spec__ = ModuleSpec(module.__name__, t.cast(t.Any, object()))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(RuntimeError, match="has no file"):
        get_root_path(module.__name__)


# Serving


@pytest.mark.parametrize(("host", "is_it"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("a.org", False)])
def test_loopback(host: str, is_it: bool) -> None:
    assert _is_loopback(host) is is_it


def test_workers_need_what_they_can_be_told() -> None:
    with pytest.raises(click.UsageError, match="imported"):
        run_workers(ScriptInfo(create_app=lambda: Flask("x")), 2, "127.0.0.1", 0, None)
    with pytest.raises(click.UsageError, match="certificate in files"):
        run_workers(ScriptInfo("x"), 2, "127.0.0.1", 0, object())


def test_file_of_a_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale one makes room; a file of another kind does not. A relative path, since such names are short."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        open_listener("unix://socket", 0, "http").close()
    assert "Running on unix://socket" in capsys.readouterr().out
    (tmp_path / "file").write_text("text")
    with pytest.raises((OSError, SystemExit, click.ClickException)):
        open_listener("unix://file", 0, "http")
    assert (tmp_path / "file").read_text() == "text"


def test_all_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    open_listener("0.0.0.0", 0, "http").close()
    if socket.has_ipv6:
        open_listener("::1", 0, "http").close()
    printed = capsys.readouterr().out
    assert "all addresses" in printed and ("[::1]" in printed or not socket.has_ipv6)


async def test_early_hint_of_two_lines(app: Flask) -> None:
    @app.get("/")
    async def view() -> Response:
        with pytest.raises(ValueError, match="one line"):
            await request.send_early_hints(["</a>\r\nX: y"])
        return Response("text")

    exchange = Exchange(extensions={"http.response.early_hint": {}})
    await exchange.run(app)
    assert exchange.status == 200
