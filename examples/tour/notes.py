"""Notes as pages: list, search, read, write, change, delete."""

from __future__ import annotations

from sqlite3 import Row

from asyncflask import Blueprint, Flask, abort, flash, g, redirect, render_template, request, url_for
from asyncflask.typing import ResponseReturnValue

from . import files, store
from .auth import require_login
from .validation import check_note

bp = Blueprint("notes", __name__, url_prefix="/notes")
bp.before_request(require_login)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


def find_note(note_id: int) -> Row:
    """The user's note, or 404: a foreign note looks like one that does not exist."""
    return store.get_note(g.user["id"], note_id) or abort(404)


@bp.get("/")
def index() -> str:
    query = request.args.get("q", "").strip()
    return render_template("notes/index.html", notes=store.list_notes(g.user["id"], query), query=query)


@bp.route("/new", methods=["GET", "POST"])
def create() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("notes/form.html", note=None, values={}, errors={})
    values = read_form()
    if errors := check_note(values):
        return render_template("notes/form.html", note=None, values=values, errors=errors), 422
    return finish(store.add_note(g.user["id"], **values), "Note saved.")


@bp.get("/<id:note_id>")
def show(note_id: int) -> str:
    note = find_note(note_id)
    attachments = store.list_attachments(g.user["id"], note_id)
    return render_template("notes/show.html", note=note, attachments=attachments)


@bp.route("/<id:note_id>/edit", methods=["GET", "POST"])
def edit(note_id: int) -> ResponseReturnValue:
    note = find_note(note_id)
    if request.method == "GET":
        return render_template("notes/form.html", note=note, values=note, errors={})
    values = read_form()
    if errors := check_note(values):
        return render_template("notes/form.html", note=note, values=values, errors=errors), 422
    store.update_note(g.user["id"], note_id, **values)
    return finish(note_id, "Changes saved.")


@bp.post("/<id:note_id>/delete")
def delete(note_id: int) -> ResponseReturnValue:
    title = find_note(note_id)["title"]
    files.delete_note(g.user["id"], note_id)
    flash(f"“{title}” is deleted.", "success")
    return redirect(url_for("notes.index"))


def read_form() -> dict[str, str]:
    """The note as sent; a browser ends lines with CR LF, which would count twice against the limit."""
    title, body = request.form.get("title", ""), request.form.get("body", "")
    return {"title": title.strip(), "body": body.replace("\r\n", "\n")}


def finish(note_id: int, message: str) -> ResponseReturnValue:
    """Keeps the form's files, then sends the browser on, so that a reload does not post again."""
    files.save_uploads(note_id, request.files.getlist("files"))
    flash(message, "success")
    return redirect(url_for("notes.show", note_id=note_id))
