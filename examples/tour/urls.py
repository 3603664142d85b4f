"""What a URL may hold: `<id:note_id>` is a positive number that fits SQLite; anything else is a 404."""

from __future__ import annotations

from werkzeug.routing import IntegerConverter

from asyncflask import Flask


class RowId(IntegerConverter):
    regex = "[1-9][0-9]{0,17}"


def init_app(app: Flask) -> None:
    app.url_map.converters["id"] = RowId
