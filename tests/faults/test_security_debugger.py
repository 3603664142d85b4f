"""The debugger runs code for whoever may ask it: a machine that is no other's host, and knows the PIN.

CVE-2019-14806, CVE-2024-34069. In a browser: tests/test_debugger_browser.py.
"""

from __future__ import annotations

import json
import re
import typing as t
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from fuzz.faces import Answer
from security import ask, make_app

from asyncflask import serving
from asyncflask.debugger import Debugger

HOST = (b"host", b"localhost:5000")
FOREIGN = (
    b"evil.com",
    b"localhost.evil.com",
    b"127.0.0.1.evil.com",
    b"evil.com:5000",
    b"localhost@evil.com",
    b"",
    b"127.0.0.1/",
    b"2130706433",
    b"[::ffff:127.0.0.1]",
)

CODE, RESULT = "'ran' * 3", b"ranranran"


@pytest.fixture
def debugger(monkeypatch: pytest.MonkeyPatch) -> Debugger:
    monkeypatch.setenv("WERKZEUG_DEBUG_PIN", "123-456-789")
    monkeypatch.setattr("werkzeug.debug.time.sleep", lambda seconds: None)  # it waits after each wrong PIN
    app = make_app(DEBUG=True)

    @app.get("/")
    async def fail() -> t.NoReturn:
        raise LookupError("shown")

    return Debugger(app, "127.0.0.1")


def send(debugger: Debugger, cookie: bytes = b"", host: bytes = HOST[1], **query: str) -> Answer:
    return ask(
        "asgi", debugger, f"/?{urlencode({'__debugger__': 'yes', **query})}", (b"host", host), (b"cookie", cookie)
    )


def secret_of(debugger: Debugger) -> str:
    page = ask("asgi", debugger, "/", HOST).body.decode()
    found = re.search(r'SECRET = "(\w+)"', page)
    assert found is not None
    return found[1]


def try_pin(debugger: Debugger, pin: str, **more: t.Any) -> t.Any:
    answer = send(debugger, cmd="pinauth", pin=pin, s=secret_of(debugger), **more)
    return (json.loads(answer.body), answer) if answer.status == 200 else (None, answer)


def test_foreign_hosts_are_refused(debugger: Debugger) -> None:
    secret = secret_of(debugger)
    seen, answer = try_pin(debugger, "123-456-789")
    assert seen == {"auth": True, "exhausted": False}
    cookie = answer.headers["set-cookie"].partition(";")[0].encode()
    frame = re.search(rb'id="frame-(\d+)"', ask("asgi", debugger, "/", HOST).body)
    assert frame is not None
    number = frame[1].decode()
    assert send(debugger, cookie, cmd=CODE, frm=number, s=secret).body.count(RESULT) == 1
    for host in FOREIGN:
        for query in ({"cmd": "pinauth", "pin": "123-456-789"}, {"cmd": "printpin"}, {"cmd": CODE, "frm": number}):
            answer = send(debugger, cookie, host, s=secret, **query)
            assert answer.status in (400, 500) and RESULT not in answer.body, (host, query)
        console = ask("asgi", debugger, "/console", (b"host", host), (b"cookie", cookie))
        assert console.status == 400
        page = ask("asgi", debugger, "/", (b"host", host))
        assert page.status == 500 and b"EVALEX = false" in page.body


def test_code_needs_pin_and_secret(debugger: Debugger) -> None:
    secret = secret_of(debugger)
    frame = re.search(rb'id="frame-(\d+)"', ask("asgi", debugger, "/", HOST).body)
    assert frame is not None
    number = frame[1].decode()
    for query, cookie in (
        ({"s": secret}, b""),
        ({"s": "wrong"}, b""),
        ({}, b""),
        ({"s": secret}, b"__wzd=1|x"),
        ({"s": secret}, b"__wzd" + b"0" * 20 + b"=9999999999|abc"),
    ):
        assert RESULT not in send(debugger, cookie, cmd=CODE, frm=number, **query).body


def test_ten_pins_may_be_tried(debugger: Debugger) -> None:
    for _ in range(10):
        assert try_pin(debugger, "111-111-111")[0]["auth"] is False
    seen, answer = try_pin(debugger, "123-456-789")
    assert seen == {"auth": False, "exhausted": True} and "set-cookie" not in answer.headers


def test_there_is_none_unless_debug_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` wraps the application in debug mode alone."""
    served: list[t.Any] = []

    def make_server(app: t.Any, *args: object) -> SimpleNamespace:
        return SimpleNamespace(run=lambda sockets: served.append(app))

    monkeypatch.setattr(serving, "_make_server", make_server)
    monkeypatch.setattr(serving, "open_listener", lambda *args: None)
    for name in ("FLASK_DEBUG", "FLASK_RUN_FROM_CLI"):
        monkeypatch.delenv(name, raising=False)
    app = make_app()
    for debug in (None, False, True, False):
        app.run(debug=debug, load_dotenv=False, use_reloader=False)
    assert [isinstance(one, Debugger) for one in served] == [False, False, True, False]


def test_application_by_itself_has_none() -> None:
    """Neither face answers for it."""
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/", "fail", lambda: 1 // 0)
    for face in ("wsgi", "asgi"):
        for path in ("/console", "/?__debugger__=yes&cmd=resource&f=debugger.js", "/"):
            answer = ask(face, app, path, HOST)
            assert answer.status in (404, 500) and b"SECRET" not in answer.body and b"ZeroDivision" not in answer.body
