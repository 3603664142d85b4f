"""Hooks: their order, and every way in which users change them before, between and during requests."""

from __future__ import annotations

from collections import defaultdict

import pytest
from faces import FACES, Web, as_flask, both_faces, fails, in_all_styles

import asyncflask

KINDS = ("before_request", "after_request", "teardown_request")


def add_recorders(web: Web, scaffold, name, log, app_wide=False, names=("1", "2")):
    """Two of each kind of hook, which log their name."""
    suffix = "app_" if app_wide else ""
    decorators = {
        "before": getattr(scaffold, f"before_{suffix}request"),
        "after": getattr(scaffold, f"after_{suffix}request"),
        "teardown": getattr(scaffold, f"teardown_{suffix}request"),
        "value": getattr(scaffold, f"{suffix}url_value_preprocessor"),
    }
    for kind, decorate in decorators.items():
        for number in names:

            def hook(*args, label=f"{kind} {name}{number}", kind=kind):
                log.append(label)
                return args[0] if kind == "after" else None

            decorate(web.fn(hook) if kind != "value" else hook)


def nested_app(web: Web, log):
    """App -> parent -> child, each with hooks, and a sibling with app-wide ones."""
    app = web.app(static_folder=None)
    parent, child, sibling = (web.blueprint(name, url_prefix=f"/{name}") for name in ("parent", "child", "sibling"))
    add_recorders(web, app, "app", log)
    add_recorders(web, parent, "parent", log)
    add_recorders(web, child, "child", log)
    add_recorders(web, sibling, "sibling", log)
    add_recorders(web, sibling, "wide", log, app_wide=True)

    def view():
        log.append("view")
        return "view"

    for scaffold in (app, parent, child, sibling):
        scaffold.add_url_rule("/view", "view", web.fn(view))
        scaffold.add_url_rule("/fail", "fail", web.fn(lambda: 1 / 0))
        scaffold.add_url_rule("/abort", "abort", web.fn(lambda: web.api.abort(404)))
        scaffold.add_url_rule("/post", "post", web.fn(view), methods=["POST"])
    parent.register_blueprint(child)
    app.register_blueprint(parent)
    app.register_blueprint(sibling)
    app.teardown_appcontext(web.fn(lambda error: log.append(f"context 1 {type(error).__name__}")))
    app.teardown_appcontext(web.fn(lambda error: log.append(f"context 2 {type(error).__name__}")))
    return app


@in_all_styles
def test_order_of_hooks(web: Web):
    log = []
    app = nested_app(web, log)
    app.logger.disabled = True
    client = web.client(app)
    for path in ("/view", "/parent/view", "/parent/child/view", "/sibling/view", "/parent/child/fail", "/sibling/abort",
                 "/none", "/parent/none", "/parent/child/post"):  # fmt: skip
        log.append(f"{path} {client.get(path).status}")  # noqa: PERF401  # hooks write there too
    log.append(client.open("/parent/child/view", method="OPTIONS").status)
    return log


@in_all_styles
def test_a_before_request_that_answers_skips_the_rest(web: Web):
    log = []
    app = nested_app(web, log)

    def answer():
        log.append("answer")
        return web.api.request.args.get("answer")

    app.before_request_funcs.setdefault("parent", []).insert(1, web.fn(answer))
    client = web.client(app)
    for path in (
        "/parent/child/view?answer=mine",
        "/parent/child/view",
        "/parent/view?answer=",
        "/parent/fail?answer=x",
    ):
        log.append(client.get(path).text)  # noqa: PERF401  # hooks write there too
    return log


@in_all_styles
def test_before_request_answers_of_every_type(web: Web):
    app = web.app()
    values = {
        "tuple": ("t", 201), "dict": {"a": 1}, "list": [1], "empty": "", "false": False, "zero": 0,
        "empty list": [], "response": web.api.Response("r", 202),
    }  # fmt: skip
    app.before_request(web.fn(lambda: values.get(web.api.request.args["value"])))
    app.route("/")(web.fn(lambda: "view"))
    app.errorhandler(TypeError)(web.fn(lambda error: ("wrong type", 500)))
    client = web.client(app)
    return [client.get(f"/?value={name}") for name in (*values, "none")]


@in_all_styles
def test_before_request_runs_where_routing_failed(web: Web):
    api = web.api
    app = web.app(static_folder=None)
    seen = []

    def before():
        r = api.request
        seen.append(
            (r.path, r.endpoint, r.url_rule is None, r.view_args, type(r.routing_exception).__name__, r.blueprints)
        )
        return r.args.get("rescue")

    app.before_request(web.fn(before))
    app.add_url_rule("/folder/", "folder", web.fn(lambda: "folder"))
    app.add_url_rule("/post", "post", web.fn(lambda: "post"), methods=["POST"])
    client = web.client(app)
    paths = ("/none", "/folder", "/post", "/none?rescue=1", "/folder?rescue=2", "/post?rescue=3", "/folder/")
    return [client.get(path) for path in paths], seen


@in_all_styles
def test_after_request_may_replace_the_response(web: Web):
    app = web.app()
    app.after_request(web.fn(lambda response: web.api.Response(b"outer " + response.get_data(), 203)))
    app.after_request(web.fn(lambda response: web.api.Response(b"inner " + response.get_data(), 202)))
    app.route("/")(web.fn(lambda: "view"))
    client = web.client(app)
    return client.get("/"), client.get("/none")


@as_flask
def test_after_request_may_return_a_plain_werkzeug_response(web: Web):
    from werkzeug.wrappers import Response

    app = web.app()
    app.after_request(lambda response: Response(b"plain " + response.get_data(), 201, {"X-A": "b"}))
    app.route("/")(lambda: "view")
    app.add_url_rule("/200", "ok", lambda: "view")
    app.after_request_funcs["none"] = []
    client = web.client(app)
    first = client.get("/")
    app.after_request_funcs[None][:] = [lambda response: Response("two hundred")]
    return first, client.get("/"), client.open("/", method="HEAD")


@in_all_styles
def test_an_after_request_that_returns_none(web: Web):
    app = web.app()
    app.testing = True
    app.after_request(web.fn(lambda response: None))
    app.route("/")(web.fn(lambda: "view"))
    return fails(web.client(app).get, "/") in ("TypeError", "AttributeError")


@in_all_styles
def test_teardown_gets_the_error_unless_it_was_handled(web: Web):
    app = web.app()
    app.logger.disabled = True
    seen = []
    app.teardown_request(web.fn(lambda error: seen.append(("request", repr(error)))))
    app.teardown_appcontext(web.fn(lambda error: seen.append(("context", repr(error)))))

    def fail(kind):
        raise {"value": ValueError, "key": KeyError}[kind](kind)

    app.add_url_rule("/<kind>", "fail", web.fn(fail))
    app.register_error_handler(KeyError, web.fn(lambda error: ("handled", 400)))
    client = web.client(app)
    return client.get("/value"), client.get("/key"), client.get("/a/b"), seen


# Changes between requests


def simple_app(web: Web, log):
    """An application that has already answered."""
    app = web.app(static_folder=None)

    def index():
        log.append("view")
        return "index"

    app.route("/")(web.fn(index))
    bp = web.blueprint("bp", url_prefix="/bp")
    bp.add_url_rule("/", "index", web.fn(index))
    app.register_blueprint(bp)
    client = web.client(app)
    log.append(client.get("/").text)
    return app, client


def recorder(web: Web, log, name, after=False):
    def hook(*args):
        log.append(name)
        return args[0] if after else None

    return web.fn(hook)


@in_all_styles
def test_public_lists_change_at_run_time(web: Web):
    log = []
    app, client = simple_app(web, log)
    dicts = {
        "before": app.before_request_funcs,
        "after": app.after_request_funcs,
        "teardown": app.teardown_request_funcs,
        "value": app.url_value_preprocessors,
    }

    def ask(what):
        log.append(f"-- {what}")
        client.get("/")
        client.get("/bp/")

    for kind, hooks in dicts.items():

        def hook(name, kind=kind):
            return recorder(web, log, f"{kind} {name}", kind == "after")

        one, two, three = hook("one"), hook("two"), hook("three")
        hooks.setdefault(None, []).append(one)
        ask("append")
        hooks[None].insert(0, two)
        ask("insert")
        hooks[None].extend([three])
        ask("extend")
        hooks[None].reverse()
        ask("reverse")
        hooks[None].remove(two)
        ask("remove")
        hooks[None].pop()
        ask("pop")
        hooks[None] += [two]
        ask("+=")
        hooks[None][:] = [one, two]
        ask("slice")
        del hooks[None][0]
        ask("del item")
        hooks[None] *= 2
        ask("*=")
        hooks[None].clear()
        ask("clear")
        hooks["bp"] = [one]
        ask("blueprint's list")
        hooks["bp"].append(two)
        ask("append to blueprint's list")
        hooks.pop("bp")
        ask("pop key")
        hooks.update({None: [three]})
        ask("update")
        hooks[None].append(one)
        ask("append after update")
        hooks |= {"bp": [one]}
        ask("|=")
        del hooks[None]
        ask("del key")
        hooks.clear()
        ask("clear all")
    return log


@in_all_styles
def test_teardown_appcontext_list_changes_at_run_time(web: Web):
    log = []
    app, client = simple_app(web, log)
    one, two = recorder(web, log, "one"), recorder(web, log, "two")
    for change in (
        lambda: app.teardown_appcontext_funcs.append(one),
        lambda: app.teardown_appcontext_funcs.insert(0, two),
        lambda: app.teardown_appcontext_funcs.remove(one),
        lambda: setattr(app, "teardown_appcontext_funcs", [one, two]),
        lambda: app.teardown_appcontext_funcs.reverse(),
        lambda: app.teardown_appcontext_funcs.clear(),
    ):
        change()
        client.get("/")
        with app.app_context():
            log.append("--")
    return log


@in_all_styles
def test_whole_dicts_are_replaced(web: Web):
    log = []
    app, client = simple_app(web, log)
    for attribute in (
        "before_request_funcs",
        "after_request_funcs",
        "teardown_request_funcs",
        "url_value_preprocessors",
    ):
        hook = recorder(web, log, attribute, attribute.startswith("after"))
        again = recorder(web, log, f"{attribute} again", attribute.startswith("after"))
        old = getattr(app, attribute)
        for new in ({None: [hook]}, {"bp": [hook]}, defaultdict(list, {None: [hook]}), {}):
            setattr(app, attribute, new)
            client.get("/bp/")
            getattr(app, attribute).setdefault(None, []).append(again)
            client.get("/bp/")
        setattr(app, attribute, old)
        client.get("/bp/")
    return log


@pytest.mark.xfail(strict=True, reason="docs/design.md: what is assigned is copied")
@as_flask
def test_a_users_own_list_and_dict_stay_connected(web: Web):
    """What a user assigned is the very object that counts, as in Flask."""
    log = []
    app, client = simple_app(web, log)
    mine = [recorder(web, log, "one")]
    app.before_request_funcs[None] = mine
    client.get("/")
    mine.append(recorder(web, log, "two"))
    client.get("/")
    own_dict = {None: [recorder(web, log, "three")]}
    app.before_request_funcs = own_dict
    client.get("/")
    own_dict[None].append(recorder(web, log, "four"))
    client.get("/")
    views = {"index": lambda: "mine"}
    app.view_functions = views
    log.append(client.get("/").text)
    views["index"] = lambda: "mine again"
    log.append(client.get("/").text)
    return log, app.before_request_funcs[None] is own_dict[None]


@as_flask
def test_a_list_of_another_owner(web: Web):
    log = []
    app, client = simple_app(web, log)
    other, _ = simple_app(web, log)
    other.before_request_funcs.setdefault(None, []).append(recorder(web, log, "other's"))
    app.before_request_funcs[None] = other.before_request_funcs[None]
    client.get("/")
    app.before_request_funcs[None].append(recorder(web, log, "added"))
    client.get("/")
    app.before_request_funcs = other.before_request_funcs
    client.get("/")
    app.before_request_funcs[None].append(recorder(web, log, "added once more"))
    client.get("/")
    return [entry for entry in log if entry != "added"], log.count("added") > 0


@in_all_styles
def test_view_functions_are_replaced(web: Web):
    app = web.app(static_folder=None)
    app.route("/")(web.fn(lambda: "one"))
    app.add_url_rule("/free", "free")
    client = web.client(app)
    seen = [client.get("/").text]
    app.view_functions["index" if "index" in app.view_functions else next(iter(app.view_functions))] = web.fn(
        lambda: "two"
    )
    name = next(iter(app.view_functions))
    seen.append(client.get("/").text)
    app.view_functions.update({name: web.fn(lambda: "three")})
    seen.append(client.get("/").text)
    old = app.view_functions[name]
    app.view_functions[name] = web.fn(lambda: f"wrapped {name == name}")
    seen.append(client.get("/").text)
    app.view_functions[name] = old
    seen.append(client.get("/").text)
    app.view_functions = {name: web.fn(lambda: "four"), "free": web.fn(lambda: "free")}
    seen += [client.get("/").text, client.get("/free").text]
    del app.view_functions["free"]
    app.testing = True
    seen.append(fails(client.get, "/free"))
    app.view_functions.setdefault("free", web.fn(lambda: "five"))
    seen.append(client.get("/free").text)
    app.view_functions |= {"free": web.fn(lambda: "six")}
    seen.append(client.get("/free").text)
    app.view_functions.pop("free")
    seen.append(fails(client.get, "/free"))
    return seen


def test_view_functions_lack_what_was_not_registered():
    app = asyncflask.Flask("app")
    with pytest.raises(KeyError):
        app.view_functions["nope"]
    assert app.view_functions.get("nope") is None and "nope" not in app.view_functions


@as_flask
def test_public_dicts_behave_as_dicts(web: Web):
    import copy

    app = web.app(static_folder=None)
    app.before_request(len)
    seen = []
    for name in ("before_request_funcs", "after_request_funcs", "view_functions", "url_default_functions",
                 "template_context_processors", "error_handler_spec"):  # fmt: skip
        value = getattr(app, name)
        seen.append(
            (isinstance(value, dict), sorted(map(str, value)), len(copy.copy(value)), copy.deepcopy(value) == value)
        )
        seen.append(fails(value.__getitem__, "absent"))
    return seen, app.before_request_funcs == {None: [len]}, isinstance(app.before_request_funcs[None], list)


# Changes during a request


@in_all_styles
def test_a_view_is_replaced_by_a_hook_of_the_same_request(web: Web):
    app = web.app(static_folder=None)
    app.add_url_rule("/", "index", web.fn(lambda: "old"))

    def swap():
        app.view_functions["index"] = web.fn(lambda: "new")

    app.before_request(web.fn(swap))
    client = web.client(app)
    return client.get("/").text, client.get("/").text


@in_all_styles
def test_hooks_added_while_a_request_runs_count_for_it(web: Web):
    log = []
    app = web.app(static_folder=None)

    def index():
        if "added" not in log:
            log.append("added")
            app.after_request_funcs.setdefault(None, []).append(recorder(web, log, "after", after=True))
            app.teardown_request_funcs.setdefault(None, []).append(recorder(web, log, "teardown"))
            app.teardown_appcontext_funcs.append(recorder(web, log, "context"))
        return "index"

    app.add_url_rule("/", "index", web.fn(index))
    client = web.client(app)
    client.get("/")
    log.append("--")
    client.get("/")
    return log


@in_all_styles
def test_a_before_hook_that_adds_and_removes_hooks(web: Web):
    log = []
    app = web.app(static_folder=None)
    later = recorder(web, log, "later")

    def once():
        log.append("once")
        app.before_request_funcs[None].append(later)
        app.before_request_funcs[None].remove(first)

    first = web.fn(once)
    app.before_request(first)
    app.add_url_rule("/", "index", web.fn(lambda: "index"))
    client = web.client(app)
    client.get("/")
    log.append("--")
    client.get("/")
    return [entry for entry in log if entry != "later"], log.count("later") > 0


@in_all_styles
def test_a_hook_changes_the_rule_and_the_arguments(web: Web):
    api = web.api
    app = web.app(static_folder=None)
    app.add_url_rule("/a/<x>", "a", web.fn(lambda x: f"a {x}"))
    app.add_url_rule("/b/<x>", "b", web.fn(lambda x: f"b {x}"))

    def reroute():
        request = api.request
        if request.args.get("to"):
            request.url_rule = next(app.url_map.iter_rules(request.args["to"]))
            request.view_args = {"x": "rerouted"}
            request.routing_exception = None
        elif "args" in request.args:
            request.view_args["x"] = "changed"

    app.before_request(web.fn(reroute))
    client = web.client(app)
    return [client.get(path).text for path in ("/a/1", "/a/1?args", "/a/1?to=b", "/none?to=a", "/b/2")]


@in_all_styles
def test_signals_and_hooks_in_order(web: Web):
    api = web.api
    log = []
    app = web.app(static_folder=None)
    app.logger.disabled = True
    app.before_request(recorder(web, log, "before"))
    app.after_request(recorder(web, log, "after", after=True))
    app.teardown_request(recorder(web, log, "teardown"))
    app.teardown_appcontext(recorder(web, log, "context"))
    app.add_url_rule("/", "index", web.fn(lambda: log.append("view") or "index"))
    app.add_url_rule("/fail", "fail", web.fn(lambda: 1 / 0))
    names = ("request_started", "request_finished", "request_tearing_down", "got_request_exception",
             "appcontext_pushed", "appcontext_popped", "appcontext_tearing_down")  # fmt: skip
    receivers = []
    for name in names:

        def receive(sender, name=name, **values):
            log.append((name, sender is app, sorted(key for key in values if not key.startswith("_"))))

        receivers.append(receive)
        getattr(api, name).connect(receive, app)
    client = web.client(app)
    for path in ("/", "/fail", "/none"):
        log.append(client.get(path).status)  # noqa: PERF401  # hooks write there too
    return log


@both_faces
def test_sync_and_async_hooks_see_one_context(face):
    """A context variable, g and the session flow through sync and async steps in any order."""
    from contextvars import ContextVar

    var = ContextVar("var", default="")
    app = asyncflask.Flask("app")
    app.secret_key = "key"

    def extend(name):
        var.set(var.get() + name)
        asyncflask.g.order = asyncflask.g.get("order", "") + name
        asyncflask.session["order"] = asyncflask.g.order

    @app.before_request
    def a():
        var.set("")  # over WSGI a thread's requests share its context, as with Flask
        extend("a")

    @app.before_request
    async def b():
        extend("b")

    @app.before_request
    def c():
        extend("c")

    @app.route("/")
    async def view():
        extend("v")
        return "view"

    @app.after_request
    def d(response):
        extend("d")
        response.headers["X-Order"] = f"{var.get()} {asyncflask.g.order} {asyncflask.session['order']}"
        return response

    client = FACES[face](app)
    assert client.get("/").header("X-Order") == "abcvd abcvd abcvd"
    assert client.get("/none").header("X-Order") == "abcd abcd abcd"
