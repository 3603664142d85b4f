"""What is measured: one table of scenarios. The ratios which the project promises are in targets.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A response as the drivers hand it back; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Check = Callable[[Answer], bool]
Header = tuple[str, str]

ECHOED = {"id": 7, "name": "a name", "tags": ["one", "two", "three"], "text": "x" * 960}
PAGE_ITEMS = tuple(f"item <{number}>" for number in range(10))
CHUNK, CHUNKS = b"c" * 1024, 100
FILE = bytes(range(256)) * 256
UPLOADED = bytes(range(256)) * 4096
BOUNDARY = "----boundary7MA4YWxkTrZu0gW"


def is_json(expected: Any) -> Check:
    return lambda answer: json.loads(answer.body) == expected


def is_bytes(expected: bytes) -> Check:
    return lambda answer: answer.body == expected


def is_page(answer: Answer) -> bool:
    """The second visit, ten escaped items, the hook's language and the header added after the view."""
    items = (f"<li>{index}: item &lt;{index - 1}&gt;</li>" for index in range(1, 11))
    wanted = ("<p>Visits: 2</p>", "<title>Page</title>", "Language: en-GB", *items)
    text = answer.body.decode()
    return all(part in text for part in wanted) and answer.headers.get("x-served-by") == "benchmark"


def has_any_body(answer: Answer) -> bool:
    return True


def has_allow(answer: Answer) -> bool:
    return "GET" in answer.headers.get("allow", "")


def carry_cookie(answer: Answer) -> Header:
    return "cookie", answer.headers["set-cookie"].partition(";")[0]


def carry_etag(answer: Answer) -> Header:
    return "if-none-match", answer.headers["etag"]


class Scenario(NamedTuple):
    """One row. `app`: a factory in the peer's module; `carry` makes a request header of a first answer."""

    key: str
    title: str
    face: str
    path: str
    check: Check
    app: str = "plain"
    arguments: tuple[int, ...] = ()
    method: str = "GET"
    status: int = 200
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    at_once: int = 1
    carry: Callable[[Answer], Header] | None = None
    optional: bool = False


def make_post(body: bytes, content_type: str) -> dict[str, Any]:
    headers = (("content-type", content_type), ("content-length", str(len(body))))
    return {"method": "POST", "body": body, "headers": headers}


def make_upload() -> dict[str, Any]:
    disposition = 'Content-Disposition: form-data; name="file"; filename="file.bin"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
    body = head.encode() + UPLOADED + f"\r\n--{BOUNDARY}--\r\n".encode()
    return make_post(body, f"multipart/form-data; boundary={BOUNDARY}")


HELLO = is_json({"hello": "world"})
ECHO = make_post(json.dumps(ECHOED).encode(), "application/json")
UPLOAD = make_upload()
STREAMED = is_bytes(CHUNK * CHUNKS)
SIZE = is_json({"size": len(UPLOADED)})


def make_routes(face: str, suffix: str, count: int) -> Scenario:
    """The last of `count` routes; ten thousand are measured only on demand."""
    key, title = f"routes-{count}{suffix}", f"last of {count:,} routes"
    path = f"/resource{count - 1}/world"
    factory = "routes" if face == "asgi" else "routes_sync"
    return Scenario(key, title, face, path, HELLO, factory, (count,), optional=count > 1000)


NO_BODY = is_bytes(b"")
STATIC = "/static/file.bin"
ROUTE_COUNTS = (10, 1_000, 10_000)
TABLE = (
    Scenario("json-async", "JSON, async view", "asgi", "/hello/world", HELLO),
    Scenario("json-sync", "JSON, sync view", "asgi", "/hello-sync/world", HELLO),
    Scenario("json-sync-200", "JSON, sync view, 200 at once", "asgi", "/hello-sync/world", HELLO, at_once=200),
    Scenario("echo", "JSON echo of 1 KiB", "asgi", "/echo", is_json(ECHOED), **ECHO),
    Scenario("page", "page: session, hooks, template", "asgi", "/page", is_page, "page", carry=carry_cookie),
    Scenario("404", "404", "asgi", "/missing", has_any_body, status=404),
    Scenario("405", "405", "asgi", "/hello/world", has_allow, method="POST", status=405),
    *(make_routes("asgi", "", count) for count in ROUTE_COUNTS),
    Scenario("mixed", "sync hook, async view", "asgi", "/hello/world", HELLO, "mixed"),
    Scenario("upload", "multipart upload of 1 MiB", "asgi", "/upload", SIZE, **UPLOAD),
    Scenario("static", "static file of 64 KiB", "asgi", STATIC, is_bytes(FILE)),
    Scenario("static-304", "static file, 304", "asgi", STATIC, NO_BODY, status=304, carry=carry_etag),
    Scenario("stream-async", "100 chunks, async generator", "asgi", "/stream", STREAMED),
    Scenario("stream-sync", "100 chunks, sync generator", "asgi", "/stream-sync", STREAMED),
    Scenario("json-wsgi", "JSON, sync view", "wsgi", "/hello-sync/world", HELLO),
    Scenario("async-wsgi", "JSON, async view", "wsgi", "/hello/world", HELLO),
    Scenario("echo-wsgi", "JSON echo of 1 KiB", "wsgi", "/echo-sync", is_json(ECHOED), **ECHO),
    Scenario(
        "page-wsgi",
        "page: session, hooks, template",
        "wsgi",
        "/page",
        is_page,
        "page_sync",
        carry=carry_cookie,
    ),
    Scenario("404-wsgi", "404", "wsgi", "/missing", has_any_body, status=404),
    Scenario("405-wsgi", "405", "wsgi", "/hello-sync/world", has_allow, method="POST", status=405),
    *(make_routes("wsgi", "-wsgi", count) for count in ROUTE_COUNTS),
    Scenario("upload-wsgi", "multipart upload of 1 MiB", "wsgi", "/upload-sync", SIZE, **UPLOAD),
    Scenario("static-wsgi", "static file of 64 KiB", "wsgi", STATIC, is_bytes(FILE)),
    Scenario("static-304-wsgi", "static file, 304", "wsgi", STATIC, NO_BODY, status=304, carry=carry_etag),
    Scenario("stream-wsgi", "100 chunks, sync generator", "wsgi", "/stream-sync", STREAMED),
)
SCENARIOS = {scenario.key: scenario for scenario in TABLE}

# Looked at for what a request leaves behind: (name, factory, path, status).
CYCLE_CASES = (
    ("200, async view", "plain", "/hello/world", 200),
    ("200, sync view", "plain", "/hello-sync/world", 200),
    ("404", "plain", "/missing", 404),
    ("500, async view", "plain", "/boom", 500),
    ("500, sync view", "plain", "/boom-sync", 500),
)
CYCLE_REQUESTS = 1000
