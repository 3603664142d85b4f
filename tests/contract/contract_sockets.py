"""The application of the websocket contract. `/events/<name>` says what a view saw."""

from __future__ import annotations

from collections import defaultdict
from functools import wraps

import anyio
import anyio.lowlevel

from asyncflask import Blueprint, Flask, WebsocketDisconnect, abort, current_app, g, session, websocket

PIECE = b"x" * 65536

app = Flask(__name__)
app.config.update(SECRET_KEY="contract", WEBSOCKET_ORIGINS=["https://friend.example"])
events: dict[str, list[str]] = defaultdict(list)


def note(event):
    events[(websocket.view_args or {}).get("name", websocket.path)].append(event)


@app.get("/counts")
async def counts():
    return {}


@app.get("/events/<path:name>")
async def events_of(name):
    return events[name]


@app.get("/resident")
async def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: ASYNC230  # no file that could block
        return {"pages": int(statm.read().split()[1])}


@app.before_websocket
def greet():
    g.greeting = websocket.args.get("greeting", "hello")


@app.before_websocket
async def guard():
    return ("not you", 403, {"X-Guard": "yes"}) if "refused" in websocket.args else None


@app.teardown_websocket
def tear_down(error):
    note(f"torn down {type(error).__name__}")


@app.websocket("/echo")
async def echo():
    async for message in websocket:
        await websocket.send(message)


@app.websocket("/json")
async def answer_json():
    await websocket.send_json(await websocket.receive_json())


@app.websocket("/protocol")
async def choose_protocol():
    await websocket.accept({"X-Room": "7"}, websocket.requested_subprotocols[-1])
    await websocket.send_json(websocket.requested_subprotocols)


@app.websocket("/close/<int:code>")
async def close_with(code):
    await websocket.accept()
    await websocket.close(code, websocket.args.get("reason", ""))


@app.websocket("/refuse/<int:code>")
async def refuse(code):
    abort(code)


@app.websocket("/fail/<when>")
async def fail(when):
    if when == "late":
        await websocket.accept()
    raise LookupError("a case wants it")


@app.websocket("/receive/<name>")
async def receive(name):
    """Receives until the end, and once more after it."""
    await websocket.send("ready")
    try:
        while True:
            await websocket.receive()
    except WebsocketDisconnect as end:
        note(f"closed {end.code} {end.reason}".rstrip())
    try:
        await websocket.send("too late")
    except WebsocketDisconnect:
        note("send raised")


@app.websocket("/push/<name>")
async def push(name):
    """Never receives."""
    try:
        while True:
            await websocket.send("tick")
            await anyio.sleep(0.02)
    finally:
        note("push ended")


@app.websocket("/flood/<name>")
async def flood(name):
    """Sends without end, as fast as it may; notes each MiB."""
    try:
        while True:
            for _ in range(16):
                await websocket.send(PIECE)
                await anyio.lowlevel.checkpoint()
            note("MiB")
    finally:
        note("flood ended")


@app.websocket("/both")
async def both():
    async def push_numbers():
        for number in range(3):
            await websocket.send(str(number))
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(push_numbers)
        async for message in websocket:
            await websocket.send(f"got {message}")


@app.post("/login/<user>")
async def log_in(user):
    session["user"] = user
    return ""


def login_required(view):
    @wraps(view)
    def decorated(**values):
        if "user" not in session:
            abort(401)
        return current_app.ensure_sync(view)(**values)

    return decorated


@app.websocket("/me")
@login_required
async def me():
    await websocket.send(f"{g.greeting} {session['user']}")


rooms = Blueprint("rooms", __name__, url_prefix="/rooms")


@rooms.websocket("/<int:number>")
async def room(number):
    async for _ in websocket:
        await anyio.lowlevel.checkpoint()
        await websocket.send_json([websocket.blueprint, number, g.greeting])


app.register_blueprint(rooms)
