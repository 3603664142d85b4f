"""What outlives a request: cookies, the signed session, flashes; and that each request is torn down once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie

import pytest
from contract_differences import differs

SIDES = pytest.mark.parametrize("side", ["s", "a"])


class Jar(dict):
    """The cookies of one browser."""

    def take(self, answer):
        for line in answer.all("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self[name] = morsel.value
        return answer

    @property
    def headers(self):
        return [("Cookie", "; ".join(f"{name}={value}" for name, value in self.items() if value))]


@SIDES
def test_set_cookies(client, side):
    one, two, three = client.get(f"/{side}/cookies").all("Set-Cookie")
    assert one.startswith("one=1; Expires=") and one.endswith("; Max-Age=60; HttpOnly; Path=/; SameSite=Lax")
    assert two == r'two="\303\251\0732"; Path=/there'
    assert three == "three=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/"


@SIDES
def test_session(client, side):
    jar = Jar()
    for count in (1, 2, 3):
        answer = jar.take(client.get(f"/{side}/counter", jar.headers))
        assert (answer.json, answer.all("Vary")) == ({"count": count, "name": None}, ["Cookie"])
    login = jar.take(client.post(f"/{side}/login/bj%C3%B6rk", jar.headers))
    assert login.text == "in" and login.get("Set-Cookie").endswith("; HttpOnly; Path=/")
    assert jar.take(client.get(f"/{side}/counter", jar.headers)).json == {"count": 4, "name": "björk"}
    logout = jar.take(client.post(f"/{side}/logout", jar.headers))
    assert "session=;" in logout.get("Set-Cookie") and "Max-Age=0" in logout.get("Set-Cookie")
    assert client.get(f"/{side}/counter", jar.headers).json == {"count": 1, "name": None}


def test_session_crosses_sides(client):
    jar = Jar()
    jar.take(client.post("/s/login/ann", jar.headers))
    assert jar.take(client.get("/a/counter", jar.headers)).json == {"count": 1, "name": "ann"}
    assert jar.take(client.get("/s/counter", jar.headers)).json == {"count": 2, "name": "ann"}


@SIDES
def test_untouched_session_leaves_no_header(client, side):
    answer = client.get(f"/{side}/session-untouched")
    assert (answer.all("Set-Cookie"), answer.all("Vary")) == ([], [])


@SIDES
@pytest.mark.parametrize("split", [False, True])
def test_permanent_session_is_refreshed_by_any_request(client, side, split):
    if split and client.face == "wsgi":
        pytest.skip("a WSGI server joins repeated Cookie headers in its own way")
    jar = Jar()
    login = jar.take(client.post(f"/{side}/login/ann?permanent=1", jar.headers))
    assert "; Expires=" in login.get("Set-Cookie")
    cookies = [f"session={jar['session']}", "other=1"]
    answer = client.get(f"/{side}/session-untouched", [("Cookie", line) for line in join_unless(split, cookies)])
    assert (len(answer.all("Set-Cookie")), answer.all("Vary")) == (1, ["Cookie"])


def join_unless(split, cookies):
    """One Cookie header, or several as HTTP/2 allows (RFC 9113 8.2.3)."""
    return cookies if split else ["; ".join(cookies)]


@SIDES
def test_forged_session_is_empty(client, side):
    jar = Jar()
    jar.take(client.get(f"/{side}/counter", jar.headers))
    jar["session"] = jar["session"][:-2] + "xx"
    assert client.get(f"/{side}/counter", jar.headers).json == {"count": 1, "name": None}


@SIDES
def test_flash(client, side):
    jar = Jar()
    for text in ("one", "zw%C3%B6lf"):
        answer = jar.take(client.post(f"/{side}/flash/{text}", jar.headers))
        assert (answer.status, answer.get("Location")) == (302, "/s/flashes")
    assert jar.take(client.get(f"/{side}/flashes", jar.headers)).json == [["note", "one"], ["note", "zwölf"]]
    assert jar.take(client.get(f"/{side}/flashes", jar.headers)).json == []


# -- teardown

TORN_DOWN = [
    "/s/returns/str",
    "/a/returns/str",
    "/s/stream/20",
    "/a/stream/20",
    "/s/stream-async/20",
    "/a/stream-async/20",
    "/s/stream-context",
    "/a/stream-context",
    "/s/stream-context-async",
    "/a/stream-context-async",
    "/static/hello.txt",
    "/s/raise/app",
    "/s/raise/plain",
    "/a/raise/plain",
    "/s/returns/none",
    "/missing",
    "/s/slash",
    "/traced/sas/s",
    "/traced/sas/a",
    "/traced/sas/s-stream",
    "/traced/asa/a-error",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", TORN_DOWN)
def test_one_teardown(client, method, target):
    token = f"{client.name}-{method}-{target}".replace("/", ".")
    client.request(method, target, [("X-Token", token)])
    times = 2 if method == "GET" and target in PUSHED_AGAIN else 1
    assert wait_for_teardown(client, token, times) == {"started": 1, "torn": times}


# As in Flask 3.1.3: a stream with context pushes the contexts again, after the view's teardown, and what it opened
# anew in `g` is closed by a teardown of its own.
PUSHED_AGAIN = {
    "/s/stream-context",
    "/a/stream-context",
    "/s/stream-context-async",
    "/a/stream-context-async",
    "/traced/sas/s-stream",
}


def wait_for_teardown(client, token, times=1):
    """A streamed request may be torn down a moment after its last byte."""
    deadline = time.monotonic() + 2
    while True:
        counts = client.get(f"/counts/{token}").json
        if counts["torn"] >= times or time.monotonic() > deadline:
            return counts
        time.sleep(0.01)


def test_one_teardown_of_each_upload(client):
    token = f"{client.name}-uploads"
    for target in ("/s/body", "/a/body", "/s/body-unread", "/a/body-unread"):
        for chunked in (False, True):
            client.post(target, [("X-Token", token)], b"x" * 200_000, chunked)
    wait_for_teardown(client, token)
    assert client.get(f"/counts/{token}").json == {"started": 8, "torn": 8}


def test_every_request_was_torn_down(client):
    """All that this host has served so far, in total; the request that asks is itself still open."""
    deadline = time.monotonic() + 2
    while (counts := client.get("/counts").json)["started"] > counts["torn"] + 1:
        assert time.monotonic() < deadline, counts
        time.sleep(0.01)


# -- several at once


def test_requests_at_once_do_not_mix(client):
    targets = [f"/{side}/convert/string/{number}" for number in range(40) for side in "sa"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.get, targets))
    assert [answer.json["value"] for answer in answers] == [target.rpartition("/")[2] for target in targets]


def test_async_views_wait_for_each_other(client):
    if differs(client.name, "requests-at-once"):
        pytest.skip("serves one request at a time")
    assert client.post("/loop/queue").text == "made"
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(client.get, "/loop/queue")
        time.sleep(0.05)
        assert not waiting.done()
        assert client.request("PUT", "/loop/queue", (), b"across").text == "put"
        assert waiting.result(10).text == "across"
