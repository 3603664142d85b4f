"""A site in plain Flask with a little of everything. How it is served is not its business."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import uuid
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import flask
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    after_this_request,
    current_app,
    flash,
    g,
    get_flashed_messages,
    get_template_attribute,
    jsonify,
    make_response,
    redirect,
    render_template,
    render_template_string,
    request,
    send_file,
    send_from_directory,
    session,
    stream_template,
    stream_with_context,
    url_for,
)
from flask.views import MethodView, View
from markupsafe import Markup
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import BaseConverter, BuildError

MIB = 1 << 20
CHANGED = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

app = Flask(__name__)
app.config.update(SECRET_KEY="the same everywhere", MAX_CONTENT_LENGTH=4 * MIB, MAX_FORM_PARTS=20)


class ListConverter(BaseConverter):
    regex = r"[^/]+(?:\+[^/]+)*"

    def to_python(self, value):
        return value.split("+")

    def to_url(self, values):
        return "+".join(super(ListConverter, self).to_url(value) for value in values)


app.url_map.converters["list"] = ListConverter


# The request as Flask shows it


@app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"], defaults={"rest": ""})
@app.route("/echo/<path:rest>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def echo(rest):
    names = (
        *("method", "path", "full_path", "url", "base_url", "host_url", "url_root", "root_url", "host"),
        *("root_path", "script_root", "scheme", "is_secure", "remote_addr", "remote_user", "access_route"),
        *("content_type", "mimetype", "content_length", "content_encoding", "is_json", "endpoint", "blueprint"),
        *("referrer", "origin", "pragma", "max_forwards", "want_form_data_parsed", "user_agent", "range"),
        *("accept_mimetypes", "accept_languages", "accept_charsets", "accept_encodings", "cache_control"),
        *("if_match", "if_none_match", "if_modified_since", "if_unmodified_since", "if_range", "date"),
        *("access_control_request_method", "authorization", "mimetype_params", "query_string", "url_rule"),
    )
    shown = {name: str(getattr(request, name)) for name in names}
    data = request.get_data()
    return {
        **shown,
        "rest": rest,
        "view_args": request.view_args,
        "args": list(request.args.items(multi=True)),
        "cookies": list(request.cookies.items(multi=True)),
        "headers": list(request.headers),
        "duplicates": request.headers.getlist("X-Twice"),
        "size": len(data),
        "sha": hashlib.sha256(data).hexdigest(),
        "best": request.accept_mimetypes.best_match(["text/html", "application/json", "text/plain"]),
    }


@app.route("/environ/<path:rest>")
def show_environ(rest):
    names = (
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "REMOTE_ADDR", "HTTP_HOST"),
        *("HTTP_X_TWICE", "HTTP_COOKIE", "CONTENT_TYPE", "CONTENT_LENGTH"),
        *("wsgi.version", "wsgi.url_scheme", "wsgi.run_once"),
    )
    return {name: request.environ.get(name) for name in names}


@app.get("/args")
def show_args():
    page = request.args.get("page", 1, type=int)
    return {"page": page, "tags": request.args.getlist("tag"), "needed": request.args["needed"]}


@app.post("/body/<how>")
def read_body(how):
    ways = {
        "data": request.get_data,
        "text": lambda: request.get_data(as_text=True).encode(),
        "stream": lambda: b"|".join(iter(lambda: request.stream.read(70_000), b"")),
        "lines": lambda: b"|".join(request.stream),
        "twice": lambda: request.get_data() + request.get_data(),
        "form-first": lambda: repr(request.form.to_dict()).encode() + request.get_data(),
        "data-first": lambda: request.get_data() + repr(request.form.to_dict()).encode(),
        "unread": lambda: b"nothing read",
        "some": lambda: request.stream.read(3),
    }
    return Response(ways[how](), mimetype="application/octet-stream")


@app.post("/limited/<int:limit>")
def limit_body(limit):
    request.max_content_length = limit
    return {"size": len(request.get_data())}


@app.route("/form", methods=["GET", "POST", "PUT"])
def show_form():
    files = {
        name: [
            {
                "filename": file.filename,
                "type": file.content_type,
                "headers": list(file.headers),
                "sha": hashlib.sha256(data := file.read()).hexdigest(),
                "size": len(data),
            }
            for file in request.files.getlist(name)
        ]
        for name in request.files
    }
    lengths = {name: len(value) for name, value in request.form.items()}
    return {
        "form": [(name, value[:50]) for name, value in request.form.items(multi=True)],
        "lengths": lengths,
        "files": files,
        "values": [name for name, _ in request.values.items(multi=True)],
    }


@app.post("/form/key")
def form_key():
    return request.form["key"]


@app.post("/form/file")
def save_file():
    target = io.BytesIO()
    request.files["file"].save(target)
    return send_file(io.BytesIO(target.getvalue()), download_name=request.files["file"].filename)


# JSON


@dataclasses.dataclass
class Point:
    x: int
    y: int


@app.route("/json", methods=["GET", "POST"])
def show_json():
    return jsonify(got=request.get_json())


@app.post("/json/<how>")
def lenient_json(how):
    return [request.get_json(**{how: True}), request.is_json]


@app.get("/json-values")
def json_values():
    when = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    ident = uuid.UUID(int=7)
    values = {"when": when, "day": date(2020, 1, 2), "id": ident, "money": Decimal("1.50"), "point": Point(1, 2)}
    return {**values, "b": None, "a": [1, 2.5, True], "text": "grün ☃ </script>", "html": Markup("<b>")}


@app.get("/json-forms/<form>")
def json_forms(form):
    forms = {"list": [1, "two"], "empty": {}, "args": jsonify(1, 2), "none": jsonify(None), "text": jsonify("ü")}
    return forms[form]


# What views return


class TextResponse(Response):
    default_mimetype = "text/plain"
    charset = "utf-8"


def wsgi_page(environ, start_response):
    start_response("202 Accepted", [("Content-Type", "text/plain"), ("X-From", "wsgi")])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode()]


RETURNS = {
    "str": lambda: "grün ☃",
    "bytes": lambda: b"by\x00tes\xff",
    "bytearray": lambda: bytearray(b"array"),
    "empty": lambda: "",
    "status": lambda: ("made", 201),
    "status-text": lambda: ("so so", "299 So So"),
    "headers": lambda: ("text", {"X-A": "1", "Content-Type": "text/plain"}),
    "header-list": lambda: ("text", [("X-A", "1"), ("X-A", "2")]),
    "all": lambda: ("text", 203, {"X-A": "é"}),
    "dict": lambda: {"b": 1, "a": "ü"},
    "list": lambda: [1, {"a": None}],
    "dict-status": lambda: ({"error": "no"}, 402),
    "response": lambda: Response("own", 206, mimetype="text/css"),
    "response-in-tuple": lambda: (Response("own", 206, {"X-A": "1"}), 207, {"X-B": "2"}),
    "custom-class": lambda: TextResponse("own class"),
    "subclass-in-tuple": lambda: (TextResponse("own"), {"X-B": "2"}),
    "wsgi": lambda: wsgi_page,
    "exception": lambda: NotFound("as a value"),
    "generator": lambda: (piece for piece in ("a", "ü", "c")),
    "iterator": lambda: iter([b"one", b"two"]),
    "no-content": lambda: ("", 204),
    "no-content-body": lambda: ("ignored", 204),
    "not-modified": lambda: ("ignored", 304, {"ETag": '"x"'}),
    "reset-content": lambda: ("", 205),
    "none": lambda: None,
    "number": lambda: 7,
    "long-tuple": lambda: ("a", 200, {}, 4),
    "bad-status": lambda: ("text", 999),
    "made": lambda: make_response("made", 201, {"X-Made": "yes"}),
    "markup": lambda: Markup("<b>bold</b>"),
    "json-etag": lambda: with_etag(jsonify(a=1)),
    "direct": lambda: Response([b"a", b"b"], direct_passthrough=True),
    "pieces": lambda: Response(["a", b"b", "ü"]),
    "cached": lambda: with_cache_headers(make_response("cached")),
    "content-length": lambda: Response("12345", headers={"Content-Length": "5"}),
    "charset": lambda: Response("grün".encode("latin-1"), content_type="text/plain; charset=latin-1"),
    "no-type": lambda: without_type(Response(b"raw")),
    "big": lambda: "0123456789abcdef" * 20_000,
}


def with_etag(response):
    response.add_etag()
    return response.make_conditional(request)


def with_cache_headers(response):
    response.cache_control.public = True
    response.cache_control.max_age = 60
    response.vary.update(["Accept", "Accept-Language"])
    response.content_language.add("de")
    response.last_modified = CHANGED
    response.expires = CHANGED
    response.age = timedelta(seconds=3)
    response.retry_after = 12
    response.allow.update(["GET"])
    response.content_location = "/straße"
    return response


def without_type(response):
    del response.headers["Content-Type"]
    return response


@app.route("/returns/<kind>", methods=["GET", "POST"])
def returns(kind):
    return RETURNS[kind]()


@app.get("/status/<int:code>")
def status(code):
    return f"status {code}", code


@app.get("/basic-auth")
def basic_auth():
    login = request.authorization
    if login is None or (login.username, login.password) != ("ann", "pässword"):
        return "who?", 401, {"WWW-Authenticate": 'Basic realm="here"'}
    return f"hello {login.username}"


# Errors


class Broken(Exception):
    pass


class Closed(Broken):
    pass


@app.errorhandler(418)
def teapot(error):
    return f"app: {error.name}: {error.description}", 418, {"X-Handler": "app"}


@app.errorhandler(Broken)
def broken(error):
    return {"broken": type(error).__name__, "args": list(error.args)}, 409


@app.errorhandler(BuildError)
def no_url(error):
    return f"no URL for {error.endpoint}", 500


@app.errorhandler(413)
def too_large(error):
    return "too large for the app", 413


@app.get("/abort/<int:code>")
def abort_with(code):
    abort(code, **({"description": request.args["why"]} if "why" in request.args else {}))


@app.get("/abort-response")
def abort_response():
    abort(make_response("aborted", 299, {"X-A": "1"}))


@app.get("/raise/<name>")
def raise_error(name):
    raise {"broken": Broken("one", 2), "closed": Closed("x"), "key": KeyError("k"), "value": ValueError("v")}[name]


@app.get("/late-error")
def late_error():
    @after_this_request
    def fail(response):
        raise Broken("after")

    return "lost"


# URLs


@app.get("/int/<int:n>")
@app.get("/int/short/<int(fixed_digits=3):n>")
@app.get("/int/range/<int(min=3, max=9):n>")
@app.get("/int/signed/<int(signed=True):n>")
@app.get("/float/<float:n>")
@app.get("/float/signed/<float(signed=True):n>")
@app.get("/uuid/<uuid:n>")
@app.get("/any/<any(red, 'dark green'):n>")
@app.get("/two/<string(length=2):n>")
@app.get("/word/<string(minlength=2, maxlength=4):n>")
@app.get("/list/<list:n>")
@app.get("/text/<n>")
@app.get("/deep/<path:n>")
def converted(n):
    return f"{type(n).__name__} {n!r} by {request.url_rule}"


@app.get("/year/<int:year>/<int:month>/")
@app.get("/year/<int:year>/", defaults={"month": 1})
def calendar(year, month):
    return f"{year}-{month} {url_for('calendar', year=year, month=1)}"


@app.get("/folder/")
def folder():
    return "folder"


@app.get("/leaf")
def leaf():
    return "leaf"


@app.get("/relaxed", strict_slashes=False)
def relaxed():
    return "relaxed"


@app.get("/moved/<int:n>", redirect_to="/int/<n>")
def moved(n):
    return "never"


@app.route("/grün/<name>")
def unicode_path(name):
    return f"{name} {request.path} {url_for('unicode_path', name=name)} {request.url}"


@app.get("/urls")
def urls():
    return [
        url_for("echo"),
        url_for("echo", rest="a b/ü"),
        url_for("echo", q=["1", "2"], empty="", none=None),
        url_for("echo", _external=True),
        url_for("echo", _scheme="https"),
        url_for("echo", _anchor="ä b", _method="POST"),
        url_for("static", filename="css/site.css"),
        url_for("shop.item", item=3, lang="de"),
        url_for("shop.parts.part", lang="de", name="a/b"),
        url_for(".urls", _external=True),
        url_for("converted", n=uuid.UUID(int=1)),
        app.redirect("/x").location,
        url_for("unicode_path", name="ß"),
    ]


@app.get("/urls/none")
def no_such_url():
    return url_for("nothing.here", a=1)


@app.get("/redirect/<int:code>")
def redirect_with(code):
    return redirect(request.args.get("to", "/leaf"), code)


@app.get("/redirect-absolute")
def redirect_absolute():
    return redirect(url_for("leaf", _external=True, q="ü"))


# State


@app.route("/session/<action>", methods=["GET", "POST"])
def use_session(action):
    actions = {
        "show": lambda: dict(sorted(session.items())),
        "set": lambda: session.update(request.args.to_dict()),
        "pop": lambda: session.pop(request.args["name"], "nothing"),
        "clear": session.clear,
        "count": lambda: session.__setitem__("count", session.get("count", 0) + 1),
        "permanent": lambda: setattr(session, "permanent", True),
        "fleeting": lambda: setattr(session, "permanent", False),
        "nest": lambda: session.setdefault("nest", []).append(1),
        "nest-modified": lambda: (session.setdefault("nest", []).append(1), setattr(session, "modified", True)),
        "read": lambda: session.get("count"),
        "untouched": lambda: "not used",
        "flags": lambda: [session.new, session.modified, session.accessed, session.permanent],
    }
    return jsonify(actions[action]())


@app.get("/session/types")
def session_types():
    session["tuple"] = (1, "two", b"\x00\xff")
    session["when"] = CHANGED
    session["id"] = uuid.UUID(int=5)
    session["markup"] = Markup("<i>")
    session["dict"] = {" t": 1}
    return "stored"


@app.get("/session/types/back")
def session_types_back():
    return repr([session[name] for name in ("tuple", "when", "id", "markup", "dict")])


@app.get("/session/big")
def big_session():
    session["big"] = "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(30))
    return "big"


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "GET":
        return render_template("login.html")
    if request.form["name"] != "ann":
        flash("Wrong <name>", "error")
        return redirect(url_for("login"))
    session["user"] = request.form["name"]
    flash("Welcome")
    flash(f"{session['user']} is in", "info")
    return redirect(url_for("home"), 303)


@app.get("/logout")
def logout():
    session.pop("user", None)
    return redirect(url_for("home"))


@app.get("/flashes")
def flashes():
    by_category = get_flashed_messages(with_categories=True, category_filter=["error"])
    return {"errors": by_category, "again": get_flashed_messages()}


@app.get("/cookies/set")
def set_cookies():
    response = make_response("set")
    response.set_cookie("plain", "value")
    response.set_cookie("odd", 'a "b"; ü,=')
    response.set_cookie("long", "v", max_age=timedelta(days=1), expires=CHANGED, path="/x", domain="site.test")
    response.set_cookie("strict", "v", secure=True, httponly=True, samesite="Strict", partitioned=True)
    response.set_cookie("plain", "again", max_age=0)
    return response


@app.get("/cookies/delete")
def delete_cookies():
    response = make_response("deleted")
    response.delete_cookie("plain")
    response.delete_cookie("odd", path="/x", domain="site.test", secure=True, httponly=True, samesite="Lax")
    return response


@app.get("/cookies/show")
def show_cookies():
    return list(request.cookies.items(multi=True))


# Streams and files


@app.get("/stream/<kind>")
def stream(kind):
    def fail_late():
        yield "a part"
        raise RuntimeError("in the middle")

    def fail_early():
        raise RuntimeError("before the first piece")
        yield ""

    def with_request():
        for name in ("path", "method"):
            yield f"{name}={getattr(request, name)} "
        yield session.get("user", "nobody")

    kinds = {
        "text": lambda: Response(f"piece {n} ü\n" for n in range(5)),
        "bytes": lambda: Response((b"%d" % n * 40_000 for n in range(9)), mimetype="application/x-digits"),
        "empty": lambda: Response(iter(())),
        "blanks": lambda: Response(iter(["", "a", "", b"", "b", ""])),
        "length": lambda: Response(iter(["123", "45"]), headers={"Content-Length": "5"}),
        "request": lambda: Response(stream_with_context(with_request())),
        "template": lambda: stream_template("rows.html", rows=range(50)),
        "late": lambda: Response(fail_late()),
        "early": lambda: Response(fail_early()),
        "status": lambda: (iter(["made"]), 201, {"X-A": "1"}),
    }
    return kinds[kind]()


@app.get("/file/<kind>")
def file(kind):
    data = io.BytesIO(b"0123456789" * 10)
    big = Path(app.root_path, "static", "big.bin")
    kinds = {
        "memory": lambda: send_file(data, mimetype="text/plain"),
        "conditional": lambda: send_file(data, "text/plain", etag="fixed", last_modified=CHANGED),
        "attachment": lambda: send_file(data, as_attachment=True, download_name="grün ☃ 'a'.txt"),
        "max-age": lambda: send_file(data, "text/plain", max_age=3600),
        "path": lambda: send_file("static/css/site.css"),
        "big": lambda: send_file(big, as_attachment=True),
        "no-etag": lambda: send_file(big, etag=False, conditional=False),
        "missing": lambda: send_file("static/nothing.txt"),
        "nameless": lambda: send_file(data),
    }
    return kinds[kind]()


@app.get("/download/<path:name>")
def download(name):
    return send_from_directory("static", name, as_attachment="save" in request.args)


# Pages


@app.context_processor
def add_names():
    return {"site": "The <Site>", "shout": lambda text: text.upper()}


@app.template_filter("backwards")
def backwards(text):
    return text[::-1]


@app.template_test("short")
def is_short(text):
    return len(text) < 5


@app.template_global()
def twice(text):
    return text * 2


@app.get("/")
def home():
    return render_template("home.html", items=["<one>", "two", "drei ü"])


@app.get("/page/<name>")
def page(name):
    return render_template([f"{name}.html", "fallback.html"], name=name)


@app.get("/template-text")
def template_text():
    g.value = "<g>"
    return render_template_string("{{ g.value }} {{ request.path }} {{ config.SECRET_KEY|length }} {{ '<b>' }}")


@app.get("/template-macro")
def template_macro():
    return get_template_attribute("macros.html", "field")("na<me", "text")


@app.get("/template-missing")
def template_missing():
    return render_template("nowhere.html")


# Classes of views


class Notes(MethodView):
    init_every_request = False
    decorators = (lambda view: lambda **kwargs: (view(**kwargs), {"X-Decorated": "yes"}),)

    def get(self, key="all"):
        return f"get {key}"

    def post(self, key="all"):
        return f"post {key} {request.get_data(as_text=True)}"

    def delete(self, key="all"):
        return f"delete {key}"


class Shout(View):
    methods = ("GET", "PUT")

    def __init__(self, word):
        self.word = word

    def dispatch_request(self):
        return f"{request.method} {self.word}"


notes = Notes.as_view("notes")
app.add_url_rule("/notes/", view_func=notes)
app.add_url_rule("/notes/<key>", view_func=notes)
app.add_url_rule("/shout", view_func=Shout.as_view("shout", "HEY"))


@app.route("/own-options", methods=["GET", "OPTIONS"])
def own_options():
    return f"own {request.method}", {"X-Own": "1"}


@app.route("/no-options", provide_automatic_options=False)
def no_options():
    return "no options"


@app.route("/head", methods=["HEAD"])
def head_only():
    return "not seen", {"X-Head": "1"}


@app.post("/both")
def both_post():
    return "by POST"


@app.get("/both")
def both_get():
    return "by GET"


# Hooks; a request with X-Trace leaves a trace to be asked for later


TRACES = defaultdict(list)


@app.before_request
def begin():
    g.trace = TRACES[request.headers["X-Trace"]] if "X-Trace" in request.headers else []
    g.trace.append(f"before {request.endpoint}")
    if "X-Stop" in request.headers:
        return f"stopped before {request.endpoint}", 503
    if "X-Fail" in request.headers:
        raise Broken("in the hook")
    return None


@app.after_request
def add_header(response):
    g.setdefault("trace", []).append(f"after {response.status_code}")
    response.headers["X-After"] = f"{request.method} {response.status_code}"
    return response


@app.teardown_request
def end_request(error):
    g.trace.append(f"teardown {error!r} {request.path}")
    if "X-Fail-Late" in request.headers:
        raise Broken("in the teardown")


@app.teardown_appcontext
def end(error):
    g.trace.append(f"end {error!r} {current_app.name}")


@app.get("/trace/<token>")
def trace(token):
    return TRACES[token]


@app.get("/after-this")
def after_this():
    for number in range(3):

        @after_this_request
        def add(response, number=number):
            response.headers.add("X-Number", str(number))
            return response

    return "numbered"


@app.get("/identity")
def identity():
    """Which framework this is, and by which way the request came."""
    return {"file": flask.__file__, "asgi": "asgi.scope" in request.environ, "debug": app.debug}


# Blueprints


shop = Blueprint("shop", __name__, url_prefix="/<lang>/shop", template_folder="shop", static_folder="static/css")
parts = Blueprint("parts", __name__, url_prefix="/parts")


@shop.url_value_preprocessor
def take_lang(endpoint, values):
    g.lang = (values or {}).pop("lang", "none")


@shop.url_defaults
def give_lang(endpoint, values):
    if "lang" in g:
        values.setdefault("lang", g.lang)


@shop.before_request
def shop_before():
    g.trace.append("before shop")


@shop.after_request
def shop_after(response):
    response.headers["X-Shop"] = g.lang
    return response


@shop.teardown_request
def shop_teardown(error):
    g.trace.append(f"teardown shop {error!r}")


@shop.context_processor
def shop_names():
    return {"lang": g.lang}


@shop.errorhandler(404)
def shop_missing(error):
    return f"shop: {error.description}", 404


@shop.errorhandler(Closed)
def shop_closed(error):
    return "shop is closed", 503


@shop.errorhandler(500)
def shop_failed(error):
    return f"shop failed: {error.original_exception!r}", 500


@shop.get("/")
def shop_home():
    return render_template("items.html", links=[url_for(".item", item=n) for n in range(3)])


@shop.get("/item/<int:item>")
def item(item):
    if item > 9:
        abort(404, "No such item")
    return f"{g.lang} {item} {request.blueprint} {request.blueprints} {url_for('.shop_home')}"


@shop.get("/fail/<how>")
def shop_fail(how):
    raise {"closed": Closed, "broken": Broken, "value": ValueError}[how](how)


@parts.before_request
def parts_before():
    g.trace.append("before parts")


@parts.errorhandler(HTTPException)
def parts_error(error):
    return jsonify(code=error.code, name=error.name), error.code


@parts.get("/<path:name>")
def part(name):
    if name == "gone":
        abort(410)
    return f"part {name} {request.endpoint} {url_for('.part', name='x')} {url_for('shop.shop_home')}"


shop.register_blueprint(parts)
app.register_blueprint(shop)
app.register_blueprint(parts, name="spares", url_prefix="/spares")
