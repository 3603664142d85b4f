"""Where a server answers by itself, before or instead of the application. Each row has its reason."""

from __future__ import annotations

_OWN_PAGE = "its parser refuses the header with 400 and a page of its own"

DIFFERENCES: dict[tuple[str, str], str] = {
    ("uvicorn-h11", "bad-length-page"): _OWN_PAGE,
    ("uvicorn-httptools", "bad-length-page"): _OWN_PAGE,
    ("hypercorn", "bad-length-page"): _OWN_PAGE,
    ("hypercorn-trio", "bad-length-page"): _OWN_PAGE,
    ("granian-asgi", "bad-length-page"): _OWN_PAGE,
    ("granian-wsgi", "bad-length-page"): _OWN_PAGE,
    ("gunicorn-asgi", "bad-length-page"): _OWN_PAGE,
    (
        "granian-wsgi",
        "latin-headers",
    ): "sends header values as UTF-8 and drops incoming ones beyond ASCII (PEP 3333)",
    ("gunicorn-sync", "requests-at-once"): "one process, one thread: a request waits for the one before",
    (
        "gunicorn-gevent",
        "loop-unseen",
    ): "all greenlets are one thread, and asyncio knows the running loop by thread",
}


def differs(host: str, case: str) -> bool:
    return (host, case) in DIFFERENCES
