"""Serving for development: real processes with uvicorn, on loopback ports that the system chose."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
import werkzeug.serving

from asyncflask import Flask, reloading
from asyncflask.serving import run_app, show_server_banner

ROOT = Path(__file__).parents[1]
PATIENCE = 20  # seconds for a process to start or to reload on a busy machine

SHOP = """
import time
from asyncflask import Flask, request

app = Flask(__name__)

@app.get("/")
async def index():
    return "one"

@app.get("/sync")
def sync():
    return f"{request.remote_addr} {request.scheme}"

@app.get("/stuck")
def stuck():
    time.sleep(60)
    return ""

@app.get("/error")
async def error():
    secret_of_the_view = 1
    raise LookupError("lost")
"""


LOADS_SLOWLY_IN_CHILD = """
import os
if "WERKZEUG_RUN_MAIN" in os.environ:
    print("loading", flush=True)
    time.sleep(60)
"""


class Server:
    """A serving process; what it prints is in a file."""

    def __init__(self, folder: Path, command: list[str], environ: dict[str, str]) -> None:
        self.output = folder / "output"
        # A shell that started these tests in its background has Ctrl-C ignored, and children inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if found := re.search(pattern, self.text):
                return found
            assert not ended, self.text
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} did not come:\n{self.text}")

    @property
    def port(self) -> int:
        return int(self.wait_for(r"Running on https?://127\.0\.0\.1:(\d+)")[1])

    def get(self, path: str = "/", secure: bool = False, **headers: str) -> tuple[int, str]:
        status, body, _ = self.fetch(path, secure, **headers)
        return status, body

    def fetch(self, path: str, secure: bool = False, **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
        if secure:
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers
        finally:
            connection.close()

    def wait_until(self, answer: tuple[int, str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while (got := self.get()) != answer:
            assert time.monotonic() < deadline, f"{got}\n{self.text}"
            time.sleep(0.1)

    def stop(self, sig: int = signal.SIGINT) -> tuple[int, float]:
        """``(exit status, seconds it took)``."""
        began = time.monotonic()
        # To the whole group, as a terminal does it.
        os.killpg(self.process.pid, sig)
        return self.process.wait(PATIENCE), time.monotonic() - began

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)


@pytest.fixture
def start(tmp_path):
    """Write files into a folder and start a process there."""
    (tmp_path / "shop.py").write_text(SHOP)
    with ExitStack() as stack:

        def start(*command: str, files: dict[str, str] | None = None, **environ: str) -> Server:
            for name, text in (files or {}).items():
                (tmp_path / name).write_text(textwrap.dedent(text))
            server = Server(tmp_path, list(command), environ)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture
def serve(start):
    """`asyncflask --app shop run --port 0` with more arguments."""

    def serve(*arguments: str, files: dict[str, str] | None = None, **environ: str) -> Server:
        command = ("-m", "asyncflask", "--app", "shop", "run", "--port", "0", *arguments)
        return start(*command, files=files, **environ)

    return serve


def rewrite(path: Path, text: str) -> None:
    """Change a file so that a watcher sees it, however coarse the clock of the file system is."""
    before = path.stat().st_mtime if path.exists() else 0
    path.write_text(textwrap.dedent(text))
    os.utime(path, (before + 2, before + 2))


class TestCommand:
    def test_serves_with_banner_and_access_log(self, serve):
        server = serve()
        assert server.get("/") == (200, "one")
        assert server.get("/sync") == (200, "127.0.0.1 http")
        server.wait_for(r'"GET /sync HTTP/1.1" 200')
        assert " * Serving Flask app 'shop'\n * Debug mode: off\n" in server.text

    @pytest.mark.parametrize(("sig", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
    def test_signals_end_it(self, serve, sig, status):
        server = serve()
        server.get("/")
        ended, seconds = server.stop(sig)
        assert (ended, seconds < 5) == (status, True)
        assert "Traceback" not in server.text

    def test_a_sync_view_does_not_hold_it(self, serve):
        server = serve()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/stuck")
        time.sleep(0.5)
        _, seconds = server.stop()
        connection.close()
        assert seconds < 4

    def test_the_second_interrupt_ends_a_shutdown_hook(self, start):
        script = """
            import asyncio
            from asyncflask.serving import run_app

            async def app(scope, receive, send):
                while scope["type"] == "lifespan":
                    message = await receive()
                    print("event", message["type"])
                    await asyncio.sleep(60 if message["type"] == "lifespan.shutdown" else 0)
                    await send({"type": message["type"] + ".complete"})

            run_app(app, port=0)
        """
        server = start("script.py", files={"script.py": script})
        server.wait_for("startup complete")
        server.process.send_signal(signal.SIGINT)
        server.wait_for("event lifespan.shutdown")
        status, seconds = server.stop()
        assert (status, seconds < 5) == (128 + signal.SIGINT, True)

    def test_proxy_headers_are_not_believed(self, serve):
        headers = {"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "https"}
        assert serve().get("/sync", **headers) == (200, "127.0.0.1 http")

    def test_adhoc_certificate(self, serve):
        pytest.importorskip("cryptography")
        server = serve("--cert", "adhoc")
        assert server.get("/sync", secure=True) == (200, "127.0.0.1 https")
        assert server.stop()[0] == 0

    def test_certificate_files(self, serve, tmp_path):
        pytest.importorskip("cryptography")
        cert, key = werkzeug.serving.make_ssl_devcert(str(tmp_path / "test"), host="localhost")
        server = serve("--cert", cert, "--key", key)
        assert server.get("/sync", secure=True) == (200, "127.0.0.1 https")
        assert server.stop()[0] == 0

    def test_all_interfaces(self, serve):
        server = serve("--host", "0.0.0.0")
        assert server.get() == (200, "one")
        assert "all addresses (0.0.0.0)" in server.text

    def test_unix_socket(self, serve, tmp_path):
        path = tmp_path / "socket"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        serve("--host", f"unix://{path}").wait_for("startup complete")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


class TestErrors:
    @pytest.fixture
    def taken(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield str(listener.getsockname()[1])

    @pytest.mark.parametrize("arguments", [(), ("--reload",), ("--debug",), ("--workers", "2")])
    def test_port_in_use(self, serve, taken, arguments):
        server = serve("--port", taken, *arguments)
        assert server.process.wait(PATIENCE) == 1
        told = [line for line in server.text.splitlines() if not line.startswith(" * ")]
        assert len(told) == 1
        assert f"Port {taken} on 127.0.0.1" in told[0]
        assert "--port" in told[0]

    def test_port_in_use_in_a_script(self, start, taken):
        script = f"{SHOP}\napp.run(port={taken})\n"
        server = start("script.py", files={"script.py": script})
        assert server.process.wait(PATIENCE) == 1
        assert f"Port {taken}" in server.text
        assert "Traceback" not in server.text

    def test_an_address_of_another_machine(self, serve):
        server = serve("--host", "192.0.2.1")
        assert server.process.wait(PATIENCE) == 1
        assert "--host" in server.text
        assert "Traceback" not in server.text

    def test_an_app_that_fails_to_import(self, serve):
        server = serve(files={"shop.py": "1 / 0"})
        assert server.process.wait(PATIENCE) == 1
        assert "ZeroDivisionError" in server.text

    def test_no_app(self, serve):
        server = serve(files={"shop.py": "nothing = 1"})
        assert server.process.wait(PATIENCE) == 2
        assert "'shop' holds neither" in server.text
        assert "Traceback" not in server.text

    def test_an_app_of_flask_itself(self, serve):
        pytest.importorskip("flask")
        server = serve(files={"shop.py": "from flask import Flask\napp = Flask(__name__)"})
        assert server.process.wait(PATIENCE) == 2
        # Help texts are wrapped to the terminal's width.
        assert "from asyncflask import Flask" in " ".join(server.text.split())

    def test_a_server_that_cannot_start_up(self, start):
        script = """
            from asyncflask.serving import run_app

            async def app(scope, receive, send):
                await receive()
                await send({"type": "lifespan.startup.failed", "message": "no database"})

            run_app(app, port=0)
        """
        server = start("script.py", files={"script.py": script})
        assert server.process.wait(PATIENCE) != 0
        assert "no database" in server.text


class TestReloader:
    def test_changes_errors_and_recovery(self, serve, tmp_path):
        server = serve("--reload")
        shop = tmp_path / "shop.py"
        port = server.port
        server.wait_until((200, "one"))
        rewrite(shop, SHOP.replace('"one"', '"two"'))
        server.wait_until((200, "two"))
        # A broken file: the error is shown, each request fails, and the next save mends it.
        rewrite(shop, "1 / 0")
        server.wait_for("ZeroDivisionError")
        assert server.get()[0] == 500
        rewrite(shop, SHOP.replace('"one"', '"three"'))
        server.wait_until((200, "three"))
        assert server.port == port
        assert server.text.count("Serving Flask app") == server.text.count("Running on http") == 1
        status, seconds = server.stop()
        assert (status, seconds < 5) == (0, True)

    def test_no_app_after_a_change(self, serve, tmp_path):
        server = serve("--reload")
        server.wait_until((200, "one"))
        rewrite(tmp_path / "shop.py", "nothing = 1")
        server.wait_for("'shop' holds neither")
        assert server.get()[0] == 500  # by now it watches the files
        rewrite(tmp_path / "shop.py", SHOP)
        server.wait_until((200, "one"))

    def test_sync_code_in_a_thread_does_not_hold_a_reload_up(self, serve, tmp_path):
        stuck = """
            import asyncio

            @app.get("/thread")
            async def thread():
                await asyncio.to_thread(time.sleep, 60)
        """
        shop = SHOP + textwrap.dedent(stuck)
        server = serve("--reload", files={"shop.py": shop})
        server.wait_until((200, "one"))
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /thread HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
            rewrite(tmp_path / "shop.py", shop.replace('"one"', '"two"'))
            server.wait_until((200, "two"))

    def test_extra_files_and_excluded_ones(self, serve, tmp_path):
        files = {"settings.cfg": "1", "noise.py": "1"}
        server = serve("--reload", "--extra-files", "settings.cfg", "--exclude-patterns", "*noise.py", files=files)
        server.wait_until((200, "one"))
        rewrite(tmp_path / "noise.py", "2")
        rewrite(tmp_path / "settings.cfg", "2")
        changed = server.wait_for("Detected change in '(.*)'")[1]
        assert Path(changed).name == "settings.cfg"

    def test_sigterm_leaves_no_child(self, serve):
        server = serve("--reload")
        server.wait_until((200, "one"))
        child = int(server.wait_for(r"server process \[(\d+)\]")[1])
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)

    @pytest.mark.parametrize("to_all", [False, True], ids=["parent", "group"])
    def test_sigterm_ends_the_child_in_order(self, serve, to_all):
        """The parent passes it on. A service manager that sends it to both does not cut the hooks short."""
        hooks = """
            import asyncio

            @app.after_serving
            async def tell():
                print("closing", flush=True)
                await asyncio.sleep(0.5)
                print("closed", flush=True)
        """
        server = serve("--debug", files={"shop.py": SHOP + textwrap.dedent(hooks)})
        server.wait_until((200, "one"))
        child = int(server.wait_for(r"server process \[(\d+)\]")[1])
        if to_all:
            os.killpg(server.process.pid, signal.SIGTERM)
            server.wait_for("closing")
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        assert server.text.count("closed") == 1, server.text
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)

    def test_sigterm_while_the_child_loads(self, serve):
        server = serve("--reload", files={"shop.py": SHOP + LOADS_SLOWLY_IN_CHILD})
        server.wait_for("loading")
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0

    def test_sigterm_while_a_mended_file_is_waited_for(self, serve, tmp_path):
        server = serve("--reload")
        server.wait_until((200, "one"))
        rewrite(tmp_path / "shop.py", "import os\nos._exit(1)")
        server.wait_for("The next change starts it again")
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0

    def test_a_script_is_run_again(self, start, tmp_path):
        script = f"{SHOP}\nif __name__ == '__main__':\n    app.run(port=0, debug=True)\n"
        server = start("script.py", files={"script.py": script})
        server.wait_until((200, "one"))
        assert " * Debug mode: on\n" in server.text
        rewrite(tmp_path / "script.py", script.replace('"one"', '"two"'))
        server.wait_until((200, "two"))

    def test_shutdown_hooks_run_before_a_reload_and_at_the_end(self, start, tmp_path):
        script = """
            import asyncio
            from asyncflask.serving import run_app

            async def app(scope, receive, send):
                while scope["type"] == "lifespan":
                    message = await receive()
                    if message["type"] == "lifespan.shutdown":
                        await asyncio.sleep(0.5)
                    print("event", message["type"])
                    await send({"type": message["type"] + ".complete"})

            run_app(app, port=0, use_reloader=True)
        """
        server = start("script.py", files={"script.py": script})
        server.wait_for("event lifespan.startup")
        rewrite(tmp_path / "script.py", script)
        server.wait_for("(?s)event lifespan.shutdown.*event lifespan.startup")
        status, seconds = server.stop()
        assert (status, seconds < 5) == (0, True)
        assert server.text.count("event lifespan.shutdown") == 2


SLEEPS = [sys.executable, "-c", "import time; time.sleep(20)"]


class TestSignalsOfTheReloader:
    """SIGTERM at the moments that a test of whole processes does not hit."""

    @pytest.fixture(autouse=True)
    def handler(self):
        """This process outlives the signals, whoever handles them."""

        def handle(sig, frame): ...

        before = signal.signal(signal.SIGTERM, handle)
        yield handle
        signal.signal(signal.SIGTERM, before)

    @pytest.fixture
    def started(self, monkeypatch):
        """The children, each started with a SIGTERM before and after, while nobody knows it."""
        children = []
        start = subprocess.Popen

        def start_amid_signals(command, **options):
            os.kill(os.getpid(), signal.SIGTERM)
            children.append(start(command, **options))
            os.kill(os.getpid(), signal.SIGTERM)
            return children[-1]

        monkeypatch.setattr(subprocess, "Popen", start_amid_signals)
        yield children
        for child in children:
            child.kill()
            child.wait()

    def test_it_comes_while_the_child_starts(self, started, handler):
        assert reloading._run_to_end(SLEEPS) == 0
        assert started[0].returncode == -signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is handler

    def test_the_start_fails(self, handler):
        with pytest.raises(FileNotFoundError):
            reloading._run_to_end(["/no/such/program"])
        assert signal.getsignal(signal.SIGTERM) is handler

    def test_a_killed_child_is_waited_for(self, monkeypatch):
        children = []

        class Interrupted(subprocess.Popen):
            def wait(self, timeout=None):
                children.append(self)
                if len(children) == 1:
                    raise KeyboardInterrupt
                return super().wait(timeout)

        monkeypatch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            reloading._run_to_end(SLEEPS)
        assert children[0].returncode == -signal.SIGKILL

    def test_what_a_hook_starts_can_be_ended(self):
        """The second SIGTERM does nothing here, but an ignored one would be ignored by other programs too."""
        with pytest.raises(SystemExit):
            reloading._exit_once(signal.SIGTERM, None)
        os.kill(os.getpid(), signal.SIGTERM)
        asks = "import signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
        bare = [sys.executable, "-S"]  # what measures coverage would come with a handler of its own
        assert subprocess.check_output([*bare, "-c", asks], text=True).strip() == "True"


class TestDebugger:
    def test_an_error_becomes_a_page(self, serve):
        server = serve("--debug", "--no-reload")
        status, page, headers = server.fetch("/error")
        assert (status, headers["content-type"]) == (500, "text/html; charset=utf-8")
        assert "LookupError: lost" in page
        assert "secret_of_the_view" in page
        assert "EVALEX = true" in page
        assert "LookupError: lost" in server.text

    def test_a_foreign_host_may_not_run_code(self, serve):
        server = serve("--debug", "--no-reload")
        assert "EVALEX = false" in server.get("/error", Host="evil.example")[1]
        assert server.get("/console", Host="evil.example")[0] == 400
        assert server.get("/console")[0] == 200

    def test_code_needs_the_pin(self, serve):
        server = serve("--debug", "--no-reload")
        page = server.get("/error")[1]
        secret = re.search(r'SECRET = "(\w+)"', page)[1]
        frame = re.findall(r'id="frame-(\d+)"', page)[-1]
        answer = server.get(f"/?__debugger__=yes&cmd=secret_of_the_view&frm={frame}&s={secret}")
        assert answer == (200, "one")  # not the debugger's: the application's own answer

    def test_code_is_run_where_no_pin_is_wanted(self, serve):
        server = serve("--debug", "--no-reload", WERKZEUG_DEBUG_PIN="off")
        page = server.get("/error")[1]
        secret = re.search(r'SECRET = "(\w+)"', page)[1]
        frame = re.findall(r'id="frame-(\d+)"', page)[-1]
        status, answer = server.get(f"/?__debugger__=yes&cmd=secret_of_the_view%2B41&frm={frame}&s={secret}")
        assert (status, ">42<" in answer) == (200, True)

    def test_resources_and_other_requests(self, serve):
        server = serve("--debug", "--no-reload")
        status, _, headers = server.fetch("/?__debugger__=yes&cmd=resource&f=style.css")
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/css")
        assert server.get("/?__debugger__=no") == (200, "one")

    def test_off_unless_debug(self, serve):
        status, page = serve().get("/error")
        assert (status, "lost" in page) == (500, False)

    def test_warns_where_other_machines_reach_it(self, serve):
        assert "WARNING" not in serve("--debug", "--no-reload").wait_for("Running on(.|\n)*").string
        server = serve("--debug", "--host", "0.0.0.0")
        server.wait_for("Running on")
        assert server.text.count("0.0.0.0 can be reached from other machines") == 1  # not by the reloader's child too
        assert server.stop(signal.SIGTERM)[0] == 0
        for quiet in (("--debug", "--no-debugger"), ()):
            server = serve(*quiet, "--host", "0.0.0.0")
            server.wait_for("Running on")
            assert "WARNING" not in server.text

    def test_without_it_errors_still_go_to_the_log(self, serve):
        server = serve("--debug", "--no-reload", "--no-debugger")
        status, page = server.get("/error")
        assert (status, "lost" in page) == (500, False)
        server.wait_for("LookupError: lost")


class TestRunMethod:
    """`app.run()` in this process: what it would serve."""

    @pytest.fixture(autouse=True)
    def clean_environ(self, monkeypatch):
        for name in ("FLASK_DEBUG", "FLASK_RUN_FROM_CLI", "FLASK_SKIP_DOTENV", "WERKZEUG_RUN_MAIN"):
            monkeypatch.delenv(name, raising=False)

    @pytest.fixture
    def served(self, monkeypatch):
        calls = []
        monkeypatch.setattr(
            "asyncflask.serving.run_app", lambda app, host, port, **rest: calls.append((host, port, rest))
        )
        return calls

    @pytest.mark.parametrize(
        ("host", "port", "server_name", "expected"),
        [
            (None, None, None, ("127.0.0.1", 5000)),
            (None, None, "pocoo.org:8080", ("pocoo.org", 8080)),
            (None, None, "pocoo.org", ("pocoo.org", 5000)),
            ("localhost", None, "pocoo.org:8080", ("localhost", 8080)),
            (None, 80, "pocoo.org:8080", ("pocoo.org", 80)),
            ("localhost", 0, "pocoo.org:8080", ("localhost", 0)),
            (None, None, "pocoo.org:0", ("pocoo.org", 0)),
            ("localhost", "81", None, ("localhost", 81)),
        ],
    )
    def test_address(self, served, host, port, server_name, expected):
        app = Flask("shop")
        app.config["SERVER_NAME"] = server_name
        app.run(host, port)
        assert served[0][:2] == expected

    @pytest.mark.parametrize("by", ["argument", "attribute", "environment"])
    def test_debug_mode_switches_both_on(self, served, by, monkeypatch):
        app = Flask("shop")
        app.debug = by == "attribute"
        if by == "environment":
            monkeypatch.setenv("FLASK_DEBUG", "1")
        app.run(debug=True if by == "argument" else None, threaded=False)
        assert app.debug
        assert served[0][2] == {"use_reloader": True, "use_debugger": True}

    def test_an_argument_wins_over_the_environment(self, served, monkeypatch):
        monkeypatch.setenv("FLASK_DEBUG", "1")
        app = Flask("shop")
        app.run(debug=False, use_debugger=True)
        assert (app.debug, served[0][2]) == (False, {"use_reloader": False, "use_debugger": True})

    def test_without_dotenv_the_environment_is_not_asked(self, served, monkeypatch):
        app = Flask("shop")
        monkeypatch.setenv("FLASK_DEBUG", "1")
        app.run(load_dotenv=False)
        assert not app.debug

    def test_ignored_under_a_command(self, served, monkeypatch, capsys):
        monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
        Flask("shop").run()
        assert served == []
        assert "Ignoring a call to 'app.run()'" in capsys.readouterr().out
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")  # the reloader's parent has told it
        Flask("shop").run()
        assert (served, capsys.readouterr().out) == ([], "")

    @pytest.mark.parametrize("name", ["processes", "reload", "workers", "request_handler"])
    def test_an_unknown_option(self, name):
        with pytest.raises(TypeError, match=f"'{name}'.*timeout_keep_alive"):
            Flask("shop").run(port=0, **{name: 2})

    def test_set_up_may_go_on_afterwards(self, served):
        app = Flask("shop")
        app._got_first_request = True
        app.run()
        assert not app._got_first_request

    def test_options_of_uvicorn(self, start):
        script = f"{SHOP}\napp.run(port=0, server_header=False, headers=[('X-From', 'option')], log_level='warning')\n"
        server = start("script.py", files={"script.py": script})
        _, _, headers = server.fetch("/")
        assert (headers["server"], headers["x-from"]) == (None, "option")
        assert "GET /" not in server.text

    def test_in_a_thread(self, start):
        """A live server of a test suite: no signals, no reloader."""
        lines = "import threading\nthread = threading.Thread(target=app.run, kwargs={'port': 0})\n"
        server = start("script.py", files={"script.py": f"{SHOP}\n{lines}thread.start()\nthread.join()\n"})
        assert server.get() == (200, "one")


def test_banner(monkeypatch, capsys):
    show_server_banner(True, "shop")
    assert capsys.readouterr().out == " * Serving Flask app 'shop'\n * Debug mode: on\n"
    show_server_banner(None, "shop")
    assert capsys.readouterr().out == " * Serving Flask app 'shop'\n"
    monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
    show_server_banner(True, "shop")
    assert capsys.readouterr().out == ""


def test_run_app_wants_an_app_and_keywords():
    with pytest.raises(TypeError, match="'surprise'"):
        run_app(Flask("shop"), surprise=1)


class TestRunTask:
    """`app.run_task()` on a loop of the caller's own."""

    async def test_serves_until_the_trigger_returns(self) -> None:
        app = Flask("tasked")
        log: list[str] = []
        app.before_serving(lambda: log.append("begun"))
        app.after_serving(lambda: log.append("over"))
        app.add_url_rule("/", "index", lambda: "hello")
        end = asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        serving = asyncio.create_task(app.run_task(port=port, shutdown_trigger=end.wait, log_level="warning"))
        assert await asyncio.to_thread(fetch_when_served, port) == b"hello"
        end.set()
        await asyncio.wait_for(serving, 10)
        assert log == ["begun", "over"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)

    async def test_serves_in_debug_mode_until_a_signal(self) -> None:
        app = Flask("tasked")
        app.add_url_rule("/", "index", lambda: str(app.debug))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        passed_on: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda sig, frame: passed_on.append(sig))
        try:
            serving = asyncio.create_task(app.run_task(port=port, debug=True, log_level="warning"))
            assert await asyncio.to_thread(fetch_when_served, port) == b"True"
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(serving, 10)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert passed_on == [signal.SIGTERM]

    async def test_an_unknown_option(self) -> None:
        with pytest.raises(TypeError, match="no option 'prot'"):
            await Flask("tasked").run_task(port=0, prot=1)


def fetch_when_served(port: int) -> bytes:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
