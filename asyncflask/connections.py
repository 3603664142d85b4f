"""What an AsyncClient's `stream`, `request` and `websocket` give: one connection to the application, piece by piece."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator, Sequence
from contextvars import copy_context
from types import TracebackType

from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse
from werkzeug.wrappers import Request as BaseRequest

from .transport import Body, ClientLeft, Conversation, Line, Transport, decode_headers
from .websockets import ABNORMAL, INTERNAL_ERROR, NO_STATUS, NORMAL, WebsocketDisconnect, json_value

if t.TYPE_CHECKING:
    from .async_testing import AsyncClient
    from .typing import Message, Scope, WSGIEnvironment

# RFC 6455 1.3; its key
_HANDSHAKE = {
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


class WebsocketResponseError(Exception):
    """The application refused a websocket, with `response`."""

    def __init__(self, response: TestResponse) -> None:
        super().__init__(f"The websocket was refused: {response.status}.")
        self.response = response


class Upload:
    """A body which a test sends piece by piece."""

    def __init__(self) -> None:
        self.complete: bool = False
        self.pieces: Line[bytes | None] = Line()

    async def pull(self) -> tuple[bytes, bool]:
        piece = await self.pieces.get()
        return piece or b"", piece is not None


class HTTPConnection:
    """A request and its response. `status_code` and `headers` are there with the first piece.

    Leaving the block disconnects; after `send_complete`, the rest of the response is read and kept for `as_response`.
    """

    def __init__(self, client: AsyncClient, request: BaseRequest, body: Body) -> None:
        self.client = client
        self.request = request
        self.status_code: int | None = None
        self.headers: Headers | None = None
        self._upload = body if isinstance(body, Upload) else None
        # Who sends by hand may have to do something before there is anything to receive: as with a server, the
        # application comes as far as its head and its first piece by itself.
        ahead = 0 if self._upload is None else 2
        self._transport = Transport(t.cast(t.Any, client.application), client._scope(request.environ), body, ahead)
        self._data = bytearray()  # what has come

    async def send(self, data: bytes) -> None:
        """Send a piece of the body. It does not wait until the application reads it."""
        self._require_upload().pieces.put(data)

    async def send_complete(self) -> None:
        """Send the end of the body."""
        upload = self._require_upload()
        upload.complete = True
        upload.pieces.put(None)

    async def receive(self) -> bytes:
        """The next piece of the response, b"" at its end. Raises what the application raises."""
        if self.status_code is None:
            await self._start()
        piece = await self._transport.read()
        self._data += piece
        return piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.receive():
            yield piece

    async def as_response(self) -> TestResponse:
        """The whole response: what has come, and the rest. Raises RuntimeError if the client left before its end."""
        while not self._transport.complete:
            await self.receive()
        if not self._transport.whole:
            raise RuntimeError("The client left before the end of the response.")
        headers = t.cast(Headers, self.headers)
        return self.client._respond(t.cast(int, self.status_code), headers, bytes(self._data), self.request)

    async def disconnect(self) -> None:
        """Leave; the application is told. It has ended by the end of the block."""
        self._transport.leave()

    async def _start(self) -> None:
        self.status_code, raw = await self._transport.start()
        self.headers = decode_headers(raw)
        self.client._keep_cookies(self.request, self.headers)

    def _require_upload(self) -> Upload:
        if self._upload is None:
            raise RuntimeError("This request came with its body: client.request() gives one to send by hand.")
        return self._upload

    async def __aenter__(self) -> t.Self:
        await self.client._forget_contexts()
        self._transport.begin(copy_context())
        if self._upload is None:
            try:
                await self._start()
            except BaseException:
                await self.client._enter_contexts()
                raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if exc_type is not None:
                await self._transport.abort()
                return
            if self._upload is not None and self._upload.complete and not self._transport.left:
                await self.as_response()
            await self._transport.close()
            self._transport.raise_error()
        finally:
            await self.client._enter_contexts()


class _WebsocketConversation(Conversation):
    async def send(self, message: Message) -> None:
        if self.left and message["type"] == "websocket.send":  # a close is late, but no error, as with servers
            raise ClientLeft("The client has disconnected.")
        await super().send(message)


class WebsocketConnection:
    """A websocket from the client's side, open within its block, whose end closes it and waits for the view's end."""

    def __init__(self, client: AsyncClient, request: BaseRequest, subprotocols: Sequence[str]) -> None:
        self.client = client
        self.request = request
        self.accepted_subprotocol: str | None = None
        self.accept_headers: Headers = Headers()
        self._closed: tuple[int, str] | None = None  # code and reason
        scope = _websocket_scope(client, request.environ, subprotocols)
        self._conversation = _WebsocketConversation(t.cast(t.Any, client.application), scope)

    async def receive(self) -> str | bytes:
        """The next message: text is a str. Raises WebsocketDisconnect once it is closed, or the view's error."""
        self._check()
        message = await self._conversation.take() or {"type": "websocket.close", "code": ABNORMAL}
        if message["type"] == "websocket.close":
            self._closed = message.get("code") or NO_STATUS, message.get("reason") or ""
            if self._closed[0] in (ABNORMAL, INTERNAL_ERROR):  # the error is on its way
                await self._end()
            self._check()
        text: str | None = message.get("text")
        return t.cast(bytes, message["bytes"]) if text is None else text

    async def send(self, data: str | bytes) -> None:
        """Send text (a str) or bytes. Raises WebsocketDisconnect once it is known to be closed."""
        self._check()
        self._conversation.tell({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    async def receive_json(self) -> t.Any:
        return self.client.application.json.loads(await self.receive())

    async def send_json(self, *args: t.Any, **kwargs: t.Any) -> None:
        """Send what `jsonify` would make of the arguments, as text."""
        await self.send(self.client.application.json.dumps(json_value(args, kwargs)))

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it, unless it is closed."""
        if self._closed is None:
            self._closed = code, reason
            self._leave()

    async def disconnect(self) -> None:
        """Break the connection, without a close frame."""
        await self.close(ABNORMAL)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages until it is closed."""
        try:
            while True:
                yield await self.receive()
        except WebsocketDisconnect:
            return

    def _check(self) -> None:
        if self._closed is not None:
            raise WebsocketDisconnect(*self._closed)

    def _leave(self) -> None:
        code, reason = self._closed or (NORMAL, "")
        self._conversation.leave()
        self._conversation.tell({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def _end(self) -> None:
        """Wait for the application's end. Raises what it raised."""
        if not self._conversation.left:
            self._leave()
        await self._conversation.close()
        self._conversation.raise_error()

    async def __aenter__(self) -> t.Self:
        self._conversation.tell({"type": "websocket.connect"})
        self._conversation.begin(copy_context())
        message = await self._conversation.take() or {"type": ""}
        if message["type"] != "websocket.accept":
            response = await self._read_refusal(message)
            await self._end()
            raise WebsocketResponseError(response)
        self.accepted_subprotocol = message.get("subprotocol")
        self.accept_headers = decode_headers(message.get("headers", ()))
        self.client._keep_cookies(self.request, self.accept_headers)
        return self

    async def _read_refusal(self, start: Message) -> TestResponse:
        """The response in place of a websocket; 403, as of a server, where the application gave none."""
        data = bytearray()
        if start["type"] != "websocket.http.response.start":
            return self.client._respond(403, Headers(), b"", self.request)
        while (message := await self._conversation.take()) is not None:
            data += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = decode_headers(start["headers"])
        self.client._keep_cookies(self.request, headers)
        return self.client._respond(start["status"], headers, bytes(data), self.request)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc_type is None or issubclass(exc_type, WebsocketDisconnect):
            await self._end()
        else:
            await self._conversation.abort()


def _websocket_scope(client: AsyncClient, environ: WSGIEnvironment, subprotocols: Sequence[str]) -> Scope:
    offers = {"HTTP_SEC_WEBSOCKET_PROTOCOL": ", ".join(subprotocols)} if subprotocols else {}
    scope = client._scope({**environ, **_HANDSHAKE, **offers})
    del scope["method"]
    return {
        **scope,
        "type": "websocket",
        "scheme": _WEBSOCKET_SCHEMES.get(scope["scheme"], scope["scheme"]),
        "subprotocols": list(subprotocols),
        "extensions": {"websocket.http.response": {}},
    }
