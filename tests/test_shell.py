"""`asyncflask shell` as a process of its own: at a terminal, and with its input from a pipe."""

from __future__ import annotations

import asyncio
import io
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from asyncflask import Flask
from asyncflask.shell import InteractiveConsole, run_shell

pytest.importorskip("termios", reason="a terminal is needed")

ROOT = Path(__file__).parents[1]
PATIENCE = 20  # seconds
SHOP = """
import asyncio
import sqlite3
import threading
from contextvars import ContextVar
from asyncflask import Flask, g

app = Flask(__name__)
number = ContextVar("number", default=0)

@app.get("/loop")
async def loop():
    return str(id(asyncio.get_running_loop()))

async def get_loop():
    return str(id(asyncio.get_running_loop()))

async def add(amount):
    await asyncio.sleep(0.01)
    number.set(number.get() + amount)
    g.amount = amount
    return number.get()

async def fail():
    await asyncio.sleep(0)
    raise LookupError("lost")

class Door:
    async def __aenter__(self):
        print("opened")
        return self
    async def __aexit__(self, *error):
        await asyncio.sleep(0)
        print("closed")

async def count():
    for value in (1, 2):
        yield value

async def wait(seconds=60, after=0):
    print("waiting")
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(after)
        await app.ensure_async(print)("cleaned", "up")

@app.teardown_appcontext
def tear_down(error):
    print("torn down", g.get("amount"))

@app.shell_context_processor
def make_names():
    return dict(globals())
"""
# At a terminal: makes it the controlling one, whose Ctrl-C is a signal.
AT_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
COMMAND = ("-m", "asyncflask", "--app", "shop", "shell")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Without colours, and with a home for the history."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "dumb", "HOME": str(tmp_path), "INPUTRC": os.devnull}


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


Pipe = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pipe(folder: Path, environ: dict[str, str]) -> Pipe:
    """Run the shell on these statements."""

    def run(statements: str, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *(command or COMMAND)],
            cwd=folder,
            env={**environ, **more},
            input=textwrap.dedent(statements),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def read_answers(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was printed, without the prompts."""
    assert done.returncode == 0, done.stderr
    text = re.sub(r"(>>> |\.\.\. )+", "\n", done.stdout)
    return [line for line in text.splitlines() if line]


class TestPipe:
    def test_await_gives_its_value(self, pipe: Pipe) -> None:
        assert read_answers(pipe("await add(4)\nx = await add(1)\nx, _\n"))[:2] == ["4", "(5, 4)"]

    def test_context_variables_and_g_are_shared_by_all_statements(self, pipe: Pipe) -> None:
        statements = """
            token = number.set(5)
            g.mine = 1
            await add(2)
            number.get(), g.amount, g.mine
            async def read(): return number.get(), g.mine

            await read()
            number.reset(token)
            await add(0)
        """
        assert read_answers(pipe(statements))[:4] == ["7", "(7, 2, 1)", "(7, 1)", "0"]

    def test_async_blocks(self, pipe: Pipe) -> None:
        statements = """
            async with Door() as door:
                await add(1)

            async for value in count():
                print(value)

            [value * 10 async for value in count()]
        """
        assert read_answers(pipe(statements))[:6] == ["opened", "1", "closed", "1", "2", "[10, 20]"]

    def test_the_context_of_the_application_is_there_in_both_kinds(self, pipe: Pipe) -> None:
        statements = """
            from asyncflask import current_app
            async def name(): return current_app.name

            await name(), current_app.name, app.name
        """
        assert read_answers(pipe(statements))[0] == "('shop', 'shop', 'shop')"

    def test_an_error_in_awaited_code_prints_its_traceback_alone(self, pipe: Pipe) -> None:
        done = pipe("await fail()\nprint('goes on')\n")
        assert "goes on" in read_answers(done)
        lines = done.stderr.partition("Traceback")[2].splitlines()
        files = [line.split(",")[0].split("/")[-1] for line in lines if line.startswith("  File")]
        assert files == ['  File "<console>"', 'shop.py"']
        assert "LookupError: lost" in lines

    def test_errors_of_plain_statements_and_of_syntax(self, pipe: Pipe) -> None:
        done = pipe("1 / 0\nawait = 1\nprint('goes on')\n")
        assert "goes on" in read_answers(done)
        assert "ZeroDivisionError: division by zero" in done.stderr
        assert "SyntaxError" in done.stderr
        assert "shell.py" not in done.stderr

    def test_a_cancelled_await_and_a_timeout_are_errors_like_others(self, pipe: Pipe) -> None:
        statements = """
            async def cancel(): raise asyncio.CancelledError

            await cancel()
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
            print('goes on')
        """
        done = pipe(statements)
        assert "goes on" in read_answers(done)
        assert "CancelledError" in done.stderr
        assert "TimeoutError" in done.stderr

    def test_the_loop_is_that_of_the_async_views(self, pipe: Pipe) -> None:
        first, second = read_answers(pipe("app.test_client().get('/loop').text\nawait get_loop()\n"))[:2]
        assert first == second

    def test_tasks_go_on_between_statements(self, pipe: Pipe) -> None:
        statements = """
            async def begin(): return asyncio.create_task(asyncio.sleep(0.01, 'done'))

            task = await begin()
            import time; time.sleep(0.3)
            task.done(), task.result()
        """
        assert read_answers(pipe(statements))[0] == "(True, 'done')"

    def test_sync_code_of_awaited_code_runs_in_the_thread_of_plain_statements(self, pipe: Pipe) -> None:
        statements = """
            g.db = sqlite3.connect(':memory:')
            async def query(): return await app.ensure_async(g.db.execute)('select 7')

            (await query()) is not None, threading.current_thread().name
            g.db.execute('select 7').fetchall()
        """
        done = pipe(statements)
        assert read_answers(done)[1] == "[(7,)]", done.stderr

    def test_the_end(self, pipe: Pipe) -> None:
        done = pipe("await add(3)\n")
        assert read_answers(done)[-1] == "torn down 3"
        assert done.stderr.endswith("\nnow exiting InteractiveConsole...\n")

    @pytest.mark.parametrize("statement", ["exit(4)", "import sys; await asyncio.sleep(0, sys.exit(4))"])
    def test_an_exit_ends_it_with_the_status(self, pipe: Pipe, statement: str) -> None:
        done = pipe(f"{statement}\nprint('goes on')\n")
        assert (done.returncode, "goes on" in done.stdout) == (4, False)
        assert "Traceback" not in done.stderr
        assert "torn down" in done.stdout

    def test_startup_file_and_names_of_the_processors(self, pipe: Pipe, folder: Path) -> None:
        (folder / "startup.py").write_text("mine = 1\nnumber = 'hidden by the application'\nprint('started')\n")
        done = pipe("mine, number.name\n", PYTHONSTARTUP=str(folder / "startup.py"))
        assert read_answers(done)[:2] == ["started", "(1, 'number')"]

    def test_plain_statements_are_as_in_flask(self, pipe: Pipe, folder: Path) -> None:
        pytest.importorskip("flask")
        (folder / "peer.py").write_text("from flask import Flask\napp = Flask('shop')\n")
        (folder / "ours.py").write_text("from asyncflask import Flask\napp = Flask('shop')\n")
        statements = """
            1 + 1
            for i in range(2):
                print(i)

            _
            def f():
                1 / 0

            f()
            if True
            g, app
            "unfinished
            (1,
            2)
            raise KeyError(1)
            import sys; print(sys.last_value)
            class A:
        """
        theirs = pipe(statements, "-m", "flask", "--app", "peer", "shell")
        ours = pipe(statements, "-m", "asyncflask", "--app", "ours", "shell")
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
        assert ours.stderr == theirs.stderr


class TestElsewhere:
    """The console in a process where it is not alone."""

    @staticmethod
    def run(statement: str, **names: Any) -> dict[str, Any]:
        console = InteractiveConsole(names)
        assert not console.push(statement)
        return names

    def test_in_another_thread(self) -> None:
        """Where nobody handles Ctrl-C."""
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(self.run, "x = await f(5)", f=echo).result(PATIENCE)["x"] == 5

    def test_where_others_handle_interrupts(self) -> None:
        def handle(*args: Any) -> None: ...

        before = signal.signal(signal.SIGINT, handle)
        try:
            assert self.run("x = await f(signal.getsignal(signal.SIGINT))", f=echo, signal=signal)["x"] is handle
        finally:
            signal.signal(signal.SIGINT, before)

    async def test_in_the_thread_of_a_loop(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "x" not in self.run("x = await f(5)", f=echo)
        assert "the event loop's own thread" in capsys.readouterr().err

    @pytest.mark.parametrize("readline", [True, False])
    def test_completion_belongs_to_the_start(self, monkeypatch: pytest.MonkeyPatch, readline: bool) -> None:
        """Without readline, the rest of what the interpreter does is done."""
        done: list[str] = []
        monkeypatch.setattr(sys, "__interactivehook__", lambda: done.append("hook"))
        if not readline:
            monkeypatch.setitem(sys.modules, "readline", None)
        monkeypatch.setattr("sys.stdin", io.StringIO("1 + 1\n"))
        run_shell(Flask("shop"))
        assert done == ["hook"]

    def test_an_interpreter_without_its_hook(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As `python -S` has none."""
        monkeypatch.delattr(sys, "__interactivehook__", raising=False)
        monkeypatch.setattr("sys.stdin", io.StringIO("1 + 1\n"))
        run_shell(Flask("shop"))
        assert "2" in capsys.readouterr().out


class Terminal:
    """The shell at a pseudo-terminal."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.end, inner = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", AT_TERMINAL, *COMMAND],
            cwd=folder,
            env=environ,
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)
        self.text = ""
        self.seen = 0

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def run(self, line: str, answer: str = "") -> str:
        """Type a line and wait for the next prompt; gives what was shown between."""
        self.type(line + "\n")
        self.see(re.escape(line.expandtabs()) + r"\r*\n")
        shown = self.see(r"(?s)(.*?)>>> $")[1]
        assert answer in shown, self.text
        return str(shown)

    def see(self, pattern: str) -> re.Match[str]:
        """Wait for the pattern in what has come since the last one that was seen."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.compile(pattern).search(self.text, self.seen)) is None:
            assert time.monotonic() < deadline and self._read(), f"no {pattern!r} in:\n{self.text}"
        self.seen = found.end()
        return found

    def _read(self) -> bool:
        if not select.select([self.end], [], [], 0.1)[0]:
            return True
        try:
            piece = os.read(self.end, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.end)


INTERRUPT = "\x03"
END = "\x04"


class TestTerminal:
    @pytest.fixture
    def terminal(self, folder: Path, environ: dict[str, str]) -> Iterator[Terminal]:
        # A shell that started these tests in its background has Ctrl-C ignored, and children inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with ExitStack() as stack:
            terminal = Terminal(folder, environ)
            stack.callback(terminal.close)
            terminal.see("(?s)Python .*App: shop.*Instance: .*>>> ")
            yield terminal

    def end(self, terminal: Terminal) -> None:
        terminal.type(END)
        terminal.see(r"now exiting InteractiveConsole\.\.\.")
        terminal.see("torn down")
        assert terminal.process.wait(PATIENCE) == 0

    def test_a_session(self, terminal: Terminal) -> None:
        terminal.run("await add(2)", "2\r\n")
        terminal.run("await fail()", "LookupError: lost")
        terminal.run("g.amount + number.get()", "4\r\n")
        self.end(terminal)

    def test_interrupt_ends_the_await_and_not_the_shell(self, terminal: Terminal) -> None:
        terminal.type("await wait()\n")
        terminal.see(r"waiting\r*\n")
        began = time.monotonic()
        terminal.type(INTERRUPT)
        terminal.see(r"(?s)cleaned up\r\n.*KeyboardInterrupt\r\n>>> ")
        assert time.monotonic() - began < 5
        assert "Traceback" not in terminal.text
        terminal.run("await add(1)", "1\r\n")
        self.end(terminal)

    def test_the_second_interrupt_does_not_wait_for_the_clean_up(self, terminal: Terminal) -> None:
        terminal.type("await wait(after=60)\n")
        terminal.see(r"waiting\r*\n")
        terminal.type(INTERRUPT)
        time.sleep(0.5)
        terminal.type(INTERRUPT)
        terminal.see(r"KeyboardInterrupt\r\n>>> ")
        terminal.run("number.set(3) and await add(1)", "4\r\n")
        self.end(terminal)

    def test_interrupt_of_a_plain_statement_and_at_the_prompt(self, terminal: Terminal) -> None:
        terminal.type("import time; print('slee' + 'ping'); time.sleep(60)\n")
        terminal.see("sleeping")
        terminal.type(INTERRUPT)
        terminal.see(r"KeyboardInterrupt\r\n>>> ")
        terminal.type("nonsense(")
        terminal.see(r"nonsense\(")
        time.sleep(0.2)  # until it waits for the next key
        terminal.type(INTERRUPT)
        terminal.see(r"KeyboardInterrupt\r\n>>> ")
        terminal.run("1 + 1", "2\r\n")
        self.end(terminal)

    def test_interrupt_of_sync_code_that_awaits_through_its_sync_form(self, terminal: Terminal) -> None:
        terminal.type("app.ensure_sync(wait)()\n")
        terminal.see(r"waiting\r*\n")
        terminal.type(INTERRUPT)
        terminal.see(r"KeyboardInterrupt\r\n>>> ")
        terminal.run("await add(1)", "1\r\n")
        self.end(terminal)

    def test_completion(self, terminal: Terminal) -> None:
        pytest.importorskip("readline")
        terminal.run("very_long_name_of_mine = 17", "")
        terminal.type("very_long_n\t\n")
        terminal.see(r"very_long_name_of_mine\r*\n17\r\n>>> ")
        terminal.type("await app.ensure_asy\tadd)(5)\n")
        terminal.see(r"5\r\n>>> ")
        self.end(terminal)


def test_no_module_of_the_shell_is_loaded_by_the_command_line(folder: Path, environ: dict[str, str]) -> None:
    code = "import sys, asyncflask.cli; print([n for n in ('code', 'asyncflask.shell') if n in sys.modules])"
    command: list[Any] = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True).stdout == "[]\n"
