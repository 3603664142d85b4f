"""One ASGI websocket, played by hand: the server's side, which refuses events out of order."""

from __future__ import annotations

import asyncio
import json
import typing as t
from collections.abc import Callable, Iterable

from edge import TIMEOUT, Message, make_scope


class Socket:
    """`async with Socket(app, "/path") as socket`: connects; `opened` says whether it was accepted.

    What the application sends comes from `receive`; at the block's end the client leaves and the application must end.
    """

    def __init__(
        self,
        app: t.Any,
        path: str = "/",
        *,
        headers: Iterable[tuple[str, str]] = (("Host", "localhost"),),
        can_deny: bool = True,
        on_send: Callable[[Message], object] | None = None,
        **scope: t.Any,
    ) -> None:
        extensions = {"websocket.http.response": {}} if can_deny else {}
        self.scope = make_scope("GET", path, headers, extensions=extensions, **scope)
        self.scope.update(type="websocket", scheme=scope.get("scheme", "ws"))
        del self.scope["method"]
        self.app = app
        self.on_send = on_send
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.state = "connecting"
        self.first: Message = {}
        self.wire_open = asyncio.Event()
        self.wire_open.set()
        self.sending = 0  # messages that the client has not taken
        self.to_app.put_nowait({"type": "websocket.connect"})

    async def __aenter__(self) -> t.Self:
        self.task = asyncio.create_task(self.run())
        self.first = await self._next()
        return self

    async def run(self) -> None:
        try:
            await self.app(self.scope, self.to_app.get, self._send)
        finally:
            self.from_app.put_nowait({"type": "ended"})

    async def __aexit__(self, *error: object) -> None:
        self.leave()
        await self.end()

    @property
    def opened(self) -> bool:
        return self.first["type"] == "websocket.accept"

    async def end(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.wait([self.task])
        if not self.task.cancelled() and self.task.exception() is not None:
            raise t.cast(BaseException, self.task.exception())

    def leave(self, code: int = 1005, reason: str = "") -> None:
        self.to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def put(self, data: str | bytes) -> None:
        key = "text" if isinstance(data, str) else "bytes"
        self.to_app.put_nowait({"type": "websocket.receive", key: data})

    def put_json(self, value: t.Any) -> None:
        self.put(json.dumps(value))

    async def take(self) -> str | bytes:
        message = await self._next()
        assert message["type"] == "websocket.send", message
        return message["text"] if message.get("text") is not None else message["bytes"]

    async def take_json(self) -> t.Any:
        return json.loads(await self.take())

    async def take_close(self) -> tuple[int, str]:
        message = await self._next()
        assert message["type"] == "websocket.close", message
        return message["code"], message["reason"]

    async def denial(self) -> tuple[int, dict[str, str], bytes]:
        assert self.first["type"] == "websocket.http.response.start", self.first
        body = await self._next()
        assert not body["more_body"]
        return self.first["status"], {k.decode(): v.decode() for k, v in self.first["headers"]}, body["body"]

    async def _next(self) -> Message:
        async with asyncio.timeout(TIMEOUT):
            return await self.from_app.get()

    async def _send(self, message: Message) -> None:
        if self.on_send is not None:
            self.on_send(message)
        kind = message["type"]
        assert kind in _NEXT[self.state], f"{message} while {self.state}"
        self.state = _NEXT[self.state][kind]
        self.sending += 1
        self.from_app.put_nowait(message)
        await asyncio.sleep(0)
        await self.wire_open.wait()
        self.sending -= 1


_NEXT = {
    "connecting": {
        "websocket.accept": "open",
        "websocket.close": "closed",
        "websocket.http.response.start": "denying",
    },
    "denying": {"websocket.http.response.body": "closed"},
    "open": {"websocket.send": "open", "websocket.close": "closed"},
    "closed": {},
}
