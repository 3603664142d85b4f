"""asyncflask: `async def` views for ASGI, `def` views for worker threads and WSGI."""

from __future__ import annotations

import os

from asyncflask import Flask, g, render_template, request, session

from . import shared


def plain() -> Flask:
    app = Flask(__name__, static_folder=shared.make_static_folder(), static_url_path="/static")

    @app.get("/hello/<name>")
    async def hello(name: str):
        return {"hello": name}

    @app.get("/hello-sync/<name>")
    def hello_sync(name: str):
        return {"hello": name}

    @app.post("/echo")
    async def echo():
        return request.get_json()

    @app.post("/echo-sync")
    def echo_sync():
        return request.get_json()

    @app.post("/upload")
    async def upload():
        return {"size": request.files["file"].seek(0, os.SEEK_END)}

    @app.post("/upload-sync")
    def upload_sync():
        return {"size": request.files["file"].seek(0, os.SEEK_END)}

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


def make_page_app() -> Flask:
    app = Flask(__name__, template_folder=shared.TEMPLATES)
    app.secret_key = shared.SECRET
    return app


def page() -> Flask:
    app = make_page_app()

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
        return render_page()

    return app


def page_sync() -> Flask:
    app = make_page_app()

    @app.before_request
    def choose_language():
        g.language = request.headers["Accept-Language"]

    @app.after_request
    def add_header(response):
        name, value = shared.ADDED_HEADER
        response.headers[name] = value
        return response

    @app.get("/page")
    def page():
        return render_page()

    return app


def render_page() -> str:
    visits = session["visits"] = session.get("visits", 0) + 1
    return render_template("page.html", visits=visits, items=shared.ITEMS, language=g.language)


def mixed() -> Flask:
    app = Flask(__name__)

    @app.before_request
    def choose_language():
        g.language = request.headers["Accept-Language"]

    @app.get("/hello/<name>")
    async def hello(name: str):
        return {"hello": name}

    return app


def routes(count: int) -> Flask:
    async def hello(name: str):
        return {"hello": name}

    return add_routes(hello, count)


def routes_sync(count: int) -> Flask:
    def hello(name: str):
        return {"hello": name}

    return add_routes(hello, count)


def add_routes(view, count: int) -> Flask:
    app = Flask(__name__)
    for number in range(count):
        app.add_url_rule(f"/resource{number}/<name>", f"hello{number}", view)
    return app
