"""The dotenv files. Under the reloader they are read again for each child, and watched like the code.

The parent process reads them, since it is its environment that each child starts with: so a changed value is in effect
in the child from its first line on, and one that was removed is gone. The child is told how the files stood when they
were read, so that no change falls between reading and watching.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from stat import S_ISREG

import click

# The latter wins.
DEFAULT_NAMES = (".flaskenv", ".env")
# Tells the reloader's child the stamps of the files.
STAMPS_VARIABLE = "ASYNCFLASK_DOTENV_STAMPS"

FilePath = str | os.PathLike[str]

# The places where a file may be: the first that there is counts.
Places = list[str]

# What was read, what came of it in the environment, and how the files stood.
_read: list[list[Places]] = []
_taken: dict[str, str] = {}
_stamps: dict[str, str] = {}


def load_dotenv(path: FilePath | None = None, load_defaults: bool = True) -> bool:
    """Set variables from `path`, `.env` and `.flaskenv`, in this order; those of the environment stay.

    Whether any file had variables. False where python-dotenv is not installed.
    """
    try:
        import dotenv  # noqa: F401  # whether it is there
    except ImportError:
        if path or any(map(os.path.isfile, DEFAULT_NAMES)):
            click.secho(" * Tip: there are .env files; python-dotenv reads them.", fg="yellow", err=True)
        return False
    folder = Path.cwd()
    sources = [_find_places(folder, name) for name in DEFAULT_NAMES] if load_defaults else []
    if path is not None:
        sources.append([os.path.abspath(path)])
    return _read_files(sources)


def _find_places(folder: Path, name: str) -> Places:
    return [str(parent / name) for parent in (folder, *folder.parents)]


def _read_files(sources: list[Places]) -> bool:
    """A file of each source, the last one winning. Whether there were any variables."""
    from dotenv import dotenv_values

    if sources not in _read:
        _read.append(sources)
    _stamps.update((place, _take_stamp(place)) for places in sources for place in places)  # before what may fail
    values: dict[str, str | None] = {}
    for places in sources:
        file = next(filter(_is_file, places), None)
        if file is not None:
            values |= dotenv_values(file, encoding="utf-8")
    for key, value in values.items():
        if value is not None and key not in os.environ:
            os.environ[key] = _taken[key] = value
    return bool(values)


def _is_file(path: str) -> bool:
    """A named pipe counts too: programs that keep secrets offer one."""
    return os.path.exists(path) and not os.path.isdir(path)


def _take_stamp(path: str) -> str:
    """Another one after each change; "" where there is no file, or a pipe, which reading changes."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_mtime_ns} {found.st_size} {found.st_ino}" if S_ISREG(found.st_mode) else ""


def renew_environment() -> None:
    """Read the files as they are now. What they set before is taken back, unless it was changed meanwhile."""
    for key, value in _taken.items():
        if os.environ.get(key) == value:
            del os.environ[key]
    _taken.clear()
    again = _read.copy()
    _read.clear()
    for sources in again:
        with suppress(OSError, UnicodeError):  # which the child will meet, and show
            _read_files(sources)


def hand_down_stamps() -> None:
    """Let child processes that are started from now on know the stamps."""
    os.environ[STAMPS_VARIABLE] = json.dumps(_stamps)


def take_stamps() -> dict[str, str]:
    """The stamps: in the reloader's child those of its parent, no longer in the environment then."""
    handed_down = os.environ.pop(STAMPS_VARIABLE, None)
    return _stamps if handed_down is None else json.loads(handed_down)


def find_changed(stamps: dict[str, str], excluded: set[str]) -> str | None:
    """A file that is not as its stamp says, and matches none of the patterns."""
    for path, stamp in stamps.items():
        if _take_stamp(path) != stamp and not any(fnmatch(path, pattern) for pattern in excluded):
            return path
    return None
