"""What the tour keeps in its folder: the database, and the key that signs cookies."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.security import generate_password_hash

from examples.tour import create_app, store
from examples.tour.db import connect, get_db
from examples.tour.secret import load_secret_key


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return create_app({"TESTING": True}, tmp_path)


def add_user(app: Any, name: str) -> int:
    with app.app_context():
        return store.add_user(name, generate_password_hash("password", "pbkdf2:sha256:1"))


def test_one_request_has_one_connection_and_closes_it(app):
    with app.app_context():
        db = get_db()
        assert get_db() is db
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("SELECT 1")


def test_the_database_comes_back_by_itself(app):
    assert add_user(app, "ann") == 1
    Path(app.config["DATABASE"]).unlink()
    assert add_user(app, "bob") == 1


def test_many_workers_may_create_the_database_at_once(tmp_path):
    def open_and_close(number: int) -> int | None:
        with closing(connect(str(tmp_path / "new.sqlite3"))) as db, db:
            return db.execute("INSERT INTO user (username, password_hash) VALUES (?, '')", [number]).lastrowid

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(open_and_close, range(16))) == list(range(1, 17))


def test_requests_at_the_same_time_keep_to_their_own_connection(app):
    ann = add_user(app, "ann")

    def write(title: str) -> Any:
        return app.test_client().post("/api/notes", json={"title": title}, auth=auth).status_code

    auth = ("ann", "password")
    titles = [f"note {number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(write, titles)) == {201}
    assert {note["title"] for note in store.iterate_notes(app.config["DATABASE"], ann)} == set(titles)


def test_the_key_is_made_once_and_is_private(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_secret_key, [tmp_path] * 16))
    assert len(keys) == 1
    assert re.fullmatch("[0-9a-f]{64}", keys.pop())
    [path] = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_configuration_comes_from_the_environment_and_then_from_the_caller(tmp_path, monkeypatch):
    monkeypatch.setenv("TOUR_SECRET_KEY", "from the environment")
    monkeypatch.setenv("TOUR_MAX_CONTENT_LENGTH", "100")
    monkeypatch.setenv("TOUR_INSTANCE_PATH", str(tmp_path / "deep" / "inside"))
    app = create_app({"MAX_CONTENT_LENGTH": 200})
    assert app.secret_key == "from the environment"
    assert app.config["MAX_CONTENT_LENGTH"] == 200
    assert Path(app.instance_path) == tmp_path / "deep" / "inside"
    assert Path(app.instance_path).stat().st_mode & 0o777 == 0o700
