"""What the proxies, an application and its test client are to a type checker."""

# pyright: strict
from __future__ import annotations

import hashlib
import logging
import typing as t
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from werkzeug.datastructures import FileStorage

from asyncflask import (
    Config,
    Flask,
    Request,
    Response,
    copy_current_request_context,
    current_app,
    g,
    get_flashed_messages,
    json,
    render_template,
    request,
    session,
    template_rendered,
    url_for,
)
from asyncflask.ctx import AppContext, RequestContext
from asyncflask.json.tag import JSONTag
from asyncflask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionInterface, SessionMixin
from asyncflask.testing import FlaskClient, FlaskCliRunner
from asyncflask.typing import ASGIApp, BeforeRequestCallable, ResponseReturnValue, RouteCallable

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def read_request() -> None:
    t.assert_type(request, Request)
    t.assert_type(request.method, str)
    t.assert_type(request.path, str)
    t.assert_type(request.args.get("page"), str | None)
    t.assert_type(request.args.get("page", 1, type=int), int)
    t.assert_type(request.form["name"], str)
    t.assert_type(request.files["upload"], FileStorage)
    t.assert_type(request.endpoint, str | None)
    t.assert_type(request.blueprint, str | None)
    t.assert_type(request.blueprints, list[str])
    t.assert_type(request.view_args, dict[str, t.Any] | None)
    t.assert_type(request.max_content_length, int | None)
    t.assert_type(request.get_data(as_text=True), str)


async def read_request_async() -> None:
    t.assert_type(request.headers.get("Accept"), str | None)
    t.assert_type(request.form.getlist("name"), list[str])


def use_item(name: str, **more: int) -> list[str]:
    return [name]


async def read_json() -> dict[str, int]:
    """What `get_json` gives is Any, as in Flask."""
    data = request.get_json()
    items: list[dict[str, str]] = request.get_json(force=True)
    name: str = data["name"] + data[0].title() + data.get("title", "").lower()
    use_item(name, **data)
    for item in request.json:
        use_item(item["name"])
    if data is None or "name" not in data:
        return {name: len(items)}
    if not isinstance(data, list):
        known: dict[str, int] = data
        return known
    number: float = request.get_json()
    perhaps: dict[str, int] | None = request.get_json(silent=True)
    return perhaps or {"number": int(number)}


def read_session() -> None:
    t.assert_type(session, SessionMixin)
    session["user"] = session.pop("guest", None)
    t.assert_type(session.permanent, bool)
    t.assert_type(session.new, bool)
    session.permanent = True
    session.modified = True


def read_g() -> None:
    g.user = "ann"
    name: str = g.get("user", "nobody")
    assert "user" in g
    g.pop("user")
    g.setdefault(name, [])


def read_app() -> None:
    t.assert_type(current_app, Flask)
    t.assert_type(current_app.config, Config)
    t.assert_type(current_app.logger, logging.Logger)
    t.assert_type(current_app.debug, bool)
    t.assert_type(current_app.testing, bool)
    t.assert_type(current_app.secret_key, str | bytes | None)
    t.assert_type(current_app.permanent_session_lifetime, timedelta)
    t.assert_type(current_app.session_interface, SessionInterface)
    t.assert_type(current_app.static_folder, str | None)
    t.assert_type(current_app.url_for("index"), str)
    t.assert_type(url_for("index", page=2), str)
    t.assert_type(render_template("index.html"), str)
    t.assert_type(json.dumps({}), str)
    t.assert_type(current_app.json.dumps({}), str)
    current_app.ensure_sync(read_request_async)()
    get_flashed_messages(category_filter=["error"])


T_route = t.TypeVar("T_route", bound=RouteCallable)
T_before_request = t.TypeVar("T_before_request", bound=BeforeRequestCallable)


class Settings:
    PORT = 80


class JSONRequest(Request):
    def on_json_loading_failed(self, e: ValueError | None) -> dict[str, t.Any]:
        return {}


class Shop(Flask):
    request_class = JSONRequest
    response_class = Response

    def select_jinja_autoescape(self, filename: str | None) -> bool:
        return True

    def route(self, rule: str, **options: t.Any) -> Callable[[T_route], T_route]:
        return super().route(f"/shop{rule}", **options)

    def before_request(self, f: T_before_request) -> T_before_request:
        return super().before_request(f)

    def handle_exception(self, e: Exception) -> Response:
        return super().handle_exception(e)

    def log_exception(self, exc_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None]) -> None:
        self.logger.critical("failed", exc_info=exc_info)

    def make_response(self, rv: ResponseReturnValue) -> Response:
        return super().make_response(rv)


class TagSettings(JSONTag):
    key = " settings"

    def check(self, value: t.Any) -> bool:
        return isinstance(value, Settings)

    def to_json(self, value: t.Any) -> t.Any:
        return value.PORT

    def to_python(self, value: t.Any) -> t.Any:
        return Settings()


class LongerDigest(SecureCookieSessionInterface):
    digest_method = staticmethod(hashlib.sha256)
    salt = "shop"


class Ledger(SessionInterface):
    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        return SecureCookieSession({"opened": True})

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        response.set_cookie(self.get_cookie_name(app), str(session.get("opened")))


def configure(app: Flask) -> None:
    app.secret_key = "key"
    app.permanent_session_lifetime = timedelta(days=1)
    app.config["PORT"] = 80
    app.config.from_object(Settings)
    app.config.from_mapping(PORT=80)
    app.extensions["shop"] = Settings()
    app.session_interface = Ledger()
    app.session_interface = LongerDigest()

    def note(sender: Flask, **values: t.Any) -> None: ...

    template_rendered.connect(note, app)


def serve(app: Flask) -> tuple[WSGIApplication, ASGIApp]:
    return app, app


def use_tools(app: Flask) -> None:
    client = app.test_client()
    t.assert_type(client, FlaskClient)
    t.assert_type(client.get("/").status_code, int)
    t.assert_type(client.post("/", json={}).get_data(as_text=True), str)
    with client.session_transaction() as transaction:
        transaction["user"] = 1
    with client as same:
        t.assert_type(same, FlaskClient)
    t.assert_type(app.test_cli_runner(), FlaskCliRunner)
    with app.app_context() as app_context:
        t.assert_type(app_context, AppContext)
    with app.test_request_context("/", method="POST") as request_context:
        t.assert_type(request_context, RequestContext)
        t.assert_type(request_context.request, Request)


async def use_tools_async(app: Flask) -> None:
    async with app.app_context() as context:
        t.assert_type(context.app, Flask)

    @copy_current_request_context
    async def work(number: int) -> str:
        return str(number)

    t.assert_type(await work(1), str)


configure(Shop(__name__))
