"""Code that both type checkers must refuse, and only where it says so: the code of mypy, the rule of pyright."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator

from asyncflask import Blueprint, Flask, Response, current_app, render_template, request
from asyncflask.views import View

app = Flask(__name__)
bp = Blueprint("bp", __name__)


@app.route("/int")  # error: type-var reportArgumentType
def returns_int() -> int:
    return 1


@bp.get("/int")  # error: type-var reportArgumentType
async def returns_int_async() -> int:
    return 1


@app.route("/nothing")  # error: type-var reportArgumentType
def returns_nothing() -> None: ...


@app.route("/numbers")  # error: type-var reportArgumentType
async def streams_numbers() -> AsyncIterator[int]:
    yield 1


@app.route("/status")  # error: type-var reportArgumentType
def returns_text_for_status() -> tuple[str, str]:
    return "", "200 OK"


@app.route("/body")
async def awaits_body() -> str:
    form = await request.form  # error: misc reportGeneralTypeIssues
    data = await request.get_data()  # error: misc reportGeneralTypeIssues
    return f"{form}{data!r}"


app.add_url_rule("/number", view_func=lambda: 1)  # error: arg-type reportArgumentType
app.route(1)  # error: arg-type reportArgumentType


@app.before_request  # error: type-var reportArgumentType
def before_takes_something(number: int) -> None: ...


@bp.before_app_request  # error: type-var reportArgumentType
async def before_returns_int() -> int:
    return 1


@app.after_request  # error: type-var reportArgumentType
def after_forgets(response: Response) -> None: ...


@bp.after_request  # error: type-var reportArgumentType
async def after_takes_nothing() -> Response:
    return Response()


@app.teardown_request  # error: type-var reportArgumentType
def teardown_takes_nothing() -> None: ...


@app.teardown_appcontext  # error: type-var reportArgumentType
async def teardown_takes_text(error: str) -> None: ...


@app.context_processor  # error: type-var reportArgumentType
async def context_is_list() -> list[str]:
    return []


@app.url_value_preprocessor  # error: type-var reportArgumentType
def preprocess_takes_nothing() -> None: ...


@bp.url_defaults  # error: type-var reportArgumentType
def defaults_take_one(endpoint: str) -> None: ...


@app.errorhandler(404)  # error: type-var reportArgumentType
async def handler_returns_int(error: Exception) -> int:
    return 1


@bp.app_errorhandler(404)  # error: type-var reportArgumentType
def handler_takes_nothing() -> str:
    return ""


@app.errorhandler("404")  # error: arg-type reportArgumentType
def handles_text(error: Exception) -> str:
    return ""


@app.template_test()  # error: type-var reportArgumentType
def is_text() -> str:
    return ""


class Page(View):
    async def dispatch_request(self) -> int:  # error: override reportIncompatibleMethodOverride
        return 1


async def awaits_sync() -> None:
    await render_template("index.html")  # error: misc reportGeneralTypeIssues


app.before_first_request  # error: attr-defined reportAttributeAccessIssue  # noqa: B018
t.assert_type(current_app.config, dict[str, t.Any])  # error: assert-type reportAssertTypeFailure
