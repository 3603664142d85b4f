"""Notes as JSON. Clients log in with HTTP basic authentication, or with the session of the browser.

curl -u ann:password -H "Content-Type: application/json" -d '{"title": "Milk"}' http://127.0.0.1:5000/api/notes
"""

from __future__ import annotations

from sqlite3 import Row
from typing import Any

from asyncflask import Blueprint, Flask, abort, g, jsonify, request, url_for
from asyncflask.typing import ResponseReturnValue

from . import files, store
from .auth import verify_user
from .notes import find_note
from .validation import check_note

bp = Blueprint("api", __name__, url_prefix="/api/notes")


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.before_request
def authenticate() -> ResponseReturnValue | None:
    sent = request.authorization
    if sent is not None:  # a client that names itself is never somebody else's session
        g.user = verify_user(sent.username or "", sent.password or "") if sent.type == "basic" else None
    if g.user is not None:
        return None
    return jsonify(error="Log in first."), 401, {"WWW-Authenticate": 'Basic realm="notes", charset="UTF-8"'}


@bp.get("")
def index() -> ResponseReturnValue:
    notes = store.list_notes(g.user["id"], request.args.get("q", "").strip())
    return jsonify(notes=[describe_note(note) for note in notes])


@bp.post("")
def create() -> ResponseReturnValue:
    data = read_json()
    if errors := check_note(data):
        return refuse(errors)
    note_id = store.add_note(g.user["id"], data["title"].strip(), data.get("body", ""))
    location = url_for("api.show", note_id=note_id)
    return describe_note(find_note(note_id)), 201, {"Location": location}


@bp.get("/<id:note_id>")
def show(note_id: int) -> ResponseReturnValue:
    note = find_note(note_id)
    attachments = store.list_attachments(g.user["id"], note_id)
    return {**describe_note(note), "files": [describe_attachment(attachment) for attachment in attachments]}


@bp.put("/<id:note_id>")
def replace(note_id: int) -> ResponseReturnValue:
    find_note(note_id)
    data = read_json()
    if errors := check_note(data):
        return refuse(errors)
    store.update_note(g.user["id"], note_id, data["title"].strip(), data.get("body", ""))
    return describe_note(find_note(note_id))


@bp.delete("/<id:note_id>")
def delete(note_id: int) -> ResponseReturnValue:
    find_note(note_id)
    files.delete_note(g.user["id"], note_id)
    return "", 204


def read_json() -> dict[str, Any]:
    """The object that was sent; 415 if it is not JSON, 400 if it is broken or no object."""
    data = request.get_json()
    return data if isinstance(data, dict) else abort(400, "Send a JSON object.")


def refuse(errors: dict[str, str]) -> ResponseReturnValue:
    return jsonify(error="Some fields are not right.", fields=errors), 422


def describe_note(note: Row) -> dict[str, Any]:
    return {
        "id": note["id"],
        "title": note["title"],
        "body": note["body"],
        "created": note["created"],
        "updated": note["updated"],
        "url": url_for("api.show", note_id=note["id"]),
    }


def describe_attachment(attachment: Row) -> dict[str, Any]:
    return {
        "filename": attachment["filename"],
        "size": attachment["size"],
        "url": url_for("files.download", stored_name=attachment["stored_name"]),
    }
