"""Which of Flask's methods a subclass, an instance or a patch at run time has replaced.

The request cycle calls its stages directly; Flask's methods of the same names are their public, sync forms. Only where
something else stands in such a name's place must that be called instead.
"""

from __future__ import annotations

import typing as t

F = t.TypeVar("F", bound=t.Callable[..., t.Any])

_FACADES: set[t.Any] = set()


def facade(f: F) -> F:
    """Mark a method of Flask as our own: any other function of its name is an override."""
    _FACADES.add(f)
    return f


def find_override(app: t.Any, name: str) -> t.Any:
    """The callable that replaces Flask's own method `name` for this application; None if nothing does."""
    if name not in app.__dict__ and getattr(type(app), name) in _FACADES:
        return None
    return getattr(app, name)
