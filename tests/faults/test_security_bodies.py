"""Floods of forms and bodies. The sender is the client; what it may cost is bounded."""

from __future__ import annotations

import asyncio
import gzip
import io
import threading
import time
import tracemalloc
import typing as t

import pytest
from edge import Exchange, post
from fuzz.faces import Answer, Question, ask_asgi, ask_wsgi
from security import ask, both_faces, is_linear, make_app, measure

from asyncflask import Flask, request

MIB = 2**20
PIECE = 64 * 1024
URLENCODED = (b"content-type", b"application/x-www-form-urlencoded")
MULTIPART = (b"content-type", b"multipart/form-data; boundary=b")
VIEWS = ("form", "async-form", "parts", "async-parts")
both_views = pytest.mark.parametrize("view", VIEWS)


@pytest.fixture
def app() -> Flask:
    app = make_app()

    @app.post("/form")
    def form() -> dict[str, int]:
        return {"fields": len(request.form), "size": sum(len(file.read()) for file in request.files.values())}

    @app.post("/async-form")
    async def async_form() -> dict[str, int]:
        return form()

    @app.post("/parts")
    def parts() -> dict[str, int]:
        seen = [len(chunk) for part in request.stream_parts() for chunk in (part if part.filename else [part.read()])]
        return {"size": sum(seen)}

    @app.post("/async-parts", stream_body=True)
    async def async_parts() -> dict[str, int]:
        size = 0
        async for part in request.stream_parts():
            if part.filename is None:
                size += len(await part.read())
            else:
                async for chunk in part:
                    size += len(chunk)
        return {"size": size}

    @app.post("/chunks")
    def chunks() -> dict[str, int]:
        return {"size": sum(len(chunk) for part in request.stream_parts() for chunk in part)}

    @app.post("/async-chunks", stream_body=True)
    async def async_chunks() -> dict[str, int]:
        return {"size": sum([len(chunk) async for part in request.stream_parts() async for chunk in part])}

    @app.post("/raw")
    async def raw() -> bytes:
        return request.get_data()

    return app


def make_part(name: str, data: bytes, filename: str = "") -> bytes:
    more = f'; filename="{filename}"' if filename else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def send(face: str, app: Flask, view: str, body: bytes, kind: tuple[bytes, bytes] = MULTIPART) -> Answer:
    return ask(face, app, f"/{view}", kind, body=body, cut=PIECE)


# CVE-2023-25577, CVE-2023-30798, CVE-2024-47874


@both_faces
@both_views
def test_many_parts(app: Flask, face: str, view: str) -> None:
    few, many = (b"".join(make_part(f"n{i}", b"") for i in range(count)) + b"--b--" for count in (900, 5_000))
    assert send(face, app, view, few).status == 200
    assert send(face, app, view, many).status == 413


class Endless(io.RawIOBase):
    """A body that is made as it is read, so that only what the application keeps takes memory."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.left = head, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        piece = (self.head or bytes(min(len(buffer), self.left, PIECE)))[: len(buffer)]
        self.head, self.left = self.head[len(piece) :], self.left - len(piece) * (not self.head)
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("view", [*VIEWS, "chunks", "async-chunks"])
@pytest.mark.parametrize("face", ["wsgi", "asgi"])
def test_field_of_50_mib(app: Flask, face: str, view: str) -> None:
    """Memory stays bounded, and the answer is 413; also where a view takes the field piece by piece."""
    head = make_part("field", b"")[:-2]
    send(face, app, view, head + b"x\r\n--b--")  # what is imported or kept at first use
    tracemalloc.start()
    try:
        answer = ask_endlessly(face, app, f"/{view}", head, 50 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status == 413
    assert peak < 8 * MIB


def ask_endlessly(face: str, app: Flask, path: str, head: bytes, size: int) -> Answer:
    body = Endless(head, size)
    length = (b"content-length", str(len(head) + size).encode())
    if face == "wsgi":
        return ask_wsgi(app, Question(path, headers=[MULTIPART, length], method="POST"), io.BufferedReader(body))
    pieces = (piece for piece in iter(lambda: body.read(PIECE), b""))
    return asyncio.run(ask_asgi(app, Question(path, headers=[MULTIPART, length], method="POST"), pieces))


# CVE-2023-46136, CVE-2024-49767


@both_faces
@both_views
@pytest.mark.parametrize("data", [b"\r", b"\n", b"\r\n", b"\r\n--", b"\r\n--b\r", b"-", b"--b", b"\n--bx", b"x--b\r"])
@pytest.mark.blocks_loop("a flood of bytes in one piece is one step")
def test_8_mib_of_what_could_begin_a_boundary(app: Flask, face: str, view: str, data: bytes) -> None:
    body = make_part("file", data * (8 * MIB // len(data)), "f.bin") + b"--b--"
    begun = time.process_time()
    answer = send(face, app, view, body)
    if data != b"\r\n--b\r":
        assert answer.status == 200
    assert time.process_time() - begun < 1


@both_faces
@both_views
def test_boundaries_of_20_000_bytes(app: Flask, face: str, view: str) -> None:
    """They differ from form to form, and each form has delimiters that are none: nothing is made of them, or kept."""
    head = b'--%b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n'
    begun = time.process_time()
    for number in range(10):
        boundary = b"%d" % number + b"a" * 20_000
        body = head % boundary + (b"\r\n--" + boundary + b"x") * 32 + b"\r\n--" + boundary + b"--"
        kind = (b"content-type", b"multipart/form-data; boundary=" + boundary)
        assert send(face, app, view, body, kind).status == (400 if "parts" in view else 200)
    assert time.process_time() - begun < 0.5


@both_faces
@pytest.mark.parametrize("data", [b"\r", b"--b ", b"Content-Type: text/plain\r\n", b"x: y\r\n z\r\n"])
@both_views
def test_endless_head_of_a_part(app: Flask, face: str, view: str, data: bytes) -> None:
    """Before the first part, and in a part's headers."""
    for start in (b"", b"--b\r\n"):
        begun = time.process_time()
        status = send(face, app, view, start + data * (4 * MIB // len(data))).status
        # Two line ends are the end of the headers; and a form that is malformed is empty, as in Flask.
        assert status in (400, 413) or (data, status) == (b"\r", 200)
        assert time.process_time() - begun < 1


@both_faces
@pytest.mark.parametrize("view", VIEWS[:2])
def test_million_urlencoded_fields(app: Flask, face: str, view: str) -> None:
    """Werkzeug does not bound them (3.1.9)."""
    assert send(face, app, view, b"a=1&b=2", URLENCODED).status == 200
    body = b"a=&" * 1_000_000
    assert send(face, app, view, body, URLENCODED).status == 413
    chunked = Question(f"/{view}", headers=[URLENCODED], method="POST")
    if face == "asgi":
        pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
        assert asyncio.run(ask_asgi(app, chunked, pieces)).status == 413


@both_faces
def test_urlencoded_form_within_the_limit_takes_linear_time(app: Flask, face: str) -> None:
    app.config["MAX_FORM_MEMORY_SIZE"] = None
    for word in (b"a=&", b"%", b"+", b"a", b"&"):
        assert is_linear(lambda size, word=word: send(face, app, "form", word * size, URLENCODED), 50_000)


# CVE-2024-24762


@both_faces
@pytest.mark.parametrize("options", [rb'; !="' + b"\\" * 65536, b"; a" * 20_000, b";" * 65536, b'; a*="' * 10_000])
def test_options_of_the_content_type(app: Flask, face: str, options: bytes) -> None:
    for kind in (URLENCODED, MULTIPART):
        header = (kind[0], kind[1] + options)
        assert measure(lambda header=header: send(face, app, "form", b"a=1", header), 1) < 0.5
        assert send(face, app, "form", b"a=1", header).status < 500


# Lengths


@both_faces
@pytest.mark.parametrize("length", ["-5", "+5", "5, 5", "0x5", "5.0", "five", "\u0665", "5" * 5_000, "-0", "1_0"])
@pytest.mark.parametrize("view", ["raw", "form"])
def test_content_length_that_is_none(app: Flask, face: str, view: str, length: str) -> None:
    raw = length.encode("utf-8")
    question = Question(f"/{view}", headers=[URLENCODED, (b"content-length", raw)], method="POST")
    answer = ask_wsgi(app, question) if face == "wsgi" else asyncio.run(ask_asgi(app, question))
    assert answer.status == 400


@pytest.mark.parametrize("lengths", [("5", "5"), ("5", "6"), ("6", "5")])
async def test_two_content_lengths(app: Flask, lengths: tuple[str, str]) -> None:
    """Servers refuse them; one that does not must not have us believe either."""
    exchange = Exchange("POST", "/raw", headers=[("Content-Length", length) for length in lengths], pieces=[b"hello"])
    assert (await exchange.run(app)).status == 400


# CVE-2025-54121


async def test_spooling_does_not_block_the_loop(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MiB, of which all goes to the disk: not from the loop's thread, which is never busy for 50 ms."""
    writers: set[int] = set()

    class Noted(io.BytesIO):
        def writelines(self, pieces: t.Any) -> None:
            writers.add(threading.get_ident())

        def write(self, piece: t.Any) -> int:
            writers.add(threading.get_ident())
            return len(piece)

    monkeypatch.setattr("asyncflask.body.TemporaryFile", Noted)

    @app.post("/size")
    async def size() -> str:
        return str(len(request.stream.read(1)))

    pieces = [bytes(PIECE)] * (100 * MIB // PIECE)
    gap = Gap()
    watching = asyncio.create_task(gap.watch())
    exchange = await post(app, "/size", *pieces)
    watching.cancel()
    assert exchange.status == 200
    assert writers and threading.get_ident() not in writers
    assert gap.longest < 0.05


class Gap:
    """The most time of the processor that the loop's thread took between two turns."""

    longest = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


# Compression


@both_faces
def test_nothing_is_decompressed(app: Flask, face: str) -> None:
    bomb = gzip.compress(bytes(MIB))
    answer = ask(face, app, "/raw", (b"content-encoding", b"gzip"), body=bomb)
    assert (answer.status, answer.body == bomb) == (200, True)
