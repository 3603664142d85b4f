"""Starlette: a websocket endpoint, StreamingResponse (as its documentation has it without sse-starlette)."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from .sockets import make_events


async def hello(request: Request):
    return JSONResponse({"hello": request.path_params["name"]})


async def echo(websocket: WebSocket):
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


async def events(request: Request):
    return StreamingResponse(make_events(request.path_params["count"]), media_type="text/event-stream")


app = Starlette(
    routes=[Route("/hello/{name}", hello), WebSocketRoute("/echo", echo), Route("/events/{count:int}", events)]
)
