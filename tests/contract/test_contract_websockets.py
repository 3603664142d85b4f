"""The websocket contract: one application, a real client, each server. `DIFFERENCES` says where a server cannot."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from contract_servers import APP, GRANIAN, GUNICORN, HYPERCORN, UVICORN, Server, ServerClient, is_installed

pytest.importorskip("websockets.sync.client")
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

TIMEOUT = 10
HANDSHAKE = b"""GET /receive/silent HTTP/1.1\r
Host: localhost\r
Connection: Upgrade\r
Upgrade: websocket\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
\r
"""


def row(command: str, *needs: str) -> Server:
    return Server("asgi", needs, command.replace(APP, "contract_sockets:app"))


SERVERS = {
    "uvicorn-auto": row(f"{UVICORN} --http h11 --loop asyncio", "uvicorn"),
    "uvicorn-legacy": row(f"{UVICORN} --http h11 --ws websockets", "uvicorn", "websockets.legacy"),
    "uvicorn-wsproto": row(f"{UVICORN} --http h11 --ws wsproto", "uvicorn", "wsproto"),
    "hypercorn": row(f"{HYPERCORN} --graceful-timeout 3", "hypercorn"),
    "hypercorn-trio": row(f"{HYPERCORN} --graceful-timeout 3 --worker-class trio", "hypercorn", "trio"),
    "granian-asgi": row(f"{GRANIAN} --interface asgi", "granian"),
    "gunicorn-asgi": row(f"{GUNICORN} -k asgi", "gunicorn.asgi.websocket"),
}
DIFFERENCES: dict[tuple[str, str], str] = {
    ("gunicorn-asgi", "response"): "has no websocket.http.response: each refusal is an empty 403",
    ("granian-asgi", "accept-headers"): "drops the headers of websocket.accept",
    ("hypercorn", "client-code"): "says 1006 for every end that the client makes",
    ("hypercorn-trio", "client-code"): "says 1006 for every end that the client makes",
    ("granian-asgi", "client-reason"): "passes on the code alone",
    ("gunicorn-asgi", "client-reason"): "passes on the code alone",
    ("granian-asgi", "compression"): "does not compress",
    ("gunicorn-asgi", "compression"): "does not compress",
    ("granian-asgi", "going-away"): "may be faster at SIGTERM itself: a close frame without a code, or none",
    ("gunicorn-asgi", "stuck-end"): "does not wake a send whose client vanished: it cancels the view after 3 s",
}


def differs(server: ServerClient, case: str) -> bool:
    return (server.name, case) in DIFFERENCES


def chosen() -> list[str]:
    """All, or those whose server is named in CONTRACT_HOSTS."""
    hosts = [name for name in os.environ.get("CONTRACT_HOSTS", "").split(",") if name]
    kinds = {name.partition("-")[0] for name in hosts}
    return [name for name in SERVERS if not hosts or name.partition("-")[0] in kinds]


def start(name: str) -> ServerClient:
    if not is_installed(SERVERS[name]):
        pytest.skip(f"{name} is not installed")
    return ServerClient(name, SERVERS[name])


@pytest.fixture(scope="module", params=chosen())
def server(request: pytest.FixtureRequest) -> Iterator[ServerClient]:
    started = start(request.param)
    yield started
    started.stop()


@pytest.fixture
def visit(server):
    return partial(visit_one, server)


def visit_one(server: ServerClient, path: str, **options):
    return connect(f"ws://127.0.0.1:{server.port}{path}", open_timeout=TIMEOUT, **options)


@contextmanager
def kept(opening) -> Iterator[ClientConnection]:
    """A connection that the case ends in a way of its own."""
    with opening as open_socket:
        try:
            yield open_socket
        finally:
            open_socket.close_socket()


def take(open_socket: ClientConnection):
    return open_socket.recv(timeout=TIMEOUT)


def take_close(open_socket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as raised:
        take(open_socket)
    assert raised.value.rcvd is not None, raised.value
    return raised.value.rcvd.code, raised.value.rcvd.reason


def refusal(visit, path: str, **options) -> tuple[int, bytes, dict[str, str]]:
    with pytest.raises(InvalidStatus) as raised:
        visit(path, **options)
    answer = raised.value.response
    return answer.status_code, bytes(answer.body or b""), {name.lower(): text for name, text in answer.headers.items()}


def vanish(open_socket: ClientConnection) -> None:
    """A reset: no close frame, no FIN."""
    open_socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    open_socket.socket.close()


def events(server: ServerClient, name: str) -> list[str]:
    found: list[str] = server.get(f"/events/{name}").json
    return found


def wait_for_end(server: ServerClient, name: str, seconds: float = 1.5, error: str = "NoneType") -> list[str]:
    """What the view saw, without its progress; it must have been torn down, once, by then."""
    deadline = time.monotonic() + seconds
    while "torn down" not in " ".join(found := events(server, name)):
        assert time.monotonic() < deadline, f"{name} goes on: {found[-3:]}"
        time.sleep(0.02)
    time.sleep(0.05)
    found = events(server, name)
    assert [event for event in found if event.startswith("torn down")] == [f"torn down {error}"]
    return [event for event in found if event not in ("MiB", f"torn down {error}")]


class TestConversation:
    def test_echo(self, visit):
        with visit("/echo", max_size=None) as client:
            for message in ("text \u2603", b"by\x00tes", "", b"", "x" * 1_000_000, os.urandom(1_000_000)):
                client.send(message)
                assert take(client) == message

    def test_fragments(self, visit):
        with visit("/echo") as client:
            client.send(["a", "b", "c"])
            assert take(client) == "abc"

    def test_json(self, visit):
        with visit("/json") as client:
            client.send('{"a": [1, null]}')
            assert json.loads(take(client)) == {"a": [1, None]}
            assert take_close(client) == (1000, "")

    @pytest.mark.parametrize("compression", ["deflate", None])
    def test_compression(self, server, visit, compression):
        with visit("/echo", compression=compression) as client:
            assert bool(client.protocol.extensions) == (compression is not None and not differs(server, "compression"))
            client.send("x" * 10_000)
            assert take(client) == "x" * 10_000

    def test_ping_is_answered(self, visit):
        with visit("/echo") as client:
            assert client.ping().wait(TIMEOUT)

    def test_two_tasks(self, visit):
        with visit("/both") as client:
            client.send("a")
            assert {take(client) for _ in range(4)} == {"0", "1", "2", "got a"}

    def test_many_at_once_do_not_mix(self, visit):
        def talk(number):
            with visit(f"/rooms/{number}?greeting=hello-{number}") as client:
                opened.wait(TIMEOUT)
                for _ in range(3):
                    client.send("?")
                    answers.append((number, json.loads(take(client))))

        answers = []
        opened = threading.Barrier(100)
        threads = [threading.Thread(target=talk, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * TIMEOUT)
        assert len(answers) == 300
        assert all(answer == ["rooms", number, f"hello-{number}"] for number, answer in answers)


class TestHandshake:
    def test_subprotocol_and_headers(self, server, visit):
        with visit("/protocol", subprotocols=["one", "two"]) as client:
            assert client.subprotocol == "two"
            assert client.response.headers.get("X-Room") == (None if differs(server, "accept-headers") else "7")
            assert json.loads(take(client)) == ["one", "two"]

    @pytest.mark.parametrize(
        ("path", "status", "text"),
        [
            ("/refuse/401", 401, b"<h1>Unauthorized</h1>"),
            ("/refuse/403", 403, b"<h1>Forbidden</h1>"),
            ("/nowhere", 404, b"<h1>Not Found</h1>"),
            ("/fail/early", 500, b"<h1>Internal Server Error</h1>"),
            ("/echo?refused", 403, b"not you"),
            ("/me", 401, b"<h1>Unauthorized</h1>"),
        ],
    )
    def test_refusal(self, server, visit, path, status, text):
        seen, body, headers = refusal(visit, path)
        if differs(server, "response"):
            assert (seen, body) == (403, b"")
            return
        assert seen == status
        assert text in body
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers.get("x-guard") == ("yes" if "refused" in path else None)

    def test_session_and_sync_decorator(self, server, visit):
        cookie = server.post("/login/ada").all("Set-Cookie")[0].partition(";")[0]
        with visit("/me?greeting=welcome", additional_headers={"Cookie": cookie}) as client:
            assert take(client) == "welcome ada"
            assert take_close(client) == (1000, "")

    def test_origins(self, server, visit):
        assert refusal(visit, "/echo", origin="https://evil.example")[0] == 403
        with visit("/echo", origin="https://friend.example") as client:
            client.send("x")
            assert take(client) == "x"


class TestEnds:
    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "gone"), (4000, "why é"), (4999, "x" * 123)])
    def test_closed_by_the_view(self, visit, code, reason):
        with visit(f"/close/{code}?reason={reason}") as client:
            assert take_close(client) == (code, reason)

    def test_an_error_is_1011(self, visit):
        with visit("/fail/late") as client:
            assert take_close(client) == (1011, "")

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "page closed"), (4321, "why")])
    def test_closed_by_the_client(self, server, visit, code, reason):
        name = f"closed-{code}"
        with visit(f"/receive/{name}") as client:
            assert take(client) == "ready"
            client.close(code, reason)
        code = 1006 if differs(server, "client-code") else code
        reason = "" if differs(server, "client-code") or differs(server, "client-reason") else reason
        assert wait_for_end(server, name) == [f"closed {code} {reason}".rstrip(), "send raised"]

    @pytest.mark.parametrize("leave", [vanish, ClientConnection.close], ids=["vanishes", "closes"])
    @pytest.mark.parametrize("path", ["receive", "push"])
    def test_the_client_leaves(self, server, visit, path, leave):
        name = f"{path}-{leave.__name__}"
        with kept(visit(f"/{path}/{name}")) as client:
            take(client)
            leave(client)
            seen = wait_for_end(server, name)
        assert seen[-1] == {"receive": "send raised", "push": "push ended"}[path]

    def test_a_client_that_does_not_read_stops_the_sender(self, server, visit):
        before = server.get("/resident").json["pages"]
        with kept(visit("/flood/slow", compression=None, max_queue=1)) as client:
            sent = -1
            deadline = time.monotonic() + TIMEOUT
            while (count := len(events(server, "slow"))) != sent:  # as much as the kernel and the server take
                assert time.monotonic() < deadline
                sent = count
                time.sleep(0.3)
            grown = (server.get("/resident").json["pages"] - before) * os.sysconf("SC_PAGE_SIZE")
            assert sent < 64
            assert grown < 16 * 2**20
            vanish(client)
            late = (4.5, "CancelledError") if differs(server, "stuck-end") else ()
            assert wait_for_end(server, "slow", *late) == ["flood ended"]


@pytest.mark.parametrize("name", [name for name in ("uvicorn-auto", "uvicorn-wsproto") if name in chosen()])
def test_a_client_that_answers_no_ping_is_lost(name):
    """How soon is the server's option. (uvicorn's legacy implementation waits ten seconds more for a farewell.)"""
    options = " --ws-ping-interval 0.2 --ws-ping-timeout 0.2"
    server = ServerClient(name, SERVERS[name]._replace(command=SERVERS[name].command + options))
    try:
        silent = socket.create_connection(("127.0.0.1", server.port), TIMEOUT)
        with silent, visit_one(server, "/echo") as client:
            silent.sendall(HANDSHAKE)
            assert wait_for_end(server, "silent", TIMEOUT)[-1] == "send raised"
            client.send("still here")
            assert take(client) == "still here"
    finally:
        server.stop()


@pytest.mark.parametrize("name", chosen())
def test_the_servers_end(name):
    """SIGTERM: 1001 for each client, and the views see it at their next receive and send; the server ends soon."""
    codes = codes_at_the_end(name)
    if 1012 in codes:  # uvicorn's own: ten times a second it looks whether it is to end, and may be first
        codes = codes_at_the_end(name)
    assert codes == [1001] * 3 or (name, "going-away") in DIFFERENCES


def codes_at_the_end(name) -> list[int | None]:
    """Of a client that waits, of one that neither sends nor is sent to, and of one that is sent to."""
    server, codes = start(name), []
    try:
        with (
            kept(visit_one(server, "/receive/one")) as receiver,
            kept(visit_one(server, "/push/two")) as reader,
            kept(visit_one(server, "/echo")) as idle,
        ):
            assert (take(receiver), take(reader)) == ("ready", "tick")
            begun = time.monotonic()
            server.process.terminate()
            for client in (receiver, idle, reader):
                with pytest.raises(ConnectionClosed) as raised:
                    while time.monotonic() < begun + TIMEOUT:
                        take(client)
                codes.append(raised.value.rcvd and raised.value.rcvd.code)
            server.process.wait(TIMEOUT)
        assert time.monotonic() - begun < 3
        assert "Traceback" not in server.read_log()
        assert server.process.returncode in (0, -15)
    finally:
        server.end()
        alarms = server.take_alarms()
        server.log.close()
    assert not alarms
    return codes
