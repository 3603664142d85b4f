"""A site in plain Flask behind WSGI middleware: ProxyFix, and around it two layers that tell of themselves."""

from __future__ import annotations

import flask
from flask import Flask, Response, redirect, request, session, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.config["SECRET_KEY"] = "the same everywhere"


class Layer:
    """Middleware that notes its name on the way in and on the way out."""

    def __init__(self, wrapped, name):
        self.wrapped = wrapped
        self.name = name

    def __call__(self, environ, start_response):
        environ["layers"] = [*environ.get("layers", ()), self.name]

        def start(status, headers, exc_info=None):
            return start_response(status, [*headers, ("X-Layer", self.name)], exc_info)

        return self.wrapped(environ, start)


app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
app.wsgi_app = Layer(app.wsgi_app, "inner")
app.wsgi_app = Layer(app.wsgi_app, "outer")


@app.route("/seen", methods=["GET", "POST"])
def seen():
    names = ("url", "base_url", "host_url", "host", "scheme", "is_secure", "remote_addr", "script_root", "path")
    shown = {name: getattr(request, name) for name in names}
    links = [url_for("seen"), url_for("seen", _external=True), url_for("static", filename="css/site.css")]
    return {**shown, "links": links, "layers": request.environ["layers"], "body": request.get_data(as_text=True)}


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return f"{session['count']}"


@app.get("/folder/")
def folder():
    return redirect(url_for("count"))


@app.get("/stream")
def stream():
    return Response(f"{number} {layer}\n" for number, layer in enumerate(request.environ["layers"]))


@app.get("/fail")
def fail():
    raise ValueError("fail")


@app.get("/identity")
def identity():
    """Which framework this is, and by which way the request came."""
    return {"file": flask.__file__, "asgi": "asgi.scope" in request.environ, "debug": app.debug}
