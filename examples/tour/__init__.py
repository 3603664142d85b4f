"""Marginalia, a notes application: the parts most first applications need, one short file for each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncflask import Flask

from . import api, auth, csrf, db, errors, export, files, headers, live, notes, pages, text, urls, where
from .secret import load_secret_key

# Order matters twice: `urls` comes before the routes that use its converter, and hooks run in the order of
# registration: the clock starts, the user is loaded, then the form token is checked.
PARTS = (urls, where, db, auth, csrf, errors, headers, text, pages, notes, files, export, live, api)


def create_app(config: Mapping[str, Any] | None = None, instance_path: str | Path | None = None) -> Flask:
    """An application with a folder of its own; `config` wins over TOUR_* environment variables."""
    folder = open_instance(instance_path or os.environ.get("TOUR_INSTANCE_PATH"))
    app = Flask(__name__, instance_path=str(folder))
    app.config.from_mapping(
        DATABASE=str(folder / "notes.sqlite3"),
        UPLOADS=str(folder / "uploads"),
        MAX_CONTENT_LENGTH=2 * 1024 * 1024,
        SESSION_COOKIE_SAMESITE="Lax",
        LOOKUP_SECONDS=0.4,
        TICK_SECONDS=0.5,
    )
    app.config.from_prefixed_env("TOUR")  # behind HTTPS: TOUR_SESSION_COOKIE_SECURE=true
    app.config.from_mapping(config or {})
    app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or load_secret_key(folder)
    for part in PARTS:
        part.init_app(app)
    return app


def open_instance(path: str | Path | None) -> Path:
    """The folder for everything that is not code; only its owner can read it, for it holds a key."""
    folder = Path(path or Path(__file__).parent / "instance").resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
