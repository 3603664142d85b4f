"""What the tests of security ask real servers for."""

from __future__ import annotations

import io
import typing as t

from asyncflask import Flask, Response, redirect, request, send_file, session, websocket
from asyncflask.views import MethodView

app = Flask("secured_site", static_folder="../contract/static")
app.config.update(SECRET_KEY="a secret key for the tests of security", WORKER_THREADS=4)


@app.get("/ping")
async def ping() -> str:
    return "pong"


@app.get("/seen/<path:path>")
def see(path: str) -> dict[str, t.Any]:
    return {
        "path": request.path,
        "host": request.host,
        "url": request.url,
        "args": list(request.args.items(True)),
        "user": request.headers.get("X-User"),
        "cookies": list(request.cookies),
        "size": len(request.headers.get("X-Name", "")),
    }


@app.get("/user/<name>/")
async def user(name: str) -> str:
    return name


@app.get("/file")
def send() -> Response:
    return send_file(io.BytesIO(b"body"), "text/plain")


@app.post("/size")
def size() -> str:
    return str(len(request.get_data()))


@app.post("/json")
async def read_json() -> t.Any:
    return {"seen": request.get_json()}


@app.post("/form")
def read_form() -> t.Any:
    return {"fields": len(request.form)}


@app.get("/session")
async def look() -> str:
    return str("name" in session)


MAKERS: dict[str, t.Callable[[str], t.Any]] = {
    "name": lambda bad: ("body", {bad: "value"}),
    "value": lambda bad: Response("body", headers=[("X-Name", bad)]),
    "status": lambda bad: ("body", f"200 {bad}"),
    "redirect": lambda bad: redirect(f"/{bad}"),
    "file": lambda bad: send_file(io.BytesIO(b"body"), download_name=f"{bad}.txt", as_attachment=True),
    "stream": lambda bad: Response(iter(["body"]), headers=[(bad, "value")]),
}


@app.get("/make/<place>")
def make(place: str) -> t.Any:
    return MAKERS[place](request.args["bad"])


class Things(MethodView):
    def get(self) -> str:
        return "get"

    def _helper(self) -> str:
        return "helper"


app.add_url_rule("/things", view_func=Things.as_view("things"))
app.config["WEBSOCKET_ORIGINS"] = "same-origin"


@app.websocket("/socket")
async def talk() -> None:
    await websocket.accept()
    await websocket.send("open")
