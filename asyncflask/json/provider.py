"""JSON providers: how an application writes and reads JSON."""

from __future__ import annotations

import json
import json.encoder
import typing as t
import weakref
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from werkzeug.http import http_date

if t.TYPE_CHECKING:
    from ..app import Flask
    from ..wrappers import Response


class JSONProvider:
    """The base: a subclass gives at least `dumps` and `loads`, and is set as ``app.json_provider_class``."""

    def __init__(self, app: Flask) -> None:
        # A weak reference: the application owns its provider, and must be freed without a cycle.
        self._app: Flask = t.cast("Flask", weakref.proxy(app))

    def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
        raise NotImplementedError

    def loads(self, s: str | bytes, **kwargs: t.Any) -> t.Any:
        raise NotImplementedError

    def dump(self, obj: t.Any, fp: t.IO[str], **kwargs: t.Any) -> None:
        fp.write(self.dumps(obj, **kwargs))

    def load(self, fp: t.IO[t.AnyStr], **kwargs: t.Any) -> t.Any:
        return self.loads(fp.read(), **kwargs)

    def response(self, *args: t.Any, **kwargs: t.Any) -> Response:
        """A JSON response of one value, of a list of the arguments, or of a dict of the keywords."""
        text = self.dumps(self._prepare_response_obj(args, kwargs))
        return self._app.response_class(text, mimetype="application/json")

    def _prepare_response_obj(self, args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> t.Any:
        if args and kwargs:
            raise TypeError("app.json.response() takes either args or kwargs, not both")
        if len(args) == 1:
            return args[0]
        return args or kwargs or None


def _default(o: t.Any) -> t.Any:
    """The JSON form of a value which JSON itself lacks; TypeError where there is none."""
    match o:
        case date():
            return http_date(o)
        case Decimal() | UUID():
            return str(o)
    if is_dataclass(o):
        return asdict(t.cast(t.Any, o))
    if hasattr(o, "__html__"):
        return str(o.__html__())
    raise TypeError(f"Object of type {type(o).__name__} is not JSON serializable")


COMPACT: dict[str, t.Any] = {"separators": (",", ":")}
INDENTED: dict[str, t.Any] = {"indent": 2}
_make_writer: t.Any = getattr(json.encoder, "c_make_encoder", None)


def _make_encode(encoder: json.JSONEncoder) -> t.Callable[[t.Any], str]:
    """`encoder.encode` without what that makes anew at each call, which is most of its time for a small object."""
    if _make_writer is None or encoder.indent is not None:  # both are left to Python code
        return encoder.encode
    quote = json.encoder.encode_basestring_ascii if encoder.ensure_ascii else json.encoder.encode_basestring
    # None: it does not note which objects are open, since two threads may write the same one.
    write = _make_writer(
        None, encoder.default, quote, None, encoder.key_separator, encoder.item_separator, encoder.sort_keys,
        encoder.skipkeys, encoder.allow_nan,
    )  # fmt: skip

    def encode(obj: t.Any) -> str:
        try:
            return "".join(write(obj, 0))
        except RecursionError:
            return encoder.encode(obj)  # which tells a circular object from a deep one

    return encode


_decode = json.JSONDecoder().decode


class DefaultJSONProvider(JSONProvider):
    """The standard library's `json` with more types, and settings for subclasses to change."""

    default: t.Callable[[t.Any], t.Any] = staticmethod(_default)
    ensure_ascii = True
    sort_keys = True
    # None: indented in debug mode only.
    compact: bool | None = None
    mimetype = "application/json"
    _kept: dict[int, t.Callable[[t.Any], str]]

    def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
        return json.dumps(obj, **{**self._get_settings(), **kwargs})

    def loads(self, s: str | bytes, **kwargs: t.Any) -> t.Any:
        try:
            if not kwargs and type(s) is bytes and s[:1] in (b"{", b"[") and s[1:2] != b"\0":
                return _decode(s.decode("utf-8", "surrogatepass"))  # UTF-8, as json.loads finds out at more length
            return json.loads(s, **kwargs)
        except RecursionError:  # the input's fault, as all else that cannot be parsed
            raise ValueError("The JSON document is nested too deeply.") from None

    def response(self, *args: t.Any, **kwargs: t.Any) -> Response:
        obj = args[0] if len(args) == 1 and not kwargs else self._prepare_response_obj(args, kwargs)
        compact = not self._app.config["DEBUG"] if self.compact is None else self.compact
        layout = COMPACT if compact else INDENTED
        if type(self).dumps is DefaultJSONProvider.dumps:
            text = self._find_encode(layout)(obj)
        else:
            text = self.dumps(obj, **layout)
        return self._app.response_class(text + "\n", mimetype=self.mimetype)

    def _find_encode(self, layout: dict[str, t.Any]) -> t.Callable[[t.Any], str]:
        """What `dumps` would make at each call, kept until a setting changes."""
        kept = self._kept  # a setting that changes meanwhile makes another
        encode = kept.get(id(layout))
        if encode is None:
            encode = kept[id(layout)] = _make_encode(json.JSONEncoder(**self._get_settings(), **layout))
        return encode

    def _get_settings(self) -> dict[str, t.Any]:
        return {"default": self.default, "ensure_ascii": self.ensure_ascii, "sort_keys": self.sort_keys}

    def __setattr__(self, name: str, value: t.Any) -> None:
        super().__setattr__(name, value)
        super().__setattr__("_kept", {})
