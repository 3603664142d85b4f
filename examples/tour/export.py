"""All notes as CSV, sent while it is read: memory stays flat, however many notes there are."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from asyncflask import Blueprint, Flask, current_app, g
from asyncflask.typing import ResponseReturnValue

from . import store
from .auth import require_login

COLUMNS = ("id", "title", "body", "created", "updated")
HEADERS = {"Content-Disposition": "attachment; filename=notes.csv", "Content-Type": "text/csv; charset=utf-8"}

bp = Blueprint("export", __name__, url_prefix="/notes")
bp.before_request(require_login)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/export.csv")
def export() -> ResponseReturnValue:
    # The generator runs after this view has returned, so it gets all it needs as arguments.
    lines = write_lines(current_app.config["DATABASE"], g.user["id"])
    return lines, HEADERS


def write_lines(path: str, owner_id: int) -> Iterator[str]:
    writer = csv.writer(Echo())
    yield writer.writerow(COLUMNS)
    for note in store.iterate_notes(path, owner_id):
        yield writer.writerow([note[column] for column in COLUMNS])


class Echo:
    """A file for csv.writer that keeps nothing: `writerow` returns what `write` returns."""

    def write(self, line: str) -> str:
        return line
