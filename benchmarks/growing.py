"""The applications of growth.py: one more of something, and the cost of that alone."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import Any

from asyncflask import Blueprint, Flask, request

COMPUTED = 20_000  # a sum over so many numbers, about a third of a millisecond
SLEPT = 0.002
QUEUE = 10_000  # so that no request is refused


def find(module: str, name: str) -> Any:
    """Only when it is needed: a peer may be missing."""
    return getattr(importlib.import_module(module), name)


def routes(peer: str, factory: str = "routes") -> Any:
    return lambda count: find(f"benchmarks.peers.{peer}", factory)(count)


def hooks_sync(peer: str) -> Any:
    """`def` hooks and view, for WSGI."""

    def make(count: int) -> Any:
        app = find(peer, "Flask")(__name__)
        for _ in range(count):
            app.before_request(lambda: None)
        app.add_url_rule("/", view_func=lambda: "done", endpoint="view")
        return app

    return make


def hooks_async(peer: str, name: str) -> Any:
    """`async def` hooks and view, for ASGI."""

    def make(count: int) -> Any:
        app = find(peer, name)(__name__)
        for _ in range(count):
            app.before_request(make_hook())
        app.add_url_rule("/", view_func=answer, endpoint="view")
        return app

    return make


def make_hook() -> Any:
    async def hook() -> None:
        pass

    return hook


async def answer() -> str:
    return "done"


def depth_async(hooked: bool) -> Any:
    """Blueprints in blueprints, each with a hook or without; the view is in the innermost."""

    def make(count: int) -> Flask:
        app, parent = Flask(__name__), None
        for level in reversed(range(count)):
            blueprint = Blueprint(f"level{level}", __name__)
            if parent is None:
                blueprint.add_url_rule("/", view_func=answer, endpoint="view")
            else:
                blueprint.register_blueprint(parent)
            if hooked:
                blueprint.before_request(make_hook())
            parent = blueprint
        assert parent is not None
        app.register_blueprint(parent)
        return app

    return make


def reading() -> Flask:
    """One view that reads a header, two that read the whole body, one that waits a moment, one that does not."""
    app = Flask(__name__)
    app.config["WORKER_QUEUE_LIMIT"] = QUEUE

    @app.get("/header")
    async def read_header() -> str:
        return request.headers["X-Last"]

    @app.post("/body")
    async def read_body() -> str:
        return str(len(request.get_data()))

    @app.post("/body-sync")
    def read_body_sync() -> str:
        return str(len(request.get_data()))

    @app.get("/wait")
    async def wait() -> str:
        await asyncio.sleep(0)
        return "done"

    @app.get("/sync")
    def answer_sync() -> str:
        return "done"

    return app


def reading_starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def read_header(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.headers["X-Last"])

    async def read_body(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def wait(request: Request) -> PlainTextResponse:
        await asyncio.sleep(0)
        return PlainTextResponse("done")

    def answer_sync(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    routes = [Route("/header", read_header), Route("/wait", wait), Route("/sync", answer_sync)]
    return Starlette(routes=[*routes, Route("/body", read_body, methods=["POST"])])


def threads(count: int) -> Flask:
    app = Flask(__name__)
    app.config.update(WORKER_THREADS=count, WORKER_QUEUE_LIMIT=QUEUE)

    @app.get("/sleep")
    def sleep() -> str:
        time.sleep(SLEPT)
        return "done"

    @app.get("/compute")
    def compute() -> str:
        return str(sum(range(COMPUTED)))

    return app
