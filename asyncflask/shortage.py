"""Shortages of the system. They pass, so they are an answer of their own, and no bug of the view that meets them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from werkzeug.exceptions import HTTPException, ServiceUnavailable

from .globals import current_app


class InsufficientStorage(HTTPException):
    """*507* (RFC 4918 11.5)"""

    code: int | None = 507
    description: str | None = "The server has no space left for what the request brings."


_no_files: Callable[[], HTTPException] = partial(ServiceUnavailable, "Too many files are open.", retry_after=1)
_ANSWERS: dict[int | None, Callable[[], HTTPException]] = {
    errno.EMFILE: _no_files,
    errno.ENFILE: _no_files,
    errno.ENOSPC: InsufficientStorage,
    errno.EDQUOT: InsufficientStorage,
}


@contextmanager
def answering_shortages() -> Iterator[None]:
    """503 where no more files can be opened, 507 where there is no more space."""
    try:
        yield
    except OSError as error:
        answer = _ANSWERS.get(error.errno)
        if answer is None:
            raise
        current_app.logger.error("The system is short of something: %s", error)
        raise answer() from error
