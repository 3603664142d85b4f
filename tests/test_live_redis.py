"""The live example across processes: two uvicorn workers on a real Redis, and what a hub does when Redis fails."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edge import wait_until
from live_server import LiveServer, Seat, Visitor, read_commands, require
from redis_server import RedisServer, start_redis

pytest.importorskip("redis")  # in CI, test_live.py fails without it
from examples.live import redis_hub
from examples.live.hub import KEPT, HubDown, be_in
from examples.live.redis_hub import RedisHub

ANN = {"id": "1", "author": "a", "name": "Ann"}
BOB = {"id": "2", "author": "b", "name": "Bob"}
TRIES = 60


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = start_redis(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_hub, "BEAT", 0.1)


@asynccontextmanager
async def serve_hub(url: str) -> AsyncIterator[RedisHub]:
    hub = RedisHub(url)
    async with hub.serve():
        await wait_until(lambda: hub._online)
        yield hub


async def hear(subscription, type, **fields):
    async with asyncio.timeout(10):
        async for event in subscription:
            if event["type"] == type and event.items() >= fields.items():
                return event


class TestHub:
    async def test_processes_hear_each_other(self, redis):
        async with serve_hub(redis.url) as one, serve_hub(redis.url) as two:
            with one.subscribe("a") as ann, two.subscribe("a") as bob, two.subscribe("b") as other:
                await one.publish({"type": "message", "id": "é"}, "a", "b", keep=True)
                for events in (ann, bob, other):
                    assert await hear(events, "message") == {"type": "message", "id": "é"}
            assert await two.recall("a") == await two.recall("b") == [{"type": "message", "id": "é"}]

    async def test_the_last_events_are_kept_in_order(self, redis):
        async with serve_hub(redis.url) as hub:
            await hub.publish({"n": "typing"}, "a")
            for n in range(KEPT + 5):
                await hub.publish({"n": n}, "a", keep=True)
            assert await hub.recall("a") == [{"n": n} for n in range(5, KEPT + 5)]

    async def test_people_of_all_processes(self, redis):
        async with serve_hub(redis.url) as one, serve_hub(redis.url) as two:
            with one.subscribe("a") as events:
                async with be_in(one, "a", ANN), be_in(two, "a", BOB):
                    assert await hear(events, "joined", name="Bob")
                    assert [person["name"] for person in await one.list_people("a")] == ["Ann", "Bob"]
                    assert await two.list_people("a") == await one.list_people("a")
                assert await hear(events, "left", name="Bob")
                assert await one.list_people("a") == []

    async def test_people_of_a_process_that_died_leave_some_time_later(self, redis, quick):
        async with serve_hub(redis.url) as hub:
            with hub.subscribe("a") as events:
                async with serve_hub(redis.url) as other:
                    await other.enter("a", BOB)  # and never leaves
                async with be_in(hub, "a", ANN):
                    assert await hear(events, "left", name="Bob")
                    assert await hub.list_people("a") == [ANN]

    async def test_one_connection_listens_for_all_rooms(self, redis):
        async with serve_hub(redis.url) as hub:
            with hub.subscribe("a"), hub.subscribe("b"), hub.subscribe("c"):
                await asyncio.gather(*(hub.publish({"n": n}, "a", keep=True) for n in range(100)))
                assert redis.ask("CLIENT LIST TYPE pubsub").count(b"id=") == 1
                assert redis.count_clients() <= redis_hub.CONNECTIONS

    async def test_a_broken_connection_is_told_and_made_anew(self, redis):
        async with serve_hub(redis.url) as hub, serve_hub(redis.url) as other:
            with hub.subscribe("a") as events:
                redis.ask("CLIENT KILL TYPE pubsub")
                await hear(events, "offline")
                await hear(events, "online")
                await wait_until(lambda: other._online)
                await other.publish({"type": "message"}, "a")
                await hear(events, "message")

    async def test_a_silent_server_is_noticed(self, redis, quick):
        async with serve_hub(redis.url) as hub:
            with hub.subscribe("a") as events:
                os.kill(redis.process.pid, signal.SIGSTOP)
                try:
                    await hear(events, "offline")
                    with pytest.raises(HubDown):
                        await hub.publish({"n": 1}, "a")
                finally:
                    os.kill(redis.process.pid, signal.SIGCONT)
                await hear(events, "online")

    async def test_a_server_that_comes_back_empty(self, redis, quick):
        async with serve_hub(redis.url) as hub:
            async with be_in(hub, "a", ANN):
                with hub.subscribe("a") as events:
                    redis.kill()
                    await hear(events, "offline")
                    for failing in (hub.publish({"n": 1}, "a"), hub.recall("a"), hub.list_people("a")):
                        with pytest.raises(HubDown):
                            await failing
                    async with be_in(hub, "a", BOB):
                        redis.start()
                        await hear(events, "joined", name="Bob")
                        assert await hub.list_people("a") == [ANN, BOB]
                    await hear(events, "left", name="Bob")

    async def test_without_a_server(self, tmp_path):
        hub = RedisHub("redis://127.0.0.1:1/0")
        async with hub.serve(), be_in(hub, "a", ANN):
            with pytest.raises(HubDown):
                await hub.publish({"n": 1}, "a")


class TestTwoWorkers:
    def test_the_readmes_command(self, redis, tmp_path):
        """One story, since two workers take a while to start."""
        require("websockets")
        (command,) = (line for line in read_commands() if line.startswith("REDIS_URL="))
        server = LiveServer(tmp_path, command.replace("redis://127.0.0.1:6379/0", redis.url))
        try:
            server.start()
            ann, bob = sit_apart(Visitor(server.origin, "Ann"), Visitor(server.origin, "Bob"))
            self.talk(ann, bob)
            self.lose_redis(redis, ann, bob)
            bob.leave()
            ann.hear("left", name="Bob")
            ann.leave()
        finally:
            server.stop()
        assert "Traceback" not in server.log.read_text()

    def talk(self, ann: Seat, bob: Seat) -> None:
        assert ann.worker != bob.worker
        ann.say("Tea?", "m-1")
        heard = bob.hear("message", id="m-1")
        assert heard == ann.hear("message", id="m-1")
        assert (heard["name"], heard["text"]) == ("Ann", "Tea?")
        bob.say("Please.", "m-2")
        assert ann.hear("message", id="m-2")["name"] == "Bob"

    def lose_redis(self, redis: RedisServer, ann: Seat, bob: Seat) -> None:
        redis.kill()
        for seat in (ann, bob):
            seat.hear("offline")
        ann.say("Anybody?", "m-3")
        assert ann.hear("error", id="m-3")["again"] is True
        redis.start()
        for seat in (ann, bob):
            seat.hear("welcome")
        ann.say("Anybody?", "m-3")
        assert bob.hear("message", id="m-3")["text"] == "Anybody?"
        bob.say("Back again.", "m-4")
        assert ann.hear("message", id="m-4")


def sit_apart(one: Visitor, other: Visitor) -> tuple[Seat, Seat]:
    """Places on different workers: which one takes a connection is the system's choice."""
    first = one.go_in()
    for _ in range(TRIES):
        second = other.go_in()
        if second.worker != first.worker:
            assert {person["name"] for person in second.welcome["people"]} == {"Ann", "Bob"}
            return first, second
        second.leave()
    raise AssertionError(f"one worker took {TRIES} connections")
