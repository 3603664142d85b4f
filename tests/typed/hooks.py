"""Hooks of every kind, sync and async, on an application and on a blueprint. A decorator keeps its function's type."""

# pyright: strict
from __future__ import annotations

import typing as t
from collections.abc import Callable

from werkzeug.exceptions import HTTPException, NotFound

from asyncflask import Blueprint, Flask, Response, after_this_request, g, nonblocking, redirect
from asyncflask.typing import ResponseReturnValue

app = Flask(__name__)
bp = Blueprint("bp", __name__)


class OutOfStock(Exception):
    item: str


@app.before_request
@bp.before_request
@bp.before_app_request
def start() -> None:
    g.started = 1


@app.before_request
@bp.before_request
@bp.before_app_request
async def refuse() -> ResponseReturnValue | None:
    return {"error": "closed"}, 503


@app.before_request
def greet() -> str | None:
    return None


@app.before_request
@nonblocking
def count() -> None: ...


@app.after_request
@bp.after_request
@bp.after_app_request
def sign(response: Response) -> Response:
    response.headers["X-Signed"] = "yes"
    return response


@app.after_request
@bp.after_request
@bp.after_app_request
async def sign_later(response: Response) -> Response:
    return response


@app.teardown_request
@app.teardown_appcontext
@bp.teardown_request
@bp.teardown_app_request
def release(error: BaseException | None) -> None: ...


@app.teardown_request
@app.teardown_appcontext
@bp.teardown_request
@bp.teardown_app_request
async def release_later(error: BaseException | None) -> None: ...


@app.context_processor
@bp.context_processor
@bp.app_context_processor
def add_user() -> dict[str, t.Any]:
    return {"user": "ann"}


@app.context_processor
@bp.context_processor
@bp.app_context_processor
async def add_basket() -> dict[str, t.Any]:
    return {"basket": []}


@app.url_value_preprocessor
@bp.url_value_preprocessor
@bp.app_url_value_preprocessor
def take_language(endpoint: str | None, values: dict[str, t.Any] | None) -> None:
    g.language = values.pop("language", "en") if values else "en"


@app.url_value_preprocessor
@bp.url_value_preprocessor
@bp.app_url_value_preprocessor
async def take_tenant(endpoint: str | None, values: dict[str, t.Any] | None) -> None: ...


@app.url_defaults
@bp.url_defaults
@bp.app_url_defaults
def give_language(endpoint: str, values: dict[str, t.Any]) -> None:
    values.setdefault("language", g.language)


@app.errorhandler(404)
@app.errorhandler(NotFound)
@bp.errorhandler(404)
@bp.app_errorhandler(404)
def explain(error: NotFound) -> tuple[str, int]:
    return str(error.description), 404


@app.errorhandler(OutOfStock)
@bp.errorhandler(OutOfStock)
@bp.app_errorhandler(OutOfStock)
async def apologise(error: OutOfStock) -> tuple[dict[str, str], int]:
    return {"missing": error.item}, 409


@app.errorhandler(HTTPException)
def pass_on(error: HTTPException) -> HTTPException | tuple[str, int]:
    return error


def log_in_again(error: Exception) -> ResponseReturnValue:
    return redirect("/login")


app.register_error_handler(401, log_in_again)
bp.register_error_handler(OutOfStock, apologise)


@app.template_filter()
@bp.app_template_filter("shout")
def shout(text: str) -> str:
    return text.upper()


@app.template_test("even")
@bp.app_template_test()
def is_even(number: int) -> bool:
    return number % 2 == 0


@app.template_global()
@bp.app_template_global(name="now")
def now() -> float:
    return 0.0


app.add_template_filter(shout, "loud")
bp.add_app_template_global(now)


@app.shell_context_processor
def add_models() -> dict[str, t.Any]:
    return {"OutOfStock": OutOfStock}


@app.route("/")
def view() -> str:
    @after_this_request
    def forget(response: Response) -> Response:
        response.delete_cookie("visit")
        return response

    forget(Response())
    return ""


async def list_connections() -> list[str]:
    return []


waiting: Callable[[], list[str]] = app.ensure_sync(list_connections)

t.assert_type(start, Callable[[], None])
t.assert_type(explain(NotFound()), tuple[str, int])
t.assert_type(shout("a"), str)
t.assert_type(is_even(2), bool)
t.assert_type(add_user(), dict[str, t.Any])
t.assert_type(release(None), None)


async def call_them() -> None:
    t.assert_type(await refuse(), ResponseReturnValue | None)
    t.assert_type(await sign_later(Response()), Response)
    t.assert_type(await add_basket(), dict[str, t.Any])
    t.assert_type(await apologise(OutOfStock()), tuple[dict[str, str], int])
