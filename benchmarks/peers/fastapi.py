"""FastAPI: typed views, whose return type lets pydantic write the JSON."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from . import shared

WITHOUT = shared.NOT_NATURAL


async def hello(name: str) -> dict[str, str]:
    return {"hello": name}


def hello_sync(name: str) -> dict[str, str]:
    return {"hello": name}


async def echo(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


async def boom() -> None:
    raise ValueError("boom")


def boom_sync() -> None:
    raise ValueError("boom")


def plain() -> FastAPI:
    app = FastAPI()
    app.get("/hello/{name}")(hello)
    app.get("/hello-sync/{name}")(hello_sync)
    app.post("/echo")(echo)
    app.get("/boom")(boom)
    app.get("/boom-sync")(boom_sync)
    return app


def routes(count: int) -> FastAPI:
    app = FastAPI()
    for number in range(count):
        app.get(f"/resource{number}/{{name}}")(hello)
    return app
