"""Server-sent events: wire format, pings, and every way in which a stream ends; on both faces and real servers."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
import typing as t
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import browser
import pytest
from edge import Exchange, get, wait_until
from live import ASGI, poll, serve_live

import asyncflask.sse  # noqa: F401  # the module's import does not hide the function
from asyncflask import Flask, Response, ServerSentEvent, after_this_request, g, request, session, sse
from asyncflask.sse import _Feed

STYLES = ("sync", "async")
PING = b":\n\n"
var: ContextVar[str] = ContextVar("var", default="unset")


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.testing = True
    app.config.update(SECRET_KEY="key", WORKER_THREADS=4)
    return app


def add(app: Flask, view: Callable[[], t.Any], style: str = "async", rule: str = "/") -> None:
    async def async_view() -> t.Any:
        return view()

    app.add_url_rule(rule, rule, async_view if style == "async" else view)


def make_source(kind: str, *items: t.Any) -> t.Any:
    async def generate() -> AsyncIterator[t.Any]:
        for item in items:
            await asyncio.sleep(0)
            yield item

    return generate() if kind == "async" else iter(items)


def start(app: t.Any, exchange: Exchange) -> asyncio.Task[None]:
    return asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))


# The wire format


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ServerSentEvent("text"), "data: text\n\n"),
        (ServerSentEvent(""), "data: \n\n"),
        (ServerSentEvent("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (ServerSentEvent("a\x0bb\x85c\u2028d"), "data: a\x0bb\x85c\u2028d\n\n"),  # no line ends to a client
        (ServerSentEvent("grün 🟢"), "data: grün 🟢\n\n"),
        (ServerSentEvent({"a": [1, "ü"]}), 'data: {"a": [1, "\\u00fc"]}\n\n'),
        (ServerSentEvent(5), "data: 5\n\n"),
        (ServerSentEvent(id="7"), "id: 7\n\n"),
        (ServerSentEvent("x", id=""), "id: \ndata: x\n\n"),
        (ServerSentEvent(retry=0), "retry: 0\n\n"),
        (ServerSentEvent(comment="a\nb"), ": a\n: b\n\n"),
        (
            ServerSentEvent(" x", event="tick", id="1", retry=2500, comment="hello"),
            ": hello\nevent: tick\nid: 1\nretry: 2500\ndata:  x\n\n",
        ),
    ],
)
def test_wire_format(event: ServerSentEvent, expected: str) -> None:
    assert event.encode() == expected.encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "a\nb"},
        {"event": "a\r"},
        {"id": "1\ndata: forged"},
        {"id": "1\r"},
        {"id": "1\0"},
        {"retry": -1},
        {"retry": 1.5},
        {"retry": True},
    ],
)
def test_fields_that_no_client_could_read(fields: dict[str, t.Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        ServerSentEvent("x", **fields)


def test_repr() -> None:
    assert repr(ServerSentEvent("a", id="1")) == "ServerSentEvent(data='a', id='1')"


# The response


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
def test_items_on_both_faces(app: Flask, kind: str, style: str, face: str) -> None:
    items = ("one\ntwo", {"a": 1}, [1], ServerSentEvent("x", event="e", id="1"))
    add(app, lambda: sse(make_source(kind, *items), retry=500), style)
    answer = app.test_client(face=face).get("/")
    assert answer.text == (
        'retry: 500\n\ndata: one\ndata: two\n\ndata: {"a": 1}\n\ndata: [1]\n\nevent: e\nid: 1\ndata: x\n\n'
    )
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers


def test_headers_and_the_applications_json(app: Flask) -> None:
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # of the default provider
    headers = {"Cache-Control": "no-cache", "X-A": "b"}
    add(app, lambda: sse(make_source("async", {"ü": 1}), headers=headers))
    answer = app.test_client().get("/")
    assert (answer.headers["Cache-Control"], answer.headers["X-A"]) == ("no-cache", "b")
    assert answer.data == PING + 'data: {"ü": 1}\n\n'.encode()


def test_response_is_the_applications_and_passes_hooks(app: Flask) -> None:
    class Own(Response):
        pass

    app.response_class = Own

    def view() -> Response:
        response = sse(make_source("async", "x"))
        assert type(response) is Own
        response.status_code = 203

        @after_this_request
        def mark(response: Response) -> Response:
            response.headers["X-Hook"] = "yes"
            return response

        return response

    add(app, view)
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["X-Hook"]) == (203, "yes")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_head_does_not_begin(app: Flask, kind: str, style: str) -> None:
    ended: list[t.Any] = []
    add(app, lambda: sse(make_endless(kind, ended)), style)
    answer = await Exchange("HEAD").run(app)
    assert (answer.body, answer.headers["content-type"], ended) == (b"", "text/event-stream", [])


@pytest.mark.parametrize("kind", STYLES)
async def test_behind_wsgi_middleware(app: Flask, kind: str) -> None:
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start_response: inner(environ, start_response)  # type: ignore[method-assign]
    add(app, lambda: sse(make_source(kind, "a", "b")))
    assert (await get(app)).body == b":\n\ndata: a\n\ndata: b\n\n"


async def test_response_timeout_is_for_the_head(app: Flask) -> None:
    async def generate() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0.04)
            yield f"{number}"

    app.config["RESPONSE_TIMEOUT"] = 0.05
    add(app, lambda: sse(generate()))
    assert (await get(app)).body.endswith(b"data: 2\n\n")


@pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 5, None, make_source])
def test_sources_that_are_none(app: Flask, source: t.Any) -> None:
    with app.test_request_context(), pytest.raises(TypeError, match="iterable of events"):
        sse(source)


def test_outside_of_a_request(app: Flask) -> None:
    with app.app_context(), pytest.raises(RuntimeError, match="'sse' can only be used while a request context"):
        sse(iter(()))


@pytest.mark.parametrize(
    ("header", "expected"), [(None, None), ("", ""), ("7", "7"), ("grün".encode().decode("latin-1"), "grün")]
)
def test_last_event_id(app: Flask, header: str | None, expected: str | None) -> None:
    headers = {} if header is None else {"Last-Event-ID": header}
    with app.test_request_context(headers=headers):
        assert request.last_event_id == expected


# What a source sees


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
def test_contexts_are_there(app: Flask, kind: str, style: str, face: str) -> None:
    def see() -> str:
        g.count += 1
        return f"{request.path} {session['user']} {g.count} {var.get()}"

    def generate() -> Iterator[str]:
        yield see()
        var.set("from the source")
        yield see()

    async def generate_async() -> AsyncIterator[str]:
        for item in generate():
            await asyncio.sleep(0)
            yield item

    def view() -> Response:
        session["user"] = "me"
        g.count = 0
        var.set("from the view")
        return sse(generate_async() if kind == "async" else generate())

    add(app, view, style)
    expected = b":\n\ndata: / me 1 from the view\n\ndata: / me 2 from the source\n\n"
    assert app.test_client(face=face).get("/").data == expected


async def test_sync_source_runs_in_the_views_thread(app: Flask) -> None:
    threads = []

    def generate() -> Iterator[str]:
        try:
            for number in range(3):
                threads.append(threading.get_ident())
                yield f"{number}"
        finally:
            threads.append(threading.get_ident())

    def view() -> Response:
        threads.append(threading.get_ident())
        return sse(generate())

    add(app, view, "sync")
    await get(app)
    assert len(threads) == 5
    assert {threading.get_ident()}.isdisjoint(threads) and len(set(threads)) == 1


async def test_sync_source_of_an_async_view_stays_off_the_loop(app: Flask) -> None:
    threads = []

    def generate() -> Iterator[str]:
        for number in range(3):
            threads.append(threading.get_ident())
            yield f"{number}"

    add(app, lambda: sse(generate()))
    await get(app)
    assert len(threads) == 3
    assert {threading.get_ident()}.isdisjoint(threads) and len(set(threads)) == 1


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("style", STYLES)
def test_async_source_calls_sync_code_between_pings(app: Flask, style: str, face: str) -> None:
    async def generate() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0.03)
            yield await app.ensure_async(lambda number=number: f"{request.path}{number}")()

    add(app, lambda: sse(generate(), ping=0.01), style)
    data = app.test_client(face=face).get("/").data
    assert data.count(PING) > 3
    assert data.replace(PING, b"") == b"data: /0\n\ndata: /1\n\ndata: /2\n\n"


async def test_teardowns_run_after_the_stream(app: Flask) -> None:
    seen = []

    async def generate() -> AsyncIterator[str]:
        seen.append("source")
        yield ""

    app.teardown_request(lambda error: seen.append("teardown"))
    add(app, lambda: sse(generate()))
    await get(app)
    assert seen == ["teardown", "source", "teardown"]  # as with stream_with_context


# Pings


@pytest.mark.parametrize("style", STYLES)
async def test_ping_leaves_the_source_alone(app: Flask, style: str) -> None:
    waiting: list[asyncio.Future[str]] = []
    cancelled = []

    async def generate() -> AsyncIterator[str]:
        waiting.append(asyncio.get_running_loop().create_future())
        try:
            yield await waiting[0]
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    add(app, lambda: sse(generate(), ping=0.01), style)
    exchange = Exchange()
    task = start(app, exchange)
    await wait_until(lambda: exchange.body.count(PING) >= 4)
    waiting[0].set_result("at last")
    await task
    assert exchange.complete and not cancelled
    assert exchange.body.replace(PING, b"") == b"data: at last\n\n"


async def test_ping_while_a_sync_source_sleeps(app: Flask) -> None:
    wake = threading.Event()

    def generate() -> Iterator[str]:
        yield "first"
        wake.wait(5)
        yield "last"

    add(app, lambda: sse(generate(), ping=0.01), "sync")
    exchange = Exchange()
    task = start(app, exchange)
    await wait_until(lambda: exchange.body.count(PING) >= 4)
    wake.set()
    await task
    assert exchange.body.replace(PING, b"") == b"data: first\n\ndata: last\n\n"


async def test_no_ping_without_need(app: Flask) -> None:
    async def generate() -> AsyncIterator[str]:
        for number in range(5):
            await asyncio.sleep(0.02)
            yield f"{number}"

    add(app, lambda: sse(generate(), ping=None), rule="/none")
    add(app, lambda: sse(generate(), ping=5), rule="/late")
    for path in ("/none", "/late"):
        assert (await get(app, path)).body.count(PING) == 1  # which opens the stream


async def test_pings_do_not_pile_up_for_a_slow_client(app: Flask) -> None:
    async def generate() -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield ""

    add(app, lambda: sse(generate(), ping=0.005))
    exchange = Exchange()
    exchange.wire_open.clear()
    task = start(app, exchange)
    await exchange.started.wait()
    await asyncio.sleep(0.1)
    assert len(exchange.messages) == 1
    exchange.wire_open.set()
    await wait_until(lambda: len(exchange.messages) > 3)
    exchange.left.set()
    await task


@pytest.mark.parametrize("kind", STYLES)
async def test_next_event_is_asked_for_once_the_last_was_sent(app: Flask, kind: str) -> None:
    made = []

    def generate() -> Iterator[str]:
        for number in range(4):
            made.append(number)
            yield f"{number}"

    async def generate_async() -> AsyncIterator[str]:
        for item in generate():
            yield item

    add(app, lambda: sse(generate_async() if kind == "async" else generate()))
    exchange = Exchange()
    exchange.wire_open.clear()
    task = start(app, exchange)
    for number in range(6):  # the head, the opening and the events
        await wait_until(lambda number=number: len(exchange.messages) == number + 1, 1)
        await asyncio.sleep(0.01)
        assert len(made) == max(number - 1, 0)
        exchange.wire_open.set()
        exchange.wire_open.clear()
    exchange.wire_open.set()
    await task


# Ends


def make_endless(kind: str, ended: list[t.Any], pause: float = 0.005) -> t.Any:
    def generate() -> Iterator[str]:
        try:
            while True:
                yield "event"
                time.sleep(pause)
        finally:
            ended.append(request.path)

    async def generate_async() -> AsyncIterator[str]:
        try:
            yield "event"
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(request.path)

    return generate_async() if kind == "async" else generate()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.parametrize("where", ["waiting", "in send"])
async def test_client_leaves(app: Flask, where: str, kind: str, style: str) -> None:
    ended: list[t.Any] = []
    add(app, lambda: sse(make_endless(kind, ended)), style)
    exchange = Exchange()
    task = start(app, exchange)
    await wait_until(lambda: b"data: event" in exchange.body)
    if where == "in send":
        exchange.wire_open.clear()
        exchange.left.set()
        await asyncio.sleep(0.02)
        exchange.wire_open.set()
    exchange.left.set()
    async with asyncio.timeout(1):
        await task
    assert ended == ["/"] and not exchange.complete
    assert not app.shutdown_event._waiters


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_application_ends(app: Flask, kind: str, style: str) -> None:
    ended: list[t.Any] = []
    add(app, lambda: sse(make_endless(kind, ended)), style)
    exchanges = [Exchange() for _ in range(3)]
    tasks = [start(app, exchange) for exchange in exchanges]
    await wait_until(lambda: all(b"data: event" in exchange.body for exchange in exchanges))
    app.shutdown_event.set()
    async with asyncio.timeout(1):
        await asyncio.gather(*tasks)
    assert ended == ["/"] * 3
    assert all(exchange.complete for exchange in exchanges)  # a clean end: clients come again, to another server
    assert not app.shutdown_event._waiters
    assert (await get(app)).body == PING  # who comes now is sent away at once


def test_application_ends_under_wsgi(app: Flask) -> None:
    ended: list[t.Any] = []
    add(app, lambda: sse(make_endless("sync", ended)), "sync")
    response = app.test_client(face="wsgi").get("/")
    pieces = response.iter_encoded()
    assert [next(pieces), next(pieces)] == [PING, b"data: event\n\n"]
    app.shutdown_event.set()
    assert len(list(pieces)) <= 1
    response.close()
    assert ended == ["/"]


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("kind", STYLES)
def test_response_that_is_not_read_to_its_end(app: Flask, kind: str, face: str) -> None:
    ended: list[t.Any] = []
    add(app, lambda: sse(make_endless(kind, ended)), "sync")
    response = app.test_client(face=face).get("/")
    pieces = iter(response.response)
    assert next(pieces) == PING and next(pieces) == b"data: event\n\n"
    response.close()
    poll(lambda: ended == ["/"], 1)


@pytest.mark.parametrize("kind", STYLES)
async def test_source_fails(app: Flask, kind: str) -> None:
    def generate() -> Iterator[str]:
        yield "event"
        raise ZeroDivisionError

    async def generate_async() -> AsyncIterator[str]:
        for item in generate():
            yield item

    add(app, lambda: sse(generate_async() if kind == "async" else generate()))
    exchange = Exchange()
    with pytest.raises(ZeroDivisionError):
        await start(app, exchange)
    assert exchange.body == b":\n\ndata: event\n\n" and not exchange.complete


async def test_item_that_cannot_be_sent(app: Flask) -> None:
    add(app, lambda: sse(make_source("async", object())))
    with pytest.raises(TypeError, match="not JSON serializable"):
        await start(app, Exchange())


@pytest.mark.filterwarnings("ignore:.*ignored GeneratorExit")
async def test_source_that_takes_no_notice_of_its_end(app: Flask) -> None:
    waits = asyncio.Event()

    async def generate() -> AsyncIterator[str]:
        while True:
            try:
                yield "event"
                waits.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    add(app, lambda: sse(generate()))
    exchange = Exchange()
    task = start(app, exchange)
    await waits.wait()
    app.shutdown_event.set()
    async with asyncio.timeout(1):
        await task
    assert exchange.body.count(b"data: event") == 1


async def test_cancelled_from_outside(app: Flask) -> None:
    ended: list[t.Any] = []
    add(app, lambda: sse(make_endless("async", ended)))
    exchange = Exchange()
    task = start(app, exchange)
    await wait_until(lambda: b"data: event" in exchange.body)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["/"]


# Costs


async def count_tasks(app: Flask, path: str, clients: int) -> int:
    before = len(asyncio.all_tasks())
    exchanges = [Exchange(path=path) for _ in range(clients)]
    tasks = [start(app, exchange) for exchange in exchanges]
    await wait_until(lambda: all(b"data: event" in exchange.body for exchange in exchanges))
    count = len(asyncio.all_tasks()) - before
    for exchange in exchanges:
        exchange.left.set()
    await asyncio.gather(*tasks)
    return count


async def test_one_task_for_each_client_and_one_for_all(app: Flask) -> None:
    async def plain() -> AsyncIterator[bytes]:
        yield b"data: event\n\n"
        await asyncio.sleep(60)

    add(app, lambda: sse(make_endless("async", [])), rule="/sse")
    add(app, lambda: Response(plain()), rule="/plain")
    clients = 10
    assert await count_tasks(app, "/sse", clients) <= await count_tasks(app, "/plain", clients) + clients + 1


@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.blocks_loop("the test looks at all objects")
async def test_streams_leave_no_cycle(app: Flask, kind: str) -> None:
    add(app, lambda: sse(make_source(kind, "a", "b")))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await get(app)
        assert [thing for thing in gc.get_objects() if type(thing) is _Feed] == []
    finally:
        gc.enable()


# Real servers


@pytest.mark.parametrize("name", [*ASGI, "gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent"])
def test_on_a_server(name: str) -> None:
    with serve_live(name) as server:
        for kind in STYLES:
            path = f"/sse/{kind}/3"
            with server.open(path, "Last-Event-ID: 1") as stream:
                head, _, body = stream.read_until(b'"number": 3').lower().partition(b"\r\n\r\n")
                assert b" 200" in head.split(b"\r\n")[0]
                assert b"content-type: text/event-stream\r\n" in head + b"\r\n"
                assert b"content-length" not in head
                assert b'id: 2\ndata: {"number": 2, "path": "%b"}\n\n' % path.encode() in body
                if kind == "async" or name in ASGI:
                    stream.read_until(b"\n:\n\n")
            # WSGI shows a client's leaving by a send that fails, so not before the ping after next.
            poll(lambda path=path: path in server.get("/counts").json["closed"], 1.5 if name in ASGI else 5)
        if name != "gunicorn-gthread":  # its requests are not in the main thread, which alone hears a signal
            with server.open("/sse/async/3") as stream:
                stream.read_until(b'"number": 3')
                begun = time.monotonic()
                server.terminate()
                assert stream.read_to_end().endswith(b"0\r\n\r\n")
                assert time.monotonic() - begun < 1.5
            server.process.wait(10)
        assert server.take_alarms() == []


if not browser.find_missing():

    def test_in_a_browser(tmp_path: Path) -> None:
        """An EventSource that comes again with the id of the last event, each time that the stream ends."""
        with serve_live("uvicorn-httptools") as server:
            with browser.open_browser(f"http://127.0.0.1:{server.port}", tmp_path) as page:
                page.open("/page")
                page.see("6:6 after 4;")
                seen = re.sub("open;", "", page.read())
                assert seen.startswith("1:1 after 0;2:2 after 0;3:3 after 2;4:4 after 2;5:5 after 4;6:6 after 4;")
                assert page.read().startswith("open;1:1") and "open;3:3" in page.read()
