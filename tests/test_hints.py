"""Hints: what a logged error says about code that is on its way here from Flask or Quart."""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import logging
import sqlite3
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import flask
import pytest
from faces import AsgiClient, WsgiClient
from markupsafe import escape
from test_serving import ROOT, Server

import asyncflask
from asyncflask import (
    Blueprint,
    Flask,
    current_app,
    flash,
    g,
    got_request_exception,
    jsonify,
    make_response,
    render_template_string,
    request,
    send_file,
    send_from_directory,
    session,
)
from asyncflask.gone import FROM_APP, FROM_BLUEPRINT, FROM_CONFIG, FROM_MODULE

FACES = pytest.mark.parametrize("face", [WsgiClient, AsgiClient], ids=["wsgi", "asgi"])
# The errors under test leave coroutines behind; what runs them is collected before the test ends.
LEAVES_COROUTINES = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")


def make_app(view: Callable[..., Any], **config: Any) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.secret_key = "key"
    app.config.update(config)
    app.add_url_rule("/", "view", view, methods=["GET", "POST"])
    return app


def log_of(app: Flask, face: type[WsgiClient] = WsgiClient) -> str:
    """The log of one request that fails."""
    stream = io.StringIO()
    app.logger.handlers, app.logger.propagate = [logging.StreamHandler(stream)], False
    gc.freeze()  # only what the request leaves is looked through
    assert face(app).post("/", data={"x": "1"}).status == 500
    gc.collect()
    gc.unfreeze()
    return stream.getvalue()


def hints_of(view: Callable[..., Any], face: type[WsgiClient] = WsgiClient) -> list[str]:
    log = log_of(make_app(view), face)
    assert "Traceback" in log
    return [line.strip(" |") for line in log.splitlines() if "Hint: " in line]


async def fetch() -> dict[str, int]:
    return {"x": 1}


async def rows():
    yield 1


# a. Sync things awaited


def text_of_mine() -> str:
    return "text"


def number_of_mine() -> int:
    return 5


class Mine:
    """A user's own class, with names as in asyncflask."""

    form = 5

    def get_json(self) -> Mine:
        return self


async def await_get_json():
    return await request.get_json(silent=True)


async def await_form():
    return (await request.form)["x"]


async def await_files():
    return len(await request.files)


async def await_get_data():
    return await request.get_data()


async def await_render():
    return await render_template_string("x")


async def await_over_lines():
    return "ä" + await render_template_string(
        "x",
        name="ä",
    )


async def await_make_response():
    response = await make_response("x")
    return response


async def await_jsonify():
    return await asyncflask.jsonify(x=1)


async def await_send_file():
    return await send_file(io.BytesIO(b"x"), "text/plain")


async def await_flash():
    await flash("saved")


async def await_session():
    await session.get("x")


async def await_response():
    response = make_response("x")
    return await response.get_data()


async def await_nested():
    return await make_response(await render_template_string("x"))


async def loop_over_files():
    async for file in request.files.getlist("x"):
        print(file)


async def collect_form():
    return [value async for value in request.form.values()]


async def enter_response():
    async with make_response("x") as response:
        return response


async def await_in_task():
    async def read():
        return await request.form

    async with asyncio.TaskGroup() as group:
        group.create_task(read())


async def await_and_convert():
    try:
        await request.form
    except TypeError as error:
        raise LookupError("another") from error


NAMED = {
    await_get_json: "'request.get_json(silent=True)' is sync here, as in Flask: leave out the 'await'.",
    await_form: "'request.form' is sync here",
    await_files: "'request.files' is sync here",
    await_get_data: "'request.get_data()' is sync here",
    await_render: "'render_template_string('x')' is sync here",
    await_over_lines: "'render_template_string('x', name='ä')' is sync here",
    await_make_response: "'make_response('x')' is sync here",
    await_jsonify: "'asyncflask.jsonify(x=1)' is sync here",
    await_send_file: "'send_file(io.BytesIO(b'x'), 'text/plain')' is sync here",
    await_flash: "'flash('saved')' is sync here",
    await_session: "'session.get('x')' is sync here",
    await_response: "'response.get_data()' is sync here",
    await_nested: "'render_template_string('x')' is sync here",
    loop_over_files: "'request.files.getlist('x')' is sync here, as in Flask: write 'for' in place of 'async for'.",
    collect_form: "'request.form.values()' is sync here, as in Flask: write 'for' in place of 'async for'.",
    enter_response: "'make_response('x')' is sync here, as in Flask: write 'with' in place of 'async with'.",
    await_in_task: "'request.form' is sync here",
    await_and_convert: "'request.form' is sync here",
}


async def await_text():
    return await text_of_mine()


async def await_page_made_before():
    page = render_template_string("x")
    return await page


async def await_as_python_3_14_puts_it():
    raise TypeError("'Response' object can't be awaited")


async def loop_over_list():
    async for item in [1, 2]:
        print(item)


GENERAL = {
    await_text: "'text_of_mine()' gave a str at once, there is nothing to wait for: leave out the 'await'.",
    await_page_made_before: "'page' gave a str at once",
    await_as_python_3_14_puts_it: "The expression gave a Response at once",
    loop_over_list: "'[1, 2]' gave a list at once, there is nothing to wait for: write 'for' in place of 'async for'.",
}


# b. Coroutines not awaited


async def put_into_dict():
    return {"x": fetch()}


async def put_into_list():
    return [fetch()]


async def put_into_jsonify():
    return jsonify(x=fetch())


async def return_with_status():
    return fetch(), 200


def return_with_status_in_sync_code():
    return fetch(), 200


async def subscript():
    return fetch()["x"]


async def read_attribute():
    answer = fetch()
    return answer.x


async def compare():
    other = fetch()
    return "yes" if fetch() < 3 or other else "no"


async def concatenate():
    return "x" + fetch()


async def measure():
    return str(len(fetch()))


async def iterate():
    return [item for item in fetch()]


async def unpack():
    first, second = fetch()
    return first + second


async def enter():
    async with fetch() as answer:
        return answer


COROUTINES = {
    put_into_dict: "write 'await fetch(…)'",
    put_into_list: "write 'await fetch(…)'",
    put_into_jsonify: "write 'await fetch(…)'",
    return_with_status: "write 'await fetch(…)'",
    return_with_status_in_sync_code: "write 'await fetch(…)'",
    subscript: "write 'await fetch()'",
    read_attribute: "write 'await fetch(…)'",
    compare: "write 'await fetch()'",
    concatenate: "write 'await fetch()'",
    measure: "write 'await fetch()'",
    iterate: "await",
    unpack: "await it",
    enter: "await",
}


async def put_generator_into_dict():
    return {"x": rows()}


def iterate_generator():
    return list(rows())


async def await_generator():
    return await rows()


GENERATORS = dict.fromkeys((put_generator_into_dict, iterate_generator, await_generator), "with 'async for'")

# e. Event loops, and f. parameters


async def run_a_loop():
    coro = fetch()
    try:
        return asyncio.run(coro)
    finally:
        coro.close()


async def run_until_complete():
    coro = fetch()
    try:
        return asyncio.get_running_loop().run_until_complete(coro)
    finally:
        coro.close()


def get_running_loop():
    return str(asyncio.get_running_loop())


def create_task():
    coro = fetch()
    try:
        return asyncio.create_task(coro)
    finally:
        coro.close()


LOOPS = {
    run_a_loop: "on the event loop already: 'await' the coroutine",
    run_until_complete: "on the event loop already: 'await' the coroutine",
    get_running_loop: "Make the view an 'async def'",
    create_task: "Make the view an 'async def'",
}


def send_with_old_name():
    return send_file(__file__, attachment_filename="x.py")


def send_with_old_names_elsewhere():
    return send_from_directory(current_app.root_path, "test_hints.py", cache_timeout=3)


def send_without_path():
    return send_from_directory(current_app.root_path, filename="test_hints.py")


# g. A database connection that sync and async code share


async def use_a_sync_connection():
    connection = await current_app.ensure_async(partial(sqlite3.connect, ":memory:"))()
    try:
        return connection.execute("SELECT 1").fetchone()
    finally:
        await current_app.ensure_async(connection.close)()


def use_an_async_connection():
    connection = current_app.ensure_sync(connect_on_loop)()
    try:
        return connection.execute("SELECT 1").fetchone()
    finally:
        current_app.ensure_sync(close_on_loop)(connection)


async def connect_on_loop():
    return sqlite3.connect(":memory:")


async def close_on_loop(connection):
    connection.close()


THREADS = dict.fromkeys((use_a_sync_connection, use_an_async_connection), "await current_app.ensure_async(function)")

PARAMETERS = {
    send_with_old_name: "write 'download_name'",
    send_with_old_names_elsewhere: "write 'max_age'",
    send_without_path: "write 'path'",
}

HINTED = {**NAMED, **GENERAL, **COROUTINES, **GENERATORS, **LOOPS, **THREADS, **PARAMETERS}


@LEAVES_COROUTINES
@FACES
@pytest.mark.parametrize("view", HINTED, ids=lambda view: view.__name__)
def test_hint_stands_in_the_log(view, face):
    (hint,) = hints_of(view, face)
    assert hint.startswith("Hint: ")
    assert HINTED[view] in hint


# Errors that only look alike


async def await_number():
    return await number_of_mine()


async def await_own_class():
    return await Mine().get_json()


async def await_own_request():
    request = Mine()
    return await request.form


async def await_value_in_g():
    g.number = 5
    return await g.number


async def loop_over_own():
    async for item in Mine():
        print(item)


async def enter_own():
    async with Mine():
        return ""


def subscript_number():
    return number_of_mine()["x"]


def set_into_json():
    return {"x": {1, 2}}


async def create_task_of_number():
    await asyncio.create_task(5)


def mention_a_coroutine():
    raise TypeError("parse is not coroutine function")


def speak_of_loops():
    raise RuntimeError("there is no running event loop here")


def speak_of_contexts():
    raise RuntimeError("Working outside of request context.")


def own_context_is_missing():
    with Flask("other").app_context():
        raise RuntimeError(asyncflask.globals._no_req_msg)


def send_file_of_mine():
    def send_file(path):
        return path

    return send_file("x", attachment_filename="x")


FOREIGN = (
    await_number, await_own_class, await_own_request, await_value_in_g, loop_over_own, enter_own, subscript_number,
    set_into_json, create_task_of_number, mention_a_coroutine, speak_of_loops, speak_of_contexts,
    own_context_is_missing, send_file_of_mine,
)  # fmt: skip


@pytest.mark.parametrize("view", FOREIGN, ids=lambda view: view.__name__)
def test_similar_errors_get_no_hint(view):
    assert hints_of(view) == []


class TestWhoseCode:
    """A hint says what to write: it is for those who wrote the failing line."""

    SOURCE = "import asyncflask\nasync def view():\n    return await asyncflask.render_template_string('x')\n"

    @pytest.fixture
    def view(self, tmp_path, monkeypatch):
        folder = tmp_path / "site-packages"
        folder.mkdir()
        (folder / "installed_code.py").write_text(self.SOURCE)
        monkeypatch.syspath_prepend(folder)
        yield importlib.import_module("installed_code").view
        del sys.modules["installed_code"]

    def test_installed_code_gets_none(self, view):
        assert hints_of(view) == []

    def test_an_installed_application_does(self, view):
        app = make_app(view)
        app.import_name = "installed_code.views"
        assert "is sync here" in log_of(app)

    def test_without_its_source_the_type_decides(self):
        names: dict[str, Any] = {"asyncflask": asyncflask}
        exec(compile(self.SOURCE, "/nowhere/views.py", "exec"), names)
        (hint,) = hints_of(names["view"])
        assert hint.startswith("Hint: The expression gave a str at once")


class TestPlaces:
    """The same note wherever the error is shown."""

    NOTE = "Hint: 'request.form' is sync here, as in Flask: leave out the 'await'."

    @pytest.mark.parametrize("config", [{"TESTING": True}, {"DEBUG": True}, {"PROPAGATE_EXCEPTIONS": True}])
    def test_propagated(self, config):
        with pytest.raises(TypeError) as caught:
            make_app(await_form, **config).test_client().get("/")
        assert caught.value.__notes__ == [self.NOTE]
        assert traceback.format_exception(caught.value)[-1] == f"{self.NOTE}\n"

    def test_receivers_of_the_signal_have_it(self):
        app, seen = make_app(await_form), []
        with got_request_exception.connected_to(lambda _, exception: seen.extend(exception.__notes__), app):
            log_of(app)
        assert seen == [self.NOTE]

    def test_once_per_error(self):
        kept = []

        async def view():
            if kept:
                raise kept[0]
            try:
                return await request.form
            except TypeError as error:
                kept.append(error)
                raise

        app = make_app(view)
        assert [log_of(app).count("Hint: ") for _ in range(3)] == [1, 1, 1]
        kept.clear()

    def test_a_handled_error_has_none(self):
        app, seen = make_app(await_form), []

        @app.errorhandler(TypeError)
        def handle(error):
            seen.append(getattr(error, "__notes__", []))
            return "handled"

        assert app.test_client().get("/").text == "handled"
        assert seen == [[]]

    def test_an_error_that_cannot_be_read_stays_itself(self):
        class Broken(TypeError):
            def __str__(self):
                raise ValueError("no text")

        def view():
            raise Broken

        log = log_of(make_app(view))
        assert "Broken" in log
        assert "find_hint" not in log

    def test_an_error_that_caused_itself(self):
        def view():
            error, other = TypeError("one"), TypeError("two")
            error.__cause__, other.__cause__ = other, error
            raise error

        assert hints_of(view) == []

    def test_loaded_by_an_error_only(self):
        code = """
import sys
from asyncflask import Flask, abort
app = Flask("app")
app.logger.disabled = True
@app.get("/<name>")
def view(name): return abort(404) if name == "missing" else {"": "fine"}[name]
def ask(path):
    return app.test_client().get(path).status_code, "asyncflask.hints" in sys.modules
@app.get("/")
def fine(): return "fine"
print(ask("/"), ask("/missing"), ask("/error"))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout == "(200, False) (404, False) (500, True)\n", done.stderr


SHOP = """
from asyncflask import Flask, request

app = Flask(__name__)

@app.get("/")
async def index():
    return await request.get_json(silent=True)
"""
NOTE = "Hint: 'request.get_json(silent=True)' is sync here, as in Flask: leave out the 'await'."
WITH_WERKZEUG = """
import sys
from werkzeug.serving import run_simple
from shop import app

app.debug = "debug" in sys.argv
run_simple("127.0.0.1", 0, app, use_debugger=app.debug)
"""
COMMANDS = {
    "asgi": ["-m", "asyncflask", "--app", "shop", "run", "--port", "0"],
    "wsgi": ["werkzeug_server.py"],
}
DEBUG = {"asgi": ["--debug", "--no-reload"], "wsgi": ["debug"]}


class TestServers:
    """Real processes: uvicorn by `asyncflask run`, and Werkzeug's WSGI server."""

    @pytest.fixture
    def start(self, tmp_path):
        (tmp_path / "shop.py").write_text(SHOP)
        (tmp_path / "werkzeug_server.py").write_text(WITH_WERKZEUG)
        servers: list[Server] = []

        def start(face: str, *arguments: str) -> Server:
            servers.append(Server(tmp_path, [*COMMANDS[face], *arguments], {}))
            return servers[0]

        yield start
        for server in servers:
            server.kill()

    @pytest.mark.parametrize("face", COMMANDS)
    def test_log(self, start, face):
        server = start(face)
        assert server.get("/")[0] == 500
        assert server.wait_for("Hint: .*")[0] == NOTE

    @pytest.mark.parametrize(("face", "arguments"), DEBUG.items())
    def test_debug_page(self, start, face, arguments):
        status, page = start(face, *arguments).get("/")
        assert status == 500
        assert "Werkzeug" in page
        assert escape(NOTE) in page


class TestContextMessages:
    @pytest.mark.parametrize("read", [lambda: current_app.name, lambda: g.x, lambda: asyncflask.url_for("x")])
    def test_application(self, read):
        with pytest.raises(RuntimeError, match=r"Working outside of application context\.") as caught:
            read()
        for advice in ("with app.app_context():", "copy_current_request_context", "_get_current_object()"):
            assert advice in str(caught.value)

    @pytest.mark.parametrize("read", [lambda: request.path, lambda: session["x"]])
    def test_request(self, read):
        with pytest.raises(RuntimeError, match=r"Working outside of request context\.") as caught:
            read()
        for advice in ("app.test_request_context(", "copy_current_request_context", "stream_with_context"):
            assert advice in str(caught.value)

    @FACES
    def test_sync_form_on_the_loop_says_what_to_do(self, face):
        async def view():
            return current_app.ensure_sync(fetch)()

        log = log_of(make_app(view), face)
        assert "await the function (app.ensure_async(f))" in log


class TestFlaskBeside:
    """Code that still imports Flask itself."""

    VIEWS = """
        from flask import jsonify, request, copy_current_request_context

        def read():
            return request.path

        def answer():
            return jsonify(1)

        def copy():
            return copy_current_request_context(read)
    """

    @pytest.fixture
    def views(self, tmp_path, monkeypatch):
        (tmp_path / "old_views.py").write_text(textwrap.dedent(self.VIEWS))
        monkeypatch.syspath_prepend(tmp_path)
        yield importlib.import_module("old_views")
        del sys.modules["old_views"]

    @pytest.mark.parametrize("name", ["read", "answer", "copy"])
    @FACES
    def test_proxies(self, views, name, face):
        (hint,) = hints_of(getattr(views, name), face)
        assert f"{views.__file__}, line 2, imports flask itself ('from flask import jsonify" in hint
        for way in ("import from asyncflask", "asyncflask --as-flask", "asyncflask.alias.install()"):
            assert way in hint

    def test_names_that_came_through_another_module(self, views):
        request = views.request

        def view():
            return request.path

        (hint,) = hints_of(view)
        assert f"{__file__}, " in hint

    def test_our_own_proxies_get_no_hint(self):
        def view():
            stolen: list[Any] = []
            from threading import Thread

            def read():
                try:
                    return request.path
                except RuntimeError as error:
                    stolen.append(error)

            thread = Thread(target=read)
            thread.start()
            thread.join()
            raise stolen.pop()

        assert hints_of(view) == []

    def test_blueprint(self):
        pages = flask.Blueprint("pages", "shop.pages")
        for owner in (Flask("app"), Blueprint("outer", "outer")):
            with pytest.raises(TypeError, match=r"<Blueprint 'pages'>, of module 'shop.pages', was made with flask's"):
                owner.register_blueprint(pages)

    def test_application(self):
        pages = Blueprint("pages", "shop.pages")
        with pytest.raises(TypeError, match=r"was made with flask's own class Flask.* import from asyncflask instead"):
            flask.Flask("app").register_blueprint(pages)

    def test_blueprints_of_ones_own_pass(self):
        class Section(Blueprint):
            pass

        app, outer = Flask("app"), Section("outer", "outer")
        outer.register_blueprint(Section("inner", "inner"))
        app.register_blueprint(outer)
        assert set(app.blueprints) == {"outer", "outer.inner"}


def test_quart_beside():
    quart = pytest.importorskip("quart")

    async def view():
        return await quart.render_template_string("x")

    (hint,) = hints_of(view)
    assert "quart itself" in hint
    assert "import from asyncflask instead, and leave out the 'await'" in hint
    with pytest.raises(TypeError, match="was made with quart's own class Blueprint"):
        Flask("app").register_blueprint(quart.Blueprint("pages", "shop.pages"))


def test_under_the_alias():
    code = """
import asyncflask.as_flask
import flask
from flask import Blueprint, Flask, render_template_string, request
app = Flask(__name__)
app.register_blueprint(Blueprint("pages", "pages"))
@app.get("/")
async def view(): return await request.form
@app.get("/render")
async def render(): return await flask.render_template_string("x")
@app.get("/outside")
def outside(): raise RuntimeError("Working outside of request context.")
for path in ("/", "/render", "/outside"):
    app.test_client().get(path)
try:
    from flask.json import JSONEncoder
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.count("Hint: ") == 2, done.stderr
    assert done.stderr.count("leave out the 'await'") == 2
    assert "It is gone from Flask" in done.stdout


GONE = [(module, name) for module, names in FROM_MODULE.items() for name in names]


class TestGone:
    """Names that Flask has no more are missing, and say what to use."""

    @pytest.mark.parametrize(("module", "name"), GONE)
    def test_of_modules(self, module, name):
        ours, flasks = importlib.import_module(module), importlib.import_module(module.replace("asyncflask", "flask"))
        advice = FROM_MODULE[module][name]
        assert not hasattr(flasks, name)
        assert not hasattr(ours, name)
        assert getattr(ours, name, 3) == 3
        with pytest.raises(AttributeError, match="gone from Flask") as attribute:
            getattr(ours, name)
        with pytest.raises(ImportError, match=f"cannot import name '{name}' from '{module}'") as imported:
            exec(f"from {module} import {name}")
        assert advice in str(attribute.value)
        assert advice in str(imported.value)

    @pytest.mark.parametrize("module", FROM_MODULE)
    def test_unknown_names_are_as_in_any_module(self, module):
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'$"):
            getattr(importlib.import_module(module), "nothing")  # noqa: B009  # what is tested
        with pytest.raises(ImportError, match="cannot import name 'nothing'"):
            exec(f"from {module} import nothing")

    @pytest.mark.parametrize(
        ("make", "gone"),
        [
            (lambda api: api.Flask("app"), FROM_APP),
            (lambda api: api.Blueprint("pages", "pages"), FROM_BLUEPRINT),
            (lambda api: api.Config("."), FROM_CONFIG),
        ],
        ids=["app", "blueprint", "config"],
    )
    def test_of_objects(self, make, gone):
        ours, flasks = make(asyncflask), make(flask)
        for name, advice in gone.items():
            assert not hasattr(flasks, name)
            assert not hasattr(ours, name)
            with pytest.raises(AttributeError) as caught:
                getattr(ours, name)
            assert advice in str(caught.value)
        with pytest.raises(AttributeError, match=r"object has no attribute 'nothing'$"):
            ours.nothing  # noqa: B018  # what is tested

    def test_a_fallback_import_falls_back(self):
        try:
            from asyncflask import Markup as Text
        except ImportError:
            Text = str
        assert Text is str

    def test_replacements_exist(self):
        for module, names in {
            "asyncflask": "Blueprint current_app g has_app_context has_request_context",
            "asyncflask.alias": "install",
            "asyncflask.globals": "app_ctx request_ctx",
            "asyncflask.helpers": "get_debug_flag",
            "asyncflask.json.provider": "DefaultJSONProvider JSONProvider",
            "asyncflask.scaffold": "Scaffold",
            "asyncflask.testing": "EnvironBuilder",
            "asyncflask.views": "MethodView",
            "jinja2.utils": "htmlsafe_json_dumps",
            "markupsafe": "Markup escape",
            "werkzeug.utils": "cached_property safe_join",
        }.items():
            assert set(names.split()) <= vars(importlib.import_module(module)).keys()


@LEAVES_COROUTINES
def test_code_without_positions_has_its_hint_too() -> None:
    """What a compiler or a tool has added belongs to no line."""

    async def view() -> Any:
        return fetch()["x"]

    code = view.__code__
    nowhere = b"\xf8" * (len(code.co_code) // 2)  # an entry for one instruction each: it has no location
    view.__code__ = code.replace(co_linetable=nowhere)
    [hint] = hints_of(view)
    assert "await" in hint and "fetch" not in hint
