"""The application that the faults are tried on, on every server. What happens in it is journalled in a file.

A line is `<id> <event>`; the id is the request's `?id=`, so that tests do not see each other. (It is not named `site`:
Python's own module of that name is loaded before ours is found.)
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import typing as t
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path

import anyio
import anyio.lowlevel

from asyncflask import Flask, Response, g, nonblocking, request, send_file, session, stream_with_context, websocket
from asyncflask.sessions import SecureCookieSessionInterface
from asyncflask.stored_sessions import StoredSessionInterface

FOLDER = Path(os.environ["FAULTS_FOLDER"])
LONG = 20  # seconds; nothing takes so long, unless something is wrong
PIECE = 0.05  # seconds between the pieces of a stream

app = Flask("faults_site")
app.config.update(
    SECRET_KEY="a key of the tests of faults",
    BODY_TIMEOUT=1,
    MAX_CONTENT_LENGTH=2**20,
    SLOW_CALLBACK_MS=200,
    WORKER_THREADS=int(os.environ.get("FAULTS_THREADS", 4)),
    WORKER_QUEUE_LIMIT=int(os.environ.get("FAULTS_QUEUE", 2)),
)
_ = app.shutdown_event  # gunicorn's gthread worker hears of it in the thread of the import alone
user: ContextVar[str] = ContextVar("user", default="nobody")
journal = os.open(FOLDER / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def write(who: str, event: str) -> None:
    os.write(journal, f"{who} {event}\n".encode())


def note(event: str) -> None:
    write(request.args.get("id", "nobody"), event)


def is_released() -> bool:
    """Whether the test said that those who wait may go on."""
    return (FOLDER / f"release-{request.args.get('until', request.args['id'])}").exists()


def hold() -> None:
    end, waits = time.monotonic() + LONG, app.shutdown_event
    while not is_released() and time.monotonic() < end:
        waits = note_shutdown(waits)
        time.sleep(0.01)


async def hold_async() -> None:
    waits = app.shutdown_event
    with anyio.move_on_after(LONG):
        while not is_released():  # the sign comes from another process
            waits = note_shutdown(waits)
            await anyio.sleep(0.01)


def note_shutdown(event: t.Any) -> t.Any:
    """Once."""
    if event is None or not event.is_set():
        return event
    note("told of the shutdown")
    return None


# What fails where the query says so


def fail_at(place: str) -> None:
    if request.args.get("fail") == place:
        raise LookupError(f"{place} fails for {request.args['id']}")


class Sessions(SecureCookieSessionInterface):
    @nonblocking
    def open_session(self, app: Flask, request: t.Any) -> t.Any:
        if request.args.get("fail") == "open_session":  # not yet the current one
            raise LookupError(f"open_session fails for {request.args['id']}")
        return super().open_session(app, request)


app.session_interface = Sessions()


class DyingStore:
    """Of sessions. It is asked for those whose cookie a request brings, and those that a view changes."""

    async def load(self, key: str) -> bytes:
        fail_at("load")
        return b'{"kept": true}'

    async def save(self, key: str, value: bytes, lifetime: int) -> None:
        fail_at("save")

    replace = save

    async def touch(self, key: str, lifetime: int) -> None:
        fail_at("touch")

    async def delete(self, key: str) -> None:
        fail_at("delete")


stored = Flask("stored_site")
stored.session_interface = StoredSessionInterface(DyingStore())
app.mount("/stored", stored)


@app.before_request
@nonblocking
def before() -> None:
    fail_at("before_request")


@app.after_request
@nonblocking
def after(response: Response) -> Response:
    fail_at("after_request")
    return response


@stored.teardown_request
@app.teardown_request
@nonblocking
def tear_down_last(error: BaseException | None) -> None:
    note(f"teardown {type(error).__name__}")


@app.teardown_request
@nonblocking
def tear_down_first(error: BaseException | None) -> None:
    fail_at("teardown_request")


@app.errorhandler(KeyError)
def handle(error: KeyError) -> str:
    raise LookupError(f"handler fails for {request.args['id']}")


# Views, each in both styles


@app.get("/ping")
async def ping() -> str:
    return "pong"


@stored.get("/plain/sync")
@app.get("/plain/sync")
def plain() -> str:
    note("view")
    if request.args.get("fail") == "handler":
        raise KeyError("for the handler")
    if request.args.get("change"):
        session["name"] = "value"
    return "plain"


@stored.get("/plain/async")
@app.get("/plain/async")
async def plain_async() -> str:
    await anyio.lowlevel.checkpoint()
    return plain()


@app.post("/read/sync")
def read() -> dict[str, int]:
    note(f"pid {os.getpid()}")
    try:
        return {"size": len(request.get_data())}
    except Exception as error:
        note(f"raised {type(error).__name__}")
        raise


@app.post("/read/async")
async def read_async() -> dict[str, int]:
    return read()


@app.post("/json/sync")
def read_json() -> str:
    return type(request.get_json()).__name__


@app.post("/json/async")
async def read_json_async() -> str:
    return read_json()


@app.post("/unread/sync")
def leave_unread() -> str:
    note(f"pid {os.getpid()}")
    hold()
    return "unread"


@app.post("/unread/async", stream_body=True)
async def leave_unread_async() -> str:
    note(f"pid {os.getpid()}")
    await hold_async()
    return "unread"


@app.get("/hold/sync")
def wait() -> str:
    note("begins")
    hold()
    note("ends")
    return "held"


@app.get("/hold/async")
async def wait_async() -> str:
    note("begins")
    try:
        await hold_async()
    finally:
        note("ends")
    return "held"


@app.get("/block")
async def block() -> str:
    time.sleep(0.6)  # noqa: ASYNC251  # that is the fault
    return "blocked"


@app.get("/look-up")
async def look_up() -> str:
    return str(bool(await anyio.getaddrinfo("localhost", 80)))


@app.get("/clean/sync")
def show_what_is_left() -> dict[str, t.Any]:
    seen = {"g": list(g), "user": user.get(), "id": request.args["id"]}
    g.left = request.args["id"]
    user.set(request.args["id"])
    return seen


@app.get("/clean/async")
async def show_what_is_left_async() -> dict[str, t.Any]:
    await anyio.lowlevel.checkpoint()
    return show_what_is_left()


# Streams


@app.get("/break/sync")
def break_off() -> Response:
    def pieces() -> Iterator[str]:
        yield "piece"
        raise LookupError(f"broken for {request.args['id']}")

    return make_stream(stream_with_context(pieces()))


@app.get("/break/async")
async def break_off_async() -> Response:
    async def pieces() -> AsyncIterator[str]:
        yield "piece"
        raise LookupError(f"broken for {request.args['id']}")

    return make_stream(stream_with_context(pieces()))


@app.get("/flood/sync")
def send_without_pause() -> Response:
    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(2**16)
        finally:
            note(f"closed {request.path} with {g.left}")

    g.left = "context"
    return Response(stream_with_context(pieces()))


@app.get("/flood/async")
async def send_without_pause_async() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(2**16)
        finally:
            note(f"closed {request.path} with {g.left}")

    g.left = "context"
    return Response(stream_with_context(pieces()))


@app.websocket("/flood/socket")
async def send_messages_without_pause() -> None:
    try:
        while True:
            await websocket.send("x" * 2**16)
    finally:
        note(f"closed {websocket.path}")


def make_stream(pieces: t.Any) -> Response:
    length = request.args.get("length")
    return Response(pieces, headers={"Content-Length": length} if length else None)


@app.get("/endless/sync")
def send_for_ever() -> Response:
    def pieces() -> Iterator[str]:
        try:
            while True:
                yield "piece"
                time.sleep(PIECE)
        finally:
            note(f"closed {request.path} with {g.left}")

    g.left = "context"
    return Response(stream_with_context(pieces()))


@app.get("/endless/async")
async def send_for_ever_async() -> Response:
    async def pieces() -> AsyncIterator[str]:
        try:
            yield "piece"
            await anyio.sleep(LONG)
        finally:
            note(f"closed {request.path} with {g.left}")

    g.left = "context"
    return Response(stream_with_context(pieces()))


@app.get("/file")
def send_file_that_shrinks() -> Response:
    path = FOLDER / f"file-{request.args['id']}"
    path.write_bytes(b"x" * 2**20)
    response = send_file(path)
    os.truncate(path, 2**19)
    return response


# The serving life


@app.before_serving
async def begin() -> None:
    write("life", f"begins {os.getpid()}")


@app.after_serving
async def end() -> None:
    write("life", f"ends {os.getpid()}")


def use_before_fork() -> None:
    """Have a worker thread and a loop in this process: those who are forked from it must not take them for theirs."""

    async def ask() -> None:
        await app.ensure_async(threading.get_ident)()

    app.ensure_sync(ask)()
    asyncio.run(ask())
    write("fork", f"used in {os.getpid()}")


if "FAULTS_USED" in os.environ:
    use_before_fork()
