"""Async code that is reached from sync code: the background loop under WSGI, ensure_sync on both faces."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import pytest
from contract_hosts import AsgiClient, WsgiClient, make_environ
from contract_message import make_question

from asyncflask import Flask, current_app, g, request, stream_with_context


@pytest.fixture(params=["asgi", "wsgi"])
def serve(request):
    """Makes a client of an application over either face."""
    clients = []

    def make(app):
        clients.append({"asgi": AsgiClient, "wsgi": WsgiClient}[request.param](app))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()


def make_app(**config):
    app = Flask(__name__)
    app.config.update(config)
    return app


# -- WSGI threads share one loop


def test_async_views_of_concurrent_threads_meet_on_one_loop():
    app = make_app()
    barriers = {}

    @app.get("/meet/<name>")
    async def meet(name):
        barrier = barriers.setdefault(name, asyncio.Barrier(8))
        async with asyncio.timeout(10):
            await barrier.wait()
        return {"loop": id(asyncio.get_running_loop()), "thread": threading.get_ident(), "path": request.path}

    client = WsgiClient(app)
    with ThreadPoolExecutor(8) as pool:
        for turn in range(10):
            answers = list(pool.map(client.get, [f"/meet/{turn}"] * 8))
            assert {answer.status for answer in answers} == {200}
            assert len({answer.json["thread"] for answer in answers}) == 1
            assert len({answer.json["loop"] for answer in answers}) == 1


def test_nothing_crosses_between_concurrent_threads():
    app = make_app()

    @app.before_request
    def set_g():
        g.number = request.args["n"]

    @app.get("/")
    async def view():
        await asyncio.sleep(0.001)
        number = g.number
        (inner,) = await asyncio.gather(read_g())
        return {"g": number, "inner": inner, "args": request.args["n"]}

    async def read_g():
        await asyncio.sleep(0)
        return g.number

    client = WsgiClient(app)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.get, [f"/?n={number}" for number in range(200)]))
    expected = [{"g": str(n), "inner": str(n), "args": str(n)} for n in range(200)]
    assert [answer.json for answer in answers] == expected


def test_error_of_an_async_view_reaches_its_handler(serve):
    app = make_app()

    @app.get("/")
    async def view():
        await asyncio.sleep(0)
        raise LookupError("lost")

    @app.errorhandler(LookupError)
    def handle(error):
        return f"handled {error.args[0]}", 470

    answer = serve(app).get("/")
    assert (answer.status, answer.text) == (470, "handled lost")


def test_sync_view_in_a_thread_with_a_running_loop():
    app = make_app()

    @app.get("/")
    def view():
        return "sync"

    async def call():
        return WsgiClient(app).get("/")

    assert asyncio.run(call()).text == "sync"


# -- async generators


def make_streaming_app(log):
    app = make_app()

    @app.get("/")
    async def view():
        @stream_with_context
        async def chunks():
            try:
                for number in range(5):
                    log.append(number)
                    yield f"{number} {request.path};"
                    await asyncio.sleep(0)
            finally:
                log.append(f"closed at {request.path}")

        return chunks()

    return app


def test_async_generator_is_streamed(serve):
    log = []
    answer = serve(make_streaming_app(log)).get("/")
    assert answer.text == "0 /;1 /;2 /;3 /;4 /;"
    assert log == [0, 1, 2, 3, 4, "closed at /"]


def test_async_generator_runs_only_as_far_as_it_is_read():
    log = []
    app = make_streaming_app(log)
    body = app(make_environ(make_question("GET", "/")), lambda status, headers, exc_info=None: None)
    pieces = iter(body)
    assert next(pieces) == b"0 /;"
    assert next(pieces) == b"1 /;"
    assert 3 not in log and "closed at /" not in log
    body.close()
    assert log[-1] == "closed at /"


def test_error_in_an_async_generator_is_not_swallowed():
    app = make_app()

    @app.get("/")
    async def view():
        async def chunks():
            yield "first"
            raise LookupError("mid-stream")

        return chunks()

    with pytest.raises(LookupError, match="mid-stream"):
        WsgiClient(app).get("/")


# -- ensure_sync in sync decorators


def check_sync(view):
    """A decorator as extensions have it: sync, with the value of the view in its hands."""

    @wraps(view)
    def checked(*args, **kwargs):
        g.checked = threading.get_ident()
        return f"[{current_app.ensure_sync(view)(*args, **kwargs)}]"

    return checked


def pass_through(view):
    """A decorator that knows nothing of async code and returns what the view returns: a coroutine."""

    @wraps(view)
    def passed(*args, **kwargs):
        g.checked = threading.get_ident()
        return view(*args, **kwargs)

    return passed


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize(("decorate", "text"), [(check_sync, "[x {}]"), (pass_through, "x {}")])
def test_sync_decorator_around_an_async_view(serve, decorate, text, hooked):
    app = make_app()

    @app.get("/<name>")
    @decorate
    async def view(name):
        await asyncio.sleep(0)
        assert g.checked != threading.get_ident()
        g.seen = name
        return f"x {name}"

    if hooked:

        @app.before_request
        async def hook():
            await asyncio.sleep(0)

        @app.after_request
        def see(response):
            assert g.seen
            return response

    client = serve(app)
    for name in ("one", "two"):
        answer = client.get(f"/{name}")
        assert (answer.status, answer.text) == (200, text.format(name))


def test_ensure_sync_twice_and_of_sync(serve):
    app = make_app()

    async def double(number):
        await asyncio.sleep(0)
        return number * 2

    @app.get("/")
    def view():
        run = current_app.ensure_sync(double)
        return {"values": [run(1), current_app.ensure_sync(run)(2), current_app.ensure_sync(len)("abc")]}

    assert serve(app).get("/").json == {"values": [2, 4, 3]}


def test_sync_form_of_async_code_on_the_loop_raises(serve):
    app = make_app()

    async def inner():
        return "never"

    @app.get("/")
    async def view():
        try:
            return current_app.ensure_sync(inner)()
        except RuntimeError as error:
            return f"refused: {type(error).__name__}"

    assert serve(app).get("/").text == "refused: RuntimeError"


# -- nesting


def make_nested_app():
    app = make_app(WORKER_THREADS=1)

    def descend(depth):
        """Sync, then async, then sync again, to the depth; gives the thread of each sync step."""
        if not depth:
            return [threading.get_ident()]
        return [threading.get_ident(), *app.ensure_sync(cross)(depth)]

    async def cross(depth):
        await asyncio.sleep(0)
        return await app.ensure_async(descend)(depth - 1)

    @app.get("/s/<int:depth>")
    def sync_view(depth):
        return {"threads": descend(depth), "path": request.path}

    @app.get("/a/<int:depth>")
    async def async_view(depth):
        return {"threads": await app.ensure_async(descend)(depth), "path": request.path}

    return app


@pytest.mark.parametrize("side", ["s", "a"])
def test_nested_sync_and_async_never_deadlock(serve, side):
    client = serve(make_nested_app())
    for depth in (0, 1, 2, 5):
        answer = client.get(f"/{side}/{depth}")
        assert answer.status == 200
        assert len(answer.json["threads"]) == depth + 1
        assert len(set(answer.json["threads"])) == 1


def test_nested_requests_at_once_share_the_one_worker(serve):
    client = serve(make_nested_app())
    targets = [f"/{side}/{depth}" for depth in (1, 2, 3, 4) for side in "sa"] * 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.get, targets))
    assert [answer.json["path"] for answer in answers] == targets
