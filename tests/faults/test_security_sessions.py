"""Sessions and cookies: what caches may keep, whose key signs, and cookies that pose as others."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable

import pytest
from fuzz.faces import Answer
from itsdangerous import URLSafeTimedSerializer
from security import ask, both_faces, is_linear, make_app

from asyncflask import Flask, flash, get_flashed_messages, render_template_string, request, session
from asyncflask.sessions import SecureCookieSessionInterface, SessionMixin

both_styles = pytest.mark.parametrize("style", ["sync", "async"])
Use = Callable[[SessionMixin], object]

# CVE-2023-30861, GHSA-68rp-wp8r-4726, GHSA-4grg-w6v8-c28g

USES: dict[str, Use] = {
    "in": lambda session: "name" in session,
    "not in": lambda session: "name" not in session,
    "len": len,
    "bool": bool,
    "iter": lambda session: list(session),
    "item": lambda session: session.setdefault("_absent", 1) and session.pop("_absent"),
    "get": lambda session: session.get("name"),
    "keys": lambda session: list(session.keys()),
    "values": lambda session: list(session.values()),
    "items": lambda session: list(session.items()),
    "==": lambda session: session == {},
    "!=": lambda session: session != {},
    "repr": repr,
    "str": str,
    "dict": lambda session: dict(**session),
    "copy": lambda session: t.cast(t.Any, session).copy(),
    "|": lambda session: t.cast(t.Any, session) | {},
    "permanent": lambda session: session.permanent,
    "new": lambda session: session.new,
    "modified": lambda session: session.modified,
    "set": lambda session: session.update(name="value"),
    "clear": lambda session: session.clear(),
    "flashes": lambda session: get_flashed_messages(),
    "flash": lambda session: flash("text"),
    "template": lambda session: render_template_string("{{ session.name }}"),
    "template in": lambda session: render_template_string("{% if 'name' in session %}yes{% endif %}"),
    "template len": lambda session: render_template_string("{{ session|length }}"),
    "template flashes": lambda session: render_template_string("{{ get_flashed_messages() }}"),
}


class Site:
    def __init__(self, **config: t.Any) -> None:
        self.app = make_app(**config)
        self.use: Use = bool
        self.app.add_url_rule("/sync", "sync", self.view)
        self.app.add_url_rule("/async", "async", self.view_async)
        self.app.add_url_rule("/kept", "kept", lambda: dict(session))
        self.app.add_url_rule("/untouched", "untouched", lambda: "x")

    def view(self) -> str:
        self.use(t.cast(SessionMixin, session))
        return "body"

    async def view_async(self) -> str:
        return self.view()

    def cookie(self, **data: t.Any) -> bytes:
        serializer = t.cast(t.Any, SecureCookieSessionInterface().get_signing_serializer(self.app))
        return f"session={serializer.dumps(data)}".encode()

    def read(self, face: str, cookie: bytes) -> t.Any:
        return json.loads(ask(face, self.app, "/kept", (b"cookie", cookie)).body)


@pytest.fixture
def site() -> Site:
    return Site()


def varies(answer: Answer) -> bool:
    return "cookie" in answer.headers.get("vary", "").lower()


@both_faces
@both_styles
@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("has_cookie", [True, False])
def test_each_access_varies_by_cookie(site: Site, face: str, style: str, use: str, has_cookie: bool) -> None:
    site.use = USES[use]
    headers = [(b"cookie", site.cookie(name="value"))] if has_cookie else []
    assert varies(ask(face, site.app, f"/{style}", *headers))
    assert not varies(ask(face, site.app, "/untouched", *headers))


@both_faces
@both_styles
def test_refreshed_and_deleted_cookies_vary(site: Site, face: str, style: str) -> None:
    """A permanent session's cookie is sent again with responses that did not look at it."""
    cookie = (b"cookie", site.cookie(_permanent=True, name="value"))
    answer = ask(face, site.app, "/untouched", cookie)
    assert varies(answer) and "set-cookie" in answer.headers
    site.use = USES["clear"]
    answer = ask(face, site.app, f"/{style}", cookie)
    assert varies(answer) and "Max-Age=0" in answer.headers["set-cookie"]


@both_faces
@both_styles
def test_access_in_hooks_varies(site: Site, face: str, style: str) -> None:
    def look(*args: t.Any) -> None:
        "name" in session  # noqa: B015  # the look is what counts

    site.app.before_request(look)
    assert varies(ask(face, site.app, "/untouched"))


@both_faces
def test_new_cookies_are_signed_with_the_current_key(face: str) -> None:
    old, new = Site(), Site(SECRET_KEY_FALLBACKS=[make_app().secret_key])
    new.app.secret_key = "the current key of these tests"
    for site in (old, new):
        site.use = USES["set"]
    before = old.cookie(name="old")
    assert new.read(face, before) == {"name": "old"}
    cookie = ask(face, new.app, "/sync", (b"cookie", before)).headers["set-cookie"].partition(";")[0].encode()
    assert old.read(face, cookie) == {} and new.read(face, cookie) == {"name": "value"}
    new.app.config["SECRET_KEY_FALLBACKS"] = None
    assert new.read(face, cookie) == {"name": "value"} and new.read(face, before) == {}


@both_faces
def test_changed_cookies_are_no_sessions(site: Site, face: str) -> None:
    cookie = site.cookie(name="value")
    assert site.read(face, cookie) == {"name": "value"}
    start = len(b"session=")
    for at in range(start, len(cookie)):
        changed = cookie[:at] + (b"A" if cookie[at : at + 1] != b"A" else b"B") + cookie[at + 1 :]
        # The last character of a signature has bits of no meaning.
        assert site.read(face, changed) == {} or at == len(cookie) - 1
    for other in (
        cookie[:-1],
        cookie + b"A",
        cookie.replace(b".", b"", 1),
        b"session=",
        b"session=.",
        b"session=..",
        b"session=\xff.a.b",
    ):
        assert site.read(face, other) == {}, other


@both_faces
@pytest.mark.parametrize(
    "payload", ["[1]", "null", "1", '"text"', "[[1,2]]", "{", "", '{" t":1}', '{" d":"x"}', '{" u":"x"}', '{" b":"x"}']
)
def test_signed_cookies_of_another_make(site: Site, face: str, payload: str) -> None:
    """Another version of the application wrote them, or one with its key: the session is new, not a 500 for ever."""

    class Text:
        dumps = loads = staticmethod(lambda text, **options: str(text))

    options = {"key_derivation": "hmac", "digest_method": SecureCookieSessionInterface.digest_method}
    serializer = URLSafeTimedSerializer(site.app.secret_key or "", "cookie-session", Text(), signer_kwargs=options)
    cookie = f"session={t.cast(str, serializer.dumps(payload))}".encode()
    answer = ask(face, site.app, "/kept", (b"cookie", cookie))
    assert (answer.status, json.loads(answer.body)) == (200, {})


# CVE-2023-23934


@pytest.fixture
def app() -> Flask:
    app = make_app()
    app.add_url_rule("/", "show", lambda: {"session": dict(session), "cookies": list(request.cookies.items(True))})
    return app


@both_faces
@pytest.mark.parametrize(
    "cookie", [b"=__Host-x=bad", b"==__Host-x=bad", b" =__Host-x=bad", b"a=1; =__Host-x=bad", b"=; =__Host-x=bad"]
)
def test_nameless_cookies(app: Flask, face: str, cookie: bytes) -> None:
    seen = json.loads(ask(face, app, "/", (b"cookie", cookie)).body)["cookies"]
    assert all(name and name != "__Host-x" for name, _ in seen)


@both_faces
@pytest.mark.parametrize("start", [b"=", b"==", b" =", b"a=1; =", b"session "])
def test_session_is_not_taken_from_a_cookie_that_poses_as_it(site: Site, face: str, start: bytes) -> None:
    assert site.read(face, start + site.cookie(name="evil")) == {}


@both_faces
def test_cookies_take_linear_time(app: Flask, face: str) -> None:
    """Fault 16."""
    for piece in (b"a=1; ", b"=", b";", b'"', b"a", b'a="\\', b"session=; ", b" ", b"x" * 100 + b"session=1; "):
        assert is_linear(lambda size, piece=piece: ask(face, app, "/", (b"cookie", piece * size))), piece
