"""The fixtures, in projects of their own: under pytest-asyncio and anyio, beside other plug-ins, under the alias."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MANUAL = ROOT / "docs" / "testing.md"
FILE = re.compile(r"^<!-- file: (\w+)\.py -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Of coverage, for which the fixtures would be untested otherwise.
KEPT = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
NAMED = 'pytest_plugins = ["asyncflask.pytest_plugin"]\n'
APP = """
import pytest
from asyncflask import Flask, request, websocket

@pytest.fixture
def app():
    app = Flask(__name__)
    app.testing = True

    @app.get("/")
    async def index():
        return {"asgi": request._scope is not None}

    @app.websocket("/ws")
    async def repeat():
        await websocket.send(await websocket.receive())

    return app
"""
TESTS = """
import pytest
import pytest_asyncio

def test_client(client):
    assert client.get("/").json == {{"asgi": False}}

{mark}
async def test_async_client(async_client):
    assert (await async_client.get("/")).json == {{"asgi": True}}
    async with async_client.websocket("/ws") as ws:
        await ws.send("x")
        assert await ws.receive() == "x"
"""
SERVED = """
import asyncio

@{fixture}
async def served(app):
    app.loops = []

    @app.before_serving
    async def note():
        app.loops.append(asyncio.get_running_loop())

    async with app.test_app() as test_app:
        yield test_app.test_client()

{mark}
async def test_served(app, served):
    assert (await served.get("/")).status_code == 200
    assert app.loops == [asyncio.get_running_loop()]
"""
INI = """
[pytest]
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
ANYIO_BACKEND = """
@pytest.fixture(params=[{backends}])
def anyio_backend(request):
    return request.param
"""


def run_pytest(folder: Path, *arguments: str, passed: int, mode: str = "strict", **files: str) -> None:
    """Run a project's tests; all pass, and they are so many."""
    (folder / "pytest.ini").write_text(INI.format(mode=mode))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, "--rootdir", folder, *arguments, folder],
        cwd=folder,
        env={**KEPT, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{passed} passed" in done.stdout


def test_asyncio_auto(tmp_path: Path) -> None:
    tests = (TESTS + SERVED).format(mark="", fixture="pytest.fixture")
    run_pytest(tmp_path, passed=3, mode="auto", conftest=NAMED + APP, test_it=tests)


def test_asyncio_strict(tmp_path: Path) -> None:
    tests = (TESTS + SERVED).format(mark="@pytest.mark.asyncio", fixture="pytest_asyncio.fixture")
    run_pytest(tmp_path, passed=3, conftest=NAMED + APP, test_it=tests)


def test_anyio(tmp_path: Path) -> None:
    tests = (TESTS + SERVED).format(mark="@pytest.mark.anyio", fixture="pytest.fixture")
    backend = ANYIO_BACKEND.format(backends='"asyncio"')
    run_pytest(tmp_path, passed=3, conftest=NAMED + APP + backend, test_it=tests)


def test_anyio_on_trio(tmp_path: Path) -> None:
    tests = TESTS.format(mark="@pytest.mark.anyio")
    backend = ANYIO_BACKEND.format(backends='"asyncio", "trio"')
    run_pytest(tmp_path, passed=3, conftest=NAMED + APP + backend, test_it=tests)


def test_on_the_command_line(tmp_path: Path) -> None:
    tests = TESTS.format(mark="")
    run_pytest(tmp_path, "-p", "asyncflask.pytest_plugin", passed=2, mode="auto", conftest=APP, test_it=tests)


def test_unchanged_flask_project(tmp_path: Path) -> None:
    conftest = """
import pytest
from flask import Flask

@pytest.fixture
def app():
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: type(app).__module__)
    return app

@pytest.fixture
def client(app):
    return app.test_client()
"""
    tests = 'def test_client(client):\n    assert client.get("/").text == "asyncflask.app"\n'
    tests += 'import flask\n\ndef test_it():\n    assert flask.__file__.endswith("asyncflask/__init__.py")\n'
    run_pytest(tmp_path, "-p", "asyncflask.as_flask", passed=2, conftest=conftest, test_it=tests)


def test_whoever_does_not_name_it_does_not_load_it(tmp_path: Path) -> None:
    tests = 'import sys\n\ndef test_it():\n    assert not {"asyncflask", "flask"} & set(sys.modules)\n'
    run_pytest(tmp_path, passed=1, test_it=tests)


def test_beside_a_plug_in_with_the_same_names(tmp_path: Path) -> None:
    """pytest-flask has a `client` too; the project's conftest decides."""
    other = 'import pytest\n\n@pytest.fixture\ndef client(app):\n    return "other"\n'
    tests = "def test_it(client):\n    assert type(client).__name__ == {!r}\n"
    ours, own = NAMED + APP, "\n@pytest.fixture\ndef client(app):\n    return 'own'\n"
    run_pytest(tmp_path, "-p", "other", passed=1, conftest=ours, other=other, test_it=tests.format("FlaskClient"))
    run_pytest(tmp_path, "-p", "other", passed=1, conftest=ours + own, test_it=tests.format("str"))


def test_the_example_of_the_manual(tmp_path: Path) -> None:
    run_pytest(tmp_path, passed=3, **dict(FILE.findall(MANUAL.read_text())))
