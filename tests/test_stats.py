"""`app.stats()`: what a process is doing, asked while it does it."""

from __future__ import annotations

import asyncio
import threading
import time
import typing as t

import pytest
from edge import Exchange, wait_until

from asyncflask import Flask, on_overload, websocket


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


async def test_requests_and_threads(app: Flask) -> None:
    app.config.update(WORKER_THREADS=2)
    go = threading.Event()
    leave = asyncio.Event()
    app.add_url_rule("/sync", "sync", lambda: str(go.wait(5)))

    @app.get("/async")
    async def view() -> str:
        await leave.wait()
        return ""

    assert app.stats() == {
        "requests": 0, "websockets": 0, "background_tasks": 0, "worker_threads": 0, "busy_threads": 0, "queued": 0,
        "loop_lag": None,
    }  # fmt: skip
    tasks = [asyncio.create_task(Exchange(path="/sync").run(app)) for _ in range(5)]
    tasks.append(asyncio.create_task(Exchange(path="/async").run(app)))
    await wait_until(lambda: app.stats()["busy_threads"] == 2)
    seen = app.stats()
    assert (seen["requests"], seen["worker_threads"], seen["queued"]) == (6, 2, 3)
    go.set()
    leave.set()
    await asyncio.gather(*tasks)
    await wait_until(lambda: app.stats()["busy_threads"] == 0)
    assert (app.stats()["requests"], app.stats()["queued"]) == (0, 0)


def test_requests_under_wsgi(app: Flask) -> None:
    app.add_url_rule("/", "view", lambda: app.stats())
    app.add_url_rule("/fails", "fails", lambda: 1 / 0)
    assert app.test_client().get("/").json["requests"] == 1
    assert app.test_client().get("/fails").status_code == 500
    assert app.stats()["requests"] == 0


@pytest.mark.blocks_loop("its lag is measured")
async def test_background_tasks_and_the_loops_lag(app: Flask) -> None:
    done = asyncio.Event()
    async with app.test_app():
        app.add_background_task(done.wait)
        assert (app.stats()["background_tasks"], app.stats()["loop_lag"]) == (1, 0)
        await asyncio.sleep(0.01)
        time.sleep(1.2)  # noqa: ASYNC251  # code that holds the loop
        assert app.stats()["loop_lag"] > 0.1
        await asyncio.sleep(0)
        assert app.stats()["loop_lag"] > 0.1
        done.set()
    assert app.stats()["loop_lag"] is None


async def test_websockets(app: Flask) -> None:
    @app.websocket("/ws")
    async def view() -> None:
        await websocket.send(str(app.stats()["websockets"]))

    async with app.async_test_client().websocket("/ws") as connection:
        assert await connection.receive() == "1"
    await wait_until(lambda: app.stats()["websockets"] == 0)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_overload_is_told(app: Flask, kind: str) -> None:
    app.config.update(WORKER_THREADS=1, WORKER_QUEUE_LIMIT=0)
    go = threading.Event()
    app.add_url_rule("/", "view", lambda: str(go.wait(5)))
    told: list[t.Any] = []

    async def tell(sender: Flask) -> None:
        told.append(sender)

    receiver = tell if kind == "async" else told.append
    with on_overload.connected_to(receiver, app):
        busy = asyncio.create_task(Exchange().run(app))
        await wait_until(lambda: app.stats()["busy_threads"] == 1)
        assert (await Exchange().run(app)).status == 503
        go.set()
        await busy
    assert told == [app]
