"""Sessions, and the default interface which keeps them in a signed cookie.

The cookie is Flask's: tagged JSON, signed with the secret key under the salt ``cookie-session`` by HMAC-SHA1.
"""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache

from itsdangerous import BadData
from werkzeug.datastructures import CallbackDict

from .cookies import find_cookie, set_cookie, vary_by_cookie
from .json.tag import TaggedJSONSerializer
from .signing import SessionSerializer
from .steps import nonblocking

if t.TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer

    from .app import Flask
    from .wrappers import Request, Response

Key = str | bytes
F = t.TypeVar("F", bound=Callable[..., t.Any])


class SessionMixin(MutableMapping[str, t.Any]):
    """What a session offers beyond a dict. A backend which can't tell keeps ``modified = True``."""

    new = False
    modified = True
    # Set by the request context whenever the session is taken from it: then the response varies by cookie.
    accessed = False

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser's session."""
        permanent: bool = self.get("_permanent", False)
        return permanent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self["_permanent"] = bool(value)

    def regenerate(self) -> None:
        """Give the session a new id and keep its data: at each log-in, so that nobody else knows the id."""
        raise RuntimeError(f"{type(self).__name__} cannot be regenerated: only sessions of a store have an id.")


def _set_modified(session: SecureCookieSession) -> None:
    session.modified = True


# bytes; a key of secrets.token_hex() has 64
SHORTEST_KEY = 16
# Keys that stand in manuals, and so in every attacker's list.
_EXAMPLES = frozenset(
    {b'_5#y2L"F4Q8z\n\xec]/', b"192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf"}
)  # fmt: skip


def warn_of_weak_key(app: Flask) -> None:
    """Where sessions are signed with a key that can be guessed, outside of development and tests."""
    key = app.secret_key
    if not key or app.debug or app.testing or not isinstance(app.session_interface, SecureCookieSessionInterface):
        return
    raw = key.encode() if isinstance(key, str) else key
    if len(raw) < SHORTEST_KEY or raw in _EXAMPLES:
        app.logger.warning(
            "SECRET_KEY can be guessed, and with it anybody can write a session: it is %s. Make one with"
            " python -c 'import secrets; print(secrets.token_hex())' and keep it out of the code.",
            "a manual's example" if raw in _EXAMPLES else f"shorter than {SHORTEST_KEY} bytes",
        )


class SecureCookieSession(CallbackDict[str, t.Any], SessionMixin):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A dict which notes that it was changed. A change inside of a value goes unseen: set `modified` then."""

    modified = False

    def __init__(self, initial: Mapping[str, t.Any] | None = None) -> None:
        super().__init__(initial, _set_modified)


def _refuse_change(session: NullSession, /, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
    raise RuntimeError(
        "The session is unavailable: there is no secret key to sign it with. Give app.secret_key a random value."
    )


class NullSession(SecureCookieSession):
    """The session of an application without a secret key: empty, and not to be written to."""

    if not t.TYPE_CHECKING:  # which know it as a session like any other
        __setitem__ = setdefault = update = _refuse_change
        __delitem__ = pop = popitem = clear = _refuse_change


class SessionInterface:
    """How sessions are opened and saved, and their cookie's attributes."""

    null_session_class = NullSession
    pickle_based = False

    def get_cookie_name(self, app: Flask) -> str:
        return t.cast(str, app.config["SESSION_COOKIE_NAME"])

    def get_cookie_domain(self, app: Flask) -> str | None:
        return t.cast(str | None, app.config["SESSION_COOKIE_DOMAIN"])

    def get_cookie_path(self, app: Flask) -> str:
        return t.cast(str, app.config["SESSION_COOKIE_PATH"] or app.config["APPLICATION_ROOT"])

    def get_cookie_httponly(self, app: Flask) -> bool:
        return t.cast(bool, app.config["SESSION_COOKIE_HTTPONLY"])

    def get_cookie_secure(self, app: Flask) -> bool:
        return t.cast(bool, app.config["SESSION_COOKIE_SECURE"])

    def get_cookie_samesite(self, app: Flask) -> str | None:
        return t.cast(str | None, app.config["SESSION_COOKIE_SAMESITE"])

    def get_cookie_partitioned(self, app: Flask) -> bool:
        return t.cast(bool, app.config["SESSION_COOKIE_PARTITIONED"])

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> datetime | None:
        return datetime.now(UTC) + app.permanent_session_lifetime if session.permanent else None

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """Whether the session was changed, or is permanent and refreshed by every request."""
        return session.modified or (session.permanent and app.config["SESSION_REFRESH_EACH_REQUEST"])

    def make_null_session(self, app: Flask) -> NullSession:
        return self.null_session_class()

    def is_null_session(self, obj: object) -> bool:
        return isinstance(obj, self.null_session_class)

    def open_session(self, app: Flask, request: Request) -> SessionMixin | Awaitable[SessionMixin | None] | None:
        """The request's session; None where it can't be had, which gives a null session. May be `async def`."""
        raise NotImplementedError

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> Awaitable[None] | None:
        """Called at the end of each request whose session is no null session. May be `async def`."""
        raise NotImplementedError

    def _get_cookie_options(self, app: Flask) -> dict[str, t.Any]:
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "partitioned": self.get_cookie_partitioned(app),
            "samesite": self.get_cookie_samesite(app),
            "httponly": self.get_cookie_httponly(app),
        }


session_json_serializer: TaggedJSONSerializer = TaggedJSONSerializer()


@lru_cache(maxsize=32)
def _make_serializer(
    keys: tuple[Key, ...],
    salt: str,
    serializer: t.Any,
    key_derivation: str,
    digest_method: Callable[..., t.Any],
) -> SessionSerializer:
    """The serializer of these settings, kept: building one costs more than a request's other session work."""
    return SessionSerializer(
        t.cast(t.Any, keys),
        salt=salt,
        serializer=serializer,
        signer_kwargs={"key_derivation": key_derivation, "digest_method": digest_method},
    )


def opens_lazily(interface: SessionInterface) -> bool:
    """Whether an untouched session without a cookie comes to nothing, so that it need not even be opened."""
    cls = type(interface)
    return not vars(interface) and all(
        getattr(cls, name, None) is getattr(SecureCookieSessionInterface, name) for name in _LAZY_PARTS
    )


def needs_cookie(f: F) -> F:
    """Mark an `open_session` which without the session's cookie comes to `make_session(app)`: that is called then."""
    f._needs_cookie = True  # type: ignore[attr-defined]  # functions take attributes
    return f


_LAZY_PARTS = (
    "open_session", "save_session", "session_class", "get_signing_serializer", "is_null_session", "make_null_session",
    "null_session_class", "serializer", "get_cookie_name",
)  # fmt: skip


class SecureCookieSessionInterface(SessionInterface):
    """The session is the cookie: signed, so that it can't be changed, but readable by whoever has it."""

    session_class = SecureCookieSession
    serializer = session_json_serializer
    # These two and the digest are part of the cookie: Flask and we read each other's.
    key_derivation = "hmac"
    salt = "cookie-session"

    @staticmethod
    def digest_method(string: bytes = b"") -> t.Any:
        # Not `hashlib.sha1` itself: this module must import, and take another digest, where SHA-1 is forbidden.
        return hashlib.sha1(string)

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """None where the application has no secret key."""
        secret_key = app.secret_key
        if not secret_key:
            return None
        # The last key signs, each one verifies.
        keys = (*(app.config["SECRET_KEY_FALLBACKS"] or ()), secret_key)
        return _make_serializer(keys, self.salt, self.serializer, self.key_derivation, self.digest_method)

    @nonblocking
    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        serializer = self.get_signing_serializer(app)
        if serializer is None:
            return None
        cookie = find_cookie(request, self.get_cookie_name(app))
        if not cookie:
            return self.session_class()
        max_age = int(app.permanent_session_lifetime.total_seconds())
        try:
            kept = serializer.loads(cookie, max_age=max_age)
        except BadData:  # forged, too old, or written by another version of the application
            kept = None
        return self.session_class(kept if isinstance(kept, dict) else None)

    @nonblocking
    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.accessed:
            vary_by_cookie(response)
        if not session:
            if session.modified:
                response.delete_cookie(self.get_cookie_name(app), **self._get_cookie_options(app))
                vary_by_cookie(response)
        elif self.should_set_cookie(app, session):
            value = self._sign(app, session)
            expires = self.get_expiration_time(app, session)
            set_cookie(response, self.get_cookie_name(app), value, expires, **self._get_cookie_options(app))
            vary_by_cookie(response)

    def _sign(self, app: Flask, session: SessionMixin) -> str:
        serializer = self.get_signing_serializer(app)
        assert serializer is not None, "A session which is not null needs a secret key."
        signed: str = serializer.dumps(dict(session))
        return signed
