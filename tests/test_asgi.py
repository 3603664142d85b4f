"""The ASGI edge: events, streams, disconnects, overload, lifespan, paths, placement, and one object with two calls."""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import threading
import time
import typing as t
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from edge import Exchange, get, post, wait_until

from asyncflask import (
    Flask,
    Response,
    current_app,
    g,
    nonblocking,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from asyncflask.sessions import SecureCookieSessionInterface

PATIENCE = 5
STYLES = ("sync", "async")
LOOP = "loop"


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.testing = True
    app.config.update(SECRET_KEY="key", WORKER_THREADS=4)
    return app


def add(app: Flask, rule: str, f: Callable[..., t.Any], style: str = "sync", **options: t.Any) -> None:
    async def async_view(*args: t.Any, **kwargs: t.Any) -> t.Any:
        await asyncio.sleep(0)
        return f(*args, **kwargs)

    app.add_url_rule(rule, f"{style} {rule}", async_view if style == "async" else f, **options)


def serve(app: t.Any, exchange: Exchange) -> asyncio.Task[None]:
    return asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))


# -- events


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("body", ["text", b"bytes", {"a": 1}, ["a"], ("text", 201), ("", 200, {"X-A": "b"})])
async def test_whole_answer_is_a_start_and_one_body(app: Flask, style: str, body: t.Any) -> None:
    add(app, "/", lambda: body, style)
    answer = await get(app)
    start, whole = answer.messages
    assert start["type"] == "http.response.start" and whole["type"] == "http.response.body"
    assert not whole.get("more_body", False)
    assert answer.headers["content-length"] == str(len(answer.body))
    for name, value in start["headers"]:
        assert type(name) is bytes and type(value) is bytes and name == name.lower()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("what", ["whole", "stream", "async stream", "file"])
async def test_head_has_the_headers_and_no_body(app: Flask, style: str, what: str) -> None:
    read, closed = [], []
    views = make_body_views(read)

    def view() -> Response:
        response = current_app.make_response(views[what]())
        response.call_on_close(lambda: closed.append(True))
        return response

    add(app, "/", view, style)
    with_body = await get(app)
    read.clear()
    answer = await Exchange("HEAD", "/").run(app)
    assert (answer.status, answer.body, len(answer.messages)) == (200, b"", 2)
    for headers in (answer.headers, with_body.headers):
        headers.pop("date", None)  # of a file; a second may have begun between the two
    assert answer.headers == with_body.headers
    assert read == [] and closed == [True, True]


def make_body_views(read: list[object]) -> dict[str, Callable[[], t.Any]]:
    def pieces() -> Iterator[str]:
        read.append(1)
        yield "piece"

    async def async_pieces() -> AsyncIterator[str]:
        read.append(1)
        yield "piece"

    return {
        "whole": lambda: "text",
        "stream": pieces,
        "async stream": async_pieces,
        "file": lambda: send_file(io.BytesIO(b"file"), mimetype="text/plain"),
    }


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("what", ["whole", "stream", "async stream"])
async def test_bodiless_status_sends_no_body(app: Flask, style: str, status: int, what: str) -> None:
    read: list[object] = []
    views = make_body_views(read)
    add(app, "/", lambda: (views[what](), status), style)
    answer = await get(app)
    assert (answer.status, answer.body, len(answer.messages)) == (status, b"", 2)
    assert read == []
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("error", ["send", "cancel"])
@pytest.mark.parametrize("what", ["whole", "head", "stream", "async stream", "file"])
@pytest.mark.parametrize("style", STYLES)
async def test_body_is_closed_though_the_answer_cannot_be_sent(app: Flask, style: str, what: str, error: str) -> None:
    """A server raises OSError at a send after the client left (specification 2.4), or cancels its task."""
    closed, views = [], make_body_views([])

    def view() -> Response:
        response = current_app.make_response(views["whole" if what == "head" else what]())
        response.call_on_close(lambda: closed.append(True))
        return response

    def refuse(message: t.Any) -> None:
        if error == "send":
            raise OSError("the client left")
        t.cast("asyncio.Task[t.Any]", asyncio.current_task()).cancel()

    add(app, "/", view, style)
    exchange = Exchange("HEAD" if what == "head" else "GET", on_send=refuse)
    with pytest.raises((OSError, asyncio.CancelledError)):
        await serve(app, exchange)
    assert closed == [True]


async def test_header_names_and_values_are_bytes_of_latin_1(app: Flask) -> None:
    app.add_url_rule(
        "/", "view", lambda: ("text", 200, [("X-Name", "é"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    )
    headers = (await get(app)).messages[0]["headers"]
    assert (b"x-name", b"\xe9") in headers
    assert [value for name, value in headers if name == b"set-cookie"] == [b"a=b", b"c=d"]


# -- streams


def make_stream(kind: str, pieces: Callable[[], Iterator[t.Any]]) -> t.Any:
    """A generator or an async generator of the same pieces."""

    async def async_pieces() -> AsyncIterator[t.Any]:
        for piece in pieces():
            await asyncio.sleep(0)
            yield piece

    return async_pieces() if kind == "async" else pieces()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_stream_sends_each_piece_as_it_comes(app: Flask, style: str, kind: str) -> None:
    add(app, "/", lambda: make_stream(kind, lambda: iter(["a", b"b", "é"])), style)
    answer = await get(app)
    assert [(m["body"], m["more_body"]) for m in answer.messages[1:]] == [
        (b"a", True),
        (b"b", True),
        ("é".encode(), True),
        (b"", False),
    ]
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_empty_stream(app: Flask, style: str, kind: str) -> None:
    add(app, "/", lambda: make_stream(kind, lambda: iter([])), style)
    assert (await get(app)).body == b""


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_no_next_piece_before_the_last_one_was_sent(app: Flask, style: str, kind: str) -> None:
    made = []

    def pieces() -> Iterator[str]:
        for number in range(5):
            made.append(number)
            yield str(number)

    add(app, "/", lambda: make_stream(kind, pieces), style)
    exchange = Exchange()
    exchange.wire_open.clear()
    task = serve(app, exchange)
    for number in range(6):  # in the end each of these sends is still under way
        await wait_until(lambda number=number: len(exchange.messages) == number + 1, 1)
        await asyncio.sleep(0.01)
        # The first piece of a sync stream is made before the head leaves, as under WSGI.
        expected = max(number, 1) if kind == "sync" else number
        assert (len(exchange.messages), len(made)) == (number + 1, expected)
        exchange.wire_open.set()  # for this one send
        exchange.wire_open.clear()
    exchange.wire_open.set()
    await task
    assert exchange.text == "01234"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.parametrize("where", ["between pieces", "in send"])
@pytest.mark.parametrize("method", ["GET", "POST", "POST in pieces"])
async def test_disconnect_closes_the_generator(app: Flask, style: str, kind: str, where: str, method: str) -> None:
    """Within a second, its `finally` with the contexts alive; then what was to be called on close."""
    ended: list[t.Any] = []

    def pieces() -> Iterator[str]:
        try:
            while True:
                yield "piece"
                time.sleep(0.005)
        finally:
            ended.append(("finally", request.path))

    async def async_pieces() -> AsyncIterator[str]:
        try:
            while True:
                yield "piece"
                await asyncio.sleep(0.005 if where == "in send" else PATIENCE)
        finally:
            ended.append(("finally", request.path))

    def view() -> Response:
        request.get_data()
        make = async_pieces if kind == "async" else pieces
        response = Response(stream_with_context(make()))  # type: ignore[operator]
        response.call_on_close(lambda: ended.append("closed"))
        return response

    add(app, "/", view, style, methods=["GET", "POST"])
    exchange = Exchange(method[:4].strip(), "/")
    if method != "GET":
        exchange.pieces = [b"a" * 10, b"b" * 10] if "pieces" in method else [b"a" * 20]
        exchange.scope["headers"] = [(b"content-length", b"20")]
    task = serve(app, exchange)
    await wait_until(lambda: len(exchange.messages) >= 2)
    if where == "in send":
        exchange.wire_open.clear()
    await asyncio.sleep(0.01)
    exchange.left.set()
    asyncio.get_running_loop().call_later(0.02, exchange.wire_open.set)
    start = time.monotonic()
    done, _ = await asyncio.wait([task], timeout=1)
    if not done:
        task.cancel()
        await asyncio.wait([task])
        pytest.fail("the stream goes on though the client has left")
    assert task.exception() is None and time.monotonic() - start < 5  # at once, but machines are busy
    assert ended == [("finally", "/"), "closed"]
    assert not exchange.complete


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_client_that_leaves_after_the_last_piece_is_no_error(app: Flask, style: str, kind: str) -> None:
    """Servers tell of the disconnect as soon as the answer is complete."""
    add(app, "/", lambda: make_stream(kind, lambda: iter("ab")), style)
    exchange = Exchange()
    exchange.on_send = lambda message: message.get("more_body", True) or exchange.left.set()
    await exchange.run(app)
    await asyncio.sleep(0)
    assert exchange.text == "ab"
    assert t.cast("asyncio.Task[t.Any]", asyncio.current_task()).cancelling() == 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_server_that_cancels_during_a_stream_gets_its_cancellation(app: Flask, style: str, kind: str) -> None:
    ended = []

    def pieces() -> Iterator[str]:
        try:
            for _ in range(1000):
                yield "piece"
                time.sleep(0.002)
        finally:
            ended.append("finally")

    async def async_pieces() -> AsyncIterator[str]:
        try:
            while True:
                yield "piece"
                await asyncio.sleep(0.002)
        finally:
            ended.append("finally")

    add(app, "/", lambda: async_pieces() if kind == "async" else pieces(), style)
    exchange = Exchange()
    task = serve(app, exchange)
    await wait_until(lambda: len(exchange.messages) >= 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["finally"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", STYLES)
async def test_error_after_the_start_aborts(app: Flask, style: str, kind: str) -> None:
    """It goes to the server, which cuts the connection: there is no clean end."""
    closed = []

    def pieces() -> Iterator[str]:
        yield "piece"
        raise KeyError("in the stream")

    def view() -> Response:
        response = Response(make_stream(kind, pieces))
        response.call_on_close(lambda: closed.append(threading.get_ident()))
        return response

    app.testing = False
    add(app, "/", view, style)
    exchange = Exchange()
    with pytest.raises(KeyError):
        await serve(app, exchange)
    assert exchange.body == b"piece" and not exchange.complete
    assert len(closed) == 1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("sent", [1, 3])
async def test_stream_shorter_than_its_content_length_aborts(app: Flask, style: str, sent: int) -> None:
    add(app, "/", lambda: Response(iter(["a"] * sent), headers={"Content-Length": "4"}), style)
    exchange = Exchange()
    with pytest.raises(RuntimeError, match="4 bytes"):
        await serve(app, exchange)
    assert not exchange.complete


@pytest.mark.parametrize("style", STYLES)
async def test_async_stream_shorter_than_its_content_length_aborts(app: Flask, style: str) -> None:
    def view() -> Response:
        return Response(make_stream("async", lambda: iter("a")), headers={"Content-Length": "4"})

    add(app, "/", view, style)
    exchange = Exchange()
    with pytest.raises(RuntimeError):
        await serve(app, exchange)
    assert not exchange.complete


@pytest.mark.parametrize("style", STYLES)
async def test_sync_stream_runs_in_one_thread_never_on_the_loop(app: Flask, style: str) -> None:
    threads = []

    def pieces() -> Iterator[str]:
        for _ in range(10):
            threads.append(threading.get_ident())
            yield "x"
        threads.append(threading.get_ident())

    def view() -> Response:
        if style == "sync":
            threads.append(threading.get_ident())
        response = Response(pieces())
        response.call_on_close(lambda: threads.append(threading.get_ident()))
        return response

    add(app, "/", view, style)
    await get(app)
    assert len(set(threads)) == 1 and threading.get_ident() not in threads


@pytest.mark.parametrize("style", STYLES)
async def test_call_on_close_runs_once_in_a_thread_in_order(app: Flask, style: str) -> None:
    calls: list[t.Any] = []

    def view() -> Response:
        response = Response("text")
        for name in "ab":
            response.call_on_close(lambda name=name: calls.append((name, threading.get_ident())))
        return response

    add(app, "/", view, style)
    await get(app)
    assert [name for name, _ in calls] == ["a", "b"]
    assert threading.get_ident() not in {thread for _, thread in calls}


async def test_iterable_with_close_is_closed(app: Flask) -> None:
    class Pieces:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b"])

        def close(self) -> None:
            self.closed += 1

    pieces = Pieces()
    app.add_url_rule("/", "view", lambda: Response(pieces))  # type: ignore[arg-type]
    assert (await get(app)).body == b"ab"
    assert pieces.closed == 1


@pytest.mark.parametrize("style", STYLES)
async def test_wsgi_application_as_an_answer(app: Flask, style: str) -> None:
    threads = []

    def wsgi(environ: t.Any, start_response: t.Any) -> Iterator[bytes]:
        threads.append(threading.get_ident())
        start_response("418 I'M A TEAPOT", [("X-Path", environ["PATH_INFO"])])
        return iter([b"a", b"b"])

    add(app, "/wsgi", lambda: wsgi, style)
    answer = await get(app, "/wsgi")
    assert (answer.status, answer.headers["x-path"], answer.body) == (418, "/wsgi", b"ab")
    assert threading.get_ident() not in threads


# -- files


CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("style", STYLES)
async def test_file_is_sent_in_large_pieces_and_closed(app: Flask, style: str, file: Path) -> None:
    add(app, "/", lambda: send_file(file, conditional=True), style)
    answer = await get(app)
    assert answer.body == CONTENT
    assert answer.headers["content-length"] == str(2**20)
    assert 2 <= len(answer.messages) <= 6
    assert (await Exchange("HEAD").run(app)).headers["content-length"] == str(2**20)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("bytes=0-9", 0, 10), ("bytes=1000000-", 10**6, 2**20), ("bytes=-5", -5, None)]
)
async def test_ranges(app: Flask, style: str, file: Path, asked: str, start: int, stop: int | None) -> None:
    add(app, "/", lambda: send_file(file, conditional=True), style)
    answer = await get(app, headers=[("Range", asked)])
    assert (answer.status, answer.body) == (206, CONTENT[start:stop])
    etag = answer.headers["etag"]
    assert (await get(app, headers=[("If-None-Match", etag)])).status == 304


@pytest.mark.parametrize("style", STYLES)
async def test_file_cut_short_while_it_is_sent_aborts(app: Flask, style: str, file: Path) -> None:
    add(app, "/", lambda: send_file(file), style)
    exchange = Exchange(on_send=lambda message: file.write_bytes(b"short") if "body" in message else None)
    with pytest.raises(RuntimeError, match="ended after"):
        await serve(app, exchange)
    assert not exchange.complete


@pytest.mark.parametrize("style", STYLES)
async def test_file_that_cannot_be_read_is_closed(app: Flask, style: str) -> None:
    class Broken(io.BytesIO):
        def read(self, *args: t.Any) -> bytes:
            raise OSError("disk")

    broken = Broken(b"content")
    add(app, "/", lambda: send_file(broken, mimetype="text/plain"), style)
    with pytest.raises(OSError, match="disk"):
        await serve(app, Exchange())
    assert broken.closed


async def test_static_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    app = Flask(__name__, static_folder=str(tmp_path), static_url_path="/static")
    answer = await get(app, "/static/a.txt")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (200, "a", "text/plain; charset=utf-8")
    for path in ("/static/missing", "/static/../edge.py", "/static//etc/passwd", "/static/"):
        assert (await get(app, path)).status in (308, 404)


# -- lifespan, websockets, unknown scopes


async def test_lifespan(app: Flask) -> None:
    inbox: asyncio.Queue[t.Any] = asyncio.Queue()
    outbox: asyncio.Queue[t.Any] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert await outbox.get() == {"type": "lifespan.startup.complete"}
    app.add_url_rule("/", "view", lambda: "text")
    assert (await get(app)).text == "text"
    threads = {lane.thread_id for lane in app._workers.lanes}
    assert threads
    await inbox.put({"type": "lifespan.shutdown"})
    assert await outbox.get() == {"type": "lifespan.shutdown.complete"}
    await asyncio.wait_for(task, PATIENCE)
    await wait_until(lambda: not threads & {thread.ident for thread in threading.enumerate()})
    assert (await get(app)).text == "text"  # served once more, as tests do


async def test_request_in_flight_at_the_end_of_the_lifespan_is_finished(app: Flask) -> None:
    torn_down, waiting, release = [], asyncio.Event(), asyncio.Event()

    @app.before_request
    def before() -> None:
        g.thread = threading.get_ident()

    @app.get("/")
    async def view() -> str:
        waiting.set()
        await release.wait()
        return "text"

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        torn_down.append(error)

    exchange = Exchange()
    task = serve(app, exchange)
    await waiting.wait()
    (lane,) = app._workers.lanes
    app._workers.close()
    release.set()
    done, _ = await asyncio.wait([task], timeout=1)
    while not task.done():  # it would hang for ever, and the test's loop with it: do the lane's work here
        job = await asyncio.to_thread(lane.inbox.get)
        if (tell := job and job()) is not None:
            tell()
        await asyncio.sleep(0.01)
    assert done and exchange.text == "text" and torn_down == [None]


async def test_websocket_is_refused(app: Flask) -> None:
    sent = []

    async def receive() -> t.Any:
        return {"type": "websocket.connect"}

    async def send(message: t.Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("kind", ["webtransport", "", "HTTP"])
async def test_unknown_scope_is_a_loud_error(app: Flask, kind: str) -> None:
    with pytest.raises(ValueError, match="scope type"):
        await app({"type": kind}, None, None)


# -- paths and headers


PATHS = [
    ("", "/foo/a", "/foo/a", ""),
    ("/foo", "/foo/a", "/a", "/foo"),
    ("/foo/", "/foo/a", "/a", "/foo"),
    ("/foo", "/foobar", "/foobar", "/foo"),
    ("/foo", "/foo", "/", "/foo"),
    ("/foo", "/foo/", "/", "/foo"),
    ("/foo", "/a", "/a", "/foo"),
    ("/", "/a", "/a", ""),
    ("/é", "/é/ü", "/ü", "/é"),
    ("", "", "/", ""),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("root", "path", "expected", "script"), PATHS)
@pytest.mark.parametrize("from_environ", [False, True])
async def test_root_path(
    app: Flask, style: str, root: str, path: str, expected: str, script: str, from_environ: bool
) -> None:
    def view(rest: str = "") -> dict[str, t.Any]:
        if from_environ:
            assert request.environ
        return {"path": request.path, "root": request.root_path, "url": url_for("there"), "rest": rest}

    add(app, "/", view, style)
    add(app, "/<path:rest>", view, style)
    app.add_url_rule("/there", "there", view)
    answer = await get(app, path, root_path=root)
    if path == root:  # nothing is left below the mount point: Werkzeug adds the slash
        assert (answer.status, answer.headers["location"]) == (308, f"http://localhost{root}/")
        return
    assert answer.json == {
        "path": expected,
        "root": script,
        "url": f"{script}/there",
        "rest": expected.lstrip("/"),
    }


async def test_repeated_headers_are_joined(app: Flask) -> None:
    def view() -> dict[str, t.Any]:
        seen = {name: request.headers.get(name) for name in ("X-A", "x-a", "Accept", "Cookie")}
        return {**seen, "cookies": request.cookies, "same": request.environ["HTTP_X_A"] == request.headers["X-A"]}

    app.add_url_rule("/", "view", view)
    headers = [("X-A", "1"), ("Accept", "a"), ("Cookie", "a=b"), ("x-a", "2"), ("X-A", "3"), ("Cookie", "c=d")]
    answer = await get(app, headers=headers)
    assert answer.json == {
        "X-A": "1,2,3",
        "x-a": "1,2,3",
        "Accept": "a",
        "Cookie": "a=b; c=d",
        "cookies": {"a": "b", "c": "d"},
        "same": True,
    }


async def test_many_equal_headers_take_linear_time(app: Flask) -> None:
    app.add_url_rule("/", "view", lambda: str(len(request.headers["X-A"]) + len(request.environ["HTTP_X_A"])))
    start = time.process_time()
    assert (await get(app, headers=[("X-A", "v")] * 20_000)).text == str(2 * 39_999)
    assert time.process_time() - start < 1


async def test_header_with_underscore_does_not_pose_as_another(app: Flask) -> None:
    app.add_url_rule("/", "view", lambda: request.environ.get("HTTP_X_USER", "nobody"))
    assert (await get(app, headers=[("X_User", "root")])).text == "nobody"
    assert (await get(app, headers=[("X-User", "me"), ("X_User", "root")])).text == "me"


@pytest.mark.parametrize("crumbs", [["session={}", "other=1"], ["other=1", "session={}"], ["session={}; other=1"]])
async def test_session_cookie_among_the_crumbs_of_http_2(app: Flask, crumbs: list[str]) -> None:
    """A permanent session is refreshed by each request, looked at or not, in whichever field its cookie came."""

    def log_in() -> str:
        session.permanent = True
        return "in"

    app.add_url_rule("/in", "in", log_in)
    app.add_url_rule("/", "view", lambda: "text")
    cookie = (await get(app, "/in")).headers["set-cookie"].partition(";")[0].removeprefix("session=")
    answer = await get(app, headers=[("Cookie", crumb.format(cookie)) for crumb in crumbs])
    assert "set-cookie" in answer.headers


@pytest.mark.parametrize("style", STYLES)
async def test_own_save_session_is_called_for_every_request(app: Flask, style: str) -> None:
    """As in Flask: an interface that inherits `open_session` may still save something each time."""
    saved = []

    class Interface(SecureCookieSessionInterface):
        def save_session(self, app: t.Any, session: t.Any, response: t.Any) -> None:
            saved.append(dict(session))
            super().save_session(app, session, response)

    app.session_interface = Interface()
    add(app, "/", lambda: "text", style)
    await get(app)
    assert saved == [{}]
    await asyncio.to_thread(app.test_client().get, "/")  # WSGI waits for async views, so not on the loop
    assert saved == [{}, {}]


async def test_failing_open_session_is_a_500(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    torn_down = []

    class Interface(SecureCookieSessionInterface):
        def open_session(self, app: t.Any, request: t.Any) -> t.Any:
            raise ConnectionError("store")

    app.testing = False
    app.session_interface = Interface()
    app.teardown_request(lambda error: torn_down.append(type(error)))
    add(app, "/", lambda: "text")
    answer = await get(app)
    assert (answer.status, torn_down) == (500, [ConnectionError])
    assert "store" in caplog.text


# -- overload


async def test_overload_is_503_with_retry_after_while_async_views_answer(app: Flask) -> None:
    app.config.update(WORKER_THREADS=2, WORKER_QUEUE_LIMIT=3)
    release, inside = threading.Event(), []

    def block() -> str:
        inside.append(1)
        release.wait(PATIENCE)
        return "waited"

    add(app, "/block", block)
    add(app, "/async", lambda: "at once", "async")
    app.add_url_rule("/nonblocking", "nonblocking", nonblocking(lambda: "at once"))
    tasks = [asyncio.create_task(get(app, "/block")) for _ in range(9)]
    try:
        await wait_until(lambda: sum(task.done() for task in tasks) == 4)
        for task in tasks:
            if task.done():
                answer = task.result()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.headers["content-length"] == str(len(answer.body))
        for path in ("/async", "/nonblocking", "/missing"):
            async with asyncio.timeout(0.5):
                assert (await get(app, path)).status in (200, 404)
    finally:
        release.set()
    assert sorted(answer.status for answer in await asyncio.gather(*tasks)) == [200] * 5 + [503] * 4
    assert (await get(app, "/block")).status == 200


async def test_overload_of_requests_that_begin_on_the_loop(app: Flask) -> None:
    """An async hook before a sync view is no way around the bound."""
    app.config.update(WORKER_THREADS=1, WORKER_QUEUE_LIMIT=2)
    release = threading.Event()

    @app.before_request
    async def before() -> None:
        await asyncio.sleep(0)

    add(app, "/", lambda: release.wait(PATIENCE) and "waited")
    tasks = []
    try:
        for _ in range(8):  # one after the other: each finds those before it waiting
            tasks.append(asyncio.create_task(get(app)))
            await asyncio.sleep(0.01)
        assert sum(task.done() and task.result().status == 503 for task in tasks) >= 4
    finally:
        release.set()
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {200, 503}


# -- where functions run


def place() -> str:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "thread"
    return LOOP


async def test_placement_of_wrapped_functions(app: Flask) -> None:
    async def async_place() -> str:
        await asyncio.sleep(0)
        return place()

    @app.get("/sync")
    def sync_view() -> dict[str, str]:
        return {"own": place(), "plain": app.ensure_sync(place)(), "other": app.ensure_sync(async_place)()}

    @app.get("/async")
    async def async_view() -> dict[str, str]:
        return {
            "own": place(),
            "plain": await app.ensure_async(async_place)(),
            "other": await app.ensure_async(place)(),
        }

    app.add_url_rule("/nonblocking", "nonblocking", nonblocking(lambda: {"own": place()}))
    assert (await get(app, "/sync")).json == {"own": "thread", "plain": "thread", "other": LOOP}
    assert (await get(app, "/async")).json == {"own": LOOP, "plain": LOOP, "other": "thread"}
    assert (await get(app, "/nonblocking")).json == {"own": LOOP}


async def test_sync_form_of_async_code_in_an_async_view_is_a_clear_error(app: Flask) -> None:
    async def other() -> None: ...

    @app.get("/")
    async def view() -> str:
        app.ensure_sync(other)()
        return "never"

    with pytest.raises(RuntimeError, match="ensure_async"):
        await serve(app, Exchange())


@pytest.mark.parametrize("name", ["ensure_sync", "async_to_sync"])
async def test_override_of_ensure_sync_is_honoured(name: str) -> None:
    called = []

    class App(Flask):
        pass

    def override(self: App, f: t.Any) -> t.Any:
        def wrapper(*args: t.Any, **kwargs: t.Any) -> t.Any:
            called.append(f.__name__)
            return getattr(super(App, self), name)(f)(*args, **kwargs)

        return wrapper

    setattr(App, name, override)
    app = App(__name__)

    @app.get("/")
    async def view() -> str:
        return place()

    assert (await get(app)).text == LOOP
    assert called == ["view"]


async def test_error_in_an_async_and_a_sync_handler_is_a_plain_500(app: Flask, caplog: t.Any) -> None:
    app.testing = False

    @app.errorhandler(KeyError)
    async def handle(error: KeyError) -> t.Any:
        raise ValueError("in the handler")

    add(app, "/", lambda: {}["missing"], "sync")
    with caplog.at_level(logging.ERROR):
        answer = await get(app)
    assert answer.status == 500 and b"Internal Server Error" in answer.body
    assert "in the handler" in caplog.text


# -- one object, two calls


class SubApp(Flask):
    pass


@pytest.mark.parametrize("cls", [Flask, SubApp])
async def test_servers_that_look_see_an_asgi_application(cls: type[Flask]) -> None:
    app = cls(__name__)
    assert inspect.iscoroutinefunction(app.__call__)  # hypercorn, uvicorn on 3.14
    assert asyncio.iscoroutinefunction(app.__call__)  # uvicorn
    assert callable(app) and not inspect.isclass(app)
    assert len(inspect.signature(app.__call__).parameters) == 3  # granian, asgiref
    from uvicorn.config import Config

    config = Config(app)
    config.load()
    assert config.interface == "asgi3"


async def test_instance_and_type_call_take_both_protocols(app: Flask) -> None:
    app.add_url_rule("/", "view", lambda: "text")
    assert (await get(app)).text == "text"
    assert (await get(app.asgi_app)).text == "text"
    assert (await get(app.__call__)).text == "text"
    started: list[t.Any] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }

    def start_response(status: str, headers: t.Any, exc_info: t.Any = None) -> None:
        started.append(status)

    for call in (app, app.wsgi_app):
        assert b"".join(call({**environ}, start_response)) == b"text"
    assert started == ["200 OK"] * 2


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3, 4)])
def test_wrong_number_of_arguments_is_a_type_error(app: Flask, arguments: t.Any) -> None:
    with pytest.raises(TypeError):
        app(*arguments)


async def test_middleware_around_asgi_app_is_used(app: Flask) -> None:
    inner = app.asgi_app

    async def middleware(scope: t.Any, receive: t.Any, send: t.Any) -> None:
        await inner({**scope, "path": "/inner"}, receive, send)

    app.asgi_app = middleware  # type: ignore[method-assign]
    app.add_url_rule("/inner", "view", lambda: "inner")
    assert (await get(app, "/outer")).text == "inner"


async def test_body_and_query_reach_the_view(app: Flask) -> None:
    app.add_url_rule(
        "/", "view", lambda: {"args": request.args, "form": request.form, "url": request.url}, methods=["POST"]
    )
    headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Host", "example.com")]
    answer = await post(app, "/?q=%C3%A9&q2=a+b", b"a=", b"b", headers=headers)
    assert answer.json == {
        "args": {"q": "é", "q2": "a b"},
        "form": {"a": "b"},
        "url": "http://example.com/?q=é&q2=a+b",
    }
