"""The live example in one process: the hub's rules, the protocol of a room, the dashboard's streams."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from edge import wait_until
from live_server import README, LiveServer, Visitor, read_commands, require

from asyncflask import Flask, WebsocketDisconnect
from asyncflask.async_testing import AsyncClient, WebsocketConnection, WebsocketResponseError
from examples.live import create_app, make_hub
from examples.live.chat import FEED, LONGEST_MESSAGE, LONGEST_TEXT, NAMELESS
from examples.live.hub import KEPT, ROOMS_KEPT, WAITING, HubDown, LocalHub, be_in
from examples.live.pulse import measure_lag, read_memory

ANN = {"id": "1", "author": "a", "name": "Ann"}
BOB = {"id": "2", "author": "b", "name": "Bob"}


class CutOffHub(LocalHub):
    """As a hub is while its server is away."""

    online = True

    async def publish(self, event, *rooms, keep=False):
        self.check()
        await super().publish(event, *rooms, keep=keep)

    async def recall(self, room):
        self.check()
        return await super().recall(room)

    async def enter(self, room, person):
        with suppress(HubDown):
            await super().enter(room, person)

    def check(self):
        if not self.online:
            raise HubDown("It is away.")

    def switch(self, online):
        self.online = online
        self._subscriptions.offer_all({"type": "online" if online else "offline"})


@pytest.fixture
def hub() -> LocalHub:
    return LocalHub()


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Flask]:
    app = create_app(CutOffHub(), tmp_path)
    app.config["BEAT_SECONDS"] = 0.02
    async with app.test_app():
        yield app


async def enter(app: Flask, name: str) -> AsyncClient:
    client = app.async_test_client()
    response = await client.post("/", data={"name": name, "room": "Lobby"})
    assert response.location == "/room/lobby"
    return client


@asynccontextmanager
async def seat(app: Flask, name: str, room: str = "lobby") -> AsyncIterator[WebsocketConnection]:
    """A place in a room, after the welcome."""
    client = await enter(app, name)
    async with client.websocket(f"/room/{room}/socket") as ws:
        await hear(ws, "welcome")
        yield ws


async def hear(ws, type, **fields):
    async with asyncio.timeout(5):
        while True:
            event = await ws.receive_json()
            if event["type"] == type and event.items() >= fields.items():
                return event


async def take(subscription, count):
    async with asyncio.timeout(5):
        return [await anext(subscription) for _ in range(count)]


class TestHub:
    async def test_a_room_hears_what_is_said_there(self, hub):
        with hub.subscribe("a") as one, hub.subscribe("a") as two, hub.subscribe("b") as other:
            await hub.publish({"n": 1}, "a")
            await hub.publish({"n": 2}, "a", "b")
            assert await take(one, 2) == await take(two, 2) == [{"n": 1}, {"n": 2}]
            assert await take(other, 1) == [{"n": 2}]

    async def test_who_waits_is_woken(self, hub):
        with hub.subscribe("a") as one:
            waiting = asyncio.create_task(take(one, 1))
            await asyncio.sleep(0)
            await hub.publish({"n": 1}, "a")
            assert await waiting == [{"n": 1}]

    async def test_a_slow_subscriber_loses_its_oldest_events_and_is_told(self, hub):
        with hub.subscribe("a") as slow, hub.subscribe("a") as quick:
            for n in range(WAITING + 3):
                await hub.publish({"n": n}, "a")  # which never waits
                if n == WAITING - 1:
                    assert await take(quick, WAITING) == [{"n": n} for n in range(WAITING)]
            assert await take(slow, 3) == [{"type": "lost", "count": 3}, {"n": 3}, {"n": 4}]
            assert await take(quick, 3) == [{"n": WAITING}, {"n": WAITING + 1}, {"n": WAITING + 2}]
            await hub.publish({"n": "next"}, "a")
            assert (await take(slow, WAITING - 1))[-1] == {"n": "next"}

    async def test_the_last_events_can_be_recalled_if_they_are_kept(self, hub):
        await hub.publish({"n": "typing"}, "a")
        for n in range(KEPT + 5):
            await hub.publish({"n": n}, "a", keep=True)
        assert await hub.recall("a") == [{"n": n} for n in range(5, KEPT + 5)]
        assert await hub.recall("b") == []

    async def test_the_room_that_was_silent_for_longest_is_forgotten(self, hub):
        for n in range(ROOMS_KEPT):
            await hub.publish({"n": n}, f"room-{n}", keep=True)
        await hub.publish({"n": "again"}, "room-0", keep=True)
        await hub.publish({"n": "new"}, "new", keep=True)
        assert await hub.recall("room-1") == []
        assert await hub.recall("room-0") == [{"n": 0}, {"n": "again"}]

    async def test_people_come_and_leave(self, hub):
        with hub.subscribe("a") as events:
            async with be_in(hub, "a", ANN):
                async with be_in(hub, "a", BOB):
                    assert await hub.list_people("a") == [ANN, BOB]
                assert await hub.list_people("a") == [ANN]
            assert await hub.list_people("a") == []
            heard = [(event["type"], event["name"]) for event in await take(events, 4)]
        assert heard == [("joined", "Ann"), ("joined", "Bob"), ("left", "Bob"), ("left", "Ann")]

    async def test_nothing_is_left_of_rooms_that_nobody_is_in(self, hub):
        with hub.subscribe("a"):
            async with be_in(hub, "a", ANN):
                pass
        await hub.publish({"n": 1}, "b")
        await hub.list_people("c")
        assert not hub._subscriptions._rooms
        assert not hub._people

    def test_redis_is_used_where_its_address_is_known(self):
        assert type(make_hub(None)) is LocalHub
        require("redis")
        assert type(make_hub("redis://127.0.0.1:1/0")).__name__ == "RedisHub"


class TestDoor:
    async def test_a_name_and_a_room(self, app):
        client = app.async_test_client()
        assert 'value="lobby"' in (await client.get("/")).text
        response = await client.post("/", data={"name": "  Ann   Lee ", "room": "Tea  Time"}, follow_redirects=True)
        assert response.request.path == "/room/tea-time"
        assert 'data-socket="ws://localhost/room/tea-time/socket"' in response.text
        assert 'value="Ann Lee"' in (await client.get("/")).text

    @pytest.mark.parametrize("name", ["", "   ", "x" * 25, "a\x00b", "a\u202eb"])
    async def test_a_name_that_is_none(self, app, name):
        response = await app.async_test_client().post("/", data={"name": name, "room": "Tea Time"})
        assert response.status_code == 422
        assert "Use 1 to 24 characters." in response.text
        assert 'value="Tea Time"' in response.text

    @pytest.mark.parametrize("room", ["", "../x", "a/b", "-", "*feed", "x" * 33, "é"])
    async def test_a_room_that_is_none(self, app, room):
        client = await enter(app, "Ann")
        response = await client.post("/", data={"name": "Ann", "room": room})
        assert response.status_code == 422
        assert "Use 1 to 32 letters" in response.text

    @pytest.mark.parametrize("room", ["..", "-", "*feed", "x" * 33, "é", "Lobby", "a b", "a%0A"])
    async def test_a_page_of_a_room_that_is_none(self, app, room):
        client = await enter(app, "Ann")
        assert (await client.get(f"/room/{room}")).status_code == 404
        with pytest.raises(WebsocketResponseError) as caught:
            async with client.websocket(f"/room/{room}/socket"):
                pass
        assert caught.value.response.status_code == 404

    async def test_a_link_to_a_room_asks_for_a_name_first(self, app):
        response = await app.async_test_client().get("/room/tea")
        assert "Come in to #tea" in response.text
        assert 'value="tea"' in response.text

    async def test_what_is_typed_is_shown_as_text(self, app):
        client = app.async_test_client()
        response = await client.post("/", data={"name": "<b>" * 20, "room": '"><script>'})
        assert "<b>" not in response.text
        assert '"><script>' not in response.text

    async def test_each_page_says_who_made_it_and_what_it_may_load(self, app):
        for path in ("/", "/dashboard/", "/static/style.css", "/nowhere"):
            headers = (await app.async_test_client().get(path)).headers
            assert headers["X-Worker"].isdigit()
            assert "default-src 'none'" in headers["Content-Security-Policy"]

    async def test_below_a_path(self, app):
        client = await enter(app, "Ann")
        below = {"SCRIPT_NAME": "/below"}
        page = (await client.get("/room/tea", environ_overrides=below)).text
        assert 'data-socket="ws://localhost/below/room/tea/socket"' in page
        page += (await client.get("/dashboard/", environ_overrides=below)).text
        assert 'data-numbers="/below/dashboard/numbers"' in page
        assert 'data-rooms="/below/room/"' in page
        links = re.findall(r'(?:href|src|action)="([^"]*)"', page)
        assert {link for link in links if not link.startswith("/below/")} == {"#main"}


class TestRoom:
    async def test_two_people(self, app):
        async with seat(app, "Ann") as ann, seat(app, "Bob") as bob:
            assert (await hear(ann, "joined", name="Bob"))["author"]
            await ann.send_json(type="typing")
            assert (await hear(bob, "typing"))["name"] == "Ann"
            await ann.send_json(type="say", id="m-1", text="  <b>Tea</b>?\n ")
            heard = await hear(bob, "message")
            assert heard == await hear(ann, "message")
            assert (heard["id"], heard["name"], heard["text"]) == ("m-1", "Ann", "<b>Tea</b>?")
            assert heard["time"] > 1.7e9
            await bob.close()
            assert (await hear(ann, "left"))["name"] == "Bob"

    async def test_who_comes_late_is_told_what_was_said_and_who_is_there(self, app):
        async with seat(app, "Ann") as ann:
            for n in range(KEPT + 2):
                await ann.send_json(type="say", id=f"m-{n}", text=f"text {n}")
            await hear(ann, "message", id=f"m-{KEPT + 1}")
            client = await enter(app, "Bob")
            async with client.websocket("/room/lobby/socket") as bob:
                welcome = await hear(bob, "welcome")
            assert [message["text"] for message in welcome["messages"]] == [f"text {n}" for n in range(2, KEPT + 2)]
            assert {person["name"] for person in welcome["people"]} == {"Ann", "Bob"}
            assert welcome["you"] in {person["author"] for person in welcome["people"]}

    async def test_rooms_are_apart(self, app):
        async with seat(app, "Ann", "tea") as ann, seat(app, "Bob", "coffee") as bob:
            await ann.send_json(type="say", id="m-1", text="Tea?")
            await hear(ann, "message")
            await bob.send_json(type="say", id="m-2", text="Coffee?")
            assert (await hear(bob, "message"))["text"] == "Coffee?"

    async def test_two_windows_have_one_author(self, app):
        client = await enter(app, "Ann")
        async with client.websocket("/room/a/socket") as one, client.websocket("/room/a/socket") as two:
            first, second = await hear(one, "welcome"), await hear(two, "welcome")
        assert first["you"] == second["you"]
        assert len({person["id"] for person in second["people"]}) == 2

    @pytest.mark.parametrize(
        ("message", "answer"),
        [
            ("", "no JSON"),
            ("{", "no JSON"),
            (b"\xff\xfe\x00", "no JSON"),
            ("[" * 5000, "no JSON"),
            ("9" * 5000, "no JSON"),
            ("[]", 'with a "type"'),
            ("null", 'with a "type"'),
            ("{}", 'with a "type"'),
            ('{"type": ["say"]}', 'with a "type"'),
            ('{"type": "shout", "id": 7}', "has this type"),
            ('{"type": "say"}', 'has an "id"'),
            ('{"type": "say", "id": 5, "text": "x"}', 'has an "id"'),
            ('{"type": "say", "id": "a b", "text": "x"}', 'has an "id"'),
            ('{"type": "say", "id": "a\\n", "text": "x"}', 'has an "id"'),
            ('{"type": "say", "id": "a"}', "is empty"),
            ('{"type": "say", "id": "a", "text": " \\n"}', "is empty"),
            ('{"type": "say", "id": "a", "text": {"x": 1}}', "is empty"),
            (json.dumps({"type": "say", "id": "a", "text": "x" * (LONGEST_TEXT + 1)}), "at most 500"),
            ("x" * (LONGEST_MESSAGE + 1), "too long"),
            (b"x" * (LONGEST_MESSAGE + 1), "too long"),
        ],
        ids=lambda value: repr(value[:40]),
    )
    async def test_bad_input_is_answered_to_its_sender_alone(self, app, message, answer):
        async with seat(app, "Ann") as ann, seat(app, "Bob") as bob:
            await ann.send(message)
            error = await hear(ann, "error")
            assert answer in error["text"]
            assert error["again"] is False
            await ann.send_json(type="say", id="m-1", text="Sorry.")
            assert (await hear(bob, "message"))["text"] == "Sorry."

    async def test_any_text_of_the_right_length_is_passed_on(self, app):
        async with seat(app, "Ann") as ann:
            for n, text in enumerate(["x" * LONGEST_TEXT, "\U0001f375" * LONGEST_TEXT, "\ud800", "a\x00\u2028b"]):
                await ann.send_json(type="say", id=str(n), text=text)
                assert (await hear(ann, "message"))["text"] == text

    async def test_who_has_no_name_is_sent_to_the_door(self, app):
        async with app.async_test_client().websocket("/room/lobby/socket") as ws:
            with pytest.raises(WebsocketDisconnect) as caught:
                await ws.receive()
        assert caught.value.code == NAMELESS

    async def test_the_page_of_another_site_is_refused(self, app):
        client = await enter(app, "Ann")
        with pytest.raises(WebsocketResponseError) as caught:
            async with client.websocket("/room/lobby/socket", headers={"Origin": "https://evil.example"}):
                pass
        assert caught.value.response.status_code == 403

    async def test_a_slow_client_is_told_what_it_missed_and_catches_up(self, app):
        async with seat(app, "Ann") as ann:
            hub = app.extensions["hub"]
            await hub.publish({"type": "message", "id": "m-1", "text": "kept"}, "lobby", keep=True)
            for _ in range(WAITING + 9):  # without a pause, so that nothing is forwarded meanwhile
                await hub.publish({"type": "typing", **BOB}, "lobby")
            welcome = await hear(ann, "welcome")
            assert [message["id"] for message in welcome["messages"]] == ["m-1"]
            assert (await hear(ann, "lost"))["count"] >= 9

    async def test_a_hub_that_is_away(self, app):
        hub = app.extensions["hub"]
        async with seat(app, "Ann") as ann:
            hub.switch(False)
            await hear(ann, "offline")
            await ann.send_json(type="typing")
            await ann.send_json(type="say", id="m-1", text="Anybody?")
            error = await hear(ann, "error")
            assert (error["id"], error["again"]) == ("m-1", True)
            hub.switch(True)
            await hear(ann, "welcome")
            await ann.send_json(type="say", id="m-1", text="Anybody?")
            assert (await hear(ann, "message"))["id"] == "m-1"

    async def test_a_hub_that_comes_back_without_a_word(self, app, monkeypatch):
        monkeypatch.setattr("examples.live.chat.PAUSE", 0.01)
        hub = app.extensions["hub"]
        client = await enter(app, "Ann")
        hub.online = False
        async with client.websocket("/room/lobby/socket") as ann:
            await hear(ann, "offline")
            hub.online = True
            await hear(ann, "welcome")

    async def test_who_leaves_before_the_answer_is_no_error(self, app, caplog):
        async with seat(app, "Ann") as ann:
            await ann.send("{")
            await ann.disconnect()
        assert not caplog.records

    async def test_leaving_leaves_nothing_behind(self, app):
        hub, pulse = app.extensions["hub"], app.extensions["pulse"]
        async with seat(app, "Ann"), seat(app, "Bob") as bob:
            assert pulse.people == 2
            await bob.disconnect()
        await wait_until(lambda: pulse.people == 0)
        assert not hub._people
        assert not hub._subscriptions._rooms


class TestDashboard:
    async def test_numbers(self, app):
        client = app.async_test_client()
        async with seat(app, "Ann") as ann, client.stream("GET", "/dashboard/numbers") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            seen = {"per_second": 0}
            for number in range(100):  # on a busy machine the beat after a message may be missed
                if seen["per_second"]:
                    break
                await ann.send_json(type="say", id=f"m-{number}", text="Tea?")
                await hear(ann, "message")
                seen = await next_event(stream, "pulse")
        assert seen["per_second"] > 0
        assert (seen["people"], seen["watchers"], seen["worker"] > 0) == (1, 1, True)
        await wait_until(lambda: app.extensions["pulse"].watchers == 0)

    async def test_what_is_said_in_all_rooms(self, app):
        client = app.async_test_client()
        async with seat(app, "Ann", "tea") as ann, client.stream("GET", "/dashboard/feed") as stream:
            await ann.send_json(type="say", id="m-1", text="Tea?")
            message = await next_event(stream, "message")
        assert (message["room"], message["name"], message["text"]) == ("tea", "Ann", "Tea?")

    @pytest.mark.parametrize(("last", "expected"), [("m-3", ["m-4"]), ("m-4", []), ("gone", None), (None, None)])
    async def test_who_was_cut_off_gets_what_was_missed(self, app, last, expected):
        hub = app.extensions["hub"]
        for n in range(5):
            await hub.publish({"type": "message", "id": f"m-{n}"}, FEED, keep=True)
        headers = {} if last is None else {"Last-Event-ID": last}
        async with app.async_test_client().stream("GET", "/dashboard/feed", headers=headers) as stream:
            expected = [f"m-{n}" for n in range(5)] if expected is None else expected
            heard = [(await next_event(stream, "message"))["id"] for _ in expected]
            await hub.publish({"type": "message", "id": "new"}, FEED, keep=True)
            heard.append((await next_event(stream, "message"))["id"])
        assert heard == [*expected, "new"]

    async def test_after_an_outage_nothing_is_shown_twice_and_nothing_is_missed(self, app):
        hub = app.extensions["hub"]
        await hub.publish({"type": "message", "id": "m-1"}, FEED, keep=True)
        async with app.async_test_client().stream("GET", "/dashboard/feed") as stream:
            assert (await next_event(stream, "message"))["id"] == "m-1"
            hub.switch(False)
            await LocalHub.publish(hub, {"type": "message", "id": "m-2"}, "elsewhere", keep=True)
            hub._kept[FEED].append({"type": "message", "id": "m-2"})  # from another process, and not heard here
            hub.switch(True)
            assert (await next_event(stream, "message"))["id"] == "m-2"
            await hub.publish({"type": "message", "id": "m-2"}, FEED, keep=True)  # sent again by its page
            await hub.publish({"type": "message", "id": "m-3"}, FEED, keep=True)
            assert (await next_event(stream, "message"))["id"] == "m-3"

    async def test_while_the_hub_is_away(self, app, monkeypatch):
        monkeypatch.setattr("examples.live.hub.PAUSE", 0.01)
        hub = app.extensions["hub"]
        client = app.async_test_client()
        async with client.stream("GET", "/dashboard/numbers") as numbers:
            await next_event(numbers, "pulse")
            hub.switch(False)
            await next_event(numbers, "offline")
            await LocalHub.publish(hub, {"type": "message", "id": "m-1"}, FEED, keep=True)
            async with client.stream("GET", "/dashboard/feed") as feed:
                await feed.receive()
                hub.switch(True)
                assert (await next_event(feed, "message"))["id"] == "m-1"
            await next_event(numbers, "online")
            await next_event(numbers, "pulse")

    @pytest.mark.blocks_loop("its lag is shown")
    async def test_a_blocked_loop_shows(self):
        measuring = asyncio.create_task(measure_lag(0.1))
        await asyncio.sleep(0.01)
        time.sleep(0.15)  # noqa: ASYNC251  # which is the point
        assert await measuring > 0.1

    def test_memory(self):
        memory = read_memory()
        assert memory is None or 1 < memory < 10_000


class TestReadme:
    @pytest.mark.parametrize("command", [line for line in read_commands() if "REDIS_URL" not in line])
    def test_each_command_serves(self, command, tmp_path):
        require("websockets")
        server = LiveServer(tmp_path, command)
        if command.startswith("python -m"):  # which has no option for its port
            server.environment["LIVE_SERVER_NAME"] = f"127.0.0.1:{server.port}"
        try:
            server.start()
            ann = Visitor(server.origin, "Ann").go_in()
            ann.say("Tea?", "m-1")
            ann.hear("message", id="m-1")
            ann.leave()
        finally:
            server.stop()
        assert "Traceback" not in server.log.read_text()

    def test_all_commands_are_tested(self):
        """The one with Redis in test_live_redis.py."""
        assert len(read_commands()) == 4

    def test_each_file_it_names_is_there(self):
        names = re.findall(r"`((?:static/)?\w+\.\w+)`", README.read_text("utf-8"))
        assert len(names) > 8
        for name in names:
            assert (README.parent / name).exists(), name


async def next_event(stream, name):
    """The data of the next event with this name."""
    async with asyncio.timeout(5):
        while True:
            lines = (await stream.receive()).decode().splitlines()
            fields = dict(line.split(": ", 1) for line in lines if ": " in line)
            if fields.get("event") == name:
                return json.loads(fields["data"])
