"""Applications written for Quart: each test runs the same code on Quart and here; then the names that differ.

What has tests of its own is named in `docs/from-quart.md`. Values that Quart awaits are plain here: see `settle`.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import re
import threading
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from werkzeug.datastructures import FileStorage

import asyncflask
import asyncflask.connections
import asyncflask.utils
import asyncflask.views

quart = pytest.importorskip("quart")
for name in ("testing.connections", "utils", "views"):
    import_module(f"quart.{name}")

PAGE = Path(__file__).parent.parent / "docs" / "from-quart.md"


@pytest.fixture(params=["quart", "asyncflask"])
def peer(request) -> ModuleType:
    return quart if request.param == "quart" else asyncflask


@pytest.fixture
def app(peer):
    app = (peer.Quart if peer is quart else peer.Flask)(__name__)
    app.secret_key = "a key"
    return app


@pytest.fixture
def client(app):
    return make_client(app)


def make_client(app):
    return app.test_client() if isinstance(app, quart.Quart) else app.async_test_client()


async def settle(value):
    return await value if inspect.isawaitable(value) else value


async def text(response) -> str:
    return await settle(response.get_data(as_text=True))


class TestRequests:
    async def test_views_sync_and_async(self, peer, app, client):
        @app.route("/sync/<int:number>")
        def sync(number):
            return {"number": number, "query": peer.request.args["q"]}

        @app.route("/async", methods=["POST", "GET"])
        async def coroutine():
            return peer.request.method, 201, {"X-One": "1"}

        assert await settle((await client.get("/sync/3?q=a%20b")).get_json()) == {"number": 3, "query": "a b"}
        response = await client.post("/async")
        assert (response.status_code, response.headers["X-One"], await text(response)) == (201, "1", "POST")
        assert (await client.delete("/async")).status_code == 405
        assert (await client.get("/nowhere")).status_code == 404

    async def test_method_decorators_and_method_views(self, peer, app, client):
        class Things(quart.views.MethodView if peer is quart else asyncflask.views.MethodView):
            async def get(self, name):
                return f"get {name}"

            def put(self, name):
                return f"put {name}"

        app.add_url_rule("/things/<name>", view_func=Things.as_view("things"))
        app.post("/post", endpoint="post")(lambda: "posted")
        answers = [await client.get("/things/a"), await client.put("/things/b"), await client.post("/post")]
        assert [await text(answer) for answer in answers] == ["get a", "put b", "posted"]

    async def test_bodies(self, peer, app, client):
        @app.post("/json")
        async def take_json():
            return {"got": await settle(peer.request.get_json())}

        @app.post("/data")
        async def take_data():
            return await settle(peer.request.get_data())

        @app.post("/form")
        async def take_form():
            form, files = await settle(peer.request.form), await settle(peer.request.files)
            return {"name": form["name"], "file": files["file"].read().decode() if files else None}

        assert await settle((await client.post("/json", json=[1, None])).get_json()) == {"got": [1, None]}
        assert (await client.post("/json", data="{", headers={"Content-Type": "application/json"})).status_code == 400
        assert await text(await client.post("/data", data=b"bytes")) == "bytes"
        form = await client.post("/form", form={"name": "x"}) if peer is quart else await client.post(
            "/form", data={"name": "x"}
        )  # fmt: skip
        assert await settle(form.get_json()) == {"name": "x", "file": None}
        file = FileStorage(io.BytesIO(b"inside"), filename="a.txt")
        if peer is quart:
            upload = await client.post("/form", form={"name": "y"}, files={"file": file})
        else:
            upload = await client.post("/form", data={"name": "y", "file": file})
        assert await settle(upload.get_json()) == {"name": "y", "file": "inside"}

    async def test_streamed_body_in(self, peer, app, client):
        """`async for` over the body: `request.body` there, `request.stream` here."""

        @app.post("/count")
        async def count():
            pieces = peer.request.body if peer is quart else peer.request.stream
            return str(sum([len(piece) async for piece in pieces]))

        if peer is asyncflask:
            app.view_functions.pop("count")
            app.add_url_rule("/streamed", "count", count, methods=["POST"], stream_body=True)
        path = "/count" if peer is quart else "/streamed"
        assert await text(await client.post(path, data=b"x" * 100_000)) == "100000"

    async def test_hooks_in_their_order(self, peer, app, client):
        log = []
        blueprint = peer.Blueprint("b", __name__)

        def note(name, give=False):
            def hook(*args):
                log.append(name)
                return args[0] if give else None

            return hook

        def note_async(name, give=False):
            async def hook(*args):
                return note(name, give)(*args)

            return hook

        app.before_request(note_async("before app"))
        blueprint.before_request(note("before blueprint"))
        app.after_request(note("after app", give=True))
        blueprint.after_request(note_async("after blueprint", give=True))
        app.teardown_appcontext(note_async("teardown context"))

        @blueprint.route("/")
        async def index():
            @peer.after_this_request
            async def after(response):
                log.append("after this")
                response.headers["X-This"] = "yes"
                return response

            log.append("view")
            return ""

        app.register_blueprint(blueprint)
        assert (await client.get("/")).headers["X-This"] == "yes"
        assert log == [
            "before app",
            "before blueprint",
            "view",
            "after this",
            "after blueprint",
            "after app",
            "teardown context",
        ]

    async def test_errors(self, peer, app, client):
        @app.errorhandler(404)
        async def not_found(error):
            return f"nothing at {peer.request.path}", 404

        @app.errorhandler(LookupError)
        def look_up(error):
            return "looked up", 418

        @app.route("/lookup")
        async def lookup():
            raise KeyError("x")

        @app.route("/abort")
        async def refuse():
            peer.abort(403)

        answers = [await client.get(path) for path in ("/none", "/lookup", "/abort")]
        assert [answer.status_code for answer in answers] == [404, 418, 403]
        assert await text(answers[0]) == "nothing at /none"

    async def test_session_flash_and_redirect(self, peer, app, client):
        @app.route("/in")
        async def log_in():
            peer.session["user"] = "ada"
            await settle(peer.flash("welcome"))
            return peer.redirect(peer.url_for("home"))

        @app.route("/")
        async def home():
            return f"{peer.session.get('user')} {peer.get_flashed_messages()}"

        assert await text(await client.get("/in", follow_redirects=True)) == "ada ['welcome']"
        assert await text(await client.get("/")) == "ada []"
        async with client.session_transaction() as session:
            session["user"] = "grace"
        assert await text(await client.get("/")) == "grace []"

    async def test_templates(self, peer, app, client):
        app.context_processor(lambda: {"who": "world"})
        app.template_filter("shout")(lambda value: value.upper())

        @app.route("/")
        async def index():
            return await settle(peer.render_template_string("hello {{ who|shout }} {{ request.path }}"))

        @app.route("/stream")
        async def stream():
            return await settle(peer.stream_template_string("{% for x in '123' %}{{ x }},{% endfor %}"))

        assert await text(await client.get("/")) == "hello WORLD /"
        assert await text(await client.get("/stream")) == "1,2,3,"

    async def test_streamed_responses(self, peer, app, client):
        @app.route("/")
        async def index():
            @peer.stream_with_context
            async def generate():
                for piece in "ab":
                    await asyncio.sleep(0)
                    yield f"{piece}{peer.request.path}"

            return generate(), {"X-Streamed": "yes"}

        response = await client.get("/")
        assert (response.headers["X-Streamed"], await text(response)) == ("yes", "a/b/")

    async def test_responses_and_files(self, peer, app, client, tmp_path):
        (tmp_path / "file.txt").write_text("0123456789")

        @app.route("/made")
        async def made():
            response = await settle(peer.make_response("text", 202))
            response.set_cookie("a", "b")
            return response

        @app.route("/file")
        async def file():
            return await settle(peer.send_file(tmp_path / "file.txt", conditional=True))

        @app.route("/folder/<path:name>")
        async def folder(name):
            return await settle(peer.send_from_directory(tmp_path, name))

        response = await client.get("/made")
        assert (response.status_code, response.headers["Set-Cookie"]) == (202, "a=b; Path=/")
        assert await text(await client.get("/file", headers={"Range": "bytes=2-4"})) == "234"
        assert await text(await client.get("/folder/file.txt")) == "0123456789"
        assert (await client.get("/folder/other.txt")).status_code == 404

    async def test_many_at_once_do_not_mix(self, peer, app, client):
        app.before_request(lambda: setattr(peer.g, "name", peer.request.args["name"]))

        @app.route("/")
        async def index():
            await asyncio.sleep(0)
            return peer.g.name

        answers = await asyncio.gather(*(make_client(app).get(f"/?name={number}") for number in range(50)))
        assert [await text(answer) for answer in answers] == [str(number) for number in range(50)]


class TestContexts:
    async def test_application_context(self, peer, app):
        async with app.app_context():
            peer.g.value = 1
            assert (peer.has_app_context(), peer.has_request_context()) == (True, False)

            @peer.copy_current_app_context
            async def task():
                return peer.current_app.name, peer.g.value

            assert await asyncio.create_task(task()) == (app.name, 1)
        assert not peer.has_app_context()

    async def test_request_context(self, peer, app):
        async with app.test_request_context("/path?q=1", method="POST"):
            assert (peer.request.path, peer.request.args["q"], peer.request.method) == ("/path", "1", "POST")

            @peer.copy_current_request_context
            async def task():
                return peer.request.path

            assert await asyncio.create_task(task()) == "/path"

    async def test_sync_code_in_threads(self, peer, app):
        def where():
            return threading.get_ident(), peer.g.value

        async def coroutine():
            return peer.g.value

        run_sync = quart.utils.run_sync if peer is quart else asyncflask.utils.run_sync
        async with app.app_context():
            peer.g.value = 2
            for in_thread in (run_sync(where), app.sync_to_async(where), app.ensure_async(where)):
                thread, value = await in_thread()
                assert (thread != threading.get_ident(), value) == (True, 2)
            assert await app.ensure_async(coroutine)() == 2


class TestWebsockets:
    async def test_conversation(self, peer, app, client):
        @app.websocket("/echo/<name>")
        async def echo(name):
            await peer.websocket.send(f"{name} {peer.websocket.args['q']} {peer.has_websocket_context()}")
            while True:
                await peer.websocket.send(await peer.websocket.receive())

        async with client.websocket("/echo/x?q=1") as connection:
            assert await connection.receive() == "x 1 True"
            for message in ("text", b"bytes"):
                await connection.send(message)
                assert await connection.receive() == message

    async def test_json(self, peer, app, client):
        @app.websocket("/json")
        async def answer():
            await peer.websocket.send_json(await peer.websocket.receive_json())

        async with client.websocket("/json") as connection:
            await connection.send_json({"a": [1]})
            assert await connection.receive_json() == {"a": [1]}

    async def test_accept(self, peer, app, client):
        @app.websocket("/")
        async def index():
            await peer.websocket.accept(headers={"X-Room": "7"}, subprotocol="two")
            await peer.websocket.close(4001, "enough")

        scope_seen = []
        inner = app.asgi_app

        async def middleware(scope, receive, send):
            async def note(message):
                scope_seen.append(message)
                await send(message)

            await inner(scope, receive, note)

        app.asgi_app = middleware
        async with client.websocket("/", subprotocols=["one", "two"]) as connection:
            with pytest.raises(Exception):  # noqa: B017  # each has its own class
                await connection.receive()
        accept, close = scope_seen
        assert (accept["subprotocol"], dict(accept["headers"])[b"x-room"]) == ("two", b"7")
        assert (close["type"], close["code"]) == ("websocket.close", 4001)

    @pytest.mark.parametrize("how", ["hook", "abort", "return", "error handler", "no rule"])
    async def test_refusal(self, peer, app, client, how):
        if how == "hook":
            app.before_websocket(lambda: ("no", 403))
        if how == "error handler":
            app.register_error_handler(LookupError, lambda error: ("no", 403))

        @app.websocket("/")
        async def index():
            if how == "abort":
                peer.abort(403)
            if how == "error handler":
                raise LookupError
            return "no", 403

        refused = quart.testing.connections if peer is quart else asyncflask.connections
        error = getattr(refused, "WebsocketResponseError", None) or quart.testing.WebsocketResponseError
        with pytest.raises(error) as raised:
            async with client.websocket("/nowhere" if how == "no rule" else "/") as connection:
                await connection.receive()
        assert raised.value.response.status_code == (404 if how == "no rule" else 403)

    async def test_hooks_and_signals(self, peer, app, client):
        log = []
        blueprint = peer.Blueprint("b", __name__, url_prefix="/b")
        app.before_websocket(lambda: log.append("before app"))
        blueprint.before_websocket(lambda: log.append("before blueprint"))

        @app.after_websocket
        async def after(response):
            log.append(f"after {response}")
            return response

        @app.teardown_websocket
        async def tear_down(error):
            log.append(f"torn down {error}")

        @blueprint.websocket("/")
        async def index():
            await peer.websocket.send("x")
            log.append("view")

        app.register_blueprint(blueprint)

        async def started(sender, **extra):
            log.append("started")

        peer.websocket_started.connect(started, app)
        async with client.websocket("/b/") as connection:
            assert await connection.receive() == "x"
            await asyncio.sleep(0.01)
        assert log == ["started", "before app", "before blueprint", "view", "after None", "torn down None"]


class TestLife:
    async def test_serving_hooks_and_background_tasks(self, peer, app):
        log = []

        @app.before_serving
        async def before():
            log.append("before")

        @app.while_serving
        async def around():
            log.append("begin")
            yield
            log.append("end")

        @app.after_serving
        def after():
            log.append("after")

        @app.route("/")
        async def index():
            app.add_background_task(work, 1)
            return ""

        async def work(number):
            await asyncio.sleep(0.01)
            log.append(number)

        async with app.test_app() as test_app:
            assert (await test_app.test_client().get("/")).status_code == 200
        assert log == ["before", "begin", 1, "end", "after"]

    async def test_asgi_middleware(self, app, client):
        seen = []
        inner = app.asgi_app

        async def middleware(scope, receive, send):
            seen.append(scope["type"])
            await inner(scope, receive, send)

        app.asgi_app = middleware
        assert (await client.get("/")).status_code == 404
        assert seen == ["http"]


# Names

_ONE_FLOW = "a websocket goes through the stages of a request: override the one of that name without `websocket`"
_AWAITED_BODIES = "bodies are Werkzeug's iterables here, as in Flask"
_HTTP2 = "HTTP/2 push: browsers took it out"
_ASGI_CLASSES = "wrap `app.asgi_app` to change how ASGI is spoken"
_TOOLS = "the reloader and formatters are tools of Quart's own"
_PARSER = "Werkzeug's, which Flask uses"

# Name -> why it is not here. A row that is no longer needed fails.
DIFFERENCES = {
    "Quart": "`Flask`",
    "make_push_promise": _HTTP2,
    "helpers.make_push_promise": _HTTP2,
    "Request.send_push_promise": _HTTP2,
    "Markup": "import it from markupsafe, as with Flask",
    "escape": "import it from markupsafe, as with Flask",
    "signals_available": "signals are always there",
    "ResponseReturnValue": "`asyncflask.typing.ResponseReturnValue`, as in Flask",
    "annotations": "an import of Quart's that is no name of its interface",
    "Quart.asgi_http_class": _ASGI_CLASSES,
    "Quart.asgi_lifespan_class": _ASGI_CLASSES,
    "Quart.asgi_websocket_class": _ASGI_CLASSES,
    "Quart.event_class": "the loop's own are used, asyncio's or trio's",
    "Quart.lock_class": "the loop's own are used, asyncio's or trio's",
    "Quart.test_app_class": "`app.test_app()` gives `asyncflask.async_testing.TestApp`",
    "Quart.handle_websocket_exception": _ONE_FLOW,
    "Quart.do_teardown_websocket": _ONE_FLOW,
    "Quart.handle_request": "the edges call the stages; override `full_dispatch_request`",
    "Quart.handle_websocket": "the edges call the stages; override `full_dispatch_request`",
    "Quart.full_dispatch_websocket": _ONE_FLOW,
    "Quart.preprocess_websocket": _ONE_FLOW,
    "Quart.dispatch_websocket": _ONE_FLOW,
    "Quart.finalize_websocket": _ONE_FLOW,
    "Quart.postprocess_websocket": _ONE_FLOW,
    "Quart.handle_background_exception": "the signal `got_background_exception`",
    "Request.body_class": _AWAITED_BODIES,
    "Request.lock_class": _AWAITED_BODIES,
    "Response.data_body_class": _AWAITED_BODIES,
    "Response.file_body_class": _AWAITED_BODIES,
    "Response.io_body_class": _AWAITED_BODIES,
    "Response.iterable_body_class": _AWAITED_BODIES,
    "Response.iter_encode": "`iter_encoded`, as in Werkzeug",
    "QuartClient.http_connection_class": "the client's methods make the connections",
    "QuartClient.websocket_connection_class": "the client's methods make the connections",
    "app.Quart": "`app.Flask`",
    "asgi.ASGIHTTPConnection": _ASGI_CLASSES,
    "asgi.ASGIWebsocketConnection": _ASGI_CLASSES,
    "asgi.ASGILifespan": _ASGI_CLASSES,
    "cli.QuartGroup": "`cli.FlaskGroup`",
    "ctx.after_this_websocket": "`after_this_request` holds for websockets",
    "datastructures.FileStorage": "Werkzeug's, saved as in Flask",
    "debug.traceback_response": "the debugger is Werkzeug's",
    "formparser.FormDataParser": _PARSER,
    "formparser.MultiPartParser": _PARSER,
    "helpers.find_package": "gone from Flask too",
    "logging.LocalQueueHandler": "logging is set up as in Flask",
    "routing.QuartRule": "Werkzeug's Rule, with websocket=True",
    "routing.QuartMap": "Werkzeug's Map",
    "testing.QuartCliRunner": "`testing.FlaskCliRunner`",
    "utils.MustReloadError": _TOOLS,
    "utils.cancel_tasks": _TOOLS,
    "utils.decode_headers": _TOOLS,
    "utils.encode_headers": _TOOLS,
    "utils.file_path_to_path": _TOOLS,
    "utils.observe_changes": _TOOLS,
    "utils.raise_task_exceptions": _TOOLS,
    "utils.restart": _TOOLS,
    "utils.run_sync_iterable": "a sync generator is a response as it is",
    "config ENV": "gone from Flask too",
    "config PREFER_SECURE_URLS": "PREFERRED_URL_SCHEME, as in Flask",
    "config PRESERVE_CONTEXT_ON_EXCEPTION": "gone from Flask too",
    "config MAX_CONTENT_LENGTH": "None, as in Flask; set it",
    "config SEND_FILE_MAX_AGE_DEFAULT": "None, as in Flask",
    "config RESPONSE_TIMEOUT": "None: a view may take as long as in Flask",
}

MODULES = """
    app asgi blueprints cli config ctx datastructures debug formparser globals helpers json json.provider json.tag
    logging routing sessions signals templating testing typing utils views wrappers
""".split()


def classes():
    from asyncflask.async_testing import AsyncClient, TestApp
    from asyncflask.connections import HTTPConnection, WebsocketConnection

    connections = quart.testing.connections
    return {
        "Quart": (quart.Quart, asyncflask.Flask("app")),
        "Blueprint": (quart.Blueprint, asyncflask.Blueprint("b", "b")),
        "Request": (quart.Request, asyncflask.Request),
        "Response": (quart.Response, asyncflask.Response),
        "Websocket": (quart.Websocket, asyncflask.Websocket),
        "Config": (quart.Config, asyncflask.Config),
        "QuartClient": (quart.testing.QuartClient, AsyncClient(asyncflask.Flask("app"))),
        "TestApp": (quart.testing.TestApp, TestApp),
        "TestHTTPConnection": (connections.TestHTTPConnection, HTTPConnection),
        "TestWebsocketConnection": (connections.TestWebsocketConnection, WebsocketConnection),
    }


def own_names(cls: type) -> set[str]:
    """What Quart defines on a class, its bases within Quart included."""
    bases = (base for base in cls.__mro__ if base.__module__.startswith("quart"))
    return {name for base in bases for name in vars(base) if not name.startswith("_")}


def missing_names() -> set[str]:
    public = [name for name, value in vars(quart).items() if not name.startswith("_") and not inspect.ismodule(value)]
    missing = {name for name in public if not has(asyncflask, name)}
    for class_name, (theirs, ours) in classes().items():
        missing |= {f"{class_name}.{name}" for name in own_names(theirs) if not hasattr(ours, name)}
    for module in MODULES:
        theirs, ours = find_module("quart", module), find_module("asyncflask", module)
        for name, value in vars(theirs).items():
            own = getattr(value, "__module__", "") == theirs.__name__ and not name.startswith("_")
            if own and not is_for_types(value) and not has(ours, name):
                missing.add(f"{module}.{name}")
    return missing


def has(module: ModuleType | None, name: str) -> bool:
    try:
        return module is not None and hasattr(module, name)
    except ImportError:  # a name that is gone, with the way that takes its place
        return False


def find_module(package: str, name: str) -> ModuleType | None:
    try:
        return import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        return None


def is_for_types(value: object) -> bool:
    """Or a protocol: what only annotations name."""
    return type(value).__module__ in ("typing", "typing_extensions")


def different_config() -> set[str]:
    ours = asyncflask.Flask.default_config
    return {f"config {key}" for key, value in quart.Quart.default_config.items() if ours.get(key, ours) != value}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_differences_from_quart_are_the_known_ones():
    found = missing_names() | different_config()
    assert sorted(found - set(DIFFERENCES)) == []
    assert sorted(set(DIFFERENCES) - found) == [], "rows that are no longer needed"


def test_the_page_names_tests_that_exist():
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE.read_text()))
    there = {path.name for path in Path(__file__).parent.rglob("test_*.py")}
    assert len(named) > 10
    assert sorted(named - there) == []
