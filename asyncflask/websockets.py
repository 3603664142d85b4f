"""The Websocket: the request that opened a connection, and the connection (ASGI specification, "WebSocket").

A connection is `connecting` until `accept`, which the first `receive` or `send` implies; then `open` until one side
closes.
"""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator

from werkzeug.datastructures import Headers

from .environ import check_headers
from .signals import websocket_received, websocket_sent
from .steps import tell_async
from .wrappers import Request

if t.TYPE_CHECKING:
    from .app import Flask
    from .asgi_connection import Connection
    from .typing import Receive, Scope, Send

CONNECTING, OPEN, CLOSED = "connecting", "open", "closed"
# RFC 6455 7.4.1
NORMAL, GOING_AWAY, NO_STATUS, ABNORMAL, TOO_BIG, INTERNAL_ERROR = 1000, 1001, 1005, 1006, 1009, 1011
_CODES = frozenset({NORMAL, GOING_AWAY, 1002, 1003, 1007, 1008, TOO_BIG, 1010, INTERNAL_ERROR, 1012, 1013, 1014})


class WebsocketDisconnect(Exception):
    """The connection is closed: by the client, by the server, or by `close`. `code` is RFC 6455's."""

    def __init__(self, code: int = NO_STATUS, reason: str = "") -> None:
        super().__init__(f"The websocket is closed: {code}{f' {reason}' if reason else ''}.")
        self.code = code
        self.reason = reason


class Websocket(Request):
    """The handshake is a Request: headers, args, cookies, url, view_args. Both sides of the connection are awaited."""

    connection: Connection

    @classmethod
    def from_connection(cls, scope: Scope, receive: Receive, send: Send) -> t.Self:
        from .asgi_connection import Connection

        scope.setdefault("method", "GET")  # not in a copy, which would stay as long as the connection
        websocket = cls.from_scope(scope, None)
        websocket.connection = Connection(scope, receive, send)
        return websocket

    @property
    def requested_subprotocols(self) -> list[str]:
        """What the client offers (Sec-WebSocket-Protocol), its favourite first."""
        if self.connection.subprotocols is not None:  # wsproto takes the header away
            return self.connection.subprotocols
        return [name.strip() for name in self.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()]

    @property
    def accepted(self) -> bool:
        return self.connection.state is not CONNECTING

    async def accept(self, headers: t.Any = None, subprotocol: str | None = None) -> None:
        """Open the connection, if it is not open yet; `headers` as for a response. Raises WebsocketDisconnect."""
        if subprotocol is not None and subprotocol not in self.requested_subprotocols:
            raise ValueError(f"The client did not offer the subprotocol {subprotocol!r}.")
        given = Headers(headers)
        check_headers(given)
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given]
        await self.connection.accept(raw, subprotocol)

    async def receive(self) -> str | bytes:
        """The next message: text is a str. Raises WebsocketDisconnect at the end."""
        await self._open()
        data = await self.connection.receive()
        if websocket_received.receivers:
            await tell_async(_app(), websocket_received, message=data)
        return data

    async def send(self, data: str | bytes) -> None:
        """Send text (a str) or bytes; waits while the client is slow. Raises WebsocketDisconnect."""
        if not isinstance(data, str | bytes | bytearray | memoryview):
            kind = type(data).__name__
            raise TypeError(f"websocket.send takes str or bytes, not {kind}. For JSON there is send_json.")
        await self._open()
        await self.connection.send(data)
        if websocket_sent.receivers:
            await tell_async(_app(), websocket_sent, message=data)

    async def receive_json(self) -> t.Any:
        return self.json_module.loads(await self.receive())

    async def send_json(self, *args: t.Any, **kwargs: t.Any) -> None:
        """Send what `jsonify` would make of the arguments, as text."""
        await self.send(self.json_module.dumps(json_value(args, kwargs)))

    async def close(  # type: ignore[override]  # of a request: the uploaded files, which a websocket has not
        self, code: int = NORMAL, reason: str = ""
    ) -> None:
        """Close the connection; before it is open: refuse it. Raises ValueError for what RFC 6455 does not allow."""
        if not (code in _CODES or 3000 <= code <= 4999):
            raise ValueError(f"{code} is no code to close a websocket with (RFC 6455 7.4).")
        if len(reason.encode()) > 123:
            raise ValueError("The reason to close a websocket has at most 123 bytes (RFC 6455 5.5).")
        await self.connection.close(code, reason)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages until the connection is closed."""
        try:
            while True:
                yield await self.receive()
        except WebsocketDisconnect:
            return

    async def _open(self) -> None:
        if self.connection.state is CONNECTING:
            await self.accept()


def _app() -> Flask:
    from .globals import current_app

    return t.cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]  # a proxy


def json_value(args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> t.Any:
    """What `jsonify` makes of its arguments."""
    if args and kwargs:
        raise TypeError("send_json() takes positional or keyword arguments, not both.")
    return args[0] if len(args) == 1 else list(args) if args else kwargs
