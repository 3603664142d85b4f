"""The hub: how what is said in a room reaches everybody in it.

Rule 1. Nobody waits for a slow subscriber: it loses its oldest events, and is told how many.
Rule 2. An event that is kept can be recalled before the first subscriber has it. So who subscribes, and then recalls,
        misses nothing; what comes twice has the same id.
Rule 3. Those who are in a room hear of each other by "joined" and "left". Both may come twice.
Rule 4. A hub that is cut off says so to all subscribers, "offline", and later "online": then it is time to recall.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Any, Protocol, TypedDict

KEPT = 50  # events for each room
ROOMS_KEPT = 1000
WAITING = 100  # events for each subscriber
PAUSE = 1.0  # seconds until a hub that could not be reached is asked again

Event = dict[str, Any]


class Person(TypedDict):
    """Somebody in a room. Each of an author's windows is there with an id of its own."""

    id: str
    author: str
    name: str


class HubDown(ConnectionError):
    """The other processes cannot be reached at the moment."""


class Hub(Protocol):
    """What the application needs. `publish`, `recall` and `list_people` raise HubDown, `enter` and `leave` never."""

    def serve(self) -> AbstractAsyncContextManager[None]: ...

    def subscribe(self, room: str) -> AbstractContextManager[Subscription]: ...

    async def publish(self, event: Event, *rooms: str, keep: bool = False) -> None: ...

    async def recall(self, room: str) -> list[Event]:
        """The last KEPT events that were published with `keep`, oldest first."""
        ...

    async def enter(self, room: str, person: Person) -> None: ...

    async def leave(self, room: str, person: Person) -> None: ...

    async def list_people(self, room: str) -> list[Person]: ...


class Subscription:
    """The events that one subscriber has yet to take."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=WAITING)
        self._lost = 0
        self._filled = asyncio.Event()

    def offer(self, event: Event) -> None:
        self._lost += len(self._events) == WAITING
        self._events.append(event)
        self._filled.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        await self._filled.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"type": "lost", "count": lost}
        event = self._events.popleft()
        if not self._events:
            self._filled.clear()
        return event


class Subscriptions:
    """Those of this process, by room."""

    def __init__(self) -> None:
        self._rooms: defaultdict[str, set[Subscription]] = defaultdict(set)

    @contextmanager
    def open(self, room: str) -> Iterator[Subscription]:
        subscription = Subscription()
        self._rooms[room].add(subscription)
        try:
            yield subscription
        finally:
            self._rooms[room].discard(subscription)
            if not self._rooms[room]:
                del self._rooms[room]

    def offer(self, room: str, event: Event) -> None:
        for subscription in self._rooms.get(room, ()):
            subscription.offer(event)

    def offer_all(self, event: Event) -> None:
        for room in self._rooms:
            self.offer(room, event)


@asynccontextmanager
async def be_in(hub: Hub, room: str, person: Person) -> AsyncIterator[None]:
    await hub.enter(room, person)
    try:
        yield
    finally:
        await hub.leave(room, person)


async def recall_surely(hub: Hub, room: str) -> list[Event]:
    """What is kept, once the hub can be reached."""
    while True:
        with suppress(HubDown):
            return await hub.recall(room)
        await asyncio.sleep(PAUSE)


class LocalHub:
    """For a single process: everything is in its memory."""

    def __init__(self) -> None:
        self._subscriptions = Subscriptions()
        self.subscribe = self._subscriptions.open
        self._kept: dict[str, deque[Event]] = {}  # the room that was silent for longest comes first
        self._people: defaultdict[str, dict[str, Person]] = defaultdict(dict)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        yield

    async def publish(self, event: Event, *rooms: str, keep: bool = False) -> None:
        for room in rooms:
            if keep:
                self._keep(room, event)
            self._subscriptions.offer(room, event)

    async def recall(self, room: str) -> list[Event]:
        return list(self._kept.get(room, ()))

    async def enter(self, room: str, person: Person) -> None:
        self._people[room][person["id"]] = person
        await self.publish({"type": "joined", **person}, room)

    async def leave(self, room: str, person: Person) -> None:
        del self._people[room][person["id"]]
        if not self._people[room]:
            del self._people[room]
        await self.publish({"type": "left", **person}, room)

    async def list_people(self, room: str) -> list[Person]:
        return list(self._people.get(room, {}).values())

    def _keep(self, room: str, event: Event) -> None:
        kept = self._kept.pop(room, None) or deque(maxlen=KEPT)
        kept.append(event)
        self._kept[room] = kept
        if len(self._kept) > ROOMS_KEPT:
            del self._kept[next(iter(self._kept))]
