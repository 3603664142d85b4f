"""The tour, through its pages and its API, as visitors use it and as attackers try to."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from examples.tour import auth, create_app, store
from examples.tour.db import connect

PASSWORD = "correct horse"
EVIL = "<script>alert('x')</script>"
QUICK = {"TESTING": True, "LOOKUP_SECONDS": 0.02, "TICK_SECONDS": 0.001}
PUBLIC_PAGES = ["/", "/how", "/login", "/register"]
MEMBER_PAGES = ["/notes/", "/notes/new", "/notes/1", "/notes/1/edit", "/notes/export.csv", "/today", "/live"]


class Visitor:
    """A browser without a screen: it keeps cookies, and sends the token of the form it was shown."""

    def __init__(self, app: Any, name: str = "") -> None:
        self.client = app.test_client()
        if name:
            self.submit("/register", username=name, password=PASSWORD, repeat=PASSWORD)

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, **options)

    def submit(self, page: str, to: str = "", follow: bool = True, **fields: Any) -> Any:
        """Opens `page` and posts its form to `to`, or to the page itself."""
        data = {"csrf_token": find_token(self.get(page).text), **fields}
        return self.client.post(to or page, data=data, follow_redirects=follow)

    def write(self, title: str = "Milk", body: str = "Two litres", **fields: Any) -> Any:
        return self.submit("/notes/new", title=title, body=body, **fields)

    def attach(self, name: str, content: bytes = b"content") -> str:
        """Writes a note with a file; the address of the download."""
        return re.findall(r'href="(/files/\w+)"', self.write(files=(io.BytesIO(content), name)).text)[0]

    def download(self, path: str) -> bytes:
        with self.get(path) as response:  # a file stays open until its response is closed
            assert response.status_code == 200
            assert response.headers["Content-Disposition"].startswith("attachment;")
            return response.data


def find_token(page: str) -> str:
    return re.findall(r'name="csrf_token" value="([^"]+)"', page)[0]


@pytest.fixture(autouse=True)
def hash_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(auth.generate_password_hash, method="pbkdf2:sha256:1")
    monkeypatch.setattr(auth, "generate_password_hash", quick)


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return create_app(QUICK, tmp_path)


@pytest.fixture
def ann(app: Any) -> Visitor:
    return Visitor(app, "ann")


@pytest.fixture
def bob(app: Any) -> Visitor:
    return Visitor(app, "bob")


# Pages


@pytest.mark.parametrize("path", PUBLIC_PAGES)
def test_public_pages_are_for_everybody(app, path):
    response = Visitor(app).get(path)
    assert response.status_code == 200
    assert "<h1>" in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", MEMBER_PAGES)
def test_member_pages_send_strangers_to_the_login_and_back(app, ann, path):
    ann.write()
    stranger = Visitor(app)
    response = stranger.get(path)
    assert response.status_code == 302
    response = stranger.submit(response.location, follow=False, username="ann", password=PASSWORD)
    assert response.location == path
    assert stranger.get(path).status_code == 200


def test_every_page_is_in_one_of_the_lists(app):
    plain = {rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods and not rule.arguments}
    assert plain - {"/api/notes"} <= {*PUBLIC_PAGES, *MEMBER_PAGES}


def test_members_start_at_their_notes(ann):
    assert ann.get("/").location == "/notes/"
    assert "Nothing here yet" in ann.get("/notes/").text


def test_the_foot_tells_where_the_view_ran(ann):
    assert re.search(r"<code>def notes\.index in thread \S+", ann.get("/notes/").text)
    assert re.search(r"<code>async def live\.today on the event loop in \S+", ann.get("/today").text)
    assert re.search(r"<code>async def live\.live on the event loop in \S+", ann.get("/live").text)


def test_how_lists_both_kinds_of_view(app):
    page = Visitor(app).get("/how").text
    assert re.search(r">async def</span> live\.today", page)
    assert re.search(r">def</span> notes\.index", page)
    assert "/notes/&lt;id:note_id&gt;/edit" in page


# Accounts


@pytest.mark.parametrize(
    ("username", "password", "repeat", "message"),
    [
        ("ab", PASSWORD, PASSWORD, "Use 3 to 30 letters"),
        (EVIL, PASSWORD, PASSWORD, "Use 3 to 30 letters"),
        ("cleo\n", PASSWORD, PASSWORD, "Use 3 to 30 letters"),
        ("cleo", "short", "short", "Use 8 to 200 characters"),
        ("cleo", PASSWORD, "another", "The two passwords differ"),
        ("ANN", PASSWORD, PASSWORD, "This name is taken"),
    ],
)
def test_register_refuses(app, ann, username, password, repeat, message):
    response = Visitor(app).submit("/register", username=username, password=password, repeat=repeat)
    assert response.status_code == 422
    assert message in response.text
    assert EVIL not in response.text


def test_register_with_nothing_at_all(app):
    assert Visitor(app).submit("/register").status_code == 422


@pytest.mark.parametrize(("username", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_login_refuses_without_telling_why(app, ann, username, password):
    response = Visitor(app).submit("/login", username=username, password=password)
    assert response.status_code == 422
    assert "Name and password do not match." in response.text


def test_logout_ends_the_session(ann):
    assert "You are logged out." in ann.submit("/notes/", to="/logout").text
    assert ann.get("/notes/").status_code == 302


def test_login_changes_the_form_token(app, ann):
    stranger = Visitor(app)
    before = find_token(stranger.get("/login").text)
    stranger.submit("/login", username="ann", password=PASSWORD)
    assert find_token(stranger.get("/notes/").text) != before


@pytest.mark.parametrize("target", ["//x", "/\\evil.example", "/\t/x", "https://x", "x:y", "x", ""])
def test_login_never_sends_to_another_site(app, ann, target):
    visitor = Visitor(app)
    token = find_token(visitor.get("/login").text)
    data = {"csrf_token": token, "username": "ann", "password": PASSWORD}
    assert visitor.client.post("/login", query_string={"next": target}, data=data).location == "/notes/"


def test_an_account_that_is_gone_is_logged_out(app, ann):
    with closing(connect(app.config["DATABASE"])) as db, db:
        db.execute("DELETE FROM user")
    assert ann.get("/notes/").status_code == 302


def test_passwords_are_kept_as_hashes(app, ann):
    assert PASSWORD.encode() not in Path(app.config["DATABASE"]).read_bytes()


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(app):
    cookie = Visitor(app).get("/login").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_sessions_outlive_a_restart(app, ann, tmp_path):
    cookie = ann.client.get_cookie("session").value
    again = create_app(QUICK, tmp_path).test_client()
    again.set_cookie("session", cookie)
    assert again.get("/notes/").status_code == 200


# Forms of other sites


def list_form_targets(app: Any) -> list[str]:
    adapter = app.url_map.bind("localhost")
    arguments = {"note_id": 1, "stored_name": "x"}
    return [
        adapter.build(rule.endpoint, {name: arguments[name] for name in rule.arguments}, method="POST")
        for rule in app.url_map.iter_rules()
        if "POST" in rule.methods and not rule.endpoint.startswith("api.")
    ]


def test_every_form_needs_its_token(app, ann, bob):
    ann.write()
    targets = list_form_targets(app)
    assert len(targets) == 7
    foreign = find_token(bob.get("/notes/new").text)
    for target in targets:
        for token in ({}, {"csrf_token": ""}, {"csrf_token": "é"}, {"csrf_token": foreign}):
            response = ann.client.post(target, data={"title": "changed", **token})
            assert response.status_code == 400, target
            assert "came from elsewhere" in response.text
    assert "Milk" in ann.get("/notes/1").text


def test_a_visitor_without_a_session_has_no_valid_token(app):
    data = {"csrf_token": "", "username": "cleo", "password": PASSWORD, "repeat": PASSWORD}
    assert app.test_client().post("/register", data=data).status_code == 400


# Notes


def test_write_read_change_delete(ann):
    page = ann.write("Milk", "Two litres\r\nof oat").text
    assert "Note saved." in page
    assert '<div class="text">Two litres\nof oat</div>' in page
    page = ann.submit("/notes/1/edit", title="Bread", body="Rye").text
    assert "Changes saved." in page
    assert "Rye" in ann.get("/notes/").text
    page = ann.submit("/notes/1", to="/notes/1/delete").text
    assert "“Bread” is deleted." in page
    assert ann.get("/notes/1").status_code == 404


@pytest.mark.parametrize(
    ("title", "body", "message"),
    [
        ("", "kept text", "Give the note a title."),
        ("   ", "kept text", "Give the note a title."),
        ("x" * 121, "kept text", "Use at most 120 characters."),
        ("Milk", "kept text" + "x" * 20_000, "Use at most 20000 characters."),
    ],
)
@pytest.mark.parametrize("path", ["/notes/new", "/notes/1/edit"])
def test_a_wrong_note_comes_back_with_what_was_typed(ann, path, title, body, message):
    ann.write("before", "before")
    response = ann.submit(path, title=title, body=body)
    assert response.status_code == 422
    assert message in response.text
    assert "kept text" in response.text
    assert "kept text" not in ann.get("/notes/").text


def test_line_ends_of_browsers_do_not_count_twice(ann):
    assert ann.write(body="\r\n" * 20_000).status_code == 200


def test_users_words_are_never_markup(ann):
    page = ann.write(EVIL, EVIL, files=(io.BytesIO(b"x"), f"{EVIL}.txt")).text
    pages = [page, ann.get("/notes/").text, ann.get("/notes/1/edit").text]
    pages.append(ann.get("/notes/", query_string={"q": EVIL}).text)
    pages.append(ann.submit("/notes/1", to="/notes/1/delete").text)
    for page in pages:
        assert "<script" not in page
        assert "alert(" in unescape(page)


def test_search_finds_titles_and_texts_and_marks_the_words(ann):
    ann.write("Milk", "Two litres")
    ann.write("Bread", "with MILK & honey")
    ann.write("Tea", "Green")
    page = ann.get("/notes/?q=milk").text
    assert "2 notes with “milk”" in page
    assert "<mark>Milk</mark>" in page
    assert "with <mark>MILK</mark> &amp; honey" in page
    assert "Tea" not in page


def test_search_takes_every_character_for_itself(ann):
    for title in ("100% wool", "100 sheep", "a_b\\c"):
        ann.write(title)
    for query, count in {"100%": 1, "_": 1, "\\": 1, "'": 0, " 100 ": 2, "": 3}.items():
        assert ann.get("/notes/", query_string={"q": query}).text.count('class="card"') == count


def test_the_excerpt_shows_a_match_far_inside(ann):
    ann.write("Long", "word " * 500 + "needle " + "word " * 500)
    assert "<mark>needle</mark>" in ann.get("/notes/?q=needle").text


@pytest.mark.parametrize("number", ["0", "-1", "01", "9" * 18, "9" * 19, "9" * 5000, "x"])
def test_note_numbers_that_cannot_be(ann, number):
    assert ann.get(f"/notes/{number}").status_code == 404
    assert ann.get(f"/api/notes/{number}").status_code == 404


def test_a_foreign_note_does_not_exist(ann, bob):
    download = ann.attach("plan.txt")
    form = find_token(bob.get("/notes/new").text)
    for path in ("/notes/1", "/notes/1/edit", download):
        assert bob.get(path).status_code == 404
    for path in ("/notes/1/edit", "/notes/1/delete", f"{download}/delete"):
        response = bob.client.post(path, data={"csrf_token": form, "title": "mine", "body": ""})
        assert response.status_code == 404
    assert "Milk" not in bob.get("/notes/").text
    assert "0 notes with" in bob.get("/notes/?q=Milk").text
    assert b"Milk" not in bob.get("/notes/export.csv").data
    assert ann.download(download) == b"content"


# Files


def test_a_file_comes_back_as_it_was(app, ann):
    content = bytes(range(256)) * 100
    path = ann.attach("holiday plan é.html", content)
    assert ann.download(path) == content
    with ann.client.head(path) as response:
        assert "holiday%20plan%20%C3%A9.html" in response.headers["Content-Disposition"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_several_files_at_once_and_none(ann):
    files = [(io.BytesIO(b"1"), "one.txt"), (io.BytesIO(b"2"), "two.txt")]
    page = ann.write(files=files).text
    assert page.count("/delete") == 3
    assert "2 files" in ann.get("/notes/").text
    assert ann.write("empty", files=(io.BytesIO(b""), "")).text.count("/delete") == 1


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../evil.py", "evil.py"),
        ("..\\..\\evil.py", "evil.py"),
        ("C:\\fakepath\\evil.py", "evil.py"),
        ("/etc/passwd", "passwd"),
        ("..", ".."),
        ("a\tb\x7f.txt", "ab.txt"),
        ("folder/", "file"),
        ("x" * 300 + ".txt", "x" * 116 + ".txt"),
    ],
)
def test_no_path_is_made_of_a_users_name_for_a_file(app, ann, tmp_path, sent, shown):
    before = {path.name for path in tmp_path.iterdir()}
    download = ann.attach(sent)
    assert shown in ann.get("/notes/1").text
    assert ann.download(download) == b"content"
    [stored] = Path(app.config["UPLOADS"]).iterdir()
    assert re.fullmatch("[0-9a-f]{32}", stored.name)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("folder", ["/files/", "/static/"])
@pytest.mark.parametrize("up", ["../", "..%2f", "%2e%2e%2f", "..%5c", "/", "%2f", "..", "%00", "0000/../../"])
def test_downloads_stay_in_their_folder(ann, folder, up):
    ann.attach("plan.txt")
    for name in ("secret_key", "app.py", "etc/passwd", ""):
        assert ann.get(folder + up + name, follow_redirects=True).status_code == 404


def test_files_go_with_their_row_and_their_note(app, ann):
    uploads = Path(app.config["UPLOADS"])
    first = ann.attach("first.txt")
    ann.attach("second.txt")
    assert "“first.txt” is deleted." in ann.submit("/notes/1", to=f"{first}/delete").text
    assert len(list(uploads.iterdir())) == 1
    ann.submit("/notes/2", to="/notes/2/delete")
    assert not list(uploads.iterdir())
    assert ann.get(first).status_code == 404


def test_no_file_is_left_if_its_row_cannot_be_written(app, ann, monkeypatch):
    def fail(*values: object) -> int:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(store, "add_attachment", fail)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert ann.write(files=(io.BytesIO(b"x"), "a.txt")).status_code == 500
    assert not list(Path(app.config["UPLOADS"]).iterdir())


def test_too_large_is_413(app, ann):
    app.config["MAX_CONTENT_LENGTH"] = 10_000
    response = ann.write(files=(io.BytesIO(b"x" * 10_001), "large.bin"))
    assert response.status_code == 413
    assert "up to 9.8 KiB" in response.text
    assert "Log out" in response.text
    response = ann.client.post("/api/notes", json={"title": "x" * 10_001})
    assert response.status_code == 413
    assert "up to 9.8 KiB" in response.json["error"]
    assert "Nothing here yet" in ann.get("/notes/").text


# Errors


def test_404_is_a_page_and_below_api_it_is_json(app):
    visitor = Visitor(app)
    page = visitor.get("/nowhere")
    assert page.status_code == 404
    assert page.mimetype == "text/html"
    assert "There is no such page" in page.text
    answer = visitor.get("/api/nowhere")
    assert answer.status_code == 404
    assert "There is no such page" in answer.json["error"]


def test_405_keeps_its_allow_header(ann):
    assert set(ann.get("/logout").headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    response = ann.client.patch("/api/notes/1")
    assert response.status_code == 405
    assert "PUT" in response.headers["Allow"]
    assert response.json["error"]


def test_500_is_a_page_that_tells_nothing(tmp_path):
    app = create_app({**QUICK, "PROPAGATE_EXCEPTIONS": False}, tmp_path)
    app.add_url_rule("/broken", view_func=lambda: 1 / 0)
    app.add_url_rule("/api/broken", "api_broken", lambda: 1 / 0)
    page = Visitor(app, "ann").get("/broken")
    assert page.status_code == 500
    assert "The fault is ours." in page.text
    assert "ann" in page.text
    assert "ZeroDivisionError" not in page.text
    answer = app.test_client().get("/api/broken")
    assert answer.status_code == 500
    assert "The fault is ours." in answer.json["error"]


def test_the_error_page_works_without_a_database(app, ann, tmp_path):
    app.config.update(PROPAGATE_EXCEPTIONS=False, DATABASE=str(tmp_path))
    response = ann.get("/notes/")
    assert response.status_code == 500
    assert "The fault is ours." in response.text


# API


def test_api_life_of_a_note(app, ann):
    client = app.test_client()
    named = {"auth": ("ann", PASSWORD)}
    created = client.post("/api/notes", json={"title": " Milk ", "body": "é"}, **named)
    assert created.status_code == 201
    assert created.location == "/api/notes/1"
    note = created.json
    assert (note["id"], note["title"], note["body"], note["url"]) == (1, "Milk", "é", "/api/notes/1")
    assert client.get("/api/notes", **named).json == {"notes": [note]}
    assert client.get("/api/notes?q=nothing", **named).json == {"notes": []}
    changed = client.put("/api/notes/1", json={"title": "Bread"}, **named)
    assert changed.status_code == 200
    assert (changed.json["title"], changed.json["body"]) == ("Bread", "")
    assert client.get("/api/notes/1", **named).json == {**changed.json, "files": []}
    deleted = client.delete("/api/notes/1", **named)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert client.get("/api/notes/1", **named).status_code == 404


def test_api_shows_files_and_takes_them_along(app, ann):
    download = ann.attach("plan.txt")
    [file] = ann.get("/api/notes/1").json["files"]
    assert file == {"filename": "plan.txt", "size": 7, "url": download}
    assert ann.client.delete("/api/notes/1").status_code == 204
    assert not list(Path(app.config["UPLOADS"]).iterdir())


@pytest.mark.parametrize("sent", [None, ("ann", "wrong"), ("nobody", PASSWORD), ("", "")])
@pytest.mark.parametrize("line", ["GET ", "POST ", "GET /1", "PUT /1", "DELETE /1"])
def test_api_asks_who_is_there(app, ann, sent, line):
    method, _, path = line.partition(" ")
    response = app.test_client().open(f"/api/notes{path}", method=method, auth=sent)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic")
    assert response.json == {"error": "Log in first."}


def test_api_prefers_the_name_that_is_sent_to_the_session(ann, bob):
    ann.client.post("/api/notes", json={"title": "Bob's"}, auth=("bob", PASSWORD))
    assert ann.get("/api/notes").json["notes"] == []
    assert ann.get("/api/notes", auth=("ann", "wrong")).status_code == 401
    assert ann.get("/api/notes", headers={"Authorization": "Bearer x"}).status_code == 401
    assert bob.get("/api/notes").json["notes"][0]["title"] == "Bob's"


@pytest.mark.parametrize(
    ("status", "content_type", "bodies"),
    [
        (415, "text/plain", [b'{"title": "x"}']),
        (415, "application/x-www-form-urlencoded", [b"title=x"]),
        (415, None, [b""]),
        (400, "application/json", [b"", b"{", b"[]", b"null", b"\xff"]),
        (422, "application/json", [b"{}", b'{"title": ""}', b'{"title": 1}', b'{"title": null}']),
        (422, "application/json", [b'{"title": "x", "body": ["y"]}', b'{"title": "\\ud800"}']),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/notes"), ("PUT", "/api/notes/1")])
def test_api_refuses_what_is_no_note(ann, method, path, status, content_type, bodies):
    ann.write("before")
    for body in bodies:
        response = ann.client.open(path, method=method, data=body, content_type=content_type)
        assert response.status_code == status, body
        assert response.json["error"]
    assert [note["title"] for note in ann.get("/api/notes").json["notes"]] == ["before"]


def test_api_names_the_wrong_fields(ann):
    fields = ann.client.post("/api/notes", json={"title": "x" * 121, "body": 1}).json["fields"]
    assert fields == {"title": "Use at most 120 characters.", "body": "This must be text."}


def test_api_keeps_foreign_notes_apart(ann, bob):
    ann.write("Ann's")
    assert bob.get("/api/notes").json == {"notes": []}
    assert bob.get("/api/notes/1").status_code == 404
    assert bob.client.put("/api/notes/1", json={"title": "mine"}).status_code == 404
    assert bob.client.delete("/api/notes/1").status_code == 404
    assert ann.get("/api/notes/1").json["title"] == "Ann's"


# Streams


def test_export_brings_every_note_of_the_user(app, ann, bob):
    bob.write("Bob's")
    with closing(connect(app.config["DATABASE"])) as db, db:
        rows = [(1, f"note {number}", 'a "quoted",\nsecond line; é') for number in range(250)]
        db.executemany("INSERT INTO note (owner_id, title, body) VALUES (?, ?, ?)", rows)
    response = ann.get("/notes/export.csv")
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == "attachment; filename=notes.csv"
    head, *lines = csv.reader(io.StringIO(response.get_data(as_text=True), newline=""))
    assert head == ["id", "title", "body", "created", "updated"]
    assert [line[1] for line in lines] == [f"note {number}" for number in range(250)]
    assert {line[2] for line in lines} == {'a "quoted",\nsecond line; é'}


def test_live_page_is_whole_at_its_end(ann):
    page = ann.get("/live").text
    assert re.findall(r"<b>(\d+)</b>", page) == [str(left) for left in range(10, 0, -1)]
    assert page.index("<b>1</b>") < page.index("Lift-off") < page.index("</html>")


def test_today_waits_for_all_at_once(ann):
    ann.write(body="12345")
    page = ann.get("/today").text
    assert "14°" in page
    assert "5 characters" in page
    took, total = map(float, re.findall(r"t(?:ake|ook) (\d\.\d\d) s", page))
    assert total <= took
