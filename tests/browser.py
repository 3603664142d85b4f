"""Headless Chromium as a person uses it: see a text, follow a link by its words, fill a labelled field."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 15  # seconds that anything on a page may take
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900")
LINK = "//a[normalize-space()=$]"
BUTTON = "//button[normalize-space()=$] | //summary[normalize-space()=$]"
FIELD = "//*[@id=//label[normalize-space()=$]/@for]"

Found = TypeVar("Found")


def require_browser() -> None:
    """Skips the calling module where no browser is; fails it if CI is set, where one is promised."""
    missing = find_missing()
    if missing and os.environ.get("CI"):
        pytest.fail(f"no browser to test with: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"no browser to test with: {missing}", allow_module_level=True)


def find_missing() -> str:
    try:
        import selenium  # noqa: F401  # only asked for, so that a machine without it can skip
    except ImportError:
        return "selenium is not installed"
    found = find_chromium() and shutil.which("chromedriver")
    return "" if found else "chromium or chromedriver is not installed"


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """A driver with the waits built in. It never waits for the end of a page, which a stream may put off."""

    def __init__(self, driver: Any, origin: str, downloads: Path) -> None:
        self.driver = driver
        self.origin = origin
        self.downloads = downloads

    def open(self, path: str) -> None:
        self.leave(lambda: self.driver.get(self.origin + path))

    def follow(self, words: str, *, leaves: bool = True) -> None:
        """Clicks the link with these words; `leaves`: then waits until the old page is gone."""
        self.click(LINK, words, leaves)

    def press(self, words: str, *, leaves: bool = True) -> None:
        self.click(BUTTON, words, leaves)

    def click(self, kind: str, words: str, leaves: bool) -> None:
        element = self.wait_for(lambda: self.find_shown(kind, words), f"something to click called {words!r}")
        self.leave(element.click) if leaves else element.click()

    def fill(self, label: str, value: str) -> None:
        field = self.wait_for(lambda: self.find_shown(FIELD, label), f"a field labelled {label!r}")
        if field.get_attribute("type") != "file":
            field.clear()
        field.send_keys(value)

    def see(self, text: str) -> None:
        self.wait_for(lambda: text in self.read(), f"the text {text!r}")

    def read(self) -> str:
        """What the page shows, hidden parts left out."""
        bodies = self.driver.find_elements("tag name", "body")
        return bodies[0].text if bodies else ""

    def read_path(self) -> str:
        return self.driver.current_url.removeprefix(self.origin)

    def receive(self, filename: str) -> bytes:
        """The content of a download, once it is there: the browser gives it its name when it is complete."""
        path = self.downloads / filename
        self.wait_for(path.exists, f"the download {filename!r}")
        return path.read_bytes()

    def resize(self, width: int, height: int = 900) -> None:
        """The size of a screen; a window alone never gets as narrow as a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def leave(self, act: Callable[[], Any]) -> None:
        old = self.wait_for(lambda: self.driver.find_element("tag name", "html"), "a page to leave")
        act()
        self.wait_for(lambda: is_gone(old) and self.driver.find_elements("tag name", "body"), "the next page")

    def find_shown(self, xpath: str, words: str) -> Any:
        found = self.driver.find_elements("xpath", xpath.replace("$", f'"{words}"'))
        return next((element for element in found if element.is_displayed() or is_file(element)), None)

    def wait_for(self, look: Callable[[], Found], what: str) -> Found:
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if found := look():
                    return found
            except WebDriverException:  # the page changed while we looked: look again
                pass
            time.sleep(0.05)
        raise AssertionError(f"no {what} in {PATIENCE} s on {self.driver.current_url}:\n{self.read()}")


def is_gone(element: Any) -> bool:
    from selenium.common.exceptions import WebDriverException

    try:
        element.is_enabled()
    except WebDriverException:
        return True
    return False


def is_file(element: Any) -> bool:
    return bool(element.get_attribute("type") == "file")


@contextmanager
def open_browser(origin: str, downloads: Path, *flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own; downloads go to the folder `downloads` without a question."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = find_chromium() or ""
    options.page_load_strategy = "none"
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.command_executor.client_config.timeout = 2 * PATIENCE
    try:
        yield Browser(driver, origin, downloads)
    finally:
        driver.quit()


@contextmanager
def serve(target: str, log: Path, **environment: str) -> Iterator[str]:
    """The origin of a uvicorn process that serves `target` on a port which the system chose."""
    command = [sys.executable, "-m", "uvicorn", target, "--port", "0", "--no-use-colors"]
    environment = {**os.environ, **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield wait_for_origin(process, log)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def wait_for_origin(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"running on (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
