"""Forms carry a token that only this site can read, so no other site can post on the user's behalf."""

from __future__ import annotations

import secrets

from markupsafe import Markup

from asyncflask import Flask, abort, request, session

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def init_app(app: Flask) -> None:
    app.before_request(check_token)
    app.add_template_global(csrf_field)


def csrf_field() -> Markup:
    """The hidden input for a form; the session gets its token when the first form is shown."""
    token = session.setdefault("csrf_token", secrets.token_urlsafe(32))
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(token)


def check_token() -> None:
    # The API reads JSON alone. A foreign page cannot send that, nor PUT or DELETE, unless CORS allows it.
    if request.method in SAFE_METHODS or request.url_rule is None or request.blueprint == "api":
        return
    expected = session.get("csrf_token", "")
    given = request.form.get("csrf_token", "")
    if not expected or not secrets.compare_digest(expected.encode(), given.encode()):
        abort(400, "This form was open for too long or came from elsewhere. Go back, reload the page.")
