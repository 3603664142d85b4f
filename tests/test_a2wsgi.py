"""The application between a2wsgi's adapters, for those who use them: each face seen through the other."""

from __future__ import annotations

import asyncio
import threading

import pytest
from edge import get, post
from werkzeug.test import Client

from asyncflask import Flask, request

a2wsgi = pytest.importorskip("a2wsgi")


@pytest.fixture
def app():
    app = Flask(__name__)

    @app.post("/sync")
    def sync_view():
        return {"body": request.get_data(as_text=True), "main": threading.current_thread() is threading.main_thread()}

    @app.post("/async")
    async def async_view():
        await asyncio.sleep(0)
        return {"body": request.get_data(as_text=True)}

    @app.get("/numbers")
    async def numbers():
        async def count():
            for number in range(3):
                yield str(number)

        return count()

    return app


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_the_wsgi_face_over_asgi(app, path):
    over = a2wsgi.WSGIMiddleware(app.wsgi_app)
    assert (await post(over, path, b"hello")).json["body"] == "hello"
    assert (await get(over, "/missing")).status == 404


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_the_asgi_face_under_wsgi(app, path):
    client = Client(a2wsgi.ASGIMiddleware(app.asgi_app))
    assert client.post(path, data="hello").json["body"] == "hello"
    assert client.get("/numbers").text == "012"
    assert client.get("/missing").status_code == 404
