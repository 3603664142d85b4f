"""Requests a second, by `wrk` where it is installed, else by a simple loader on raw asyncio streams."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from time import perf_counter

from .drivers import BROWSER_HEADERS

CONNECTIONS = 32
LONG_ENOUGH = 10  # seconds for a first answer
HEADERS = tuple(header for header in BROWSER_HEADERS if header[0] not in ("host", "connection"))


class LoadFailed(Exception):
    """The server answered something else than 200, or not at all."""


def name_loader() -> str:
    return "wrk" if shutil.which("wrk") else "the bundled loader"


def load(port: int, path: str, seconds: int, connections: int = CONNECTIONS) -> float:
    if shutil.which("wrk"):
        return load_with_wrk(port, path, seconds, connections)
    return asyncio.run(load_alone(port, path, seconds, connections))


def load_with_wrk(port: int, path: str, seconds: int, connections: int) -> float:
    headers = [part for name, value in HEADERS for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *headers, f"http://127.0.0.1:{port}{path}"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None or "Non-2xx" in output:
        raise LoadFailed(f"wrk saw errors\n{output}")
    if float(rate[1]) > 0:
        return float(rate[1])
    if seconds >= LONG_ENOUGH:
        raise LoadFailed(f"There was no answer.\n{output}")
    return load_with_wrk(port, path, LONG_ENOUGH, connections)  # on a busy machine the first may take their time


async def load_alone(port: int, path: str, seconds: float, connections: int = CONNECTIONS) -> float:
    """Kept-alive connections, each with one request at a time."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"host: 127.0.0.1:{port}",
        *(f"{name}: {value}" for name, value in HEADERS),
    ]
    request = "\r\n".join([*lines, "", ""]).encode()
    start = perf_counter()
    keep_asking = (ask_until(port, request, start + seconds) for _ in range(connections))
    counts = await asyncio.gather(*keep_asking)
    return sum(counts) / (perf_counter() - start)


async def ask_until(port: int, request: bytes, end: float) -> int:
    count = 0
    while perf_counter() < end:
        count += await ask_on_one_connection(port, request, end)
    return count


async def ask_on_one_connection(port: int, request: bytes, end: float) -> int:
    """How many answers came before the server closed, or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count, kept = 0, True
    try:
        while kept and perf_counter() < end:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"content-length: *(\d+)", head)
            if not head.startswith(b"http/1.1 200") or length is None:
                raise LoadFailed(head.partition(b"\r\n")[0].decode())
            await reader.readexactly(int(length[1]))
            count, kept = count + 1, b"connection: close" not in head
    finally:
        writer.close()
    return count
