"""An ASGI request or websocket that something happens to at a point that the test chooses.

A *point* is passed whenever the application calls `receive` or `send`, and in each of the user's steps. A plan says
what happens at which point, counted from the start: `raise`, `disconnect`, or `cancel` as a server does it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import typing as t
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar

from edge import make_scope

from asyncflask import (
    Flask,
    Response,
    g,
    has_app_context,
    has_request_context,
    request,
    session,
    stream_with_context,
    websocket,
)

TIMEOUT = 5
KINDS = ("raise", "cancel", "disconnect")
WIRE = ("receive", "send")
TEARDOWNS = ("teardown_request", "second teardown_request", "teardown_appcontext")
Plan = dict[int, str]

current: ContextVar[Client] = ContextVar("current")  # set by the "server", inherited by all of the request
user: ContextVar[str | None] = ContextVar("user", default=None)  # set by the request, and gone after it
_numbers = itertools.count()


class Shape(t.NamedTuple):
    """An application. The letters say for each step whether it is sync, async or nonblocking."""

    steps: str = "aaaa"  # the hooks, the view, the stream, the teardowns
    streams: bool = False
    handles: bool = False  # has an error handler, which is another step
    cancels: bool = False  # CANCEL_ON_DISCONNECT
    streams_body: bool = False
    in_context: bool = False  # the stream, which may look at the request


class Client:
    """The server's side of one request, and what is seen of it."""

    def __init__(self, plan: Plan, kind: str = "http", path: str = "/", refuses: bool = True) -> None:
        self.id = f"client-{next(_numbers)}"
        self.plan = plan
        self.path = path
        self.kind = kind
        self.in_context = False  # its stream
        self.told = False  # the application, that the client has gone
        self.refuses = refuses  # to send to a client that has gone (ASGI 2.4); else it is ignored
        self.points: list[str] = []
        self.done: list[str] = []  # what the plan came to
        self.sent: list[dict[str, t.Any]] = []
        self.crossed: list[str] = []
        self.outcome: BaseException | None = None
        self.gone = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.events = list(EVENTS[kind])
        self.lock = threading.Lock()

    # Points

    async def meet(self, name: str) -> None:
        """A point of async code: what the plan says, and a wait which a cancellation ends."""
        self._act(name)
        await asyncio.sleep(0)

    def meet_sync(self, name: str) -> None:
        self._act(name)

    def _act(self, name: str) -> None:
        with self.lock:
            happens = self.plan.get(len(self.points))
            self.points.append(name)
        if happens is None:
            return
        self.done.append(f"{happens} at {name}")
        if happens == "raise":
            raise OSError(name) if name in WIRE else LookupError(name)
        self._on_loop({"cancel": self.task.cancel, "disconnect": self.gone.set}[happens])

    def _on_loop(self, f: Callable[[], object]) -> None:
        if threading.get_ident() == self.thread:
            f()
            return
        happened = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (f(), happened.set()))
        assert happened.wait(TIMEOUT), "the loop is blocked"

    # The server

    async def receive(self) -> dict[str, t.Any]:
        await self.meet("receive")
        # No server tells of a disconnect before the connection.
        if self.events and (not self.gone.is_set() or self.events[0]["type"] == "websocket.connect"):
            return self.events.pop(0)
        await self.gone.wait()
        self.told = True
        return {"type": f"{self.kind}.disconnect", **({"code": 1006} if self.kind == "websocket" else {})}

    async def send(self, message: dict[str, t.Any]) -> None:
        if self.told and self.kind == "websocket":
            self.crossed.append(f"{message['type']} after the disconnect")
        await self.meet("send")
        if self.gone.is_set() and self.refuses:
            raise OSError("the client has gone")
        self.sent.append(message)

    async def run(self, app: Flask) -> Client:
        scope = make_scope(
            "POST", self.path, [("Host", "localhost"), ("X-Client", self.id), ("Transfer-Encoding", "chunked")]
        )
        scope["type"] = self.kind
        if self.kind == "websocket":
            del scope["method"]
            scope.update(scheme="ws", subprotocols=[], extensions={"websocket.http.response": {}})
        self.thread = threading.get_ident()
        self.task = asyncio.create_task(self._run(app, scope))
        done, _ = await asyncio.wait([self.task], timeout=TIMEOUT)
        assert done, f"it hangs: {self}"
        if self.task.cancelled():  # at its very end
            self.outcome = asyncio.CancelledError()
        else:
            self.task.result()
        return self

    async def _run(self, app: t.Any, scope: dict[str, t.Any]) -> None:
        current.set(self)
        try:
            await app(scope, self.receive, self.send)
        except (Exception, asyncio.CancelledError) as error:
            self.outcome = error.with_traceback(None)
        self.points_at_end = len(self.points)
        if has_app_context() or has_request_context() or user.get() is not None:
            self.crossed.append("a context is left")

    # What must hold

    def check(self) -> None:
        assert not self.crossed, (self.crossed, self)
        begun = any(name not in WIRE for name in self.points)
        # A stream's context is another push, with teardowns of its own, as in Flask.
        expected = 2 if self.in_context and "piece" in self.points else 1
        for name in TEARDOWNS:
            assert self.points.count(name) == expected or not (begun or self.points.count(name)), (name, self)
        assert self.points_at_end == len(self.points), f"something went on after the end: {self}"
        if "piece" in self.points:
            assert self.points.count("end of the stream") == 1, self
        CHECKS[self.kind](self)
        kinds = {step.partition(" ")[0] for step in self.done}
        if "cancel" in kinds:
            # An error of the user's own `finally` takes its place, as anywhere in Python.
            replaced = isinstance(self.outcome, LookupError) and self.outcome.args == ("end of the stream",)
            assert replaced or isinstance(self.outcome, asyncio.CancelledError), self
        elif not kinds:
            assert self.outcome is None, self

    def __repr__(self) -> str:
        types = [message["type"] for message in self.sent]
        return f"<{self.kind} {self.path} {self.done} outcome={self.outcome!r} points={self.points} sent={types}>"

    @property
    def has_reason(self) -> bool:
        """Whether the server knows why there is no answer, or not a whole one."""
        return any(not step.startswith("raise") or step.endswith(WIRE) for step in self.done)


def check_http(client: Client) -> None:
    """One start, then a body with one end; or none, with a reason. After a start only an error leaves it incomplete."""
    types = [message["type"].removeprefix("http.response.") for message in client.sent]
    if not types:
        assert client.has_reason, client
        return
    ends = [not message.get("more_body", False) for message in client.sent[1:]]
    assert types == ["start", *["body"] * len(ends)], client
    assert not any(ends[:-1]), client
    if not (ends and ends[-1]):
        assert client.outcome is not None or client.has_reason, client
    if client.outcome is None and not client.done:
        assert client.sent[0]["status"] == 200, client


def check_websocket(client: Client) -> None:
    """Accepted, refused or denied once; after a close nothing."""
    types = [message["type"].removeprefix("websocket.") for message in client.sent]
    if not types:
        assert client.has_reason, client
    elif types[0] == "accept":
        assert set(types[1:-1]) <= {"send"} and types[-1] in ("accept", "send", "close"), client
        assert types[-1] == "close" or client.has_reason, client
    else:
        assert types in (["close"], ["http.response.start", "http.response.body"]) or client.has_reason, client


CHECKS: dict[str, Callable[[Client], None]] = {"http": check_http, "websocket": check_websocket}
EVENTS: dict[str, list[dict[str, t.Any]]] = {
    "http": [
        {"type": "http.request", "body": b"first", "more_body": True},
        {"type": "http.request", "body": b"second", "more_body": False},
    ],
    "websocket": [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "first"},
        {"type": "websocket.receive", "text": "second"},
    ],
}

# The application


def look(name: str) -> Client:
    """In each step: whose is what it sees?"""
    client = current.get()
    seen = [user.get() or client.id, g.setdefault("id", client.id)]
    if has_request_context():
        seen += [(websocket if client.kind == "websocket" else request).headers["X-Client"]]
        if not name.endswith(TEARDOWNS):
            seen += [session.setdefault("id", client.id)]
    if set(seen) != {client.id}:
        client.crossed.append(f"{name} sees {seen}")
    user.set(client.id)
    return client


def make_step(name: str, style: str, result: Callable[..., t.Any] = lambda value=None: value) -> t.Any:
    def step(*args: t.Any) -> t.Any:
        look(name).meet_sync(name)
        return result(*args)

    async def async_step(*args: t.Any) -> t.Any:
        await look(name).meet(name)
        return result(*args)

    if style == "n":
        step._nonblocking = True  # type: ignore[attr-defined]  # as the decorator does
    return async_step if style == "a" else step


@functools.cache
def make_app(shape: Shape) -> Flask:
    app = Flask("injected", static_folder=None, root_path=".")
    # One thread: if it were not given back, the next request would wait for ever.
    app.config.update(SECRET_KEY="a key for the injection", WORKER_THREADS=1, CANCEL_ON_DISCONNECT=shape.cancels)
    app.logger.disabled = True
    hooks, view, _, teardowns = shape.steps
    nothing: Callable[..., None] = lambda *args: None  # noqa: E731
    for kind in ("", "websocket_"):
        getattr(app, f"before_{kind or 'request'}".rstrip("_"))(make_step("before", hooks, nothing))
        getattr(app, f"after_{kind or 'request'}".rstrip("_"))(make_step("after", hooks))
        teardown = getattr(app, f"teardown_{kind or 'request'}".rstrip("_"))
        teardown(make_step(TEARDOWNS[1], teardowns, nothing))
        teardown(make_step(TEARDOWNS[0], teardowns, nothing))
    app.teardown_appcontext(make_step(TEARDOWNS[2], teardowns, nothing))
    if shape.handles:
        app.register_error_handler(LookupError, make_step("handler", hooks, lambda error: ("handled", 418)))
    read = make_step("view", view, functools.partial(make_response, shape))
    if shape.streams_body and view == "a":
        read = read_streamed(read)
    app.add_url_rule("/", "view", read, methods=["POST"], **({"stream_body": True} if shape.streams_body else {}))
    app.add_url_rule("/next", "next", make_step("view", "s", lambda: "next"), methods=["POST"])
    app.websocket("/")(talk)
    return app


def read_streamed(view: t.Any) -> t.Any:
    async def read() -> t.Any:
        async for _ in request.stream:
            await look("chunk").meet("chunk")
        return await view()

    return read


def make_response(shape: Shape) -> t.Any:
    size = 0 if shape.streams_body else len(request.get_data())
    if not shape.streams:
        return {"size": size}
    current.get().in_context = shape.in_context
    pieces = STREAMS[shape.steps[2]](look if shape.in_context else lambda name: current.get())
    return Response(stream_with_context(pieces) if shape.in_context else pieces)


def send_pieces(find: Callable[[str], Client]) -> Iterator[str]:
    try:
        for _ in range(2):
            find("piece").meet_sync("piece")
            yield "piece"
    finally:
        find("end").meet_sync("end of the stream")


async def send_pieces_async(find: Callable[[str], Client]) -> AsyncIterator[str]:
    try:
        for _ in range(2):
            await find("piece").meet("piece")
            yield "piece"
    finally:
        await find("end").meet("end of the stream")


STREAMS: dict[str, Callable[[Callable[[str], Client]], t.Any]] = {
    "s": send_pieces,
    "n": send_pieces,
    "a": send_pieces_async,
}


async def talk() -> None:
    client = look("view")
    await client.meet("view")
    await websocket.accept()
    for _ in range(3):  # who only sends is told by a task that listens
        await websocket.send("more")
    for _ in range(2):
        await client.meet("view")
        await websocket.send(await websocket.receive())


async def run_all(app: Flask, clients: Iterable[Client]) -> list[Client]:
    """All at once, then one more: what they left behind would be seen."""
    clients = list(clients)
    await asyncio.gather(*(client.run(app) for client in clients))
    after = await Client({}, path="/next").run(app)
    await check_tasks()
    for client in (*clients, after):
        client.check()
    return clients


async def check_tasks() -> None:
    """None is left."""
    for _ in range(50):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"tasks are left: {asyncio.all_tasks() - {asyncio.current_task()}}")
