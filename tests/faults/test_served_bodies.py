"""Faults in request bodies, over sockets."""

from __future__ import annotations

import socket
import struct

import pytest
from fault_servers import MIB, STYLES, FaultServer, chunk, flood, new_id, read_answer

GIB = 2**30


@pytest.mark.parametrize("style", STYLES)
def test_01_disconnect_mid_body(server: FaultServer, style: str) -> None:
    """The read raises ClientDisconnected, teardown once, nothing is logged as an error."""
    who = new_id()
    with server.send("POST", f"/read/{style}?id={who}", "Content-Length: 1000", body=b"x" * 10):
        pass
    server.check_torn_down(who, "NoneType", "ClientDisconnected")
    seen = [event.split()[0] for event in server.events(who)]
    # For an async view the body is read before it begins: it never does.
    assert seen == (["pid", "raised", "teardown"] if style == "sync" else ["teardown"])
    assert who not in server.read_log()


def test_01_reset_mid_body(server: FaultServer) -> None:
    """The same of a client that resets its connection, where reading gives an OSError."""
    who = new_id()
    with server.send("POST", f"/read/sync?id={who}", "Content-Length: 1000", body=b"x" * 10) as wire:
        server.wait_for(who, "pid")  # a reset takes away what the server has not read
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.check_torn_down(who, "NoneType", "ClientDisconnected")
    assert "raised ClientDisconnected" in server.events(who)
    assert who not in server.read_log()


def test_05_body_that_stalls(asgi_server: FaultServer) -> None:
    """408 after BODY_TIMEOUT, other requests unaffected."""
    check_stalls(asgi_server, "Content-Length: 1000", b"x" * 10)


def test_06_chunked_without_an_end_stalls(asgi_server: FaultServer) -> None:
    check_stalls(asgi_server, "Transfer-Encoding: chunked", chunk(b"x" * 10))


def check_stalls(server: FaultServer, framing: str, body: bytes) -> None:
    ids = {style: new_id() for style in STYLES}
    wires = [server.send("POST", f"/read/{style}?id={who}", framing, body=body) for style, who in ids.items()]
    assert server.get("/ping").text == "pong"
    for wire in wires:
        with wire:
            assert read_answer(wire, "POST").status == 408
    for who in ids.values():
        server.check_torn_down(who, "NoneType", "RequestTimeout")


@pytest.mark.parametrize("style", STYLES)
def test_06_chunked_without_an_end_flows(server: FaultServer, style: str) -> None:
    """413 past MAX_CONTENT_LENGTH, and memory does not grow with what is sent. (uvicorn reads on, and drops it.)"""
    who = new_id()
    assert server.post(f"/read/{style}?id={who}-before", (), bytes(MIB)).status == 200
    before = server.resident(f"{who}-before")
    with server.send("POST", f"/read/{style}?id={who}", "Transfer-Encoding: chunked") as wire:
        flood(wire, chunk(bytes(MIB // 4)), 64 * MIB)
        assert read_answer(wire, "POST").status == 413
    server.check_torn_down(who, "NoneType", "RequestEntityTooLarge")
    assert server.resident(f"{who}-before") - before < 16 * MIB


UPLOADS = {
    "declared": (f"Content-Length: {10 * GIB}", bytes),  # more than MAX_CONTENT_LENGTH
    "chunked": ("Transfer-Encoding: chunked", lambda size: chunk(bytes(size))),
}


@pytest.mark.parametrize("framing", UPLOADS)
@pytest.mark.parametrize("style", STYLES)
def test_17_upload_that_nobody_reads(server: FaultServer, style: str, framing: str) -> None:
    """10 GiB: the client is held back, memory stays flat; the view answers all the same."""
    who = new_id()
    header, make = UPLOADS[framing]
    with server.send("POST", f"/unread/{style}?id={who}", header, body=make(1000)) as wire:
        server.wait_for(who, "pid")
        before = server.resident(who)
        assert flood(wire, make(MIB), 256 * MIB) < 64 * MIB
        assert server.resident(who) - before < 16 * MIB
        server.release(who)
        answer = read_answer(wire, "POST")
    assert (answer.status, answer.text) == (200, "unread")
    server.check_torn_down(who, "NoneType")
