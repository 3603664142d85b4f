"""RESPONSE_TIMEOUT: 503 in time, never a silent cut; sync views end in their thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import typing as t
from collections.abc import AsyncIterator, Callable

import pytest
from edge import Exchange, get, post, wait_until
from guarded_servers import ASGI_SERVERS, GuardedServer, make_fixture, read_answer
from werkzeug.routing import BaseConverter

from asyncflask import Flask, Response, request

SHORT, LONG = 0.05, 20
HELD = 5  # seconds that a thread is held at most


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config.update(WORKER_THREADS=1)
    return app


@pytest.fixture
def events(app: Flask) -> list[t.Any]:
    events: list[t.Any] = []

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        events.append(f"teardown {type(error).__name__}")

    return events


def serve(app: t.Any, exchange: Exchange) -> asyncio.Task[None]:
    return asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))


def add_slow(app: Flask, events: list[t.Any], rule: str = "/", **options: t.Any) -> None:
    async def slow(**arguments: t.Any) -> str:
        try:
            await asyncio.sleep(LONG)
        finally:
            events.append(("ends", request.path))
        return "late"

    app.add_url_rule(rule, "slow", slow, methods=["GET", "POST"], **options)


class Held:
    """A sync view that waits until the test lets it go."""

    def __init__(self, app: Flask, events: list[t.Any], **options: t.Any) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.response = Response("late")
        self.response.call_on_close(lambda: events.append("closed"))

        def held() -> Response:
            self.begun.set()
            self.release.wait(HELD)
            events.append("ends")
            return self.response

        app.add_url_rule("/held", "held", held, **options)


# -- async views


@pytest.mark.parametrize("by", ["config", "route"])
@pytest.mark.parametrize("moves", [False, True])
async def test_async_view_is_cancelled_and_answered_with_503(
    app: Flask, events: list[t.Any], by: str, moves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    timeout = 0.5 if moves else SHORT  # a thread may be slow to begin on a busy machine
    app.config["RESPONSE_TIMEOUT"] = timeout if by == "config" else LONG
    if moves:
        app.before_request(lambda: None)
    add_slow(app, events, **({"response_timeout": timeout} if by == "route" else {}))
    with caplog.at_level(logging.WARNING):
        answer = await get(app)
    assert answer.status == 503 and f"{timeout} seconds" in answer.text
    assert events == [("ends", "/"), "teardown NoneType"]
    (record,) = caplog.records
    assert "'slow'" in record.getMessage() and record.exc_info is None


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_error_handler_answers(app: Flask, events: list[t.Any], style: str) -> None:
    """It has time of its own."""

    def handle(error: t.Any) -> t.Any:
        return {"error": error.code}, error.code

    async def handle_async(error: t.Any) -> t.Any:
        await asyncio.sleep(2 * SHORT)
        return handle(error)

    app.register_error_handler(503, handle if style == "sync" else handle_async)
    app.after_request(lambda response: response.headers.add("X-After", "1") or response)
    add_slow(app, events, response_timeout=SHORT)
    answer = await get(app)
    assert (answer.status, answer.json, answer.headers["x-after"]) == (503, {"error": 503}, "1")


@pytest.mark.parametrize(("hook", "status"), [("before_request", 503), ("after_request", 500)])
async def test_async_hooks_count(app: Flask, events: list[t.Any], hook: str, status: int) -> None:
    """An HTTP error in an after_request hook is a 500, as in Flask."""
    waits = [LONG]

    async def wait(*args: t.Any) -> t.Any:
        await asyncio.sleep(waits.pop() if waits else 0)
        return args[0] if args else None

    getattr(app, hook)(wait)
    app.add_url_rule("/", "view", lambda: "text", response_timeout=SHORT)
    assert (await get(app)).status == status
    assert len(events) == 1


async def test_teardown_is_not_cut_short(app: Flask, events: list[t.Any]) -> None:
    @app.teardown_request
    async def slow_teardown(error: BaseException | None) -> None:
        await asyncio.sleep(3 * SHORT)
        events.append("torn down")

    app.add_url_rule("/", "view", lambda: "text", response_timeout=SHORT)
    assert (await get(app)).text == "text"
    assert events[0] == "torn down"


@pytest.mark.parametrize("options", [{}, {"response_timeout": None}])
async def test_without_a_limit(app: Flask, options: t.Any) -> None:
    if options:
        app.config["RESPONSE_TIMEOUT"] = SHORT

    @app.get("/", **options)
    async def view() -> str:
        await asyncio.sleep(2 * SHORT)
        return "text"

    assert (await get(app)).text == "text"


async def test_timeouts_of_the_view_itself_are_its_own(app: Flask) -> None:
    @app.get("/", response_timeout=LONG)
    async def view() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(LONG)
        except TimeoutError:
            return "own"
        return "none"

    @app.get("/error", response_timeout=LONG)
    async def error() -> str:
        raise TimeoutError("own")

    assert (await get(app)).text == "own"
    assert (await get(app, "/error")).status == 500


async def test_stream_may_take_longer(app: Flask) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(2 * SHORT)
        yield "b"

    @app.get("/", response_timeout=SHORT)
    async def view() -> Response:
        return Response(pieces())

    assert (await get(app)).text == "ab"


async def test_time_of_an_upload_does_not_count(app: Flask, events: list[t.Any]) -> None:
    """It is BODY_TIMEOUT's."""

    @app.post("/", response_timeout=4 * SHORT)
    async def view() -> dict[str, int]:
        return {"size": len(request.get_data())}

    exchange = Exchange("POST", headers=[("Transfer-Encoding", "chunked")], pieces=[b"x"] * 5)
    receive = exchange.receive

    async def slow_receive() -> t.Any:
        await asyncio.sleep(SHORT)
        return await receive()

    exchange.receive = slow_receive  # type: ignore[method-assign]
    await exchange.run(app)
    assert exchange.json == {"size": 5}


async def test_streamed_upload_counts(app: Flask, events: list[t.Any]) -> None:
    @app.post("/", response_timeout=SHORT, stream_body=True)
    async def view() -> str:
        return str(len(await request.stream.aread()))

    exchange = Exchange("POST", headers=[("Transfer-Encoding", "chunked")], pieces=[b"x"], ends=False)
    await exchange.run(app)
    assert exchange.status == 503


class Own(BaseConverter):
    pass


async def test_route_that_is_known_late(app: Flask, events: list[t.Any]) -> None:
    app.url_map.converters["own"] = Own
    add_slow(app, events, "/<own:name>", response_timeout=SHORT)
    app.add_url_rule("/long/<own:name>", "long", make_slow(3 * SHORT))
    assert (await get(app, "/a")).status == 503
    assert (await get(app, "/long/a")).text == "text"


def make_slow(seconds: float) -> Callable[..., t.Any]:
    def view(name: str) -> str:
        time.sleep(seconds)
        return "text"

    return view


# -- sync views


async def test_sync_view_is_answered_while_it_goes_on(
    app: Flask, events: list[t.Any], caplog: pytest.LogCaptureFixture
) -> None:
    held = Held(app, events, response_timeout=SHORT)
    exchange = Exchange(path="/held")
    with caplog.at_level(logging.WARNING):
        task = serve(app, exchange)
        await wait_until(lambda: exchange.messages and exchange.complete)
    assert exchange.status == 503 and not task.done() and events == []
    assert "'held'" in caplog.text
    held.release.set()
    await task
    assert sorted(events) == ["closed", "ends", "teardown NoneType"] and events[0] == "ends"
    assert exchange.status == 503 and len(exchange.messages) == 2


async def test_its_thread_is_not_free_until_it_ends(app: Flask, events: list[t.Any]) -> None:
    """What waited for the thread too long is answered, and never begun."""
    held = Held(app, events, response_timeout=SHORT)
    ran = []
    app.add_url_rule("/next", "next", lambda: ran.append(1) or "text", response_timeout=SHORT)
    app.add_url_rule("/free", "free", lambda: "text")
    first = Exchange(path="/held")
    task = serve(app, first)
    await asyncio.to_thread(held.begun.wait, HELD)
    second = Exchange(path="/next")
    waiting = serve(app, second)
    await wait_until(lambda: first.messages and second.messages and second.complete)
    assert (first.status, second.status) == (503, 503)
    free = serve(app, third := Exchange(path="/free"))
    held.release.set()
    await asyncio.gather(task, waiting, free)
    assert ran == [] and third.text == "text"


async def test_sync_view_in_time(app: Flask, events: list[t.Any]) -> None:
    held = Held(app, events, response_timeout=LONG)
    held.release.set()
    assert (await get(app, "/held")).text == "late"
    assert [handle for handle in pending_timers() if "_note_time" in repr(handle)] == []


def pending_timers() -> list[asyncio.TimerHandle]:
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [handle for handle in scheduled if not handle.cancelled()]


async def test_sync_view_after_a_slow_async_hook(app: Flask, events: list[t.Any]) -> None:
    """The time is one for the whole request."""

    @app.before_request
    async def hook() -> None:
        await asyncio.sleep(SHORT)

    held = Held(app, events, response_timeout=2 * SHORT)
    exchange = Exchange(path="/held")
    start = time.monotonic()
    task = serve(app, exchange)
    await wait_until(lambda: exchange.messages and exchange.complete)
    assert exchange.status == 503 and time.monotonic() - start >= 2 * SHORT
    held.release.set()
    await task


async def test_client_that_left_a_late_sync_view(app: Flask, events: list[t.Any]) -> None:
    held = Held(app, events, response_timeout=SHORT, cancel_on_disconnect=True)
    exchange = Exchange(path="/held")
    task = serve(app, exchange)
    await wait_until(lambda: exchange.messages and exchange.complete)
    exchange.left.set()
    held.release.set()
    await asyncio.wait_for(task, HELD)
    assert events[0] == "ends" and exchange.status == 503


# -- WSGI


def test_wsgi_async_steps_time_out_and_sync_ones_cannot(app: Flask, events: list[t.Any]) -> None:
    add_slow(app, events, response_timeout=SHORT)
    app.add_url_rule("/sync/<name>", "sync", make_slow(2 * SHORT), response_timeout=SHORT)
    client = app.test_client()
    assert client.get("/").status_code == 503
    assert events == [("ends", "/"), "teardown NoneType"]
    assert client.get("/sync/a").text == "text"


def test_wsgi_by_config(app: Flask, events: list[t.Any]) -> None:
    app.config["RESPONSE_TIMEOUT"] = SHORT
    add_slow(app, events)
    assert app.test_client().post("/", data=b"x").status_code == 503


async def test_through_wrapped_wsgi_middleware(app: Flask, events: list[t.Any]) -> None:
    face = app.wsgi_app
    app.wsgi_app = lambda *args: face(*args)  # type: ignore[method-assign]
    add_slow(app, events, response_timeout=SHORT)
    assert (await post(app, "/", b"x")).status == 503


# -- real servers


server = make_fixture(ASGI_SERVERS)


@pytest.mark.parametrize("path", ["/slow", "/sync-slow"])
def test_late_response(server: GuardedServer, path: str) -> None:
    begun = time.monotonic()
    status, body = read_answer(server.send("GET", path))
    assert status == 503 and b"0.2 seconds" in body and time.monotonic() - begun < 3
    server.wait_for(f"{path[1:]} ends")
    server.wait_for(f"teardown {path} NoneType")
    assert server.get("/events").status == 200
