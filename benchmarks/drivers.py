"""Drivers call an application as a server would, with no socket: one for ASGI, one for WSGI.

Both offer `ask(request)` for one answer, `time(request, count, expected)` for seconds, and `close()`.
The work of a driver is the same for every peer; the peer `raw` shows how much it is.
"""

from __future__ import annotations

import asyncio
import io
from time import perf_counter
from typing import Any, NamedTuple

from .scenarios import Answer, Header, Scenario

BROWSER_HEADERS: tuple[Header, ...] = (
    ("host", "localhost:8000"),
    ("connection", "keep-alive"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "http://localhost:8000/"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
)
MESSAGE_SIZE = 65536  # what a server usually reads from its socket at once
YIELD_EVERY = 50  # requests that never suspend still let the loop run what they left to it


class WrongAnswer(Exception):
    """A peer answered something else than the scenario asks for."""


class Request(NamedTuple):
    """A request to be sent many times."""

    method: str
    path: str
    headers: tuple[Header, ...]
    body: bytes

    @classmethod
    def of(cls, scenario: Scenario, *extra: Header) -> Request:
        return cls(scenario.method, scenario.path, BROWSER_HEADERS + scenario.headers + extra, scenario.body)


def split_body(body: bytes) -> list[dict[str, Any]]:
    """The body as `http.request` messages, last first."""
    parts = [body[start : start + MESSAGE_SIZE] for start in range(0, len(body), MESSAGE_SIZE)] or [b""]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    return messages[::-1]


class Exchange:
    """The server's side of one ASGI request: `receive` waits for the end once the body is through."""

    __slots__ = ("chunks", "closed", "headers", "messages", "status", "waiter")

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages.copy()
        self.chunks: list[bytes] = []
        self.headers: Any = ()
        self.status = 0
        self.closed = False
        self.waiter: asyncio.Future[None] | None = None

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return self.messages.pop()
        if not self.closed:
            if self.waiter is None or self.waiter.done():
                self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = message.get("headers", ())
            return
        self.chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            self.closed = True
            if self.waiter is not None and not self.waiter.done():
                self.waiter.set_result(None)

    def check(self, expected: Answer) -> None:
        if self.status != expected.status or b"".join(self.chunks) != expected.body or not self.closed:
            raise WrongAnswer(f"{self.status} {b''.join(self.chunks)[:80]!r}")

    def make_answer(self) -> Answer:
        headers = {bytes(name).decode().lower(): bytes(value).decode() for name, value in self.headers}
        return Answer(self.status, headers, b"".join(self.chunks))


class Lifespan:
    """The application's start and end; one that does not know the protocol is served without it."""

    def __init__(self, app: Any) -> None:
        self.inbox: asyncio.Queue[str] = asyncio.Queue()
        self.outbox: asyncio.Queue[str] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self.task = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        return {"type": await self.inbox.get()}

    async def send(self, message: dict[str, Any]) -> None:
        self.outbox.put_nowait(message["type"])

    async def tell(self, event: str) -> None:
        self.inbox.put_nowait(event)
        answer = asyncio.ensure_future(self.outbox.get())
        await asyncio.wait((self.task, answer), return_when=asyncio.FIRST_COMPLETED, timeout=10)
        answer.cancel()

    async def stop(self) -> None:
        await self.tell("lifespan.shutdown")
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class AsgiDriver:
    """One event loop (asyncio's own) which lives as long as the application."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.runner = asyncio.Runner()
        self.lifespan = self.runner.run(self.start())

    async def start(self) -> Lifespan:
        lifespan = Lifespan(self.app)
        await lifespan.tell("lifespan.startup")
        return lifespan

    def close(self) -> None:
        self.runner.run(self.lifespan.stop())
        self.runner.close()

    def ask(self, request: Request, at_most: int = 1) -> Answer:
        """The last answer of `at_most` requests; what the application raises after an answer is dropped."""
        return self.runner.run(self.collect(request, at_most))

    async def collect(self, request: Request, count: int) -> Answer:
        scope, messages = make_scope(request), split_body(request.body)
        for _ in range(count):
            exchange = Exchange(messages)
            try:
                await self.app(copy_scope(scope), exchange.receive, exchange.send)
            except Exception:
                # Starlette raises again what it has answered with 500, for the server's log.
                if not exchange.closed:
                    raise
        return exchange.make_answer()

    def time(self, request: Request, count: int, expected: Answer, at_once: int = 1) -> float:
        drive = self.drive_in_turn if at_once == 1 else self.drive_at_once
        return self.runner.run(drive(request, count, expected, at_once))

    async def drive_in_turn(self, request: Request, count: int, expected: Answer, at_once: int) -> float:
        app, scope, messages = self.app, make_scope(request), split_body(request.body)
        start = perf_counter()
        for number in range(count):
            exchange = Exchange(messages)
            await app(copy_scope(scope), exchange.receive, exchange.send)
            exchange.check(expected)
            if not number % YIELD_EVERY:
                await asyncio.sleep(0)
        return perf_counter() - start

    async def drive_at_once(self, request: Request, count: int, expected: Answer, at_once: int) -> float:
        scope, messages = make_scope(request), split_body(request.body)

        async def drive_one() -> None:
            exchange = Exchange(messages)
            await self.app(copy_scope(scope), exchange.receive, exchange.send)
            exchange.check(expected)

        start = perf_counter()
        for _ in range(count // at_once):
            await asyncio.gather(*(drive_one() for _ in range(at_once)))
        return perf_counter() - start


def make_scope(request: Request) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 51234),
        "scheme": "http",
        "method": request.method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in request.headers],
        "state": {},
    }


def copy_scope(scope: dict[str, Any]) -> dict[str, Any]:
    """Fresh where applications write; a server makes all of it anew."""
    return {**scope, "headers": scope["headers"].copy(), "state": {}}


class Started:
    """`start_response` for one request."""

    __slots__ = ("headers", "status")

    def __call__(self, status: str, headers: list[Header], exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return self.refuse_write

    def refuse_write(self, data: bytes) -> None:
        raise WrongAnswer("write() of start_response was called")


class WsgiDriver:
    """Calls in the one thread that asks, as a sync server does."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def close(self) -> None:
        pass

    def ask(self, request: Request, at_most: int = 1) -> Answer:
        """The last answer of `at_most` requests."""
        environ = make_environ(request)
        for _ in range(at_most):
            started, body = self.call(environ, request.body)
        headers = {name.lower(): value for name, value in started.headers}
        return Answer(int(started.status[:3]), headers, body)

    def call(self, environ: dict[str, Any], body: bytes) -> tuple[Started, bytes]:
        started = Started()
        iterable = self.app({**environ, "wsgi.input": io.BytesIO(body)}, started)
        try:
            return started, b"".join(iterable)
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    def time(self, request: Request, count: int, expected: Answer, at_once: int = 1) -> float:
        environ, call, status = make_environ(request), self.call, str(expected.status)
        start = perf_counter()
        for _ in range(count):
            started, body = call(environ, request.body)
            if started.status[:3] != status or body != expected.body:
                raise WrongAnswer(f"{started.status} {body[:80]!r}")
        return perf_counter() - start


def make_environ(request: Request) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    names = {name: f"HTTP_{name.upper().replace('-', '_')}" for name, _ in request.headers}
    names |= {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
    return {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "RAW_URI": request.path,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "benchmark",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "51234",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        **{names[name]: value for name, value in request.headers},
    }


DRIVERS = {"asgi": AsgiDriver, "wsgi": WsgiDriver}
