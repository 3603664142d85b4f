"""The application's logger."""

from __future__ import annotations

import logging
import sys
import typing as t

from werkzeug.local import LocalProxy

from .globals import _cv_request

if t.TYPE_CHECKING:
    from .app import Flask


def _find_errors_stream() -> t.TextIO:
    """The server's error stream while a WSGI request is active, else stderr."""
    context = _cv_request.get(None)
    # An ASGI request builds its environ on first use: a log line is no reason to build it.
    environ = {} if context is None else vars(context.request).get("environ", {})
    return t.cast(t.TextIO, environ.get("wsgi.errors", sys.stderr))


wsgi_errors_stream: t.TextIO = t.cast(t.TextIO, LocalProxy(_find_errors_stream))

default_handler: logging.StreamHandler[t.TextIO] = logging.StreamHandler(wsgi_errors_stream)
default_handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s in %(module)s: %(message)s"))


def _iter_handlers(logger: logging.Logger) -> t.Iterator[logging.Handler]:
    """The handlers which a record sent to `logger` reaches."""
    current: logging.Logger | None = logger
    while current:
        yield from current.handlers
        current = current.parent if current.propagate else None


def has_level_handler(logger: logging.Logger) -> bool:
    """Whether some handler takes records of the logger's effective level."""
    level = logger.getEffectiveLevel()
    return any(handler.level <= level for handler in _iter_handlers(logger))


def create_logger(app: Flask) -> logging.Logger:
    """The logger named like the application; a level and a handler are only set where it has none."""
    logger = logging.getLogger(app.name)
    if logger.level == logging.NOTSET and app.debug:
        logger.setLevel(logging.DEBUG)
    if not has_level_handler(logger):
        logger.addHandler(default_handler)
    return logger
