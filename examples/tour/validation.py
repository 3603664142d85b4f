"""The rules for what users send, shared by the forms and the JSON API: messages by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TITLE_LENGTH = 120
BODY_LENGTH = 20_000
USERNAME = re.compile(r"[A-Za-z0-9_.-]{3,30}")


def check_note(data: Mapping[str, Any]) -> dict[str, str]:
    """Messages by field for a note's `title` and `body`; empty if both are good."""
    title, body = data.get("title", ""), data.get("body", "")
    return keep_messages(
        title=check_text(title, TITLE_LENGTH) or (not title.strip() and "Give the note a title."),
        body=check_text(body, BODY_LENGTH),
    )


def check_user(data: Mapping[str, Any]) -> dict[str, str]:
    """Messages by field for a new account."""
    password = data.get("password", "")
    return keep_messages(
        username=not USERNAME.fullmatch(data.get("username", ""))
        and "Use 3 to 30 letters, digits, dots, dashes or underscores.",
        password=not 8 <= len(password) <= 200 and "Use 8 to 200 characters.",
        repeat=data.get("repeat") != password and "The two passwords differ.",
    )


def check_text(value: object, length: int) -> str | None:
    # JSON can bring numbers and halves of surrogate pairs, which no database takes for text.
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        return "This must be text."
    return f"Use at most {length} characters." if len(value) > length else None


def keep_messages(**messages: str | bool | None) -> dict[str, str]:
    return {field: message for field, message in messages.items() if isinstance(message, str)}
