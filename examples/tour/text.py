"""Template filters: how times, sizes and search results are shown."""

from __future__ import annotations

import re
from datetime import datetime

from markupsafe import Markup, escape

from asyncflask import Flask

EXCERPT = 180  # characters of a note's body shown in the list


def init_app(app: Flask) -> None:
    for show in (format_time, format_size, excerpt, highlight):
        app.add_template_filter(show)


def format_time(stamp: str) -> str:
    """`2025-03-09T14:05:00Z` -> `9 March 2025, 14:05 UTC`"""
    moment = datetime.fromisoformat(stamp)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def format_size(size: float) -> str:
    """`1536` -> `1.5 KiB`"""
    if size < 1024:
        return f"{size:.0f} bytes"
    return f"{size / 1024:.1f} KiB" if size < 1024**2 else f"{size / 1024**2:.1f} MiB"


def excerpt(body: str, query: str = "") -> str:
    """A short part of `body`, chosen so that it shows the match."""
    found = body.lower().find(query.lower())
    start = max(0, found - EXCERPT // 3) if found > EXCERPT // 2 else 0
    end = start + EXCERPT
    return ("… " if start else "") + body[start:end].strip() + (" …" if end < len(body) else "")


def highlight(text: str, query: str) -> Markup:
    """`text` with every match marked. Both come from users: each piece is escaped before it is joined."""
    if not query:
        return escape(text)
    pieces = re.split(f"({re.escape(query)})", text, flags=re.IGNORECASE)
    return Markup("").join(mark(piece) if odd % 2 else piece for odd, piece in enumerate(pieces))


def mark(piece: str) -> Markup:
    return Markup("<mark>{}</mark>").format(piece)
