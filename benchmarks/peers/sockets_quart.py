"""Quart: a websocket view, and a response with its timeout off, as its documentation has them."""

from __future__ import annotations

from quart import Quart, make_response, websocket

from .sockets import make_times

app = Quart(__name__, static_folder=None)


@app.get("/hello/<name>")
async def hello(name: str):
    return {"hello": name}


@app.websocket("/echo")
async def echo():
    while True:
        await websocket.send(await websocket.receive())


@app.get("/events/<int:count>")
async def events(count: int):
    async def send_events():
        async for text in make_times(count):
            yield f"data: {text}\n\n".encode()

    response = await make_response(send_events(), {"Content-Type": "text/event-stream"})
    response.timeout = None
    return response
