"""Errors in the form the client can use: a page for people, JSON below /api/."""

from __future__ import annotations

from werkzeug.exceptions import HTTPException

from asyncflask import Flask, Response, current_app, json, render_template, request

from .text import format_size

HINTS = {
    404: "There is no such page, or it belongs to somebody else.",
    405: "This address does not take that kind of request.",
    413: "That is more than this site takes at once: up to LIMIT, all files together.",
    500: "The fault is ours. It is in the log, and your notes are safe.",
}


def init_app(app: Flask) -> None:
    # One handler for all: an exception that nobody handled arrives here as a 500.
    app.register_error_handler(HTTPException, show_error)


def show_error(error: HTTPException) -> Response:
    # The error keeps its status and its headers (Allow, Retry-After): only the body is ours.
    response = Response(status=error.code, headers=error.get_headers())
    # A path decides, not a blueprint: an address that matches nothing belongs to no blueprint.
    if request.path.startswith("/api/"):
        response.set_data(json.dumps({"error": describe(error)}))
        response.mimetype = "application/json"
    else:
        response.set_data(render_template("error.html", error=error, hint=describe(error)))
    return response


def describe(error: HTTPException) -> str:
    limit = format_size(current_app.config["MAX_CONTENT_LENGTH"] or 0)
    return HINTS.get(error.code or 500, error.description or "").replace("LIMIT", limit)
