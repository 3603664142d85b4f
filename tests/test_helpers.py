"""The helpers: flags, paths, URLs, redirects, responses, flashes, files; logging and debug errors."""

from __future__ import annotations

import asyncio
import datetime
import io
import logging
import os
import sys
import types
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import flask
import flask.sansio.scaffold
import httpx
import pytest
from werkzeug.exceptions import HTTPException, NotFound, Unauthorized
from werkzeug.routing import RequestRedirect

import asyncflask
from asyncflask import (
    Flask,
    Response,
    abort,
    flash,
    get_flashed_messages,
    helpers,
    make_response,
    message_flashed,
    redirect,
    request,
    send_file,
    send_from_directory,
    session,
    url_for,
)
from asyncflask.debughelpers import DebugFilesKeyError, FormDataRoutingRedirect, UnexpectedUnicodeError
from asyncflask.logging import default_handler, has_level_handler, wsgi_errors_stream
from asyncflask.paths import find_package


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask("helped", root_path=str(tmp_path))
    app.secret_key = "key"
    return app


class TestFlags:
    VALUES = (None, "", "0", "1", "no", "No", "FALSE", "True", "yes", "anything")

    @pytest.mark.parametrize("value", VALUES)
    def test_flags_are_flasks(self, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("FLASK_DEBUG", "FLASK_SKIP_DOTENV"):
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        assert helpers.get_debug_flag() is flask.helpers.get_debug_flag()
        for default in (False, True):
            assert helpers.get_load_dotenv(default) is flask.helpers.get_load_dotenv(default)


class TestPaths:
    NAMES = (
        "json",
        "json.decoder",
        "__main__",
        "no_such_module",
        "no.such.module",
        "",
        "plain",
        "package",
        "package.inner",
        "space",
        "space.part",
        "space.part.inner",
    )

    @pytest.fixture
    def importable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        for name in ("plain.py", "package/__init__.py", "package/inner.py", "space/part/__init__.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("raise NotImplementedError" if name == "plain.py" else "")
        (tmp_path / "space/part/inner.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path)
        yield tmp_path
        # A namespace is imported on the way to what it holds, and would keep this test's folder.
        for name in [name for name in sys.modules if name.partition(".")[0] in ("plain", "package", "space")]:
            del sys.modules[name]

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            (helpers.get_root_path, flask.helpers.get_root_path),
            (find_package, flask.sansio.scaffold.find_package),
        ],
    )
    def test_paths_are_flasks(
        self, importable: Path, name: str, ours: Callable[[str], t.Any], theirs: Callable[[str], t.Any]
    ) -> None:
        assert ours(name) == theirs(name)

    def test_a_module_without_a_file_has_no_root_path(self) -> None:
        with pytest.raises(RuntimeError, match="'sys'"):
            helpers.get_root_path("sys")

    def test_a_module_without_a_file_falls_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "made_up", types.ModuleType("made_up"))
        assert helpers.get_root_path("made_up") == os.getcwd()

    @pytest.mark.parametrize(
        ("folder", "prefix"),
        [
            ("lib/python3.11/site-packages", "."),
            ("Lib/site-packages", "."),
            ("other/site-packages", "other"),
            ("elsewhere", None),
        ],
    )
    def test_installed_packages(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, prefix: str | None
    ) -> None:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "installed_here.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / folder)
        expected = None if prefix is None else os.fspath(tmp_path / prefix)
        assert find_package("installed_here") == (expected, os.fspath(tmp_path / folder))


class TestUrls:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({}, "/"),
            ({"_anchor": "x y"}, "/#x%20y"),
            ({"_external": True}, "http://localhost/"),
            ({"_external": True, "_scheme": "https"}, "https://localhost/"),
            ({"_scheme": "https"}, "https://localhost/"),
            ({"q": [1, "ä"], "self": 2}, "/?q=1&q=%C3%A4&self=2"),
        ],
    )
    def test_url_for(self, app: Flask, values: dict[str, t.Any], expected: str) -> None:
        app.add_url_rule("/", endpoint="index")
        with app.test_request_context():
            assert url_for("index", **values) == expected

    def test_url_for_needs_an_application(self) -> None:
        with pytest.raises(RuntimeError, match="outside of application context"):
            url_for("index")

    def test_redirect(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        class Own(Response):
            pass

        plain = redirect("https://localhost/", 307, Response=Own)
        assert (plain.location, plain.status_code, type(plain)) == ("https://localhost/", 307, Own)
        with app.app_context():
            assert type(redirect("/x")) is Response
            monkeypatch.setattr(app, "redirect", lambda location, code: (location, code))
            assert redirect("/x", 303) == ("/x", 303)  # type: ignore[comparison-overlap]

    def test_abort(self, app: Flask) -> None:
        class Teapot(HTTPException):
            code = 900

        for _ in range(2):
            with pytest.raises(Unauthorized, match="why"):
                abort(401, "why")
            with pytest.raises(LookupError):
                abort(900)
        with app.app_context():
            app.aborter.mapping[900] = Teapot
            with pytest.raises(Teapot):
                abort(900)
            with pytest.raises(HTTPException) as raised:
                abort(make_response("own", 418))
        assert raised.value.get_response().status_code == 418

    def test_make_response(self, app: Flask) -> None:
        with app.test_request_context():
            assert (make_response().status_code, make_response().mimetype) == (200, "text/html")
            assert make_response("Hello").data == b"Hello"
            assert make_response(("Hello", 201)).status_code == 201
            response = make_response("Hello", 201, {"X": "1"})
        assert (response.status_code, response.headers["X"]) == (201, "1")


class TestFlashes:
    def test_categories_and_filters(self, app: Flask) -> None:
        with app.test_request_context():
            flash("a")
            flash("b", "error")
            flash("c", "warning")
            assert get_flashed_messages() == ["a", "b", "c"]
            assert get_flashed_messages(with_categories=True)[1] == ("error", "b")
            assert get_flashed_messages(category_filter=["error", "warning"]) == ["b", "c"]
            assert get_flashed_messages(True, ["message"]) == [("message", "a")]
            assert "_flashes" not in session

    def test_messages_live_until_they_are_shown(self, app: Flask) -> None:
        @app.get("/flash")
        def add() -> str:
            flash("a")
            flash("b", "error")
            return ""

        @app.get("/show")
        async def show() -> list[t.Any]:
            return [get_flashed_messages(with_categories=True), get_flashed_messages()]

        client = app.test_client()
        client.get("/flash")
        assert client.get("/show").json == [[["message", "a"], ["error", "b"]], ["a", "b"]]
        assert client.get("/show").json == [[], []]

    def test_a_signal_is_sent(self, app: Flask) -> None:
        told = []

        def receive(sender: Flask, message: str, category: str) -> None:
            told.append((sender, message, category))

        with message_flashed.connected_to(receive, app), app.test_request_context():
            flash("a", "error")
        assert told == [(app, "a", "error")]


class TestFiles:
    @pytest.fixture
    def app(self, app: Flask, tmp_path: Path) -> Flask:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "a.txt").write_text("0123456789")
        (tmp_path / "secret.txt").write_text("secret")
        app.add_url_rule("/sent", view_func=lambda: send_file("files/a.txt"))

        @app.get("/from/<path:name>")
        def send_from(name: str) -> Response:
            return send_from_directory("files", name)

        return app

    def test_a_path_is_relative_to_the_application(self, app: Flask) -> None:
        with app.test_client().get("/sent") as response:
            assert (response.data, response.mimetype) == (b"0123456789", "text/plain")
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.content_length == 10

    def test_conditional_and_partial(self, app: Flask) -> None:
        client = app.test_client()
        with client.get("/sent") as first:
            etag = first.headers["ETag"]
        with client.get("/sent", headers={"If-None-Match": etag}) as again:
            assert (again.status_code, again.data) == (304, b"")
        with client.get("/sent", headers={"Range": "bytes=2-4"}) as part:
            assert (part.status_code, part.data) == (206, b"234")
        with client.get("/sent", headers={"Range": "bytes=20-"}) as beyond:
            assert beyond.status_code == 416

    def test_age(self, app: Flask) -> None:
        def age(**options: t.Any) -> int | None:
            with app.test_request_context(), send_file("files/a.txt", **options) as response:
                return response.cache_control.max_age

        assert (age(), age(max_age=5), age(max_age=lambda name: 7)) == (None, 5, 7)
        app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 3600
        assert (age(), age(max_age=5)) == (3600, 5)
        app.config["SEND_FILE_MAX_AGE_DEFAULT"] = datetime.timedelta(hours=2)
        assert age() == 7200

    def test_the_applications_own_age(self, tmp_path: Path, app: Flask) -> None:
        class OwnFlask(Flask):
            def get_send_file_max_age(self, filename: str | None) -> int | None:
                return len(filename or "")

        own = OwnFlask("own", root_path=str(tmp_path))
        with own.test_request_context(), send_file("files/a.txt") as response:
            assert response.cache_control.max_age == len(str(tmp_path / "files" / "a.txt"))

    def test_options(self, app: Flask) -> None:
        with (
            app.test_request_context(),
            send_file(io.BytesIO(b"x"), "text/x-own", True, "ä.txt", etag="tag", last_modified=0) as response,
        ):
            response.direct_passthrough = False
            assert response.data == b"x"
            assert response.mimetype == "text/x-own"
            assert response.headers["Content-Disposition"].startswith("attachment; filename=")
            assert response.headers["ETag"] == '"tag"'
            assert response.last_modified == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

    def test_text_files_are_refused(self, app: Flask) -> None:
        with app.test_request_context(), pytest.raises(ValueError, match="binary"):
            send_file(io.StringIO("x"), "text/plain")  # type: ignore[arg-type]

    def test_x_sendfile(self, app: Flask, tmp_path: Path) -> None:
        app.config["USE_X_SENDFILE"] = True
        with app.test_client().get("/sent") as response:
            assert response.headers["X-Sendfile"] == str(tmp_path / "files" / "a.txt")
            assert response.data == b""

    def test_from_a_directory(self, app: Flask, tmp_path: Path) -> None:
        with app.test_client().get("/from/a.txt") as response:
            assert response.data == b"0123456789"
        with app.test_request_context():
            sent = send_from_directory(tmp_path, Path("secret.txt"), as_attachment=True)
            assert sent.headers["Content-Disposition"] == "attachment; filename=secret.txt"
            sent.close()

    @pytest.mark.parametrize(
        "name",
        ["missing", "../secret.txt", "..%2fsecret.txt", "a.txt%00", "C:/x", "CON", "a/NUL.txt", "."],
    )
    def test_nothing_outside_of_the_directory(self, app: Flask, name: str) -> None:
        assert app.test_client().get(f"/from/{name}").status_code == 404

    def test_a_missing_file_is_not_found(self, app: Flask) -> None:
        with app.test_request_context(), pytest.raises(NotFound):
            send_from_directory("files", "../secret.txt")


def test_the_modules_names_are_flasks() -> None:
    own = {name: value for name, value in vars(flask.helpers).items() if callable(value)}
    names = {name for name, value in own.items() if value.__module__ == "flask.helpers"}
    assert len(names) > 10
    assert {name for name in names if not hasattr(helpers, name)} == set()
    assert hasattr(helpers, "werkzeug")


@contextmanager
def bare_loggers() -> Iterator[logging.Logger]:
    """The application's logger, while neither it nor the root has the test runner's handlers."""
    root, own = logging.getLogger(), logging.getLogger("helped")
    handlers, root.handlers = root.handlers, []
    own.handlers = []
    try:
        yield own
    finally:
        root.handlers, own.handlers = handlers, []
        own.setLevel(logging.NOTSET)


class TestLogging:
    def test_a_handler_is_added_where_there_is_none(self, app: Flask) -> None:
        with bare_loggers() as own:
            assert app.logger is own
            assert (own.level, own.handlers) == (logging.NOTSET, [default_handler])

    def test_debug_sets_the_level(self, app: Flask) -> None:
        with bare_loggers():
            app.debug = True
            assert app.logger.level == logging.DEBUG

    def test_existing_handlers_and_levels_are_kept(self, app: Flask) -> None:
        with bare_loggers() as own:
            logging.getLogger().addHandler(logging.NullHandler())
            own.setLevel(logging.ERROR)
            app.debug = True
            assert (app.logger.level, app.logger.handlers) == (logging.ERROR, [])

    def test_the_chain_of_handlers(self) -> None:
        with bare_loggers() as own:
            handler = logging.StreamHandler()
            assert not has_level_handler(own)
            logging.getLogger().addHandler(handler)
            assert has_level_handler(own)
            own.propagate = False
            assert not has_level_handler(own)
            own.propagate = True
            handler.setLevel(logging.ERROR)
            assert not has_level_handler(own)

    def test_a_wsgi_request_logs_to_its_servers_stream(self, app: Flask) -> None:
        stream = io.StringIO()

        @app.get("/")
        def index() -> str:
            app.logger.error("oh")
            return ""

        with bare_loggers():
            app.test_client().get("/", errors_stream=stream)
        assert "ERROR in test_helpers: oh" in stream.getvalue()

    def test_outside_of_a_request_stderr_is_used(self) -> None:
        assert wsgi_errors_stream._get_current_object() is sys.stderr  # type: ignore[attr-defined]  # of the proxy

    def test_no_environ_is_built_for_a_log_line(self, app: Flask) -> None:
        built = []

        @app.get("/")
        async def index() -> str:
            assert wsgi_errors_stream._get_current_object() is sys.stderr  # type: ignore[attr-defined]
            built.append("environ" in vars(request._get_current_object()))  # type: ignore[attr-defined]
            return ""

        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(app=t.cast(t.Any, app))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.get("/")

        assert asyncio.run(get()).status_code == 200
        assert built == [False]


class TestDebugErrors:
    @pytest.fixture
    def app(self, app: Flask) -> Flask:
        app.debug = True
        app.testing = True

        @app.post("/upload")
        def upload() -> str:
            return str(request.files["file"].filename)

        return app

    def test_a_form_without_enctype_is_explained(self, app: Flask) -> None:
        with pytest.raises(DebugFilesKeyError) as raised:
            app.test_client().post("/upload", data={"file": "index.txt"})
        assert "no file contents were transmitted" in str(raised.value)
        assert "This was submitted: 'index.txt'" in str(raised.value)
        assert isinstance(raised.value, KeyError)

    def test_other_missing_files_are_as_ever(self, app: Flask) -> None:
        app.testing = False
        with app.test_request_context("/upload", method="POST", data={"other": "x"}):
            with pytest.raises(KeyError) as raised:
                request.files["file"]
            assert not isinstance(raised.value, DebugFilesKeyError)
            assert (len(request.files), request.files.get("file")) == (0, None)

    def test_a_proper_form_is_left_alone(self, app: Flask) -> None:
        sent = app.test_client().post("/upload", data={"file": (io.BytesIO(b"x"), "index.txt")})
        assert sent.text == "index.txt"

    def test_a_redirect_which_drops_the_form_is_explained(self, app: Flask) -> None:
        app.add_url_rule("/user/", endpoint="user", methods=["GET", "POST"], view_func=lambda: "")

        with app.test_request_context("/user", method="POST"):
            request.routing_exception = RequestRedirect("http://localhost/user/?x=1")
            text = str(FormDataRoutingRedirect(request))
            assert "canonical URL 'http://localhost/user/?x=1'" in text
            assert "trailing slash" in text
            request.routing_exception = RequestRedirect("http://localhost/other")
            assert "trailing slash" not in str(FormDataRoutingRedirect(request))

    def test_classes(self) -> None:
        assert issubclass(UnexpectedUnicodeError, AssertionError)
        assert issubclass(UnexpectedUnicodeError, UnicodeError)
        assert issubclass(FormDataRoutingRedirect, AssertionError)


def test_helpers_are_exported() -> None:
    for name in ("flash", "send_file", "stream_with_context", "url_for", "get_template_attribute"):
        assert getattr(asyncflask, name) is getattr(helpers, name)
