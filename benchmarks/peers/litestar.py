"""Litestar: typed handlers; a sync handler is sent to a thread."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, get, post

from . import shared

WITHOUT = shared.NOT_NATURAL


@get("/hello/{name:str}")
async def hello(name: str) -> dict[str, str]:
    return {"hello": name}


@get("/hello-sync/{name:str}", sync_to_thread=True)
def hello_sync(name: str) -> dict[str, str]:
    return {"hello": name}


@post("/echo", status_code=200)
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@get("/boom")
async def boom() -> None:
    raise ValueError("boom")


@get("/boom-sync", sync_to_thread=True)
def boom_sync() -> None:
    raise ValueError("boom")


def plain() -> Litestar:
    return Litestar([hello, hello_sync, echo, boom, boom_sync], openapi_config=None)


def routes(count: int) -> Litestar:
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    paths = (f"/resource{number}/{{name:str}}" for number in range(count))
    handlers = [get(path, name=path)(hello) for path in paths]
    return Litestar(handlers, openapi_config=None)
