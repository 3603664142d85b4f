"""Accounts: register, log in, log out. Of the user, the signed session cookie holds the id alone."""

from __future__ import annotations

import re
import sqlite3
from functools import cache

from werkzeug.security import check_password_hash, generate_password_hash

from asyncflask import Blueprint, Flask, flash, g, redirect, render_template, request, session, url_for
from asyncflask.typing import ResponseReturnValue

from . import store
from .validation import check_user

LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x7e]*")

bp = Blueprint("auth", __name__)


def init_app(app: Flask) -> None:
    app.before_request(load_user)
    app.register_blueprint(bp)


def load_user() -> None:
    """`g.user` for all: read here, in a `def` hook, so that `async def` views need no database for it."""
    g.user = None
    if request.endpoint != "static" and "user_id" in session:
        g.user = store.get_user(session["user_id"])


def require_login() -> ResponseReturnValue | None:
    """A `before_request` hook for blueprints that are for members only."""
    if g.user is not None:
        return None
    flash("Log in to see this page.", "info")
    came_from = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("auth.login", next=came_from))


@bp.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("register.html", errors={})
    errors = check_user(request.form) or create_user(request.form["username"], request.form["password"])
    if errors:
        return render_template("register.html", errors=errors), 422
    flash(f"Welcome, {request.form['username']}. Write your first note.", "success")
    return redirect(url_for("notes.index"))


def create_user(username: str, password: str) -> dict[str, str]:
    """Adds the user and logs them in; messages by field if the name is taken."""
    try:
        user_id = store.add_user(username, generate_password_hash(password))
    except sqlite3.IntegrityError:  # asking first would leave a gap in which someone else takes the name
        return {"username": "This name is taken."}
    start_session(user_id)
    return {}


@bp.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("login.html", errors={})
    user = verify_user(request.form.get("username", ""), request.form.get("password", ""))
    if user is None:
        # One message for both cases: it does not tell which names exist.
        return render_template("login.html", errors={"password": "Name and password do not match."}), 422
    start_session(user["id"])
    flash(f"Welcome back, {user['username']}.", "success")
    return redirect(choose_target(request.args.get("next", "")))


@bp.post("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    flash("You are logged out.", "info")
    return redirect(url_for("pages.home"))


def verify_user(username: str, password: str) -> sqlite3.Row | None:
    """The user with this name and password, or None."""
    user = store.find_user(username)
    # An unknown name costs the same hash as a known one, or the time taken would tell them apart.
    matches = check_password_hash(user["password_hash"] if user else make_dummy_hash(), password)
    return user if matches else None


@cache
def make_dummy_hash() -> str:
    return generate_password_hash("")


def start_session(user_id: int) -> None:
    session.clear()  # nothing of the visitor before, the form token included, is carried into the login
    session["user_id"] = user_id


def choose_target(path: str) -> str:
    """`path` if it stays on this site, else the list of notes: `//evil.example` is another site."""
    return path if LOCAL_PATH.fullmatch(path) else url_for("notes.index")
