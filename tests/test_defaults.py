"""Safe defaults: what is bounded and what is warned of, without a word from the user."""

from __future__ import annotations

import io
import json
import logging
import typing as t

import pytest
from edge import Exchange
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix

from asyncflask import Flask, WebsocketDisconnect, request, session, websocket

MIB = 1024 * 1024
JSON = ("Content-Type", "application/json")


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def in_style(style: str, read: t.Callable[[], t.Any]) -> t.Any:
    async def view() -> t.Any:
        return read()

    return view if style == "async" else read


async def post(app: Flask, body: bytes, *headers: tuple[str, str], declared: bool = True) -> Exchange:
    length = ("Content-Length", str(len(body))) if declared else ("Transfer-Encoding", "chunked")
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    return await Exchange("POST", headers=[length, *headers], pieces=pieces).run(app)


class TestJson:
    @pytest.mark.parametrize("style", ["sync", "async"])
    @pytest.mark.parametrize("declared", [True, False])
    async def test_has_a_limit_over_asgi(self, app: Flask, style: str, declared: bool) -> None:
        most = 2 * MIB
        app.add_url_rule("/", "view", in_style(style, lambda: str(len(request.get_json()))), methods=["POST"])
        whole = await post(app, json.dumps("x" * (most - 2)).encode(), JSON, declared=declared)
        assert (whole.status, whole.text) == (200, str(most - 2))
        assert (await post(app, json.dumps("x" * (most - 1)).encode(), JSON, declared=declared)).status == 413

    async def test_the_limit_is_the_configurations(self, app: Flask) -> None:
        app.add_url_rule("/", "view", in_style("async", lambda: str(len(request.get_json()))), methods=["POST"])
        body = json.dumps("x" * 100_000).encode()
        app.config["MAX_JSON_SIZE"] = 90_000
        assert (await post(app, body, JSON)).status == 413
        app.config["MAX_JSON_SIZE"] = None
        assert (await post(app, body, JSON)).status == 200

    def test_has_none_under_wsgi(self, app: Flask) -> None:
        app.add_url_rule("/", "view", lambda: str(len(request.get_json())), methods=["POST"])
        assert app.test_client().post("/", json="x" * 9 * MIB).text == str(9 * MIB)

    async def test_nobody_takes_a_part_for_the_whole(self, app: Flask) -> None:
        """Of a chunked body that a sync view refused, an error handler has nothing."""
        seen: list[t.Any] = []

        @app.errorhandler(413)
        def look(error: Exception) -> t.Any:
            try:
                seen.append(len(request.get_data()))
            except RequestEntityTooLarge:
                seen.append("refused")
            return "too large", 413

        app.add_url_rule("/", "view", lambda: request.get_json(), methods=["POST"])
        assert (await post(app, json.dumps("x" * 3 * MIB).encode(), JSON, declared=False)).text == "too large"
        assert seen == ["refused"]

    @pytest.mark.parametrize("declared", [True, False])
    async def test_behind_wsgi_middleware(self, app: Flask, declared: bool) -> None:
        app.add_url_rule("/", "view", lambda: request.get_json(), methods=["POST"])
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
        body = json.dumps("x" * 3 * MIB).encode()
        assert (await post(app, body, JSON, declared=declared)).status == 413

    async def test_is_for_json_alone(self, app: Flask) -> None:
        """Neither for other bodies nor for what is parsed already."""
        seen: list[t.Any] = []

        @app.before_request
        def look() -> None:
            app.config["MAX_JSON_SIZE"] = None
            seen.append(len(request.get_json(silent=True) or ""))
            app.config["MAX_JSON_SIZE"] = 1000

        read = lambda: str(len(request.get_json(silent=True) or ""))  # noqa: E731
        app.add_url_rule("/", "view", in_style("async", read), methods=["POST"])
        assert (await post(app, b"x" * 100_000, ("Content-Type", "text/plain"))).text == "0"
        assert (await post(app, json.dumps("x" * 100_000).encode(), JSON)).text == "100000"
        assert seen == [0, 100_000]


class TestForms:
    """One that went to the disk is parsed before an async view begins, and is none the worse for it."""

    BODY = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n' + bytes(3 * MIB) + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'
    )
    TYPE = ("Content-Type", "multipart/form-data; boundary=b")

    async def ask(self, app: Flask, read: t.Callable[[], t.Any]) -> tuple[int, t.Any]:
        app.testing = True
        app.add_url_rule("/", "view", in_style("async", read), methods=["POST"])
        exchange = await post(app, self.BODY, self.TYPE)
        return exchange.status, exchange.text

    async def test_is_parsed_in_a_thread(self, app: Flask) -> None:
        files: list[t.Any] = []

        def read() -> str:
            files.append(request.files["f"])
            return f"{len(files[0].read())} {request.form['a']} {len(request.get_data())}"

        assert await self.ask(app, read) == (200, f"{3 * MIB} 1 0")
        assert files[0].closed

    async def test_who_wants_the_raw_body_has_it(self, app: Flask) -> None:
        assert await self.ask(app, lambda: str(len(request.get_data()))) == (200, str(len(self.BODY)))

    async def test_limits_of_the_view_hold(self, app: Flask) -> None:
        def read() -> str:
            request.max_form_parts = 1
            return str(len(request.files))

        assert (await self.ask(app, read))[0] == 413

    async def test_its_errors_are_the_views(self, app: Flask) -> None:
        app.config["MAX_FORM_PARTS"] = 1
        assert await self.ask(app, lambda: "not looked at") == (200, "not looked at")
        app = Flask(__name__)
        app.config["MAX_FORM_PARTS"] = 1
        assert (await self.ask(app, lambda: str(request.form)))[0] == 413


class TestWebsocket:
    @pytest.mark.parametrize("data", ["x" * 11, b"x" * 11])
    async def test_a_message_that_is_too_big(self, app: Flask, data: t.Any) -> None:
        app.config["WEBSOCKET_MAX_MESSAGE_SIZE"] = 10
        seen: list[t.Any] = []

        @app.websocket("/")
        async def view() -> None:
            try:
                while True:
                    seen.append(len(await websocket.receive()))
            except WebsocketDisconnect as error:
                seen.append(error.code)

        async with app.async_test_client().websocket("/") as connection:
            await connection.send(data[:10])
            await connection.send(data)
            with pytest.raises(WebsocketDisconnect) as caught:
                await connection.receive()
        assert (seen, caught.value.code) == ([10, 1009], 1009)


class TestSecretKey:
    @pytest.mark.parametrize("key", ["dev", b"0123456789abcde", b'_5#y2L"F4Q8z\n\xec]/'])
    def test_one_that_can_be_guessed_is_told_of_once(
        self, app: Flask, key: t.Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        app.secret_key = key
        app.add_url_rule("/", "view", lambda: str(session.setdefault("a", 1)))
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert app.test_client().get("/").text == "1"
        assert [record.message[:26] for record in caplog.records] == ["SECRET_KEY can be guessed,"]

    @pytest.mark.parametrize("kind", ["a good one", "none", "debug", "testing"])
    def test_there_is_nothing_to_tell(self, app: Flask, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        app.secret_key = {"a good one": "0123456789abcdef", "none": None}.get(kind, "dev")
        app.debug, app.testing = kind == "debug", kind == "testing"
        app.add_url_rule("/", "view", lambda: "")
        with caplog.at_level(logging.WARNING):
            app.test_client().get("/")
        assert caplog.records == []


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
async def test_a_500_that_cannot_be_sent_either(app: Flask, face: str, caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    @app.after_request
    def spoil(response: t.Any) -> t.Any:
        response.headers["X\nY"] = "1"
        response.call_on_close(lambda: closed.append(response.status[:3]))
        return response

    app.add_url_rule("/", "view", lambda: "fine")
    if face == "asgi":
        status = (await Exchange().run(app)).status
    else:
        status = app.test_client().get("/", errors_stream=io.StringIO()).status_code
    assert (status, closed) == (500, ["200", "500"])
    assert [record.message for record in caplog.records] == [
        "Exception on / [GET]",
        "The response to an error cannot be sent",
    ]
