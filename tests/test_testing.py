"""The test clients: environ defaults, preserved contexts, sessions, commands."""

from __future__ import annotations

import importlib.metadata

import click
import pytest
from werkzeug.test import EnvironBuilder as WerkzeugBuilder

import asyncflask
from asyncflask import Flask, current_app, g, redirect, request, session, stream_with_context
from asyncflask.cli import ScriptInfo
from asyncflask.globals import _cv_app, _cv_request
from asyncflask.testing import EnvironBuilder, FlaskClient, FlaskCliRunner


@pytest.fixture
def app():
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="a key")

    @app.route("/", methods=["GET", "POST"])
    def index():
        g.value = request.args.get("value", "none")
        return request.url

    @app.route("/async")
    async def wait():
        g.value = "async"
        return request.remote_addr

    @app.route("/agent")
    def agent():
        return f"{request.remote_addr} {request.user_agent.string}"

    @app.route("/remember/<word>")
    def remember(word):
        session["word"] = word
        return redirect("/recall")

    @app.route("/recall")
    def recall():
        return session.get("word", "nothing")

    @app.post("/echo")
    def echo():
        return {"got": request.get_json()}

    return app


@pytest.fixture(params=["wsgi", "asgi"])
def client(app, request):
    return app.test_client(face=request.param)


class TestEnvironBuilder:
    @pytest.mark.parametrize(
        ("arguments", "url"),
        [
            ({}, "http://example.org:81/base/"),
            ({"path": "/x?y=1"}, "http://example.org:81/base/x?y=1"),
            ({"subdomain": "a"}, "http://a.example.org:81/base/"),
            ({"url_scheme": "https"}, "https://example.org:81/base/"),
            ({"path": "https://other.net/x?y=1"}, "https://other.net/base/x?y=1"),
            ({"path": "/x", "base_url": "http://given/"}, "http://given/x"),
        ],
    )
    def test_what_is_not_given_comes_from_the_config(self, app, arguments, url):
        app.config.update(SERVER_NAME="example.org:81", APPLICATION_ROOT="/base")
        assert EnvironBuilder(app, **arguments).get_request().url == url

    def test_defaults(self, app):
        app.config["PREFERRED_URL_SCHEME"] = "https"
        assert EnvironBuilder(app).get_request().url == "https://localhost/"

    @pytest.mark.parametrize("more", [{"subdomain": "a"}, {"url_scheme": "https"}])
    def test_base_url_says_all(self, app, more):
        with pytest.raises(AssertionError, match="base_url"):
            EnvironBuilder(app, base_url="http://given/", **more)

    def test_json_in_the_apps_way(self, app):
        app.json.ensure_ascii = False
        assert EnvironBuilder(app, json="€").input_stream.read().decode() == '"€"'


class TestRequests:
    def test_sync_and_async_views(self, client):
        assert client.get("/").text == "http://localhost/"
        assert client.get("/async").text == "127.0.0.1"

    def test_environ_base(self, client):
        assert client.get("/agent").text == f"127.0.0.1 Werkzeug/{importlib.metadata.version('werkzeug')}"
        client.environ_base.update(REMOTE_ADDR="10.0.0.1", HTTP_USER_AGENT="Foo")
        assert client.get("/agent").text == "10.0.0.1 Foo"
        assert client.get("/agent", environ_base={"REMOTE_ADDR": "10.0.0.2"}).text == "10.0.0.2 Foo"

    def test_from_a_builder_an_environ_and_a_request(self, app, client):
        builder = EnvironBuilder(app, path="/agent")
        plain = WerkzeugBuilder("/agent")
        client.environ_base["HTTP_USER_AGENT"] = "Foo"
        for given in (builder, plain, builder.get_environ(), builder.get_request()):
            assert client.open(given).text == "127.0.0.1 Foo"
        assert builder.environ_base is None
        for each in (builder, plain):
            each.close()

    def test_flask_socketio_makes_requests_without_opening_them(self, client):
        client.environ_base["HTTP_USER_AGENT"] = "Foo"
        made = client._request_from_builder_args(["/socket.io"], {"query_string": {"a": "1"}, "headers": {"X": "y"}})
        assert made.args["a"] == "1"
        assert made.headers["X"] == "y"
        assert made.user_agent.string == "Foo"

    def test_json_goes_through_the_apps_provider(self, app, client):
        class Loud(type(app.json)):
            def loads(self, s, **kwargs):
                return {"loud": super().loads(s, **kwargs)}

        plain = client.post("/echo", json=[1, 2])
        assert plain.json == {"got": [1, 2]}
        app.json = Loud(app)
        response = client.post("/echo", json=[1, 2])
        assert response.json == {"loud": {"got": {"loud": [1, 2]}}}

    def test_its_class_can_be_replaced(self, app):
        class Client(FlaskClient):
            def __init__(self, *args, **kwargs):
                self.token = kwargs.pop("token")
                super().__init__(*args, **kwargs)

        app.test_client_class = Client
        assert app.test_client(token="t").token == "t"


class TestPreservedContext:
    def test_only_in_a_with_block(self, client):
        client.get("/?value=1")
        assert not request
        with client:
            client.get("/?value=2")
            assert (request.args["value"], g.value) == ("2", "2")
        assert not request
        assert not current_app

    @pytest.mark.parametrize("path", ["/?value=async", "/async"])
    def test_for_views_of_both_kinds(self, client, path):
        with client:
            client.get(path)
            assert g.value == "async"

    def test_the_next_request_replaces_it(self, app, client):
        with client:
            client.get("/?value=1")
            first = request._get_current_object()
            client.get("/async")
            assert request._get_current_object() is not first
            assert g.value == "async"

    def test_after_an_error(self, app, client):
        app.testing = False
        app.add_url_rule("/error", view_func=lambda: 1 / 0)
        with client:
            assert client.get("/error").status_code == 500
            assert request.path == "/error"
            assert not hasattr(g, "value")

    def test_after_a_redirect_it_is_the_last_requests(self, client):
        with client:
            response = client.get("/remember/it", follow_redirects=True)
            assert (response.text, request.path, len(response.history)) == ("it", "/recall", 1)
            assert session["word"] == "it"

    def test_inside_of_another_request_context(self, app, client):
        with app.test_request_context("/outer") as outer:
            with client:
                client.get("/?value=inner")
                assert request.path == "/"
            assert _cv_request.get() is outer

    def test_a_streamed_response_leaves_nothing(self, app, client):
        app.add_url_rule("/stream", view_func=lambda: stream_with_context("hello"))
        with app.test_request_context() as outer:
            with client:
                response = client.get("/stream")
            response.close()
            assert _cv_request.get(None) is outer
        assert _cv_request.get(None) is None
        assert _cv_app.get(None) is None

    def test_blocks_do_not_nest(self, client):
        with client, pytest.raises(RuntimeError, match="inside of itself"):
            client.__enter__()

    def test_a_client_is_used_again(self, client):
        for _ in range(2):
            with client:
                assert client.get("/").status_code == 200

    def test_teardown_has_run_by_the_end(self, app, client):
        downs = []
        app.teardown_appcontext(lambda error: downs.append(current_app.name))
        with client:
            client.get("/")
        assert set(downs) == {app.name}


class TestSessionTransaction:
    def test_reads_and_writes(self, client):
        with client.session_transaction() as own:
            assert dict(own) == {}
            own["word"] = "set"
        assert client.get("/recall").text == "set"
        client.get("/remember/other")
        with client.session_transaction() as own:
            assert own["word"] == "other"

    def test_arguments_make_the_request(self, app, client):
        app.config["SESSION_COOKIE_PATH"] = "/deep"
        with client.session_transaction("/deep/er", base_url="http://example.org") as own:
            own["word"] = "there"
        assert client.get_cookie("session", domain="example.org", path="/deep") is not None
        assert client.get_cookie("session") is None

    def test_keeps_the_current_context(self, app, client):
        with app.test_request_context("/mine"):
            with client.session_transaction():
                assert request.path == "/mine"
            assert request.path == "/mine"

    def test_an_error_in_the_block_saves_nothing(self, client):
        with pytest.raises(LookupError), client.session_transaction() as own:
            own["word"] = "lost"
            raise LookupError
        assert client.get("/recall").text == "nothing"

    def test_needs_cookies(self, app):
        with pytest.raises(TypeError, match=r"Cookies are disabled\."):
            with app.test_client(use_cookies=False).session_transaction():
                pass

    def test_a_null_session_is_not_saved(self):
        class Closed(asyncflask.sessions.SecureCookieSessionInterface):
            def open_session(self, app, request):
                return self.make_null_session(app)

            def save_session(self, app, session, response):
                raise AssertionError("there is nothing to save")

        app = Flask(__name__)
        app.session_interface = Closed()
        with app.test_client().session_transaction() as own:
            assert dict(own) == {}

    def test_needs_a_session(self):
        class Closed(asyncflask.sessions.SecureCookieSessionInterface):
            def open_session(self, app, request):
                return None

        app = Flask(__name__)
        app.session_interface = Closed()
        with pytest.raises(RuntimeError, match="Session backend did not open a session"):
            with app.test_client().session_transaction():
                pass


class TestCliRunner:
    def test_by_name_and_by_command(self, app):
        @app.cli.command("hello")
        def hello():
            click.echo(f"hello from {current_app.name}")

        runner = app.test_cli_runner()
        assert isinstance(runner, FlaskCliRunner)
        for arguments in ({"args": ["hello"]}, {"cli": hello}):
            assert runner.invoke(**arguments).output == f"hello from {app.name}\n"

    def test_another_script_info(self, app):
        loaded = []

        @app.cli.command("hello")
        def hello():
            loaded.append(current_app.name)

        app.test_cli_runner().invoke(hello, obj=ScriptInfo(create_app=lambda: Flask("other")))
        assert loaded == ["other"]

    def test_its_class_can_be_replaced(self, app):
        class Runner(FlaskCliRunner):
            pass

        app.test_cli_runner_class = Runner
        assert isinstance(app.test_cli_runner(), Runner)


@pytest.mark.parametrize("face", ["asg", "WSGI", 1])
def test_a_face_that_does_not_exist(face) -> None:
    with pytest.raises(ValueError, match=f"'wsgi' or 'asgi', not {face!r}"):
        Flask(__name__).test_client(face=face)


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
async def test_in_an_async_test_the_async_client_is_named(face) -> None:
    app = Flask(__name__)
    app.testing = True

    @app.get("/")
    async def index():
        return ""

    with pytest.raises(RuntimeError, match=r"app\.async_test_client\(\)"):
        app.test_client(face=face).get("/")
