"""What type checkers make of the async test client."""

from __future__ import annotations

import typing as t

from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from asyncflask import Flask
from asyncflask.async_testing import AsyncClient, HTTPConnection, TestApp, WebsocketConnection, WebsocketResponseError
from asyncflask.sessions import SessionMixin


async def use(app: Flask) -> None:
    client = app.async_test_client()
    t.assert_type(client, AsyncClient)
    t.assert_type(await client.get("/", query_string={"a": "b"}), TestResponse)
    t.assert_type(await client.open("/", method="POST", json=[1]), TestResponse)
    async with client.stream("GET", "/") as response:
        t.assert_type(response, HTTPConnection)
        t.assert_type(response.headers, Headers | None)
        async for piece in response:
            t.assert_type(piece, bytes)
    async with client.request("/", method="POST") as connection:
        await connection.send(b"")
        await connection.send_complete()
        t.assert_type(await connection.as_response(), TestResponse)
    async with client.websocket("/", subprotocols=["one"]) as ws:
        t.assert_type(ws, WebsocketConnection)
        t.assert_type(await ws.receive(), str | bytes)
        t.assert_type(ws.accepted_subprotocol, str | None)
    async with client.session_transaction() as session:
        t.assert_type(session, SessionMixin)
    async with app.test_app() as test_app:
        t.assert_type(test_app, TestApp)
        t.assert_type(test_app.test_client(), AsyncClient)


def refusal(error: WebsocketResponseError) -> int:
    return error.response.status_code
