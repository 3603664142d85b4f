"""The application that is fuzzed: it looks at all that a client can say."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

from asyncflask import Flask, abort, nonblocking, redirect, request, send_from_directory, session, url_for
from asyncflask.cookies import find_cookie

SECRET = "a secret key of the fuzzed site"
FILE = bytes(range(256)) * 4
FOLDER = Path(__file__).parent / "static"


def make_app() -> Flask:
    app = Flask("fuzzed", static_folder=None, root_path=str(FOLDER.parent))
    app.config.update(SECRET_KEY=SECRET, MAX_CONTENT_LENGTH=1 << 20, MAX_FORM_MEMORY_SIZE=1 << 17, MAX_FORM_PARTS=200)
    app.logger.disabled = True  # what goes wrong is seen by its status
    for view, *methods in VIEWS:
        app.add_url_rule(f"/{view.__name__}", view_func=view, methods=methods or None)
    app.add_url_rule("/slashed/", "slashed", nonblocking(lambda: "slashed"))
    return app


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@nonblocking
def form() -> t.Any:
    files = [[key, file.filename, file.content_type, digest(file.read())] for key, file in request.files.items(True)]
    return {"form": list(request.form.items(True)), "files": files, "values": len(request.values)}


async def parts() -> t.Any:
    return {
        "parts": [
            [part.name, part.filename, part.content_type, digest(await part.read())]
            async for part in request.stream_parts()
        ]
    }


def sync_parts() -> t.Any:
    return {
        "parts": [[part.name, part.filename, part.content_type, digest(part.read())] for part in request.stream_parts()]
    }


@nonblocking
def cookies() -> t.Any:
    found = find_cookie(request, "session")  # before the others are parsed
    return {"session": found, "cookies": list(request.cookies.items(True))}


@nonblocking
def query() -> t.Any:
    return {"args": list(request.args.items(True)), "path": request.path, "url": request.url, "full": request.full_path}


@nonblocking
def host() -> t.Any:
    return {"host": request.host, "path": request.path, "url": request.url, "made": url_for("query", _external=True)}


@nonblocking
def away() -> t.Any:
    try:
        return redirect(request.args.get("to", "/"))
    except ValueError:  # a line's end in it
        abort(400)


@nonblocking
def kept() -> t.Any:
    before = sorted(session)
    session["seen"] = True
    return {"before": before}


@nonblocking
def json() -> t.Any:
    value = request.get_json()
    return {"type": type(value).__name__, "size": len(value) if isinstance(value, (dict, list, str)) else 0}


def file() -> t.Any:
    return send_from_directory(FOLDER, "file.bin", etag="tag", last_modified=1_000_000_000)


VIEWS: tuple[tuple[t.Any, *tuple[str, ...]], ...] = (
    (form, "POST"), (parts, "POST"), (sync_parts, "POST"), (json, "POST"),
    (cookies,), (query,), (host,), (away,), (kept,), (file,),
)  # fmt: skip
