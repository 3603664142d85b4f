"""Corners of many modules that no other test comes to: what is refused, what is absent, what belongs to another."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
import typing as t
from contextvars import copy_context
from importlib.machinery import ModuleSpec
from pathlib import Path
from signal import SIGINT, getsignal, signal as handle_signal
from types import ModuleType

import click
import flask
import pytest
from edge import Exchange, get, post
from werkzeug.exceptions import BadRequestKeyError, Forbidden, NotFound
from werkzeug.routing import RequestRedirect

import asyncflask
from asyncflask import (
    Blueprint,
    Flask,
    Request,
    Response,
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    copy_current_app_context,
    devserver,
    g,
    got_request_exception,
    has_app_context,
    has_request_context,
    reloading,
    request,
    session,
    stream_with_context,
    websocket,
)
from asyncflask.body import AsyncInput, DeclaredInput, LimitedBody, MemoryBody, make_streamed
from asyncflask.cli import ScriptInfo
from asyncflask.debugger import Debugger
from asyncflask.debughelpers import FormDataRoutingRedirect
from asyncflask.environ import ScopeHeaders, server_of
from asyncflask.globals import app_ctx
from asyncflask.json.provider import DefaultJSONProvider
from asyncflask.listening import open_listener
from asyncflask.paths import get_root_path
from asyncflask.processes import run_workers
from asyncflask.serving import _is_loopback
from asyncflask.sessions import SecureCookieSessionInterface
from asyncflask.waiting import cancel_scope

FACES = pytest.mark.parametrize("face", ["wsgi", "asgi"])


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
    app.testing = True
    app.add_url_rule("/loop", "loop", lambda: items)
    app.add_url_rule("/deep", "deep", lambda: deep)
    for path, error, words in (("/loop", ValueError, "Circular"), ("/deep", RecursionError, "recursion")):
        for face in ("wsgi", "asgi"):
            with pytest.raises(error, match=words):
                app.test_client(face=face).get(path)


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
    for body in (*bodies, make_streamed(MemoryBody())):
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


@pytest.mark.parametrize("body", ["text", {"a": 1}])
@pytest.mark.parametrize(("value", "status"), [("201 Made", "201 Made"), (201, "201 CREATED")])
def test_status_as_flask_takes_it(app: Flask, body: t.Any, value: t.Any, status: str) -> None:
    app.add_url_rule("/", "view", lambda: (body, value))
    assert app.test_client().get("/").status == status


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


async def test_a_request_that_cannot_be_made(app: Flask) -> None:
    class Own(Request):
        def __init__(self, environ: t.Any) -> None:
            raise LookupError("not made")

    app.request_class = Own
    with pytest.raises(LookupError, match="not made"):
        await post(app, "/", b"text")
    assert not app._open_requests


@FACES
def test_an_error_that_teardowns_shall_not_see(app: Flask, face: t.Any) -> None:
    seen: list[BaseException | None] = []
    app.teardown_request(seen.append)
    app.add_url_rule("/", "view", lambda: 1 // 0)
    for ignored in (False, True):
        app.should_ignore_error = lambda error, ignored=ignored: ignored  # type: ignore[method-assign,misc]
        assert app.test_client(face=face).get("/").status_code == 500
    assert isinstance(seen[0], ZeroDivisionError) and seen[1:] == [None]


@FACES
def test_a_hook_that_gives_no_response(app: Flask, face: t.Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the view's response nor that of the error can be sent then."""
    app.add_url_rule("/", "view", lambda: "text")
    app.after_request(t.cast(t.Any, lambda response: object()))
    answer = app.test_client(face=face).get("/")
    assert (answer.status_code, answer.mimetype) == (500, "text/html")
    assert "The response to an error cannot be sent" in caplog.text


@FACES
def test_a_view_that_adds_a_hook_and_answers_with_a_wsgi_application(app: Flask, face: t.Any) -> None:
    def add(response: Response) -> Response:
        response.headers["X-Hook"] = "ran"
        return response

    @app.get("/")
    def view() -> t.Any:
        app.after_request_funcs.setdefault(None, []).append(add)
        return Response("text").__call__

    answer = app.test_client(face=face).get("/")
    assert (answer.text, answer.headers["X-Hook"]) == ("text", "ran")


def test_handler_of_an_error_is_found_as_in_flask() -> None:
    found = []
    for api in (flask, asyncflask):
        app = api.Flask(__name__)
        app.errorhandler(404)("of the application")
        app.errorhandler(LookupError)("of the class")
        app.error_handler_spec["blueprint"][404][NotFound] = "of the blueprint"
        found.append(
            [app._find_error_handler(error, names)
             for error in (NotFound(), KeyError(), Forbidden()) for names in ([], ["blueprint"])]
        )  # fmt: skip
    assert found[0] == found[1]
    assert found[0][:3] == ["of the application", "of the blueprint", "of the class"]


def test_templates_that_are_not_to_be_read_anew() -> None:
    app = Flask(__name__)
    app.config["TEMPLATES_AUTO_RELOAD"] = False
    app.debug = True
    assert not app.jinja_env.auto_reload

    class Own(Flask):
        jinja_options: t.ClassVar[dict[str, t.Any]] = {"auto_reload": True}  # type: ignore[misc]

    assert Own(__name__).jinja_env.auto_reload


# Bodies


class Breaking(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionResetError


def test_body_that_the_server_ends_is_a_file_for_others(app: Flask) -> None:
    @app.post("/buffered")
    def buffered() -> list[str]:
        return [line.decode() for line in io.BufferedReader(t.cast(t.Any, request.stream))]

    @app.post("/whole")
    def whole() -> bytes:
        stream = t.cast(t.Any, request.stream)
        return bytes(stream.readall() + stream.readall())

    def send(path: str, stream: t.IO[bytes], length: int) -> t.Any:
        overrides = {"wsgi.input_terminated": True, "CONTENT_LENGTH": str(length)}
        return app.test_client().post(path, input_stream=stream, environ_overrides=overrides)

    assert send("/buffered", io.BytesIO(b"one\ntwo\nmore"), 8).json == ["one\n", "two\n"]
    assert send("/whole", io.BytesIO(b"x" * 100_001), 100_000).data == b"x" * 100_000
    for path in ("/buffered", "/whole"):
        for stream in (io.BytesIO(b"text"), Breaking()):  # the client left
            answer = send(path, stream, 5)
            assert answer.status_code == 400 and answer.data != b"text"


@pytest.mark.parametrize("ends", [True, False])
async def test_body_that_nobody_took_before_the_stream_began(app: Flask, ends: bool) -> None:
    """What had come is there; the rest was given up."""
    seen: list[t.Any] = []

    @app.post("/")
    def view() -> t.Any:
        @stream_with_context
        def pieces() -> t.Iterator[str]:
            yield "first"
            try:
                seen.append(request.get_data())
            except RuntimeError as error:
                seen.append(str(error))

        return pieces()

    app.config["MAX_CONTENT_LENGTH"] = None
    exchange = await post(app, "/", b"text" if ends else b"te", *([] if ends else [b"xt"]), chunked=True)
    assert exchange.text == "first"
    assert seen == [b"text"] if ends else "was given up" in seen[0]


# Debugging


async def test_debugger_leaves_a_failing_stream_to_the_server(app: Flask) -> None:
    @app.get("/")
    def view() -> t.Iterator[str]:
        yield "first"
        raise LookupError("in the stream")

    messages: list[t.Any] = []
    with pytest.raises(LookupError, match="in the stream"):
        await Exchange(on_send=messages.append, headers=[("Host", "localhost")]).run(Debugger(app, "localhost"))
    assert [message.get("body") for message in messages] == [None, b"first"]


async def test_debugger_that_runs_no_code_shows_the_error(app: Flask) -> None:
    app.debug = True
    app.add_url_rule("/", "view", lambda: 1 // 0)
    exchange = await get(Debugger(app, "localhost", evalex=False), "/", headers=[("Host", "localhost")])
    assert exchange.status == 500 and "ZeroDivisionError" in exchange.text and "EVALEX = false" in exchange.text


# Contexts


def test_error_of_a_stream_is_signalled(app: Flask) -> None:
    """Over ASGI; under WSGI it is the server's, as with Flask."""
    error, seen = ValueError("amid the stream"), []

    @app.get("/")
    async def view() -> t.Any:
        async def pieces() -> t.Any:
            yield "piece"
            raise error

        return pieces()

    def note(sender: Flask, exception: Exception, **more: t.Any) -> None:
        seen.append(exception)

    with got_request_exception.connected_to(note, app), pytest.raises(ValueError, match="amid the stream"):
        assert app.test_client(face="asgi").get("/").data
    assert seen == [error]


@FACES
def test_signals_of_the_application_context_come_once(app: Flask, face: t.Any) -> None:
    app.add_url_rule("/", "view", lambda: "text")
    seen: list[t.Any] = []

    def note(sender: Flask, **more: t.Any) -> None:
        seen.append((sender, more.get("exc")))

    for signal in (appcontext_pushed, appcontext_tearing_down, appcontext_popped):
        with signal.connected_to(note, app):
            assert app.test_client(face=face).get("/").text == "text"
        assert seen == [(app, None)]
        seen.clear()


async def test_contexts_that_are_there_are_not_pushed_again(app: Flask) -> None:
    pushed: list[Flask] = []
    app.before_request(lambda: None)
    with appcontext_pushed.connected_to(pushed.append, app):
        async with app.app_context(), app.test_request_context("/x") as ctx:
            assert pushed == [app]
            opened = ctx.session
            async with ctx:
                assert request.path == "/x" and ctx.session is opened
            assert request.path == "/x"
        assert pushed == [app] and not has_app_context()


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


def test_wrong_request_context_popped_leaves_the_application_context_of_another(app: Flask) -> None:
    one, two = app.test_request_context("/one"), app.test_request_context("/two")
    with app.app_context() as outer:
        one.push()
        two.push()
        with pytest.raises(AssertionError):
            one.pop()
        assert app_ctx._get_current_object() is outer and not has_request_context()


def test_wsgi_request_shares_the_application_context_around_it(app: Flask) -> None:
    app.add_url_rule("/", "view", lambda: g.word)
    with app.app_context() as outer:
        g.word = "outer"
        assert app.test_client().get("/").text == "outer"
        assert app_ctx._get_current_object() is outer


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


# Waiting


async def test_block_that_is_cancelled_twice_and_once_more_when_it_is_over() -> None:
    """A client leaves as the time is up."""
    scope = cancel_scope()
    with scope:
        scope.cancel()
        scope.cancel()
        await asyncio.sleep(5)
        pytest.fail("it was not cancelled")
    scope.cancel()
    await asyncio.sleep(0)  # whose task goes on


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


def test_module_whose_file_is_known_once_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loader has no `get_filename`."""
    name = "known_when_imported"

    class Importer:
        def find_spec(self, fullname: str, *others: t.Any) -> ModuleSpec | None:
            return ModuleSpec(name, t.cast(t.Any, self)) if fullname == name else None

        def create_module(self, spec: ModuleSpec) -> None: ...

        def exec_module(self, module: ModuleType) -> None:
            module.__file__ = str(tmp_path / "module.py")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Importer()])
    assert get_root_path(name) == str(tmp_path)
    del sys.modules[name]


# Serving


@pytest.mark.parametrize(("host", "is_it"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("a.org", False)])
def test_loopback(host: str, is_it: bool) -> None:
    assert _is_loopback(host) is is_it


def test_workers_need_what_they_can_be_told() -> None:
    with pytest.raises(click.UsageError, match="imported"):
        run_workers(ScriptInfo(create_app=lambda: Flask("x")), 2, "127.0.0.1", 0, None)
    with pytest.raises(click.UsageError, match="certificate in files"):
        run_workers(ScriptInfo("x"), 2, "127.0.0.1", 0, object())


def test_interrupts_that_others_handle_stay_theirs() -> None:
    """The parent of a reloaded process has its own way with them only where Python's is in place."""

    def handle(*args: object) -> None: ...

    before = handle_signal(SIGINT, handle)
    try:
        reloading._be_patient_with_child()
        assert getsignal(SIGINT) is handle
    finally:
        handle_signal(SIGINT, before)


def test_a_change_before_there_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child ends at once: nothing is there to be shut down, or to be waited for."""

    def notice(*others: t.Any) -> t.NoReturn:
        raise SystemExit(reloading.CHANGED)

    monkeypatch.setattr(reloading, "_run_with_reloader", notice)
    monkeypatch.setattr(devserver, "exit_later", lambda status: pytest.fail("it waits"))
    with pytest.raises(SystemExit) as ended:
        reloading._serve_until_change(lambda: pytest.fail("it begins"), None, reloading.ReloaderLoop, {})
    assert ended.value.code == reloading.RELOAD


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
