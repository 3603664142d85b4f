"""SQLite: one connection for each request, opened when first asked for, closed when the request is over.

A connection stays in the thread that opened it. All `def` hooks and views of one request run in the same
thread, so `get_db` is right in every one of them. An `async def` view runs on the event loop: it calls
`connect` within `asyncio.to_thread`, so that a slow disk never holds up other requests.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from asyncflask import Flask, current_app, g

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


def init_app(app: Flask) -> None:
    app.teardown_appcontext(close_db)


def connect(path: str) -> sqlite3.Connection:
    """A new connection to the database at `path`; an empty file gets its tables."""
    connection = sqlite3.connect(path, timeout=10)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")  # SQLite's default is off, for each connection
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.executescript(SCHEMA)
    return connection


def get_db() -> sqlite3.Connection:
    """The connection of this request."""
    if "db" not in g:
        g.db = connect(current_app.config["DATABASE"])
    return g.db  # type: ignore[no-any-return]  # g holds anything


def close_db(error: BaseException | None = None) -> None:
    connection = g.pop("db", None)
    if connection is not None:
        connection.close()
