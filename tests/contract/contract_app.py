"""The one application of the contract suite: every host serves this same object, without a hint flag.

`both` registers a view twice, under /s as a plain function and under /a as a coroutine function, so that a
case can ask either and expect one answer. State lives in module globals: each host is a single process.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter

from anyio.lowlevel import checkpoint
from contract_blueprints import BLUEPRINTS, token

from asyncflask import (
    Flask,
    Response,
    abort,
    after_this_request,
    flash,
    get_flashed_messages,
    jsonify,
    make_response,
    redirect,
    request,
    request_started,
    request_tearing_down,
    send_file,
    session,
    stream_with_context,
    url_for,
)

MIB = 1024 * 1024
STARTED: Counter[str] = Counter()
TORN: Counter[str] = Counter()

app = Flask(__name__)
app.config.update(SECRET_KEY="contract", MAX_CONTENT_LENGTH=8 * MIB)


COROUTINES = {}


def as_coroutine_function(view):
    """The async twin of a view, the same one each time: a second rule may name the same endpoint."""

    async def twin(**values):
        await checkpoint()
        return view(**values)

    return COROUTINES.setdefault(view, twin)


def both(rule, methods=("GET",), **options):
    """Register a sync view under /s and a coroutine function around it under /a."""

    def register(view):
        name = view.__name__
        app.add_url_rule(f"/s{rule}", f"s_{name}", view, methods=methods, **options)
        app.add_url_rule(f"/a{rule}", f"a_{name}", as_coroutine_function(view), methods=methods, **options)
        return view

    return register


# -- counting: signals, not hooks, so that the plan of the routes below stays what their hooks make it


def count_start(sender, **_):
    STARTED[token()] += 1


def count_teardown(sender, **_):
    TORN[token()] += 1


COUNTED = {request_started: count_start, request_tearing_down: count_teardown}
for signal, receiver in COUNTED.items():
    signal.connect(receiver, app)


@app.get("/counts")
def counts():
    return {"started": STARTED.total(), "torn": TORN.total()}


@app.get("/counts/<name>")
def count_of(name):
    return {"started": STARTED[name], "torn": TORN[name]}


# -- what a view may return


def wsgi_callable(environ, start_response):
    start_response("202 Accepted", [("Content-Type", "text/plain"), ("X-Wsgi", "1")])
    return [environ["REQUEST_METHOD"].encode(), b" by WSGI"]


async def letters():
    for letter in "abc":
        await checkpoint()
        yield letter


RETURNS = {
    "str": lambda: "text é",
    "bytes": lambda: b"by\x00tes",
    "dict": lambda: {"b": 1, "a": "é"},
    "list": lambda: [1, "two", None],
    "status": lambda: ("made", 201),
    "headers": lambda: ("text", {"X-One": "1"}),
    "header-list": lambda: ("text", [("X-One", "1"), ("X-One", "2")]),
    "status-headers": lambda: ("text", 202, {"X-One": "1", "Content-Type": "text/plain"}),
    "dict-status": lambda: ({"a": 1}, 201),
    "status-text": lambda: ("text", "299 Odd"),
    "response": lambda: Response("text", 203, {"X-One": "1"}, mimetype="text/plain"),
    "response-status": lambda: (Response("text", mimetype="text/plain"), 418),
    "wsgi": lambda: wsgi_callable,
    "generator": lambda: (letter for letter in "abc"),
    "iterator": lambda: iter([b"ab", b"c"]),
    "async-generator": letters,
    "response-generator": lambda: Response((letter for letter in "abc"), mimetype="text/plain"),
    "response-async-generator": lambda: Response(letters(), mimetype="text/plain"),
    "empty": lambda: "",
    "none": lambda: None,
    "odd-tuple": lambda: ("a", 200, {}, "too long"),
    "number": lambda: 42,
}


@both("/returns/<kind>")
def returns(kind):
    return RETURNS[kind]()


@both("/no-content")
def no_content():
    response = Response(status=204)
    del response.headers["Content-Type"]  # as RFC 9110 and wsgiref.validate want it
    return response


# -- what a request says


@both("/echo", methods=("GET", "POST", "PUT", "PATCH", "DELETE"))
def echo():
    return {
        "method": request.method,
        "path": request.path,
        "full_path": request.full_path,
        "url": request.url,
        "base_url": request.base_url,
        "root": request.root_path,
        "query": request.query_string.decode("latin-1"),
        "args": list(request.args.items(multi=True)),
        "host": request.host,
        "scheme": request.scheme,
        "cookies": list(request.cookies.items(multi=True)),
        "endpoint": request.endpoint,
        "type": request.content_type,
        "length": request.content_length,
        "x_multi": request.headers.get("X-Multi", "").replace(" ", ""),
        "x_latin": request.headers.get("X-Latin"),
        "remote": request.remote_addr,
    }


@both("/environ")
def environ():
    names = ("REQUEST_METHOD", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "HTTP_X_ONE", "HTTP_HOST")
    request.environ["contract.mark"] = "kept"
    return {name: request.environ.get(name) for name in (*names, "contract.mark")}


@both("/face")
def face():
    return "asgi" if "asgi.scope" in request.environ else "wsgi"


@both("/json", methods=("POST",))
def echo_json():
    return jsonify(request.get_json())


@both("/json-silent", methods=("POST",))
def echo_json_silent():
    return jsonify(request.get_json(silent=True))


@both("/form", methods=("POST",))
def form():
    return {"form": request.form.to_dict(flat=False), "args": request.args.to_dict(flat=False)}


@both("/form-key", methods=("POST",))
def form_key():
    return request.form["wanted"]


@both("/upload", methods=("POST",))
def upload():
    files = [describe(field, file) for field, file in request.files.items(multi=True)]
    return {"form": request.form.to_dict(flat=False), "files": files}


def describe(field, file):
    data = file.read()
    return {
        "field": field,
        "name": file.filename,
        "type": file.content_type,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def describe_body(data):
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@both("/body", methods=("POST", "PUT"))
def body():
    return describe_body(request.get_data())


@both("/body-stream", methods=("POST",))
def body_stream():
    digest, size = hashlib.sha256(), 0
    while piece := request.stream.read(50_000):
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@both("/body-lines", methods=("POST",))
def body_lines():
    return jsonify([line.decode() for line in request.stream])


@both("/body-unread", methods=("POST",))
def body_unread():
    return "not read"


@both("/body-limit/<int:limit>", methods=("POST",))
def body_limit(limit):
    request.max_content_length = limit
    return describe_body(request.get_data())


# -- headers, cookies, session, flash


@both("/headers")
def headers():
    response = make_response("text")
    response.headers.add("X-Multi", "1")
    response.headers.add("X-Multi", "2")
    response.headers["X-Latin"] = "é"
    return response


@both("/cookies")
def cookies():
    response = make_response("text")
    response.set_cookie("one", "1", max_age=60, httponly=True, samesite="Lax")
    response.set_cookie("two", "é;2", path="/there")
    response.delete_cookie("three")
    return response


@both("/login/<name>", methods=("POST",))
def login(name):
    session["name"] = name
    session.permanent = "permanent" in request.args
    return "in"


@both("/logout", methods=("POST",))
def logout():
    session.clear()
    return "out"


@both("/counter")
def counter():
    session["count"] = session.get("count", 0) + 1
    return {"count": session["count"], "name": session.get("name")}


@both("/session-untouched")
def session_untouched():
    return "none"


@both("/flash/<text>", methods=("POST",))
def flash_text(text):
    flash(text, "note")
    return redirect(url_for("s_show_flashes"))


@both("/flashes")
def show_flashes():
    return jsonify(get_flashed_messages(with_categories=True))


# -- routes


CONVERTERS = {
    "string": "string",
    "int": "int",
    "float": "float",
    "path": "path",
    "uuid": "uuid",
    "color": "any(red,blue)",
    "pair": "string(length=2)",
    "digit": "int(max=9)",
    "signed": "int(signed=True)",
}


def add_converter_routes(name, converter):
    def converted(value):
        return {"name": name, "value": str(value), "type": type(value).__name__}

    converted.__name__ = f"converted_{name}"
    both(f"/convert/{name}/<{converter}:value>")(converted)


for each in CONVERTERS.items():
    add_converter_routes(*each)


@both("/pair/<first>/<int:second>")
def pair(first, second):
    return {"first": first, "second": second, "args": request.view_args}


@both("/slash/")
def slash():
    return "slash"


@both("/no-slash")
def no_slash():
    return "no slash"


@both("/either", strict_slashes=False)
def either():
    return "either"


@both("/default", defaults={"page": 1})
@both("/default/<int:page>")
def default(page):
    return str(page)


@both("/old", redirect_to="/s/no-slash")
def old():
    return "never"


@both("/put-only", methods=("PUT", "DELETE"))
def put_only():
    return request.method


@both("/own-options", methods=("GET", "OPTIONS"))
def own_options():
    return f"own {request.method}"


@both("/no-options", provide_automatic_options=False)
def no_options():
    return "text"


@both("/urls")
def urls():
    return {
        "relative": url_for("s_pair", first="a b", second=2, q="é"),
        "external": url_for("a_pair", first="é", second=2, _external=True),
        "scheme": url_for("s_slash", _external=True, _scheme="https"),
        "anchor": url_for("s_slash", _anchor="x y"),
        "static": url_for("static", filename="hello.txt"),
        "blueprint": url_for("parent.child.leaf", number=3),
    }


@both("/redirect/<int:code>")
def redirect_with(code):
    return redirect(url_for("s_slash"), code)


# -- errors


class AppError(Exception):
    pass


class NarrowError(AppError):
    pass


class AsyncHandled(Exception):
    pass


@app.errorhandler(AppError)
def handle_app_error(error):
    return f"app class: {type(error).__name__} {error}", 460


@app.errorhandler(AsyncHandled)
async def handle_async(error):
    await checkpoint()
    return {"async handler": str(error)}, 461


@app.errorhandler(418)
def handle_teapot(error):
    return f"app 418: {error.description}", 418, {"X-Handled": "app"}


RAISED = {
    "app": AppError,
    "narrow": NarrowError,
    "async": AsyncHandled,
    "plain": ValueError,
    "key": lambda text: KeyError(text),
}


@both("/raise/<kind>")
def raise_kind(kind):
    raise RAISED[kind]("raised")


@both("/abort/<int:code>")
def abort_with(code):
    abort(code, description="on purpose")


@both("/abort-response")
def abort_response():
    abort(Response("aborted with it", 499, {"X-One": "1"}))


# -- this request, files, streams


@both("/after-this")
def after_this():
    @after_this_request
    def mark(response):
        response.headers["X-After"] = "sync"
        return response

    @after_this_request
    async def mark_async(response):
        await checkpoint()
        response.headers["X-After"] += " async"
        return response

    return "text"


@both("/file/<kind>")
def file(kind):
    if kind == "memory":
        return send_file(io.BytesIO(b"0123456789"), mimetype="text/plain", etag="fixed")
    return send_file("static/hello.txt", as_attachment=True, download_name="grüße.txt", max_age=60)


def chunk_of(number):
    return bytes([number % 251]) * 16_384


@both("/stream/<int:count>")
def stream(count):
    return Response((chunk_of(number) for number in range(count)), mimetype="application/octet-stream")


@both("/stream-async/<int:count>")
def stream_async(count):
    async def chunks():
        for number in range(count):
            if not number % 16:
                await checkpoint()
            yield chunk_of(number)

    return Response(chunks(), mimetype="application/octet-stream")


@both("/stream-context")
def stream_context():
    @stream_with_context
    def chunks():
        yield request.path
        yield " "
        yield request.args.get("q", "-")

    return chunks()


@both("/stream-context-async")
def stream_context_async():
    @stream_with_context
    async def chunks():
        yield request.path
        await checkpoint()
        yield " " + request.args.get("q", "-")

    return chunks()


# -- blueprints: nested ones, a language prefix, traced steps, one loop for all requests


for blueprint in BLUEPRINTS:
    app.register_blueprint(blueprint)
