"""send_file: by the server where it offers that, else in large pieces off the loop; ranges, conditions and faults."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import h11
import pytest
from edge import Exchange, Message, get
from live import ASGI, LiveServer, serve_live
from live_site import PIECE, SIZE

from asyncflask import Flask, Response, request, send_file, send_from_directory

STYLES = ("sync", "async")
CHUNK = 256 * 1024
WHOLE = (PIECE * (SIZE // len(PIECE) + 1))[:SIZE]
RANGES = [
    *(("0-0", 0, 1), ("0-", 0, SIZE), (f"{SIZE - 1}-", SIZE - 1, SIZE), ("-1", SIZE - 1, SIZE)),
    *(("-1000000", SIZE - 1_000_000, SIZE), (f"-{SIZE - 1}", 1, SIZE), (f"5-{SIZE * 2}", 5, SIZE)),
    # around the pieces in which a file is read
    *((f"{CHUNK - 1}-{CHUNK}", CHUNK - 1, CHUNK + 1), (f"{CHUNK}-{2 * CHUNK - 1}", CHUNK, 2 * CHUNK)),
    *((f"0-{CHUNK - 1}", 0, CHUNK), (f"1-{2 * CHUNK}", 1, 2 * CHUNK + 1), ("1000001-2999999", 1_000_001, 3_000_000)),
]
# Several ranges, and one that cannot be, as Werkzeug has them.
REFUSED = (f"{SIZE}-", "5-4", "-0", "a-b", "٣-٤".encode().decode("latin-1"), "0-1,5-6", "0-0,-1", f"-{SIZE * 2}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "big.bin").write_bytes(WHOLE)
    return tmp_path


@pytest.fixture
def app(folder: Path) -> Flask:
    app = Flask("site", root_path=str(folder), static_folder=".", static_url_path="/static")
    app.testing = True
    app.config["WORKER_THREADS"] = 4
    return app


def add(app: Flask, view: t.Callable[[], t.Any], style: str = "sync", rule: str = "/") -> None:
    async def async_view() -> t.Any:
        return view()

    app.add_url_rule(rule, rule, async_view if style == "async" else view)


def read(path: str) -> bytes:
    return Path(path).read_bytes()


class FileExchange(Exchange):
    """With a server that sends files by itself."""

    path: str | None = None

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, extensions={"http.response.pathsend": {}}, **kwargs)

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.pathsend":
            return await super().send(message)
        assert len(self.messages) == 1 and self.path is None
        self.path = message["path"]
        data = read(message["path"])
        await super().send({"type": "http.response.body", "body": data, "more_body": False})


async def fetch(app: Flask, path: str = "/", method: str = "GET", **headers: str) -> FileExchange:
    exchange = FileExchange(method, path, headers=[(name.replace("_", "-"), value) for name, value in headers.items()])
    await exchange.run(app)
    return exchange


# By the server


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("conditional", [True, False])
async def test_server_sends_the_whole_file(app: Flask, folder: Path, style: str, conditional: bool) -> None:
    files = []

    def view() -> Response:
        response = send_file("big.bin", conditional=conditional)
        files.append(response.response.file)  # type: ignore[attr-defined]  # a file wrapper
        return response

    add(app, view, style)
    answer = await fetch(app)
    assert answer.path == str(folder / "big.bin")
    assert (answer.status, answer.body == WHOLE, answer.headers["content-length"]) == (200, True, str(SIZE))
    assert files[0].closed


async def test_static_files_are_sent_by_the_server(app: Flask, folder: Path) -> None:
    answer = await fetch(app, "/static/big.bin")
    assert answer.path is not None and Path(answer.path) == folder / "big.bin"
    again = await fetch(app, "/static/big.bin", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body, again.path) == (304, b"", None)


@pytest.mark.parametrize("style", STYLES)
async def test_head_ranges_and_conditions_are_ours(app: Flask, style: str) -> None:
    add(app, lambda: send_file("big.bin", etag="tag"), style)
    head = await fetch(app, method="HEAD")
    assert (head.status, head.body, head.path, head.headers["content-length"]) == (200, b"", None, str(SIZE))
    part = await fetch(app, Range="bytes=5-9")
    assert (part.status, part.body, part.path) == (206, WHOLE[5:10], None)
    whole = await fetch(app, Range="bytes=5-9", If_Range='"other"')
    assert (whole.status, whole.body == WHOLE) == (200, True) and whole.path is not None


def make_special(kind: str, folder: Path) -> t.Any:
    """Files that only we can send."""
    file = (folder / "big.bin").open("rb")
    if kind == "begun":
        file.seek(10)
        return file, WHOLE[10:]
    if kind == "memory":
        file.close()
        return io.BytesIO(b"memory"), b"memory"
    if kind == "removed":
        path = folder / "gone.bin"
        path.write_bytes(WHOLE)
        gone = path.open("rb")
        path.unlink()
        file.close()
        return gone, WHOLE
    if kind == "replaced":
        (folder / "new.bin").write_bytes(b"x" * SIZE)
        os.replace(folder / "new.bin", folder / "big.bin")
        return file, WHOLE
    file.close()
    number = os.open(folder / "big.bin", os.O_RDONLY)
    return os.fdopen(number, "rb"), WHOLE  # without a name


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["begun", "memory", "removed", "replaced", "number"])
async def test_files_that_the_server_could_not_send(app: Flask, folder: Path, kind: str, style: str) -> None:
    expected = []

    def view() -> Response:
        file, body = make_special(kind, folder)
        expected.append(body)
        response = send_file(file, mimetype="text/plain")
        response.content_length = len(body)
        return response

    add(app, view, style)
    answer = await fetch(app)
    assert answer.path is None and answer.body == expected[0]


async def test_file_that_is_removed_on_close(app: Flask, folder: Path) -> None:
    """The server may open it later than `send` returns."""

    def view() -> Response:
        response = send_file("big.bin")
        response.call_on_close((folder / "big.bin").unlink)
        return response

    add(app, view)
    answer = await fetch(app)
    assert answer.path is None and answer.body == WHOLE
    assert not (folder / "big.bin").exists()


async def test_file_of_another_length(app: Flask) -> None:
    def view() -> Response:
        response = send_file("big.bin", conditional=False)
        response.content_length = 10
        return response

    add(app, view)
    answer = await fetch(app)
    assert answer.path is None and answer.body == WHOLE[:10]


# By us


@pytest.mark.parametrize("style", STYLES)
async def test_large_pieces_off_the_loop(app: Flask, style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)

    add(app, lambda: send_file(File(WHOLE), "text/plain"), style)
    answer = await get(app)
    assert answer.body == WHOLE and threading.get_ident() not in threads
    assert {len(message["body"]) for message in answer.messages[1:-2]} == {CHUNK}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("asked", "start", "end"), RANGES)
async def test_ranges(app: Flask, asked: str, start: int, end: int, style: str) -> None:
    add(app, lambda: send_file("big.bin"), style)
    answer = await get(app, headers=[("Range", f"bytes={asked}")])
    assert answer.status == 206 and answer.body == WHOLE[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", REFUSED)
async def test_refused_ranges(app: Flask, asked: str) -> None:
    add(app, lambda: send_file("big.bin"))
    answer = await get(app, headers=[("Range", f"bytes={asked}")])
    assert (answer.status, answer.headers.get("content-range")) == (416, f"bytes */{SIZE}")


async def test_many_ranges_are_refused_in_no_time(app: Flask) -> None:
    add(app, lambda: send_file("big.bin"))
    ranges = ",".join(f"{number}-{number}" for number in range(50_000))
    for asked in (ranges, "-" * 50_000, "0-," * 50_000):
        begun = time.process_time()
        answer = await get(app, headers=[("Range", f"bytes={asked}")])
        assert answer.status == 416
        assert time.process_time() - begun < 1


async def test_async_view_may_have_the_file_opened_in_a_thread(app: Flask) -> None:
    opened = []

    def open_it() -> Response:
        opened.append(threading.get_ident())
        return send_file("big.bin", etag=request.args["tag"])

    @app.get("/")
    async def view() -> Response:
        return t.cast(Response, await app.sync_to_async(open_it)())

    answer = await get(app, "/?tag=a")
    assert answer.body == WHOLE and answer.headers["etag"] == '"a"'
    assert threading.get_ident() not in opened


# Faults


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_no_more_files_can_be_opened(
    app: Flask, style: str, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> t.NoReturn:
        raise OSError(number, os.strerror(number))

    app.testing = False
    add(app, lambda: send_file("big.bin"), style)
    monkeypatch.setattr("werkzeug.utils.open", fail, raising=False)
    for path in ("/", "/static/big.bin"):
        caplog.clear()
        answer = await get(app, path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
    monkeypatch.undo()
    assert (await get(app)).status == 200


async def test_file_that_goes_away_before_it_is_opened(
    app: Flask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(path: str, mode: str) -> t.NoReturn:
        raise FileNotFoundError(errno.ENOENT, "gone", path)

    app.testing = False
    add(app, lambda: send_file("big.bin"), rule="/trusted")
    add(app, lambda: send_from_directory(folder, "big.bin"), rule="/untrusted")
    monkeypatch.setattr("werkzeug.utils.open", vanish, raising=False)
    assert (await get(app, "/static/big.bin")).status == 404
    assert (await get(app, "/untrusted")).status == 404
    assert (await get(app, "/trusted")).status == 500  # a path that the application vouches for


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("asked", [None, "bytes=5-"])
async def test_file_that_is_cut_short(app: Flask, folder: Path, style: str, asked: str | None) -> None:
    """Never a clean end: the client would take the part for the whole."""

    def view() -> Response:
        response = send_file("big.bin")
        os.truncate(folder / "big.bin", SIZE // 2)
        return response

    add(app, view, style)
    for exchange in (Exchange(headers=[("Range", asked)] if asked else []), FileExchange()):
        (folder / "big.bin").write_bytes(WHOLE)
        with pytest.raises(RuntimeError, match="The body ended after"):
            async with asyncio.timeout(5):
                await app(exchange.scope, exchange.receive, exchange.send)  # type: ignore[arg-type,call-arg,func-returns-value,misc]
        assert not exchange.complete
        assert 0 < len(exchange.body) <= SIZE // 2


@pytest.mark.parametrize("style", STYLES)
async def test_file_that_grows(app: Flask, folder: Path, style: str) -> None:
    def view() -> Response:
        response = send_file("big.bin")
        with (folder / "big.bin").open("ab") as file:
            file.write(b"more" * 1000)
        return response

    add(app, view, style)
    answer = await fetch(app)
    assert answer.path is None and answer.body == WHOLE


# Real servers


@pytest.fixture(scope="module", params=[*ASGI, "gunicorn-sync"])
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    with serve_live(request.param) as server:
        yield server


@pytest.mark.parametrize("style", STYLES)
def test_files_on_a_server(server: LiveServer, style: str) -> None:
    target = f"/file/{style}"
    whole = server.get(target)
    assert (whole.status, whole.body == WHOLE, whole.get("Content-Length")) == (200, True, str(SIZE))
    head = server.request("HEAD", target)
    assert (head.status, head.body, head.get("Content-Length")) == (200, b"", str(SIZE))
    assert server.get(target, [("If-None-Match", '"big"')]).status == 304
    for asked, start, end in RANGES:
        part = server.get(target, [("Range", f"bytes={asked}"), ("If-Range", '"big"')])
        assert (part.status, part.body == WHOLE[start:end]) == (206, True), asked
        assert part.get("Content-Range") == f"bytes {start}-{end - 1}/{SIZE}"
    for asked in ("5-4", f"{SIZE}-", "0-1,5-6"):
        assert server.get(target, [("Range", f"bytes={asked}")]).status == 416
    assert server.get(target, [("Range", "bytes=0-1"), ("If-Range", '"other"')]).status == 200


@pytest.mark.parametrize("kind", ["removed", "removed-after", "long"])
def test_changed_files_on_a_server(server: LiveServer, kind: str) -> None:
    answer = server.get(f"/file/{kind}")
    assert answer.status == 200 and answer.body == WHOLE


def test_file_that_is_cut_short_on_a_server(server: LiveServer) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        server.get("/file/short")
    assert server.get("/file/sync").status == 200


def test_granian_is_the_server_that_sends_files(server: LiveServer) -> None:
    assert ("http.response.pathsend" in server.get("/extensions").json) == (server.name == "granian-asgi")
