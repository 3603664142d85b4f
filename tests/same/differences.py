"""Where an answer is not that of `flask run`, each with its reason. A row that is not needed any more fails too.

Under gunicorn there is a second judge: what Flask itself answers there is gunicorn's doing and needs no row.
"""

from __future__ import annotations

ASGI = ("asyncflask run", "uvicorn")
ALL = (*ASGI, "gunicorn")

_PARSER = "uvicorn's parser refuses it with a page of its own"
_TARGET = "uvicorn leaves the authority of an absolute target out of the scope (so does gunicorn)"
_CHUNKED = "Werkzeug cuts a chunked body at the limit and the view takes the part for the whole; here that is 413"
_FORM = "MAX_FORM_MEMORY_SIZE bounds urlencoded forms too, which Werkzeug no longer does"

# Case: the servers, and why.
ROWS: dict[str, tuple[tuple[str, ...], str]] = {
    # the server's
    "methods BREW /leaf": (ASGI, _PARSER),
    "methods get /leaf": (ASGI, _PARSER),
    "bodies length no number": (ASGI, _PARSER),
    "bodies two lengths": (ASGI, _PARSER),
    "redirects grün": (ASGI, _PARSER),
    "paths GET http://other.test:81/echo/x?y=1": (ASGI, _TARGET),
    "paths GET https://other.test/echo": (ASGI, _TARGET),
    "pages GET /returns/bad-status": (ASGI, "uvicorn sends statuses from 100 to 599 alone"),
    "echoes websocket": (ASGI, "uvicorn makes a websocket of it; there it is closed, which is a 403"),
    "pages GET /returns/bytearray": (ALL, "Flask allows it, but `flask run` and gunicorn then take bytes alone"),
    # the ASGI face's
    "echoes cookies-twice": (ASGI, 'Cookies that HTTP/2 splits are joined by "; " (RFC 9113 8.2.3), not by ","'),
    # asyncflask's (docs/design.md)
    "bodies too large chunked": (ALL, _CHUNKED),
    "forms POST too large in memory": (ALL, _FORM),
    "forms PUT too large in memory": (ALL, _FORM),
    "errors teardown fails": (ALL, "a teardown's error is logged, and the response is sent"),
}
DIFFERENCES = {(server, case): reason for case, (servers, reason) in ROWS.items() for server in servers}
