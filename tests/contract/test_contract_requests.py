"""What a view reads: query, headers, JSON, forms, uploads, bodies of every framing and their limits."""

from __future__ import annotations

import hashlib
import json

import pytest
from contract_differences import differs

MIB = 1024 * 1024
SIDES = pytest.mark.parametrize("side", ["s", "a"])
FRAMINGS = pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
JSON = [("Content-Type", "application/json")]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
BIG = bytes(range(256)) * (5 * MIB // 256)


def describe(data):
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@SIDES
def test_echo(client, side):
    echo = client.get(f"/{side}/echo?q=%C3%A9%20x&q=2&empty=&plus=a+b").json
    url = f"http://contract.test/{side}/echo"
    assert echo["method"] == "GET"
    assert echo["path"] == f"/{side}/echo"
    assert echo["query"] == "q=%C3%A9%20x&q=2&empty=&plus=a+b"
    assert echo["args"] == [["q", "é x"], ["q", "2"], ["empty", ""], ["plus", "a b"]]
    assert (echo["base_url"], echo["root"], echo["host"], echo["scheme"]) == (
        url,
        "",
        "contract.test",
        "http",
    )
    assert echo["url"] == f"{url}?q=é%20x&q=2&empty=&plus=a+b"
    assert echo["full_path"] == f"/{side}/echo?q=%C3%A9%20x&q=2&empty=&plus=a+b"
    assert (echo["endpoint"], echo["type"], echo["remote"]) == (f"{side}_echo", None, "127.0.0.1")


@pytest.mark.parametrize(
    ("query", "args"),
    [
        ("", []),
        ("?", []),
        ("?%F0%9F%90%8D=%E2%82%AC", [["🐍", "€"]]),
        ("?a=%FF", [["a", "%FF"]]),
        ("?a=1&a=2;b=3", [["a", "1"], ["a", "2;b=3"]]),
        ("?a=b=c&d", [["a", "b=c"], ["d", ""]]),
        ("?a=%2526", [["a", "%26"]]),
        ("?//x?y", [["//x?y", ""]]),
    ],
)
def test_query(client, query, args):
    assert client.get(f"/s/echo{query}").json["args"] == args


@SIDES
def test_request_headers(client, side):
    headers = [("X-Multi", "1"), ("x-multi", "2"), ("X-Latin", "é"), ("Cookie", 'a=1; b="x y"; a=2')]
    echo = client.get(f"/{side}/echo", headers).json
    assert echo["x_multi"] == "1,2"
    assert differs(client.name, "latin-headers") or echo["x_latin"] == "é"
    assert echo["cookies"] == [["a", "1"], ["a", "2"], ["b", "x y"]]


@SIDES
def test_environ(client, side):
    assert client.get(f"/{side}/environ?q=%C3%A9", [("X-One", "1")]).json == {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"/{side}/environ",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "q=%C3%A9",
        "HTTP_X_ONE": "1",
        "HTTP_HOST": "contract.test",
        "contract.mark": "kept",
    }


# -- JSON


@SIDES
@FRAMINGS
@pytest.mark.parametrize("value", [{"a": ["é", 1, None, True]}, [], "text", 3.5, None])
def test_json(client, side, chunked, value):
    body = json.dumps(value).encode()
    assert client.post(f"/{side}/json", JSON, body, chunked).json == value


@SIDES
@FRAMINGS
@pytest.mark.parametrize("body", [b"{", b"", b"{'a': 1}", b"\xff", b'{"a": 1} x'])
def test_malformed_json(client, side, chunked, body):
    answer = client.post(f"/{side}/json", JSON, body, chunked)
    assert answer.status == 400
    assert "Bad Request" in answer.text
    assert client.post(f"/{side}/json-silent", JSON, body, chunked).json is None


@SIDES
def test_json_of_other_type(client, side):
    assert client.post(f"/{side}/json", [("Content-Type", "text/plain")], b"{}").status == 415
    assert client.post(f"/{side}/json", (), b"{}").status == 415
    assert client.post(f"/{side}/json", [("Content-Type", "application/ld+json")], b"{}").json == {}


@SIDES
def test_big_json(client, side):
    value = {"numbers": list(range(130_000))}
    assert client.post(f"/{side}/json", JSON, json.dumps(value).encode()).json == value


# -- forms and uploads


@SIDES
@FRAMINGS
def test_form(client, side, chunked):
    answer = client.post(f"/{side}/form?x=1", FORM, b"a=1&b=%C3%A9+%26&a=2&empty=", chunked)
    assert answer.json == {"form": {"a": ["1", "2"], "b": ["é &"], "empty": [""]}, "args": {"x": ["1"]}}


@SIDES
def test_form_missing_key(client, side):
    assert client.post(f"/{side}/form-key", FORM, b"wanted=1").text == "1"
    assert client.post(f"/{side}/form-key", FORM, b"other=1").status == 400


@SIDES
def test_form_field_over_memory_limit(client, side):
    assert client.post(f"/{side}/form", FORM, b"a=" + b"x" * 600_000).status == 413


@SIDES
def test_empty_post(client, side):
    assert client.post(f"/{side}/form", FORM).json == {"form": {}, "args": {}}
    assert client.post(f"/{side}/body").json == describe(b"")
    assert client.post(f"/{side}/body", chunked=True).json == describe(b"")
    assert client.request("PUT", f"/{side}/body", [("Content-Length", "0")]).json == describe(b"")


BOUNDARY = "----boundary"
MULTIPART = [("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")]


def multipart(*parts):
    pieces = []
    for disposition, kind, data in parts:
        head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n"
        head += f"Content-Type: {kind}\r\n" if kind else ""
        pieces += [head.encode(), b"\r\n", data, b"\r\n"]
    return b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])


@SIDES
@FRAMINGS
@pytest.mark.parametrize("data", [b"", b"line\r\nline\0", BIG], ids=["empty", "small", "big"])
def test_upload(client, side, chunked, data):
    body = multipart(
        ('name="title"', None, "é".encode()),
        ('name="file"; filename="grüße.bin"', "application/x-thing", data),
        ('name="file"; filename="two.txt"', "text/plain", b"second"),
    )
    answer = client.post(f"/{side}/upload", MULTIPART, body, chunked)
    first = {"field": "file", "name": "grüße.bin", "type": "application/x-thing", **describe(data)}
    second = {"field": "file", "name": "two.txt", "type": "text/plain", **describe(b"second")}
    assert answer.json == {"form": {"title": ["é"]}, "files": [first, second]}


@SIDES
def test_upload_field_over_memory_limit(client, side):
    body = multipart(('name="title"', None, b"x" * 600_000))
    assert client.post(f"/{side}/upload", MULTIPART, body).status == 413


@SIDES
def test_upload_of_too_many_parts(client, side):
    body = multipart(*[(f'name="n{number}"', None, b"1") for number in range(1001)])
    assert client.post(f"/{side}/upload", MULTIPART, body).status == 413


# -- bodies


@SIDES
@FRAMINGS
@pytest.mark.parametrize("reader", ["body", "body-stream"])
@pytest.mark.parametrize("size", [1, 65_536, 200_000, MIB, MIB + 1, 5 * MIB])
def test_body(client, side, chunked, reader, size):
    data = BIG[:size]
    assert client.post(f"/{side}/{reader}", (), data, chunked).json == describe(data)


@SIDES
@FRAMINGS
def test_body_lines(client, side, chunked):
    assert client.post(f"/{side}/body-lines", (), b"one\ntwo\n\nthree", chunked).json == [
        "one\n",
        "two\n",
        "\n",
        "three",
    ]


@SIDES
@FRAMINGS
@pytest.mark.parametrize("size", [10, 5 * MIB])
def test_unread_body(client, side, chunked, size):
    answer = client.post(f"/{side}/body-unread", (), BIG[:size], chunked)
    assert (answer.status, answer.text) == (200, "not read")


@SIDES
@FRAMINGS
@pytest.mark.parametrize("reader", ["body", "body-stream", "form", "json", "upload"])
def test_body_over_the_limit(client, side, chunked, reader):
    kind = {"form": FORM, "json": JSON, "upload": MULTIPART}.get(reader, ())
    answer = client.post(f"/{side}/{reader}", kind, b"x" * (8 * MIB + 1), chunked)
    assert answer.status == 413
    assert "Request Entity Too Large" in answer.text


@SIDES
@FRAMINGS
@pytest.mark.parametrize("reader", ["body", "body-stream"])
def test_body_at_the_limit(client, side, chunked, reader):
    data = b"x" * 8 * MIB
    assert client.post(f"/{side}/{reader}", (), data, chunked).json == describe(data)


@SIDES
@FRAMINGS
def test_limit_set_by_the_view(client, side, chunked):
    assert client.post(f"/{side}/body-limit/10", (), b"x" * 10, chunked).json == describe(b"x" * 10)
    assert client.post(f"/{side}/body-limit/10", (), b"x" * 11, chunked).status == 413


@SIDES
@pytest.mark.parametrize("length", ["abc", "-5", "1.5", "+3"])
def test_bad_content_length(client, side, length):
    answer = client.post(f"/{side}/body", [("Content-Length", length)])
    assert answer.status == 400
    assert differs(client.name, "bad-length-page") or "Bad Request" in answer.text
