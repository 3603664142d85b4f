"""Request bodies over ASGI (and the async ones over WSGI): limits, spooling, stalls, disconnects, laziness."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import threading
import time
import tracemalloc
import typing as t
from collections.abc import AsyncIterator, Iterator

import pytest
from edge import Exchange, post, wait_until
from werkzeug.exceptions import ClientDisconnected, HTTPException

from asyncflask import Flask, body, request

KIB, MIB = 1024, 1024 * 1024
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
STYLES = ("sync", "async")


@pytest.fixture
def app() -> Flask:
    """/STYLE/WHAT answers with what a view of that style reads. Errors propagate: nothing is hidden in a 500."""
    app = Flask(__name__)
    app.testing = True

    def read(what: str) -> t.Any:
        return READERS[what]()

    async def async_read(what: str) -> t.Any:
        await asyncio.sleep(0)
        return READERS[what]()

    app.add_url_rule("/sync/<what>", "sync", read, methods=["POST"])
    app.add_url_rule("/async/<what>", "async", async_read, methods=["POST"])
    return app


def read_chunks() -> dict[str, t.Any]:
    sizes = [len(chunk) for chunk in iter(lambda: request.stream.read(64 * KIB), b"")]
    return {"size": sum(sizes), "largest": max(sizes, default=0)}


READERS: dict[str, t.Any] = {
    "data": lambda: {"size": len(request.get_data())},
    "form": lambda: {name: len(value) for name, value in request.form.items()},
    "json": lambda: {"size": len(request.get_json()["text"])},
    "files": lambda: {name: len(file.read()) for name, file in request.files.items()},
    "stream": read_chunks,
    "nothing": lambda: {"size": 0},
    "environ": lambda: {"size": len(request.environ["wsgi.input"].read())},
}


def multipart(size: int) -> tuple[list[tuple[str, str]], bytes]:
    parts = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"f" * size + b"\r\n--x--\r\n"
    return [("Content-Type", "multipart/form-data; boundary=x")], parts


def in_pieces(data: bytes, size: int = 64 * KIB) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]


# -- what a view reads


BODIES = [
    ("data", [], b"d" * 200_000, {"size": 200_000}),
    ("form", FORM, b"a=" + b"v" * 200_000 + b"&b=x", {"a": 200_000, "b": 1}),
    ("json", [("Content-Type", "application/json")], b'{"text": "%s"}' % (b"t" * 200_000), {"size": 200_000}),
    ("files", *multipart(200_000), {"file": 200_000}),
    ("stream", [], b"s" * 200_000, {"size": 200_000, "largest": 64 * KIB}),
    ("environ", [], b"e" * 200_000, {"size": 200_000}),
    ("nothing", [], b"n" * 200_000, {"size": 0}),
]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("what", "headers", "data", "expected"), BODIES)
@pytest.mark.parametrize("spool", [MIB, 1000])
async def test_every_way_of_reading(
    app: Flask, style: str, what: str, headers: t.Any, data: bytes, expected: t.Any, chunked: bool, spool: int
) -> None:
    app.config["BODY_SPOOL_SIZE"] = spool
    for pieces in ([data], in_pieces(data), [b"", data[:1], b"", data[1:], b""]):
        answer = await post(app, f"/{style}/{what}", *pieces, chunked=chunked, headers=headers)
        assert (answer.status, answer.json) == (200, expected)


@pytest.mark.parametrize("style", STYLES)
async def test_reading_twice_and_in_parts(app: Flask, style: str) -> None:
    READERS["parts"] = lambda: {
        "first": request.stream.read(3).decode(),
        "line": request.stream.readline().decode(),
        "rest": len(request.stream.read()),
        "end": request.stream.read().decode(),
    }
    try:
        answer = await post(app, f"/{style}/parts", b"abc", b"de\n", b"f" * 1000)
    finally:
        del READERS["parts"]
    assert answer.json == {"first": "abc", "line": "de\n", "rest": 1000, "end": ""}


@pytest.mark.parametrize("first", STYLES)
async def test_hook_reads_one_part_and_the_view_the_rest(app: Flask, first: str) -> None:
    """Of either kind, before a view of the other."""

    def read_some() -> None:
        assert request.stream.read(5) == b"12345"

    async def read_some_async() -> None:
        read_some()

    app.before_request(read_some if first == "sync" else read_some_async)
    for style in STYLES:
        answer = await post(app, f"/{style}/stream", b"123", b"456", b"7" * 1000)
        assert answer.json["size"] == 1001


@pytest.mark.parametrize("first", STYLES)
@pytest.mark.parametrize("style", STYLES)
def test_hook_reads_one_part_and_the_view_the_rest_over_wsgi(app: Flask, first: str, style: str) -> None:
    def read_some() -> None:
        assert request.stream.read(5) == b"12345"

    async def read_some_async() -> None:
        read_some()

    app.before_request(read_some if first == "sync" else read_some_async)
    answer = app.test_client().post(f"/{style}/stream", data=b"123456" + b"7" * 1000)
    assert answer.json["size"] == 1001


# -- limits


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("what", ["data", "stream", "json", "form", "files"])
async def test_declared_too_large_is_413_before_anything_is_read(app: Flask, style: str, what: str) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 1000
    headers = [*{"form": FORM, "files": multipart(1)[0]}.get(what, [("Content-Type", "application/json")])]
    exchange = Exchange(
        "POST", f"/{style}/{what}", headers=[*headers, ("Content-Length", "1001")], pieces=[b"x" * 1001]
    )
    await exchange.run(app)
    assert (exchange.status, exchange.received) == (413, 0)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("spool", [100, MIB])
async def test_chunked_over_the_limit_is_413_and_reads_little_more(app: Flask, style: str, spool: int) -> None:
    app.config.update(MAX_CONTENT_LENGTH=1000, BODY_SPOOL_SIZE=spool)
    exchange = Exchange(
        "POST", f"/{style}/data", headers=[("Transfer-Encoding", "chunked")], pieces=[b"x" * 400] * 1000
    )
    await exchange.run(app)
    assert exchange.status == 413
    assert exchange.received <= 4
    exactly = await post(app, f"/{style}/data", b"x" * 400, b"x" * 600, chunked=True)
    assert (exactly.status, exactly.json) == (200, {"size": 1000})


@pytest.mark.parametrize("style", STYLES)
async def test_view_that_does_not_look_answers_an_oversized_request(app: Flask, style: str) -> None:
    """As in Flask: the access is what raises."""
    app.config["MAX_CONTENT_LENGTH"] = 10
    for chunked in (False, True):
        assert (await post(app, f"/{style}/nothing", b"x" * 8, b"x" * 8, chunked=chunked)).status == 200


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_view_may_lower_its_limit(app: Flask, style: str, chunked: bool) -> None:
    def lower() -> t.Any:
        request.max_content_length = 5
        return READERS["data"]()

    READERS["lower"] = lower
    try:
        assert (await post(app, f"/{style}/lower", b"1234", b"5678", chunked=chunked)).status == 413
    finally:
        del READERS["lower"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_view_that_raises_its_limit_never_gets_a_part(app: Flask, style: str, chunked: bool) -> None:
    """Flask documents it. If the body can no longer be had (an async view's was loaded before), then it is 413."""

    def raise_limit() -> t.Any:
        request.max_content_length = MIB
        return READERS["data"]()

    READERS["raise"] = raise_limit
    app.config["MAX_CONTENT_LENGTH"] = 10
    try:
        answer = await post(app, f"/{style}/raise", *[b"12345678"] * 10, chunked=chunked)
    finally:
        del READERS["raise"]
    if style == "sync":
        assert (answer.status, answer.json) == (200, {"size": 80})
    else:
        assert answer.status == 413 or answer.json == {"size": 80}


@pytest.mark.parametrize("style", STYLES)
async def test_hook_may_raise_the_limit(app: Flask, style: str) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10

    @app.before_request
    def raise_limit() -> None:
        request.max_content_length = MIB

    for chunked in (False, True):
        answer = await post(app, f"/{style}/data", *[b"12345678"] * 10, chunked=chunked)
        assert answer.json == {"size": 80}


@pytest.mark.parametrize(
    "length", ["-5", "abc", "+5", "5 5", "", " 5", "5,5", "\u0665", "0x5", "1_0", "5.0", "9" * 5000]
)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("limit", [None, 1000])
async def test_content_length_that_is_no_number_is_400(app: Flask, style: str, length: str, limit: int | None) -> None:
    app.config["MAX_CONTENT_LENGTH"] = limit
    headers = [("Content-Length", length.encode().decode("latin-1"))]
    answer = await Exchange("POST", f"/{style}/data", headers=headers, pieces=[b"hello"]).run(app)
    assert answer.status in ((400, 413) if length.isdigit() and length.isascii() else (400,))


async def test_two_content_lengths_are_400(app: Flask) -> None:
    headers = [("Content-Length", "5"), ("Content-Length", "6")]
    assert (await Exchange("POST", "/sync/data", headers=headers, pieces=[b"hello"]).run(app)).status == 400


@pytest.mark.parametrize("style", STYLES)
async def test_body_shorter_than_declared_is_400(app: Flask, style: str) -> None:
    answer = await Exchange("POST", f"/{style}/data", headers=[("Content-Length", "10")], pieces=[b"abc", b"de"]).run(
        app
    )
    assert answer.status == 400


@pytest.mark.parametrize("style", STYLES)
async def test_body_longer_than_declared_is_cut_or_400(app: Flask, style: str) -> None:
    answer = await Exchange("POST", f"/{style}/data", headers=[("Content-Length", "4")], pieces=[b"abc", b"def"]).run(
        app
    )
    assert answer.status == 400 or answer.json == {"size": 4}


@pytest.mark.parametrize("style", STYLES)
async def test_form_limits_hold(app: Flask, style: str) -> None:
    app.config.update(MAX_FORM_MEMORY_SIZE=1000, MAX_FORM_PARTS=3)
    assert (await post(app, f"/{style}/form", *[b"a=" + b"x" * 600] * 3, headers=FORM)).status == 413
    headers, data = multipart(10)
    # Fields, no files: Werkzeug leaves those of a refused form open.
    many = data.replace(b'; filename="f"', b"")[: -len(b"--x--\r\n")] * 5 + b"--x--\r\n"
    assert (await post(app, f"/{style}/files", *in_pieces(many, 50), headers=headers)).status == 413


# -- spooling


async def test_large_body_goes_to_the_disk_off_the_loop(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones never do; what is written to a temporary file is written in the worker thread."""
    opened, written = [], []

    class NotedFile(io.BytesIO):
        def __init__(self) -> None:
            super().__init__()
            opened.append(threading.get_ident())

        def write(self, piece: t.Any) -> int:
            written.append(threading.get_ident())
            return super().write(piece)

    monkeypatch.setattr(body, "TemporaryFile", NotedFile)
    app.config["BODY_SPOOL_SIZE"] = 100 * KIB
    assert (await post(app, "/async/data", *in_pieces(b"x" * 100 * KIB))).json == {"size": 100 * KIB}
    assert opened == []
    assert (await post(app, "/async/data", *in_pieces(b"x" * 300 * KIB))).json == {"size": 300 * KIB}
    assert len(opened) == 1
    assert threading.get_ident() not in {*opened, *written}


@pytest.mark.parametrize("style", STYLES)
async def test_temporary_file_is_closed_with_the_request(
    app: Flask, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[t.Any] = []
    make = body.TemporaryFile
    monkeypatch.setattr(body, "TemporaryFile", lambda: files.append(make()) or files[-1])
    app.config.update(BODY_SPOOL_SIZE=1000, BODY_TIMEOUT=0.05, MAX_CONTENT_LENGTH=50_000)

    async def ask(ends: bool, leaves: bool, pieces: list[bytes]) -> int | None:
        exchange = Exchange(
            "POST", f"/{style}/data", headers=[("Transfer-Encoding", "chunked")], pieces=pieces, ends=ends
        )
        if leaves:
            exchange.left.set()
        await exchange.run(app)
        return exchange.status if exchange.messages else None

    assert await ask(True, False, [b"x" * 5000] * 4) == 200
    assert await ask(False, False, [b"x" * 5000] * 4) == 408
    assert await ask(False, True, [b"x" * 5000] * 4) is None
    assert await ask(True, False, [b"x" * 5000] * 40) == 413
    assert all(file.closed for file in files)
    assert bool(files) == (style == "async")


async def test_loop_runs_on_during_a_large_upload(app: Flask) -> None:
    app.config["BODY_SPOOL_SIZE"] = 64 * KIB
    app.add_url_rule("/gone", "gone", lambda: "x", methods=["POST"])
    # 20 MiB. The guard of all tests tells if the loop stands still.
    assert (await post(app, "/async/nothing", *[b"x" * 256 * KIB] * 80)).status == 200


@pytest.mark.parametrize(("style", "what"), [("sync", "stream"), ("async", "stream"), ("sync", "nothing")])
async def test_memory_is_flat(app: Flask, style: str, what: str) -> None:
    """24 MiB pass through 1 MiB of memory."""

    class Endless(list[bytes]):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def __bool__(self) -> bool:
            return self.count > 0

        def pop(self, index: t.Any = 0) -> bytes:
            self.count -= 1
            return bytes(64 * KIB)

    app.config["BODY_SPOOL_SIZE"] = 128 * KIB
    total = 24 * MIB
    exchange = Exchange("POST", f"/{style}/{what}", headers=[("Content-Length", str(total))])
    exchange.pieces = Endless(total // (64 * KIB))
    gc.collect()
    tracemalloc.start()
    try:
        await exchange.run(app)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert exchange.json.get("size") == (total if what == "stream" else 0)
    assert peak < 2 * MIB, peak


# -- laziness


async def test_body_that_a_sync_view_does_not_read_is_never_received(app: Flask) -> None:
    exchange = Exchange("POST", "/sync/nothing", headers=[("Content-Length", "1000000")], pieces=[b"x" * 1000] * 1000)
    await exchange.run(app)
    assert exchange.status == 200
    assert exchange.received <= 1


async def test_sync_view_reads_no_more_than_it_needs(app: Flask) -> None:
    def read_two() -> dict[str, int]:
        return {"size": len(request.stream.read(1500))}

    READERS["two"] = read_two
    exchange = Exchange("POST", "/sync/two", headers=[("Content-Length", "1000000")], pieces=[b"x" * 1000] * 1000)
    try:
        await exchange.run(app)
    finally:
        del READERS["two"]
    assert exchange.json == {"size": 1500} and exchange.received <= 3


@pytest.mark.parametrize("kind", ["after", "teardown", "both"])
async def test_answer_does_not_wait_for_a_body_that_nobody_reads(app: Flask, kind: str) -> None:
    """An async hook after the view is no reason to take in an upload that a sync view has refused unread."""
    ran = []
    app.config["BODY_TIMEOUT"] = 5

    async def after(response: t.Any) -> t.Any:
        ran.append("after")
        return response

    async def teardown(error: BaseException | None) -> None:
        ran.append("teardown")

    if kind != "teardown":
        app.after_request(after)
    if kind != "after":
        app.teardown_request(teardown)
    headers = [("Content-Length", "1000000")]
    exchange = Exchange("POST", "/sync/nothing", headers=headers, pieces=[b"x" * 10], ends=False)
    start = time.monotonic()
    await exchange.run(app)
    assert exchange.status == 200
    assert ran == {"both": ["after", "teardown"]}.get(kind, [kind])
    assert exchange.received <= 1
    assert time.monotonic() - start < 4


async def test_early_answer_of_a_hook_does_not_wait_for_the_body(app: Flask) -> None:
    app.config["BODY_TIMEOUT"] = 0.5

    @app.before_request
    def refuse() -> tuple[str, int]:
        return "no", 401

    exchange = Exchange("POST", "/async/data", headers=[("Content-Length", "1000000")], pieces=[b"x" * 10], ends=False)
    await exchange.run(app)
    assert (exchange.status, exchange.received) == (401, 1)


# -- stalls and disconnects


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pieces", [[], [b"x" * 10], [b"x" * 10, b"y"]])
async def test_body_that_stalls_is_408_and_others_go_on(app: Flask, style: str, pieces: list[bytes]) -> None:
    app.config.update(BODY_TIMEOUT=0.1, WORKER_THREADS=2)
    torn_down: list[t.Any] = []
    app.teardown_request(lambda error: torn_down.append(error))
    headers = [("Content-Length", "1000")]
    exchange = Exchange("POST", f"/{style}/data", headers=headers, pieces=pieces, ends=False)
    if not pieces:
        exchange.receive = never_receive(exchange)  # type: ignore[method-assign]
    stalled = asyncio.create_task(exchange.run(app))
    other = await post(app, "/async/data", b"abc")
    assert other.json == {"size": 3} and not stalled.done()
    await stalled
    assert exchange.status == 408
    assert len(torn_down) == 2


def never_receive(exchange: Exchange) -> t.Any:
    async def receive() -> t.Any:
        await asyncio.Event().wait()

    return receive


@pytest.mark.parametrize("testing", [True, False])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("what", ["data", "form", "json", "files", "stream"])
@pytest.mark.parametrize("pieces", [[], [b"a=b"], [b"a=b", b"&c"]])
async def test_disconnect_mid_body(
    app: Flask, style: str, what: str, pieces: list[bytes], testing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The read raises ClientDisconnected; teardown once; nothing is logged as an error."""
    app.testing = testing
    torn_down, raised = [], []
    app.teardown_request(lambda error: torn_down.append(error))

    @app.errorhandler(ClientDisconnected)
    def note(error: ClientDisconnected) -> t.Any:
        raised.append(error)
        return error

    headers = {"form": FORM, "files": multipart(1)[0], "json": [("Content-Type", "application/json")]}.get(what, [])
    headers = [*headers, ("Content-Length", "1000")]
    exchange = Exchange("POST", f"/{style}/{what}", headers=headers, pieces=pieces, ends=False)
    exchange.left.set()
    with caplog.at_level(logging.WARNING):
        await exchange.run(app)
    assert (exchange.messages, len(raised), len(torn_down)) == ([], 1, 1)
    assert caplog.records == []


@pytest.mark.parametrize("trigger", ["disconnect", "stall"])
async def test_async_teardown_runs_though_the_unread_body_fails(app: Flask, trigger: str) -> None:
    app.config["BODY_TIMEOUT"] = 0.1
    app.testing = False
    torn_down = []

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        torn_down.append(error)

    exchange = Exchange("POST", "/sync/nothing", headers=[("Content-Length", "1000")], pieces=[b"x"], ends=False)
    if trigger == "disconnect":
        exchange.left.set()
    await exchange.run(app)
    assert exchange.status == 200
    assert torn_down == [None]


@pytest.mark.parametrize("trigger", ["disconnect", "stall"])
async def test_async_error_handler_may_look_at_a_body_that_failed(app: Flask, trigger: str) -> None:
    """It logs what came, or is told once more: no RuntimeError about the loop."""
    app.config["BODY_TIMEOUT"] = 0.1

    handled = []

    @app.errorhandler(HTTPException)
    async def handle(error: HTTPException) -> t.Any:
        try:
            request.get_data()
        except HTTPException as again:
            assert type(again) is type(error)
        handled.append(error.code)
        return error

    exchange = Exchange("POST", "/async/data", headers=[("Content-Length", "1000")], pieces=[b"x", b"y"], ends=False)
    if trigger == "disconnect":
        exchange.left.set()
    await exchange.run(app)
    assert handled == [400 if trigger == "disconnect" else 408]


async def test_failed_body_is_never_taken_for_a_whole_one(app: Flask) -> None:
    """A chunked body whose client left: the first read raises, and a second must not find a clean end."""

    seen: list[t.Any] = []

    def read_twice() -> str:
        for _ in range(2):
            try:
                seen.append(len(request.get_data()))
            except ClientDisconnected:
                seen.append("left")
        return ""

    app.add_url_rule("/twice", "twice", read_twice, methods=["POST"])
    headers = [("Transfer-Encoding", "chunked")]
    exchange = Exchange("POST", "/twice", headers=headers, pieces=[b"x", b"y"], ends=False)
    exchange.left.set()
    await exchange.run(app)
    assert seen == ["left", "left"]


async def test_cancelled_while_the_body_is_read(app: Flask) -> None:
    torn_down = []
    app.teardown_request(lambda error: torn_down.append(type(error)))
    for style in STYLES:
        exchange = Exchange("POST", f"/{style}/data", headers=[("Content-Length", "99")], pieces=[b"x"], ends=False)
        app.config["BODY_TIMEOUT"] = 0.2  # a thread that waits for a piece ends at the latest then
        task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
        await wait_until(lambda exchange=exchange: exchange.received == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(torn_down) == 2


# -- other ways through the dispatcher


@pytest.mark.parametrize("name", ["dispatch_request", "full_dispatch_request", "preprocess_request"])
@pytest.mark.parametrize("style", STYLES)
async def test_overridden_stage_with_a_large_body(name: str, style: str) -> None:
    """A sync override drives the stage below it in its thread; the body of an async view is loaded all the same."""

    def override(self: t.Any) -> t.Any:
        return getattr(super(App, self), name)()

    App = type("App", (Flask,), {name: override})
    app = App(__name__)
    app.testing = True

    async def hook() -> None:
        await asyncio.sleep(0)

    async def async_view() -> dict[str, int]:
        return {"size": len(request.get_data())}

    if name == "preprocess_request":
        app.before_request(hook)
    app.add_url_rule(
        "/", "view", async_view if style == "async" else lambda: {"size": len(request.get_data())}, methods=["POST"]
    )
    for chunked in (False, True):
        assert (await post(app, "/", *[b"x" * 1000] * 5, chunked=chunked)).json == {"size": 5000}


class NotifyingInput(io.BytesIO):
    """wsgi.input that refuses to be read on an event loop."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.threads: set[int] = set()

    def read(self, *args: t.Any) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(*args)

    def readinto(self, buffer: t.Any) -> int:
        self.threads.add(threading.get_ident())
        return super().readinto(buffer)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("what", "headers", "data", "expected"), BODIES)
@pytest.mark.parametrize("spool", [MIB, 1000])
def test_wsgi_input_is_read_in_the_servers_thread(
    app: Flask, style: str, what: str, headers: t.Any, data: bytes, expected: t.Any, spool: int
) -> None:
    app.config["BODY_SPOOL_SIZE"] = spool
    stream = NotifyingInput(data)
    answer = app.test_client().post(
        f"/{style}/{what}", input_stream=stream, headers=[*headers, ("Content-Length", str(len(data)))]
    )
    assert (answer.status_code, answer.json) == (200, expected)
    assert stream.threads <= {threading.get_ident()}


@pytest.mark.parametrize("style", STYLES)
def test_wsgi_limits(app: Flask, style: str) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    client = app.test_client()
    assert client.post(f"/{style}/data", data=b"x" * 11).status_code == 413
    assert client.post(f"/{style}/data", data=b"x" * 10).json == {"size": 10}
    assert client.post(f"/{style}/nothing", data=b"x" * 11).status_code == 200
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    stream = io.BytesIO(b"x" * 1000)
    assert client.post(f"/{style}/data", input_stream=stream, environ_overrides=chunked).status_code == 413
    for length in ("-5", "abc", "\u0665"):
        overrides = {"CONTENT_LENGTH": length}
        assert client.post(f"/{style}/data", environ_overrides=overrides).status_code == 400


async def test_stream_of_a_view_may_echo_its_body(app: Flask) -> None:
    """A sync generator reads the request while it answers; an async one has it loaded."""

    @app.post("/echo")
    def echo() -> t.Any:
        stream = request.stream

        def pieces() -> Iterator[bytes]:
            yield from iter(lambda: stream.read(1000), b"")

        return pieces()

    @app.post("/async-echo")
    async def async_echo() -> t.Any:
        stream = request.stream

        async def pieces() -> AsyncIterator[bytes]:
            for chunk in iter(lambda: stream.read(1000), b""):
                await asyncio.sleep(0)
                yield chunk

        return pieces()

    for path in ("/echo", "/async-echo"):
        assert (await post(app, path, *[b"abc" * 500] * 10)).body == b"abc" * 5000
