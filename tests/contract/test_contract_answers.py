"""What a view returns, files and streams: the same status, body and headers on every host."""

from __future__ import annotations

import hashlib
import json

import pytest
from contract_differences import differs

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
SIDES = pytest.mark.parametrize("side", ["s", "a"])

RETURNS = {
    "str": (200, HTML, "text é".encode()),
    "bytes": (200, HTML, b"by\0tes"),
    "status": (201, HTML, b"made"),
    "headers": (200, HTML, b"text"),
    "header-list": (200, HTML, b"text"),
    "status-headers": (202, "text/plain", b"text"),
    "status-text": (299, HTML, b"text"),
    "response": (203, TEXT, b"text"),
    "response-status": (418, TEXT, b"text"),
    "wsgi": (202, "text/plain", b"GET by WSGI"),
    "generator": (200, HTML, b"abc"),
    "iterator": (200, HTML, b"abc"),
    "async-generator": (200, HTML, b"abc"),
    "response-generator": (200, TEXT, b"abc"),
    "response-async-generator": (200, TEXT, b"abc"),
    "empty": (200, HTML, b""),
}
RETURNED_JSON = {
    "dict": (200, {"a": "é", "b": 1}),
    "list": (200, [1, "two", None]),
    "dict-status": (201, {"a": 1}),
}
RETURNED_HEADERS = {
    "headers": ["1"],
    "header-list": ["1", "2"],
    "status-headers": ["1"],
    "response": ["1"],
    "str": [],
}


@SIDES
@pytest.mark.parametrize("kind", RETURNS)
def test_return(client, side, kind):
    answer = client.get(f"/{side}/returns/{kind}")
    assert (answer.status, answer.get("Content-Type"), answer.body) == RETURNS[kind]


@SIDES
@pytest.mark.parametrize("kind", RETURNED_JSON)
def test_return_json(client, side, kind):
    answer = client.get(f"/{side}/returns/{kind}")
    assert (answer.status, answer.json) == RETURNED_JSON[kind]
    assert answer.body == json.dumps(answer.json, separators=(",", ":"), sort_keys=True).encode() + b"\n"


@SIDES
@pytest.mark.parametrize("kind", RETURNED_HEADERS)
def test_returned_headers(client, side, kind):
    assert client.get(f"/{side}/returns/{kind}").all("X-One") == RETURNED_HEADERS[kind]


@SIDES
@pytest.mark.parametrize("kind", ["str", "bytes", "dict", "response", "wsgi", "empty"])
def test_content_length_of_known_body(client, side, kind):
    answer = client.get(f"/{side}/returns/{kind}")
    expected = None if kind == "wsgi" else str(len(answer.body))
    assert answer.get("Content-Length") in {expected, str(len(answer.body))}


@SIDES
@pytest.mark.parametrize("kind", ["none", "odd-tuple", "number"])
def test_return_of_no_response_is_500(client, side, kind):
    answer = client.get(f"/{side}/returns/{kind}")
    assert answer.status == 500
    assert b"Internal Server Error" in answer.body


@SIDES
def test_no_content(client, side):
    answer = client.get(f"/{side}/no-content")
    assert (answer.status, answer.body, answer.get("Content-Type")) == (204, b"", None)


@SIDES
def test_repeated_and_latin_headers(client, side):
    answer = client.get(f"/{side}/headers")
    assert answer.all("X-Multi") == ["1", "2"]
    assert differs(client.name, "latin-headers") or answer.all("X-Latin") == ["é"]


@SIDES
@pytest.mark.parametrize("target", ["returns/str", "returns/dict", "returns/wsgi", "headers", "file/memory"])
def test_head_is_get_without_body(client, side, target):
    head, get = (client.request(method, f"/{side}/{target}") for method in ("HEAD", "GET"))
    assert (head.status, head.body) == (get.status, b"")
    assert head.get("Content-Type") == get.get("Content-Type")


@SIDES
@pytest.mark.parametrize("target", ["stream/400", "stream-async/400", "returns/generator", "returns/async-generator"])
def test_head_of_stream(client, side, target):
    answer = client.request("HEAD", f"/{side}/{target}")
    assert (answer.status, answer.body) == (200, b"")


@SIDES
def test_after_this_request(client, side):
    assert client.get(f"/{side}/after-this").all("X-After") == ["sync async"]
    assert client.get(f"/{side}/returns/str").all("X-After") == []


# -- files


@pytest.mark.parametrize("target", ["/static/hello.txt", "/s/file/attached", "/a/file/attached"])
def test_file(client, target):
    answer = client.get(target)
    assert (answer.status, answer.body) == (200, b"hello from a static file\n")
    assert answer.get("Content-Type") == TEXT
    assert answer.get("Content-Length") == "25"
    assert answer.get("Last-Modified") and answer.get("ETag")


@SIDES
def test_file_as_attachment(client, side):
    answer = client.get(f"/{side}/file/attached")
    assert answer.all("Content-Disposition") == ["attachment; filename=grue.txt; filename*=UTF-8''gr%C3%BC%C3%9Fe.txt"]
    assert "max-age=60" in answer.get("Cache-Control")


@pytest.mark.parametrize("target", ["/static/hello.txt", "/s/file/memory", "/a/file/memory"])
def test_not_modified(client, target):
    first = client.get(target)
    again = client.get(target, [("If-None-Match", first.get("ETag"))])
    assert (again.status, again.body, again.get("ETag")) == (304, b"", first.get("ETag"))
    other = client.get(target, [("If-None-Match", '"other"')])
    assert (other.status, other.body) == (200, first.body)


def test_not_modified_since(client):
    first = client.get("/static/hello.txt")
    again = client.get("/static/hello.txt", [("If-Modified-Since", first.get("Last-Modified"))])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("target", ["/static/hello.txt", "/s/file/memory", "/a/file/memory"])
@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("0-3", 0, 3), ("4-", 4, None), ("-5", -5, None), ("2-2", 2, 2), ("5-999", 5, None)],
)
def test_range(client, target, wanted, start, stop):
    whole = client.get(target).body
    answer = client.get(target, [("Range", f"bytes={wanted}")])
    expected = whole[start : None if stop is None else stop + 1]
    first = start % len(whole)
    assert (answer.status, answer.body) == (206, expected)
    assert answer.get("Content-Range") == f"bytes {first}-{first + len(expected) - 1}/{len(whole)}"
    assert answer.get("Content-Length") == str(len(expected))


@pytest.mark.parametrize("target", ["/static/hello.txt", "/s/file/memory", "/a/file/memory"])
def test_range_not_satisfiable(client, target):
    answer = client.get(target, [("Range", "bytes=9000-")])
    assert answer.status == 416


@pytest.mark.parametrize(
    "path", ["missing.txt", "../contract_app.py", "..%2fcontract_app.py", "%00", "", "a/../hello.md"]
)
def test_static_file_missing(client, path):
    assert client.get(f"/static/{path}").status == 404


# -- streams


def expected_stream(count):
    return hashlib.sha256(b"".join(bytes([number % 251]) * 16_384 for number in range(count))).hexdigest()


@SIDES
@pytest.mark.parametrize("kind", ["stream", "stream-async"])
@pytest.mark.parametrize("count", [0, 1, 320])
def test_stream(client, side, kind, count):
    answer = client.get(f"/{side}/{kind}/{count}")
    assert (answer.status, len(answer.body)) == (200, count * 16_384)
    assert answer.get("Content-Type") == "application/octet-stream"
    assert hashlib.sha256(answer.body).hexdigest() == expected_stream(count)


@SIDES
@pytest.mark.parametrize("kind", ["stream-context", "stream-context-async"])
def test_stream_with_context(client, side, kind):
    assert client.get(f"/{side}/{kind}?q=here").text == f"/{side}/{kind} here"
