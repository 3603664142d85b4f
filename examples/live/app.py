"""The object that servers load: `uvicorn examples.live.app:app`."""

from __future__ import annotations

from . import create_app

__all__ = ["app", "create_app"]

app = create_app()
