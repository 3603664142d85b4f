"""Which view answers: converters, methods, slashes, percent-encoding, errors and their handlers."""

from __future__ import annotations

from urllib.parse import quote

import pytest

SIDES = pytest.mark.parametrize("side", ["s", "a"])
UUID = "12345678-1234-5678-1234-567812345678"
CONVERTED = [
    ("string", "word", "word", "str"),
    ("string", "h%C3%A9%20%E2%82%AC", "hé €", "str"),
    ("string", "a+b&c=d;e", "a+b&c=d;e", "str"),
    ("string", "%F0%9F%90%8D", "🐍", "str"),
    ("string", "a%3Fb%23c%25d", "a?b#c%d", "str"),
    ("string", "%FF", "\ufffd", "str"),
    ("int", "0042", "42", "int"),
    ("signed", "-7", "-7", "int"),
    ("float", "1.50", "1.5", "float"),
    ("path", "a/b/c", "a/b/c", "str"),
    ("path", "a%2Fb", "a/b", "str"),
    ("path", "%C3%BC/x%20y", "ü/x y", "str"),
    ("uuid", UUID, UUID, "UUID"),
    ("color", "red", "red", "str"),
    ("pair", "ab", "ab", "str"),
    ("digit", "9", "9", "int"),
]
UNCONVERTED = [
    ("string", "a/b"),
    ("string", "a%2Fb"),
    ("int", "x"),
    ("int", "-7"),
    ("int", "1.5"),
    ("float", "1"),
    ("uuid", "1234"),
    ("color", "green"),
    ("pair", "abc"),
    ("digit", "10"),
]


@SIDES
@pytest.mark.parametrize(("name", "sent", "value", "kind"), CONVERTED)
def test_converter(client, side, name, sent, value, kind):
    answer = client.get(f"/{side}/convert/{name}/{sent}")
    assert answer.status == 200
    assert answer.json == {"name": name, "value": value, "type": kind}


@SIDES
@pytest.mark.parametrize(("name", "sent"), UNCONVERTED)
def test_converter_refuses(client, side, name, sent):
    assert client.get(f"/{side}/convert/{name}/{sent}").status == 404


@SIDES
def test_view_args(client, side):
    answer = client.get(f"/{side}/pair/x%20y/12")
    assert answer.json == {"first": "x y", "second": 12, "args": {"first": "x y", "second": 12}}


@SIDES
def test_defaults(client, side):
    assert client.get(f"/{side}/default").text == "1"
    assert client.get(f"/{side}/default/3").text == "3"
    canonical = client.get(f"/{side}/default/1?q=1")
    assert (canonical.status, canonical.get("Location")) == (308, f"http://contract.test/{side}/default?q=1")


REDIRECTED = [
    ("slash", "slash/"),
    ("slash?q=%C3%A9&r=a+b", "slash/?q=%C3%A9&r=a+b"),
    ("/slash/", "slash/"),
    ("convert//int/4", "convert/int/4"),
    ("convert/string///%C3%A9", "convert/string/%C3%A9"),
]


@SIDES
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("sent", "location"), REDIRECTED)
def test_path_redirects(client, side, method, sent, location):
    answer = client.request(method, f"/{side}/{sent}")
    assert answer.status == 308
    assert same_url(answer.get("Location"), f"http://contract.test/{side}/{location}")


def same_url(one, other):
    return quote(one, safe="/:?&=+%") == quote(other, safe="/:?&=+%")


@SIDES
def test_slashes(client, side):
    assert client.get(f"/{side}/slash/").text == "slash"
    assert client.get(f"/{side}/no-slash").text == "no slash"
    assert client.get(f"/{side}/no-slash/").status == 404
    assert client.get(f"/{side}/either").text == "either"
    assert client.get(f"/{side}/either/").text == "either"


@pytest.mark.parametrize(
    "target", ["//evil.test/", "//evil.test/s/slash", "//evil.test//s/slash", "/%5Cevil.test/s/slash"]
)
def test_no_redirect_leaves_the_host(client, target):
    answer = client.get(target)
    assert answer.status in {308, 404}, answer
    assert (answer.get("Location") or "http://contract.test/").startswith("http://contract.test/")


def test_redirect_to(client):
    answer = client.get("/s/old?q=1")
    assert (answer.status, answer.get("Location")) == (308, "http://contract.test/s/no-slash")


@SIDES
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_method_reaches_the_view(client, side, method):
    answer = client.request(method, f"/{side}/echo")
    assert answer.status == 200
    assert answer.body == b"" if method == "HEAD" else answer.json["method"] == method


@SIDES
@pytest.mark.parametrize(("target", "method"), [("no-slash", "POST"), ("put-only", "GET"), ("put-only", "HEAD")])
def test_method_not_allowed(client, side, target, method):
    answer = client.request(method, f"/{side}/{target}")
    assert answer.status == 405
    assert allowed(answer) == {"PUT", "DELETE", "OPTIONS"} if target == "put-only" else {"GET", "HEAD", "OPTIONS"}


def allowed(answer):
    return {name.strip() for name in answer.get("Allow").split(",")}


@SIDES
def test_options(client, side):
    answer = client.request("OPTIONS", f"/{side}/echo")
    assert (answer.status, answer.body) == (200, b"")
    assert allowed(answer) == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    assert client.request("OPTIONS", f"/{side}/own-options").text == "own OPTIONS"
    assert client.request("OPTIONS", f"/{side}/no-options").status == 405
    assert client.request("OPTIONS", f"/{side}/missing").status == 404


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_not_found(client, method):
    answer = client.request(method, "/missing/%C3%A9")
    assert answer.status == 404
    assert answer.get("Content-Type") == "text/html; charset=utf-8"
    assert method == "HEAD" or "Not Found" in answer.text


URLS = {
    "relative": "/s/pair/a%20b/2?q=%C3%A9",
    "external": "http://contract.test/a/pair/%C3%A9/2",
    "scheme": "https://contract.test/s/slash/",
    "anchor": "/s/slash/#x%20y",
    "static": "/static/hello.txt",
    "blueprint": "/parent/child/leaf/3",
}


@SIDES
def test_url_for(client, side):
    assert client.get(f"/{side}/urls").json == URLS


@SIDES
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect(client, side, code):
    answer = client.get(f"/{side}/redirect/{code}")
    assert (answer.status, answer.all("Location")) == (code, ["/s/slash/"])


# -- errors


@SIDES
@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 422, 429, 500, 503])
def test_abort(client, side, code):
    answer = client.get(f"/{side}/abort/{code}")
    assert answer.status == code
    assert "<p>on purpose</p>" in answer.text


RAISED = {
    "app": (460, b"app class: AppError raised"),
    "narrow": (460, b"app class: NarrowError raised"),
    "async": (461, b'{"async handler":"raised"}\n'),
}


@SIDES
@pytest.mark.parametrize("kind", RAISED)
def test_handler_by_class(client, side, kind):
    answer = client.get(f"/{side}/raise/{kind}")
    assert (answer.status, answer.body) == RAISED[kind]


@SIDES
def test_handler_by_code(client, side):
    answer = client.get(f"/{side}/abort/418")
    assert (answer.status, answer.text, answer.get("X-Handled")) == (418, "app 418: on purpose", "app")


@SIDES
def test_abort_with_response(client, side):
    answer = client.get(f"/{side}/abort-response")
    assert (answer.status, answer.text, answer.get("X-One")) == (499, "aborted with it", "1")


@SIDES
@pytest.mark.parametrize("kind", ["plain", "key"])
def test_unhandled_error_is_500(client, side, kind):
    answer = client.get(f"/{side}/raise/{kind}")
    assert answer.status == 500
    assert "Internal Server Error" in answer.text and "raised" not in answer.text


@SIDES
def test_500_handler(client, side):
    answer = client.get(f"/guarded/{side}")
    assert (answer.status, answer.json) == (500, {"original": "ZeroDivisionError"})
    assert answer.get("X-After") == "guarded"


# -- blueprints


@pytest.mark.parametrize("view", ["leaf", "leaf_async"])
def test_nested_blueprints(client, view):
    answer = client.get(f"/parent/child/{view.replace('_', '-')}/5")
    assert answer.json == {
        "order": ["parent", "child"],
        "names": ["parent.child", "parent"],
        "endpoint": f"parent.child.{view}",
        "number": 5,
    }
    assert answer.all("X-After") == ["child", "parent"]


NESTED = {
    "relative": (200, "/parent/child/leaf/1"),
    "narrow": (463, "child class Narrow"),
    "wide": (462, "parent class Wide"),
    "stop/403": (403, "parent 403 child"),
    "stop/404": (404, "child 404 child"),
    "stop/410": (410, "app-wide 410 child"),
    "stop/418": (418, "app 418: child"),
}


@pytest.mark.parametrize("target", NESTED)
def test_nested_blueprint_answers(client, target):
    answer = client.get(f"/parent/child/{target}")
    assert (answer.status, answer.text) == NESTED[target]
    assert answer.all("X-After") == ["child", "parent"]


def test_blueprint_handler_elsewhere(client):
    assert client.get("/parent/stop").status == 418
    assert client.get("/s/abort/410").text == "app-wide 410 on purpose"
    assert "child 404" not in client.get("/parent/child/missing").text


@SIDES
def test_before_hook_answers_for_the_view(client, side):
    assert client.get(f"/gate/{side}").text == "passed"
    stopped = client.get(f"/gate/{side}?stop")
    assert (stopped.status, list(stopped.json)) == (401, ["stopped"])


def test_url_defaults_and_value_preprocessor(client):
    assert client.get("/lang/de/here/x").json == {"code": "de", "name": "x", "there": "/lang/de/there/x"}
    assert client.get("/lang/fr/there/x").json == {"code": "fr", "name": "x", "here": "/lang/xx/here/x"}
