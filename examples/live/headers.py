"""Headers that keep a mistake small: even if some text slipped into a page as HTML, no script would run."""

from __future__ import annotations

import os

from asyncflask import Flask, Response, nonblocking

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def init_app(app: Flask) -> None:
    app.after_request(add_headers)


@nonblocking
def add_headers(response: Response) -> Response:
    """With the worker's process id: who runs several wants to know which one answered."""
    for name, value in {**HEADERS, "X-Worker": str(os.getpid())}.items():
        response.headers.setdefault(name, value)
    return response
