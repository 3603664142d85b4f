"""The kinds of hooks, one row each, and the containers that hold them.

Registration and every later change of these public dicts and lists (`app.before_request_funcs[None].append(f)`, ...)
must be seen by the plans made from them. So the containers tell their owner, who drops its plans.
"""

from __future__ import annotations

import typing as t
from collections import defaultdict
from collections.abc import Callable, Iterable


class HookKind(t.NamedTuple):
    """A kind's dict on app and blueprint."""

    attribute: str
    blueprint_first: bool  # blueprints' hooks run before the app's, and all of them last registered first


BEFORE = HookKind("before_request_funcs", False)
AFTER = HookKind("after_request_funcs", True)
TEARDOWN = HookKind("teardown_request_funcs", True)
PREPROCESS = HookKind("url_value_preprocessors", False)
URL_DEFAULTS = HookKind("url_default_functions", False)
CONTEXT = HookKind("template_context_processors", False)
BEFORE_WEBSOCKET = HookKind("before_websocket_funcs", False)
AFTER_WEBSOCKET = HookKind("after_websocket_funcs", True)
TEARDOWN_WEBSOCKET = HookKind("teardown_websocket_funcs", True)

HOOK_KINDS = (
    *(BEFORE, AFTER, TEARDOWN, PREPROCESS, URL_DEFAULTS, CONTEXT),
    *(BEFORE_WEBSOCKET, AFTER_WEBSOCKET, TEARDOWN_WEBSOCKET),
)


class CycleKinds(t.NamedTuple):
    """The hooks around the view of one kind of request."""

    before: HookKind
    after: HookKind
    teardown: HookKind


HTTP = CycleKinds(BEFORE, AFTER, TEARDOWN)
WEBSOCKET = CycleKinds(BEFORE_WEBSOCKET, AFTER_WEBSOCKET, TEARDOWN_WEBSOCKET)

Changed = Callable[[], object]


def unheard() -> None:
    """A blueprint makes no plans."""


def _telling(name: str, base: type) -> t.Any:
    """The method `name` of `base`, which tells the owner after it changed something."""
    change = getattr(base, name)

    def method(self: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        result = change(self, *args, **kwargs)
        self.changed()
        return result

    return method


class HookList(list[t.Any]):
    """A list that tells when it changes."""

    def __init__(self, items: Iterable[t.Any] = (), changed: Changed = unheard) -> None:
        super().__init__(items)
        self.changed = changed

    def __reduce__(self) -> t.Any:
        return list, (list(self),)  # a copy has no owner


for _name in ("append extend insert remove pop clear sort reverse __setitem__ __delitem__ __iadd__ __imul__").split():
    setattr(HookList, _name, _telling(_name, list))


class HookDict(defaultdict[t.Any, t.Any]):
    """A dict of endpoints or of hook lists that tells when it changes. `factory` makes a missing value."""

    def __init__(
        self, factory: Callable[[], t.Any] | None = None, items: t.Any = (), changed: Changed = unheard
    ) -> None:
        super().__init__(factory)
        self.changed = changed
        for key, value in dict(items).items():
            self[key] = value

    def __reduce__(self) -> t.Any:
        return defaultdict, (self.default_factory, dict(self))  # a copy has no owner

    def __missing__(self, key: t.Any) -> t.Any:
        if self.default_factory is None:
            raise KeyError(key)
        self[key] = self.default_factory()
        return self[key]

    def __setitem__(self, key: t.Any, value: t.Any) -> None:
        # Lists of another owner would go on telling that one.
        if isinstance(value, list) and getattr(value, "changed", None) != self.changed:
            value = HookList(value, self.changed)
        super().__setitem__(key, value)
        self.changed()

    def setdefault(self, key: t.Any, default: t.Any = None) -> t.Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, other: t.Any) -> t.Self:  # type: ignore[misc]  # as dict
        self.update(other)
        return self

    def update(self, *args: t.Any, **kwargs: t.Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value


for _name in "__delitem__ pop popitem clear".split():
    setattr(HookDict, _name, _telling(_name, dict))


def hook_dict(changed: Changed, items: t.Any = ()) -> HookDict:
    """Name of a blueprint (None: the app) to a list of functions."""
    return HookDict(list, items, changed)


def ordered(hooks: dict[t.Any, list[t.Any]], kind: HookKind, blueprints: Iterable[str]) -> list[t.Any]:
    """The functions of one kind in the order in which they run; `blueprints` with the innermost first."""
    inner_to_outer = [hooks[name] for name in (*blueprints, None) if name in hooks]
    if kind.blueprint_first:
        return [f for functions in inner_to_outer for f in reversed(functions)]
    return [f for functions in reversed(inner_to_outer) for f in functions]
