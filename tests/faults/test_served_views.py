"""Faults in views, hooks and streams, over sockets. What each server shows stands in docs/reliability.md."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import h11
import pytest
from contract_message import Answer, make_question
from contract_wire import Closed, Wire
from fault_servers import STYLES, TYPE, FaultServer, new_id, read_answer


def test_03_disconnect_during_a_sync_view(wsgi_server: FaultServer) -> None:
    """The teardown waits for the view to end. (ASGI: tests/test_cancellation.py)"""
    who = new_id()
    with wsgi_server.send("GET", f"/hold/sync?id={who}"):
        wsgi_server.wait_for(who, "begins")
    wsgi_server.release(who)
    wsgi_server.check_torn_down(who, "NoneType")
    assert wsgi_server.events(who) == ["begins", "ends", "teardown NoneType"]


@pytest.mark.parametrize("style", STYLES)
def test_04_disconnect_during_a_stream(asgi_server: FaultServer, style: str) -> None:
    check_stream_is_closed(asgi_server, style)


def test_04_disconnect_during_a_stream_wsgi(wsgi_server: FaultServer) -> None:
    """A server notices it when it sends the next piece."""
    check_stream_is_closed(wsgi_server, "sync")


@pytest.mark.parametrize("style", STYLES)
def test_04_disconnect_between_two_pieces(asgi_server: FaultServer, style: str) -> None:
    """The generator is at a `yield`, where no cancellation reaches it: its piece waits for the client."""
    check_stream_is_closed(asgi_server, style, "flood", bytes(1000))


def test_04_disconnect_of_a_websocket_that_only_sends(asgi_server: FaultServer) -> None:
    """Nobody receives, and no `send` waits for a client that has left: others are answered, and the view ends."""
    who = new_id()
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    with asgi_server.send("GET", f"/flood/socket?id={who}", *upgrade, f"Sec-WebSocket-Key: {'A' * 22}==") as wire:
        received = b""
        while b"x" * 1000 not in received:
            received += wire.recv(10_000)
    assert asgi_server.get("/ping").text == "pong"
    asgi_server.wait_for(who, "closed")


def check_stream_is_closed(server: FaultServer, style: str, kind: str = "endless", begin: bytes = b"piece") -> None:
    """The generator is closed within a second, its context alive in `finally`."""
    who = new_id()
    with server.send("GET", f"/{kind}/{style}?id={who}") as wire:
        received = b""
        while begin not in received:
            received += wire.recv(10_000)
    server.wait_for(who, f"closed /{kind}/{style} with context", 2)  # the machine may be busy


@pytest.mark.parametrize("style", STYLES)
def test_09_a_teardown_raises(server: FaultServer, style: str) -> None:
    """All others run, the response is sent, the error is logged."""
    who = new_id()
    answer = server.get(f"/plain/{style}?id={who}&fail=teardown_request")
    assert (answer.status, answer.text) == (200, "plain")
    server.check_torn_down(who, "NoneType")
    server.poll(lambda: f"teardown_request fails for {who}" in server.read_log())


@pytest.mark.parametrize("style", STYLES)
def test_10_after_request_raises(server: FaultServer, style: str) -> None:
    check_plain_500(server, f"/plain/{style}", "after_request")


@pytest.mark.parametrize("style", STYLES)
def test_12_an_error_handler_raises(server: FaultServer, style: str) -> None:
    check_plain_500(server, f"/plain/{style}", "handler")


@pytest.mark.parametrize("place", ["load", "save"])
@pytest.mark.parametrize("style", STYLES)
def test_23_the_session_store_dies(server: FaultServer, style: str, place: str) -> None:
    """No half cookie: of a session that was not saved the client hears nothing."""
    changes = {"load": "", "save": "&change=1"}[place]
    cookies = {"load": [("Cookie", f"session={'a' * 43}")], "save": []}[place]
    path = f"/stored/plain/{style}"
    sound = server.get(f"{path}?id={new_id()}{changes}", cookies)
    assert (sound.status, bool(sound.get("Set-Cookie"))) == (200, place == "save")
    answer = check_plain_500(server, path, f"{place}{changes}", cookies)
    assert answer.get("Set-Cookie") is None


@pytest.mark.parametrize("place", ["open_session", "before_request"])
@pytest.mark.parametrize("style", STYLES)
def test_36_a_request_hook_raises(server: FaultServer, style: str, place: str) -> None:
    check_plain_500(server, f"/plain/{style}", place)


def check_plain_500(server: FaultServer, path: str, place: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """One answer, which is ours and not what a server has for an error, one teardown, and an entry of the log."""
    who = new_id()
    wire = Wire.connect(server.port)
    with wire.sock:
        answer = wire.ask(make_question("GET", f"{path}?id={who}&fail={place}", headers))
    assert (answer.status, answer.get("Content-Type")) == (500, "text/html; charset=utf-8")
    assert "<title>500 Internal Server Error</title>" in answer.text and who not in answer.text
    server.check_torn_down(who, "LookupError")
    server.poll(lambda: f"fails for {who}" in server.read_log())
    assert server.get("/ping").text == "pong"
    return answer


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("length", ["", "&length=100"], ids=["chunked", "length"])
def test_11_a_stream_raises_after_its_start(server: FaultServer, style: str, length: str) -> None:
    """The connection is aborted, never a clean end; the error is logged, over ASGI by us."""
    who = new_id()
    line = f"Exception on /break/{style} [GET]"
    logged = server.read_log().count(line)
    with (
        server.send("GET", f"/break/{style}?id={who}{length}") as wire,
        pytest.raises((h11.RemoteProtocolError, Closed)),
    ):
        read_answer(wire)
    server.poll(lambda: f"broken for {who}" in server.read_log())
    assert server.read_log().count(line) == logged + (server.face == "asgi")
    assert server.get("/ping").text == "pong"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["array", "object"])
def test_14_json_100_000_deep(server: FaultServer, style: str, text: str) -> None:
    assert server.post(f"/json/{style}?id={new_id()}", [TYPE["json"]], text.encode()).status == 400


def test_24_all_worker_threads_busy(asgi_server: FaultServer) -> None:
    """Async views unaffected, name look-ups work, 503 with Retry-After past the queue's limit."""
    who = new_id()

    def ask(number: int):
        return asgi_server.get(f"/hold/sync?id={who}&number={number}")

    with ThreadPoolExecutor(9) as pool:
        try:
            futures = [pool.submit(ask, number) for number in range(9)]  # 4 threads, 2 places in the queue
            asgi_server.poll(lambda: sum(future.done() for future in futures) == 3)
            refused = [future.result() for future in futures if future.done()]
            assert asgi_server.get("/ping").text == "pong"
            assert asgi_server.get("/look-up").text == "True"
            assert [answer.status for answer in refused] == [503] * 3
            assert all(int(answer.get("Retry-After") or 0) > 0 for answer in refused)
            asgi_server.poll(lambda: asgi_server.events(who).count("begins") == 4)
        finally:
            asgi_server.release(who)
        assert sorted(future.result().status for future in futures) == [200] * 6 + [503] * 3


def test_26_a_view_blocks_the_loop(asgi_server: FaultServer) -> None:
    """The watchdog logs its stack and name (SLOW_CALLBACK_MS is set)."""
    assert asgi_server.get("/block").text == "blocked"
    asgi_server.poll(lambda: "by the endpoint 'block'" in asgi_server.read_log())
    assert "time.sleep(0.6)" in asgi_server.read_log()


def test_28_pipelined_requests_each_start_clean(server: FaultServer) -> None:
    """All of one connection. A server may hang up after any answer: what it gives is right."""
    targets = [f"/clean/{style}?id={new_id()}" for _ in range(5) for style in STYLES]
    questions = [make_question("GET", target) for target in targets]
    wire = Wire.connect(server.port)
    with wire.sock:
        answers = wire.ask_pipelined(questions)
    ids = [target.partition("id=")[2] for target in targets[: len(answers)]]
    assert [answer.json for answer in answers] == [{"g": [], "user": "nobody", "id": who} for who in ids]
    assert len(answers) == len(targets) or server.name == "gunicorn-sync"


def test_33_a_static_file_cut_short_while_sent(wsgi_server: FaultServer) -> None:
    """Abort, no hang. (ASGI: tests/test_files.py)"""
    who = new_id()
    with wsgi_server.send("GET", f"/file?id={who}") as wire, pytest.raises(h11.RemoteProtocolError):
        read_answer(wire)
    wsgi_server.check_torn_down(who, "NoneType")
