"""Both faces of an application for the tests of security: requests as no polite client would make them."""

from __future__ import annotations

import asyncio
import time
import typing as t
from collections.abc import Callable

import pytest
from fuzz.faces import Answer, Question, ask_asgi, ask_wsgi

from asyncflask import Flask

Ask = Callable[..., Answer]
FACES: dict[str, Callable[[t.Any, Question], Answer]] = {
    "wsgi": ask_wsgi,
    "asgi": lambda app, question: asyncio.run(ask_asgi(app, question)),
}
HOST = (b"host", b"localhost")
both_faces = pytest.mark.parametrize("face", list(FACES))


def make_app(**config: t.Any) -> Flask:
    app = Flask("secured", static_folder=None, root_path=".")
    app.config.update(SECRET_KEY="a secret key for the tests of security", **config)
    return app


def ask(face: str, app: t.Any, path: str = "/", *headers: tuple[bytes, bytes], **more: t.Any) -> Answer:
    """As a client of HTTP/1.1 it sends a Host; without one the fast matcher would have no part in the answer."""
    path, _, query = path.partition("?")
    if b"host" not in dict(headers):
        headers = (HOST, *headers)
    return FACES[face](app, Question(path, query.encode(), headers, **more))


def measure(f: Callable[[], object], times: int = 3) -> float:
    """Seconds of the processor, so that others on the machine do not count: the best of some."""
    spent = []
    for _ in range(times):
        begun = time.process_time()
        f()
        spent.append(time.process_time() - begun)
    return min(spent)


def is_linear(f: Callable[[int], object], size: int = 5_000, times: int = 4) -> bool:
    """Whether `times` the size takes about `times` as long; `times` squared would be more than twice that."""
    small, large = measure(lambda: f(size), 2), measure(lambda: f(size * times), 2)
    return large < 2 * times * max(small, 0.002)
