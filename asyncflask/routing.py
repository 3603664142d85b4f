"""A fast matcher in front of Werkzeug's, for the requests whose answer is beyond doubt.

Werkzeug's Rule and Map stay the public objects and the judges. The matcher walks a copy of Werkzeug's own state machine
in Werkzeug's own order: the static part first, then the dynamic ones by weight. It answers only where Werkzeug would
return a rule, or 404. As soon as the walk meets anything else (a slash redirect, a default, an alias, a websocket rule,
a converter of the user's, ...) it gives up and Werkzeug decides; so it may not know, but never says otherwise.
tests/test_routing.py holds the two against each other.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable
from functools import cache, lru_cache

from werkzeug.exceptions import NotFound
from werkzeug.routing import Map as WerkzeugMap, Rule, ValidationError, WebsocketMismatch
from werkzeug.routing.converters import DEFAULT_CONVERTERS, UnicodeConverter
from werkzeug.routing.matcher import State
from werkzeug.routing.rules import RulePart

if t.TYPE_CHECKING:
    from .app import Flask
    from .wrappers import Request

Capture = Callable[[str], "tuple[str, ...] | None"]
Match = tuple[Rule, dict[str, t.Any]]

_DOUBT: t.Any = object()  # the walk's answer where Werkzeug must decide
NOWHERE: t.Any = object()  # no rule matches, whatever the method
_ANY_SEGMENT = r"(?P<__werkzeug_0>[^/]{1,})\Z"
TRUSTED_CONVERTERS = frozenset(DEFAULT_CONVERTERS.values())


class Map(WerkzeugMap):
    """Werkzeug's Map with a fast matcher, made anew after any change: Werkzeug sets an attribute at each."""

    _fast: Matcher | None

    def __setattr__(self, name: str, value: t.Any) -> None:
        super().__setattr__(name, value)
        self.__dict__["_fast"] = None

    @property
    def fast(self) -> Matcher:
        self.update()
        matcher: Matcher | None = self.__dict__["_fast"]
        if matcher is None:
            matcher = self.__dict__["_fast"] = Matcher(self)
        return matcher


class _Target:
    """A rule at the end of a path, with what turns captured text into arguments."""

    __slots__ = ("converters", "defaults", "names", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.defaults = rule.defaults
        self.names = tuple(rule._converters)
        # A string is its own value.
        self.converters = [
            (name, converter.to_python)
            for name, converter in rule._converters.items()
            if type(converter) is not UnicodeConverter
        ]

    def arguments(self, values: tuple[str, ...]) -> dict[str, t.Any]:
        """Raises ValidationError, as the converters do."""
        arguments: dict[str, t.Any] = dict(zip(self.names, values, strict=False)) if values else {}
        for name, convert in self.converters:
            arguments[name] = convert(arguments[name])
        if self.defaults:
            arguments.update(self.defaults)
        return arguments


class _Node:
    __slots__ = ("dynamic", "only", "static", "targets")

    def __init__(self, state: State, doubtful: set[int]) -> None:
        self.targets: list[t.Any] = [_DOUBT if id(rule) in doubtful else _Target(rule) for rule in state.rules]
        self.static: dict[str, _Node] = {part: _Node(child, doubtful) for part, child in state.static.items()}
        self.dynamic: list[tuple[Capture | None, bool, _Node]] = [
            (_capture(part), part.final, _Node(child, doubtful)) for part, child in state.dynamic
        ]
        # The node behind a plain <name>, where nothing else dynamic competes with it.
        plain = len(state.dynamic) == 1 and state.dynamic[0][0].content == _ANY_SEGMENT
        self.only: _Node | None = self.dynamic[0][2] if plain else None


def _capture(part: RulePart) -> Capture | None:
    if part.suffixed:  # a trailing slash after a path converter: left to Werkzeug
        return None
    if part.content == _ANY_SEGMENT:
        return lambda text: (text,) if text else None
    match = re.compile(part.content).match
    names = sorted((n for n in re.compile(part.content).groupindex if n.startswith("__werkzeug_")), key=_group_number)

    def capture(text: str) -> tuple[str, ...] | None:
        found = match(text)
        return None if found is None else tuple(found[name] for name in names)

    return capture


def _group_number(name: str) -> int:
    return int(name.removeprefix("__werkzeug_"))


class Matcher:
    """The fast matcher of one state of a Map. `find` gives a rule and its arguments, or None: ask Werkzeug."""

    def __init__(self, url_map: WerkzeugMap) -> None:
        root = url_map._matcher._root
        domain = root.static.get(url_map.default_subdomain or "")
        usable = domain is not None and not root.dynamic and not url_map.host_matching
        # Every path begins with a slash: the walk starts behind the empty part before it.
        start = domain.static.get("") if usable and domain is not None else None
        self.root: _Node | None = None if start is None else _Node(start, _doubtful_rules(url_map))

    def find(self, method: str, path: str) -> t.Any:
        """A Match, NOWHERE, or None: ask Werkzeug. `path` begins with "/" and is decoded; `method` is in upper case."""
        if self.root is None:
            return None
        found = _walk(self.root, path.split("/"), 1, method, ())
        if found is None and "//" not in path:  # which Werkzeug would merge, and match again
            return NOWHERE
        if found is None or found is _DOUBT:
            return None
        target, values = found
        try:
            return target.rule, target.arguments(values)
        except ValidationError:
            return None


def _doubtful_rules(url_map: WerkzeugMap) -> set[int]:
    doubtful = set()
    for rules in url_map._rules_by_endpoint.values():
        redirects = url_map.redirect_defaults and len(rules) > 1 and any(rule.defaults for rule in rules)
        for rule in rules:
            plain = rule.redirect_to is None and not rule.alias and not rule.websocket
            trusted = all(type(converter) in TRUSTED_CONVERTERS for converter in rule._converters.values())
            if redirects or not plain or not trusted:
                doubtful.add(id(rule))  # rules have no hash
    return doubtful


def _walk(node: _Node, parts: list[str], at: int, method: str, values: tuple[str, ...]) -> t.Any:
    """(target, values), None if nothing matches from here, or _DOUBT. Mirrors StateMachineMatcher.match."""
    end = len(parts)
    while at < end:
        part = parts[at]
        child = node.static.get(part)
        if child is None:
            only = node.only
            if only is None or not part:
                return _branch(node, child, parts, at, method, values)
            node = only
            values += (part,)
        elif node.dynamic or not part:
            return _branch(node, child, parts, at, method, values)
        else:
            node = child  # the only way on
        at += 1
    for target in node.targets:
        if target is _DOUBT:
            return _DOUBT
        methods = target.rule.methods
        if methods is None or method in methods:
            return target, values
    # Another method's rule, or one that only wants a slash: Werkzeug tells 405 and redirects from other matches.
    return _DOUBT if node.targets or "" in node.static else None


def _branch(node: _Node, child: _Node | None, parts: list[str], at: int, method: str, values: tuple[str, ...]) -> t.Any:
    """A step of the walk with more than one way on: the static one first, then the dynamic ones by weight."""
    part = parts[at]
    if child is not None:
        found = _walk(child, parts, at + 1, method, values)
        if found is not None:
            return found
    for capture, final, child in node.dynamic:
        if capture is None:
            return _DOUBT
        captured = capture("/".join(parts[at:]) if final else part)
        if captured is not None:
            found = _walk(child, parts, len(parts) if final else at + 1, method, values + captured)
            if found is not None:
                return found
    if part == "" and at == len(parts) - 1 and node.targets:
        return _DOUBT
    return None


_PLAIN_HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*(:[1-9]\d{0,4})?", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=1024)
def is_plain_host(host: str | bytes) -> bool:
    """Whether a Host header is one that Werkzeug has no objection to; of all others it is the judge."""
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    return len(text) < 254 and _PLAIN_HOST.fullmatch(text) is not None


@cache
def _binds_natively(cls: type) -> bool:
    return issubclass(cls, Map) and cls.bind is Map.bind and cls.bind_to_environ is Map.bind_to_environ


def find_fast(app: Flask, request: Request, method: str, path_info: str) -> Match | None:
    """The rule of a request if it is beyond doubt. The host must play no part (see also Plan.matches_fast).

    That there is none is noted on the request, as Werkzeug's matching would.
    """
    if not path_info or request.trusted_hosts is not None or app.config["TRUSTED_HOSTS"] is not None:
        return None
    url_map = app.url_map
    if not _binds_natively(type(url_map)):  # type: ignore[arg-type]  # classes do hash
        return None
    found = (url_map._fast or url_map.fast).find(method, "/" + path_info.lstrip("/"))
    if found is NOWHERE:
        request.routing_exception = NotFound()
        return None
    match: Match | None = found
    return match


def make_rule(
    app: Flask,
    rule: str,
    endpoint: str,
    view_func: t.Any,
    provide_automatic_options: bool | None,
    options: dict[str, t.Any],
) -> Rule:
    """A rule of the application's class, its methods from the options, the view's attribute, or GET."""
    methods = _rule_methods(view_func, options.pop("methods", None))
    if provide_automatic_options is None:
        provide_automatic_options = getattr(view_func, "provide_automatic_options", None)
    if provide_automatic_options is None:
        provide_automatic_options = "OPTIONS" not in methods and app.config["PROVIDE_AUTOMATIC_OPTIONS"]
        if provide_automatic_options:
            methods.add("OPTIONS")
    methods |= set(getattr(view_func, "required_methods", ()))
    is_ours = options.pop("asgi_websocket", False)
    url_rule = app.url_rule_class(rule, methods=methods, endpoint=endpoint, **options)
    url_rule.asgi_websocket = is_ours  # type: ignore[attr-defined]
    url_rule.provide_automatic_options = provide_automatic_options  # type: ignore[attr-defined]  # as in Flask
    return url_rule


def check_protocol(rule: t.Any, is_websocket: bool) -> None:
    """Raise WebsocketMismatch where a websocket's rule matched a request, which may say that it wants an upgrade.

    Such a rule of an extension, made with ``websocket=True`` alone, is for requests: it takes the socket by itself.
    """
    if rule.websocket and getattr(rule, "asgi_websocket", False) is not is_websocket:
        raise WebsocketMismatch()


def _rule_methods(view_func: t.Any, methods: t.Any) -> set[str]:
    if methods is None:
        methods = getattr(view_func, "methods", None) or ("GET",)
    if isinstance(methods, str):
        raise TypeError('Allowed methods must be a list of strings, for example: @app.route(..., methods=["POST"])')
    return {item.upper() for item in methods}
