"""WSGI middleware around `app.wsgi_app` also sees requests that come over ASGI."""

from __future__ import annotations

import asyncio
import logging
import typing as t
import weakref
from functools import partial
from itertools import islice

import httpx
import pytest
from edge import Exchange, get, wait_until
from werkzeug.middleware.proxy_fix import ProxyFix

from asyncflask import Flask, request, sse, stream_with_context


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)

    @app.get("/remote")
    def remote() -> dict[str, t.Any]:
        return {"addr": request.remote_addr, "scheme": request.scheme, "seen": request.environ.get("seen", 0)}

    @app.post("/loop")
    async def loop() -> dict[str, t.Any]:
        return {"loop": id(asyncio.get_running_loop()), "body": request.get_data(as_text=True)}

    return app


class Count:
    """Middleware that counts itself in the environ."""

    def __init__(self, wrapped: t.Any) -> None:
        self.wrapped = wrapped

    def __call__(self, environ: dict[str, t.Any], start_response: t.Any) -> t.Any:
        environ["seen"] = environ.get("seen", 0) + 1
        return self.wrapped(environ, start_response)


def client(app: Flask) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_proxy_fix_over_asgi(app: Flask) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    async with client(app) as http:
        answer = await http.get("/remote", headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
    assert answer.json() == {"addr": "192.0.2.7", "scheme": "https", "seen": 0}


class Counting(Flask):
    def wsgi_app(self, environ: t.Any, start_response: t.Any) -> t.Any:
        environ["seen"] = environ.get("seen", 0) + 1
        return super().wsgi_app(environ, start_response)


def make_counting() -> Flask:
    app = Counting(__name__)
    app.add_url_rule("/seen", view_func=lambda: {"seen": request.environ["seen"]}, endpoint="seen")
    return app


async def test_a_subclass_that_overrides_it() -> None:
    app = make_counting()
    async with client(app) as http:
        assert (await http.get("/seen")).json() == {"seen": 1}
        app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
        assert (await http.get("/seen")).json() == {"seen": 2}


def test_an_application_of_such_a_subclass_is_freed() -> None:
    app = make_counting()
    assert app.test_client().get("/seen").get_json() == {"seen": 1}
    left = weakref.ref(app)
    del app
    assert left() is None


async def test_an_agent_that_patches_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Flask.wsgi_app
    monkeypatch.setattr(Flask, "wsgi_app", lambda app, *rest: Count(partial(plain, app))(*rest))
    app = Flask(__name__)
    app.add_url_rule("/seen", view_func=lambda: {"seen": request.environ["seen"]}, endpoint="seen")
    async with client(app) as http:
        assert (await http.get("/seen")).json() == {"seen": 1}


async def test_several_layers_and_both_faces(app: Flask) -> None:
    app.wsgi_app = Count(Count(app.wsgi_app))  # type: ignore[method-assign]
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
    async with client(app) as http:
        assert (await http.get("/remote")).json()["seen"] == 3
    assert app.test_client().get("/remote").get_json()["seen"] == 3


async def test_async_views_behind_it_run_on_the_serving_loop(app: Flask) -> None:
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]

    async def chunks() -> t.AsyncIterator[bytes]:
        yield b"in "
        yield b"pieces"

    async with client(app) as http:
        answer = await http.post("/loop", content=chunks())
    assert answer.json() == {"loop": id(asyncio.get_running_loop()), "body": "in pieces"}


async def test_unwrapped_again_is_native(app: Flask) -> None:
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
    del app.wsgi_app
    async with client(app) as http:
        assert (await http.get("/remote")).json()["seen"] == 0


async def test_start_up_says_so(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, t.Any]:
        return events.pop(0)

    async def send(message: dict[str, t.Any]) -> None:
        sent.append(message["type"])

    with caplog.at_level(logging.WARNING):
        await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [record.message for record in caplog.records if "app.asgi_app" in record.message]


# What the edge guards is guarded here too: raw scopes, since a client library would tidy them up.


async def exchange(app: Flask, headers: list[tuple[bytes, bytes]], pieces: list[bytes], path: str = "/seen") -> t.Any:
    events = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]
    sent: list[dict[str, t.Any]] = []

    async def receive() -> dict[str, t.Any]:
        if events:
            return events.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, t.Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost"), *headers], "client": ("192.0.2.1", 1), "server": ("localhost", 80),
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 5)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture
def guarded(app: Flask) -> Flask:
    @app.post("/seen")
    def seen() -> dict[str, t.Any]:
        return {"addr": request.remote_addr, "cookies": request.cookies, "size": len(request.get_data())}

    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return app


async def test_names_with_underscores_do_not_pose_as_others(guarded: Flask) -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.7"), (b"x_forwarded_for", b"192.0.2.66"), (b"content-length", b"0")]
    status, body = await exchange(guarded, headers, [b""])
    assert (status, b"192.0.2.7" in body, b"192.0.2.66" in body) == (200, True, False)


async def test_split_cookies_are_joined(guarded: Flask) -> None:
    headers = [(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"content-length", b"0")]
    assert b'"cookies":{"a":"1","b":"2"}' in (await exchange(guarded, headers, [b""]))[1]


async def test_body_shorter_than_declared_is_400(guarded: Flask) -> None:
    assert (await exchange(guarded, [(b"content-length", b"10")], [b"12345"]))[0] == 400


async def test_body_that_stalls_is_408(guarded: Flask) -> None:
    guarded.config["BODY_TIMEOUT"] = 0.05
    assert (await exchange(guarded, [(b"content-length", b"10")], []))[0] == 408


async def test_its_context_does_not_reach_the_servers_task(guarded: Flask) -> None:
    await exchange(guarded, [(b"content-length", b"0")], [b""])
    async with guarded.app_context():
        assert await guarded.ensure_async(lambda: "run")() == "run"


async def test_head_and_not_modified_have_no_body(guarded: Flask) -> None:
    @guarded.get("/text")
    def text() -> t.Any:
        return "text", 304 if "If-None-Match" in request.headers else 200

    async with client(guarded) as http:
        head = await http.head("/text")
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "4", b"")
        assert (await http.get("/text", headers={"If-None-Match": '"x"'})).status_code == 304


async def test_stream_of_the_body_it_reads(guarded: Flask) -> None:
    @guarded.post("/echo")
    def echo() -> t.Any:
        stream = request.environ["wsgi.input"]
        first = stream.read(2)
        return iter([first, *iter(lambda: stream.read(2), b"")])

    assert (await exchange(guarded, [(b"content-length", b"6")], [b"ab", b"cd", b"ef"], "/echo"))[1] == b"abcdef"


class TestAsyncBodies:
    """Behind middleware that passes it on, an async body is streamed on the loop: no thread waits for its pieces."""

    @pytest.fixture
    def app(self) -> Flask:
        app = Flask(__name__)
        app.config["WORKER_THREADS"] = 2
        app.extensions["log"] = []

        @app.teardown_appcontext
        def close(error: BaseException | None) -> None:
            app.extensions["log"].append("teardown")

        @app.get("/feed")
        async def feed() -> t.Any:
            async def count() -> t.AsyncIterator[str]:
                try:
                    for number in range(1000):
                        yield str(number)
                        await asyncio.sleep(0.01)
                finally:
                    app.extensions["log"].append("closed")

            return sse(count(), ping=None) if request.args.get("sse") else stream_with_context(count())

        app.add_url_rule("/", "index", lambda: "index")
        return app

    @staticmethod
    def touch(wrapped: t.Any) -> t.Any:
        return lambda environ, start_response: iter(list(islice(wrapped(environ, start_response), 2)))

    @pytest.mark.parametrize("query", ["", "?sse=1"])
    async def test_streams_hold_no_thread(self, app: Flask, query: str) -> None:
        inner = app.wsgi_app
        app.wsgi_app = lambda environ, start_response: inner(environ, start_response)  # type: ignore[method-assign]
        for _ in range(2):
            feeds = [Exchange("GET", f"/feed{query}") for _ in range(6)]
            tasks = [asyncio.create_task(app(feed.scope, feed.receive, feed.send)) for feed in feeds]
            await wait_until(lambda feeds=feeds: all(len(feed.messages) > 3 for feed in feeds))
            assert (await get(app, "/")).text == "index"
            for feed in feeds:
                feed.left.set()
            async with asyncio.timeout(5):
                await asyncio.gather(*tasks)
            assert (await get(app, "/")).text == "index"
        assert app.extensions["log"].count("closed") == 12

    async def test_middleware_that_reads_it_gets_bytes(self, app: Flask) -> None:
        app.wsgi_app = self.touch(app.wsgi_app)  # type: ignore[method-assign]
        assert (await get(app, "/feed")).text == "01"

    async def test_head(self, app: Flask) -> None:
        app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
        assert (await Exchange("HEAD", "/feed").run(app)).body == b""

    async def test_middleware_that_never_starts(self, app: Flask) -> None:
        app.wsgi_app = lambda environ, start_response: []  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="without a call of start_response"):
            await get(app, "/")


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
def test_a_class_that_is_patched_after_its_application_was_made(face: str) -> None:
    class Patched(Flask):
        pass

    app = Patched(__name__)
    app.add_url_rule("/", "index", lambda: {"seen": request.environ.get("seen", 0)})
    client = app.test_client(face=face)
    assert client.get("/").json == {"seen": 0}
    before = Patched.wsgi_app
    Patched.wsgi_app = lambda self, environ, start: before(self, {**environ, "seen": 1}, start)  # type: ignore[method-assign]
    assert client.get("/").json == {"seen": 1}
    del Patched.wsgi_app
    assert client.get("/").json == {"seen": 0}
