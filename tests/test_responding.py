"""Responses after the view: what users do to them, subclasses, closing, and odd callables everywhere."""

from __future__ import annotations

import copy
import functools
import io
import pickle

import pytest
from faces import FACES, Web, as_flask, both_faces, fails, in_all_styles
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

import asyncflask

CHANGES = {
    "data": lambda r: setattr(r, "data", "longer than before ü"),
    "set_data": lambda r: r.set_data(b"x"),
    "status": lambda r: setattr(r, "status", "299 Own"),
    "status_code": lambda r: setattr(r, "status_code", 404),
    "no content": lambda r: setattr(r, "status_code", 204),
    "not modified": lambda r: setattr(r, "status_code", 304),
    "reset content": lambda r: setattr(r, "status_code", 205),
    "mimetype": lambda r: setattr(r, "mimetype", "text/plain"),
    "content type": lambda r: setattr(r, "content_type", "text/x; charset=latin-1"),
    "no content type": lambda r: r.headers.remove("Content-Type"),
    "no length": lambda r: r.headers.remove("Content-Length"),
    "length": lambda r: setattr(r, "content_length", 3),
    "header": lambda r: r.headers.add("X-A", "1"),
    "headers replaced": lambda r: setattr(r, "headers", Headers({"X-Only": "1"})),
    "headers cleared": lambda r: r.headers.clear(),
    "cookie": lambda r: (r.set_cookie("a", "1"), r.set_cookie("b", "2", max_age=3, expires=9), r.delete_cookie("c")),
    "location": lambda r: setattr(r, "location", "/ü x"),
    "content location": lambda r: r.headers.set("Content-Location", "/here"),
    "etag": lambda r: r.add_etag(),
    "conditional": lambda r: (r.add_etag(), setattr(r, "date", 0), r.make_conditional({"REQUEST_METHOD": "GET"})),
    "frozen": lambda r: r.freeze(),
    "vary": lambda r: r.vary.update(["A", "B"]),
    "cache": lambda r: setattr(r.cache_control, "max_age", 5),
    "stream write": lambda r: r.stream.write(" more"),
    "make sequence": lambda r: r.make_sequence(),
    "read": lambda r: (r.get_data(), r.data, r.content_length, r.status, r.headers.to_wsgi_list()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_in_after_request(name, tmp_path):
    import flask

    def scenario(web: Web):
        app = web.app()
        app.after_request(web.fn(lambda response: (CHANGES[name](response) and None) or response))
        app.route("/")(web.fn(lambda: "body"))
        app.add_url_rule("/json", "json", web.fn(lambda: {"a": 1}))
        app.add_url_rule("/three", "three", web.fn(lambda: ("body", 201, {"X-B": "2"})))
        app.add_url_rule("/own", "own", web.fn(lambda: web.api.Response(["a", "ü"])))
        client = web.client(app)
        return [
            client.open(path, method=method) for path in ("/", "/json", "/three", "/own") for method in ("GET", "HEAD")
        ]

    expected = scenario(Web(flask, FACES["wsgi"], "sync", tmp_path))
    for face in FACES:
        for style in ("sync", "async"):
            assert scenario(Web(asyncflask, FACES[face], style, tmp_path)) == expected, (face, style)


@as_flask
def test_a_body_that_is_replaced_behind_its_headers(web: Web):
    """Nobody looked at the headers before; the body is as long as it was, but no longer one piece of bytes."""
    seen = []
    for make in (lambda: ["üü"], lambda: ["a", "bcd"], lambda: iter(["xy", "zw"]), lambda: ("ab", b"cd")):
        app = web.app()
        app.after_request(lambda response, make=make: setattr(response, "response", make()) or response)
        app.route("/")(lambda: "body")
        answer = web.client(app).get("/")
        seen.append((answer.status, answer.body, answer.header("Content-Type")))
    return seen


@as_flask
def test_a_response_object_is_returned_again_and_again(web: Web):
    app = web.app()
    kept = {}

    def view():
        return kept.setdefault("response", web.api.Response("kept", 200, {"X-A": "1"}))

    app.add_url_rule("/", "index", view)
    app.add_url_rule("/plain", "plain", lambda: kept.setdefault("plain", web.api.Response("plain")))
    app.after_request(lambda response: response.headers.set("X-B", "2") or response)
    client = web.client(app)
    return [client.open(path, method=m) for path in ("/", "/plain") for m in ("GET", "HEAD", "GET")]


@as_flask
def test_copies_and_pickles(web: Web):
    app = web.app()
    app.add_url_rule("/copy", "copy", lambda: copy.copy(web.api.Response("body")))
    app.add_url_rule("/pickle", "pickle", lambda: pickle.loads(pickle.dumps(web.api.Response("body", 201))))
    app.add_url_rule("/plain", "plain", lambda: pickle.loads(pickle.dumps(web.api.jsonify(a=1))))
    client = web.client(app)
    return [client.get(path) for path in ("/copy", "/pickle", "/plain")]


@as_flask
def test_response_subclasses(web: Web):
    base = web.api.Response

    class Upper(base):
        def iter_encoded(self):
            return (piece.upper() for piece in super().iter_encoded())

    class Sized(base):
        def set_data(self, value):
            super().set_data(value + "!" if isinstance(value, str) else value + b"!")

    class Headed(base):
        def get_wsgi_headers(self, environ):
            headers = super().get_wsgi_headers(environ)
            headers["X-Path"] = environ["PATH_INFO"]
            return headers

    class Iterated(base):
        def get_app_iter(self, environ):
            return [piece.swapcase() for piece in super().get_app_iter(environ)]

    class Called(base):
        def __call__(self, environ, start_response):
            self.headers["X-Called"] = environ["REQUEST_METHOD"]
            return super().__call__(environ, start_response)

    class Unmeasured(base):
        automatically_set_content_length = False

    class Absolute(base):
        autocorrect_location_header = True

    class Plain(base):
        default_mimetype = None
        default_status = 203

    class Json(base):
        default_mimetype = "application/json"
        charset = "utf-8"

    seen = []
    for cls in (Upper, Sized, Headed, Iterated, Called, Unmeasured, Absolute, Plain, Json):
        app = web.app()
        app.response_class = cls
        app.route("/")(lambda: "body")
        app.add_url_rule("/stream", "stream", lambda: iter(["a", "b"]))
        app.add_url_rule("/redirect", "redirect", lambda: web.api.redirect("/x"))
        app.add_url_rule("/own", "own", lambda cls=cls: cls("own", 202))
        client = web.client(app)
        seen += [(cls.__name__, client.get(path)) for path in ("/", "/stream", "/redirect", "/own", "/none")]
    return seen


@in_all_styles
def test_closing(web: Web):
    """call_on_close functions and the body's close run once, after the body."""
    log = []

    class Body:
        def __init__(self, name):
            self.name = name
            self.pieces = iter([b"a", b"b"])

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.pieces)

        def close(self):
            log.append(f"closed {self.name}")

    def generate(name):
        try:
            yield "a"
            yield "b"
        finally:
            log.append(f"finally {name}")

    def closing(body):
        response = web.api.Response(body)
        response.call_on_close(lambda: log.append("on close 1"))
        response.call_on_close(lambda: log.append("on close 2"))
        return response

    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return Body("wsgi")

    app = web.app()
    app.teardown_request(web.fn(lambda error: log.append("teardown")))
    for name, make in {
        "body": lambda: web.api.Response(Body("body")),
        "generator": lambda: generate("generator"),
        "closing": lambda: closing("text"),
        "closing generator": lambda: closing(generate("closing")),
        "closing body": lambda: closing(Body("closing body")),
        "wsgi": lambda: wsgi,
        "file": lambda: web.api.send_file(io.BytesIO(b"file"), mimetype="text/plain"),
        "sent": lambda: web.api.send_file(web.folder / "static" / "hello.txt"),
    }.items():
        app.add_url_rule(f"/{name}", name, web.fn(make))
    client = web.client(app)
    for name in ("body", "generator", "closing", "closing generator", "closing body", "wsgi", "file", "sent"):
        for method in ("GET", "HEAD"):
            log.append(f"{method} {name} {client.open(f'/{name}', method=method).body!r}")  # noqa: PERF401  # hooks write there too
    return log


@as_flask
def test_an_application_returned_from_a_view(web: Web):
    inner = web.app("inner")
    inner.add_url_rule("/outer", "outer", lambda: f"inner {web.api.request.path} {web.api.current_app.name}")
    outer = web.app("outer")
    outer.add_url_rule("/outer", "outer", lambda: inner)
    outer.after_request(lambda response: response.headers.set("X-By", web.api.current_app.name) or response)
    return web.client(outer).get("/outer")


@in_all_styles
def test_environ_is_one_dict(web: Web):
    api = web.api
    log = []
    app = web.app()

    def note(*args):
        environ = api.request.environ
        environ["count"] = environ.get("count", 0) + 1
        log.append(
            (environ["count"], environ["PATH_INFO"], environ["REQUEST_METHOD"], environ["werkzeug.request"] is not None)
        )
        return args[0] if args and isinstance(args[0], api.Response) else None

    app.before_request(web.fn(note))
    app.route("/<x>")(web.fn(lambda x: note() or x))
    app.after_request(web.fn(note))
    app.teardown_request(web.fn(note))
    web.client(app).get("/x")
    return log


@in_all_styles
def test_what_each_hook_and_signal_sees(web: Web):
    api = web.api
    log = []
    app = web.app()

    def look(label):
        def hook(*args, **kwargs):
            log.append(
                (label, api.has_app_context(), api.has_request_context(), bool(api.current_app), bool(api.request),
                 api.has_request_context() and api.request.endpoint)
            )  # fmt: skip
            return args[0] if args and isinstance(args[0], api.Response) else None

        return hook

    app.before_request(web.fn(look("before")))
    app.after_request(web.fn(look("after")))
    app.teardown_request(web.fn(look("teardown")))
    app.teardown_appcontext(web.fn(look("context")))
    app.url_value_preprocessor(look("value"))
    app.add_url_rule("/", "index", web.fn(lambda: look("view")() or "index"))
    receivers = []
    for name in ("request_started", "request_finished", "request_tearing_down", "appcontext_pushed",
                 "appcontext_popped", "appcontext_tearing_down"):  # fmt: skip
        receivers.append(look(name))
        getattr(api, name).connect(receivers[-1], app)
    client = web.client(app)
    client.get("/")
    client.get("/none")
    with app.app_context():
        pass
    return log


@in_all_styles
def test_signals_with_failing_receivers(web: Web):
    api = web.api
    seen = []
    for name in ("request_started", "request_finished", "got_request_exception"):
        app = web.app()
        app.logger.disabled = True
        log = []

        def receive(sender, **values):
            raise LookupError("receiver")

        getattr(api, name).connect(receive, app)
        app.route("/")(web.fn(lambda: "index"))
        app.add_url_rule("/fail", "fail", web.fn(lambda: 1 / 0))
        app.teardown_request(web.fn(lambda error, log=log: log.append(repr(error))))
        client = web.client(app)
        for path in ("/", "/fail"):
            try:
                seen.append((name, path, client.get(path).status))
            except Exception as error:
                seen.append((name, path, repr(error)))
        seen += [log, api.has_app_context(), api.has_request_context()]
        del receive
    return seen


@in_all_styles
def test_async_receivers(web: Web):
    api = web.api
    log = []
    app = web.app()
    receivers = []
    for name in ("request_started", "request_finished", "request_tearing_down", "appcontext_tearing_down"):
        receivers.append(web.fn(lambda sender, name=name, **values: log.append(name)))
        getattr(api, name).connect(receivers[-1], app)
    app.route("/")(web.fn(lambda: "index"))
    return web.client(app).get("/").text, log


# Callables of every kind


@both_faces
def test_callables_that_are_no_plain_functions(face):
    app = asyncflask.Flask("app")
    log = []

    class Hooks:
        def sync(self):
            log.append("bound")

        async def coroutine(self):
            log.append("async bound")

        @classmethod
        async def of_class(cls):
            log.append("async class")

        @staticmethod
        async def static():
            log.append("async static")

        async def __call__(self):
            log.append("async call")

    class SyncCall:
        def __call__(self):
            log.append("call")

    async def with_argument(argument):
        log.append(argument)

    hooks = Hooks()
    for hook in (hooks.sync, hooks.coroutine, hooks.of_class, Hooks.static, hooks, SyncCall(),
                 functools.partial(with_argument, "async partial"), functools.partial(log.append, "partial"),
                 functools.partial(functools.partial(with_argument), "nested partial"),
                 lambda: with_argument("lambda of a coroutine")):  # fmt: skip
        app.before_request(hook)
    app.add_url_rule("/", "index", functools.partial(Hooks.__call__, hooks))
    app.add_url_rule("/object", "object", Answering())
    client = FACES[face](app)
    assert client.get("/object").text == "object"
    assert log == ["bound", "async bound", "async class", "async static", "async call", "call", "async partial",
                   "partial", "nested partial", "lambda of a coroutine"]  # fmt: skip


class Answering:
    async def __call__(self):
        return "object"


@both_faces
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_nonblocking_functions(face, kind, tmp_path):
    web = Web(asyncflask, FACES[face], kind, tmp_path)
    app = asyncflask.Flask("app")
    log = []
    app.before_request(asyncflask.nonblocking(lambda: log.append("before")))
    app.add_url_rule("/", "index", web.fn(lambda: "index"))
    app.add_url_rule("/quick", "quick", asyncflask.nonblocking(lambda: "quick"))
    app.register_error_handler(404, asyncflask.nonblocking(lambda error: "handled"))
    client = web.client(app)
    assert [client.get(path).text for path in ("/", "/quick", "/none")] == ["index", "quick", "handled"]
    assert log == ["before"] * 3


# abort in odd places


@in_all_styles
def test_abort_in_hooks(web: Web):
    api = web.api
    seen = []
    for place in ("before", "after", "value", "handler", "this"):
        app = web.app()
        app.logger.disabled = True
        log = []

        def stop(*args):
            api.abort(418)

        if place == "before":
            app.before_request(web.fn(stop))
        elif place == "after":
            app.after_request(web.fn(stop))
        elif place == "value":
            app.url_value_preprocessor(stop)
        elif place == "handler":
            app.register_error_handler(404, web.fn(stop))
        app.register_error_handler(418, web.fn(lambda error: ("teapot", 418)))
        app.add_url_rule(
            "/",
            "index",
            web.fn(lambda place=place, stop=stop: api.after_this_request(stop) and "" if place == "this" else "x"),
        )
        app.teardown_request(web.fn(lambda error, log=log: log.append(repr(error))))
        client = web.client(app)
        seen += [place, client.get("/"), client.get("/none"), log]
    return seen


@in_all_styles
def test_redirects_of_the_router_pass_by_the_handlers(web: Web):
    app = web.app()
    log = []
    app.register_error_handler(HTTPException, web.fn(lambda error: log.append(error.code) or ("handled", error.code)))
    app.register_error_handler(Exception, web.fn(lambda error: log.append("exception") or ("handled", 500)))
    app.add_url_rule("/folder/", "folder", web.fn(lambda: "folder"))
    app.add_url_rule("/old", "old", redirect_to="/folder/")
    client = web.client(app)
    return [client.get(path) for path in ("/folder", "/old", "/none")], client.open("/folder/", method="PUT"), log


@as_flask
def test_endpoints_with_dots_on_the_application(web: Web):
    app = web.app()
    log = []
    app.before_request_funcs["a"] = [lambda: log.append("a")]
    app.before_request_funcs["a.b"] = [lambda: log.append("a.b")]
    app.add_url_rule("/", "a.b.c", lambda: f"{web.api.request.blueprint} {web.api.request.blueprints}")
    return web.client(app).get("/").text, log


@as_flask
def test_errors_of_return_values_reach_handlers(web: Web):
    app = web.app()
    app.logger.disabled = True
    app.register_error_handler(TypeError, lambda error: ("type error", 400))
    app.register_error_handler(500, lambda error: (f"500 {type(error.original_exception).__name__}", 500))
    app.add_url_rule("/none", "none", lambda: None)
    app.add_url_rule("/json", "json", lambda: {"x": object()})
    app.add_url_rule("/status", "status", lambda: ("x", "not a status"))
    app.add_url_rule("/number", "number", lambda: ("x", 99))
    client = web.client(app)
    return [client.get(path) for path in ("/none", "/json")], fails(client.get, "/status")
