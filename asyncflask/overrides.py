"""Which of Flask's methods a subclass, an instance or a patch at run time has replaced.

The request cycle calls its stages directly; Flask's methods of the same names are their public, sync forms. Only where
something else stands in such a name's place must that be called instead.
"""

from __future__ import annotations

import typing as t
from abc import ABCMeta
from weakref import WeakSet

F = t.TypeVar("F", bound=t.Callable[..., t.Any])

_FACADES: set[t.Any] = set()


def facade(f: F) -> F:
    """Mark a method of Flask as our own: any other function of its name is an override."""
    _FACADES.add(f)
    return f


def find_override(app: t.Any, name: str) -> t.Any:
    """The callable that replaces Flask's own method `name` for this application; None if nothing does."""
    if name not in app.__dict__ and getattr(type(app), name, None) in _FACADES:
        return None
    return getattr(app, name, None)


class AppType(ABCMeta):
    """The class of the class Flask: a patch of a class at run time is noticed as well as one of an instance."""

    plan_books: t.ClassVar[WeakSet[t.Any]] = WeakSet()

    def __setattr__(cls, name: str, value: t.Any) -> None:
        super().__setattr__(name, _keep_asgi(value) if name == "__call__" else value)
        cls._drop_plans(name)

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        cls._drop_plans(name)

    def _drop_plans(cls, name: str) -> None:
        if not name.startswith("_abc_"):
            for book in list(cls.plan_books):
                book.drop()


def _keep_asgi(call: t.Any) -> t.Any:
    """Monitoring agents replace `__call__` by a WSGI function: ASGI's three arguments go past it."""

    def __call__(app: t.Any, *args: t.Any) -> t.Any:
        return app.asgi_app(*args) if len(args) == 3 else call(app, *args)

    return __call__
