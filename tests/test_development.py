"""The development server at work: dotenv files, broken code, and its end. Real processes on loopback ports."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.test_serving import PATIENCE, Server, rewrite

SHOP = """
import asyncio
import os
import time
from asyncflask import Flask, render_template

app = Flask(__name__)
at_import = os.environ.get("COLOUR")

@app.get("/")
async def index():
    return f"{at_import} {os.environ.get('COLOUR')} {os.environ.get('SIZE')}"

@app.get("/debug")
def debug():
    return str(app.debug)

@app.get("/page")
async def page():
    return render_template("page.html")

@app.get("/async-stream")
async def async_stream():
    async def pieces():
        while True:
            yield "x"
            await asyncio.sleep(0.05)
    return pieces()

@app.get("/sync-stream")
def sync_stream():
    def pieces():
        while True:
            yield "x"
            time.sleep(0.05)
    return pieces()
"""
SCRIPT = f"{SHOP}\nif __name__ == '__main__':\n    app.run(port=0, debug=True)\n"
# The package itself may change while it is being worked on.
PACKAGES = [os.path.join(path, "*") for path in sys.path if path and Path(path, "asyncflask").is_dir()]
EXCLUDED = ("--exclude-patterns", os.pathsep.join(PACKAGES))

Start = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "shop.py").write_text(SHOP)
    return inner


@pytest.fixture
def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a process in the folder."""
    for name in ("FLASK_DEBUG", "FLASK_SKIP_DOTENV", "COLOUR", "SIZE"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:

        def start(*command: str, **environ: str) -> Server:
            server = Server(folder, list(command), environ)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture
def run(start: Start) -> Start:
    """`asyncflask --app shop run --debug` with more arguments."""

    def run(*arguments: str, before: tuple[str, ...] = (), **environ: str) -> Server:
        command = ("-m", "asyncflask", "--app", "shop", *before, "run", "--port", "0", "--debug")
        return start(*command, *(arguments or EXCLUDED), **environ)

    return run


@pytest.fixture
def run_script(start: Start, folder: Path) -> Start:
    """`python app.py` with `app.run(debug=True)`."""

    def run_script(text: str = SCRIPT, **environ: str) -> Server:
        (folder / "app.py").write_text(text)
        return start("app.py", **environ)

    return run_script


def see(server: Server, text: str, path: str = "/") -> None:
    """Wait until the page has this text."""
    deadline = time.monotonic() + PATIENCE
    while (got := server.get(path)) != (200, text):
        assert time.monotonic() < deadline, f"{got}\n{server.text}"
        time.sleep(0.1)


def stays(server: Server, seconds: float = 2.5) -> bool:
    """Whether nothing restarts, for longer than the reloader's interval."""
    time.sleep(seconds)
    return "Detected change" not in server.text


def test_the_reloaded_child_sees_only_what_it_should(run: Start, folder: Path) -> None:
    """No variable of ours is left to the processes that the application starts."""
    text = "import os\nfrom asyncflask import Flask\napp = Flask(__name__)\n"
    text += "@app.get('/')\ndef index(): return ' '.join(sorted(n for n in os.environ if n.startswith('ASYNCFLASK')))\n"
    (folder / "shop.py").write_text(text)
    assert run().get("/") == (200, "")


class TestDotenv:
    @pytest.mark.parametrize("name", [".env", ".flaskenv"])
    def test_a_change_is_in_effect(self, run: Start, folder: Path, name: str) -> None:
        (folder / name).write_text("COLOUR=red\nSIZE=1\n")
        server = run()
        see(server, "red red 1")
        rewrite(folder / name, "COLOUR=blue\nSIZE=2\n")
        see(server, "blue blue 2")
        assert name in server.wait_for("Detected change in '(.*)'")[1]
        # What is removed is gone, and what is added is there.
        rewrite(folder / name, "SIZE=3\n")
        see(server, "None None 3")
        rewrite(folder / name, "SIZE=3\nCOLOUR=green\n")
        see(server, "green green 3")
        assert server.stop()[0] == 0

    def test_files_that_come_and_go(self, run: Start, folder: Path) -> None:
        server = run()
        see(server, "None None None")
        (folder / ".flaskenv").write_text("COLOUR=red\nSIZE=1\n")
        see(server, "red red 1")
        (folder / ".env").write_text("COLOUR=blue\n")  # the stronger one
        see(server, "blue blue 1")
        (folder / ".env").unlink()
        see(server, "red red 1")
        (folder / ".flaskenv").unlink()
        see(server, "None None None")

    def test_a_replaced_file_may_be_older(self, run: Start, folder: Path) -> None:
        (folder / ".env").write_text("COLOUR=red\n")
        (folder / "other").write_text("COLOUR=blue\n")
        os.utime(folder / "other", (1, 1))
        server = run()
        see(server, "red red None")
        os.replace(folder / "other", folder / ".env")
        see(server, "blue blue None")

    def test_what_the_environment_sets_wins_always(self, run: Start, folder: Path) -> None:
        (folder / ".env").write_text("COLOUR=red\nSIZE=1\n")
        server = run(COLOUR="black")
        see(server, "black black 1")
        rewrite(folder / ".env", "COLOUR=black\nSIZE=2\n")
        see(server, "black black 2")
        rewrite(folder / ".env", "SIZE=3\n")
        see(server, "black black 3")

    def test_a_file_in_a_folder_above(self, run: Start, folder: Path) -> None:
        (folder.parent / ".env").write_text("COLOUR=red\n")
        server = run()
        see(server, "red red None")
        rewrite(folder.parent / ".env", "COLOUR=blue\n")
        see(server, "blue blue None")

    def test_a_file_of_another_name(self, run: Start, folder: Path) -> None:
        (folder / "mine").write_text("COLOUR=red\n")
        server = run(before=("--env-file", "mine"))
        see(server, "red red None")
        rewrite(folder / "mine", "COLOUR=blue\n")
        see(server, "blue blue None")

    def test_an_excluded_or_skipped_one_restarts_nothing(self, run: Start, folder: Path) -> None:
        (folder / ".env").write_text("COLOUR=red\n")
        excluded = run("--exclude-patterns", os.pathsep.join((EXCLUDED[1], "*/.env")))
        see(excluded, "red red None")
        skipped = run(FLASK_SKIP_DOTENV="1")
        rewrite(folder / ".env", "COLOUR=blue\n")
        see(skipped, "None None None")
        assert stays(skipped)
        assert stays(excluded, 0)

    def test_debug_mode_that_a_file_switches(self, start: Start, folder: Path) -> None:
        """The reloader goes on without it, or nothing could switch it on again."""
        (folder / ".flaskenv").write_text("FLASK_DEBUG=1\nFLASK_APP=shop\n")
        server = start("-m", "asyncflask", "run", "--port", "0", *EXCLUDED)
        see(server, "True", "/debug")
        rewrite(folder / ".flaskenv", "FLASK_DEBUG=0\nFLASK_APP=shop\n")
        see(server, "False", "/debug")
        rewrite(folder / ".flaskenv", "FLASK_DEBUG=1\nFLASK_APP=shop\n")
        see(server, "True", "/debug")

    def test_a_broken_value_and_recovery(self, start: Start, folder: Path) -> None:
        (folder / ".flaskenv").write_text("FLASK_RUN_PORT=0\nFLASK_APP=shop\n")
        server = start("-m", "asyncflask", "run", "--debug", *EXCLUDED)
        see(server, "None None None")
        rewrite(folder / ".flaskenv", "FLASK_RUN_PORT=mine\nFLASK_APP=shop\n")
        server.wait_for("(?s)Invalid value.*next change starts it again")
        rewrite(folder / ".flaskenv", "FLASK_RUN_PORT=0\nFLASK_APP=shop\nCOLOUR=red\n")
        see(server, "red red None")

    def test_an_unreadable_file_and_recovery(self, run: Start, folder: Path) -> None:
        (folder / ".flaskenv").write_text("SIZE=1\n")
        server = run()
        see(server, "None None 1")
        (folder / ".flaskenv").write_bytes(b"SIZE=\xff\n")
        (folder / ".env").write_text("COLOUR=red\n")
        server.wait_for("(?s)UnicodeDecodeError.*next change starts it again")
        rewrite(folder / ".flaskenv", "SIZE=2\n")
        see(server, "red red 2")

    def test_a_script(self, run_script: Start, folder: Path) -> None:
        (folder / ".env").write_text("COLOUR=red\nSIZE=1\n")
        server = run_script()
        see(server, "red red 1")
        rewrite(folder / ".env", "COLOUR=blue\n")
        see(server, "blue blue None")
        rewrite(folder / "app.py", SCRIPT.replace("{at_import}", "now"))
        see(server, "now blue None")
        assert server.stop()[0] == 0


class TestBrokenCode:
    def test_a_syntax_error_is_shown_and_the_next_save_recovers(self, run: Start, folder: Path) -> None:
        server = run()
        see(server, "None None None")
        rewrite(folder / "shop.py", "from asyncflask import (\n")
        server.wait_for(r"(?s)shop\.py\", line 1.*SyntaxError: '\(' was never closed")
        status, page = server.get("/")
        assert status == 500
        assert "SyntaxError: &#39;(&#39; was never closed" in page
        assert "Werkzeug Debugger" in page
        rewrite(folder / "shop.py", SHOP.replace("{at_import}", "mended"))
        see(server, "mended None None")

    @pytest.mark.parametrize("broken", ["app = Flask(\n", "1 / 0\n", "raise SystemExit(1)\n"])
    def test_a_script_that_breaks_starts_again_with_the_next_save(
        self, run_script: Start, folder: Path, broken: str
    ) -> None:
        server = run_script()
        see(server, "None None None")
        port = server.port
        rewrite(folder / "app.py", SCRIPT.replace("{at_import}", "second"))
        see(server, "second None None")
        rewrite(folder / "app.py", broken)
        server.wait_for("The next change starts it again")
        rewrite(folder / "app.py", SCRIPT.replace("{at_import}", "mended"))
        see(server, "mended None None")
        assert (server.port, server.text.count("Running on")) == (port, 1)
        assert server.stop()[0] == 0

    def test_interrupt_while_it_waits_for_a_change(self, run_script: Start, folder: Path) -> None:
        server = run_script()
        see(server, "None None None")
        rewrite(folder / "app.py", "1 / 0\n")
        server.wait_for("The next change starts it again")
        status, seconds = server.stop()
        assert (status, seconds < 5) == (0, True)
        assert "KeyboardInterrupt" not in server.text

    def test_a_script_that_fails_from_the_start_ends(self, run_script: Start) -> None:
        text = SCRIPT.replace("app.run", "'WERKZEUG_RUN_MAIN' in os.environ and os._exit(7)\n    app.run")
        server = run_script(text)
        assert server.process.wait(PATIENCE) == 7

    def test_a_script_that_ends_after_a_reload_is_not_started_again(self, run_script: Start, folder: Path) -> None:
        server = run_script()
        see(server, "None None None")
        rewrite(folder / "app.py", "print('no server any more')\n")
        assert server.process.wait(PATIENCE) == 0
        assert "no server any more" in server.text


class TestFiles:
    def test_extra_and_excluded_files_of_a_script(self, run_script: Start, folder: Path) -> None:
        (folder / "settings.cfg").write_text("1")
        (folder / "noise.py").write_text("1")
        patterns = ["*/noise.py", *PACKAGES]
        options = f"extra_files=['settings.cfg'], exclude_patterns={patterns}, reloader_interval=0.2"
        server = run_script(SCRIPT.replace("debug=True", f"debug=True, {options}"))
        see(server, "None None None")
        rewrite(folder / "noise.py", "2")
        assert stays(server, 1)
        rewrite(folder / "settings.cfg", "2")
        assert Path(server.wait_for("Detected change in '(.*)'")[1]).name == "settings.cfg"
        see(server, "None None None")

    def test_several_extra_files_from_the_environment(self, run: Start, folder: Path) -> None:
        for name in ("one.cfg", "two.cfg"):
            (folder / name).write_text("1")
        server = run(FLASK_RUN_EXTRA_FILES=os.pathsep.join(("one.cfg", "two.cfg")))
        for times, name in enumerate(("one.cfg", "two.cfg"), 1):
            server.wait_for(rf"(?s)(startup complete.*){{{times}}}")
            rewrite(folder / name, "2")
            server.wait_for(rf"(?s)(Detected change.*){{{times}}}")
            assert f"{name}'" in server.text

    def test_a_template_is_new_without_a_restart(self, run: Start, folder: Path) -> None:
        (folder / "templates").mkdir()
        (folder / "templates" / "page.html").write_text("one")
        server = run()
        see(server, "one", "/page")
        rewrite(folder / "templates" / "page.html", "two")
        see(server, "two", "/page")
        assert stays(server, 1.5)

    def test_a_module_that_the_application_imports(self, run: Start, folder: Path) -> None:
        (folder / "part.py").write_text("name = 'one'\n")
        rewrite(folder / "shop.py", SHOP.replace("import asyncio\n", "import asyncio\nfrom part import name\n"))
        rewrite(folder / "shop.py", (folder / "shop.py").read_text().replace("{at_import}", "{name}"))
        server = run()
        see(server, "one None None")
        rewrite(folder / "part.py", "name = 'two'\n")
        see(server, "two None None")

    def test_every_request_of_a_reload_is_answered(self, run: Start, folder: Path) -> None:
        server = run()
        see(server, "None None None")
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            deadline = time.monotonic() + PATIENCE
            while (200, "second None None") not in answers[-1:] and time.monotonic() < deadline:
                answers.append(server.get("/"))

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            rewrite(folder / "shop.py", SHOP.replace("{at_import}", "second"))
            for future in asking:
                future.result()
        assert {status for status, _ in answers} == {200}


@pytest.fixture(params=["run", "run without reloader", "script"])
def any_server(request: pytest.FixtureRequest, run: Start, run_script: Start) -> Server:
    if request.param == "script":
        return run_script()
    return run(*EXCLUDED, "--no-reload") if "without" in request.param else run()


class TestInterrupt:
    """Ctrl-C, which a terminal sends to the whole group."""

    def check(self, server: Server) -> None:
        status, seconds = server.stop(signal.SIGINT)
        assert (status, seconds < 5) == (0, True), (seconds, server.text)
        assert "Traceback" not in server.text
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))

    def test_with_an_open_connection(self, any_server: Server) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", any_server.port, timeout=PATIENCE)) as connection:
            for _ in range(2):  # it is kept
                connection.request("GET", "/debug")
                assert connection.getresponse().read() == b"True"
            self.check(any_server)

    def test_with_a_connection_that_sends_nothing(self, any_server: Server) -> None:
        any_server.get("/debug")
        with socket.create_connection(("127.0.0.1", any_server.port)):
            self.check(any_server)

    @pytest.mark.parametrize("path", ["/async-stream", "/sync-stream"])
    def test_with_an_open_stream(self, any_server: Server, path: str) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", any_server.port, timeout=PATIENCE)) as connection:
            connection.request("GET", path)
            assert connection.getresponse().read(2) == b"xx"
            self.check(any_server)
