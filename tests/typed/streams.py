"""Views that stream: iterators and generators, sync and async, and views that are generators themselves."""

# pyright: strict
from __future__ import annotations

import typing as t
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

from asyncflask import Blueprint, Flask, Response, stream_template, stream_template_string, stream_with_context

app = Flask(__name__)
bp = Blueprint("bp", __name__)


def count() -> Iterator[str]:
    yield "1"


async def count_async() -> AsyncIterator[bytes]:
    yield b"1"


@app.route("/generator")
@bp.route("/generator")
def view_is_generator() -> Generator[str, None, None]:
    yield "1"


@app.route("/async-generator")
@bp.route("/async-generator")
async def view_is_async_generator() -> AsyncGenerator[str, None]:
    yield "1"


@app.route("/async-iterator")
@bp.get("/async-iterator")
async def view_is_async_iterator() -> AsyncIterator[bytes]:
    yield b"1"


@app.route("/given")
def give() -> Iterator[bytes]:
    return (b"%d" % number for number in range(3))


@app.route("/given-async")
def give_async() -> AsyncIterator[bytes]:
    return count_async()


@app.route("/awaited")
async def give_awaited() -> AsyncIterator[bytes]:
    return count_async()


@app.route("/sync-from-async")
async def give_sync() -> Iterator[str]:
    return count()


@app.route("/events")
async def send_events() -> tuple[AsyncIterator[bytes], dict[str, str]]:
    return count_async(), {"Content-Type": "text/event-stream"}


@app.route("/response")
async def respond() -> Response:
    return Response(count_async(), mimetype="text/event-stream")


@app.route("/kept")
def keep() -> Iterator[str]:
    return stream_with_context(count())


@app.route("/kept-async")
async def keep_async() -> AsyncIterator[bytes]:
    return stream_with_context(count_async())


@app.route("/decorated")
@stream_with_context
def decorated(start: int = 0) -> Iterator[str]:
    yield str(start)


@app.route("/decorated-async")
@stream_with_context
async def decorated_async(start: int = 0) -> AsyncIterator[bytes]:
    yield b"%d" % start


@app.route("/template")
def stream_page() -> Iterator[str]:
    return stream_template("index.html", name="page")


@app.route("/template-async")
async def stream_text() -> Iterator[str]:
    return stream_template_string("{{ name }}", name="page")


t.assert_type(view_is_generator, Callable[[], Generator[str, None, None]])
t.assert_type(view_is_async_generator, Callable[[], AsyncGenerator[str, None]])
t.assert_type(decorated(1), Iterator[str])
t.assert_type(decorated_async(start=1), AsyncIterator[bytes])
