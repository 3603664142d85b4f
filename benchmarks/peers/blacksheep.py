"""BlackSheep: handlers on the application's own router."""

from __future__ import annotations

from typing import Any

from blacksheep import Application, FromJSON, Router, json

from . import shared

ON_THE_LOOP = "runs `def` handlers on the event loop, not in a thread"
WITHOUT = shared.NOT_NATURAL | dict.fromkeys(("json-sync", "json-sync-200"), ON_THE_LOOP)


async def hello(name: str):
    return json({"hello": name})


async def echo(data: FromJSON[dict[str, Any]]):
    return json(data.value)


async def boom():
    raise ValueError("boom")


def plain() -> Application:
    app = Application(router=Router())
    app.router.add_get("/hello/{name}", hello)
    app.router.add_post("/echo", echo)
    app.router.add_get("/boom", boom)
    return app


def routes(count: int) -> Application:
    app = Application(router=Router())
    for number in range(count):
        app.router.add_get(f"/resource{number}/{{name}}", hello)
    return app
