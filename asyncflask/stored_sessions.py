"""Sessions that a store on the server keeps: the cookie holds nothing but an id of 256 random bits.

A store never learns an id: its keys are hashes of them, so that a copy of its data opens no session. An id that it does
not know is never taken over: the session begins anew, with an id of ours.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic

from werkzeug.datastructures import CallbackDict

from .sessions import SessionInterface, SessionMixin, needs_cookie, session_json_serializer

if t.TYPE_CHECKING:
    from .app import Flask
    from .wrappers import Request, Response

_ID_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{43}")  # what `_make_id` gives
# Sliding expiry costs a session at most one write in this time (seconds) and process, and in this part of its lifetime.
_TOUCH_INTERVAL, _TOUCH_PART = 60, 1 / 20
_TOUCHES_KEPT = 10_000


class SessionTooLarge(ValueError):
    """The session's data is larger than the interface's `max_size`; nothing was saved."""


class Store(t.Protocol):
    """Where values are kept, each for `lifetime` seconds. What any method raises is a failure of the store."""

    async def load(self, key: str) -> bytes | None: ...

    async def save(self, key: str, value: bytes, lifetime: int) -> None: ...

    async def replace(self, key: str, value: bytes, lifetime: int) -> None:
        """As `save`, but only if the key is there: what was deleted meanwhile stays deleted."""

    async def touch(self, key: str, lifetime: int) -> None:
        """The value, if it is there, lives for `lifetime` seconds from now."""

    async def delete(self, key: str) -> None: ...


def _make_id() -> str:
    return secrets.token_urlsafe(_ID_BYTES)


def _key_of(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


def _set_modified(session: StoredSession) -> None:
    session.modified = True


class StoredSession(CallbackDict[str, t.Any], SessionMixin):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A dict which notes that it was changed. A change inside of a value goes unseen: set `modified` then."""

    modified: bool = False

    def __init__(self, initial: Mapping[str, t.Any] | None = None, session_id: str | None = None) -> None:
        super().__init__(initial, _set_modified)
        self.id: str = session_id or _make_id()
        self.new: bool = session_id is None  # not in the store yet
        self.old_ids: list[str] = []  # in the store, to be deleted

    def regenerate(self) -> None:
        if not self.new:
            self.old_ids.append(self.id)
        self.id = _make_id()
        self.new = self.modified = True


class StoredSessionInterface(SessionInterface):
    """Sessions in a store. `max_size` is in bytes, of one session as it is stored.

    When the store fails, `on_failure="error"` lets the request fail; "fresh" goes on with an empty session, unsaved.
    """

    session_class = StoredSession
    serializer = session_json_serializer

    def __init__(
        self, store: Store, *, max_size: int = 64 * 1024, on_failure: t.Literal["error", "fresh"] = "error"
    ) -> None:
        if on_failure not in ("error", "fresh"):
            raise ValueError(f'on_failure is "error" or "fresh", not {on_failure!r}.')
        self.store = store
        self.max_size = max_size
        self.on_failure = on_failure
        self._touch_again: dict[str, float] = {}  # by key: not before that time

    def make_session(self, app: Flask) -> StoredSession:
        """An empty one, for a request that brings none. It costs nothing until it is changed."""
        return self.session_class()

    @needs_cookie
    async def open_session(self, app: Flask, request: Request) -> StoredSession:
        session_id = request.cookies.get(self.get_cookie_name(app), "")
        value = data = None
        if _ID.fullmatch(session_id):
            with self._handling_failure(app):
                value = await self.store.load(_key_of(session_id))
        if value is not None:
            data = self._decode(app, value)
        return self.make_session(app) if data is None else self.session_class(data, session_id)

    async def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        stored = t.cast(StoredSession, session)
        if stored.accessed:
            response.vary.add("Cookie")
        value = self._encode(stored) if stored and stored.modified else None  # its errors are not the store's
        if stored:
            with self._handling_failure(app):
                await self._keep(app, stored, value, response)
        elif stored.modified:
            await self._forget(app, stored, response)

    async def _keep(self, app: Flask, session: StoredSession, value: bytes | None, response: Response) -> None:
        """The cookie comes last: it never names a session that was not saved."""
        key, lifetime = _key_of(session.id), self.get_lifetime(app, session)
        if value is not None:
            await (self.store.save if session.new else self.store.replace)(key, value, lifetime)
            session.new = False
            await self._delete_old(session)
        elif app.config["SESSION_REFRESH_EACH_REQUEST"] and self._is_time_to_touch(key, lifetime):
            await self.store.touch(key, lifetime)
        if self.should_set_cookie(app, session):
            expires = self.get_expiration_time(app, session)
            options = self._get_cookie_options(app)
            response.set_cookie(self.get_cookie_name(app), session.id, expires=expires, **options)
            response.vary.add("Cookie")

    async def _forget(self, app: Flask, session: StoredSession, response: Response) -> None:
        session.regenerate()
        with self._handling_failure(app):
            await self._delete_old(session)
        response.delete_cookie(self.get_cookie_name(app), **self._get_cookie_options(app))
        response.vary.add("Cookie")

    async def _delete_old(self, session: StoredSession) -> None:
        while session.old_ids:
            await self.store.delete(_key_of(session.old_ids[-1]))
            session.old_ids.pop()

    def get_lifetime(self, app: Flask, session: StoredSession) -> int:
        """Seconds that the store keeps it since its last use: also of a session that is not permanent."""
        return max(1, int(app.permanent_session_lifetime.total_seconds()))

    def _is_time_to_touch(self, key: str, lifetime: int) -> bool:
        now = monotonic()
        if now < self._touch_again.get(key, 0):
            return False
        if len(self._touch_again) >= _TOUCHES_KEPT:
            self._touch_again.clear()
        self._touch_again[key] = now + min(_TOUCH_INTERVAL, lifetime * _TOUCH_PART)
        return True

    @contextmanager
    def _handling_failure(self, app: Flask) -> Iterator[None]:
        try:
            yield
        except Exception:
            if self.on_failure == "error":
                raise
            app.logger.exception("The session store failed")

    def _encode(self, session: StoredSession) -> bytes:
        value = self.serializer.dumps(dict(session)).encode()
        if len(value) > self.max_size:
            raise SessionTooLarge(
                f"The session has {len(value)} bytes, more than max_size={self.max_size} of the session interface."
                " Keep large data elsewhere, and its key in the session."
            )
        return value

    def _decode(self, app: Flask, value: bytes) -> dict[str, t.Any] | None:
        with suppress(ValueError, TypeError):  # the latter from a tag with another kind of value
            data: t.Any = self.serializer.loads(value.decode())
            if isinstance(data, dict):
                return data
        app.logger.warning("A stored session is not readable and begins anew")
        return None
