"""Mounted applications: ASGI and WSGI ones below a path, on both faces, with their lifespan and websockets."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial, wraps
from io import BytesIO

import flask
import pytest
from edge import Exchange, get, post
from socket_edge import Socket
from werkzeug import Request, Response
from werkzeug.exceptions import NotFound
from werkzeug.test import EnvironBuilder

from asyncflask import Flask, request, session, websocket
from asyncflask.bridge import wait_for


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
        async with Socket(app, "/old/ws", can_deny=False) as socket:
            assert socket.first["type"] == "websocket.close"
        async with Socket(app, "/old/ws") as socket:
            assert socket.first["status"] == 404

    async def test_a_body_without_a_length(self, app):
        assert (await post(app, "/old/x", b"one ", b"two", chunked=True)).json["data"] == "one two"

    async def test_a_server_that_keeps_its_root_path_out_of_the_path(self, app):
        for path in ("/old/x", "/site/old/x"):
            assert (await get(app, path, root_path="/site")).json["url"].endswith("/site/old/x")

    async def test_its_headers_are_its_own(self, app):
        def bare(environ, start_response):
            start_response("204 NO CONTENT", [("X-Own", "1")])
            return []

        app.mount("/bare", bare)
        assert (await get(app, "/bare")).headers == {"x-own": "1"}

    async def test_a_stream_ends_with_its_client(self, app):
        closed = threading.Event()

        def endless(environ, start_response):
            def pieces():
                try:
                    while True:
                        yield b"x"
                        time.sleep(0.001)
                finally:
                    closed.set()

            start_response("200 OK", [])
            return pieces()

        app.mount("/endless", endless)
        exchange = Exchange("GET", "/endless")
        async with asyncio.timeout(5):
            task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
            await exchange.started.wait()
            exchange.left.set()
            await task
        assert closed.is_set()

    async def test_middleware_around_wsgi_app_comes_first(self, app):
        wrapped = app.wsgi_app

        def guard(environ, start_response):
            if "HTTP_X_KEY" in environ:
                return wrapped(environ, start_response)
            start_response("403 FORBIDDEN", [])
            return [b"no"]

        app.wsgi_app = guard
        app.mount("/new", modern)
        for path, text in (("/old/x", '"rest":"x"'), ("/new/x", "/new /new/x")):
            assert (await get(app, path)).status == 403
            assert text in (await get(app, path, headers=[("X-Key", "1")])).text.replace(": ", ":")


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
        client = app.test_client(face="wsgi")
        assert await asyncio.to_thread(lambda: client.get("/inner/hello").text) == "http://localhost/inner/hello"
        async with Socket(app, "/inner/ws") as socket:
            assert await socket.take() == "/ws"

    def test_the_longest_path_wins(self, app, client):
        app.mount("/new/old", make_old())
        assert client.get("/new/old/x").json["root"] == "/new/old"
        assert client.get("/new/olden").text == "/new /new/olden  None."


def serve_wsgi(app, path, **options):
    """As a server does: the status, and the body as an iterator that is to be closed."""
    started = []
    body = app(EnvironBuilder(path=path, **options).get_environ(), lambda *args: started.append(args))
    return started[0][0], body


class TestAsgiApplicationUnderWsgi:
    @pytest.fixture(autouse=True)
    def ended(self, app):
        yield
        wait_for(app.shutdown())

    def test_a_body_without_a_length(self, app, client):
        app.mount("/new", modern)
        chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        answer = client.post("/new/x", input_stream=BytesIO(b"body"), environ_overrides=chunked)
        assert answer.text == "/new /new/x body None."

    def test_a_path_that_is_no_utf8(self, app):
        app.mount("/new", modern)
        assert serve_wsgi(app, "/new/x", environ_overrides={"PATH_INFO": "/new/\xff"})[0] == "200 OK"

    @pytest.mark.parametrize("begins", [False, True])
    def test_no_answer_or_half_of_one(self, app, begins):
        async def silent(scope, receive, send):
            if begins and scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})

        app.mount("/new", silent)
        with pytest.raises(RuntimeError, match="application ended"):
            list(serve_wsgi(app, "/new/x")[1])

    def test_a_head_request_has_no_body(self, app):
        app.mount("/new", modern)
        status, body = serve_wsgi(app, "/new/x", method="HEAD")
        assert (status, b"".join(body)) == ("200 OK", b"")

    def test_a_stream_is_closed_with_the_servers_iterator(self, app):
        ended = threading.Event()

        async def endless(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
            finally:
                ended.set()

        app.mount("/new", endless)
        _, body = serve_wsgi(app, "/new/x")
        assert [next(body), next(body)] == [b"x", b"x"]
        body.close()
        assert ended.wait(5)

    def test_work_after_the_response_holds_nobody_up(self, app, caplog):
        go_on = threading.Event()

        async def works_on(scope, receive, send):
            assert scope["type"] == "http"
            await modern(scope, receive, send)
            await asyncio.to_thread(go_on.wait, 10)
            raise ValueError("too late")

        app.mount("/new", works_on)
        assert b"".join(serve_wsgi(app, "/new/x")[1]) == b"/new /new/x  None."
        go_on.set()
        deadline = time.monotonic() + 5
        while "too late" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def test_state_of_its_lifespan(self, app):
        async def lives(scope, receive, send):
            if scope["type"] != "lifespan":
                return await modern(scope, receive, send)
            await receive()
            scope["state"]["word"] = "shared"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        app.mount("/new", lives)
        assert b"".join(serve_wsgi(app, "/new/x")[1]) == b"/new /new/x  shared."


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


def call_sync_asgi(scope, receive, send):
    return modern(scope, receive, send)


class AsgiNothing:
    """Its objects are applications."""

    async def __call__(self, scope, receive, send): ...


@pytest.mark.parametrize(
    "nothing", [5, None, "shop:app", {"app": modern}, lambda: None, call_sync_asgi, asyncio.sleep, AsgiNothing]
)
def test_what_is_no_application_is_refused(app, nothing):
    with pytest.raises(TypeError, match="mounted at '/x' is neither an ASGI nor a WSGI application"):
        app.mount("/x", nothing)
    assert not app.mounts


@pytest.mark.parametrize("application", [dict, print, partial(modern), Flask("other"), flask.Flask("theirs")])
def test_whatever_can_be_called_so_is_taken(app, application):
    app.mount("/x", application)
    assert "/x" in app.mounts


def answer_wsgi(environ, start_response):
    return Response(environ["SCRIPT_NAME"])(environ, start_response)


@Request.application
def answer_request(request):
    return Response(request.environ["SCRIPT_NAME"])


def hide_arguments(f):
    """As most decorators are written."""

    @wraps(f)
    def call(*args, **kwargs):
        return f(*args, **kwargs)

    return call


@wraps(len)
def wraps_one_argument(environ, start_response):
    return answer_wsgi(environ, start_response)


@wraps(modern)
def wraps_async_as_wsgi(environ, start_response):
    return answer_wsgi(environ, start_response)


async def view(request):
    """What is wrapped with all its arguments given."""


@wraps(view)
def wraps_async_view(*args):
    return answer_wsgi(*args)


def answer_named(name, environ, start_response):
    return answer_wsgi(environ, start_response)


class WsgiObject:
    def __call__(self, environ, start_response):
        return answer_wsgi(environ, start_response)

    @hide_arguments
    def decorated(self, environ, start_response):
        return answer_wsgi(environ, start_response)


class WsgiClass:
    def __init__(self, environ, start_response):
        self.answer = answer_wsgi(environ, start_response)

    def __iter__(self):
        return iter(self.answer)


class AsgiObject:
    async def __call__(self, scope, receive, send):
        await modern(scope, receive, send)

    @hide_arguments
    async def decorated(self, scope, receive, send):
        await modern(scope, receive, send)


class DecoratedAsgiObject:
    @hide_arguments
    async def __call__(self, scope, receive, send):
        await modern(scope, receive, send)


class AsgiClass:
    """Its call gives no coroutine, but what can be awaited."""

    def __init__(self, scope, receive, send):
        self.answer = modern(scope, receive, send)

    def __await__(self):
        return self.answer.__await__()


@wraps(answer_named)
async def wraps_what_is_none(scope, receive, send):
    await modern(scope, receive, send)


WSGI = [
    answer_wsgi,
    answer_request,
    hide_arguments(answer_wsgi),
    wraps_one_argument,
    wraps_async_as_wsgi,
    wraps_async_view,
    partial(answer_named, "shop"),
    partial(hide_arguments(answer_named), "shop"),
    WsgiObject(),
    WsgiObject().decorated,
    WsgiClass,
]
ASGI = [
    modern,
    hide_arguments(modern),
    partial(hide_arguments(modern)),
    wraps_what_is_none,
    AsgiObject(),
    AsgiObject().decorated,
    partial(AsgiObject()),
    DecoratedAsgiObject(),
    AsgiClass,
]


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("application", WSGI)
def test_ways_to_write_a_wsgi_application(app, application, face):
    app.mount("/x", application)
    assert not app.mounts["/x"].speaks_asgi
    assert app.test_client(face=face).get("/x/y").text == "/x"


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("application", ASGI)
def test_ways_to_write_an_asgi_application(app, application, face):
    app.mount("/x", application)
    assert app.mounts["/x"].speaks_asgi
    assert app.test_client(face=face).get("/x/y").text.startswith("/x /x/y ")


def test_one_application_for_a_path(app):
    app.mount("/x", modern)
    with pytest.raises(ValueError, match="already"):
        app.mount("/x", modern)


class TestLifespanThatGoesWrong:
    @pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit("no key")])
    async def test_errors_that_no_application_means(self, app, error):
        async def fails(scope, receive, send):
            raise error

        app.mount("/new", fails)
        async with asyncio.timeout(5):
            with pytest.raises((RuntimeError, SystemExit)):
                await app.startup()

    async def test_an_error_after_the_start_is_not_lost(self, app, caplog):
        async def fails(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise ValueError("no end")

        app.mount("/new", fails)
        await app.startup()
        with pytest.raises(ValueError, match="no end"):
            await app.shutdown()

    async def test_what_follows_its_last_word_is_waited_for(self, app):
        ended = []

        async def lives(scope, receive, send):
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            await asyncio.sleep(0.01)
            ended.append(True)

        app.mount("/new", lives)
        await app.startup()
        await app.shutdown()
        assert ended

    async def test_one_that_does_not_end_is_cancelled(self, app, monkeypatch):
        monkeypatch.setattr("asyncflask.mounting.CLEAN_UP", 0.01)

        async def lives(scope, receive, send):
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            await asyncio.sleep(60)

        app.mount("/new", lives)
        await app.startup()
        async with asyncio.timeout(5):
            await app.shutdown()

    async def test_state_begins_anew(self, app):
        seen = []

        async def lives(scope, receive, send):
            seen.append(dict(scope["state"]))
            scope["state"]["word"] = "old"
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})

        app.mount("/new", lives)
        for _ in range(2):
            await app.startup()
            await app.shutdown()
        assert seen == [{}, {}]
