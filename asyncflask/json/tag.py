"""Tagged JSON, lossless for a few Python types: ``(1, b"x") -> {" t": [1, {" b": "eA=="}]}``.

A tag is a dict with one reserved key. A real dict which looks like one gets ``__`` at the end of its key.
"""

from __future__ import annotations

import typing as t
from base64 import b64decode, b64encode
from datetime import datetime
from uuid import UUID

from markupsafe import Markup
from werkzeug.http import http_date, parse_date

from . import dumps, loads
from .provider import _COMPACT


def _left_to_subclasses(self: JSONTag, value: t.Any) -> t.Any:
    raise NotImplementedError


class JSONTag:
    """One type's rule: which values it takes (`check`), and the way there and back. No `key`: no tag."""

    __slots__ = ("serializer",)
    key = ""
    check = to_json = to_python = _left_to_subclasses

    def __init__(self, serializer: TaggedJSONSerializer) -> None:
        self.serializer = serializer

    def tag(self, value: t.Any) -> dict[str, t.Any]:
        return {self.key: self.to_json(value)}


# What the tags below are put together from. They are methods made beforehand: a check runs for every value.


def _is_a(python_type: type) -> t.Any:
    def check(self: JSONTag, value: t.Any) -> bool:
        return isinstance(value, python_type)

    return check


def _with(convert: t.Callable[[t.Any], t.Any]) -> t.Any:
    def converted(self: JSONTag, value: t.Any) -> t.Any:
        return convert(value)

    return converted


def _tag_items(self: JSONTag, value: t.Any) -> t.Any:
    return list(map(self.serializer.tag, value))


def _tag_values(self: JSONTag, value: t.Any) -> t.Any:
    # JSON turns every key into a string: only the values can be tagged.
    tag = self.serializer.tag
    return {key: tag(item) for key, item in value.items()}


class TagDict(JSONTag):
    """A dict whose only key is a registered tag: the key is escaped."""

    __slots__ = ()
    key = " di"

    def check(self, value: t.Any) -> bool:
        return isinstance(value, dict) and len(value) == 1 and not self.serializer.tags.keys().isdisjoint(value)

    def to_json(self, value: t.Any) -> t.Any:
        [(key, item)] = value.items()
        return {f"{key}__": self.serializer.tag(item)}

    def to_python(self, value: t.Any) -> t.Any:
        [(key, item)] = value.items()
        return {key[:-2]: item}


class PassDict(JSONTag):
    __slots__ = ()
    check = _is_a(dict)
    to_json = tag = _tag_values


class TagTuple(JSONTag):
    __slots__ = ()
    key = " t"
    check, to_json, to_python = _is_a(tuple), _tag_items, _with(tuple)


class PassList(JSONTag):
    __slots__ = ()
    check = _is_a(list)
    to_json = tag = _tag_items


class TagBytes(JSONTag):
    __slots__ = ()
    key = " b"
    check, to_json, to_python = _is_a(bytes), _with(lambda data: b64encode(data).decode("ascii")), _with(b64decode)


class TagMarkup(JSONTag):
    """Anything with ``__html__()``; it comes back as `Markup`."""

    __slots__ = ()
    key = " m"
    to_json, to_python = _with(lambda item: str(item.__html__())), _with(Markup)

    def check(self, value: t.Any) -> bool:
        return callable(getattr(value, "__html__", None))


class TagUUID(JSONTag):
    __slots__ = ()
    key = " u"
    check, to_json, to_python = _is_a(UUID), _with(lambda uuid: uuid.hex), _with(UUID)


class TagDateTime(JSONTag):
    """A datetime in whole seconds; it comes back in UTC."""

    __slots__ = ()
    key = " d"
    check, to_json, to_python = _is_a(datetime), _with(http_date), _with(parse_date)


class TaggedJSONSerializer:
    """Writes compact tagged JSON. Tags are asked in their `order`; `tags` has them by key."""

    __slots__ = ("order", "tags")

    default_tags: t.ClassVar[list[type[JSONTag]]] = [
        TagDict,
        PassDict,
        TagTuple,
        PassList,
        TagBytes,
        TagMarkup,
        TagUUID,
        TagDateTime,
    ]

    def __init__(self) -> None:
        self.tags: dict[str, JSONTag] = {}
        self.order: list[JSONTag] = []
        for tag_class in self.default_tags:
            self.register(tag_class)

    def register(self, tag_class: type[JSONTag], force: bool = False, index: int | None = None) -> None:
        """Add a tag at the end, or at `index`; KeyError where its key is taken and `force` is not set."""
        tag = tag_class(self)
        if tag.key:
            if tag.key in self.tags and not force:
                raise KeyError(f"The tag {tag.key!r} is already registered.")
            self.tags[tag.key] = tag
        self.order.insert(len(self.order) if index is None else index, tag)

    def tag(self, value: t.Any) -> t.Any:
        for rule in self.order:
            if rule.check(value):
                return rule.tag(value)
        return value

    def untag(self, value: dict[str, t.Any]) -> t.Any:
        """The value behind a tag's dict; any other dict comes back as it is."""
        key = next(iter(value)) if len(value) == 1 else ""
        return self.tags[key].to_python(value[key]) if key in self.tags else value

    def _untag_scan(self, value: t.Any) -> t.Any:
        if isinstance(value, dict):
            return self.untag({key: self._untag_scan(item) for key, item in value.items()})
        if isinstance(value, list):
            return [self._untag_scan(item) for item in value]
        return value

    def dumps(self, value: t.Any) -> str:
        return dumps(self.tag(value), **_COMPACT)

    def loads(self, value: str) -> t.Any:
        return self._untag_scan(loads(value))
