"""Views and hooks of websockets."""

# pyright: strict
from __future__ import annotations

import typing as t

from asyncflask import Blueprint, Flask, Websocket, copy_current_websocket_context, websocket
from asyncflask.typing import ResponseReturnValue

app = Flask(__name__)
bp = Blueprint("bp", __name__)


@app.websocket("/echo")
@bp.websocket("/echo/<room>", endpoint="room")
async def echo(room: str = "hall") -> None:
    await websocket.accept(subprotocol="chat", headers={"X-Room": room})
    async for message in websocket:
        t.assert_type(message, str | bytes)
        await websocket.send(message)
    await websocket.send_json(room=room)
    await websocket.close(1000, "done")


@app.websocket("/closed")
async def refuse() -> tuple[str, int] | None:
    t.assert_type(websocket, Websocket)
    t.assert_type(websocket.args.get("key"), str | None)
    t.assert_type(await websocket.receive(), str | bytes)
    return "closed", 403


@app.before_websocket
@bp.before_websocket
@bp.before_app_websocket
async def check() -> ResponseReturnValue | None:
    return None


@app.teardown_websocket
@bp.teardown_websocket
@bp.teardown_app_websocket
def release(error: BaseException | None) -> None: ...


@copy_current_websocket_context
async def listen(times: int) -> str | bytes:
    return await websocket.receive()


async def call_them() -> None:
    t.assert_type(await echo("kitchen"), None)
    t.assert_type(await refuse(), tuple[str, int] | None)
    t.assert_type(await listen(3), str | bytes)
    t.assert_type(release(None), None)
