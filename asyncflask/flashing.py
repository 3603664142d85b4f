"""Messages kept in the session until the next request shows them."""

from __future__ import annotations

import typing as t

from .globals import current_app, request_ctx, session
from .signals import message_flashed
from .steps import tell


def flash(message: str, category: str = "message") -> None:
    """Add a message; usual categories are message, error, info, warning."""
    # Assigned anew: a session kept elsewhere does not see that a list inside it grew.
    flashes = session.get("_flashes", [])
    flashes.append((category, message))
    session["_flashes"] = flashes
    if message_flashed.receivers:
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
        tell(app, message_flashed, message=message, category=category)


def get_flashed_messages(
    with_categories: bool = False, category_filter: t.Iterable[str] = ()
) -> list[str] | list[tuple[str, str]]:
    """Take the messages out of the session; the same ones again for the rest of the request.

    ``with_categories`` gives ``(category, message)`` pairs.
    """
    flashes = request_ctx.flashes
    if flashes is None:
        flashes = request_ctx.flashes = session.pop("_flashes") if "_flashes" in session else []
    if category_filter:
        flashes = [pair for pair in flashes if pair[0] in category_filter]
    return flashes if with_categories else [message for _, message in flashes]
