"""The rooms. Who has a name takes part over a websocket: JSON objects with a "type", in both directions.

to the server: say {id, text}, typing {}
to the page:   welcome {you, worker, people, messages}, message {id, author, name, text, time, room},
               joined, left, typing {id, author, name}, lost {count}, offline {}, error {text, id, again}
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from asyncflask import Blueprint, Flask, abort, json, redirect, render_template, request, session, url_for, websocket
from asyncflask.typing import ResponseReturnValue

from .hub import PAUSE, Event, Hub, HubDown, Person, Subscription, be_in
from .serving import get_hub, get_pulse

LONGEST_TEXT = 500  # characters
LONGEST_MESSAGE = 8 * 1024  # characters of JSON, where one of text may take twelve
LONGEST_NAME = 24
ROOM = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
MESSAGE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
FEED = "*feed"  # what is said in all rooms
NAMELESS = 4401  # a websocket's close codes from 4000 on are the application's own

bp = Blueprint("chat", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


# Pages


@bp.get("/")
async def home() -> str:
    return show_door("", {})


@bp.post("/")
async def enter() -> ResponseReturnValue:
    """Take a name, and go to a room."""
    name = " ".join(request.form.get("name", "").split())
    room = make_slug(request.form.get("room", ""))
    problems = find_problems(name, room)
    if problems:
        return show_door(request.form.get("room", ""), problems), 422
    session.permanent = True
    session["name"] = name
    session.setdefault("author", secrets.token_hex(8))
    return redirect(url_for(".show_room", room=room))


@bp.get("/room/<room>")
async def show_room(room: str) -> str:
    check_room(room)
    if "name" not in session:
        return show_door(room, {})
    return render_template("room.html", room=room, longest=LONGEST_TEXT, nameless=NAMELESS)


def show_door(room: str, problems: dict[str, str]) -> str:
    name = request.form.get("name", session.get("name", ""))
    return render_template("home.html", room=room, name=name, problems=problems, longest=LONGEST_NAME)


def find_problems(name: str, room: str) -> dict[str, str]:
    """What is wrong, by field."""
    problems = {}
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        problems["name"] = f"Use 1 to {LONGEST_NAME} characters."
    if not ROOM.fullmatch(room):
        problems["room"] = "Use 1 to 32 letters, digits and hyphens."
    return problems


def make_slug(words: str) -> str:
    return "-".join(words.lower().split())


def check_room(room: str) -> None:
    if not ROOM.fullmatch(room):
        abort(404)


# The conversation


class Refused(Exception):
    """A message that is not taken; its sender is told why."""

    def __init__(self, text: str, id: Any = None, again: bool = False) -> None:
        super().__init__(text)
        self.event: Event = {"type": "error", "text": text, "id": id, "again": again}


class Talk(NamedTuple):
    """One person in one room."""

    hub: Hub
    room: str
    me: Person


@bp.websocket("/room/<room>/socket")
async def talk(room: str) -> None:
    check_room(room)
    if "name" not in session:
        await websocket.accept()
        return await websocket.close(NAMELESS, "Take a name first.")
    one = Talk(get_hub(), room, make_person())
    get_pulse().people += 1
    try:
        await take_part(one)
    finally:
        get_pulse().people -= 1


def make_person() -> Person:
    return {"id": secrets.token_hex(8), "author": session["author"], "name": session["name"]}


async def take_part(one: Talk) -> None:
    """Until the person leaves; a WebsocketDisconnect, of any of its tasks, is the end that it should be."""
    with one.hub.subscribe(one.room) as events:
        async with be_in(one.hub, one.room, one.me), asyncio.TaskGroup() as group:
            forwarding = group.create_task(forward(one, events))
            async for message in websocket:
                await answer(one, message)
            forwarding.cancel()


async def forward(one: Talk, events: Subscription) -> None:
    """All that is heard in the room; and anew what can be recalled, whenever something may have been missed."""
    await greet(one)
    async for event in events:
        if event["type"] in ("online", "lost"):
            await greet(one)
        if event["type"] != "online":
            await websocket.send_json(event)


async def greet(one: Talk) -> None:
    while (event := await make_welcome(one))["type"] == "offline":
        await websocket.send_json(event)
        await asyncio.sleep(PAUSE)
    await websocket.send_json(event)


async def make_welcome(one: Talk) -> Event:
    try:
        people, messages = await one.hub.list_people(one.room), await one.hub.recall(one.room)
    except HubDown:
        return {"type": "offline"}
    return {"type": "welcome", "you": one.me["author"], "worker": os.getpid(), "people": people, "messages": messages}


async def answer(one: Talk, raw: str | bytes) -> None:
    try:
        message = parse(raw)
        await ACTIONS[message["type"]](one, message)
    except Refused as refusal:
        await websocket.send_json(refusal.event)


def parse(raw: str | bytes) -> Event:
    """An object with a known type. Raises Refused."""
    if len(raw) > LONGEST_MESSAGE:
        raise Refused("This message is too long.")
    try:
        message = json.loads(raw)
    except ValueError:
        raise Refused("This message is no JSON.") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Refused('A message is a JSON object with a "type".')
    if message["type"] not in ACTIONS:
        raise Refused("No message has this type.", message.get("id"))
    return message


async def say(one: Talk, message: Event) -> None:
    id, text = message.get("id"), message.get("text")
    if not isinstance(id, str) or not MESSAGE_ID.fullmatch(id):
        raise Refused('A message has an "id" of 1 to 64 letters, digits and hyphens.')
    if not isinstance(text, str) or not text.strip():
        raise Refused("This message is empty.", id)
    if len(text) > LONGEST_TEXT:
        raise Refused(f"A message has at most {LONGEST_TEXT} characters.", id)
    event = {"type": "message", "id": id, "author": one.me["author"], "name": one.me["name"], "text": text.strip()}
    try:
        await one.hub.publish({**event, "time": time.time(), "room": one.room}, one.room, FEED, keep=True)
    except HubDown:
        raise Refused("The other people cannot be reached at the moment.", id, again=True) from None
    get_pulse().said += 1


async def note_typing(one: Talk, message: Event) -> None:
    with suppress(HubDown):
        await one.hub.publish({"type": "typing", **one.me}, one.room)


ACTIONS: dict[str, Callable[[Talk, Event], Awaitable[None]]] = {"say": say, "typing": note_typing}
