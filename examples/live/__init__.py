"""Parlour: rooms to talk in, over websockets, and a dashboard over server-sent events, in one process or in several."""

from __future__ import annotations

import os
from pathlib import Path

from asyncflask import Flask
from asyncflask.sqlite_store import SQLiteStore
from asyncflask.stored_sessions import StoredSessionInterface

from . import chat, dashboard, headers, serving
from .hub import Hub, LocalHub


def create_app(hub: Hub | None = None, instance_path: str | Path | None = None) -> Flask:
    """An application with a folder of its own, for sessions. Without a `hub`, REDIS_URL says which one."""
    folder = open_instance(instance_path or os.environ.get("LIVE_INSTANCE_PATH"))
    app = Flask(__name__, instance_path=str(folder))
    app.config.from_mapping(
        BEAT_SECONDS=1.0,
        MAX_CONTENT_LENGTH=64 * 1024,
        SESSION_COOKIE_SAMESITE="Lax",
        WEBSOCKET_ORIGINS="same-origin",  # no other site's page speaks in its visitor's name
    )
    app.config.from_prefixed_env("LIVE")  # behind HTTPS: LIVE_SESSION_COOKIE_SECURE=true
    app.session_interface = StoredSessionInterface(SQLiteStore(folder / "sessions.sqlite3"))
    app.extensions["hub"] = hub or make_hub(os.environ.get("REDIS_URL"))
    for part in (serving, headers, chat, dashboard):
        part.init_app(app)
    return app


def make_hub(redis_url: str | None) -> Hub:
    if not redis_url:
        return LocalHub()
    from .redis_hub import RedisHub  # only who uses Redis needs its client

    return RedisHub(redis_url)


def open_instance(path: str | Path | None) -> Path:
    """The folder for what the application writes; only its owner can read it."""
    folder = Path(path or Path(__file__).parent / "instance").resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
