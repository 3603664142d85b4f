"""The key that signs session cookies: made once, kept beside the database, never in the repository."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile


def load_secret_key(folder: Path) -> str:
    """The key kept in `folder` (64 hex digits), made on first use."""
    path = folder / "secret_key"
    if not path.exists():
        write_once(path, secrets.token_hex(32))
    return path.read_text(encoding="ascii")


def write_once(path: Path, content: str) -> None:
    # Several workers may start at the same moment. A link appears complete or not at all, and the first one
    # stays, so that all of them read the same key. Temporary files have the mode 0600; the link shares it.
    with NamedTemporaryFile("w", dir=path.parent) as draft:
        draft.write(content)
        draft.flush()
        with suppress(FileExistsError):
            os.link(draft.name, path)
