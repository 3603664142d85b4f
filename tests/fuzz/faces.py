"""Both faces of the application, asked without a server in between."""

from __future__ import annotations

import asyncio
import io
import typing as t
from collections.abc import Iterable, Iterator
from itertools import chain

Headers = t.Sequence[tuple[bytes, bytes]]


class Answer(t.NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Question(t.NamedTuple):
    """A request as servers pass it on; `cuts` are the places where the body is cut into pieces."""

    path: str
    query: bytes = b""
    headers: Headers = ()
    body: bytes | None = None
    cut: int = 0
    method: str = ""

    @property
    def verb(self) -> str:
        return self.method or ("GET" if self.body is None else "POST")

    def pieces(self) -> list[bytes]:
        body, size = self.body or b"", self.cut or 1 << 30
        return [body[at : at + size] for at in range(0, len(body), size)] or [b""]

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        length = [] if self.body is None else [(b"content-length", str(len(self.body)).encode())]
        return [*self.headers, *length]


def ask_wsgi(app: t.Any, question: Question, file: t.IO[bytes] | None = None) -> Answer:
    """`file` is read in place of the question's body."""
    environ: dict[str, t.Any] = {
        "REQUEST_METHOD": question.verb,
        "SCRIPT_NAME": "",
        "PATH_INFO": question.path.encode().decode("latin-1"),
        "QUERY_STRING": question.query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": file or io.BytesIO(question.body or b""),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in question.all_headers():
        key = name.decode("latin-1").upper().replace("-", "_")
        environ[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = value.decode("latin-1")
    starts: list[tuple[str, list[tuple[str, str]]]] = []
    pieces = app(environ, lambda status, headers, error=None: starts.append((status, headers)))
    try:
        body = b"".join(pieces)
    finally:
        getattr(pieces, "close", int)()
    ((status, headers),) = starts
    return Answer(int(status[:3]), {name.lower(): value for name, value in headers}, body)


def read_events(pieces: Iterator[bytes]) -> Iterator[dict[str, t.Any]]:
    piece: bytes | None = next(pieces)
    while piece is not None:
        following = next(pieces, None)
        yield {"type": "http.request", "body": piece, "more_body": following is not None}
        piece = following


async def ask_asgi(app: t.Any, question: Question, more: Iterable[bytes] = ()) -> Answer:
    """The pieces of `more` follow, or stand for, the question's body."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": question.verb,
        "scheme": "http",
        "path": question.path,
        "query_string": question.query,
        "root_path": "",
        "headers": question.all_headers(),
        "client": ("127.0.0.1", 12345),
        "server": ("localhost", 80),
    }
    sent: list[dict[str, t.Any]] = []
    events = read_events(chain(question.pieces(), more))

    async def receive() -> dict[str, t.Any]:
        if (event := next(events, None)) is None:
            await asyncio.Event().wait()
        return event or {}

    async def send(message: dict[str, t.Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    assert [start["type"], *{body["type"] for body in bodies}] == ["http.response.start", "http.response.body"], sent
    assert not bodies[-1].get("more_body") and all(body.get("more_body") for body in bodies[:-1]), sent
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(body["body"] for body in bodies))
