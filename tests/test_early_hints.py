"""Early hints and trailers: sent where the server offers them, left out elsewhere."""

from __future__ import annotations

import asyncio
import socket
import time
import typing as t
from collections.abc import AsyncIterator, Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from edge import Exchange, Message, get
from live import ASGI, PATIENCE, serve_live

from asyncflask import Flask, Response, request, stream_with_context

LINKS = ["</style.css>; rel=preload; as=style", "</app.js>; rel=preload; as=script"]
HINT = "http.response.early_hint"
TRAILERS = "http.response.trailers"
STYLES = ("sync", "async")


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.testing = True
    return app


class ExtendedExchange(Exchange):
    """With a server that knows both extensions, and refuses their events out of order."""

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, extensions={HINT: {}, TRAILERS: {}}, **kwargs)
        self.hints: list[t.Any] = []
        self.trailers: dict[bytes, bytes] | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == HINT:
            assert not self.messages
            self.hints.append(message["links"])
        elif message["type"] == TRAILERS:
            assert self.messages[0].get("trailers") is True and not self.messages[-1]["more_body"]
            assert self.trailers is None and not message["more_trailers"]
            self.trailers = dict(message["headers"])
        else:
            await super().send(message)


async def fetch(app: Flask, path: str = "/", te: str | None = "trailers", method: str = "GET") -> ExtendedExchange:
    exchange = ExtendedExchange(method, path, headers=[] if te is None else [("TE", te)])
    await exchange.run(app)
    return exchange


# Early hints


@pytest.mark.parametrize("style", STYLES)
async def test_hints_precede_the_response(app: Flask, style: str) -> None:
    def view() -> t.Any:
        return {"sent": app.ensure_sync(request.send_early_hints)(LINKS)}

    async def async_view() -> t.Any:
        await request.send_early_hints([])
        return {"sent": await request.send_early_hints(link for link in LINKS)}

    app.add_url_rule("/", view_func=async_view if style == "async" else view)
    answer = await fetch(app)
    assert answer.json == {"sent": True}
    assert answer.hints[-1] == [link.encode() for link in LINKS]


async def test_nothing_is_sent_where_nothing_is_offered(app: Flask) -> None:
    @app.get("/")
    async def view() -> t.Any:
        return {"sent": await request.send_early_hints(LINKS)}

    for scope in ({}, {"extensions": None}, {"extensions": {"http.response.push": {}}}):
        assert (await get(app, **scope)).json == {"sent": False}
    for face in ("wsgi", "asgi"):
        answer = await asyncio.to_thread(app.test_client(face=face).get, "/")
        assert answer.json == {"sent": False}


async def test_too_late(app: Flask) -> None:
    sent = []

    @app.get("/")
    async def view() -> t.Any:
        @stream_with_context
        async def pieces() -> AsyncIterator[str]:
            sent.append(await request.send_early_hints(LINKS))
            yield "x"

        return pieces()

    answer = await fetch(app)
    assert (answer.text, answer.hints, sent) == ("x", [], [False])


@pytest.mark.parametrize("link", ["</a>\r\nX-Forged: 1", "</a>\n", "</a>\0"])
async def test_no_header_can_be_forged(app: Flask, link: str) -> None:
    @app.get("/")
    async def view() -> t.Any:
        await request.send_early_hints([link])

    with pytest.raises(ValueError, match="one line"):
        await fetch(app)


def test_gunicorns_way_under_wsgi(app: Flask) -> None:
    seen: list[t.Any] = []

    @app.get("/")
    def view() -> t.Any:
        return {"sent": app.ensure_sync(request.send_early_hints)(LINKS)}

    answer = app.test_client(face="wsgi").get("/", environ_overrides={"wsgi.early_hints": seen.append})
    assert answer.json == {"sent": True}
    assert seen == [[("Link", link) for link in LINKS]]


# Trailers


def add_stream(app: Flask, kind: str, trailers: t.Any, rule: str = "/") -> None:
    def generate() -> Iterator[str]:
        yield from "abc"

    async def generate_async() -> AsyncIterator[str]:
        for piece in "abc":
            yield piece

    def view() -> Response:
        response = Response(generate_async() if kind == "async" else generate())
        response.trailers = trailers
        return response

    app.add_url_rule(rule, rule, view)


async def make_async() -> dict[str, str]:
    await asyncio.sleep(0)
    return {"X-Sum": "6"}


@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.parametrize("trailers", [{"X-Sum": "6"}, lambda: {"X-Sum": "6"}, make_async])
async def test_trailers_follow_a_stream(app: Flask, kind: str, trailers: t.Any) -> None:
    add_stream(app, kind, trailers)
    answer = await fetch(app)
    assert (answer.text, answer.trailers) == ("abc", {b"x-sum": b"6"})


@pytest.mark.parametrize("te", ["gzip, trailers", "Trailers", "trailers;q=0.5"])
@pytest.mark.parametrize("kind", STYLES)
async def test_who_takes_them(app: Flask, te: str, kind: str) -> None:
    add_stream(app, kind, lambda: {})
    assert (await fetch(app, te=te)).trailers == (None if ";" in te else {})


@pytest.mark.parametrize("kind", STYLES)
async def test_who_does_not(app: Flask, kind: str) -> None:
    add_stream(app, kind, {"X-Sum": "6"})
    assert (await fetch(app, te=None)).trailers is None
    assert (await fetch(app, te="gzip")).trailers is None
    assert (await fetch(app, method="HEAD")).trailers is None
    assert "trailers" not in (await get(app, headers=[("TE", "trailers")])).messages[0]  # the server does not


@pytest.mark.parametrize("kind", STYLES)
def test_wsgi_has_no_trailers(app: Flask, kind: str) -> None:
    add_stream(app, kind, {"X-Sum": "6"})
    assert app.test_client(face="wsgi").get("/", headers={"TE": "trailers"}).text == "abc"


async def test_a_function_sees_the_whole_stream(app: Flask) -> None:
    seen: list[str] = []

    @app.get("/")
    async def view() -> Response:
        async def generate() -> AsyncIterator[str]:
            for piece in "abc":
                seen.append(piece)
                yield piece

        response = Response(generate())
        response.trailers = lambda: {"X-Seen": "".join(seen)}
        return response

    assert (await fetch(app)).trailers == {b"x-seen": b"abc"}


@pytest.mark.parametrize("trailers", [lambda: 1 / 0, {"X-A": "a\r\nX-Forged: 1"}])
@pytest.mark.parametrize("kind", STYLES)
async def test_trailers_that_fail(app: Flask, kind: str, trailers: t.Any) -> None:
    """Before the last piece: the end is no clean one."""
    add_stream(app, kind, trailers)
    exchange = ExtendedExchange(headers=[("TE", "trailers")])
    with pytest.raises((ZeroDivisionError, ValueError)):
        await app(exchange.scope, exchange.receive, exchange.send)  # type: ignore[arg-type,call-arg,func-returns-value,misc]
    assert not exchange.complete


# Real servers


class Http2:
    """One GET over HTTP/2 without TLS: the events of its stream."""

    def __init__(self, port: int, target: str, *headers: tuple[str, str]) -> None:
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.connection.initiate_connection()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", target), *headers]
        self.connection.send_headers(1, head, end_stream=True)
        self.events: list[h2.events.Event] = []
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            sock.sendall(self.connection.data_to_send())
            self.read(sock)

    def read(self, sock: socket.socket) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.of(h2.events.StreamEnded):
            assert time.monotonic() < deadline
            data = sock.recv(1 << 16)
            assert data, self.events
            self.events += self.connection.receive_data(data)
            sock.sendall(self.connection.data_to_send())

    def of(self, kind: t.Any) -> list[t.Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def body(self) -> bytes:
        return b"".join(event.data for event in self.of(h2.events.DataReceived))


def test_on_hypercorn_over_http2() -> None:
    with serve_live("hypercorn") as server:
        answer = Http2(server.port, "/hints")
        assert b'"sent":true' in answer.body
        (hints,) = answer.of(h2.events.InformationalResponseReceived)
        assert hints.headers[:3] == [(":status", "103"), *(("link", link) for link in LINKS)]
        answer = Http2(server.port, "/trailers", ("te", "trailers"))
        assert answer.body == b"0;1;2;3;4;"
        (trailers,) = answer.of(h2.events.TrailersReceived)
        assert trailers.headers == [("x-total", "10")]
        assert Http2(server.port, "/trailers").of(h2.events.TrailersReceived) == []
        assert server.get("/hints").json == {"sent": False}  # over HTTP/1.1 it offers nothing
        assert server.take_alarms() == []


@pytest.mark.parametrize("name", [name for name in ASGI if not name.startswith("hypercorn")])
def test_left_out_on_other_servers(name: str) -> None:
    with serve_live(name) as server:
        assert server.get("/hints").json == {"sent": False}
        assert server.get("/trailers", [("TE", "trailers")]).body == b"0;1;2;3;4;"
        assert server.get("/early/sync").status == 500  # and a stream that fails before its first piece


@pytest.mark.parametrize("name", ["gunicorn-sync", "gunicorn-gthread"])
def test_on_gunicorn(name: str) -> None:
    with serve_live(name) as server, server.open("/hints") as answer:
        data = answer.read_until(b'"sent":true')
        assert data.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\nLink: </app")
        assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in data
