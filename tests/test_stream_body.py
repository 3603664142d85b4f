"""Bodies and multipart forms that are read as they arrive: `stream_body`, `async for`, `stream_parts()`."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
import threading
import time
import tracemalloc
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from edge import Exchange, get, post, wait_until
from guarded_servers import ASGI_SERVERS, WSGI_SERVERS, GuardedServer, make_fixture, read_answer
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.routing import BaseConverter
from werkzeug.test import create_environ, run_wsgi_app

from asyncflask import Blueprint, Flask, Request, request
from asyncflask.views import MethodView

KIB, MIB = 1024, 1024 * 1024
CHUNKED = [("Transfer-Encoding", "chunked")]
FORM = ("Content-Type", "multipart/form-data; boundary=x")
STYLES = ("sync", "async")


async def count_chunks() -> dict[str, t.Any]:
    return {"sizes": [len(chunk) async for chunk in request.stream]}


def add(app: Flask, view: Callable[..., t.Any], rule: str = "/", **options: t.Any) -> None:
    options.setdefault("stream_body", True)
    app.add_url_rule(rule, rule, view, methods=["GET", "POST"], **options)


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.testing = True
    return app


class Client:
    """Sends pieces when the test says so."""

    def __init__(self, *headers: tuple[str, str], path: str = "/", method: str = "POST") -> None:
        self.exchange = Exchange(method, path, headers=headers or CHUNKED)
        self.inbox: asyncio.Queue[t.Any] = asyncio.Queue()
        self.exchange.receive = self.receive  # type: ignore[method-assign]

    async def receive(self) -> t.Any:
        self.exchange.received += 1
        return await self.inbox.get()

    def send(self, piece: bytes, more: bool = True) -> None:
        self.inbox.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})

    def ask(self, app: Flask) -> asyncio.Task[None]:
        return asyncio.create_task(app(self.exchange.scope, self.exchange.receive, self.exchange.send))


# -- raw bodies


async def test_view_begins_before_the_body_is_there(app: Flask) -> None:
    seen: list[bytes] = []
    note = seen.append

    async def view() -> str:
        async for chunk in request.stream:
            note(chunk)
        return "done"

    add(app, view)
    client = Client()
    client.send(b"one")
    task = client.ask(app)
    for number, piece in enumerate([b"one", b"two", b"three"], 1):
        await wait_until(lambda number=number: len(seen) == number)
        assert seen[-1] == piece and not task.done()
        client.send([b"two", b"three", b""][number - 1], more=number < 3)
    await task
    assert client.exchange.text == "done"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("host", [[], [("Host", "localhost")]], ids=["no host", "host"])  # which is matched fast
@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"a" * 100, b"", b"b" * 100], [b"x" * 200_000]])
async def test_every_size_of_body(app: Flask, pieces: list[bytes], host: t.Any, chunked: bool) -> None:
    add(app, count_chunks)
    answer = await post(app, "/", *pieces, chunked=chunked, headers=host)
    assert sum(answer.json["sizes"]) == sum(map(len, pieces))
    assert max(answer.json["sizes"], default=0) <= 64 * KIB


async def test_request_without_a_body(app: Flask) -> None:
    add(app, count_chunks)
    assert (await get(app)).json == {"sizes": []}


async def test_aread(app: Flask) -> None:
    async def view() -> dict[str, str]:
        stream = request.stream
        pieces = [await stream.aread(2), await stream.aread(), await stream.aread()]
        return dict(zip("abc", [piece.decode() for piece in pieces], strict=True))

    add(app, view)
    assert (await post(app, "/", b"a", b"bc", b"de")).json == {"a": "ab", "b": "cde", "c": ""}


async def test_nothing_is_received_ahead_of_the_reader(app: Flask) -> None:
    received: list[int] = []

    async def view() -> str:
        async for _ in request.stream:
            await asyncio.sleep(0.001)
            received.append(exchange.received)
        return "done"

    add(app, view)
    exchange = Exchange("POST", headers=CHUNKED, pieces=[b"x" * 10] * 20)
    await exchange.run(app)
    assert received == list(range(1, 21))


async def test_body_that_nobody_reads_is_never_received(app: Flask) -> None:
    async def view() -> str:
        return "no"

    add(app, view)
    exchange = Exchange("POST", headers=[("Content-Length", "1000000")], pieces=[b"x" * 10], ends=False)
    await exchange.run(app)
    assert (exchange.text, exchange.received) == ("no", 1)


async def test_without_the_option_async_for_goes_through_a_loaded_body(app: Flask) -> None:
    app.config["BODY_SPOOL_SIZE"] = 100_000
    add(app, count_chunks, stream_body=False)
    for size in (0, 10, 90_000, 300_000):
        assert sum((await post(app, "/", b"x" * (size // 2), b"x" * (size // 2))).json["sizes"]) == size


@pytest.mark.parametrize("read", ["get_data", "form", "json", "stream.read", "stream.readline", "environ"])
@pytest.mark.parametrize("size", [2, 200_000])
@pytest.mark.parametrize("face", ["asgi", "wsgi"])
async def test_sync_read_on_the_loop_says_what_to_write(app: Flask, read: str, size: int, face: str) -> None:
    """With small bodies too: it would be found out in production only."""
    readers: dict[str, Callable[[], t.Any]] = {
        "get_data": lambda: request.get_data(),
        "form": lambda: request.form,
        "json": lambda: request.json,
        "stream.read": lambda: request.stream.read(1),
        "stream.readline": lambda: request.stream.readline(),
        "environ": lambda: request.environ["wsgi.input"].read(),
    }
    if (read, face) == ("environ", "wsgi"):
        pytest.skip("it is the server's own file")

    async def view() -> str:
        with pytest.raises(RuntimeError, match=r"async for chunk in request\.stream"):
            readers[read]()
        return "raised"

    add(app, view)
    kind = {"form": "application/x-www-form-urlencoded", "json": "application/json"}.get(read, "text/plain")
    if face == "asgi":
        answer = await post(app, "/", b"1" * size, headers=[("Content-Type", kind)])
        assert answer.text == "raised"
    else:
        response = await asyncio.to_thread(app.test_client().post, "/", data=b"1" * size, content_type=kind)
        assert response.text == "raised"


@pytest.mark.parametrize("hook", [None, *STYLES])
async def test_sync_view_reads_it_as_a_file(app: Flask, hook: str | None) -> None:
    """An async hook before it is no reason to load it."""
    received = []

    async def async_hook() -> None:
        received.append(exchange.received)

    if hook is not None:
        app.before_request(async_hook if hook == "async" else lambda: received.append(exchange.received))
    add(app, lambda: {"size": sum(map(len, iter(lambda: request.stream.read(1000), b"")))})
    exchange = Exchange("POST", headers=CHUNKED, pieces=[b"x" * 10_000] * 5)
    await exchange.run(app)
    assert exchange.json == {"size": 50_000} and received in ([], [1])


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
async def test_sync_hook_reads_one_part_and_the_view_the_rest(app: Flask, face: str) -> None:
    @app.before_request
    def read_some() -> None:
        assert request.stream.read(5) == b"12345"

    add(app, count_chunks)
    data = b"12345" + b"6" * 100_000
    if face == "asgi":
        sizes = (await post(app, "/", data[:3], data[3:])).json["sizes"]
    else:
        sizes = (await asyncio.to_thread(app.test_client().post, "/", data=data)).json["sizes"]
    assert sum(sizes) == 100_000


# -- limits, stalls, disconnects


async def test_declared_length_over_the_limit_is_413_at_once(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 1000
    add(app, count_chunks)
    exchange = Exchange("POST", headers=[("Content-Length", "1001")], pieces=[b"x" * 1001])
    await exchange.run(app)
    assert (exchange.status, exchange.received) == (413, 0)


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
async def test_the_chunk_that_exceeds_the_limit_raises(app: Flask, face: str) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 100_000
    sizes: list[int] = []
    note = sizes.append

    async def view() -> str:
        with pytest.raises(RequestEntityTooLarge) as info:
            async for chunk in request.stream:
                note(len(chunk))
        raise info.value

    add(app, view)
    if face == "asgi":
        assert (await post(app, "/", *[b"x" * 40_000] * 100, chunked=True)).status == 413
    else:
        overrides = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        stream = io.BytesIO(b"x" * 400_000)
        client = app.test_client()
        response = await asyncio.to_thread(client.post, "/", input_stream=stream, environ_overrides=overrides)
        assert response.status_code == 413
    assert 60_000 <= sum(sizes) <= 100_000


async def test_view_may_raise_its_limit_before_it_reads(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10

    async def view() -> dict[str, t.Any]:
        request.max_content_length = MIB
        return await count_chunks()

    add(app, view)
    for chunked in (False, True):
        assert sum((await post(app, "/", *[b"x" * 100] * 5, chunked=chunked)).json["sizes"]) == 500


async def test_stall_is_408(app: Flask) -> None:
    app.config["BODY_TIMEOUT"] = 0.05
    add(app, count_chunks)
    exchange = Exchange("POST", headers=CHUNKED, pieces=[b"x", b"y"], ends=False)
    await exchange.run(app)
    assert exchange.status == 408


@pytest.mark.parametrize("length", [None, 100])
async def test_disconnect_raises_in_the_view(app: Flask, length: int | None, caplog: pytest.LogCaptureFixture) -> None:
    app.testing = False
    seen: list[t.Any] = []
    note = seen.append
    app.teardown_request(lambda error: note("teardown"))

    async def view() -> str:
        try:
            async for chunk in request.stream:
                note(chunk)
        except ClientDisconnected:
            seen.append("left")
            raise
        return "done"

    add(app, view)
    headers = CHUNKED if length is None else [("Content-Length", str(length))]
    exchange = Exchange("POST", headers=headers, pieces=[b"x", b"y"], ends=False)
    exchange.left.set()
    with caplog.at_level(logging.WARNING):
        await exchange.run(app)
    assert seen == [b"x", b"y", "left", "teardown"] and caplog.records == []


async def test_body_shorter_than_declared_is_400(app: Flask) -> None:
    add(app, count_chunks)
    exchange = Exchange("POST", headers=[("Content-Length", "10")], pieces=[b"abc", b"de"])
    assert (await exchange.run(app)).status == 400


# -- WSGI


class NotedInput(io.RawIOBase):
    """`size` bytes that are made when they are read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.threads: set[int] = set()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        self.threads.add(threading.get_ident())
        size = min(len(buffer), self.left)
        buffer[:size] = bytes(size)
        self.left -= size
        return size


@pytest.mark.parametrize("kind", ["raw", "part"])
def test_wsgi_input_is_read_piece_by_piece_in_the_servers_thread(app: Flask, kind: str) -> None:
    total = 16 * MIB
    add(app, count_total if kind == "raw" else count_parts)
    stream: t.Any = NotedInput(total)
    noted, length, content_type = stream, total, "text/plain"
    if kind == "part":
        head, tail = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n', b"\r\n--x--\r\n"
        stream, length, content_type = Chain(head, stream, tail), len(head) + total + len(tail), FORM[1]
    app.test_client().get("/")  # what is made once
    environ = create_environ(method="POST")
    environ.update({"wsgi.input": stream, "CONTENT_LENGTH": str(length), "CONTENT_TYPE": content_type})
    gc.collect()
    tracemalloc.start()
    try:
        body, _, _ = run_wsgi_app(app, environ)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert json.loads(b"".join(body)) == {"size": total}
    assert noted.threads == {threading.get_ident()} and peak < 2 * MIB


class Chain(io.RawIOBase):
    def __init__(self, head: bytes, middle: NotedInput, tail: bytes) -> None:
        self.parts: list[t.Any] = [io.BytesIO(head), middle, io.BytesIO(tail)]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        while self.parts:
            if size := self.parts[0].readinto(buffer):
                return t.cast(int, size)
            self.parts.pop(0)
        return 0


async def count_total() -> dict[str, int]:
    return {"size": sum([len(chunk) async for chunk in request.stream])}


async def count_parts() -> dict[str, int]:
    if not request.content_length:
        return {}
    return {"size": sum([len(chunk) async for part in request.stream_parts() async for chunk in part])}


# -- the option


async def test_blueprint_and_method_view(app: Flask) -> None:
    class Upload(MethodView):
        async def post(self) -> t.Any:
            return await count_chunks()

    blueprint = Blueprint("part", __name__, url_prefix="/part")
    blueprint.add_url_rule("/class", view_func=Upload.as_view("upload"), stream_body=True)
    blueprint.post("/function", stream_body=True)(count_chunks)
    app.register_blueprint(blueprint)
    app.register_blueprint(blueprint, name="again", url_prefix="/again")
    for path in ("/part/class", "/part/function", "/again/class", "/again/function"):
        exchange = await post(app, path, b"x" * 100, b"y")
        assert exchange.json == {"sizes": [100, 1]}, path


def test_rules_of_one_endpoint_agree(app: Flask) -> None:
    app.post("/a", stream_body=True)(count_chunks)
    app.post("/b")(count_chunks)
    app.post("/c", stream_body=True)(count_chunks)
    with pytest.raises(ValueError, match="'count_chunks' differ in 'stream_body'"):
        app.post("/d", stream_body=False)(count_chunks)
    with pytest.raises(TypeError, match="stream_body"):
        app.websocket("/ws", stream_body=True)(count_chunks)


async def test_rule_of_an_endpoint_whose_view_comes_later(app: Flask) -> None:
    app.add_url_rule("/", "later", methods=["POST"], stream_body=True)
    app.endpoint("later")(count_chunks)
    assert (await post(app, "/", b"a", b"b")).json == {"sizes": [1, 1]}


class Upper(BaseConverter):
    def to_python(self, value: str) -> str:
        return value.upper()


class OwnRequest(Request):
    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("way", ["converter", "request class", "subdomains", "wrapped"])
async def test_ways_around_the_fast_path(app: Flask, way: str) -> None:
    async def view(name: str) -> t.Any:
        return await count_chunks()

    rule = "/<name>"
    if way == "converter":
        app.url_map.converters["upper"] = Upper
        rule = "/<upper:name>"
    elif way == "request class":
        app.request_class = OwnRequest
    elif way == "subdomains":
        app.config["SERVER_NAME"] = "localhost"
        app.subdomain_matching = True
    else:
        face = app.wsgi_app
        app.wsgi_app = lambda *args: face(*args)  # type: ignore[method-assign]
    add(app, view, rule)
    for pieces in ([b"x" * 10], [b"x" * 100_000] * 3):
        answer = await post(app, "/a", *pieces, headers=[("Host", "localhost")])
        assert sum(answer.json["sizes"]) == sum(map(len, pieces))


async def test_memory_is_flat(app: Flask) -> None:
    add(app, count_total)
    client = Client(("Content-Length", str(24 * MIB)))
    left = 24 * MIB

    async def receive() -> t.Any:
        nonlocal left
        left -= 64 * KIB
        return {"type": "http.request", "body": bytes(64 * KIB), "more_body": left > 0}

    client.exchange.receive = receive  # type: ignore[method-assign]
    gc.collect()
    tracemalloc.start()
    try:
        await client.ask(app)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert client.exchange.json == {"size": 24 * MIB} and peak < MIB


# -- multipart


def field(name: str, value: bytes, *headers: bytes) -> bytes:
    lines = [b'--x\r\nContent-Disposition: form-data; name="%s"' % name.encode(), *headers, b"", value]
    return b"\r\n".join(lines) + b"\r\n"


def file(name: str, filename: str, value: bytes) -> bytes:
    disposition = b'; filename="%s"\r\nContent-Type: text/x' % filename.encode()
    return field(name, value).replace(b"\r\n\r\n", disposition + b"\r\n\r\n", 1)


END = b"--x--\r\n"


async def list_parts_async() -> list[t.Any]:
    return [
        [part.name, part.filename, part.content_type, (await part.read()).decode()]
        async for part in request.stream_parts()
    ]


def list_parts() -> list[t.Any]:
    return [[part.name, part.filename, part.content_type, part.read().decode()] for part in request.stream_parts()]


@pytest.fixture(params=["async", "sync", "wsgi async", "wsgi sync"])
def ask_form(app: Flask, request: pytest.FixtureRequest) -> Callable[..., t.Any]:
    """Posts the pieces of a form to a view, by default one that lists the parts; gives the status and the JSON."""
    face, style = "wsgi" if "wsgi" in request.param else "asgi", request.param.split()[-1]
    views: dict[str, Callable[..., t.Any]] = {"async": list_parts_async, "sync": list_parts}

    async def ask(*pieces: bytes, header: tuple[str, str] = FORM, **others: Callable[..., t.Any]) -> tuple[int, t.Any]:
        if "/" not in app.view_functions:
            add(app, others.get(style, views[style]))
        if face == "asgi":
            answer = await post(app, "/", *pieces, headers=[header])
            return answer.status, answer.json if answer.status == 200 else answer.text
        stream, length = io.BytesIO(b"".join(pieces)), str(sum(map(len, pieces)))
        headers = [header, ("Content-Length", length)]
        response = await asyncio.to_thread(app.test_client().post, "/", input_stream=stream, headers=headers)
        return response.status_code, response.json if response.status_code == 200 else response.text

    return ask


MIXED = field("a", b"1") + file("f", "n.txt", b"con\r\n--tent\r\n") + field("", b"") + field("b", "é".encode()) + END
LISTED = [
    ["a", None, None, "1"],
    ["f", "n.txt", "text/x", "con\r\n--tent\r\n"],
    ["", None, None, ""],
    ["b", None, None, "é"],
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
async def test_parts_of_a_form(ask_form: t.Any, size: int) -> None:
    pieces = [MIXED[start : start + size] for start in range(0, len(MIXED), size)]
    assert await ask_form(*pieces) == (200, LISTED)
    assert await ask_form(b"preamble\r\n" + MIXED + b"epilogue" * 1000) == (200, LISTED)
    assert await ask_form(END) == (200, [])


async def test_part_tells_what_it_is(ask_form: t.Any) -> None:
    def texts() -> list[str]:
        return [repr(part) for part in request.stream_parts()]

    async def async_texts() -> list[str]:
        return [repr(part) async for part in request.stream_parts()]

    status, seen = await ask_form(MIXED, sync=texts, **{"async": async_texts})
    kind = seen[0].split()[0]
    assert (status, kind) in [(200, "<Part"), (200, "<AsyncPart")]
    assert seen == [f"{kind} 'a' None>", f"{kind} 'f' 'n.txt'>", f"{kind} '' None>", f"{kind} 'b' None>"]


async def test_each_part_comes_as_it_arrives(app: Flask) -> None:
    seen: list[t.Any] = []
    note = seen.append

    async def view() -> str:
        async for part in request.stream_parts():
            note(part.name)
            async for chunk in part:
                note(chunk)
        return "done"

    add(app, view)
    client = Client(*CHUNKED, FORM)
    client.send(field("a", b"one")[:-2])
    task = client.ask(app)
    await wait_until(lambda: seen == ["a", b"one"])
    client.send(b"\r\n" + file("b", "f", b"two" * 1000)[:-1000])
    await wait_until(lambda: "b" in seen and len(seen) > 3)
    assert not task.done()
    client.send(b"\r\n" + END, more=False)
    await task
    assert client.exchange.text == "done"


async def test_parts_that_are_not_read_are_passed_over(ask_form: t.Any) -> None:
    def names() -> list[t.Any]:
        return [part.name for part in request.stream_parts()]

    async def async_names() -> list[t.Any]:
        return [part.name async for part in request.stream_parts()]

    body = file("a", "f", b"x" * 200_000) + field("b", b"2") + file("c", "f", b"x" * 100_000) + END
    assert await ask_form(body[:70_000], body[70_000:], sync=names, **{"async": async_names}) == (200, ["a", "b", "c"])


async def test_part_that_is_over_cannot_be_read(app: Flask) -> None:
    async def view() -> str:
        first, _ = [part async for part in request.stream_parts()]
        with pytest.raises(RuntimeError, match="'a' is over"):
            await first.read()
        return "raised"

    add(app, view)
    assert (await post(app, "/", field("a", b"1") + field("b", b"2") + END, headers=[FORM])).text == "raised"


async def test_limits_of_a_form(app: Flask, ask_form: t.Any) -> None:
    app.config.update(MAX_FORM_MEMORY_SIZE=1000, MAX_FORM_PARTS=3)
    assert (await ask_form(field("a", b"x" * 1000) * 3 + END))[0] == 200
    assert (await ask_form(field("a", b"x" * 1001) + END))[0] == 413
    assert (await ask_form(field("a", b"x") * 4 + END))[0] == 413
    assert (await ask_form(file("a", "f", b"x" * 1001) + END))[0] == 413  # by part.read()
    flood = b"--x\r\n" + b"X-Name: value\r\n" * 100_000
    assert (await ask_form(flood[:100_000], flood[100_000:]))[0] == 413


async def test_field_is_limited_however_it_is_read_and_a_file_is_not(app: Flask, ask_form: t.Any) -> None:
    app.config["MAX_FORM_MEMORY_SIZE"] = 1000

    def sizes() -> list[int]:
        return [sum(map(len, part)) for part in request.stream_parts()]

    async def async_sizes() -> list[int]:
        return [sum([len(chunk) async for chunk in part]) async for part in request.stream_parts()]

    views = {"sync": sizes, "async": async_sizes}
    assert await ask_form(file("a", "f", b"x" * 300_000) + END, **views) == (200, [300_000])
    assert (await ask_form(field("a", b"x" * 1001) + END))[0] == 413


async def test_limit_of_one_read(ask_form: t.Any) -> None:
    def read() -> list[str]:
        return [part.read(5).decode() for part in request.stream_parts()]

    async def async_read() -> list[str]:
        return [(await part.read(5)).decode() async for part in request.stream_parts()]

    views = {"sync": read, "async": async_read}
    assert await ask_form(file("a", "f", b"12345") + END, **views) == (200, ["12345"])
    assert (await ask_form(file("a", "f", b"123456") + END))[0] == 413


GARBLED = [
    *(MIXED[:end] for end in (0, 3, 20, 60, 90, 150, len(MIXED) - 6)),
    b"no boundary at all",
    field("a", b"1").replace(b"Content-Disposition", b"X") + END,
    field("a", b"1").replace(b"Content", b"\xff\xfe") + END,
]


@pytest.mark.parametrize("body", GARBLED)
async def test_garbled_and_truncated_forms_are_400(ask_form: t.Any, body: bytes) -> None:
    assert (await ask_form(body))[0] == 400


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/x-www-form-urlencoded", 415), ("application/json", 415), ("multipart/form-data", 400)],
)
async def test_other_bodies_say_so(ask_form: t.Any, content_type: str, status: int) -> None:
    seen, text = await ask_form(b"a=b", header=("Content-Type", content_type))
    assert seen == status and ("multipart/form-data" in text or "boundary" in text)


async def test_form_that_a_hook_has_parsed(app: Flask) -> None:
    app.testing = False
    app.before_request(lambda: request.form and None)

    async def view() -> str:
        with pytest.raises(RuntimeError, match=r"request\.form"):
            request.stream_parts()
        return "raised"

    add(app, view)
    assert (await post(app, "/", field("a", b"1") + END, headers=[FORM])).text == "raised"


async def test_disconnect_within_a_part(app: Flask) -> None:
    raised = []

    @app.errorhandler(ClientDisconnected)
    def note(error: ClientDisconnected) -> t.Any:
        raised.append(error)
        return error

    add(app, list_parts_async)
    exchange = Exchange("POST", headers=[*CHUNKED, FORM], pieces=[file("a", "f", b"x" * 100)[:-20], b"y"], ends=False)
    exchange.left.set()
    await exchange.run(app)
    assert len(raised) == 1


async def test_line_breaks_without_end_take_linear_time(ask_form: t.Any) -> None:
    data = file("a", "f", b"\r" * (4 * MIB)) + END

    def size() -> list[int]:
        return [sum(map(len, part)) for part in request.stream_parts()]

    async def async_size() -> list[int]:
        return [sum([len(chunk) async for chunk in part]) async for part in request.stream_parts()]

    start = time.process_time()
    pieces = [data[at : at + 64 * KIB] for at in range(0, len(data), 64 * KIB)]
    assert await ask_form(*pieces, sync=size, **{"async": async_size}) == (200, [4 * MIB])
    assert time.process_time() - start < 2


# -- real servers


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_memory_of_a_server_is_flat() -> None:
    """The benchmark says so by its exit code."""
    command = [sys.executable, "-m", "benchmarks.big_bodies", "64"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


server = make_fixture((*ASGI_SERVERS, *WSGI_SERVERS))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("path", ["/up", "/sync-up"])
def test_upload(server: GuardedServer, path: str) -> None:
    size = 8 * MIB
    with server.send("POST", path, f"Content-Length: {size}", "Connection: close") as wire:
        for _ in range(8):
            wire.sendall(bytes(MIB))
        status, body = read_answer(wire)
    assert status == 200 and b'"size":%d' % size in body


@pytest.mark.parametrize("path", ["/parts", "/sync-parts"])
def test_upload_of_a_form(server: GuardedServer, path: str) -> None:
    data = field("a", b"1") + file("f", "n", bytes(2 * MIB)) + END
    headers = (f"Content-Length: {len(data)}", ": ".join(FORM), "Connection: close")
    with server.send("POST", path, *headers) as wire:
        wire.sendall(data)
        status, body = read_answer(wire)
    assert status == 200 and body.strip() == b'[["a",null,1],["f","n",2097152]]'


def skip_if_buffered(server: GuardedServer) -> None:
    if server.name == "waitress":
        pytest.skip("it receives a body before it calls")


def test_chunks_arrive_before_the_body_ends(server: GuardedServer) -> None:
    if server.face == "wsgi":
        pytest.skip("a WSGI server waits until it has what is asked for, or all")
    before = server.events.count("chunk 5")
    with server.send("POST", "/up", "Transfer-Encoding: chunked", body=chunk(b"12345")) as wire:
        server.wait_for("chunk 5", before + 1)
        wire.sendall(chunk(b"678") + chunk(b""))
        status, body = read_answer(wire)
    assert status == 200 and b'"size":8' in body


def test_answer_before_the_body_was_read(server: GuardedServer) -> None:
    skip_if_buffered(server)
    with server.send("POST", "/ignore", f"Content-Length: {64 * MIB}", body=bytes(100_000)) as wire:
        assert read_answer(wire)[0] == 200


def test_upload_that_breaks_off(server: GuardedServer) -> None:
    skip_if_buffered(server)
    told = len(server.read_log())  # hypercorn on trio may complain of itself where an answer came too early
    before = [event for event in server.events if event.startswith("teardown /up ")]
    with server.send("POST", "/up", "Content-Length: 1000", body=b"x" * 10):
        pass
    deadline = time.monotonic() + 5
    while len(after := [event for event in server.events if event.startswith("teardown /up ")]) == len(before):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(after) == len(before) + 1
    assert "Traceback" not in server.read_log()[told:]
