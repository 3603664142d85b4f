"""A JSON decoder for large documents in a thread beside an event loop.

The standard library's is C code, which holds the interpreter, and so the loop, from a document's beginning to its end.
This is Python code, several times slower; the loop gets its turn between any two members.
"""

from __future__ import annotations

import json
import typing as t
from json.decoder import WHITESPACE, scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]

_skip = WHITESPACE.match


class PatientDecoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.parse_object = _parse_object
        self.scan_once: t.Callable[[str, int], t.Any] = py_make_scanner(self)


def _parse_object(start: tuple[str, int], strict: bool, scan_once: t.Any, *hooks_and_memo: t.Any) -> tuple[t.Any, int]:
    """As json.decoder's, but for a list of all members before the dict, whose making is one long step as well."""
    text, at = start
    members: dict[str, t.Any] = {}
    at = _skip(text, at).end()
    if text.startswith("}", at):
        return members, at + 1
    while True:
        if not text.startswith('"', at):
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        name, at = scanstring(text, at + 1, strict)
        at = _pass(":", text, at)
        try:
            members[name], at = scan_once(text, at)
        except StopIteration as error:
            raise json.JSONDecodeError("Expecting value", text, error.value) from None
        at = _skip(text, at).end()
        if text.startswith("}", at):
            return members, at + 1
        at = _pass(",", text, at)


def _pass(sign: str, text: str, at: int) -> int:
    at = _skip(text, at).end()
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"Expecting {sign!r} delimiter", text, at)
    return t.cast(int, _skip(text, at + 1).end())
