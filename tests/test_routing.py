"""The fast matcher against Werkzeug's: it says nothing, or exactly what MapAdapter.match says."""

from __future__ import annotations

import sys
import threading
import typing as t
import uuid

import flask
import pytest
from edge import get
from hypothesis import HealthCheck, given, settings, strategies as st
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import (
    BaseConverter,
    IntegerConverter,
    Map as WerkzeugMap,
    MapAdapter,
    Rule,
    RuleFactory,
    Subdomain,
    Submount,
)

from asyncflask import Flask, request
from asyncflask.ctx import RequestContext
from asyncflask.routing import Map

METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "PATCH", "--")
UUID = "12345678-1234-5678-1234-567812345678"

# -- rules from a grammar

STATIC = st.sampled_from(["a", "b", "ab", "é", "1", "a.b", "a b", "x-y", "|", "%", "+", "\u0661", "a\n"])
CONVERTER = st.sampled_from(
    [
        "",
        "string:",
        "string(length=2):",
        "string(minlength=2,maxlength=3):",
        "int:",
        "int(signed=True):",
        "int(fixed_digits=2):",
        "int(min=1,max=12):",
        "float:",
        "float(signed=True):",
        "uuid:",
        "any(a,b):",
        'any(a,"a/b",ab):',
        "path:",
        "own:",
        "slow_int:",
    ]
)
NAME = st.sampled_from(["a", "b", "c"])
VARIABLE = st.builds("<{}{}>".format, CONVERTER, NAME)
MIXED = st.builds("".join, st.lists(VARIABLE | STATIC, min_size=1, max_size=4))
PART = st.one_of(STATIC, VARIABLE, MIXED, st.just(""))
RULE = st.builds(lambda parts, slash: "/" + "/".join(parts) + slash, st.lists(PART, max_size=4), st.sampled_from("/,"))
METHOD_SETS = st.none() | st.lists(st.sampled_from(METHODS[:6]), min_size=0, max_size=4)
OPTIONS = st.fixed_dictionaries(
    {"methods": METHOD_SETS, "endpoint": st.sampled_from(["one", "two", "three"])},
    optional={
        "strict_slashes": st.booleans(),
        "merge_slashes": st.booleans(),
        "defaults": st.dictionaries(NAME, st.sampled_from([1, "a", None]), max_size=2),
        "redirect_to": st.sampled_from(["/elsewhere", "a/b"]),
        "alias": st.just(True),
        "build_only": st.just(True),
        "websocket": st.just(True),
        "subdomain": st.sampled_from(["", "api", "<who>"]),
    },
)
MAP_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "strict_slashes": st.booleans(),
        "merge_slashes": st.booleans(),
        "redirect_defaults": st.booleans(),
        "default_subdomain": st.sampled_from(["", "api"]),
    },
)
PIECE = st.sampled_from(  # digits of many scripts
    [
        "",
        "a",
        "b",
        "c",
        "ab",
        "aa",
        "abc",
        "é",
        "1",
        "01",
        "12",
        "13",
        "-1",
        "1.5",
        "-1.5",
        "١٢",
        "१.५",
        "²",
        UUID,
        "a-b",
        "a.b",
        "x-y",
        "a b",
        "|",
        "%",
        "+",
        ".",
        "..",
        "\n",
        "a\n",
        "1\n",
        "\x00",
        "a\\b",
        "\U0001d7d9",
        "A",
        "9" * 4400,
    ]
)
PATH = st.builds(
    lambda pieces, start: start + "/".join(pieces),
    st.lists(st.one_of(PIECE, st.builds("".join, st.lists(PIECE, max_size=3))), max_size=5),
    st.sampled_from(["/", "/", "/", "//", ""]),
)
Options = dict[str, t.Any]


class OwnConverter(BaseConverter):
    regex = "[ab]+"


class SlowInteger(IntegerConverter):
    """Not Werkzeug's own: what it does nobody knows."""

    def to_python(self, value: str) -> int:
        return -super().to_python(value)


OWN = {"own": OwnConverter, "slow_int": SlowInteger}


def make_map(options: Options, rules: list[tuple[str, Options]]) -> Map:
    url_map = Map(**options, converters=OWN)
    for rule, rule_options in rules:
        add_rule(url_map, rule, rule_options)
    return url_map


def add_rule(url_map: Map, rule: str, options: Options) -> None:
    try:
        url_map.add(Rule(rule, **options))
    except (ValueError, TypeError, LookupError, SyntaxError):
        pass  # a websocket rule with POST, a name used twice


def adapter_of(url_map: Map, method: str) -> MapAdapter:
    """As Flask binds it where subdomains play no part."""
    return url_map.bind("example.com", subdomain=url_map.default_subdomain or "", default_method=method)


def judge(url_map: Map, path: str, method: str) -> tuple[Rule | None, t.Any]:
    try:
        return t.cast("tuple[Rule, t.Any]", adapter_of(url_map, method).match(path, return_rule=True))
    except HTTPException:
        return None, None
    except Exception:  # a rule that contradicts itself, as a redirect to a value it does not have
        return None, None


def match_fast(url_map: Map, path: str, method: str) -> tuple[Rule, t.Any] | None:
    found = look_up(url_map, path, method)
    return None if isinstance(found, HTTPException) else found


def look_up(url_map: Map, path: str, method: str) -> t.Any:
    return url_map.fast.find(method, "/" + path.lstrip("/")) if path else None


def assert_agrees(url_map: Map, path: str, method: str) -> bool:
    """Whether the fast matcher answered."""
    found = look_up(url_map, path, method)
    if found is None:
        return False
    if isinstance(found, HTTPException):
        with pytest.raises(HTTPException) as raised:
            adapter_of(url_map, method).match(path, return_rule=True)
        assert type(raised.value) is type(found)
        # Their order as well: it is that of the Allow header.
        assert getattr(raised.value, "valid_methods", None) == getattr(found, "valid_methods", None)
        return True
    rule, values = judge(url_map, path, method)
    assert found[0] is rule, (found, rule)
    # NaN cannot come out of a path; types count as well (1 == 1.0 == True).
    assert found[1] == values
    assert {name: type(value) for name, value in found[1].items()} == {
        name: type(value) for name, value in values.items()
    }
    assert list(found[1]) == list(values)
    return True


MANY = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(
    MAP_OPTIONS,
    st.lists(st.tuples(RULE, OPTIONS), max_size=7),
    st.lists(st.tuples(PATH, st.sampled_from(METHODS)), min_size=5, max_size=12),
)
def test_fast_matcher_never_says_otherwise(
    options: Options, rules: list[tuple[str, Options]], asked: list[tuple[str, str]]
) -> None:
    url_map = make_map(options, rules)
    for path, method in asked:
        assert_agrees(url_map, path, method)


@st.composite
def maps_with_paths(draw: st.DrawFn) -> tuple[Options, list[tuple[str, Options]], list[str]]:
    """Paths made from the rules themselves, some then spoiled: random ones rarely come near to a rule."""
    rules = draw(st.lists(st.tuples(RULE, OPTIONS), min_size=1, max_size=7))
    values = {"a": draw(PIECE), "b": draw(PIECE), "c": draw(PIECE)}
    paths = []
    for rule, _ in rules:
        path, rest = "", rule
        while rest:
            before, _, rest = rest.partition("<")
            variable, _, rest = rest.partition(">") if "<" in rule else ("", "", rest)
            path += before + (values[variable[-1]] if variable else "")
        paths.append(path)
        paths.append(draw(st.sampled_from([path + "/", path.rstrip("/"), path.replace("/", "//", 1), path + "/a", ""])))
    return draw(MAP_OPTIONS), rules, paths


@MANY
@given(maps_with_paths(), st.sampled_from(METHODS))
def test_fast_matcher_never_says_otherwise_near_the_rules(
    case: tuple[Options, list[tuple[str, Options]], list[str]], method: str
) -> None:
    options, rules, paths = case
    url_map = make_map(options, rules)
    for path in paths:
        assert_agrees(url_map, path, method)


MANY_METHODS = st.lists(st.sampled_from([f"METHOD{number}" for number in range(30)] + ["GET"]), max_size=20)
FEW_RULES = st.sampled_from(["/a", "/a/", "/<a>", "/<path:a>", "/<int:a>", "/<a>/b", "/a/<b>", "/<int(max=5):a>"])


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.booleans(),
    st.lists(st.tuples(FEW_RULES, MANY_METHODS, st.booleans()), min_size=1, max_size=8),
    st.sampled_from(["GET", "METHOD1", "METHOD2", "--"]),
)
def test_allowed_methods_are_those_of_werkzeug_in_its_order(
    merge_slashes: bool, rules: list[tuple[str, list[str], bool]], method: str
) -> None:
    url_map = make_map({"merge_slashes": merge_slashes}, [])
    for number, (rule, methods, strict) in enumerate(rules):
        add_rule(url_map, rule, {"endpoint": str(number), "methods": methods, "strict_slashes": strict})
    for path in ("/a", "/a/", "/1", "/7", "/b", "/a/b", "/b/b", "/b/", "/a//b"):
        assert_agrees(url_map, path, method)
        methods = url_map.fast.allowed_methods(path)
        assert methods is None or methods == list(adapter_of(url_map, "GET").allowed_methods(path))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(maps_with_paths(), st.lists(st.tuples(RULE, OPTIONS), min_size=1, max_size=3))
def test_fast_matcher_agrees_after_rules_were_added(
    case: tuple[Options, list[tuple[str, Options]], list[str]], more: list[tuple[str, Options]]
) -> None:
    options, rules, paths = case
    url_map = make_map(options, rules)
    for path in paths:
        assert_agrees(url_map, path, "GET")
    for rule, rule_options in more:
        add_rule(url_map, rule, rule_options)
        for path in paths:
            assert_agrees(url_map, path, "GET")


# -- it does answer

PLAIN = [
    ("/", "/", {}),
    ("/a", "/a", {}),
    ("/a/b/c", "/a/b/c", {}),
    ("/a/", "/a/", {}),
    ("/<a>", "/é ü", {"a": "é ü"}),
    ("/<a>/", "/x/", {"a": "x"}),
    ("/<a>/<b>", "/x/y", {"a": "x", "b": "y"}),
    ("/u/<int:a>", "/u/7", {"a": 7}),
    ("/u/<int:a>", "/u/١٢", {"a": 12}),
    ("/u/<int(signed=True):a>", "/u/-7", {"a": -7}),
    ("/u/<float:a>", "/u/1.5", {"a": 1.5}),
    ("/u/<uuid:a>", f"/u/{UUID}", {"a": uuid.UUID(UUID)}),
    ("/u/<any(a,b):a>", "/u/b", {"a": "b"}),
    ("/f/<path:a>", "/f/x/y//z", {"a": "x/y//z"}),
    ("/f/<path:a>/edit", "/f/x/y/edit", {"a": "x/y"}),
    ("/<a>-<b>", "/x-y-z", {"a": "x-y", "b": "z"}),
    ("/v<int:a>.<b>", "/v1.json", {"a": 1, "b": "json"}),
    ("/<string(length=2):a>/x", "/de/x", {"a": "de"}),
]


@pytest.mark.parametrize(("rule", "path", "values"), PLAIN)
def test_plain_rules_are_answered(rule: str, path: str, values: Options) -> None:
    url_map = make_map({}, [("/decoy", {"endpoint": "decoy"}), (rule, {"endpoint": "one", "methods": ["GET"]})])
    for method in ("GET", "HEAD"):
        found = match_fast(url_map, path, method)
        assert found is not None and found[0].rule == rule and found[1] == values
        assert assert_agrees(url_map, path, method)
    assert match_fast(url_map, path, "POST") is None


def test_all_plain_rules_together_are_answered() -> None:
    url_map = make_map({}, [(rule, {"endpoint": rule}) for rule, _, _ in PLAIN if not rule.startswith("/<")])
    for rule, path, values in PLAIN:
        if not rule.startswith("/<"):
            assert (match_fast(url_map, path, "GET") or (None, None))[1] == values
            assert assert_agrees(url_map, path, "GET")


def test_same_rule_with_several_methods_is_answered() -> None:
    rules = [("/<a>", {"endpoint": method, "methods": [method]}) for method in ("GET", "POST", "PUT")]
    url_map = make_map({}, rules)
    for method in ("GET", "HEAD", "POST", "PUT"):
        found = match_fast(url_map, "/x", method)
        assert found is not None and found[0].endpoint == method.replace("HEAD", "GET")
    assert match_fast(url_map, "/x", "DELETE") is None


REFUSED: list[tuple[str, str, list[str] | None]] = [
    ("PUT", "/a", ["GET", "HEAD", "POST"]),
    ("GET", "/only", ["POST"]),
    ("HEAD", "/only", ["POST"]),
    ("PUT", "/x/y", ["GET", "HEAD"]),
    ("PUT", "/x/1", ["GET", "HEAD", "DELETE"]),
    ("PUT", "/dir", None),  # of the rule with the slash Werkzeug says nothing either
    ("GET", "/none/at/all", None),
]


@pytest.mark.parametrize(("method", "path", "methods"), REFUSED)
def test_wrong_methods_are_refused(method: str, path: str, methods: list[str] | None) -> None:
    rules = [("/a", ["GET"]), ("/a", ["POST"]), ("/only", ["POST"]), ("/x/<a>", ["GET"]), ("/x/<int:a>", ["DELETE"])]
    url_map = make_map({}, [(rule, {"endpoint": rule, "methods": methods}) for rule, methods in rules])
    add_rule(url_map, "/dir/", {"endpoint": "dir", "methods": ["GET"]})
    found = look_up(url_map, path, method)
    assert isinstance(found, NotFound if methods is None else MethodNotAllowed)
    assert sorted(getattr(found, "valid_methods", ())) == sorted(methods or ())
    assert assert_agrees(url_map, path, method)


def test_wrong_method_of_a_websockets_rule_is_werkzeugs() -> None:
    url_map = make_map({}, [("/a", {"endpoint": "a", "methods": ["GET"], "websocket": True})])
    assert look_up(url_map, "/a", "POST") is None


def test_defaults_of_a_rule_alone_are_answered() -> None:
    url_map = make_map({}, [("/a", {"endpoint": "one", "defaults": {"page": 1}})])
    assert (match_fast(url_map, "/a", "GET") or (None, None))[1] == {"page": 1}


def test_rules_of_the_default_subdomain_are_answered() -> None:
    url_map = make_map({"default_subdomain": "www"}, [("/a", {"endpoint": "one"})])
    assert match_fast(url_map, "/a", "GET") is not None
    assert assert_agrees(url_map, "/a", "GET")


DOUBTFUL: list[tuple[str, Options, str]] = [
    ("/a/", {}, "/a"),
    ("/a", {}, "/a/"),
    ("/a", {"strict_slashes": False}, "/a/"),
    ("/a/", {"strict_slashes": False}, "/a"),
    ("/a/b", {}, "/a//b"),
    ("/a", {"redirect_to": "/b"}, "/a"),
    ("/a", {"alias": True}, "/a"),
    ("/a", {"websocket": True}, "/a"),
    ("/a", {"build_only": True}, "/a"),
    ("/a", {"subdomain": "api"}, "/a"),
    ("/<own:a>", {}, "/ab"),
    ("/<slow_int:a>", {}, "/1"),
    ("/<int(max=5):a>", {}, "/6"),
    ("/missing", {}, "/a"),
]


@pytest.mark.parametrize(("rule", "options", "path"), DOUBTFUL)
def test_doubtful_cases_are_werkzeugs(rule: str, options: Options, path: str) -> None:
    assert match_fast(make_map({}, [(rule, {"endpoint": "one", **options})]), path, "GET") is None


def test_default_redirect_is_werkzeugs() -> None:
    rules = [
        ("/all/", {"endpoint": "all", "defaults": {"page": 1}}),
        ("/all/<int:page>", {"endpoint": "all"}),
    ]
    assert match_fast(make_map({}, rules), "/all/1", "GET") is None
    # Without redirects both are plain.
    url_map = make_map({"redirect_defaults": False}, rules)
    assert match_fast(url_map, "/all/1", "GET") is not None
    assert assert_agrees(url_map, "/all/1", "GET")


def test_rule_factories_are_seen() -> None:
    factories: list[RuleFactory] = [
        Submount("/sub", [Rule("/a", endpoint="one")]),
        Subdomain("api", [Rule("/b", endpoint="two")]),
    ]
    url_map = Map(factories)
    assert match_fast(url_map, "/sub/a", "GET") is not None
    assert match_fast(url_map, "/b", "GET") is None


# -- changes at run time


def test_added_rule_counts_at_once() -> None:
    url_map = make_map({}, [("/<a>", {"endpoint": "one"})])
    assert match_fast(url_map, "/x", "GET") is not None
    url_map.add(Rule("/x", endpoint="two"))
    found = match_fast(url_map, "/x", "GET")
    assert found is not None and found[0].endpoint == "two"


CHANGES = [
    ("host_matching", True),
    ("default_subdomain", "api"),
    ("redirect_defaults", True),
    ("merge_slashes", False),
    ("strict_slashes", False),
]


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_changed_map_is_judged_anew(name: str, value: t.Any) -> None:
    rules: list[tuple[str, Options]] = [
        ("/all/", {"endpoint": "all", "defaults": {"page": 1}}),
        ("/all/<int:page>", {"endpoint": "all"}),
        ("/api", {"endpoint": "api", "subdomain": "api"}),
        ("/a/b", {"endpoint": "ab"}),
    ]
    url_map = make_map({"redirect_defaults": False}, rules)
    paths = ("/all/1", "/all/", "/all", "/api", "/a/b", "/a//b", "/new/", "/new")
    assert sum(assert_agrees(url_map, path, "GET") for path in paths) == 6
    setattr(url_map, name, value)
    for path in paths:
        assert_agrees(url_map, path, "GET")
    add_rule(url_map, "/new/", {"endpoint": "new"})
    for path in paths:
        assert_agrees(url_map, path, "GET")


def test_changed_methods_of_a_rule_count() -> None:
    url_map = make_map({}, [("/a", {"endpoint": "one", "methods": ["GET"]})])
    assert match_fast(url_map, "/a", "PUT") is None
    t.cast(set, next(url_map.iter_rules()).methods).add("PUT")
    assert match_fast(url_map, "/a", "PUT") is not None


def test_converter_replaced_by_a_users_own_is_not_trusted() -> None:
    url_map = make_map({}, [])
    url_map.converters = {**url_map.converters, "int": SlowInteger}
    add_rule(url_map, "/<int:a>", {"endpoint": "one"})
    assert match_fast(url_map, "/1", "GET") is None


def test_rules_are_added_while_others_match() -> None:
    """A matcher of the old rules must not be kept as that of the new ones, nor be made while they are put in."""
    url_map = make_map({}, [])
    errors: list[object] = []
    stop = threading.Event()

    def match_on() -> None:
        while not stop.is_set():
            try:
                url_map.fast.find("GET", "/0")
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=match_on) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    try:
        for number in range(60):
            add_rule(url_map, f"/{number}", {"endpoint": str(number)})
            if match_fast(url_map, f"/{number}", "GET") is None:
                errors.append(f"/{number} is not known")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert errors == []


# -- through the application


async def status_on_both(app: Flask, path: str, host: str = "localhost") -> tuple[int, int]:
    answer = await get(app, path, headers=[("Host", host)])
    return answer.status, app.test_client().get(path, headers=Headers({"Host": host})).status_code


def make_app(cls: type, **config: t.Any) -> t.Any:
    app = cls(__name__)
    app.config.update(config)
    app.add_url_rule("/a", "a", lambda: "a")
    return app


HOSTS = ["localhost", "a..b", "x" * 64 + ".com", "a b", "a/?x=", "a@b", "localhost:99999", "", "[::1]", "ünï.de"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("config", [{}, {"SERVER_NAME": "localhost"}, {"TRUSTED_HOSTS": ["localhost"]}])
async def test_hosts_are_judged_as_in_flask(host: str, config: Options) -> None:
    expected = make_app(flask.Flask, **config).test_client().get("/a", headers={"Host": host}).status_code
    assert await status_on_both(make_app(Flask, **config), "/a", host) == (expected, expected)


async def test_context_class_with_its_own_matching_gets_its_rules_plan() -> None:
    """`RequestContext.match_request` may be overridden; hooks and view are then those of the rule it chose."""

    class Context(RequestContext):
        def match_request(self) -> None:
            super().match_request()
            if self.request.args:
                self.request.url_rule = next(self.app.url_map.iter_rules("chosen"))

    app = make_app(Flask)
    app.add_url_rule("/chosen", "chosen", lambda: f"chosen {request.endpoint}")
    app.request_context = lambda environ: Context(app, environ)
    assert app.test_client().get("/a?x=1").text == "chosen chosen"
    assert (await get(app, "/a?x=1")).text == "chosen chosen"


async def test_map_class_with_its_own_binding_is_asked() -> None:
    class OwnMap(Map):
        def bind_to_environ(self, environ: t.Any, *args: t.Any, **kwargs: t.Any) -> MapAdapter:
            adapter = super().bind_to_environ(environ, *args, **kwargs)
            adapter.path_info = adapter.path_info.removeprefix("/v1")
            return adapter

    class App(Flask):
        url_map_class = OwnMap

    app = make_app(App)
    app.add_url_rule("/v1/a", "hidden", lambda: "hidden")
    assert app.test_client().get("/v1/a").text == "a"
    assert (await get(app, "/v1/a")).text == "a"


async def test_patched_map_is_asked() -> None:
    app = make_app(Flask)
    app.add_url_rule("/b", "b", lambda: "b")
    assert (await get(app, "/b")).text == app.test_client().get("/b").text == "b"
    bind = app.url_map.bind_to_environ
    app.url_map.bind_to_environ = lambda environ, *args, **kwargs: bind({**environ, "PATH_INFO": "/a"}, *args, **kwargs)
    assert (await get(app, "/b")).text == app.test_client().get("/b").text == "a"


async def test_map_of_werkzeugs_own_class_is_asked() -> None:
    app = make_app(Flask)
    app.url_map = WerkzeugMap([Rule("/a", endpoint="a")])
    assert await status_on_both(app, "/a") == (200, 200)
    assert await status_on_both(app, "/b") == (404, 404)


async def test_host_matching_turned_on_at_run_time() -> None:
    app = make_app(Flask)
    assert await status_on_both(app, "/a") == (200, 200)
    app.url_map.host_matching = True
    app.url_map.add(Rule("/a", endpoint="b", host="other.org"))
    app.view_functions["b"] = lambda: "b"
    answer = await get(app, "/a", headers=[("Host", "other.org")])
    assert answer.text == "b"
