"""All SQL of the application. Every query on notes names the owner, so no view can forget to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from sqlite3 import Row

from .db import connect, get_db

NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"
NEXT_BATCH = "SELECT * FROM note WHERE owner_id = ? AND id > ? ORDER BY id LIMIT ?"
TOTALS = "SELECT count(*) AS notes, coalesce(sum(length(body)), 0) AS characters FROM note WHERE owner_id = ?"


def get_user(user_id: int) -> Row | None:
    return fetch_one("SELECT * FROM user WHERE id = ?", user_id)


def find_user(username: str) -> Row | None:
    return fetch_one("SELECT * FROM user WHERE username = ?", username)


def add_user(username: str, password_hash: str) -> int:
    """The new user's id; sqlite3.IntegrityError if the name is taken."""
    return insert("INSERT INTO user (username, password_hash) VALUES (?, ?)", username, password_hash)


def list_notes(owner_id: int, query: str = "") -> list[Row]:
    """The owner's notes that contain `query`, the last changed first, each with its number of files."""
    return fetch_all(
        """SELECT note.*, (SELECT count(*) FROM attachment WHERE note_id = note.id) AS files
           FROM note WHERE owner_id = ? AND (title LIKE ? ESCAPE '\\' OR body LIKE ? ESCAPE '\\')
           ORDER BY updated DESC, id DESC""",
        owner_id,
        *[f"%{escape_like(query)}%"] * 2,
    )


def iterate_notes(path: str, owner_id: int, batch: int = 100) -> Iterator[Row]:
    """The owner's notes in the order they were written, for code that outlives its request.

    Each batch has its own connection: a reader may take minutes, in any thread, and no lock waits for it.
    """
    last_id = 0
    while True:
        with closing(connect(path)) as db:
            rows = db.execute(NEXT_BATCH, (owner_id, last_id, batch)).fetchall()
        if not rows:
            return
        yield from rows
        last_id = rows[-1]["id"]


def count_notes(path: str, owner_id: int) -> Row:
    """The owner's totals (notes, characters), on a connection of its own: async views call it in a thread."""
    with closing(connect(path)) as db:
        row: Row = db.execute(TOTALS, (owner_id,)).fetchone()
    return row


def get_note(owner_id: int, note_id: int) -> Row | None:
    return fetch_one("SELECT * FROM note WHERE id = ? AND owner_id = ?", note_id, owner_id)


def add_note(owner_id: int, title: str, body: str) -> int:
    return insert("INSERT INTO note (owner_id, title, body) VALUES (?, ?, ?)", owner_id, title, body)


def update_note(owner_id: int, note_id: int, title: str, body: str) -> None:
    change = f"UPDATE note SET title = ?, body = ?, updated = {NOW} WHERE id = ? AND owner_id = ?"
    execute(change, title, body, note_id, owner_id)


def delete_note(owner_id: int, note_id: int) -> None:
    execute("DELETE FROM note WHERE id = ? AND owner_id = ?", note_id, owner_id)


def list_attachments(owner_id: int, note_id: int) -> list[Row]:
    return fetch_all(
        """SELECT attachment.* FROM attachment JOIN note ON note.id = note_id
           WHERE note_id = ? AND owner_id = ? ORDER BY attachment.id""",
        note_id,
        owner_id,
    )


def get_attachment(owner_id: int, stored_name: str) -> Row | None:
    return fetch_one(
        """SELECT attachment.* FROM attachment JOIN note ON note.id = note_id
           WHERE stored_name = ? AND owner_id = ?""",
        stored_name,
        owner_id,
    )


def add_attachment(note_id: int, filename: str, stored_name: str, size: int) -> int:
    """The caller has made sure that the note is the user's."""
    return insert(
        "INSERT INTO attachment (note_id, filename, stored_name, size) VALUES (?, ?, ?, ?)",
        note_id,
        filename,
        stored_name,
        size,
    )


def delete_attachment(stored_name: str) -> None:
    execute("DELETE FROM attachment WHERE stored_name = ?", stored_name)


def escape_like(query: str) -> str:
    """`50%` finds "50%", not everything that contains 50."""
    return query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def fetch_one(sql: str, *values: object) -> Row | None:
    row: Row | None = get_db().execute(sql, values).fetchone()
    return row


def fetch_all(sql: str, *values: object) -> list[Row]:
    return get_db().execute(sql, values).fetchall()


def insert(sql: str, *values: object) -> int:
    with get_db() as db:
        row_id = db.execute(sql, values).lastrowid
    assert row_id is not None
    return row_id


def execute(sql: str, *values: object) -> None:
    with get_db() as db:  # commits, or rolls back if the statement raises
        db.execute(sql, values)
