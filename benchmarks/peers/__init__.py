"""The frameworks which are compared, each in a file of its own, written in its own idiom.

A peer's module offers application factories by the names which the scenarios use (`plain`, `page`,
`page_sync`, `mixed`, `routes(count)`, `routes_sync(count)`) and may say in `WITHOUT` why it stays out of one.
"""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """`modules` by face, `distributions` whose versions are reported (the first one is required)."""

    title: str
    modules: dict[str, str]
    distributions: tuple[str, ...]


OURS = "asyncflask"
PEERS = {
    OURS: Peer("asyncflask", {"asgi": "asyncflask", "wsgi": "asyncflask"}, ("asyncflask", "Werkzeug")),
    "flask": Peer("Flask", {"wsgi": "flask"}, ("Flask", "asgiref")),
    "starlette": Peer("Starlette", {"asgi": "starlette"}, ("starlette", "anyio", "python-multipart")),
    "quart": Peer("Quart", {"asgi": "quart"}, ("Quart",)),
    "fastapi": Peer("FastAPI", {"asgi": "fastapi"}, ("fastapi", "pydantic")),
    "litestar": Peer("Litestar", {"asgi": "litestar"}, ("litestar", "msgspec")),
    "falcon": Peer("Falcon", {"asgi": "falcon", "wsgi": "falcon_wsgi"}, ("falcon",)),
    "blacksheep": Peer("BlackSheep", {"asgi": "blacksheep"}, ("blacksheep",)),
    "raw": Peer("raw", {"asgi": "raw"}, ()),
}
