"""One websocket connection over an ASGI server (ASGI specification, "WebSocket")."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from anyio import Event, Lock

from .bridge import current_loop
from .waiting import LONGEST_TURN, cancel_scope, pause
from .websockets import ABNORMAL, CLOSED, CONNECTING, NO_STATUS, NORMAL, OPEN, TOO_BIG, WebsocketDisconnect

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .typing import Message, Receive, Scope, Send
    from .waiting import Scope as CancelScope


class Connection:
    """Several tasks may receive and send at once.

    Whoever notes its end wakes the tasks that wait for a message: servers report the end to one of them, or to none.
    """

    __slots__ = (
        "_accepting", "_ahead", "_receive", "_receiving", "_send", "_sends_alone", "_tells_senders", "_turn",
        "can_deny", "closed", "limit", "loop", "state", "subprotocols",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.state: str = CONNECTING
        self.closed: tuple[int, str] = NO_STATUS, ""  # why, once the state says so
        self.can_deny: bool = "websocket.http.response" in scope.get("extensions", ())
        self.subprotocols: list[str] | None = scope.get("subprotocols")
        self.limit: int | None = None  # of a message: characters or bytes
        self.loop: AbstractEventLoop = current_loop()
        self._receive = receive
        self._send = send
        self._accepting: Lock | None = Lock()
        self._receiving: tuple[CancelScope, ...] = ()
        # ASGI 2.4: a `send` to a client that has left raises. Before, only `receive` told.
        self._tells_senders: bool = _spec_version(scope) >= (2, 4)
        self._sends_alone: bool = False
        self._turn: float = monotonic()  # when one who sent or received last gave the loop a turn
        self._ahead: _Ahead | None = None

    async def accept(self, headers: Iterable[tuple[bytes, bytes]], subprotocol: str | None) -> bool:
        """Whether it was this call that opened the connection. Raises WebsocketDisconnect."""
        if self._accepting is not None:
            async with self._accepting:
                if self.state is CONNECTING:
                    message = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)}
                    await self._pass_on(message)
                    self._check()  # another task may have closed it meanwhile
                    self.state = OPEN
                    self._accepting = None
                    return True
        self._check()
        return False

    async def receive(self) -> str | bytes:
        while True:
            self._check()
            message = await self._wait_for_message()
            self._turn = monotonic()
            if message["type"] == "websocket.receive":
                text: str | None = message.get("text")
                data: str | bytes = message["bytes"] if text is None else text
                if self.limit is not None and len(data) > self.limit:
                    await self.close(TOO_BIG, "The message is too big.")
                    self._check()
                return data
            self._take_end(message)

    async def send(self, data: str | bytes) -> None:
        self._check()
        key = "text" if isinstance(data, str) else "bytes"
        if monotonic() - self._turn > LONGEST_TURN:  # a server's `send` need not wait, to one who has left least of all
            await pause()  # before it: who is cancelled here has sent nothing
            self._turn = monotonic()
            self._check()
        await self._pass_on({"type": "websocket.send", key: data})
        if not (self._tells_senders or self._receiving):
            self._listen_ahead()

    async def close(self, code: int, reason: str = "") -> None:
        """Close it, or refuse it while it is connecting (servers answer 403). Without effect if it is closed."""
        if self.state is not CLOSED:
            self._note_end(code, reason)
            with suppress(WebsocketDisconnect):  # the client was faster
                await self._pass_on({"type": "websocket.close", "code": code, "reason": reason})

    async def deny(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Refuse it with an HTTP response; servers without the extension answer 403."""
        if not self.can_deny:
            return await self.close(NORMAL)
        self._note_end(ABNORMAL, "")
        with suppress(WebsocketDisconnect):
            await self._pass_on({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await self._pass_on({"type": "websocket.http.response.body", "body": body, "more_body": False})

    def let_go(self) -> None:
        """The conversation is over: nobody listens any more."""
        if self._ahead is not None:
            self._ahead.task.cancel()
            self._ahead = None  # no cycle

    def _check(self) -> None:
        if self.state is CLOSED:
            raise WebsocketDisconnect(*self.closed)

    def _note_end(self, code: int, reason: str) -> WebsocketDisconnect:
        self.state = CLOSED
        self.closed = code, reason
        for scope in self._receiving:
            scope.cancel()  # which `_wait_for_message` turns into the news
        return WebsocketDisconnect(code, reason)

    def _take_end(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect" and self.state is not CLOSED:
            self._note_end(message.get("code") or NO_STATUS, message.get("reason") or "")

    async def _wait_for_message(self) -> Message:
        self._sends_alone = False
        scope = cancel_scope()
        self._receiving = (*self._receiving, scope)
        try:
            with scope:
                return await (self._receive() if self._ahead is None else self._take_ahead(self._ahead))
        finally:
            self._receiving = tuple(other for other in self._receiving if other is not scope)
        raise WebsocketDisconnect(*self.closed)

    def _listen_ahead(self) -> None:
        """Who only sends would not learn that the client has left: from the second message on, a task listens."""
        if self._sends_alone and self._ahead is None:
            self._ahead = _Ahead(self)
        self._sends_alone = True

    async def _take_ahead(self, ahead: _Ahead) -> Message:
        await ahead.heard.wait()
        if self._ahead is not ahead:  # another task took it
            return await self._receive()
        self._ahead = None
        return ahead.take()

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            # ASGI 2.4: the client has gone. Uvicorn's RuntimeError: it closed the connection, for want of a pong.
            if not isinstance(error, OSError) and "websocket.close" not in str(error):
                raise
            if self.state is CLOSED:
                raise WebsocketDisconnect(*self.closed) from error
            raise self._note_end(ABNORMAL, "") from error


class _Ahead:
    """A task that receives one message before anybody asks for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard = Event()
        self.message: Message = {"type": "websocket.disconnect", "code": ABNORMAL}
        self.error: Exception | None = None
        self.task = connection.loop.create_task(self._hear())

    async def _hear(self) -> None:
        try:
            self.message = await self.connection._receive()
            self.connection._take_end(self.message)
        except Exception as error:
            self.error = error
        finally:
            self.heard.set()

    def take(self) -> Message:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.message


def _spec_version(scope: Scope) -> tuple[int, ...]:
    return tuple(int(part) for part in scope.get("asgi", {}).get("spec_version", "2.0").split("."))
