"""Large bodies through uvicorn: seconds, MiB a second, and how much the server's memory grows. Linux.

    python -m benchmarks.big_bodies [MiB, 2048 by default]

Exits with 1 if any row grows by 32 MiB or more.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from asyncflask import Flask, Response, request, send_file

MIB = 1024 * 1024
PIECE = bytes(256 * 1024)
MOST_GROWTH = 32  # MiB
START_SECONDS = 15
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
TAIL = b"\r\n--x--\r\n"

app = Flask(__name__)


@app.post("/raw", stream_body=True)
async def take_raw() -> dict[str, int]:
    size = 0
    async for chunk in request.stream:
        size += len(chunk)
    return {"size": size}


@app.post("/part", stream_body=True)
async def take_part() -> dict[str, int]:
    size = 0
    async for part in request.stream_parts():
        async for chunk in part:
            size += len(chunk)
    return {"size": size}


@app.post("/sync-raw", stream_body=True)
def take_raw_sync() -> dict[str, int]:
    return {"size": sum(map(len, iter(lambda: request.stream.read(len(PIECE)), b"")))}


@app.get("/file")
def give_file() -> Response:
    return send_file(os.environ["BIG_FILE"])


@app.get("/async")
async def give_async() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(_pieces()):
            yield PIECE

    return Response(pieces())


@app.get("/sync")
def give_sync() -> Response:
    def pieces() -> Iterator[bytes]:
        for _ in range(_pieces()):
            yield PIECE

    return Response(pieces())


def _pieces() -> int:
    return os.path.getsize(os.environ["BIG_FILE"]) // len(PIECE)


# The client


def upload(wire: socket.socket, path: str, size: int) -> int:
    """Bytes that the server says it has got."""
    head, tail = (HEAD, TAIL) if path == "/part" else (b"", b"")
    kind = "multipart/form-data; boundary=x" if head else "application/octet-stream"
    length = len(head) + size + len(tail)
    headers = f"Host: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    wire.sendall(f"POST {path} HTTP/1.1\r\n{headers}".encode())
    wire.sendall(head)
    for _ in range(size // len(PIECE)):
        wire.sendall(PIECE)
    wire.sendall(tail)
    answer = b""
    while b"}" not in answer:
        answer += _receive(wire)
    return int(answer.rpartition(b":")[2].strip(b" }\n"))


def download(wire: socket.socket, path: str, size: int) -> int:
    """Bytes of the body, its framing included."""
    wire.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    buffer, received = bytearray(MIB), 0
    while count := wire.recv_into(buffer):
        received += count
    return received


def _receive(wire: socket.socket) -> bytes:
    data = wire.recv(65536)
    if not data:
        raise ConnectionError("The server closed the connection.")
    return data


ROWS: tuple[tuple[str, str, Callable[[socket.socket, str, int], int]], ...] = (
    ("upload, async for chunk in request.stream", "/raw", upload),
    ("upload, async for part in request.stream_parts()", "/part", upload),
    ("upload, request.stream.read() in a sync view", "/sync-raw", upload),
    ("download, send_file", "/file", download),
    ("download, async generator", "/async", download),
    ("download, sync generator", "/sync", download),
)


def memory_of(pid: int, key: str) -> float:
    """VmRSS or VmHWM (the peak) of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def connect(port: int) -> socket.socket:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def measure(port: int, pid: int, path: str, transfer: Callable[[socket.socket, str, int], int], size: int) -> t.Any:
    """Seconds and growth in MiB of one transfer, after a small one that makes what is made once."""
    for total in (len(PIECE), size):
        with connect(port) as wire:
            before = memory_of(pid, "VmRSS")
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew: proc_pid_clear_refs(5)
            start = time.perf_counter()
            count = transfer(wire, path, total)
            seconds = time.perf_counter() - start
    if count < size:
        raise RuntimeError(f"{path}: {count} of {size} bytes")
    return seconds, memory_of(pid, "VmHWM") - before


def run(mib: int) -> int:
    worst = 0.0
    with tempfile.NamedTemporaryFile() as file, socket.socket() as listener:
        file.truncate(mib * MIB)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port, fd = listener.getsockname()[1], listener.fileno()
        options = f"uvicorn benchmarks.big_bodies:app --fd {fd} --log-level error".split()
        environment = {**os.environ, "BIG_FILE": file.name}
        server = subprocess.Popen([sys.executable, "-m", *options], pass_fds=[fd], env=environment)
        try:
            print(f"| {mib} MiB | s | MiB/s | memory |\n|---|---|---|---|")
            for title, path, transfer in ROWS:
                seconds, growth = measure(port, server.pid, path, transfer, mib * MIB)
                worst = max(worst, growth)
                print(f"| {title} | {seconds:.1f} | {mib / seconds:.0f} | +{growth:.1f} MiB |", flush=True)
        finally:
            server.terminate()
            server.wait()
    return int(worst >= MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]) if len(sys.argv) > 1 else 2048))
