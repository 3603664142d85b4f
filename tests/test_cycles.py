"""No request leaves anything for the garbage collector, and an application is free when its last user lets go."""

from __future__ import annotations

import asyncio
import gc
import logging
import typing as t
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType

import pytest
from edge import Exchange

from asyncflask import Blueprint, Flask, abort, flash, g, redirect, request, session, stream_with_context, url_for

COUNT = 1000
WARM_UP = 20


class Uncollected:
    """Counts what a block leaves unreachable. Not counted: the closure of Werkzeug's matcher, which calls itself."""

    def __enter__(self) -> Uncollected:
        gc.disable()
        gc.freeze()  # what is there, and may become garbage meanwhile, is not the block's; nor is it looked through
        return self

    def __exit__(self, *error: object) -> None:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        gc.unfreeze()
        garbage = [*gc.garbage]
        gc.garbage.clear()
        gc.enable()
        ignored = {id(thing) for f in garbage if is_werkzeugs_matcher(f) for thing in closure_of(f)}
        self.kinds = Counter(type(thing).__name__ for thing in garbage if id(thing) not in ignored)
        self.count = sum(self.kinds.values())


def is_werkzeugs_matcher(thing: object) -> bool:
    return isinstance(thing, FunctionType) and thing.__qualname__ == "StateMachineMatcher.match.<locals>._match"


def closure_of(f: t.Any) -> Iterator[object]:
    yield f
    yield f.__closure__
    for cell in f.__closure__:
        yield cell
        yield cell.cell_contents


class BoomError(Exception):
    pass


def make_app() -> Flask:
    """/KIND/WHAT: each outcome by a sync and an async view, under hooks of both kinds for /mixed ones."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="key", PROPAGATE_EXCEPTIONS=False, WORKER_THREADS=2)
    logging.getLogger(app.name).disabled = True

    def fail() -> t.NoReturn:
        try:
            raise BoomError("inner")
        except BoomError as error:
            raise ValueError("outer") from error

    def use_session() -> str:
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    def stream() -> Iterator[str]:
        @stream_with_context
        def pieces() -> Iterator[str]:
            yield request.path
            yield "end"

        return t.cast("Iterator[str]", pieces())

    def read_form() -> dict[str, t.Any]:
        return {**request.form, "url": url_for("static", filename="x", _external=True)}

    outcomes: dict[str, Callable[[], t.Any]] = {
        "200": lambda: {"path": request.path},
        "500": fail,
        "redirect": lambda: redirect("/sync/200"),
        "abort": lambda: abort(403),
        "abort-response": lambda: abort(redirect("/elsewhere")),
        "handled": raise_handled,
        "session": use_session,
        "flash": lambda: flash("text") or "flashed",
        "stream": stream,
        "form": read_form,
        "environ": lambda: request.environ["PATH_INFO"],
        "headers": lambda: ("text", 201, {"X-Name": request.headers.get("Host", "")}),
    }

    def make_async(f: Callable[[], t.Any]) -> Callable[[], t.Any]:
        async def view() -> t.Any:
            await asyncio.sleep(0)
            return f()

        return view

    async def stream_async() -> AsyncIterator[str]:
        yield "one"
        yield "two"

    mixed = Blueprint("mixed", __name__)

    @mixed.before_request
    async def begin() -> None:
        g.begun = request.path

    @mixed.teardown_request
    def end(error: BaseException | None) -> None:
        g.pop("begun", None)

    @mixed.after_request
    async def after(response: t.Any) -> t.Any:
        return response

    @app.errorhandler(BoomError)
    def handle(error: BoomError) -> tuple[str, int]:
        return str(error), 418

    for name, f in outcomes.items():
        app.add_url_rule(f"/sync/{name}", f"sync {name}", f, methods=["GET", "POST"])
        app.add_url_rule(f"/async/{name}", f"async {name}", make_async(f), methods=["GET", "POST"])
        mixed.add_url_rule(f"/mixed/{name}", f"sync {name}", f, methods=["GET", "POST"])
        mixed.add_url_rule(f"/mixed/async-{name}", f"async {name}", make_async(f), methods=["GET", "POST"])

    async def async_stream_view() -> AsyncIterator[str]:
        return stream_async()

    def calls_async() -> str:
        return t.cast(str, app.ensure_sync(make_async(lambda: request.path))())

    async def calls_sync() -> str:
        return t.cast(str, await app.ensure_async(lambda: request.path)())

    def calls_failing_async() -> str:
        return t.cast(str, app.ensure_sync(make_async(fail))())

    async def calls_failing_sync() -> str:
        return t.cast(str, await app.ensure_async(fail)())

    for view in (calls_async, calls_sync, calls_failing_async, calls_failing_sync):
        app.add_url_rule(f"/nested/{view.__name__}", view.__name__, view)
    app.add_url_rule("/async/async-stream", "async-stream", async_stream_view)
    app.register_blueprint(mixed)
    return app


def raise_handled() -> t.NoReturn:
    raise BoomError("handled")


OUTCOMES = "200 500 redirect abort abort-response handled session flash stream form environ headers".split()
PATHS = [
    *(f"/{kind}/{outcome}" for kind in ("sync", "async", "mixed", "mixed/async") for outcome in OUTCOMES),
    *(f"/nested/{name}" for name in ("calls_async", "calls_sync", "calls_failing_async", "calls_failing_sync")),
    *("/missing", "/sync/200/", "/async/async-stream", "DELETE /sync/200", "DELETE /async/200"),
    *("HEAD /sync/200", "OPTIONS /async/200", "POST /sync/form", "POST /async/form", "//sync//200"),
]
PATHS = [path.replace("mixed/async/", "mixed/async-") for path in PATHS]


def split(target: str) -> tuple[str, str]:
    method, _, path = target.rpartition(" ")
    return method or "GET", path


def make_exchange(target: str) -> Exchange:
    method, path = split(target)
    form = [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "3")] if method == "POST" else []
    pieces = [b"a", b"=b"] if form else [b""]
    return Exchange(method, path, headers=[("Host", "localhost"), *form], pieces=pieces)


# -- per outcome: what one kind of request leaves


@pytest.mark.parametrize("target", PATHS)
def test_asgi_request_leaves_nothing(target: str) -> None:
    app = make_app()

    async def ask(count: int) -> None:
        for _ in range(count):
            exchange = make_exchange(target)
            await app(exchange.scope, exchange.receive, exchange.send)
            assert exchange.complete

    async def main() -> Uncollected:
        await ask(WARM_UP)
        with Uncollected() as uncollected:
            await ask(50)
            await asyncio.sleep(0)
        return uncollected

    uncollected = asyncio.run(main())
    assert uncollected.count < 25, uncollected.kinds  # half an object a request


@pytest.mark.parametrize("target", PATHS)
def test_wsgi_request_leaves_nothing(target: str) -> None:
    app = make_app()
    method, path = split(target)

    def ask(count: int) -> None:
        for _ in range(count):
            assert call_wsgi(app, method, path)

    ask(WARM_UP)
    with Uncollected() as uncollected:
        ask(50)
    assert uncollected.count < 25, uncollected.kinds


def call_wsgi(app: Flask, method: str, path: str) -> list[bytes]:
    """As a server does it, without a client whose own objects would count."""
    import io

    environ: dict[str, t.Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b"a=b" if method == "POST" else b""),
        "wsgi.errors": None,
    }
    if method == "POST":
        environ |= {"CONTENT_LENGTH": "3", "CONTENT_TYPE": "application/x-www-form-urlencoded"}
    started: list[t.Any] = []
    body: t.Any = app(environ, lambda status, headers, exc_info=None: started.append(status))
    try:
        return [started[0].encode(), *body]
    finally:
        if hasattr(body, "close"):
            body.close()


# -- a thousand of all kinds, many at once


def test_a_thousand_concurrent_requests_leave_nothing() -> None:
    app = make_app()

    async def ask(target: str) -> None:
        exchange = make_exchange(target)
        await app(exchange.scope, exchange.receive, exchange.send)

    async def ask_all(count: int) -> None:
        for start in range(0, count, 50):
            await asyncio.gather(*(ask(PATHS[(start + at) % len(PATHS)]) for at in range(50)))

    async def main() -> Uncollected:
        await ask_all(150)
        with Uncollected() as uncollected:
            await ask_all(COUNT)
            await asyncio.sleep(0)
        return uncollected

    uncollected = asyncio.run(main())
    assert uncollected.count < COUNT / 10, uncollected.kinds


@pytest.mark.parametrize("kind", ["disconnect", "cancel", "overload"])
def test_requests_that_end_badly_leave_nothing(kind: str) -> None:
    app = make_app()
    if kind == "overload":
        app.config.update(WORKER_THREADS=1, WORKER_QUEUE_LIMIT=0)

    async def ask(number: int) -> None:
        target = ("/mixed/async-200", "/sync/200", "/async/200", "POST /async/form", "POST /sync/form")[number % 5]
        exchange = make_exchange(target)
        if kind == "disconnect":
            exchange.pieces, exchange.ends = exchange.pieces[:1], False
            exchange.left.set()
        task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
        if kind == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def ask_all(count: int) -> None:
        for start in range(0, count, 20):
            await asyncio.gather(*(ask(start + at) for at in range(20)))

    async def main() -> Uncollected:
        await ask_all(60)
        with Uncollected() as uncollected:
            await ask_all(400)
            await asyncio.sleep(0.01)
        return uncollected

    uncollected = asyncio.run(main())
    assert uncollected.count < 40, uncollected.kinds


# -- the application itself


def test_application_is_free_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        app = Flask(__name__)
        app.add_url_rule("/", "view", lambda: "text")
        gone = weakref.ref(app)
        del app
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
@pytest.mark.parametrize("path", ["/", "/async", "/missing", "/static/missing"])
def test_application_that_has_served_is_free_without_the_collector(face: str, path: str) -> None:
    async def view() -> str:
        return "text"

    async def serve(app: Flask) -> None:
        exchange = make_exchange(path)
        await app(exchange.scope, exchange.receive, exchange.send)

    app = Flask(__name__)
    app.add_url_rule("/", "view", lambda: "text")
    app.add_url_rule("/async", "async", view)
    app.before_request(lambda: None)
    gone = weakref.ref(app)
    gc.collect()
    gc.disable()
    try:
        if face == "asgi":
            with asyncio.Runner() as runner:
                runner.run(serve(app))
        else:
            call_wsgi(app, "GET", path)
        del app
        assert gone() is None
    finally:
        gc.enable()


def test_application_with_an_overridden_stage_is_free_without_the_collector() -> None:
    """Flask's own are freed; a plan that kept a bound method would keep the application."""

    class App(Flask):
        def dispatch_request(self) -> t.Any:
            return super().dispatch_request()

    app = App(__name__)
    app.add_url_rule("/", "view", lambda: "text")
    gone = weakref.ref(app)
    gc.collect()
    gc.disable()
    try:
        call_wsgi(app, "GET", "/")
        del app
        assert gone() is None
    finally:
        gc.enable()


def test_threads_end_with_their_application() -> None:
    import threading
    import time

    app = Flask(__name__)
    app.add_url_rule("/", "view", lambda: "text")

    async def serve(app: Flask) -> None:
        exchange = make_exchange("/")
        await app(exchange.scope, exchange.receive, exchange.send)

    asyncio.run(serve(app))
    ids = {lane.thread_id for lane in app._workers.lanes}
    assert ids
    del app
    gc.collect()
    end = time.monotonic() + 2
    while ids & {thread.ident for thread in threading.enumerate()}:
        assert time.monotonic() < end
        time.sleep(0.002)
