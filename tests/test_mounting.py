"""Mounted applications: ASGI and WSGI ones below a path, on both faces, with their lifespan and websockets."""

from __future__ import annotations

import flask
import pytest
from socket_edge import Socket
from werkzeug.exceptions import NotFound

from asyncflask import Flask, request, session, websocket


@pytest.fixture
def app():
    app = Flask(__name__)
    app.testing = True
    app.before_request(lambda: log.append("ours"))
    log = app.extensions["log"] = []

    @app.route("/")
    @app.route("/oldest")
    def index():
        return "ours"

    return app


@pytest.fixture(params=["wsgi", "asgi"])
def client(app, request):
    return app.test_client(face=request.param)


def make_old():
    """A WSGI application: real Flask."""
    old = flask.Flask("old")
    old.secret_key = "key"

    @old.route("/")
    @old.route("/<path:rest>", methods=["GET", "POST"])
    def index(rest=""):
        flask.session["seen"] = True
        request = flask.request
        return {
            "rest": rest,
            "root": request.script_root,
            "url": request.url,
            "here": flask.url_for("index", rest="x"),
            "data": request.get_data(as_text=True),
            "header": request.headers.get("X-Own"),
            "query": request.query_string.decode(),
        }

    @old.route("/error")
    def fail():
        raise NotFound

    @old.route("/stream")
    def stream():
        return (f"{number}," for number in range(3)), {"X-Stream": "yes"}

    return old


async def modern(scope, receive, send):
    """An ASGI application without a framework."""
    if scope["type"] == "http":
        message = await receive()
        text = f"{scope['root_path']} {scope['path']} {message['body'].decode()} {scope.get('state', {}).get('word')}"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"."})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"{scope['root_path']} {scope['path']}"})


class TestWsgiApplication:
    @pytest.fixture(autouse=True)
    def mounted(self, app):
        app.mount("/old", make_old())

    def test_it_is_at_its_own_root(self, app, client):
        answer = client.post("/old/a/b%20c?q=1", data="body", headers={"X-Own": "1"})
        assert answer.json == {
            "rest": "a/b c",
            "root": "/old",
            "url": "http://localhost/old/a/b%20c?q=1",
            "here": "/old/x",
            "data": "body",
            "header": "1",
            "query": "q=1",
        }
        assert answer.headers["Set-Cookie"].startswith("session=")
        assert app.extensions["log"] == []

    def test_below_a_mount_point_of_ours(self, client):
        assert client.get("/old/x", base_url="http://localhost/site").json["url"] == "http://localhost/site/old/x"

    @pytest.mark.parametrize("path", ["/", "/oldest"])
    def test_other_paths_stay_ours(self, app, client, path):
        assert client.get(path).text == "ours"
        assert app.extensions["log"] == ["ours"]

    def test_its_errors_and_streams(self, client):
        assert client.get("/old/error").status_code == 404
        answer = client.get("/old/stream")
        assert answer.text == "0,1,2,"
        assert answer.headers["X-Stream"] == "yes"

    def test_no_header_poses_as_another(self, client):
        assert client.get("/old/x", headers={"X_Own": "evil"}).json["header"] in (None, "evil")

    async def test_a_websocket_is_refused(self, app):
        async with Socket(app, "/old/ws") as socket:
            assert socket.first["type"] == "websocket.close"


class TestAsgiApplication:
    @pytest.fixture(autouse=True)
    def mounted(self, app):
        app.mount("/new", modern)

    def test_it_is_at_its_own_root(self, client):
        answer = client.post("/new/caf\xe9", data="body")
        assert answer.text == "/new /new/caf\xe9 body None."

    def test_the_mount_point_itself(self, client):
        assert client.get("/new").text == "/new /new  None."

    async def test_websocket(self, app):
        async with Socket(app, "/new/ws") as socket:
            assert await socket.take() == "/new /new/ws"

    async def test_an_application_of_ours(self, app):
        inner = Flask("inner")
        inner.secret_key = "key"

        @inner.route("/hello")
        async def hello():
            session["x"] = 1
            return request.url

        @inner.websocket("/ws")
        async def talk():
            await websocket.send(websocket.path)

        app.mount("/inner", inner)
        assert app.test_client(face="wsgi").get("/inner/hello").text == "http://localhost/inner/hello"
        async with Socket(app, "/inner/ws") as socket:
            assert await socket.take() == "/ws"

    def test_the_longest_path_wins(self, app, client):
        app.mount("/new/old", make_old())
        assert client.get("/new/old/x").json["root"] == "/new/old"
        assert client.get("/new/olden").text == "/new /new/olden  None."


class TestLifespan:
    async def test_it_is_part_of_ours(self, app):
        log = []

        async def lives(scope, receive, send):
            if scope["type"] != "lifespan":
                return await modern(scope, receive, send)
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["word"] = "shared"
            log.append("startup")
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            log.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})

        app.mount("/new", lives)
        app.mount("/bare", modern)  # knows no lifespan
        await app.startup()
        assert log == ["startup"]
        async with app.async_test_client() as client:
            assert (await client.get("/new/x")).text == "/new /new/x  shared."
        await app.shutdown()
        assert log == ["startup", "shutdown"]

    async def test_a_start_up_that_fails_is_ours(self, app):
        async def fails(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        app.mount("/new", fails)
        with pytest.raises(RuntimeError, match="mounted at '/new': startup failed: no database"):
            await app.startup()


@pytest.mark.parametrize("path", ["", "/", "old", "/old/", "//old", "/a//b"])
def test_paths_that_are_refused(app, path):
    with pytest.raises(ValueError, match="begins with a slash"):
        app.mount(path, modern)


def test_one_application_for_a_path(app):
    app.mount("/x", modern)
    with pytest.raises(ValueError, match="already"):
        app.mount("/x", modern)
