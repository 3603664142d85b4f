"""The client's word on where it is: Host, paths that look like hosts, origins."""

from __future__ import annotations

import json
import typing as t
from urllib.parse import urlsplit

import pytest
from edge import Exchange
from security import ask, both_faces, make_app, measure
from socket_edge import Socket

from asyncflask import Flask, request, url_for, websocket

HOSTS = (
    *(b"a/?x=", b"a@b", b"a/b", b"a\\b", b"a#b", b"a b", b"a,b", b"a;b", b"localhost:99999", b"localhost:0", b"a:b:c"),
    *(b"xn--", b"xn--.", b"xn----", b"[:5:1]", b"[::1", b"::1]", b"[", b"\xff", b"a\tb", b"", b"localhost:", b"."),
    *(b"a" * 300, b"localhost:80:80", b"user:pw@localhost", b"localhost%00", b"localhost:\xd9\xa3", b"-", b"[v1.a]"),
)
SECRET = "/admin"


@pytest.fixture
def app() -> Flask:
    app = make_app(PROPAGATE_EXCEPTIONS=False)

    @app.get("/<path:path>")
    def show(path: str) -> dict[str, t.Any]:
        return {
            "path": request.path,
            "full": request.full_path,
            "url": request.url,
            "base": request.base_url,
            "root": request.url_root,
            "host": request.host,
            "made": url_for("show", path="p", _external=True),
        }

    @app.get("/async/<path:path>")
    async def show_async(path: str) -> dict[str, t.Any]:
        return show(path)

    app.add_url_rule("/folder/", "folder", lambda: "folder")
    app.add_url_rule("/user/<name>/", "user", lambda name: name)
    app.add_url_rule("/tree/<path:name>/", "tree", lambda name: name)
    return app


# CVE-2026-48710, CVE-2026-54282


@both_faces
@pytest.mark.parametrize("view", ["", "/async"])
@pytest.mark.parametrize("host", HOSTS)
def test_path_is_the_path_whatever_the_host(app: Flask, face: str, view: str, host: bytes) -> None:
    answer = ask(face, app, f"{view}{SECRET}?q=1", (b"host", host))
    assert answer.status in (200, 400)
    if answer.status == 200:
        seen = json.loads(answer.body)
        assert seen["path"] == f"{view}{SECRET}" and seen["full"] == f"{view}{SECRET}?q=1"
        assert urlsplit(seen["url"]).path == urlsplit(seen["base"]).path == f"{view}{SECRET}"
        assert urlsplit(seen["root"]).path == "/" and not set(seen["host"]) & set("/\\@#? \t,;")


@both_faces
@pytest.mark.parametrize("host", HOSTS)
def test_redirects_of_any_host_are_an_answer(app: Flask, face: str, host: bytes) -> None:
    answer = ask(face, app, "/folder", (b"host", host))
    assert answer.status in (308, 400, 404)


@both_faces
def test_trusted_hosts(app: Flask, face: str) -> None:
    app.config["TRUSTED_HOSTS"] = ["localhost", ".example.org"]
    for host in (b"localhost", b"localhost:5000", b"a.example.org"):
        assert ask(face, app, SECRET, (b"host", host)).status == 200
    odd = [host for host in HOSTS if host != b"localhost:80:80"]  # Werkzeug takes a port of 80 off, and it is localhost
    for host in (*odd, b"evil.com", b"example.org.evil.com", b"evilexample.org", b"localhost.evil.com"):
        assert ask(face, app, SECRET, (b"host", host)).status == 400, host


@pytest.mark.parametrize("hosts", [("localhost", "evil.com"), ("evil.com", "localhost"), ("localhost", "localhost")])
async def test_doubled_host(app: Flask, hosts: tuple[str, str]) -> None:
    """Servers refuse it; where one does not, neither is believed."""
    app.config["TRUSTED_HOSTS"] = ["localhost"]
    exchange = Exchange("GET", SECRET, headers=[("Host", host) for host in hosts])
    assert (await exchange.run(app)).status == 400


@both_faces
def test_long_hosts_cost_little(app: Flask, face: str) -> None:
    app.config["TRUSTED_HOSTS"] = ["localhost"]
    for host in (b"a" * 300_000, b"a." * 150_000, b"[" + b":" * 300_000, b"xn--" * 70_000, b"1:" * 100_000):
        assert measure(lambda host=host: ask(face, app, SECRET, (b"host", host))) < 0.1


# CVE-2020-28724, CVE-2021-21330


@both_faces
@pytest.mark.parametrize(
    "path",
    [
        "//evil.com",
        "//evil.com/",
        "///evil.com",
        "/\\evil.com",
        "/\\/evil.com",
        "//evil.com/%2e%2e",
        "/user//evil.com",
        "/user/\\evil.com",
        "/tree///evil.com",
        "/tree//evil.com/x",
        "//user/evil.com",
        "/\t/evil.com",
        "//a@evil.com/folder",
    ],
)
def test_open_redirect(app: Flask, face: str, path: str) -> None:
    answer = ask(face, app, path, (b"host", b"localhost"))
    if "location" in answer.headers:
        location = answer.headers["location"].replace("\\", "/")  # as browsers read it
        url = urlsplit(location)
        assert (url.scheme, url.netloc) == ("http", "localhost") and "//" not in url.path, location


@both_faces
def test_slash_redirects_stay(app: Flask, face: str) -> None:
    for path, expected in (
        ("/folder", "http://localhost/folder/"),
        ("//folder", "http://localhost/folder/"),
        ("/user/evil.com", "http://localhost/user/evil.com/"),
        ("/tree/\\\\evil.com", "http://localhost/tree/%5C%5Cevil.com/"),
    ):
        answer = ask(face, app, path, (b"host", b"localhost"))
        assert (answer.status, answer.headers.get("location")) == (308, expected)


# Fault 35, and what follows from it


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/foo", "/foobar/admin", "/foobar/admin"),
        ("/foo", "/foo/admin", "/admin"),
        ("/foo/", "/foo/admin", "/admin"),
        ("", "", "to /"),
        ("/foo", "/foo", "to /foo/"),
        ("/", "/admin", "/admin"),
    ],
)
async def test_root_path_ends_where_a_segment_ends(root: str, path: str, expected: str) -> None:
    app = make_app()
    app.add_url_rule("/", "root", lambda: request.path)
    app.add_url_rule("/<path:path>", "path", lambda path: request.path)
    exchange = await Exchange("GET", path, headers=[("Host", "localhost")], root_path=root).run(app)
    location = exchange.headers.get("location", "").removeprefix("http://localhost")
    assert (f"to {location}" if location else exchange.text) == expected


# Cross-site websocket hijacking


@pytest.fixture
def sockets() -> Flask:
    app = make_app()

    @app.websocket("/")
    async def talk() -> None:
        await websocket.accept()
        await websocket.send("open")

    return app


ORIGINS: dict[t.Any, tuple[dict[str, bool], ...]] = {
    "same-origin": (
        {
            "http://localhost": True,
            "http://evil.com": False,
            "http://localhost.evil.com": False,
            "http://localhost:81": False,
            "null": False,
            "": False,
            "http://user@localhost": False,
        },
    ),
    ("https://site.org",): (
        {
            "https://site.org": True,
            "http://site.org": False,
            "https://site.org.evil.com": False,
            "http://localhost": False,
            "null": False,
        },
    ),
    "any": ({"http://evil.com": True},),
}


@pytest.mark.parametrize("allowed", list(ORIGINS))
async def test_origin_of_websockets(sockets: Flask, allowed: t.Any) -> None:
    """WEBSOCKET_ORIGINS. Without an Origin it is no browser."""
    sockets.config["WEBSOCKET_ORIGINS"] = allowed
    (cases,) = ORIGINS[allowed]
    for origin, expected in cases.items():
        async with Socket(sockets, headers=[("Host", "localhost"), ("Origin", origin)]) as socket:
            assert socket.opened is expected, origin
            if not expected:
                assert (await socket.denial())[0] == 403
    async with Socket(sockets) as socket:
        assert socket.opened
