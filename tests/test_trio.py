"""The same application on trio: requests played by hand in `trio.run`. Real servers: the rows `hypercorn-trio`."""

from __future__ import annotations

import gc
import inspect
import io
import logging
import threading
import time
import typing as t
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from functools import wraps

import pytest
import trio
import trio.testing
from edge import Exchange, make_scope

from asyncflask import (
    Flask,
    Response,
    ServerSentEvent,
    appcontext_popped,
    appcontext_tearing_down,
    copy_current_request_context,
    g,
    render_template_string_async,
    request,
    request_tearing_down,
    session,
    sse,
    stream_with_context,
    template_rendered,
    websocket,
)
from asyncflask.bridge import current_loop, run_in_thread
from asyncflask.globals import _cv_request
from asyncflask.redis_store import RedisStore
from asyncflask.sqlite_store import SQLiteStore
from asyncflask.stored_sessions import StoredSessionInterface
from asyncflask.watchdog import Watchdog
from asyncflask.websockets import WebsocketDisconnect

LONG = 20  # seconds; nothing takes so long, unless something is wrong
STYLES = pytest.mark.parametrize("style", ["sync", "async"])


def on_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test on trio. It leaves no task behind but the one that notes the end of the run."""

    @wraps(test)
    def run(**fixtures: t.Any) -> None:
        async def main() -> None:
            before = count_tasks()
            with trio.fail_after(10):
                await test(**fixtures)
            await wait_until(lambda: count_tasks() <= before + 1, 2)

        trio.run(main)

    return run


def count_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def wait_until(condition: Callable[[], object], seconds: float = 5) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # threads change it too
            await trio.sleep(0.002)


class TrioExchange(Exchange):
    """edge.Exchange with trio's events."""

    def __init__(self, method: str = "GET", path: str = "/", **more: t.Any) -> None:
        super().__init__(method, path, **more)
        self.left, self.wire_open = trio.Event(), trio.Event()  # type: ignore[assignment]
        self.wire_open.set()

    async def send(self, message: dict[str, t.Any]) -> None:
        if self.on_send is not None:
            self.on_send(message)
        expected = "http.response.body" if self.messages else "http.response.start"
        assert message["type"] == expected and not self.complete, (message, self.messages)
        self.messages.append(message)
        await trio.lowlevel.checkpoint()
        await self.wire_open.wait()

    async def receive(self) -> dict[str, t.Any]:
        await trio.lowlevel.checkpoint()
        return await super().receive()

    async def answer(self, app: Flask) -> t.Self:
        await app(self.scope, self.receive, self.send)
        return self


async def get(app: Flask, path: str = "/", **more: t.Any) -> TrioExchange:
    return await TrioExchange("GET", path, **more).answer(app)


async def post(app: Flask, path: str, *pieces: bytes, **more: t.Any) -> TrioExchange:
    headers = [*more.pop("headers", ()), ("Content-Length", str(sum(map(len, pieces))))]
    return await TrioExchange("POST", path, headers=headers, pieces=pieces, **more).answer(app)


def own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("asyncflask-worker")}


@pytest.fixture
def app() -> Iterator[Flask]:
    before = own_threads()
    app = Flask("trio")
    app.config.update(SECRET_KEY="key", WORKER_THREADS=4, PROPAGATE_EXCEPTIONS=False)
    yield app
    app._workers.close()
    deadline = time.monotonic() + 5
    while own_threads() - before:
        assert time.monotonic() < deadline, own_threads() - before
        time.sleep(0.005)


@pytest.fixture
def log(app: Flask) -> list[t.Any]:
    """What happened, the teardowns included: an async one that has to wait, then (they run backwards) a sync one."""
    log: list[t.Any] = []

    @app.teardown_request
    def sync_teardown(error: BaseException | None) -> None:
        log.append(f"sync teardown {type(error).__name__}")

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        await trio.sleep(0.01)
        log.append(f"teardown {type(error).__name__}")

    return log


CANCELLED = ["teardown Cancelled", "sync teardown Cancelled"]
DONE = ["teardown NoneType", "sync teardown NoneType"]


def view_of(style: str, function: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def view(**values: t.Any) -> t.Any:
        await trio.lowlevel.checkpoint()
        return function(**values)

    return view if style == "async" else function


# -- requests


@STYLES
@on_trio
async def test_views_and_hooks(app: Flask, style: str) -> None:
    @app.before_request
    def before() -> None:
        g.thread, g.steps = threading.get_ident(), ["before"]

    @app.before_request
    async def async_before() -> None:
        await trio.lowlevel.checkpoint()
        g.steps.append("async before")

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Steps"] = " ".join([*g.steps, "after"])
        response.headers["X-Same-Thread"] = str(g.thread == threading.get_ident())
        return response

    app.add_url_rule("/<int:number>", "view", view_of(style, lambda number: {"number": number}))
    answer = await get(app, "/7")
    assert answer.json == {"number": 7}
    assert answer.headers["x-steps"] == "before async before after"
    assert answer.headers["x-same-thread"] == "True"
    assert (await get(app, "/none")).status == 404


@STYLES
@pytest.mark.parametrize("handled_by", ["nobody", "sync", "async"])
@on_trio
async def test_errors(
    app: Flask, log: list[t.Any], style: str, handled_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> t.NoReturn:
        raise LookupError("wanted")

    def handle(error: LookupError) -> tuple[str, int]:
        return str(error), 418

    async def async_handle(error: LookupError) -> tuple[str, int]:
        await trio.lowlevel.checkpoint()
        return handle(error)

    app.add_url_rule("/", "view", view_of(style, fail))
    if handled_by != "nobody":
        app.register_error_handler(LookupError, handle if handled_by == "sync" else async_handle)
        assert (await get(app)).status == 418
        assert log == DONE
        return
    with caplog.at_level(logging.CRITICAL):
        assert (await get(app)).status == 500
    assert log == ["teardown LookupError", "sync teardown LookupError"]


@on_trio
async def test_bridge_both_ways(app: Flask) -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def inner(word: str) -> str:
        await trio.sleep(0.001)
        variable.set(word)
        g.inner = await run_in_thread(threading.get_ident)
        return request.path

    @app.get("/sync")
    def view() -> list[t.Any]:
        return [app.ensure_sync(inner)("a"), variable.get(), g.inner == threading.get_ident()]

    @app.get("/async")
    async def async_view() -> list[t.Any]:
        found = await app.ensure_async(lambda: (request.path, app.ensure_sync(inner)("b")))()
        return [*found, variable.get()]

    assert (await get(app, "/sync")).json == ["/sync", "a", True]
    assert (await get(app, "/async")).json == ["/async", "/async", "b"]


@on_trio
async def test_a_failure_on_the_other_side(app: Flask) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("from trio")

    @app.get("/")
    def view() -> str:
        with pytest.raises(KeyError, match="from trio"):
            app.ensure_sync(fail)()
        return "caught"

    assert (await get(app)).text == "caught"


@on_trio
async def test_contexts_of_200_requests_do_not_mix(app: Flask) -> None:
    async def look() -> str:
        await trio.sleep(0.001)
        return f"{request.path} {g.mark}"

    @app.before_request
    def mark() -> None:
        g.mark = request.path

    @app.get("/sync/<number>")
    def view(number: str) -> str:
        time.sleep(0.0005)
        return app.ensure_sync(look)()

    @app.get("/async/<number>")
    async def async_view(number: str) -> str:
        session["number"] = number
        found: list[str] = []

        async def note() -> None:
            found.append(await look())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy_current_request_context(note))
            nursery.start_soon(note)
        assert session["number"] == number and found[0] == found[1]
        return found[0]

    answers: dict[str, str] = {}

    async def ask(path: str) -> None:
        answers[path] = (await get(app, path)).text

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, f"/sync/{number}")
            nursery.start_soon(ask, f"/async/{number}")
    assert len(answers) == 200 and all(text == f"{path} {path}" for path, text in answers.items())


@on_trio
async def test_async_receivers(app: Flask) -> None:
    seen: list[str] = []

    async def receive(sender: Flask, template: t.Any, context: t.Any, **more: t.Any) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(request.path)

    @app.get("/")
    async def view() -> str:
        return await render_template_string_async("{{ request.path }}")

    with template_rendered.connected_to(receive, app):
        assert (await get(app)).text == "/"
    assert seen == ["/"]


# -- bodies


@STYLES
@on_trio
async def test_bodies(app: Flask, style: str) -> None:
    app.config["BODY_SPOOL_SIZE"] = 1000
    app.add_url_rule("/", "view", view_of(style, lambda: str(len(request.get_data()))), methods=["POST"])
    app.add_url_rule("/form", "form", view_of(style, lambda: request.form["a"]), methods=["POST"])
    assert (await post(app, "/", b"x")).text == "1"
    assert (await post(app, "/", *[b"x" * 700] * 100)).text == "70000"
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    assert (await post(app, "/form", b"a=", b"b", headers=form)).text == "b"


@STYLES
@on_trio
async def test_body_limits(app: Flask, style: str) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    app.add_url_rule("/", "view", view_of(style, lambda: request.get_data()), methods=["POST"])
    assert (await post(app, "/", b"x" * 10)).text == "x" * 10
    assert (await post(app, "/", b"x" * 11)).status == 413
    chunked = [("Transfer-Encoding", "chunked")]
    assert (await TrioExchange("POST", headers=chunked, pieces=[b"x" * 9] * 2).answer(app)).status == 413


@pytest.mark.parametrize("first", [[], [b"abc"]])
@STYLES
@on_trio
async def test_a_stalled_body(app: Flask, style: str, first: list[bytes]) -> None:
    app.config["BODY_TIMEOUT"] = 0.05
    app.add_url_rule("/", "view", view_of(style, lambda: request.get_data()), methods=["POST"])
    answer = await TrioExchange("POST", headers=[("Content-Length", "9")], pieces=first, ends=False).answer(app)
    assert answer.status == 408


@STYLES
@on_trio
async def test_a_client_that_leaves_its_body(app: Flask, style: str) -> None:
    app.add_url_rule("/", "view", view_of(style, lambda: request.get_data()), methods=["POST"])
    errors = []
    app.teardown_request(errors.append)
    exchange = TrioExchange("POST", headers=[("Content-Length", "9")], pieces=[b"abc"], ends=False)
    exchange.left.set()
    assert (await exchange.answer(app)).messages == []
    assert len(errors) == 1


@on_trio
async def test_streamed_bodies(app: Flask) -> None:
    @app.post("/", stream_body=True)
    async def view() -> str:
        return str([len(chunk) async for chunk in request.stream])

    @app.post("/sync", stream_body=True)
    def sync_view() -> str:
        return str(len(request.stream.read()))

    @app.post("/parts", stream_body=True)
    async def parts() -> list[t.Any]:
        return [[part.name, sum([len(chunk) async for chunk in part])] async for part in request.stream_parts()]

    assert (await post(app, "/", b"ab", b"c")).text == "[2, 1]"
    assert (await post(app, "/sync", b"ab", b"c")).text == "3"
    lines = [
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, b"y" * 90_000)
        for name in (b"a", b"b")
    ]
    multipart = [("Content-Type", "multipart/form-data; boundary=x")]
    assert (await post(app, "/parts", *lines, b"--x--\r\n", headers=multipart)).json == [["a", 90_000], ["b", 90_000]]


# -- streams


@STYLES
@on_trio
async def test_streams(app: Flask, style: str) -> None:
    @app.get("/async")
    async def stream() -> t.Any:
        @stream_with_context
        async def pieces() -> t.Any:
            for letter in "abc":
                await trio.lowlevel.checkpoint()
                yield letter + request.path[0]

        return pieces()

    @app.get("/sync")
    def sync_stream() -> t.Any:
        return stream_with_context(letter + request.path[0] for letter in "abc")

    assert (await get(app, f"/{style}")).text == "a/b/c/"


@pytest.mark.parametrize("held", [False, True], ids=["waits", "is held by send"])
@STYLES
@on_trio
async def test_a_client_that_leaves_a_stream(app: Flask, log: list[t.Any], style: str, held: bool) -> None:
    async def pieces() -> t.Any:
        try:
            yield "first"
            await trio.sleep(LONG)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            log.append("closed")

    def sync_pieces() -> t.Any:
        try:
            while True:
                yield "first"
                time.sleep(0.01)
        finally:
            log.append("closed")

    @app.get("/")
    async def view() -> t.Any:
        return pieces() if style == "async" else sync_pieces()

    exchange = TrioExchange(ends=True)
    if held:
        exchange.wire_open = trio.Event()  # type: ignore[assignment]
    if held and style == "sync":
        exchange.wire_open.set()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: exchange.messages)
        exchange.left.set()
    assert trio.current_time() - begun < 1
    assert not exchange.complete
    await wait_until(lambda: (style == "async" and held) or "closed" in log)


@on_trio
async def test_a_cleanup_that_waits_runs_when_send_was_cut_short(app: Flask) -> None:
    closed = []

    @app.get("/")
    async def view() -> t.Any:
        async def pieces() -> t.Any:
            try:
                while True:
                    yield "piece"
            finally:
                await trio.sleep(0.01)
                closed.append(True)

        return pieces()

    exchange = TrioExchange()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: len(exchange.messages) > 3)
        exchange.left.set()
    assert closed == [True]


@on_trio
async def test_a_stream_that_fails(app: Flask) -> None:
    @app.get("/")
    async def view() -> t.Any:
        async def pieces() -> t.Any:
            yield "first"
            raise LookupError

        return pieces()

    with pytest.raises(LookupError):
        await get(app)


# -- server-sent events


@STYLES
@on_trio
async def test_events(app: Flask, style: str) -> None:
    async def events() -> t.Any:
        for number in range(3):
            await trio.sleep(0.001)
            yield ServerSentEvent(number)

    app.add_url_rule("/", "view", view_of(style, lambda: sse(events() if style == "async" else iter("012"))))
    assert (await get(app)).text.replace(":\n\n", "").split() == ["data:", "0", "data:", "1", "data:", "2"]


@on_trio
async def test_events_pings_until_the_client_leaves(app: Flask) -> None:
    closed = []

    async def events() -> t.Any:
        try:
            yield 1
            await trio.sleep(LONG)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            closed.append(request.path)

    @app.get("/")
    async def view() -> t.Any:
        return sse(events(), ping=0.02)

    exchange = TrioExchange()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: exchange.body.count(b":\n\n") > 3)
        exchange.left.set()
    assert b"data: 1\n\n" in exchange.body and closed == ["/"]


@on_trio
async def test_events_an_error_of_the_source(app: Flask) -> None:
    async def events() -> t.Any:
        yield 1
        raise LookupError("no more")

    @app.get("/")
    async def view() -> t.Any:
        return sse(events())

    with pytest.raises(LookupError, match="no more"):
        await get(app)


@on_trio
async def test_events_the_shutdown_ends_them(app: Flask) -> None:
    async def events() -> t.Any:
        yield 1
        await trio.sleep(LONG)

    @app.get("/")
    async def view() -> t.Any:
        return sse(events())

    exchange = TrioExchange()
    async with app.test_app(), trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: b"data: 1" in exchange.body)
        app.shutdown_event.set()
    assert exchange.complete


# -- cancellation and timeouts


def add_waiting(app: Flask, log: list[t.Any], **options: t.Any) -> None:
    @app.get("/", **options)
    async def view() -> str:
        log.append("begins")
        try:
            await trio.sleep(LONG)
        except trio.Cancelled:
            log.append("cancelled")
            raise
        return "waited"


@on_trio
async def test_cancelled_by_the_server(app: Flask, log: list[t.Any]) -> None:
    add_waiting(app, log)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, app)
            await wait_until(lambda: "begins" in log)
            scope.cancel()
    assert scope.cancelled_caught
    assert log == ["begins", "cancelled", *CANCELLED]


@pytest.mark.parametrize("place", ["before", "view", "after", "body", "send", "in the thread"])
@on_trio
async def test_cancelled_anywhere_it_is_torn_down_once(app: Flask, log: list[t.Any], place: str) -> None:
    reached = trio.Event()

    async def wait_at(here: str) -> None:
        if here == place:
            reached.set()
            await trio.sleep(LONG)

    @app.before_request
    async def before() -> None:
        await wait_at("before")

    @app.route("/", methods=["GET", "POST"])
    async def view() -> t.Any:
        await wait_at("view")
        if place == "in the thread":
            reached.set()
            await run_in_thread(time.sleep, 0.05)
        return "text"

    @app.after_request
    async def after(response: Response) -> Response:
        await wait_at("after")
        return response

    more: t.Any = {"headers": [("Content-Length", "9")], "pieces": [b"abc"], "ends": False} if place == "body" else {}
    exchange = TrioExchange("POST" if more else "GET", **more)
    if place == "send":
        exchange.wire_open = trio.Event()  # type: ignore[assignment]
        exchange.on_send = lambda message: reached.set()
    if place == "body":
        reached.set()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.answer, app)
            await reached.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            scope.cancel()
    assert scope.cancelled_caught
    assert [event for event in log if "sync" not in event] in ([CANCELLED[0]], [DONE[0]])
    assert [event for event in log if "sync" in event] in ([CANCELLED[1]], [DONE[1]])
    assert (log == DONE) == (place == "send")


@on_trio
async def test_a_sync_teardown_under_a_cancelled_context_is_waited_for(app: Flask) -> None:
    seen = []

    @app.teardown_appcontext
    def tear_down(error: BaseException | None) -> None:
        time.sleep(0.03)
        seen.append(type(error).__name__)

    with trio.CancelScope() as scope:
        async with app.app_context():
            scope.cancel()
            await trio.sleep(LONG)
    assert seen == ["Cancelled"]


@on_trio
async def test_a_cancelled_call_leaves_its_thread_behind(app: Flask) -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(LONG)
        ended.set()

    async with app.app_context():
        with trio.move_on_after(0.02) as scope:
            await run_in_thread(work)
        assert scope.cancelled_caught and not ended.is_set()
        release.set()
    await wait_until(ended.is_set)


@on_trio
async def test_cancel_on_disconnect(app: Flask, log: list[t.Any]) -> None:
    add_waiting(app, log, cancel_on_disconnect=True)
    exchange = TrioExchange()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: "begins" in log)
        exchange.left.set()
    assert log == ["begins", "cancelled", *CANCELLED]
    assert exchange.messages == []


@on_trio
async def test_a_sync_view_goes_on_to_its_end(app: Flask, log: list[t.Any]) -> None:
    @app.get("/", cancel_on_disconnect=True)
    def view() -> str:
        log.append("begins")
        time.sleep(0.05)
        log.append("ends")
        return "text"

    exchange = TrioExchange()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: "begins" in log)
        exchange.left.set()
    assert log[:2] == ["begins", "ends"] and len(log) == 4


@pytest.mark.parametrize("way", ["ask", "await"])
@on_trio
async def test_views_that_ask_for_the_client(app: Flask, way: str) -> None:
    seen = []

    @app.get("/")
    async def view() -> str:
        assert not await request.is_disconnected()
        seen.append("begins")
        if way == "await":
            await request.disconnected
        while not await request.is_disconnected():  # noqa: ASYNC110  # that is what it is for
            await trio.sleep(0.001)
        assert request.disconnected.is_set()
        seen.append("ends")
        return "left"

    exchange = TrioExchange()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.answer, app)
        await wait_until(lambda: seen)
        exchange.left.set()
    assert seen == ["begins", "ends"]


@on_trio
async def test_an_absence_is_known_at_once(app: Flask) -> None:
    @app.get("/")
    async def view() -> str:
        return str(await request.is_disconnected())

    exchange = TrioExchange(pieces=())
    exchange.left.set()
    for _ in range(20):  # the tasks of one turn go in no order
        exchange = TrioExchange(pieces=())
        exchange.left.set()
        assert (await exchange.answer(app)).text == "True"


@STYLES
@on_trio
async def test_response_timeout(app: Flask, log: list[t.Any], style: str, caplog: pytest.LogCaptureFixture) -> None:
    app.config["RESPONSE_TIMEOUT"] = 0.05

    @app.get("/sync")
    def view() -> str:
        time.sleep(0.2)
        return "late"

    @app.get("/async")
    async def async_view() -> str:
        await trio.sleep(LONG)
        return "late"

    @app.get("/own")
    async def own() -> str:
        raise TimeoutError

    @app.get("/quick")
    async def quick() -> str:
        return "in time"

    with caplog.at_level(logging.CRITICAL):
        assert (await get(app, f"/{style}")).status == 503
        assert log == DONE
        assert (await get(app, "/own")).status == 500
    assert (await get(app, "/quick")).text == "in time"


# -- beside requests


@on_trio
async def test_websockets(app: Flask) -> None:
    @app.websocket("/<word>")
    async def talk(word: str) -> None:
        async for message in websocket:
            await websocket.send(f"{word} {message}")

    async with app.async_test_client().websocket("/echo") as client:
        await client.send("a")
        assert await client.receive() == "echo a"


@on_trio
async def test_serving_life_and_background_tasks(app: Flask) -> None:
    seen: list[str] = []

    @app.before_serving
    def before() -> None:
        seen.append("before")

    @app.while_serving
    async def life() -> t.Any:
        await trio.lowlevel.checkpoint()
        seen.append("enter")
        yield
        seen.append("leave")

    async def work() -> None:
        await trio.sleep(0.01)
        seen.append(f"task of {request.path}")

    def sync_work() -> None:
        seen.append("sync task")

    @app.get("/")
    def view() -> str:
        app.add_background_task(work)
        app.add_background_task(sync_work)
        return "begun"

    async with app.test_app():
        assert (await get(app)).text == "begun"
        await wait_until(lambda: len(seen) == 4)
    assert seen[:2] == ["before", "enter"] and seen[-1] == "leave"
    assert sorted(seen[2:4]) == ["sync task", "task of /"]


def test_a_task_that_never_ends_keeps_no_process(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.05
    release = threading.Event()

    async def forever() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with app.test_app():
            app.add_background_task(release.wait, LONG)
            app.add_background_task(forever)
            await trio.sleep(0.01)

    begun = time.monotonic()
    trio.run(main)
    assert time.monotonic() - begun < 1
    assert caplog.text.count("is lost") == 2
    release.set()


def test_a_task_is_cancelled_by_the_end_of_the_run() -> None:
    tasks = []

    async def forever() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        tasks.append(current_loop().create_task(forever()))
        await trio.sleep(0.01)
        assert not tasks[0].done()

    trio.run(main)
    (task,) = tasks
    assert task.done() and task.cancelled()


@on_trio
async def test_sessions_in_a_file(app: Flask, tmp_path: t.Any) -> None:
    store = SQLiteStore(tmp_path / "sessions")
    app.session_interface = StoredSessionInterface(store)

    @app.get("/<word>")
    async def view(word: str) -> str:
        before = session.get("word", "-")
        session["word"] = word
        return str(before)

    client = app.async_test_client()
    assert [(await client.get(path)).text for path in ("/a", "/b")] == ["-", "a"]
    await store.close()


@on_trio
async def test_sessions_in_redis_need_asyncio(app: Flask) -> None:
    pytest.importorskip("redis")
    with pytest.raises(RuntimeError, match="needs asyncio"):
        await RedisStore("redis://localhost:1").load("key")


@on_trio
async def test_mounted_application(app: Flask) -> None:
    seen: list[str] = []
    inner = Flask("inner")
    inner.before_serving(lambda: seen.append("before"))
    inner.after_serving(lambda: seen.append("after"))

    @inner.get("/")
    async def view() -> str:
        await trio.lowlevel.checkpoint()
        return request.root_path

    app.mount("/inner", inner)
    async with app.test_app():
        assert (await get(app, "/inner/")).text == "/inner"
        assert seen == ["before"]
    assert seen == ["before", "after"]


@on_trio
async def test_the_watchdog_sees_who_holds_the_loop(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    arguments: t.Any = (app.logger if "logger" in inspect.signature(Watchdog).parameters else app, current_loop(), 0.02)
    watchdog = Watchdog(*arguments)
    try:
        await trio.sleep(0.1)
        assert caplog.text == ""
        time.sleep(0.1)  # noqa: ASYNC251  # that is what it is to see
        await trio.lowlevel.checkpoint()
        assert "test_trio" in caplog.text
    finally:
        watchdog.stop()


def test_two_runs_at_once(app: Flask) -> None:
    """Each thread's run is a loop of its own."""
    answers = []

    @app.get("/")
    async def view() -> str:
        for _ in range(20):
            thread = await run_in_thread(threading.get_ident)
            await trio.lowlevel.checkpoint()
            assert await run_in_thread(threading.get_ident) == thread
        return "same"

    def run() -> None:
        async def main() -> None:
            answers.append((await get(app)).text)

        trio.run(main)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == ["same"] * 3


@on_trio
async def test_upload_by_the_client(app: Flask) -> None:
    @app.post("/")
    async def view() -> t.Any:
        await trio.lowlevel.checkpoint()
        return {"file": len(request.files["file"].read())}

    client = app.async_test_client()
    data = {"file": (io.BytesIO(b"x" * 3_000_000), "name")}
    assert (await client.post("/", data=data)).json == {"file": 3_000_000}


# -- what is still done when a request was cancelled


async def cancel_once(app: Flask, exchange: TrioExchange, condition: Callable[[], object]) -> trio.CancelScope:
    """Cancel the request as a server does at its end, once it has come so far."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.answer, app)
            await wait_until(condition)
            scope.cancel()
    return scope


@STYLES
@on_trio
async def test_receivers_of_the_teardown_signals(app: Flask, style: str) -> None:
    seen: list[str] = []

    async def receive(sender: Flask, **values: t.Any) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(type(values.get("exc")).__name__)

    @app.get("/")
    async def view() -> str:
        await trio.sleep(LONG)
        return "waited"

    if style == "sync":
        app.before_request(lambda: None)
    with (
        request_tearing_down.connected_to(receive, app),
        appcontext_tearing_down.connected_to(receive, app),
        appcontext_popped.connected_to(receive, app),
        trio.move_on_after(0.02) as scope,
    ):
        await get(app)
    assert scope.cancelled_caught and seen == ["Cancelled", "Cancelled", "NoneType"]


@STYLES
@on_trio
async def test_functions_of_call_on_close(app: Flask, style: str) -> None:
    closed: list[str] = []

    def note() -> None:
        time.sleep(0.02)
        closed.append("closed")

    def answer() -> Response:
        response = Response("text")
        response.call_on_close(note)
        return response

    app.add_url_rule("/", "view", view_of(style, answer))
    exchange = TrioExchange()
    exchange.wire_open = trio.Event()  # type: ignore[assignment]
    scope = await cancel_once(app, exchange, lambda: exchange.messages)
    assert scope.cancelled_caught and closed == ["closed"]


@STYLES
@on_trio
async def test_a_failing_close(app: Flask, style: str) -> None:
    @app.get("/")
    async def view() -> Response:
        async def pieces() -> t.Any:
            yield "piece"

        response = Response(pieces() if style == "async" else iter(["piece"]))
        response.call_on_close(lambda: {}["missing"])
        return response

    with pytest.raises(KeyError, match="missing"):
        await get(app)


@on_trio
async def test_a_sync_function_that_returns_an_awaitable_tears_down(app: Flask) -> None:
    seen: list[str] = []

    async def tear_down() -> None:
        await trio.sleep(0.01)
        seen.append("torn down")

    app.teardown_request(lambda error: tear_down())
    app.add_url_rule("/", "view", view_of("async", lambda: "text"))

    @app.after_request
    async def wait(response: Response) -> Response:
        await trio.sleep(LONG)
        return response

    with trio.move_on_after(0.02) as scope:
        await get(app)
    assert scope.cancelled_caught and seen == ["torn down"]


@on_trio
async def test_a_call_that_fails_on_the_loop_does_not_end_trio(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    current_loop().call_soon_threadsafe(lambda: {}["missing"])
    await wait_until(lambda: "missing" in caplog.text)


@pytest.mark.parametrize("path", ["/sync", "/async", "/bridge", "/fails", "/stream", "/events", "/guarded", "/late"])
@on_trio
async def test_no_cycle_is_left_behind(app: Flask, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """The context is gone without the garbage collector."""
    contexts: list[weakref.ref[t.Any]] = []

    async def wait() -> str:
        await trio.lowlevel.checkpoint()
        return "text"

    async def pieces() -> t.Any:
        yield await wait()

    def fail() -> t.NoReturn:
        raise LookupError

    async def late() -> None:
        await trio.sleep(LONG)

    @app.teardown_request
    async def note(error: BaseException | None) -> None:
        contexts.append(weakref.ref(_cv_request.get()))

    app.add_url_rule("/sync", "sync", lambda: "text")
    app.add_url_rule("/async", "async", wait)
    app.add_url_rule("/bridge", "bridge", lambda: app.ensure_sync(wait)())
    app.add_url_rule("/fails", "fails", view_of("async", fail))
    app.add_url_rule("/stream", "stream", view_of("async", pieces))
    app.add_url_rule("/events", "events", view_of("async", lambda: sse(pieces())))
    app.add_url_rule("/guarded", "guarded", wait, cancel_on_disconnect=True)
    app.add_url_rule("/late", "late", late, response_timeout=0.01)
    with caplog.at_level(logging.CRITICAL):
        gc.collect()
        gc.disable()
        try:
            await get(app, path)
            await wait_until(lambda: contexts and not any(context() for context in contexts))
        finally:
            gc.enable()


# -- websockets


@on_trio
async def test_who_receives_is_woken_by_another_tasks_close(app: Flask) -> None:
    seen: list[t.Any] = []

    @app.websocket("/")
    async def talk() -> None:
        async def listen() -> None:
            try:
                await websocket.receive()
            except WebsocketDisconnect as end:
                seen.append(end.code)

        await websocket.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(listen)
            await trio.sleep(0.01)
            await websocket.close(4000)
        seen.append("ended")

    async with app.async_test_client().websocket("/"):
        await wait_until(lambda: seen == [4000, 4000, "ended"])


@on_trio
async def test_a_message_that_was_heard_ahead_is_not_lost(app: Flask) -> None:
    """A server of before ASGI 2.4: who only sends has a task that listens."""
    to_app, from_app = trio.open_memory_channel[t.Any](9), trio.open_memory_channel[t.Any](9)

    @app.websocket("/")
    async def talk() -> None:
        for number in range(3):
            await websocket.send(str(number))
        await trio.sleep(0.02)
        await websocket.send(f"got {await websocket.receive()}")

    scope = make_scope("GET", "/", [], subprotocols=[])
    scope.update(type="websocket", scheme="ws")
    await to_app[0].send({"type": "websocket.connect"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, scope, to_app[1].receive, from_app[0].send)
        assert [(await from_app[1].receive()).get("text") for _ in range(4)] == [None, "0", "1", "2"]
        await to_app[0].send({"type": "websocket.receive", "text": "it"})
        assert (await from_app[1].receive())["text"] == "got it"


@on_trio
async def test_a_cancelled_websocket_is_torn_down(app: Flask) -> None:
    seen: list[str] = []

    @app.teardown_websocket
    async def tear_down(error: BaseException | None) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(type(error).__name__)

    @app.websocket("/")
    async def talk() -> None:
        cancelled.cancel()
        await websocket.receive()

    scope = make_scope("GET", "/", [], subprotocols=[])
    scope.update(type="websocket", scheme="ws")
    to_app, receive = trio.open_memory_channel[t.Any](9)
    await to_app.send({"type": "websocket.connect"})

    async def send(message: t.Any) -> None:
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as cancelled:
        await app(scope, receive.receive, send)
    assert cancelled.cancelled_caught and seen == ["Cancelled"]


@STYLES
@on_trio
async def test_a_server_that_cancels_a_stream(app: Flask, log: list[t.Any], style: str) -> None:
    async def pieces() -> t.Any:
        try:
            while True:
                yield "piece"
                await trio.lowlevel.checkpoint()
        finally:
            log.append("closed")

    def sync_pieces() -> t.Any:
        try:
            while True:
                yield "piece"
        finally:
            log.append("closed")

    app.add_url_rule("/", "view", view_of(style, pieces if style == "async" else sync_pieces))
    scope = await cancel_once(app, exchange := TrioExchange(), lambda: len(exchange.messages) > 3)
    assert scope.cancelled_caught and sorted(log) == sorted(["closed", *DONE])
