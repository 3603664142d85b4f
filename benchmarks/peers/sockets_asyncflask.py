"""asyncflask: a websocket view, `sse`."""

from __future__ import annotations

from asyncflask import Flask, sse, websocket

from .sockets import make_times

app = Flask(__name__, static_folder=None)


@app.get("/hello/<name>")
async def hello(name: str):
    return {"hello": name}


@app.websocket("/echo")
async def echo():
    async for message in websocket:
        await websocket.send(message)


@app.get("/events/<int:count>")
async def events(count: int):
    return sse(make_times(count))
