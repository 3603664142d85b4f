"""Sessions in stores: the interface on a store in memory, Redis and SQLite as they are, faults, real servers."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from edge import get, make_scope
from faces import FACES, Answer, AsgiClient, WsgiClient, both_faces
from redis_server import RedisServer, start_redis
from test_cycles import Uncollected
from werkzeug.datastructures import CallbackDict

from asyncflask import Flask, session, websocket
from asyncflask.redis_store import RedisStore
from asyncflask.sessions import SessionInterface, SessionMixin
from asyncflask.sqlite_store import SQLiteStore
from asyncflask.stored_sessions import SessionTooLarge, Store, StoredSession, StoredSessionInterface

ROOT = Path(__file__).parent.parent
LIFETIME = 100


class MemoryStore:
    """Notes what it is asked. `broken` methods raise; `on_load` runs after a load."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.lifetimes: list[int] = []
        self.on_load: Callable[[], object] | None = None

    def note(self, name: str, lifetime: int | None = None) -> None:
        self.calls.append(name)
        if lifetime is not None:
            self.lifetimes.append(lifetime)
        if name in self.broken:
            raise OSError(f"{name} is broken")

    async def load(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        self.note("load")
        value = self.values.get(key)
        if self.on_load is not None:
            self.on_load()
        return value

    async def save(self, key: str, value: bytes, lifetime: int) -> None:
        await asyncio.sleep(0)
        self.note("save", lifetime)
        self.values[key] = value

    async def replace(self, key: str, value: bytes, lifetime: int) -> None:
        await asyncio.sleep(0)
        self.note("replace", lifetime)
        if key in self.values:
            self.values[key] = value

    async def touch(self, key: str, lifetime: int) -> None:
        await asyncio.sleep(0)
        self.note("touch", lifetime)

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self.note("delete")
        self.values.pop(key, None)

    def take_calls(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


def add_views(app: Flask) -> None:
    """Half of them sync, half of them async."""

    @app.get("/nothing")
    def nothing() -> str:
        return ""

    @app.get("/nothing-async")
    async def nothing_async() -> str:
        return ""

    @app.get("/read")
    async def read() -> str:
        return str(session.get("count"))

    @app.get("/count")
    def count() -> dict[str, t.Any]:
        session["count"] = session.get("count", 0) + 1
        return {"count": session["count"], "pid": os.getpid()}

    @app.get("/keep")
    async def keep() -> str:
        session["count"] = 1
        session.permanent = True
        return ""

    @app.get("/regenerate")
    async def regenerate() -> str:
        session.regenerate()
        return ""

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return ""

    @app.get("/fill/<int:size>")
    async def fill(size: int) -> str:
        session["data"] = "x" * size
        return ""


def make_app(store: Store, config: dict[str, t.Any] | None = None, **options: t.Any) -> Flask:
    app = Flask("stored", root_path=str(ROOT), static_folder=None)
    app.config.update({"PERMANENT_SESSION_LIFETIME": LIFETIME, **(config or {})})
    app.session_interface = StoredSessionInterface(store, **options)
    add_views(app)
    return app


def cookie_of(answer: Answer) -> str | None:
    """The value of the session's cookie that is set; "" where it is deleted."""
    lines = [line for line in answer.headers_of("Set-Cookie") if line.startswith("session=")]
    assert len(lines) < 2
    return lines[0].partition(";")[0].removeprefix("session=") if lines else None


def ask_with(client: WsgiClient, path: str, session_id: str) -> Answer:
    """One request with this cookie, whatever the client has."""
    app = client.app if isinstance(client, AsgiClient) else client.client.application
    other = type(client)(app)
    if not isinstance(other, AsgiClient):
        other.client = app.test_client(use_cookies=False)  # which would replace the header
    return other.get(path, headers={"Cookie": f"session={session_id}"})


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=list(FACES))
def client(request: pytest.FixtureRequest, memory: MemoryStore) -> WsgiClient:
    return FACES[request.param](make_app(memory))


# The interface


def test_without_a_cookie_the_store_is_not_asked(client: WsgiClient, memory: MemoryStore) -> None:
    assert client.get("/nothing").headers_of("Set-Cookie") == []
    assert client.get("/nothing-async").status == 200
    read = client.get("/read")
    assert (read.text, read.header("Vary"), cookie_of(read)) == ("None", "Cookie", None)
    assert client.get("/missing").status == 404
    assert memory.calls == []


def test_life_of_a_session(client: WsgiClient, memory: MemoryStore) -> None:
    first = client.get("/count")
    session_id = cookie_of(first)
    assert session_id is not None and len(session_id) == 43
    assert first.header("Vary") == "Cookie"
    assert memory.take_calls() == ["save"]
    second = client.get("/count")
    assert (second.json["count"], cookie_of(second)) == (2, session_id)
    assert memory.take_calls() == ["load", "replace"]
    assert set(memory.lifetimes) == {LIFETIME}
    assert client.get("/read").text == "2"
    cleared = client.get("/clear")
    assert cookie_of(cleared) == "" and "Max-Age=0" in cleared.headers_of("Set-Cookie")[0]
    assert memory.values == {}
    assert client.get("/read").text == "None"
    assert ask_with(client, "/read", session_id).text == "None"


def test_a_store_never_sees_an_id(client: WsgiClient, memory: MemoryStore) -> None:
    session_id = cookie_of(client.get("/count"))
    (key,) = memory.values
    assert session_id is not None and session_id not in key and session_id.encode() not in memory.values[key]


@pytest.mark.parametrize(
    ("session_id", "is_looked_up"),
    [
        ("A" * 43, True),
        ("A" * 42, False),
        ("A" * 44, False),
        ("A" * 100_000, False),
        ("../" + "A" * 40, False),
        ("ä" * 43, False),
        ('"' + "A" * 41 + '"', False),
        ("A" * 42 + "%00", False),
        ("", False),
    ],
    ids=["unknown", "short", "long", "huge", "path", "not ascii", "quoted", "nul", "empty"],
)
def test_a_foreign_id_is_never_taken_over(
    client: WsgiClient, memory: MemoryStore, session_id: str, is_looked_up: bool
) -> None:
    try:
        session_id.encode("ascii")
    except UnicodeEncodeError:
        session_id = session_id.encode().decode("latin-1")
    answer = ask_with(client, "/count", session_id)
    assert answer.json["count"] == 1
    assert cookie_of(answer) not in (None, "", session_id)
    assert ("load" in memory.calls) is is_looked_up
    assert cookie_of(ask_with(client, "/read", session_id)) is None  # read only: nothing to set


def test_regenerate_keeps_the_data_and_deletes_the_old_id(client: WsgiClient, memory: MemoryStore) -> None:
    old = cookie_of(client.get("/count"))
    new = cookie_of(client.get("/regenerate"))
    assert old is not None and new is not None and old != new
    assert memory.take_calls() == ["save", "load", "save", "delete"]
    assert ask_with(client, "/read", new).text == "1"
    assert ask_with(client, "/read", old).text == "None"
    assert len(memory.values) == 1


def test_regenerate_of_a_new_session() -> None:
    fresh = StoredSession()
    before = fresh.id
    fresh.regenerate()
    assert fresh.new and fresh.modified and fresh.old_ids == [] and fresh.id != before


def test_regenerate_is_refused_where_there_is_no_id() -> None:
    app = Flask("cookie", root_path=str(ROOT))
    app.secret_key = "key"
    with app.test_request_context(), pytest.raises(RuntimeError, match="only sessions of a store"):
        session.regenerate()


@both_faces
def test_cookie_attributes(face: str, memory: MemoryStore) -> None:
    config = {"NAME": "sid", "SECURE": True, "SAMESITE": "Lax", "PATH": "/keep", "DOMAIN": "localhost"}
    app = make_app(memory, {f"SESSION_COOKIE_{name}": value for name, value in config.items()})
    (line,) = FACES[face](app).get("/keep").headers_of("Set-Cookie")
    attributes = {part.partition("=")[0]: part.partition("=")[2] for part in line.split("; ")}
    assert len(attributes.pop("sid")) == 43
    assert attributes.pop("Expires").endswith(" GMT")
    assert attributes == {"Domain": "localhost", "Secure": "", "HttpOnly": "", "Path": "/keep", "SameSite": "Lax"}


@both_faces
@pytest.mark.parametrize("refreshes", [True, False])
def test_sliding_expiry(face: str, memory: MemoryStore, refreshes: bool) -> None:
    client = FACES[face](make_app(memory, {"SESSION_REFRESH_EACH_REQUEST": refreshes}))
    client.get("/keep")
    answers = [client.get("/nothing") for _ in range(3)]
    assert [cookie_of(answer) is not None for answer in answers] == [refreshes] * 3
    assert [answer.header("Vary") for answer in answers] == ["Cookie" if refreshes else None] * 3
    # Not at each request: that would be a write for each.
    assert Counter(memory.calls) == Counter(save=1, load=3, touch=int(refreshes))


def test_a_touch_is_due_again_after_a_part_of_the_lifetime(memory: MemoryStore, monkeypatch: t.Any) -> None:
    now = 1000.0
    monkeypatch.setattr("asyncflask.stored_sessions.monotonic", lambda: now)
    interface = StoredSessionInterface(memory)
    assert [interface._is_time_to_touch("a", 100) for _ in range(2)] == [True, False]
    assert interface._is_time_to_touch("b", 10**6)
    now += 5
    assert interface._is_time_to_touch("a", 100) and not interface._is_time_to_touch("b", 10**6)
    now += 55
    assert interface._is_time_to_touch("b", 10**6)
    for number in range(20_000):
        interface._is_time_to_touch(str(number), 100)
    assert len(interface._touch_again) <= 10_000


def test_a_session_that_is_not_permanent_slides_too(client: WsgiClient, memory: MemoryStore) -> None:
    client.get("/count")
    assert cookie_of(client.get("/nothing")) is None
    assert memory.calls == ["save", "load", "touch"]


@pytest.mark.parametrize(("lifetime", "seconds"), [(timedelta(0), 1), (0.5, 1), (timedelta(days=1, seconds=2), 86402)])
def test_lifetime_is_in_whole_seconds(memory: MemoryStore, lifetime: t.Any, seconds: int) -> None:
    client = FACES["wsgi"](make_app(memory, {"PERMANENT_SESSION_LIFETIME": lifetime}))
    client.get("/count")
    assert memory.lifetimes == [seconds]


@both_faces
def test_size_limit(face: str, memory: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    client = FACES[face](make_app(memory, max_size=1000))
    assert client.get("/fill/900").status == 200
    kept = dict(memory.values)
    answer = client.get("/fill/1000")
    assert answer.status == 500 and cookie_of(answer) is None
    assert memory.values == kept
    (error,) = {record.exc_info[1].__class__ for record in caplog.records if record.exc_info}
    assert error is SessionTooLarge and "max_size=1000" in caplog.text


@both_faces
def test_a_value_that_is_not_serializable_is_no_failure_of_the_store(face: str, memory: MemoryStore) -> None:
    app = make_app(memory, on_failure="fresh")

    @app.get("/object")
    def put() -> str:
        session["object"] = object()
        return ""

    assert FACES[face](app).get("/object").status == 500
    assert memory.values == {}


def test_what_is_not_readable_begins_anew(
    client: WsgiClient, memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/count")
    for value in (b"\xff\xfe", b"{", b"", b"[1]", b'{" t": 5}'):
        memory.values = dict.fromkeys(memory.values, value)
        assert client.get("/read").text == "None"
    assert caplog.text.count("not readable") == 5


def test_tagged_values_survive(memory: MemoryStore) -> None:
    app = make_app(memory)
    client = app.test_client()
    value = {"tuple": (1, b"\x00"), "id": uuid4()}
    with client.session_transaction() as transaction:
        transaction.update(value)
    with client.session_transaction() as transaction:
        assert transaction == value and isinstance(transaction, StoredSession)
        transaction.clear()
    assert memory.values == {}


# Several requests of one session at once


@both_faces
def test_a_session_that_was_deleted_meanwhile_stays_deleted(face: str, memory: MemoryStore) -> None:
    client = FACES[face](make_app(memory))
    client.get("/count")
    memory.on_load = memory.values.clear  # the log-out in another tab
    assert client.get("/count").json["count"] == 2
    assert memory.values == {}


@both_faces
def test_a_request_that_only_reads_overwrites_nothing(face: str, memory: MemoryStore) -> None:
    client = FACES[face](make_app(memory))
    client.get("/count")
    memory.on_load = lambda: memory.values.update(dict.fromkeys(memory.values, b'{"count": 7}'))
    assert client.get("/read").text == "1"
    memory.on_load = None
    assert client.get("/read").text == "7"


# FAULTS: the store dies


def make_faulty_app(store: Store, **options: t.Any) -> tuple[Flask, list[str]]:
    app, seen = make_app(store, **options), []

    @app.teardown_request
    def tear_down(error: BaseException | None) -> None:
        seen.append(f"teardown {type(error).__name__}")

    @app.teardown_appcontext
    async def tear_down_app(error: BaseException | None) -> None:
        seen.append("app teardown")

    @app.errorhandler(500)
    async def handle(error: Exception) -> tuple[str, int]:
        return "sorry", 500

    return app, seen


@both_faces
@pytest.mark.parametrize("path", ["/nothing", "/read", "/missing"])
def test_load_fails(face: str, memory: MemoryStore, path: str) -> None:
    app, seen = make_faulty_app(memory)
    client = FACES[face](app)
    client.get("/count")
    seen.clear()
    memory.broken = {"load"}
    answer = client.get(path)
    assert (answer.status, answer.text, cookie_of(answer)) == (500, "sorry", None)
    assert seen == ["teardown OSError", "app teardown"]
    memory.broken = set()
    assert client.get("/read").text == "1"


@both_faces
@pytest.mark.parametrize("broken", ["save", "replace", "touch", "delete"])
def test_save_fails(face: str, memory: MemoryStore, broken: str) -> None:
    app, seen = make_faulty_app(memory)
    client = FACES[face](app)
    if broken != "save":
        client.get("/keep")
    seen.clear()
    memory.broken = {broken}
    paths = {"save": "/count", "replace": "/count", "touch": "/nothing", "delete": "/clear"}
    answer = client.get(paths[broken])
    # A touch is not tried again for the answer to its failure.
    assert answer.status == 500 and (cookie_of(answer) is None or broken == "touch")
    assert seen == ["teardown OSError", "app teardown"]
    if broken == "save":
        assert memory.values == {}


@both_faces
def test_regenerate_fails_halfway(face: str, memory: MemoryStore) -> None:
    client = FACES[face](make_faulty_app(memory)[0])
    old = cookie_of(client.get("/count"))
    memory.broken = {"delete"}
    answer = client.get("/regenerate")
    assert (answer.status, cookie_of(answer)) == (500, None)
    memory.broken = set()
    assert old is not None and ask_with(client, "/read", old).text == "1"


@both_faces
def test_going_on_without_the_store(face: str, memory: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    client = FACES[face](make_app(memory, on_failure="fresh"))
    session_id = cookie_of(client.get("/count"))
    memory.broken = {"load", "save", "replace", "touch", "delete"}
    for path, text in (("/read", "None"), ("/nothing", "")):
        answer = client.get(path)
        assert (answer.status, answer.text, cookie_of(answer)) == (200, text, None)
    answer = client.get("/count")
    assert (answer.status, cookie_of(answer)) == (200, None)
    assert "The session store failed" in caplog.text
    memory.broken = set()
    assert session_id is not None and ask_with(client, "/read", session_id).text == "1"


@both_faces
def test_log_out_without_the_store_takes_the_cookie(face: str, memory: MemoryStore) -> None:
    client = FACES[face](make_app(memory, on_failure="fresh"))
    client.get("/count")
    memory.broken = {"delete"}
    assert cookie_of(client.get("/clear")) == ""


def test_unknown_policy_is_refused(memory: MemoryStore) -> None:
    with pytest.raises(ValueError, match="on_failure"):
        StoredSessionInterface(memory, on_failure="ignore")  # type: ignore[arg-type]


# What the plan makes of it


@both_faces
def test_an_override_is_called_without_a_cookie_too(face: str, memory: MemoryStore) -> None:
    class ByHeader(StoredSessionInterface):
        async def open_session(self, app: Flask, request: t.Any) -> StoredSession:
            opened = await super().open_session(app, request)
            opened["agent"] = request.headers.get("X-Agent")
            return opened

    app = make_app(memory)
    app.session_interface = ByHeader(memory)

    @app.get("/agent")
    def agent() -> str:
        return session["agent"]

    assert FACES[face](app).get("/agent", headers={"X-Agent": "me"}).text == "me"


def test_a_converter_of_the_users_runs_in_a_thread(memory: MemoryStore) -> None:
    from werkzeug.routing import BaseConverter

    class Slow(BaseConverter):
        def to_python(self, value: str) -> tuple[str, bool]:
            return value, threading.current_thread() is threading.main_thread()

    app = make_app(memory)
    app.url_map.converters["slow"] = Slow

    @app.get("/at/<slow:value>")
    async def at(value: tuple[str, bool]) -> list[t.Any]:
        session["value"] = value[0]
        return [*value]

    client = FACES["asgi"](app)
    for _ in range(2):  # without a cookie, and with it
        assert client.get("/at/home").json == ["home", False]


def test_sync_code_reaches_a_new_session_on_the_loop(memory: MemoryStore) -> None:
    """`with app.test_request_context()` inside of async code: there is nothing to wait for."""
    app = make_app(memory)

    async def main() -> None:
        with app.test_request_context():
            session["count"] = 5
            assert isinstance(session, StoredSession)

    asyncio.run(main())
    assert memory.calls == []


def test_wsgi_without_sessions_needs_no_loop(memory: MemoryStore) -> None:
    code = """
import sys, io
from asyncflask import Flask
from asyncflask.stored_sessions import StoredSessionInterface
app = Flask("app", static_folder=None, root_path=".", instance_path="/nowhere")
app.session_interface = StoredSessionInterface(None)
@app.route("/")
def view(): return "hello"
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80",
    "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO()}
print(b"".join(app(environ, lambda *start: None)), "asyncio" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "b'hello' False", done.stderr


# Websockets


async def converse(app: Flask, path: str, session_id: str | None, *texts: str) -> list[dict[str, t.Any]]:
    events: list[dict[str, t.Any]] = [{"type": "websocket.connect"}]
    events += [{"type": "websocket.receive", "text": text} for text in texts]
    events.append({"type": "websocket.disconnect", "code": 1000})
    sent: list[dict[str, t.Any]] = []

    async def receive() -> dict[str, t.Any]:
        return events.pop(0)

    async def send(message: dict[str, t.Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    if session_id is not None:
        headers.append((b"cookie", f"session={session_id}".encode()))
    scope = {**make_scope("GET", path, ()), "type": "websocket", "scheme": "ws", "headers": headers, "subprotocols": []}
    await app(scope, receive, send)
    return sent


def test_websocket(memory: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(memory)

    @app.websocket("/chat")
    async def chat() -> None:
        await websocket.send(str(session.get("count")))
        async for text in websocket:
            session["count"] = int(t.cast(str, text))

    client = FACES["asgi"](app)
    session_id = cookie_of(client.get("/count"))
    memory.take_calls()
    sent = asyncio.run(converse(app, "/chat", session_id, "5", "9"))
    assert sent[1] == {"type": "websocket.send", "text": "1"}
    assert memory.take_calls() == ["load", "replace"]  # at the handshake; at the end
    assert client.get("/read").text == "9"
    assert "cookie" not in caplog.text
    # A new session cannot reach the client any more.
    asyncio.run(converse(app, "/chat", None, "5"))
    assert "its cookie cannot be sent" in caplog.text


# Many at once


async def test_concurrent_requests_do_not_share_a_session(memory: MemoryStore) -> None:
    app = make_app(memory)

    @app.get("/be/<name>")
    def be(name: str) -> str:
        session["name"] = name
        return ""

    @app.get("/name")
    def name() -> str:
        return session["name"]

    @app.get("/name-async")
    async def name_async() -> str:
        await asyncio.sleep(0)
        return session["name"]

    async def converse(number: int) -> bool:
        created = await get(app, f"/be/{number}")
        headers = [("Cookie", created.headers["set-cookie"].partition(";")[0])]
        paths = ["/name", "/name-async"] * 3
        answers = await asyncio.gather(*(get(app, path, headers=headers) for path in paths))
        return {answer.text for answer in answers} == {str(number)}

    assert all(await asyncio.gather(*(converse(number) for number in range(100))))
    assert len(memory.values) == 100


@pytest.mark.skipif(sys.gettrace() is not None, reason="what traces the code makes garbage of its own")
@pytest.mark.parametrize("path", ["/read", "/count", "/clear", "/missing"])
@pytest.mark.parametrize("broken", [(), ("load",), ("replace", "delete")], ids=["works", "no load", "no save"])
async def test_a_request_leaves_nothing_for_the_garbage_collector(
    memory: MemoryStore, path: str, broken: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(100, "stored")  # records hold errors
    app = make_app(memory)
    headers = [("Cookie", (await get(app, "/count")).headers["set-cookie"].partition(";")[0])]
    memory.broken = set(broken)
    for _ in range(5):
        await get(app, path, headers=headers)
    with Uncollected() as garbage:
        for _ in range(50):
            await get(app, path, headers=headers)
    assert garbage.count < 25, garbage.kinds


# The stores


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def mortal_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = start_redis(tmp_path)
    yield server
    server.kill()


StoreMaker = Callable[[], t.Any]


@pytest.fixture(params=["sqlite", "redis"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreMaker:
    if request.param == "sqlite":
        return lambda: SQLiteStore(tmp_path / "new folder" / "sessions.db")
    url, prefix = request.getfixturevalue("redis_server").url, f"{uuid4()}:"
    return lambda: RedisStore(url, prefix)


async def test_contract_of_a_store(make_store: StoreMaker) -> None:
    store = make_store()
    assert await store.load("a") is None
    await store.save("a", b"1\x00\xff", 100)
    assert await store.load("a") == b"1\x00\xff"
    await store.save("a", b"2", 100)
    await store.replace("a", b"3", 100)
    await store.replace("b", b"3", 100)
    await store.touch("b", 100)
    assert [await store.load(key) for key in "ab"] == [b"3", None]
    await store.delete("a")
    await store.delete("a")
    await store.replace("a", b"4", 100)
    assert await store.load("a") is None
    await store.close()
    await store.save("a", b"5", 100)  # it opens itself again
    assert await store.load("a") == b"5"
    await store.close()
    await store.close()


async def test_a_store_forgets(make_store: StoreMaker) -> None:
    store = make_store()
    for key in ("short", "touched", "replaced"):
        await store.save(key, b"1", 1)
    await store.touch("touched", 100)
    await store.replace("replaced", b"2", 100)
    deadline = time.monotonic() + 5
    while await store.load("short") is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert [await store.load(key) for key in ("short", "touched", "replaced")] == [None, b"1", b"2"]
    await store.touch("short", 100)
    await store.replace("short", b"3", 100)
    assert await store.load("short") is None
    await store.close()


@both_faces
def test_sessions_in_a_store(make_store: StoreMaker, face: str) -> None:
    store = make_store()
    client = FACES[face](make_app(store))  # over ASGI, each request has a loop of its own
    assert [client.get("/count").json["count"] for _ in range(3)] == [1, 2, 3]
    client.get("/regenerate")
    assert client.get("/read").text == "3"
    client.get("/clear")
    assert client.get("/read").text == "None"


def test_several_loops_at_once(make_store: StoreMaker) -> None:
    store = make_store()
    app = make_app(store)
    counts: list[int] = []
    barrier = threading.Barrier(6)

    def count(face: str) -> None:
        client = FACES[face](app)
        barrier.wait(10)
        counts.extend(client.get("/count").json["count"] for _ in range(5))

    threads = [threading.Thread(target=count, args=(face,)) for face in ("asgi", "wsgi") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(counts) == sorted([1, 2, 3, 4, 5] * 6)


async def test_many_requests_at_once(make_store: StoreMaker) -> None:
    store = make_store()
    await asyncio.gather(*(store.save(str(number), str(number).encode(), 100) for number in range(200)))
    values = await asyncio.gather(*(store.load(str(number)) for number in range(200)))
    assert values == [str(number).encode() for number in range(200)]
    await store.close()


async def test_a_cancelled_request_harms_no_other(make_store: StoreMaker) -> None:
    store = make_store()
    await store.save("a", b"1", 100)
    for delay in (0, 0, 0.0001, 0.0005, 0.001) * 5:
        task = asyncio.ensure_future(store.load("a"))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await store.load("a") == b"1"
    await store.close()


# Redis


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_connections_end_with_their_loop(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, f"{uuid4()}:")
    before = redis_server.count_clients()

    async def use() -> None:
        await asyncio.gather(*(store.save("a", b"1", 10) for _ in range(5)))
        assert redis_server.count_clients() > before

    for _ in range(3):
        asyncio.run(use())
    wait_for(lambda: redis_server.count_clients() == before)
    assert store._clients == {}


def test_a_loop_that_was_only_closed_is_forgotten(redis_server: RedisServer) -> None:
    made: list[t.Any] = []

    class Client:
        async def get(self, key: str) -> bytes:
            return key.encode()

        async def aclose(self) -> None:
            made.remove(self)

    def make() -> t.Any:
        made.append(Client())
        return made[-1]

    store = RedisStore(make, "p:")
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(store.load("a")) == b"p:a"
    loop.close()
    assert asyncio.run(store.load("b")) == b"p:b"
    assert store._clients == {} and len(made) == 1  # the first could not be closed any more


async def test_a_client_of_the_users(redis_server: RedisServer) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(redis_server.url, decode_responses=True) as client:
        store = RedisStore(client, f"{uuid4()}:")
        await store.save("a", "ä".encode(), 10)
        assert await store.load("a") == "ä".encode()
        assert 0 < await client.ttl(f"{store.prefix}a") <= 10
        await store.close()
        assert await client.ping()


async def test_touch_and_replace_set_the_time_to_live(redis_server: RedisServer) -> None:
    from redis.asyncio import Redis

    store = RedisStore(redis_server.url, f"{uuid4()}:")
    async with Redis.from_url(redis_server.url) as client:
        for change in (store.touch("a", 500), store.replace("a", b"2", 500)):
            await store.save("a", b"1", 10)
            await change
            assert 490 < await client.ttl(f"{store.prefix}a") <= 500
    await store.close()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ImportError, match=r"asyncflask\[redis\]"):
        RedisStore("redis://localhost")


@both_faces
def test_redis_dies_and_comes_back(face: str, mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    app, seen = make_faulty_app(RedisStore(mortal_redis.url))
    client = FACES[face](app)
    assert client.get("/count").json["count"] == 1
    mortal_redis.kill()
    seen.clear()
    loading = client.get("/read")
    saving = FACES[face](app).get("/count")
    assert [(answer.status, answer.text, cookie_of(answer)) for answer in (loading, saving)] == [
        (500, "sorry", None)
    ] * 2
    assert seen == ["teardown ConnectionError", "app teardown"] * 2
    assert FACES[face](app).get("/nothing").status == 200
    mortal_redis.start()
    assert [client.get("/count").json["count"] for _ in range(2)] == [1, 2]


@both_faces
def test_redis_dies_in_a_view(face: str, mortal_redis: RedisServer) -> None:
    app, seen = make_faulty_app(RedisStore(mortal_redis.url))

    @app.get("/die")
    def die() -> str:
        mortal_redis.kill()
        session["count"] = 5
        return ""

    client = FACES[face](app)
    client.get("/count")
    seen.clear()
    answer = client.get("/die")
    assert (answer.status, answer.text, cookie_of(answer)) == (500, "sorry", None)
    assert seen == ["teardown ConnectionError", "app teardown"]


async def test_redis_that_restarts_between_two_requests_is_not_noticed(mortal_redis: RedisServer) -> None:
    """The idle connections of the pool are gone; the second try opens new ones."""
    store = RedisStore(mortal_redis.url)
    await asyncio.gather(*(store.save("a", b"1", 10) for _ in range(3)))
    mortal_redis.kill()
    mortal_redis.start()
    assert await store.load("a") is None
    await store.close()


@both_faces
def test_redis_that_hangs(face: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0?socket_timeout=0.2"
        client = FACES[face](make_app(RedisStore(url)))
        begun = time.monotonic()
        assert client.get("/count").status == 500
        assert time.monotonic() - begun < 5


# SQLite


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    await store.save("a", b"1", 100)
    assert {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)} == {0o600}
    await store.close()


async def test_clean_up_is_bounded(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    await store.save("kept", b"1", 100)
    with sqlite3.connect(store.path) as connection:
        rows = [(f"old {number}", b"", time.time() - 1) for number in range(50)]
        connection.executemany("INSERT INTO session VALUES (?, ?, ?)", rows)
    counts = []
    for number in range(4):
        await store.save(f"new {number}", b"1", 100)
        counts.append(connection.execute("SELECT count(*) FROM session").fetchone()[0])
    connection.close()
    assert counts == [32, 13, 4, 5]
    await store.close()


async def test_a_file_that_another_process_begins_is_waited_for(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("CREATE TABLE begun (x)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM begun").fetchall()  # SQLite itself does not wait for readers here
    loading = asyncio.ensure_future(store.load("a"))
    await asyncio.sleep(0.1)
    assert not loading.done()
    other.execute("COMMIT")
    other.close()
    assert await loading is None
    await store.close()


async def test_a_file_that_stays_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncflask.sqlite_store._BUSY_TIMEOUT", 0.05)
    store = SQLiteStore(tmp_path / "sessions.db")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await store.load("a")
    await store.close()  # it never came to be open
    other.execute("COMMIT")
    other.close()
    assert await store.load("a") is None
    await store.close()


async def test_no_event_loop_waits_for_the_disk(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    await store.save("a", b"1", 100)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.save("b", b"2", 100))
    begun = time.monotonic()
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert time.monotonic() - begun < 1 and not writing.done()
    other.execute("COMMIT")
    other.close()
    await writing
    assert await store.load("b") == b"2"
    await store.close()


async def test_calls_wait_together_while_the_file_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncflask.sqlite_store._BUSY_TIMEOUT", 0.5)
    store = SQLiteStore(tmp_path / "sessions.db")
    await store.save("a", b"1", 100)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    results = await asyncio.gather(*(store.save("b", b"2", 100) for _ in range(10)), return_exceptions=True)
    assert time.monotonic() - begun < 2.5  # one by one they would take twice that
    assert {type(result) for result in results} == {sqlite3.OperationalError}
    other.execute("ROLLBACK")
    other.close()
    await store.save("b", b"2", 100)
    assert await store.load("b") == b"2"
    await store.close()


def threads_of_stores() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("asyncflask-sessions")}


async def test_a_closed_store_has_no_thread(tmp_path: Path) -> None:
    before = threads_of_stores()
    store = SQLiteStore(tmp_path / "sessions.db")
    for _ in range(2):
        await store.save("a", b"1", 100)
        (thread,) = threads_of_stores() - before
        await store.close()
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


async def test_calls_while_a_store_closes_are_carried_out(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    for _ in range(10):
        await asyncio.gather(store.save("a", b"1", 100), store.close(), store.save("b", b"2", 100), store.close())
        assert [await store.load(key) for key in "ab"] == [b"1", b"2"]
        await asyncio.gather(store.delete("a"), store.delete("b"))
    await store.close()


async def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    await store.save("a", b"1", 100)
    with pytest.raises(sqlite3.Error):
        await store.save("a", t.cast(bytes, object()), 100)
    assert await store.load("a") == b"1"
    await store.save("b", b"2", 100)  # no transaction was left open
    await store.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").write_bytes(b"no database" * 100)
    store = SQLiteStore(tmp_path / "sessions.db")
    with pytest.raises(sqlite3.DatabaseError):
        await store.load("a")


PROCESS = """
import asyncio, sys
from asyncflask.sqlite_store import SQLiteStore
store = SQLiteStore(sys.argv[1])
async def main():
    for number in range(50):
        await store.save(f"{sys.argv[2]} {number}", b"1", 100)
asyncio.run(main())
"""


def test_several_processes_begin_at_once(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "sessions.db")
    command = [sys.executable, "-W", "error", "-c", PROCESS, store.path]
    processes = [subprocess.Popen([*command, str(number)], cwd=ROOT, stderr=subprocess.PIPE) for number in range(4)]
    for process in processes:
        assert (process.wait(60), process.stderr and process.stderr.read()) == (0, b"")
        t.cast(t.IO[bytes], process.stderr).close()
    assert [asyncio.run(store.load(f"{number} 49")) for number in range(4)] == [b"1"] * 4
    asyncio.run(store.close())


FORK = """
import asyncio, os, sys
from asyncflask.redis_store import RedisStore
from asyncflask.sqlite_store import SQLiteStore
store = RedisStore(sys.argv[2]) if sys.argv[2] else SQLiteStore(sys.argv[1])
unused = SQLiteStore(sys.argv[1])
loop = asyncio.new_event_loop()
loop.run_until_complete(store.save("a", b"parent", 100))
children = []
for number in range(3):
    pid = os.fork()
    if not pid:
        async def use():
            assert await store.load("a") == b"parent"
            await store.save(f"child {number}", b"1", 100)
        asyncio.run(use())
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
async def check():
    assert [await store.load(f"child {number}") for number in range(3)] == [b"1"] * 3
    assert await store.load("a") == b"parent"
loop.run_until_complete(check())
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_fork(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis_server").url if kind == "redis" else ""
    # With a thread, Python 3.12 warns of any fork.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(tmp_path / "sessions.db"), url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# An interface as tutorials write it: sync, on the `redis` client


class RedisSession(CallbackDict[str, t.Any], SessionMixin):
    def __init__(self, initial: t.Any = None, sid: str | None = None, new: bool = False) -> None:
        def on_update(self: t.Any) -> None:
            self.modified = True

        super().__init__(initial, on_update)
        self.sid = sid
        self.new = new
        self.modified = False


class RedisSessionInterface(SessionInterface):
    serializer = pickle
    session_class = RedisSession

    def __init__(self, redis: t.Any, prefix: str = "session:") -> None:
        self.redis = redis
        self.prefix = prefix
        self.threads: set[str] = set()

    def open_session(self, app: Flask, request: t.Any) -> RedisSession:
        self.threads.add(threading.current_thread().name)
        sid = request.cookies.get(app.config["SESSION_COOKIE_NAME"])
        if not sid:
            return self.session_class(sid=str(uuid4()), new=True)
        val = self.redis.get(self.prefix + sid)
        if val is not None:
            return self.session_class(self.serializer.loads(val), sid=sid)
        return self.session_class(sid=sid, new=True)

    def save_session(self, app: Flask, session: t.Any, response: t.Any) -> None:
        domain = self.get_cookie_domain(app)
        if not session:
            self.redis.delete(self.prefix + session.sid)
            if session.modified:
                response.delete_cookie(app.config["SESSION_COOKIE_NAME"], domain=domain)
            return
        expires = self.get_expiration_time(app, session)
        value = self.serializer.dumps(dict(session))
        self.redis.setex(self.prefix + session.sid, 100, value)
        name = app.config["SESSION_COOKIE_NAME"]
        response.set_cookie(name, session.sid, expires=expires, httponly=True, domain=domain)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # as they write it
@both_faces
def test_an_interface_of_the_tutorials(face: str, redis_server: RedisServer) -> None:
    from redis import Redis

    app = Flask("tutorial", root_path=str(ROOT), static_folder=None)
    add_views(app)
    with Redis.from_url(redis_server.url) as redis:
        interface = app.session_interface = RedisSessionInterface(redis, f"{uuid4()}:")
        client = FACES[face](app)
        assert [client.get("/count").json["count"] for _ in range(3)] == [1, 2, 3]
        assert client.get("/read").text == "3"
        client.get("/clear")
        assert client.get("/read").text == "None"
    assert (threading.main_thread().name in interface.threads) is (face == "wsgi")  # never on the loop


# Real servers


SERVED = """
import os
from asyncflask import Flask, session
from asyncflask.redis_store import RedisStore
from asyncflask.sqlite_store import SQLiteStore
from asyncflask.stored_sessions import StoredSessionInterface

place = os.environ["STORE"]
app = Flask(__name__)
app.session_interface = StoredSessionInterface(RedisStore(place) if "://" in place else SQLiteStore(place))

@app.get("/sync")
def count():
    session["count"] = session.get("count", 0) + 1
    return {"count": session["count"], "pid": os.getpid()}

@app.get("/async")
async def count_async():
    return count()

if os.environ.get("WARM"):
    app.test_client().get("/sync")  # before the fork
"""
SERVERS = {
    "uvicorn": "uvicorn served:app --port {port} --workers 2 --log-level warning",
    "gunicorn": "gunicorn served:app --bind 127.0.0.1:{port} --no-control-socket -w 2 --log-level warning",
    "gunicorn-preload": "gunicorn served:app --bind 127.0.0.1:{port} --no-control-socket -w 2 --preload "
    "--log-level warning -k gthread --threads 4",
    "gunicorn-gevent": "gunicorn served:app --bind 127.0.0.1:{port} --no-control-socket -w 2 -k gevent "
    "--log-level warning",
    "hypercorn": "hypercorn served:app --bind 127.0.0.1:{port} --workers 2 --log-level warning",
}


@pytest.mark.parametrize("name", SERVERS)
def test_workers_share_a_store(name: str, make_store: StoreMaker, tmp_path: Path, request: t.Any) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    store = make_store()
    place = store.path if isinstance(store, SQLiteStore) else request.getfixturevalue("redis_server").url
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    warm = {"WARM": "1"} if "preload" in name else {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STORE": str(place), **warm}
    with open(tmp_path / "log", "w+b") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *SERVERS[name].format(port=port).split()],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            count_on_all_workers(f"http://127.0.0.1:{port}", server)
        except BaseException:
            log.seek(0)
            print(log.read().decode())
            raise
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def count_on_all_workers(url: str, server: subprocess.Popen[bytes]) -> None:
    cookie, count, pids = "", 0, set()
    deadline = time.monotonic() + 30
    while len(pids) < 2 or count < 20:
        assert server.poll() is None and time.monotonic() < deadline, (count, pids)
        question = urllib.request.Request(f"{url}/{'async' if count % 2 else 'sync'}", headers={"Cookie": cookie})
        try:
            with urllib.request.urlopen(question, timeout=10) as response:
                answer = Answer(response.status, list(response.headers.items()), response.read())
        except ConnectionError:
            answer = None
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            answer = None
        if answer is None:
            assert not count, "it answered before"
            time.sleep(0.1)
            continue
        cookie, count = f"session={cookie_of(answer)}", count + 1
        assert answer.json["count"] == count
        pids.add(answer.json["pid"])
