"""The hub of several processes: Redis passes events on, keeps the last ones, and knows who is where.

    live:room:<room>     a channel. Each process hears all of them on one connection, for one pattern
    live:kept:<room>     a list: the last events
    live:people:<room>   a sorted set of persons, each with the time (s) until which that holds

A process that dies says no farewell: who is in a room must be said again and again, and whose time is over has left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .hub import KEPT, Event, HubDown, Person, Subscriptions

CHANNEL, LIST, PEOPLE = "live:room:", "live:kept:", "live:people:"
KEPT_SECONDS = 24 * 3600
CONNECTIONS = 8  # at most: one listens for all rooms, the others are for commands
BEAT, BEATS_MISSED = 5.0, 3  # seconds; then a person, or the connection, is taken for gone
FIRST_DELAY, LAST_DELAY = 0.1, 5.0  # seconds before the next try to connect
FAILURES = (RedisError, OSError)

logger = logging.getLogger(__name__)
T = TypeVar("T")


class RedisHub:
    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            max_connections=CONNECTIONS,
            timeout=BEAT,
            socket_connect_timeout=2,
            socket_timeout=BEAT,
            retry=Retry(NoBackoff(), 0),  # clients are told of a failure at once, and send again
        )
        self._redis: Any = Redis.from_pool(pool)
        self._subscriptions = Subscriptions()
        self.subscribe = self._subscriptions.open
        self._here: dict[tuple[str, str], Person] = {}  # the persons of this process, by room and id
        self._online = False

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (self._stay_connected(), self._keep_people())]
            yield
            while pending := [task for task in tasks if not task.done()]:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending, timeout=1)  # a client in trouble may swallow a cancellation
        with suppress(*FAILURES):
            await self._redis.aclose()

    async def publish(self, event: Event, *rooms: str, keep: bool = False) -> None:
        if not self._online:  # it might be said, but those of this process would not hear it
            raise HubDown("Redis cannot be reached.")
        await self._publish(event, rooms, keep)

    async def recall(self, room: str) -> list[Event]:
        return [json.loads(text) for text in await reach(self._redis.lrange(LIST + room, 0, -1))]

    async def enter(self, room: str, person: Person) -> None:
        self._here[room, person["id"]] = person
        with suppress(HubDown):  # else it is made up for when Redis is back
            await self._renew({(room, person["id"]): person}, announce=True)

    async def leave(self, room: str, person: Person) -> None:
        del self._here[room, person["id"]]
        with suppress(HubDown):  # else its time will be over some day
            await self._remove(room, json.dumps(person))

    async def list_people(self, room: str) -> list[Person]:
        found = await reach(self._redis.zrangebyscore(PEOPLE + room, time.time(), "+inf"))
        return [json.loads(text) for text in found]

    async def _publish(self, event: Event, rooms: tuple[str, ...], keep: bool) -> None:
        text = json.dumps(event)
        transaction = self._redis.pipeline()
        for room in rooms:
            if keep:
                key = LIST + room
                transaction.rpush(key, text).ltrim(key, -KEPT, -1).expire(key, KEPT_SECONDS)
            transaction.publish(CHANNEL + room, text)
        await reach(transaction.execute())

    # People

    async def _renew(self, people: dict[tuple[str, str], Person], announce: bool) -> None:
        """They are in their rooms for some more beats."""
        until = time.time() + BEATS_MISSED * BEAT
        transaction = self._redis.pipeline()
        for (room, _), person in people.items():
            key = PEOPLE + room
            transaction.zadd(key, {json.dumps(person): until}).expire(key, KEPT_SECONDS)
            if announce:
                transaction.publish(CHANNEL + room, json.dumps({"type": "joined", **person}))
        await reach(transaction.execute())

    async def _remove(self, room: str, person: str) -> None:
        if await reach(self._redis.zrem(PEOPLE + room, person)):  # of several processes, one is told that it did it
            await self._publish({"type": "left", **json.loads(person)}, (room,), keep=False)

    async def _remove_lost(self, room: str) -> None:
        for person in await reach(self._redis.zrangebyscore(PEOPLE + room, "-inf", time.time())):
            await self._remove(room, person)

    async def _keep_people(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            with suppress(HubDown):
                await self._renew(self._here, announce=False)
                for room in {room for room, _ in self._here}:
                    await self._remove_lost(room)

    # The connection

    async def _stay_connected(self) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._relay(pubsub)
            except FAILURES as error:
                delay = FIRST_DELAY if self._online else min(2 * delay, LAST_DELAY)
                self._go_offline(error)
                await self._redis.connection_pool.disconnect(inuse_connections=False)  # the idle ones are dead, too
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # not all processes at the same moment

    async def _relay(self, pubsub: PubSub) -> None:
        await pubsub.psubscribe(CHANNEL + "*")
        async for message in listen(pubsub):
            if message["type"] == "psubscribe":
                await self._go_online()
            elif message["type"] == "pmessage":
                self._subscriptions.offer(message["channel"].removeprefix(CHANNEL), json.loads(message["data"]))

    async def _go_online(self) -> None:
        await self._renew(self._here, announce=True)  # a Redis that begins anew knows nobody
        self._online = True
        self._subscriptions.offer_all({"type": "online"})

    def _go_offline(self, error: Exception) -> None:
        if self._online:
            logger.warning("Redis is lost: %s", error)
            self._online = False
            self._subscriptions.offer_all({"type": "offline"})


async def listen(pubsub: PubSub) -> AsyncIterator[Any]:
    """Its messages. Raises ConnectionError when not even a ping is answered."""
    waits_for_pong = False
    while True:
        message = await pubsub.get_message(timeout=BEAT)
        if message is not None:
            yield message
        elif waits_for_pong:
            raise ConnectionError("Redis is silent.")
        else:
            await pubsub.ping()
        waits_for_pong = message is None


async def reach(command: Awaitable[T]) -> T:
    try:
        return await command
    except FAILURES as error:
        raise HubDown(f"Redis cannot be reached: {error}") from error
