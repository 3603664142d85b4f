"""The responses of HTTP errors that nobody handles: pages, headers, and what takes part in making them."""

from __future__ import annotations

from datetime import UTC, datetime

from faces import Web, as_flask, in_all_styles
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    BadRequest,
    BadRequestKeyError,
    Conflict,
    Forbidden,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestedRangeNotSatisfiable,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    default_exceptions,
)
from werkzeug.wrappers import Response as WerkzeugResponse

WHEN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class Named(HTTPException):
    code = 418
    name = "Tea & <Biscuits>"
    description = "Short\nand <stout>"


class OtherName(Named):
    name = "Coffee"


class Code(HTTPException):
    def __init__(self, code):
        super().__init__("a code of its own")
        self.code = code


class Text(str):
    """As a lazily translated text."""


class Translated(Forbidden):
    description = Text("<em>nein</em>")


class Counting(Conflict):
    count = 0

    @property
    def description(self):
        Counting.count += 1
        return f"number {Counting.count}"

    @description.setter
    def description(self, value):
        pass


class OwnBody(NotFound):
    def get_body(self, environ=None, scope=None):
        return f"{environ['REQUEST_METHOD']} {self.description}"


class OwnDescription(NotFound):
    def get_description(self, environ=None, scope=None):
        return f"at {environ['PATH_INFO']}"


class OwnHeaders(NotFound):
    def get_headers(self, environ=None, scope=None):
        return [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])]


class OwnResponse(NotFound):
    def get_response(self, environ=None, scope=None):
        return WerkzeugResponse("own", 444, {"X-Own": "1"})


def patched(name, function):
    error = NotFound()
    setattr(error, name, function)
    return error


ERRORS = {
    **{f"code {code}": (lambda code=code: default_exceptions[code]()) for code in default_exceptions},
    "described": lambda: NotFound("<b>none</b>\n& 'nowhere'"),
    "empty": lambda: NotFound(""),
    "markup": lambda: BadRequest(Text("<i>")),
    "named": Named,
    "other name": OtherName,
    "ü": lambda: BadRequest("ü\u2028"),
    **{f"own code {code}": (lambda code=code: Code(code)) for code in (200, 204, 299, 304, 404, 999)},
    "translated": Translated,
    "key": lambda: BadRequestKeyError("<key>"),
    "methods": lambda: MethodNotAllowed(["PUT", "GET"]),
    "no methods": lambda: MethodNotAllowed([]),
    "authenticate": lambda: Unauthorized(www_authenticate=[WWWAuthenticate("basic"), WWWAuthenticate("digest")]),
    "retry": lambda: TooManyRequests(retry_after=7),
    "retry later": lambda: ServiceUnavailable(retry_after=WHEN),
    "range": lambda: RequestedRangeNotSatisfiable(length=10),
    "own body": OwnBody,
    "own description": OwnDescription,
    "own headers": OwnHeaders,
    "own response": OwnResponse,
    "response": lambda: NotFound(response=WerkzeugResponse("given", 234)),
    "patched body": lambda: patched("get_body", lambda environ=None, scope=None: "patched"),
    "patched headers": lambda: patched("get_headers", lambda environ=None, scope=None: [("X-Patched", "1")]),
}


def make_app(web: Web, response_class=None):
    app = web.app(static_folder=None)
    if response_class is not None:
        app.response_class = response_class(web)

    def fail(name):
        raise ERRORS[name]()

    app.add_url_rule("/<name>", "fail", web.fn(fail))
    return app


def ask_all(client):
    return [client.open(f"/{name}", method=method) for name in ERRORS for method in ("GET", "HEAD")]


@in_all_styles
def test_pages(web: Web):
    client = web.client(make_app(web))
    return ask_all(client), ask_all(client)  # what was kept the first time is the same the second


@as_flask
def test_a_description_that_changes_is_asked_each_time(web: Web):
    Counting.count = 0
    app = web.app()

    def fail():
        raise Counting()

    app.add_url_rule("/", "fail", fail)
    client = web.client(app)
    return [client.get("/").text for _ in range(3)]


@as_flask
def test_a_class_changed_at_run_time(web: Web):
    class Changing(Conflict):
        pass

    app = web.app()

    def fail():
        raise Changing()

    app.add_url_rule("/", "fail", fail)
    client = web.client(app)
    seen = [client.get("/")]
    for name, value in (
        ("description", "new"), ("code", 410), ("get_headers", lambda *args: [("X-A", "1")]),
        ("get_body", lambda *args: "body"),
    ):  # fmt: skip
        setattr(Changing, name, value)
        seen.append(client.get("/"))
    return seen


def with_mimetype(web):
    return type("Own", (web.api.Response,), {"default_mimetype": "application/json", "charset": "latin-1"})


def with_headers(web):
    class Own(web.api.Response):
        def get_wsgi_headers(self, environ):
            headers = super().get_wsgi_headers(environ)
            headers["X-Path"] = environ["PATH_INFO"]
            return headers

    return Own


def with_data(web):
    class Own(web.api.Response):
        def set_data(self, value):
            super().set_data(b"own")

    return Own


def with_call(web):
    class Own(web.api.Response):
        def __call__(self, environ, start_response):
            self.headers["X-Called"] = "1"
            return super().__call__(environ, start_response)

    return Own


CLASSES = (with_mimetype, with_headers, with_data, with_call)


@as_flask
def test_response_classes(web: Web):
    return [ask_all(web.client(make_app(web, response_class))) for response_class in CLASSES]


@as_flask
def test_responses_of_errors_are_changed_afterwards(web: Web):
    app = make_app(web)

    def change(response):
        response.headers["X-Type"] = f"{type(response) is web.api.Response} {response.content_type}"
        response.data += response.status.encode()
        return response

    app.after_request(web.fn(change))
    client = web.client(app)
    return [client.get(f"/{name}") for name in ERRORS if name not in ("own code 204", "own code 304")]


@as_flask
def test_handlers_change_what_the_error_gives(web: Web):
    app = make_app(web)

    def handle(error):
        response = error.get_response()
        response.data = f"{error.code} {error.name}"
        response.content_type = "text/plain"
        return response

    app.register_error_handler(HTTPException, web.fn(handle))
    client = web.client(app)
    return [client.get(f"/{name}") for name in ERRORS if not name.startswith("own") and name != "patched headers"]


@as_flask
def test_wrong_methods_and_options(web: Web):
    app = web.app(static_folder=None)
    blueprint = web.blueprint("bp", url_prefix="/bp")
    for scaffold in (app, blueprint):
        for number, (rule, methods) in enumerate(
            (("/a", ["GET"]), ("/a", ["POST"]), ("/<x>", ["DELETE"]), ("/dir/", ["GET"]), ("/<int:x>", ["PUT"]))
        ):
            scaffold.add_url_rule(rule, str(number), web.fn(lambda **values: "ok"), methods=methods)
    app.add_url_rule("/no", "no", web.fn(lambda: "no"), methods=["GET", "OPTIONS"], provide_automatic_options=False)
    app.register_blueprint(blueprint)
    client = web.client(app)
    seen = []
    for prefix in ("", "/bp"):
        for path in ("/a", "/b", "/1", "/dir", "/dir/", "/no", "/a/", "/a//", "/x/y"):
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "OTHER"):
                answer = client.open(prefix + path, method=method)
                allowed = sorted((answer.header("Allow") or "").split(", "))  # the order is that of a set
                seen.append((method, path, answer.status, allowed, answer.text, answer.header("Content-Type")))
    return seen
