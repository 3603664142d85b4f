"""Headers that keep a mistake small: even if some text slipped into a page unescaped, no script would run."""

from __future__ import annotations

from asyncflask import Flask, Response, nonblocking

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def init_app(app: Flask) -> None:
    app.after_request(add_headers)


@nonblocking
def add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
