"""What every host's client speaks: a request in, an answer out, nothing normalised but names' case."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

HOST = "contract.test"
PIECE = 64 * 1024


class Answer(NamedTuple):
    """Status, headers in their order with lower-case names, and the whole body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        assert self.get("Content-Type") == "application/json", self
        return json.loads(self.body)


class Question(NamedTuple):
    """A request as it stands on the wire: the target is percent-encoded, the headers are complete."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    chunked: bool

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def pieces(self) -> list[bytes]:
        return [self.body[start : start + PIECE] for start in range(0, len(self.body), PIECE)]


def make_question(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    chunked: bool = False,
) -> Question:
    """Add Host, and the header that frames the body unless the case brings its own."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    if "host" not in names:
        given.insert(0, ("Host", HOST))
    if chunked:
        given.append(("Transfer-Encoding", "chunked"))
    elif "content-length" not in names and (body or method in {"POST", "PUT", "PATCH"}):
        given.append(("Content-Length", str(len(body))))
    return Question(method, target, given, body, chunked)
