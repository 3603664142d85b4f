"""Quart: `async def` views; a `def` view runs in a thread."""

from __future__ import annotations

import os

from quart import Quart, g, render_template, request, session

from . import shared


def plain() -> Quart:
    app = Quart(__name__, static_folder=shared.make_static_folder(), static_url_path="/static")

    @app.get("/hello/<name>")
    async def hello(name: str):
        return {"hello": name}

    @app.get("/hello-sync/<name>")
    def hello_sync(name: str):
        return {"hello": name}

    @app.post("/echo")
    async def echo():
        return await request.get_json()

    @app.post("/upload")
    async def upload():
        return {"size": (await request.files)["file"].seek(0, os.SEEK_END)}

    @app.get("/stream")
    async def stream():
        return shared.make_chunks_async(), {"Content-Type": "application/octet-stream"}

    @app.get("/stream-sync")
    def stream_sync():
        return shared.make_chunks(), {"Content-Type": "application/octet-stream"}

    @app.get("/boom")
    async def boom():
        raise ValueError("boom")

    @app.get("/boom-sync")
    def boom_sync():
        raise ValueError("boom")

    return app


def page() -> Quart:
    app = Quart(__name__, template_folder=shared.TEMPLATES)
    app.secret_key = shared.SECRET

    @app.before_request
    async def choose_language():
        g.language = request.headers["Accept-Language"]

    @app.after_request
    async def add_header(response):
        name, value = shared.ADDED_HEADER
        response.headers[name] = value
        return response

    @app.get("/page")
    async def page():
        visits = session["visits"] = session.get("visits", 0) + 1
        return await render_template("page.html", visits=visits, items=shared.ITEMS, language=g.language)

    return app


def mixed() -> Quart:
    app = Quart(__name__)

    @app.before_request
    def choose_language():
        g.language = request.headers["Accept-Language"]

    @app.get("/hello/<name>")
    async def hello(name: str):
        return {"hello": name}

    return app


def routes(count: int) -> Quart:
    app = Quart(__name__)

    async def hello(name: str):
        return {"hello": name}

    for number in range(count):
        app.add_url_rule(f"/resource{number}/<name>", f"hello{number}", hello)
    return app
