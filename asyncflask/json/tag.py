"""Tagged JSON, lossless for a few Python types: ``(1, b"x") -> {" t": [1, {" b": "eA=="}]}``.

A tag is a dict with one reserved key. A real dict which looks like one gets ``__`` at the end of its key.
"""

from __future__ import annotations

import typing as t
from base64 import b64decode, b64encode
from datetime import datetime
from types import NoneType
from uuid import UUID

from markupsafe import Markup
from werkzeug.http import http_date, parse_date

from . import _get_provider, dumps, loads
from .provider import COMPACT, DefaultJSONProvider

Convert = t.Callable[[t.Any], t.Any]


class JSONTag:
    """One type's rule: which values it takes (`check`), and the way there and back. No `key`: no tag."""

    __slots__ = ("serializer",)
    key: str = ""

    def __init_subclass__(
        cls, of: type | None = None, to_json: Convert | None = None, to_python: Convert | None = None
    ) -> None:
        """A subclass may name the type it takes and the two conversions in place of the methods."""
        # The methods are made beforehand: a check runs for every value.
        made = {
            "check": of and _is_a(of),
            "to_json": to_json and _with(to_json),
            "to_python": to_python and _with(to_python),
        }
        for name, method in made.items():
            if method is not None:
                setattr(cls, name, method)

    def __init__(self, serializer: TaggedJSONSerializer) -> None:
        self.serializer: TaggedJSONSerializer = serializer

    def check(self, value: t.Any) -> bool:
        raise NotImplementedError

    def to_json(self, value: t.Any) -> t.Any:
        raise NotImplementedError

    def to_python(self, value: t.Any) -> t.Any:
        raise NotImplementedError

    def tag(self, value: t.Any) -> dict[str, t.Any]:
        return {self.key: self.to_json(value)}


def _is_a(python_type: type) -> t.Callable[[JSONTag, t.Any], bool]:
    def check(self: JSONTag, value: t.Any) -> bool:
        return isinstance(value, python_type)

    return check


def _with(convert: Convert) -> t.Callable[[JSONTag, t.Any], t.Any]:
    def converted(self: JSONTag, value: t.Any) -> t.Any:
        return convert(value)

    return converted


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


class PassDict(JSONTag, of=dict):
    __slots__ = ()

    def to_json(self, value: t.Any) -> t.Any:
        # JSON turns every key into a string: only the values can be tagged.
        tag = self.serializer.tag
        return {key: tag(item) for key, item in value.items()}

    if not t.TYPE_CHECKING:
        tag = to_json


class PassList(JSONTag, of=list):
    __slots__ = ()

    def to_json(self, value: t.Any) -> t.Any:
        return list(map(self.serializer.tag, value))

    if not t.TYPE_CHECKING:
        tag = to_json


class TagTuple(JSONTag, of=tuple, to_python=tuple):
    __slots__ = ()
    key = " t"

    def to_json(self, value: t.Any) -> t.Any:
        return list(map(self.serializer.tag, value))


class TagBytes(JSONTag, of=bytes, to_json=lambda data: b64encode(data).decode("ascii"), to_python=b64decode):
    __slots__ = ()
    key = " b"


class TagMarkup(JSONTag, to_json=lambda item: str(item.__html__()), to_python=Markup):
    """Anything with ``__html__()``; it comes back as `Markup`."""

    __slots__ = ()
    key = " m"

    def check(self, value: t.Any) -> bool:
        return callable(getattr(value, "__html__", None))


class TagUUID(JSONTag, of=UUID, to_json=lambda uuid: uuid.hex, to_python=UUID):
    __slots__ = ()
    key = " u"


class TagDateTime(JSONTag, of=datetime, to_json=http_date, to_python=parse_date):
    """A datetime in whole seconds; it comes back in UTC."""

    __slots__ = ()
    key = " d"


def _encode(value: t.Any) -> str:
    return dumps(value, **COMPACT)


def _find_encode() -> t.Callable[[t.Any], str]:
    """`_encode`, or what it would come to: the default provider keeps that, which otherwise is made at each call."""
    provider: t.Any = _get_provider()
    if provider is None or getattr(provider.dumps, "__func__", None) is not DefaultJSONProvider.dumps:
        return _encode
    return t.cast(Convert, provider._find_encode(COMPACT))


_TAGS = (TagDict, PassDict, TagTuple, PassList, TagBytes, TagMarkup, TagUUID, TagDateTime)
# What none of them takes, subclasses aside.
_PLAIN = frozenset({str, int, float, bool, NoneType})


class TaggedJSONSerializer:
    """Writes compact tagged JSON. Tags are asked in their `order`; `tags` has them by key."""

    __slots__ = ("_native_order", "order", "tags")

    default_tags: t.ClassVar[list[type[JSONTag]]] = list(_TAGS)

    def __init__(self) -> None:
        self.tags: dict[str, JSONTag] = {}
        self.order: list[JSONTag] = []
        # A copy while there are no other tags than ours; the public one may be changed in place.
        self._native_order: list[JSONTag] = []
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
        self._native_order = self.order.copy() if all(type(rule) in _TAGS for rule in self.order) else []

    def tag(self, value: t.Any) -> t.Any:
        if type(value) in _PLAIN and self.order == self._native_order:
            return value
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
        return _find_encode()(self.tag(value))

    def loads(self, value: str) -> t.Any:
        return self._untag_scan(loads(value))
