"""Server-sent events, async templates, early hints, trailers."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator, Iterator

from asyncflask import (
    Flask,
    Response,
    ServerSentEvent,
    render_template_async,
    render_template_string_async,
    request,
    sse,
    stream_template_async,
    stream_template_string_async,
)

app = Flask(__name__)


@app.get("/events")
async def events() -> Response:
    async def generate() -> AsyncIterator[str | ServerSentEvent]:
        t.assert_type(request.last_event_id, str | None)
        yield "text"
        yield ServerSentEvent({"a": 1}, event="e", id="1", retry=1000, comment="c")

    return sse(generate(), ping=None, retry=100, headers={"X-A": "b"})


@app.get("/sync")
def sync_events() -> Response:
    def generate() -> Iterator[dict[str, int]]:
        yield {"a": 1}

    return sse(generate(), headers=[("X-A", "b")])


@app.get("/template")
async def template() -> str:
    t.assert_type(await render_template_string_async("{{ 1 }}", x=1), str)
    return await render_template_async(["a.html", "b.html"], x=1)


@app.get("/streamed")
async def streamed() -> AsyncIterator[str]:
    t.assert_type(await request.send_early_hints(["</style.css>; rel=preload"]), bool)
    t.assert_type(await stream_template_string_async("{{ 1 }}"), AsyncIterator[str])
    return await stream_template_async("a.html")


@app.get("/trailers")
def trailers() -> Response:
    response = Response("x")
    response.trailers = {"X-A": "b"}
    response.trailers = lambda: {"X-A": "b"}
    return response


sse(5)  # error: arg-type reportArgumentType
sse([], 5)  # error: call-arg reportCallIssue
ServerSentEvent("x", id=5)  # error: arg-type reportArgumentType
