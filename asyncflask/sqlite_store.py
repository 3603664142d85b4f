"""Sessions in an SQLite file: nothing to install or to run, for one machine. Its processes may share the file."""

from __future__ import annotations

import os
import sqlite3
import typing as t
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from time import monotonic, sleep, time
from weakref import WeakSet, finalize

from .bridge import current_loop

T = t.TypeVar("T")

_BUSY_TIMEOUT = 5  # seconds to wait for another process
_LONG = 0.1  # seconds in the queue that count
_SWEEP = 20  # expired rows that one save removes at most
_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL);
CREATE INDEX IF NOT EXISTS session_expires ON session (expires);
"""


class SQLiteStore:
    """A `Store` with one connection, which lives in a thread of its own: no event loop waits for the disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.path.abspath(path)
        _stores.add(self)

    @cached_property
    def _file(self) -> _File:
        # Made at the first use: gevent's patches may come after the import (gunicorn's `--preload`).
        return _File(self.path)

    async def load(self, key: str) -> bytes | None:
        return await self._file.run(_load, key, time())

    async def save(self, key: str, value: bytes, lifetime: int) -> None:
        await self._file.run(_save, key, value, time(), lifetime)

    async def replace(self, key: str, value: bytes, lifetime: int) -> None:
        await self._file.run(_replace, key, value, time(), lifetime)

    async def touch(self, key: str, lifetime: int) -> None:
        await self._file.run(_touch, key, time(), lifetime)

    async def delete(self, key: str) -> None:
        await self._file.run(_delete, key)

    async def close(self) -> None:
        """Close the file, and end its thread. The next use opens it again."""
        if (file := self._forget_file()) is not None:
            await file.close()

    def _forget_file(self) -> _File | None:
        file: _File | None = vars(self).pop("_file", None)
        return file

    def _begin_after_fork(self) -> None:
        """SQLite forbids any use of an inherited connection, and that is to close it too."""
        file = self._forget_file()
        if file is not None and file.closer is not None:
            file.closer.detach()
            _inherited.append(file.connection)


class _File:
    """The connection and its thread. This ends, as executors do, when nobody holds it: a call that comes while the
    store closes is still carried out.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="asyncflask-sessions")
        self.connection: sqlite3.Connection | None = None
        self.closer: finalize[..., t.Any] | None = None

    async def run(self, work: Callable[..., T], *args: t.Any) -> T:
        return await current_loop().run_in_executor(self.thread, self._call, work, args, monotonic())

    async def close(self) -> None:
        await current_loop().run_in_executor(self.thread, self._close)

    # In the thread

    def _call(self, work: Callable[..., T], args: tuple[t.Any, ...], asked: float) -> T:
        if self.connection is None:
            self.connection = _open(self.path)
            self.closer = finalize(self, self.connection.close)
        waited = monotonic() - asked
        if waited < _LONG:
            return work(self.connection, *args)
        # While the file is locked, what queues up behind one call has waited with it.
        _set_patience(self.connection, _BUSY_TIMEOUT - waited)
        try:
            return work(self.connection, *args)
        finally:
            _set_patience(self.connection, _BUSY_TIMEOUT)

    def _close(self) -> None:
        if self.closer is not None:
            self.closer()
        self.connection = self.closer = None


_stores: WeakSet[SQLiteStore] = WeakSet()
_inherited: list[sqlite3.Connection | None] = []


def _begin_all_after_fork() -> None:
    for store in list(_stores):
        store._begin_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has none
    os.register_at_fork(after_in_child=_begin_all_after_fork)


def _open(path: str) -> sqlite3.Connection:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with suppress(FileExistsError):  # sessions are nobody else's to read
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    # `finalize` may close it from another thread.
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _turn_on_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_patience(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {max(0, int(seconds * 1000))}")


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    """Several processes that begin at once: SQLite does not wait for the one that turns it on."""
    deadline = monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(0.01)  # pragma: no cover  # a race of processes


def _load(connection: sqlite3.Connection, key: str, now: float) -> bytes | None:
    row = connection.execute("SELECT value FROM session WHERE key = ? AND expires > ?", (key, now)).fetchone()
    return None if row is None else t.cast(bytes, row[0])


def _save(connection: sqlite3.Connection, key: str, value: bytes, now: float, lifetime: int) -> None:
    with connection:  # one transaction
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "DELETE FROM session WHERE key IN (SELECT key FROM session WHERE expires <= ? LIMIT ?)", (now, _SWEEP)
        )
        connection.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?)", (key, value, now + lifetime))


def _replace(connection: sqlite3.Connection, key: str, value: bytes, now: float, lifetime: int) -> None:
    connection.execute(
        "UPDATE session SET value = ?, expires = ? WHERE key = ? AND expires > ?", (value, now + lifetime, key, now)
    )


def _touch(connection: sqlite3.Connection, key: str, now: float, lifetime: int) -> None:
    connection.execute("UPDATE session SET expires = ? WHERE key = ? AND expires > ?", (now + lifetime, key, now))


def _delete(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("DELETE FROM session WHERE key = ?", (key,))
