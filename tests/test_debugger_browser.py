"""The debugger of `asyncflask run --debug`, used in a real browser."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.browser import Browser, open_browser, require_browser
from tests.test_development import EXCLUDED
from tests.test_serving import Server, rewrite

require_browser()

SHOP = """
import asyncio
from contextlib import asynccontextmanager
from asyncflask import Flask, current_app, g, request, session

app = Flask(__name__)
app.secret_key = "key"

@app.before_request
def begin():
    g.user = "ann"
    session["basket"] = [3]

@app.get("/sync")
def sync_view():
    secret = 21
    raise LookupError("lost in a thread")

@app.get("/async/<name>")
async def async_view(name):
    secret = 22
    await asyncio.sleep(0)
    raise LookupError("lost on the loop")

@app.get("/helped")
async def helped():
    outer = 100
    return await help_out(outer + 1)

async def help_out(middle):
    async with door() as inner:
        await asyncio.sleep(0)
        return await asyncio.wait_for(fail(inner), 5)

@asynccontextmanager
async def door():
    yield 7

async def fail(inner):
    deepest = inner * 2
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError(f"nothing for {deepest}") from error

@app.get("/before")
async def never():
    return ""

@app.before_request
def refuse():
    if request.path == "/before":
        inside_hook = "hooked"
        raise PermissionError(inside_hook)

@app.get("/fine")
async def fine():
    return "fine"

@app.get("/late")
async def late():
    async def pieces():
        yield "begun"
        await asyncio.sleep(0.2)
        raise LookupError("too late")
    return pieces()
"""


class Debugger:
    """The page of an error, and the consoles of its frames."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.driver = browser.driver
        self.origin = origin

    def open(self, path: str, origin: str | None = None) -> None:
        self.browser.leave(lambda: self.driver.get((origin or self.origin) + path))

    def find(self, css: str) -> list[Any]:
        return [element for element in self.driver.find_elements("css selector", css) if element.is_displayed()]

    def frames(self) -> list[str]:
        """The functions' names, outermost first."""
        return [element.text for element in self.find("div.frame code.function")]

    def frame(self, function: str) -> Any:
        def look() -> Any:
            frames = self.driver.find_elements("css selector", "div.frame")
            named = (frame for frame in reversed(frames) if frame.find_element("tag name", "code").text == function)
            return next(named, None)

        return self.browser.wait_for(look, f"a frame of {function!r}")

    def open_console(self, function: str) -> Any:
        from selenium.webdriver import ActionChains

        line = self.frame(function).find_element("css selector", "pre.current")
        icon = self.browser.wait_for(lambda: line.find_elements("tag name", "img"), "an icon of a console")[0]
        ActionChains(self.driver).move_to_element(line).move_to_element(icon).click().perform()
        return self.console(function)

    def console(self, function: str) -> Any:
        frame = self.frame(function)
        beside = "../pre[contains(@class, 'console')]"
        return self.browser.wait_for(lambda: frame.find_elements("xpath", beside), f"a console of {function!r}")[0]

    def submit(self, console: Any, expression: str) -> None:
        field = console.find_element("css selector", "form input")
        field.send_keys(expression + "\n")

    def evaluate(self, console: Any, expression: str) -> str:
        """What the console answers, without the echo."""
        count = len(console.find_elements("css selector", ".output > div"))
        self.submit(console, expression)

        def look() -> str | None:
            answers = console.find_elements("css selector", ".output > div")
            return answers[-1].text if len(answers) > count else None

        answer = self.browser.wait_for(look, f"an answer to {expression!r}")
        return answer.removeprefix(">>> ").removeprefix(expression).strip()

    def is_locked(self) -> bool:
        return bool(self.find(".pin-prompt"))

    def enter_pin(self, pin: str) -> None:
        # Before the prompt has come in fully, its fading in and out would go on against each other.
        shown = ".pin-prompt[style*='opacity: 1'] input[name=pin]"
        field = self.browser.wait_for(lambda: self.find(shown), "a field for the PIN")[0]
        field.clear()
        field.send_keys(pin + "\n")

    def unlock(self, pin: str) -> None:
        self.enter_pin(pin)
        self.browser.wait_for(lambda: not self.is_locked(), "an open lock")

    def dismiss_alert(self) -> str:
        from selenium.common.exceptions import NoAlertPresentException

        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                alert = self.driver.switch_to.alert
            except NoAlertPresentException:
                time.sleep(0.05)
            else:
                text = str(alert.text)
                alert.accept()
                return text
        raise AssertionError("no alert")


Run = Callable[..., Server]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`asyncflask --app shop run --port 0` with more arguments; or another command, in the folder of shop.py."""
    with ExitStack() as stack:

        def run(*arguments: str, command: tuple[str, ...] = (), text: str = SHOP, **environ: str) -> Server:
            folder: Path = tmp_path_factory.mktemp("shop")
            (folder / "shop.py").write_text(text)
            command = command or ("-m", "asyncflask", "--app", "shop", "run", "--port", "0", *EXCLUDED, *arguments)
            server = Server(folder, list(command), environ)
            stack.callback(server.kill)
            server.wait_for("startup complete")
            return server

        yield run


@pytest.fixture(scope="module")
def server(run: Run) -> Server:
    return run("--debug")


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    rules = "--host-resolver-rules=MAP *.example 127.0.0.1"
    with open_browser("", tmp_path_factory.mktemp("downloads"), rules) as browser:
        yield browser


Look = Callable[[Server], Debugger]


@pytest.fixture
def look(shared_browser: Browser) -> Look:
    """The browser, which remembers no PIN, for a server."""
    shared_browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def look(server: Server) -> Debugger:
        return Debugger(shared_browser, f"http://127.0.0.1:{server.port}")

    return look


@pytest.fixture
def page(look: Look, server: Server) -> Debugger:
    return look(server)


@pytest.fixture
def unlocked(page: Debugger, server: Server) -> Debugger:
    """The browser after the PIN was entered on a page of its own."""
    page.open("/sync")
    page.open_console("sync_view")
    page.unlock(read_pin(server))
    return page


def read_pin(server: Server) -> str:
    return server.wait_for(r"Debugger PIN: ([\d-]+)")[1]


VIEWS = [
    ("/sync", "sync_view", "lost in a thread", "42"),
    ("/async/bob", "async_view", "lost on the loop", "44"),
]


class TestConsole:
    @pytest.mark.parametrize(("path", "view", "message", "answer"), VIEWS)
    def test_a_session(self, page: Debugger, server: Server, path: str, view: str, message: str, answer: str) -> None:
        page.open(path)
        page.browser.see(f"LookupError: {message}")
        page.browser.see("Traceback (most recent call last)")
        console = page.open_console(view)
        page.browser.see("The console is locked")
        page.unlock(read_pin(server))
        assert page.evaluate(console, "secret * 2") == answer
        assert page.evaluate(console, "request.path") == f"'{path}'"
        assert page.evaluate(console, "request.method, request.endpoint") == f"('GET', '{view}')"
        assert page.evaluate(console, "g.user") == "'ann'"
        assert page.evaluate(console, "session['basket']") == "[3]"
        assert page.evaluate(console, "current_app.name") == "'shop'"

    @pytest.mark.parametrize(("path", "view"), [(path, view) for path, view, *_ in VIEWS])
    def test_what_a_statement_sets_stays(self, unlocked: Debugger, path: str, view: str) -> None:
        unlocked.open(path)
        console = unlocked.open_console(view)
        assert not unlocked.is_locked()
        unlocked.evaluate(console, "mine = secret + 1; g.mine = mine")
        assert unlocked.evaluate(console, "mine - secret, g.mine == mine") == "(1, True)"

    def test_errors_in_the_console(self, unlocked: Debugger) -> None:
        unlocked.open("/async/bob")
        console = unlocked.open_console("async_view")
        assert "ZeroDivisionError: division by zero" in unlocked.evaluate(console, "1 / 0")
        if sys.version_info < (3, 13):  # whose console gives an argument more than that of Werkzeug 3.1.9 takes
            assert "SyntaxError" in unlocked.evaluate(console, "1 +")
        assert unlocked.evaluate(console, "name") == "'bob'"

    def test_frames_of_awaited_helpers(self, unlocked: Debugger) -> None:
        unlocked.open("/helped")
        unlocked.browser.see("ValueError: nothing for 14")
        unlocked.browser.see("was the direct cause of the following exception")
        assert [name for name in unlocked.frames() if name in ("helped", "help_out", "fail")] == [
            "fail",  # of the cause
            "helped",
            "help_out",
            "fail",
        ]
        for function, expression, answer in (
            ("helped", "outer", "100"),
            ("help_out", "middle + inner", "108"),
            ("fail", "deepest, request.path", "(14, '/helped')"),
        ):
            console = unlocked.open_console(function)
            assert unlocked.evaluate(console, expression) == answer

    def test_an_error_in_a_hook(self, unlocked: Debugger) -> None:
        unlocked.open("/before")
        console = unlocked.open_console("refuse")
        assert unlocked.evaluate(console, "inside_hook, g.user") == "('hooked', 'ann')"

    def test_async_code_in_its_sync_form(self, unlocked: Debugger) -> None:
        unlocked.open("/sync")
        console = unlocked.open_console("sync_view")
        assert unlocked.evaluate(console, "current_app.ensure_sync(fine)()") == "'fine'"
        assert unlocked.evaluate(console, "app.test_client().get('/fine').text") == "'fine'"

    def test_the_page_begins_with_the_applications_frames(self, page: Debugger) -> None:
        for path in ("/sync", "/async/bob"):
            page.open(path)
            page.browser.see("LookupError")
            files = {element.text for element in page.find("div.frame cite.filename")}
            assert not any("debugger.py" in name or "uvicorn" in name for name in files)

    def test_each_error_has_consoles_of_its_own(self, unlocked: Debugger) -> None:
        unlocked.open("/async/bob")
        first = unlocked.driver.current_window_handle
        console = unlocked.open_console("async_view")
        unlocked.driver.switch_to.new_window("tab")
        try:
            unlocked.open("/async/eve")
            second = unlocked.open_console("async_view")
            assert unlocked.evaluate(second, "name, request.path") == "('eve', '/async/eve')"
        finally:
            unlocked.driver.close()
            unlocked.driver.switch_to.window(first)
        assert unlocked.evaluate(console, "name, request.path") == "('bob', '/async/bob')"

    def test_blocking_code_holds_nobody_up(self, unlocked: Debugger, server: Server) -> None:
        unlocked.open("/async/bob")
        console = unlocked.open_console("async_view")
        unlocked.submit(console, "import time; time.sleep(2); 'woke'")
        time.sleep(0.3)
        began = time.monotonic()
        for _ in range(5):
            assert server.get("/fine") == (200, "fine")
        assert time.monotonic() - began < 1
        assert not console.find_elements("css selector", ".output > div")
        unlocked.browser.see("woke")

    def test_the_console_without_an_error(self, unlocked: Debugger) -> None:
        unlocked.open("/console")
        find = unlocked.driver.find_elements
        console = unlocked.browser.wait_for(lambda: find("css selector", "pre.console"), "a console")[0]
        assert unlocked.evaluate(console, "app.name, 6 * 7") == "('shop', 42)"


class TestPin:
    def test_without_it_nothing_is_evaluated(self, page: Debugger, server: Server) -> None:
        page.open("/sync")
        console = page.open_console("sync_view")
        assert page.is_locked()
        frame = page.frame("sync_view").get_attribute("id").removeprefix("frame-")
        secret = page.driver.execute_script("return SECRET")
        command = {"__debugger__": "yes", "cmd": "1+41", "frm": frame, "s": secret}
        status, answer = server.get("/sync?" + urlencode(command))
        assert status == 500
        assert ">42<" not in answer
        page.driver.execute_script("arguments[0].style.display = 'none'", page.find(".pin-prompt")[0])
        assert "42" not in page.evaluate(console, "20 + 22").splitlines()[0]

    def test_a_wrong_one(self, page: Debugger, server: Server) -> None:
        page.open("/sync")
        console = page.open_console("sync_view")
        page.enter_pin("000-000-001")
        assert "incorrect pin" in page.dismiss_alert()
        assert page.is_locked()
        page.unlock(read_pin(server))
        assert page.evaluate(console, "secret") == "21"

    def test_the_page_asks_the_log_for_it(self, look: Look, run: Run) -> None:
        """Without the reloader it is not printed at the start, as in Werkzeug."""
        server = run("--debug", "--no-reload")
        page = look(server)
        page.open("/async/bob")
        console = page.open_console("async_view")
        page.unlock(server.wait_for(r"Debugger pin code: ([\d-]+)")[1])
        assert page.evaluate(console, "secret") == "22"

    def test_ten_wrong_ones_lock_it_for_good(self, look: Look, run: Run) -> None:
        server = run("--debug")
        page = look(server)
        page.open("/sync")
        page.open_console("sync_view")
        secret = page.driver.execute_script("return SECRET")

        def try_pin(pin: str) -> dict[str, bool]:
            query = urlencode({"__debugger__": "yes", "cmd": "pinauth", "pin": pin, "s": secret})
            answer: dict[str, bool] = json.loads(server.get(f"/?{query}")[1])
            return answer

        with ThreadPoolExecutor(10) as pool:
            answers = pool.map(try_pin, ["1"] * 10)
            assert server.get("/fine") == (200, "fine")
            assert list(answers) == [{"auth": False, "exhausted": False}] * 10
        assert try_pin(read_pin(server)) == {"auth": False, "exhausted": True}
        page.enter_pin(read_pin(server))
        assert "too many attempts" in page.dismiss_alert()

    def test_switched_off(self, look: Look, run: Run) -> None:
        server = run("--debug", WERKZEUG_DEBUG_PIN="off")
        server.wait_for("Debugger PIN disabled")
        page = look(server)
        page.open("/async/bob")
        console = page.open_console("async_view")
        assert not page.is_locked()
        assert page.evaluate(console, "secret") == "22"


class TestOff:
    @pytest.mark.parametrize("arguments", [("--debug", "--no-debugger"), ()])
    def test_no_debugger_no_page(self, look: Look, run: Run, arguments: tuple[str, ...]) -> None:
        page = look(run(*arguments))
        for path in ("/sync", "/async/bob"):
            page.open(path)
            page.browser.see("Internal Server Error")
            assert "lost" not in page.driver.page_source
            assert not page.find("div.frame")
        page.open("/console")
        page.browser.see("Not Found")

    def test_no_consoles_on_the_page(self, look: Look, run: Run) -> None:
        script = f"{SHOP}\napp.run(port=0, debug=True, use_reloader=False, use_evalex=False)\n"
        page = look(run(command=("shop.py",), text=script))
        page.open("/async/bob")
        page.browser.see("LookupError: lost on the loop")
        assert page.find("div.frame")
        assert not page.driver.find_elements("css selector", "div.frame img")
        page.open("/console")
        page.browser.see("Not Found")


class TestForeignHost:
    def test_the_page_has_no_consoles(self, page: Debugger) -> None:
        page.open("/async/bob", f"http://evil.example:{urlsplit(page.origin).port}")
        page.browser.see("LookupError: lost on the loop")
        assert not page.driver.find_elements("css selector", "div.frame img")

    def test_nothing_is_answered(self, unlocked: Debugger, server: Server) -> None:
        frame = unlocked.frame("sync_view").get_attribute("id").removeprefix("frame-")
        secret = unlocked.driver.execute_script("return SECRET")
        cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in unlocked.driver.get_cookies())
        for host, status in ((None, 200), ("evil.example", 400)):
            headers = {"Cookie": cookies, **({"Host": host} if host else {})}
            for query in ({"cmd": "secret*2", "frm": frame}, {"cmd": "pinauth", "pin": "1"}, {"cmd": "printpin"}):
                query = {"__debugger__": "yes", **query, "s": secret}
                assert server.get("/?" + urlencode(query), **headers)[0] == status, query
            assert server.get("/console", **headers)[0] == status


def test_an_error_after_the_start_breaks_the_connection(server: Server) -> None:
    with pytest.raises(http.client.IncompleteRead):
        server.get("/late")
    server.wait_for("too late")


def test_the_traceback_is_in_the_log_too(server: Server, page: Debugger) -> None:
    page.open("/helped")
    page.browser.see("ValueError")
    log = server.wait_for(r"(?s)KeyError: 'missing'.*ValueError: nothing for 14")[0]
    assert re.search(r"in help_out", log)


def test_broken_code_is_shown_until_the_next_save(look: Look, run: Run) -> None:
    server = run("--debug")
    page = look(server)
    page.open("/fine")
    page.browser.see("fine")
    shop = server.output.parent / "shop.py"
    rewrite(shop, SHOP + "\ndef broken(:\n")
    server.wait_for("SyntaxError: invalid syntax")
    page.open("/fine")
    page.browser.see("SyntaxError: invalid syntax")
    page.browser.see("def broken(:")
    rewrite(shop, SHOP.replace('"fine"', '"mended"'))
    server.wait_for(r"(?s)(startup complete.*){3}")
    page.open("/fine")
    page.browser.see("mended")
