"""Errors: which handler answers, what a 500 does, and what runs when everything goes wrong."""

from __future__ import annotations

import itertools
import logging

import pytest
from faces import FACES, Web, as_flask, both_faces, fails, in_all_styles
from werkzeug.exceptions import (
    BadRequest,
    BadRequestKeyError,
    Forbidden,
    HTTPException,
    InternalServerError,
    NotFound,
)

import asyncflask


class Base(Exception):
    pass


class Derived(Base):
    pass


class Deeper(Derived):
    pass


class Gone(NotFound):
    """A subclass of a coded exception with another code."""

    code = 410


class Custom(HTTPException):
    code = 799


class Codeless(HTTPException):
    pass


ERRORS = {
    error.__name__: error
    for error in (
        Base, Derived, Deeper, ValueError, KeyError, IndexError, Forbidden, NotFound, Gone, Custom, BadRequest,
        BadRequestKeyError, InternalServerError, Codeless,
    )
}  # fmt: skip


def raising_app(web: Web):
    """Raises any error at /NAME, below /parent and below /parent/child."""
    app = web.app(static_folder=None)
    app.logger.disabled = True
    parent, child = web.blueprint("parent", url_prefix="/parent"), web.blueprint("child", url_prefix="/child")

    def fail(name):
        raise ERRORS[name]("words")

    for scaffold in (app, parent, child):
        scaffold.add_url_rule("/<name>", "fail", web.fn(fail))
    return app, parent, child


def finish(app, parent, child):
    parent.register_blueprint(child)
    app.register_blueprint(parent)


def ask_all(client, names=tuple(ERRORS)):
    def ask(path):
        try:
            answer = client.get(path)
        except BaseException as error:
            return path, type(error).__name__, str(error)
        return path, answer.status, answer.text

    return [ask(f"{prefix}/{name}") for prefix in ("", "/parent", "/parent/child") for name in names]


PLACES = ("app", "parent", "child")
WHAT = (404, 500, 400, HTTPException, NotFound, Exception, Base, Derived, Gone, InternalServerError, LookupError)


def handler_of(web: Web, label):
    def handle(error):
        original = getattr(error, "original_exception", None)
        return f"{label} {type(error).__name__} {original!r}", getattr(error, "code", None) or 500

    return web.fn(handle)


@as_flask
def test_one_handler_in_every_place(web: Web):
    seen = []
    for what, place in itertools.product(WHAT, PLACES):
        scaffolds = dict(zip(PLACES, raising_app(web), strict=True))
        scaffolds[place].register_error_handler(what, handler_of(web, f"{what} {place}"))
        finish(*scaffolds.values())
        names = ("Deeper", "KeyError", "NotFound", "Gone", "BadRequestKeyError", "InternalServerError")
        seen.append(ask_all(web.client(scaffolds["app"]), names))
    return seen


@as_flask
def test_two_handlers_compete(web: Web):
    seen = []
    for first, second in itertools.permutations((404, HTTPException, Exception, NotFound, Base, 500), 2):
        for place_one, place_two in (("app", "parent"), ("parent", "child"), ("app", "child"), ("app", "app")):
            scaffolds = dict(zip(PLACES, raising_app(web), strict=True))
            scaffolds[place_one].register_error_handler(first, handler_of(web, f"{first} {place_one}"))
            scaffolds[place_two].register_error_handler(second, handler_of(web, f"{second} {place_two}"))
            finish(*scaffolds.values())
            seen.append(ask_all(web.client(scaffolds["app"]), ("Derived", "NotFound", "Gone", "ValueError")))
    return seen


@in_all_styles
def test_every_handler_at_once(web: Web):
    app, parent, child = raising_app(web)
    for (place, scaffold), what in itertools.product(zip(PLACES, (app, parent, child), strict=True), WHAT):
        scaffold.register_error_handler(what, handler_of(web, f"{what} {place}"))
    finish(app, parent, child)
    client = web.client(app)
    return ask_all(client), [client.get(path).text for path in ("/parent/child/a/b", "/a/b/c")]


@in_all_styles
def test_without_handlers(web: Web):
    app, parent, child = raising_app(web)
    finish(app, parent, child)
    client = web.client(app)
    seen = [ask_all(client)]
    for key, value in (("TESTING", True), ("PROPAGATE_EXCEPTIONS", False), ("PROPAGATE_EXCEPTIONS", True),
                       ("TESTING", False),
                       ("DEBUG", True), ("PROPAGATE_EXCEPTIONS", None)):  # fmt: skip
        app.config[key] = value
        seen.append(ask_all(client))
    return seen


@in_all_styles
def test_trapping(web: Web):
    app, parent, child = raising_app(web)
    app.register_error_handler(400, handler_of(web, "400"))
    app.register_error_handler(KeyError, handler_of(web, "KeyError"))
    finish(app, parent, child)
    client = web.client(app)
    names = ("NotFound", "BadRequest", "BadRequestKeyError", "Codeless", "none/such")
    seen = []
    for debug, bad, trap in itertools.product((False, True), (None, True, False), (False, True)):
        app.config.update(
            DEBUG=debug, TRAP_BAD_REQUEST_ERRORS=bad, TRAP_HTTP_EXCEPTIONS=trap, PROPAGATE_EXCEPTIONS=None
        )
        seen.append(ask_all(client, names))
    return seen


@as_flask
def test_wrong_registrations(web: Web):
    app = web.app()
    return [
        fails(app.register_error_handler, what, str)
        for what in (
            999,
            200,
            "404",
            ValueError(),
            NotFound(),
            int,
            object,
            BaseException,
            KeyboardInterrupt,
            None,
            404.0,
        )
    ] + [fails(app.errorhandler(999), str), app.errorhandler(404)(str) is str]


@in_all_styles
def test_return_values_of_handlers(web: Web):
    app, *_ = raising_app(web)
    values = {
        "Base": ({"error": "base"}, 409),
        "ValueError": "only text",
        "KeyError": web.api.Response("response", 418),
        "Forbidden": NotFound("another"),
        "IndexError": [1],
    }
    for name, value in values.items():
        app.register_error_handler(ERRORS[name], web.fn(lambda error, value=value: value))
    client = web.client(app)
    return [client.get(f"/{name}") for name in values]


@in_all_styles
def test_the_500_handler(web: Web):
    app, *_ = raising_app(web)
    log = []

    def handle(error):
        log.append((type(error).__name__, error.code, repr(error.original_exception)))
        return f"sorry {type(error.original_exception).__name__}", 503

    def after(response):
        log.append(("after", response.status_code))
        response.headers["X-After"] = "ran"
        return response

    app.register_error_handler(500, web.fn(handle))
    app.after_request(web.fn(after))
    app.teardown_request(web.fn(lambda error: log.append(("teardown", repr(error)))))
    client = web.client(app)
    return [client.get(f"/{name}") for name in ("ValueError", "InternalServerError", "NotFound")], log


@in_all_styles
def test_got_request_exception(web: Web):
    app, *_ = raising_app(web)
    app.register_error_handler(Base, web.fn(lambda error: "handled"))
    app.register_error_handler(500, web.fn(lambda error: "500"))
    seen = []

    def receive(sender, exception, **extra):
        seen.append((sender is app, repr(exception), web.api.request.path))

    web.api.got_request_exception.connect(receive, app)
    client = web.client(app)
    answers = [client.get(f"/{name}") for name in ("ValueError", "Base", "NotFound", "InternalServerError")]
    app.testing = True
    return answers, ask_all(client, ("ValueError",))[0], seen


@as_flask
def test_base_exceptions_reach_the_caller(web: Web):
    class Stop(BaseException):
        pass

    app = web.app(static_folder=None)
    log = []

    def fail(kind):
        raise {"stop": Stop, "exit": SystemExit}[kind]

    app.add_url_rule("/<kind>", "fail", web.fn(fail))
    app.teardown_request(lambda error: log.append(type(error).__name__))
    app.teardown_appcontext(lambda error: log.append(type(error).__name__))
    app.after_request(lambda response: log.append("after") or response)
    app.register_error_handler(Exception, lambda error: "handled")
    client = web.client(app)
    for kind in ("stop", "exit"):
        try:
            log.append(client.get(f"/{kind}").status)
        except BaseException as error:
            log.append(("caught", type(error).__name__))
    log.append(web.api.has_request_context())
    return log


@both_faces
def test_keyboard_interrupt_reaches_the_caller(face):
    app = asyncflask.Flask("app")
    log = []

    @app.route("/")
    def index():
        raise KeyboardInterrupt

    app.teardown_request(lambda error: log.append(type(error).__name__))
    with pytest.raises(KeyboardInterrupt):
        FACES[face](app).get("/")
    assert log == ["KeyboardInterrupt"]


@in_all_styles
def test_an_error_in_an_error_handler(web: Web):
    app, *_ = raising_app(web)
    log = []

    def bad(error):
        raise IndexError("in the handler")

    app.register_error_handler(ValueError, web.fn(bad))
    app.register_error_handler(404, web.fn(bad))
    app.teardown_request(web.fn(lambda error: log.append(repr(error))))
    app.after_request(web.fn(lambda response: log.append(response.status_code) or response))
    client = web.client(app)
    seen = [ask_all(client, ("ValueError", "NotFound", "x/y"))]
    app.error_handler_spec[None][None][Exception] = web.fn(lambda error: f"last {error!r}")
    seen.append(ask_all(client, ("ValueError", "NotFound")))
    return seen, log


@in_all_styles
def test_an_error_in_the_500_handler(web: Web):
    app, *_ = raising_app(web)
    log = []

    def bad(error):
        raise IndexError("in the handler")

    app.register_error_handler(500, web.fn(bad))
    app.teardown_request(web.fn(lambda error: log.append(repr(error))))
    client = web.client(app)
    return ask_all(client, ("ValueError",))[0], log, web.api.has_app_context()


@in_all_styles
def test_errors_in_hooks(web: Web):
    seen = []
    for place in ("before", "after", "value", "this"):
        app, *_ = raising_app(web)
        log = []

        def fail(*args, place=place):
            raise Derived(place)

        def index(place=place, fail=fail):
            return web.api.after_this_request(web.fn(fail)) and "" if place == "this" else "index"

        app.add_url_rule("/", "index", web.fn(index))
        if place == "before":
            app.before_request(web.fn(fail))
        elif place == "after":
            app.after_request(web.fn(fail))
            app.after_request(web.fn(lambda response, log=log: log.append("second after") or response))
        elif place == "value":
            app.url_value_preprocessor(fail)
        app.teardown_request(web.fn(lambda error, log=log: log.append(repr(error))))
        client = web.client(app)
        seen += [place, client.get("/"), client.get("/a/b"), list(log)]
        app.error_handler_spec[None][None][Base] = web.fn(lambda error: (f"handled {error!r}", 400))
        seen += [client.get("/"), client.get("/a/b"), list(log)]
    return seen


@in_all_styles
def test_an_after_request_that_fails_twice_is_logged_while_an_error_is_handled(web: Web):
    app, *_ = raising_app(web)
    app.logger.disabled = False
    records = []
    app.logger.handlers[:] = [Recording(records)]
    app.logger.propagate = False
    app.after_request(web.fn(lambda response: 1 / 0))
    answer = web.client(app).get("/ValueError")
    return answer, [(r.levelname, r.exc_info[0].__name__) for r in records]


class Recording(logging.Handler):
    def __init__(self, records):
        super().__init__()
        self.records = records

    def emit(self, record):
        self.records.append(record)


@in_all_styles
def test_unhandled_errors_are_logged(web: Web):
    app, *_ = raising_app(web)
    app.logger.disabled = False
    records = []
    app.logger.handlers[:] = [Recording(records)]
    app.logger.propagate = False
    client = web.client(app)
    client.get("/ValueError")
    client.get("/NotFound")
    client.get("/InternalServerError")
    return [(r.levelname, r.exc_info[0].__name__, r.getMessage()) for r in records]


# Teardowns


def teardown_app(face, **config):
    app = asyncflask.Flask("teardowns")
    app.config.update(config)
    log, records = [], []
    app.logger.handlers[:] = [Recording(records)]
    app.logger.propagate = False

    def recorder(name):
        return lambda error: log.append((name, repr(error)))

    def fail(error):
        raise Derived("in a teardown")

    async def fail_async(error):
        raise Base("in an async teardown")

    app.teardown_request(recorder("request 1"))
    app.teardown_request(fail)
    app.teardown_request(recorder("request 2"))
    app.teardown_request(fail_async)
    app.teardown_request(recorder("request 3"))
    app.teardown_appcontext(recorder("context 1"))
    app.teardown_appcontext(fail)
    app.teardown_appcontext(recorder("context 2"))

    @app.route("/")
    def index():
        return "index"

    @app.route("/fail")
    async def fails():
        raise ValueError("view")

    return app, FACES[face](app), log, records


ORDER = ["request 3", "request 2", "request 1", "context 2", "context 1"]


@both_faces
def test_teardowns_that_fail_are_logged_and_the_others_run(face):
    _, client, log, records = teardown_app(face)
    assert client.get("/").text == "index"
    assert [name for name, _ in log] == ORDER
    assert {error for _, error in log} == {"None"}
    assert [r.exc_info[0] for r in records] == [Base, Derived, Derived]
    assert not asyncflask.has_app_context() and not asyncflask.has_request_context()


@both_faces
def test_teardowns_that_fail_are_raised_in_testing(face):
    _, client, log, _ = teardown_app(face, TESTING=True)
    with pytest.raises(Base):
        client.get("/")
    assert [name for name, _ in log] == ORDER
    assert not asyncflask.has_app_context() and not asyncflask.has_request_context()


@both_faces
def test_every_teardown_gets_the_original_error(face):
    _, client, log, _ = teardown_app(face)
    assert client.get("/fail").status == 500
    assert [name for name, _ in log] == ORDER
    assert {error for _, error in log} == {"ValueError('view')"}


@both_faces
def test_a_base_exception_in_a_teardown_lets_the_others_run(face):
    class Stop(BaseException):
        pass

    app, client, log, _ = teardown_app(face)

    def stop(error):
        raise Stop

    app.teardown_request_funcs[None].append(stop)
    with pytest.raises(Stop):
        client.get("/")
    assert [name for name, _ in log] == ORDER
    assert not asyncflask.has_app_context()


# Sessions


@in_all_styles
def test_an_error_in_open_session(web: Web):
    class Failing(web.api.sessions.SecureCookieSessionInterface):
        def open_session(self, app, request):
            raise Derived("no store")

    app, *_ = raising_app(web)
    log = []
    app.session_interface = Failing()
    app.add_url_rule("/", "index", web.fn(lambda: "index"))
    app.before_request(web.fn(lambda: log.append("before")))
    app.after_request(web.fn(lambda response: log.append("after") or response))
    app.teardown_request(web.fn(lambda error: log.append(repr(error))))
    app.teardown_appcontext(web.fn(lambda error: log.append(repr(error))))
    client = web.client(app)
    seen = [client.get("/"), client.get("/no/such"), list(log)]
    app.error_handler_spec[None][500][InternalServerError] = web.fn(lambda error: (repr(error.original_exception), 503))
    seen += [client.get("/"), web.api.has_request_context(), web.api.has_app_context()]
    app.testing = True
    return [*seen, fails(client.get, "/"), web.api.has_request_context(), web.api.has_app_context()]


@in_all_styles
def test_an_error_in_save_session(web: Web):
    class Failing(web.api.sessions.SecureCookieSessionInterface):
        def save_session(self, app, session, response):
            raise Derived("no store")

    app, *_ = raising_app(web)
    app.secret_key = "key"
    log = []
    app.session_interface = Failing()
    app.add_url_rule("/", "index", web.fn(lambda: "index"))
    app.add_url_rule("/write", "write", web.fn(lambda: web.api.session.update(a=1) or "wrote"))
    app.teardown_request(web.fn(lambda error: log.append(repr(error))))
    client = web.client(app)
    return client.get("/write"), client.get("/"), log


@as_flask
def test_handlers_see_the_failed_request(web: Web):
    app, parent, child = raising_app(web)

    def describe(error):
        r = web.api.request
        return {
            "endpoint": r.endpoint,
            "bp": r.blueprint,
            "args": r.view_args,
            "session": dict(web.api.session),
            "g": "x" in web.api.g,
        }

    app.before_request(lambda: setattr(web.api.g, "x", 1))
    app.register_error_handler(Exception, describe)
    finish(app, parent, child)
    client = web.client(app)
    return [client.get(p).json for p in ("/parent/child/ValueError", "/NotFound", "/no/such", "/parent/Base")]


@as_flask
def test_handlers_changed_at_run_time(web: Web):
    app, *_ = raising_app(web)
    client = web.client(app)
    seen = [client.get("/Base").status]
    app.error_handler_spec[None][None][Base] = lambda error: "added"
    seen.append(client.get("/Derived").text)
    app.error_handler_spec[None][None][Derived] = lambda error: "nearer"
    seen.append(client.get("/Deeper").text)
    del app.error_handler_spec[None][None][Derived]
    seen.append(client.get("/Deeper").text)
    app.error_handler_spec[None][404][NotFound] = lambda error: "found"
    return [*seen, client.get("/x/y").text]


@as_flask
def test_key_errors_name_their_key_only_in_debug(web: Web):
    app = web.app()
    app.add_url_rule("/", "index", lambda: web.api.request.args["missing-key"])
    client = web.client(app)
    seen = ["missing-key" in client.get("/").text]
    app.config["TRAP_BAD_REQUEST_ERRORS"] = False
    app.debug = True
    seen.append("missing-key" in client.get("/").text)
    return seen


@as_flask
def test_redirects_of_posts_in_debug(web: Web):
    app = web.app()
    app.add_url_rule("/folder/", "folder", lambda: "", methods=["GET", "POST"])
    app.debug = True
    client = web.client(app)
    return client.get("/folder"), client.post("/folder").status
