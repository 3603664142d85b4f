"""Paths out of the folder, links, and ranges that cost more than they give."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import werkzeug.security
from security import ask, both_faces, make_app, measure

from asyncflask import Flask, send_from_directory

NAMES = ("CON", "NUL", "a/NUL.txt", "NUL:", "aux.html", "COM1 .txt", "LPT9", "CON/x", "nul::$DATA")
OUT = (
    *("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "sub/../../secret.txt", "./../secret.txt", ".."),
    *("\0", "a.txt\0", "a.txt\0.html", "../secret.txt\0a.txt", "C:/secret.txt", "..\\secret.txt", "file:///etc/passwd"),
    *("~/secret.txt", "sub", ".", "", "a.txt/../../secret.txt", "....//secret.txt", "..;/secret.txt"),
)
MERGED = ("/etc/passwd", "//srv/x", "///etc/passwd")  # by a redirect, as in Flask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    return folder


@pytest.fixture
def app(folder: Path) -> Flask:
    app = make_app()
    app.static_folder = str(folder)
    app.add_url_rule("/static/<path:filename>", "static", lambda filename: app.send_static_file(filename))
    app.add_url_rule("/sent/<path:name>", "sent", lambda name: send_from_directory(folder, name))

    @app.get("/async/<path:name>")
    async def sent_async(name: str) -> object:
        return send_from_directory(folder, name)

    return app


both_kinds = pytest.mark.parametrize("kind", ["static", "sent", "async"])


@both_faces
@both_kinds
def test_traversal(app: Flask, face: str, kind: str) -> None:
    """CVE-2023-29159, 2024-23334, 2024-49766."""
    assert ask(face, app, f"/{kind}/sub/b.txt").body == b"b"
    for path in OUT:
        answer = ask(face, app, f"/{kind}/{path}")
        assert answer.status == 404, (path, answer)


@both_faces
@both_kinds
def test_slashes_are_merged_and_lead_nowhere(app: Flask, face: str, kind: str) -> None:
    for path in MERGED:
        answer = ask(face, app, f"/{kind}/{path}")
        assert answer.status == 308
        url = urlsplit(answer.headers["location"])
        assert url.netloc == "localhost" and "//" not in url.path
        assert ask(face, app, url.path).status == 404


@both_faces
@both_kinds
def test_absolute_paths(folder: Path, face: str, kind: str) -> None:
    """Where slashes are not merged, the path arrives as it is."""
    app = make_app()
    app.url_map.merge_slashes = False
    app.add_url_rule(f"/{kind}/<path:name>", kind, lambda name: send_from_directory(folder, name))
    for path in ("/etc/passwd", "//srv/x", str(folder / "a.txt")):
        assert ask(face, app, f"/{kind}/{path}").status == 404, path


@both_faces
@both_kinds
@pytest.mark.parametrize("name", NAMES)
def test_device_names_of_windows(app: Flask, folder: Path, face: str, kind: str, name: str) -> None:
    """CVE-2025-66221. There they are files that never end, in any folder; here we say only that we are there."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("a device")
    assert ask(face, app, f"/{kind}/{name}").status == 200
    windows = SimpleNamespace(name="nt", path=os.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(werkzeug.security, "os", windows)
        assert ask(face, app, f"/{kind}/{name}").status == 404


@both_faces
@both_kinds
def test_links_out_of_the_folder(app: Flask, folder: Path, face: str, kind: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "relative.txt").symlink_to("../secret.txt")
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    (folder / "beside.txt").symlink_to(f"{folder}-beside.txt")
    Path(f"{folder}-beside.txt").write_text("secret")
    (folder / "loop").symlink_to("loop")
    (folder / "inside.txt").symlink_to(folder / "sub" / "b.txt")
    for name in ("link.txt", "relative.txt", "up/secret.txt", "up/files/../secret.txt", "beside.txt", "loop"):
        assert ask(face, app, f"/{kind}/{name}").status == 404, name
    assert ask(face, app, f"/{kind}/inside.txt").body == b"b"
    assert ask(face, app, f"/{kind}/up/files/a.txt").body == b"a"  # which is where it says


@both_faces
@both_kinds
def test_folder_that_is_itself_a_link(folder: Path, face: str, kind: str) -> None:
    (folder.parent / "current").symlink_to(folder, target_is_directory=True)
    app = make_app()
    app.add_url_rule(f"/{kind}/<path:name>", kind, lambda name: send_from_directory(folder.parent / "current", name))
    assert ask(face, app, f"/{kind}/a.txt").body == b"a"


@both_faces
@both_kinds
def test_links_that_the_application_allows(app: Flask, folder: Path, face: str, kind: str) -> None:
    app.config["FOLLOW_SYMLINKS"] = True
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    assert ask(face, app, f"/{kind}/link.txt").body == b"secret"


# CVE-2025-62727

RANGES = {
    "many": b"bytes=" + b",".join(b"%d-%d" % (n, n) for n in range(50_000)),
    "open": b"bytes=" + b"0-," * 50_000 + b"0-",
    "empty": b"bytes=" + b"," * 300_000,
    "dashes": b"bytes=" + b"-" * 300_000,
    "blanks": b"bytes=" + b" " * 300_000 + b"0-1",
    "digits": b"bytes=" + b"9" * 300_000 + b"-",
    "units": b"x" * 300_000 + b"=0-1",
}


@both_faces
@both_kinds
@pytest.mark.parametrize("ranges", list(RANGES))
def test_many_ranges(app: Flask, face: str, kind: str, ranges: str) -> None:
    """50,000 of them cost less than 10 ms more than none."""
    header = (b"range", RANGES[ranges])

    def spend(*headers: tuple[bytes, bytes]) -> float:
        return measure(lambda: ask(face, app, f"/{kind}/a.txt", *headers), 5)

    answer = ask(face, app, f"/{kind}/a.txt", header)
    assert answer.status in (200, 206, 416)
    assert len(answer.body) < 1000
    assert spend(header) - spend() < 0.01


@both_faces
@both_kinds
def test_ranges_that_are_none(app: Flask, face: str, kind: str) -> None:
    arabic = "bytes=\u0660-\u0661".encode()
    for asked in (
        b"bytes=-0",
        b"bytes=5-4",
        b"bytes=1-0",
        arabic,
        b"bytes=0-\xb2",
        b"bytes=-",
        b"bytes=1-",
        b"bytes=--1",
    ):
        answer = ask(face, app, f"/{kind}/a.txt", (b"range", asked))
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */1"), asked
