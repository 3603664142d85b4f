"""Quart's `utils`: what of it applications use."""

from __future__ import annotations

from .bridge import to_async as run_sync

__all__ = ["run_sync"]
