"""The class Flask: construction, routing, URLs, responses, set-up checks. Flask itself is the judge."""

from __future__ import annotations

import io
import itertools
import warnings
from datetime import timedelta

import flask
import pytest
import werkzeug.wrappers
from faces import FACES, Web, as_flask, both_faces, fails, in_all_styles
from werkzeug.exceptions import Conflict, HTTPException, NotFound
from werkzeug.routing import BaseConverter, BuildError, Rule

import asyncflask

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def rules_of(app):
    return sorted(
        (rule.rule, rule.endpoint, sorted(rule.methods or ()), rule.subdomain) for rule in app.url_map.iter_rules()
    )


def allowed(answer):
    return answer.status, sorted(filter(None, (answer.header("Allow") or "").split(", ")))


# Construction


@as_flask
def test_constructor_arguments(web: Web):
    cases = (
        {},
        {"static_folder": None},
        {"static_folder": "other"},
        {"static_folder": "other/"},
        {"static_folder": web.folder / "static"},
        {"static_url_path": "/files"},
        {"static_url_path": "/files/"},
        {"static_url_path": ""},
        {"static_folder": "static/sub", "static_url_path": None},
        {"template_folder": None},
        {"template_folder": "bp_templates"},
        {"instance_path": "/srv/instance"},
        {"instance_path": "/srv/instance", "instance_relative_config": True},
        {"host_matching": True, "static_host": "files.example"},
        {"subdomain_matching": True},
    )
    seen = []
    for case in cases:
        app = web.app(**case)
        seen.append(
            (
                app.name, app.import_name, app.root_path, app.static_folder, app.static_url_path, app.has_static_folder,
                app.template_folder, app.instance_path, app.config.root_path, app.subdomain_matching,
                app.url_map.host_matching, rules_of(app), app.jinja_loader is None, app.extensions, app.testing,
            )
        )  # fmt: skip
    return seen


@as_flask
def test_constructor_errors(web: Web):
    return [
        fails(web.app, instance_path="relative"),
        fails(web.app, host_matching=True),
        fails(web.app, static_host="files.example"),
        fails(web.api.Flask),
        fails(web.api.Flask, "no.such.module.at.all"),
        fails(web.app, static_host="files.example", host_matching=True, static_folder=None),
    ]


@as_flask
def test_defaults_and_config_backed_attributes(web: Web):
    app = web.app()
    app.secret_key = "key"
    app.testing = True
    app.permanent_session_lifetime = 60
    seen = [app.config["SECRET_KEY"], app.config["TESTING"], app.permanent_session_lifetime]
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(days=1)
    seen += [app.permanent_session_lifetime, app.debug, app.config["DEBUG"]]
    app.debug = True
    flasks = {key: app.default_config[key] for key in flask.Flask.default_config}  # ours: see test_public_api.py
    return [*seen, app.jinja_env.auto_reload, flasks]


@as_flask
def test_attributes_may_be_set_before_the_initialiser(web: Web):
    class App(web.api.Flask):
        def __init__(self):
            self.wanted = "index"
            self.session_cookies = []
            super().__init__("early", root_path=str(web.folder))
            self.add_url_rule("/", self.wanted, self.index)

        def index(self):
            return self.wanted

    return web.client(App()).get("/")


# Routes and methods


@as_flask
def test_methods_of_each_way_to_register(web: Web):
    app = web.app(static_folder=None)
    for name in ("get", "post", "put", "patch", "delete"):
        getattr(app, name)(f"/{name}")(lambda name=name: name) if name == "get" else getattr(app, name)(
            f"/{name}", endpoint=name
        )(lambda name=name: name)
    app.route("/route", endpoint="route")(lambda: "route")
    app.route("/two", methods=["get", "Post"], endpoint="two")(lambda: "two")
    app.route("/set", methods={"PUT"}, endpoint="set")(lambda: "set")
    app.route("/none", methods=[], endpoint="none")(lambda: "none")
    app.route("/head", methods=["HEAD"], endpoint="head")(lambda: "head")
    app.route("/opt", methods=["OPTIONS", "GET"], endpoint="opt")(lambda: "mine")
    app.add_url_rule("/added", "added", lambda: "added")
    app.add_url_rule("/later", "later")
    app.endpoint("later")(lambda: "later")
    app.add_url_rule("/never", "never")
    client = web.client(app)
    seen = [
        (path, method, answer.status, answer.body, allowed(answer))
        for path, method in itertools.product(
            ("/get", "/post", "/route", "/two", "/set", "/none", "/head", "/opt", "/added", "/later"), METHODS
        )
        for answer in [client.open(path, method=method)]
    ]
    return rules_of(app), seen, client.get("/never").status


@as_flask
def test_wrong_registrations(web: Web):
    app = web.app()
    app.add_url_rule("/", "index", lambda: "")
    same = app.view_functions["index"]
    app.add_url_rule("/again", "index", same)
    return [
        fails(app.route("/x", methods="POST"), lambda: ""),
        fails(app.get, "/x", methods=["POST"]),
        fails(app.post, "/x", methods=["POST"]),
        fails(app.add_url_rule, "/x"),
        fails(app.add_url_rule, "/x", "index", lambda: "other"),
        fails(app.add_url_rule, "no-slash", "noslash", lambda: ""),
        fails(app.route("/x", unknown=1), lambda: ""),
        fails(app.add_url_rule, "/<nope:x>", "nope", lambda x: x),
        fails(app.add_url_rule, "/<x>/<x>", "twice", lambda x: x),
        sorted(app.view_functions),
    ]


@as_flask
def test_provide_automatic_options(web: Web):
    app = web.app(static_folder=None)

    def own():
        return "own"

    own.provide_automatic_options = False
    own.methods = ["GET", "OPTIONS"]

    def required():
        return web.api.request.method

    required.required_methods = ["PATCH", "DELETE"]

    def wants():
        return "wants"

    wants.provide_automatic_options = True
    app.add_url_rule("/own", view_func=own)
    app.add_url_rule("/required", view_func=required)
    app.add_url_rule("/wants", view_func=wants, methods=["GET", "OPTIONS"])
    app.add_url_rule("/off", "off", lambda: "off", provide_automatic_options=False)
    app.add_url_rule("/on", "on", lambda: "on", provide_automatic_options=True)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.add_url_rule("/config", "config", lambda: "config")
    client = web.client(app)
    return rules_of(app), [
        (path, method, allowed(client.open(path, method=method)), client.open(path, method=method).body)
        for path in ("/own", "/required", "/wants", "/off", "/on", "/config")
        for method in METHODS
    ]


@as_flask
def test_allow_merges_rules_and_unknown_methods(web: Web):
    app = web.app()
    app.add_url_rule("/", "a", lambda: "a", methods=["GET"])
    app.add_url_rule("/", "b", lambda: "b", methods=["PUT", "POST"])
    app.add_url_rule("/<x>", "c", lambda x: x, methods=["DELETE"])
    client = web.client(app)
    return [
        (path, method, allowed(client.open(path, method=method)))
        for path in ("/", "/x", "/no/such")
        for method in (*METHODS, "TRACE", "PROPFIND", "_HELPER")
    ]


@as_flask
def test_head_has_the_headers_of_get_and_no_body(web: Web):
    app = web.app()
    app.route("/text")(lambda: "twelve bytes")
    app.route("/json", endpoint="json")(lambda: {"a": 1})
    app.route("/stream", endpoint="stream")(lambda: iter(["a", "b"]))
    app.route("/empty", endpoint="empty")(lambda: ("", 204))
    app.route("/cached", endpoint="cached")(lambda: ("", 304, {"ETag": '"x"'}))
    client = web.client(app)
    return [
        client.open(path, method=method)
        for path in ("/text", "/json", "/stream", "/empty", "/cached")
        for method in ("GET", "HEAD")
    ]


# Matching


def matching_app(web: Web, **kwargs):
    app = web.app(**kwargs)
    names = itertools.count()

    def add(rule, **options):
        def view(**values):
            return {"rule": rule, "values": repr(sorted(values.items())), "args": web.api.request.args}

        app.add_url_rule(rule, f"e{next(names)}", view, **options)

    return app, add


@as_flask
def test_slashes_and_redirects(web: Web):
    app, add = matching_app(web)
    add("/folder/")
    add("/file")
    add("/loose", strict_slashes=False)
    add("/loose-folder/", strict_slashes=False)
    add("/merged/<path:p>", merge_slashes=False)
    add("/post/", methods=["GET", "POST"])
    add("/defaults/", defaults={"page": 1})
    add("/defaults/<int:page>")
    add("/old", redirect_to="/file")
    add("/old/<x>", redirect_to="new/<x>")
    add("/alias", alias=True)
    client = web.client(app)
    paths = (
        "/folder", "/folder/", "/folder?x=1&y=ü", "/file", "/file/", "/loose", "/loose/", "/loose-folder",
        "/loose-folder/", "//file", "/folder//", "///folder", "/merged/a//b", "/post", "/defaults/", "/defaults",
        "/defaults/1", "/defaults/2", "/old", "/old/3", "/alias", "/..", "/%2e%2e/file", "/file%00", "/%2Ffile",
    )  # fmt: skip
    seen = [client.open(path, method=method) for path in paths for method in ("GET", "POST", "HEAD")]
    app.url_map.strict_slashes = False
    return seen + [client.get(path) for path in paths]


@as_flask
def test_converters_and_weights(web: Web):
    class Listed(BaseConverter):
        regex = r"[^/]+"

        def to_python(self, value):
            if value == "refused":
                raise NotFound
            return value.split("+")

        def to_url(self, values):
            return "+".join(BaseConverter.to_url(self, v) for v in values)

    app, add = matching_app(web)
    app.url_map.converters["list"] = Listed
    for rule in (
        "/<x>", "/i/<int:x>", "/i/<int(min=5, max=9):x>/r", "/i/<x>", "/f/<float:x>", "/f/<float(signed=True):x>/s",
        "/u/<uuid:x>", "/a/<any(one, two):x>", "/p/<path:x>", "/p/<path:x>/end", "/p/fixed", "/s/<string(length=2):x>",
        "/l/<list:x>", "/v/<x>.<y>", "/v/<x>-<int:y>", "/ü/<x>", "/d/<x>/<y>", "/d/<x>/two", "/d/one/<y>",
    ):  # fmt: skip
        add(rule)
    client = web.client(app)
    paths = (
        "/a b", "/i/007", "/i/-1", "/i/x", "/i/4/r", "/i/5/r", "/f/1.5", "/f/1", "/f/-1.5/s", "/a/one", "/a/three",
        "/u/12345678-1234-1234-1234-123456789abc", "/u/x", "/p/a/b/c", "/p/a/b/end", "/p/fixed", "/p/",
        "/s/ab", "/s/abc",
        "/l/a+b", "/l/refused", "/v/a.b", "/v/a-1", "/v/a.b-1", "/ü/ä", "/%C3%BC/%C3%A4", "/d/one/two", "/d/x/two",
        "/d/one/y", "/d/x/y", "/%FF", "/", "/i/" + "9" * 30,
    )  # fmt: skip
    return [client.get(path) for path in paths]


@as_flask
def test_host_matching(web: Web):
    app, add = matching_app(web, host_matching=True, static_host="files.example")
    add("/", host="a.example")
    add("/", host="b.example:8080")
    add("/", host="<name>.users.example")
    client = web.client(app)
    bases = (
        "http://a.example",
        "http://b.example",
        "http://b.example:8080",
        "https://x.users.example",
        "http://c.example",
    )
    return [client.get("/", base_url=base) for base in bases] + [
        client.get("/static/hello.txt", base_url=base).status for base in ("http://files.example", "http://a.example")
    ]


@as_flask
def test_subdomain_matching(web: Web):
    seen = []
    for matching, server_name in itertools.product((True, False), ("example.com:80", "example.com", None)):
        app, add = matching_app(web, subdomain_matching=matching)
        app.config["SERVER_NAME"] = server_name
        add("/")
        add("/", subdomain="api")
        add("/who", subdomain="<user>")
        client = web.client(app)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Werkzeug's, of a server name that differs
            seen += [
                client.get(path, base_url=f"http://{host}")
                for path in ("/", "/who")
                for host in ("example.com", "api.example.com", "bob.example.com", "elsewhere.org", "127.0.0.1:5000")
            ]
    return seen


@as_flask
def test_default_subdomain_and_trusted_hosts(web: Web):
    app, add = matching_app(web)
    app.config["TRUSTED_HOSTS"] = ["ok.example", ".sub.example"]
    add("/")
    client = web.client(app)
    seen = [
        client.get("/", base_url=f"http://{host}")
        for host in ("ok.example", "ok.example:8080", "a.sub.example", "sub.example", "evil.example", "localhost")
    ]
    app.config["TRUSTED_HOSTS"] = None
    return [*seen, client.get("/", base_url="http://evil.example")]


@pytest.mark.parametrize(
    "host", ["a/?x=", "a@b", "a b", "exa mple.com", "a:99999", "a:b", "ü", "[::1]:80", "a,b", "", ".", "a..b", "x" * 64]
)
@both_faces
def test_strange_hosts_get_flasks_answer(host, face, tmp_path):
    import flask

    answers = []
    for api, client in ((flask, FACES["wsgi"]), (asyncflask, FACES[face])):
        app = Web(api, client, "sync", tmp_path).app()
        app.route("/")(lambda: "answered")
        answers.append(client(app).get("/", headers={"Host": host.encode().decode("latin-1")}))
    assert answers[0] == answers[1]


@as_flask
def test_application_root_and_script_name(web: Web):
    app, add = matching_app(web)
    add("/x/")
    app.route("/url")(lambda: f"{web.api.url_for('e0')} {web.api.url_for('e0', _external=True)} {web.api.request.url}")
    seen = [web.client(app).get(path, base_url="http://h/mounted") for path in ("/x/", "/x", "/url", "/mounted/x/")]
    app.config["APPLICATION_ROOT"] = "/root"
    with app.test_request_context("/url"):
        seen.append(web.api.url_for("e0"))
    app.config["SERVER_NAME"] = "host"
    app.config["PREFERRED_URL_SCHEME"] = "https"
    with app.app_context():
        seen.append(web.api.url_for("e0"))
    return seen


# Static files


@as_flask
def test_static_files(web: Web):
    seen = []
    for kwargs in (
        {},
        {"static_folder": "other"},
        {"static_folder": "other", "static_url_path": "/files"},
        {"static_url_path": ""},
        {"static_folder": web.folder / "static"},
        {"static_folder": None},
    ):
        client = web.client(web.app(**kwargs))
        for path in (
            "/static/hello.txt", "/other/hello.txt", "/files/hello.txt", "/hello.txt", "/static/sub/deep.css",
            "/static/none", "/static/", "/static/sub", "/static/../secret.txt", "/static/%2e%2e/secret.txt",
            "/static/..%2fsecret.txt", "/static/sub/../hello.txt", "/static/hello.txt%00", "/static//hello.txt",
        ):  # fmt: skip
            answer = client.get(path)
            seen.append((kwargs, path, answer.status, answer.body, answer.header("Content-Type")))
    return seen


@as_flask
def test_static_max_age_conditions_and_ranges(web: Web):
    app = web.app()
    client = web.client(app)
    seen = [client.get("/static/hello.txt").header("Cache-Control")]
    for value in (3600, timedelta(days=1), 0, None):
        app.config["SEND_FILE_MAX_AGE_DEFAULT"] = value
        seen.append(client.get("/static/hello.txt").header("Cache-Control"))
    etag = client.get("/static/hello.txt").header("ETag")
    requests = ({"If-None-Match": etag}, {"Range": "bytes=1-2"}, {"Range": "bytes=90-"}, {"Range": "bytes=-2"})
    answers = [client.get("/static/hello.txt", headers=headers) for headers in requests]
    head = client.open("/static/hello.txt", method="HEAD")
    return seen, [(a.status, a.body, a.header("Content-Range"), a.header("Content-Length")) for a in (*answers, head)]


@as_flask
def test_static_overrides(web: Web):
    class App(web.api.Flask):
        def get_send_file_max_age(self, name):
            return 42 if name.endswith(".txt") else super().get_send_file_max_age(name)

        def send_static_file(self, filename):
            response = super().send_static_file(filename)
            response.headers["X-File"] = filename
            return response

    app = App("app", root_path=str(web.folder))
    client = web.client(app)
    answers = [client.get("/static/hello.txt"), client.get("/static/sub/deep.css")]
    app.static_folder = None
    with app.test_request_context():
        error = fails(app.send_static_file, "x")
    return [(a.header("Cache-Control"), a.header("X-File")) for a in answers], error


@as_flask
def test_resources(web: Web):
    app = web.app(instance_path=str(web.folder / "other"))

    def read(*args, opener=app.open_resource, **kwargs):
        with opener(*args, **kwargs) as file:
            return file.read()

    def write():
        with app.open_instance_resource("new.txt", "w") as file:
            return file.write("ü")

    return [
        read("static/hello.txt"),
        read("static/hello.txt", "r"),
        read("static/hello.txt", "rt", encoding="utf-8"),
        fails(app.open_resource, "static/hello.txt", "w"),
        fails(app.open_resource, "static/hello.txt", "rw"),
        read("hello.txt", opener=app.open_instance_resource),
        write(),
        read("new.txt", "r", opener=app.open_instance_resource),
    ]


# Set-up checks

SETUP_CALLS = {
    "route": lambda app: app.route("/late"),
    "add_url_rule": lambda app: app.add_url_rule("/late", "late", str),
    "get": lambda app: app.get("/late"),
    "post": lambda app: app.post("/late"),
    "put": lambda app: app.put("/late"),
    "patch": lambda app: app.patch("/late"),
    "delete": lambda app: app.delete("/late"),
    "endpoint": lambda app: app.endpoint("late"),
    "before_request": lambda app: app.before_request(str),
    "after_request": lambda app: app.after_request(str),
    "teardown_request": lambda app: app.teardown_request(str),
    "teardown_appcontext": lambda app: app.teardown_appcontext(str),
    "context_processor": lambda app: app.context_processor(dict),
    "url_value_preprocessor": lambda app: app.url_value_preprocessor(str),
    "url_defaults": lambda app: app.url_defaults(str),
    "errorhandler": lambda app: app.errorhandler(404),
    "register_error_handler": lambda app: app.register_error_handler(404, str),
    "template_filter": lambda app: app.template_filter("late"),
    "template_test": lambda app: app.template_test("late"),
    "template_global": lambda app: app.template_global("late"),
    "add_template_filter": lambda app: app.add_template_filter(str),
    "add_template_test": lambda app: app.add_template_test(str),
    "add_template_global": lambda app: app.add_template_global(str),
    "shell_context_processor": lambda app: app.shell_context_processor(dict),
}


@as_flask
def test_setup_after_the_first_request(web: Web):
    app = web.app()
    app.route("/")(lambda: "")
    before = [fails(app._check_setup_finished, name) for name in SETUP_CALLS]
    web.client(app).get("/no/such")
    late = web.blueprint("late")
    return before, [fails(call, app) for call in SETUP_CALLS.values()], fails(app.register_blueprint, late)


@both_faces
@pytest.mark.parametrize("name", SETUP_CALLS)
def test_a_late_setup_call_is_named_in_the_error(face, name):
    app = asyncflask.Flask("late")
    FACES[face](app).get("/")
    with pytest.raises(AssertionError, match=f"'{name}'"):
        SETUP_CALLS[name](app)


@as_flask
def test_setup_is_still_open_while_only_contexts_were_used(web: Web):
    app = web.app()
    with app.app_context(), app.test_request_context("/"):
        app.route("/")(lambda: "added later")
    return web.client(app).get("/")


# url_for


def url_app(web: Web):
    app = web.app()
    app.add_url_rule("/", "index", lambda: "")
    app.add_url_rule("/<int:number>/<path:rest>", "two", lambda number, rest: "")
    app.add_url_rule("/m", "methods", lambda: "", methods=["GET"])
    app.add_url_rule("/m/post", "methods", methods=["POST"])
    app.add_url_rule("/lists", "lists", lambda: "")
    bp = web.blueprint("bp", url_prefix="/bp")
    bp.add_url_rule("/", "index", lambda: "")
    app.register_blueprint(bp)
    return app


URL_CASES = (
    (("index",), {}),
    (("index",), {"x": 1, "y": "ü &=?/", "z": None}),
    (("lists",), {"x": [1, 2], "y": (3,), "empty": []}),
    (("two",), {"number": 1, "rest": "a/b c"}),
    (("two",), {"number": "x", "rest": "a"}),
    (("two",), {"number": 1}),
    (("two",), {"number": -1, "rest": ""}),
    (("methods",), {"_method": "POST"}),
    (("methods",), {"_method": "GET"}),
    (("methods",), {"_method": "DELETE"}),
    (("index",), {"_anchor": "x y/ü?#%"}),
    (("index",), {"_anchor": ""}),
    (("index",), {"_external": True}),
    (("index",), {"_external": False}),
    (("index",), {"_scheme": "https"}),
    (("index",), {"_scheme": "https", "_external": True}),
    (("index",), {"_scheme": "https", "_external": False}),
    (("index",), {"_scheme": "", "_external": True}),
    (("index",), {"_scheme": "ftp", "_external": True, "_anchor": "a", "x": 2}),
    (("bp.index",), {}),
    ((".index",), {}),
    (("nope",), {}),
    (("bp.nope",), {}),
    (("static",), {"filename": "a/b.css"}),
    (("static",), {}),
    (("index",), {"self": 1, "endpoints": 2}),
    (("index",), {"_unknown": 1}),
)


def build_all(web: Web, app, source):
    def build(args, kwargs):
        try:
            return source(*args, **kwargs)
        except Exception as error:
            return type(error).__name__

    return [build(args, kwargs) for args, kwargs in URL_CASES]


@as_flask
def test_url_for_in_and_out_of_requests(web: Web):
    app = url_app(web)
    seen = []
    for path in ("/", "/bp/", "/no/such"):
        with app.test_request_context(path):
            seen += [build_all(web, app, web.api.url_for), build_all(web, app, app.url_for)]
    with app.app_context():
        seen.append(build_all(web, app, web.api.url_for))
    app.config.update(SERVER_NAME="example.com:81", APPLICATION_ROOT="/app", PREFERRED_URL_SCHEME="https")
    with app.app_context():
        seen += [build_all(web, app, web.api.url_for), build_all(web, app, app.url_for)]
    seen.append(fails(web.api.url_for, "index"))
    return seen, build_all(web, app, app.url_for)


@in_all_styles
def test_url_for_in_views(web: Web):
    app = url_app(web)
    app.route("/urls")(web.fn(lambda: build_all(web, app, web.api.url_for)))
    return web.client(app).get("/urls").json


@both_faces
def test_url_for_without_server_name_says_what_to_configure(face):
    app = asyncflask.Flask("app")
    with app.app_context(), pytest.raises(RuntimeError, match="SERVER_NAME"):
        asyncflask.url_for("static", filename="x")


@as_flask
def test_url_build_error_handlers(web: Web):
    app = url_app(web)
    calls = []

    def gives_up(error, endpoint, values):
        calls.append(("gives up", type(error).__name__, endpoint, sorted(values)))

    def raises_another(error, endpoint, values):
        calls.append(("raises", endpoint))
        raise BuildError("another", {}, None)

    def answers(error, endpoint, values):
        calls.append(("answers", error.endpoint, values.get("x"), values["_external"]))
        return f"/external/{endpoint}"

    with app.test_request_context():
        app.url_build_error_handlers.append(gives_up)
        seen = [fails(app.url_for, "nope", x=1)]
        app.url_build_error_handlers.append(raises_another)
        try:
            app.url_for("nope")
        except BuildError as error:
            seen.append(error.endpoint)
        app.url_build_error_handlers.append(answers)
        seen.append(app.url_for("nope", x=1))
    return seen, calls


@as_flask
def test_url_defaults_and_preprocessors(web: Web):
    api = web.api
    app = web.app()
    order = []

    @app.url_defaults
    def add_language(endpoint, values):
        order.append(("defaults", endpoint))
        if "lang" not in values and app.url_map.is_endpoint_expecting(endpoint, "lang"):
            values["lang"] = api.g.get("lang", "none")

    @app.url_value_preprocessor
    def take_language(endpoint, values):
        order.append(("preprocess", endpoint, None if values is None else sorted(values)))
        api.g.lang = (values or {}).pop("lang", "default")

    app.before_request(lambda: order.append("before"))

    def urls():
        return f"{api.g.lang} {api.url_for('page')} {api.url_for('page', lang='x')} {api.url_for('plain')}"

    app.add_url_rule("/<lang>/page", "page", urls)
    app.add_url_rule("/plain", "plain", urls)
    client = web.client(app)
    return client.get("/de/page"), client.get("/plain"), client.get("/none/such"), order


# redirect, abort


@as_flask
def test_redirect(web: Web):
    class App(web.api.Flask):
        def redirect(self, location, code=302):
            response = super().redirect(location, code)
            response.headers["X-By"] = "app"
            return response

    seen = [web.api.redirect("/x"), web.api.redirect("/x", 301)]
    seen = [(r.status_code, r.location) for r in seen]
    for cls in (web.api.Flask, App):
        app = cls("app", root_path=str(web.folder))
        app.add_url_rule("/r/<int:code>", "r", lambda code: web.api.redirect("/ziel?a=ü&b= ", code))
        app.add_url_rule(
            "/full", "full", lambda: web.api.redirect("http://other/<x>", Response=werkzeug.wrappers.Response)
        )
        client = web.client(app)
        seen += [client.get(f"/r/{code}") for code in (301, 302, 303, 305, 307, 308)]
        seen.append(client.get("/full"))
    return seen, fails(web.api.redirect, "/x", 200)


@as_flask
def test_abort(web: Web):
    class Teapot(HTTPException):
        code = 418
        description = "short and stout"

    class App(web.api.Flask):
        class aborter_class(web.api.Flask.aborter_class):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.mapping[999] = Teapot

    app = App("app", root_path=str(web.folder))
    api = web.api
    app.add_url_rule("/<int:code>", "code", lambda code: api.abort(code))
    app.add_url_rule("/text/<int:code>", "text", lambda code: api.abort(code, "<b>described</b>"))
    app.add_url_rule("/response", "response", lambda: api.abort(api.Response("given", 409, {"X-A": "b"})))
    app.add_url_rule("/attached", "attached", lambda: api.abort(409, response=api.Response("attached", 200)))
    app.add_url_rule("/wsgi", "wsgi", lambda: api.abort(werkzeug.wrappers.Response("plain", 410)))
    client = web.client(app)
    codes = (400, 401, 403, 404, 405, 409, 410, 413, 418, 429, 451, 500, 503, 999)
    answers = [client.get(f"/{code}") for code in codes]
    return answers, [client.get(p) for p in ("/text/404", "/response", "/attached", "/wsgi")], fails(api.abort, 404), (
        fails(api.abort, 1234), fails(app.aborter, 999)
    )  # fmt: skip


# make_response


def make_values(api):
    """Name -> a function that makes a value for a view to return."""

    class Custom(api.Response):
        default_mimetype = "text/x-custom"

    class Headers(dict):
        pass

    def wsgi(environ, start_response):
        start_response("202 Accepted", [("X-Wsgi", environ["REQUEST_METHOD"]), ("Content-Type", "text/plain")])
        return [b"wsgi ", b"app"]

    def generate():
        yield "a"
        yield "ü"

    return {
        "str": lambda: "ü",
        "empty": lambda: "",
        "bytes": lambda: b"\xff",
        "bytearray": lambda: bytearray(b"ba"),
        "dict": lambda: {"b": 1, "a": [None, True]},
        "empty dict": dict,
        "list": lambda: [1, {"x": 2}],
        "empty list": list,
        "generator": generate,
        "iterator": lambda: iter([b"x", b"y"]),
        "map": lambda: map(str, range(3)),
        "response": lambda: api.Response("r", 201),
        "subclass": lambda: Custom("r"),
        "werkzeug": lambda: werkzeug.wrappers.Response("w", 203, {"X-W": "w"}),
        "wsgi": lambda: wsgi,
        "exception": lambda: Conflict("conflict"),
        "status": lambda: ("s", 201),
        "status text": lambda: ("s", "299 Custom Words"),
        "status number text": lambda: ("s", "404"),
        "headers dict": lambda: ("h", {"X-A": "1", "Content-Type": "text/plain"}),
        "headers list": lambda: ("h", [("X-A", "1"), ("X-A", "2")]),
        "headers multi": lambda: ("h", {"X-A": ["1", "2"]}),
        "headers object": lambda: ("h", werkzeug.datastructures.Headers([("X-A", "1"), ("X-A", "2")])),
        "headers subclass": lambda: ("h", Headers({"X-A": "1"})),
        "three": lambda: ("t", 202, {"X-A": "1"}),
        "three none": lambda: ("t", None, None),
        "dict status": lambda: ({"d": 1}, 202),
        "list headers": lambda: ([1], {"X-A": "1"}),
        "response headers": lambda: (api.Response("r", 400, {"X-A": "0", "X-B": "0"}), {"X-A": "1"}),
        "response three": lambda: (api.Response("r", 400), 202, {"Content-Type": "text/x"}),
        "wsgi status": lambda: (wsgi, 418),
        "exception status": lambda: (NotFound(), 410),
        "jsonify": lambda: api.jsonify(a=1, b=[2]),
        "jsonify list": lambda: api.jsonify(1, 2),
        "jsonify none": lambda: api.jsonify(),
        "made": lambda: api.make_response(("m", 201)),
        "made parts": lambda: api.make_response("m", 201, {"X-A": "1"}),
        "made nothing": lambda: api.make_response(),
        "none": lambda: None,
        "number": lambda: 3,
        "true": lambda: True,
        "object": object,
        "set": lambda: {1},
        "none status": lambda: (None, 400),
        "one": lambda: ("x",),
        "no parts": tuple,
        "four": lambda: (1, 2, 3, 4),
        "number status": lambda: (3, 200),
        "bad status": lambda: ("x", object()),
        "bad json": lambda: {"x": object()},
    }


@pytest.mark.parametrize("name", make_values(asyncflask))
def test_return_values(name):
    """Each value, by a sync and an async view, on both faces; errors are compared by class."""

    def scenario(web: Web):
        app = web.app()
        app.testing = True
        app.add_url_rule("/", "index", web.fn(make_values(web.api)[name]), methods=["GET", "POST"])
        client = web.client(app)
        try:
            return client.get("/"), client.open("/", method="HEAD"), client.post("/", data=b"x")
        except Exception as error:
            return type(error).__name__

    import tempfile
    from pathlib import Path

    import flask

    with tempfile.TemporaryDirectory() as folder:
        expected = scenario(Web(flask, FACES["wsgi"], "sync", Path(folder)))
        for face, style in itertools.product(FACES, ("sync", "async")):
            assert scenario(Web(asyncflask, FACES[face], style, Path(folder))) == expected, (face, style)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ["'index'", "None"]),
        (3, ["int"]),
        (object(), ["object"]),
        ((None, 400), ["None"]),
        (("x",), ["tuple"]),
        ((1, 2, 3, 4), ["(body, status, headers)"]),
    ],
)
@both_faces
def test_the_error_of_a_wrong_return_value_helps(face, value, words):
    app = asyncflask.Flask("app")
    app.testing = True
    app.add_url_rule("/", "index", lambda: value)
    with pytest.raises(TypeError) as caught:
        FACES[face](app).get("/")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@both_faces
def test_async_values(face):
    app = asyncflask.Flask("app")

    @app.route("/pieces")
    async def pieces():
        yield "a"
        yield b"b"

    @app.route("/made")
    def in_a_tuple():
        return pieces(), 201, {"X-A": "1"}

    @app.route("/plain")
    def returns_coroutine():
        async def later():
            return "later", 202

        return later()

    client = FACES[face](app)
    assert client.get("/pieces").body == b"ab"
    made = client.get("/made")
    assert (made.status, made.body, made.header("X-A")) == (201, b"ab", "1")
    later = client.get("/plain")
    assert (later.status, later.body) == (202, b"later")


@as_flask
def test_response_class(web: Web):
    class Own(web.api.Response):
        default_mimetype = "text/x-own"
        default_status = 206

    app = web.app()
    app.response_class = Own
    for name, make in make_values(web.api).items():
        if name in ("str", "dict", "werkzeug", "wsgi", "exception", "response", "made nothing", "jsonify", "three"):
            app.add_url_rule(f"/{name}", name, make)
    client = web.client(app)
    seen = [
        client.open(f"/{name}", method=m) for name in sorted(app.view_functions) for m in ("GET", "OPTIONS", "DELETE")
    ]
    return seen, client.get("/no/such")


@as_flask
def test_plain_werkzeug_response_class(web: Web):
    app = web.app()
    app.response_class = werkzeug.wrappers.Response
    app.route("/")(lambda: "text")
    app.add_url_rule("/stream", "stream", lambda: iter(["a", "b"]))
    app.add_url_rule("/tuple", "tuple", lambda: ("x", 201, {"X-A": "1"}))
    client = web.client(app)
    return [client.get(path) for path in ("/", "/stream", "/tuple", "/none")]


@as_flask
def test_jsonify(web: Web):
    app = web.app()
    with app.app_context():
        j = web.api.jsonify
        answers = [j(), j(None), j(1), j("x"), j([1]), j(1, 2), j(a=1, b={"c": ()}), j({"z": 1, "a": 2})]
        errors = [fails(j, 1, a=2), fails(j, object())]
        app.debug = True
        answers.append(j(a=1, b=[1, 2]))
        app.json.sort_keys = False
        app.json.compact = True
        app.json.mimetype = "application/x-json"
        answers.append(j(b=1, a="ü"))
    return [(a.get_data(), a.content_type, a.status) for a in answers], errors


# flash and session


@in_all_styles
def test_flash(web: Web):
    api = web.api
    app = web.app()
    app.secret_key = "key"

    def flash():
        api.flash("one")
        api.flash("two", "warning")
        return ""

    def show():
        first = api.get_flashed_messages(with_categories=True)
        return {"all": first, "filtered": api.get_flashed_messages(category_filter=["warning"])}

    app.add_url_rule("/flash", "flash", web.fn(flash))
    app.add_url_rule("/show", "show", web.fn(show))
    client = web.client(app)
    return [client.get(path).text for path in ("/show", "/flash", "/flash", "/show", "/show")]


@in_all_styles
def test_session(web: Web):
    api = web.api
    app = web.app()
    app.secret_key = "key"

    def put(key, value):
        api.session[key] = value
        return ""

    def clear():
        api.session.clear()
        return ""

    app.add_url_rule("/put/<key>/<value>", "put", web.fn(put))
    app.add_url_rule("/get", "get", web.fn(lambda: dict(api.session)))
    app.add_url_rule("/in", "in", web.fn(lambda: str("a" in api.session)))
    app.add_url_rule("/len", "len", web.fn(lambda: str(len(api.session))))
    app.add_url_rule("/bool", "bool", web.fn(lambda: str(bool(api.session))))
    app.add_url_rule("/untouched", "untouched", web.fn(lambda: "untouched"))
    app.add_url_rule("/clear", "clear", web.fn(clear))
    client = web.client(app)
    paths = (
        "/get",
        "/untouched",
        "/put/a/1",
        "/get",
        "/untouched",
        "/in",
        "/len",
        "/bool",
        "/put/b/2",
        "/get",
        "/clear",
        "/get",
    )
    answers = [client.get(path) for path in paths]
    return [(a.status, a.text, a.header("Vary"), len(a.headers_of("Set-Cookie"))) for a in answers]


@as_flask
def test_session_without_a_key(web: Web):
    api = web.api
    app = web.app()
    app.testing = True
    app.add_url_rule("/read", "read", lambda: str(dict(api.session)))
    app.add_url_rule("/write", "write", lambda: api.session.update(a=1) or "")
    client = web.client(app)
    return client.get("/read").text, fails(client.get, "/write")


# after_this_request


@in_all_styles
def test_after_this_request(web: Web):
    api = web.api
    app = web.app()
    order = []

    def make_hook(name):
        def hook(response):
            order.append(name)
            response.headers["X-Last"] = name
            return response

        return hook

    def index():
        api.after_this_request(web.fn(make_hook("this one")))
        api.after_this_request(web.fn(make_hook("this two")))
        return "index"

    def replaced():
        api.after_this_request(lambda response: api.Response("replaced", 201))
        return "original"

    app.after_request(web.fn(make_hook("app one")))
    app.after_request(web.fn(make_hook("app two")))
    app.add_url_rule("/", "index", web.fn(index))
    app.add_url_rule("/replaced", "replaced", web.fn(replaced))
    client = web.client(app)
    return client.get("/"), client.get("/replaced"), client.get("/"), order, fails(api.after_this_request, str)


# Forms and files through both faces


@in_all_styles
def test_request_data(web: Web):
    api = web.api
    app = web.app()

    def echo():
        r = api.request
        return {
            "method": r.method, "path": r.path, "full": r.full_path, "url": r.url, "base": r.base_url,
            "root": r.root_url,
            "args": r.args.to_dict(False), "form": r.form.to_dict(False),
            "files": {k: f.read().decode() for k, f in r.files.items()},
            "json": r.get_json(silent=True), "data": r.get_data().decode("latin-1"), "type": r.content_type,
            "host": r.host, "scheme": r.scheme, "secure": r.is_secure, "cookies": r.cookies.to_dict(),
            "endpoint": r.endpoint, "blueprint": r.blueprint, "rule": r.url_rule.rule, "view_args": r.view_args,
            "length": r.content_length, "remote": r.remote_addr, "script": r.script_root,
            "query": r.query_string.decode(), "header": r.headers.get("X-Test"), "all": r.values.to_dict(False),
        }  # fmt: skip

    app.add_url_rule("/echo/<name>", "echo", web.fn(echo), methods=["GET", "POST"])
    client = web.client(app)
    answers = [
        client.get("/echo/ü?a=1&a=2&b=%20ü"),
        client.get("/echo/x", headers={"X-Test": "y", "Cookie": "c=d; e=f"}, base_url="https://host:444/mount"),
        client.post("/echo/x", data={"a": ["1", "2"]}),
        client.post("/echo/x", data={"a": "1", "f": (io.BytesIO(b"file"), "f.txt")}),
        client.post("/echo/x", json={"k": [1]}),
        client.post("/echo/x", data="{bad", content_type="application/json"),
        client.post("/echo/x", data=b"\xff\x00", content_type="application/octet-stream"),
    ]
    return [(a.status, a.text) for a in answers]


@as_flask
def test_errors_of_requests(web: Web):
    api = web.api
    app = web.app()
    app.config["MAX_CONTENT_LENGTH"] = 10
    app.add_url_rule("/json", "json", lambda: api.request.get_json(), methods=["POST"])
    app.add_url_rule("/form", "form", lambda: api.request.form["key"], methods=["POST"])
    app.add_url_rule("/arg", "arg", lambda: api.request.args["key"])
    app.add_url_rule("/untouched", "untouched", lambda: "untouched", methods=["POST"])
    client = web.client(app)
    answers = []
    for debug in (False, True):
        app.debug = debug
        answers += [
            client.post("/json", data="{", content_type="application/json"),
            client.post("/json", data="1", content_type="text/plain"),
            client.post("/json", data="[" * 11, content_type="application/json"),
            fails(client.post, "/form", data={"other": 1}) if debug else client.post("/form", data={"other": 1}),
            client.post("/form", data={"key": "much too long"}),
        ]
    app.debug = False
    return [*answers, client.get("/arg"), client.post("/untouched", data="x" * 11)]


def test_rule_class_and_rule_options():
    class Own(Rule):
        pass

    class App(asyncflask.Flask):
        url_rule_class = Own

    app = App("app")
    app.route("/x", endpoint="x", defaults={"a": 1}, build_only=True)(lambda a: a)
    assert {type(rule) for rule in app.url_map.iter_rules()} == {Own}
    assert [rule.build_only for rule in app.url_map.iter_rules("x")] == [True]


@both_faces
def test_the_object_is_both_applications_and_is_freed(face):
    import gc
    import weakref

    app = asyncflask.Flask("free")
    app.route("/")(lambda: "x")
    assert FACES[face](app).get("/").text == "x"
    gc.collect()
    gone = weakref.ref(app)
    gc.disable()
    try:
        del app
        assert gone() is None
    finally:
        gc.enable()
