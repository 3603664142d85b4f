"""Sessions: cookies are interchangeable with Flask's, and caches are told about them by the same rules."""

from __future__ import annotations

import datetime
import hashlib
import typing as t
import uuid

import flask
import pytest
from markupsafe import Markup
from werkzeug.http import parse_date

from asyncflask import Flask, Response, request, session
from asyncflask.globals import request_ctx
from asyncflask.sessions import (
    NullSession,
    SecureCookieSession,
    SecureCookieSessionInterface,
    SessionInterface,
    SessionMixin,
)

DATA: dict[str, t.Any] = {
    "text": "ä" * 300,
    "tuple": (1, (2, [3])),
    "bytes": b"\x00\xff",
    "markup": Markup("<b>"),
    "uuid": uuid.UUID(int=5),
    "moment": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    "looks tagged": {" t": [1]},
    "none": None,
}


def make_app(module: t.Any, **config: t.Any) -> t.Any:
    """The same application with asyncflask's or with Flask's classes."""
    app = module.Flask(__name__)
    app.config.update({"SECRET_KEY": "key", **config})

    @app.get("/nothing")
    def nothing() -> str:
        return ""

    @app.get("/read")
    def read() -> str:
        return repr(sorted(module.session.items()))

    @app.get("/contains")
    def contains() -> str:
        return str("x" in module.session)

    @app.get("/len")
    def length() -> str:
        return str(len(module.session))

    @app.get("/write")
    def write() -> str:
        module.session.update(DATA)
        return ""

    @app.get("/permanent")
    def permanent() -> str:
        module.session.permanent = True
        return ""

    @app.get("/clear")
    def clear() -> str:
        module.session.clear()
        return ""

    @app.get("/clear-empty")
    def clear_empty() -> str:
        module.session.pop("x", None)
        return ""

    @app.get("/inner")
    def inner() -> str:
        module.session["tuple"][1][1].append(4)
        return ""

    return app


def asyncflask_app(**config: t.Any) -> Flask:
    import asyncflask

    return t.cast(Flask, make_app(asyncflask, **config))


def flask_app(**config: t.Any) -> flask.Flask:
    return t.cast(flask.Flask, make_app(flask, **config))


@pytest.mark.parametrize("direction", ["from flask", "to flask"])
def test_cookies_are_interchangeable(direction: str) -> None:
    writer, reader = asyncflask_app(), flask_app()
    if direction == "from flask":
        writer, reader = t.cast(t.Any, (reader, writer))
    cookie = writer.test_client()
    cookie.get("/write")
    value = cookie.get_cookie("session").value  # type: ignore[union-attr]  # it was just set
    client = reader.test_client()
    client.set_cookie("session", value)
    assert client.get("/read").text == repr(sorted(DATA.items()))


COOKIE_CONFIGS: dict[str, dict[str, t.Any]] = {
    "default": {},
    "all": {
        "SESSION_COOKIE_NAME": "own",
        "SESSION_COOKIE_DOMAIN": ".example.com",
        "SESSION_COOKIE_PATH": "/app",
        "SESSION_COOKIE_HTTPONLY": False,
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_PARTITIONED": True,
    },
    "root": {"APPLICATION_ROOT": "/root"},
    "no refresh": {"SESSION_REFRESH_EACH_REQUEST": False},
}
WALKS = {
    "nothing": ["/nothing"],
    "read": ["/read"],
    "contains": ["/contains"],
    "len": ["/len"],
    "write": ["/write", "/nothing", "/read", "/inner"],
    "permanent": ["/permanent", "/nothing", "/read"],
    "clear": ["/write", "/clear", "/read"],
    "clear empty": ["/clear-empty"],
}


def describe_cookie(header: str) -> list[str]:
    """A Set-Cookie header without what depends on the time: timestamp, signature, expiry."""
    value, *attributes = header.split("; ")
    return [value.split(".")[0], *(item.split(" ")[0] for item in attributes)]


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS.keys())
@pytest.mark.parametrize("config", COOKIE_CONFIGS.values(), ids=COOKIE_CONFIGS.keys())
def test_headers_are_flasks(config: dict[str, t.Any], walk: list[str]) -> None:
    base_url = "https://example.com/app/"
    ours = asyncflask_app(**config).test_client()
    theirs = flask_app(**config).test_client()
    for path in walk:
        seen = [
            (
                response.status_code,
                response.headers.getlist("Vary"),
                [describe_cookie(header) for header in response.headers.getlist("Set-Cookie")],
            )
            for response in (ours.get(path, base_url=base_url), theirs.get(path, base_url=base_url))
        ]
        assert seen[0] == seen[1]


def test_vary_is_added_once_and_beside_others() -> None:
    app = asyncflask_app()

    @app.get("/vary")
    def vary() -> Response:
        session["x"] = session.get("y")
        response = Response()
        response.vary.update(["Accept-Encoding", "Cookie"])
        return response

    assert app.test_client().get("/vary").headers["Vary"] == "Accept-Encoding, Cookie"


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        (lambda value: value, True),
        (lambda value: value[:-1] + ("A" if value[-1] != "A" else "Q"), False),
        (lambda value: "x" + value, False),
        (lambda value: value.split(".")[0], False),
        (lambda value: "", False),
    ],
)
def test_a_tampered_cookie_gives_an_empty_session(tampering: t.Callable[[str], str], expected: bool) -> None:
    app = asyncflask_app()
    client = app.test_client()
    client.get("/write")
    value = client.get_cookie("session").value  # type: ignore[union-attr]
    client.set_cookie("session", tampering(value))
    assert (client.get("/read").text != "[]") is expected


def test_a_cookie_expires() -> None:
    client = asyncflask_app(PERMANENT_SESSION_LIFETIME=datetime.timedelta(seconds=-1)).test_client()
    client.get("/write")
    assert client.get("/read").text == "[]"


def test_permanent_sessions_live_for_the_configured_time() -> None:
    response = asyncflask_app(PERMANENT_SESSION_LIFETIME=3600).test_client().get("/permanent")
    expires = response.headers["Set-Cookie"].split("Expires=")[1].split(";")[0]
    moment = parse_date(expires)
    assert moment is not None
    left = moment - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(minutes=59) < left <= datetime.timedelta(hours=1)


def test_fallback_keys_verify_and_the_current_key_signs() -> None:
    app = asyncflask_app()
    client = app.test_client()
    client.get("/write")

    app.config.update(SECRET_KEY="new")
    assert client.get("/read").text == "[]"
    app.config.update(SECRET_KEY_FALLBACKS=["older", "key"])
    assert client.get("/read").text != "[]"

    client.get("/write")
    app.config.update(SECRET_KEY_FALLBACKS=None)
    assert client.get("/read").text != "[]"


def test_interface_settings_change_the_signature() -> None:
    class Sha512(SecureCookieSessionInterface):
        digest_method = staticmethod(hashlib.sha512)
        salt = "other"

    class FlaskSha512(flask.sessions.SecureCookieSessionInterface):
        digest_method = staticmethod(hashlib.sha512)
        salt = "other"

    ours, theirs = asyncflask_app(), flask_app()
    plain = ours.test_client()
    plain.get("/write")
    ours.session_interface, theirs.session_interface = Sha512(), FlaskSha512()
    assert plain.get("/read").text == "[]"

    writer, reader = ours.test_client(), theirs.test_client()
    writer.get("/write")
    reader.set_cookie("session", writer.get_cookie("session").value)  # type: ignore[union-attr]
    assert reader.get("/read").text != "[]"


def test_the_serializer_is_kept_until_a_setting_changes() -> None:
    app = asyncflask_app()
    interface = SecureCookieSessionInterface()
    first = interface.get_signing_serializer(app)
    assert interface.get_signing_serializer(app) is first
    app.config["SECRET_KEY_FALLBACKS"] = ["old"]
    assert interface.get_signing_serializer(app) is not first
    app.secret_key = None
    assert interface.get_signing_serializer(app) is None


def test_without_a_key_the_session_reads_empty_and_refuses_writes() -> None:
    app = asyncflask_app(SECRET_KEY=None)
    with app.test_request_context():
        assert isinstance(session._get_current_object(), NullSession)  # type: ignore[attr-defined]
        assert session.get("x") is None
        writes: list[t.Callable[[], object]] = [
            lambda: session.update(x=1),
            lambda: session.setdefault("x", 1),
            lambda: session.pop("x", None),
            lambda: session.popitem(),
            lambda: session.clear(),
            lambda: session.__setitem__("x", 1),
            lambda: session.__delitem__("x"),
        ]
        for write in writes:
            with pytest.raises(RuntimeError, match="session is unavailable"):
                write()
    assert "Set-Cookie" not in app.test_client().get("/read").headers


def test_modified_is_noted_by_every_change() -> None:
    changes: list[t.Callable[[SecureCookieSession], object]] = [
        lambda s: s.update(y=1),
        lambda s: s.pop("x"),
        lambda s: s.setdefault("y", 1),
        lambda s: s.clear(),
        lambda s: s.__setitem__("x", 2),
        lambda s: s.__delitem__("x"),
        lambda s: s.__ior__({"z": 1}),
    ]
    for change in changes:
        changed = SecureCookieSession({"x": 1})
        assert not changed.modified
        change(changed)
        assert changed.modified


def test_mixin_for_own_sessions() -> None:
    class Own(dict[str, t.Any], SessionMixin):
        pass

    own = Own()
    assert (own.new, own.modified, own.accessed, own.permanent) == (False, True, False, False)
    own.permanent = 1  # type: ignore[assignment]
    assert own == {"_permanent": True}


def test_own_interface() -> None:
    class Memory(SessionInterface):
        store: t.ClassVar[dict[str, t.Any]] = {}

        def open_session(self, app: Flask, request: t.Any) -> SessionMixin:
            return SecureCookieSession(self.store.get(request.headers.get("User", "")))

        def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
            self.store[request.headers["User"]] = dict(session)

    app = asyncflask_app()
    app.session_interface = Memory()
    client = app.test_client()
    client.get("/write", headers={"User": "a"})
    assert Memory.store == {"a": DATA}
    assert client.get("/read", headers={"User": "b"}).text == "[]"


def test_an_interface_which_opens_nothing_gives_a_null_session() -> None:
    class Nothing(SessionInterface):
        def open_session(self, app: Flask, request: t.Any) -> None:
            return None

    app = asyncflask_app()
    app.session_interface = Nothing()
    with app.test_request_context():
        assert app.session_interface.is_null_session(request_ctx._session)
    assert app.test_client().get("/read").text == "[]"


def test_base_interface_is_abstract() -> None:
    app = asyncflask_app()
    with pytest.raises(NotImplementedError):
        SessionInterface().open_session(app, t.cast(t.Any, None))
    with pytest.raises(NotImplementedError):
        SessionInterface().save_session(app, SecureCookieSession(), Response())


def test_default_interface_is_marked_as_never_blocking() -> None:
    for method in (SecureCookieSessionInterface.open_session, SecureCookieSessionInterface.save_session):
        assert getattr(method, "_nonblocking", False)
    assert not hasattr(SessionInterface.open_session, "_nonblocking")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_session_in_either_kind_of_view(asynchronous: bool) -> None:
    app = asyncflask_app()

    def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    async def count_async() -> str:
        return count()

    app.add_url_rule("/count", view_func=count_async if asynchronous else count)
    client = app.test_client()
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
