"""Clients of other projects that call an ASGI application in process: httpx's transport, Starlette's TestClient."""

from __future__ import annotations

import httpx
import pytest

from asyncflask import Flask, redirect, request, session, websocket

testclient = pytest.importorskip("starlette.testclient")


@pytest.fixture
def app():
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="a key")
    app.log = []

    @app.while_serving
    async def serve():
        app.log.append("up")
        app.serving_state["colour"] = "blue"
        yield
        app.log.append("down")

    @app.route("/", methods=["GET", "POST"])
    async def index():
        return {"args": request.args, "form": request.form, "data": request.get_data(as_text=True)}

    @app.post("/upload")
    async def upload():
        file = request.files["file"]
        return {"name": file.filename, "size": len(file.read())}

    @app.route("/remember/<word>")
    def remember(word):
        session["word"] = word
        return redirect("/recall")

    @app.route("/recall")
    async def recall():
        return session.get("word", "nothing")

    @app.route("/numbers")
    async def numbers():
        async def pieces():
            for number in range(3):
                yield str(number)

        return pieces()

    @app.route("/state")
    async def state():
        return dict(request._scope["state"])

    @app.route("/fails")
    async def fails():
        raise LookupError("in the view")

    @app.websocket("/ws")
    async def repeat():
        await websocket.accept(subprotocol=next(iter(websocket.requested_subprotocols), None))
        async for message in websocket:
            if message == "close":
                return await websocket.close(4000, "enough")
            await websocket.send(message)

    @app.websocket("/refused")
    async def refuse():
        return {"error": "who are you"}, 401

    return app


class TestHttpx:
    @pytest.fixture
    async def client(self, app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client

    async def test_requests(self, client):
        assert (await client.get("/", params={"a": "b"})).json()["args"] == {"a": "b"}
        assert (await client.post("/", data={"a": "b"})).json()["form"] == {"a": "b"}
        assert (await client.post("/upload", files={"file": ("f.txt", b"x" * 100_000)})).json()["size"] == 100_000
        assert (await client.head("/")).content == b""
        assert (await client.get("/missing")).status_code == 404

    async def test_an_upload_in_pieces(self, client):
        async def pieces():
            yield b"a"
            yield b"b"

        answer = await client.post("/", content=pieces(), headers={"Content-Type": "text/plain"})
        assert answer.json()["data"] == "ab"

    async def test_cookies_and_redirects(self, client):
        assert (await client.get("/remember/it", follow_redirects=True)).text == "it"
        assert (await client.get("/recall")).text == "it"

    async def test_a_stream_comes_whole(self, client):
        async with client.stream("GET", "/numbers") as response:
            assert [piece async for piece in response.aiter_raw()] == [b"012"]

    async def test_errors(self, app, client):
        with pytest.raises(LookupError, match="in the view"):
            await client.get("/fails")
        app.testing = False
        assert (await client.get("/fails")).status_code == 500

    async def test_inside_of_the_serving_life(self, app, client):
        async with app.test_app():
            assert (await client.get("/")).status_code == 200
        assert app.log == ["up", "down"]


class TestStarlette:
    def test_requests(self, app):
        client = testclient.TestClient(app)
        assert client.get("/", params={"a": "b"}).json()["args"] == {"a": "b"}
        assert client.post("/", data={"a": "b"}).json()["form"] == {"a": "b"}
        assert client.post("/upload", files={"file": ("f.txt", b"x" * 100_000)}).json()["size"] == 100_000
        assert client.get("/remember/it").text == "it"
        assert client.get("/numbers").text == "012"
        assert client.get("/missing").status_code == 404

    def test_errors(self, app):
        with pytest.raises(LookupError, match="in the view"):
            testclient.TestClient(app).get("/fails")
        app.testing = False
        assert testclient.TestClient(app).get("/fails").status_code == 500

    def test_lifespan(self, app):
        with testclient.TestClient(app) as client:
            assert app.log == ["up"]
            assert client.get("/state").json() == {"colour": "blue"}
            with client.websocket_connect("/ws") as ws:
                ws.send_text("x")
                assert ws.receive_text() == "x"
        assert app.log == ["up", "down"]

    def test_websockets(self, app):
        client = testclient.TestClient(app)
        with client.websocket_connect("/ws", subprotocols=["one"]) as ws:
            assert ws.accepted_subprotocol == "one"
            ws.send_json([1])
            assert ws.receive_json() == [1]
            ws.send_bytes(b"x")
            assert ws.receive_bytes() == b"x"
            ws.send_text("close")
            with pytest.raises(testclient.WebSocketDisconnect) as closed:
                ws.receive_text()
        assert (closed.value.code, closed.value.reason) == (4000, "enough")

    def test_a_refused_websocket(self, app):
        with pytest.raises(testclient.WebSocketDenialResponse) as refused:
            with testclient.TestClient(app).websocket_connect("/refused"):
                pass
        assert refused.value.status_code == 401
        assert refused.value.json() == {"error": "who are you"}
