"""Clients that leave: CANCEL_ON_DISCONNECT, `request.is_disconnected()`, `request.disconnected`, streams."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import typing as t
import weakref
from collections.abc import AsyncIterator, Callable

import pytest
from edge import Exchange, get, wait_until
from guarded_servers import ASGI_SERVERS, GuardedServer, make_fixture
from werkzeug.routing import BaseConverter

from asyncflask import Flask, Response, g, has_request_context, request, watching

STYLES = ("sync", "async")


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config.update(WORKER_THREADS=2)
    return app


class Log(list[t.Any]):
    """What happened, in order; the teardown of each request is in it."""

    def __init__(self, app: Flask) -> None:
        super().__init__()

        @app.teardown_request
        async def teardown(error: BaseException | None) -> None:
            self.append(f"teardown {type(error).__name__}")


@pytest.fixture
def log(app: Flask) -> Log:
    return Log(app)


def serve(app: t.Any, exchange: Exchange) -> asyncio.Task[None]:
    return asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))


def add_waiting(app: Flask, log: Log, rule: str = "/", **options: t.Any) -> None:
    async def view(**arguments: t.Any) -> str:
        log.append("begins")
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            log.append(("cancelled", request.path))
            raise
        return "waited"

    app.add_url_rule(rule, "view", view, methods=["GET", "POST"], **options)


async def leave_at(app: Flask, log: Log, exchange: Exchange, event: t.Any = "begins") -> None:
    task = serve(app, exchange)
    await wait_until(lambda: event in log)
    exchange.left.set()
    await asyncio.wait_for(task, 5)
    assert task.cancelling() == 0


# -- cancellation


CANCELLED = ["begins", ("cancelled", "/"), "teardown CancelledError"]


@pytest.mark.parametrize("by", ["config", "route"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("threads", [False, True])
async def test_async_view_is_cancelled_and_torn_down_once(
    app: Flask, log: Log, by: str, method: str, threads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["CANCEL_ON_DISCONNECT"] = by == "config"
    if threads:  # a Runner moves the request
        app.before_request(lambda: None)
    add_waiting(app, log, **({"cancel_on_disconnect": True} if by == "route" else {}))
    exchange = Exchange(method, pieces=[b"a" * 10, b"b" * 10])
    if method == "POST":
        exchange.scope["headers"] = [(b"content-length", b"20")]
    with caplog.at_level(logging.WARNING):
        await leave_at(app, log, exchange)
    assert log == CANCELLED
    assert (exchange.messages, caplog.records) == ([], [])
    assert not has_request_context()


@pytest.mark.parametrize("options", [{}, {"cancel_on_disconnect": False}])
async def test_others_go_on(app: Flask, log: Log, options: t.Any) -> None:
    """By default; and where the route does not follow the configuration."""
    app.config["CANCEL_ON_DISCONNECT"] = bool(options)
    go_on = asyncio.Event()

    @app.get("/", **options)
    async def view() -> str:
        log.append("begins")
        await go_on.wait()
        log.append("ends")
        return "text"

    exchange = Exchange()
    task = serve(app, exchange)
    await wait_until(lambda: "begins" in log)
    exchange.left.set()
    await asyncio.sleep(0.02)
    assert not task.done()
    go_on.set()
    await task
    assert log == ["begins", "ends", "teardown NoneType"] and exchange.text == "text"


async def test_no_task_for_those_who_do_not_ask(app: Flask) -> None:
    tasks = []

    @app.get("/")
    @app.get("/other", endpoint="other", cancel_on_disconnect=True)
    async def view() -> str:
        tasks.append(len(asyncio.all_tasks()))
        return "text"

    before = len(asyncio.all_tasks())
    await get(app)
    await get(app, "/other")
    assert tasks == [before, before + 1]
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_sync_view_runs_to_its_end_before_the_teardown(app: Flask, log: Log) -> None:
    release = threading.Event()

    @app.get("/", cancel_on_disconnect=True)
    def view() -> str:
        log.append("begins")
        release.wait(5)
        log.append("ends")
        return "text"

    exchange = Exchange()
    task = serve(app, exchange)
    await wait_until(lambda: "begins" in log)
    exchange.left.set()
    await asyncio.sleep(0.02)
    assert not task.done()
    release.set()
    await asyncio.wait_for(task, 5)
    assert log[:2] == ["begins", "ends"] and len(log) == 3 and exchange.messages == []


@pytest.mark.parametrize("hook", ["before_request", "after_request", "teardown_request"])
@pytest.mark.parametrize("style", STYLES)
async def test_cancellation_in_each_hook(app: Flask, log: Log, hook: str, style: str) -> None:
    """The teardowns all run. What cleans up is not cut short."""

    async def wait(*args: t.Any) -> t.Any:
        log.append("begins")
        await asyncio.sleep(0.05)
        log.append("ends")
        return args[0] if args and args[0] is not None and hook == "after_request" else None

    getattr(app, hook)(wait)
    view: Callable[[], t.Any] = (lambda: "text") if style == "sync" else make_async(lambda: "text")
    app.add_url_rule("/", "view", view, cancel_on_disconnect=True)
    exchange = Exchange()
    await leave_at(app, log, exchange)
    assert len([event for event in log if event.startswith("teardown")]) == 1 and len(log) <= 3
    assert ("ends" in log) == (hook == "teardown_request")


def make_async(f: Callable[[], t.Any]) -> Callable[[], t.Any]:
    async def view() -> t.Any:
        await asyncio.sleep(0)
        return f()

    return view


async def test_view_that_goes_on_all_the_same(app: Flask, log: Log) -> None:
    @app.get("/", cancel_on_disconnect=True)
    async def view() -> str:
        log.append("begins")
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            log.append("goes on")
        return "text"

    await leave_at(app, log, Exchange())
    assert log == ["begins", "goes on", "teardown NoneType"]


async def test_server_that_cancels_gets_its_cancellation(app: Flask, log: Log) -> None:
    add_waiting(app, log, cancel_on_disconnect=True)
    for leaves in (False, True):
        log.clear()
        exchange = Exchange()
        task = serve(app, exchange)
        await wait_until(lambda: "begins" in log)
        if leaves:
            exchange.left.set()
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == CANCELLED


class Upper(BaseConverter):
    pass


@pytest.mark.parametrize("cancels", [False, True])
async def test_route_that_is_known_late(app: Flask, log: Log, cancels: bool) -> None:
    """A converter of the user's may block, so such a request is matched in its thread."""
    app.url_map.converters["own"] = Upper
    add_waiting(app, log, "/<own:name>", cancel_on_disconnect=cancels)
    exchange = Exchange(path="/a")
    task = serve(app, exchange)
    await wait_until(lambda: "begins" in log)
    exchange.left.set()
    await asyncio.wait([task], timeout=0.1)
    assert task.done() == cancels
    task.cancel()
    await asyncio.wait([task])


async def test_upload_that_breaks_off_before_the_view(app: Flask, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    add_waiting(app, log, cancel_on_disconnect=True)
    exchange = Exchange("POST", headers=[("Content-Length", "100")], pieces=[b"a", b"b"], ends=False)
    exchange.left.set()
    await asyncio.wait_for(serve(app, exchange), 5)
    assert len(log) == 1 and caplog.records == []


async def test_streamed_body_is_not_lost_to_the_watch(app: Flask, log: Log) -> None:
    """Read pieces are kept for the reader, but not without end."""

    @app.post("/", stream_body=True, cancel_on_disconnect=True)
    async def view() -> dict[str, int]:
        await asyncio.sleep(0.02)
        log.append(exchange.received)
        return {"size": sum([len(chunk) async for chunk in request.stream])}

    size = 64 * 1024
    exchange = Exchange("POST", headers=[("Transfer-Encoding", "chunked")], pieces=[bytes(size)] * 40)
    await exchange.run(app)
    assert exchange.json == {"size": 40 * size}
    assert log[0] <= 1 + watching.MOST_KEPT // size + 1


async def test_stream_begins_after_the_watch_of_the_view(app: Flask, log: Log) -> None:
    """The view's end ends its cancellation; then the stream has its own."""

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "piece"
            log.append("streams")
            await asyncio.sleep(20)
        finally:
            log.append("closed")

    @app.get("/", cancel_on_disconnect=True, response_timeout=0.05)
    async def view() -> Response:
        return Response(pieces())

    exchange = Exchange()
    task = serve(app, exchange)
    await wait_until(lambda: "streams" in log)
    await asyncio.sleep(0.1)
    assert not task.done()
    exchange.left.set()
    await asyncio.wait_for(task, 5)
    assert log == ["teardown NoneType", "streams", "closed"]


async def test_nothing_is_left_behind(app: Flask, log: Log) -> None:
    refs: list[t.Any] = []

    @app.get("/", cancel_on_disconnect=True)
    async def view() -> str:
        refs.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]
        refs.append(weakref.ref(request._reader.watch))  # type: ignore[arg-type,union-attr]
        log.append("begins")
        if request.args:
            await asyncio.sleep(20)
        return "text"

    gc.disable()
    try:
        await get(app)
        log.clear()
        await leave_at(app, log, Exchange(path="/?wait=1"))
        await asyncio.sleep(0.01)
        assert [ref() for ref in refs] == [None] * 4
    finally:
        gc.enable()


# -- asking


@pytest.mark.parametrize("stream_body", [False, True])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "20")], [("Transfer-Encoding", "chunked")]])
async def test_is_disconnected(app: Flask, headers: t.Any, stream_body: bool) -> None:
    """A look loses nothing of a body that is still to be read."""
    seen: list[t.Any] = []

    @app.route("/", methods=["GET", "POST"], stream_body=stream_body)
    async def view() -> dict[str, int]:
        seen.extend([await request.is_disconnected() for _ in range(3)])
        size = sum([len(chunk) async for chunk in request.stream])
        exchange.left.set()
        await asyncio.sleep(0.01)
        seen.append(await request.is_disconnected())
        return {"size": size}

    exchange = Exchange("POST" if headers else "GET", headers=headers)
    if headers:
        exchange.pieces = [b"x" * 5] * 4
    await exchange.run(app)
    assert exchange.json == {"size": 20 if headers else 0} and seen == [False, False, False, True]


async def test_is_disconnected_at_the_first_look(app: Flask) -> None:
    @app.get("/")
    async def view() -> str:
        return str(await request.is_disconnected())

    exchange = Exchange()
    exchange.left.set()
    await exchange.run(app)
    assert exchange.text == "True"


async def test_look_while_another_task_reads(app: Flask) -> None:
    @app.post("/", stream_body=True)
    async def view() -> dict[str, t.Any]:
        reader = asyncio.create_task(request.stream.aread())
        await asyncio.sleep(0)
        looks = [await request.is_disconnected() for _ in range(5)]
        go_on.set()
        return {"size": len(await reader), "looks": looks}

    go_on = asyncio.Event()
    exchange = Exchange("POST", headers=[("Transfer-Encoding", "chunked")], pieces=[b"x" * 5] * 4)
    receive = exchange.receive

    async def slow_receive() -> t.Any:
        if exchange.received:
            await go_on.wait()
        return await receive()

    exchange.receive = slow_receive  # type: ignore[method-assign]
    await exchange.run(app)
    assert exchange.json == {"size": 20, "looks": [False] * 5}


async def test_departure(app: Flask, log: Log) -> None:
    @app.get("/")
    async def view() -> str:
        departure = request.disconnected
        assert not departure.is_set() and request.disconnected is departure
        log.append("begins")
        await departure
        await departure.wait()
        log.append(await request.is_disconnected())
        return "text"

    await leave_at(app, log, Exchange())
    assert log == ["begins", True, "teardown NoneType"]


async def test_departure_is_told_at_the_requests_end_too(app: Flask) -> None:
    tasks = []

    @app.get("/")
    async def view() -> str:
        tasks.append(asyncio.create_task(request.disconnected.wait()))
        await asyncio.sleep(0)
        return "text"

    assert (await get(app)).text == "text"
    await asyncio.wait_for(tasks[0], 1)


async def test_sync_view_may_ask(app: Flask) -> None:
    @app.get("/")
    def view() -> str:
        return str(app.ensure_sync(request.is_disconnected)())

    assert (await get(app)).text == "False"


def test_wsgi_does_not_know(app: Flask) -> None:
    @app.get("/", cancel_on_disconnect=True)
    async def view() -> dict[str, bool]:
        return {"gone": await request.is_disconnected(), "set": request.disconnected.is_set()}

    assert app.test_client().get("/").json == {"gone": False, "set": False}


@pytest.mark.parametrize("event", ["http.request", "http.disconnect"])
async def test_server_that_repeats_itself(app: Flask, event: str) -> None:
    """After a body's end, one that answers at once each time does not hold the loop."""

    @app.get("/")
    async def view() -> str:
        return str(await request.is_disconnected())

    exchange = Exchange()

    async def receive() -> t.Any:
        return {"type": event}

    exchange.receive = receive  # type: ignore[method-assign]
    await exchange.run(app)
    assert exchange.text == str(event == "http.disconnect")


async def test_g_of_a_cancelled_request_is_its_own(app: Flask, log: Log) -> None:
    seen = []

    @app.get("/<int:number>", cancel_on_disconnect=True)
    async def view(number: int) -> str:
        g.number = number
        log.append(("begins", number))
        try:
            await asyncio.sleep(20)
        finally:
            seen.append((number, g.number))
        return "text"

    exchanges = [Exchange(path=f"/{number}") for number in range(20)]
    tasks = [serve(app, exchange) for exchange in exchanges]
    await wait_until(lambda: len(log) == 20)
    for exchange in exchanges:
        exchange.left.set()
    await asyncio.gather(*tasks)
    assert sorted(seen) == [(number, number) for number in range(20)]


# -- real servers


server = make_fixture(ASGI_SERVERS)


def leave(server: GuardedServer, method: str, path: str, *headers: str, event: str, body: bytes = b"") -> None:
    """Ask, wait until the event is logged, and hang up."""
    before = server.events.count(event)
    with server.send(method, path, *headers, body=body):
        server.wait_for(event, before + 1)


@pytest.mark.parametrize("name", ["wait", "ask", "departure"])
def test_client_leaves_an_async_view(server: GuardedServer, name: str) -> None:
    leave(server, "GET", f"/{name}", event=f"{name} begins")
    server.wait_for(f"{name} ends", seconds=2)
    cancelled = "Cancelled" if server.name == "hypercorn-trio" else "CancelledError"
    server.wait_for(f"teardown /{name} {cancelled if name == 'wait' else 'NoneType'}")
    assert "Traceback" not in server.read_log()


def test_client_leaves_an_upload_that_is_not_read(server: GuardedServer) -> None:
    leave(server, "POST", "/wait-with-body", "Content-Length: 99", event="wait-with-body begins", body=b"x" * 9)
    server.wait_for("wait-with-body ends", seconds=2)
    assert "Traceback" not in server.read_log()


def test_client_leaves_a_sync_view(server: GuardedServer) -> None:
    leave(server, "GET", "/sync-wait", event="sync-wait begins")
    server.wait_for("sync-wait ends")
    deadline = time.monotonic() + 5
    while not (found := [event for event in server.events if event.startswith("teardown /sync-wait")]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    events = server.events
    assert len(found) == 1 and events.index("sync-wait ends") < events.index(found[0])


@pytest.mark.parametrize("kind", STYLES)
def test_generator_of_a_stream_is_closed_within_a_second(server: GuardedServer, kind: str) -> None:
    before = server.events.count(f"closed /stream/{kind}")
    with server.send("GET", f"/stream/{kind}") as wire:
        received = b""
        while b"piece" not in received:
            received += wire.recv(1000)
    assert server.wait_for(f"closed /stream/{kind}", before + 1) < 1.5  # the machine may be busy
