"""A fast matcher in front of Werkzeug's, for the requests whose answer is beyond doubt.

Werkzeug's Rule and Map stay the public objects and the judges. The matcher walks a copy of Werkzeug's own state machine
in Werkzeug's own order: the static part first, then the dynamic ones by weight. It answers only where Werkzeug would
return a rule, or 404 or 405. As soon as the walk meets anything else (a slash redirect, a default, an alias, a
websocket rule, a converter of the user's, ...) it gives up and Werkzeug decides; so it may not know, but never says
otherwise. tests/test_routing.py holds the two against each other.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterable, Set
from functools import lru_cache
from threading import RLock

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map as WerkzeugMap, MapAdapter, Rule, RuleFactory, ValidationError, WebsocketMismatch
from werkzeug.routing.converters import DEFAULT_CONVERTERS, UnicodeConverter
from werkzeug.routing.matcher import State
from werkzeug.routing.rules import RulePart

from .environ import decode, path_info

if t.TYPE_CHECKING:
    from .app import Flask
    from .ctx import RequestContext
    from .wrappers import Request

Capture = Callable[[str], "tuple[str, ...] | None"]
Match = tuple[Rule, dict[str, t.Any]]
MethodSets = list[Set[str]]  # of the rules that the walk met, and that are for other methods

_DOUBT: t.Any = object()  # the walk's answer where Werkzeug must decide
_ANY_SEGMENT = r"(?P<__werkzeug_0>[^/]{1,})\Z"
TRUSTED_CONVERTERS = frozenset(DEFAULT_CONVERTERS.values())


class Map(WerkzeugMap):
    """Werkzeug's Map with a fast matcher, made anew after any change: Werkzeug sets an attribute at each."""

    _fast: Matcher | None

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        self._changing = RLock()  # no matcher is made of half a rule; a factory may ask for other rules meanwhile
        super().__init__(*args, **kwargs)

    def __setattr__(self, name: str, value: t.Any) -> None:
        super().__setattr__(name, value)
        self.__dict__["_fast"] = None

    def add(self, rulefactory: RuleFactory) -> None:
        with self._changing:
            super().add(rulefactory)

    @property
    def fast(self) -> Matcher:
        with self._changing:
            self.update()
            matcher: Matcher | None = self.__dict__["_fast"]
            if matcher is None:
                matcher = self.__dict__["_fast"] = Matcher(self)
            return matcher


def _binds_natively(url_map: WerkzeugMap) -> bool:
    cls = type(url_map)
    overridden = cls.bind is not Map.bind or cls.bind_to_environ is not Map.bind_to_environ
    return not overridden and not vars(url_map).keys() & {"bind", "bind_to_environ"}


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
        arguments: dict[str, t.Any] = {}
        if len(values) == 1:  # by far the most, and a `zip` costs more than all the rest
            arguments[self.names[0]] = values[0]
        elif values:
            arguments = dict(zip(self.names, values, strict=False))
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
    """The fast matcher of one state of a Map."""

    def __init__(self, url_map: WerkzeugMap) -> None:
        root = url_map._matcher._root
        domain = root.static.get(url_map.default_subdomain or "")
        usable = domain is not None and not root.dynamic and not url_map.host_matching and _binds_natively(url_map)
        # Every path begins with a slash: the walk starts behind the empty part before it.
        start = domain.static.get("") if usable and domain is not None else None
        self.root: _Node | None = None if start is None else _Node(start, _doubtful_rules(url_map))
        self.rounds: int = 2 if url_map.merge_slashes else 1  # of Werkzeug's, before it says that nothing matches

    def find(self, method: str, path: str) -> Match | HTTPException | None:
        """A rule and its arguments, or a 404 or 405, or None: ask Werkzeug.

        `path` begins with "/" and is decoded; `method` is in upper case.
        """
        if self.root is None:
            return None
        missed: MethodSets = []
        found = _walk(self.root, path.split("/"), 1, method, (), missed)
        if found is None:
            return None if "//" in path else self._refuse(missed)  # Werkzeug would merge them, and match again
        if found is _DOUBT:
            return None
        target, values = found
        try:
            return target.rule, target.arguments(values)
        except ValidationError:
            return None

    def _refuse(self, missed: MethodSets) -> HTTPException:
        """The methods are made into a set as Werkzeug does it: their order depends on that."""
        if not missed:
            return NotFound()
        methods: set[str] = set()
        for of_rule in missed * self.rounds:
            methods.update(of_rule)
        return MethodNotAllowed(valid_methods=list(methods)) if methods else NotFound()

    def allowed_methods(self, path: str) -> list[str] | None:
        """What Werkzeug's MapAdapter gives for a path, in its order; None: ask it."""
        found = self.find("--", path)
        if found is None:
            return None
        return list(found.valid_methods or ()) if isinstance(found, MethodNotAllowed) else []


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


def _walk(
    node: _Node, parts: list[str], at: int, method: str, values: tuple[str, ...], missed: MethodSets
) -> tuple[_Target, tuple[str, ...]] | t.Any:
    """(target, values), None if nothing matches from here, or _DOUBT. Mirrors StateMachineMatcher.match."""
    end = len(parts)
    while at < end:
        part = parts[at]
        child = node.static.get(part)
        if child is None:
            only = node.only
            if only is None or not part:
                return _branch(node, child, parts, at, method, values, missed)
            node = only
            values += (part,)
        elif node.dynamic or not part:
            return _branch(node, child, parts, at, method, values, missed)
        else:
            node = child  # the only way on
        at += 1
    for target in node.targets:
        if target is _DOUBT:
            return _DOUBT
        methods = target.rule.methods
        if methods is None or method in methods:
            return target, values
        missed.append(methods)
    # A rule that only wants a slash: Werkzeug redirects there.
    return _DOUBT if "" in node.static and _may_match(node.static[""].targets, method) else None


def _may_match(targets: list[t.Any], method: str) -> bool:
    """Whether one of these rules is for the method, or may be."""
    return any(target is _DOUBT or not target.rule.methods or method in target.rule.methods for target in targets)


def _branch(
    node: _Node,
    child: _Node | None,
    parts: list[str],
    at: int,
    method: str,
    values: tuple[str, ...],
    missed: MethodSets,
) -> t.Any:
    """A step of the walk with more than one way on: the static one first, then the dynamic ones by weight."""
    part = parts[at]
    if child is not None:
        found = _walk(child, parts, at + 1, method, values, missed)
        if found is not None:
            return found
    for capture, final, child in node.dynamic:
        if capture is None:
            return _DOUBT
        captured = capture("/".join(parts[at:]) if final else part)
        if captured is not None:
            found = _walk(child, parts, len(parts) if final else at + 1, method, values + captured, missed)
            if found is not None:
                return found
    if part == "" and at == len(parts) - 1 and any(_is_lax(target) for target in node.targets):
        return _DOUBT  # a rule that takes the path without the slash too
    return None


def _is_lax(target: t.Any) -> bool:
    return target is _DOUBT or not target.rule.strict_slashes


_PLAIN_HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*(:[1-9]\d{0,4})?", re.ASCII | re.IGNORECASE)


def is_plain_host(host: str | bytes) -> bool:
    """Whether a Host header is one that Werkzeug has no objection to; of all others it is the judge."""
    return len(host) < 254 and _is_plain(host)  # long ones are not to be kept


@lru_cache(maxsize=1024)
def _is_plain(host: str | bytes) -> bool:
    return _PLAIN_HOST.fullmatch(host.decode("latin-1") if isinstance(host, bytes) else host) is not None


def find_fast(app: Flask, request: Request, method: str, path_info: str) -> Match | None:
    """The rule of a request if it is beyond doubt. The host must play no part (see also Plan.matches_fast).

    A 404 or 405 is noted on the request, as Werkzeug's matching would.
    """
    if not path_info or request.trusted_hosts is not None or app.config["TRUSTED_HOSTS"] is not None:
        return None
    url_map = app.url_map
    matcher: Matcher | None = getattr(url_map, "_fast", None) or getattr(url_map, "fast", None)  # Werkzeug's has none
    found = None if matcher is None else matcher.find(method, "/" + path_info.lstrip("/"))
    if isinstance(found, HTTPException):
        request.routing_exception = found
        return None
    return found


def allowed_methods(ctx: RequestContext) -> Iterable[str]:
    """The methods of a request's URL, for an automatic OPTIONS, as its adapter gives them."""
    methods = None
    if ctx.plan.matches_fast and "url_adapter" not in vars(ctx):  # `find_fast` found its rule
        scope = ctx.request._scope
        path = decode(ctx.request.environ.get("PATH_INFO") or "") if scope is None else path_info(scope)
        methods = ctx.app.url_map.fast.allowed_methods("/" + path.lstrip("/"))
    return t.cast(MapAdapter, ctx.url_adapter).allowed_methods() if methods is None else methods


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
