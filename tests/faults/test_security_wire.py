"""The same over sockets, where servers read what a client wrote: bytes go out as they stand here."""

from __future__ import annotations

import base64
import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import h11
import pytest
from contract_message import Answer
from contract_servers import APP, ENVIRONMENT, SERVERS, ServerClient
from contract_wire import Closed
from fault_servers import ALL, PATIENCE, read_answer
from guarded_servers import make_fixture

HERE = Path(__file__).parent
NAMES = ("uvicorn-httptools", *ALL)
ASGI = tuple(name for name in NAMES if SERVERS[name].face == "asgi")
REFUSED = {400, 404, 405, 408, 413, 414, 415, 431, 501, 505}


class SecuredServer(ServerClient):
    def __init__(self, name: str) -> None:
        self.environment = {"PYTHONPATH": os.pathsep.join([str(HERE), ENVIRONMENT["PYTHONPATH"]])}
        row = SERVERS[name]
        super().__init__(name, row._replace(command=row.command.replace(APP, "secured_site:app")))

    def is_ready(self) -> bool:
        try:
            return self.get("/ping").status == 200
        except OSError:
            return False

    def send(self, *lines: bytes, body: bytes = b"") -> Answer | None:
        """The answer to a head of these lines, None where the server hangs up or finds no words."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as wire:
            with suppress(OSError):  # it may have seen enough
                wire.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
            try:
                return read_answer(wire, lines[0].split(b" ")[0].decode("latin-1") or "GET")
            except (Closed, OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
                return None

    def check_refused(self, *lines: bytes, body: bytes = b"") -> None:
        answer = self.send(*lines, body=body)
        assert answer is None or answer.status in REFUSED, (self.name, lines, answer)


server = make_fixture(NAMES, SecuredServer)


HOST = b"Host: localhost"


def test_traversal(server: SecuredServer) -> None:
    assert server.get("/static/hello.txt").status == 200
    for path in (
        b"/static/../contract_app.py",
        b"/static/..%2fcontract_app.py",
        b"/static/%2e%2e/contract_app.py",
        b"/static/a%00",
        b"/static//etc/passwd",
        b"/static/C:/x",
        b"/static/..%5ccontract_app.py",
        b"/../etc/passwd",
    ):
        answer = server.send(b"GET " + path + b" HTTP/1.1", HOST)
        assert answer is None or answer.status in (308, *REFUSED), (path, answer)
        assert answer is None or "localhost" in (answer.get("Location") or "localhost")


@pytest.mark.parametrize(
    "path",
    [
        b"//evil.com",
        b"//user/evil.com",
        b"/user//evil.com",
        b"/user/%5c%5cevil.com",
        b"/%5cevil.com",
        b"///evil.com/..",
        b"/user/%2f%2fevil.com",
        b"http://evil.com/user/x",
    ],
)
def test_open_redirect(server: SecuredServer, path: bytes) -> None:
    answer = server.send(b"GET " + path + b" HTTP/1.1", HOST)
    location = (answer and answer.get("Location")) or "http://localhost/"
    assert location.replace("\\", "/").startswith("http://localhost/") and "//" not in location[7:], location


@pytest.mark.parametrize(
    "host", [b"a/?x=", b"a@b", b"localhost:99999", b"xn--", b"[:5:1]", b"a b", b"", b"a,b", b"\xff", b"localhost#"]
)
def test_host(server: SecuredServer, host: bytes) -> None:
    answer = server.send(b"GET /seen/admin?q=1 HTTP/1.1", b"Host: " + host)
    if answer is not None and answer.status == 200:
        assert answer.json["path"] == "/seen/admin" and "/seen/admin" in answer.json["url"]
        assert not set(answer.json["host"]) & set("/@#? ,")
    else:
        assert answer is None or answer.status in REFUSED, answer


def test_doubled_host(server: SecuredServer) -> None:
    answer = server.send(b"GET /seen/admin HTTP/1.1", HOST, b"Host: evil.com")
    if answer is not None and answer.status == 200:
        assert answer.json["host"] in ("", "localhost")
    else:
        assert answer is None or answer.status in REFUSED


@pytest.mark.parametrize("length", [b"-5", b"+5", b"five", b"5, 6", b"\xd9\xa5", b"0x5", b"9" * 5000])
def test_content_length(server: SecuredServer, length: bytes) -> None:
    assert server.post("/size", [("Host", "localhost")], b"hello").body == b"5"
    server.check_refused(b"POST /size HTTP/1.1", HOST, b"Content-Length: " + length, body=b"hello")


def test_two_framings(server: SecuredServer) -> None:
    """What one reads as the body another may read as the next request. RFC 9112 6.3: chunked counts."""
    server.check_refused(b"POST /size HTTP/1.1", HOST, b"Content-Length: 5", b"Content-Length: 6", body=b"hello!")
    smuggled = b"0\r\n\r\nGET /seen/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.send(
        b"POST /size HTTP/1.1", HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked", body=smuggled
    )
    assert answer is None or answer.status in REFUSED or answer.body == b"0", answer


def test_queries_of_any_bytes(server: SecuredServer) -> None:
    for query in (b"\xdf", b"a=%ff", b"a=%00", b"%", b"a=\xc3\xa9", b"&&=&"):
        answer = server.send(b"GET /seen/a?" + query + b" HTTP/1.1", HOST)
        assert answer is None or answer.status in {200, *REFUSED}, (query, answer)


def test_cookies_without_names(server: SecuredServer) -> None:
    answer = server.send(b"GET /seen/a HTTP/1.1", HOST, b"Cookie: =__Host-x=bad; ==y; a=1")
    assert answer is not None and answer.json["cookies"] == ["a"]


def test_underscores_pose_as_nothing(server: SecuredServer) -> None:
    answer = server.send(b"GET /seen/a HTTP/1.1", HOST, b"X_User: admin")
    assert answer is not None
    assert answer.status in REFUSED or answer.json["user"] is None


def test_many_equal_headers(server: SecuredServer) -> None:
    """As many as the server lets through."""
    for count in (50, 100, 1_000, 10_000):
        answer = server.send(b"GET /seen/a HTTP/1.1", HOST, *([b"X-Name: v"] * count))
        if answer is None or answer.status in REFUSED:
            break
        assert answer.status == 200 and answer.json["size"] in (count * 2 - 1, 1), answer


def test_methods(server: SecuredServer) -> None:
    for method in (b"_HELPER", b"HELPER", b"__INIT__", b"DISPATCH_REQUEST"):
        server.check_refused(method + b" /things HTTP/1.1", HOST)
    assert server.get("/things").body == b"get"


def test_json_as_text(server: SecuredServer) -> None:
    for kind, status in ((b"text/plain", 415), (b"application/json", 200)):
        answer = server.send(b"POST /json HTTP/1.1", HOST, b"Content-Type: " + kind, b"Content-Length: 2", body=b"{}")
        assert answer is not None and answer.status == status


def test_flood_of_parts_and_fields(server: SecuredServer) -> None:
    """What is within the limits is read; beyond them there is 413, or the server closes what it would have to read."""
    part, end = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n', b"--b--\r\n"
    for kind, few, many in (
        (b"multipart/form-data; boundary=b", part + end, part * 5_000 + end),
        (b"application/x-www-form-urlencoded", b"a=&", b"a=&" * 1_000_000),
    ):
        few_answer, many_answer = (
            server.send(
                b"POST /form HTTP/1.1", HOST, b"Content-Type: " + kind, b"Content-Length: %d" % len(body), body=body
            )
            for body in (few, many)
        )
        assert few_answer is not None and few_answer.json == {"fields": 1}
        assert many_answer is None or many_answer.status == 413


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0X-Evil: 1"])
@pytest.mark.parametrize("place", ["name", "value", "status", "redirect", "file", "stream"])
def test_response_is_not_split(server: SecuredServer, place: str, bad: str) -> None:
    fine, answer = (
        server.send(f"GET /make/{place}?bad={quote(text)} HTTP/1.1".encode(), HOST) for text in ("fine", bad)
    )
    assert fine is not None and fine.status in (200, 302)
    assert answer is not None and answer.status == 500
    assert "evil" not in str(answer.headers).lower()


def test_each_access_varies(server: SecuredServer) -> None:
    answer = server.get("/session", [("Host", "localhost")])
    assert (answer.text, answer.get("Vary")) == ("False", "Cookie")


def test_many_ranges(server: SecuredServer) -> None:
    """As many as the server lets through. One that asks for much of nothing gets nothing, or the whole once."""
    assert server.send(b"GET /file HTTP/1.1", HOST, b"Range: bytes=1-2").body == b"od"
    for asked in (b"0-," * 50, b"0-," * 500, b"0-," * 2_000, b"-0", b"5-4"):
        answer = server.send(b"GET /file HTTP/1.1", HOST, b"Range: bytes=" + asked)
        if answer is not None and answer.status not in REFUSED:
            assert (answer.status, answer.body != b"body") == (416, True), (asked, answer)


def test_origin_of_websockets(server: SecuredServer) -> None:
    if server.name not in ASGI:
        pytest.skip("websockets need ASGI")
    for origin, status in ((b"http://localhost", 101), (b"http://evil.com", 403), (b"null", 403)):
        assert shake_hands(server, origin) == status, origin


def shake_hands(server: SecuredServer, origin: bytes) -> int:
    key = base64.b64encode(bytes(16))
    lines = (
        b"GET /socket HTTP/1.1",
        HOST,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        b"Origin: " + origin,
        b"",
        b"",
    )
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as wire:
        wire.sendall(b"\r\n".join(lines))
        return int(wire.recv(1 << 16).split(b" ")[1])
