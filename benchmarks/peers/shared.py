"""What every peer serves: the same texts, templates and file."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

from ..scenarios import CHUNK, CHUNKS, FILE, PAGE_ITEMS

TEMPLATES = Path(__file__).parent.parent / "templates"
SECRET = "a secret of the benchmark"
ADDED_HEADER = ("X-Served-By", "benchmark")
ITEMS = PAGE_ITEMS

# Why peers that stand on another one, or differ in kind, are not asked for everything.
NOT_NATURAL = dict.fromkeys(
    (
        *("page", "mixed", "upload", "static", "static-304", "stream-async", "stream-sync"),
        *("page-wsgi", "async-wsgi", "upload-wsgi", "static-wsgi", "static-304-wsgi", "stream-wsgi"),
    ),
    "takes part only in the JSON, error and routing scenarios",
)


@cache
def make_static_folder() -> str:
    """A temporary folder with `file.bin`, gone when the process ends."""
    folder = tempfile.mkdtemp(prefix="benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "file.bin").write_bytes(FILE)
    return folder


def make_chunks() -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK


async def make_chunks_async() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
