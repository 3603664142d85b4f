"""Which handler an error gets."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from . import typing as ft
from .scaffold import Scaffold

if t.TYPE_CHECKING:
    from .app import Flask


def find_error_handler(app: Flask, error: Exception, blueprints: Iterable[str]) -> ft.ErrorHandlerCallable | None:
    """By code before by class; within each the innermost blueprint first, the app last, by the error's MRO."""
    if not app.error_handler_spec:
        return None
    exc_class, code = Scaffold._get_exc_class_and_code(type(error))
    names = (*blueprints, None)
    for by in (code, None) if code is not None else (None,):
        for name in names:
            handlers = app.error_handler_spec[name][by] if name in app.error_handler_spec else None
            if not handlers:
                continue
            for cls in exc_class.__mro__:
                handler = handlers.get(cls)
                if handler is not None:
                    return handler
    return None
