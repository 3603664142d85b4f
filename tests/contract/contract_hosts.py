"""Two hosts in this process: an ASGI server that checks each event, a WSGI server behind wsgiref.validate."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

from contract_message import Answer, Question, make_question

TIMEOUT = 30


class Client:
    """Base of all clients: `request` is the whole interface of a case."""

    name: str
    face: str

    def request(self, method: str, target: str, headers: Any = (), body: bytes = b"", chunked: bool = False) -> Answer:
        return self.ask(make_question(method, target, headers, body, chunked))

    def get(self, target: str, headers: Any = ()) -> Answer:
        return self.request("GET", target, headers)

    def post(self, target: str, headers: Any = (), body: bytes = b"", chunked: bool = False) -> Answer:
        return self.request("POST", target, headers, body, chunked)

    def ask(self, question: Question) -> Answer:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


class Exchange:
    """One HTTP request over ASGI: feeds the body, refuses events out of order."""

    def __init__(self, question: Question) -> None:
        # A chunked body ends in an empty event, as h11 has it; others end with their last bytes.
        self.pieces = question.pieces() + [b""] * (question.chunked or not question.body)
        self.violation: AssertionError | None = None
        self.state = "start"
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.ended = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.pieces:
            piece = self.pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}
        await self.ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: dict[str, Any]) -> None:
        takers = {
            ("start", "http.response.start"): self.take_start,
            ("body", "http.response.body"): self.take_body,
        }
        try:
            assert (self.state, event["type"]) in takers, f"{event['type']} sent in state {self.state}"
            takers[self.state, event["type"]](event)
        except AssertionError as error:
            self.violation = error  # the application may well catch what it is told here
            raise
        await asyncio.sleep(0)

    def take_start(self, event: dict[str, Any]) -> None:
        assert set(event) <= {"type", "status", "headers", "trailers"}, event
        assert type(event["status"]) is int and 200 <= event["status"] <= 599
        self.status = event["status"]
        self.headers = [check_header(*pair) for pair in event.get("headers", ())]
        self.state = "body"

    def take_body(self, event: dict[str, Any]) -> None:
        assert set(event) <= {"type", "body", "more_body"}, event
        assert type(event.get("body", b"")) is bytes and type(event.get("more_body", False)) is bool
        self.body += event.get("body", b"")
        if not event.get("more_body", False):
            self.state = "ended"
            self.ended.set()

    def answer(self, question: Question) -> Answer:
        """The answer, once the application has returned and its framing holds."""
        if self.violation:
            raise self.violation
        assert self.state == "ended", f"the application returned in state {self.state}"
        return check_length(question, Answer(self.status, self.headers, bytes(self.body)))


def check_header(name: bytes, value: bytes) -> tuple[str, str]:
    assert type(name) is bytes and type(value) is bytes, (name, value)
    assert name == name.lower() and not set(name + value) & set(b"\r\n\0"), (name, value)
    return name.decode("latin-1"), value.decode("latin-1")


class AsgiClient(Client):
    """Drives the ASGI face on one event loop in a thread of its own, lifespan included."""

    name = face = "asgi"

    def __init__(self, app: Any) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="contract-asgi")
        self.thread.start()
        self.lifespan = self.run(self.start_lifespan())

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)

    async def start_lifespan(self) -> Lifespan:
        lifespan = Lifespan(self.app)
        await lifespan.ask("startup")
        return lifespan

    def ask(self, question: Question) -> Answer:
        return self.run(self.exchange(question))

    async def exchange(self, question: Question) -> Answer:
        exchange = Exchange(question)
        await self.app(make_scope(question), exchange.receive, exchange.send)
        return exchange.answer(question)

    def stop(self) -> None:
        try:
            self.run(self.lifespan.ask("shutdown"))
            self.run(self.loop.shutdown_default_executor())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


class Lifespan:
    """The lifespan scope as a running task."""

    def __init__(self, app: Any) -> None:
        self.inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self.task = asyncio.ensure_future(app(scope, self.inbox.get, self.outbox.put))

    async def ask(self, kind: str) -> None:
        await self.inbox.put({"type": f"lifespan.{kind}"})
        async with asyncio.timeout(TIMEOUT):
            assert await self.outbox.get() == {"type": f"lifespan.{kind}.complete"}
        if kind == "shutdown":
            await self.task


def make_scope(question: Question) -> dict[str, Any]:
    raw_path = question.path.encode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": question.method,
        "scheme": "http",
        "path": unquote_to_bytes(raw_path).decode(errors="replace"),
        "raw_path": raw_path,
        "query_string": question.query.encode("ascii"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in question.headers],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


class WsgiClient(Client):
    """Calls the WSGI face in the thread that asks, with the standard library's validator around it."""

    name = face = "wsgi"

    def __init__(self, app: Any) -> None:
        self.app = app

    def ask(self, question: Question) -> Answer:
        environ = make_environ(question)
        answers: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            assert exc_info or not answers, "start_response called twice"
            answers.append((status, headers))
            return written.append

        result = self.checked(environ)(environ, start_response)
        try:
            written.extend(result)
        finally:
            getattr(result, "close", int)()
        status, headers = answers[-1]
        lowered = [(name.lower(), value) for name, value in headers]
        return check_length(question, Answer(int(status[:3]), lowered, b"".join(written)))

    def checked(self, environ: dict[str, Any]) -> Any:
        # The validator refuses environs of a server that lets a bad Content-Length through: the case is ours.
        return validator(self.app) if environ.get("CONTENT_LENGTH", "0").isdigit() else self.app

    def stop(self) -> None:
        pass


def check_length(question: Question, answer: Answer) -> Answer:
    lengths = answer.all("Content-Length")
    assert len(lengths) <= 1, lengths
    if question.method == "HEAD" or answer.status in {204, 304}:
        assert not answer.body, "a body where none may be"
    elif lengths:
        assert int(lengths[0]) == len(answer.body), "Content-Length and body differ"
    return answer


def make_environ(question: Question) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": question.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(question.path).decode("latin-1"),
        "QUERY_STRING": question.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(question.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if question.chunked:
        environ["wsgi.input_terminated"] = True
    for name, value in question.headers:
        key = name.upper().replace("-", "_")
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        joiner = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joiner}{value}" if key in environ else value
    return environ
