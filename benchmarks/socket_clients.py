"""The clients of `benchmarks.sockets`, a process each: `-m benchmarks.socket_clients KIND PORT COUNT SECONDS HOST`.

They speak the protocols by hand, with bytes that are ready beforehand, so that the server is what limits. Each prints a
line of JSON when it is ready or has finished, and `hold` then waits for the end of its input.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import sys
import time

HANDSHAKE = (
    "GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept-Language: en-GB\r\nOrigin: http://127.0.0.1\r\n\r\n"
).encode()
TEXT = b"a message of thirty-two bytes..."
FRAME = bytes([0x81, 0x80 | len(TEXT)]) + bytes(4) + TEXT  # masked with zeros (RFC 6455 5.3)
ECHO = bytes([0x81, len(TEXT)]) + TEXT
AT_ONCE = 50
EVENT = re.compile(rb"data: (\d+) ([\d.]+)\n\n")


def hold(port: int, count: int, seconds: float, host: str) -> None:
    """`count` open websockets, each of which has echoed once."""
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        sockets += open_websockets(port, min(AT_ONCE, count - len(sockets)), host)
    print(json.dumps({"open": len(sockets)}), flush=True)
    sys.stdin.read()


def open_websockets(port: int, count: int, host: str) -> list[socket.socket]:
    sockets = [socket.create_connection(("127.0.0.1", port), 30, (host, 0)) for _ in range(count)]
    for message, end in ((HANDSHAKE, b"\r\n\r\n"), (FRAME, ECHO)):
        for client in sockets:
            client.sendall(message)
        for client in sockets:
            read_to(client, end)
    return sockets


def read_to(client: socket.socket, end: bytes) -> None:
    data = b""
    while not data.endswith(end):
        piece = client.recv(4096)
        if not piece:
            raise SystemExit(f"the server closed the connection: {data!r}")
        data += piece


class Echoer(asyncio.Protocol):
    """Sends the next message when the last one has come back."""

    def __init__(self, stopped: list[bool]) -> None:
        self.stopped = stopped
        self.count = 0
        self.is_open = False
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = ECHO if self.is_open else b"\r\n\r\n"
        if self.data.endswith(end):
            self.count += self.is_open
            self.is_open, self.data = True, b""
            if not self.stopped:
                self.transport.write(FRAME)


async def echo(port: int, count: int, seconds: float, host: str) -> None:
    """The echoes a second of `count` connections at once."""
    loop, stopped = asyncio.get_running_loop(), []
    pairs = [await loop.create_connection(lambda: Echoer(stopped), "127.0.0.1", port) for _ in range(count)]
    await asyncio.sleep(0.2)
    before, begun = sum(echoer.count for _, echoer in pairs), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(echoer.count for _, echoer in pairs) - before) / (time.perf_counter() - begun)
    stopped.append(True)
    await asyncio.sleep(0.2)  # what is on its way may arrive: a lost client fills some peers' logs
    print(json.dumps({"rate": rate}), flush=True)


class Listener(asyncio.Protocol):
    """One client of server-sent events: their numbers, which must be in order, and how late each came."""

    def __init__(self, path: str) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
        self.ended = asyncio.get_running_loop().create_future()
        self.rest = b""
        self.next = 0
        self.in_order = True
        self.delays: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now, data, end = time.monotonic(), self.rest + data, 0
        for event in EVENT.finditer(data):
            self.in_order &= int(event[1]) == self.next
            self.next += 1
            self.delays.append(now - float(event[2]))
            end = event.end()
        self.rest = data[end:]
        if self.rest.endswith(b"0\r\n\r\n"):
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def listen(port: int, count: int, seconds: float, host: str) -> None:
    """`count` clients for as many events as `seconds` hold."""
    from .peers.sockets import RATE

    loop, events = asyncio.get_running_loop(), int(seconds * RATE)
    listeners = []
    for _ in range(count):
        _, listener = await loop.create_connection(lambda: Listener(f"/events/{events}"), "127.0.0.1", port)
        listeners.append(listener)
    await asyncio.wait([listener.ended for listener in listeners], timeout=2 * seconds + 20)
    delays = sorted(delay for listener in listeners for delay in listener.delays)
    lost = sum(events - listener.next if listener.in_order else events for listener in listeners)
    at = {name: delays[int(len(delays) * share)] * 1000 for name, share in (("p50", 0.5), ("p99", 0.99))}
    print(json.dumps({"received": len(delays), "lost": lost, **at}), flush=True)


def main() -> None:
    kind, port, count, seconds, host = sys.argv[1:]
    arguments = int(port), int(count), float(seconds), host
    if kind == "hold":
        hold(*arguments)
    else:
        asyncio.run({"echo": echo, "listen": listen}[kind](*arguments))
        sys.stdout.flush()
        os._exit(0)  # thousands of connections need no farewell


if __name__ == "__main__":
    main()
