"""Blueprints: how they are registered, nested and named, and what they add to an application."""

from __future__ import annotations

import pytest
from faces import Web, as_flask, both_faces, fails, in_all_styles
from werkzeug.exceptions import NotFound

import asyncflask


def rules_of(app):
    return sorted(
        (r.rule, r.endpoint, r.subdomain, repr(r.defaults)) for r in app.url_map.iter_rules() if r.endpoint != "static"
    )


def describe(web: Web):
    r = web.api.request
    return {
        "endpoint": r.endpoint,
        "bp": r.blueprint,
        "bps": r.blueprints,
        "args": r.view_args,
        "url": web.api.url_for(".index"),
    }


def make(web: Web, name, **kwargs):
    bp = web.blueprint(name, **kwargs)
    bp.add_url_rule("/", "index", web.fn(lambda **values: describe(web)))
    bp.add_url_rule("/<x>/y", "y", web.fn(lambda **values: describe(web)))
    return bp


# Registration


@as_flask
def test_prefixes(web: Web):
    seen = []
    for own in (None, "/own", "/own/", "own", "/", ""):
        for given in (None, "/given", "/given/", "", "/"):
            app = web.app(static_folder=None)
            bp = web.blueprint("bp", url_prefix=own)
            for rule in ("/", "/x", "/x/", "y", ""):
                bp.add_url_rule(rule, f"e{len(bp.deferred_functions)}", lambda: "")
            try:
                app.register_blueprint(bp, **({} if given is None else {"url_prefix": given}))
            except Exception as error:
                seen.append((own, given, type(error).__name__))
            seen.append((own, given, rules_of(app)))
    return seen


@in_all_styles
def test_requests_to_blueprints(web: Web):
    app = web.app()
    parent, child = make(web, "parent", url_prefix="/parent"), make(web, "child", url_prefix="/<lang>/child")
    parent.register_blueprint(child)
    app.register_blueprint(parent)
    app.register_blueprint(parent, name="again", url_prefix="/again/<z>")
    app.register_blueprint(child, name="alone", url_prefix="/alone")
    client = web.client(app)
    paths = (
        "/parent/",
        "/parent/1/y",
        "/parent/de/child/",
        "/parent/de/child/2/y",
        "/again/z/",
        "/again/z/en/child/",
        "/alone/",
    )
    return rules_of(app), [client.get(path).text for path in paths]


@as_flask
def test_names(web: Web):
    app = web.app()
    one, other, same = web.blueprint("one"), web.blueprint("one"), web.blueprint("same")
    app.register_blueprint(one)
    nested, parent, parent2 = web.blueprint("nested"), web.blueprint("parent"), web.blueprint("parent2")
    parent.register_blueprint(nested)
    parent.register_blueprint(nested, name="twice")
    parent2.register_blueprint(nested)
    parent2.register_blueprint(nested)
    return [
        fails(app.register_blueprint, one),
        fails(app.register_blueprint, other),
        fails(app.register_blueprint, other, name="one"),
        fails(app.register_blueprint, other, name="two"),
        fails(app.register_blueprint, one, name="three"),
        fails(app.register_blueprint, one, name="three"),
        fails(app.register_blueprint, same, name="dotted.name"),
        fails(app.register_blueprint, parent),
        fails(app.register_blueprint, parent2),
        fails(parent.register_blueprint, parent),
        fails(web.blueprint, ""),
        fails(web.blueprint, "a.b"),
        fails(web.api.Blueprint, "x"),
        fails(web.api.Blueprint, None, "x"),
        sorted(app.blueprints),
        [bp.name for bp in app.iter_blueprints()],
        app.blueprints["three"] is one,
        repr(one),
    ]


@both_faces
def test_error_messages_name_the_blueprint(face):
    app = asyncflask.Flask("app")
    bp, other = asyncflask.Blueprint("pages", "pages_module"), asyncflask.Blueprint("pages", "pages_module")
    app.register_blueprint(bp)
    with pytest.raises(ValueError, match=r"'pages'.*'name='"):
        app.register_blueprint(other)
    with pytest.raises(ValueError, match=r"'pages' is already registered for this blueprint"):
        app.register_blueprint(bp)
    with pytest.raises(AssertionError, match=r"'route'.*'pages'.*registered"):
        bp.route("/late")
    with pytest.raises(ValueError, match="dot"):
        asyncflask.Blueprint("a.b", "x")
    with pytest.raises(ValueError, match="empty"):
        asyncflask.Blueprint("", "x")


@as_flask
def test_wrong_rules(web: Web):
    def dotted():
        return ""

    dotted.__name__ = "dotted.name"
    bp = web.blueprint("bp")
    return [
        fails(bp.route("/", endpoint="a.b"), lambda: ""),
        fails(bp.add_url_rule, "/", "a.b"),
        fails(bp.add_url_rule, "/", view_func=dotted),
        fails(bp.route("/", methods="GET"), lambda: ""),
        fails(bp.get, "/", methods=["GET"]),
        fails(bp.errorhandler(999), str),
    ]


SETUP_CALLS = {
    "route": lambda bp: bp.route("/late"),
    "get": lambda bp: bp.get("/late"),
    "add_url_rule": lambda bp: bp.add_url_rule("/late", "late", str),
    "endpoint": lambda bp: bp.endpoint("late"),
    "record": lambda bp: bp.record(str),
    "record_once": lambda bp: bp.record_once(str),
    "register_blueprint": lambda bp: bp.register_blueprint(bp),
    "before_request": lambda bp: bp.before_request(str),
    "after_request": lambda bp: bp.after_request(str),
    "teardown_request": lambda bp: bp.teardown_request(str),
    "context_processor": lambda bp: bp.context_processor(dict),
    "url_value_preprocessor": lambda bp: bp.url_value_preprocessor(str),
    "url_defaults": lambda bp: bp.url_defaults(str),
    "errorhandler": lambda bp: bp.errorhandler(404),
    "register_error_handler": lambda bp: bp.register_error_handler(404, str),
    "before_app_request": lambda bp: bp.before_app_request(str),
    "after_app_request": lambda bp: bp.after_app_request(str),
    "teardown_app_request": lambda bp: bp.teardown_app_request(str),
    "app_context_processor": lambda bp: bp.app_context_processor(dict),
    "app_url_value_preprocessor": lambda bp: bp.app_url_value_preprocessor(str),
    "app_url_defaults": lambda bp: bp.app_url_defaults(str),
    "app_errorhandler": lambda bp: bp.app_errorhandler(404),
    "app_template_filter": lambda bp: bp.app_template_filter("late"),
    "app_template_test": lambda bp: bp.app_template_test("late"),
    "app_template_global": lambda bp: bp.app_template_global("late"),
    "add_app_template_filter": lambda bp: bp.add_app_template_filter(str),
    "add_app_template_test": lambda bp: bp.add_app_template_test(str),
    "add_app_template_global": lambda bp: bp.add_app_template_global(str),
}


@as_flask
def test_setup_after_the_first_registration(web: Web):
    bp, app = web.blueprint("bp"), web.app()
    app.register_blueprint(bp)
    return [fails(call, bp) for call in SETUP_CALLS.values()], fails(bp.register, web.app(), {})


# Nesting


@as_flask
def test_nested_prefixes_subdomains_and_names(web: Web):
    seen = []
    for parent_kw, child_kw, nest_kw, register_kw in (
        ({}, {}, {}, {}),
        ({"url_prefix": "/p"}, {"url_prefix": "/c"}, {}, {}),
        ({"url_prefix": "/p"}, {"url_prefix": "/c"}, {"url_prefix": "/n"}, {"url_prefix": "/r"}),
        ({"url_prefix": "/p/"}, {"url_prefix": "c"}, {}, {}),
        ({}, {"url_prefix": "/c"}, {}, {}),
        ({"url_prefix": "/p"}, {}, {}, {}),
        ({"subdomain": "p"}, {"subdomain": "c"}, {}, {}),
        ({"subdomain": "p"}, {}, {}, {}),
        ({}, {"subdomain": "c"}, {}, {}),
        ({"subdomain": "p"}, {"subdomain": "c"}, {"subdomain": "n"}, {"subdomain": "r"}),
        ({}, {}, {"name": "renamed"}, {"name": "other"}),
        (
            {"url_defaults": {"a": 1}},
            {"url_defaults": {"b": 2}},
            {"url_defaults": {"c": 3}},
            {"url_defaults": {"a": 4}},
        ),
        ({"url_defaults": {"a": 1}}, {"url_defaults": {"a": 2}}, {}, {}),
    ):
        app = web.app(static_folder=None, subdomain_matching=True)
        app.config["SERVER_NAME"] = "example.com"
        parent, child, leaf = (
            make(web, "parent", **parent_kw),
            make(web, "child", **child_kw),
            make(web, "leaf", url_prefix="/leaf"),
        )
        leaf.add_url_rule("/own", "own", lambda **kw: "", defaults={"b": "rule's"})
        child.register_blueprint(leaf)
        parent.register_blueprint(child, **nest_kw)
        app.register_blueprint(parent, **register_kw)
        seen.append((rules_of(app), sorted(app.blueprints), sorted(app.view_functions)))
    return seen


@in_all_styles
def test_hooks_and_handlers_of_nested_blueprints(web: Web):
    app = web.app()
    log = []
    parent, child, grandchild = (make(web, name, url_prefix=f"/{name}") for name in ("parent", "child", "grandchild"))
    for name, bp in (("parent", parent), ("child", child), ("grandchild", grandchild)):
        bp.before_request(web.fn(lambda name=name: log.append(f"before {name}")))
        bp.after_request(web.fn(lambda response, name=name: log.append(f"after {name}") or response))
        bp.teardown_request(web.fn(lambda error, name=name: log.append(f"teardown {name}")))
        bp.url_value_preprocessor(lambda endpoint, values, name=name: log.append(f"value {name}"))
        bp.url_defaults(lambda endpoint, values, name=name: log.append(f"defaults {name} {endpoint}"))
        bp.add_url_rule("/abort/<int:code>", "abort", web.fn(lambda code: web.api.abort(code)))
    parent.register_error_handler(404, web.fn(lambda error: ("parent 404", 404)))
    child.register_error_handler(403, web.fn(lambda error: ("child 403", 403)))
    grandchild.register_error_handler(NotFound, web.fn(lambda error: ("grandchild NotFound", 404)))
    child.register_blueprint(grandchild)
    parent.register_blueprint(child)
    app.register_blueprint(parent)
    app.register_blueprint(parent, name="again", url_prefix="/again")
    client = web.client(app)
    for prefix in ("/parent", "/parent/child", "/parent/child/grandchild", "/again/child/grandchild"):
        for path in ("/", "/abort/404", "/abort/403"):
            log.append(f"{prefix}{path} {client.get(prefix + path).text}")  # noqa: PERF401  # hooks write there too
    return log


# url_defaults, preprocessors, subdomain


@in_all_styles
def test_url_defaults_of_the_registration(web: Web):
    app = web.app()
    bp = web.blueprint("bp", url_prefix="/<lang>", url_defaults={"lang": "own"})
    bp.add_url_rule("/", "index", web.fn(lambda lang, bar="none": f"{lang} {bar} {web.api.url_for('.index')}"))
    bp.add_url_rule("/d", "d", web.fn(lambda lang, bar: f"{lang} {bar}"), defaults={"bar": "rule"})
    app.register_blueprint(bp, url_defaults={"bar": "registered"})
    app.register_blueprint(bp, name="fixed", url_prefix="/fixed", url_defaults={"lang": "fixed", "bar": 2})
    client = web.client(app)
    return rules_of(app), [client.get(path) for path in ("/de/", "/own/", "/fixed/", "/fixed/d", "/de/d")]


@in_all_styles
def test_preprocessors_of_blueprints(web: Web):
    api = web.api
    app = web.app()
    bp, other = web.blueprint("bp", url_prefix="/<lang>"), web.blueprint("other", url_prefix="/other")

    @bp.url_defaults
    def add(endpoint, values):
        values.setdefault("lang", api.g.get("lang", "default"))

    @bp.url_value_preprocessor
    def take(endpoint, values):
        api.g.lang = values.pop("lang")

    @other.app_url_defaults
    def note(endpoint, values):
        api.g.noted = endpoint

    @other.app_url_value_preprocessor
    def note_too(endpoint, values):
        api.g.seen = (endpoint, dict(values or {}))

    def index():
        urls = f"{api.url_for('.index')} {api.url_for('.index', lang='x')}"
        return f"{api.g.lang} {urls} {api.g.noted} {api.g.seen}"

    bp.add_url_rule("/", "index", web.fn(index))
    other.add_url_rule("/", "index", web.fn(lambda: f"{api.url_for('bp.index')} {api.g.seen}"))
    app.register_blueprint(bp)
    app.register_blueprint(other)
    client = web.client(app)
    return client.get("/de/"), client.get("/other/"), client.get("/de/none")


@as_flask
def test_subdomains(web: Web):
    app = web.app(subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    bp = make(web, "bp", subdomain="api")
    wild = make(web, "wild", subdomain="<user>", url_prefix="/wild")
    app.register_blueprint(bp)
    app.register_blueprint(wild)
    app.register_blueprint(bp, name="moved", subdomain="moved")
    client = web.client(app)
    return [
        client.get(path, base_url=f"http://{host}example.com").text
        for path in ("/", "/1/y", "/wild/")
        for host in ("", "api.", "moved.", "bob.")
    ]


# Static files, templates, resources


@as_flask
def test_static_files_of_blueprints(web: Web):
    app = web.app()
    plain = web.blueprint("plain", static_folder="other", url_prefix="/plain")
    named = web.blueprint("named", static_folder="other", static_url_path="/named-files")
    bare = web.blueprint("bare", static_folder="static")
    none = web.blueprint("none", url_prefix="/none")

    class Timed(web.api.Blueprint):
        def get_send_file_max_age(self, filename):
            return 77

    timed = Timed("timed", "timed", static_folder="other", url_prefix="/timed", root_path=str(web.folder))
    nested = web.blueprint("nested", static_folder="other", url_prefix="/nested")
    plain.register_blueprint(nested)
    for bp in (plain, named, bare, none, timed):
        app.register_blueprint(bp)
    client = web.client(app)
    seen = []
    for path in ("/plain/other/hello.txt", "/named-files/hello.txt", "/static/hello.txt", "/none/static/hello.txt",
                 "/timed/other/hello.txt", "/plain/nested/other/hello.txt", "/plain/other/../secret.txt"):  # fmt: skip
        answer = client.get(path)
        seen.append((path, answer.status, answer.body if answer.status == 200 else b"", answer.header("Cache-Control")))
    with app.test_request_context():
        urls = [
            web.api.url_for(f"{name}.static", filename="x.css") for name in ("plain", "named", "bare", "plain.nested")
        ]
        errors = [fails(none.send_static_file, "x"), fails(web.api.url_for, "none.static", filename="x")]
    return (
        rules_of(app),
        seen,
        urls,
        errors,
        [(bp.static_folder, bp.static_url_path, bp.has_static_folder) for bp in (plain, named, none)],
    )


@in_all_styles
def test_templates_of_blueprints(web: Web):
    api = web.api
    app = web.app()
    bp = web.blueprint("bp", template_folder="bp_templates", url_prefix="/bp")
    bare = web.blueprint("bare", url_prefix="/bare")

    bp.context_processor(lambda: {"value": "from bp"})
    bp.app_context_processor(lambda: {"value": "for all", "g": {"value": "overridden"}})
    bp.app_template_filter()(lambda value: f"<{value}>")
    bp.app_template_filter("named")(lambda value: f"[{value}]")
    bp.add_app_template_filter(str.upper, "shout")
    bp.app_template_test("big")(lambda value: value > 5)
    bp.add_app_template_test(lambda value: value < 5, "small")
    bp.app_template_global()(double)
    bp.add_app_template_global(double, "twice")
    text = "{{ 'x'|named }} {{ 'x'|shout }} {{ 6 is big }} {{ 6 is small }} {{ double(2) }} {{ twice(3) }} {{ value }}"
    for scaffold in (bp, bare, app):
        scaffold.add_url_rule("/both", "both", web.fn(lambda: api.render_template("both.html")))
        scaffold.add_url_rule("/own", "own", web.fn(lambda: api.render_template("own.html")))
        scaffold.add_url_rule("/page", "page", web.fn(lambda: api.render_template("page.html", value="given")))
        scaffold.add_url_rule("/text", "text", web.fn(lambda: api.render_template_string(text)))
    app.register_blueprint(bp)
    app.register_blueprint(bare)
    client = web.client(app)
    seen = [
        client.get(f"{prefix}/{name}").text
        for prefix in ("/bp", "/bare", "")
        for name in ("both", "own", "page", "text")
    ]
    return seen, sorted(set(app.jinja_env.filters) & {"named", "shout", "<lambda>"}), bp.jinja_loader.list_templates()


@in_all_styles
def test_async_context_processors_in_sync_views(web: Web):
    app = web.app()
    bp = web.blueprint("bp", template_folder="bp_templates", url_prefix="/bp")
    bp.context_processor(web.fn(lambda: {"value": "from bp"}))
    bp.app_context_processor(web.fn(lambda: {"value": "for all"}))
    for scaffold in (bp, app):
        scaffold.add_url_rule("/own", "own", lambda: web.api.render_template("own.html"))
    app.register_blueprint(bp)
    client = web.client(app)
    return client.get("/own"), client.get("/bp/own")


def double(value):
    return value * 2


@as_flask
def test_resources_of_blueprints(web: Web):
    bp = web.blueprint("bp")
    with bp.open_resource("secret.txt") as file:
        seen = [file.read()]
    return [
        *seen,
        fails(bp.open_resource, "secret.txt", "w"),
        bp.root_path == str(web.folder),
        bp.import_name,
        bp.template_folder,
    ]


# Hooks and handlers for the whole application


@in_all_styles
def test_app_wide_forms(web: Web):
    app = web.app()
    log = []
    bp = make(web, "bp", url_prefix="/bp")
    bp.before_app_request(web.fn(lambda: log.append("before")))
    bp.after_app_request(web.fn(lambda response: log.append("after") or response))
    bp.teardown_app_request(web.fn(lambda error: log.append(f"teardown {error!r}")))
    bp.app_errorhandler(404)(web.fn(lambda error: ("bp for all", 404)))
    bp.app_errorhandler(ZeroDivisionError)(web.fn(lambda error: ("divided", 400)))
    app.add_url_rule("/", "index", web.fn(lambda: "index"))
    app.add_url_rule("/zero", "zero", web.fn(lambda: 1 / 0))
    app.register_blueprint(bp)
    app.register_blueprint(bp, name="again", url_prefix="/again")
    client = web.client(app)
    return [client.get(path) for path in ("/", "/zero", "/none", "/bp/", "/again/")], log


# record, make_setup_state


@as_flask
def test_record_and_record_once(web: Web):
    log = []
    bp, parent = web.blueprint("bp"), web.blueprint("parent", url_prefix="/parent")

    def note(kind):
        return lambda state: log.append(
            (kind, state.name, state.name_prefix, state.url_prefix, state.subdomain, state.first_registration,
             state.url_defaults, state.blueprint is bp, sorted(state.options))
        )  # fmt: skip

    bp.record(note("record"))
    bp.record_once(note("once"))
    parent.register_blueprint(bp, url_prefix="/nested")
    for app in (web.app("one"), web.app("two")):
        app.register_blueprint(bp)
        app.register_blueprint(bp, name="again", url_prefix="/again", url_defaults={"a": 1}, own_option=1)
        app.register_blueprint(parent)
    return log


@as_flask
def test_own_setup_state(web: Web):
    log = []

    class State(web.api.blueprints.BlueprintSetupState):
        def add_url_rule(self, rule, endpoint=None, view_func=None, **options):
            log.append((rule, endpoint, sorted(options)))
            super().add_url_rule(f"/added{rule}", endpoint, view_func, **options)

    class Own(web.api.Blueprint):
        def make_setup_state(self, app, options, first_registration=False):
            log.append((sorted(options), first_registration))
            return State(self, app, options, first_registration)

        def register(self, app, options):
            log.append("register")
            super().register(app, {**options, "url_prefix": "/forced"})

    bp = Own("own", "own", static_folder="static", root_path=str(web.folder))
    bp.add_url_rule("/x", "x", lambda: "x")
    bp.add_url_rule("/lambda", view_func=double)
    bp.add_url_rule("/none", "none")
    app = web.app()
    app.register_blueprint(bp, extra=1)
    patched = web.blueprint("patched")

    def patch(state):
        native = state.add_url_rule
        state.add_url_rule = lambda rule, *args, **kwargs: native(f"/patched{rule}", *args, **kwargs)

    patched.record(patch)
    patched.add_url_rule("/y", "y", lambda: "y")
    app.register_blueprint(patched)
    return rules_of(app), log, sorted(app.view_functions)


@as_flask
def test_endpoint_decorator_and_view_functions(web: Web):
    app = web.app()
    bp = web.blueprint("bp", url_prefix="/bp")
    bp.add_url_rule("/later", "later")
    bp.add_app_url = None
    bp.endpoint("bp.later")(lambda: "later")
    for name in ("get", "post", "put", "delete", "patch"):
        getattr(bp, name)(f"/{name}", endpoint=name)(lambda name=name: name)
    app.register_blueprint(bp)
    client = web.client(app)
    return client.get("/bp/later"), [
        client.open(f"/bp/{name}", method=name.upper()).text for name in ("get", "post", "put", "delete", "patch")
    ]


@as_flask
def test_cli_groups(web: Web):
    seen = []
    for own, given in ((..., ...), (None, ...), ("group", ...), (..., "given"), (..., None), ("group", "given")):
        bp = web.blueprint("bp", **({} if own is ... else {"cli_group": own}))
        bp.cli.command("work")(lambda: None)
        empty = web.blueprint("empty")
        app = web.app()
        app.register_blueprint(bp, **({} if given is ... else {"cli_group": given}))
        app.register_blueprint(empty)
        seen.append(
            (sorted(app.cli.commands), {n: sorted(getattr(c, "commands", ())) for n, c in app.cli.commands.items()})
        )
    return seen


@as_flask
def test_one_blueprint_on_many_applications(web: Web):
    bp = make(web, "bp", url_prefix="/bp")
    log = []
    bp.before_request(lambda: log.append(web.api.current_app.import_name))
    apps = [web.app("one"), web.app("two")]
    for app in apps:
        app.register_blueprint(bp)
    answers = [web.client(app).get("/bp/").text for app in apps]
    apps[0].before_request_funcs["bp"].clear()
    return answers + [web.client(app).get("/bp/").text for app in apps], log


@as_flask
def test_subclassed_blueprints_and_default_arguments(web: Web):
    bp = web.blueprint("bp", url_defaults={"a": 1}, cli_group="x", subdomain="s", url_prefix="/p")
    plain = web.blueprint("plain")
    names = ("name", "url_prefix", "subdomain", "url_values_defaults", "deferred_functions", "static_folder",
             "template_folder", "static_url_path", "has_static_folder", "view_functions",
             "before_request_funcs", "jinja_loader")  # fmt: skip
    return [[getattr(b, name) for name in names] for b in (bp, plain)], bp.cli_group
