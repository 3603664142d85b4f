"""Views of every kind: functions and classes, sync and async, and all that they may return."""

# pyright: strict
from __future__ import annotations

import typing as t
from collections.abc import Callable
from http import HTTPStatus

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response as BaseResponse

from asyncflask import (
    Blueprint,
    Flask,
    Response,
    abort,
    flash,
    get_flashed_messages,
    jsonify,
    make_response,
    nonblocking,
    redirect,
    render_template,
    render_template_string,
    request,
    send_file,
    session,
    url_for,
)
from asyncflask.typing import ResponseReturnValue
from asyncflask.views import MethodView, View

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

app = Flask(__name__, static_folder=None)
bp = Blueprint("shop", __name__, url_prefix="/shop")


class Item(t.TypedDict):
    name: str
    price: float


@app.get("/")
@bp.get("/")
def show() -> str:
    return render_template("index.html", items=[])


@app.post("/items")
@bp.post("/items")
async def create() -> tuple[Item, int]:
    data = request.get_json()
    item: Item = {"name": str(data["name"]), "price": float(data["price"])}
    return item, HTTPStatus.CREATED


@app.route("/items", methods=["GET"], endpoint="list")
@bp.route("/items", methods=["GET"], endpoint="list")
async def list_items() -> list[Item]:
    return []


@app.put("/items/<int:number>")
@bp.put("/items/<int:number>")
def replace(number: int) -> tuple[dict[str, int], int, dict[str, str]]:
    return {"id": number}, 200, {"X-Replaced": "yes"}


@app.patch("/items/<int:number>")
@bp.patch("/items/<int:number>")
async def change(number: int) -> Response:
    return jsonify(id=number)


@app.delete("/items/<int:number>")
@bp.delete("/items/<int:number>")
async def remove(number: int) -> tuple[str, int]:
    if not session.get("admin"):
        abort(403)
    flash("Removed", "info")
    return "", HTTPStatus.NO_CONTENT


@app.route("/old")
def move() -> BaseResponse:
    return redirect(url_for("list", _external=True), code=301)


@app.route("/raw")
async def raw() -> bytes:
    return request.get_data()


@app.route("/file")
def download() -> Response:
    return send_file("report.pdf", as_attachment=True)


@app.route("/headers")
async def with_headers() -> tuple[str, Headers]:
    return render_template_string("{{ 1 }}"), Headers({"X-One": "1"})


@app.route("/made")
def made() -> Response:
    response = make_response("made", 201)
    response.set_cookie("made", "yes")
    return response


@app.route("/any")
async def any_of_them() -> ResponseReturnValue:
    if request.args.get("page", type=int):
        return {"messages": get_flashed_messages()}
    return "no page", 400


@app.route("/health")
@nonblocking
def check_health() -> dict[str, str]:
    return {"status": "ok"}


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


@app.route("/wsgi")
def call_wsgi() -> WSGIApplication:
    return answer


class Page(View):
    methods = ["GET", "POST"]  # noqa: RUF012  # as people write it

    def __init__(self, template: str) -> None:
        self.template = template

    def dispatch_request(self) -> str:
        return render_template(self.template)


class AsyncPage(View):
    init_every_request = False

    async def dispatch_request(self, number: int) -> ResponseReturnValue:
        return {"number": number}


class Items(MethodView):
    decorators = [nonblocking]  # noqa: RUF012  # as people write it

    def get(self, number: int) -> Item:
        return {"name": f"{number}", "price": 1}

    async def post(self, number: int) -> tuple[str, int]:
        return "", 201


app.add_url_rule("/page", view_func=Page.as_view("page", "page.html"))
app.add_url_rule("/page/<int:number>", view_func=AsyncPage.as_view("async_page"))
bp.add_url_rule("/items/<int:number>", view_func=Items.as_view("items"))
app.add_url_rule("/late", "late", show, methods=["GET"])
app.register_blueprint(bp, url_prefix="/second", name="second")


@app.endpoint("by_name")
async def by_name() -> str:
    return ""


t.assert_type(show, Callable[[], str])
t.assert_type(replace(1), tuple[dict[str, int], int, dict[str, str]])
t.assert_type(check_health, Callable[[], dict[str, str]])


async def call_them() -> None:
    t.assert_type(await by_name(), str)
    t.assert_type(await change(1), Response)
    t.assert_type(await list_items(), list[Item])
