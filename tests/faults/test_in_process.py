"""Faults that need no socket, on both faces where both have them."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import logging
import os
import threading
import time
import tracemalloc
import typing as t
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import flask
import pytest
from edge import Exchange, get, post, wait_until

from asyncflask import Flask, Response, has_app_context, has_request_context, request, stream_with_context

STYLES = ("sync", "async")
HOST = [("Host", "localhost")]
JSON = [("Content-Type", "application/json")]
GAP = 0.05  # seconds for which nothing may hold the loop


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def in_style(f: Callable[..., t.Any], style: str) -> Callable[..., t.Any]:
    async def g(*args: t.Any) -> t.Any:
        await asyncio.sleep(0)
        return f(*args)

    return g if style == "async" else f


async def longest_gap(work: Awaitable[t.Any]) -> tuple[t.Any, float]:
    """The result, and the longest time in seconds for which the loop did not come round."""
    gaps: list[float] = []

    async def measure() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    task = asyncio.create_task(measure())
    await asyncio.sleep(0.01)
    result = await work
    await asyncio.sleep(0.01)
    task.cancel()
    return result, max(gaps)


# Cancellation

PLACES = (
    *("url_value_preprocessor", "before_request", "view", "errorhandler", "after_request"),
    *("teardown_request", "teardown_appcontext"),
)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("place", PLACES)
async def test_08_cancelled_error_in_each_hook(app: Flask, place: str, style: str) -> None:
    """The other teardowns run, the cancellation goes on to the server, no context is left."""
    ran = []
    failing: dict[str, Callable[..., t.Any]] = {name: lambda *args: None for name in PLACES}

    def cancel(*args: t.Any) -> t.NoReturn:
        ran.append(place)
        raise asyncio.CancelledError

    failing["after_request"] = lambda response: response
    failing["view"] = lambda: {}["a key"] if place == "errorhandler" else "text"
    failing["errorhandler"] = lambda error: ("handled", 500)
    failing[place] = cancel
    for hook in ("teardown_request", "teardown_appcontext"):
        getattr(app, hook)(lambda error, hook=hook: ran.append(f"first {hook}"))
        getattr(app, hook)(in_style(failing[hook], style))
        getattr(app, hook)(lambda error, hook=hook: ran.append(f"last {hook}"))
    app.url_value_preprocessor(in_style(failing["url_value_preprocessor"], style))
    app.before_request(in_style(failing["before_request"], style))
    app.after_request(in_style(failing["after_request"], style))
    app.register_error_handler(KeyError, in_style(failing["errorhandler"], style))
    app.add_url_rule("/", "view", in_style(failing["view"], style))
    exchange = Exchange()
    with pytest.raises(asyncio.CancelledError):
        await app(exchange.scope, exchange.receive, exchange.send)
    hooks = [f"{order} {hook}" for hook in ("teardown_request", "teardown_appcontext") for order in ("last", "first")]
    assert [event for event in ran if " " in event] == hooks and ran.count(place) == 1
    assert not has_app_context() and not has_request_context()


# Streams


@pytest.mark.parametrize("style", STYLES)
async def test_04_a_send_that_waits_on_for_one_who_has_left(app: Flask, style: str) -> None:
    """The server's, which nobody ends: the stream does not wait with it."""
    closed: list[str] = []
    waits = asyncio.Event()

    @app.get("/sync")
    def view() -> Response:
        def pieces() -> Iterator[bytes]:
            try:
                while True:
                    yield b"piece"
            finally:
                closed.append(request.path)

        return Response(stream_with_context(pieces()))

    @app.get("/async")
    async def async_view() -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"piece"
            finally:
                closed.append(request.path)

        return Response(stream_with_context(pieces()))

    async def send(message: t.Any) -> None:
        if message["type"] == "http.response.body":
            waits.set()
            await asyncio.Event().wait()

    exchange = Exchange(path=f"/{style}", headers=HOST)
    task = asyncio.create_task(app(exchange.scope, exchange.receive, send))
    await waits.wait()
    exchange.left.set()
    await asyncio.wait_for(task, 5)
    assert closed == [f"/{style}"]


# JSON


async def post_wsgi(app: t.Any, data: bytes) -> t.Any:
    return await asyncio.to_thread(app.test_client().post, "/", data=data, content_type="application/json")


def make_json_app(api: t.Any, style: str = "sync") -> t.Any:
    app = api.Flask("json_faults")
    app.add_url_rule("/", "view", in_style(lambda: repr(api.request.get_json())[:200], style), methods=["POST"])
    return app


@pytest.fixture(scope="module")
def million_keys() -> list[bytes]:
    text = b"{%b}" % b",".join(b'"k%d":%d' % (number, number) for number in range(1_000_000))
    return [text[at : at + 65536] for at in range(0, len(text), 65536)]


@pytest.mark.parametrize("style", STYLES)
async def test_13_json_with_a_million_keys(style: str, million_keys: list[bytes]) -> None:
    """413, or parsed without a gap. (A busy machine may make one by itself, but hardly four times.)"""
    import asyncflask

    app = make_json_app(asyncflask, style)
    gaps = []
    for _ in range(4):
        answer, gap = await longest_gap(post(app, "/", *million_keys, headers=JSON))
        assert answer.status in (200, 413)
        gaps.append(gap)
        if gap < GAP:
            return
    raise AssertionError(gaps)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
async def test_14_json_100_000_deep(style: str, text: str) -> None:
    import asyncflask

    app = make_json_app(asyncflask, style)
    assert (await post(app, "/", text.encode(), headers=JSON)).status == 400
    assert (await post_wsgi(app, text.encode())).status_code == 400


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["9" * 5000, f"[{'9' * 5000}]", f"-{'1' * 100_000}"])
async def test_15_an_integer_of_5_000_digits(style: str, text: str) -> None:
    import asyncflask

    app = make_json_app(asyncflask, style)
    assert (await post(app, "/", text.encode(), headers=JSON)).status == 400
    assert (await post_wsgi(app, text.encode())).status_code == 400


@pytest.mark.parametrize(
    "text",
    ["NaN", "[-Infinity, Infinity]", r'"\ud800"', r'{"\udfff": 1}', "1e400", '"\udcff"', '["\udcff"]', "\ufeff[1]"],
)
async def test_15_nan_and_lone_surrogates_are_as_flasks(text: str) -> None:
    import asyncflask

    data = text.encode("utf-8", "surrogatepass")
    expected = await post_wsgi(make_json_app(flask), data)
    app = make_json_app(asyncflask)
    answer = await post_wsgi(app, data)
    assert (answer.status_code, answer.data) == (expected.status_code, expected.data)
    over_asgi = await post(app, "/", data, headers=JSON)
    assert (over_asgi.status, over_asgi.body) == (expected.status_code, expected.data)


# Headers

MANY = 10_000
KINDS: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "equal headers": lambda count: [("X-Equal", "v" * 50)] * count,
    "equal known headers": lambda count: [("Accept", "text/html;q=0.1")] * count,
    "cookie headers": lambda count: [("Cookie", f"name{number}={'v' * 50}") for number in range(count)],
    "cookies": lambda count: [("Cookie", "; ".join(f"name{number}=value" for number in range(count)))],
    "equal cookies": lambda count: [("Cookie", "; ".join(["session=value"] * count))],
    "forwarded": lambda count: [("X-Forwarded-For", "10.0.0.1")] * count,
}


@pytest.mark.blocks_loop("it reads and measures many headers")
@pytest.mark.parametrize("kind", KINDS)
async def test_16_10_000_cookies_or_equal_headers(app: Flask, kind: str) -> None:
    """Eight times as many take about eight times as long, and not long. (Time of the processor.)"""
    app.secret_key = "key"

    @app.get("/")
    async def view() -> str:
        from asyncflask import session

        found = (len(request.cookies), len(request.headers), len(request.environ), "x" in session, request.remote_addr)
        return f"{found} {request.accept_mimetypes.best is None}"

    async def ask(count: int) -> float:
        best = 60.0
        for _ in range(4):
            exchange = Exchange(headers=[*HOST, *KINDS[kind](count)])
            begun = time.process_time()
            await exchange.run(app)
            best = min(best, time.process_time() - begun)
            assert exchange.status == 200
        return best

    few, many = await ask(MANY // 4), await ask(MANY * 2)
    assert many < 0.5 and many < 4 * 8 * max(few, 0.001), (few, many)  # quadratic would be 8 * 8


# Threads


async def test_24_name_look_ups_while_all_worker_threads_are_busy(app: Flask) -> None:
    """They have threads of their own, and so has whoever else uses the loop's."""
    threads = 40  # a loop's own executor has at most 32
    app.config.update(WORKER_THREADS=threads, WORKER_QUEUE_LIMIT=50)
    begun, release = threading.Semaphore(0), threading.Event()
    app.add_url_rule("/", "view", lambda: str(begun.release() or release.wait(10)))
    tasks = [asyncio.create_task(get(app)) for _ in range(threads + 20)]
    try:
        await wait_until(lambda: begun._value == threads)
        async with asyncio.timeout(3):
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            assert await asyncio.to_thread(int, "7") == 7
    finally:
        release.set()
    assert {(await task).text for task in tasks} == {"True"}


# Memory


async def test_29_memory_after_many_requests(app: Flask) -> None:
    """200, 404, 500 and clients that leave: what they allocate is gone without the collector."""
    app.logger.setLevel(logging.CRITICAL)
    app.add_url_rule("/sync", "sync", lambda: "text")
    app.add_url_rule("/async", "async", in_style(lambda: "text", "async"))
    app.add_url_rule("/fail", "fail", lambda: {}["nothing"])
    app.add_url_rule("/up", "up", in_style(lambda: str(len(request.get_data())), "async"), methods=["POST"])

    async def ask(rounds: int) -> None:
        for _ in range(rounds):
            for path in ("/sync", "/async", "/fail", "/missing"):
                exchange = Exchange(path=path, headers=HOST)
                await app(exchange.scope, exchange.receive, exchange.send)
            leaving = Exchange("POST", "/up", headers=[*HOST, ("Content-Length", "10")], pieces=[b"x"], ends=False)
            leaving.left.set()
            await app(leaving.scope, leaving.receive, leaving.send)

    await ask(50)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        await ask(20)
        before = tracemalloc.get_traced_memory()[0]
        await ask(400)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < 2000 * 30, grown  # bytes; what one of the five leaves counts a fifth


# Disks and descriptors


class FullDisk(io.BytesIO):
    """A temporary file on a disk that is full, or is no more than its first bytes away from it."""

    files: t.ClassVar[list[FullDisk]] = []

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()
        self.files.append(self)

    def write(self, data: t.Any) -> t.NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writelines = write


def no_more_files(*args: object, **kwargs: object) -> t.NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


FULL = {"full disk": (FullDisk, 507), "no descriptors": (no_more_files, 503)}
SPOOLS = ("tempfile.TemporaryFile", "asyncflask.body.TemporaryFile")  # those of Python's spooled files, and of ours
FORM = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + bytes(3 * 2**20) + b"\r\n--b--\r\n"


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("what", ["data", "files"])
@pytest.mark.parametrize("kind", FULL)
async def test_32_enospc_or_emfile_in_an_upload(
    app: Flask, face: str, style: str, what: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 or 503, and no temporary file is left open."""
    fake, status = FULL[kind]
    for name in SPOOLS:
        monkeypatch.setattr(name, fake)
    FullDisk.files.clear()
    torn_down: list[t.Any] = []
    app.teardown_request(torn_down.append)
    read = {"data": lambda: str(len(request.get_data())), "files": lambda: str(len(request.files))}[what]
    app.add_url_rule("/", "view", in_style(read, style), methods=["POST"])
    if (what, style) == ("data", "sync"):
        monkeypatch.undo()  # it is read into memory, as the view wants it
        status = 200
    headers = [("Content-Type", "multipart/form-data; boundary=b")]
    if face == "asgi":
        pieces = [FORM[at : at + 2**18] for at in range(0, len(FORM), 2**18)]
        seen = (await post(app, "/", *pieces, headers=headers)).status
    else:
        client = app.test_client()
        seen = (await asyncio.to_thread(client.post, "/", data=FORM, headers=headers)).status_code
    assert seen == status
    assert len(torn_down) == 1
    assert all(file.closed for file in FullDisk.files)
