"""Starlette: plain endpoints, pure ASGI middleware (its advice where speed counts)."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from . import shared

WITHOUT = {"mixed": "has no per-request hooks which may be sync"}


async def hello(request: Request):
    return JSONResponse({"hello": request.path_params["name"]})


def hello_sync(request: Request):
    return JSONResponse({"hello": request.path_params["name"]})


async def echo(request: Request):
    return JSONResponse(await request.json())


async def upload(request: Request):
    async with request.form() as form:
        return JSONResponse({"size": form["file"].size})


async def stream(request: Request):
    return StreamingResponse(shared.make_chunks_async())


async def stream_sync(request: Request):
    return StreamingResponse(shared.make_chunks())


async def boom(request: Request):
    raise ValueError("boom")


def boom_sync(request: Request):
    raise ValueError("boom")


def plain() -> Starlette:
    return Starlette(
        routes=[
            Route("/hello/{name}", hello),
            Route("/hello-sync/{name}", hello_sync),
            Route("/echo", echo, methods=["POST"]),
            Route("/upload", upload, methods=["POST"]),
            Route("/stream", stream),
            Route("/stream-sync", stream_sync),
            Route("/boom", boom),
            Route("/boom-sync", boom_sync),
            Mount("/static", StaticFiles(directory=shared.make_static_folder())),
        ]
    )


class PageHooks:
    """The before and after hooks of the page."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request.state.language = request.headers["Accept-Language"]

        async def send_with_header(message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append(*shared.ADDED_HEADER)
            await send(message)

        await self.app(scope, receive, send_with_header)


def page() -> Starlette:
    templates = Jinja2Templates(directory=shared.TEMPLATES)

    async def page(request: Request):
        visits = request.session["visits"] = request.session.get("visits", 0) + 1
        context = {"visits": visits, "items": shared.ITEMS, "language": request.state.language}
        return templates.TemplateResponse(request, "page.html", context)

    middleware = [Middleware(SessionMiddleware, secret_key=shared.SECRET), Middleware(PageHooks)]
    return Starlette(routes=[Route("/page", page)], middleware=middleware)


def routes(count: int) -> Starlette:
    return Starlette(routes=[Route(f"/resource{number}/{{name}}", hello) for number in range(count)])
