"""Sessions in Redis (or Valkey), through redis.asyncio."""

from __future__ import annotations

import os
import typing as t
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from weakref import finalize

from .waiting import on_trio

if t.TYPE_CHECKING:
    from redis.asyncio import Redis

Clients = dict[AbstractEventLoop, tuple[t.Any, AsyncGenerator[t.Any]]]

# Seconds; each can be set in the URL's query. A session is no reason to wait for long.
_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 5, "timeout": 5, "max_connections": 50}


class RedisStore:
    """A `Store`. `source` is a URL, or a function without arguments that makes a client.

    A client itself will do where only one event loop is ever used; who made it closes it.
    """

    def __init__(self, source: str | Redis | Callable[[], Redis], prefix: str = "session:") -> None:
        self.prefix = prefix
        self._given: t.Any = None
        self._make: Callable[[], t.Any]
        if isinstance(source, str):
            self._make = _maker_of(source)
        elif callable(source):
            self._make = source
        else:
            self._given = source
        self._clients: Clients = {}
        finalize(self, _close_soon, self._clients, os.getpid()).atexit = False

    async def load(self, key: str) -> bytes | None:
        value: bytes | str | None = await (await self._client()).get(self.prefix + key)
        return value.encode() if isinstance(value, str) else value  # str: with decode_responses

    async def save(self, key: str, value: bytes, lifetime: int) -> None:
        await (await self._client()).set(self.prefix + key, value, ex=lifetime)

    async def replace(self, key: str, value: bytes, lifetime: int) -> None:
        await (await self._client()).set(self.prefix + key, value, ex=lifetime, xx=True)

    async def touch(self, key: str, lifetime: int) -> None:
        await (await self._client()).expire(self.prefix + key, lifetime)

    async def delete(self, key: str) -> None:
        await (await self._client()).delete(self.prefix + key)

    async def close(self) -> None:
        """Close this loop's connections. The loop's orderly end does so too."""
        _, holder = self._clients.get(get_running_loop(), (None, None))
        if holder is not None:
            await holder.aclose()

    async def _client(self) -> t.Any:
        """This loop's client: connections belong to the loop on which they were opened."""
        if on_trio():
            raise RuntimeError("RedisStore needs asyncio: its package, redis.asyncio, does not run on trio.")
        if self._given is not None:
            return self._given
        loop = get_running_loop()
        if loop not in self._clients:
            self._drop_closed_loops()
            holder = _hold(self._clients, loop, self._make())
            self._clients[loop] = await anext(holder), holder
        return self._clients[loop][0]

    def _drop_closed_loops(self) -> None:
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)


async def _hold(clients: Clients, loop: AbstractEventLoop, client: t.Any) -> AsyncGenerator[t.Any]:
    # An async generator, since a loop closes those at its end (`shutdown_asyncgens`): nobody else tells us of it.
    try:
        yield client
    finally:
        clients.pop(loop, None)
        await client.aclose()


def _close_soon(clients: Clients, pid: int) -> None:
    """Their store is gone and their loops go on. A fork's loops are its parent's."""
    for loop, (_, holder) in list(clients.items()) if pid == os.getpid() else ():
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(loop.create_task, holder.aclose())


def _maker_of(url: str) -> Callable[[], t.Any]:
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as RedisConnectionError
    except ImportError as error:
        raise ImportError("RedisStore needs the package redis: pip install 'asyncflask[redis]'") from error

    def make() -> t.Any:
        # Once more at once: a connection that lay idle may be gone.
        retry = {"retry": Retry(NoBackoff(), 1), "retry_on_error": [RedisConnectionError]}
        return Redis.from_pool(BlockingConnectionPool.from_url(url, **retry, **_OPTIONS))

    return make
