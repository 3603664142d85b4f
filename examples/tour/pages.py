"""The two pages for everybody: the welcome, and the list of views that tells where each one runs."""

from __future__ import annotations

from asyncflask import Blueprint, Flask, current_app, g, redirect, render_template, url_for
from asyncflask.typing import ResponseReturnValue

from .where import name_kind

bp = Blueprint("pages", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/")
def home() -> ResponseReturnValue:
    return redirect(url_for("notes.index")) if g.user else render_template("home.html")


@bp.get("/how")
def how() -> str:
    rules = sorted(current_app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint))
    return render_template("how.html", rules=rules, name_kind=name_kind)
