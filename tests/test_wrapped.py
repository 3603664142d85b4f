"""WSGI middleware around `app.wsgi_app` also sees requests that come over ASGI."""

from __future__ import annotations

import asyncio
import logging
import typing as t

import httpx
import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from asyncflask import Flask, request


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)

    @app.get("/remote")
    def remote() -> dict[str, t.Any]:
        return {"addr": request.remote_addr, "scheme": request.scheme, "seen": request.environ.get("seen", 0)}

    @app.post("/loop")
    async def loop() -> dict[str, t.Any]:
        return {"loop": id(asyncio.get_running_loop()), "body": request.get_data(as_text=True)}

    return app


class Count:
    """Middleware that counts itself in the environ."""

    def __init__(self, wrapped: t.Any) -> None:
        self.wrapped = wrapped

    def __call__(self, environ: dict[str, t.Any], start_response: t.Any) -> t.Any:
        environ["seen"] = environ.get("seen", 0) + 1
        return self.wrapped(environ, start_response)


def client(app: Flask) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_proxy_fix_over_asgi(app: Flask) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    async with client(app) as http:
        answer = await http.get("/remote", headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
    assert answer.json() == {"addr": "192.0.2.7", "scheme": "https", "seen": 0}


async def test_several_layers_and_both_faces(app: Flask) -> None:
    app.wsgi_app = Count(Count(app.wsgi_app))  # type: ignore[method-assign]
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
    async with client(app) as http:
        assert (await http.get("/remote")).json()["seen"] == 3
    assert app.test_client().get("/remote").get_json()["seen"] == 3


async def test_async_views_behind_it_run_on_the_serving_loop(app: Flask) -> None:
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]

    async def chunks() -> t.AsyncIterator[bytes]:
        yield b"in "
        yield b"pieces"

    async with client(app) as http:
        answer = await http.post("/loop", content=chunks())
    assert answer.json() == {"loop": id(asyncio.get_running_loop()), "body": "in pieces"}


async def test_unwrapped_again_is_native(app: Flask) -> None:
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
    del app.wsgi_app
    async with client(app) as http:
        assert (await http.get("/remote")).json()["seen"] == 0


async def test_start_up_says_so(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.wsgi_app = Count(app.wsgi_app)  # type: ignore[method-assign]
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, t.Any]:
        return events.pop(0)

    async def send(message: dict[str, t.Any]) -> None:
        sent.append(message["type"])

    with caplog.at_level(logging.WARNING):
        await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [record.message for record in caplog.records if "app.asgi_app" in record.message]
