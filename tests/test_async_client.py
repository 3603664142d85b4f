"""The async test client: requests, streams in both directions, websockets, sessions, contexts, the serving life."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import pytest
import trio
from edge import wait_until
from werkzeug.test import ClientRedirectError

from asyncflask import Flask, WebsocketDisconnect, current_app, g, redirect, request, session, websocket
from asyncflask.async_testing import AsyncClient, LifespanError, WebsocketResponseError
from asyncflask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionInterface
from asyncflask.testing import EnvironBuilder

colour = ContextVar("colour", default="none")


@pytest.fixture(autouse=True)
async def in_time():
    """What should not wait does not hang the suite either."""
    async with asyncio.timeout(20):
        yield


@pytest.fixture
def app():
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="a key")

    @app.route("/", methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    async def index():
        g.value = request.args.get("value", "none")
        return {"method": request.method, "url": request.url, "agent": request.user_agent.string}

    @app.route("/sync")
    def sync_view():
        g.value = "sync"
        return {"asgi": request._scope is not None}

    @app.post("/echo")
    async def echo():
        return {"data": request.get_data(as_text=True), "form": request.form, "json": request.get_json(silent=True)}

    @app.route("/remember/<word>")
    def remember(word):
        session["word"] = word
        return redirect("/recall")

    @app.route("/recall")
    async def recall():
        return session.get("word", "nothing")

    @app.route("/fails")
    async def fails():
        raise LookupError("in the view")

    @app.websocket("/ws")
    async def repeat():
        async for message in websocket:
            await websocket.send(message)

    return app


@pytest.fixture
def client(app):
    return app.async_test_client()


@asynccontextmanager
async def anyio_timeout(seconds):
    with anyio.fail_after(seconds):
        yield


class TestRequests:
    @pytest.mark.parametrize("method", ["get", "post", "put", "delete", "patch", "options", "head", "trace"])
    async def test_methods(self, client, method):
        response = await getattr(client, method)("/", query_string={"value": "1"})
        assert response.status_code == 200
        if method != "head":
            assert response.json["method"] == method.upper()
            assert response.json["url"] == "http://localhost/?value=1"

    async def test_it_answers_as_the_sync_client(self, app, client):
        app.response_class.extra = "of the app's class"
        for path in ("/", "/sync", "/missing", "/remember/it"):
            ours, theirs = await client.get(path), await asyncio.to_thread(app.test_client(face="asgi").get, path)
            assert (ours.status, ours.data, ours.text) == (theirs.status, theirs.data, theirs.text)
            assert sorted(ours.headers) == sorted(theirs.headers)
            assert (ours.request.path, ours.history) == (path, ())
            assert isinstance(ours, app.response_class)
        assert (await client.get("/sync")).json == {"asgi": True}

    async def test_arguments(self, client):
        assert (await client.post("/echo", data={"a": "b"})).json["form"] == {"a": "b"}
        assert (await client.post("/echo", json=[1])).json["json"] == [1]
        assert (await client.post("/echo", data="text")).json["data"] == "text"
        assert (await client.post("/echo", data={"f": (io.BytesIO(b"x" * 600_000), "f")})).json["form"] == {}
        assert (await client.get("/", headers={"User-Agent": "Me"})).json["agent"] == "Me"
        assert (await client.get("/", base_url="https://a.example")).json["url"] == "https://a.example/"
        client.environ_base["HTTP_USER_AGENT"] = "Base"
        assert (await client.get("/")).json["agent"] == "Base"

    async def test_from_a_builder_an_environ_and_a_request(self, app, client):
        builder = EnvironBuilder(app, path="/?value=2")
        for given in (builder, builder.get_environ(), builder.get_request()):
            assert (await client.open(given)).json["url"] == "http://localhost/?value=2"
        builder.close()

    async def test_it_closes_no_stream_of_the_tests_own(self, client):
        body = io.BytesIO(b"body")
        response = await client.post("/echo", input_stream=body, content_length=4)
        assert response.json["data"] == "body"
        assert not body.closed

    async def test_a_status_of_no_registry(self, app, client):
        app.add_url_rule("/odd", view_func=lambda: ("", 299))
        assert (await client.get("/odd")).status_code == 299
        for face in ("wsgi", "asgi"):
            assert (await asyncio.to_thread(app.test_client(face=face).get, "/odd")).status_code == 299

    async def test_errors_of_a_view(self, app, client):
        with pytest.raises(LookupError, match="in the view"):
            await client.get("/fails")
        app.testing = False
        assert (await client.get("/fails")).status_code == 500

    async def test_context_variables_of_the_test(self, app, client):
        app.add_url_rule("/colour", view_func=colour.get)
        token = colour.set("blue")
        assert (await client.get("/colour")).text == "blue"
        colour.reset(token)

    async def test_many_at_once(self, app, client):
        arrived = 0
        all_here = asyncio.Event()

        @app.route("/meet/<int:number>")
        async def meet(number):
            nonlocal arrived
            arrived += 1
            if arrived == 10:
                all_here.set()
            await all_here.wait()
            return str(number)

        answers = await asyncio.gather(*(client.get(f"/meet/{number}") for number in range(10)))
        assert [answer.text for answer in answers] == [str(number) for number in range(10)]

    @pytest.mark.parametrize("limit", [asyncio.timeout, anyio_timeout])
    async def test_who_does_not_wait_cancels_the_view(self, app, client, limit):
        log = []
        app.teardown_request(lambda error: log.append("torn down"))

        @app.route("/forever")
        async def forever():
            try:
                await asyncio.Event().wait()
            finally:
                log.append("ended")

        with pytest.raises(TimeoutError):
            async with limit(0.05):
                await client.get("/forever")
        assert log == ["ended", "torn down"]

    async def test_another_class(self, app):
        class Client(AsyncClient):
            async def open(self, *args, **kwargs):
                return await super().open(*args, headers={"User-Agent": "Mine"}, **kwargs)

        app.async_test_client_class = Client
        assert (await app.async_test_client().get("/")).json["agent"] == "Mine"


class TestRedirectsAndCookies:
    async def test_redirects(self, client):
        response = await client.get("/remember/it")
        assert (response.status_code, response.location) == (302, "/recall")
        response = await client.get("/remember/it", follow_redirects=True)
        assert (response.text, response.request.path) == ("it", "/recall")
        assert [old.request.path for old in response.history] == ["/remember/it"]

    async def test_the_body_goes_along(self, app, client):
        app.add_url_rule("/moved", view_func=lambda: redirect("/echo", 307), methods=["POST"])
        assert (await client.post("/moved", data={"a": "b"}, follow_redirects=True)).json["form"] == {"a": "b"}

        async def pieces():
            yield b"once"

        with pytest.raises(RuntimeError, match="only once"):
            await client.post("/moved", data=pieces(), follow_redirects=True)

    async def test_a_loop(self, app, client):
        app.add_url_rule("/loop", view_func=lambda: redirect("/loop"))
        with pytest.raises(ClientRedirectError):
            await client.get("/loop", follow_redirects=True)

    async def test_other_hosts(self, app, client):
        app.add_url_rule("/away", "away", lambda: redirect("http://other.example/"))
        app.add_url_rule("/below", "below", lambda: redirect("http://a.localhost/sync"))
        with pytest.raises(RuntimeError, match="external"):
            await client.get("/away", follow_redirects=True)
        with pytest.raises(RuntimeError, match="subdomain"):
            await client.get("/below", follow_redirects=True)
        client = app.async_test_client(allow_subdomain_redirects=True)
        assert (await client.get("/below", follow_redirects=True)).status_code == 200

    async def test_cookies(self, app, client):
        app.add_url_rule("/cookies", view_func=lambda: dict(request.cookies))
        client.set_cookie("a", "1")
        assert (await client.get("/cookies")).json == {"a": "1"}
        client.delete_cookie("a")
        assert (await client.get("/cookies")).json == {}
        await client.get("/remember/it")
        assert client.get_cookie("session").http_only
        without = app.async_test_client(use_cookies=False)
        await without.get("/remember/it")
        assert (await without.get("/recall")).text == "nothing"


@pytest.fixture(params=["sync", "async"])
def stream(app, request):
    """A route that streams numbers without an end; what it has done so far is in the list."""
    log = []

    def numbers():
        try:
            for number in range(100):
                log.append(number)
                yield str(number)
        finally:
            log.append("closed")

    async def async_numbers():
        try:
            number = 0
            while True:
                log.append(number)
                yield str(number)
                number += 1
        finally:
            log.append("closed")

    if request.param == "sync":

        @app.route("/numbers")
        def view():
            return numbers()

    else:

        @app.route("/numbers")
        async def view():
            return async_numbers()

    return log


class TestStreams:
    async def test_pieces_are_made_as_they_are_read(self, client, stream):
        async with client.stream("GET", "/numbers") as response:
            assert (response.status_code, stream[1:]) == (200, [])  # a sync one's first is there before the head
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            pieces = aiter(response)
            assert (await anext(pieces), stream) == (b"0", [0])
            assert (await response.receive(), stream) == (b"1", [0, 1])
        assert stream[-1] == "closed"
        assert len(stream) <= 4

    async def test_who_has_left_reads_no_more(self, client, stream):
        async with client.stream("GET", "/numbers") as response:
            await response.receive()
            await response.disconnect()
            assert [piece async for piece in response] == []
            with pytest.raises(RuntimeError, match="client left"):
                await response.as_response()
        assert stream[-1] == "closed"

    async def test_an_error_in_the_block(self, client, stream):
        with pytest.raises(AssertionError):
            async with client.stream("GET", "/numbers") as response:
                raise AssertionError(await response.receive())
        assert stream[-1] == "closed"

    async def test_a_whole_response(self, client):
        async with client.stream("GET", "/") as response:
            assert (await response.as_response()).json["method"] == "GET"
            assert (await response.as_response()).json["method"] == "GET"
        assert await response.receive() == b""

    async def test_errors(self, app, client):
        @app.route("/breaks")
        async def breaks():
            async def pieces():
                yield "a"
                raise LookupError("in the stream")

            return pieces()

        async with client.stream("GET", "/breaks") as response:
            assert await response.receive() == b"a"
            with pytest.raises(LookupError, match="in the stream"):
                await response.receive()
        with pytest.raises(LookupError, match="in the view"):
            async with client.stream("GET", "/fails"):
                pass
        with pytest.raises(RuntimeError, match=r"client\.request"):
            async with client.stream("GET", "/") as response:
                await response.send(b"")

    async def test_a_teardown_that_fails(self, app, client):
        @app.teardown_request
        async def fail(error):
            raise LookupError("in teardown")

        app.config["PROPAGATE_EXCEPTIONS"] = True
        with pytest.raises(LookupError, match="in teardown"):
            await client.get("/")


class TestUploads:
    @pytest.fixture(autouse=True)
    def stream_route(self, app):
        @app.post("/loud", stream_body=True)
        async def loud():
            stream = request.stream

            async def pieces():
                async for piece in stream:
                    yield piece.upper()

            return pieces()

    async def test_by_hand_with_its_length(self, app, client):
        @app.post("/length")
        async def length():
            data = await request.stream.aread()
            return [data.decode(), request.content_length, "Transfer-Encoding" in request.headers]

        async with client.request("/length", method="POST", content_length=4) as connection:
            await connection.send(b"text")
            await connection.send_complete()
            assert (await connection.as_response()).json == ["text", 4, False]

    async def test_by_hand(self, client):
        async with client.request("/loud", method="POST") as connection:
            await connection.send(b"a")
            assert await connection.receive() == b"A"
            assert connection.status_code == 200
            await connection.send(b"b")
            assert await connection.receive() == b"B"
            await connection.send(b"c")
            await connection.send_complete()
            assert [piece async for piece in connection] == [b"C"]
        assert (await connection.as_response()).data == b"ABC"

    async def test_the_application_stays_two_messages_ahead(self, app, client):
        made = []

        @app.post("/numbers")
        async def numbers():
            async def generate():
                for number in range(6):
                    made.append(number)
                    yield str(number)

            return generate()

        async with client.request("/numbers", method="POST") as connection:
            await connection.send_complete()
            assert await connection.receive() == b"0"
            await wait_until(lambda: made == [0, 1, 2, 3])  # the third waits to be sent
            assert await connection.receive() == b"1"
            await wait_until(lambda: made == [0, 1, 2, 3, 4])
        assert made == [0, 1, 2, 3, 4, 5]
        assert (await connection.as_response()).text == "012345"

    async def test_the_rest_is_kept(self, client):
        async with client.request("/echo", method="POST", headers={"Content-Type": "text/plain"}) as connection:
            await connection.send(b"a")
            await connection.send(b"b")
            await connection.send_complete()
        assert (await connection.as_response()).json["data"] == "ab"

    async def test_leaving_before_the_end(self, app, client):
        log = []
        arrived = asyncio.Event()

        @app.post("/patient", stream_body=True)
        async def patient():
            try:
                async for piece in request.stream:
                    arrived.set()
                    log.append(piece)
            except Exception as error:
                log.append(type(error).__name__)
                raise
            return ""

        async with client.request("/patient", method="POST") as connection:
            await connection.send(b"a")
            await arrived.wait()
        assert log == [b"a", "ClientDisconnected"]
        with pytest.raises(RuntimeError, match="client left"):
            await connection.as_response()

    async def test_without_a_body(self, client):
        with pytest.raises(TypeError, match="by hand"):
            client.request("/", data="x")
        async with client.request("/") as connection:
            assert (await connection.as_response()).json["method"] == "GET"

    async def test_an_async_iterator(self, app, client):
        async def pieces():
            for piece in (b"a", b"b", b"c"):
                yield piece

        assert (await client.post("/loud", data=pieces())).data == b"ABC"
        async with client.stream("POST", "/loud", data=pieces()) as response:
            assert await response.receive() == b"A"
        assert "Transfer-Encoding" in response.request.headers

    async def test_one_that_waits_when_the_client_leaves(self, client):
        async def pieces():
            yield b"a"
            await asyncio.Event().wait()

        async with client.stream("POST", "/loud", data=pieces()) as response:
            assert await response.receive() == b"A"

    async def test_one_that_fails(self, client):
        async def pieces():
            yield b"a"
            raise LookupError("in the upload")

        with pytest.raises(LookupError, match="in the upload"):
            await client.post("/loud", data=pieces())

    async def test_one_that_nobody_reads(self, client):
        async def endless():
            while True:
                yield b"x" * 1024

        assert (await client.post("/missing", data=endless())).status_code == 404


class TestWebsockets:
    @pytest.fixture(autouse=True)
    def routes(self, app):
        self.log = log = []

        @app.websocket("/noted")
        async def noted():
            try:
                while True:
                    await websocket.send(await websocket.receive())
            except WebsocketDisconnect as error:
                log.append(error.code)
            finally:
                log.append("ended")

    async def test_messages(self, client):
        async with client.websocket("/noted") as ws:
            await ws.send("text")
            await ws.send(b"bytes")
            await ws.send_json(a=[1])
            assert [await ws.receive(), await ws.receive()] == ["text", b"bytes"]
            assert await ws.receive_json() == {"a": [1]}
        assert self.log == [1000, "ended"]
        with pytest.raises(WebsocketDisconnect):
            await ws.receive()

    async def test_the_handshake(self, app, client):
        @app.websocket("/hello")
        async def hello():
            session["seen"] = True
            await websocket.accept({"X-Header": "there", "Set-Cookie": "b=2; Path=/"}, subprotocol="two")
            own = websocket.requested_subprotocols
            await websocket.send_json(websocket.url, websocket.headers["X-Mine"], websocket.cookies, own)

        client.set_cookie("a", "1")
        async with client.websocket(
            "/hello", query_string={"q": "1"}, headers={"X-Mine": "yes"}, subprotocols=["one", "two"]
        ) as ws:
            assert ws.accepted_subprotocol == "two"
            assert ws.accept_headers["X-Header"] == "there"
            assert await ws.receive_json() == ["ws://localhost/hello?q=1", "yes", {"a": "1"}, ["one", "two"]]
        assert client.get_cookie("b").value == "2"

    async def test_closed_by_the_client(self, client):
        async with client.websocket("/noted") as ws:
            await ws.close(4000, "enough")
            with pytest.raises(WebsocketDisconnect) as caught:
                await ws.send("late")
        assert (caught.value.code, caught.value.reason) == (4000, "enough")
        async with client.websocket("/noted") as ws:
            await ws.disconnect()
        assert self.log == [4000, "ended", 1006, "ended"]

    async def test_closed_by_the_server(self, app, client):
        @app.websocket("/bye")
        async def bye():
            await websocket.send("bye")
            await websocket.close(4001, "over")
            self.log.append("after close")

        with pytest.raises(WebsocketDisconnect) as caught:
            async with client.websocket("/bye") as ws:
                assert [message async for message in ws] == ["bye"]
                await ws.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "over")
        assert self.log == ["after close"]

    async def test_the_view_ends(self, app, client):
        @app.websocket("/short")
        async def short():
            await websocket.accept()

        async with client.websocket("/short") as ws:
            with pytest.raises(WebsocketDisconnect) as caught:
                await ws.receive()
        assert caught.value.code == 1000

    async def test_refused(self, app, client):
        @app.websocket("/private")
        async def private():
            return {"error": "who are you"}, 401, {"X-Header": "there"}

        @app.websocket("/silent")
        async def silent():
            pass

        for path, status, text in [("/private", 401, '{"error":"who are you"}\n'), ("/silent", 403, "")]:
            with pytest.raises(WebsocketResponseError, match=str(status)) as caught:
                async with client.websocket(path):
                    pass
            response = caught.value.response
            assert (response.status_code, response.text) == (status, text)
        with pytest.raises(WebsocketResponseError, match="404"):
            async with client.websocket("/missing"):
                pass

    @pytest.mark.parametrize("pieces", [[b"not ", b"here"], [b"not ", None], [None]])
    async def test_refused_by_middleware_in_pieces(self, app, client, pieces):
        """None: it ends without the rest."""

        async def refuse(scope, receive, send):
            await receive()
            await send({"type": "websocket.http.response.start", "status": 403, "headers": [(b"x-by", b"middleware")]})
            for more, piece in zip((True, False), pieces, strict=False):
                if piece is not None:
                    await send({"type": "websocket.http.response.body", "body": piece, "more_body": more})

        app.asgi_app = refuse
        with pytest.raises(WebsocketResponseError, match="403") as caught:
            async with client.websocket("/noted"):
                pass
        response = caught.value.response
        assert response.headers["X-By"] == "middleware"
        assert response.data == b"".join(piece for piece in pieces if piece)

    async def test_closed_twice(self, client):
        async with client.websocket("/noted") as ws:
            await ws.close(4000)
            await ws.close(4001)
        assert self.log == [4000, "ended"]

    async def test_errors_of_the_view(self, app, client):
        @app.websocket("/early")
        async def early():
            raise LookupError("before accept")

        @app.websocket("/late")
        async def late():
            await websocket.receive()
            raise LookupError("after accept")

        with pytest.raises(LookupError, match="before"):
            async with client.websocket("/early"):
                pass
        async with client.websocket("/late") as ws:
            await ws.send("")
            with pytest.raises(LookupError, match="after"):
                await ws.receive()
        with pytest.raises(LookupError, match="after"):
            async with client.websocket("/late") as ws:
                await ws.send("")
        app.testing = False
        async with client.websocket("/late") as ws:
            await ws.send("")
            with pytest.raises(WebsocketDisconnect) as caught:
                await ws.receive()
        assert caught.value.code == 1011

    async def test_middleware_that_ends_without_a_word(self, app, client):
        async def silent(scope, receive, send):
            assert (await receive())["type"] == "websocket.connect"
            if scope["path"] == "/accepted":
                await send({"type": "websocket.accept"})

        app.asgi_app = silent
        with pytest.raises(WebsocketResponseError, match="403"):
            async with client.websocket("/"):
                pass
        async with client.websocket("/accepted") as ws:
            with pytest.raises(WebsocketDisconnect) as caught:
                await ws.receive()
        assert caught.value.code == 1006

    async def test_an_error_in_the_block(self, client):
        with pytest.raises(AssertionError):
            async with client.websocket("/noted"):
                raise AssertionError
        assert self.log == ["ended"]

    async def test_a_view_that_only_sends(self, app, client):
        @app.websocket("/ticks")
        async def ticks():
            number = 0
            while True:
                await websocket.send(str(number))
                number += 1
                await asyncio.sleep(0)

        async with client.websocket("/ticks") as ws:
            assert [await ws.receive(), await ws.receive()] == ["0", "1"]


class Store(SessionInterface):
    """Sessions in a dict, by awaiting."""

    def __init__(self):
        self.kept = {}

    async def open_session(self, app, request):
        await asyncio.sleep(0)
        return SecureCookieSession(self.kept.get(request.cookies.get("sid"), {}))

    async def save_session(self, app, session, response):
        await asyncio.sleep(0)
        self.kept["one"] = dict(session)
        response.set_cookie("sid", "one")


class TestSessions:
    @pytest.fixture(params=["cookie", "store"])
    def app(self, app, request):
        if request.param == "store":
            app.session_interface = Store()
        return app

    async def test_reads_and_writes(self, client):
        async with client.session_transaction() as own:
            assert dict(own) == {}
            own["word"] = "set"
        assert (await client.get("/recall")).text == "set"
        await client.get("/remember/other")
        async with client.session_transaction() as own:
            assert own["word"] == "other"

    async def test_an_error_in_the_block_saves_nothing(self, client):
        with pytest.raises(LookupError):
            async with client.session_transaction() as own:
                own["word"] = "lost"
                raise LookupError
        assert (await client.get("/recall")).text == "nothing"

    async def test_the_tests_own_context_stays(self, app, client):
        async with app.test_request_context("/mine"):
            async with client.session_transaction():
                assert request.path == "/mine"
            assert request.path == "/mine"

    async def test_what_it_needs(self, app):
        with pytest.raises(TypeError, match="Cookies are disabled"):
            async with app.async_test_client(use_cookies=False).session_transaction():
                pass


async def test_a_null_session_is_not_saved(client, app):
    app.secret_key = None
    with pytest.raises(RuntimeError):
        async with client.session_transaction() as own:
            own["word"] = "set"
    assert client.get_cookie("session") is None


async def test_a_null_session_that_an_interface_opens_is_only_read(client, app):
    class Closed(SecureCookieSessionInterface):
        def open_session(self, app, request):
            return self.make_null_session(app)

        def save_session(self, app, session, response):
            raise AssertionError("there is nothing to save")

    app.session_interface = Closed()
    async with client.session_transaction() as own:
        assert dict(own) == {}


class TestPreservedContext:
    @pytest.mark.parametrize("path", ["/?value=2", "/sync"])
    async def test_only_in_a_block(self, client, path):
        await client.get(path)
        assert not request
        async with client:
            await client.get(path)
            assert (request.path, g.value) == (path.partition("?")[0], "sync" if "sync" in path else "2")
            await client.get("/remember/it", follow_redirects=True)
            assert (request.path, session["word"]) == ("/recall", "it")
        assert not request
        assert not current_app

    async def test_after_an_error(self, app, client):
        async with client:
            with pytest.raises(LookupError):
                await client.get("/fails")
            assert request.path == "/fails"
            app.testing = False
            assert (await client.get("/fails?again")).status_code == 500
            assert "again" in request.args
        assert not request

    async def test_after_a_stream(self, client, stream):
        async with client:
            async with client.stream("GET", "/numbers") as response:
                await response.receive()
            assert request.path == "/numbers"
        assert not request

    async def test_inside_of_another_context(self, app, client):
        async with app.test_request_context("/outer"):
            async with client:
                await client.get("/sync")
                assert request.path == "/sync"
            assert request.path == "/outer"

    async def test_teardown_has_run_by_the_end(self, app, client):
        log = []

        @app.teardown_appcontext
        async def note(error):
            log.append(error)

        async with client:
            await client.get("/")
        assert set(log) == {None}

    async def test_blocks_do_not_nest_and_come_again(self, client):
        for _ in range(2):
            async with client:
                with pytest.raises(RuntimeError, match="inside of itself"):
                    await client.__aenter__()
                assert (await client.get("/")).status_code == 200


class TestServingLife:
    async def test_start_up_state_and_shutdown(self, app):
        log = []

        @app.while_serving
        async def serve():
            log.append("up")
            yield
            log.append("down")

        app.add_url_rule("/state", view_func=lambda: {"state": request._scope["state"]["colour"]})
        loop = asyncio.get_running_loop()
        app.before_serving(lambda: app.serving_state.update(colour="blue"))

        @app.before_serving
        async def same_loop():
            assert asyncio.get_running_loop() is loop

        test_app = app.test_app()
        for _ in range(2):
            async with test_app:
                assert (await test_app.test_client().get("/state")).json == {"state": "blue"}
        assert log == ["up", "down"] * 2

    async def test_middleware_takes_part(self, app):
        inner, seen = app.asgi_app, []

        async def middleware(scope, receive, send):
            seen.append(scope["type"])
            await inner(scope, receive, send)

        app.asgi_app = middleware
        async with app.test_app():
            pass
        assert seen == ["lifespan"]

    async def test_start_up_fails(self, app):
        @app.before_serving
        async def fail():
            raise LookupError("no database")

        with pytest.raises(LifespanError, match="no database") as caught:
            async with app.test_app():
                pytest.fail("it was entered")
        assert isinstance(caught.value.__cause__, LookupError)

    async def test_shutdown_fails(self, app):
        @app.after_serving
        def fail():
            raise LookupError("cannot close")

        with pytest.raises(LifespanError, match="cannot close") as caught:
            async with app.test_app():
                pass
        assert isinstance(caught.value.__cause__, LookupError)

    @pytest.mark.parametrize("error", [None, LookupError("not here")])
    async def test_an_application_without_a_lifespan(self, app, error):
        async def without(scope, receive, send):
            if error is not None:
                raise error

        app.asgi_app = without
        with pytest.raises(LookupError if error else LifespanError):
            await app.test_app().startup()


@pytest.fixture
async def served(app):
    async with app.test_app() as test_app:
        yield test_app


@pytest.fixture
async def socket(app):
    async with app.async_test_client().websocket("/ws") as ws:
        yield ws


@pytest.fixture
async def preserving(app):
    async with app.async_test_client() as client:
        yield client


@pytest.mark.leaves_context("the client keeps it until the end of its block, in a fixture")
async def test_blocks_that_fixtures_open(served, socket, preserving):
    """Their beginning, the test and their end may be different tasks."""
    assert (await served.test_client().get("/")).status_code == 200
    await socket.send("x")
    assert await socket.receive() == "x"
    await preserving.get("/sync")
    assert request.path == "/sync"


def test_on_trio(app):
    async def run():
        client = app.async_test_client()
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/remember/it", follow_redirects=True)).text == "it"
        with pytest.raises(LookupError):
            await client.get("/fails")
        async with client.websocket("/ws") as ws:
            await ws.send("x")
            assert await ws.receive() == "x"
        async with client.session_transaction() as own:
            assert own["word"] == "it"

    trio.run(run)


async def test_a_connection_by_hand_is_ahead_of_its_test():
    """As with a server: what the view does before its first piece is done, though nothing was received yet."""
    app, queues = Flask(__name__), []

    @app.get("/feed")
    async def feed():
        async def generate():
            queue = asyncio.Queue()
            queues.append(queue)
            while True:
                yield await queue.get()

        return generate()

    client = app.async_test_client()
    async with asyncio.timeout(5), client.request("/feed") as connection:
        await connection.send_complete()
        await wait_until(lambda: queues)
        for word in ("one", "two", "three", "four"):
            queues[0].put_nowait(word)
        assert [await connection.receive() for _ in range(4)] == [b"one", b"two", b"three", b"four"]
        await connection.disconnect()
