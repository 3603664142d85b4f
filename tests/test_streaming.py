"""stream_with_context: the contexts of the call are there while a stream is iterated, on both faces."""

from __future__ import annotations

import asyncio
import io
import threading
import types
import typing as t
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from edge import Exchange
from markupsafe import Markup
from werkzeug.test import create_environ

from asyncflask import Flask, Response, g, has_request_context, request, session, stream_with_context


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "key"
    return app


def words() -> Iterator[str]:
    yield "Hello "
    yield request.args["name"]
    yield "!"


async def async_words() -> AsyncIterator[str]:
    yield "Hello "
    await asyncio.sleep(0)
    yield request.args["name"]
    yield "!"


async def get_over_asgi(app: Flask, path: str, leave_after: int = 1000) -> tuple[int, str]:
    """The status and the text of a GET over ASGI; the client leaves after so many messages."""
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    received = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[t.Any] = []
    left = asyncio.Event()
    main_thread = threading.get_ident()

    async def receive() -> dict[str, t.Any]:
        if received:
            return received.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: t.Any) -> None:
        assert threading.get_ident() == main_thread
        sent.append(message)
        if len(sent) == leave_after:
            left.set()
        await asyncio.sleep(0)

    await asyncio.wait_for(t.cast(t.Any, app)(scope, receive, send), 5)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


@pytest.mark.parametrize("source", [words, async_words])
@pytest.mark.parametrize("decorated", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_request_is_there(app: Flask, source: t.Any, decorated: bool, asynchronous: bool) -> None:
    def view() -> Response:
        return Response(stream_with_context(source)() if decorated else stream_with_context(source()))

    async def async_view() -> Response:
        return view()

    app.add_url_rule("/", view_func=async_view if asynchronous else view)
    assert app.test_client().get("/?name=World").text == "Hello World!"


def test_a_decorated_function_keeps_its_name_and_arguments(app: Flask) -> None:
    @stream_with_context
    def generate(first: str, *, last: str) -> Iterator[str]:
        yield first + request.path + last

    assert generate.__name__ == "generate"
    with app.test_request_context("/path"):
        assert list(generate("a", last="z")) == ["a/pathz"]


def test_kinds_are_kept(app: Flask) -> None:
    with app.test_request_context():
        sync, asynchronous = stream_with_context(words()), stream_with_context(async_words())
    assert isinstance(sync, types.GeneratorType)
    assert isinstance(asynchronous, types.AsyncGeneratorType)
    sync.close()


def test_the_contexts_are_recorded_at_the_call(app: Flask) -> None:
    with app.test_request_context("/?name=first"):
        stream = stream_with_context(words())
    with app.test_request_context("/?name=second"):
        assert "".join(stream) == "Hello first!"
        assert request.args["name"] == "second"


@pytest.mark.parametrize("source", [words, async_words])
def test_outside_of_a_request(app: Flask, source: t.Any) -> None:
    with app.app_context(), pytest.raises(RuntimeError, match="request context"):
        stream_with_context(source())


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize("async_view", [False, True])
@pytest.mark.parametrize("async_stream", [False, True])
def test_session_and_g_are_the_views(app: Flask, async_stream: bool, async_view: bool, face: str) -> None:
    @stream_with_context
    def generate() -> Iterator[str]:
        yield f"{session['x']} "
        g.x += 1
        yield f"{g.x} {request.path}"

    @stream_with_context
    async def generate_async() -> AsyncIterator[str]:
        yield f"{session['x']} "
        await asyncio.sleep(0)
        g.x += 1
        yield f"{g.x} {request.path}"

    def view() -> t.Any:
        session["x"] = g.x = 1
        return generate_async() if async_stream else generate()

    async def view_async() -> t.Any:
        return view()

    app.add_url_rule("/", view_func=view_async if async_view else view)
    if face == "wsgi":
        assert app.test_client().get("/").text == "1 2 /"
    else:
        assert asyncio.run(get_over_asgi(app, "/")) == (200, "1 2 /")
    assert not has_request_context()


@pytest.mark.parametrize("async_stream", [False, True])
def test_teardowns_run_after_the_stream(app: Flask, async_stream: bool) -> None:
    seen = []

    def generate() -> Iterator[str]:
        seen.append("stream")
        yield ""

    async def generate_async() -> AsyncIterator[str]:
        seen.append("stream")
        yield ""

    source: t.Any = generate_async if async_stream else generate
    app.teardown_request(lambda error: seen.append("teardown"))
    app.add_url_rule("/", view_func=lambda: Response(stream_with_context(source())), endpoint="index")
    app.test_client().get("/")
    assert seen == ["teardown", "stream", "teardown"]


class Numbers:
    """No generator: nothing to close."""

    def __init__(self) -> None:
        self.left = [b"3", b"2", b"1"]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop()


@pytest.mark.parametrize("face", ["wsgi", "asgi", "chain"])
@pytest.mark.parametrize("keeps_context", [False, True])
def test_an_async_iterator_that_cannot_be_closed(app: Flask, face: t.Any, keeps_context: bool) -> None:
    app.add_url_rule("/", "view", lambda: Response(stream_with_context(Numbers()) if keeps_context else Numbers()))
    if face == "chain":
        wrapped, face = app.wsgi_app, "asgi"
        app.wsgi_app = lambda environ, start_response: wrapped(environ, start_response)  # type: ignore[method-assign]
    assert app.test_client(face=face).get("/").data == b"123"


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
def test_an_async_body_that_passes_directly(app: Flask, face: t.Any) -> None:
    """A server that knows of no async iterables is given pieces all the same."""
    app.add_url_rule("/", "view", lambda: Response(Numbers(), direct_passthrough=True))
    assert b"".join(app.test_client(face=face).get("/").iter_encoded()) == b"123"


def call_as_server(app: Flask, **environ: t.Any) -> bytes:
    """What a WSGI server sends."""
    pieces = app(create_environ(**environ), lambda *args: None)
    try:
        return b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()


def test_a_wsgi_body_that_cannot_be_closed(app: Flask) -> None:
    def other(environ: t.Any, start_response: t.Any) -> t.Any:
        start_response("200 OK", [])
        return (b"1", b"2")

    app.add_url_rule("/", "view", lambda: "")
    app.after_request(lambda response: t.cast(t.Any, other))
    assert call_as_server(app) == b"12"


def test_a_stream_reads_an_upload_that_is_kept_in_a_file(app: Flask) -> None:
    """For the async view it was loaded before; the file is closed once the response has ended, and not before."""
    files: list[t.Any] = []

    @app.post("/")
    async def view() -> t.Iterator[bytes]:
        stream = request.stream
        files.append(stream)
        return stream_with_context(iter(lambda: stream.read(10_000), b""))

    app.config["BODY_SPOOL_SIZE"] = 1000
    body = b"x" * 200_000
    assert call_as_server(app, method="POST", input_stream=io.BytesIO(body), content_length=len(body)) == body
    with pytest.raises(ValueError, match="closed file"):
        files[0].read()


def test_an_iterator_with_a_close_method_is_closed(app: Flask) -> None:
    class Body:
        closed = 0

        def __iter__(self) -> Iterator[str]:
            return self

        def __next__(self) -> str:
            if self.closed or request.path != "/":
                raise StopIteration
            return "x"

        def close(self) -> None:
            assert request.path == "/"
            self.closed += 1

    body = Body()
    with app.test_request_context():
        stream = stream_with_context(body)
        assert next(stream) == "x"
        stream.close()  # type: ignore[attr-defined]  # a generator, though an iterator is promised
    assert body.closed


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_which_is_not_read_to_its_end(app: Flask, asynchronous: bool) -> None:
    seen = []

    def generate() -> Iterator[str]:
        try:
            yield "first"
            yield "second"
        finally:
            seen.append(request.path)

    async def generate_async() -> AsyncIterator[str]:
        try:
            yield "first"
            yield "second"
        finally:
            seen.append(request.path)

    source: t.Any = generate_async if asynchronous else generate
    app.add_url_rule("/", view_func=lambda: Response(stream_with_context(source())))
    app.test_client().get("/").close()
    with app.test_client() as client:
        client.get("/").close()
    assert seen == ["/", "/"]


@pytest.mark.parametrize("async_stream", [False, True])
def test_a_client_which_leaves_over_asgi(app: Flask, async_stream: bool) -> None:
    closed = []

    def generate() -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.append(request.path)

    async def generate_async() -> AsyncIterator[str]:
        try:
            while True:
                await asyncio.sleep(0)
                yield "x"
        finally:
            closed.append(request.path)

    source: t.Any = generate_async if async_stream else generate
    app.add_url_rule("/", view_func=lambda: Response(stream_with_context(source())))
    asyncio.run(get_over_asgi(app, "/", leave_after=5))
    assert closed == ["/"]


def test_a_send_that_cannot_be_ended_is_the_last(app: Flask) -> None:
    """A server may finish what it sends to one who has left: no further piece is made."""
    pieces, sent = iter("abc"), []
    app.add_url_rule("/", view_func=lambda: Response(pieces))
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}

    async def serve() -> None:
        left = asyncio.Event()

        async def receive() -> dict[str, t.Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: t.Any) -> None:
            sent.append(message.get("body"))
            if message.get("body"):
                left.set()
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(5)

        await asyncio.wait_for(t.cast(t.Any, app)(scope, receive, send), 4)

    asyncio.run(serve())
    assert sent == [None, b"a"] and list(pieces) == ["b", "c"]


class TestPiecesOfAWrongType:
    """Neither bytes nor str: the error says what came, and from where."""

    @staticmethod
    def add_view(app: Flask, kind: str) -> None:
        def numbers() -> Iterator[int]:
            yield 7

        async def async_numbers() -> AsyncIterator[int]:
            yield 7

        makers = {"sync": numbers, "async": async_numbers, "list": lambda: Response([7])}
        app.add_url_rule("/", "view", makers[kind])  # type: ignore[arg-type]  # which is the point

    NAMES: t.ClassVar = {"sync": "<locals>.numbers", "async": "<locals>.async_numbers", "list": "list"}

    @pytest.mark.parametrize("face", ["wsgi", "asgi"])
    @pytest.mark.parametrize("kind", NAMES)
    def test_is_named(self, app: Flask, kind: str, face: t.Literal["wsgi", "asgi"]) -> None:
        self.add_view(app, kind)
        app.testing = True
        with pytest.raises(TypeError, match=f"must yield bytes or str, not int.*{self.NAMES[kind]}"):
            app.test_client(face=face).get("/", buffered=True)

    @pytest.mark.parametrize("kind", ["sync", "list"])
    async def test_is_a_plain_500_where_nothing_was_sent(self, app: Flask, kind: str) -> None:
        self.add_view(app, kind)
        exchange = Exchange()
        with suppress(TypeError):
            await exchange.run(app)
        assert exchange.status == 500

    @pytest.mark.parametrize("piece", ["text", b"text", bytearray(b"text"), memoryview(b"text"), Markup("text")])
    @pytest.mark.parametrize("face", ["wsgi", "asgi"])
    def test_what_passes(self, app: Flask, piece: t.Any, face: t.Literal["wsgi", "asgi"]) -> None:
        async def stream() -> AsyncIterator[t.Any]:
            yield piece

        app.add_url_rule("/", "view", lambda: Response(iter([piece])))
        app.add_url_rule("/async", "async", lambda: Response(stream()))
        client = app.test_client(face=face)
        assert client.get("/").text == client.get("/async").text == "text"


async def test_async_iterator_of_ones_own_that_has_nothing_to_close(app: Flask) -> None:
    class Pieces:
        left = 3

        def __aiter__(self) -> t.Self:
            return self

        async def __anext__(self) -> str:
            await asyncio.sleep(0)
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return f"{self.left};"

    app.add_url_rule("/", "view", lambda: Response(t.cast(t.Any, Pieces())))
    assert await get_over_asgi(app, "/") == (200, "2;1;0;")


async def test_sync_stream_is_not_asked_for_more_once_the_client_has_left(app: Flask) -> None:
    """Nor does it wait for a server's `send` that goes on waiting."""
    made: list[int] = []
    has_left, waits = asyncio.Event(), asyncio.Event()

    @app.get("/numbers")
    def numbers() -> Iterator[str]:
        for number in range(5):
            made.append(number)
            yield str(number)

    async def receive() -> dict[str, t.Any]:
        await waits.wait()
        has_left.set()
        return {"type": "http.disconnect"}

    async def send(message: t.Any) -> None:
        if message.get("body") == b"1":
            waits.set()
            await asyncio.sleep(60)

    scope = {"type": "http", "method": "GET", "path": "/numbers", "query_string": b"", "headers": [(b"host", b"a")]}
    more = {"scheme": "http", "server": ("a", 80), "client": ("a", 1), "http_version": "1.1", "root_path": ""}
    await asyncio.wait_for(app({**scope, **more}, receive, send), 10)
    assert has_left.is_set() and made == [0, 1]
