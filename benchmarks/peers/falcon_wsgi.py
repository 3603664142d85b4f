"""Falcon's WSGI application."""

from __future__ import annotations

import falcon

from . import shared

WITHOUT = shared.NOT_NATURAL


class Hello:
    def on_get(self, req, resp, name) -> None:
        resp.media = {"hello": name}


class Echo:
    def on_post(self, req, resp) -> None:
        resp.media = req.get_media()


class Boom:
    def on_get(self, req, resp) -> None:
        raise ValueError("boom")


def plain() -> falcon.App:
    app = falcon.App()
    app.add_route("/hello-sync/{name}", Hello())
    app.add_route("/echo-sync", Echo())
    app.add_route("/boom-sync", Boom())
    return app


def routes_sync(count: int) -> falcon.App:
    app, hello = falcon.App(), Hello()
    for number in range(count):
        app.add_route(f"/resource{number}/{{name}}", hello)
    return app
