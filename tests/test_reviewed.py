"""Defects that a review found, each through the edge where it showed."""

from __future__ import annotations

import asyncio
import threading
import typing as t

import pytest

from asyncflask import Flask, Response, appcontext_pushed, g, request
from tests.edge import Exchange, get, post, wait_until


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_stream_ends_when_the_client_leaves_with_its_body_unread(style: str) -> None:
    app = Flask(__name__)
    ended = threading.Event()

    # Views that are async themselves have their bodies loaded before; these have not.
    def pieces() -> t.Iterator[str]:
        try:
            while True:
                threading.Event().wait(0.002)
                yield "x"
        finally:
            ended.set()

    async def async_pieces() -> t.AsyncIterator[str]:
        try:
            while True:
                await asyncio.sleep(0.002)
                yield "x"
        finally:
            ended.set()

    app.add_url_rule("/", "view", lambda: async_pieces() if style == "async" else pieces(), methods=["POST"])
    # One piece of three; then the client leaves.
    exchange = Exchange("POST", "/", headers=[("Content-Length", "30")], pieces=[b"a" * 10], ends=False)
    task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await wait_until(lambda: len(exchange.messages) >= 2)
    exchange.left.set()
    await asyncio.wait_for(task, 5)
    assert ended.wait(5)


@pytest.mark.parametrize("name", ["iter_encoded", "get_wsgi_headers"])
async def test_response_class_of_ones_own_with_an_async_body(name: str) -> None:
    """Such a response is called, and not on the loop, which its body needs."""

    class Own(Response):
        pass

    def method(self: t.Any, *args: t.Any) -> t.Any:
        return getattr(Response, name)(self, *args)

    setattr(Own, name, method)
    app = Flask(__name__)
    app.response_class = Own

    @app.get("/")
    async def view() -> t.AsyncIterator[str]:
        yield "a"
        yield "b"

    answer = await get(app)
    assert (answer.status, answer.text) == (200, "ab")


def test_failing_receiver_of_a_pushed_context_leaves_nothing_behind() -> None:
    app = Flask(__name__)
    seen = []

    @app.get("/<name>")
    def view(name: str) -> str:
        seen.append(g.get("name"))
        g.name = name
        return name

    def fail(sender: Flask, **values: t.Any) -> None:
        raise ValueError("receiver")

    client = app.test_client()
    with appcontext_pushed.connected_to(fail, app):
        assert client.get("/first").status_code == 500
    assert [client.get(f"/{name}").status_code for name in ("alice", "bob")] == [200, 200]
    assert seen == [None, None]


async def test_tasks_that_outlive_their_request_do_not_keep_its_thread() -> None:
    app = Flask(__name__)
    tasks = []

    @app.get("/")
    async def view() -> str:
        async def later() -> None:
            await asyncio.sleep(0.01)
            await app.ensure_async(lambda: None)()

        tasks.append(asyncio.create_task(later()))
        return "answered"

    for _ in range(5):
        assert (await get(app)).status == 200
    await asyncio.gather(*tasks)
    assert [lane.bound for lane in app._workers.lanes if lane.bound] == []


def test_plan_that_was_made_while_a_hook_was_added_is_made_again() -> None:
    """Else the hook, which may be the guard of the route, would never run."""
    app = Flask(__name__)
    making, added = threading.Event(), threading.Event()

    class Views(dict[str, t.Any]):
        def get(self, key: str, default: t.Any = None) -> t.Any:
            making.set()
            added.wait(5)
            return super().get(key, default)

    app.add_url_rule("/", "view", lambda: "open")
    app.__dict__["view_functions"] = Views(app.view_functions)
    first = threading.Thread(target=lambda: app.test_client().get("/"))
    first.start()
    assert making.wait(5)
    app.before_request_funcs.setdefault(None, []).append(lambda: ("closed", 403))
    added.set()
    first.join(5)
    assert app.test_client().get("/").status_code == 403


def test_muted_signal_is_not_sent() -> None:
    app = Flask(__name__)
    app.add_url_rule("/", "view", lambda: request.path)
    heard: list[t.Any] = []
    with appcontext_pushed.connected_to(lambda sender, **values: heard.append(sender), app), appcontext_pushed.muted():
        assert app.test_client().get("/").text == "/"
    assert heard == []


@pytest.mark.parametrize("spool", [10, 1000])
async def test_loaded_body_is_closed_after_the_request(spool: int) -> None:
    app = Flask(__name__)
    app.config["BODY_SPOOL_SIZE"] = spool
    streams = []

    @app.post("/")
    async def view() -> str:
        streams.append(request._get_current_object()._stream)  # type: ignore[attr-defined]
        return str(len(request.get_data()))

    await post(app, "/", b"a" * 100, b"b" * 100)
    assert streams[0].closed and streams[0].loaded.closed


def test_path_does_not_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask(__name__)

    @app.before_request
    def fail() -> None:
        raise ValueError("hook")

    assert app.test_client().get("/a%0aERROR forged").status_code == 500
    assert "\n" not in caplog.records[0].getMessage()


def test_json_nested_too_deeply_is_400() -> None:
    app = Flask(__name__)
    app.add_url_rule("/", "view", lambda: str(request.get_json()), methods=["POST"])
    answer = app.test_client().post("/", data="[" * 100_000, content_type="application/json")
    assert answer.status_code == 400
