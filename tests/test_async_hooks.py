"""Every kind of hook as `async def`: around sync and async views, beside sync hooks, on both faces."""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from edge import make_scope
from faces import FACES, both_faces
from werkzeug.routing import BuildError

from asyncflask import (
    Blueprint,
    Flask,
    Response,
    after_this_request,
    flash,
    g,
    get_flashed_messages,
    render_template_string,
    request,
    session,
    signals,
    stream_template_string,
    url_for,
    websocket,
)
from asyncflask.sessions import SecureCookieSessionInterface, SessionMixin

styles = pytest.mark.parametrize("style", ["sync", "async", "mixed"])
views = pytest.mark.parametrize("is_async", [False, True], ids=["sync view", "async view"])


def make_app() -> Flask:
    app = Flask("hooks", root_path=str(Path(__file__).parent), static_folder=None)
    app.secret_key = "key"
    return app


def as_view(f: Callable[..., t.Any], is_async: bool) -> Callable[..., t.Any]:
    """`f`, or a coroutine function that does the same on the loop."""
    if not is_async:
        return f

    async def view(**kwargs: t.Any) -> t.Any:
        await asyncio.sleep(0)
        return f(**kwargs)

    return view


class Styled:
    """Makes hooks async, sync, or in turns."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.made = 0

    def __call__(self, f: Callable[..., t.Any]) -> Callable[..., t.Any]:
        self.made += 1
        if self.style == "sync" or (self.style == "mixed" and self.made % 2):
            return f

        async def hook(*args: t.Any, **kwargs: t.Any) -> t.Any:
            await asyncio.sleep(0)
            return f(*args, **kwargs)

        return hook


@contextmanager
def connected(signal: signals.NamedSignal, receiver: t.Any, app: Flask) -> Iterator[None]:
    signal.connect(receiver, app)
    try:
        yield
    finally:
        signal.disconnect(receiver, app)


# The request cycle


@both_faces
@styles
@views
def test_hooks_of_a_request(face: str, style: str, is_async: bool) -> None:
    """App and blueprint: all kinds, in their order, with `g`, `session` and arguments at hand."""
    app, blueprint, fn, seen = make_app(), Blueprint("bp", __name__), Styled(style), []

    def note(text: str) -> None:
        g.seen = [*g.get("seen", ()), text]

    def preprocess(name: str) -> t.Any:
        return fn(lambda endpoint, values: note(f"{name} {endpoint} {values.pop(name)}"))

    def after(name: str) -> t.Any:
        def hook(response: Response) -> Response:
            response.headers.add("X-After", name)
            return response

        return fn(hook)

    def before(name: str) -> t.Any:
        def hook() -> None:
            note(name)
            session[name] = True

        return fn(hook)

    def teardown(name: str) -> t.Any:
        return fn(lambda error: seen.append((name, error, list(g.seen), request.path if "app" not in name else "")))

    app.url_value_preprocessor(preprocess("lang"))
    blueprint.url_value_preprocessor(preprocess("name"))
    app.before_request(before("before"))
    app.before_request(before("before 2"))
    blueprint.before_request(before("bp before"))
    app.after_request(after("app"))
    app.after_request(after("app 2"))
    blueprint.after_request(after("bp"))
    app.teardown_request(teardown("request"))
    blueprint.teardown_request(teardown("bp request"))
    app.teardown_appcontext(teardown("appcontext"))
    app.teardown_appcontext(teardown("appcontext 2"))

    def view() -> dict[str, t.Any]:
        after_this_request(after("this"))
        note("view")
        return {"seen": g.seen, "session": sorted(session)}

    blueprint.add_url_rule("/<lang>/<name>", "view", as_view(view, is_async))
    app.register_blueprint(blueprint)
    answer = FACES[face](app).get("/en/you")
    order = ["lang bp.view en", "name bp.view you", "before", "before 2", "bp before", "view"]
    assert answer.json == {"seen": order, "session": ["before", "before 2", "bp before"]}
    assert answer.headers_of("X-After") == ["this", "bp", "app 2", "app"]
    assert [name for name, *_ in seen] == ["bp request", "request", "appcontext 2", "appcontext"]
    assert all(rest == (None, order) for _, *rest2, _ in seen for rest in [tuple(rest2)])


@both_faces
@styles
@views
def test_before_request_answers(face: str, style: str, is_async: bool) -> None:
    app, fn = make_app(), Styled(style)
    app.before_request(fn(lambda: None))
    app.before_request(fn(lambda: ("stop", 418)))
    app.add_url_rule("/", "view", as_view(lambda: "view", is_async))
    answer = FACES[face](app).get("/")
    assert (answer.status, answer.text) == (418, "stop")


@both_faces
@styles
@views
def test_error_handlers(face: str, style: str, is_async: bool) -> None:
    app, fn, torn = make_app(), Styled(style), []

    def view(kind: str) -> t.NoReturn:
        raise {"key": KeyError, "value": ValueError, "os": OSError}[kind]("no")

    app.add_url_rule("/<kind>", "view", as_view(view, is_async))
    app.errorhandler(KeyError)(fn(lambda error: (f"key {type(error).__name__}", 400)))
    app.errorhandler(500)(fn(lambda error: (f"500 {type(error.original_exception).__name__}", 500)))
    app.errorhandler(404)(fn(lambda error: (f"404 {error.code}", 404)))
    app.errorhandler(ValueError)(fn(lambda error: ("value", 422)))
    app.teardown_request(fn(lambda error: torn.append(type(error).__name__)))
    client = FACES[face](app)
    answers = [client.get(path) for path in ("/key", "/value", "/os", "/a/b")]
    assert [(answer.status, answer.text) for answer in answers] == [
        (400, "key KeyError"), (422, "value"), (500, "500 OSError"), (404, "404 404"),
    ]  # fmt: skip
    assert torn == ["NoneType", "NoneType", "OSError", "NoneType"]


@both_faces
@pytest.mark.parametrize("kind", ["before_request", "after_request", "url_value_preprocessor"])
def test_a_failing_async_hook_gives_one_500(face: str, kind: str) -> None:
    app, torn = make_app(), []

    async def fail(*args: t.Any) -> t.NoReturn:
        await asyncio.sleep(0)
        raise OSError("no")

    getattr(app, kind)(fail)
    app.teardown_request(lambda error: torn.append(type(error).__name__))
    app.add_url_rule("/", "view", lambda: "view")
    assert FACES[face](app).get("/").status == 500
    assert torn == ["OSError"]


@both_faces
@views
def test_a_failing_async_teardown_does_not_keep_others_from_running(face: str, is_async: bool) -> None:
    app, torn = make_app(), []

    async def fail(error: BaseException | None) -> t.NoReturn:
        await asyncio.sleep(0)
        raise OSError("no")

    for register in (app.teardown_request, app.teardown_appcontext):
        register(lambda error: torn.append("first"))
        register(fail)
        register(lambda error: torn.append("last"))
    app.add_url_rule("/", "view", as_view(lambda: "view", is_async))
    assert FACES[face](app).get("/").text == "view"
    assert torn == ["last", "first"] * 2


# Sessions


class AsyncCookies(SecureCookieSessionInterface):
    """What reads and writes elsewhere, and awaits that."""

    async def open_session(self, app: Flask, request: t.Any) -> t.Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().open_session(app, request)

    async def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        await asyncio.sleep(0)
        super().save_session(app, session, response)


class AsyncOpen(AsyncCookies):
    save_session = SecureCookieSessionInterface.save_session  # type: ignore[assignment]


class AsyncSave(AsyncCookies):
    open_session = SecureCookieSessionInterface.open_session  # type: ignore[assignment]


@both_faces
@views
@pytest.mark.parametrize("interface", [AsyncCookies, AsyncOpen, AsyncSave])
def test_session_interface(face: str, is_async: bool, interface: type[AsyncCookies]) -> None:
    app = make_app()
    app.session_interface = interface()

    def view() -> str:
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    app.add_url_rule("/", "view", as_view(view, is_async))
    client = FACES[face](app)
    assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]
    with app.test_client().session_transaction() as transaction:
        transaction["count"] = 5


@both_faces
@pytest.mark.parametrize("method", ["open_session", "save_session"])
def test_a_failing_session_interface(face: str, method: str) -> None:
    """FAULTS: a 500 leaves, never nothing."""
    app, torn = make_app(), []

    async def fail(*args: t.Any) -> t.NoReturn:
        await asyncio.sleep(0)
        raise OSError("no")

    app.session_interface = type("Failing", (AsyncCookies,), {method: fail})()
    app.add_url_rule("/", "view", lambda: "view")
    app.teardown_request(lambda error: torn.append(type(error).__name__))
    answer = FACES[face](app).get("/")
    assert answer.status == 500 and answer.headers_of("Set-Cookie") == []
    assert torn == ["OSError"]


# URLs


@both_faces
@styles
def test_url_defaults(face: str, style: str) -> None:
    app, fn = make_app(), Styled(style)
    blueprint = Blueprint("bp", __name__, url_prefix="/bp")
    app.url_defaults(fn(lambda endpoint, values: values.setdefault("lang", "en")))
    blueprint.url_defaults(fn(lambda endpoint, values: values.setdefault("name", endpoint)))
    blueprint.add_url_rule("/<lang>/<name>", "named", lambda lang, name: url_for("bp.named"))
    app.register_blueprint(blueprint)
    assert FACES[face](app).get("/bp/de/you").text == "/bp/en/bp.named"


@both_faces
@styles
def test_url_build_error_handlers(face: str, style: str) -> None:
    app, fn = make_app(), Styled(style)

    def refuse(error: Exception, endpoint: str, values: dict[str, t.Any]) -> t.NoReturn:
        raise BuildError("newer", {}, None)

    def answer(error: t.Any, endpoint: str, values: dict[str, t.Any]) -> str:
        return f"{error.endpoint} {endpoint}"

    app.url_build_error_handlers += [fn(refuse), fn(answer)]
    app.add_url_rule("/", "view", lambda: url_for("nowhere"))
    assert FACES[face](app).get("/").text == "newer nowhere"


# Templates and messages


@both_faces
@styles
def test_context_processors(face: str, style: str) -> None:
    app, fn = make_app(), Styled(style)
    blueprint = Blueprint("bp", __name__)
    app.context_processor(fn(lambda: {"one": 1, "who": "app"}))
    blueprint.context_processor(fn(lambda: {"two": request.path, "who": "bp"}))
    source = "{{ one }} {{ two }} {{ who }}"
    blueprint.add_url_rule("/whole", "whole", lambda: render_template_string(source))
    blueprint.add_url_rule("/stream", "stream", lambda: stream_template_string(source))
    app.register_blueprint(blueprint)
    client = FACES[face](app)
    assert [client.get(path).text for path in ("/whole", "/stream")] == ["1 /whole bp", "1 /stream bp"]


@both_faces
def test_an_async_context_processor_in_an_async_view_says_what_to_write(
    face: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    @app.context_processor
    async def give() -> dict[str, t.Any]:
        return {"one": 1}

    @app.get("/")
    async def view() -> str:
        return render_template_string("{{ one }}")

    assert FACES[face](app).get("/").status == 500
    assert "render_template_async(" in caplog.text


@both_faces
@styles
@views
def test_signals_of_templates_and_messages(face: str, style: str, is_async: bool) -> None:
    """In an async view too, although what sends them cannot wait: the response does."""
    app, fn, seen = make_app(), Styled(style), []

    def view() -> str:
        flash("hello", "info")
        return render_template_string("{{ get_flashed_messages()[0] }}", value=5)

    def receiver(name: str) -> t.Any:
        return fn(lambda sender, **values: seen.append((name, sender, request.path, values)))

    app.add_url_rule("/", "view", as_view(view, is_async))
    with (
        connected(signals.message_flashed, receiver("flashed"), app),
        connected(signals.before_render_template, receiver("before"), app),
        connected(signals.template_rendered, receiver("rendered"), app),
    ):
        # receivers are kept weakly: by `connected` alone
        assert FACES[face](app).get("/").text == "hello"
    assert [name for name, *_ in seen] == ["flashed", "before", "rendered"] or style == "mixed"
    by_name = {name: rest for name, *rest in seen}
    assert by_name["flashed"] == [app, "/", {"message": "hello", "category": "info"}]
    assert by_name["rendered"][2]["context"]["value"] == 5
    assert len(seen) == 3


@both_faces
@views
def test_a_failing_receiver_fails_the_request(face: str, is_async: bool) -> None:
    app, torn = make_app(), []

    async def fail(sender: Flask, **values: t.Any) -> t.NoReturn:
        await asyncio.sleep(0)
        raise OSError("no")

    def view() -> str:
        flash("hello")
        return "view"

    app.add_url_rule("/", "view", as_view(view, is_async))
    app.teardown_request(lambda error: torn.append(type(error).__name__))
    with connected(signals.message_flashed, fail, app):
        assert FACES[face](app).get("/").status == 500
    assert torn == ["OSError"]


@both_faces
@pytest.mark.parametrize("rest", [0, 0.01], ids=["cancelled", "finished"])
def test_a_receiver_on_a_loop_of_the_users_own(face: str, rest: float) -> None:
    """The request cannot wait for it there; that loop's end does not end the request."""
    app, seen = make_app(), []

    async def receive(sender: Flask, **values: t.Any) -> None:
        await asyncio.sleep(rest / 10)
        seen.append("received")

    @app.get("/")
    def view() -> str:
        async def main() -> None:
            flash("hello")
            await asyncio.sleep(rest)

        asyncio.run(main())
        return "view"

    with connected(signals.message_flashed, receive, app):
        assert FACES[face](app).get("/").text == "view"
    assert seen == ["received"] or not rest


async def test_signals_on_the_loop_outside_of_the_cycle() -> None:
    app, seen = make_app(), []

    async def receive(sender: Flask, **values: t.Any) -> None:
        await asyncio.sleep(0)
        seen.append(values.get("message", "rendered"))

    with connected(signals.message_flashed, receive, app), connected(signals.template_rendered, receive, app):
        async with app.app_context():
            assert render_template_string("text") == "text"
        async with app.test_request_context():
            flash("hello")
            assert get_flashed_messages() == ["hello"]
        async with asyncio.timeout(5):
            while len(seen) < 2:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0)
    assert seen == ["rendered", "hello"]


# Signals of the cycle


CYCLE = (
    "appcontext_pushed", "request_started", "got_request_exception", "request_finished", "request_tearing_down",
    "appcontext_tearing_down", "appcontext_popped",
)  # fmt: skip


@both_faces
@styles
@views
def test_signals_of_the_cycle(face: str, style: str, is_async: bool) -> None:
    app, fn, seen = make_app(), Styled(style), []

    def view() -> t.NoReturn:
        raise OSError("no")

    app.add_url_rule("/", "view", as_view(view, is_async))
    receivers = {name: fn(lambda sender, name=name, **values: seen.append(name)) for name in CYCLE}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver, app)
    try:
        assert FACES[face](app).get("/").status == 500
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver, app)
    assert seen == list(CYCLE)


# Websockets


@styles
def test_hooks_of_a_websocket(style: str) -> None:
    app, fn, seen = make_app(), Styled(style), []
    app.url_value_preprocessor(fn(lambda endpoint, values: seen.append(endpoint)))
    app.before_websocket(fn(lambda: seen.append("before")))
    app.after_websocket(fn(lambda response: seen.append("after") or response))
    app.teardown_websocket(fn(lambda error: seen.append("teardown")))
    app.teardown_appcontext(fn(lambda error: seen.append("teardown app")))
    receiver = fn(lambda sender, **values: seen.append(values["message"]))

    @app.websocket("/ws")
    async def talk() -> None:
        flash("hello")
        await websocket.send("text")

    async def main() -> None:
        events = [{"type": "websocket.connect"}]

        async def receive() -> dict[str, t.Any]:
            return events.pop()

        async def send(message: dict[str, t.Any]) -> None:
            pass

        scope = make_scope("GET", "/ws", [("Host", "localhost")])
        await app({**scope, "type": "websocket", "scheme": "ws", "subprotocols": []}, receive, send)

    with connected(signals.message_flashed, receiver, app), connected(signals.websocket_sent, receiver, app):
        asyncio.run(main())
    assert sorted(seen[2:4]) == ["hello", "text"]
    del seen[2:4]
    assert seen == ["talk", "before", "after", "teardown", "teardown app"]


# Commands and the shell


@styles
def test_commands(style: str) -> None:
    app, fn, torn = make_app(), Styled(style), []
    blueprint = Blueprint("bp", __name__)

    def make() -> t.Any:
        return fn(lambda name: click.echo(f"hello {name}"))

    app.cli.command("greet")(click.argument("name")(make()))
    blueprint.cli.command("greet")(click.argument("name")(make()))
    app.teardown_appcontext(fn(lambda error: torn.append(error)))
    app.register_blueprint(blueprint)
    runner = app.test_cli_runner()
    outputs = [runner.invoke(args=args).output for args in (["greet", "you"], ["bp", "greet", "me"])]
    assert outputs == ["hello you\n", "hello me\n"]
    assert torn == [None, None]


@styles
def test_shell_context_processors(style: str) -> None:
    app, fn = make_app(), Styled(style)
    app.shell_context_processor(fn(lambda: {"one": 1}))
    app.shell_context_processor(fn(lambda: {"two": 2}))
    assert {"one": 1, "two": 2, "app": app}.items() <= app.make_shell_context().items()
