"""The test client on the ASGI face: a conversation in step with the application, its errors, its end."""

from __future__ import annotations

import gc
import io
import threading
import time
from contextvars import ContextVar

import pytest

from asyncflask import Flask, current_app, g, redirect, request
from asyncflask.testing import FlaskClient
from asyncflask.transport import _running

colour = ContextVar("colour", default="none")


@pytest.fixture
def app():
    app = Flask(__name__)
    app.testing = True
    return app


@pytest.fixture
def client(app):
    return app.test_client(face="asgi")


@pytest.fixture(params=["sync", "async"])
def stream(app, request):
    """A route that streams numbers; what it has done so far is in the list."""
    log = []

    if request.param == "sync":

        @app.route("/numbers")
        def numbers():
            def generate():
                try:
                    for number in range(5):
                        log.append(number)
                        yield str(number)
                finally:
                    log.append("closed")

            return generate()

    else:

        @app.route("/numbers")
        async def numbers():
            async def generate():
                try:
                    for number in range(5):
                        log.append(number)
                        yield str(number)
                finally:
                    log.append("closed")

            return generate()

    return log


def test_the_request_arrives_over_asgi(app, client):
    @app.route("/caf\xe9/<name>")
    async def show(name):
        scope = request._scope
        return {
            "type": scope["type"],
            "url": request.url,
            "name": name,
            "root": request.root_path,
            "query": request.query_string.decode(),
            "client": request.remote_addr,
            "raw": scope["raw_path"].decode(),
        }

    told = client.get("/app/caf\xe9/b%20c?q=%C3%A9&r", base_url="https://example.com:8443").get_json(silent=True)
    assert told is None
    told = client.get("/caf\xe9/b%20c?q=%C3%A9&r", base_url="https://example.com:8443/app").json
    assert told == {
        "type": "http",
        "url": "https://example.com:8443/app/caf\xe9/b%20c?q=\xe9&r",
        "name": "b c",
        "root": "/app",
        "query": "q=%C3%A9&r",
        "client": "127.0.0.1",
        "raw": told["raw"],
    }


def test_the_face_is_an_argument_or_a_class_attribute(app):
    class AsgiClient(FlaskClient):
        face = "asgi"

    @app.route("/")
    def index():
        return {"asgi": request._scope is not None}

    assert app.test_client().get("/").json == {"asgi": False}
    assert app.test_client(face="asgi").get("/").json == {"asgi": True}
    app.test_client_class = AsgiClient
    assert app.test_client().get("/").json == {"asgi": True}


def test_a_stream_is_made_as_it_is_read(client, stream):
    response = client.get("/numbers")
    assert stream[1:] == []  # a sync stream's first piece is there before the head
    pieces = response.iter_encoded()
    assert next(pieces) == b"0"
    assert next(pieces) == b"1"
    assert stream == [0, 1]
    assert b"".join(pieces) == b"234"
    assert stream[-1] == "closed"


def test_a_buffered_stream_is_whole(client, stream):
    response = client.get("/numbers", buffered=True)
    assert stream[-1] == "closed"
    assert response.data == b"01234"


def test_to_close_early_is_to_leave(client, stream):
    response = client.get("/numbers")
    assert next(response.response) == b"0"
    response.close()
    assert stream[-1] == "closed"
    assert stream[-2] < 4


def test_an_error_before_the_response(app, client):
    @app.route("/")
    async def index():
        raise LookupError("before")

    with pytest.raises(LookupError, match="before"):
        client.get("/")
    app.testing = False
    assert client.get("/").status_code == 500


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_stream(app, client, error):
    @app.route("/")
    async def index():
        async def generate():
            yield "begun"
            raise error

        return generate()

    response = client.get("/")
    with pytest.raises(error):
        _ = response.data
    assert client.get("/missing").status_code == 404  # the loop lives


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_reaches_the_caller(app, client, error):
    @app.route("/sync")
    def sync_view():
        raise error

    @app.route("/async")
    async def async_view():
        raise error

    for path in ("/sync", "/async", "/sync"):
        with pytest.raises(error):
            client.get(path)


async def silent(scope, receive, send):
    pass


async def half(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(("broken", "message"), [(silent, "without a response"), (half, "before its response did")])
def test_middleware_that_does_not_answer(app, client, broken, message):
    app.asgi_app = broken
    with pytest.raises(RuntimeError, match=message):
        _ = client.get("/").data


def test_messages_of_extensions_are_passed_over(app, client):
    """Middleware may send what the client knows nothing of, where the specification adds to it."""

    async def extended(scope, receive, send):
        await send({"type": "http.response.debug", "info": {}})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.debug", "info": {}})
        await send({"type": "http.response.body", "body": b"text"})

    app.asgi_app = extended
    assert client.get("/").text == "text"


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 3_000_000])
def test_bodies(app, client, size):
    @app.post("/length")
    async def length():
        return str(len(request.get_data()))

    assert client.post("/length", data=b"x" * size).text == str(size)
    assert client.post("/length", input_stream=io.BytesIO(b"y" * size), content_length=size).text == str(size)


def test_a_redirect_sends_the_body_again(app, client):
    @app.post("/old")
    def old():
        assert request.form["word"] == "kept"
        return redirect("/new", code=307)

    @app.post("/new")
    def new():
        return request.form["word"]

    assert client.post("/old", data={"word": "kept"}, follow_redirects=True).text == "kept"


def test_a_body_that_can_be_read_only_once(app, client):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    app.add_url_rule("/", "view", lambda: request.get_data(), methods=["POST"])
    assert client.post("/", input_stream=Pipe(b"once"), content_length=4).text == "once"


def test_an_unread_body_is_readable_while_the_context_is_preserved(app, client):
    @app.post("/")
    async def index():
        return ""

    with client:
        client.post("/", data={"word": "late"})
        assert request.form["word"] == "late"


def test_context_variables_of_the_caller(app, client):
    @app.route("/")
    async def index():
        return colour.get()

    token = colour.set("blue")
    try:
        assert client.get("/").text == "blue"
    finally:
        colour.reset(token)


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
def test_the_application_context_of_a_test_is_shared(app, face):
    teardowns = []
    app.teardown_appcontext(teardowns.append)

    @app.route("/")
    def index():
        return g.word

    with app.app_context():
        g.word = "the test's"
        assert app.test_client(face=face).get("/").text == "the test's"
        assert current_app.name == app.name
        assert teardowns == []
    assert teardowns == [None]


def test_clients_in_several_threads(app):
    together = threading.Barrier(4)

    @app.route("/<int:number>")
    async def show(number):
        return str(number)

    answers = {}

    def visit(number):
        together.wait()
        answers[number] = [app.test_client(face="asgi").get(f"/{number}").text for _ in range(20)]

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [str(number)] * 20 for number in range(4)}


def test_cookies_and_head(app, client):
    @app.route("/")
    def index():
        response = app.make_response(request.cookies.get("seen", "never"))
        response.set_cookie("seen", "once")
        return response

    assert client.head("/").data == b""
    assert client.get_cookie("seen").value == "once"
    assert client.get("/").text == "once"


@pytest.mark.parametrize("begun", [True, False])
def test_a_response_that_is_dropped_or_closed_lets_the_application_go(client, stream, begun):
    for drops in (True, False):
        stream.clear()
        response = client.get("/numbers")
        if begun:
            next(iter(response.response))
        if drops:
            response.response = ()
        else:
            response.close()
        del response
        gc.collect()
        deadline = time.monotonic() + 10
        while _running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _running
        assert stream[-1:] in ([], ["closed"])  # nothing is closed where nothing was begun
