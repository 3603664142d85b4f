"""Falcon's ASGI application: resources with coroutine responders."""

from __future__ import annotations

import falcon.asgi

from . import shared

COROUTINES_ONLY = "responders of the ASGI application must be coroutines"
WITHOUT = shared.NOT_NATURAL | dict.fromkeys(("json-sync", "json-sync-200"), COROUTINES_ONLY)


class Hello:
    async def on_get(self, req, resp, name) -> None:
        resp.media = {"hello": name}


class Echo:
    async def on_post(self, req, resp) -> None:
        resp.media = await req.get_media()


class Boom:
    async def on_get(self, req, resp) -> None:
        raise ValueError("boom")


def plain() -> falcon.asgi.App:
    app = falcon.asgi.App()
    app.add_route("/hello/{name}", Hello())
    app.add_route("/echo", Echo())
    app.add_route("/boom", Boom())
    return app


def routes(count: int) -> falcon.asgi.App:
    app, hello = falcon.asgi.App(), Hello()
    for number in range(count):
        app.add_route(f"/resource{number}/{{name}}", hello)
    return app
