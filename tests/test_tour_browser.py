"""The tour on a real server, used by a real browser."""

from __future__ import annotations

import csv
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser, open_browser, require_browser, serve

require_browser()

PASSWORD = "correct horse"
PLAN = bytes(range(256)) * 64
RAW_PATHS = [  # as an attacker sends them: a browser would tidy them first
    "/files/../secret_key",
    "/files/..%2fsecret_key",
    "/static/../app.py",
    "/static/..%2fapp.py",
    "//evil.example/..",
]
PAGES = ["/notes/", "/notes/?q=milk", "/notes/new", "/notes/1", "/notes/1/edit", "/today", "/how", "/nowhere"]


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    instance = {"TOUR_INSTANCE_PATH": str(tmp_path / "instance"), "TOUR_TICK_SECONDS": "0.3"}
    with serve("examples.tour.app:app", tmp_path / "server.log", **instance) as origin:
        yield origin


@pytest.fixture
def browser(origin: str, tmp_path: Path) -> Iterator[Browser]:
    with open_browser(origin, tmp_path) as browser:
        yield browser


@pytest.fixture
def ann(browser: Browser) -> Browser:
    """A browser in which ann has just registered."""
    browser.open("/register")
    register(browser, "ann")
    browser.see("Welcome, ann.")
    return browser


def register(browser: Browser, name: str) -> None:
    browser.fill("Name", name)
    browser.fill("Password", PASSWORD)
    browser.fill("Password again", PASSWORD)
    browser.press("Create account")


def log_in(browser: Browser, name: str) -> None:
    browser.fill("Name", name)
    browser.fill("Password", PASSWORD)
    browser.press("Log in")


def write(browser: Browser, title: str, text: str, *files: Path) -> None:
    browser.open("/notes/new")
    browser.fill("Title", title)
    browser.fill("Text", text)
    for path in files:
        browser.fill("Add files", str(path))
    browser.press("Save")


def test_a_first_visit(browser, tmp_path):
    plan = tmp_path / "plan for May.bin"
    plan.write_bytes(PLAN)

    browser.open("/")
    browser.follow("Start writing")
    register(browser, "a!")
    browser.see("Use 3 to 30 letters")
    register(browser, "ann")
    browser.see("Welcome, ann.")
    browser.press("Log out")
    browser.see("You are logged out.")

    browser.open("/notes/new")
    browser.see("Log in to see this page.")
    log_in(browser, "ann")
    browser.see("Welcome back, ann.")
    assert browser.read_path() == "/notes/new"

    write(browser, "Trip to the coast", "Train at 8:14\nfrom platform 3", plan)
    browser.see("Note saved.")
    browser.see("Train at 8:14\nfrom platform 3")
    browser.see("16.0 KiB")
    plan.unlink()
    browser.follow("plan for May.bin", leaves=False)
    assert browser.receive("plan for May.bin") == PLAN

    write(browser, "Bread", "Flour & water")
    browser.follow("All notes")
    assert "Note saved." not in browser.read()
    browser.fill("Search your notes", "PLATFORM")
    browser.press("Search")
    browser.see("1 note with “PLATFORM”.")
    browser.see("Trip to the coast")
    assert "Bread" not in browser.read()
    assert browser.driver.find_element("tag name", "mark").text == "platform"

    browser.follow("Download all as CSV", leaves=False)
    lines = csv.reader(browser.receive("notes.csv").decode().splitlines(keepends=True))
    assert [line[1] for line in lines] == ["title", "Trip to the coast", "Bread"]

    browser.open("/nowhere")
    browser.see("There is no such page")
    browser.follow("Back to the start")
    browser.see("Bread")
    browser.press("Log out")
    browser.see("You are logged out.")
    browser.open("/notes/1")
    browser.see("Log in to see this page.")


def test_a_note_is_changed_and_deleted_only_after_a_question(ann):
    write(ann, "Bread", "Flour")
    ann.follow("Edit")
    ann.fill("Title", "Rye bread")
    ann.press("Save")
    ann.see("Changes saved.")
    ann.see("Rye bread")
    ann.press("Delete", leaves=False)
    ann.see("cannot be brought back")
    ann.press("Yes, delete")
    ann.see("“Rye bread” is deleted.")
    ann.see("Nothing here yet")


def test_a_file_that_is_too_large_gets_the_page_for_it(ann, tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(3 * 1024 * 1024))
    write(ann, "Large", "", large)
    ann.see("Request entity too large")
    ann.see("up to 2.0 MiB")
    ann.follow("Back to the start")
    ann.see("Nothing here yet")


def test_the_live_page_is_shown_while_it_is_written(ann):
    ann.open("/live")
    ann.see("on the event loop in")
    first = ann.read()
    assert "Lift-off" not in first
    ann.see("Lift-off")
    assert len(ann.driver.find_elements("css selector", ".log li")) == 10
    ann.open("/today")
    ann.see("Together they took")


def test_every_page_fits_a_phone_and_keeps_the_rules_for_content(ann):
    write(ann, "Milk, and one averyverylongwordthatdoesnotwanttobreakanywhereatall", "x" * 300)
    ann.resize(360)
    for path in PAGES:
        ann.open(path)
        ann.see("This page:")
        widths = ann.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], path
    messages = [entry["message"] for entry in ann.driver.get_log("browser")]
    assert not [message for message in messages if "Content Security Policy" in message]


def test_raw_paths_stay_in_their_folder(ann):
    cookie = ann.driver.get_cookie("session")["value"]
    for path in RAW_PATHS:
        connection = http.client.HTTPConnection(ann.origin.removeprefix("http://"), timeout=10)
        connection.request("GET", path, headers={"Cookie": f"session={cookie}"})
        assert connection.getresponse().status == 404, path
        connection.close()
