"""What is fuzzed: each target makes a question of bytes, asks both faces, and checks what they answer.

No exception gets out, no status is 500 or more, both faces answer alike, and no answer takes longer than its input
explains (processor time, so that a busy machine does not count).
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import typing as t
from collections.abc import Callable

from werkzeug.http import parse_range_header
from werkzeug.wrappers import Request as WerkzeugRequest

from asyncflask import got_request_exception

from .faces import Answer, Question, ask_asgi, ask_wsgi
from .site import FILE, make_app

SECONDS = 0.5  # for any answer,
SECONDS_PER_BYTE = 20e-6  # and for each byte of the input


class Site:
    """The application and a loop, for as many questions as one likes."""

    def __init__(self) -> None:
        self.app = make_app()
        self.loop = asyncio.new_event_loop()
        self.error: BaseException | None = None
        got_request_exception.connect(self._note, self.app)

    def _note(self, sender: t.Any, exception: BaseException, **values: t.Any) -> None:
        self.error = exception

    def ask(self, question: Question, worst: int = 499, wsgi_path: str = "") -> Answer:
        """The answer of both faces, with a status of at most `worst`; over WSGI perhaps of another view."""
        begun = time.process_time()
        asgi = self.loop.run_until_complete(ask_asgi(self.app, question))
        wsgi = ask_wsgi(self.app, question._replace(path=wsgi_path or question.path))
        spent = time.process_time() - begun
        if asgi.status > worst:
            raise AssertionError(f"status {asgi.status}") from self.error
        assert asgi[:1] + asgi[2:] == wsgi[:1] + wsgi[2:], (asgi, wsgi)
        assert header_names(asgi) == header_names(wsgi), (asgi, wsgi)
        size = sum(map(len, question.pieces())) + len(question.query) + sum(len(v) for _, v in question.headers)
        assert spent < SECONDS + SECONDS_PER_BYTE * size, f"{spent:.2f} s for {size} bytes"
        return asgi

    def close(self) -> None:
        self.loop.close()


def header_names(answer: Answer) -> list[str]:
    return sorted(answer.headers)


def clean(value: bytes) -> bytes:
    """As a header's value: servers refuse the others."""
    return value.translate(None, b"\r\n\0")


def split(data: bytes) -> tuple[int, bytes, bytes]:
    """A number, the first line, and the rest."""
    line, _, rest = data[1:].partition(b"\n")
    return (data[0] if data else 0), clean(line), rest


def fuzz_form(site: Site, data: bytes) -> None:
    cut, line, body = split(data)
    kind = b"application/x-www-form-urlencoded" + (b"; " + line if line else b"")
    answer = site.ask(Question("/form", b"", [(b"content-type", kind)], body, cut))
    if answer.status == 200:
        environ = {"CONTENT_TYPE": kind.decode("latin-1"), "CONTENT_LENGTH": str(len(body)), "REQUEST_METHOD": "POST"}
        judge = WerkzeugRequest({**environ, "wsgi.input": io.BytesIO(body)})
        assert json.loads(answer.body)["form"] == [list(item) for item in judge.form.items(True)], answer


def fuzz_multipart(site: Site, data: bytes) -> None:
    cut, line, body = split(data)
    headers = [(b"content-type", b"multipart/form-data; boundary=" + (line or b"b"))]
    whole = site.ask(Question("/form", b"", headers, body, cut))
    streamed = site.ask(Question("/parts", b"", headers, body, cut), wsgi_path="/sync_parts")
    if streamed.status == 200 == whole.status:
        check_parts(json.loads(whole.body), json.loads(streamed.body)["parts"])


def check_parts(whole: t.Any, parts: list[t.Any]) -> None:
    """Streamed or not, it is one form."""
    files = [part for part in parts if part[1] is not None]
    assert len(whole["form"]) + len(whole["files"]) == len(parts), (whole, parts)
    # Without a type Werkzeug's form parser says "", and so on: names and content are what counts.
    assert sorted([str(f[0]), f[3]] for f in whole["files"]) == sorted([str(f[0]), f[3]] for f in files), (whole, parts)


def fuzz_cookies(site: Site, data: bytes) -> None:
    header = clean(data)
    answer = site.ask(Question("/cookies", headers=[(b"cookie", header)]))
    assert answer.status == 200
    seen = json.loads(answer.body)
    judge = WerkzeugRequest({"HTTP_COOKIE": header.decode("latin-1")}).cookies
    assert seen["cookies"] == [list(item) for item in judge.items(True)], answer
    assert all(key for key, _ in seen["cookies"]), answer
    assert seen["session"] == judge.get("session"), answer


def fuzz_ranges(site: Site, data: bytes) -> None:
    choice, condition, asked = split(data)
    name = (b"if-range", b"if-modified-since")[choice % 2]
    headers = [(b"range", clean(asked))] + [(name, condition)] * bool(condition)
    answer = site.ask(Question("/file", headers=headers))
    assert answer.status in (200, 206, 304, 416), answer
    if answer.status == 206:
        start, end = map(int, answer.headers["content-range"].removeprefix("bytes ").partition("/")[0].split("-"))
        assert answer.body == FILE[start : end + 1] and answer.body, answer
    elif answer.status == 200:
        assert answer.body == FILE
    elif answer.status == 416:
        assert parse_range_header(clean(asked).decode("latin-1")) is None or b"," in asked or not answer.body[:0]


def fuzz_query(site: Site, data: bytes) -> None:
    query = data.translate(None, b"\r\n\0 #")  # a request line has no such
    answer = site.ask(Question("/query", query))
    assert (answer.status, json.loads(answer.body)["path"]) == (200, "/query")
    moved = site.ask(Question("/slashed", query))
    assert moved.status == 308 and moved.headers["location"].startswith("http://localhost/slashed/"), moved
    # A location that cannot be one is the view's bug, for which a 500 is right; but it must be an answer.
    site.ask(Question("/away", query), worst=500)


def fuzz_host(site: Site, data: bytes) -> None:
    headers = [(b"host", clean(data))]
    answer = site.ask(Question("/host", headers=headers))
    assert answer.status in (200, 400), answer
    if answer.status == 200:
        seen = json.loads(answer.body)
        assert seen["path"] == "/host" and seen["url"].endswith("/host"), seen
        assert not set(seen["host"]) & set("/?#@\\ \t"), seen
    moved = site.ask(Question("/slashed", headers=headers))
    assert moved.status in (308, 400, 404), moved


def fuzz_session(site: Site, data: bytes) -> None:
    mode, _, rest = split(data)
    rest = clean(data[1:])
    answer = site.ask(Question("/kept", headers=[(b"cookie", b"session=" + forge(site, mode, rest))]))
    assert answer.status == 200 and "set-cookie" in answer.headers, answer


def forge(site: Site, mode: int, data: bytes) -> bytes:
    """As it is; a true cookie with something changed; or any payload, truly signed."""
    serializer = t.cast(t.Any, site.app.session_interface).get_signing_serializer(site.app)
    if mode % 3 == 0:
        return data
    if mode % 3 == 1:
        true = bytearray(serializer.dumps({"name": data.decode("latin-1")}).encode())
        true[mode % len(true)] ^= 1
        return clean(bytes(true).translate(None, b';"'))
    return t.cast(bytes, serializer.make_signer(serializer.salt).sign(data))


def fuzz_json(site: Site, data: bytes) -> None:
    answer = site.ask(
        Question("/json", headers=[(b"content-type", b"application/json")], body=data[1:], cut=data[0] if data else 0)
    )
    assert answer.status in (200, 400), answer
    assert site.ask(Question("/json", headers=[(b"content-type", b"text/plain")], body=data[1:])).status == 415


Target = Callable[[Site, bytes], None]
TARGETS: dict[str, Target] = {
    name.removeprefix("fuzz_"): f for name, f in list(globals().items()) if name.startswith("fuzz_")
}


def grow(data: bytes, size: int) -> bytes:
    """The first byte and line once, the rest so often that it is `size` long."""
    at = data.find(b"\n") + 1 or 1
    head, rest = data[:at], data[at:] or b"a"
    return head + rest * (size // len(rest))
