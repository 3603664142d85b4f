"""Files attached to notes.

A file is stored under a random name that we choose. What the user called it is only ever shown, or offered as
the name of a download: no path is built from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from sqlite3 import Row
from uuid import uuid4

from werkzeug.datastructures import FileStorage

from asyncflask import Blueprint, Flask, abort, current_app, flash, g, redirect, send_from_directory, url_for
from asyncflask.typing import ResponseReturnValue

from . import store
from .auth import require_login

NAME_LENGTH = 120

bp = Blueprint("files", __name__, url_prefix="/files")
bp.before_request(require_login)


def init_app(app: Flask) -> None:
    Path(app.config["UPLOADS"]).mkdir(mode=0o700, exist_ok=True)
    app.register_blueprint(bp)


def find_attachment(stored_name: str) -> Row:
    return store.get_attachment(g.user["id"], stored_name) or abort(404)


@bp.get("/<stored_name>")
def download(stored_name: str) -> ResponseReturnValue:
    attachment = find_attachment(stored_name)
    # Always as an attachment: a page that somebody uploaded must never open as a page of this site.
    return send_from_directory(
        current_app.config["UPLOADS"],
        attachment["stored_name"],
        as_attachment=True,
        download_name=attachment["filename"],
    )


@bp.post("/<stored_name>/delete")
def delete(stored_name: str) -> ResponseReturnValue:
    attachment = find_attachment(stored_name)
    store.delete_attachment(stored_name)
    remove_stored([attachment])
    flash(f"“{attachment['filename']}” is deleted.", "success")
    return redirect(url_for("notes.show", note_id=attachment["note_id"]))


def save_uploads(note_id: int, uploads: Iterable[FileStorage]) -> None:
    """Stores each chosen file; a browser sends one without a name if none was chosen."""
    for upload in uploads:
        if upload.filename:
            save_upload(note_id, upload)


def save_upload(note_id: int, upload: FileStorage) -> None:
    path = locate(uuid4().hex)
    upload.save(path)
    try:
        store.add_attachment(note_id, clean_name(upload.filename or ""), path.name, path.stat().st_size)
    except BaseException:
        path.unlink()  # a file that no row names would stay for ever
        raise


def clean_name(filename: str) -> str:
    r"""`C:\fakepath\plan.pdf` -> `plan.pdf`; control characters, which no header may hold, are dropped."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(filter(str.isprintable, name)).strip()[-NAME_LENGTH:] or "file"


def delete_note(owner_id: int, note_id: int) -> None:
    """Deletes a note with its files: rows first, for a row without a file would be a broken link."""
    attachments = store.list_attachments(owner_id, note_id)
    store.delete_note(owner_id, note_id)
    remove_stored(attachments)


def remove_stored(attachments: Iterable[Row]) -> None:
    for attachment in attachments:
        locate(attachment["stored_name"]).unlink(missing_ok=True)


def locate(stored_name: str) -> Path:
    return Path(current_app.config["UPLOADS"], stored_name)
