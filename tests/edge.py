"""One ASGI exchange, played by hand: what the tests of the edge, the bridge and the bodies drive requests with."""

from __future__ import annotations

import asyncio
import json
import typing as t
from collections.abc import Callable, Iterable

TIMEOUT = 10
Message = dict[str, t.Any]


class Exchange:
    """The server's side of one request. It notes each event and refuses those out of order.

    After the pieces of the body `receive` waits for `left`, the client's leaving. `wire_open` is set while the client
    takes data: `send` waits for it. `on_send(message)` may raise, as a server does that lost its client.
    """

    def __init__(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Iterable[tuple[str, str]] = (),
        pieces: Iterable[bytes] = (b"",),
        ends: bool = True,
        on_send: Callable[[Message], object] | None = None,
        **scope: t.Any,
    ) -> None:
        self.scope = make_scope(method, path, headers, **scope)
        self.pieces = list(pieces)
        self.ends = ends
        self.on_send = on_send
        self.messages: list[Message] = []
        self.received = 0
        self.left = asyncio.Event()
        self.wire_open = asyncio.Event()
        self.wire_open.set()
        self.started = asyncio.Event()
        self.nobody_waits = False  # the application was told before it answered

    async def receive(self) -> Message:
        self.received += 1
        if self.pieces:
            piece = self.pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or not self.ends}
        await self.left.wait()
        self.nobody_waits = self.nobody_waits or not self.messages
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.on_send is not None:
            self.on_send(message)
        expected = "http.response.body" if self.messages else "http.response.start"
        assert message["type"] == expected, (message, self.messages)
        assert not self.complete, f"{message} after the end"
        self.messages.append(message)
        self.started.set()
        await asyncio.sleep(0)
        await self.wire_open.wait()

    @property
    def complete(self) -> bool:
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> t.Any:
        return json.loads(self.body)

    async def run(self, app: t.Any) -> Exchange:
        """Let `app` answer: one event of start then a whole body, or nothing if it was told that nobody waits."""
        async with asyncio.timeout(TIMEOUT):
            await app(self.scope, self.receive, self.send)
        assert self.complete or (self.nobody_waits and not self.messages), self.messages
        return self


def make_scope(method: str, path: str, headers: Iterable[tuple[str, str]], **more: t.Any) -> Message:
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 5000),
        "server": ("localhost", 80),
        **more,
    }


async def get(app: t.Any, path: str = "/", **more: t.Any) -> Exchange:
    return await Exchange("GET", path, **more).run(app)


async def post(app: t.Any, path: str = "/", *pieces: bytes, chunked: bool = False, **more: t.Any) -> Exchange:
    """A POST with its length, or chunked without one."""
    headers = [*more.pop("headers", ())]
    length = str(sum(map(len, pieces)))
    headers.append(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", length))
    return await Exchange("POST", path, headers=headers, pieces=pieces or (b"",), **more).run(app)


async def get_many(app: t.Any, paths: Iterable[str]) -> list[Exchange]:
    return await asyncio.gather(*(get(app, path) for path in paths))


async def wait_until(condition: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # threads change it too
            await asyncio.sleep(0.002)
