"""The live example as people use it: two browsers in one room, and the dashboard beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import LiveServer, require
from redis_server import start_redis

from tests.browser import Browser, open_browser, require_browser

require_browser()

MARKUP = '<img src=x onerror="document.title=\'broken\'"><b>bold</b> & "quotes"'
MOUNTED = """
from asyncflask import Flask
from examples.live.app import app as live

app = Flask(__name__)
app.mount("/below", live)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def browsers(folder: Path) -> Iterator[tuple[Browser, Browser]]:
    """Two persons: the second one likes it dark."""
    dark = "--blink-settings=preferredColorScheme=0"
    with open_browser("", folder) as ann, open_browser("", folder, dark) as bob:
        yield ann, bob


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    server = LiveServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """One for each test."""
    return request.node.name.removeprefix("test_").replace("_", "-")[:30].strip("-")


@pytest.fixture
def pair(server: LiveServer, browsers: tuple[Browser, Browser], room: str) -> Iterator[tuple[Browser, Browser]]:
    """Ann and Bob in a room."""
    for browser, name in zip(browsers, ("Ann", "Bob"), strict=True):
        come_in(browser, server, name, room)
    yield browsers
    leave(browsers)


def come_in(browser: Browser, server: LiveServer, name: str, room: str) -> None:
    browser.origin = server.origin
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.resize(1200)
    browser.open("/room/" + room)
    browser.fill("Your name", name)
    browser.press("Go in")
    browser.see("Connected")


def leave(browsers: tuple[Browser, ...]) -> None:
    """Else a page would go on asking for its server."""
    for browser in browsers:
        browser.driver.get("about:blank")


def say(browser: Browser, text: str) -> None:
    browser.fill("Message", text)
    browser.press("Send", leaves=False)


def read_all(browser: Browser, selector: str) -> list[str]:
    return [element.text for element in browser.driver.find_elements("css selector", selector)]


def wait_for_list(browser: Browser, selector: str, expected: list[str]) -> None:
    browser.wait_for(lambda: read_all(browser, selector) == expected, f"{expected} in {selector!r}")


def wait_for_feed(browser: Browser, expected: list[str]) -> None:
    """The latest come first; of earlier tests, there may be more."""
    browser.wait_for(lambda: read_all(browser, ".feed .text")[: len(expected)] == expected, f"a feed of {expected}")


def test_two_people_talk(pair):
    ann, bob = pair
    for browser, names in ((ann, ["Ann", "Bob"]), (bob, ["Ann", "Bob"])):
        wait_for_list(browser, "#people li span:not(.sign)", names)
    ann.see("Bob came in.")
    say(ann, "Is there tea?")
    say(bob, "Plenty of it.\n")  # Enter sends, too
    for browser in pair:
        wait_for_list(browser, ".message .text", ["Is there tea?", "Plenty of it."])
        wait_for_list(browser, ".message b", ["Ann", "Bob"])
    ann.driver.find_element("id", "text").send_keys("And ca")
    bob.see("Ann is typing…")
    say(ann, "And cake?")
    bob.see("And cake?")
    assert "typing" not in bob.read()

    bob.follow("Dashboard")
    ann.see("Bob left.")
    wait_for_list(ann, "#people li span:not(.sign)", ["Ann"])
    bob.see("Live")
    wait_for_list(bob, "#people", ["1"])
    wait_for_feed(bob, ["And cake?", "Plenty of it.", "Is there tea?"])

    bob.driver.back()
    wait_for_list(ann, "#people li span:not(.sign)", ["Ann", "Bob"])
    wait_for_list(bob, "#people li span:not(.sign)", ["Ann", "Bob"])
    wait_for_list(bob, ".message .text", ["Is there tea?", "Plenty of it.", "And cake?"])


def test_markup_is_shown_as_text(pair):
    ann, bob = pair
    say(ann, MARKUP)
    for browser in pair:
        wait_for_list(browser, ".message .text", [MARKUP])
        assert "broken" not in browser.driver.title
    bob.open("/dashboard/")
    wait_for_feed(bob, [MARKUP])
    assert not bob.driver.find_elements("css selector", ".feed img")


def test_the_server_goes_and_comes_back(pair, server):
    ann, bob = pair
    say(ann, "Before.")
    bob.see("Before.")
    server.stop()
    ann.see("Reconnecting")
    say(ann, "First of two.")
    say(ann, "Second of two.")
    ann.see("sending…")
    server.start()
    for browser in pair:
        browser.see("Connected")
    bob.see("Second of two.")
    for browser in pair:
        wait_for_list(browser, ".message .text", ["Before.", "First of two.", "Second of two."])
        assert "sending…" not in browser.read()
        wait_for_list(browser, "#people li span:not(.sign)", ["Ann", "Bob"])


def test_redis_goes_and_comes_back(browsers, tmp_path):
    require("redis")
    redis = start_redis(tmp_path)
    server = LiveServer(tmp_path, REDIS_URL=redis.url)
    try:
        server.start()
        ann, bob = browsers
        come_in(ann, server, "Ann", "tea")
        come_in(bob, server, "Bob", "tea")
        redis.kill()
        ann.see("Cut off from the others")
        say(ann, "Kept until then.")
        ann.see("sending…")
        redis.start()
        ann.see("Connected")
        for browser in browsers:
            wait_for_list(browser, ".message .text", ["Kept until then."])
            wait_for_list(browser, "#people li span:not(.sign)", ["Ann", "Bob"])
        leave(browsers)
    finally:
        server.stop()
        redis.kill()


def test_the_dashboard_goes_on(pair, server):
    ann, bob = pair
    bob.open("/dashboard/")
    bob.see("Live")
    wait_for_list(bob, "#count", ["1"])
    first = bob.driver.find_element("css selector", "polyline").get_attribute("points")
    say(ann, "Is this counted?")
    bob.see("Is this counted?")
    bob.wait_for(lambda: max(read_curve(bob)) > min(read_curve(bob)), "a peak in the curve")
    assert bob.driver.find_element("css selector", "polyline").get_attribute("points") != first
    server.stop()
    bob.see("Reconnecting")
    server.start()
    bob.see("Live")
    say(ann, "And this?")
    wait_for_feed(bob, ["And this?", "Is this counted?"])
    wait_for_list(bob, "#count", ["1"])  # the old worker is forgotten


def read_curve(browser: Browser) -> list[float]:
    points = browser.driver.find_element("css selector", "polyline").get_attribute("points")
    return [float(point.partition(",")[2]) for point in points.split()]


def test_a_slip_and_a_link_to_a_room(pair):
    ann, _ = pair
    ann.driver.delete_all_cookies()
    ann.open("/room/tea-room")
    ann.see("Come in to #tea-room")
    ann.fill("Your name", "x" * 24)
    ann.fill("Room", "tea/room")
    ann.press("Go in")
    ann.see("Use 1 to 32 letters, digits and hyphens.")
    ann.fill("Room", "Tea Room")
    ann.press("Go in")
    ann.see("Connected")
    assert ann.read_path() == "/room/tea-room"
    assert ann.driver.switch_to.active_element.get_attribute("id") == "text"


def test_every_page_fits_a_phone_and_keeps_the_rules_for_content(pair, room):
    ann, bob = pair
    for letter in "wx":
        say(ann, letter * 300)
    bob.see("x" * 300)
    bob.resize(360, 700)
    for path, sign in (("/", "Open a door"), (f"/room/{room}", "Connected"), ("/dashboard/", "Live")):
        bob.open(path)
        bob.see(sign)
        bob.see("" if path == "/" else "x" * 300)
        widths = bob.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], path
    assert is_at_end(ann)
    ann.resize(360, 500)
    ann.wait_for(lambda: is_at_end(ann), "end of the log")
    for browser in pair:
        messages = [entry["message"] for entry in browser.driver.get_log("browser")]
        assert not [message for message in messages if re.search("Content Security Policy|Uncaught", message)]


def is_at_end(browser: Browser) -> bool:
    look = "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight"
    return bool(browser.driver.execute_script(look) < 2)


def test_below_a_path(browsers, tmp_path):
    (tmp_path / "live_site.py").write_text(MOUNTED)
    server = LiveServer(tmp_path, "uvicorn live_site:app", ready="/below/")
    ann, _ = browsers
    ann.origin = server.origin
    try:
        server.start()
        ann.open("/below/")
        ann.fill("Your name", "Ann")
        ann.press("Go in")
        ann.see("Connected")
        assert ann.read_path() == "/below/room/lobby"
        say(ann, "Down here.")
        wait_for_list(ann, ".message .text", ["Down here."])
        ann.follow("Dashboard")
        ann.see("Live")
        ann.follow("#lobby")
        ann.see("Down here.")
        leave((ann,))
    finally:
        server.stop()
