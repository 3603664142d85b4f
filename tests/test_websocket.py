"""Websockets: the view and its hooks, what opens and closes a connection, what refuses it, what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest
from edge import Exchange, get, wait_until
from socket_edge import Socket

import asyncflask
from asyncflask import (
    Blueprint,
    Flask,
    Websocket,
    WebsocketDisconnect,
    abort,
    after_this_request,
    copy_current_websocket_context,
    current_app,
    g,
    has_request_context,
    has_websocket_context,
    request,
    session,
    url_for,
    websocket,
)
from asyncflask.asgi_connection import Connection


@pytest.fixture
def app():
    app = Flask(__name__)
    app.secret_key = "a key of sixteen"

    @app.websocket("/echo")
    async def echo():
        async for message in websocket:
            await websocket.send(message)

    return app


class TestConversation:
    async def test_text_and_bytes(self, app):
        async with Socket(app, "/echo") as socket:
            assert socket.opened
            for data in ("text", b"bytes", "", b"", "\x00\u2603", "x" * 100_000):
                socket.put(data)
                assert await socket.take() == data

    async def test_json(self, app):
        app.config["TESTING"] = True

        @app.websocket("/json")
        async def answer():
            value = await websocket.receive_json()
            await websocket.send_json(value)
            await websocket.send_json(1, 2)
            await websocket.send_json(key=value)

        async with Socket(app, "/json") as socket:
            socket.put_json({"a": [1, None]})
            assert await socket.take_json() == {"a": [1, None]}
            assert await socket.take_json() == [1, 2]
            assert await socket.take_json() == {"key": {"a": [1, None]}}
            assert await socket.take_close() == (1000, "")

    async def test_no_json_of_both_kinds(self, app):
        @app.websocket("/json")
        async def answer():
            with pytest.raises(TypeError, match="not both"):
                await websocket.send_json(1, key=2)
            await websocket.accept()

        async with Socket(app, "/json") as socket:
            assert await socket.take_close() == (1000, "")

    async def test_the_views_end_closes(self, app):
        @app.websocket("/once")
        async def once():
            await websocket.send("only this")

        async with Socket(app, "/once") as socket:
            assert await socket.take() == "only this"
            assert await socket.take_close() == (1000, "")

    async def test_closed_by_the_view(self, app):
        later = []

        @app.websocket("/close")
        async def close():
            await websocket.accept()
            await websocket.close(4001, "enough")
            await websocket.close(4002)  # without effect
            for use in (websocket.send("x"), websocket.receive(), websocket.accept()):
                with pytest.raises(WebsocketDisconnect) as raised:
                    await use
                later.append((raised.value.code, raised.value.reason))

        async with Socket(app, "/close") as socket:
            assert await socket.take_close() == (4001, "enough")
            await socket.end()
        assert later == [(4001, "enough")] * 3

    async def test_the_client_leaves(self, app):
        seen = []

        @app.websocket("/left")
        async def left():
            try:
                await websocket.receive()
            except WebsocketDisconnect as error:
                seen.append((error.code, error.reason, str(error)))
                with pytest.raises(WebsocketDisconnect):
                    await websocket.send("too late")
                raise

        async with Socket(app, "/left") as socket:
            socket.leave(1001, "page closed")
            await socket.end()
        assert seen == [(1001, "page closed", "The websocket is closed: 1001 page closed.")]

    async def test_leaving_is_no_error(self, app, caplog):
        events = []
        app.teardown_websocket(lambda error: events.append(error))
        asyncflask.got_websocket_exception.connect(lambda *_, **__: events.append("signal"), app, weak=False)

        @app.websocket("/wait")
        async def wait():
            await websocket.receive()

        async with Socket(app, "/wait") as socket:
            socket.leave(1001)
            await socket.end()
        assert events == [None]
        assert not caplog.records

    async def test_leaving_is_no_error_of_tasks_either(self, app, caplog):
        @app.websocket("/both")
        async def both():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(websocket.receive())
                tasks.create_task(websocket.receive_json())

        async with Socket(app, "/both") as socket:
            socket.leave(1001)
            socket.leave(1001)
            await socket.end()
        assert not caplog.records

    async def test_a_handler_of_leaving(self, app):
        seen = []

        @app.errorhandler(WebsocketDisconnect)
        async def handle(error):
            seen.append(error.code)
            return ""

        @app.websocket("/wait")
        async def wait():
            await websocket.receive()

        async with Socket(app, "/wait") as socket:
            socket.leave(1001)
            await socket.end()
        assert seen == [1001]

    async def test_a_lost_client_is_noticed_by_send(self, app):
        seen = []

        @app.websocket("/push")
        async def push():
            await websocket.accept()
            try:
                await websocket.send("x")
            except WebsocketDisconnect as error:
                seen.append(error.code)

        def lose(message):
            if message["type"] == "websocket.send":
                raise OSError("gone")

        async with Socket(app, "/push", on_send=lose):
            pass
        assert seen == [1006]

    async def test_send_waits_for_a_slow_client(self, app):
        sent = []

        @app.websocket("/flood")
        async def flood():
            await websocket.send("ready")
            await websocket.receive()
            for number in range(100):
                await websocket.send(str(number))
                sent.append(number)

        async with Socket(app, "/flood") as socket:
            assert await socket.take() == "ready"
            await wait_until(lambda: not socket.sending)
            socket.wire_open.clear()
            socket.put("go")
            assert await socket.take() == "0"
            await asyncio.sleep(0.02)
            assert len(sent) <= 2
            socket.wire_open.set()
            await wait_until(lambda: len(sent) == 100)

    async def test_both_directions_at_once(self, app):
        @app.websocket("/both")
        async def both():
            async def receive():
                async for message in websocket:
                    await websocket.send(f"got {message}")

            async def push():
                for number in range(3):
                    await websocket.send(str(number))

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(push())
                tasks.create_task(receive())

        async with Socket(app, "/both") as socket:
            socket.put("x")
            got = {await socket.take() for _ in range(4)}
        assert got == {"0", "1", "2", "got x"}


class TestEnds:
    """Who waits for a message learns of the end, whoever made it: servers tell one receiver, or none."""

    @pytest.fixture
    def app(self, app):
        @app.websocket("/two")
        async def two():
            async def wait(name):
                try:
                    await websocket.receive()
                except WebsocketDisconnect as error:
                    seen.append((name, error.code))

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(wait("a"))
                tasks.create_task(wait("b"))
                await asyncio.sleep(0)
                await websocket.send("both wait")
                if "close" in websocket.args:
                    await websocket.close(4000)

        @app.websocket("/push")
        async def push():
            try:
                while True:
                    await websocket.send("tick")
                    await asyncio.sleep(0)
            except WebsocketDisconnect as error:
                seen.append(error.code)

        seen = app.seen = []
        return app

    async def test_all_receivers_learn_that_the_client_left(self, app):
        async with Socket(app, "/two") as socket:
            assert await socket.take() == "both wait"
            socket.leave(1001)
            await socket.end()
        assert sorted(app.seen) == [("a", 1001), ("b", 1001)]

    async def test_closing_wakes_receivers(self, app):
        async with Socket(app, "/two?close") as socket:
            assert await socket.take() == "both wait"
            await socket.end()  # the client does not answer
        assert sorted(app.seen) == [("a", 4000), ("b", 4000)]

    @pytest.mark.parametrize(
        ("code", "reason"), [(999, ""), (1005, ""), (1006, ""), (2999, ""), (5000, ""), (1000, "é" * 62)]
    )
    async def test_what_the_protocol_does_not_allow(self, app, code, reason):
        @app.websocket("/close")
        async def close():
            await websocket.accept()
            with pytest.raises(ValueError, match="RFC 6455"):
                await websocket.close(code, reason)
            await websocket.close(4999, "é" * 61)

        async with Socket(app, "/close") as socket:
            assert await socket.take_close() == (4999, "é" * 61)

    async def test_a_send_that_was_cancelled_has_sent_nothing(self, app):
        @app.websocket("/cancelled")
        async def cancelled():
            await websocket.accept()
            await asyncio.sleep(0.02)  # a sender's turn would be over
            sending = asyncio.create_task(websocket.send("x"))
            await asyncio.sleep(0)
            sending.cancel()
            (result,) = await asyncio.gather(sending, return_exceptions=True)
            await websocket.send(type(result).__name__)

        async with Socket(app, "/cancelled") as socket:
            first = await socket.take()
            assert first == "CancelledError" or (first, await socket.take()) == ("x", "NoneType")

    async def test_closed_while_it_is_accepted(self, app):
        @app.websocket("/race")
        async def race():
            accepting = asyncio.create_task(websocket.accept())
            await wait_until(lambda: socket.sending)
            await websocket.connection.close(4000)
            with pytest.raises(WebsocketDisconnect):
                await accepting

        socket = Socket(app, "/race")
        socket.wire_open.clear()
        async with socket:
            await wait_until(lambda: socket.sending == 2)
            socket.wire_open.set()
            await socket.end()

    async def test_a_cancellation_stays_one(self, app):
        @app.websocket("/timeout")
        async def receive():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(websocket.receive(), 0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await websocket.receive()
            await websocket.send(await websocket.receive())

        async with Socket(app, "/timeout") as socket:
            await asyncio.sleep(0.05)
            socket.put("late")
            assert await socket.take() == "late"

    async def test_who_only_sends_learns_that_the_client_left(self, app):
        """Before ASGI 2.4 a send does not say so."""
        async with Socket(app, "/push") as socket:
            assert [await socket.take() for _ in range(3)] == ["tick"] * 3
            socket.leave(4001)
            await socket.end()
        assert app.seen == [4001]

    async def test_what_came_while_only_sending_is_received_in_order(self, app):
        @app.websocket("/late")
        async def late():
            for _ in range(3):
                await websocket.send("tick")
            await asyncio.sleep(0.01)
            for name in await asyncio.gather(*(websocket.receive() for _ in range(3))):
                await websocket.send(name)

        async with Socket(app, "/late") as socket:
            for name in "abc":
                socket.put(name)
            assert "".join([await socket.take() for _ in range(6)]) == "tickticktickabc"

    async def test_newer_servers_are_not_listened_to_ahead(self, app):
        asgi = {"version": "3.0", "spec_version": "2.4"}
        async with Socket(app, "/push", asgi=asgi) as socket:
            await socket.take()
            socket.put("nobody receives it")
            assert [await socket.take() for _ in range(3)] == ["tick"] * 3
            assert socket.to_app.qsize() == 1
            socket.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await socket.task

    async def test_a_server_that_closed_by_itself(self, app):
        """As uvicorn does for want of a pong."""
        sent = []

        def refuse(message):
            sent.append(message["type"])
            if len(sent) > 2:
                raise RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")

        async with Socket(app, "/push", on_send=refuse) as socket:
            await socket.end()
        assert app.seen == [1006]

    async def test_other_errors_of_a_server_are_errors(self, app, caplog):
        def refuse(message):
            if message["type"] == "websocket.send":
                raise RuntimeError("another loop")

        async with Socket(app, "/push", on_send=refuse) as socket:
            assert await socket.take_close() == (1011, "")
        assert "another loop" in caplog.text

    @pytest.mark.parametrize("path", ["/nothing", "/nowhere"])
    async def test_a_client_that_left_before_the_answer(self, app, path, caplog):
        def refuse(message):
            raise OSError("gone")

        app.websocket("/nothing", endpoint="nothing")(self.do_nothing)
        await Socket(app, path, on_send=refuse).run()
        assert not [record for record in caplog.records if record.levelno > logging.WARNING]

    async def do_nothing(self):
        return None

    async def test_the_servers_end(self, app):
        await app.startup()
        async with Socket(app, "/two") as receiver, Socket(app, "/push") as pusher, Socket(app, "/echo") as unopened:
            assert await receiver.take() == "both wait"
            await pusher.take()
            app.shutdown_event.set()
            assert await receiver.take_close() == (1001, "")
            await receiver.end()
            while (message := await pusher._next())["type"] == "websocket.send":
                pass
            assert (message["type"], message["code"]) == ("websocket.close", 1001)
            await pusher.end()
            assert unopened.opened
            assert await unopened.take_close() == (1001, "")
        await app.shutdown()
        assert sorted(app.seen, key=str) == [("a", 1001), ("b", 1001), 1001]

    async def test_connections_bring_no_tasks(self, app):
        await app.startup()
        try:
            before = asyncio.all_tasks()
            for _ in range(2):
                async with Socket(app, "/echo") as one, Socket(app, "/echo") as two:
                    for socket in (one, two):
                        socket.put("x")
                        await socket.take()
                    assert len(asyncio.all_tasks() - before) == 2  # the server's
                    assert len(app.shutdown_event._waiters) == 1
                assert not app.shutdown_event._waiters
            assert asyncio.all_tasks() <= before
        finally:
            await app.shutdown()

    @pytest.mark.parametrize("data", [{"a": 1}, 5, None, ["x"]])
    async def test_only_text_and_bytes_are_sent(self, app, data):
        raised = []

        @app.websocket("/wrong")
        async def wrong():
            try:
                await websocket.send(data)
            except TypeError as error:
                raised.append(str(error))
            await websocket.accept()

        async with Socket(app, "/wrong") as socket:
            await socket.end()
        assert "takes str or bytes" in raised[0]

    async def test_an_end_without_accept_is_told(self, app, caplog):
        @app.websocket("/forgotten")
        async def forgotten():
            return None

        async with Socket(app, "/forgotten") as socket:
            assert socket.first["type"] == "websocket.close"
        assert "'forgotten' ended before it accepted" in caplog.text


class TestHandshake:
    async def test_it_is_a_request(self, app):
        @app.websocket("/rooms/<int:number>")
        async def room(number):
            assert request._get_current_object() is websocket._get_current_object()
            assert isinstance(websocket, Websocket)
            await websocket.send_json(
                number=number,
                args=websocket.args["q"],
                url=websocket.url,
                agent=websocket.headers["User-Agent"],
                cookie=websocket.cookies["c"],
                addr=websocket.remote_addr,
                endpoint=websocket.endpoint,
                method=websocket.method,
                secure=websocket.is_secure,
                here=url_for("room", number=2, _external=True),
                scheme=websocket.environ["wsgi.url_scheme"],
            )

        headers = [("Host", "example.com"), ("User-Agent", "test"), ("Cookie", "c=d")]
        async with Socket(app, "/rooms/1?q=a%20b", headers=headers, scheme="wss") as socket:
            assert await socket.take_json() == {
                "number": 1,
                "args": "a b",
                "url": "wss://example.com/rooms/1?q=a%20b",
                "agent": "test",
                "cookie": "d",
                "addr": "127.0.0.1",
                "endpoint": "room",
                "method": "GET",
                "secure": True,
                "here": "wss://example.com/rooms/2",
                "scheme": "https",
            }

    async def test_subprotocols_and_headers(self, app):
        @app.websocket("/")
        async def index():
            offered = websocket.requested_subprotocols
            with pytest.raises(ValueError, match="did not offer"):
                await websocket.accept(subprotocol="other")
            await websocket.accept({"X-Room": "7"}, subprotocol=offered[1])
            await websocket.accept()  # without effect

        headers = [("Host", "localhost"), ("Sec-WebSocket-Protocol", "chat, superchat")]
        async with Socket(app, "/", headers=headers) as socket:
            assert socket.first["subprotocol"] == "superchat"
            assert socket.first["headers"] == [(b"x-room", b"7")]

    async def test_subprotocols_of_a_server_that_takes_the_header(self, app):
        @app.websocket("/")
        async def index():
            await websocket.accept(subprotocol=websocket.requested_subprotocols[0])

        async with Socket(app, "/", subprotocols=["chat", "superchat"]) as socket:
            assert socket.first["subprotocol"] == "chat"

    async def test_accepted_once_by_tasks_at_once(self, app):
        @app.websocket("/")
        async def index():
            await asyncio.gather(websocket.send("a"), websocket.send("b"), websocket.accept())

        async with Socket(app, "/") as socket:
            assert {await socket.take(), await socket.take()} == {"a", "b"}
            assert await socket.take_close() == (1000, "")

    async def test_session_and_g(self, app):
        @app.route("/login")
        async def login():
            session["user"] = "ada"
            return ""

        @app.websocket("/whoami")
        async def whoami():
            g.user = session["user"]
            await websocket.send(g.user)

        cookie = (await get(app, "/login")).headers["set-cookie"].partition(";")[0]
        async with Socket(app, "/whoami", headers=[("Host", "localhost"), ("Cookie", cookie)]) as socket:
            assert await socket.take() == "ada"

    async def test_a_cookie_session_changed_in_it_is_said_to_be_lost(self, app, caplog):
        @app.websocket("/change")
        async def change():
            session["user"] = "eve"
            await websocket.accept()

        async with Socket(app, "/change") as socket:
            await socket.end()
        assert "its cookie cannot be sent" in caplog.text

    async def test_mount_point(self, app):
        async with Socket(app, "/app/echo", root_path="/app") as socket:
            socket.put("x")
            assert await socket.take() == "x"

    @pytest.mark.parametrize(
        ("allowed", "origin", "opens"),
        [
            ("any", "https://evil.example", True),
            ("same-origin", None, True),
            ("same-origin", "http://localhost", True),
            ("same-origin", "http://LOCALHOST", True),
            ("same-origin", "http://localhost:8080", False),
            ("same-origin", "https://evil.example", False),
            ("same-origin", "null", False),
            (["https://a.example"], "https://a.example", True),
            (["https://a.example"], "http://a.example", False),
            (["https://a.example"], "http://localhost", False),
            ([], "http://localhost", False),
        ],
    )
    async def test_origins(self, app, allowed, origin, opens):
        app.config["WEBSOCKET_ORIGINS"] = allowed
        headers = [("Host", "localhost"), *([] if origin is None else [("Origin", origin)])]
        async with Socket(app, "/echo", headers=headers) as socket:
            if not opens:
                assert (await socket.denial())[0] == 403
            else:
                socket.put("x")
                assert await socket.take() == "x"


class TestRefusal:
    @pytest.fixture
    def app(self, app):
        @app.websocket("/abort/<int:code>")
        async def refuse(code):
            abort(code)

        @app.websocket("/return")
        async def answer():
            return {"why": "no room"}, 429, {"Retry-After": "5"}

        @app.websocket("/close")
        async def close():
            await websocket.close(4000)

        @app.websocket("/nothing")
        async def nothing():
            return None

        @app.websocket("/error")
        async def fail():
            raise LookupError("inside")

        return app

    @pytest.mark.parametrize(
        ("path", "status"), [("/abort/401", 401), ("/return", 429), ("/error", 500), ("/nowhere", 404)]
    )
    async def test_a_response(self, app, path, status):
        async with Socket(app, path) as socket:
            assert (await socket.denial())[0] == status
        async with Socket(app, path, can_deny=False) as socket:
            assert socket.first["type"] == "websocket.close"

    async def test_headers_and_body(self, app):
        async with Socket(app, "/return") as socket:
            status, headers, body = await socket.denial()
        assert (status, headers["retry-after"], body.strip()) == (429, "5", b'{"why":"no room"}')

    @pytest.mark.parametrize("path", ["/close", "/nothing"])
    async def test_closed_before_it_was_open(self, app, path):
        async with Socket(app, path) as socket:
            assert socket.first["type"] == "websocket.close"

    async def test_error_handlers(self, app):
        @app.errorhandler(404)
        def not_found(error):
            return "nothing here", 404

        @app.errorhandler(LookupError)
        async def look_up(error):
            return f"handled {error}", 400

        async with Socket(app, "/nowhere") as socket:
            assert (await socket.denial())[2] == b"nothing here"
        async with Socket(app, "/error") as socket:
            status, _, body = await socket.denial()
            assert (status, body) == (400, b"handled inside")

    @pytest.mark.parametrize("style", ["sync", "async"])
    async def test_a_hook_refuses(self, app, style):
        @app.after_websocket
        def mark(response):
            response.headers["X-After"] = "yes"
            return response

        if style == "sync":
            app.before_websocket(lambda: ("not you", 403))
        else:

            @app.before_websocket
            async def refuse():
                return "not you", 403

        async with Socket(app, "/echo") as socket:
            status, headers, body = await socket.denial()
        assert (status, headers["x-after"], body) == (403, "yes", b"not you")

    async def test_http_and_websocket_rules_do_not_mix(self, app):
        app.add_url_rule("/page", "page", lambda: "page")
        assert (await get(app, "/echo")).status == 400
        async with Socket(app, "/page") as socket:
            assert (await socket.denial())[0] == 400

    async def test_an_upgrade_request_over_http_gets_no_websocket_view(self, app):
        exchange = Exchange("GET", "/echo", headers=[("Connection", "Upgrade"), ("Upgrade", "websocket")])
        assert (await exchange.run(app)).status >= 400

    async def test_one_path_for_both(self, app):
        app.add_url_rule("/echo", "page", lambda: "page")
        assert (await get(app, "/echo")).text == "page"
        async with Socket(app, "/echo") as socket:
            socket.put("x")
            assert await socket.take() == "x"

    def test_set_up(self, app):
        with pytest.raises(TypeError, match="methods"):
            app.websocket("/x", methods=["GET"])(lambda: None)


class TestErrors:
    @pytest.fixture
    def app(self, app):
        @app.websocket("/late")
        async def late():
            await websocket.accept()
            raise LookupError("inside")

        @app.websocket("/abort")
        async def refuse():
            await websocket.accept()
            abort(404)

        return app

    @pytest.mark.parametrize("path", ["/late", "/abort"])
    async def test_after_accept_it_is_1011(self, app, path):
        async with Socket(app, path) as socket:
            assert await socket.take_close() == (1011, "")

    async def test_logged_once_with_signal_and_teardown(self, app, caplog):
        seen = []
        asyncflask.got_websocket_exception.connect(lambda app, exception: seen.append(exception), app, weak=False)
        app.teardown_websocket(seen.append)
        async with Socket(app, "/late") as socket:
            assert await socket.take_close() == (1011, "")
            await socket.end()
        assert [type(error) for error in seen] == [LookupError, LookupError]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert "Exception on /late" in caplog.text

    async def test_propagated_in_testing(self, app):
        app.testing = True
        socket = Socket(app, "/late")
        await socket.__aenter__()
        assert await socket.take_close() == (1011, "")
        with pytest.raises(LookupError):
            await socket.end()

    async def test_a_teardown_that_fails_leaves_the_others(self, app, caplog):
        seen = []
        app.teardown_websocket(lambda error: seen.append("first registered"))

        @app.teardown_websocket
        async def fail(error):
            raise ValueError("teardown")

        async with Socket(app, "/echo") as socket:
            socket.leave()
            await socket.end()
        assert seen == ["first registered"]
        assert "Error in the teardown function" in caplog.text

    async def test_cancelled_by_the_server(self, app):
        seen = []
        app.teardown_websocket(lambda error: seen.append(type(error)))
        socket = Socket(app, "/echo")
        await socket.__aenter__()
        socket.put("x")
        assert await socket.take() == "x"
        socket.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await socket.task
        assert seen == [asyncio.CancelledError]

    @pytest.mark.blocks_loop("the test looks at all objects")
    async def test_nothing_is_left_behind(self, app):
        async def visit():
            async with Socket(app, "/echo") as socket:
                socket.put("x")
                await socket.take()

        def count():
            return sum(type(thing) in (Websocket, Connection) for thing in gc.get_objects())

        await visit()
        gc.collect()
        gc.disable()
        before = count()
        try:
            for _ in range(20):
                await visit()
            assert count() == before
        finally:
            gc.enable()


class TestHooks:
    async def test_order_and_kinds(self, app):
        log = []
        blueprint = Blueprint("chat", __name__, url_prefix="/chat")

        def note(name, *, gives=False):
            def sync(*args):
                log.append((name, type(args[0]).__name__ if args else ""))
                return args[0] if gives else None

            return sync

        def note_async(name, *, gives=False):
            async def hook(*args):
                return note(name, gives=gives)(*args)

            return hook

        app.before_websocket(note("before app"))
        blueprint.before_app_websocket(note_async("before app of blueprint"))
        blueprint.before_websocket(note_async("before blueprint"))
        app.after_websocket(note_async("after app", gives=True))
        blueprint.after_websocket(note("after blueprint", gives=True))
        blueprint.after_app_websocket(note("after app of blueprint", gives=True))
        app.teardown_websocket(note("teardown app"))
        blueprint.teardown_websocket(note_async("teardown blueprint"))
        blueprint.teardown_app_websocket(note_async("teardown app of blueprint"))
        app.teardown_appcontext(note("teardown context"))
        app.before_request(note("before request"))
        app.teardown_request(note("teardown request"))

        @blueprint.url_value_preprocessor
        def preprocess(endpoint, values):
            log.append(("preprocess", endpoint))

        @blueprint.websocket("/<name>")
        async def room(name):
            log.append(("view", name))
            await websocket.accept()

        app.register_blueprint(blueprint)
        async with Socket(app, "/chat/den") as socket:
            await socket.end()
        assert log == [
            ("preprocess", "chat.room"),
            ("before app", ""),
            ("before app of blueprint", ""),
            ("before blueprint", ""),
            ("view", "den"),
            ("after blueprint", "NoneType"),
            ("after app of blueprint", "NoneType"),
            ("after app", "NoneType"),
            ("teardown blueprint", "NoneType"),
            ("teardown app of blueprint", "NoneType"),
            ("teardown app", "NoneType"),
            ("teardown context", "NoneType"),
        ]

    async def test_signals(self, app):
        log = []
        names = "started received sent finished tearing_down".split()
        for name in names:
            signal = getattr(asyncflask, f"websocket_{name}")
            signal.connect(lambda sender, name=name, **values: log.append((name, *sorted(values))), app, weak=False)

        async def receive_async(sender, message):
            log.append(("async", message))

        asyncflask.websocket_received.connect(receive_async, app)
        async with Socket(app, "/echo") as socket:
            socket.put("x")
            await socket.take()
        assert sorted(log) == sorted(
            [
                ("started",),
                ("received", "message"),
                ("async", "x"),
                ("sent", "message"),
                ("finished", "response"),
                ("tearing_down", "exc"),
            ]
        )

    async def test_sync_hooks_share_a_thread_that_is_not_held(self, app):
        threads = []
        app.config["WORKER_THREADS"] = 1
        app.before_websocket(lambda: threads.append(threading.get_ident()))
        app.teardown_websocket(lambda error: threads.append(threading.get_ident()))
        app.add_url_rule("/sync", "sync", lambda: "answered")
        async with Socket(app, "/echo") as one, Socket(app, "/echo") as two:
            one.put("1")
            two.put("2")
            assert (await one.take(), await two.take()) == ("1", "2")
            assert (await get(app, "/sync")).text == "answered"
        assert len(threads) == 4
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()

    async def test_a_sync_decorator_around_the_view(self, app):
        def login_required(view):
            def decorated(*args, **kwargs):
                if not websocket.headers.get("Authorization"):
                    abort(401)
                return current_app.ensure_sync(view)(*args, **kwargs)

            return decorated

        @app.websocket("/guarded", endpoint="guarded")
        @login_required
        async def guarded():
            await websocket.send(await websocket.receive())

        async with Socket(app, "/guarded") as socket:
            assert (await socket.denial())[0] == 401
        async with Socket(app, "/guarded", headers=[("Host", "localhost"), ("Authorization", "x")]) as socket:
            socket.put("hello")
            assert await socket.take() == "hello"

    async def test_after_this_request(self, app):
        log = []

        @app.websocket("/")
        async def index():
            @after_this_request
            def note(response):
                log.append(response)
                return response

            await websocket.accept()

        async with Socket(app, "/") as socket:
            await socket.end()
        assert log == [None]

    async def test_url_defaults_error_handlers_and_names_of_a_blueprint(self, app):
        blueprint = Blueprint("b", __name__, url_prefix="/b")

        @blueprint.websocket("/fail")
        async def fail():
            raise KeyError("x")

        @blueprint.errorhandler(KeyError)
        def handle(error):
            return websocket.blueprint, 418

        app.register_blueprint(blueprint)
        async with Socket(app, "/b/fail") as socket:
            status, _, body = await socket.denial()
        assert (status, body) == (418, b"b")


class TestContext:
    async def test_what_is_current(self, app):
        @app.websocket("/")
        async def index():
            await websocket.send_json([has_websocket_context(), has_request_context(), current_app.name])

        @app.route("/page")
        async def page():
            return [has_websocket_context(), bool(websocket)]

        async with Socket(app, "/") as socket:
            assert await socket.take_json() == [True, True, app.name]
        assert (await get(app, "/page")).json == [False, False]
        assert not has_websocket_context()

    async def test_outside(self, app):
        with pytest.raises(RuntimeError, match="Working outside of websocket context"):
            _ = websocket.args
        with app.test_request_context(), pytest.raises(RuntimeError, match="websocket context"):
            copy_current_websocket_context(print)

    async def test_copied_into_tasks_and_threads(self, app):
        seen = []

        @app.websocket("/")
        async def index():
            @copy_current_websocket_context
            async def task():
                seen.append(websocket.path)
                await websocket.send("from the task")

            @copy_current_websocket_context
            def work():
                seen.append(websocket.path)

            await asyncio.create_task(task())
            await asyncio.to_thread(work)

        async with Socket(app, "/") as socket:
            assert await socket.take() == "from the task"
            await socket.end()
        assert seen == ["/", "/"]

    async def test_many_at_once_do_not_mix(self, app):
        app.before_websocket(lambda: setattr(g, "name", websocket.args["name"]))

        @app.websocket("/name")
        async def name():
            async for _ in websocket:
                await asyncio.sleep(0)
                await websocket.send(g.name)

        async def visit(number):
            async with Socket(app, f"/name?name={number}") as socket:
                for _ in range(3):
                    socket.put("?")
                    assert await socket.take() == str(number)

        await asyncio.gather(*(visit(number) for number in range(50)))

    async def test_a_class_of_ones_own(self, app):
        class Loud(Websocket):
            async def send(self, data):
                await super().send(data.upper())

        app.websocket_class = Loud
        async with Socket(app, "/echo") as socket:
            socket.put("quiet")
            assert await socket.take() == "QUIET"

    async def test_a_class_that_is_made_from_an_environ(self, app):
        class Own(Websocket):
            def __init__(self, environ):
                super().__init__(environ)
                self.agent = environ["HTTP_USER_AGENT"]

        @app.websocket("/agent")
        async def agent():
            await websocket.send(f"{websocket.agent} {websocket.environ['PATH_INFO']}")

        app.websocket_class = Own
        async with Socket(app, "/agent", headers=[("Host", "localhost"), ("User-Agent", "own")]) as socket:
            assert await socket.take() == "own /agent"

    async def test_a_failure_of_a_hook_while_an_error_is_answered(self, app, caplog):
        app.config["PROPAGATE_EXCEPTIONS"] = False

        @app.websocket("/fails")
        async def fails():
            raise LookupError("of the view")

        @app.after_websocket
        async def after(response):
            raise ValueError("of the hook")

        async with Socket(app, "/fails") as socket:
            assert (await socket.denial())[0] == 500
        assert "of the view" in caplog.text and "of the hook" in caplog.text
        assert "Websocket finalizing failed with an error while handling an error" in caplog.text

    async def test_busy_threads_refuse(self, app):
        app.config.update(WORKER_THREADS=1, WORKER_QUEUE_LIMIT=0)
        gate = threading.Event()
        app.add_url_rule("/hold", "hold", lambda: str(gate.wait(5)))
        app.before_websocket(lambda: None)
        holding = asyncio.create_task(get(app, "/hold"))
        try:
            await wait_until(lambda: app._workers.lanes and app._workers.lanes[0].given)
            async with Socket(app, "/echo") as socket:
                status, headers, _ = await socket.denial()
            assert (status, headers["retry-after"]) == (503, "1")
        finally:
            gate.set()
            await holding


class TestNoWayAround:
    """A websocket's view is reached by its handshake alone: an HTTP request that says Upgrade passes no guard of it."""

    UPGRADE = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", "http://evil.example"),
    )

    @pytest.mark.parametrize("face", ["wsgi", "asgi"])
    @pytest.mark.parametrize("wrapped", [False, True])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
    def test_an_upgrade_over_http(self, face, wrapped, method):
        app, reached = Flask(__name__), []
        blueprint = Blueprint("b", __name__, url_prefix="/b")

        @app.websocket("/ws")
        @blueprint.websocket("/ws")
        async def secret():
            reached.append("view")
            return {"secret": 42}

        app.register_blueprint(blueprint)
        if wrapped:
            inner = app.wsgi_app
            app.wsgi_app = lambda environ, start_response: inner(environ, start_response)
        client = app.test_client(face=face)
        for path in ("/ws", "/b/ws"):
            assert client.open(path, method=method, headers=list(self.UPGRADE)).status_code in (400, 405)
        assert reached == []

    def test_a_rule_of_an_extension_takes_the_socket_of_the_environ(self):
        app = Flask(__name__)

        @app.route("/ws", websocket=True)
        def index():
            return request.environ.get("werkzeug.socket", "as in Flask")

        assert app.test_client().get("/ws", headers=list(self.UPGRADE)).text == "as in Flask"
        assert app.test_client().get("/ws").status_code == 400
